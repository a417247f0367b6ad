//! Decodes a damaged frame as far as it can be: by what the pack's footer says of it, and up to the place where its compressed bytes make no sense.

use crate::format::{FRAME_CHUNK_LEN, FRAME_HEADER_LEN, FRAME_MAX_LEN};
use crate::frame::back_len;
use crate::pack::FooterFrame;
use zstd::zstd_safe::{DCtx, InBuffer, OutBuffer};

/// The plain bytes of a frame, or the first of them, whether it is raw or compressed; nothing is known of them before they are compared with ids.
pub(super) fn decode_loosely(stored: &[u8], frame: &FooterFrame) -> Vec<u8> {
    // In a group only its first frame can be read so.
    let back_len = stored.get(4).map_or(0, |codec| back_len(*codec));
    let head_len = FRAME_HEADER_LEN + frame.chunk_count as usize * FRAME_CHUNK_LEN + back_len;
    let plain_len = frame.plain_len as usize;
    let Some(payload) = stored.get(head_len..).filter(|_| plain_len <= FRAME_MAX_LEN) else { return Vec::new() };
    if payload.len() == plain_len {
        return payload.to_vec();
    }
    let mut plain = vec![0; plain_len];
    let mut context = DCtx::default();
    let mut input = InBuffer::around(payload);
    let mut output = OutBuffer::around(&mut plain[..]);
    loop {
        let before = (input.pos(), output.pos());
        let more = context.decompress_stream(&mut output, &mut input);
        // Blocks before the damaged one were written.
        if !more.is_ok_and(|more| more > 0) || (input.pos(), output.pos()) == before {
            break;
        }
    }
    let len = output.pos();
    plain.truncate(len);
    plain
}
