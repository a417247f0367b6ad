//! Gets chunks: verified, from any copy, and once more after a fresh look when none is good.

use super::ChunkStore;
use super::groups::GroupSource;
use crate::backend::Backend;
use crate::error::{Error, ErrorKind, Result};
use crate::format::FRAME_MAX_STORED_LEN;
use crate::frame::{Codec, FrameDecoder, FrameHeader};
use crate::id::{ChunkId, PackId};
use crate::index::{INDEX_DIR, Location};
use crate::pack::PackKind;
use crate::parity::Mending;
use std::ops::{Deref, Range};
use std::sync::{Arc, Mutex, PoisonError};

/// A chunk's bytes, verified; shares its decoded frame.
#[derive(Clone)]
pub struct Chunk {
    frame: Arc<Vec<u8>>,
    range: Range<usize>,
}

impl From<Vec<u8>> for Chunk {
    /// Bytes that come from elsewhere: nothing has verified them.
    fn from(bytes: Vec<u8>) -> Self {
        Self { range: 0..bytes.len(), frame: Arc::new(bytes) }
    }
}

impl Chunk {
    /// A part of it, without a copy; `None` beyond its end.
    #[must_use]
    pub fn part(&self, range: Range<usize>) -> Option<Self> {
        let start = self.range.start.checked_add(range.start)?;
        let end = self.range.start.checked_add(range.end)?;
        (start <= end && end <= self.range.end).then(|| Self { frame: Arc::clone(&self.frame), range: start..end })
    }

    /// Takes in `next` if it follows directly in the same frame: the bytes of both are then one slice.
    pub fn join(&mut self, next: &Self) -> bool {
        let follows = Arc::ptr_eq(&self.frame, &next.frame) && self.range.end == next.range.start;
        if follows {
            self.range.end = next.range.end;
        }
        follows
    }
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
            // Another process may have merged the index, or a byte of it may be damaged.
            Err(error) if matches!(error.kind(), ErrorKind::NotFound | ErrorKind::Corrupt) && self.look_again()? => {
                self.try_get(id).or_else(|error| self.get_mended(id).ok_or(error))
            }
            other => other.or_else(|error| self.get_mended(id).ok_or(error)),
        }
    }

    /// Gets a chunk that cannot be read as it is through the parity of its packs.
    fn get_mended(&self, id: &ChunkId) -> Option<Chunk> {
        self.view().locate(id).find_map(|location| {
            let mending = Mending::new(self.backend.as_ref(), location.kind, &location.pack).ok()?;
            let key = (location.pack, location.frame_offset);
            let frame = self.cache.get(key, location.plain_len as usize, || self.decode(&mending, &location, true)).ok()?;
            let start = location.chunk_offset as usize;
            let range = start..start + location.chunk_len as usize;
            if frame.get(range.clone()).is_none_or(|bytes| self.options.ids.id(bytes) != *id) {
                self.forget(key);
                return None;
            }
            if mending.mended() > 0 {
                self.mended.lock().unwrap_or_else(PoisonError::into_inner).insert(location.kind.key(&location.pack));
            }
            Some(Chunk { frame, range })
        })
    }

    /// Packs of which this process read something through their parity because it was damaged: a repair mends them.
    pub fn mended_packs(&self) -> Vec<String> {
        self.mended.lock().unwrap_or_else(PoisonError::into_inner).iter().cloned().collect()
    }

    /// Loads the index anew, with every byte of it checked, unless the files are those of the last time: then a missing
    /// chunk is missing, however often it is asked for. Tells whether it did.
    fn look_again(&self) -> Result<bool> {
        let mut files = Vec::new();
        for dir in [INDEX_DIR, PackKind::Data.dir(), PackKind::Meta.dir()] {
            let mut listed = self.backend.list(dir)?;
            listed.sort_unstable_by(|a, b| a.name.cmp(&b.name));
            files.extend(listed.into_iter().map(|file| (file.name, file.len)));
        }
        let mut known = self.looked_at.lock().unwrap_or_else(PoisonError::into_inner);
        if known.as_ref() == Some(&files) {
            return Ok(false);
        }
        self.reload(true)?;
        *known = Some(files);
        Ok(true)
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

    pub(crate) fn read_at(&self, id: &ChunkId, location: &Location) -> Result<Chunk> {
        let key = (location.pack, location.frame_offset);
        let start = location.chunk_offset as usize;
        let range = start..start + location.chunk_len as usize;
        // Twice, because a kept frame may be older than a mended pack: a raw frame decodes whatever its bytes are.
        for _ in 0..2 {
            let mut decoded = false;
            let frame = self.cache.get(key, location.plain_len as usize, || {
                decoded = true;
                self.decode(self.backend.as_ref(), location, false)
            })?;
            if frame.get(range.clone()).is_some_and(|bytes| self.options.ids.id(bytes) == *id) {
                return Ok(Chunk { frame, range });
            }
            self.forget(key);
            // What was decoded of a group may be older as well.
            if decoded && !location.compacted {
                break;
            }
        }
        Err(Error::corrupt("its bytes do not match its id"))
    }

    /// Reads a frame as it stands in its pack, for another store; nothing of it is checked.
    ///
    /// # Errors
    /// `NotFound` when the pack has gone, `Corrupt` for a length beyond the limit or the pack's end.
    pub fn read_frame(&self, kind: PackKind, pack: &PackId, offset: u32, stored_len: u32, bytes: &mut Vec<u8>) -> Result<()> {
        read_frame_from(self.backend.as_ref(), &kind.key(pack), offset, stored_len, bytes)
    }

    /// Drops what was decoded and is not what it should be.
    fn forget(&self, key: (PackId, u32)) {
        self.cache.forget(key);
        self.groups.forget(&key.0);
    }

    fn decode(&self, backend: &dyn Backend, location: &Location, mended: bool) -> Result<Vec<u8>> {
        let mut scratch = self.scratch.take();
        let key = location.kind.key(&location.pack);
        read_frame_from(backend, &key, location.frame_offset, location.stored_len, &mut scratch.stored)?;
        let plain = self.decode_stored(&GroupSource { backend, key: &key, pack: location.pack, mended }, location, &mut scratch)?;
        self.scratch.give(scratch);
        Ok(plain)
    }

    fn decode_stored(&self, source: &GroupSource<'_>, location: &Location, scratch: &mut Scratch) -> Result<Vec<u8>> {
        if location.compacted {
            let header = FrameHeader::decode(&scratch.stored)?;
            if header.codec == Codec::Grouped {
                let payload = scratch.stored.get(header.head_len()..header.frame_len());
                let payload = payload.ok_or_else(|| Error::corrupt("a frame is longer than the index says"))?;
                return self.groups.frame(source, location.frame_offset, &header, payload);
            }
        }
        let mut plain = Vec::new();
        scratch.decoder.decode(&scratch.stored, &mut plain)?;
        Ok(plain)
    }
}

fn read_frame_from(backend: &dyn Backend, key: &str, offset: u32, stored_len: u32, bytes: &mut Vec<u8>) -> Result<()> {
    // The lengths come from an index that may be damaged, or over a wire; a pack's limits bound them.
    if stored_len as usize > FRAME_MAX_STORED_LEN {
        return Err(Error::corrupt(format!("a frame of {stored_len} bytes is beyond the limit")));
    }
    bytes.resize(stored_len as usize, 0);
    backend.read_at(key, u64::from(offset), bytes)
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
