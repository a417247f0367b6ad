//! Compresses frames that continue each other.

use super::build::{assemble, check_chunks, looks_compressible};
use super::group::GROUP_WINDOW_LOG;
use super::{Codec, Filter, FrameBuilder, FrameDecoder, SealedFrame, filter};
use crate::error::{Error, ErrorKind, Result};
use crate::format::GROUP_MAX_LEN;
use crate::id::IdKey;
use zstd::zstd_safe::{CCtx, CParameter, InBuffer, OutBuffer, ResetDirective, get_error_name};

/// What is far away is found by its 32 bytes, of which a hash is kept every sixteenth place.
const FAR_MATCH_LEN: u32 = 32;
const FAR_RATE_LOG: u32 = 4;
const FAR_HASH_LOG: u32 = 21;

/// Seals the frames of one pack after the other, for one thread. Whoever begins another pack, or puts anything else into this one, says so by
/// [`end_group`](Self::end_group).
///
/// # Cost
/// Two windows of up to 32 MiB, and what zstd searches in: 100 MiB at level 19.
pub struct GroupEncoder {
    ids: IdKey,
    context: CCtx<'static>,
    decoder: FrameDecoder,
    piece: Vec<u8>,
    checked: Vec<u8>,
    /// Plain bytes that went through the window.
    plain_len: usize,
    /// Bytes of the group's frames, and of those between them.
    stored_len: u64,
}

impl GroupEncoder {
    /// `level` is zstd's, 1 to 19.
    ///
    /// # Errors
    /// `InvalidInput` when zstd refuses the level.
    pub fn new(level: i32, ids: IdKey) -> Result<Self> {
        let refused = |why: &str| Error::invalid(format!("level {level} cannot be used for compaction: {why}"));
        if !(1..=19).contains(&level) {
            return Err(refused("it must be from 1 to 19"));
        }
        let mut context = CCtx::create();
        let parameters = [
            CParameter::CompressionLevel(level),
            CParameter::WindowLog(GROUP_WINDOW_LOG),
            CParameter::EnableLongDistanceMatching(true),
            CParameter::LdmHashLog(FAR_HASH_LOG),
            CParameter::LdmMinMatch(FAR_MATCH_LEN),
            CParameter::LdmHashRateLog(FAR_RATE_LOG),
            CParameter::ContentSizeFlag(false),
            CParameter::DictIdFlag(false),
        ];
        for parameter in parameters {
            context.set_parameter(parameter).map_err(|code| refused(get_error_name(code)))?;
        }
        let (piece, checked) = (Vec::new(), Vec::new());
        Ok(Self { ids, context, decoder: FrameDecoder::default(), piece, checked, plain_len: 0, stored_len: 0 })
    }

    /// Whether a frame of `plain_len` bytes would be the first of a group.
    pub fn begins_group(&self, plain_len: usize) -> bool {
        // Frames between those of a group count as well, so that a reader need not go far.
        self.plain_len == 0 || self.plain_len + plain_len > GROUP_MAX_LEN || self.stored_len > GROUP_MAX_LEN as u64
    }

    /// The next frame does not stand behind the last one.
    pub fn end_group(&mut self) {
        (self.plain_len, self.stored_len) = (0, 0);
    }

    /// Compresses the chunks, with what stands before them in the group, and verifies the result against their ids.
    ///
    /// # Errors
    /// `Corrupt` when the compressed bytes do not give the chunks back: a fault of the machine's memory or of a library.
    pub fn seal(&mut self, frame: FrameBuilder) -> Result<SealedFrame> {
        let FrameBuilder { mut plain, chunks } = frame;
        let (mut codec, mut filter, mut back) = (Codec::Raw, Filter::None, 0);
        if looks_compressible(&plain) {
            if self.begins_group(plain.len()) {
                self.begin()?;
            }
            if filter::looks_like_code(&plain) {
                filter::apply(&mut plain);
                filter = Filter::X86;
            }
            self.compress(&plain)?;
            if self.piece.len() <= plain.len() {
                codec = Codec::Grouped;
                back = u32::try_from(self.stored_len).map_err(|_| Error::invalid("a group cannot be longer than its pack"))?;
            } else if filter == Filter::X86 {
                filter::undo(&mut plain);
                filter = Filter::None;
            }
        }
        let payload = if codec == Codec::Raw { &plain } else { &self.piece };
        let (bytes, plain_len) = assemble(codec, filter, back, &chunks, plain.len(), payload);
        self.decoder.decode_next(self.stored_len, &bytes, &mut self.checked)?;
        check_chunks(&self.ids, &self.checked, &chunks)?;
        if codec == Codec::Grouped {
            self.plain_len += plain.len();
        } else if !self.piece.is_empty() {
            // It went through the window, and whoever reads will not have it there.
            self.end_group();
        }
        self.piece.clear();
        if self.plain_len > 0 {
            self.stored_len += bytes.len() as u64;
        }
        Ok(SealedFrame { bytes, plain_len, chunks })
    }

    fn begin(&mut self) -> Result<()> {
        self.end_group();
        self.context.reset(ResetDirective::SessionOnly).map(|_| ()).map_err(failed)
    }

    /// The next piece of the group's stream, flushed.
    fn compress(&mut self, plain: &[u8]) -> Result<()> {
        let mut input = InBuffer::around(plain);
        let mut buffer = vec![0; CCtx::out_size()];
        self.piece.clear();
        while input.pos() < plain.len() {
            let mut output = OutBuffer::around(&mut buffer[..]);
            self.context.compress_stream(&mut output, &mut input).map_err(failed)?;
            self.piece.extend_from_slice(output.as_slice());
        }
        loop {
            let mut output = OutBuffer::around(&mut buffer[..]);
            let left = self.context.flush_stream(&mut output).map_err(failed)?;
            self.piece.extend_from_slice(output.as_slice());
            if left == 0 {
                return Ok(());
            }
        }
    }
}

fn failed(code: usize) -> Error {
    Error::new(ErrorKind::Io, format!("zstd cannot compress a frame: {}", get_error_name(code)))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::id::ChunkId;

    fn noise(seed: u64, len: usize) -> Vec<u8> {
        let mut bytes = vec![0; len];
        blake3::Hasher::new().update(&seed.to_le_bytes()).finalize_xof().fill(&mut bytes);
        bytes
    }

    /// Text that does not repeat.
    fn text(seed: u64, len: usize) -> Vec<u8> {
        noise(seed, len).into_iter().map(|byte| b"etaoin shrdlu cm"[usize::from(byte) % 16]).collect()
    }

    fn frame(parts: &[&[u8]]) -> FrameBuilder {
        let mut frame = FrameBuilder::default();
        parts.iter().for_each(|part| frame.push(ChunkId::of(part), part));
        frame
    }

    fn encoder() -> GroupEncoder {
        GroupEncoder::new(3, IdKey::PLAIN).unwrap()
    }

    /// Frames of one pack, and what they are; raw ones between, and a second group.
    fn pack() -> Vec<(SealedFrame, Vec<u8>)> {
        let mut encoder = encoder();
        let (one, other) = (text(1, 300_000), noise(2, 100_000));
        let plain = [one.clone(), other.clone(), one.clone(), text(3, 50_000), one.clone(), one];
        let mut seal = |(number, plain): (usize, Vec<u8>)| {
            if number == 4 {
                encoder.end_group();
            }
            (encoder.seal(frame(&[&plain[..1000], &plain[1000..]])).unwrap(), plain)
        };
        plain.into_iter().enumerate().map(&mut seal).collect()
    }

    #[test]
    fn frames_come_back_in_their_order_and_what_repeats_is_found() {
        let frames = pack();
        let lens: Vec<usize> = frames.iter().map(|(frame, _)| frame.bytes.len()).collect();
        assert!(lens[0] > 100_000 && lens[2] < 1000 && lens[4] > 100_000 && lens[5] < 1000, "{lens:?}");
        let (mut decoder, mut plain, mut offset) = (FrameDecoder::default(), Vec::new(), 16);
        let mut codecs = Vec::new();
        for (frame, bytes) in &frames {
            let header = decoder.decode_next(offset, &frame.bytes, &mut plain).unwrap();
            assert!(plain == *bytes);
            assert_eq!(header.chunk_lens, [1000, u32::try_from(bytes.len() - 1000).unwrap()]);
            assert_eq!(FrameDecoder::default().decode(&frame.bytes, &mut plain).is_ok(), header.codec == Codec::Raw);
            codecs.push((header.codec.number(), header.back));
            offset += frame.bytes.len() as u64;
        }
        let len = |range: std::ops::Range<usize>| u32::try_from(lens[range].iter().sum::<usize>()).unwrap();
        assert_eq!(codecs, [(2, 0), (0, 0), (2, len(0..2)), (2, len(0..3)), (2, 0), (2, len(4..5))]);
    }

    #[test]
    fn a_frame_is_refused_without_those_before_it_and_groups_do_not_mix() {
        let frames: Vec<Vec<u8>> = pack().into_iter().map(|(frame, _)| frame.bytes).collect();
        let mut plain = Vec::new();
        let mut offsets = vec![16];
        frames.iter().for_each(|frame| offsets.push(offsets.last().unwrap() + frame.len() as u64));
        for skipped in [0, 1, 2] {
            let mut decoder = FrameDecoder::default();
            let mut read = |number: usize| decoder.decode_next(offsets[number], &frames[number], &mut plain).is_ok();
            let sound: Vec<bool> = (0..6).filter(|number| *number != skipped).map(&mut read).collect();
            // The second group is sound whatever happened to the first; the raw frame is by itself.
            assert_eq!(sound[3..], [true, true], "without {skipped}");
            assert!(!sound[2], "without {skipped}");
        }
        // At another place of the pack it is another frame.
        let mut decoder = FrameDecoder::default();
        decoder.decode_next(16, &frames[0], &mut plain).unwrap();
        assert!(decoder.decode_next(offsets[1] + 1, &frames[2], &mut plain).is_err());
    }

    #[test]
    fn damage_costs_the_frames_behind_it_and_never_more_memory_than_a_group() {
        let frames: Vec<Vec<u8>> = pack().into_iter().map(|(frame, _)| frame.bytes).collect();
        let mut plain = Vec::new();
        for at in (40..frames[2].len()).step_by(7) {
            let mut decoder = FrameDecoder::default();
            let mut offset = 16;
            for (number, frame) in frames.iter().enumerate() {
                let mut bytes = frame.clone();
                if number == 2 {
                    bytes[at] ^= 0x10;
                }
                let decoded = decoder.decode_next(offset, &bytes, &mut plain);
                assert!(plain.len() <= 300_000);
                assert!(decoded.is_ok() || (2..4).contains(&number), "byte {at}, frame {number}");
                offset += bytes.len() as u64;
            }
        }
    }

    #[test]
    fn a_group_ends_before_it_is_too_long() {
        let mut encoder = encoder();
        let bytes = text(9, 8 << 20);
        let (mut offset, mut begun) = (16, 0);
        let (mut decoder, mut plain) = (FrameDecoder::default(), Vec::new());
        for number in 0..GROUP_MAX_LEN / bytes.len() + 2 {
            let begins = encoder.begins_group(bytes.len());
            let sealed = encoder.seal(frame(&[&bytes])).unwrap();
            let header = decoder.decode_next(offset, &sealed.bytes, &mut plain).unwrap();
            assert_eq!(begins, header.back == 0, "{number}");
            begun += usize::from(begins);
            offset += sealed.bytes.len() as u64;
        }
        assert_eq!(begun, 2);
    }

    #[test]
    fn what_grows_is_stored_raw_and_the_next_frame_begins_anew() {
        let mut encoder = encoder();
        let whole = text(1, 100_000);
        let frames = [&whole[..], b"abc", &whole[..]].map(|part| encoder.seal(frame(&[part])).unwrap().bytes);
        assert_eq!(frames.each_ref().map(|bytes| bytes[4]), [2, 0, 2]);
        let (mut decoder, mut plain, mut offset) = (FrameDecoder::default(), Vec::new(), 16);
        for bytes in &frames {
            decoder.decode_next(offset, bytes, &mut plain).unwrap();
            offset += bytes.len() as u64;
        }
        assert!(plain == whole);
    }
}
