//! What is saved is what is built: generated trees of every kind, there and back, again and again.

use crate::support::{able, assert_equal, assert_whole, build_new, init, let_files_age, memory, open, save, subdir, temp};
use proptest::prelude::*;
use vml_core::monitor::NoMonitor;
use vml_core::repository::CompactOptions;
use vml_core::tree::Node;
use vml_core::{EntryId, Repository};
use vml_testkit::noise::Rng;
use vml_testkit::trees::{change_tree, look_at, make_tree, rsync_differences};

fn root_of(repository: &Repository, id: &EntryId) -> Node {
    repository.entry(id).unwrap().tree().unwrap().root.clone()
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 16, failure_persistence: None, max_shrink_iters: 40, ..ProptestConfig::default() })]

    #[test]
    fn a_built_tree_is_the_saved_one(seed: u64, count in 0_usize..90) {
        let dir = temp();
        let tree = subdir(&dir, "tree");
        make_tree(&tree, &mut Rng::new(seed), count, able());
        let backend = memory();
        let repository = init(&backend);
        let saved = save(&repository, "work", &tree);
        let built = build_new(&open(&backend), &saved.id);
        assert_equal(&tree, built.path());
        prop_assert!(look_at(&tree) == look_at(built.path()), "looked at without the library");
        if let Some(differences) = rsync_differences(&tree, built.path()) {
            prop_assert_eq!(differences, Vec::<String>::new());
        }
        // Nothing in a tree depends on the directory it was read from.
        let again = save(&repository, "elsewhere", built.path());
        prop_assert_eq!(root_of(&repository, &again.id), root_of(&repository, &saved.id));
        prop_assert_eq!(again.stats.packs_count, if again.stats.new_chunks == 0 { 0 } else { 1 }, "a new witness at most");
        assert_whole(&backend);
    }

    #[test]
    fn every_day_of_work_is_built_as_it_was(seed: u64, count in 1_usize..60, days in 1_usize..4, compacted_days in 0_u8..16) {
        let mut rng = Rng::new(seed);
        let dir = temp();
        let tree = subdir(&dir, "tree");
        make_tree(&tree, &mut rng, count, able());
        let backend = memory();
        let mut states = Vec::new();
        for day in 0..=days {
            let_files_age();
            let repository = open_or_init(&backend);
            let saved = save(&repository, "work", &tree);
            // As if nothing had been known of the tree before.
            let fresh = init(&memory());
            let full = save(&fresh, "work", &tree);
            prop_assert_eq!(root_of(&fresh, &full.id), root_of(&repository, &saved.id));
            let built = build_new(&repository, &saved.id);
            assert_equal(&tree, built.path());
            states.push((saved.id, look_at(&tree)));
            if compacted_days & (1 << day) != 0 {
                let options = CompactOptions { level: 3 + u8::try_from(day).unwrap(), ..CompactOptions::default() };
                repository.compact(options, &mut |_| {}, &NoMonitor).unwrap();
            }
            change_tree(&tree, &mut rng, 1 + count / 5, able());
        }
        let repository = open(&backend);
        for (id, seen) in &states {
            prop_assert!(look_at(build_new(&repository, id).path()) == *seen, "an earlier state is what it was");
        }
        assert_whole(&backend);
    }
}

fn open_or_init(backend: &std::sync::Arc<dyn vml_core::Backend>) -> Repository {
    if backend.len("config").is_ok() { open(backend) } else { init(backend) }
}

#[test]
fn a_large_directory_and_a_deep_one_are_built_as_they_were() {
    let dir = temp();
    let tree = subdir(&dir, "tree");
    for number in 0..3000 {
        std::fs::write(tree.join(format!("member {number}")), format!("{number}")).unwrap();
    }
    let mut deep = tree.clone();
    for _ in 0..400 {
        deep.push("down");
    }
    std::fs::create_dir_all(&deep).unwrap();
    std::fs::write(deep.join("at the bottom"), b"!").unwrap();
    let backend = memory();
    let repository = init(&backend);
    let saved = save(&repository, "work", &tree);
    assert_equal(&tree, build_new(&repository, &saved.id).path());
    let stats = saved.entry.tree().unwrap().stats;
    assert_eq!((stats.files_count, stats.directories_count, stats.others_count), (3001, 401, 0));
    assert_whole(&backend);
}

#[test]
fn sockets_are_left_out_and_named() {
    let dir = temp();
    let tree = subdir(&dir, "tree");
    let socket = std::os::unix::net::UnixListener::bind(tree.join("socket")).unwrap();
    let saved = save(&init(&memory()), "work", &tree);
    drop(socket);
    let left_out = &saved.entry.tree().unwrap().left_out;
    assert_eq!(left_out.len(), 1);
    assert_eq!((left_out[0].path.as_slice(), left_out[0].reason), (&b"socket"[..], vml_core::tree::LeftOutReason::Socket));
}

#[test]
fn holes_are_found_even_where_attributes_occupy_blocks_too() {
    use std::os::unix::fs::FileExt;
    let dir = temp();
    let tree = subdir(&dir, "tree");
    let path = tree.join("half a hole");
    let file = std::fs::File::create(&path).unwrap();
    file.write_all_at(&[1; 4096], 4096).unwrap();
    // More than fits into the inode: on ext4 it takes a block, and the file as many blocks as if it had no hole.
    if vml_testkit::trees::set_xattr(&path, "user.large", &[2; 2000]).is_err() {
        eprintln!("no user attributes here: the test has nothing to find");
    }
    drop(file);
    let repository = init(&memory());
    let saved = save(&repository, "work", &tree);
    assert_equal(&tree, build_new(&repository, &saved.id).path());
}
