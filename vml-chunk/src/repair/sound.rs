//! Finds what is sound in a pack, whatever happened to the rest of it.
//!
//! With its footer each chunk is compared with its id, also in frames that decode in part only. Without, frames are found by their magic and the checksum of their headers, and their chunks get the ids of
//! their bytes: one that was damaged becomes a chunk that nobody asks for.

use super::loose::decode_loosely;
use crate::backend::Backend;
use crate::error::{ErrorKind, Result};
use crate::format::{FRAME_BACK_LEN, FRAME_CHUNK_LEN, FRAME_HEADER_LEN, FRAME_MAGIC, FRAME_MAX_CHUNKS, PACK_MAX_LEN};
use crate::frame::{Codec, FrameDecoder, FrameHeader, back_len};
use crate::id::{ChunkId, IdKey, PackId};
use crate::pack::{Footer, FooterChunk, PackKind, read_footer};

/// Read at a time while frames are looked for.
const WINDOW_LEN: usize = 1 << 20;
/// What can be read when a window cannot.
const PIECE_LEN: usize = 4096;
/// A pack made by an enemy may have frames in frames: so many times its length is decoded, and no more.
const EFFORT: u64 = 4;

/// Something sound.
pub enum Sound<'a> {
    /// A whole frame: as it is stored, and its chunks with their lengths, which fill `plain`.
    Frame {
        /// As it stands in the pack.
        stored: &'a [u8],
        /// Its plain bytes.
        plain: &'a [u8],
        /// Its chunks in order.
        chunks: &'a [(ChunkId, u32)],
        /// Whether it is a frame without others, in another pack as well.
        alone: bool,
    },
    /// A chunk of a frame that is damaged.
    Chunk(ChunkId, &'a [u8]),
}

/// What was found.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Tally {
    /// Chunks that are sound.
    pub sound_count: u64,
    /// Those that the footer names and that are not.
    pub bad: Vec<ChunkId>,
    /// Whether the footer could not be read: then it is not known what is not sound.
    pub footer_lost: bool,
}

/// Calls `each` with everything sound in a pack of chunks that are named by `ids`.
///
/// # Errors
/// `NotFound` for a pack that is not there, `Io` and others when it cannot be read now, and what `each` says. Damage is no error.
pub fn for_each_sound(
    backend: &dyn Backend,
    ids: &IdKey,
    kind: PackKind,
    id: &PackId,
    each: &mut dyn FnMut(Sound<'_>) -> Result<()>,
) -> Result<Tally> {
    let key = kind.key(id);
    let mut finder = Finder { backend, ids, key: &key, decoder: FrameDecoder::default(), tally: Tally::default(), each };
    match read_footer(backend, kind, id) {
        Ok((footer, _)) => finder.by_footer(&footer)?,
        Err(error) if error.kind() == ErrorKind::Corrupt => {
            finder.tally.footer_lost = true;
            finder.by_magic()?;
        }
        Err(error) => return Err(error),
    }
    Ok(finder.tally)
}

struct Finder<'a> {
    backend: &'a dyn Backend,
    ids: &'a IdKey,
    key: &'a str,
    decoder: FrameDecoder,
    tally: Tally,
    each: &'a mut dyn FnMut(Sound<'_>) -> Result<()>,
}

impl Finder<'_> {
    fn by_footer(&mut self, footer: &Footer) -> Result<()> {
        let mut rest = &footer.chunks[..];
        let (mut stored, mut plain) = (Vec::new(), Vec::new());
        for frame in &footer.frames {
            let own;
            (own, rest) = rest.split_at(frame.chunk_count as usize);
            stored.resize(frame.stored_len as usize, 0);
            self.read_lossy(u64::from(frame.offset), &mut stored)?;
            let fits = |header: &FrameHeader| header.chunk_lens.iter().eq(own.iter().map(|chunk| &chunk.len));
            let decoded = self.decoder.decode_next(u64::from(frame.offset), &stored, &mut plain).ok().filter(|header| fits(header));
            if decoded.is_none() && plain.is_empty() {
                plain = decode_loosely(&stored, frame);
            }
            self.chunks_of_frame(own, &stored, &plain, decoded.as_ref())?;
        }
        Ok(())
    }

    fn chunks_of_frame(&mut self, own: &[FooterChunk], stored: &[u8], plain: &[u8], header: Option<&FrameHeader>) -> Result<()> {
        let mut sound = Vec::with_capacity(own.len());
        let mut offset = 0;
        for chunk in own {
            // The footer's lengths add up to that of the frame.
            let range = offset..offset + chunk.len as usize;
            offset = range.end;
            if plain.get(range.clone()).is_some_and(|bytes| self.ids.id(bytes) == chunk.id) {
                sound.push((chunk.id, range));
            } else {
                self.tally.bad.push(chunk.id);
            }
        }
        self.tally.sound_count += sound.len() as u64;
        if let Some(header) = header.filter(|_| sound.len() == own.len()) {
            let chunks: Vec<(ChunkId, u32)> = own.iter().map(|chunk| (chunk.id, chunk.len)).collect();
            let alone = header.codec != Codec::Grouped;
            return (self.each)(Sound::Frame { stored, plain, chunks: &chunks, alone });
        }
        sound.into_iter().try_for_each(|(id, range)| (self.each)(Sound::Chunk(id, &plain[range])))
    }

    fn by_magic(&mut self) -> Result<()> {
        let len = self.backend.len(self.key)?.min(PACK_MAX_LEN);
        let mut effort = len.saturating_mul(EFFORT).saturating_add(WINDOW_LEN as u64);
        let mut window = Vec::new();
        let mut at = 0;
        while at + (FRAME_HEADER_LEN as u64) < len {
            let part = usize::try_from(len - at).unwrap_or(usize::MAX).min(WINDOW_LEN);
            window.resize(part, 0);
            self.read_lossy(at, &mut window)?;
            let mut next = at + (part.saturating_sub(FRAME_MAGIC.len() - 1)).max(1) as u64;
            let mut from = 0;
            while let Some(found) = window[from..].windows(FRAME_MAGIC.len()).position(|bytes| bytes == FRAME_MAGIC) {
                let place = at + (from + found) as u64;
                let passed = self.try_frame(place, len, &mut effort)?;
                let end = passed.map_or(place + 1, |frame_len| place + frame_len);
                next = next.max(end);
                // Frames stand in a row, mostly: the next one begins in this window or in a later one.
                match usize::try_from(end - at) {
                    Ok(end) if end < part => from = end,
                    _ => break,
                }
            }
            at = next;
        }
        Ok(())
    }

    /// Takes the frame at `place`, if there is one that is whole; tells how long it is.
    fn try_frame(&mut self, place: u64, len: u64, effort: &mut u64) -> Result<Option<u64>> {
        let head_len = FRAME_HEADER_LEN + FRAME_MAX_CHUNKS * FRAME_CHUNK_LEN + FRAME_BACK_LEN;
        let mut fixed = [0; FRAME_HEADER_LEN];
        let left = len - place;
        if left < FRAME_HEADER_LEN as u64 {
            return Ok(None);
        }
        self.read_lossy(place, &mut fixed)?;
        let count = usize::from(u16::from_le_bytes([fixed[6], fixed[7]]));
        let needed = FRAME_HEADER_LEN + count * FRAME_CHUNK_LEN + back_len(fixed[4]);
        if needed > head_len || needed as u64 > left || needed as u64 > *effort {
            return Ok(None);
        }
        *effort -= needed as u64;
        let mut stored = vec![0; needed];
        self.read_lossy(place, &mut stored)?;
        let Ok(header) = FrameHeader::decode(&stored) else { return Ok(None) };
        let cost = (header.frame_len() + header.plain_len as usize) as u64;
        if header.frame_len() as u64 > left || cost > effort.saturating_mul(8) {
            return Ok(None);
        }
        *effort = effort.saturating_sub(header.frame_len() as u64);
        stored.resize(header.frame_len(), 0);
        self.read_lossy(place, &mut stored)?;
        let mut plain = Vec::new();
        if self.decoder.decode_next(place, &stored, &mut plain).is_err() {
            return Ok(None);
        }
        let mut chunks = Vec::with_capacity(header.chunk_lens.len());
        let mut rest = &plain[..];
        for chunk_len in &header.chunk_lens {
            // The header was checked: its chunks fill the frame.
            let (chunk, tail) = rest.split_at(*chunk_len as usize);
            chunks.push((self.ids.id(chunk), *chunk_len));
            rest = tail;
        }
        self.tally.sound_count += chunks.len() as u64;
        let alone = header.codec != Codec::Grouped;
        (self.each)(Sound::Frame { stored: &stored, plain: &plain, chunks: &chunks, alone })?;
        Ok(Some(stored.len() as u64))
    }

    /// Reads; what is damaged in a way that keeps it from being read at all is zeros.
    fn read_lossy(&self, offset: u64, buf: &mut [u8]) -> Result<()> {
        match self.backend.read_at(self.key, offset, buf) {
            Err(error) if error.kind() == ErrorKind::Corrupt => {}
            other => return other,
        }
        for (number, piece) in buf.chunks_mut(PIECE_LEN).enumerate() {
            match self.backend.read_at(self.key, offset + (number * PIECE_LEN) as u64, piece) {
                Err(error) if error.kind() == ErrorKind::Corrupt => piece.fill(0),
                other => other?,
            }
        }
        Ok(())
    }
}
