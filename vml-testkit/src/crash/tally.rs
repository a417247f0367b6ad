//! Counts states, and tells those that were seen before.

use std::collections::HashSet;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, PoisonError};
use vml_chunk::ChunkId;

/// What a run tried; shared by threads.
#[derive(Debug, Default)]
pub struct Tally {
    seen: Mutex<HashSet<ChunkId>>,
    tried: Mutex<HashSet<(ChunkId, ChunkId)>>,
    /// Places of logs at which a crash was tried.
    pub prefixes: AtomicU64,
    /// Places at which there were more states than the limit.
    pub sampled: AtomicU64,
    /// States that were made, equal ones too.
    pub states: AtomicU64,
}

impl Tally {
    /// Counts a state; tells whether it is to be tried: whether it was not, with the same things `expected` of it.
    pub fn visit(&self, state: ChunkId, expected: ChunkId) -> bool {
        self.states.fetch_add(1, Ordering::Relaxed);
        self.seen.lock().unwrap_or_else(PoisonError::into_inner).insert(state);
        self.tried.lock().unwrap_or_else(PoisonError::into_inner).insert((state, expected))
    }

    /// How many different states were seen.
    pub fn distinct(&self) -> usize {
        self.seen.lock().unwrap_or_else(PoisonError::into_inner).len()
    }
}

impl std::fmt::Display for Tally {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let get = |count: &AtomicU64| count.load(Ordering::Relaxed);
        write!(
            f,
            "{} distinct states ({} looked at, for what was told differed) of {} at {} places, of which {} were sampled",
            self.distinct(),
            self.tried.lock().unwrap_or_else(PoisonError::into_inner).len(),
            get(&self.states),
            get(&self.prefixes),
            get(&self.sampled)
        )
    }
}
