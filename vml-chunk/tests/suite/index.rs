//! The index by itself: look-ups, cost, merging, and how many segments pile up.

use crate::support::{assert_all, chunks, keys, memory, open, save};
use std::sync::Arc;
use vml_chunk::index::{Segment, SegmentPack, build_segment, merge_segments};
use vml_chunk::pack::{Footer, FooterChunk, FooterFrame};
use vml_chunk::{Backend as _, ChunkId, LocalBackend, PackId, PackKind};
use vml_testkit::noise::Rng;

/// The tables of a pack that was never written: random ids in frames of 128 chunks of 8 KiB.
fn pretend_pack(rng: &mut Rng, count: usize) -> (PackId, Footer) {
    let mut id = [0; 32];
    let chunks: Vec<FooterChunk> = (0..count)
        .map(|_| {
            rng.fill(&mut id);
            FooterChunk { id: ChunkId::from_bytes(id), len: 1 + u32::try_from(rng.below(16_000)).unwrap() }
        })
        .collect();
    let mut offset = 16;
    let frames = chunks
        .chunks(128)
        .map(|own| {
            let plain_len = own.iter().map(|chunk| chunk.len).sum();
            let frame = FooterFrame { offset, stored_len: plain_len / 3 + 500, plain_len, chunk_count: u32::try_from(own.len()).unwrap() };
            offset += frame.stored_len;
            frame
        })
        .collect();
    rng.fill(&mut id);
    (PackId::from_bytes(id), Footer { kind: PackKind::Data, compaction: 0, frames, chunks })
}

fn segment_of(packs: &[(PackId, Footer)]) -> Segment<Vec<u8>> {
    let rows: Vec<SegmentPack<'_>> = packs.iter().map(|(id, footer)| SegmentPack { id: *id, len: 1 << 24, footer }).collect();
    Segment::from_data(build_segment(&rows).unwrap()).unwrap()
}

/// Every chunk of `packs` is where its footer says.
fn assert_finds(segment: &Segment<Vec<u8>>, packs: &[(PackId, Footer)]) {
    for (id, footer) in packs {
        let mut rest = &footer.chunks[..];
        for frame in &footer.frames {
            let (own, tail) = rest.split_at(frame.chunk_count as usize);
            rest = tail;
            let mut offset = 0;
            for chunk in own {
                let (row, record) = segment.find(&chunk.id).expect("an indexed chunk is found");
                assert_eq!((record, record.len, record.offset), (segment.record(row), chunk.len, offset));
                let place = segment.frame(record.frame).unwrap();
                assert_eq!((place.offset, place.stored_len, place.plain_len), (frame.offset, frame.stored_len, frame.plain_len));
                assert_eq!(segment.pack(place.pack).unwrap().id, *id);
                offset += chunk.len;
            }
        }
    }
}

#[test]
fn a_hundred_thousand_chunks_are_found_and_cost_48_bytes_at_most() {
    let mut rng = Rng::new(1);
    for counts in [&[100_000][..], &[2000; 50], &[1], &[15, 16], &[16, 17, 500]] {
        let packs: Vec<_> = counts.iter().map(|count| pretend_pack(&mut rng, *count)).collect();
        let segment = segment_of(&packs);
        segment.verify().unwrap();
        let total: usize = counts.iter().sum();
        assert_eq!((segment.len(), segment.pack_count()), (total, counts.len()));
        assert_finds(&segment, &packs);
        if total > 1000 {
            let cost = segment.stored_len() as f64 / total as f64;
            assert!(cost <= 48.0, "{cost} bytes a chunk in {} packs", counts.len());
        }
        let mut id = [0; 32];
        for _ in 0..20_000 {
            rng.fill(&mut id);
            assert!(segment.find(&ChunkId::from_bytes(id)).is_none());
        }
        assert!(segment.find(&ChunkId::from_bytes([0; 32])).is_none() && segment.find(&ChunkId::from_bytes([255; 32])).is_none());
    }
}

#[test]
fn a_pack_that_stays_is_found_by_all_it_holds_when_another_with_the_same_goes() {
    let mut rng = Rng::new(3);
    let mut packs: Vec<_> = (0..3).map(|_| pretend_pack(&mut rng, 200)).collect();
    // What all three have, and one of them twice over, as if two processes had indexed it.
    let shared: Vec<_> = packs[0].1.chunks[..50].to_vec();
    for pack in &mut packs[1..] {
        pack.1.chunks[..50].copy_from_slice(&shared);
    }
    let whole = merge(&[&segment_of(&packs), &segment_of(&packs[1..2])], &[]);
    assert_eq!(whole.len(), 600);
    assert!(shared.iter().all(|chunk| whole.find_all(&chunk.id).count() == 3));
    for gone in [vec![packs[0].0], vec![packs[0].0, packs[2].0]] {
        let left = merge(&[&whole], &gone);
        let staying: Vec<_> = packs.iter().filter(|pack| !gone.contains(&pack.0)).collect();
        assert_eq!(left.len(), 200 * staying.len());
        for chunk in staying.iter().flat_map(|pack| &pack.1.chunks) {
            let found = left.find_all(&chunk.id).all(|(_, record)| {
                let frame = left.frame(record.frame).unwrap();
                record.len == chunk.len && staying.iter().any(|pack| pack.0 == left.pack(frame.pack).unwrap().id)
            });
            assert!(found && left.find(&chunk.id).is_some());
        }
    }
}

#[test]
fn an_empty_segment_finds_nothing() {
    let segment = segment_of(&[]);
    segment.verify().unwrap();
    assert!(segment.is_empty() && segment.find(&ChunkId::of(b"x")).is_none() && segment.pack(0).is_none() && segment.frame(0).is_none());
}

fn merge(inputs: &[&Segment<Vec<u8>>], dead: &[PackId]) -> Segment<Vec<u8>> {
    let mut bytes = Vec::new();
    merge_segments(inputs, &|pack| !dead.contains(&pack.id), &mut |part| {
        bytes.extend_from_slice(part);
        Ok(())
    })
    .unwrap();
    let segment = Segment::from_data(bytes).unwrap();
    segment.verify().unwrap();
    segment
}

#[test]
fn a_merge_keeps_every_chunk_and_what_it_costs() {
    let mut rng = Rng::new(2);
    let packs: Vec<_> = [40_000, 30_000, 20_000, 9_000, 999, 1].iter().map(|count| pretend_pack(&mut rng, *count)).collect();
    let segments = [segment_of(&packs[..1]), segment_of(&packs[1..4]), segment_of(&packs[4..]), segment_of(&[])];
    let merged = merge(&segments.each_ref(), &[]);
    assert_eq!((merged.len(), merged.pack_count()), (100_000, 6));
    assert_finds(&merged, &packs);
    assert!(merged.stored_len() as f64 / 100_000.0 <= 48.0);
    // A merge of one is the same bytes again.
    assert_eq!(merge(&[&merged], &[]).stored_len(), merged.stored_len());
}

#[test]
fn a_merge_drops_dead_packs_and_doubles() {
    let mut rng = Rng::new(3);
    let packs: Vec<_> = [500, 400, 300].iter().map(|count| pretend_pack(&mut rng, *count)).collect();
    let (both, twice) = (segment_of(&packs[..2]), segment_of(&packs[1..]));
    let merged = merge(&[&both, &twice], &[]);
    assert_eq!((merged.len(), merged.pack_count()), (1200, 3));
    assert_finds(&merged, &packs);
    let merged = merge(&[&both, &twice], &[packs[1].0]);
    assert_eq!((merged.len(), merged.pack_count()), (800, 2));
    assert_finds(&merged, &[packs[0].clone(), packs[2].clone()]);
    assert!(packs[1].1.chunks.iter().all(|chunk| merged.find(&chunk.id).is_none()));
}

#[test]
fn a_merge_of_doubles_is_as_if_there_had_been_none() {
    let mut rng = Rng::new(5);
    let packs: Vec<_> = [9000, 7000].iter().map(|count| pretend_pack(&mut rng, *count)).collect();
    let (once, again) = (segment_of(&packs), segment_of(&packs));
    let merged = merge(&[&once, &again], &[]);
    assert_eq!(merged.len(), 16_000);
    // But for the frames of the double, which no record names: the fan-out is that of the records which are left.
    assert_eq!(merged.stored_len() - once.stored_len(), (9000_u64.div_ceil(128) + 7000_u64.div_ceil(128)) * 16);
    assert_finds(&merged, &packs);
}

#[test]
fn a_merge_leaves_out_the_frames_of_dead_packs() {
    let mut rng = Rng::new(6);
    let packs: Vec<_> = [1280, 640, 320].iter().map(|count| pretend_pack(&mut rng, *count)).collect();
    let (all, middle) = (segment_of(&packs), segment_of(&packs[1..2]));
    let merged = merge(&[&all], &[packs[0].0, packs[2].0]);
    assert_eq!((merged.len(), merged.pack_count(), merged.frame_count()), (640, 1, 5));
    assert_finds(&merged, &packs[1..2]);
    assert_eq!(merged.stored_len(), middle.stored_len());
}

#[test]
fn a_walk_over_a_mapped_segment_sees_what_look_ups_see() {
    let mut rng = Rng::new(7);
    let packs = [pretend_pack(&mut rng, 120_000)];
    let rows: Vec<SegmentPack<'_>> = packs.iter().map(|(id, footer)| SegmentPack { id: *id, len: 1 << 24, footer }).collect();
    let bytes = build_segment(&rows).unwrap();
    let place = tempfile::tempdir().unwrap();
    let backend = LocalBackend::open(place.path()).unwrap();
    backend.put("index/a", &bytes).unwrap();
    let segment = Segment::from_data(backend.paged("index/a").unwrap()).unwrap();
    segment.verify().unwrap();
    // Five megabytes: pages are let go of behind the walk, and a look-up behind it finds what was there.
    for (row, record) in segment.scan().enumerate() {
        if row % 997 == 0 {
            assert_eq!(segment.find(&record.id), Some((row, record)));
            assert_eq!(segment.record(row / 2), Segment::from_data(&bytes[..]).unwrap().record(row / 2));
        }
    }
    let some = [3, 64, 65, 119_999];
    for many in [false, true] {
        let found: Vec<_> = segment.scan_rows(some.into_iter(), many).collect();
        assert_eq!(found, some.map(|row| segment.record(row)));
    }
}

#[test]
fn a_chunk_in_a_dead_pack_and_a_living_one_stays_found() {
    let mut rng = Rng::new(4);
    let (dead, footer) = pretend_pack(&mut rng, 100);
    let living = (PackId::of(b"living"), footer.clone());
    let (a, b) = (segment_of(&[(dead, footer)]), segment_of(std::slice::from_ref(&living)));
    for inputs in [[&a, &b], [&b, &a]] {
        let merged = merge(&inputs, &[dead]);
        assert_eq!((merged.len(), merged.pack_count()), (100, 1));
        assert_finds(&merged, std::slice::from_ref(&living));
    }
}

#[test]
fn segments_stay_few_after_two_hundred_sessions() {
    let files = memory();
    let (mut store, _) = open(&files);
    let mut all = Vec::new();
    for session in 0..200 {
        if session % 10 == 0 {
            store = open(&files).0;
        }
        let more: Vec<Vec<u8>> = chunks(session, 1 + (session % 9) as usize).iter().map(|chunk| chunk[..60].to_vec()).collect();
        save(&store, PackKind::Data, &more).unwrap();
        all.extend(more);
        assert!(keys(files.as_ref(), "index").len() <= 6, "after session {session}");
    }
    let totals = store.totals();
    assert_eq!((totals.chunks_count, totals.data_packs_count), (all.len() as u64, 200));
    assert_all(&store, &all, "the same process");
    let (store, report) = open(&files);
    assert_eq!(report.indexed_packs, 0);
    assert_all(&store, &all, "another process");
}

#[test]
fn a_store_with_several_segments_finds_what_is_in_each() {
    let files = memory();
    let (store, _) = open(&files);
    let mut all = Vec::new();
    for (seed, count) in [(1, 500), (2, 100), (3, 20), (4, 4)] {
        let more = chunks(seed, count);
        save(&store, PackKind::Data, &more).unwrap();
        all.extend(more);
    }
    let view = store.view();
    assert_eq!(view.segments().count(), 4);
    assert_eq!(view.chunk_count(), all.len());
    let mut places: Vec<_> = all.iter().map(|chunk| view.position(&ChunkId::of(chunk)).unwrap()).collect();
    places.sort_unstable();
    places.dedup();
    assert_eq!(places.len(), all.len(), "each chunk has a place of its own");
    assert_all(&store, &all, "all segments");
    drop(Arc::clone(&files));
}
