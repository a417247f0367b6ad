//! Every magic, version, size and limit of the files this crate writes; `docs/format.md` describes the bytes.

use crate::id::ID_LEN;

/// First bytes of a pack.
pub const PACK_MAGIC: [u8; 8] = *b"VMLPACK\0";
/// Last bytes of a pack.
pub const PACK_END_MAGIC: [u8; 8] = *b"VMLPEND\0";
/// First bytes of a frame inside a pack.
pub const FRAME_MAGIC: [u8; 4] = *b"VMLf";
/// First bytes of an index segment.
pub const SEGMENT_MAGIC: [u8; 8] = *b"VMLINDX\0";
/// First bytes of a sealed file.
pub const SEALED_MAGIC: [u8; 8] = *b"VMLSEAL\0";
/// Version of the pack layout.
pub const PACK_VERSION: u16 = 1;
/// Version of the index segment layout.
pub const SEGMENT_VERSION: u16 = 1;

/// Bytes before the first frame of a pack.
pub const PACK_HEADER_LEN: usize = 16;
/// Bytes of a pack's trailer.
pub const PACK_TRAILER_LEN: usize = 64;
/// Bytes of a frame's header before its chunk lengths.
pub const FRAME_HEADER_LEN: usize = 24;
/// Bytes of one chunk length in a frame's header.
pub const FRAME_CHUNK_LEN: usize = 3;
/// Bytes of the distance to the first frame of its group, in the header of a frame that is in one.
pub const FRAME_BACK_LEN: usize = 4;
/// Bytes of one row of a footer's frame table.
pub const FOOTER_FRAME_LEN: usize = 12;
/// Bytes of one row of a footer's chunk table.
pub const FOOTER_CHUNK_LEN: usize = ID_LEN + 3;

/// Bytes of an index segment's header.
pub const SEGMENT_HEADER_LEN: usize = 64;
/// Bytes of one row of a segment's pack table.
pub const SEGMENT_PACK_LEN: usize = 48;
/// Bytes of one row of a segment's frame table.
pub const SEGMENT_FRAME_LEN: usize = 16;
/// Bytes of one record: id, frame number, offset in the frame, length.
pub const RECORD_LEN: usize = ID_LEN + 4 + 3 + 3;
/// Bytes of the digest that ends a segment.
pub const SEGMENT_TRAILER_LEN: usize = 32;

/// Bytes of the digest over what stands before it that ends a sealed file.
pub const SEALED_DIGEST_LEN: usize = 32;

/// Largest chunk: what three bytes can say.
pub const CHUNK_MAX_LEN: usize = (1 << 24) - 1;
/// Smallest and largest frame a repository may be set to, in plain bytes.
pub const FRAME_TARGET_MIN: usize = 64 << 10;
/// See [`FRAME_TARGET_MIN`].
pub const FRAME_TARGET_MAX: usize = 8 << 20;
/// A frame of metadata aims at no more: listing one directory should not decompress those of thousands.
pub const META_FRAME_LEN: usize = 1 << 20;
/// Largest plain size of a frame: one chunk may overshoot the target, and offsets have three bytes.
pub const FRAME_MAX_LEN: usize = (1 << 24) - 1;
/// Most chunks in a frame.
pub const FRAME_MAX_CHUNKS: usize = 1 << 14;
/// Largest frame in a pack: the header, all chunk lengths, a distance, and a payload that is at most the plain length.
pub const FRAME_MAX_STORED_LEN: usize = FRAME_HEADER_LEN + FRAME_MAX_CHUNKS * FRAME_CHUNK_LEN + FRAME_BACK_LEN + FRAME_MAX_LEN;
/// Highest level that a pack can say it was compacted at.
pub const COMPACTION_MAX: u8 = 22;
/// Most plain bytes of the frames of a group, and the window of their compression.
pub const GROUP_MAX_LEN: usize = 32 << 20;
/// Largest pack; offsets have four bytes.
pub const PACK_MAX_LEN: u64 = 1 << 32;

// The promise of storage: at most 48 bytes of index a chunk, with the fan-out's quarter and the frame's eighth beside.
const _: () = assert!(RECORD_LEN <= 47);
const _: () = assert!(FRAME_TARGET_MAX < FRAME_MAX_LEN);
const _: () = assert!(GROUP_MAX_LEN.is_power_of_two() && GROUP_MAX_LEN > FRAME_MAX_LEN);
const _: () = assert!(SEGMENT_HEADER_LEN.is_multiple_of(8) && PACK_HEADER_LEN.is_multiple_of(8));

/// Reads a little-endian `u16` at `offset`; the caller has checked the length.
pub(crate) fn u16_at(bytes: &[u8], offset: usize) -> u16 {
    u16::from_le_bytes([bytes[offset], bytes[offset + 1]])
}

/// Reads a little-endian 24-bit number at `offset`.
pub(crate) fn u24_at(bytes: &[u8], offset: usize) -> u32 {
    u32::from_le_bytes([bytes[offset], bytes[offset + 1], bytes[offset + 2], 0])
}

/// Reads a little-endian `u32` at `offset`.
pub(crate) fn u32_at(bytes: &[u8], offset: usize) -> u32 {
    u32::from_le_bytes([bytes[offset], bytes[offset + 1], bytes[offset + 2], bytes[offset + 3]])
}

/// Reads a little-endian `u64` at `offset`.
pub(crate) fn u64_at(bytes: &[u8], offset: usize) -> u64 {
    u64::from(u32_at(bytes, offset)) | u64::from(u32_at(bytes, offset + 4)) << 32
}

/// Reads 32 bytes at `offset`.
pub(crate) fn id_at(bytes: &[u8], offset: usize) -> [u8; ID_LEN] {
    let mut id = [0; ID_LEN];
    id.copy_from_slice(&bytes[offset..offset + ID_LEN]);
    id
}

/// Appends the low three bytes of `value`, which fits.
pub(crate) fn push_u24(bytes: &mut Vec<u8>, value: u32) {
    debug_assert!(value < 1 << 24);
    bytes.extend_from_slice(&value.to_le_bytes()[..3]);
}
