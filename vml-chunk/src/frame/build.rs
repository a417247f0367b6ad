//! Collects chunks into a frame, compresses it, and proves that what it will publish decodes to what was hashed.

use super::{Codec, Filter, FrameDecoder, FrameHeader, filter};
use crate::error::{Error, ErrorKind, Result};
use crate::format::{FRAME_MAX_CHUNKS, FRAME_MAX_LEN, FRAME_TARGET_MAX};
use crate::id::{ChunkId, IdKey};
use zstd::zstd_safe::{self, CCtx, CParameter};

/// The window spans the largest frame; zstd narrows it to the frame at hand.
const WINDOW_LOG: u32 = FRAME_TARGET_MAX.ilog2();
/// zstd's own tables are made for less than a frame, or for more than a core's cache: these were measured for frames of
/// 2 and 4 MiB (`docs/storage.md`). Levels that look matches up in two tables.
const DOUBLE_LEVELS: std::ops::RangeInclusive<i32> = 3..=4;
/// Levels that look them up in rows.
const ROW_LEVELS: std::ops::RangeInclusive<i32> = 5..=8;
const HASH_LOG: u32 = 18;
const DOUBLE_CHAIN_LOG: u32 = 17;

/// Chunks on their way into one frame.
#[derive(Default)]
pub struct FrameBuilder {
    pub(super) plain: Vec<u8>,
    pub(super) chunks: Vec<(ChunkId, u32)>,
}

impl FrameBuilder {
    /// Adds a chunk whose id is `id`.
    pub fn push(&mut self, id: ChunkId, bytes: &[u8]) {
        self.plain.extend_from_slice(bytes);
        self.chunks.push((id, u32::try_from(bytes.len()).expect("a chunk is below 16 MiB")));
    }

    /// Whether a chunk of `next_len` bytes would push it over `target_len` or over a limit of the format.
    pub fn is_full_for(&self, next_len: usize, target_len: usize) -> bool {
        let len = self.plain.len() + next_len;
        !self.chunks.is_empty() && (len > target_len.min(FRAME_MAX_LEN) || self.chunks.len() >= FRAME_MAX_CHUNKS)
    }

    /// Whether it holds nothing.
    pub fn is_empty(&self) -> bool {
        self.chunks.is_empty()
    }
}

/// A frame as it will stand in a pack.
pub struct SealedFrame {
    /// Header, chunk lengths and payload.
    pub bytes: Vec<u8>,
    /// Plain length of all chunks together.
    pub plain_len: u32,
    /// Ids and lengths of the chunks, in order.
    pub chunks: Vec<(ChunkId, u32)>,
}

/// Compresses frames; one for each thread, since it keeps its contexts.
pub struct FrameEncoder {
    ids: IdKey,
    context: CCtx<'static>,
    decoder: FrameDecoder,
    // Kept between frames: a fresh mebibyte costs 256 page faults.
    payload: Vec<u8>,
    checked: Vec<u8>,
}

impl FrameEncoder {
    /// `level` is zstd's, 1 to 19.
    ///
    /// # Errors
    /// `InvalidInput` when zstd refuses the level.
    pub fn new(level: i32) -> Result<Self> {
        Self::keyed(level, IdKey::PLAIN)
    }

    /// As [`new`](Self::new), for chunks that are named by `ids`.
    ///
    /// # Errors
    /// As [`new`](Self::new).
    pub fn keyed(level: i32, ids: IdKey) -> Result<Self> {
        if !(1..=19).contains(&level) {
            return Err(Error::invalid(format!("the compression level is {level}, it must be from 1 to 19")));
        }
        let mut context = CCtx::create();
        let mut parameters = vec![CParameter::CompressionLevel(level), CParameter::ContentSizeFlag(true), CParameter::DictIdFlag(false)];
        parameters.push(CParameter::WindowLog(WINDOW_LOG));
        if DOUBLE_LEVELS.contains(&level) || ROW_LEVELS.contains(&level) {
            parameters.push(CParameter::HashLog(HASH_LOG));
        }
        if DOUBLE_LEVELS.contains(&level) {
            parameters.push(CParameter::ChainLog(DOUBLE_CHAIN_LOG));
        }
        for parameter in parameters {
            context
                .set_parameter(parameter)
                .map_err(|code| Error::invalid(format!("zstd refuses level {level}: {}", zstd_safe::get_error_name(code))))?;
        }
        Ok(Self { ids, context, decoder: FrameDecoder::default(), payload: Vec::new(), checked: Vec::new() })
    }

    /// Compresses the chunks and verifies the result against their ids.
    ///
    /// # Errors
    /// `Corrupt` when the compressed bytes do not give the chunks back: a fault of the machine's memory or of a library,
    /// caught before anything is published.
    pub fn seal(&mut self, frame: FrameBuilder) -> Result<SealedFrame> {
        let FrameBuilder { mut plain, chunks } = frame;
        let (mut codec, mut filter) = (Codec::Raw, Filter::None);
        self.payload.clear();
        if looks_compressible(&plain) {
            if filter::looks_like_code(&plain) {
                filter::apply(&mut plain);
                filter = Filter::X86;
            }
            self.payload.reserve(zstd_safe::compress_bound(plain.len()));
            self.context
                .compress2(&mut self.payload, &plain)
                .map_err(|code| Error::new(ErrorKind::Io, format!("zstd cannot compress a frame: {}", zstd_safe::get_error_name(code))))?;
            // A frame that shrinks by less than 1/64 is not worth its decompression.
            if self.payload.len() + plain.len() / 64 < plain.len() {
                codec = Codec::Zstd;
            }
        }
        if codec == Codec::Raw && filter == Filter::X86 {
            filter::undo(&mut plain);
            filter = Filter::None;
        }
        let payload = if codec == Codec::Raw { &plain } else { &self.payload };
        let (bytes, plain_len) = assemble(codec, filter, 0, &chunks, plain.len(), payload);
        self.verify(&bytes, &chunks)?;
        Ok(SealedFrame { bytes, plain_len, chunks })
    }

    fn verify(&mut self, bytes: &[u8], chunks: &[(ChunkId, u32)]) -> Result<()> {
        self.decoder.decode(bytes, &mut self.checked)?;
        check_chunks(&self.ids, &self.checked, chunks)
    }
}

/// The bytes of a frame, and its plain length.
pub(super) fn assemble(
    codec: Codec,
    filter: Filter,
    back: u32,
    chunks: &[(ChunkId, u32)],
    plain_len: usize,
    payload: &[u8],
) -> (Vec<u8>, u32) {
    let plain_len = u32::try_from(plain_len).expect("a frame is below 16 MiB");
    let payload_len = u32::try_from(payload.len()).expect("not above the plain length");
    let chunk_lens = chunks.iter().map(|(_, len)| *len).collect();
    let mut bytes = FrameHeader { codec, filter, plain_len, payload_len, chunk_lens, back }.encode();
    bytes.extend_from_slice(payload);
    (bytes, plain_len)
}

/// That `plain`, which a new frame decompresses to, is what these chunks were.
pub(super) fn check_chunks(ids: &IdKey, plain: &[u8], chunks: &[(ChunkId, u32)]) -> Result<()> {
    let mut rest = plain;
    for (id, len) in chunks {
        let (chunk, tail) = rest.split_at(*len as usize);
        if ids.id(chunk) != *id {
            return Err(Error::corrupt(format!(
                "chunk {} does not survive compression: the memory of this machine may be faulty",
                id.short()
            )));
        }
        rest = tail;
    }
    Ok(())
}

/// Head of the digest over a frame's header fields and chunk lengths.
pub(super) fn head_sum(fixed: &[u8], lengths: &[u8]) -> [u8; 8] {
    let mut hasher = blake3::Hasher::new();
    hasher.update(fixed).update(lengths);
    let mut sum = [0; 8];
    sum.copy_from_slice(&hasher.finalize().as_bytes()[..8]);
    sum
}

/// A quick look at the spread of byte values: compressed and random data has all of them about equally often.
/// The estimate is the sample's collision entropy, which needs no logarithm a byte.
pub(super) fn looks_compressible(plain: &[u8]) -> bool {
    const SAMPLES: usize = 64;
    const SAMPLE_LEN: usize = 256;
    if plain.len() < SAMPLES * SAMPLE_LEN {
        return true;
    }
    let mut counts = [0_u32; 256];
    let step = (plain.len() - SAMPLE_LEN) / (SAMPLES - 1);
    for sample in 0..SAMPLES {
        for byte in &plain[sample * step..sample * step + SAMPLE_LEN] {
            counts[usize::from(*byte)] += 1;
        }
    }
    let total = (SAMPLES * SAMPLE_LEN) as f64;
    let squares: f64 = counts.iter().map(|count| f64::from(*count) * f64::from(*count)).sum();
    // For n uniform bytes the sum of squares is near n + n*n/256; 3 % above that is far outside chance.
    squares > (total + total * total / 256.0) * 1.03
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::format::{FRAME_CHUNK_LEN, FRAME_HEADER_LEN};

    fn noise(len: usize) -> Vec<u8> {
        let mut bytes = vec![0; len];
        blake3::Hasher::new().finalize_xof().fill(&mut bytes);
        bytes
    }

    fn seal(parts: &[&[u8]]) -> SealedFrame {
        let mut frame = FrameBuilder::default();
        for part in parts {
            frame.push(ChunkId::of(part), part);
        }
        FrameEncoder::new(3).unwrap().seal(frame).unwrap()
    }

    #[test]
    fn text_is_compressed_and_noise_is_stored_raw() {
        let text = "the quick brown fox\n".repeat(5000);
        assert!(seal(&[text.as_bytes()]).bytes.len() < 2000);
        let noise = noise(200_000);
        let sealed = seal(&[&noise]);
        assert_eq!(sealed.bytes.len(), FRAME_HEADER_LEN + FRAME_CHUNK_LEN + noise.len());
        assert!(!looks_compressible(&noise));
        assert!(looks_compressible(text.as_bytes()));
    }

    #[test]
    fn code_is_filtered_and_comes_back() {
        // Calls of a few functions between bytes that say little.
        let mut code = noise(400_000);
        code.iter_mut().for_each(|byte| *byte &= 0x1f);
        for at in (0..code.len() - 64).step_by(48) {
            let place = 100_000 + (at / 48 % 5) * 4096;
            code[at] = 0xe8;
            code[at + 1..at + 5].copy_from_slice(&(place as u32).wrapping_sub(at as u32).to_le_bytes());
        }
        let sealed = seal(&[&code[..150_000], &code[150_000..]]);
        let mut plain = Vec::new();
        let header = FrameDecoder::default().decode(&sealed.bytes, &mut plain).unwrap();
        assert_eq!((header.codec, header.filter), (Codec::Zstd, Filter::X86));
        assert!(plain == code);
        let mut unfiltered = CCtx::create();
        unfiltered.set_parameter(CParameter::CompressionLevel(3)).unwrap();
        let mut payload = Vec::with_capacity(zstd_safe::compress_bound(code.len()));
        unfiltered.compress2(&mut payload, &code).unwrap();
        assert!(sealed.bytes.len() < payload.len(), "{} {}", sealed.bytes.len(), payload.len());
    }

    #[test]
    fn code_that_does_not_shrink_is_stored_as_it_was() {
        let mut code = noise(400_000);
        for at in (0..code.len() - 64).step_by(300) {
            code[at] = 0xe8;
            code[at + 4] = 0;
        }
        assert!(filter::looks_like_code(&code));
        let sealed = seal(&[&code]);
        assert_eq!(sealed.bytes[4..6], [0, 0]);
        assert!(sealed.bytes[FRAME_HEADER_LEN + FRAME_CHUNK_LEN..] == code);
    }

    #[test]
    fn a_chunk_that_is_not_what_its_id_says_is_never_sealed() {
        let mut frame = FrameBuilder::default();
        frame.push(ChunkId::of(b"one"), b"two");
        let error = FrameEncoder::new(3).unwrap().seal(frame).map(|_| ()).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Corrupt);
    }
}
