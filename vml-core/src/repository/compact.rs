//! Recompresses what was saved at a high level, in the order in which the latest entry is restored.
//!
//! ```text
//! latest entry    a file ── b file ── c file ...   one group after the other, as a restore reads
//! the one before  what only it has                 then what older ones have
//! ```
//! It is a [collection](super::CollectOptions) that copies whole packs, so it runs beside writers and readers as any, and whatever became of it the next one, or a
//! collection, goes on.

use super::collect::Collected;
use super::reach::Reach;
use super::{EntryId, Repository};
use crate::monitor::{Monitor, Task};
use vml_chunk::gc::{COMPACTION_LEVEL, Compaction, CompactionPlan, TakeOver, plan_compaction};
use vml_chunk::{ChunkStore, Error, ErrorKind, PackKind, Result};

/// How a repository is compacted.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct CompactOptions {
    /// Tell what would be done and do nothing.
    pub dry_run: bool,
    /// zstd's level, 1 to 19. What was compacted at this or a higher one is left alone.
    pub level: u8,
    /// Most bytes of packs that are taken in hand.
    pub max: Option<u64>,
}

impl Default for CompactOptions {
    /// All of it at level 19.
    fn default() -> Self {
        Self { dry_run: false, level: COMPACTION_LEVEL, max: None }
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
    /// Compacts the packs of data. It may run beside writers, readers and collections, and be killed at any moment: packs that it filled stay, and what it had not come to
    /// is gone on with by the next compaction, or copied by the next collection. `expecting` hears what it will do before it begins to copy.
    ///
    /// A save beside it stores again what it finds in packs that go and nowhere else, unless it takes a file over unchanged.
    ///
    /// # Errors
    /// As [`collect`](Self::collect); `InvalidInput` for a level that zstd does not have.
    ///
    /// # Cost
    /// Compresses some 1.5 MB a second at level 19, on one core. Memory of about 200 MiB beside the cache. Until it ends there is room needed for both, what goes and what is written.
    pub fn compact(&self, options: CompactOptions, expecting: &mut dyn FnMut(&CompactionPlan), monitor: &dyn Monitor) -> Result<Compacted> {
        if !(1..=19).contains(&options.level) {
            return Err(Error::invalid(format!("the compression level is {}, it must be from 1 to 19", options.level)));
        }
        let store = self.store(monitor)?;
        let mut compacted = Compacted::default();
        let mut choose = |uses| {
            let made = plan_compaction(uses, options.level, options.max);
            expecting(&made);
            compacted.expected_bytes = made.expected_bytes;
            made.plan
        };
        let collected = self.collection(
            options.dry_run,
            &mut choose,
            &mut |collector, marks, each| {
                let mut order = |take: TakeOver<'_>| self.as_restored(store, take, monitor);
                collector.compact(marks, Compaction { level: options.level, order: &mut order }, each)
            },
            monitor,
        );
        compacted.collected = collected?;
        Ok(compacted)
    }

    /// Names the content of every entry as a restore reads it, the latest entry first. What cannot be walked is left out.
    fn as_restored(&self, store: &ChunkStore, take: TakeOver<'_>, monitor: &dyn Monitor) -> Result<()> {
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
        let mut reach = Reach::new(store);
        for (_, id) in entries {
            let mut failure = None;
            let walked = self.entry(&id).and_then(|entry| {
                reach.entry(&entry, true, &mut |kind, chunk, len| {
                    if kind == PackKind::Data {
                        take(chunk).map_err(|error| Error::new(error.kind(), failure.insert(error).to_string()))?;
                        monitor.advance(Task::Compact, 1, u64::from(len));
                    }
                    Ok(true)
                })
            });
            match (failure, walked) {
                (Some(error), _) => return Err(error),
                (None, Err(error)) if !matches!(error.kind(), ErrorKind::NotFound | ErrorKind::Corrupt) => return Err(error),
                _ => {}
            }
        }
        Ok(())
    }
}
