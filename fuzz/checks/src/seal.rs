//! Makes the checksums of an input right, so that what stands behind them is reached.
//!
//! The places are written out from `docs/format.md`, not taken from the decoders: a checksum that moves is noticed here.
//! An input that is too short for its checksum stays as it is.

use vml_chunk::codec::ENVELOPE_LEN;
use vml_chunk::format::{FRAME_CHUNK_LEN, FRAME_HEADER_LEN, PACK_TRAILER_LEN, SEGMENT_HEADER_LEN, SEGMENT_TRAILER_LEN};

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

/// A frame: eight bytes of the digest over the header's other fields and the chunk lengths.
pub fn frame(bytes: &[u8]) -> Vec<u8> {
    let mut sealed = bytes.to_vec();
    if bytes.len() < FRAME_HEADER_LEN {
        return sealed;
    }
    let count = usize::from(u16::from_le_bytes([bytes[6], bytes[7]]));
    if let Some(lens) = bytes.get(FRAME_HEADER_LEN..FRAME_HEADER_LEN + count * FRAME_CHUNK_LEN) {
        let mut hasher = blake3::Hasher::new();
        hasher.update(&bytes[..16]).update(lens);
        sealed[16..FRAME_HEADER_LEN].copy_from_slice(&hasher.finalize().as_bytes()[..8]);
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
