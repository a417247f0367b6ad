//! The chunk store: bytes in, ids out, and back.
//!
//! ```text
//!            writer threads                                       readers
//! read → cut → hash → claim → frame → compress → verify → pack     id → index → frame (cached) → verify → chunk
//!                       │ index + this session's ids                       │ another copy, a fresh index
//! ```
//! Write order: frames into packs, packs published, then one index segment over them. A reader or a writer that opens
//! the store compares the packs that are there with those the index names: packs of a writer that died before it wrote
//! its segment are indexed then, so that what it had stored serves the next save. Nothing published is modified.
//!
//! Collections take packs away beside all this: `quarantine` is what they say, `lease` what writers say, and `secure` how a writer makes
//! sure, before it commits, that everything it relied on is and stays there. `docs/concurrency.md` has the argument.

mod cache;
mod damage;
mod groups;
mod lease;
mod open;
mod pool;
mod quarantine;
mod read;
mod rebuild;
mod secure;
mod segments;
mod write;

pub use damage::{DAMAGE_KEY, DAMAGE_RECORD, Damage, LOST_MAX};
pub use lease::{LEASE_RECORD, LEASES_DIR, LeaseRecord};
pub use open::{OpenReport, StoreOptions};
pub use pool::{JobSink, run_pool};
pub use quarantine::{PackNames, QUARANTINE_KEY, QUARANTINE_RECORD, Quarantine};
pub use read::Chunk;
pub use secure::{Reliance, Security, Standing};

pub(crate) use lease::Found;
pub(crate) use quarantine::Seen;
pub use write::{ChunkRef, ChunkWriter, StoreWriter};

use crate::backend::Backend;
use crate::error::Result;
use crate::id::IdKey;
use crate::index::IndexView;
use crate::pack::PackKind;
use crate::stats::StoreTotals;
use cache::FrameCache;
use groups::Groups;
use std::collections::BTreeSet;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, RwLock};

/// A deduplicating, compressing store of chunks on a [`Backend`].
pub struct ChunkStore {
    backend: Arc<dyn Backend>,
    options: StoreOptions,
    view: RwLock<Arc<IndexView>>,
    /// The quarantine's file when the view was loaded, just before.
    seen: Mutex<Option<Vec<u8>>>,
    /// Held from taking a view until the one made from it is set, or changes made side by side would be lost.
    changing: Mutex<()>,
    cache: FrameCache,
    groups: Groups,
    scratch: read::ScratchPool,
    /// Packs that were read through their parity.
    mended: Mutex<BTreeSet<String>>,
    /// Names and lengths of the files when a missing chunk last made it look at the index again.
    looked_at: Mutex<Option<Vec<(String, u64)>>>,
}

impl ChunkStore {
    /// The index as this process sees it now.
    pub fn view(&self) -> Arc<IndexView> {
        Arc::clone(&self.view.read().unwrap_or_else(PoisonError::into_inner))
    }

    /// How its chunks are named.
    pub fn ids(&self) -> &IdKey {
        &self.options.ids
    }

    /// Where its files are.
    pub fn backend(&self) -> &Arc<dyn Backend> {
        &self.backend
    }

    /// How it writes.
    pub fn options(&self) -> &StoreOptions {
        &self.options
    }

    /// What it holds.
    pub fn totals(&self) -> StoreTotals {
        let view = self.view();
        let mut totals = StoreTotals {
            chunks_count: view.chunk_count() as u64,
            segments_count: view.segments().count() as u64,
            index_bytes: view.stored_len(),
            ..StoreTotals::default()
        };
        for pack in view.packs() {
            let (count, bytes) = match pack.kind {
                PackKind::Data => (&mut totals.data_packs_count, &mut totals.data_bytes),
                PackKind::Meta => (&mut totals.meta_packs_count, &mut totals.meta_bytes),
            };
            *count += 1;
            *bytes += pack.len;
            if pack.compaction > 0 {
                totals.compacted_packs_count += 1;
                totals.compacted_bytes += pack.len;
            }
        }
        totals
    }

    /// What collections are taking away now; the view is loaded anew if that is another list than when it was loaded, because packs
    /// of the view may be gone then.
    pub(crate) fn seen_since_view(&self) -> Result<Seen> {
        loop {
            let seen = Seen::read(self.backend.as_ref())?.sound()?;
            let known = self.seen.lock().unwrap_or_else(PoisonError::into_inner).clone();
            if seen.bytes == known {
                return Ok(seen);
            }
            self.reload(false)?;
        }
    }

    /// Whoever replaces the view holds this from before it takes the old one.
    fn change_view(&self) -> MutexGuard<'_, ()> {
        self.changing.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn set_view(&self, view: IndexView, _changing: &MutexGuard<'_, ()>) {
        *self.view.write().unwrap_or_else(PoisonError::into_inner) = Arc::new(view);
    }
}
