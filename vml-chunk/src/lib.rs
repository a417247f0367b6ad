//! A deduplicating, compressing chunk store.
//!
//! Streams are cut into chunks by content, chunks are named by their BLAKE3 digest and stored once, compressed together
//! in frames, in immutable packs, found through a memory-mapped index that costs no heap. It knows bytes only: what the
//! chunks mean is the caller's. The bytes on disk are described in `docs/format.md`.
//!
//! ```text
//! gc         Collector, Marks, Plan                               mark, plan, quarantine, sweep
//! repair     PackReport, TakenAway                                examine, salvage, index anew
//! store      ChunkStore, StoreWriter, run_pool                     put, get, contains, finish
//! index      sorted mapped segments          pack  frames + footer         parity  what rotted, calculated
//! seal       encryption at rest, keys
//! chunker    where to cut    frame  compress together    backend  where files live    codec  small records
//! id  error  format  stats
//! ```
//! A module imports only from its own line or those below it.
//!
//! ```
//! use std::sync::Arc;
//! use vml_chunk::{ChunkStore, ChunkerParams, MemoryBackend, PackKind, StoreOptions};
//!
//! # fn main() -> vml_chunk::Result<()> {
//! let (store, _) = ChunkStore::open(Arc::new(MemoryBackend::new()), StoreOptions::default())?;
//! let chunker = ChunkerParams::default().build()?;
//! let writer = store.writer()?;
//! let mut chunks = writer.chunks(PackKind::Data)?;
//! let mut recipe = Vec::new();
//! let data = b"the same line again and again\n".repeat(10_000);
//! chunks.put_stream(chunker.as_ref(), &mut &data[..], u64::MAX, &mut |chunk| recipe.push(chunk))?.unwrap();
//! chunks.finish()?;
//! let stats = writer.finish()?;
//! assert!(stats.stored_bytes < stats.seen_bytes / 10);
//! let back: Vec<u8> = recipe.iter().map(|chunk| store.get(&chunk.id)).collect::<Result<Vec<_>, _>>()?.iter().flat_map(|c| c.to_vec()).collect();
//! assert_eq!(back, data);
//! # Ok(())
//! # }
//! ```

#![cfg_attr(test, allow(clippy::unwrap_used))]

pub mod backend;
pub mod chunker;
pub mod codec;
pub mod error;
pub mod format;
pub mod frame;
pub mod gc;
pub mod id;
pub mod index;
mod mmap;
pub mod pack;
pub mod parity;
pub mod repair;
pub mod seal;
pub mod stats;
pub mod store;

#[cfg(feature = "object")]
pub use backend::ObjectBackend;
pub use backend::{Backend, CachedBackend, DiscardBackend, Listed, LocalBackend, Mapped, MemoryBackend, Paged, PutOutcome, Staged, files};
pub use chunker::{Chunker, ChunkerParams};
pub use error::{Error, ErrorKind, IoResultExt, Result};
pub use id::{ChunkId, IdKey, PackId};
pub use pack::PackKind;
pub use seal::SealedBackend;
pub use stats::{StoreTotals, WriteStats};
pub use store::{
    Chunk, ChunkRef, ChunkStore, ChunkWriter, JobSink, OpenReport, Reliance, Security, Standing, StoreOptions, StoreWriter, run_pool,
};
