//! `vml log` and `vml show`

use super::{Context, Outcome, share_file};
use crate::args::{EntryArgs, LogArgs};
use crate::output::{complain, human, json};
use anyhow::Result;
use serde_json::json;
use std::collections::HashMap;
use vml_core::entry::{Entry, EntryId};
use vml_core::refs::RefKind;
use vml_core::{Error, Repository};

pub fn log(context: &Context, args: &LogArgs) -> Result<Outcome> {
    let repository = context.repository()?;
    let progress = context.progress();
    let max = args.max_count.map_or(usize::MAX, |max| max as usize);
    let mut problems = 0;
    let entries = match &args.area {
        Some(area) => chain(&repository, area, max, &mut problems)?,
        None => all(&repository, max, &mut problems)?,
    };
    let tags = tags(&repository)?;
    let notes = repository.notes(&progress)?;
    problems += progress.problems().len() as u64;
    if entries.is_empty() {
        context.say("nothing saved yet")?;
    }
    for (id, entry) in &entries {
        let own_tags = tags.get(id).map(Vec::as_slice).unwrap_or_default();
        let own_notes = notes.get(id).map(Vec::as_slice).unwrap_or_default();
        if context.json() {
            let mut value = json::entry(id, entry);
            value["tags"] = json!(own_tags);
            value["notes"] = own_notes.iter().map(json::note).collect();
            crate::output::value(&value)?;
            continue;
        }
        let marks = if own_tags.is_empty() { String::new() } else { format!("  [{}]", own_tags.join(", ")) };
        let (time, message) = (human::time(entry.time_ms), human::first_line(&entry.message));
        context.say(format!("{}  {time}  {:<16} {message}{marks}", id.short(), entry.origin()).trim_end())?;
        context.say(format_args!(
            "            {}, new {}, stored {}",
            human::extent_of(entry),
            human::size(entry.cost.new_bytes),
            human::size(entry.cost.stored_bytes),
        ))?;
        for note in own_notes {
            context.say(format_args!("            {}: {}", human::time(note.time_ms), human::first_line(&note.text)))?;
        }
    }
    Ok(Outcome::of(problems))
}

fn broken(error: Error, area: &str, problems: &mut u64) {
    *problems += 1;
    complain(format_args!("vml: {:#}; older entries of {area} are in `vml log`", anyhow::Error::from(error)));
}

/// So many entries are read one after another without more ado.
const FEW: usize = 8;

/// An area's entries from the newest back.
fn chain(repository: &Repository, area: &str, max: usize, problems: &mut u64) -> Result<Vec<(EntryId, Entry)>> {
    let latest = repository.refs().get(RefKind::Area, area)?;
    if latest.is_none() && !matches!(crate::areas::get(area), Ok(known) if known.name == area) {
        return Err(Error::not_found(format!("there is no area {area:?} on this host, nor an entry of it in this repository")).into());
    }
    let mut entries = Vec::new();
    let mut next = latest;
    if max > FEW {
        repository.expect_entries();
    }
    while let (Some(id), true) = (next, entries.len() < max) {
        match repository.entry(&id) {
            Ok(entry) => {
                let previous = repository.previous(&entry);
                entries.push((id, entry));
                next = previous.unwrap_or_else(|error| {
                    broken(error, area, problems);
                    None
                });
            }
            Err(error) => {
                broken(error, area, problems);
                break;
            }
        }
    }
    Ok(entries)
}

/// All entries, the newest first.
fn all(repository: &Repository, max: usize, problems: &mut u64) -> Result<Vec<(EntryId, Entry)>> {
    let mut entries = Vec::new();
    for (id, entry) in repository.entries(&repository.entry_ids()?) {
        match entry {
            Ok(entry) => entries.push((id, entry)),
            Err(error) => {
                *problems += 1;
                complain(format_args!("vml: {:#}", anyhow::Error::from(error)));
            }
        }
    }
    entries.sort_by_key(|(id, entry)| (std::cmp::Reverse(entry.time_ms), *id));
    entries.truncate(max);
    Ok(entries)
}

fn tags(repository: &Repository) -> Result<HashMap<EntryId, Vec<String>>> {
    let mut tags: HashMap<EntryId, Vec<String>> = HashMap::new();
    for (name, target) in repository.refs().list(RefKind::Tag)? {
        if let Ok(id) = target {
            tags.entry(id).or_default().push(name);
        }
    }
    Ok(tags)
}

pub fn show(context: &Context, args: &EntryArgs) -> Result<Outcome> {
    if let Some((file, None)) = share_file::split(args.entry.as_ref()) {
        return share_file::show(context, file, &args.opening);
    }
    let repository = context.repository()?;
    let id = repository.resolve(&args.entry)?;
    let entry = repository.entry(&id)?;
    let tags = tags(&repository)?.remove(&id).unwrap_or_default();
    let progress = context.progress();
    let notes = repository.notes(&progress)?.remove(&id).unwrap_or_default();
    if context.json() {
        let mut value = json::entry(&id, &entry);
        value["tags"] = json!(tags);
        value["notes"] = notes.iter().map(json::note).collect();
        crate::output::value(&value)?;
        return Ok(Outcome::Done);
    }
    show_entry(context, &id, &entry, &tags)?;
    for note in &notes {
        context.say(format_args!(
            "\nnote, {} by {}:\n{}",
            human::time(note.time_ms),
            human::printable(&note.author),
            human::printable(&note.text)
        ))?;
    }
    Ok(Outcome::Done)
}

/// What one entry is, for people.
pub(super) fn show_entry(context: &Context, id: &EntryId, entry: &Entry, tags: &[String]) -> Result<()> {
    let row = |name: &str, value: &dyn std::fmt::Display| context.say(format_args!("{name:<13}{value}"));
    row("entry", &id)?;
    row("of", &entry.origin())?;
    row("saved", &format!("{} by {}", human::time_exact(entry.time_ms), human::printable(&entry.author)))?;
    if !tags.is_empty() {
        row("tags", &tags.join(", "))?;
    }
    for parent in &entry.parents {
        row("parent", &parent.short())?;
    }
    if let Some(base) = &entry.base {
        row("base", &format!("{}@{} ({})", base.name, base.version, base.entry.short()))?;
    }
    if let Some(tree) = entry.tree() {
        let stats = &tree.stats;
        row(
            "tree",
            &format!(
                "{} in {}, {}, {}",
                human::size(stats.bytes),
                human::counted(stats.files_count, "file"),
                human::counted(stats.directories_count, "directory"),
                if stats.others_count == 1 {
                    "1 link or device".to_owned()
                } else {
                    format!("{} links and devices", human::count(stats.others_count))
                }
            ),
        )?;
        row("read", &format!("{} in {}", human::size(stats.read_bytes), human::counted(stats.read_files_count, "file")))?;
    }
    for disk in entry.disks() {
        let (data, len) = (human::size(disk.stats.data_bytes), human::size(disk.recipe.len));
        row("disk", &format!("{}: {data} of {len}, from {}", disk.name, human::printable(&disk.format)))?;
        for volume in &disk.volumes {
            let number = if volume.number == 0 { "whole".to_owned() } else { volume.number.to_string() };
            let label = if volume.label.is_empty() { String::new() } else { format!(" {:?}", human::printable(&volume.label)) };
            row("", &format!("partition {number}: {}{label}, {}", human::printable(&volume.file_system), human::size(volume.len)))?;
        }
        let (read, known) = (human::size(disk.stats.read_bytes), human::size(disk.stats.known_bytes));
        row("read", &format!("{read} of it, {known} known from before"))?;
    }
    if let Some(machine) = entry.machine() {
        row("machine", &format!("{}, {}", human::printable(&machine.name), human::size(machine.bytes.len() as u64)))?;
    }
    if let Some(memory) = entry.memory() {
        let (data, len) = (human::size(memory.stats.data_bytes), human::size(memory.recipe.len));
        row("memory", &format!("{data} of {len}, as {}", human::printable(&memory.format)))?;
    }
    let cost = &entry.cost;
    row(
        "cost",
        &format!(
            "new {} in {}, stored {}, {}",
            human::size(cost.new_bytes),
            human::counted(cost.new_chunks_count, "chunk"),
            human::size(cost.stored_bytes),
            human::elapsed(cost.elapsed_ms)
        ),
    )?;
    for fact in &entry.facts {
        row(&fact.name, &human::printable(&fact.value))?;
    }
    if let Some(tree) = entry.tree() {
        for out in &tree.left_out {
            row("left out", &human::left_out(out))?;
        }
        if tree.left_out_more_count > 0 {
            row("left out", &format!("{} more", human::count(tree.left_out_more_count)))?;
        }
    }
    if !entry.message.is_empty() {
        context.say(format_args!("\n{}", human::printable(&entry.message)))?;
    }
    Ok(())
}
