//! Collections of packs: what is marked stays readable, what a writer relied on it keeps or hears that it is gone.

use crate::support::{assert_all, chunks, copy_of, flip, keys, memory, open, read, save};
use std::sync::Arc;
use vml_chunk::gc::{Collector, Marks, PlanOptions, Swept, plan};
use vml_chunk::index::{SegmentPack, build_segment};
use vml_chunk::pack::{Footer, FooterChunk, FooterFrame};
use vml_chunk::{Backend, ChunkId, ChunkStore, PackId, PackKind, Reliance, Security};
use vml_testkit::noise::incompressible;

type Chunks = Vec<Vec<u8>>;

fn marks(collector: &Collector<'_>, live: &[&[Vec<u8>]]) -> Marks {
    let mut marks = Marks::new(Arc::clone(collector.view()));
    for chunk in live.iter().flat_map(|chunks| chunks.iter()) {
        marks.mark(&ChunkId::of(chunk));
    }
    marks
}

/// A whole collection that keeps `live`.
fn collect(backend: &Arc<dyn Backend>, live: &[&[Vec<u8>]]) -> Swept {
    let (store, _) = open(backend);
    let mut collector = Collector::begin(&store).unwrap();
    let marks = marks(&collector, live);
    let made = plan(collector.measure(&marks), PlanOptions::default());
    collector.quarantine(&made).unwrap();
    collector.sweep(&marks, &mut |_| {}).unwrap()
}

/// A session that puts `chunks` and is about to commit them.
fn about_to_commit(store: &ChunkStore, chunks: &[Vec<u8>]) -> Reliance {
    let writer = store.writer().unwrap();
    let mut out = writer.chunks(PackKind::Data).unwrap();
    for chunk in chunks {
        out.put(chunk).unwrap();
    }
    out.finish().unwrap();
    writer.finish_relying().unwrap().1
}

/// Two sessions' chunks, each in its own pack.
fn two() -> (Arc<dyn Backend>, Chunks, Chunks) {
    let backend = memory();
    let (one, other) = (chunks(1, 80), chunks(2, 80));
    for chunks in [&one, &other] {
        save(&open(&backend).0, PackKind::Data, chunks).unwrap();
    }
    (backend, one, other)
}

#[test]
fn live_chunks_are_copied_out_dead_packs_go_and_no_index_names_them() {
    let (backend, one, other) = two();
    // A third of every frame, so that none is copied as it is.
    let live: Chunks = one.iter().step_by(3).cloned().collect();
    let dead: Chunks = one.iter().filter(|chunk| !live.contains(chunk)).cloned().collect();
    let swept = collect(&backend, &[&live]);
    assert_eq!((swept.deleted_packs_count, swept.copied_chunks_count), (2, 27));
    let (store, report) = open(&backend);
    assert!(report.missing_packs.is_empty() && report.indexed_packs == 0, "{report:?}");
    assert_all(&store, &live, "after");
    assert!(dead.iter().chain(&other).all(|chunk| !store.contains(&ChunkId::of(chunk))));
    assert_eq!(keys(backend.as_ref(), "data").len(), 1);
    assert_eq!(store.totals().chunks_count, 27);
}

#[test]
fn a_flipped_bit_of_the_index_makes_no_chunk_dead() {
    let (backend, one, other) = two();
    let all = [&one[..], &other[..]];
    for key in keys(backend.as_ref(), "index") {
        for bit in (0..read(backend.as_ref(), &key).len() * 8).step_by(1237) {
            let copy = copy_of(backend.as_ref());
            let (store, _) = open(&copy);
            // Opened before, so that nothing has looked at all of it since.
            flip(copy.as_ref(), &key, bit);
            store.reload(false).unwrap();
            let mut collector = Collector::begin(&store).unwrap();
            let marks = marks(&collector, &all);
            let made = plan(collector.measure(&marks), PlanOptions::default());
            collector.quarantine(&made).unwrap();
            collector.sweep(&marks, &mut |_| {}).unwrap();
            let what = format!("{key}, bit {bit}");
            assert_all(&open(&copy).0, &one, &what);
            assert_all(&open(&copy).0, &other, &what);
        }
    }
}

#[test]
fn whole_frames_are_copied_as_they_are() {
    let (backend, one, _) = two();
    // The first two thirds of the frames of one pack, whole.
    let swept = collect(&backend, &[&one[..20]]);
    let (store, _) = open(&backend);
    assert_all(&store, &one[..20], "after");
    assert_eq!(swept.copied_chunks_count, 20);
}

#[test]
fn a_pack_that_would_get_a_forbidden_name_gets_another() {
    let (backend, one, _) = two();
    let before = keys(backend.as_ref(), "data");
    assert_eq!(collect(&backend, &[]).deleted_packs_count, 2);
    save(&open(&backend).0, PackKind::Data, &one).unwrap();
    let after = keys(backend.as_ref(), "data");
    assert!(after.len() == 1 && !before.contains(&after[0]), "{before:?} {after:?}");
    assert_all(&open(&backend).0, &one, "after");
}

#[test]
fn a_writer_that_relied_on_a_pack_before_it_was_listed_stores_its_chunks_again() {
    let (backend, one, _) = two();
    let (store, _) = open(&backend);
    let mut reliance = about_to_commit(&store, &one);
    let (theirs, _) = open(&backend);
    let mut collector = Collector::begin(&theirs).unwrap();
    let none = marks(&collector, &[]);
    let made = plan(collector.measure(&none), PlanOptions::default());
    collector.quarantine(&made).unwrap();
    assert_eq!(store.secure(&mut reliance).unwrap(), Security::Sound);
    collector.sweep(&none, &mut |_| {}).unwrap();
    assert_all(&open(&backend).0, &one, "after the sweep");
    assert_eq!(store.secure(&mut reliance).unwrap(), Security::Sound, "once more");
}

#[test]
fn a_writer_that_comes_too_late_hears_that_its_chunks_are_lost() {
    let (backend, one, other) = two();
    let (store, _) = open(&backend);
    let mut reliance = about_to_commit(&store, &one);
    collect(&backend, &[&other]);
    assert_eq!(store.secure(&mut reliance).unwrap(), Security::Lost);
    // Anew, it stores them and is sound.
    let mut reliance = about_to_commit(&store, &one);
    assert_eq!(store.secure(&mut reliance).unwrap(), Security::Sound);
    assert_all(&open(&backend).0, &one, "anew");
}

#[test]
fn a_store_that_was_opened_before_collections_does_not_rely_on_what_they_took() {
    let (backend, one, other) = two();
    let (old, _) = open(&backend);
    for _ in 0..3 {
        collect(&backend, &[&other]);
    }
    let mut reliance = about_to_commit(&old, &one);
    assert_eq!(old.secure(&mut reliance).unwrap(), Security::Sound);
    assert_all(&open(&backend).0, &one, "stored again");
}

#[test]
fn a_lease_holds_packs_for_two_collections_and_then_the_writer_hears_of_it() {
    let backend = memory();
    let (store, _) = open(&backend);
    let writer = store.writer().unwrap();
    let mut out = writer.chunks(PackKind::Data).unwrap();
    // More than one pack's worth, so that one is published in the middle.
    let large: Chunks = (0..36).map(|seed| incompressible(seed, 500_000)).collect();
    for chunk in &large {
        out.put(chunk).unwrap();
    }
    assert_eq!((keys(backend.as_ref(), "data").len(), keys(backend.as_ref(), "leases").len()), (1, 1));
    for _ in 0..2 {
        assert_eq!(collect(&backend, &[]).deleted_packs_count, 0, "it is held");
    }
    assert_eq!(collect(&backend, &[]).deleted_packs_count, 1);
    assert!(keys(backend.as_ref(), "leases").is_empty());
    out.finish().unwrap();
    let (_, mut reliance) = writer.finish_relying().unwrap();
    assert_eq!(store.secure(&mut reliance).unwrap(), Security::Lost);
    drop(reliance);
    assert!(keys(backend.as_ref(), "leases").is_empty(), "nothing is left of it");
}

#[test]
fn a_collection_that_was_taken_over_hears_of_it_and_its_names_are_given_up() {
    let (backend, one, other) = two();
    let (store, _) = open(&backend);
    let mut slow = Collector::begin(&store).unwrap();
    let kept = marks(&slow, &[&other]);
    let made = plan(slow.measure(&kept), PlanOptions::default());
    slow.quarantine(&made).unwrap();
    let names = keys(backend.as_ref(), "data");
    assert_eq!(collect(&backend, &[&other]).deleted_packs_count, 1);
    // Somebody saves the same again before the slow one goes on.
    save(&open(&backend).0, PackKind::Data, &one).unwrap();
    let error = slow.sweep(&kept, &mut |_| {}).map(|_| ()).unwrap_err();
    assert_eq!(error.kind(), vml_chunk::ErrorKind::Locked);
    assert_all(&open(&backend).0, &one, "saved again");
    assert_all(&open(&backend).0, &other, "kept");
    assert!(keys(backend.as_ref(), "data").iter().filter(|key| names.contains(key)).count() <= 1);
}

#[test]
fn a_sound_copy_is_not_given_up_for_a_damaged_one() {
    let backend = memory();
    let shared = chunks(5, 30);
    // Two writers at once store the same chunks, each with others of its own.
    let (a, b) = (open(&backend).0, open(&backend).0);
    let (mut with_one, mut with_two) = (chunks(6, 60), chunks(7, 60));
    with_one.splice(0..0, shared.iter().cloned());
    with_two.splice(0..0, shared.iter().cloned());
    save(&a, PackKind::Data, &with_one).unwrap();
    save(&b, PackKind::Data, &with_two).unwrap();
    // All of what one says is damaged, in turn; the other one's own chunks are dead.
    for damaged in keys(backend.as_ref(), "data") {
        let copy = crate::support::copy_of(backend.as_ref());
        let mut bytes = read(copy.as_ref(), &damaged);
        for at in (100..bytes.len() / 4).step_by(50) {
            bytes[at] ^= 1;
        }
        crate::support::overwrite(copy.as_ref(), &damaged, &bytes);
        collect(&copy, &[&shared]);
        collect(&copy, &[&shared]);
        assert_all(&open(&copy).0, &shared, &damaged);
    }
}

#[test]
fn marks_cost_half_a_byte_a_chunk_at_most() {
    const CHUNKS: u32 = 300_000;
    let backend = memory();
    // An index over packs that are there by their length only: marks look at nothing else.
    for pack in 0..3_u8 {
        let id = PackId::of(&[pack]);
        backend.put(&PackKind::Data.key(&id), &[pack; 100]).unwrap();
        let chunk = |number: u32| FooterChunk { id: ChunkId::of(&[&[pack][..], &number.to_le_bytes()].concat()), len: 8 };
        let chunks: Vec<FooterChunk> = (0..CHUNKS / 3).map(chunk).collect();
        let frames = (0..CHUNKS / 3 / 100).map(|frame| FooterFrame { offset: 16 + frame, stored_len: 1, plain_len: 800, chunk_count: 100 });
        let footer = Footer { kind: PackKind::Data, compaction: 0, frames: frames.collect(), chunks };
        let bytes = build_segment(&[SegmentPack { id, len: 100, footer: &footer }]).unwrap();
        backend.put(&format!("index/{}", blake3::hash(&bytes).to_hex()), &bytes).unwrap();
    }
    let (store, report) = open(&backend);
    assert_eq!((store.totals().chunks_count, report.indexed_packs), (u64::from(CHUNKS), 0));
    let collector = Collector::begin(&store).unwrap();
    let mut marks = Marks::new(Arc::clone(collector.view()));
    let before = marks.memory_len();
    for number in 0..CHUNKS / 3 {
        let id = ChunkId::of(&[&[1][..], &number.to_le_bytes()].concat());
        assert!(marks.enter(number as usize % 3, &id) && !marks.enter(number as usize % 3, &id));
    }
    // Half a byte and a slot for each block of bits; nothing for what is not marked.
    assert!(before <= CHUNKS as usize / 100, "{before}");
    assert!(marks.memory_len() <= CHUNKS as usize / 3 / 2 + before + 4 * 512, "{}", marks.memory_len());
    let live: Vec<u64> = collector.measure(&marks).iter().map(|pack_use| pack_use.live_chunks_count).filter(|count| *count > 0).collect();
    assert_eq!(live, [u64::from(CHUNKS / 3)]);
}
