//! Files as the first release writes them, kept for ever: they decode, and encode to the same bytes.

use crate::support::{assert_all, golden, keys, memory, open, read};
use vml_chunk::frame::{Codec, FrameBuilder, FrameDecoder, FrameEncoder};
use vml_chunk::index::{Segment, SegmentPack, build_segment, merge_segments};
use vml_chunk::pack::{Footer, Trailer, read_footer, verify_pack};
use vml_chunk::{ChunkId, PackId, PackKind};
use vml_testkit::noise;

/// What the golden pack holds: a frame of text and two of noise.
fn content() -> Vec<Vec<u8>> {
    let mut chunks: Vec<Vec<u8>> = (0..3).map(|seed| noise::text(seed, 500 + 11 * usize::try_from(seed).unwrap())).collect();
    chunks.push(Vec::new());
    chunks
}

fn noisy() -> Vec<Vec<u8>> {
    (10..12).map(|seed| noise::incompressible(seed, 40_000)).collect()
}

/// One pack and its segment, from a session that writes text and noise.
fn written() -> (Vec<u8>, Vec<u8>) {
    let files = memory();
    let all: Vec<Vec<u8>> = content().into_iter().chain(noisy()).collect();
    crate::support::save(&open(&files).0, PackKind::Data, &all).unwrap();
    let only = |dir: &str| read(files.as_ref(), &keys(files.as_ref(), dir)[0]);
    (only("data"), only("index"))
}

fn golden_pack() -> Vec<u8> {
    golden("pack.bin", || written().0)
}

fn golden_segment() -> Vec<u8> {
    golden("segment.bin", || written().1)
}

#[test]
fn the_golden_pack_decodes_and_its_tables_encode_to_the_same_bytes() {
    let bytes = golden_pack();
    let files = memory();
    let id = PackId::of(&bytes);
    files.put(&PackKind::Data.key(&id), &bytes).unwrap();
    let (footer, len) = read_footer(files.as_ref(), PackKind::Data, &id).unwrap();
    assert_eq!(len, bytes.len() as u64);
    let trailer = Trailer::decode(&bytes[bytes.len() - 64..], len).unwrap();
    let at = usize::try_from(trailer.footer_offset).unwrap();
    assert!(footer.encode(trailer.footer_offset) == bytes[at..]);
    assert_eq!(Footer::decode(&bytes[at..], len).unwrap(), footer);
    assert_eq!(verify_pack(files.as_ref(), PackKind::Data, &id, |chunk, error| panic!("{chunk:?}: {error:?}")).unwrap(), 6);

    let all: Vec<Vec<u8>> = content().into_iter().chain(noisy()).collect();
    assert_eq!(
        footer.chunks.iter().map(|chunk| chunk.id).collect::<Vec<_>>(),
        all.iter().map(|chunk| ChunkId::of(chunk)).collect::<Vec<_>>()
    );
    let (store, report) = open(&files);
    assert_eq!(report.indexed_packs, 1);
    assert_all(&store, &all, "the golden pack");
}

#[test]
fn the_golden_packs_frames_decode_and_raw_ones_encode_to_the_same_bytes() {
    let bytes = golden_pack();
    let trailer = Trailer::decode(&bytes[bytes.len() - 64..], bytes.len() as u64).unwrap();
    let footer = Footer::decode(&bytes[usize::try_from(trailer.footer_offset).unwrap()..], bytes.len() as u64).unwrap();
    let mut codecs = Vec::new();
    let mut plain = Vec::new();
    for frame in &footer.frames {
        let stored = &bytes[frame.offset as usize..][..frame.stored_len as usize];
        let header = FrameDecoder::default().decode(stored, &mut plain).unwrap();
        codecs.push(header.codec);
        let mut again = FrameBuilder::default();
        let mut rest = &plain[..];
        for len in &header.chunk_lens {
            let (chunk, tail) = rest.split_at(*len as usize);
            again.push(ChunkId::of(chunk), chunk);
            rest = tail;
        }
        let again = FrameEncoder::new(3).unwrap().seal(again).unwrap();
        // What a compressor makes of the same bytes may change with its version; everything else may not.
        if header.codec == Codec::Raw {
            assert!(again.bytes == stored);
        } else {
            assert!(again.bytes[..12] == stored[..12] && again.bytes[24..header.head_len()] == stored[24..header.head_len()]);
        }
    }
    assert_eq!(codecs, [Codec::Zstd, Codec::Raw]);
}

#[test]
fn the_golden_segment_decodes_and_encodes_to_the_same_bytes() {
    let bytes = golden_segment();
    let pack = golden_pack();
    let segment = Segment::from_data(&bytes[..]).unwrap();
    segment.verify().unwrap();
    assert_eq!((segment.len(), segment.pack_count(), segment.frame_count()), (6, 1, 2));
    assert_eq!(segment.pack(0).map(|row| (row.id, row.len, row.kind)), Some((PackId::of(&pack), pack.len() as u64, PackKind::Data)));
    for chunk in content().iter().chain(&noisy()) {
        let (_, record) = segment.find(&ChunkId::of(chunk)).unwrap();
        assert_eq!(record.len as usize, chunk.len());
    }
    // From the pack's footer, and by a merge of the segment alone.
    let trailer = Trailer::decode(&pack[pack.len() - 64..], pack.len() as u64).unwrap();
    let footer = Footer::decode(&pack[usize::try_from(trailer.footer_offset).unwrap()..], pack.len() as u64).unwrap();
    assert!(build_segment(&[SegmentPack { id: PackId::of(&pack), len: pack.len() as u64, footer: &footer }]).unwrap() == bytes);
    let mut merged = Vec::new();
    merge_segments(&[&segment], &|_| true, &mut |part| {
        merged.extend_from_slice(part);
        Ok(())
    })
    .unwrap();
    assert!(merged == bytes);
}

#[test]
fn a_store_of_golden_files_opens_and_gives_everything_back() {
    let files = memory();
    let (pack, segment) = (golden_pack(), golden_segment());
    files.put(&PackKind::Data.key(&PackId::of(&pack)), &pack).unwrap();
    files.put(&format!("index/{}", PackId::of(&segment)), &segment).unwrap();
    let (store, report) = open(&files);
    assert_eq!((report.indexed_packs, report.bad_segments.len(), report.missing_packs.len()), (0, 0, 0));
    assert_all(&store, &content(), "text");
    assert_all(&store, &noisy(), "noise");
}
