//! Where the bytes are: by kind, by area and base, and which entries brought the most.

use super::picture::{Group, svg};
use crate::commands::Context;
use crate::output::{human, json};
use anyhow::Result;
use serde_json::{Value, json};
use std::collections::BTreeMap;
use std::fs;
use std::path::Path;
use vml_core::IoResultExt as _;
use vml_core::repository::{Amount, EntryUsage, Kinds, Usage};

/// Entries that are told of one by one, to people.
const ENTRIES_TOLD: usize = 10;

/// What all entries of an area, or a base, are together.
#[derive(Default)]
struct Origin {
    entries_count: u64,
    held_bytes: u64,
    brought: Kinds,
}

/// Entries whose walk ended early.
pub(super) fn problems_count(usage: &Usage) -> u64 {
    usage.entries.iter().filter(|entry| entry.problem.is_some()).count() as u64
}

fn origins(usage: &Usage) -> BTreeMap<String, Origin> {
    let mut origins: BTreeMap<String, Origin> = BTreeMap::new();
    for entry in &usage.entries {
        let origin = origins.entry(entry.entry.origin()).or_default();
        origin.entries_count += 1;
        origin.held_bytes += entry.held_bytes;
        origin.brought += entry.brought;
    }
    origins
}

fn kinds(kinds: &Kinds) -> [(&'static str, Amount); 4] {
    [("files", kinds.files), ("disks", kinds.disks), ("memory", kinds.memory), ("metadata", kinds.metadata)]
}

/// Those that brought the most, the largest first.
fn largest(usage: &Usage) -> Vec<&EntryUsage> {
    let mut entries: Vec<&EntryUsage> = usage.entries.iter().collect();
    entries.sort_by_key(|entry| std::cmp::Reverse(entry.brought.sum().stored_bytes));
    entries.truncate(ENTRIES_TOLD);
    entries
}

fn ratio(of: u64, to: u64) -> f64 {
    if to == 0 { 0.0 } else { of as f64 / to as f64 }
}

pub(super) fn json(usage: &Usage) -> Value {
    let amount =
        |amount: Amount| json!({ "chunks": amount.chunks_count, "plain_bytes": amount.plain_bytes, "stored_bytes": amount.stored_bytes });
    let of = |of: &Kinds| -> Value {
        let mut value = amount(of.sum());
        for (name, part) in kinds(of) {
            value[name] = amount(part);
        }
        value
    };
    let needed = usage.kinds().sum();
    json!({
        "held_bytes": usage.held_bytes(),
        "needed": of(&usage.kinds()),
        "unneeded_bytes": usage.unneeded_bytes,
        "deduplication": ratio(usage.held_bytes(), needed.plain_bytes),
        "compression": ratio(needed.plain_bytes, needed.stored_bytes),
        "origins": origins(usage).iter().map(|(name, origin)| json!({
            "name": name,
            "entries": origin.entries_count,
            "held_bytes": origin.held_bytes,
            "brought": of(&origin.brought),
        })).collect::<Vec<_>>(),
        "entries": usage.entries.iter().map(|entry| {
            let mut value = json::entry(&entry.id, &entry.entry);
            value["held_bytes"] = entry.held_bytes.into();
            value["brought"] = of(&entry.brought);
            value["problem"] = entry.problem.clone().into();
            value
        }).collect::<Vec<_>>(),
    })
}

pub(super) fn tell(context: &Context, usage: &Usage) -> Result<()> {
    let needed = usage.kinds().sum();
    context.say("")?;
    context.say(format_args!(
        "what all entries hold is {}; {} of it are different, {:.1} to 1, and compressed to {}, {:.1} to 1",
        human::size(usage.held_bytes()),
        human::size(needed.plain_bytes),
        ratio(usage.held_bytes(), needed.plain_bytes),
        human::size(needed.stored_bytes),
        ratio(needed.plain_bytes, needed.stored_bytes),
    ))?;
    context.say("")?;
    context.say(format_args!("{:<32} {:>12} {:>12} {:>12}", "by kind", "chunks", "plain", "stored"))?;
    for (name, amount) in kinds(&usage.kinds()).into_iter().filter(|(_, amount)| amount.chunks_count > 0) {
        row(context, name, &human::count(amount.chunks_count), amount.plain_bytes, amount.stored_bytes)?;
    }
    context.say(format_args!(
        "{:<32} {:>12} {:>12} {:>12}",
        "no entry's, and heads of packs",
        "",
        "",
        human::size(usage.unneeded_bytes)
    ))?;
    context.say("")?;
    context.say(format_args!("{:<32} {:>12} {:>12} {:>12}", "by area and base", "entries", "held", "brought"))?;
    for (name, origin) in origins(usage) {
        row(context, &name, &human::count(origin.entries_count), origin.held_bytes, origin.brought.sum().stored_bytes)?;
    }
    context.say("")?;
    context.say(format_args!("{:<32} {:>12} {:>12} {:>12}", "entries that brought the most", "", "held", "brought"))?;
    for entry in largest(usage) {
        row(context, &entry.entry.origin(), &entry.id.short().to_string(), entry.held_bytes, entry.brought.sum().stored_bytes)?;
    }
    for (entry, problem) in usage.entries.iter().filter_map(|entry| Some((entry, entry.problem.as_ref()?))) {
        context.say(format_args!("entry {} could not be walked to its end: {}", entry.id.short(), human::printable(problem)))?;
    }
    Ok(())
}

fn row(context: &Context, name: &str, count: &str, bytes: u64, stored: u64) -> Result<()> {
    context.say(format_args!("{:<32} {count:>12} {:>12} {:>12}", human::printable(name), human::size(bytes), human::size(stored)))
}

/// Draws it into the file `path`, which is replaced.
pub(super) fn draw(path: &Path, place: &str, usage: &Usage) -> Result<()> {
    let mut of_kinds: Vec<(String, u64)> = kinds(&usage.kinds()).map(|(name, amount)| (name.to_owned(), amount.stored_bytes)).into();
    of_kinds.push(("no entry's, and heads of packs".to_owned(), usage.unneeded_bytes));
    let groups = [
        Group { title: "by kind", bars: of_kinds },
        Group {
            title: "brought, by area and base",
            bars: origins(usage).into_iter().map(|(name, origin)| (name, origin.brought.sum().stored_bytes)).collect(),
        },
        Group {
            title: "entries that brought the most",
            bars: largest(usage)
                .into_iter()
                .map(|entry| (format!("{} of {}", entry.id.short(), entry.entry.origin()), entry.brought.sum().stored_bytes))
                .collect(),
        },
    ];
    let picture = svg(&format!("stored in {place}"), &groups);
    Ok(fs::write(path, picture).at(|| format!("cannot write {}", path.display()))?)
}
