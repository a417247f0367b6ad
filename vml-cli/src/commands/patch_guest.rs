//! `vml area patch`

use super::{Context, Outcome};
use crate::areas;
use crate::args::AreaPatchArgs;
use crate::guests::{self, Patch};
use crate::machines;
use crate::output::{human, json};
use anyhow::{Context as _, Result};
use serde_json::json;
use vml_core::{Error, Problem, Repository};
use vml_hv::ssh::PatchPlan;

pub fn run(context: &Context, args: &AreaPatchArgs) -> Result<Outcome> {
    let area = areas::get(&args.name)?;
    let ssh = match (machines::open(&area)?, &area.ssh) {
        (Some(machine), _) => &machines::login(&area, machine.as_ref())?,
        (None, Some(ssh)) => ssh,
        (None, None) => return Err(Error::invalid(format!("the area {} has no guest that is reached over SSH", area.name)).into()),
    };
    let guest = guests::source(ssh, area.default_exclude, area.one_file_system)?;
    let repository = context.repository()?;
    let id = repository.resolve(&args.entry)?;
    let entry = repository.entry(&id)?;
    let exclude = guest.exclude(&area.exclude)?;
    let patch = Patch { guest: &guest, exclude: &exclude, entry: &entry, area: &area.name };
    let place = guest.transport.place();
    let ask = |plan: &PatchPlan| {
        context.say(format_args!("{}: {}", place, told(plan)))?;
        let question = format!("Bring {place} to the state of {}? What differs there now is lost.", id.short());
        if args.dry_run { Ok(false) } else { context.confirm(&question, args.yes).map(|()| true) }
    };
    let (plan, problems) = bring(context, &repository, &patch, ask)?;
    if !args.dry_run {
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
            "problems": json::problems(&problems),
        }))?;
    }
    Ok(Outcome::of(problems.len() as u64))
}

/// Brings a guest to an entry's state, if `go` says so when it sees what would be done; tells that, and what is not as it should be.
pub fn bring(
    context: &Context,
    repository: &Repository,
    patch: &Patch<'_>,
    go: impl FnOnce(&PatchPlan) -> Result<bool>,
) -> Result<(PatchPlan, Vec<Problem>)> {
    let place = patch.guest.transport.place();
    let progress = context.progress();
    let from = patch.look(repository, &progress).with_context(|| format!("cannot see what {place} has now"))?;
    // What could not be seen would look as if it were not there.
    if !progress.problems().is_empty() {
        progress.finish();
        return Err(Error::invalid(format!("{place} cannot be patched, because not everything in it can be seen")).into());
    }
    let plan = patch.plan(repository, &from, &progress)?;
    progress.finish();
    if !go(&plan)? {
        return Ok((plan, Vec::new()));
    }
    let progress = context.progress();
    let patched = patch.apply(repository, &from, &progress);
    progress.finish();
    patched.with_context(|| format!("cannot bring {place} to the state of {}: run it again", patch.entry.encode().0.short()))?;
    Ok((plan, progress.problems()))
}

fn told(plan: &PatchPlan) -> String {
    let send = human::counted(plan.send_count, "member");
    format!("{send} to send, {} of files; {} to remove", human::size(plan.send_bytes), human::count(plan.remove_count))
}
