//! `vml compact`

use super::{Context, Outcome};
use crate::args::CompactArgs;
use crate::output::{human, json};
use anyhow::Result;
use serde_json::json;
use vml_core::repository::{CompactOptions, CompactionPlan};

/// What the compressor and the windows leave of the memory that a command may take.
const CACHE_LEN: usize = 16 << 20;

pub fn run(context: &Context, args: &CompactArgs) -> Result<Outcome> {
    let mut repository_options = context.options();
    repository_options.cache_len = CACHE_LEN;
    let repository = context.repository_with(repository_options)?;
    let progress = context.progress();
    let options = CompactOptions { dry_run: args.dry_run, level: args.level, max: args.max, ..CompactOptions::default() };
    let mut told = Ok(());
    let compacted = repository.compact(options, &mut |plan| told = tell(context, plan), &progress);
    progress.finish();
    told?;
    let compacted = compacted?;
    let (plan, swept) = (&compacted.collected.plan, &compacted.collected.swept);
    if context.json() {
        let own = json!({
            "dry_run": args.dry_run,
            "level": args.level,
            "packs": plan.packs().count(),
            "packs_bytes": plan.freed_bytes(),
            "expected_bytes": compacted.expected_bytes,
            "expected_gain_bytes": compacted.expected_gain_bytes(),
        });
        crate::output::value(&json::collection(own, &compacted.collected, &progress))?;
    }
    if compacted.collected.unfinished_packs_count > 0 {
        let packs = human::counted(compacted.collected.unfinished_packs_count, "pack");
        let size = human::size(compacted.collected.unfinished_bytes);
        context.say(format_args!("unfinished   {packs}, {size}, of a run that was cut short"))?;
    }
    if args.dry_run {
        context.say("nothing was changed")?;
    } else {
        let packs = human::counted(swept.deleted_packs_count, "pack");
        let (deleted, written) = (human::size(swept.deleted_bytes), human::size(swept.written_bytes));
        context.say(format_args!("replaced {packs}, {deleted}; wrote {written}"))?;
    }
    Ok(Outcome::of(progress.problems().len() as u64))
}

/// Says what it expects to gain.
fn tell(context: &Context, made: &CompactionPlan) -> Result<()> {
    let plan = &made.plan;
    let before = plan.freed_bytes();
    let gain = human::size(before.saturating_sub(made.expected_bytes));
    let packs = human::counted(plan.packs().count() as u64, "pack");
    context.say(format_args!("to compact   {packs}, {}; about {gain} less are expected", human::size(before)))?;
    context.say(format_args!("left alone   {}, {}", human::counted(plan.kept_packs_count, "pack"), human::size(plan.kept_bytes)))?;
    if plan.held_packs_count > 0 {
        let held = human::counted(plan.held_packs_count, "pack");
        context.say(format_args!("held         {held} of these, by a save that runs"))?;
    }
    Ok(())
}
