//! Leaves files out of an entry: a new entry, derived from it, whose tree does not have them.
//!
//! The entry itself stays as it is. The derived one continues it, has neither witness nor memory, says what is missing, and no ref points to it.

use crate::entry::{Entry, EntryId, Fact, Part, TreePart};
use crate::monitor::Monitor;
use crate::recipe::Recipe;
use crate::repository::Repository;
use crate::tree::{LeftOut, LeftOutReason, ListingReader, ListingWriter, Node, NodeKind, join_path};
use std::collections::BTreeSet;
use vml_chunk::{ChunkStore, ChunkWriter, Error, ErrorKind, PackKind, Result};

/// The fact of a derived entry that tells how many files it lacks.
pub const SCRUBBED_FACT: &str = "share.scrubbed";
/// Rows of what was left out that an entry keeps.
const LEFT_OUT_MAX: usize = 1000;
/// A tree is at most 4096 directories deep, and each is a call.
const STACK_LEN: usize = 64 << 20;

/// Makes an entry like `id` without the files at `paths` and, unless `memory` says so, without its memory; `time_ms` is the time now.
///
/// # Errors
/// `InvalidInput` when it has no tree to leave them out of; what the store says.
pub fn scrub(
    repository: &Repository,
    id: &EntryId,
    paths: &BTreeSet<Vec<u8>>,
    memory: bool,
    time_ms: i64,
    monitor: &dyn Monitor,
) -> Result<(EntryId, Entry)> {
    let mut entry = repository.entry(id)?;
    if entry.tree().is_none() && !paths.is_empty() {
        return Err(Error::invalid("only files of a saved tree can be left out, not those on a saved disk"));
    }
    let store = repository.store(monitor)?;
    let writer = store.writer()?;
    let mut meta = writer.chunks(PackKind::Meta)?;
    for part in &mut entry.parts {
        if let Part::Tree(tree) = part {
            scrub_tree(store, &mut meta, tree, paths)?;
        }
    }
    entry.parts.retain(|part| memory || !matches!(part, Part::Memory(_)));
    meta.finish()?;
    let (stats, mut reliance) = writer.finish_relying()?;
    entry.parents = vec![*id];
    entry.time_ms = time_ms;
    entry.cost.new_chunks_count = stats.new_chunks;
    entry.cost.new_bytes = stats.new_bytes;
    entry.cost.stored_bytes = stats.stored_bytes;
    entry.cost.elapsed_ms = 0;
    entry.facts.retain(|fact| fact.name != SCRUBBED_FACT);
    entry.facts.push(Fact::new(SCRUBBED_FACT, paths.len().to_string()));
    // What it shares with the entry it comes from is there as long as that is.
    let new = repository.commit(store, &mut reliance, &entry, &[*id])?;
    let new = new.ok_or_else(|| Error::new(ErrorKind::Locked, "a collection took away what the entry relies on: share it again"))?;
    Ok((new, entry))
}

fn scrub_tree(store: &ChunkStore, meta: &mut ChunkWriter<'_>, tree: &mut TreePart, paths: &BTreeSet<Vec<u8>>) -> Result<()> {
    let NodeKind::Directory(listing) = tree.root.kind.clone() else { return Ok(()) };
    let mut removed = Removed::default();
    let lost = || Error::new(ErrorKind::Interrupted, "a thread that rewrites a tree has died");
    // The chunks of a writer belong to one thread; it is borrowed for as long as the scope lasts.
    let listing = std::thread::scope(|scope| {
        let run = || rewrite(store, meta, &listing, b"", paths, &mut removed);
        let thread = std::thread::Builder::new().stack_size(STACK_LEN).spawn_scoped(scope, run);
        thread.map_err(|error| Error::new(ErrorKind::Io, "cannot start a thread").because(error))?.join().map_err(|_| lost())?
    })?;
    tree.root.kind = NodeKind::Directory(listing);
    tree.witness = Recipe::empty();
    tree.stats.files_count = tree.stats.files_count.saturating_sub(removed.files);
    tree.stats.bytes = tree.stats.bytes.saturating_sub(removed.bytes);
    for path in paths {
        if tree.left_out.len() < LEFT_OUT_MAX {
            tree.left_out.push(LeftOut { path: path.clone(), members_count: 0, reason: LeftOutReason::Excluded });
        } else {
            tree.left_out_more_count += 1;
        }
    }
    tree.left_out.sort_by(|a, b| a.path.cmp(&b.path));
    Ok(())
}

#[derive(Default)]
struct Removed {
    files: u64,
    bytes: u64,
}

/// A listing without what is to be left out at or below `path`.
fn rewrite(
    store: &ChunkStore,
    meta: &mut ChunkWriter<'_>,
    listing: &Recipe,
    path: &[u8],
    paths: &BTreeSet<Vec<u8>>,
    removed: &mut Removed,
) -> Result<Recipe> {
    let mut out = ListingWriter::default();
    for node in ListingReader::new(store, listing) {
        let node = node?;
        let at = join_path(path, &node.name);
        if paths.contains(&at) && !node.is_dir() {
            removed.files += 1;
            removed.bytes += node.len();
            continue;
        }
        let node = match &node.kind {
            NodeKind::Directory(below) if holds(paths, &at) => {
                let below = rewrite(store, meta, below, &at, paths, removed)?;
                Node { kind: NodeKind::Directory(below), ..node }
            }
            _ => node,
        };
        out.push(&node, &mut |bytes| meta.put(bytes))?;
    }
    out.finish(&mut |bytes| meta.put(bytes))
}

/// Whether any of `paths` is below `directory`.
fn holds(paths: &BTreeSet<Vec<u8>>, directory: &[u8]) -> bool {
    let mut start = directory.to_vec();
    start.push(b'/');
    paths.range(start.clone()..).next().is_some_and(|path| path.starts_with(&start))
}
