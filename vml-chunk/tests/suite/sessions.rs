//! What a session reads and writes, counted at the backend.

use crate::support::{DIRS, assert_all, chunks, keys, memory, options, save, save_both};
use std::sync::{Arc, Condvar, Mutex};
use std::time::Duration;
use vml_chunk::{Backend, ChunkId, ChunkStore, DiscardBackend, ErrorKind, PackKind, StoreOptions};
use vml_testkit::faulty::FaultyBackend;
use vml_testkit::noise;

fn counted() -> (FaultyBackend, ChunkStore) {
    let faulty = FaultyBackend::new(memory());
    let (store, _) = ChunkStore::open(Arc::new(faulty.clone()), options()).unwrap();
    (faulty, store)
}

#[test]
fn a_second_identical_session_writes_no_pack_and_no_segment() {
    let (faulty, store) = counted();
    let (data, meta) = (chunks(1, 200), chunks(2, 20));
    let parts = [(PackKind::Data, &data[..]), (PackKind::Meta, &meta[..])];
    let first = save_both(&store, &parts).unwrap();
    assert_eq!((first.new_chunks, first.packs_count), (220, 2));
    assert_eq!(first.new_bytes, data.iter().chain(&meta).map(|chunk| chunk.len() as u64).sum::<u64>());
    let on_disk: u64 = ["data", "meta"].iter().flat_map(|dir| faulty.list(dir).unwrap()).map(|listed| listed.len).sum();
    assert_eq!(first.stored_bytes, on_disk, "stored_bytes is what the packs take");
    // Once in the same process, once in a new one.
    let (again, _) = ChunkStore::open(Arc::new(faulty.clone()), options()).unwrap();
    for store in [&store, &again] {
        faulty.reset();
        let second = save_both(store, &parts).unwrap();
        assert_eq!((second.seen_chunks, second.new_chunks, second.stored_bytes, second.packs_count), (220, 0, 0, 0));
        assert_eq!(second.seen_bytes, first.seen_bytes);
        let operations: Vec<String> = faulty.operations().iter().map(ToString::to_string).collect();
        assert_eq!(operations, ["sweep ", "map gc/quarantine", "map damage"], "nothing is staged or published, and no pack read");
    }
}

#[test]
fn a_chunk_is_stored_once_in_a_session_and_once_in_a_store() {
    let (_, store) = counted();
    let all = chunks(3, 30);
    let twice: Vec<Vec<u8>> = all.iter().chain(&all).cloned().collect();
    let stats = save(&store, PackKind::Data, &twice).unwrap();
    assert_eq!((stats.seen_chunks, stats.new_chunks), (60, 30));
    // A chunk in a data pack is not stored again as metadata.
    assert_eq!(save(&store, PackKind::Meta, &all[..5]).unwrap().new_chunks, 0);
    assert_eq!(store.totals().chunks_count, 30);
}

#[test]
fn opening_reads_no_pack_when_the_index_is_complete() {
    let counts: Vec<Vec<String>> = [10, 2000]
        .map(|count| {
            let (faulty, store) = counted();
            save_both(&store, &[(PackKind::Data, &chunks(4, count)[..]), (PackKind::Meta, &chunks(5, 5)[..])]).unwrap();
            faulty.reset();
            let (_, report) = ChunkStore::open(Arc::new(faulty.clone()), options()).unwrap();
            assert_eq!(report.indexed_packs, 0);
            faulty
                .operations()
                .iter()
                .map(|operation| format!("{} {}", operation.name, &operation.key[..operation.key.len().min(5)]))
                .collect()
        })
        .into();
    assert_eq!(counts[0], ["map gc/qu", "list index", "map index", "list data", "list meta"]);
    assert_eq!(counts[0], counts[1], "the work does not depend on how much is stored");
}

#[test]
fn a_frame_is_read_once_for_all_its_chunks() {
    let (faulty, store) = counted();
    let all = chunks(6, 40);
    save(&store, PackKind::Data, &all).unwrap();
    let frames = store.view().locate(&ChunkId::of(&all[0])).count();
    assert_eq!(frames, 1);
    faulty.reset();
    assert_all(&store, &all, "read");
    let plain: usize = all.iter().map(Vec::len).sum();
    assert!(faulty.count() <= plain / (40 << 10) + 1, "{} reads for {plain} bytes in frames of 64 KiB", faulty.count());
    assert_eq!(faulty.count_of("read_at"), faulty.count());
}

#[test]
fn long_sessions_publish_packs_as_they_go_and_each_pack_is_indexed() {
    let (faulty, store) = counted();
    let all: Vec<Vec<u8>> = (0..40).map(|seed| noise::incompressible(seed, 1 << 20)).collect();
    let stats = save(&store, PackKind::Data, &all).unwrap();
    assert_eq!(stats.packs_count, 3);
    assert_eq!(faulty.published("data").len(), 3);
    let index = faulty.operations().iter().position(|operation| operation.name == "publish" && operation.key.starts_with("index/"));
    let last_pack = faulty.operations().iter().rposition(|operation| operation.name == "publish" && operation.key.starts_with("data/"));
    assert!(last_pack < index, "packs are published before the index that names them");
    let (again, report) = ChunkStore::open(Arc::new(faulty), options()).unwrap();
    assert_eq!(report.indexed_packs, 0);
    assert_all(&again, &all, "after a reopening");
}

#[test]
fn nothing_of_a_session_is_visible_before_it_finishes() {
    let (faulty, store) = counted();
    let all = chunks(7, 50);
    let writer = store.writer().unwrap();
    let mut out = writer.chunks(PackKind::Data).unwrap();
    for chunk in &all {
        out.put(chunk).unwrap();
    }
    out.finish().unwrap();
    assert!(!store.contains(&ChunkId::of(&all[0])));
    drop(writer);
    for dir in DIRS {
        assert_eq!(keys(&faulty, dir), [""; 0], "an abandoned session leaves nothing in {dir}");
    }
    save(&store, PackKind::Data, &all).unwrap();
    assert_all(&store, &all, "after the second session");
}

#[test]
fn a_writer_dropped_with_chunks_in_hand_fails_the_session() {
    let (faulty, store) = counted();
    let writer = store.writer().unwrap();
    let mut out = writer.chunks(PackKind::Data).unwrap();
    out.put(b"claimed and then forgotten").unwrap();
    drop(out);
    let mut other = writer.chunks(PackKind::Data).unwrap();
    assert_eq!(other.put(b"claimed and then forgotten").unwrap_err().kind(), ErrorKind::Interrupted);
    assert_eq!(other.finish().unwrap_err().kind(), ErrorKind::Interrupted);
    assert_eq!(writer.finish().unwrap_err().kind(), ErrorKind::Interrupted);
    assert_eq!(keys(&faulty, "data"), [""; 0]);
}

#[test]
fn sessions_side_by_side_in_one_process_lose_nothing() {
    for round in 0..20 {
        let (_, store) = counted();
        let saved: Vec<Vec<Vec<u8>>> = std::thread::scope(|scope| {
            let sessions: Vec<_> = (0..4)
                .map(|session| {
                    let store = &store;
                    scope.spawn(move || {
                        let all = chunks(round * 10 + session, 5);
                        save(store, PackKind::Data, &all).unwrap();
                        // The index is looked at anew beside the others, as a reader does that misses a chunk.
                        store.reload(false).unwrap();
                        all
                    })
                })
                .collect();
            sessions.into_iter().map(|session| session.join().unwrap()).collect()
        });
        let view = store.view();
        for chunk in saved.iter().flatten() {
            assert!(view.contains(&ChunkId::of(chunk)), "round {round}: a finished session's chunk is not in the index");
        }
        assert_all(&store, &saved.concat(), "side by side");
    }
}

#[test]
fn a_session_that_ends_while_another_writes_its_index_is_not_forgotten() {
    let done = Arc::new((Mutex::new(false), Condvar::new()));
    let (started, start) = std::sync::mpsc::channel();
    let waiting = Arc::clone(&done);
    // The first segment waits for the other session to end, or for a while: they may well exclude each other.
    let first = Mutex::new(Some(started));
    let faulty = FaultyBackend::observed(memory(), move |operation| {
        if operation.name == "publish"
            && operation.key.starts_with("index/")
            && let Some(started) = first.lock().unwrap().take()
        {
            started.send(()).unwrap();
            drop(waiting.1.wait_timeout_while(waiting.0.lock().unwrap(), Duration::from_millis(300), |done| !*done).unwrap());
        }
    });
    let (store, _) = ChunkStore::open(Arc::new(faulty), options()).unwrap();
    let (slow, quick) = (chunks(1, 5), chunks(2, 100));
    std::thread::scope(|scope| {
        scope.spawn(|| save(&store, PackKind::Data, &slow).unwrap());
        start.recv_timeout(Duration::from_secs(60)).expect("a session writes an index segment");
        save(&store, PackKind::Data, &quick).unwrap();
        *done.0.lock().unwrap() = true;
        done.1.notify_all();
    });
    let view = store.view();
    for chunk in slow.iter().chain(&quick) {
        assert!(view.contains(&ChunkId::of(chunk)), "a finished session's chunk is not in the index");
    }
}

#[test]
fn two_stores_that_save_the_same_at_once_agree() {
    let backend = memory();
    let all = chunks(8, 100);
    let stores: Vec<ChunkStore> = (0..2).map(|_| ChunkStore::open(Arc::clone(&backend), options()).unwrap().0).collect();
    std::thread::scope(|scope| {
        for store in &stores {
            scope.spawn(|| save(store, PackKind::Data, &all).unwrap());
        }
    });
    assert_eq!(keys(backend.as_ref(), "data").len(), 1, "the same bytes have the same name");
    for store in &stores {
        assert_all(store, &all, "both");
    }
    let (third, report) = ChunkStore::open(Arc::clone(&backend), options()).unwrap();
    assert!(report.indexed_packs == 0 && report.missing_packs.is_empty());
    assert_all(&third, &all, "a third");
}

#[test]
fn a_reader_sees_what_another_process_saved_meanwhile() {
    let backend = memory();
    let (reader, _) = ChunkStore::open(Arc::clone(&backend), options()).unwrap();
    let (writer, _) = ChunkStore::open(Arc::clone(&backend), options()).unwrap();
    let all = chunks(9, 10);
    save(&writer, PackKind::Data, &all).unwrap();
    assert_all(&reader, &all, "the reader was open before");
    assert_eq!(reader.get(&ChunkId::of(b"nobody saved this")).map(|_| ()).unwrap_err().kind(), ErrorKind::NotFound);
}

#[test]
fn a_dry_run_changes_nothing_and_counts_the_same() {
    let (faulty, store) = counted();
    save(&store, PackKind::Data, &chunks(10, 20)).unwrap();
    let before: Vec<Vec<String>> = DIRS.iter().map(|dir| keys(&faulty, dir)).collect();
    let (dry, _) = ChunkStore::open(Arc::new(DiscardBackend::new(Arc::new(faulty.clone()))), options()).unwrap();
    let more: Vec<Vec<u8>> = chunks(10, 20).into_iter().chain(chunks(11, 20)).collect();
    let told = save(&dry, PackKind::Data, &more).unwrap();
    assert_eq!(DIRS.iter().map(|dir| keys(&faulty, dir)).collect::<Vec<_>>(), before);
    assert_eq!(told, save(&store, PackKind::Data, &more).unwrap());
}

#[test]
fn options_outside_their_limits_are_refused() {
    for frame_len in [0, (64 << 10) - 1, (8 << 20) + 1, usize::MAX] {
        let result = ChunkStore::open(memory(), StoreOptions { frame_len, ..options() });
        assert_eq!(result.err().map(|error| error.kind()), Some(ErrorKind::InvalidInput), "{frame_len}");
    }
    for level in [i32::MIN, 0, 20, i32::MAX] {
        let (store, _) = ChunkStore::open(memory(), StoreOptions { level, ..options() }).unwrap();
        let writer = store.writer().unwrap();
        assert_eq!(writer.chunks(PackKind::Data).err().map(|error| error.kind()), Some(ErrorKind::InvalidInput), "{level}");
    }
}
