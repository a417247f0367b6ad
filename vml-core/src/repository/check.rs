//! Checks a repository: that every entry is whole, and, if asked, that every byte is what it was.

use super::{Repository, describe};
use crate::entry::EntryId;
use crate::monitor::{Monitor, Problem, Task};
use crate::recipe::{Cursor, Item, Piece, Recipe, RecipeReader};
use crate::refs::RefKind;
use crate::tree::{Content, DEPTH_MAX, ListingReader, Node, NodeKind, display_path, join_path};
use rayon::prelude::*;
use std::collections::HashMap;
use std::sync::atomic::{AtomicU64, Ordering};
use vml_chunk::pack::verify_pack_keyed;
use vml_chunk::{ChunkId, ChunkStore, Error, ErrorKind, Result};

/// How much is checked.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct CheckOptions {
    /// Read every byte of every pack.
    pub data: bool,
}

/// Numbers of one check.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Checked {
    /// Entries walked.
    pub entries_count: u64,
    /// Directory listings and recipe nodes read.
    pub nodes_count: u64,
    /// Packs read; 0 when data was not checked.
    pub packs_count: u64,
    /// Their bytes.
    pub bytes: u64,
    /// Things found wrong.
    pub problems_count: u64,
}

impl Repository {
    /// Walks every entry to every chunk it names, and reads every pack if `options` say so. Each problem is told to
    /// `monitor`, with the entry and the path it touches.
    ///
    /// # Errors
    /// When the repository cannot be read at all; damage is no error.
    pub fn check(&self, options: CheckOptions, monitor: &dyn Monitor) -> Result<Checked> {
        self.refuse_put_only("a check reads everything")?;
        let counter = Counter { monitor, problems: AtomicU64::new(0) };
        // Entries are listed before the index is opened: what they name was durable before they were.
        let mut ids = self.entry_ids()?;
        ids.sort_unstable();
        // What is wrong is told below, once; what was mended is told by the opening that mended it.
        let store = self.store(&NoticesOnly(monitor))?;
        let mut report = store.reload(true)?;
        let missing_packs = std::mem::take(&mut report.missing_packs);
        super::tell(&report, &counter);
        let mut checked = Checked::default();
        let nothing = || Positions::new(store);
        let mut walk = Walk { store, whole: nothing(), whole_nodes: nothing(), lossy_nodes: HashMap::new(), nodes_count: 0 };
        for (id, entry) in self.entries(&ids) {
            let id = &id;
            checked.entries_count += 1;
            match entry {
                Ok(entry) => {
                    let lost = |parent: &&EntryId| self.is_missing(&ids, parent) && !self.is_forgotten(parent).unwrap_or(false);
                    if let Some(parent) = entry.parents.iter().find(lost)
                        && !self.was_received(id)
                    {
                        counter.problem(Problem {
                            subject: format!("entry {}", id.short()),
                            message: format!("its parent {} is missing", parent.short()),
                        });
                    }
                    if let Some(tree) = entry.tree() {
                        walk.tree(id, &tree.root, &counter);
                        walk.stream(id, "witness", &tree.witness, &counter);
                    }
                    for disk in entry.disks() {
                        walk.stream(id, &format!("disk {}", disk.name), &disk.recipe, &counter);
                    }
                    if let Some(memory) = entry.memory() {
                        walk.stream(id, "memory", &memory.recipe, &counter);
                    }
                }
                // Forgotten since it was listed.
                Err(error) if error.kind() == ErrorKind::NotFound && self.is_forgotten(id)? => {}
                Err(error) => counter.problem(Problem { subject: format!("entry {}", id.short()), message: describe(&error) }),
            }
        }
        checked.nodes_count = walk.nodes_count;
        // The index names a pack that was lost until it is merged, also when all it held was saved again since.
        let needed = counter.problems.load(Ordering::Relaxed) > 0;
        for pack in missing_packs {
            let key = pack.kind.key(&pack.id);
            if needed {
                counter.problem(Problem { subject: key, message: super::MISSING_PACK.to_owned() });
            } else {
                counter.notice(&format!("{key} is missing or cut short, and no entry needs it"));
            }
        }
        self.check_refs(&ids, &counter)?;
        self.notes(&counter)?;
        if options.data {
            let (packs, bytes) = self.check_data(store, &counter)?;
            checked.packs_count = packs;
            checked.bytes = bytes;
        }
        checked.problems_count = counter.problems.into_inner();
        Ok(checked)
    }

    fn check_refs(&self, ids: &[EntryId], monitor: &dyn Monitor) -> Result<()> {
        for kind in RefKind::ALL {
            for (name, target) in self.refs().list(kind)? {
                let message = match target {
                    Ok(id) if self.is_forgotten(&id).unwrap_or(false) => format!("points to entry {}, which was forgotten", id.short()),
                    Ok(id) if !self.is_missing(ids, &id) => continue,
                    Ok(id) => format!("points to entry {}, which is missing", id.short()),
                    Err(error) => describe(&error),
                };
                monitor.problem(Problem { subject: format!("{kind:?} {name}").to_lowercase(), message });
            }
        }
        Ok(())
    }

    /// Whether an entry is not there; one that somebody saved after `ids` were listed is.
    fn is_missing(&self, ids: &[EntryId], id: &EntryId) -> bool {
        ids.binary_search(id).is_err() && self.entry(id).is_err_and(|error| error.kind() == ErrorKind::NotFound)
    }

    fn check_data(&self, store: &ChunkStore, monitor: &Counter<'_>) -> Result<(u64, u64)> {
        let packs = store.view().packs();
        let bytes = packs.iter().map(|pack| pack.len).sum();
        monitor.expect(Task::CheckData, bytes);
        let pool = rayon::ThreadPoolBuilder::new()
            .num_threads(self.options.threads.max(1))
            .build()
            .map_err(|error| Error::new(ErrorKind::Io, "cannot start threads to read packs").because(error))?;
        pool.install(|| {
            packs.par_iter().for_each(|pack| {
                let key = pack.kind.key(&pack.id);
                let result = verify_pack_keyed(store.backend().as_ref(), store.ids(), pack.kind, &pack.id, |chunk, error| {
                    monitor.problem(Problem { subject: format!("chunk {} in pack {key}", chunk.id.short()), message: describe(error) });
                });
                // A collection took it away; what was needed of it is elsewhere.
                let is_collected = |error: &Error| error.kind() == ErrorKind::NotFound && store.is_collected(pack.kind, &pack.id);
                if let Err(error) = result
                    && !is_collected(&error)
                {
                    monitor.problem(Problem { subject: format!("pack {key}"), message: describe(&error) });
                }
                monitor.advance(Task::CheckData, 1, pack.len);
            });
        });
        Ok((packs.len() as u64, bytes))
    }
}

/// Counts the problems it passes on.
struct Counter<'a> {
    monitor: &'a dyn Monitor,
    problems: AtomicU64,
}

impl Monitor for Counter<'_> {
    fn advance(&self, task: Task, files: u64, bytes: u64) {
        self.monitor.advance(task, files, bytes);
    }

    fn expect(&self, task: Task, bytes: u64) {
        self.monitor.expect(task, bytes);
    }

    fn problem(&self, problem: Problem) {
        self.problems.fetch_add(1, Ordering::Relaxed);
        self.monitor.problem(problem);
    }

    fn notice(&self, message: &str) {
        self.monitor.notice(message);
    }
}

/// Passes on what is no problem.
struct NoticesOnly<'a>(&'a dyn Monitor);

impl Monitor for NoticesOnly<'_> {
    fn notice(&self, message: &str) {
        self.0.notice(message);
    }
}

/// A bit for every row of the index: a set of chunks that costs an eighth of a byte each.
struct Positions {
    view: std::sync::Arc<vml_chunk::index::IndexView>,
    bits: Vec<Vec<u64>>,
}

impl Positions {
    fn new(store: &ChunkStore) -> Self {
        let view = store.view();
        let bits = view.segments().map(|(_, count)| vec![0; count.div_ceil(64)]).collect();
        Self { view, bits }
    }

    /// Whether the chunk is stored, with this length.
    fn is_stored(&self, id: &ChunkId, len: u32) -> bool {
        self.view.locate(id).any(|location| location.chunk_len == len)
    }

    fn contains(&self, id: &ChunkId) -> bool {
        self.view.position(id).is_some_and(|(segment, row)| self.bits[segment][row / 64] >> (row % 64) & 1 == 1)
    }

    fn insert(&mut self, id: &ChunkId) {
        if let Some((segment, row)) = self.view.position(id) {
            self.bits[segment][row / 64] |= 1 << (row % 64);
        }
    }
}

/// Walks entries; a listing below which everything was found whole is not walked again.
struct Walk<'a> {
    store: &'a ChunkStore,
    whole: Positions,
    /// Nodes of streams below which nothing is missing.
    whole_nodes: Positions,
    /// And those below which something is: how many chunks and bytes.
    lossy_nodes: HashMap<ChunkId, (u64, u64)>,
    nodes_count: u64,
}

/// A directory being walked.
struct Level<'a> {
    path: Vec<u8>,
    members: ListingReader<'a>,
    listing: Recipe,
    /// Whether everything below it was whole so far.
    whole: bool,
}

impl Walk<'_> {
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
                    monitor.problem(Problem {
                        subject: subject(&level.path),
                        message: format!("its listing cannot be read: {}", describe(&error)),
                    });
                    level.whole = false;
                    // What follows a damaged block cannot be reached in order; the rest of the tree can.
                    level.members = ListingReader::new(store, &EMPTY);
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
                        monitor.problem(Problem { subject: subject(&path), message });
                        stack.last_mut().expect("it is a member's").whole = false;
                    }
                }
                NodeKind::Directory(_) if stack.len() >= DEPTH_MAX => {
                    monitor.problem(Problem { subject: subject(&path), message: format!("nested deeper than {DEPTH_MAX} directories") });
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
            monitor.problem(Problem { subject: format!("entry {}: its {what}", entry.short()), message });
        }
    }

    /// What is wrong with the chunks of a stream, if anything.
    fn missing(&mut self, recipe: &Recipe) -> Option<String> {
        match self.walk_stream(recipe) {
            Ok((0, _)) => None,
            Ok((count, bytes)) => Some(format!("{count} of its chunks, {bytes} bytes, are not in the repository, or not of that length")),
            Err(error) => Some(format!("its recipe cannot be read: {}", describe(&error))),
        }
    }

    /// How many chunks of a stream are missing, and their bytes. A node is looked into once, however often it stands anywhere.
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
                        && !self.whole.is_stored(id, *len)
                    {
                        lost = (lost.0.saturating_add(1), lost.1.saturating_add(u64::from(*len)));
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
