//! The Nth operation of the backend fails, for every N until none is left: what was finished before stays whole, a
//! failed session stays failed, and the same can be done again.

use crate::support::{assert_all, chunks, copy_of, delete_index, keys, memory, open, options, overwrite, read, save, save_both};
use std::sync::Arc;
use vml_chunk::{Backend, ChunkId, ChunkStore, ErrorKind, PackKind, Result};
use vml_testkit::faulty::{Effect, FaultyBackend, Repeat};

/// A state to start from, and what a session adds.
struct Scenario {
    name: &'static str,
    base: Arc<dyn Backend>,
    finished: Vec<Vec<u8>>,
    data: Vec<Vec<u8>>,
    meta: Vec<Vec<u8>>,
}

impl Scenario {
    fn session(&self, store: &ChunkStore) -> Result<()> {
        save_both(store, &[(PackKind::Data, &self.data), (PackKind::Meta, &self.meta)]).map(|_| ())
    }

    /// Runs everything on a backend that fails at operation `at`; true while the fault was reached.
    fn run(&self, at: usize, kind: ErrorKind, repeat: Repeat, effect: Effect) -> bool {
        let what = format!("{}: operation {at} fails with {kind:?}, {repeat:?}, {effect:?}", self.name);
        let files = copy_of(self.base.as_ref());
        let faulty = FaultyBackend::new(Arc::clone(&files));
        faulty.fail_at(at, kind, repeat, effect);
        let result = ChunkStore::open(Arc::new(faulty.clone()), options()).map(|(store, _)| store).and_then(|store| {
            self.session(&store)?;
            // A reader on the faulty backend gets the right bytes or an error, and the store is none the worse for it.
            for chunk in self.finished.iter().chain(&self.data).step_by(7) {
                if let Ok(bytes) = store.get(&ChunkId::of(chunk)) {
                    assert!(bytes[..] == chunk[..], "{what}: wrong bytes");
                }
            }
            faulty.heal();
            assert_all(&store, &self.data, &what);
            Ok(())
        });
        if let Err(error) = &result {
            assert!(faulty.fired() > 0, "{what}: {error:?}");
            assert!(matches!(error.kind(), k if k == kind || k == ErrorKind::Interrupted), "{what}: {error:?}");
        }
        let fired = faulty.fired() > 0;
        let (store, _) = open(&files);
        assert_all(&store, &self.finished, &what);
        if result.is_ok() {
            assert_all(&store, &self.data, &what);
        }
        self.session(&store).unwrap_or_else(|error| panic!("{what}, and then again: {error:?}"));
        let (store, report) = open(&files);
        assert!(report.unreadable_packs.is_empty() && report.bad_segments.is_empty() && report.missing_packs.is_empty(), "{what}");
        for part in [&self.finished, &self.data, &self.meta] {
            assert_all(&store, part, &format!("{what}, and then again"));
        }
        fired
    }

    fn run_all(&self) {
        for kind in [ErrorKind::NoSpace, ErrorKind::Io] {
            for repeat in [Repeat::Once, Repeat::Forever] {
                for effect in [Effect::Nothing, Effect::Done] {
                    let count = (0..1000).take_while(|at| self.run(*at, kind, repeat, effect)).count();
                    assert!((10..1000).contains(&count), "{}: {count} operations", self.name);
                }
            }
        }
    }
}

/// Several sessions that did not merge, so that the next one does.
fn several_sessions() -> (Arc<dyn Backend>, Vec<Vec<u8>>) {
    let files = memory();
    let (store, _) = open(&files);
    let mut finished = Vec::new();
    for (seed, count) in [(1, 60), (2, 12), (3, 3)] {
        let more = chunks(seed, count);
        save(&store, PackKind::Data, &more).unwrap();
        finished.extend(more);
    }
    assert_eq!(keys(files.as_ref(), "index").len(), 3);
    (files, finished)
}

#[test]
fn a_fault_at_any_operation_loses_nothing_that_was_finished() {
    let (base, finished) = several_sessions();
    Scenario { name: "merging", base, finished, data: chunks(4, 40), meta: chunks(5, 4) }.run_all();
}

#[test]
fn a_fault_while_the_index_is_rebuilt_loses_nothing() {
    let (base, finished) = several_sessions();
    delete_index(base.as_ref());
    Scenario { name: "rebuilding", base, finished, data: chunks(4, 10), meta: chunks(5, 4) }.run_all();
}

#[test]
fn a_fault_while_a_damaged_segment_is_replaced_loses_nothing() {
    let (base, finished) = several_sessions();
    let key = &keys(base.as_ref(), "index")[0];
    let bytes = read(base.as_ref(), key);
    overwrite(base.as_ref(), key, &bytes[..bytes.len() - 1]);
    Scenario { name: "a cut segment", base, finished, data: chunks(4, 10), meta: chunks(5, 4) }.run_all();
}

#[test]
fn a_fault_while_a_pack_of_the_same_name_is_looked_at_loses_nothing() {
    // What another writer has just stored under the name that this session will use.
    let (base, finished) = several_sessions();
    let data = chunks(4, 20);
    let other = copy_of(base.as_ref());
    save(&open(&other).0, PackKind::Data, &data).unwrap();
    let new: Vec<String> = keys(other.as_ref(), "data").into_iter().filter(|key| !keys(base.as_ref(), "data").contains(key)).collect();
    assert_eq!(new.len(), 1);
    for at in 0..100 {
        let files = copy_of(base.as_ref());
        let faulty = FaultyBackend::new(Arc::clone(&files));
        let (store, _) = ChunkStore::open(Arc::new(faulty.clone()), options()).unwrap();
        // The other writer is faster, and finished.
        files.put(&new[0], &read(other.as_ref(), &new[0])).unwrap();
        faulty.reset();
        faulty.fail_at(at, ErrorKind::Io, if at % 2 == 0 { Repeat::Once } else { Repeat::Forever }, Effect::Nothing);
        _ = save(&store, PackKind::Data, &data);
        let done = faulty.fired() == 0;
        let deletes =
            faulty.operations().iter().filter(|operation| operation.name == "delete" && operation.key.starts_with("data/")).count();
        assert_eq!(deletes, 0, "operation {at} fails: what could not be read is not known to be bad");
        let (store, _) = open(&files);
        assert_all(&store, &finished, "what was there");
        assert_all(&store, &data, &format!("operation {at} fails: what the other writer stored"));
        if done {
            return;
        }
    }
    panic!("the session never came to its end");
}

#[test]
fn a_failed_session_stays_failed_and_its_cause_is_told_once() {
    let data = chunks(1, 60);
    let whole = FaultyBackend::new(memory());
    save(&ChunkStore::open(Arc::new(whole.clone()), options()).unwrap().0, PackKind::Data, &data).unwrap();
    for name in ["stage", "append", "publish"] {
        let at = whole.operations().iter().position(|operation| operation.name == name).unwrap();
        let faulty = FaultyBackend::new(memory());
        let (store, _) = ChunkStore::open(Arc::new(faulty.clone()), options()).unwrap();
        faulty.fail_at(at, ErrorKind::NoSpace, Repeat::Once, Effect::Nothing);
        let writer = store.writer().unwrap();
        let mut out = writer.chunks(PackKind::Data).unwrap();
        let failed = data.iter().find_map(|chunk| out.put(chunk).err());
        if let Some(error) = failed {
            assert_eq!(error.kind(), ErrorKind::NoSpace, "{name}");
            assert_eq!(out.put(&data[0]).unwrap_err().kind(), ErrorKind::Interrupted, "{name}: a known chunk");
            assert_eq!(out.put(b"something new").unwrap_err().kind(), ErrorKind::Interrupted, "{name}: a new chunk");
            assert_eq!(out.finish().unwrap_err().kind(), ErrorKind::Interrupted, "{name}");
            assert_eq!(writer.chunks(PackKind::Meta).unwrap().finish().unwrap_err().kind(), ErrorKind::Interrupted, "{name}");
            assert_eq!(writer.finish().unwrap_err().kind(), ErrorKind::Interrupted, "{name}");
        } else {
            out.finish().unwrap();
            assert_eq!(writer.finish().unwrap_err().kind(), ErrorKind::NoSpace, "{name}");
        }
        assert_eq!(faulty.fired(), 1, "{name}");
        save(&store, PackKind::Data, &data).unwrap();
        assert_all(&store, &data, "the next session");
    }
}

#[test]
fn a_repository_that_cannot_be_written_is_still_read_without_its_index() {
    let (files, finished) = several_sessions();
    delete_index(files.as_ref());
    let faulty = FaultyBackend::new(Arc::clone(&files));
    // the quarantine twice, what is damaged, list index, list data, list meta, settle both, then two reads and a length a pack; whatever is staged afterwards fails.
    let reads = 8 + 3 * keys(files.as_ref(), "data").len();
    faulty.fail_at(reads, ErrorKind::PermissionDenied, Repeat::Once, Effect::Nothing);
    let (store, report) = ChunkStore::open(Arc::new(faulty.clone()), options()).unwrap();
    assert_eq!((report.indexed_packs, faulty.fired()), (3, 1));
    assert_eq!(faulty.operations()[reads].name, "stage");
    assert_all(&store, &finished, "from an index in memory");
    assert_eq!(keys(files.as_ref(), "index"), [""; 0]);
}

#[test]
fn packs_whose_names_cannot_be_made_durable_are_indexed_in_memory_only() {
    let (files, finished) = several_sessions();
    delete_index(files.as_ref());
    let faulty = FaultyBackend::new(Arc::clone(&files));
    faulty.fail_at(5, ErrorKind::Io, Repeat::Once, Effect::Nothing);
    let (store, report) = ChunkStore::open(Arc::new(faulty.clone()), options()).unwrap();
    assert_eq!((faulty.operations()[5].name, report.indexed_packs), ("settle", 3));
    assert_all(&store, &finished, "from an index in memory");
    assert_eq!((faulty.count_of("stage"), keys(files.as_ref(), "index").len()), (0, 0), "a segment would outlive them");
}

#[test]
fn a_segment_that_cannot_be_opened_for_a_moment_is_not_deleted() {
    let (files, finished) = several_sessions();
    let before = keys(files.as_ref(), "index");
    for kind in [ErrorKind::Io, ErrorKind::PermissionDenied] {
        let faulty = FaultyBackend::new(Arc::clone(&files));
        faulty.fail_at(2, kind, Repeat::Once, Effect::Nothing);
        let error = ChunkStore::open(Arc::new(faulty.clone()), options()).map(|_| ()).unwrap_err();
        assert_eq!((faulty.operations()[2].name, error.kind()), ("map", kind));
        assert_eq!(keys(files.as_ref(), "index"), before, "{kind:?} says nothing about the segment's bytes");
    }
    assert_all(&open(&files).0, &finished, "afterwards");
}
