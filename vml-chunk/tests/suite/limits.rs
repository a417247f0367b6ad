//! The smallest, the largest, and what claims to be larger.

use crate::support::{assert_all, memory, options, save};
use vml_chunk::format::{CHUNK_MAX_LEN, FRAME_MAX_CHUNKS, FRAME_MAX_LEN};
use vml_chunk::frame::{Codec, FrameBuilder, FrameDecoder, FrameEncoder, FrameHeader};
use vml_chunk::{ChunkId, ChunkStore, ErrorKind, PackKind, StoreOptions};
use vml_testkit::noise;

#[test]
fn empty_and_tiny_chunks_are_chunks() {
    let (store, _) = ChunkStore::open(memory(), options()).unwrap();
    let all = vec![vec![], vec![0], vec![0; 2], b"abc".to_vec()];
    let stats = save(&store, PackKind::Data, &all).unwrap();
    assert_eq!((stats.new_chunks, stats.new_bytes), (4, 6));
    assert_all(&store, &all, "tiny");
    let (store, _) = ChunkStore::open(memory(), options()).unwrap();
    save(&store, PackKind::Data, &[vec![]]).unwrap();
    assert_all(&store, &[vec![]], "an empty chunk alone in its pack");
    let (again, report) = ChunkStore::open(std::sync::Arc::clone(store.backend()), options()).unwrap();
    assert_eq!(report.missing_packs.len(), 0);
    assert_all(&again, &[vec![]], "reopened");
}

#[test]
fn the_largest_chunk_is_stored_and_a_larger_one_refused() {
    let (store, _) = ChunkStore::open(memory(), options()).unwrap();
    let largest = vec![noise::incompressible(1, CHUNK_MAX_LEN), b"beside it".to_vec(), vec![7; CHUNK_MAX_LEN]];
    save(&store, PackKind::Data, &largest).unwrap();
    assert_all(&store, &largest, "largest");
    let writer = store.writer().unwrap();
    let mut out = writer.chunks(PackKind::Data).unwrap();
    assert_eq!(out.put(&vec![0; CHUNK_MAX_LEN + 1]).unwrap_err().kind(), ErrorKind::InvalidInput);
    // The caller's mistake is not the session's end.
    out.put(b"the next").unwrap();
    out.finish().unwrap();
    writer.finish().unwrap();
    assert_all(&store, &[b"the next".to_vec()], "after a refusal");
}

#[test]
fn a_frame_holds_no_more_chunks_than_it_can_count() {
    let count = FRAME_MAX_CHUNKS * 2 + 10;
    let all: Vec<Vec<u8>> = (0..count).map(|number| u16::try_from(number).unwrap().to_le_bytes().to_vec()).collect();
    let (store, _) = ChunkStore::open(memory(), StoreOptions { frame_len: 8 << 20, ..options() }).unwrap();
    save(&store, PackKind::Meta, &all).unwrap();
    assert_all(&store, &all, "many tiny chunks");
    let mut frames: Vec<u32> = all
        .iter()
        .flat_map(|chunk| store.view().locate(&ChunkId::of(chunk)).map(|location| location.frame_offset).collect::<Vec<_>>())
        .collect();
    frames.sort_unstable();
    frames.dedup();
    assert_eq!(frames.len(), 3);
}

#[test]
fn frames_aim_at_the_length_that_is_set() {
    for frame_len in [64 << 10, 1 << 20, 8 << 20] {
        let (store, _) = ChunkStore::open(memory(), StoreOptions { frame_len, ..options() }).unwrap();
        let all: Vec<Vec<u8>> = (0..3 * frame_len as u64 / 8192).map(|seed| noise::text(seed, 8192)).collect();
        save(&store, PackKind::Data, &all).unwrap();
        let view = store.view();
        let lens: Vec<u32> = all.iter().map(|chunk| view.locate(&ChunkId::of(chunk)).next().unwrap().plain_len).collect();
        assert!(lens.iter().all(|len| *len as usize == frame_len), "{frame_len}");
    }
}

/// A frame with a sound checksum, whatever it says.
fn forged(codec: u8, filter: u8, plain_len: u32, lens: &[u32], payload: &[u8]) -> Vec<u8> {
    let mut bytes = b"VMLf".to_vec();
    bytes.extend([codec, filter]);
    bytes.extend(u16::try_from(lens.len()).unwrap().to_le_bytes());
    bytes.extend(plain_len.to_le_bytes());
    bytes.extend(u32::try_from(payload.len()).unwrap().to_le_bytes());
    let table: Vec<u8> = lens.iter().flat_map(|len| len.to_le_bytes()[..3].to_vec()).collect();
    let sum = blake3::hash(&[&bytes[..], &table].concat());
    bytes.extend(&sum.as_bytes()[..8]);
    bytes.extend(table);
    bytes.extend(payload);
    bytes
}

#[test]
fn a_forged_frame_is_refused_without_much_memory() {
    let zeros = vec![0; FRAME_MAX_LEN];
    let bomb = zstd::bulk::compress(&zeros, 19).unwrap();
    assert!(bomb.len() < 4096);
    let huge = [u32::MAX >> 8; 300];
    let huge_sum = u32::try_from(huge.iter().map(|len| u64::from(*len)).sum::<u64>() & u64::from(u32::MAX)).unwrap();
    let mut cut = forged(0, 0, 3, &[3], b"abc");
    cut.pop();
    let grown = zstd::bulk::compress(&noise::incompressible(1, 100), 3).unwrap();
    assert!(grown.len() > 100);
    let cases: [(&str, Vec<u8>); 17] = [
        ("decompresses to more than it says", forged(1, 0, 1 << 13, &[1 << 13], &bomb)),
        ("decompresses to less than it says", forged(1, 0, 5000, &[5000], &zstd::bulk::compress(&[0; 4999], 3).unwrap())),
        ("says 4 GiB", forged(1, 0, u32::MAX, &[100], &bomb)),
        ("says 4 GiB in its chunks too", forged(1, 0, huge_sum, &huge, &bomb)),
        ("is longer than a frame may be", forged(1, 0, 2 * 0xff_ffff, &[0xff_ffff; 2], &bomb)),
        ("has more payload than plain bytes", forged(0, 0, 3, &[3], b"abcd")),
        ("grew when it was compressed", forged(1, 0, 100, &[100], &grown)),
        ("is raw and shorter than it says", forged(0, 0, 3, &[3], b"ab")),
        ("has chunks that do not add up", forged(0, 0, 3, &[1, 1], b"abc")),
        ("has no chunk", forged(0, 0, 0, &[], b"")),
        ("has more chunks than a frame may", forged(0, 0, 16385, &[1; 16385], &[0; 16385])),
        ("names an unknown codec", forged(2, 0, 3, &[3], b"abc")),
        ("is raw and filtered", forged(0, 1, 3, &[3], b"abc")),
        ("names an unknown filter", forged(1, 2, 3, &[3], b"abc")),
        ("is no zstd", forged(1, 0, 100, &[100], b"this is not zstd")),
        ("is cut short", cut),
        ("is followed by something", [forged(0, 0, 3, &[3], b"abc"), vec![0]].concat()),
    ];
    for (what, bytes) in cases {
        let mut plain = Vec::new();
        let error = FrameDecoder::default().decode(&bytes, &mut plain).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Corrupt, "a frame that {what}");
        assert!(plain.capacity() <= 1 << 14, "a frame that {what} took {} bytes", plain.capacity());
    }
    let mut plain = Vec::new();
    let header = FrameDecoder::default().decode(&forged(0, 0, 3, &[1, 2], b"abc"), &mut plain).unwrap();
    assert_eq!((header.chunk_lens, &plain[..]), (vec![1, 2], &b"abc"[..]), "forging itself is done right");
    // A frame of the largest length is none the less a frame.
    let largest = forged(1, 0, 0xff_ffff, &[0xff_ffff], &bomb);
    FrameDecoder::default().decode(&largest, &mut plain).unwrap();
    assert_eq!(plain.len(), FRAME_MAX_LEN);
    // The decoder's buffer is large now; what it says of lengths still holds.
    assert!(FrameDecoder::default().decode(&forged(1, 0, 1 << 13, &[1 << 13], &bomb), &mut plain).is_err());
}

#[test]
fn every_flipped_bit_of_a_frames_head_is_noticed() {
    let bytes = forged(0, 0, 9, &[4, 5], b"fourfives");
    let head = FrameHeader::decode(&bytes).unwrap();
    assert_eq!((head.codec, head.head_len(), head.frame_len()), (Codec::Raw, 30, 39));
    for bit in 0..head.head_len() * 8 {
        let mut damaged = bytes.clone();
        damaged[bit / 8] ^= 1 << (bit % 8);
        assert!(FrameHeader::decode(&damaged).is_err(), "bit {bit}");
    }
    for len in 0..head.head_len() {
        assert!(FrameHeader::decode(&bytes[..len]).is_err(), "cut at {len}");
    }
}

#[test]
fn a_frame_takes_chunks_up_to_its_target_and_always_one() {
    let mut frame = FrameBuilder::default();
    assert!(frame.is_empty() && !frame.is_full_for(CHUNK_MAX_LEN, 64 << 10));
    frame.push(ChunkId::of(b"x"), b"x");
    assert!(!frame.is_full_for((64 << 10) - 1, 64 << 10));
    assert!(frame.is_full_for(64 << 10, 64 << 10));
    assert!(frame.is_full_for(FRAME_MAX_LEN, usize::MAX), "whatever the target, the format's limit holds");
    let sealed = FrameEncoder::new(19).unwrap().seal(frame).unwrap();
    assert_eq!((sealed.plain_len, sealed.chunks.len(), sealed.bytes.len()), (1, 1, 28));
}
