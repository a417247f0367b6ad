//! `vml area patch`

use super::{Context, Outcome};
use crate::areas;
use crate::args::AreaPatchArgs;
use crate::guests::{self, Patch};
use crate::output::{human, json};
use anyhow::{Context as _, Result};
use serde_json::json;
use vml_core::Error;
use vml_hv::ssh::PatchPlan;

pub fn run(context: &Context, args: &AreaPatchArgs) -> Result<Outcome> {
    let area = areas::get(&args.name)?;
    let ssh = area.ssh.as_ref().ok_or_else(|| Error::invalid(format!("the area {} has no guest that is reached over SSH", area.name)))?;
    let guest = guests::source(ssh, area.default_exclude, area.one_file_system)?;
    let repository = context.repository()?;
    let id = repository.resolve(&args.entry)?;
    let entry = repository.entry(&id)?;
    let exclude = guest.exclude(&area.exclude)?;
    let patch = Patch { guest: &guest, exclude: &exclude, entry: &entry, area: &area.name };
    let place = guest.transport.place();
    let progress = context.progress();
    let from = patch.look(&repository, &progress).with_context(|| format!("cannot see what {place} has now"))?;
    // What could not be seen would look as if it were not there.
    if !progress.problems().is_empty() {
        progress.finish();
        return Err(Error::invalid(format!("{place} cannot be patched, because not everything in it can be seen")).into());
    }
    let plan = patch.plan(&repository, &from, &progress)?;
    progress.finish();
    context.say(format_args!("{}: {}", place, told(&plan)))?;
    let mut problems_count = 0;
    if !args.dry_run {
        let question = format!("Bring {place} to the state of {}? What differs there now is lost.", id.short());
        context.confirm(&question, args.yes)?;
        let progress = context.progress();
        let patched = patch.apply(&repository, &from, &progress);
        progress.finish();
        let patched = patched.with_context(|| format!("cannot bring {place} to the state of {}: run it again", id.short()))?;
        problems_count = patched.problems_count;
        context.say(format_args!("{place} has the state of {}", id.short()))?;
    }
    if context.json() {
        let clash = |clash: &vml_hv::guest::accounts::Clash| json!({ "id": clash.id, "saved": clash.saved, "guest": clash.guest });
        crate::output::value(&json!({
            "guest": place,
            "entry": id.to_string(),
            "dry_run": args.dry_run,
            "sent": plan.send_count,
            "sent_bytes": plan.send_bytes,
            "removed": plan.remove_count,
            "kept_accounts": plan.kept_accounts,
            "clashes": plan.clashes.iter().map(clash).collect::<Vec<_>>(),
            "problems": json::problems(&progress.problems()),
        }))?;
    }
    Ok(Outcome::of(problems_count))
}

fn told(plan: &PatchPlan) -> String {
    let send = human::counted(plan.send_count, "member");
    format!("{send} to send, {} of files; {} to remove", human::size(plan.send_bytes), human::count(plan.remove_count))
}
