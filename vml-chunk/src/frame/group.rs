//! Decodes the frames of a group: one after the other, into one buffer, which is the window as well.

use super::{Codec, Filter, FrameHeader, filter};
use crate::error::{Error, Result};
use crate::format::GROUP_MAX_LEN;
use std::ops::Range;
use zstd::zstd_safe::{self, DCtx, DParameter, InBuffer, OutBuffer, ResetDirective};

/// The window: no frame looks further back than its group begins.
pub(super) const GROUP_WINDOW_LOG: u32 = GROUP_MAX_LEN.ilog2();

/// Decodes a group, and keeps what it has decoded of it: a frame before the last one is had again without decoding.
///
/// # Cost
/// The plain bytes of the group, at most 32 MiB.
pub struct GroupDecoder {
    context: DCtx<'static>,
    /// zstd writes into it and finds there what it wrote: neither moved nor changed while a group goes on. Its pages are used as it fills.
    buffer: Box<[u8]>,
    len: usize,
    /// Where in the pack the group begins, and where its next frame does; none when it cannot go on.
    place: Option<Range<u64>>,
    frames: Vec<Decoded>,
}

/// A frame that was decoded.
struct Decoded {
    offset: u64,
    range: Range<usize>,
    filter: Filter,
}

impl Default for GroupDecoder {
    fn default() -> Self {
        let mut context = DCtx::create();
        for parameter in [DParameter::WindowLogMax(GROUP_WINDOW_LOG), DParameter::StableOutBuffer(true)] {
            context.set_parameter(parameter).expect("zstd has windows of this length, and buffers that stay");
        }
        Self { context, buffer: vec![0; GROUP_MAX_LEN].into_boxed_slice(), len: 0, place: None, frames: Vec::new() }
    }
}

impl GroupDecoder {
    /// Where in the pack the next frame is expected, if the group that begins at `first` is at hand and goes on.
    pub fn next_of(&self, first: u64) -> Option<u64> {
        self.place.as_ref().filter(|place| place.start == first).map(|place| place.end)
    }

    /// Decodes the frame at `offset` of its pack: the first of a group, or the next of the group at hand.
    ///
    /// # Errors
    /// `Corrupt` when it is damaged or another frame is the next. The group does not go on then.
    pub fn push(&mut self, offset: u64, header: &FrameHeader, payload: &[u8]) -> Result<()> {
        if header.codec != Codec::Grouped {
            self.pass_over(offset, header.frame_len() as u64);
            return Ok(());
        }
        if header.back == 0 {
            self.forget();
            self.place = Some(offset..offset);
        }
        let first = offset.checked_sub(u64::from(header.back));
        if first.and_then(|first| self.next_of(first)) != Some(offset) {
            return Err(Error::corrupt("a frame continues others that cannot be read"));
        }
        let decoded = self.decode(header.plain_len as usize, payload);
        let range = self.frames.last().map_or(0, |frame| frame.range.end)..self.len;
        self.frames.push(Decoded { offset, range, filter: header.filter });
        match decoded {
            Ok(()) => self.place.iter_mut().for_each(|place| place.end += header.frame_len() as u64),
            Err(_) => self.place = None,
        }
        decoded
    }

    /// Between the frames of a group there may be others.
    pub fn pass_over(&mut self, offset: u64, frame_len: u64) {
        if let Some(place) = self.place.as_mut().filter(|place| place.end == offset) {
            place.end += frame_len;
        }
    }

    /// Replaces `plain` by the bytes of the chunks of a frame that was decoded; tells whether it was.
    pub fn plain_of(&self, offset: u64, plain: &mut Vec<u8>) -> bool {
        let Some(frame) = self.frames.iter().find(|frame| frame.offset == offset) else { return false };
        plain.clear();
        plain.extend_from_slice(&self.buffer[frame.range.clone()]);
        if frame.filter == Filter::X86 {
            filter::undo(plain);
        }
        true
    }

    /// Lets go of the group at hand.
    pub fn forget(&mut self) {
        // It fails for nothing but parameters.
        _ = self.context.reset(ResetDirective::SessionOnly);
        self.len = 0;
        self.place = None;
        self.frames.clear();
    }

    fn decode(&mut self, plain_len: usize, payload: &[u8]) -> Result<()> {
        let bad = |why: &str| Error::corrupt(format!("a frame in a group {why}"));
        let end = self.len + plain_len;
        if end > GROUP_MAX_LEN {
            return Err(bad("is beyond the length of a group"));
        }
        let mut input = InBuffer::around(payload);
        loop {
            let before = (input.pos(), self.len);
            let mut output = OutBuffer::around_pos(&mut self.buffer[..], self.len);
            let result = self.context.decompress_stream(&mut output, &mut input);
            // What is beyond the announced length is nobody's.
            self.len = output.pos().min(end);
            let ended = output.pos() > end;
            match result {
                Err(code) => return Err(bad(&format!("does not decompress: {}", zstd_safe::get_error_name(code)))),
                // A group is not ended by itself.
                Ok(0) => return Err(bad("ends its group")),
                Ok(_) if ended => return Err(bad("decompresses to more than it announces")),
                Ok(_) if before == (input.pos(), self.len) => break,
                Ok(_) => {}
            }
        }
        if (input.pos(), self.len) == (payload.len(), end) { Ok(()) } else { Err(bad("decompresses to less than it announces")) }
    }
}
