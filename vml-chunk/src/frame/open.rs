//! Reads frames: bounded, and without trust in any length that a file says.

use super::build::head_sum;
use super::{Codec, Filter, GroupDecoder, filter};
use crate::error::{Error, Result};
use crate::format::{
    FRAME_BACK_LEN, FRAME_CHUNK_LEN, FRAME_HEADER_LEN, FRAME_MAGIC, FRAME_MAX_CHUNKS, FRAME_MAX_LEN, push_u24, u16_at, u24_at, u32_at,
};
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
    /// In a group: bytes from the start of the group's first frame to the start of this one.
    pub back: u32,
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
        let lens_end = FRAME_HEADER_LEN + chunk_count * FRAME_CHUNK_LEN;
        let head_len = lens_end + back_len(bytes[4]);
        if bytes.len() < head_len {
            return Err(bad("is cut short in its chunk lengths"));
        }
        if bytes[16..FRAME_HEADER_LEN] != head_sum(&bytes[..16], &bytes[FRAME_HEADER_LEN..head_len]) {
            return Err(bad("does not match its checksum"));
        }
        let codec = Codec::from_number(bytes[4]).ok_or_else(|| bad("names an unknown codec"))?;
        let filter = Filter::from_number(bytes[5]).ok_or_else(|| bad("names an unknown filter"))?;
        let chunk_lens: Vec<u32> = (0..chunk_count).map(|i| u24_at(bytes, FRAME_HEADER_LEN + i * FRAME_CHUNK_LEN)).collect();
        let back = if head_len == lens_end { 0 } else { u32_at(bytes, lens_end) };
        let header = Self { codec, filter, plain_len: u32_at(bytes, 8), payload_len: u32_at(bytes, 12), chunk_lens, back };
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

    /// Its bytes, chunk lengths included: what stands before the payload.
    pub(super) fn encode(&self) -> Vec<u8> {
        let mut bytes = Vec::with_capacity(self.frame_len());
        bytes.extend_from_slice(&FRAME_MAGIC);
        bytes.extend_from_slice(&[self.codec.number(), self.filter.number()]);
        bytes.extend_from_slice(&u16::try_from(self.chunk_lens.len()).expect("limited by the frame builder").to_le_bytes());
        bytes.extend_from_slice(&self.plain_len.to_le_bytes());
        bytes.extend_from_slice(&self.payload_len.to_le_bytes());
        let fixed_len = bytes.len();
        bytes.extend_from_slice(&[0; 8]);
        for len in &self.chunk_lens {
            push_u24(&mut bytes, *len);
        }
        if self.codec == Codec::Grouped {
            bytes.extend_from_slice(&self.back.to_le_bytes());
        }
        let sum = head_sum(&bytes[..fixed_len], &bytes[FRAME_HEADER_LEN..]);
        bytes[fixed_len..FRAME_HEADER_LEN].copy_from_slice(&sum);
        bytes
    }

    /// Bytes of everything before the payload.
    pub fn head_len(&self) -> usize {
        FRAME_HEADER_LEN + self.chunk_lens.len() * FRAME_CHUNK_LEN + back_len(self.codec.number())
    }

    /// Bytes of the whole frame.
    pub fn frame_len(&self) -> usize {
        self.head_len() + self.payload_len as usize
    }
}

/// Bytes of a head between the chunk lengths and the payload, by its codec.
pub(crate) fn back_len(codec: u8) -> usize {
    if codec == Codec::Grouped.number() { FRAME_BACK_LEN } else { 0 }
}

/// Decompresses frames; keeps its context between them.
#[derive(Default)]
pub struct FrameDecoder {
    context: DCtx<'static>,
    group: Option<Box<GroupDecoder>>,
}

impl FrameDecoder {
    /// Replaces `plain` by the bytes of the frame's chunks. `bytes` is exactly one frame, which stands by itself.
    ///
    /// # Errors
    /// `Corrupt` when the frame is damaged, or is in a group. The chunks' ids are not checked here: whoever takes a chunk does.
    pub fn decode(&mut self, bytes: &[u8], plain: &mut Vec<u8>) -> Result<FrameHeader> {
        let header = whole_frame(bytes)?;
        self.alone(&header, &bytes[header.head_len()..], plain)?;
        Ok(header)
    }

    /// As [`decode`](Self::decode), for the frames of a pack one after the other; `offset` is where this one begins in the pack. One in a group is
    /// decoded if those before it in its group were.
    ///
    /// # Errors
    /// As [`decode`](Self::decode); `plain` is what came before the damage then, as far as it is known.
    ///
    /// # Cost
    /// The memory of a group, up to 32 MiB, once there was one.
    pub fn decode_next(&mut self, offset: u64, bytes: &[u8], plain: &mut Vec<u8>) -> Result<FrameHeader> {
        plain.clear();
        let header = whole_frame(bytes)?;
        let payload = &bytes[header.head_len()..];
        if header.codec == Codec::Grouped {
            let group = self.group.get_or_insert_default();
            let pushed = group.push(offset, &header, payload);
            group.plain_of(offset, plain);
            pushed?;
        } else {
            if let Some(group) = &mut self.group {
                group.pass_over(offset, bytes.len() as u64);
            }
            self.alone(&header, payload, plain).inspect_err(|_| plain.clear())?;
        }
        Ok(header)
    }

    fn alone(&mut self, header: &FrameHeader, payload: &[u8], plain: &mut Vec<u8>) -> Result<()> {
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
            Codec::Grouped => return Err(Error::corrupt("a frame is in a group, and those before it are not here")),
        }
        if plain.len() != header.plain_len as usize {
            return Err(Error::corrupt(format!("a frame decompresses to {} bytes, not {}", plain.len(), header.plain_len)));
        }
        if header.filter == Filter::X86 {
            filter::undo(plain);
        }
        Ok(())
    }
}

/// The header of `bytes`, which must be one frame.
fn whole_frame(bytes: &[u8]) -> Result<FrameHeader> {
    let header = FrameHeader::decode(bytes)?;
    if bytes.len() != header.frame_len() {
        return Err(Error::corrupt(format!("a frame has {} bytes where its header says {}", bytes.len(), header.frame_len())));
    }
    Ok(header)
}
