//! Reads frames: bounded, and without trust in any length that a file says.

use super::build::head_sum;
use super::{Codec, Filter, filter};
use crate::error::{Error, Result};
use crate::format::{FRAME_CHUNK_LEN, FRAME_HEADER_LEN, FRAME_MAGIC, FRAME_MAX_CHUNKS, FRAME_MAX_LEN, u16_at, u24_at, u32_at};
use zstd::zstd_safe::{self, DCtx};

/// What stands before a frame's payload.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FrameHeader {
    /// How the payload is stored.
    pub codec: Codec,
    /// What was done to the chunks' bytes before they were compressed.
    pub filter: Filter,
    /// Length of all chunks together, in bytes.
    pub plain_len: u32,
    /// Length of the payload, in bytes.
    pub payload_len: u32,
    /// Length of each chunk, in order.
    pub chunk_lens: Vec<u32>,
}

impl FrameHeader {
    /// Reads the header at the front of `bytes`.
    ///
    /// # Errors
    /// `Corrupt` when it is cut short, does not match its sum, or contradicts itself.
    pub fn decode(bytes: &[u8]) -> Result<Self> {
        let bad = |why: &str| Error::corrupt(format!("a frame's header {why}"));
        if bytes.len() < FRAME_HEADER_LEN {
            return Err(bad("is cut short"));
        }
        if bytes[..4] != FRAME_MAGIC {
            return Err(bad("does not begin with its magic bytes"));
        }
        let chunk_count = usize::from(u16_at(bytes, 6));
        let head_len = FRAME_HEADER_LEN + chunk_count * FRAME_CHUNK_LEN;
        if bytes.len() < head_len {
            return Err(bad("is cut short in its chunk lengths"));
        }
        if bytes[16..FRAME_HEADER_LEN] != head_sum(&bytes[..16], &bytes[FRAME_HEADER_LEN..head_len]) {
            return Err(bad("does not match its checksum"));
        }
        let codec = Codec::from_number(bytes[4]).ok_or_else(|| bad("names an unknown codec"))?;
        let filter = Filter::from_number(bytes[5]).ok_or_else(|| bad("names an unknown filter"))?;
        let chunk_lens: Vec<u32> = (0..chunk_count).map(|i| u24_at(bytes, FRAME_HEADER_LEN + i * FRAME_CHUNK_LEN)).collect();
        let header = Self { codec, filter, plain_len: u32_at(bytes, 8), payload_len: u32_at(bytes, 12), chunk_lens };
        let sum: u64 = header.chunk_lens.iter().map(|len| u64::from(*len)).sum();
        let is_filtered_raw = codec == Codec::Raw && filter != Filter::None;
        if is_filtered_raw || chunk_count == 0 || chunk_count > FRAME_MAX_CHUNKS || sum != u64::from(header.plain_len) {
            return Err(bad("contradicts itself"));
        }
        if header.plain_len as usize > FRAME_MAX_LEN || header.payload_len > header.plain_len {
            return Err(bad("names a length beyond the limit"));
        }
        Ok(header)
    }

    /// Bytes of the header and its chunk lengths.
    pub fn head_len(&self) -> usize {
        FRAME_HEADER_LEN + self.chunk_lens.len() * FRAME_CHUNK_LEN
    }

    /// Bytes of the whole frame.
    pub fn frame_len(&self) -> usize {
        self.head_len() + self.payload_len as usize
    }
}

/// Decompresses frames; keeps its context between them.
#[derive(Default)]
pub struct FrameDecoder {
    context: DCtx<'static>,
}

impl FrameDecoder {
    /// Replaces `plain` by the bytes of the frame's chunks. `bytes` is exactly one frame.
    ///
    /// # Errors
    /// `Corrupt` when the frame is damaged. The chunks' ids are not checked here: whoever takes a chunk does.
    pub fn decode(&mut self, bytes: &[u8], plain: &mut Vec<u8>) -> Result<FrameHeader> {
        let header = FrameHeader::decode(bytes)?;
        if bytes.len() != header.frame_len() {
            return Err(Error::corrupt(format!("a frame has {} bytes where its header says {}", bytes.len(), header.frame_len())));
        }
        let payload = &bytes[header.head_len()..];
        plain.clear();
        match header.codec {
            Codec::Raw => plain.extend_from_slice(payload),
            Codec::Zstd => {
                // Never more than the header's length, which is limited, whatever the zstd frame claims.
                plain.reserve_exact(header.plain_len as usize);
                self.context
                    .decompress(plain, payload)
                    .map_err(|code| Error::corrupt(format!("a frame does not decompress: {}", zstd_safe::get_error_name(code))))?;
            }
        }
        if plain.len() != header.plain_len as usize {
            return Err(Error::corrupt(format!("a frame decompresses to {} bytes, not {}", plain.len(), header.plain_len)));
        }
        if header.filter == Filter::X86 {
            filter::undo(plain);
        }
        Ok(header)
    }
}
