//! Fetches what entries lack from elsewhere, by the chunks' ids: first what they name themselves, then what is named by what came.

use super::{RepairSource, WantedChunk};
use crate::monitor::{Monitor, Problem, Task};
use crate::repository::reach::Reach;
use crate::repository::{Repository, describe};
use std::collections::HashSet;
use vml_chunk::{ChunkId, ChunkStore, Error, ErrorKind, PackKind, Result};

/// Chunks that are asked for in one round.
const WANTED_MAX: usize = 1 << 16;
/// Chunks that nobody has before the rest is given up.
const GIVEN_UP_MAX: usize = 1 << 20;

/// What came.
#[derive(Debug, Default)]
pub(super) struct Healed {
    pub(super) chunks_count: u64,
    pub(super) bytes: u64,
}

/// What one walk over all entries found missing.
#[derive(Default)]
struct Wanted {
    chunks: [Vec<WantedChunk>; 2],
}

impl Wanted {
    fn len(&self) -> usize {
        self.chunks.iter().map(Vec::len).sum()
    }
}

impl Repository {
    /// Until a round brings nothing: what a listing names is known only when the listing is there.
    pub(super) fn heal(&self, store: &ChunkStore, sources: &[&dyn RepairSource], monitor: &dyn Monitor) -> Result<Healed> {
        let mut healed = Healed::default();
        let mut given_up = HashSet::new();
        let mut failed = vec![false; sources.len()];
        loop {
            let mut wanted = self.find_missing(store, &given_up)?;
            if wanted.len() == 0 {
                return Ok(healed);
            }
            for (number, source) in sources.iter().enumerate().filter(|(number, _)| !failed[*number]).collect::<Vec<_>>() {
                let fetched = fetch_from(store, *source, &mut wanted, &mut healed, monitor);
                if let Err(error) = fetched {
                    // The store's own errors end it; a source that fails is left alone from here on.
                    monitor.problem(Problem { subject: source.name(), message: describe(&error) });
                    failed[number] = true;
                }
            }
            // What is still wanted nobody has.
            given_up.extend(wanted.chunks.iter().flatten().map(|chunk| chunk.id));
            if given_up.len() > GIVEN_UP_MAX {
                monitor.notice("too much is missing to ask for all of it: repair again when some of it is there");
                return Ok(healed);
            }
        }
    }

    fn find_missing(&self, store: &ChunkStore, given_up: &HashSet<ChunkId>) -> Result<Wanted> {
        let standing = store.standing()?;
        let mut reach = Reach::new(store);
        let mut wanted = Wanted::default();
        for (_, entry) in self.entries(&self.entry_ids()?) {
            // One that cannot be read names nothing.
            let Ok(entry) = entry else { continue };
            let walked = reach.entry(&entry, true, &mut |kind, id, len| {
                let is_there = standing.has(id) && reach_len(store, id, len);
                if !is_there && !given_up.contains(id) {
                    wanted.chunks[usize::from(kind.number())].push(WantedChunk { id: *id, len });
                    if wanted.len() >= WANTED_MAX {
                        return Err(Error::new(ErrorKind::Interrupted, "enough for one round"));
                    }
                }
                Ok(is_there)
            });
            match walked {
                Err(_) if wanted.len() >= WANTED_MAX => break,
                // What cannot be read now, or was made wrongly, is told by the check.
                Err(error) if matches!(error.kind(), ErrorKind::Corrupt | ErrorKind::NotFound) => {}
                other => other?,
            }
        }
        Ok(wanted)
    }
}

fn reach_len(store: &ChunkStore, id: &ChunkId, len: u32) -> bool {
    store.view().locate(id).any(|location| location.chunk_len == len)
}

/// Asks one source, and stores what comes if it is what was asked for.
fn fetch_from(
    store: &ChunkStore,
    source: &dyn RepairSource,
    wanted: &mut Wanted,
    healed: &mut Healed,
    monitor: &dyn Monitor,
) -> Result<()> {
    let writer = store.writer()?;
    let mut came: HashSet<ChunkId> = HashSet::new();
    let mut result = Ok(());
    for kind in PackKind::ALL {
        let asked = &wanted.chunks[usize::from(kind.number())];
        if asked.is_empty() || result.is_err() {
            continue;
        }
        let ids: HashSet<ChunkId> = asked.iter().map(|chunk| chunk.id).collect();
        let mut chunks = writer.chunks(kind)?;
        result = source.chunks(kind, asked, &mut |bytes| {
            // Whatever it says: a chunk is what its bytes are.
            if ids.contains(&store.ids().id(bytes)) {
                let put = chunks.put(bytes)?;
                if came.insert(put.id) {
                    healed.chunks_count += 1;
                    healed.bytes += bytes.len() as u64;
                    monitor.advance(Task::Repair, 1, bytes.len() as u64);
                }
            }
            Ok(())
        });
        chunks.finish()?;
    }
    // What came before an error is kept.
    writer.finish()?;
    wanted.chunks.iter_mut().for_each(|chunks| chunks.retain(|chunk| !came.contains(&chunk.id)));
    result
}
