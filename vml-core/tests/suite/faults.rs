//! Every operation of a save made to fail, once and from then on: what was saved before is unharmed, and the next save is whole.

use crate::support::{
    OPTIONS, assert_equal, assert_whole, build_new, copy_of, init, let_files_age, memory, open, request, save, subdir, temp,
};
use std::fs;
use std::sync::Arc;
use vml_core::entry::EntryKind;
use vml_core::monitor::NoMonitor;
use vml_core::refs::RefKind;
use vml_core::repository::SaveRequest;
use vml_core::tree::Exclude;
use vml_core::{Backend, EntryId, ErrorKind, Repository, RepositoryOptions};
use vml_testkit::faulty::{Effect, FaultyBackend, Repeat};
use vml_testkit::noise::{incompressible, text};
use vml_testkit::trees::look_at;

/// One thread, so that operations come in a fixed order.
fn opened(faulty: &FaultyBackend) -> vml_core::Result<Repository> {
    Repository::open(Arc::new(faulty.clone()), RepositoryOptions { threads: 1, ..OPTIONS })
}

#[test]
fn a_fault_at_any_operation_of_a_save_loses_no_entry() {
    let dir = temp();
    let tree = subdir(&dir, "tree");
    for number in 0..6 {
        fs::write(tree.join(format!("{number}")), text(number, 3000)).unwrap();
    }
    let_files_age();
    let base = memory();
    let before = save(&init(&base), "work", &tree).id;
    let seen = look_at(&tree);
    fs::write(tree.join("3"), incompressible(9, 200_000)).unwrap();
    fs::write(tree.join("new"), incompressible(10, 100)).unwrap();
    let tags = ["tagged".to_owned()];
    let exclude = Exclude::default();
    let save_once = |repository: &Repository| repository.save(SaveRequest { tags: &tags, ..request("work", &tree, &exclude) }, &NoMonitor);
    for repeat in [Repeat::Once, Repeat::Forever] {
        for effect in [Effect::Nothing, Effect::Done] {
            let mut at = 0;
            loop {
                let what = format!("operation {at} fails, {repeat:?}, {effect:?}");
                let files = copy_of(base.as_ref());
                let faulty = FaultyBackend::new(Arc::clone(&files));
                faulty.fail_at(at, ErrorKind::NoSpace, repeat, effect);
                let result = opened(&faulty).and_then(|repository| save_once(&repository));
                if faulty.fired() == 0 {
                    assert!(result.is_ok() && at > 20, "{what}: {result:?}");
                    break;
                }
                if let Err(error) = &result {
                    assert_eq!(error.kind(), ErrorKind::NoSpace, "{what}: {error:?}");
                }
                faulty.heal();
                assert_recovers(&files, before, &seen, &tree, &what);
                at += 1;
            }
        }
    }
}

fn assert_recovers(
    files: &Arc<dyn Backend>,
    before: EntryId,
    seen: &std::collections::BTreeMap<std::path::PathBuf, vml_testkit::trees::Seen>,
    tree: &std::path::Path,
    what: &str,
) {
    let repository = open(files);
    assert!(look_at(build_new(&repository, &before).path()) == *seen, "{what}: an earlier entry");
    let next = save(&repository, "work", tree);
    assert_equal(tree, build_new(&repository, &next.id).path());
    assert_eq!(repository.resolve("work@latest").unwrap(), next.id, "{what}");
    // What the failed save left behind is an entry of its own, or nothing.
    assert!(repository.entry_ids().unwrap().len() <= 3, "{what}");
    assert_whole(files);
}

#[test]
fn a_fault_at_any_operation_of_init_leaves_a_repository_or_none() {
    for at in 0..20 {
        for effect in [Effect::Nothing, Effect::Done] {
            let files = memory();
            let faulty = FaultyBackend::new(Arc::clone(&files));
            faulty.fail_at(at, ErrorKind::NoSpace, Repeat::Once, effect);
            let result = Repository::init(Arc::new(faulty.clone()), crate::support::config(), OPTIONS);
            if faulty.fired() == 0 {
                assert!(result.is_ok());
                return;
            }
            assert_eq!(result.map(|_| ()).unwrap_err().kind(), ErrorKind::NoSpace);
            match Repository::open(Arc::clone(&files), OPTIONS) {
                Ok(repository) => assert_eq!(repository.entry_ids().unwrap(), []),
                Err(error) => {
                    assert_eq!(error.kind(), ErrorKind::NotFound);
                    init(&files);
                }
            }
        }
    }
    panic!("init never came to its end");
}

#[test]
fn somebody_else_saving_the_same_area_meanwhile_is_told_and_neither_entry_is_lost() {
    let dir = temp();
    let trees = [subdir(&dir, "a"), subdir(&dir, "b")];
    for tree in &trees {
        fs::write(tree.join("file"), tree.to_str().unwrap()).unwrap();
    }
    let files = memory();
    init(&files);
    let (other, theirs) = (Arc::clone(&files), trees[1].clone());
    let done = std::sync::atomic::AtomicBool::new(false);
    // The other one is faster by a whole save: it begins when this one is about to publish its entry.
    let racing = FaultyBackend::observed(Arc::clone(&files), move |operation| {
        if operation.name == "publish" && operation.key.starts_with("entries/") && !done.swap(true, std::sync::atomic::Ordering::Relaxed) {
            save(&open(&other), "work", &theirs);
        }
    });
    let error = opened(&racing).unwrap().save(request("work", &trees[0], &Exclude::default()), &NoMonitor).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Locked, "{error:?}");
    let repository = open(&files);
    assert_eq!(repository.entry_ids().unwrap().len(), 2, "what was saved stays, by its id");
    let latest = repository.resolve("work@latest").unwrap();
    assert_equal(&trees[1], build_new(&repository, &latest).path());
    assert_whole(&files);
}

#[test]
fn a_base_is_made_once_and_a_tag_is_given_once() {
    let dir = temp();
    let tree = subdir(&dir, "tree");
    let repository = init(&memory());
    let exclude = Exclude::default();
    let base =
        || SaveRequest { kind: EntryKind::Base { name: "debian".to_owned(), version: "12".to_owned() }, ..request("", &tree, &exclude) };
    let first = repository.save(base(), &NoMonitor).unwrap();
    assert_eq!(repository.save(base(), &NoMonitor).unwrap_err().kind(), ErrorKind::AlreadyExists);
    let tags = ["one".to_owned()];
    repository.save(SaveRequest { tags: &tags, ..request("work", &tree, &exclude) }, &NoMonitor).unwrap();
    let again = repository.save(SaveRequest { tags: &tags, ..request("work", &tree, &exclude) }, &NoMonitor).unwrap_err();
    assert_eq!(again.kind(), ErrorKind::AlreadyExists);
    let doubled = ["two".to_owned(), "two".to_owned()];
    let error = repository.save(SaveRequest { tags: &doubled, ..request("work", &tree, &exclude) }, &NoMonitor).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::AlreadyExists);
    assert_eq!(repository.entry_ids().unwrap().len(), 2, "a refused save saves nothing");
    assert_eq!(repository.refs().get(RefKind::Base, "debian@12").unwrap(), Some(first.id));
}
