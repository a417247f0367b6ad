//! Takes away what no entry needs any more: walks what is kept, and has the store's packs [collected](vml_chunk::gc).
//!
//! Whatever names chunks is a root: every entry, whether a ref points to it or not, and every save that is being committed. The walk reads metadata only.
//! A listing that cannot be read ends the collection before anything is touched: what stands below it is unknown.

use super::commit::{FoundIntent, Wholeness};
use super::{ENTRIES_DIR, FORGOTTEN_DIR, NOTES_DIR, Repository, SAVING_DIR, entry_of_note};
use crate::entry::{Entry, EntryId, Part};
use crate::monitor::{Monitor, Problem, Task};
use crate::recipe::{Cursor, Item, Piece, Recipe};
use crate::tree::{Block, Content, NodeKind};
use std::collections::HashSet;
use vml_chunk::gc::{Collector, Marks, PackUse, Plan, PlanOptions, Swept, plan};
use vml_chunk::index::PackRow;
use vml_chunk::{ChunkId, ChunkStore, ErrorKind, Result, Standing};

/// How far a collection goes.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct CollectOptions {
    /// Tell what would be done and do nothing.
    pub dry_run: bool,
    /// Most bytes that are copied out of packs that are mostly dead.
    pub repack_max: Option<u64>,
}

/// What a collection did, or would do.
#[derive(Debug, Default)]
pub struct Collected {
    /// Entries that are kept.
    pub entries_count: u64,
    /// Chunks of theirs that are not in the repository: what a check tells of.
    pub missing_chunks_count: u64,
    /// Which packs go.
    pub plan: Plan,
    /// Packs that an earlier collection had not come to delete.
    pub unfinished_packs_count: u64,
    /// Their bytes.
    pub unfinished_bytes: u64,
    /// What was done; nothing with `dry_run`.
    pub swept: Swept,
}

/// How packs that go are swept.
type Sweep<'s> = dyn FnMut(Collector<'_>, &Marks, &mut dyn FnMut(&PackRow)) -> Result<Swept> + 's;

impl Repository {
    /// Collects. It may run beside writers, readers and other collections, in this process or others, and be killed at any moment.
    ///
    /// # Errors
    /// `Corrupt` when an entry or a listing cannot be read, naming the entry: nothing was changed then. `Locked` when another collection
    /// took over. Else what the backend says; what was not done is done by the next one.
    ///
    /// # Cost
    /// Reads the metadata of all entries, each listing once, and memory for half a byte a chunk.
    pub fn collect(&self, options: CollectOptions, monitor: &dyn Monitor) -> Result<Collected> {
        let choose = &mut |uses| plan(uses, PlanOptions { repack_max: options.repack_max });
        self.collection(options.dry_run, choose, &mut |collector, marks, each| collector.sweep(marks, each), monitor)
    }

    /// A collection: `choose` says which packs go, and `sweep` copies what is needed of them and deletes them.
    pub(super) fn collection(
        &self,
        dry_run: bool,
        choose: &mut dyn FnMut(Vec<PackUse>) -> Plan,
        sweep: &mut Sweep<'_>,
        monitor: &dyn Monitor,
    ) -> Result<Collected> {
        self.refuse_put_only("a collection must know what every entry needs")?;
        let store = self.store(monitor)?;
        let mut collected = Collected::default();
        // What is kept is listed before the index is looked at: all of it is in what is found there.
        let roots = self.roots(store, !dry_run)?;
        let mut collector = Collector::begin(store)?;
        let mut walk = Walk {
            store,
            marks: Marks::new(std::sync::Arc::clone(collector.view())),
            monitor,
            missing_count: 0,
            lenient: false,
            tainted: false,
            standing: None,
            going: false,
        };
        let mut known = HashSet::new();
        walk.roots(self, &roots, &mut known)?;
        collected.entries_count = roots.entries_count;
        collected.missing_chunks_count = walk.missing_count;
        let unfinished = collector.unfinished();
        collected.unfinished_packs_count = unfinished.len() as u64;
        collected.unfinished_bytes = unfinished.iter().map(|pack| pack.len).sum();
        collected.plan = choose(collector.measure(&walk.marks));
        if dry_run {
            return Ok(collected);
        }
        collector.quarantine(&collected.plan)?;
        // What was committed before the quarantine is seen now, and what is committed after it avoids those packs.
        let again = self.roots(store, true).and_then(|roots| store.reload(false).and_then(|_| walk.roots(self, &roots, &mut known)));
        if let Err(error) = again {
            _ = collector.release();
            return Err(error);
        }
        // What was not seen, or seen as forgotten, by the hand of a process that was killed before that was durable must not come back.
        [ENTRIES_DIR, FORGOTTEN_DIR, SAVING_DIR].into_iter().try_for_each(|dir| self.backend.settle(dir))?;
        collected.swept = sweep(collector, &walk.marks, &mut |pack| monitor.advance(Task::Collect, 0, pack.len))?;
        for (pack, error) in &collected.swept.damaged_packs {
            monitor.problem(Problem { subject: format!("pack {pack}"), message: format!("it stays: {}", super::describe(error)) });
        }
        self.drop_orphaned_notes()?;
        Ok(collected)
    }

    /// Everything that names chunks. With `settle`, saves that are decided or whose writers are dead are ended first.
    fn roots(&self, store: &ChunkStore, settle: bool) -> Result<Roots> {
        // Intents first: one that becomes an entry meanwhile is then among the entries.
        let mut intents = self.intents()?;
        if settle && !intents.is_empty() {
            // After the intents were read: a collection that lists its packs later than this sees them.
            let standing = store.standing()?;
            for intent in &intents {
                self.settle(intent, standing.generation(), &mut |entry| look_at(store, &standing, entry))?;
            }
            // One that was taken away is nobody's any more, and one that is an entry now is among those.
            intents = self.intents()?;
        }
        let mut entries = self.entry_ids()?;
        entries.sort_unstable();
        Ok(Roots { entries_count: entries.len() as u64, intents, entries })
    }

    /// Notes of entries that were forgotten by a run that was cut short before it came to them.
    fn drop_orphaned_notes(&self) -> Result<()> {
        for listed in self.backend.list(NOTES_DIR)? {
            let Some(entry) = entry_of_note(&listed.name) else { continue };
            if self.is_forgotten(&entry)? {
                self.backend.delete(&format!("{NOTES_DIR}/{}", listed.name))?;
            }
        }
        Ok(())
    }
}

struct Roots {
    intents: Vec<FoundIntent>,
    entries: Vec<EntryId>,
    entries_count: u64,
}

/// Ways to meet a chunk below which the walk goes on.
const DATA_NODE: usize = 0;
const LISTING_NODE: usize = 1;
const LISTING_BLOCK: usize = 2;

struct Walk<'a> {
    store: &'a ChunkStore,
    marks: Marks,
    monitor: &'a dyn Monitor,
    missing_count: u64,
    /// Whether it goes on over what is not there.
    lenient: bool,
    /// Whether it did: then it has not been everywhere below what it entered.
    tainted: bool,
    /// Where it is to be noted whether something is in packs that go only.
    standing: Option<&'a Standing>,
    going: bool,
}

impl Walk<'_> {
    /// Entries must be whole. A save that is not is its writer's business: what is there is kept for it.
    fn roots(&mut self, repository: &Repository, roots: &Roots, known: &mut HashSet<EntryId>) -> Result<()> {
        if std::mem::take(&mut self.tainted) {
            // An entry could share what an incomplete save was walked for, and would be passed over there.
            self.marks.walk_anew();
            known.clear();
        }
        self.entries(repository, roots, known)?;
        self.lenient = true;
        let walked = roots.intents.iter().try_for_each(|intent| self.entry(&intent.entry));
        self.lenient = false;
        walked
    }

    fn entries(&mut self, repository: &Repository, roots: &Roots, known: &mut HashSet<EntryId>) -> Result<()> {
        let mut unknown: Vec<EntryId> = roots.entries.iter().filter(|id| !known.contains(id)).copied().collect();
        while let Some(gone) = self.some_entries(repository, &unknown, known)? {
            // What its walk had entered it has not left, and another entry may share it.
            self.marks.walk_anew();
            known.clear();
            unknown = roots.entries.iter().filter(|id| **id != gone).copied().collect();
        }
        Ok(())
    }

    /// Walks these entries, up to one that was forgotten since it was listed and of which something is gone by now.
    fn some_entries(&mut self, repository: &Repository, ids: &[EntryId], known: &mut HashSet<EntryId>) -> Result<Option<EntryId>> {
        for (id, entry) in repository.entries(ids) {
            match entry {
                Ok(entry) => match self.entry(&entry) {
                    Ok(()) => {}
                    Err(error) if matches!(error.kind(), ErrorKind::NotFound | ErrorKind::Corrupt) => {
                        // By another collection, which need not be slower than this one.
                        if repository.is_forgotten(&id)? {
                            return Ok(Some(id));
                        }
                        let what = format!("entry {} cannot be walked: repair it or forget it, then collect", id.short());
                        return Err(vml_chunk::Error::new(ErrorKind::Corrupt, what).because(error));
                    }
                    Err(error) => return Err(error.context(format!("entry {} cannot be walked", id.short()))),
                },
                // Forgotten since it was listed.
                Err(error) if error.kind() == ErrorKind::NotFound => {}
                Err(error) => return Err(error.context("nothing is collected while it is unknown what an entry needs; forget it to go on")),
            }
            known.insert(id);
        }
        Ok(None)
    }

    /// Passes over what is not there, if it may.
    fn tolerate<T>(&mut self, result: Result<T>) -> Result<Option<T>> {
        match result {
            Err(error) if self.lenient && matches!(error.kind(), ErrorKind::NotFound | ErrorKind::Corrupt) => {
                self.tainted = true;
                Ok(None)
            }
            other => other.map(Some),
        }
    }

    fn note_standing(&mut self, id: &ChunkId) {
        self.going |= self.standing.is_some_and(|standing| !standing.has(id));
    }

    fn entry(&mut self, entry: &Entry) -> Result<()> {
        for part in &entry.parts {
            match part {
                Part::Tree(tree) => {
                    self.stream(&tree.witness)?;
                    if let NodeKind::Directory(listing) = &tree.root.kind {
                        self.listings(listing)?;
                    }
                }
                Part::Disk(disk) => self.stream(&disk.recipe)?,
                Part::Memory(memory) => self.stream(&memory.recipe)?,
                Part::Machine(_) => {}
            }
        }
        self.monitor.advance(Task::Collect, 1, 0);
        Ok(())
    }

    /// Marks the chunks of a stream.
    fn stream(&mut self, recipe: &Recipe) -> Result<()> {
        self.recipe(recipe, DATA_NODE, &mut |walk, id| {
            walk.note_standing(id);
            if !walk.marks.mark(id) && !walk.store.contains(id) {
                walk.missing_count += 1;
            }
            Ok(())
        })
    }

    /// Marks a directory and everything below it. What is waiting is the subdirectories of one block a level.
    fn listings(&mut self, root: &Recipe) -> Result<()> {
        let mut waiting = vec![root.clone()];
        while let Some(listing) = waiting.pop() {
            let mut found = Vec::new();
            self.recipe(&listing, LISTING_NODE, &mut |walk, id| walk.block(id, &mut found))?;
            waiting.append(&mut found);
        }
        Ok(())
    }

    fn block(&mut self, id: &ChunkId, directories: &mut Vec<Recipe>) -> Result<()> {
        if !self.marks.enter(LISTING_BLOCK, id) {
            return Ok(());
        }
        self.note_standing(id);
        let nodes = self.store.get(id).and_then(|block| Block::decode(&block));
        for node in self.tolerate(nodes)?.unwrap_or_default() {
            match node.kind {
                NodeKind::File(Content::Recipe(recipe)) => self.stream(&recipe)?,
                NodeKind::Directory(listing) => directories.push(listing),
                _ => {}
            }
        }
        Ok(())
    }

    fn recipe(&mut self, recipe: &Recipe, node_walk: usize, each: &mut dyn FnMut(&mut Self, &ChunkId) -> Result<()>) -> Result<()> {
        let cursor = Cursor::new(self.store, recipe);
        let Some(mut cursor) = self.tolerate(cursor)? else { return Ok(()) };
        while let Some(item) = cursor.peek() {
            match item {
                Item::Node { node, .. } if self.marks.enter(node_walk, &node.id) => {
                    let id = node.id;
                    self.note_standing(&id);
                    let descended = cursor.descend();
                    if self.tolerate(descended)?.is_none() {
                        cursor.skip();
                    }
                }
                Item::Piece(Piece::Data { id, .. }) => {
                    let id = *id;
                    each(self, &id)?;
                    cursor.skip();
                }
                _ => cursor.skip(),
            }
        }
        Ok(())
    }
}

/// What there is of all that an entry names.
fn look_at(store: &ChunkStore, standing: &Standing, entry: &Entry) -> Result<Wholeness> {
    let marks = Marks::new(store.view());
    let monitor = &crate::monitor::NoMonitor;
    let mut walk = Walk { store, marks, monitor, missing_count: 0, lenient: false, tainted: false, standing: Some(standing), going: false };
    match walk.entry(entry) {
        Ok(()) if walk.missing_count == 0 && !walk.going => Ok(Wholeness::Whole),
        Ok(()) if walk.missing_count == 0 => Ok(Wholeness::Going),
        Ok(()) => Ok(Wholeness::Incomplete),
        Err(error) if matches!(error.kind(), ErrorKind::NotFound | ErrorKind::Corrupt) => Ok(Wholeness::Incomplete),
        // What could not be read may be there.
        Err(error) => Err(error),
    }
}
