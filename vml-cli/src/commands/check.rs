//! `vml check`

use super::{Context, Outcome};
use crate::args::CheckArgs;
use crate::output::{human, json};
use anyhow::Result;
use serde_json::json;
use vml_core::repository::CheckOptions;

pub fn run(context: &Context, args: &CheckArgs) -> Result<Outcome> {
    let repository = context.open(false)?;
    let progress = context.progress();
    let checked = repository.check(CheckOptions { data: args.data }, &progress);
    progress.finish();
    let checked = checked?;
    if context.json() {
        crate::output::value(&json!({
            "entries": checked.entries_count,
            "listings": checked.nodes_count,
            "packs": checked.packs_count,
            "bytes": checked.bytes,
            "problems": json::problems(&progress.problems()),
            "notices": progress.notices(),
        }))?;
    }
    let read = if args.data { format!(", {} read", human::size(checked.bytes)) } else { String::new() };
    let result = if checked.problems_count == 0 {
        "no problems".to_owned()
    } else {
        format!("{} found", human::counted(checked.problems_count, "problem"))
    };
    context.say(format_args!("checked {}{read}: {result}", human::counted(checked.entries_count, "entry")))?;
    Ok(Outcome::of(checked.problems_count))
}
