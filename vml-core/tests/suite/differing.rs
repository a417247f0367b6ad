//! Comparing two states: every kind of change is found, and what is equal is not looked at.

use crate::support::{able, build_new, init, is_root, let_files_age, memory, save, subdir, temp};
use std::collections::BTreeMap;
use std::fs::{self, Permissions};
use std::os::unix::fs::{PermissionsExt, lchown, symlink};
use std::path::Path;
use std::sync::atomic::{AtomicUsize, Ordering};
use vml_chunk::{Chunk, ChunkId, ChunkStore};
use vml_core::monitor::NoMonitor;
use vml_core::recipe::GetChunk;
use vml_core::tree::{Change, ChangeKind, Node, diff_trees};
use vml_core::{EntryId, Repository, Result};
use vml_testkit::noise::Rng;
use vml_testkit::trees::{change_tree, look_at, make_tree, set_mtime, set_xattr};

/// Counts what is asked for.
struct Counted<'a> {
    store: &'a ChunkStore,
    count: AtomicUsize,
}

impl GetChunk for Counted<'_> {
    fn get_chunk(&self, id: &ChunkId) -> Result<Chunk> {
        self.count.fetch_add(1, Ordering::Relaxed);
        self.store.get(id)
    }
}

fn root(repository: &Repository, id: &EntryId) -> Node {
    repository.entry(id).unwrap().tree().unwrap().root.clone()
}

/// The changes between two entries, and how many chunks were read for them.
fn diff(repository: &Repository, old: &EntryId, new: &EntryId) -> (Vec<Change>, usize) {
    let store = Counted { store: repository.store(&NoMonitor).unwrap(), count: AtomicUsize::new(0) };
    let mut changes = Vec::new();
    let result = diff_trees(&store, &root(repository, old), &root(repository, new), b"", &mut |change| {
        changes.push(change);
        true
    });
    result.unwrap();
    (changes, store.count.load(Ordering::Relaxed))
}

/// One letter for what is different.
fn letters(kind: ChangeKind) -> String {
    match kind {
        ChangeKind::Added => "+".to_owned(),
        ChangeKind::Removed => "-".to_owned(),
        ChangeKind::Modified { kind, content, mode, owner, time, xattrs, links } => {
            let all = [(kind, 'k'), (content, 'c'), (mode, 'm'), (owner, 'o'), (time, 't'), (xattrs, 'x'), (links, 'l')];
            all.iter().filter(|(differs, _)| *differs).map(|(_, letter)| *letter).collect()
        }
    }
}

#[test]
fn every_kind_of_change_is_found_and_named() {
    let dir = temp();
    let tree = subdir(&dir, "tree");
    let names = ["bytes", "chmod", "chown", "kind", "link", "linked", "other", "same", "touched", "xattr"];
    for name in names {
        fs::write(tree.join(name), name).unwrap();
    }
    symlink("here", tree.join("symlink")).unwrap();
    for path in ["gone", "gone/inside", "directory"] {
        fs::create_dir(tree.join(path)).unwrap();
    }
    let freeze = |tree: &Path| {
        for path in vml_testkit::trees::walk(tree).iter().rev().chain([&tree.to_path_buf()]) {
            set_mtime(path, 1_000_000_000, 0).unwrap();
        }
    };
    freeze(&tree);
    let repository = init(&memory());
    let old = save(&repository, "work", &tree).id;
    fs::write(tree.join("bytes"), "other").unwrap();
    fs::set_permissions(tree.join("chmod"), Permissions::from_mode(0o4600)).unwrap();
    fs::remove_file(tree.join("kind")).unwrap();
    fs::create_dir(tree.join("kind")).unwrap();
    fs::write(tree.join("kind/new"), b"n").unwrap();
    fs::hard_link(tree.join("link"), tree.join("link2")).unwrap();
    fs::remove_dir_all(tree.join("gone")).unwrap();
    fs::remove_file(tree.join("symlink")).unwrap();
    symlink("there", tree.join("symlink")).unwrap();
    fs::set_permissions(tree.join("directory"), Permissions::from_mode(0o700)).unwrap();
    let mut expected = BTreeMap::from(
        [("bytes", "c"), ("chmod", "m"), ("kind", "km"), ("kind/new", "+"), ("link", "l"), ("link2", "+"), ("touched", "t")]
            .map(|(name, letters)| (name.to_owned(), letters.to_owned())),
    );
    for (name, letters) in [("gone", "-"), ("gone/inside", "-"), ("symlink", "c"), ("directory", "m")] {
        expected.insert(name.to_owned(), letters.to_owned());
    }
    if is_root() {
        lchown(tree.join("chown"), Some(5), Some(6)).unwrap();
        expected.insert("chown".to_owned(), "o".to_owned());
    }
    if able().user_xattrs {
        set_xattr(&tree.join("xattr"), "user.new", b"1").unwrap();
        expected.insert("xattr".to_owned(), "x".to_owned());
    }
    freeze(&tree);
    set_mtime(&tree.join("touched"), 1_000_000_000, 1).unwrap();
    let new = save(&repository, "work", &tree).id;
    let found = |old, new| -> BTreeMap<String, String> {
        let (changes, _) = diff(&repository, old, new);
        let count = changes.len();
        let map: BTreeMap<_, _> =
            changes.iter().map(|change| (String::from_utf8(change.path.clone()).unwrap(), letters(change.kind))).collect();
        assert_eq!(map.len(), count, "each path is told once");
        map
    };
    assert_eq!(found(&old, &new), expected);
    // Backwards, what was added is removed.
    for letters in expected.values_mut() {
        *letters = letters.replace('+', "#").replace('-', "+").replace('#', "-");
    }
    assert_eq!(found(&new, &old), expected);
    assert_eq!(found(&new, &new), BTreeMap::new());
}

#[test]
fn directories_that_are_equal_are_not_looked_at() {
    let dir = temp();
    let tree = subdir(&dir, "tree");
    for number in 0..50 {
        let inner = tree.join(format!("{number}/a/b"));
        fs::create_dir_all(&inner).unwrap();
        fs::write(inner.join("file"), format!("{number}")).unwrap();
    }
    let repository = init(&memory());
    let old = save(&repository, "work", &tree).id;
    fs::write(tree.join("25/a/b/file"), b"changed").unwrap();
    let new = save(&repository, "work", &tree).id;
    let (changes, count) = diff(&repository, &old, &new);
    assert_eq!(changes.last().unwrap().path, b"25/a/b/file");
    // Old and new block of the root and of three directories below it, some perhaps read for both.
    assert!(count <= 8, "{count} chunks for one change");
    assert_eq!(diff(&repository, &new, &new), (Vec::new(), 0));
}

#[test]
fn a_diff_ends_when_it_is_told_to() {
    let dir = temp();
    let tree = subdir(&dir, "tree");
    let repository = init(&memory());
    let old = save(&repository, "work", &tree).id;
    make_tree(&tree, &mut Rng::new(3), 40, able());
    let new = save(&repository, "work", &tree).id;
    let mut told = 0;
    let store = repository.store(&NoMonitor).unwrap();
    let result = diff_trees(store, &root(&repository, &old), &root(&repository, &new), b"", &mut |_| {
        told += 1;
        told < 5
    });
    result.unwrap();
    assert_eq!(told, 5);
}

#[test]
fn what_a_diff_tells_is_what_differs_on_disk() {
    for seed in 0..10 {
        let mut rng = Rng::new(seed);
        let dir = temp();
        let tree = subdir(&dir, "tree");
        make_tree(&tree, &mut rng, 50, able());
        let repository = init(&memory());
        let old = save(&repository, "work", &tree).id;
        let before = look_at(&tree);
        let_files_age();
        change_tree(&tree, &mut rng, 8, able());
        let new = save(&repository, "work", &tree).id;
        let after = look_at(build_new(&repository, &new).path());
        use std::os::unix::ffi::OsStrExt;
        let mut differ: Vec<&[u8]> = before
            .iter()
            .filter(|(path, seen)| after.get(*path).is_none_or(|other| !same(seen, other)))
            .map(|(path, _)| path.as_os_str().as_bytes())
            .collect();
        differ.extend(after.keys().filter(|path| !before.contains_key(*path)).map(|path| path.as_os_str().as_bytes()));
        let (changes, _) = diff(&repository, &old, &new);
        for path in &differ {
            assert!(changes.iter().any(|change| change.path == *path), "seed {seed}: {} is not told", String::from_utf8_lossy(path));
        }
        for change in changes.iter().filter(|change| !letters(change.kind).contains('l')) {
            assert!(differ.contains(&change.path.as_slice()), "seed {seed}: {change:?} does not differ");
        }
    }
}

/// Equal but for which name of a file comes first, which a diff tells as a change of links.
fn same(a: &vml_testkit::trees::Seen, b: &vml_testkit::trees::Seen) -> bool {
    *a == vml_testkit::trees::Seen { first: a.first.clone(), ..b.clone() }
}
