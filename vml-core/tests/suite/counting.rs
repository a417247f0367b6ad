//! Counts what is read and written: what did not change costs nothing.

use crate::support::{OPTIONS, able, build_new, config, let_files_age, memory, save, subdir, temp};
use std::sync::Arc;
use vml_core::monitor::NoMonitor;
use vml_core::refs::RefKind;
use vml_core::tree::ListingReader;
use vml_core::tree::NodeKind;
use vml_core::{Backend, Repository};
use vml_testkit::faulty::FaultyBackend;
use vml_testkit::noise::{Rng, incompressible};
use vml_testkit::trees::make_tree;

fn counted() -> (FaultyBackend, Repository) {
    let counter = FaultyBackend::new(memory());
    let backend: Arc<dyn Backend> = Arc::new(counter.clone());
    (counter, Repository::init(backend, config(), OPTIONS).unwrap())
}

fn reopened(counter: &FaultyBackend) -> Repository {
    Repository::open(Arc::new(counter.clone()), OPTIONS).unwrap()
}

#[test]
fn a_second_save_of_an_unchanged_tree_reads_no_file_and_writes_no_pack_and_no_segment() {
    let dir = temp();
    let tree = subdir(&dir, "tree");
    make_tree(&tree, &mut Rng::new(5), 120, able());
    let_files_age();
    let (counter, repository) = counted();
    let first = save(&repository, "work", &tree);
    assert!(first.entry.tree().unwrap().stats.read_files_count > 0);
    for repository in [repository, reopened(&counter)] {
        counter.reset();
        let second = save(&repository, "work", &tree);
        let stats = second.entry.tree().unwrap().stats;
        assert_eq!((stats.read_files_count, stats.read_bytes), (0, 0));
        assert_eq!(stats.files_count, first.entry.tree().unwrap().stats.files_count);
        assert_eq!((second.stats.new_chunks, second.stats.packs_count, second.stats.stored_bytes), (0, 0, 0));
        for dir in ["data", "meta", "index"] {
            assert_eq!(counter.published(dir), [""; 0]);
        }
        assert_eq!(counter.published("entries").len(), 1);
        let of_data =
            counter.operations().iter().filter(|operation| operation.name == "read_at" && operation.key.starts_with("data/")).count();
        assert_eq!(of_data, 0, "file content is not looked at");
    }
}

#[test]
fn one_changed_file_among_many_is_the_only_one_read() {
    let dir = temp();
    let tree = subdir(&dir, "tree");
    for number in 0..200 {
        std::fs::write(tree.join(format!("{number}")), incompressible(number, 3000)).unwrap();
    }
    let_files_age();
    let (counter, repository) = counted();
    save(&repository, "work", &tree);
    std::fs::write(tree.join("77"), b"short").unwrap();
    counter.reset();
    let saved = save(&repository, "work", &tree);
    let stats = saved.entry.tree().unwrap().stats;
    assert_eq!((stats.files_count, stats.read_files_count, stats.read_bytes), (200, 1, 5));
    assert_eq!(counter.published("data"), [""; 0], "it stands in its node");
    assert_eq!(counter.published("meta").len(), 1);
    crate::support::assert_equal(&tree, build_new(&repository, &saved.id).path());
}

#[test]
fn a_file_changed_within_a_clocks_tick_of_the_save_is_read_again() {
    let dir = temp();
    let tree = subdir(&dir, "tree");
    std::fs::write(tree.join("young"), b"as long as").unwrap();
    let (_, repository) = counted();
    let first = save(&repository, "work", &tree);
    let second = save(&repository, "work", &tree);
    assert_eq!(first.entry.tree().unwrap().stats.read_files_count, 1);
    assert_eq!(second.entry.tree().unwrap().stats.read_files_count, 1, "it could have changed unnoticed");
}

#[test]
fn the_log_and_the_refs_are_read_without_the_index() {
    let dir = temp();
    let tree = subdir(&dir, "tree");
    make_tree(&tree, &mut Rng::new(6), 30, able());
    let (counter, repository) = counted();
    let id = save(&repository, "work", &tree).id;
    counter.reset();
    let repository = reopened(&counter);
    assert_eq!(repository.entry_ids().unwrap(), [id]);
    assert_eq!(repository.resolve("work@latest").unwrap(), id);
    assert_eq!(repository.resolve(&id.short()).unwrap(), id);
    assert_eq!(repository.refs().list(RefKind::Area).unwrap().len(), 1);
    assert!(repository.entry(&id).unwrap().tree().unwrap().stats.files_count > 0);
    assert!(repository.notes(&NoMonitor).unwrap().is_empty());
    for operation in counter.operations() {
        let of_store = ["index", "data", "meta"].iter().any(|dir| operation.key.starts_with(dir));
        assert!(!of_store, "{operation}: not for a log");
    }
}

#[test]
fn listing_a_directory_reads_no_file_content() {
    let dir = temp();
    let tree = subdir(&dir, "tree");
    std::fs::write(tree.join("large"), incompressible(1, 300_000)).unwrap();
    let (counter, repository) = counted();
    let saved = save(&repository, "work", &tree);
    let repository = reopened(&counter);
    let store = repository.store(&NoMonitor).unwrap();
    counter.reset();
    let NodeKind::Directory(listing) = &saved.entry.tree().unwrap().root.kind else { panic!("a root is a directory") };
    let names: Vec<Vec<u8>> = ListingReader::new(store, listing).map(|node| node.unwrap().name).collect();
    assert_eq!(names, [b"large".to_vec()]);
    assert!(counter.operations().iter().all(|operation| operation.key.starts_with("meta/")), "{:?}", counter.operations());
}
