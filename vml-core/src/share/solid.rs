//! Content in one stream: what repeats is found 128 MiB back, over all frames, where a frame by itself sees 8 MiB.
//!
//! ```text
//! section   chunk count u32 | chunk length u24 … | the next piece of one zstd frame, flushed: it gives just these chunks
//! section   …
//! ```
//! Each section is decoded when it comes, with what came before it in a window, so a reader needs all of them in their order, the memory of the window, and never
//! more than the chunks that a section announces. The zstd frame is not ended.

use vml_chunk::format::{CHUNK_MAX_LEN, FRAME_MAX_CHUNKS, FRAME_MAX_LEN};
use vml_chunk::{Error, ErrorKind, Result};
use zstd::zstd_safe::{CCtx, CParameter, DCtx, DParameter, InBuffer, OutBuffer, get_error_name};

/// The window: 128 MiB, in the writer and in the reader.
const WINDOW_LOG: u32 = 27;
const COUNT_LEN: usize = 4;
const LEN_LEN: usize = 3;

/// Longest payload of a section: what does not shrink grows by zstd's block headers.
pub(super) const SOLID_MAX_LEN: usize = COUNT_LEN + FRAME_MAX_CHUNKS * LEN_LEN + FRAME_MAX_LEN + FRAME_MAX_LEN / 256 + 1024;

/// Compresses one section after another.
pub(super) struct SolidWriter {
    context: CCtx<'static>,
}

impl SolidWriter {
    /// `level` is zstd's, 1 to 19.
    pub(super) fn new(level: i32) -> Result<Self> {
        let mut context = CCtx::create();
        let parameters = [
            CParameter::CompressionLevel(level),
            CParameter::WindowLog(WINDOW_LOG),
            CParameter::EnableLongDistanceMatching(true),
            CParameter::ContentSizeFlag(false),
            CParameter::DictIdFlag(false),
        ];
        for parameter in parameters {
            context
                .set_parameter(parameter)
                .map_err(|code| Error::invalid(format!("zstd refuses level {level} with a long window: {}", get_error_name(code))))?;
        }
        Ok(Self { context })
    }

    /// The payload of the next section: chunks of these lengths, one after the other in `plain`.
    pub(super) fn section(&mut self, lens: &[u32], plain: &[u8]) -> Result<Vec<u8>> {
        let mut payload = Vec::with_capacity(COUNT_LEN + lens.len() * LEN_LEN + plain.len() / 2);
        payload.extend_from_slice(&u32::try_from(lens.len()).unwrap_or(u32::MAX).to_le_bytes());
        lens.iter().for_each(|len| payload.extend_from_slice(&len.to_le_bytes()[..LEN_LEN]));
        let mut input = InBuffer::around(plain);
        let mut buffer = vec![0; CCtx::out_size()];
        let failed = |code| Error::new(ErrorKind::Io, format!("zstd cannot compress: {}", get_error_name(code)));
        while input.pos() < plain.len() {
            let mut output = OutBuffer::around(&mut buffer[..]);
            self.context.compress_stream(&mut output, &mut input).map_err(failed)?;
            payload.extend_from_slice(output.as_slice());
        }
        loop {
            let mut output = OutBuffer::around(&mut buffer[..]);
            let left = self.context.flush_stream(&mut output).map_err(failed)?;
            payload.extend_from_slice(output.as_slice());
            if left == 0 {
                return Ok(payload);
            }
        }
    }
}

/// Decompresses one section after another.
pub(super) struct SolidReader {
    context: DCtx<'static>,
}

impl SolidReader {
    pub(super) fn new() -> Result<Self> {
        let mut context = DCtx::create();
        let refused = |code| Error::invalid(format!("zstd refuses a window of 128 MiB: {}", get_error_name(code)));
        context.set_parameter(DParameter::WindowLogMax(WINDOW_LOG)).map_err(refused)?;
        Ok(Self { context })
    }

    /// The chunks of the next section: their lengths, and their bytes one after the other.
    pub(super) fn section(&mut self, payload: &[u8]) -> Result<(Vec<u32>, Vec<u8>)> {
        let bad = |why: &str| Error::corrupt(format!("a section of the share file's content {why}"));
        let (count, rest) = payload.split_first_chunk::<COUNT_LEN>().ok_or_else(|| bad("is cut short"))?;
        let count = u32::from_le_bytes(*count) as usize;
        if count == 0 || count > FRAME_MAX_CHUNKS || rest.len() < count * LEN_LEN {
            return Err(bad("has an impossible number of chunks"));
        }
        let (lens, piece) = rest.split_at(count * LEN_LEN);
        let lens: Vec<u32> = lens.chunks_exact(LEN_LEN).map(|len| u32::from_le_bytes([len[0], len[1], len[2], 0])).collect();
        let plain_len: usize = lens.iter().map(|len| *len as usize).sum();
        if plain_len > FRAME_MAX_LEN || lens.iter().any(|len| *len as usize > CHUNK_MAX_LEN) {
            return Err(bad("announces more than it may have"));
        }
        // One byte more than announced, to see that there is no more.
        let mut plain = vec![0; plain_len + 1];
        let mut input = InBuffer::around(piece);
        let mut output = OutBuffer::around(&mut plain[..]);
        loop {
            let before = (input.pos(), output.pos());
            let hint = self
                .context
                .decompress_stream(&mut output, &mut input)
                .map_err(|code| bad(&format!("does not decompress: {}", get_error_name(code))))?;
            if hint == 0 || output.pos() > plain_len {
                return Err(bad("decompresses to something else than it announces"));
            }
            if before == (input.pos(), output.pos()) {
                break;
            }
        }
        if (input.pos(), output.pos()) != (piece.len(), plain_len) {
            return Err(bad("decompresses to something else than it announces"));
        }
        plain.truncate(plain_len);
        Ok((lens, plain))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn incompressible(seed: u64, len: usize) -> Vec<u8> {
        let mut bytes = vec![0; len];
        blake3::Hasher::new().update(&seed.to_le_bytes()).finalize_xof().fill(&mut bytes);
        bytes
    }

    fn text(seed: u64, len: usize) -> Vec<u8> {
        incompressible(seed, len).into_iter().map(|byte| b"etaoin shrdlu"[usize::from(byte) % 13]).collect()
    }

    fn sections() -> Vec<(Vec<u32>, Vec<u8>)> {
        let noise = incompressible(1, 300_000);
        let of = |plain: Vec<u8>, at: usize| (vec![at as u32, (plain.len() - at) as u32], plain);
        // The third is the first again.
        vec![of(noise.clone(), 1000), of(text(2, 200_000), 0), of(noise, 7), (vec![0], Vec::new()), of(text(3, 5000), 2500)]
    }

    #[test]
    fn sections_come_back_and_what_repeats_is_found_in_those_before() {
        let (mut writer, mut reader) = (SolidWriter::new(3).unwrap(), SolidReader::new().unwrap());
        let mut lens = Vec::new();
        for (chunk_lens, plain) in sections() {
            let payload = writer.section(&chunk_lens, &plain).unwrap();
            assert!(payload.len() <= SOLID_MAX_LEN);
            lens.push(payload.len());
            assert_eq!(reader.section(&payload).unwrap(), (chunk_lens, plain));
        }
        assert!(lens[0] > 300_000 && lens[2] < 5000, "{lens:?}");
    }

    #[test]
    fn what_lies_about_itself_is_refused_and_nothing_else_is_given() {
        let mut writer = SolidWriter::new(3).unwrap();
        let plain = text(5, 20_000);
        let payload = writer.section(&[5000, 15_000], &plain).unwrap();
        let second = writer.section(&[20_000], &plain).unwrap();
        let read = |payload: &[u8]| SolidReader::new().unwrap().section(payload);
        assert!(read(&payload).is_ok());
        for cut in 0..payload.len() {
            assert!(read(&payload[..cut]).is_err(), "cut at {cut}");
        }
        for lens in [&[5000_u32, 14_999][..], &[5000, 15_001], &[20_000, 0xff_ffff], &[]] {
            let mut other = u32::try_from(lens.len()).unwrap().to_le_bytes().to_vec();
            lens.iter().for_each(|len| other.extend_from_slice(&len.to_le_bytes()[..3]));
            other.extend_from_slice(&payload[10..]);
            assert!(read(&other).is_err(), "{lens:?}");
        }
        // Without the first there is no second.
        assert!(read(&second).is_err());
        let mut twice = SolidReader::new().unwrap();
        twice.section(&payload).unwrap();
        assert_eq!(twice.section(&second).unwrap().1, plain);
    }
}
