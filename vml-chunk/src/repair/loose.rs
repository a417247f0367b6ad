//! Decodes a frame whose header is damaged by what the pack's footer says of it.

use crate::format::{FRAME_CHUNK_LEN, FRAME_HEADER_LEN, FRAME_MAX_LEN};
use crate::pack::FooterFrame;
use zstd::zstd_safe::DCtx;

/// The plain bytes of a frame, raw or compressed, whichever gives so many; nothing is known of them but that.
pub(super) fn decode_loosely(stored: &[u8], frame: &FooterFrame) -> Option<Vec<u8>> {
    let head_len = FRAME_HEADER_LEN + frame.chunk_count as usize * FRAME_CHUNK_LEN;
    let (payload, plain_len) = (stored.get(head_len..)?, frame.plain_len as usize);
    if plain_len > FRAME_MAX_LEN {
        return None;
    }
    if payload.len() == plain_len {
        return Some(payload.to_vec());
    }
    let mut plain = Vec::with_capacity(plain_len);
    DCtx::default().decompress(&mut plain, payload).ok()?;
    (plain.len() == plain_len).then_some(plain)
}
