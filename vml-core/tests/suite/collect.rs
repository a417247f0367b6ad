//! Collections: what is needed stays whatever happens, what is not goes.

use crate::support::{
    DIRS, OPTIONS, assert_equal, assert_whole, build_new, copy_of, init, let_files_age, memory, open, save, subdir, temp, try_save,
};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use tempfile::TempDir;
use vml_core::monitor::NoMonitor;
use vml_core::repository::{CollectOptions, Collected};
use vml_core::{Backend, EntryId, ErrorKind, Repository, RepositoryOptions};
use vml_testkit::faulty::{Effect, FaultyBackend, Repeat};
use vml_testkit::noise::incompressible;

pub const REAL: CollectOptions = CollectOptions { dry_run: false, repack_max: None };

pub fn opened(backend: Arc<dyn Backend>) -> vml_core::Result<Repository> {
    Repository::open(backend, RepositoryOptions { threads: 1, ..OPTIONS })
}

pub fn collect(backend: &Arc<dyn Backend>) -> Collected {
    open(backend).collect(REAL, &NoMonitor).unwrap()
}

fn bytes_of_packs(backend: &dyn Backend) -> u64 {
    ["data", "meta"].iter().flat_map(|dir| backend.list(dir).unwrap()).map(|listed| listed.len).sum()
}

/// Three trees: the second keeps a quarter of the first, the third what the second added.
pub struct Trees {
    pub paths: Vec<PathBuf>,
    _dir: TempDir,
}

impl Trees {
    pub fn new() -> Self {
        let dir = temp();
        let contents: [&[(&str, u64, usize)]; 3] = [
            &[("a", 1, 150_000), ("b", 2, 60_000), ("sub/x", 3, 40_000)],
            &[("b", 2, 60_000), ("c", 4, 90_000), ("sub/y", 5, 700)],
            &[("c", 4, 90_000), ("d", 6, 5_000), ("sub/deep/z", 7, 30_000)],
        ];
        let mut paths = Vec::new();
        for (number, files) in contents.into_iter().enumerate() {
            let tree = subdir(&dir, &number.to_string());
            for (name, seed, len) in files {
                let path = tree.join(name);
                std::fs::create_dir_all(path.parent().unwrap()).unwrap();
                std::fs::write(path, incompressible(*seed, *len)).unwrap();
            }
            paths.push(tree);
        }
        let_files_age();
        Self { paths, _dir: dir }
    }
}

/// A repository of all three, each in its own area, of which the first is forgotten.
fn forgotten_first(trees: &Trees) -> (Arc<dyn Backend>, Vec<EntryId>) {
    let files = memory();
    let repository = init(&files);
    let ids: Vec<EntryId> = trees.paths.iter().enumerate().map(|(i, tree)| save(&repository, &format!("area{i}"), tree).id).collect();
    repository.forget(&ids[..1], false, &NoMonitor).unwrap();
    (files, ids)
}

fn assert_kept(files: &Arc<dyn Backend>, kept: &[(EntryId, &Path)], what: &str) {
    let repository = open(files);
    for (id, tree) in kept {
        assert!(repository.entry(id).is_ok(), "{what}: an entry is gone");
        assert_equal(tree, build_new(&repository, id).path());
    }
    assert_whole(files);
}

#[test]
fn what_only_a_forgotten_entry_needed_is_freed_and_the_rest_stays() {
    let trees = Trees::new();
    let (files, ids) = forgotten_first(&trees);
    let before = bytes_of_packs(files.as_ref());
    let dry = open(&files).collect(CollectOptions { dry_run: true, ..REAL }, &NoMonitor).unwrap();
    assert_eq!(bytes_of_packs(files.as_ref()), before, "a dry run changes nothing");
    assert!(files.list("gc").unwrap().is_empty());
    let collected = collect(&files);
    assert_eq!(collected.plan, dry.plan);
    assert_eq!((collected.entries_count, collected.missing_chunks_count), (2, 0));
    assert!(!collected.plan.repack.is_empty(), "b is copied out: {:?}", collected.plan);
    let after = bytes_of_packs(files.as_ref());
    assert!(before - after > 180_000 && after < 200_000, "{before} {after}");
    assert_kept(&files, &[(ids[1], &trees.paths[1]), (ids[2], &trees.paths[2])], "after");
    let again = collect(&files);
    assert_eq!((again.swept.deleted_packs_count, again.plan.repack.len()), (0, 0), "nothing is left to do");
    // What was freed can be saved again, also when its packs would get the names they had.
    let repository = open(&files);
    let id = save(&repository, "area0", &trees.paths[0]).id;
    assert_kept(&files, &[(id, &trees.paths[0]), (ids[1], &trees.paths[1])], "saved again");
}

#[test]
fn a_limit_on_copies_is_kept_and_packs_without_a_live_chunk_go_all_the_same() {
    let trees = Trees::new();
    let (files, ids) = forgotten_first(&trees);
    let collected = open(&files).collect(CollectOptions { repack_max: Some(0), ..REAL }, &NoMonitor).unwrap();
    assert_eq!((collected.plan.repack.len(), collected.swept.copied_chunks_count), (0, 0));
    assert!(collected.swept.deleted_packs_count > 0, "the listings of the first");
    assert_kept(&files, &[(ids[1], &trees.paths[1])], "after");
}

#[test]
fn killed_between_any_two_steps_it_loses_nothing_and_the_next_one_ends_it() {
    let trees = Trees::new();
    let (base, ids) = forgotten_first(&trees);
    let kept = [(ids[1], trees.paths[1].as_path()), (ids[2], trees.paths[2].as_path())];
    for effect in [Effect::Nothing, Effect::Done] {
        let mut at = 0;
        loop {
            let what = format!("stopped at operation {at}, {effect:?}");
            let files = copy_of(base.as_ref());
            let faulty = FaultyBackend::new(Arc::clone(&files));
            faulty.fail_at(at, ErrorKind::Io, Repeat::Forever, effect);
            let result = opened(Arc::new(faulty.clone())).and_then(|repository| repository.collect(REAL, &NoMonitor));
            if faulty.fired() == 0 {
                assert!(result.is_ok() && at > 40, "{what}: {result:?}");
                break;
            }
            assert_kept(&files, &kept, &what);
            // Half of the states are gone on from by a save first, half by a collection.
            let again = if at % 2 == 0 {
                let id = save(&open(&files), "area0", &trees.paths[0]).id;
                collect(&files);
                id
            } else {
                collect(&files);
                save(&open(&files), "area0", &trees.paths[0]).id
            };
            assert_kept(&files, &[kept[0], kept[1], (again, &trees.paths[0])], &what);
            let left = collect(&files);
            assert_eq!(left.unfinished_packs_count, 0, "{what}");
            at += 1;
        }
        println!("stopped at {at} operations, {effect:?}");
    }
}

#[test]
fn a_save_stopped_at_any_operation_leaves_what_two_collections_clear_away() {
    let trees = Trees::new();
    let base = memory();
    let first = save(&init(&base), "work", &trees.paths[0]).id;
    for effect in [Effect::Nothing, Effect::Done] {
        for at in 0.. {
            let files = copy_of(base.as_ref());
            let faulty = FaultyBackend::new(Arc::clone(&files));
            faulty.fail_at(at, ErrorKind::Io, Repeat::Forever, effect);
            let result = opened(Arc::new(faulty.clone())).and_then(|repository| try_save(&repository, "work", &trees.paths[1], &NoMonitor));
            if faulty.fired() == 0 {
                assert!(result.is_ok());
                break;
            }
            for _ in 0..4 {
                collect(&files);
                assert_kept(&files, &[(first, &trees.paths[0])], &format!("stopped at {at}, {effect:?}"));
            }
            assert!(files.list("saving").unwrap().is_empty() && files.list("leases").unwrap().is_empty(), "stopped at {at}");
            // Either it became an entry, or nothing of it is left.
            let repository = open(&files);
            for id in repository.entry_ids().unwrap().into_iter().filter(|id| *id != first) {
                assert_equal(&trees.paths[1], build_new(&repository, &id).path());
            }
        }
    }
}

#[test]
fn a_chunk_that_is_a_listing_here_and_a_file_there_is_walked_as_both() {
    let dir = temp();
    let (tree, copy) = (subdir(&dir, "tree"), subdir(&dir, "copy"));
    for number in 0..40 {
        std::fs::write(tree.join(format!("{number:02}")), incompressible(number, 3000)).unwrap();
    }
    let_files_age();
    let files = memory();
    let repository = init(&files);
    let saved = save(&repository, "tree", &tree);
    // The bytes of its listing, as a file of another entry that is walked first or last, by chance of its id.
    let store = repository.store(&NoMonitor).unwrap();
    let vml_core::tree::NodeKind::Directory(listing) = &saved.entry.tree().unwrap().root.kind else { panic!("a root is a directory") };
    let mut bytes = Vec::new();
    vml_core::recipe::read_stream(store, listing, &mut |part| {
        bytes.extend_from_slice(part);
        Ok(())
    })
    .unwrap();
    std::fs::write(copy.join("listing"), &bytes).unwrap();
    let_files_age();
    let mut kept = vec![(saved.id, tree.as_path())];
    for number in 0..6 {
        kept.push((save(&repository, &format!("copy{number}"), &copy).id, copy.as_path()));
    }
    collect(&files);
    assert_kept(&files, &kept, "after");
}

#[test]
fn an_entry_that_cannot_be_read_ends_it_before_anything_is_touched() {
    let trees = Trees::new();
    let (files, ids) = forgotten_first(&trees);
    let key = format!("entries/{}", ids[2]);
    let record = files.read(&key, 1 << 20).unwrap();
    files.delete(&key).unwrap();
    files.put(&key, &record[..record.len() - 1]).unwrap();
    let before: Vec<_> = DIRS.iter().flat_map(|dir| files.list(dir).unwrap()).collect();
    let error = open(&files).collect(REAL, &NoMonitor).map(|_| ()).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Corrupt);
    assert_eq!(DIRS.iter().flat_map(|dir| files.list(dir).unwrap()).collect::<Vec<_>>(), before);
    open(&files).forget(&ids[2..], false, &NoMonitor).unwrap();
    collect(&files);
    assert_kept(&files, &[(ids[1], &trees.paths[1])], "after");
}

#[test]
fn a_damaged_frame_keeps_its_pack_and_nothing_else() {
    let trees = Trees::new();
    let (files, ids) = forgotten_first(&trees);
    let plan = open(&files).collect(CollectOptions { dry_run: true, ..REAL }, &NoMonitor).unwrap().plan;
    for pack_use in &plan.repack {
        let key = pack_use.pack.kind.key(&pack_use.pack.id);
        let mut bytes = files.read(&key, u64::MAX).unwrap();
        // Wherever the frames are that are needed; the table behind them stays.
        for at in (300..bytes.len() - 8000).step_by(1000) {
            bytes[at] ^= 1;
        }
        files.delete(&key).unwrap();
        files.put(&key, &bytes).unwrap();
    }
    let monitor = vml_core::CollectMonitor::default();
    let collected = open(&files).collect(REAL, &monitor).unwrap();
    assert!(!collected.swept.damaged_packs.is_empty());
    assert_eq!(collected.swept.damaged_packs.len(), monitor.problems().len());
    for (key, _) in &collected.swept.damaged_packs {
        assert!(files.len(key).is_ok(), "{key} is gone");
    }
    assert_equal(&trees.paths[2], build_new(&open(&files), &ids[2]).path());
}
