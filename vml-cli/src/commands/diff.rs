//! `vml diff`

use super::inside::{self, Inside};
use super::{Context, Outcome};
use crate::args::DiffArgs;
use crate::output::{human, json};
use anyhow::{Context as _, Result};
use serde_json::json;
use std::os::unix::ffi::OsStrExt;
use vml_core::entry::DiskPart;
use vml_core::recipe::{GetChunk, differing_ranges};
use vml_core::tree::{Change, ChangeKind, Node, NodeKind, diff_trees, display_path, find_path, same_content, split_path};
use vml_core::volume::TreePair;
use vml_core::{Entry, Error, ErrorKind};

pub fn run(context: &Context, args: &DiffArgs) -> Result<Outcome> {
    let repository = context.repository()?;
    let progress = context.progress();
    let store = repository.store(&progress)?;
    let path = split_path(args.path.as_ref().map_or(b"", |path| path.as_bytes()))?.join(&b'/');
    let entry = |name: &str| -> Result<Entry> { Ok(repository.entry(&repository.resolve(name)?)?) };
    let (old, new) = (entry(&args.old)?, entry(&args.new)?);
    let trees = inside::with_tree(store, &old, &args.inside, |old| {
        inside::with_tree(store, &new, &args.inside, |new| diff(context, &path, old, new))
    });
    match trees {
        // Where files cannot be named, the places on the disk can.
        Err(error) if path.is_empty() && is_unreadable(&error) => {
            let disk = |entry| inside::disk(entry, args.inside.disk.as_deref());
            context.say(format_args!("{error:#}; the places on the disk that differ:"))?;
            ranges(context, store, disk(&old)?, disk(&new)?)
        }
        other => other,
    }
}

fn is_unreadable(error: &anyhow::Error) -> bool {
    error.downcast_ref::<Error>().is_some_and(|error| error.kind() == ErrorKind::UnsupportedFormat)
}

/// Tells where two disks differ.
fn ranges(context: &Context, store: &dyn GetChunk, old: &DiskPart, new: &DiskPart) -> Result<Outcome> {
    let (mut count, mut bytes) = (0_u64, 0_u64);
    let mut failed = None;
    differing_ranges(store, &old.recipe, &new.recipe, &mut |range| {
        count += 1;
        bytes += range.end - range.start;
        let printed = if context.json() {
            crate::output::value(&json!({ "change": "range", "disk": new.name, "offset": range.start, "bytes": range.end - range.start }))
        } else {
            context.say(format_args!("M {} {:#x}-{:#x}  ({})", new.name, range.start, range.end, human::size(range.end - range.start)))
        };
        failed = printed.err();
        failed.is_none()
    })?;
    if let Some(error) = failed {
        return Err(error);
    }
    context.say(format_args!("disk {} differs in {}, {}", new.name, human::counted(count, "range"), human::size(bytes)))?;
    Ok(Outcome::Done)
}

fn diff(context: &Context, path: &[u8], old: &Inside<'_>, new: &Inside<'_>) -> Result<Outcome> {
    let store = &TreePair { old: old.store, new: new.store };
    let side = |tree: &Inside<'_>| match find_path(tree.store, &tree.root, path) {
        Ok(node) => Ok(Some(node)),
        Err(error) if error.kind() == ErrorKind::NotFound => Ok(None),
        Err(error) => Err(error),
    };
    let (old, new) = (side(old)?, side(new)?);
    let (mut added, mut removed, mut modified) = (0_u64, 0_u64, 0_u64);
    let (mut old_bytes, mut new_bytes) = (0_u64, 0_u64);
    let mut failed = None;
    let mut each = |mut change: Change| {
        // What was cut in other places has other chunks, and may be equal all the same.
        match settle(store, &mut change) {
            Ok(true) => {}
            Ok(false) => return true,
            Err(error) => {
                failed = Some(error);
                return false;
            }
        }
        old_bytes += change.old.as_ref().map_or(0, Node::len);
        new_bytes += change.new.as_ref().map_or(0, Node::len);
        let (letter, counter) = match change.kind {
            ChangeKind::Added => ('A', &mut added),
            ChangeKind::Removed => ('D', &mut removed),
            ChangeKind::Modified { .. } => ('M', &mut modified),
        };
        *counter += 1;
        let aspects = json::aspects(&change.kind);
        let printed = if context.json() {
            let what = match change.kind {
                ChangeKind::Added => "added",
                ChangeKind::Removed => "removed",
                ChangeKind::Modified { .. } => "modified",
            };
            crate::output::value(&json!({
                "change": what,
                "path": json::path(&change.path),
                "aspects": aspects,
                "old": change.old.as_ref().map(|node| json::node(&change.path, node)),
                "new": change.new.as_ref().map(|node| json::node(&change.path, node)),
            }))
        } else {
            let slash = if change.new.as_ref().or(change.old.as_ref()).is_some_and(Node::is_dir) { "/" } else { "" };
            let why = if aspects.is_empty() { String::new() } else { format!("  ({})", aspects.join(", ")) };
            context.say(format_args!("{letter} {}{slash}{why}", display_path(&change.path)))
        };
        failed = printed.err();
        failed.is_none()
    };
    match (&old, &new) {
        (Some(old), Some(new)) => diff_trees(store, old, new, path, &mut each)?,
        (None, None) => {
            return Err(vml_core::Error::not_found(format!("{:?} is not in the entry, nor in the other", display_path(path))).into());
        }
        (old, new) => {
            let kind = if new.is_some() { ChangeKind::Added } else { ChangeKind::Removed };
            each(Change { path: path.to_vec(), kind, old: old.clone(), new: new.clone() });
        }
    }
    if let Some(error) = failed {
        return Err(error);
    }
    context.say(format_args!(
        "{} added, {} removed, {} modified; {} became {}",
        human::count(added),
        human::count(removed),
        human::count(modified),
        human::size(old_bytes),
        human::size(new_bytes)
    ))?;
    Ok(Outcome::Done)
}

/// Takes back what a change says of content that is equal; whether anything is left of it.
fn settle(store: &dyn GetChunk, change: &mut Change) -> Result<bool> {
    let ChangeKind::Modified { content, kind, mode, owner, time, xattrs, links } = &mut change.kind else { return Ok(true) };
    if let (true, Some(old), Some(new)) = (*content, &change.old, &change.new)
        && let (NodeKind::File(old), NodeKind::File(new)) = (&old.kind, &new.kind)
    {
        *content = !same_content(store, old, new).with_context(|| format!("cannot compare {:?}", display_path(&change.path)))?;
    }
    Ok(*content || *kind || *mode || *owner || *time || *xattrs || *links)
}
