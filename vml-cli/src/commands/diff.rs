//! `vml diff`

use super::{Context, Outcome};
use crate::args::DiffArgs;
use crate::output::{human, json};
use anyhow::{Context as _, Result};
use serde_json::json;
use std::os::unix::ffi::OsStrExt;
use vml_core::tree::{ChangeKind, Node, diff_trees, display_path, find_path, split_path};
use vml_core::{EntryId, ErrorKind, Repository};

pub fn run(context: &Context, args: &DiffArgs) -> Result<Outcome> {
    let repository = context.repository()?;
    let progress = context.progress();
    let store = repository.store(&progress)?;
    let path = split_path(args.path.as_ref().map_or(b"", |path| path.as_bytes()))?.join(&b'/');
    let path = path.as_slice();
    let side = |name: &str| -> Result<Option<Node>> {
        let root = root(&repository, &repository.resolve(name)?)?;
        match find_path(store, &root, path) {
            Ok(node) => Ok(Some(node)),
            Err(error) if error.kind() == ErrorKind::NotFound => Ok(None),
            Err(error) => Err(error.into()),
        }
    };
    let (old, new) = (side(&args.old)?, side(&args.new)?);
    let (mut added, mut removed, mut modified) = (0_u64, 0_u64, 0_u64);
    let (mut old_bytes, mut new_bytes) = (0_u64, 0_u64);
    let mut failed = None;
    let mut each = |change: vml_core::tree::Change| {
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
            each(vml_core::tree::Change { path: path.to_vec(), kind, old: old.clone(), new: new.clone() });
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

/// The root of an entry's tree.
pub fn root(repository: &Repository, id: &EntryId) -> Result<Node> {
    let entry = repository.entry(id)?;
    Ok(entry.tree().with_context(|| format!("entry {} has no tree", id.short()))?.root.clone())
}
