//! `vml gc`

use super::{Context, Outcome};
use crate::args::GcArgs;
use crate::output::{human, json};
use anyhow::Result;
use serde_json::json;
use vml_core::repository::CollectOptions;

pub fn run(context: &Context, args: &GcArgs) -> Result<Outcome> {
    let repository = context.repository()?;
    let progress = context.progress();
    let options = CollectOptions { dry_run: args.dry_run, repack_max: args.max_repack };
    let collected = repository.collect(options, &progress);
    progress.finish();
    let collected = collected?;
    let (plan, swept) = (&collected.plan, &collected.swept);
    if context.json() {
        let own = json!({
            "dry_run": args.dry_run,
            "dead_packs": plan.delete.len(),
            "repacked_packs": plan.repack.len(),
            "planned_bytes": plan.freed_bytes(),
            "planned_copy_bytes": plan.copied_bytes(),
            "kept_dead_bytes": plan.kept_dead_bytes,
        });
        crate::output::value(&json::collection(own, &collected, &progress))?;
    }
    let row = |name: &str, packs: u64, bytes: u64, rest: &str| {
        context.say(format_args!("{name:<13}{}, {}{rest}", human::counted(packs, "pack"), human::size(bytes)))
    };
    let bytes = |packs: &[vml_core::repository::PackUse]| packs.iter().map(|pack_use| pack_use.pack.len).sum();
    row("unneeded", plan.delete.len() as u64, bytes(&plan.delete), "")?;
    row(
        "mostly so",
        plan.repack.len() as u64,
        bytes(&plan.repack),
        &format!(", of which {} are copied", human::size(plan.copied_bytes())),
    )?;
    if collected.unfinished_packs_count > 0 {
        row("unfinished", collected.unfinished_packs_count, collected.unfinished_bytes, ", of a collection that was cut short")?;
    }
    row("kept", plan.kept_packs_count, plan.kept_bytes, &format!(", of which {} are unneeded", human::size(plan.kept_dead_bytes)))?;
    if plan.held_packs_count > 0 {
        context.say(format_args!("{:<13}{} of these, by a save that runs", "held", human::counted(plan.held_packs_count, "pack")))?;
    }
    if args.dry_run {
        context.say("nothing was changed")?;
    } else {
        context.say(format_args!(
            "deleted {}, {}; wrote {}",
            human::counted(swept.deleted_packs_count, "pack"),
            human::size(swept.deleted_bytes),
            human::size(swept.written_bytes)
        ))?;
    }
    Ok(Outcome::of(progress.problems().len() as u64))
}
