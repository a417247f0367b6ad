//! Gets chunks: verified, from any copy, and once more after a fresh look when none is good.

use super::ChunkStore;
use crate::error::{Error, ErrorKind, Result};
use crate::frame::FrameDecoder;
use crate::id::ChunkId;
use crate::index::Location;
use std::ops::{Deref, Range};
use std::sync::atomic::Ordering;
use std::sync::{Arc, Mutex, PoisonError};

/// How often in its life a store looks at the index anew because a chunk was missing.
const RELOADS_MAX: u32 = 3;

/// A chunk's bytes, verified; shares its decoded frame.
#[derive(Clone)]
pub struct Chunk {
    frame: Arc<Vec<u8>>,
    range: Range<usize>,
}

impl Deref for Chunk {
    type Target = [u8];

    fn deref(&self) -> &[u8] {
        &self.frame[self.range.clone()]
    }
}

impl ChunkStore {
    /// Whether the chunk is stored, in a published and indexed pack.
    pub fn contains(&self, id: &ChunkId) -> bool {
        self.view().contains(id)
    }

    /// Gets a chunk; its bytes are checked against `id`.
    ///
    /// # Errors
    /// `NotFound` when no pack has it, `Corrupt` when every copy is damaged, else what the backend says.
    ///
    /// # Cost
    /// One read and one decompression of a frame unless it is cached, and a hash of the chunk.
    pub fn get(&self, id: &ChunkId) -> Result<Chunk> {
        match self.try_get(id) {
            Err(error)
                if matches!(error.kind(), ErrorKind::NotFound | ErrorKind::Corrupt)
                    && self.reloads.fetch_add(1, Ordering::Relaxed) < RELOADS_MAX =>
            {
                // Another process may have merged the index, or a byte of it may be damaged.
                self.reload(true)?;
                self.try_get(id)
            }
            other => other,
        }
    }

    fn try_get(&self, id: &ChunkId) -> Result<Chunk> {
        let mut failure = Error::not_found(format!("chunk {} is not in the repository", id.short()));
        for location in self.view().locate(id) {
            match self.read_at(id, &location) {
                Ok(chunk) => return Ok(chunk),
                Err(error) => {
                    failure = error.context(format!("cannot read chunk {} from pack {}", id.short(), location.kind.key(&location.pack)));
                }
            }
        }
        Err(failure)
    }

    fn read_at(&self, id: &ChunkId, location: &Location) -> Result<Chunk> {
        let key = (location.pack, location.frame_offset);
        let frame = self.cache.get(key, location.plain_len as usize, || {
            let mut scratch = self.scratch.take();
            let mut plain = Vec::new();
            // The lengths come from an index that may be damaged; a pack's limits bound them.
            if location.stored_len as usize > crate::format::FRAME_MAX_STORED_LEN {
                return Err(Error::corrupt("the index names a frame beyond the limit"));
            }
            scratch.stored.resize(location.stored_len as usize, 0);
            self.backend.read_at(&location.kind.key(&location.pack), u64::from(location.frame_offset), &mut scratch.stored)?;
            scratch.decoder.decode(&scratch.stored, &mut plain)?;
            self.scratch.give(scratch);
            Ok(plain)
        })?;
        let start = location.chunk_offset as usize;
        let range = start..start + location.chunk_len as usize;
        match frame.get(range.clone()) {
            Some(bytes) if ChunkId::of(bytes) == *id => Ok(Chunk { frame, range }),
            _ => {
                // A raw frame decodes whatever its bytes are; a mended pack must not be hidden by what was kept.
                self.cache.forget(key);
                Err(Error::corrupt("its bytes do not match its id"))
            }
        }
    }
}

/// What decoding needs beside its result, kept between frames.
#[derive(Default)]
pub(super) struct Scratch {
    decoder: FrameDecoder,
    stored: Vec<u8>,
}

#[derive(Default)]
pub(super) struct ScratchPool(Mutex<Vec<Scratch>>);

impl ScratchPool {
    fn take(&self) -> Scratch {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).pop().unwrap_or_default()
    }

    fn give(&self, scratch: Scratch) {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).push(scratch);
    }
}
