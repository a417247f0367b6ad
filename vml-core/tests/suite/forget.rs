//! Forgetting: chains lead on, refs move, tags and bases hold what they name, and a run that is cut short can be done again.

use crate::support::{
    OPTIONS, assert_equal, assert_whole, build_new, copy_of, init, memory, open, problems_of_check, request, save, subdir, temp, try_save,
};
use std::fs;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use vml_core::entry::{BaseRef, EntryKind, Note};
use vml_core::monitor::NoMonitor;
use vml_core::refs::RefKind;
use vml_core::repository::{CollectOptions, SaveRequest};
use vml_core::tree::Exclude;
use vml_core::{Backend, EntryId, ErrorKind, Repository};
use vml_testkit::faulty::{Effect, FaultyBackend, Repeat};

/// Five entries of one area, the oldest first, the second with a note.
fn five() -> (Arc<dyn Backend>, Vec<EntryId>) {
    let dir = temp();
    let tree = subdir(&dir, "tree");
    let files = memory();
    let repository = init(&files);
    let ids: Vec<EntryId> = (0..5)
        .map(|number| {
            std::fs::write(tree.join("file"), format!("{number}")).unwrap();
            save(&repository, "work", &tree).id
        })
        .collect();
    let note = Note { entry: ids[1], time_ms: 1, author: "tester".to_owned(), text: "a remark".to_owned() };
    repository.add_note(&note).unwrap();
    (files, ids)
}

#[test]
fn the_chain_leads_over_what_was_forgotten() {
    let (files, ids) = five();
    let repository = open(&files);
    repository.forget(&[ids[1]], false, &NoMonitor).unwrap();
    repository.forget(&[ids[3], ids[2]], false, &NoMonitor).unwrap();
    assert_eq!(repository.resolve("work@latest").unwrap(), ids[4]);
    assert_eq!(repository.resolve("work@~1").unwrap(), ids[0]);
    assert_eq!(repository.resolve("work@~2").unwrap_err().kind(), ErrorKind::NotFound);
    assert!(repository.notes(&NoMonitor).unwrap().is_empty(), "its note went with it");
    assert!(repository.is_forgotten(&ids[1]).unwrap() && !repository.is_forgotten(&ids[0]).unwrap());
    assert_whole(&files);
    build_new(&repository, &ids[0]);
}

#[test]
fn the_areas_ref_moves_to_what_is_left_and_goes_with_the_last() {
    let (files, ids) = five();
    let repository = open(&files);
    repository.forget(&[ids[4], ids[3]], false, &NoMonitor).unwrap();
    assert_eq!(repository.resolve("work@latest").unwrap(), ids[2]);
    repository.forget(&ids[..3], false, &NoMonitor).unwrap();
    assert_eq!(repository.refs().get(RefKind::Area, "work").unwrap(), None);
    assert_eq!(repository.entry_ids().unwrap(), []);
    assert_whole(&files);
}

#[test]
fn tags_hold_until_they_are_forced_and_bases_always() {
    let (files, ids) = five();
    let repository = open(&files);
    repository.refs().set(RefKind::Tag, "stable", None, Some(ids[2])).unwrap();
    let error = repository.forget(&ids[..3], false, &NoMonitor).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::InvalidInput);
    assert_eq!(repository.entry_ids().unwrap().len(), 5, "nothing was done");
    repository.forget(&ids[..3], true, &NoMonitor).unwrap();
    assert_eq!(repository.refs().get(RefKind::Tag, "stable").unwrap(), None);

    let dir = temp();
    let tree = subdir(&dir, "tree");
    let exclude = Exclude::default();
    let kind = EntryKind::Base { name: "debian".to_owned(), version: "12".to_owned() };
    let base = repository.save(SaveRequest { kind, ..request("", &tree, &exclude) }, &NoMonitor).unwrap().id;
    let relation = Some(BaseRef { name: "debian".to_owned(), version: "12".to_owned(), entry: base });
    let upon = repository.save(SaveRequest { base: relation, ..request("upon", &tree, &exclude) }, &NoMonitor).unwrap().id;
    for force in [false, true] {
        assert_eq!(repository.forget(&[base], force, &NoMonitor).unwrap_err().kind(), ErrorKind::InvalidInput);
    }
    repository.refs().set(RefKind::Base, "debian@12", Some(base), None).unwrap();
    assert_eq!(repository.forget(&[base], true, &NoMonitor).unwrap_err().kind(), ErrorKind::InvalidInput, "an entry is relative to it");
    repository.forget(&[base, upon], false, &NoMonitor).unwrap();
    assert_eq!(repository.entry_ids().unwrap().len(), 2);
    assert_whole(&files);
}

#[test]
fn cut_short_at_any_operation_it_leaves_an_entry_or_none_and_can_be_done_again() {
    let (base, ids) = five();
    for effect in [Effect::Nothing, Effect::Done] {
        for at in 0.. {
            let files = copy_of(base.as_ref());
            let faulty = FaultyBackend::new(Arc::clone(&files));
            faulty.fail_at(at, ErrorKind::Io, Repeat::Forever, effect);
            let going = [ids[1], ids[2], ids[4]];
            let result =
                Repository::open(Arc::new(faulty.clone()), OPTIONS).and_then(|repository| repository.forget(&going, false, &NoMonitor));
            if faulty.fired() == 0 {
                assert!(result.is_ok() && at > 20);
                break;
            }
            assert_whole(&files);
            let repository = open(&files);
            for id in repository.entry_ids().unwrap() {
                assert!(repository.entry(&id).is_ok());
            }
            let left: Vec<EntryId> = going.into_iter().filter(|id| repository.entry(id).is_ok()).collect();
            repository.forget(&left, false, &NoMonitor).unwrap();
            assert_eq!(repository.resolve("work@latest").unwrap(), ids[3], "stopped at {at}, {effect:?}");
            assert_eq!(repository.resolve("work@~1").unwrap(), ids[0]);
            repository.collect(crate::collect::REAL, &NoMonitor).unwrap();
            assert!(repository.notes(&NoMonitor).unwrap().is_empty());
            assert_whole(&files);
        }
    }
}

/// A save that sleeps just before one of its last steps, while a collection publishes its entry for it, somebody forgets that, and collections take its chunks.
#[test]
fn an_entry_that_was_forgotten_is_not_brought_back_by_who_publishes_late() {
    for (name, dir) in [("map", "forgotten/"), ("publish", "entries/")] {
        let dir_of_test = temp();
        let tree = subdir(&dir_of_test, "tree");
        fs::write(tree.join("file"), vml_testkit::noise::incompressible(1, 100_000)).unwrap();
        let files = memory();
        init(&files);
        let (other, slept) = (Arc::clone(&files), AtomicBool::new(false));
        let sleepy = FaultyBackend::observed(Arc::clone(&files), move |operation| {
            let is_last_step = operation.name == name && operation.key.starts_with(dir) && !other.list("saving").unwrap().is_empty();
            if !is_last_step || slept.swap(true, Ordering::Relaxed) {
                return;
            }
            let collect = || open(&other).collect(CollectOptions::default(), &NoMonitor).unwrap();
            collect();
            let ids = open(&other).entry_ids().unwrap();
            assert_eq!(ids.len(), 1, "the collection published it");
            open(&other).forget(&ids, true, &NoMonitor).unwrap();
            assert!(collect().swept.deleted_packs_count > 0, "its chunks are gone");
        });
        let repository = Repository::open(Arc::new(sleepy.clone()), OPTIONS).unwrap();
        let saved = try_save(&repository, "work", &tree, &NoMonitor).unwrap();
        assert!(
            sleepy.operations().iter().filter(|operation| operation.name == "publish" && operation.key.starts_with("data/")).count() >= 2
        );
        assert_equal(&tree, build_new(&open(&files), &saved.id).path());
        assert_whole(&files);
        assert_eq!(open(&files).resolve("work@latest").unwrap(), saved.id);
    }
}

#[test]
fn a_file_of_a_forgotten_entry_that_comes_back_is_no_entry() {
    let dir = temp();
    let tree = subdir(&dir, "tree");
    fs::write(tree.join("file"), vml_testkit::noise::incompressible(1, 100_000)).unwrap();
    let files = memory();
    let repository = init(&files);
    let id = save(&repository, "work", &tree).id;
    let key = format!("entries/{id}");
    let record = files.read(&key, 1 << 20).unwrap();
    repository.forget(&[id], false, &NoMonitor).unwrap();
    // As a loss of power can bring it back.
    files.put(&key, &record).unwrap();
    open(&files).collect(CollectOptions::default(), &NoMonitor).unwrap();
    assert!(files.list("data").unwrap().is_empty(), "nothing is owed to it");
    assert_eq!(open(&files).entry_ids().unwrap(), []);
    assert!(open(&files).resolve(&id.to_string()).is_err());
    assert_whole(&files);
    // A ref to it is told of, and does not keep anybody from saving.
    open(&files).refs().set(RefKind::Area, "work", None, Some(id)).unwrap();
    assert_eq!(problems_of_check(&open(&files), false).len(), 1);
    let again = save(&open(&files), "work", &tree).id;
    assert_equal(&tree, build_new(&open(&files), &again).path());
    assert_whole(&files);
}
