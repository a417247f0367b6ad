//! The tables at the end of a pack, as bytes and back; pure functions.

use super::PackKind;
use crate::error::{Error, ErrorKind, Result};
use crate::format::{
    CHUNK_MAX_LEN, COMPACTION_MAX, FOOTER_CHUNK_LEN, FOOTER_FRAME_LEN, FRAME_MAX_CHUNKS, FRAME_MAX_LEN, FRAME_MAX_STORED_LEN,
    PACK_END_MAGIC, PACK_HEADER_LEN, PACK_MAX_LEN, PACK_TRAILER_LEN, PACK_VERSION, id_at, push_u24, u16_at, u24_at, u32_at, u64_at,
};
use crate::id::{ChunkId, ID_LEN};

/// A frame in the footer's table; its offset is the sum of the lengths before it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct FooterFrame {
    /// Where the frame begins in the pack, in bytes.
    pub offset: u32,
    /// Bytes in the pack, header included.
    pub stored_len: u32,
    /// Bytes of its chunks together.
    pub plain_len: u32,
    /// How many of the footer's chunks are its.
    pub chunk_count: u32,
}

/// A chunk in the footer's table.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct FooterChunk {
    /// The digest of its plain bytes.
    pub id: ChunkId,
    /// Its plain length in bytes.
    pub len: u32,
}

/// What a pack says about itself.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Footer {
    /// What the pack holds.
    pub kind: PackKind,
    /// The zstd level at which it was compacted; 0 when it was not: then each of its frames stands by itself.
    pub compaction: u8,
    /// Frames in the order of the file.
    pub frames: Vec<FooterFrame>,
    /// Chunks in the order of the frames.
    pub chunks: Vec<FooterChunk>,
}

/// The fixed end of a pack: where its footer is and what it must sum to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Trailer {
    /// Where the frame table begins, in bytes from the start of the pack.
    pub footer_offset: u64,
    frame_count: u32,
    chunk_count: u32,
    kind: PackKind,
    compaction: u8,
}

impl Trailer {
    /// Reads the last [`PACK_TRAILER_LEN`] bytes of a pack of `pack_len` bytes.
    ///
    /// # Errors
    /// `UnsupportedFormat` for a newer version, else `Corrupt`.
    pub fn decode(bytes: &[u8], pack_len: u64) -> Result<Self> {
        let bad = |why: &str| Error::corrupt(format!("the pack's trailer {why}"));
        if bytes.len() != PACK_TRAILER_LEN || bytes[PACK_TRAILER_LEN - 8..] != PACK_END_MAGIC {
            return Err(bad("is missing: the file is cut short or no pack"));
        }
        let version = u16_at(bytes, 16);
        if version > PACK_VERSION {
            return Err(Error::new(
                ErrorKind::UnsupportedFormat,
                format!("the pack has format version {version}, this program knows up to {PACK_VERSION}"),
            ));
        }
        let kind = PackKind::from_number(bytes[18]).ok_or_else(|| bad("names an unknown kind"))?;
        let trailer = Self {
            footer_offset: u64_at(bytes, 0),
            frame_count: u32_at(bytes, 8),
            chunk_count: u32_at(bytes, 12),
            kind,
            compaction: bytes[19],
        };
        let tables = u64::from(trailer.frame_count) * FOOTER_FRAME_LEN as u64 + u64::from(trailer.chunk_count) * FOOTER_CHUNK_LEN as u64;
        let expected = trailer.footer_offset.checked_add(tables).and_then(|sum| sum.checked_add(PACK_TRAILER_LEN as u64));
        if version == 0
            || trailer.compaction > COMPACTION_MAX
            || bytes[20..24] != [0; 4]
            || expected != Some(pack_len)
            || pack_len > PACK_MAX_LEN
        {
            return Err(bad("does not fit the length of the file"));
        }
        Ok(trailer)
    }
}

impl Footer {
    /// Appends the tables and the trailer to the bytes of a pack whose frames end at `footer_offset`.
    pub fn encode(&self, footer_offset: u64) -> Vec<u8> {
        let mut bytes = Vec::with_capacity(self.frames.len() * FOOTER_FRAME_LEN + self.chunks.len() * FOOTER_CHUNK_LEN + PACK_TRAILER_LEN);
        for frame in &self.frames {
            for field in [frame.stored_len, frame.plain_len, frame.chunk_count] {
                bytes.extend_from_slice(&field.to_le_bytes());
            }
        }
        for chunk in &self.chunks {
            bytes.extend_from_slice(chunk.id.as_bytes());
            push_u24(&mut bytes, chunk.len);
        }
        let tables_len = bytes.len();
        bytes.extend_from_slice(&footer_offset.to_le_bytes());
        let count = |len: usize| u32::try_from(len).expect("a pack is at most 4 GiB").to_le_bytes();
        bytes.extend_from_slice(&count(self.frames.len()));
        bytes.extend_from_slice(&count(self.chunks.len()));
        bytes.extend_from_slice(&PACK_VERSION.to_le_bytes());
        bytes.extend_from_slice(&[self.kind.number(), self.compaction, 0, 0, 0, 0]);
        debug_assert_eq!(bytes.len(), tables_len + 24);
        let digest = blake3::hash(&bytes);
        bytes.extend_from_slice(digest.as_bytes());
        bytes.extend_from_slice(&PACK_END_MAGIC);
        bytes
    }

    /// Reads tables and trailer: the last bytes of a pack, from its trailer's `footer_offset` on.
    ///
    /// # Errors
    /// `UnsupportedFormat` or `Corrupt`; what the tables say is consistent and within limits afterwards.
    pub fn decode(bytes: &[u8], pack_len: u64) -> Result<Self> {
        let bad = |why: &str| Error::corrupt(format!("the pack's footer {why}"));
        let tables_len = bytes.len().checked_sub(PACK_TRAILER_LEN).ok_or_else(|| bad("is cut short"))?;
        // Every version has its digest here, so that a flipped bit is no newer version.
        if blake3::hash(&bytes[..tables_len + 24]).as_bytes() != &bytes[tables_len + 24..tables_len + 24 + ID_LEN] {
            return Err(bad("does not match its checksum"));
        }
        let trailer = Trailer::decode(&bytes[tables_len..], pack_len)?;
        if trailer.footer_offset.checked_add(bytes.len() as u64) != Some(pack_len) {
            return Err(bad("is not where its trailer says"));
        }
        let frame_count = trailer.frame_count as usize;
        let chunk_table = frame_count * FOOTER_FRAME_LEN;
        let mut chunks = Vec::with_capacity(trailer.chunk_count as usize);
        for i in 0..trailer.chunk_count as usize {
            let row = chunk_table + i * FOOTER_CHUNK_LEN;
            chunks.push(FooterChunk { id: ChunkId::from_bytes(id_at(bytes, row)), len: u24_at(bytes, row + ID_LEN) });
        }
        let mut frames = Vec::with_capacity(frame_count);
        let mut offset = PACK_HEADER_LEN as u64;
        let mut first_chunk = 0_usize;
        for i in 0..frame_count {
            let row = i * FOOTER_FRAME_LEN;
            let frame = FooterFrame {
                offset: u32::try_from(offset).map_err(|_| bad("puts a frame beyond 4 GiB"))?,
                stored_len: u32_at(bytes, row),
                plain_len: u32_at(bytes, row + 4),
                chunk_count: u32_at(bytes, row + 8),
            };
            let own = chunks
                .get(first_chunk..first_chunk.saturating_add(frame.chunk_count as usize))
                .ok_or_else(|| bad("lists too few chunks"))?;
            let plain: u64 = own.iter().map(|chunk| u64::from(chunk.len)).sum();
            let count_fits = (1..=FRAME_MAX_CHUNKS).contains(&own.len());
            if !count_fits || frame.stored_len as usize > FRAME_MAX_STORED_LEN {
                return Err(bad("lists a frame beyond the limits"));
            }
            if plain != u64::from(frame.plain_len) || frame.plain_len as usize > FRAME_MAX_LEN {
                return Err(bad("gives a frame a length its chunks do not have"));
            }
            first_chunk += frame.chunk_count as usize;
            offset += u64::from(frame.stored_len);
            frames.push(frame);
        }
        if first_chunk != chunks.len() || offset != trailer.footer_offset || chunks.iter().any(|chunk| chunk.len as usize > CHUNK_MAX_LEN) {
            return Err(bad("does not add up"));
        }
        Ok(Self { kind: trailer.kind, compaction: trailer.compaction, frames, chunks })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sample() -> (Footer, u64) {
        let chunks: Vec<FooterChunk> = (0..5_u8).map(|n| FooterChunk { id: ChunkId::of(&[n]), len: 100 + u32::from(n) }).collect();
        let frames = vec![
            FooterFrame { offset: 16, stored_len: 180, plain_len: 201, chunk_count: 2 },
            FooterFrame { offset: 196, stored_len: 250, plain_len: 309, chunk_count: 3 },
        ];
        (Footer { kind: PackKind::Meta, compaction: 19, frames, chunks }, 16 + 180 + 250)
    }

    #[test]
    fn round_trips_and_notices_every_flip_and_cut() {
        let (footer, offset) = sample();
        let bytes = footer.encode(offset);
        let pack_len = offset + bytes.len() as u64;
        assert_eq!(Footer::decode(&bytes, pack_len).unwrap(), footer);
        for bit in 0..bytes.len() * 8 {
            let mut damaged = bytes.clone();
            damaged[bit / 8] ^= 1 << (bit % 8);
            assert!(Footer::decode(&damaged, pack_len).is_err(), "bit {bit}");
        }
        for cut in 0..bytes.len() {
            assert!(Footer::decode(&bytes[..cut], pack_len - (bytes.len() - cut) as u64).is_err(), "cut {cut}");
            assert!(Footer::decode(&bytes[cut + 1..], pack_len).is_err(), "front cut {cut}");
        }
    }
}
