//! Where the bytes of a repository are: what each entry brought, of what kind it is, and what nobody needs.
//!
//! Entries are walked from the oldest to the newest, and a chunk counts where it is met first: an entry *brought* what none before it had. That is what saving it cost,
//! not what forgetting it frees: a younger entry may need it too.

use super::Repository;
use super::reach::Reach;
use crate::entry::{Entry, EntryId, Part};
use crate::monitor::{Monitor, Task};
use std::ops::AddAssign;
use vml_chunk::index::IndexView;
use vml_chunk::{ChunkId, PackKind, Result};

/// So much of something.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Amount {
    /// Chunks, each once.
    pub chunks_count: u64,
    /// Their plain bytes.
    pub plain_bytes: u64,
    /// About what they take in packs: their part of the frames that they are in.
    pub stored_bytes: u64,
}

impl AddAssign for Amount {
    fn add_assign(&mut self, other: Self) {
        self.chunks_count += other.chunks_count;
        self.plain_bytes += other.plain_bytes;
        self.stored_bytes += other.stored_bytes;
    }
}

/// Amounts by what the chunks are met as.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Kinds {
    /// Contents of files.
    pub files: Amount,
    /// Contents of disks.
    pub disks: Amount,
    /// Memory of machines.
    pub memory: Amount,
    /// Listings, recipes of what is long, and what unchanged files are known by.
    pub metadata: Amount,
}

impl Kinds {
    /// All of it.
    pub fn sum(&self) -> Amount {
        let mut sum = self.files;
        [self.disks, self.memory, self.metadata].into_iter().for_each(|amount| sum += amount);
        sum
    }
}

impl AddAssign for Kinds {
    fn add_assign(&mut self, other: Self) {
        self.files += other.files;
        self.disks += other.disks;
        self.memory += other.memory;
        self.metadata += other.metadata;
    }
}

/// What an entry brought.
#[derive(Debug, Clone)]
pub struct EntryUsage {
    /// Its id.
    pub id: EntryId,
    /// The entry.
    pub entry: Entry,
    /// Bytes of what it holds, whether an older entry had them or not: of its files, and of what is not zero on its disks and in its memory.
    pub held_bytes: u64,
    /// What no older entry had.
    pub brought: Kinds,
    /// Why its walk ended early, if it did; what was met until then counts.
    pub problem: Option<String>,
}

/// Where the bytes of a repository are.
#[derive(Debug, Default)]
pub struct Usage {
    /// All entries that can be read, the oldest first.
    pub entries: Vec<EntryUsage>,
    /// Bytes of packs in which is nothing that an entry needs, with the headers and footers of all packs.
    pub unneeded_bytes: u64,
}

impl Usage {
    /// What all entries need.
    pub fn kinds(&self) -> Kinds {
        let mut sum = Kinds::default();
        self.entries.iter().for_each(|entry| sum += entry.brought);
        sum
    }

    /// Bytes that all entries hold, each counted in full.
    pub fn held_bytes(&self) -> u64 {
        self.entries.iter().map(|entry| entry.held_bytes).sum()
    }
}

impl Repository {
    /// Walks all entries and adds up what they need.
    ///
    /// # Errors
    /// `NeedsKey` for a key that cannot read, else what the backend says. A damaged entry is no error: see [`EntryUsage::problem`].
    ///
    /// # Cost
    /// Reads the metadata of all entries, each listing once, and memory for half a byte a chunk.
    pub fn usage(&self, monitor: &dyn Monitor) -> Result<Usage> {
        self.refuse_put_only("where bytes are must be read from what every entry needs")?;
        let store = self.store(monitor)?;
        let view = store.view();
        let totals = store.totals();
        let mut entries: Vec<(EntryId, Entry)> = Vec::new();
        for (id, entry) in self.entries(&self.entry_ids()?) {
            entries.extend(entry.ok().map(|entry| (id, entry)));
        }
        entries.sort_by_key(|(id, entry)| (entry.time_ms, *id));
        let mut reach = Reach::new(store);
        let count = |of: &mut Amount, chunk: &ChunkId, len| {
            let amount = amount_of(&view, chunk, len);
            *of += amount;
            Ok(amount.chunks_count > 0)
        };
        let mut usage = Usage::default();
        for (id, entry) in entries {
            let (mut brought, mut problem) = (Kinds::default(), None);
            for part in &entry.parts {
                let mut contents = Amount::default();
                let mut walked = reach.part(part, false, &mut |kind, chunk, len| {
                    count(if kind == PackKind::Data { &mut contents } else { &mut brought.metadata }, chunk, len)
                });
                match part {
                    Part::Tree(tree) => {
                        brought.files += contents;
                        walked = walked.and_then(|()| reach.witness(tree, &mut |_, chunk, len| count(&mut brought.metadata, chunk, len)));
                    }
                    Part::Disk(_) => brought.disks += contents,
                    Part::Memory(_) => brought.memory += contents,
                    Part::Machine(_) => {}
                }
                problem = problem.or(walked.err().map(|error| super::describe(&error)));
            }
            monitor.advance(Task::Collect, 1, 0);
            let held_bytes = entry.parts.iter().map(held_by).sum();
            usage.entries.push(EntryUsage { id, entry, held_bytes, brought, problem });
        }
        let needed = usage.kinds().sum().stored_bytes;
        usage.unneeded_bytes = (totals.data_bytes + totals.meta_bytes).saturating_sub(needed);
        Ok(usage)
    }
}

fn held_by(part: &Part) -> u64 {
    match part {
        Part::Tree(tree) => tree.stats.bytes,
        Part::Disk(disk) => disk.stats.data_bytes,
        Part::Memory(memory) => memory.recipe.len,
        Part::Machine(_) => 0,
    }
}

/// Nothing for a chunk that is not there.
fn amount_of(view: &IndexView, chunk: &ChunkId, len: u32) -> Amount {
    let Some(place) = view.locate(chunk).find(|place| place.chunk_len == len) else { return Amount::default() };
    let stored = u64::from(place.stored_len) * u64::from(len) / u64::from(place.plain_len.max(1));
    Amount { chunks_count: 1, plain_bytes: u64::from(len), stored_bytes: stored }
}
