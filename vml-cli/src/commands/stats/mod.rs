//! `vml stats`

mod detail;
mod picture;

use super::{Context, Outcome};
use crate::args::StatsArgs;
use crate::output::{human, json};
use anyhow::Result;
use serde_json::json;
use vml_core::refs::RefKind;

pub fn run(context: &Context, args: &StatsArgs) -> Result<Outcome> {
    let repository = context.repository()?;
    let progress = context.progress();
    let totals = repository.store(&progress)?.totals();
    let (mut entries, mut bytes, mut unreadable) = (0_u64, 0_u64, 0_u64);
    for (_, entry) in repository.entries(&repository.entry_ids()?) {
        match entry {
            Ok(entry) => {
                entries += 1;
                bytes += entry.tree().map_or(0, |tree| tree.stats.bytes) + entry.disks().map(|disk| disk.stats.data_bytes).sum::<u64>();
            }
            Err(_) => unreadable += 1,
        }
    }
    let refs = repository.refs();
    let count = |kind| refs.list(kind).map(|refs| refs.len() as u64);
    let (areas, tags, bases) = (count(RefKind::Area)?, count(RefKind::Tag)?, count(RefKind::Base)?);
    let stored = totals.data_bytes + totals.meta_bytes + totals.index_bytes;
    let usage = if args.detail || args.svg.is_some() { Some(repository.usage(&progress)?) } else { None };
    progress.finish();
    if let (Some(path), Some(usage)) = (&args.svg, &usage) {
        detail::draw(path, &context.place()?.to_string(), usage)?;
    }
    let outcome = Outcome::of(unreadable + usage.as_ref().map_or(0, detail::problems_count));
    if context.json() {
        let mut value = json!({
            "repository": json::place(&context.place()?),
            "entries": entries,
            "unreadable_entries": unreadable,
            "areas": areas,
            "bases": bases,
            "tags": tags,
            "bytes": bytes,
            "stored_bytes": stored,
            "chunks": totals.chunks_count,
            "data_packs": totals.data_packs_count,
            "data_bytes": totals.data_bytes,
            "compacted_packs": totals.compacted_packs_count,
            "compacted_bytes": totals.compacted_bytes,
            "meta_packs": totals.meta_packs_count,
            "meta_bytes": totals.meta_bytes,
            "index_segments": totals.segments_count,
            "index_bytes": totals.index_bytes,
        });
        if let Some(usage) = &usage {
            value["detail"] = detail::json(usage);
        }
        crate::output::value(&value)?;
        return Ok(outcome);
    }
    context.say(format_args!("repository  {}", context.place()?))?;
    context.say(format_args!(
        "entries     {} of {}, {}, {}",
        human::count(entries),
        human::counted(areas, "area"),
        human::counted(bases, "base"),
        human::counted(tags, "tag")
    ))?;
    if unreadable > 0 {
        context.say(format_args!("unreadable  {}: `vml check` tells why", human::counted(unreadable, "entry")))?;
    }
    let ratio = if stored == 0 { 0.0 } else { bytes as f64 / stored as f64 };
    context.say(format_args!("everything  {}, stored in {}: {ratio:.1} to 1", human::size(bytes), human::size(stored)))?;
    context.say(format_args!("data        {} in {}", human::size(totals.data_bytes), human::counted(totals.data_packs_count, "pack")))?;
    if totals.compacted_packs_count > 0 {
        let packs = human::counted(totals.compacted_packs_count, "pack");
        context.say(format_args!("compacted   {} of it in {packs}", human::size(totals.compacted_bytes)))?;
    }
    context.say(format_args!("metadata    {} in {}", human::size(totals.meta_bytes), human::counted(totals.meta_packs_count, "pack")))?;
    context.say(format_args!(
        "index       {} in {}, {}",
        human::size(totals.index_bytes),
        human::counted(totals.segments_count, "segment"),
        human::counted(totals.chunks_count, "chunk")
    ))?;
    if let Some(usage) = &usage {
        detail::tell(context, usage)?;
    }
    Ok(outcome)
}
