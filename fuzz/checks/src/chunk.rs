//! The formats of the chunk store.

use crate::seal;
use vml_chunk::format::{FRAME_MAGIC, PACK_HEADER_LEN, PACK_TRAILER_LEN};
use vml_chunk::frame::{Codec, Filter, FrameBuilder, FrameDecoder, FrameEncoder, FrameHeader};
use vml_chunk::index::{PackRow, Segment, merge_segments};
use vml_chunk::pack::{Footer, Trailer};
use vml_chunk::parity::{Mending, ParityLayout, parity_key};
use vml_chunk::repair::{Sound, for_each_sound};
use vml_chunk::{Backend, ChunkId, ErrorKind, MemoryBackend, PackId, PackKind};

/// Frames above this are decoded but not encoded again: fuzzing is for many small inputs.
const ENCODE_MAX: usize = 64 << 10;

/// A pack's footer: tables and trailer, as [`Footer::decode`] reads them.
pub fn pack_footer(bytes: &[u8]) {
    for bytes in [bytes.to_vec(), seal::footer(bytes)] {
        let Some(tables_len) = bytes.len().checked_sub(PACK_TRAILER_LEN) else {
            assert!(Footer::decode(&bytes, bytes.len() as u64).is_err(), "a footer without a trailer is none");
            continue;
        };
        // What a reader knows beside the bytes is the length of the file; take the one that the trailer would fit.
        let offset = u64::from_le_bytes(bytes[tables_len..tables_len + 8].try_into().expect("eight bytes"));
        let pack_len = offset.saturating_add(bytes.len() as u64);
        let Ok(footer) = Footer::decode(&bytes, pack_len) else { continue };
        let trailer = Trailer::decode(&bytes[tables_len..], pack_len).expect("the footer was read with it");
        assert_eq!(trailer.footer_offset, offset);
        assert_eq!(footer.encode(offset), bytes, "a footer has one encoding");
        assert!(Footer::decode(&bytes, pack_len + 1).is_err(), "a footer belongs to a pack of one length");
        let frames_end = footer.frames.last().map_or(PACK_HEADER_LEN as u64, |frame| u64::from(frame.offset) + u64::from(frame.stored_len));
        assert_eq!(frames_end, offset, "frames end where the footer begins");
        let counted: usize = footer.frames.iter().map(|frame| frame.chunk_count as usize).sum();
        assert_eq!(counted, footer.chunks.len(), "every chunk is in a frame");
    }
}

/// An index segment: reading, looking up, walking, and merging it alone.
pub fn index_segment(bytes: &[u8]) {
    for bytes in [bytes.to_vec(), seal::segment(bytes)] {
        let Ok(segment) = Segment::from_data(&bytes[..]) else { continue };
        // Before it is verified nothing in it is trusted: every row can be read and every look-up ends.
        for row in 0..segment.len() {
            let record = segment.record(row);
            if let Some((found, found_record)) = segment.find(&record.id) {
                assert_eq!((found_record.id, segment.record(found)), (record.id, found_record), "a look-up gives what was asked for");
            }
            let frame = segment.frame(record.frame);
            assert_eq!(frame.is_some(), (record.frame as usize) < segment.frame_count());
            _ = frame.and_then(|frame| segment.pack(frame.pack));
        }
        assert!(segment.frame(u32::MAX).is_none() && segment.pack(u32::MAX).is_none(), "no table is that long");
        for id in [[0; 32], [0xff; 32]] {
            _ = segment.find(&ChunkId::from_bytes(id));
        }
        if segment.verify().is_ok() {
            verified_segment(&segment);
        }
    }
}

/// A verified segment finds every record, and a merge of it alone keeps them all.
fn verified_segment(segment: &Segment<&[u8]>) {
    let mut merged = Vec::new();
    let written = merge_segments(&[segment], &|_: &PackRow| true, &mut |part| {
        merged.extend_from_slice(part);
        Ok(())
    });
    written.expect("one segment fits into one");
    let merged = Segment::from_data(merged).expect("what a merge writes can be read");
    merged.verify().expect("what a merge writes is sound");
    let place = |segment_frame: Option<vml_chunk::index::FrameRow>, pack: Option<PackRow>| {
        Some((pack?.id, segment_frame?.offset, segment_frame?.stored_len, segment_frame?.plain_len))
    };
    let mut kept = 0;
    for row in 0..segment.len() {
        let record = segment.record(row);
        assert!(segment.find_all(&record.id).any(|found| found == (row, record)), "a verified segment finds each of its records");
        let frame = segment.frame(record.frame);
        let before = place(frame, frame.and_then(|frame| segment.pack(frame.pack)));
        let Some(before) = before else { continue };
        let after = merged.find_all(&record.id).any(|(_, after)| {
            let frame = merged.frame(after.frame);
            let place = place(frame, frame.and_then(|frame| merged.pack(frame.pack)));
            (place, after.offset, after.len) == (Some(before), record.offset, record.len)
        });
        assert!(after, "a merge keeps the records that lead to a pack, and moves no chunk");
        kept += 1;
    }
    assert!(merged.len() <= kept, "a merge adds no record");
}

/// A frame: its header has one encoding, and its chunks survive being framed again.
pub fn frame(bytes: &[u8]) {
    for bytes in [bytes.to_vec(), seal::frame(bytes)] {
        if let Ok(header) = FrameHeader::decode(&bytes) {
            assert_eq!(encode_header(&header), bytes[..header.head_len()], "a frame's header has one encoding");
        }
        let mut plain = vec![0xaa; 3];
        // As the first of a pack's frames, and what follows as the next.
        let Ok(header) = FrameDecoder::default().decode_next(16, &bytes, &mut plain) else { continue };
        assert_eq!(header.frame_len(), bytes.len());
        let lens: usize = header.chunk_lens.iter().map(|len| *len as usize).sum();
        assert_eq!(lens, plain.len(), "chunks fill their frame");
        if plain.len() > ENCODE_MAX {
            continue;
        }
        let mut builder = FrameBuilder::default();
        let mut rest = &plain[..];
        for len in &header.chunk_lens {
            let (chunk, tail) = rest.split_at(*len as usize);
            builder.push(ChunkId::of(chunk), chunk);
            rest = tail;
        }
        let sealed = FrameEncoder::new(1).and_then(|mut encoder| encoder.seal(builder)).expect("decoded chunks can be framed");
        let mut again = Vec::new();
        let header_again = FrameDecoder::default().decode(&sealed.bytes, &mut again).expect("a sealed frame can be read");
        assert_eq!((again, header_again.chunk_lens), (plain, header.chunk_lens), "chunks survive being framed again");
    }
}

/// Written out from `docs/format.md`, "Frames".
fn encode_header(header: &FrameHeader) -> Vec<u8> {
    let mut bytes = FRAME_MAGIC.to_vec();
    let codec = match header.codec {
        Codec::Raw => 0,
        Codec::Zstd => 1,
        Codec::Grouped => 2,
    };
    let filter = match header.filter {
        Filter::None => 0,
        Filter::X86 => 1,
    };
    bytes.extend_from_slice(&[codec, filter]);
    bytes.extend_from_slice(&u16::try_from(header.chunk_lens.len()).expect("limited").to_le_bytes());
    bytes.extend_from_slice(&header.plain_len.to_le_bytes());
    bytes.extend_from_slice(&header.payload_len.to_le_bytes());
    bytes.extend_from_slice(&[0; 8]);
    for len in &header.chunk_lens {
        bytes.extend_from_slice(&len.to_le_bytes()[..3]);
    }
    if header.codec == Codec::Grouped {
        bytes.extend_from_slice(&header.back.to_le_bytes());
    }
    seal::frame(&bytes)
}

/// A pack whose footer says nothing: frames are looked for in it, and whatever is found is what its ids say.
pub fn salvage(bytes: &[u8]) {
    let id = PackId::of(b"salvage");
    for bytes in [bytes.to_vec(), seal::frame(bytes)] {
        let files = MemoryBackend::new();
        files.put(&PackKind::Data.key(&id), &bytes).expect("memory takes it");
        let mut count = 0;
        let found = for_each_sound(&files, &vml_chunk::IdKey::PLAIN, PackKind::Data, &id, &mut |sound| {
            match sound {
                Sound::Frame { stored, plain, chunks, .. } => {
                    assert!(bytes.windows(stored.len()).any(|window| window == stored), "a frame stands in its pack");
                    let mut rest = plain;
                    for (id, len) in chunks {
                        let (chunk, tail) = rest.split_at(*len as usize);
                        assert_eq!(ChunkId::of(chunk), *id, "a chunk has the id of its bytes");
                        rest = tail;
                        count += 1;
                    }
                    assert!(rest.is_empty(), "chunks fill their frame");
                }
                Sound::Chunk(id, chunk) => {
                    assert_eq!(ChunkId::of(chunk), id);
                    count += 1;
                }
            }
            Ok(())
        });
        let tally = match found {
            Ok(tally) => tally,
            // Whoever seals a footer by chance may name a newer version.
            Err(error) => {
                assert_eq!(error.kind(), ErrorKind::UnsupportedFormat);
                continue;
            }
        };
        assert_eq!(tally.sound_count, count);
    }
}

/// A file of parity beside a small pack: what is read through it is the pack as it was, or as it is.
pub fn parity_file(bytes: &[u8]) {
    let pack = b"a pack of a few bytes, whatever they are".repeat(3);
    let id = PackId::of(&pack);
    for bytes in [bytes.to_vec(), seal_parity(bytes, &id)] {
        if let Some(start) = bytes.len().checked_sub(PARITY_TRAILER_LEN)
            && let Ok(layout) = ParityLayout::decode(&bytes[start..], bytes.len() as u64)
        {
            assert_eq!(layout.encode()[..], bytes[start..], "a trailer has one encoding");
            assert_eq!(layout.file_len(), bytes.len() as u64);
        }
        let files = MemoryBackend::new();
        let key = PackKind::Data.key(&id);
        files.put(&key, &pack).expect("memory takes it");
        files.put(&parity_key(&id), &bytes).expect("memory takes it");
        let Ok(mending) = Mending::new(&files, PackKind::Data, &id) else { continue };
        _ = vml_chunk::parity::Parity::open(&files, &id).and_then(|parity| parity.verify(&files));
        let mut read = vec![0; pack.len()];
        if mending.read_at(&key, 0, &mut read).is_ok() && mending.mended() == 0 {
            assert_eq!(read, pack, "nothing was mended, so it is as it was");
        }
    }
}

const PARITY_TRAILER_LEN: usize = 96;

/// Makes the checksum of the trailer right, and the pack's name.
fn seal_parity(bytes: &[u8], id: &PackId) -> Vec<u8> {
    let mut bytes = bytes.to_vec();
    if let Some(start) = bytes.len().checked_sub(PARITY_TRAILER_LEN) {
        bytes[start + 32..start + 64].copy_from_slice(id.as_bytes());
        let sum = blake3::hash(&bytes[start..start + 64]);
        bytes[start + 64..].copy_from_slice(sum.as_bytes());
    }
    bytes
}
