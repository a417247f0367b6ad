//! Compaction: what is live is there afterwards and smaller, whatever it was cut off by, and groups of frames are read like frames.

use crate::support::{assert_all, chunks, copy_of, flip, keys, memory, open, options, overwrite, read, save};
use std::sync::Arc;
use vml_chunk::gc::{Collector, Compaction, Marks, PlanOptions, Swept, plan, plan_compaction};
use vml_chunk::repair::{Sound, Verdict, for_each_sound};
use vml_chunk::{Backend, ChunkId, ChunkStore, Error, ErrorKind, PackId, PackKind, Result, StoreOptions};
use vml_testkit::noise::{self, Rng};

type Chunks = Vec<Vec<u8>>;
type Files = Arc<dyn Backend>;

/// Compacts with `live` in its order; `stop` after so many chunks of it.
fn compact(files: &Files, live: &[Vec<u8>], level: u8, stop: usize) -> Result<Swept> {
    let (store, _) = open(files);
    let mut collector = Collector::begin(&store)?;
    let mut marks = Marks::new(Arc::clone(collector.view()));
    live.iter().for_each(|chunk| _ = marks.mark(&ChunkId::of(chunk)));
    let made = plan_compaction(collector.measure(&marks), level, None);
    collector.quarantine(&made.plan)?;
    let mut order = |take: &mut dyn FnMut(&ChunkId) -> Result<()>| {
        for (number, chunk) in live.iter().enumerate() {
            if number >= stop {
                return Err(Error::new(ErrorKind::Interrupted, "killed"));
            }
            take(&ChunkId::of(chunk))?;
        }
        Ok(())
    };
    collector.compact(&marks, Compaction { level, order: &mut order }, &mut |_| {})
}

fn collect(files: &Files, live: &[Vec<u8>]) -> Swept {
    let (store, _) = open(files);
    let mut collector = Collector::begin(&store).unwrap();
    let mut marks = Marks::new(Arc::clone(collector.view()));
    live.iter().for_each(|chunk| _ = marks.mark(&ChunkId::of(chunk)));
    let made = plan(collector.measure(&marks), PlanOptions::default());
    collector.quarantine(&made).unwrap();
    collector.sweep(&marks, &mut |_| {}).unwrap()
}

fn stored_len(files: &Files) -> usize {
    keys(files.as_ref(), "data").iter().map(|key| read(files.as_ref(), key).len()).sum()
}

/// Chunks far apart that are much alike, and noise.
fn alike(seed: u64) -> Chunks {
    let base = chunks(seed, 90);
    let changed = base.iter().map(|chunk| {
        let mut chunk = chunk.clone();
        let middle = chunk.len() / 2;
        chunk[middle] ^= 1;
        chunk
    });
    base.iter().cloned().chain(changed).chain((0..4).map(|number| noise::incompressible(seed ^ number, 70_000))).collect()
}

/// Two sessions, and compacted.
fn compacted() -> (Files, Chunks) {
    let files = memory();
    let all = alike(1);
    for half in all.chunks(100) {
        save(&open(&files).0, PackKind::Data, half).unwrap();
    }
    compact(&files, &all, 5, usize::MAX).unwrap();
    (files, all)
}

fn pack_of(files: &Files) -> (String, PackId) {
    let key = keys(files.as_ref(), "data")[0].clone();
    let id = key[5..].parse().unwrap();
    (key, id)
}

#[test]
fn what_is_live_is_there_and_smaller_and_the_second_time_nothing_is_left_to_do() {
    let files = memory();
    let all = alike(1);
    for half in all.chunks(100) {
        save(&open(&files).0, PackKind::Data, half).unwrap();
    }
    let before = stored_len(&files);
    let live: Chunks = all.iter().enumerate().filter(|(number, _)| number % 7 > 0).map(|(_, chunk)| chunk.clone()).collect();
    let swept = compact(&files, &live, 5, usize::MAX).unwrap();
    assert_eq!((swept.deleted_packs_count, swept.copied_chunks_count), (2, live.len() as u64));
    // A half is the other with a byte changed in each chunk.
    assert!(stored_len(&files) < before * 7 / 10, "{before} and {}", stored_len(&files));
    let (store, report) = open(&files);
    assert!(report.missing_packs.is_empty() && report.indexed_packs == 0);
    assert_all(&store, &live, "compacted");
    assert_eq!(store.totals().chunks_count, live.len() as u64);
    assert!(store.view().packs().iter().all(|pack| pack.compaction == 5));
    assert!(store.examine(&store.pack_files().unwrap(), &|_| {}).unwrap().is_empty());
    let names = keys(files.as_ref(), "data");
    assert_eq!(compact(&files, &live, 5, usize::MAX).unwrap().deleted_packs_count, 0);
    assert_eq!(keys(files.as_ref(), "data"), names);
    // At a higher level it is done again, and from the index made anew it is read as well.
    assert_eq!(compact(&files, &live, 9, usize::MAX).unwrap().deleted_packs_count, 1);
    crate::support::delete_index(files.as_ref());
    let (store, report) = open(&files);
    assert_eq!(report.indexed_packs, 1);
    assert_all(&store, &live, "twice");
}

#[test]
fn small_compacted_packs_are_joined_when_there_is_more_and_what_is_equal_gets_another_name() {
    let (files, mut all) = compacted();
    let more = chunks(77, 5);
    save(&open(&files).0, PackKind::Data, &more).unwrap();
    all.extend(more);
    assert_eq!(compact(&files, &all, 5, usize::MAX).unwrap().deleted_packs_count, 2);
    assert_eq!(keys(files.as_ref(), "data").len(), 1);
    assert_all(&open(&files).0, &all, "joined");
    // Noise is stored as it was, in a pack that would have the same name.
    let files = memory();
    let noise: Chunks = (0..3).map(|seed| noise::incompressible(seed, 40_000)).collect();
    save(&open(&files).0, PackKind::Data, &noise).unwrap();
    for level in [3, 4, 4] {
        compact(&files, &noise, level, usize::MAX).unwrap();
        assert_all(&open(&files).0, &noise, "noise");
    }
}

#[test]
fn chunks_are_got_in_any_order_by_many_threads_with_little_kept() {
    let (files, all) = compacted();
    let (store, _) = ChunkStore::open(Arc::clone(&files), StoreOptions { cache_len: 100_000, ..options() }).unwrap();
    std::thread::scope(|scope| {
        for seed in 0..4 {
            let (store, all) = (&store, &all);
            scope.spawn(move || {
                let mut rng = Rng::new(seed);
                for _ in 0..400 {
                    let chunk = &all[rng.below(all.len())];
                    assert!(store.get(&ChunkId::of(chunk)).unwrap()[..] == chunk[..]);
                }
            });
        }
    });
}

#[test]
fn one_that_is_cut_off_is_gone_on_with_by_whatever_comes_next() {
    let all: Chunks = (0..110).map(|seed| noise::text(seed, 200_000)).collect();
    for stop in [0, 1, 40, 105] {
        for again in [true, false] {
            let files = memory();
            for half in all.chunks(60) {
                save(&open(&files).0, PackKind::Data, half).unwrap();
            }
            assert_eq!(compact(&files, &all, 1, stop).map(|_| ()).unwrap_err().kind(), ErrorKind::Interrupted);
            assert_all(&open(&files).0, &all, "cut off");
            // A save beside it stores what it does not find, and is not kept from anything.
            save(&open(&files).0, PackKind::Data, &all[..3]).unwrap();
            let swept = if again { compact(&files, &all, 1, usize::MAX).unwrap() } else { collect(&files, &all) };
            assert!(swept.deleted_packs_count >= 2, "{stop}");
            assert_all(&open(&files).0, &all, "gone on with");
            let (store, report) = open(&files);
            assert!(report.missing_packs.is_empty());
            assert!(store.examine(&store.pack_files().unwrap(), &|_| {}).unwrap().is_empty());
        }
    }
}

#[test]
fn a_collection_copies_out_of_groups_and_leaves_nothing_that_needs_them() {
    let (files, all) = compacted();
    let live: Chunks = all.iter().step_by(5).cloned().collect();
    let swept = collect(&files, &live);
    assert_eq!((swept.deleted_packs_count, swept.copied_chunks_count), (1, live.len() as u64));
    let (store, _) = open(&files);
    assert_all(&store, &live, "collected");
    assert!(store.view().packs().iter().all(|pack| pack.compaction == 0));
}

#[test]
fn flipped_bits_give_errors_and_never_wrong_bytes_and_a_repair_saves_what_is_sound() {
    let (files, all) = compacted();
    let (key, id) = pack_of(&files);
    let len = read(files.as_ref(), &key).len();
    let mut rng = Rng::new(3);
    let (mut saved, mut cases) = (0, 0);
    for bit in (0..60).map(|_| rng.below(len * 8)).chain([0, 11 * 8, 17 * 8, 20 * 8, (len - 45) * 8, (len - 1) * 8]) {
        let copy = copy_of(files.as_ref());
        flip(copy.as_ref(), &key, bit);
        let (store, _) = open(&copy);
        let mut bad = 0;
        for chunk in &all {
            match store.get(&ChunkId::of(chunk)) {
                Ok(bytes) => assert!(bytes[..] == chunk[..], "bit {bit}"),
                Err(error) => {
                    assert!(matches!(error.kind(), ErrorKind::Corrupt | ErrorKind::NotFound), "bit {bit}: {error:?}");
                    bad += 1;
                }
            }
        }
        let reports = store.examine(&store.pack_files().unwrap(), &|_| {}).unwrap();
        assert!(reports.len() == 1 && matches!(reports[0].verdict, Verdict::Damaged(_)), "bit {bit}: {reports:?}");
        let mut sound = 0;
        for_each_sound(copy.as_ref(), store.ids(), PackKind::Data, &id, &mut |part| {
            sound += if let Sound::Frame { chunks, .. } = part { chunks.len() } else { 1 };
            Ok(())
        })
        .unwrap();
        assert!(sound + bad >= all.len(), "bit {bit}: {sound} sound, {bad} bad of {}", all.len());
        store.take_away(&[(PackKind::Data, id)], &mut |_, _| {}).unwrap();
        store.rebuild_index().unwrap();
        let (store, _) = open(&copy);
        let there = all.iter().filter(|chunk| store.get(&ChunkId::of(chunk)).is_ok_and(|bytes| bytes[..] == chunk[..])).count();
        assert!(there + bad >= all.len(), "bit {bit}: {there} there, {bad} bad before");
        assert!(store.view().packs().iter().all(|pack| pack.compaction == 0));
        save(&store, PackKind::Data, &all).unwrap();
        assert_all(&open(&copy).0, &all, "stored again");
        (saved, cases) = (saved + there, cases + 1);
    }
    assert!(saved > cases * all.len() / 3, "{saved} chunks of {cases} packs");
}

#[test]
fn a_pack_whose_footer_is_lost_gives_its_groups_back() {
    let (files, all) = compacted();
    let (key, id) = pack_of(&files);
    let bytes = read(files.as_ref(), &key);
    overwrite(files.as_ref(), &key, &bytes[..bytes.len() - 10]);
    let mut found = Vec::new();
    for_each_sound(files.as_ref(), open(&files).0.ids(), PackKind::Data, &id, &mut |part| {
        if let Sound::Frame { chunks, .. } = part {
            found.extend(chunks.iter().map(|(id, _)| *id));
        }
        Ok(())
    })
    .unwrap();
    let (mut found, mut expected): (Vec<_>, Vec<_>) = (found, all.iter().map(|chunk| ChunkId::of(chunk)).collect());
    found.sort_unstable();
    expected.sort_unstable();
    assert_eq!(found, expected);
}

#[test]
fn parity_mends_a_group_under_a_readers_hands() {
    let files = memory();
    let all = alike(4);
    let with_parity = || ChunkStore::open(Arc::clone(&files), StoreOptions { parity_percent: Some(20), ..options() }).unwrap().0;
    save(&with_parity(), PackKind::Data, &all).unwrap();
    let store = with_parity();
    let mut collector = Collector::begin(&store).unwrap();
    let mut marks = Marks::new(Arc::clone(collector.view()));
    all.iter().for_each(|chunk| _ = marks.mark(&ChunkId::of(chunk)));
    let made = plan_compaction(collector.measure(&marks), 5, None);
    collector.quarantine(&made.plan).unwrap();
    collector.compact(&marks, Compaction { level: 5, order: &mut |_| Ok(()) }, &mut |_| {}).unwrap();
    let (key, _) = pack_of(&files);
    let original = read(files.as_ref(), &key);
    for at in [100, 5000, 60_000] {
        let mut bytes = original.clone();
        bytes[at..at + 600].fill(0x55);
        overwrite(files.as_ref(), &key, &bytes);
        let store = with_parity();
        assert_all(&store, &all, "mended");
        assert_eq!(store.mended_packs(), std::slice::from_ref(&key));
    }
}
