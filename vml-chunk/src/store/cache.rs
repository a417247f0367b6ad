//! Decoded frames, kept a little while: neighbours in a stream stand in one frame.

use crate::error::{Error, Result};
use crate::id::PackId;
use std::collections::HashMap;
use std::sync::{Arc, Mutex, OnceLock, PoisonError};

pub(super) type FrameKey = (PackId, u32);

/// A decoded frame, or why it cannot be decoded; filled by the first thread that needs it while others wait.
type Slot = Arc<OnceLock<std::result::Result<Arc<Vec<u8>>, Arc<Error>>>>;

pub(super) struct FrameCache {
    capacity: usize,
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    slots: HashMap<FrameKey, Entry>,
    len: usize,
    clock: u64,
}

struct Entry {
    slot: Slot,
    len: usize,
    used: u64,
}

impl FrameCache {
    pub(super) fn new(capacity: usize) -> Self {
        Self { capacity, state: Mutex::new(State::default()) }
    }

    /// The frame's plain bytes, decoded by `decode` if nobody has them; `len` is what it will occupy.
    pub(super) fn get(&self, key: FrameKey, len: usize, decode: impl FnOnce() -> Result<Vec<u8>>) -> Result<Arc<Vec<u8>>> {
        let slot = self.slot(key, len);
        let result = slot.get_or_init(|| decode().map(Arc::new).map_err(Arc::new));
        match result {
            Ok(frame) => Ok(Arc::clone(frame)),
            Err(error) => {
                // Not kept: what failed once may be mended, or reachable, the next time.
                self.forget(key);
                Err(Error::new(error.kind(), error.to_string()).because(Arc::clone(error)))
            }
        }
    }

    fn slot(&self, key: FrameKey, len: usize) -> Slot {
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        state.clock += 1;
        let now = state.clock;
        if let Some(entry) = state.slots.get_mut(&key) {
            entry.used = now;
            return Arc::clone(&entry.slot);
        }
        // At most some dozens of frames are kept, so looking for the oldest is cheaper than a list.
        while state.len + len > self.capacity && !state.slots.is_empty() {
            let oldest = state.slots.iter().min_by_key(|(_, entry)| entry.used).map(|(key, _)| *key);
            if let Some(entry) = oldest.and_then(|key| state.slots.remove(&key)) {
                state.len -= entry.len;
            }
        }
        let slot = Slot::default();
        state.len += len;
        state.slots.insert(key, Entry { slot: Arc::clone(&slot), len, used: now });
        slot
    }

    /// Drops a frame that is not what it should be.
    pub(super) fn forget(&self, key: FrameKey) {
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(entry) = state.slots.remove(&key) {
            state.len -= entry.len;
        }
    }
}
