//! Arbitrary bytes, and sound bytes with something changed: a decoder gives an error or a value, and never panics.

use proptest::prelude::*;
use vml_chunk::codec::{RecordKind, decode_payload, decode_record, encode_record};
use vml_chunk::format::RECORD_LEN;
use vml_chunk::frame::{FrameBuilder, FrameDecoder, FrameEncoder, FrameHeader};
use vml_chunk::index::{Segment, SegmentPack, build_segment, merge_segments};
use vml_chunk::pack::{Footer, FooterChunk, FooterFrame, Trailer};
use vml_chunk::{ChunkId, ChunkerParams, PackId, PackKind};
use vml_testkit::noise;

const KIND: RecordKind = RecordKind { number: 9, version: 1, name: "sample" };

type Sample = (Vec<(u64, String)>, Option<ChunkId>, ChunkerParams);

fn use_segment(bytes: &[u8]) {
    let Ok(segment) = Segment::from_data(bytes) else { return };
    let verified = segment.verify().is_ok();
    for first in 0..=255 {
        if let Some((row, record)) = segment.find(&ChunkId::from_bytes([first; 32])) {
            assert_eq!(segment.record(row), record);
        }
    }
    for row in (0..segment.len()).take(1000) {
        let record = segment.record(row);
        if segment.find(&record.id).is_some() || !verified {
            _ = segment.frame(record.frame).and_then(|frame| segment.pack(frame.pack));
        }
    }
    _ = (segment.pack(u32::MAX), segment.frame(u32::MAX));
    let mut merged = Vec::new();
    let result = merge_segments(&[&segment, &segment], &|_| true, &mut |part| {
        merged.extend_from_slice(part);
        Ok(())
    });
    if result.is_ok() {
        assert!(Segment::from_data(merged).is_ok());
    }
}

fn use_frame(bytes: &[u8]) {
    let mut plain = Vec::new();
    match FrameDecoder::default().decode(bytes, &mut plain) {
        Ok(header) => assert_eq!(header, FrameHeader::decode(bytes).unwrap()),
        Err(_) => _ = FrameHeader::decode(bytes),
    }
}

fn use_footer(bytes: &[u8]) {
    for pack_len in [0, 16, bytes.len() as u64, bytes.len() as u64 + 16, 1 << 33, u64::MAX] {
        _ = Trailer::decode(bytes, pack_len);
        if let Ok(footer) = Footer::decode(bytes, pack_len) {
            assert_eq!(footer.encode(pack_len - bytes.len() as u64), bytes, "one footer has one encoding");
        }
    }
}

fn use_record(bytes: &[u8]) {
    if let Ok(value) = decode_record::<Sample>(KIND, bytes) {
        assert_eq!(encode_record(KIND, &value), bytes, "one value has one encoding");
    }
    _ = decode_payload::<Sample>("sample", bytes);
    _ = decode_payload::<Vec<u64>>("list", bytes);
    _ = decode_payload::<ChunkerParams>("chunker", bytes).map(|params| params.build().is_ok());
}

fn footer() -> (Footer, u64) {
    let chunks: Vec<FooterChunk> = (0..40_u8).map(|n| FooterChunk { id: ChunkId::of(&[n]), len: 100 + u32::from(n) }).collect();
    let plain = |own: &[FooterChunk]| own.iter().map(|chunk| chunk.len).sum();
    let frames = vec![
        FooterFrame { offset: 16, stored_len: 1800, plain_len: plain(&chunks[..15]), chunk_count: 15 },
        FooterFrame { offset: 1816, stored_len: 2500, plain_len: plain(&chunks[15..]), chunk_count: 25 },
    ];
    (Footer { kind: PackKind::Data, compaction: 0, frames, chunks }, 16 + 1800 + 2500)
}

/// Sound bytes of each kind.
fn samples() -> Vec<(&'static str, Vec<u8>)> {
    let (footer, offset) = footer();
    let packs: Vec<SegmentPack<'_>> = (0..3_u8).map(|n| SegmentPack { id: PackId::of(&[n]), len: 5000, footer: &footer }).collect();
    let mut frame = FrameBuilder::default();
    for seed in 0..4 {
        let bytes = noise::text(seed, 300);
        frame.push(ChunkId::of(&bytes), &bytes);
    }
    let value: Sample = (vec![(1, "one".into()), (70_000, "many".into())], Some(ChunkId::of(b"x")), ChunkerParams::default());
    vec![
        ("segment", build_segment(&packs).unwrap()),
        ("footer", footer.encode(offset)),
        ("frame", FrameEncoder::new(3).unwrap().seal(frame).unwrap().bytes),
        ("record", encode_record(KIND, &value)),
    ]
}

/// Makes the checksums right again, so that what lies behind them is reached.
fn mend(what: &str, bytes: &mut [u8]) {
    let len = bytes.len();
    match what {
        "segment" if len >= 96 => {
            let sum = blake3::hash(&bytes[..32]);
            bytes[32..64].copy_from_slice(sum.as_bytes());
            let sum = blake3::hash(&bytes[..len - 32]);
            bytes[len - 32..].copy_from_slice(sum.as_bytes());
        }
        "footer" if len >= 64 => {
            let sum = blake3::hash(&bytes[..len - 40]);
            bytes[len - 40..len - 8].copy_from_slice(sum.as_bytes());
        }
        "frame" if len >= 24 => {
            let head = (24 + 3 * usize::from(u16::from_le_bytes([bytes[6], bytes[7]]))).min(len);
            let sum = blake3::hash(&[&bytes[..16], &bytes[24..head]].concat());
            bytes[16..24].copy_from_slice(&sum.as_bytes()[..8]);
        }
        "record" if len >= 28 => {
            let sum = blake3::hash(&[&bytes[..12], &bytes[28..]].concat());
            bytes[12..28].copy_from_slice(&sum.as_bytes()[..16]);
        }
        _ => {}
    }
}

fn use_all(bytes: &[u8]) {
    use_segment(bytes);
    use_frame(bytes);
    use_footer(bytes);
    use_record(bytes);
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 300, ..ProptestConfig::default() })]

    #[test]
    fn no_decoder_panics_on_arbitrary_bytes(bytes in prop::collection::vec(any::<u8>(), 0..600)) {
        use_all(&bytes);
    }

    #[test]
    fn no_decoder_panics_behind_a_sound_checksum(
        which in 0..4_usize,
        changes in prop::collection::vec((any::<prop::sample::Index>(), prop_oneof![any::<u8>(), Just(0), Just(255)]), 0..6),
        near_front in any::<bool>(),
        cut in prop::option::weighted(0.2, any::<prop::sample::Index>()),
        mended in prop::bool::weighted(0.8),
    ) {
        let (what, mut bytes) = samples().swap_remove(which);
        for (at, value) in changes {
            // Counts and lengths stand at the front of most, and at the end of a footer.
            let at = if near_front { at.index(bytes.len().min(64)) } else { at.index(bytes.len()) };
            let at = if near_front && what == "footer" { bytes.len() - 1 - at } else { at };
            bytes[at] = value;
        }
        if let Some(cut) = cut {
            bytes.truncate(cut.index(bytes.len()));
        }
        if mended {
            mend(what, &mut bytes);
        }
        use_all(&bytes);
    }
}

#[test]
fn sound_samples_decode_and_mending_is_done_right() {
    for (what, bytes) in samples() {
        let mut mended = bytes.clone();
        mend(what, &mut mended);
        assert!(mended == bytes, "{what}");
    }
    let samples = samples();
    let segment = Segment::from_data(&samples[0].1).unwrap();
    segment.verify().unwrap();
    assert_eq!((segment.len(), segment.pack_count(), segment.frame_count()), (120, 3, 6), "a chunk in three packs has three records");
    assert_eq!(segment.stored_len(), 64 + 3 * 48 + 6 * 16 + 9 * 4 + 120 * RECORD_LEN as u64 + 32);
    assert_eq!(Footer::decode(&samples[1].1, footer().1 + samples[1].1.len() as u64).unwrap(), footer().0);
    decode_record::<Sample>(KIND, &samples[3].1).unwrap();
}

#[test]
fn a_footer_with_impossible_frames_is_refused() {
    let (good, offset) = footer();
    let refused = |change: &dyn Fn(&mut Footer), offset: u64| {
        let mut footer = good.clone();
        change(&mut footer);
        let bytes = footer.encode(offset);
        Footer::decode(&bytes, offset + bytes.len() as u64).is_err()
    };
    assert!(!refused(&|_| {}, offset));
    assert!(refused(&|footer| footer.frames[0].chunk_count = 14, offset));
    assert!(refused(&|footer| footer.frames[0].chunk_count = u32::MAX, offset));
    assert!(refused(&|footer| footer.frames[0].plain_len += 1, offset));
    assert!(refused(&|footer| footer.frames[0].stored_len += 1, offset));
    assert!(refused(&|_| {}, offset + 1));
    assert!(refused(&|footer| _ = footer.frames.pop(), offset));
    assert!(refused(&|footer| _ = footer.chunks.pop(), offset));
    // Longer than any frame can be, though everything adds up.
    assert!(refused(&|footer| footer.frames[1].stored_len += 40 << 20, offset + (40 << 20)));
    // A frame without a chunk.
    assert!(refused(&|footer| footer.frames.push(FooterFrame { offset: 0, stored_len: 24, plain_len: 0, chunk_count: 0 }), offset + 24));
}
