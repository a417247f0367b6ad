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

mod cache;
mod open;
mod pool;
mod read;
mod write;

pub use open::{OpenReport, StoreOptions};
pub use pool::{JobSink, run_pool};
pub use read::Chunk;
pub use write::{ChunkRef, ChunkWriter, StoreWriter};

use crate::backend::Backend;
use crate::index::IndexView;
use crate::pack::PackKind;
use crate::stats::StoreTotals;
use cache::FrameCache;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, RwLock};

/// A deduplicating, compressing store of chunks on a [`Backend`].
pub struct ChunkStore {
    backend: Arc<dyn Backend>,
    options: StoreOptions,
    view: RwLock<Arc<IndexView>>,
    /// Held from taking a view until the one made from it is set, or changes made side by side would be lost.
    changing: Mutex<()>,
    cache: FrameCache,
    scratch: read::ScratchPool,
    /// Names and lengths of the files when a missing chunk last made it look at the index again.
    looked_at: Mutex<Option<Vec<(String, u64)>>>,
}

impl ChunkStore {
    /// The index as this process sees it now.
    pub fn view(&self) -> Arc<IndexView> {
        Arc::clone(&self.view.read().unwrap_or_else(PoisonError::into_inner))
    }

    /// Where its files are.
    pub fn backend(&self) -> &Arc<dyn Backend> {
        &self.backend
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
        }
        totals
    }

    /// Whoever replaces the view holds this from before it takes the old one.
    fn change_view(&self) -> MutexGuard<'_, ()> {
        self.changing.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn set_view(&self, view: IndexView, _changing: &MutexGuard<'_, ()>) {
        *self.view.write().unwrap_or_else(PoisonError::into_inner) = Arc::new(view);
    }
}
