//! Recompresses what was saved at a high level, in the order in which the latest entry is restored.
//!
//! ```text
//! latest entry    a file ── b file ── c file ...   one group after the other, as a restore reads
//! the one before  what only it has                 then what older ones have
//! ```
//! Each portion of it is a [collection](super::CollectOptions) that copies whole packs, so it runs beside writers and readers as any, and whatever became of it the
//! next one, or a collection, goes on.

use super::collect::Collected;
use super::reach::Reach;
use super::{EntryId, Repository};
use crate::monitor::{Monitor, Task};
use std::collections::{HashMap, HashSet};
use vml_chunk::gc::{COMPACTION_LEVEL, Compaction, CompactionPlan, PackUse, TakeOver, plan_compaction};
use vml_chunk::{ChunkId, ChunkStore, Error, ErrorKind, PackId, PackKind, Result};

/// Packs that are taken in hand at a time where nothing else is said: a portion is longer than any pack, and short of what a small disk has room for.
const PORTION_LEN: u64 = 512 << 20;

type EachChunk<'e> = dyn FnMut(&ChunkId, u32) -> Result<()> + 'e;

/// How a repository is compacted.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct CompactOptions {
    /// Tell what would be done and do nothing.
    pub dry_run: bool,
    /// zstd's level, 1 to 19. What was compacted at this or a higher one is left alone.
    pub level: u8,
    /// Most bytes of packs that are taken in hand.
    pub max: Option<u64>,
    /// As many bytes of packs, at most, are replaced before others are looked at.
    pub portion: u64,
}

impl Default for CompactOptions {
    /// All of it at level 19.
    fn default() -> Self {
        Self { dry_run: false, level: COMPACTION_LEVEL, max: None, portion: PORTION_LEN }
    }
}

/// What a compaction did, or would do.
#[derive(Debug, Default)]
pub struct Compacted {
    /// As of the collection that it is.
    pub collected: Collected,
    /// About how many bytes it was expected to write instead of those of the packs that go.
    pub expected_bytes: u64,
}

impl Compacted {
    /// About how many bytes less there were expected to be.
    pub fn expected_gain_bytes(&self) -> u64 {
        self.collected.plan.freed_bytes().saturating_sub(self.expected_bytes)
    }
}

impl Repository {
    /// Compacts the packs of data, a portion of them after the other, those first that the latest entry is restored from first. It may run beside writers, readers and
    /// collections, and be killed at any moment: what was done stays, and the next compaction goes on. `expecting` hears what it will do before it begins.
    ///
    /// A save beside it stores again what it finds in packs of the portion at hand and nowhere else, unless it takes a file over unchanged.
    ///
    /// # Errors
    /// As [`collect`](Self::collect); `InvalidInput` for a level that zstd does not have.
    ///
    /// # Cost
    /// Compresses some 1.5 MB a second at level 19, on one core. Memory of about 200 MiB beside the cache. Room for what a portion is replaced by, until it ends. Walks all entries once a portion.
    pub fn compact(&self, options: CompactOptions, expecting: &mut dyn FnMut(&CompactionPlan), monitor: &dyn Monitor) -> Result<Compacted> {
        if !(1..=19).contains(&options.level) {
            return Err(Error::invalid(format!("the compression level is {}, it must be from 1 to 19", options.level)));
        }
        let mut whole = self.compact_portion(CompactOptions { dry_run: true, ..options }, &[], monitor)?;
        let plan = &whole.collected.plan;
        expecting(&CompactionPlan { plan: plan.clone(), expected_bytes: whole.expected_bytes });
        let mut todo: HashSet<PackId> = plan.packs().map(|pack| pack.id).collect();
        let mut room = options.max.unwrap_or(u64::MAX);
        if options.dry_run {
            return Ok(whole);
        }
        // Also when there is nothing to do: an earlier run may have left something to end.
        loop {
            let portion = CompactOptions { max: Some(room.min(options.portion)), ..options };
            let done = self.compact_portion(portion, &whole.collected.swept.damaged_packs, monitor)?.collected;
            room = room.saturating_sub(done.plan.freed_bytes());
            done.plan.packs().for_each(|pack| _ = todo.remove(&pack.id));
            let swept = &mut whole.collected.swept;
            swept.deleted_packs_count += done.swept.deleted_packs_count;
            swept.deleted_bytes += done.swept.deleted_bytes;
            swept.copied_chunks_count += done.swept.copied_chunks_count;
            swept.written_bytes += done.swept.written_bytes;
            swept.damaged_packs.extend(done.swept.damaged_packs);
            if todo.is_empty() || done.swept.deleted_packs_count == 0 {
                return Ok(whole);
            }
        }
    }

    /// One collection that takes at most `max` bytes in hand, and none of the `damaged` packs.
    fn compact_portion(&self, options: CompactOptions, damaged: &[(String, Error)], monitor: &dyn Monitor) -> Result<Compacted> {
        let store = self.store(monitor)?;
        // When all is taken the order of the packs does not matter.
        let ranks = if options.max.is_none() { HashMap::new() } else { self.ranks(store)? };
        let mut expected_bytes = 0;
        let mut choose = |mut uses: Vec<PackUse>| {
            uses.retain(|PackUse { pack, .. }| damaged.iter().all(|(key, _)| *key != pack.kind.key(&pack.id)));
            uses.sort_by_key(|pack_use| ranks.get(&pack_use.pack.id).copied().unwrap_or(usize::MAX));
            let made = plan_compaction(uses, options.level, options.max);
            expected_bytes = made.expected_bytes;
            made.plan
        };
        let collected = self.collection(
            options.dry_run,
            &mut choose,
            &mut |collector, marks, each| {
                let mut order = |take: TakeOver<'_>| {
                    self.as_restored(store, &mut |chunk, len| {
                        take(chunk)?;
                        monitor.advance(Task::Compact, 1, u64::from(len));
                        Ok(())
                    })
                };
                collector.compact(marks, Compaction { level: options.level, order: &mut order }, each)
            },
            monitor,
        )?;
        Ok(Compacted { collected, expected_bytes })
    }

    /// In which order a restore of the latest entry comes to packs of data.
    fn ranks(&self, store: &ChunkStore) -> Result<HashMap<PackId, usize>> {
        let mut ranks = HashMap::new();
        let view = store.view();
        for id in self.latest_first()?.into_iter().take(1) {
            self.content_of(&mut Reach::new(store), &id, &mut |chunk, _| {
                for place in view.locate(chunk) {
                    let next = ranks.len();
                    ranks.entry(place.pack).or_insert(next);
                }
                Ok(())
            })?;
        }
        Ok(ranks)
    }

    /// Names the content of every entry as a restore reads it, the latest entry first. What cannot be walked is left out.
    fn as_restored(&self, store: &ChunkStore, each: &mut EachChunk<'_>) -> Result<()> {
        let mut reach = Reach::new(store);
        self.latest_first()?.iter().try_for_each(|id| self.content_of(&mut reach, id, each))
    }

    /// The entries that can be read.
    fn latest_first(&self) -> Result<Vec<EntryId>> {
        let ids = self.entry_ids()?;
        let mut entries: Vec<(i64, EntryId)> = Vec::with_capacity(ids.len());
        for (id, entry) in self.entries(&ids) {
            match entry {
                Ok(entry) => entries.push((entry.time_ms, id)),
                Err(error) if matches!(error.kind(), ErrorKind::NotFound | ErrorKind::Corrupt) => {}
                Err(error) => return Err(error),
            }
        }
        entries.sort_unstable_by(|a, b| b.cmp(a));
        Ok(entries.into_iter().map(|(_, id)| id).collect())
    }

    /// Names the content of an entry that `reach` has not come to yet, as far as it can be walked.
    fn content_of(&self, reach: &mut Reach<'_>, id: &EntryId, each: &mut EachChunk<'_>) -> Result<()> {
        let mut failure = None;
        let walked = self.entry(id).and_then(|entry| {
            reach.entry(&entry, true, &mut |kind, chunk, len| {
                if kind == PackKind::Data {
                    each(chunk, len).map_err(|error| Error::new(error.kind(), failure.insert(error).to_string()))?;
                }
                Ok(true)
            })
        });
        match (failure, walked) {
            (Some(error), _) => Err(error),
            (None, Err(error)) if !matches!(error.kind(), ErrorKind::NotFound | ErrorKind::Corrupt) => Err(error),
            _ => Ok(()),
        }
    }
}
