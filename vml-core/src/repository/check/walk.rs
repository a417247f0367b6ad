//! Walks entries to every chunk they name, and tells which paths are touched by what is damaged or missing.

use super::Counter;
use crate::entry::{Entry, EntryId};
use crate::monitor::{Monitor, Problem, Task};
use crate::recipe::{Cursor, Item, Piece, Recipe, RecipeReader};
use crate::repository::describe;
use crate::tree::{Content, DEPTH_MAX, ListingReader, Node, NodeKind, display_path, join_path};
use std::collections::{HashMap, HashSet};
use std::sync::Arc;
use vml_chunk::index::{IndexView, RowBits};
use vml_chunk::repair::BadRows;
use vml_chunk::store::LOST_MAX;
use vml_chunk::{ChunkId, ChunkStore, Result};

/// A set of chunks: bits over the rows of the index.
struct Positions {
    view: Arc<IndexView>,
    bits: RowBits,
}

impl Positions {
    fn new(store: &ChunkStore) -> Self {
        let view = store.view();
        Self { bits: RowBits::new(&view), view }
    }

    fn contains(&self, id: &ChunkId) -> bool {
        self.view.position(id).is_some_and(|(segment, row)| self.bits.contains(segment, row))
    }

    fn insert(&mut self, id: &ChunkId) {
        if let Some((segment, row)) = self.view.position(id) {
            self.bits.insert(segment, row);
        }
    }
}

/// Walks entries; a listing below which everything was found whole is not walked again.
pub(super) struct Walk<'a> {
    store: &'a ChunkStore,
    bad: &'a BadRows,
    whole: Positions,
    /// Nodes of streams below which nothing is damaged or missing.
    whole_nodes: Positions,
    /// And those below which something is: how many chunks and bytes.
    lossy_nodes: HashMap<ChunkId, (u64, u64)>,
    nodes_count: u64,
    /// Chunks that are in no pack.
    lost: HashSet<ChunkId>,
    /// Whether everything could be looked at.
    pub(super) is_complete: bool,
    paths_max: u64,
    /// Of the entry that is walked.
    paths_count: u64,
}

/// A directory being walked.
struct Level<'a> {
    path: Vec<u8>,
    members: ListingReader<'a>,
    listing: Recipe,
    /// Whether everything below it was whole so far.
    whole: bool,
}

impl<'a> Walk<'a> {
    pub(super) fn new(store: &'a ChunkStore, bad: &'a BadRows, paths_max: u64) -> Self {
        Self {
            store,
            bad,
            whole: Positions::new(store),
            whole_nodes: Positions::new(store),
            lossy_nodes: HashMap::new(),
            nodes_count: 0,
            lost: HashSet::new(),
            is_complete: true,
            paths_max,
            paths_count: 0,
        }
    }

    pub(super) fn nodes_count(&self) -> u64 {
        self.nodes_count
    }

    /// Chunks that are in no pack; one more than can be noted at most.
    pub(super) fn lost(&self) -> Vec<ChunkId> {
        self.lost.iter().copied().collect()
    }

    /// Walks an entry; tells how many of its paths and streams are touched.
    pub(super) fn entry(&mut self, id: &EntryId, entry: &Entry, monitor: &Counter<'_>) -> u64 {
        self.paths_count = 0;
        if let Some(tree) = entry.tree() {
            self.tree(id, &tree.root, monitor);
            self.stream(id, "witness", &tree.witness, monitor);
        }
        for disk in entry.disks() {
            self.stream(id, &format!("disk {}", disk.name), &disk.recipe, monitor);
        }
        if let Some(memory) = entry.memory() {
            self.stream(id, "memory", &memory.recipe, monitor);
        }
        if self.paths_count > self.paths_max {
            let message = format!("{} more of its paths are touched", self.paths_count - self.paths_max);
            monitor.problem(Problem { subject: format!("entry {}", id.short()), message });
        }
        self.paths_count
    }

    fn touched(&mut self, subject: impl FnOnce() -> String, message: String, monitor: &dyn Monitor) {
        self.paths_count += 1;
        if self.paths_count <= self.paths_max {
            monitor.problem(Problem { subject: subject(), message });
        }
    }

    fn tree(&mut self, entry: &EntryId, root: &Node, monitor: &dyn Monitor) {
        let store = self.store;
        let NodeKind::Directory(listing) = &root.kind else { return };
        let mut stack =
            vec![Level { path: Vec::new(), members: ListingReader::new(store, listing), listing: listing.clone(), whole: true }];
        while let Some(level) = stack.last_mut() {
            let subject = |path: &[u8]| format!("entry {}: /{}", entry.short(), display_path(path));
            let node = match level.members.next() {
                Some(Ok(node)) => node,
                Some(Err(error)) => {
                    let path = std::mem::take(&mut level.path);
                    level.whole = false;
                    // What follows a damaged block cannot be reached in order; the rest of the tree can.
                    level.members = ListingReader::new(store, &EMPTY);
                    self.is_complete = false;
                    self.touched(|| subject(&path), format!("its listing cannot be read: {}", describe(&error)), monitor);
                    continue;
                }
                None => {
                    let done = stack.pop().expect("looked at above");
                    if done.whole {
                        self.mark(&done.listing);
                    } else if let Some(above) = stack.last_mut() {
                        above.whole = false;
                    }
                    continue;
                }
            };
            monitor.advance(Task::CheckEntries, 1, 0);
            let path = join_path(&level.path, &node.name);
            match node.kind {
                NodeKind::File(Content::Recipe(recipe)) => {
                    if let Some(message) = self.missing(&recipe) {
                        self.touched(|| subject(&path), message, monitor);
                        stack.last_mut().expect("it is a member's").whole = false;
                    }
                }
                NodeKind::Directory(_) if stack.len() >= DEPTH_MAX => {
                    self.touched(|| subject(&path), format!("nested deeper than {DEPTH_MAX} directories"), monitor);
                    stack.last_mut().expect("it is a member's").whole = false;
                }
                NodeKind::Directory(listing) if !self.is_known_whole(&listing) => {
                    stack.push(Level { path, members: ListingReader::new(store, &listing), listing, whole: true });
                }
                _ => {}
            }
        }
    }

    fn stream(&mut self, entry: &EntryId, what: &str, recipe: &Recipe, monitor: &dyn Monitor) {
        if let Some(message) = self.missing(recipe) {
            self.touched(|| format!("entry {}: its {what}", entry.short()), message, monitor);
        }
    }

    /// What is wrong with the chunks of a stream, if anything.
    fn missing(&mut self, recipe: &Recipe) -> Option<String> {
        match self.walk_stream(recipe) {
            Ok((0, _)) => None,
            Ok((count, bytes)) => {
                Some(format!("{count} of its chunks, {bytes} bytes, are damaged, not in the repository, or not of that length"))
            }
            Err(error) => {
                self.is_complete = false;
                Some(format!("its recipe cannot be read: {}", describe(&error)))
            }
        }
    }

    /// How many chunks of a stream are damaged or missing, and their bytes. A node is looked into once, however often it stands anywhere.
    fn walk_stream(&mut self, recipe: &Recipe) -> Result<(u64, u64)> {
        let mut lost = (0_u64, 0_u64);
        // Nodes that the cursor is in: where each ends, and what was lost before it.
        let mut inside: Vec<(ChunkId, u64, (u64, u64))> = Vec::new();
        let mut cursor = Cursor::new(self.store, recipe)?;
        loop {
            while let Some((id, _, before)) = inside.pop_if(|(_, end, _)| *end <= cursor.offset()) {
                if lost == before {
                    self.whole_nodes.insert(&id);
                } else {
                    self.lossy_nodes.insert(id, (lost.0.saturating_sub(before.0), lost.1.saturating_sub(before.1)));
                }
            }
            match cursor.peek() {
                None => return Ok(lost),
                Some(Item::Node { node, .. }) => {
                    let (id, end) = (node.id, cursor.offset().saturating_add(node.len));
                    if self.whole_nodes.contains(&id) {
                        cursor.check()?;
                        cursor.skip();
                    } else if let Some((count, bytes)) = self.lossy_nodes.get(&id) {
                        lost = (lost.0.saturating_add(*count), lost.1.saturating_add(*bytes));
                        cursor.skip();
                    } else {
                        cursor.descend()?;
                        inside.push((id, end, lost));
                    }
                }
                Some(Item::Piece(piece)) => {
                    if let Piece::Data { id, len } = piece
                        && !self.bad.is_sound(id, *len)
                    {
                        lost = (lost.0.saturating_add(1), lost.1.saturating_add(u64::from(*len)));
                        if self.lost.len() <= LOST_MAX && !self.whole.view.contains(id) {
                            self.lost.insert(*id);
                        }
                    }
                    cursor.skip();
                }
            }
        }
    }

    /// Whether every block of a listing was found whole before, with all below it.
    fn is_known_whole(&self, listing: &Recipe) -> bool {
        RecipeReader::new(self.store, listing).all(|piece| matches!(piece, Ok(Piece::Data { id, .. }) if self.whole.contains(&id)))
    }

    fn mark(&mut self, listing: &Recipe) {
        for piece in RecipeReader::new(self.store, listing).flatten() {
            if let Piece::Data { id, .. } = piece {
                self.nodes_count += 1;
                self.whole.insert(&id);
            }
        }
    }
}

static EMPTY: Recipe = Recipe::empty();
