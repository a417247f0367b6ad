//! Reads ahead: frames of a pack are usually read in their order, and each request takes a round trip.

use crate::backend::Backend;
use crate::error::Result;
use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};

/// Bytes fetched by a read that continues another.
const WINDOW: u64 = 8 << 20;
/// Files with a window, so that 32 MiB are kept at most.
const WINDOWS: usize = 4;

#[derive(Debug, Default)]
pub(super) struct Ahead(Mutex<Windows>);

#[derive(Debug, Default)]
struct Windows {
    of: HashMap<String, (Arc<Mutex<Window>>, u64)>,
    clock: u64,
}

/// What was fetched of a file, and where the last read of it ended.
#[derive(Debug, Default)]
struct Window {
    start: u64,
    bytes: Vec<u8>,
    last_end: Option<u64>,
}

impl Window {
    fn copy(&self, offset: u64, buf: &mut [u8]) -> bool {
        let part = offset.checked_sub(self.start).and_then(|start| usize::try_from(start).ok());
        let part = part.and_then(|start| self.bytes.get(start..start.checked_add(buf.len())?));
        part.is_some_and(|part| {
            buf.copy_from_slice(part);
            true
        })
    }
}

impl Ahead {
    /// Reads from `inner`; `file_len` is the file's length where it is known.
    pub(super) fn read_at(&self, inner: &dyn Backend, key: &str, file_len: Option<u64>, offset: u64, buf: &mut [u8]) -> Result<()> {
        let slot = self.slot(key);
        let end = offset.saturating_add(buf.len() as u64);
        let mut window = slot.lock().unwrap_or_else(PoisonError::into_inner);
        if !buf.is_empty() && window.copy(offset, buf) {
            window.last_end = Some(end);
            return Ok(());
        }
        let continues = window.last_end == Some(offset);
        window.last_end = Some(end);
        let wanted = file_len.map_or(0, |len| len.saturating_sub(offset).min(WINDOW));
        if !continues || wanted <= buf.len() as u64 {
            // Others may read this file meanwhile.
            drop(window);
            return inner.read_at(key, offset, buf);
        }
        // Whoever reads on in this file waits, and finds it here.
        let mut bytes = std::mem::take(&mut window.bytes);
        bytes.resize(usize::try_from(wanted).unwrap_or(0), 0);
        if inner.read_at(key, offset, &mut bytes).is_err() {
            // It may have become shorter; what was asked for may be there.
            return inner.read_at(key, offset, buf);
        }
        buf.copy_from_slice(&bytes[..buf.len()]);
        (window.start, window.bytes) = (offset, bytes);
        Ok(())
    }

    pub(super) fn forget(&self, key: &str) {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).of.remove(key);
    }

    pub(super) fn clear(&self) {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).of.clear();
    }

    fn slot(&self, key: &str) -> Arc<Mutex<Window>> {
        let mut windows = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        windows.clock += 1;
        let now = windows.clock;
        if let Some((slot, used)) = windows.of.get_mut(key) {
            *used = now;
            return Arc::clone(slot);
        }
        if windows.of.len() >= WINDOWS {
            let oldest = windows.of.iter().min_by_key(|(_, (_, used))| *used).map(|(key, _)| key.clone());
            if let Some(oldest) = oldest {
                windows.of.remove(&oldest);
            }
        }
        let slot = Arc::<Mutex<Window>>::default();
        windows.of.insert(key.to_owned(), (Arc::clone(&slot), now));
        slot
    }
}
