//! Makes the checksums of an input right, so that what stands behind them is reached.
//!
//! The places are written out from `docs/format.md`, not taken from the decoders: a checksum that moves is noticed here.
//! An input that is too short for its checksum stays as it is.

use vml_chunk::codec::ENVELOPE_LEN;
use vml_chunk::format::{FRAME_BACK_LEN, FRAME_CHUNK_LEN, FRAME_HEADER_LEN, PACK_TRAILER_LEN, SEGMENT_HEADER_LEN, SEGMENT_TRAILER_LEN};

/// The codec of a frame in a group, which has one field more.
const GROUPED: u8 = 2;

/// A pack's footer: the digest stands 24 bytes into the trailer, over everything before it.
pub fn footer(bytes: &[u8]) -> Vec<u8> {
    let mut sealed = bytes.to_vec();
    if let Some(trailer) = bytes.len().checked_sub(PACK_TRAILER_LEN) {
        put_digest(&mut sealed, 0..trailer + 24, trailer + 24, 32);
    }
    sealed
}

/// An index segment: one digest ends its header, one ends the file.
pub fn segment(bytes: &[u8]) -> Vec<u8> {
    let mut sealed = bytes.to_vec();
    if bytes.len() >= SEGMENT_HEADER_LEN + SEGMENT_TRAILER_LEN {
        put_digest(&mut sealed, 0..32, 32, 32);
        let body = bytes.len() - SEGMENT_TRAILER_LEN;
        put_digest(&mut sealed, 0..body, body, 32);
    }
    sealed
}

/// A frame: eight bytes of the digest over the header's other fields, the chunk lengths, and where its group begins if it is in one.
pub fn frame(bytes: &[u8]) -> Vec<u8> {
    let mut sealed = bytes.to_vec();
    if bytes.len() < FRAME_HEADER_LEN {
        return sealed;
    }
    let count = usize::from(u16::from_le_bytes([bytes[6], bytes[7]]));
    let back_len = if bytes[4] == GROUPED { FRAME_BACK_LEN } else { 0 };
    if let Some(lens) = bytes.get(FRAME_HEADER_LEN..FRAME_HEADER_LEN + count * FRAME_CHUNK_LEN + back_len) {
        let mut hasher = blake3::Hasher::new();
        hasher.update(&bytes[..16]).update(lens);
        sealed[16..FRAME_HEADER_LEN].copy_from_slice(&hasher.finalize().as_bytes()[..8]);
    }
    sealed
}

/// A sealed file: the digest at its end, which anybody can make.
pub fn sealed(bytes: &[u8]) -> Vec<u8> {
    let mut sealed = bytes.to_vec();
    if let Some(body) = bytes.len().checked_sub(32) {
        put_digest(&mut sealed, 0..body, body, 32);
    }
    sealed
}

/// A record: sixteen bytes of the digest over the envelope's other fields and the payload, and the payload's length.
pub fn record(bytes: &[u8]) -> Vec<u8> {
    let mut sealed = bytes.to_vec();
    if let Some(payload_len) = bytes.len().checked_sub(ENVELOPE_LEN) {
        let payload_len = u32::try_from(payload_len).expect("an input is below 4 GiB");
        sealed[8..12].copy_from_slice(&payload_len.to_le_bytes());
        let mut hasher = blake3::Hasher::new();
        hasher.update(&sealed[..12]).update(&bytes[ENVELOPE_LEN..]);
        sealed[12..ENVELOPE_LEN].copy_from_slice(&hasher.finalize().as_bytes()[..16]);
    }
    sealed
}

fn put_digest(bytes: &mut [u8], over: std::ops::Range<usize>, at: usize, len: usize) {
    let digest = blake3::hash(&bytes[over]);
    bytes[at..at + len].copy_from_slice(&digest.as_bytes()[..len]);
}

/// A tar stream whose headers have the right sums.
pub fn tar_headers(bytes: &[u8]) -> Vec<u8> {
    let mut sealed = bytes.to_vec();
    for block in sealed.chunks_exact_mut(512).filter(|block| &block[257..262] == b"ustar") {
        block[148..156].fill(b' ');
        let sum: u32 = block.iter().map(|byte| u32::from(*byte)).sum();
        block[148..156].copy_from_slice(format!("{sum:06o}\0 ").as_bytes());
    }
    sealed
}

/// A share file: the digest of each section, the table over them, and the end. A payload of the kinds that hold a record or a frame is made right as such.
pub fn share(bytes: &[u8]) -> Vec<u8> {
    const HEADER_LEN: usize = 16;
    const SECTION_LEN: usize = 48;
    const TABLE: u8 = 6;
    let field = |at: usize| u32::from_le_bytes([bytes[at], bytes[at + 1], bytes[at + 2], bytes[at + 3]]) as usize;
    let mut sealed = bytes[..bytes.len().min(HEADER_LEN)].to_vec();
    let mut rows = Vec::new();
    let mut at = HEADER_LEN;
    let mut table_offset = 0;
    for number in 0_u32.. {
        if bytes.len() < at + SECTION_LEN || bytes[at..at + 4] != *b"VMLs" {
            break;
        }
        let (kind, end) = (bytes[at + 4], at.saturating_add(SECTION_LEN + field(at + 8)));
        let Some(payload) = bytes.get(at + SECTION_LEN..end) else { break };
        let payload = match kind {
            1..=3 => record(payload),
            4 | 5 => frame(payload),
            TABLE => rows.clone(),
            _ => payload.to_vec(),
        };
        let len = u32::try_from(payload.len()).expect("an input is below 4 GiB").to_le_bytes();
        let head = [&bytes[at..at + 8], &len, &number.to_le_bytes()].concat();
        let digest = *blake3::hash(&[&head[..], &payload].concat()).as_bytes();
        if kind == TABLE {
            table_offset = sealed.len() as u64;
        } else {
            rows.extend([&[kind, 0, 0, 0][..], &len, &(sealed.len() as u64).to_le_bytes(), &digest].concat());
        }
        sealed.extend([&head[..], &digest, &payload].concat());
        at = end;
    }
    sealed.extend(&bytes[at.min(bytes.len())..]);
    if let Some(end) = sealed.len().checked_sub(32).filter(|end| *end >= HEADER_LEN) {
        let len = sealed.len() as u64;
        sealed[end + 8..end + 16].copy_from_slice(&table_offset.to_le_bytes());
        sealed[end + 16..end + 24].copy_from_slice(&len.to_le_bytes());
        put_digest(&mut sealed, end..end + 24, end + 24, 8);
    }
    sealed
}
