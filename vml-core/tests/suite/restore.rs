//! Restoring into new directories: whole trees, parts of them, and as an ordinary user.

use crate::support::{
    able, assert_equal, build, init, is_root, keys, let_files_age, memory, open, overwrite, read, restoring, save, subdir, temp, try_save,
};
use std::fs::{self, Permissions};
use std::os::unix::fs::{MetadataExt, PermissionsExt, lchown, symlink};
use std::path::Path;
use std::sync::Arc;
use vml_core::monitor::{CollectMonitor, NoMonitor};
use vml_core::repository::CompactOptions;
use vml_core::tree::{RestoreOptions, Restored, find_path, restore_tree};
use vml_core::{Backend, EntryId, ErrorKind, Repository, RepositoryOptions};
use vml_testkit::faulty::FaultyBackend;
use vml_testkit::nobody::{as_nobody, give_to_nobody};
use vml_testkit::noise::{Rng, incompressible, text};
use vml_testkit::trees::{AclTag, look_at, make_tree, posix_acl, set_mtime, set_xattr};

/// Restores what is at `path` in the entry's tree.
fn build_path(repository: &Repository, id: &EntryId, path: &str, target: &Path, options: &RestoreOptions) -> Restored {
    let store = repository.store(&NoMonitor).unwrap();
    let entry = repository.entry(id).unwrap();
    let node = find_path(store, &entry.tree().unwrap().root, path.as_bytes()).unwrap();
    let monitor = CollectMonitor::default();
    let restored = restore_tree(store, &node, target, options, &monitor).unwrap();
    assert_eq!(monitor.problems(), []);
    restored
}

fn ino(path: &Path) -> (u64, u64) {
    let meta = fs::symlink_metadata(path).unwrap();
    (meta.ino(), meta.nlink())
}

#[test]
fn a_single_file_goes_into_the_target_which_stays_as_it_is() {
    let dir = temp();
    let tree = subdir(&dir, "tree");
    fs::create_dir(tree.join("a")).unwrap();
    fs::write(tree.join("a/file"), incompressible(1, 100_000)).unwrap();
    fs::set_permissions(tree.join("a/file"), Permissions::from_mode(0o640)).unwrap();
    symlink("file", tree.join("a/link")).unwrap();
    let repository = init(&memory());
    let id = save(&repository, "work", &tree).id;
    let target = subdir(&dir, "target");
    fs::write(target.join("other"), b"stays").unwrap();
    fs::set_permissions(&target, Permissions::from_mode(0o750)).unwrap();
    set_mtime(&target, 1000, 5).unwrap();
    let restored = build_path(&repository, &id, "a/file", &target, &RestoreOptions { delete: true, ..restoring() });
    assert_eq!((restored.files_count, restored.directories_count, restored.deleted_count), (1, 0, 0));
    build_path(&repository, &id, "/a/link", &target, &restoring());
    assert_eq!(fs::read(target.join("file")).unwrap(), incompressible(1, 100_000));
    assert_eq!(fs::metadata(target.join("file")).unwrap().mode() & 0o7777, 0o640);
    assert_eq!(fs::read_link(target.join("link")).unwrap(), Path::new("file"));
    assert_eq!(fs::read(target.join("other")).unwrap(), b"stays");
    assert_eq!(fs::metadata(&target).unwrap().mode() & 0o7777, 0o750);
}

#[test]
fn a_directory_of_the_tree_is_restored_with_what_is_in_it_and_nothing_else() {
    let dir = temp();
    let tree = subdir(&dir, "tree");
    for name in ["in", "out"] {
        make_tree(&subdir_of(&tree, name), &mut Rng::new(name.len() as u64), 40, able());
    }
    let repository = init(&memory());
    let id = save(&repository, "work", &tree).id;
    let target = subdir(&dir, "target");
    build_path(&repository, &id, "in", &target, &restoring());
    assert_equal(&tree.join("in"), &target);
    let store = repository.store(&NoMonitor).unwrap();
    let root = &repository.entry(&id).unwrap().tree().unwrap().root.clone();
    for (path, kind) in [("in/nothing", ErrorKind::NotFound), ("nothing/in", ErrorKind::NotFound), ("in/../out", ErrorKind::InvalidInput)] {
        assert_eq!(find_path(store, root, path.as_bytes()).unwrap_err().kind(), kind, "{path}");
    }
    assert_eq!(find_path(store, root, b"/./").unwrap(), *root);
}

fn subdir_of(dir: &Path, name: &str) -> std::path::PathBuf {
    let path = dir.join(name);
    fs::create_dir(&path).unwrap();
    path
}

#[test]
fn names_of_one_file_stay_names_of_one_file_as_far_as_they_are_restored() {
    let dir = temp();
    let tree = subdir(&dir, "tree");
    subdir_of(&tree, "a");
    subdir_of(&tree, "b");
    fs::write(tree.join("a/1"), incompressible(1, 50_000)).unwrap();
    for name in ["a/2", "b/3", "b/4"] {
        fs::hard_link(tree.join("a/1"), tree.join(name)).unwrap();
    }
    let repository = init(&memory());
    let id = save(&repository, "work", &tree).id;
    let whole = subdir(&dir, "whole");
    build_path(&repository, &id, "", &whole, &restoring());
    let (inode, names) = ino(&whole.join("a/1"));
    assert_eq!(names, 4);
    assert!(["a/2", "b/3", "b/4"].iter().all(|name| ino(&whole.join(name)).0 == inode));
    // The first name is not among these.
    let part = subdir(&dir, "part");
    build_path(&repository, &id, "b", &part, &restoring());
    assert_eq!(ino(&part.join("3")), ino(&part.join("4")));
    assert_eq!(ino(&part.join("3")).1, 2);
    let single = subdir(&dir, "single");
    build_path(&repository, &id, "b/4", &single, &restoring());
    assert_eq!(ino(&single.join("4")).1, 1);
    assert_eq!(fs::read(single.join("4")).unwrap(), incompressible(1, 50_000));
}

#[test]
fn directories_closed_to_writing_are_filled_all_the_same() {
    let run = || {
        let dir = temp();
        let tree = subdir(&dir, "tree");
        let inner = subdir_of(&subdir_of(&tree, "closed"), "inner");
        fs::write(inner.join("file"), b"in a closed directory").unwrap();
        for path in [&inner, &tree.join("closed"), &tree] {
            fs::set_permissions(path, Permissions::from_mode(0o555)).unwrap();
        }
        let repository = init(&memory());
        let id = save(&repository, "work", &tree).id;
        let target = subdir(&dir, "target");
        build_path(&repository, &id, "", &target, &restoring());
        assert_equal(&tree, &target);
        // Once more, into what is closed now, with something to write and something to delete.
        fs::set_permissions(target.join("closed/inner"), Permissions::from_mode(0o700)).unwrap();
        fs::remove_file(target.join("closed/inner/file")).unwrap();
        fs::create_dir(target.join("closed/inner/more")).unwrap();
        fs::write(target.join("closed/inner/more/file"), b"to be deleted").unwrap();
        for path in ["closed/inner/more", "closed/inner"] {
            fs::set_permissions(target.join(path), Permissions::from_mode(0o555)).unwrap();
        }
        let restored = build_path(&repository, &id, "", &target, &RestoreOptions { delete: true, ..restoring() });
        assert_eq!((restored.deleted_count, restored.problems_count), (2, 0));
        assert_equal(&tree, &target);
        for root in [&tree, &target] {
            for path in ["", "closed", "closed/inner"] {
                fs::set_permissions(root.join(path), Permissions::from_mode(0o700)).unwrap();
            }
        }
    };
    run();
    as_nobody(run);
}

#[test]
fn an_ordinary_user_restores_what_he_may_and_hears_of_the_rest_once() {
    if !able().owners {
        eprintln!("skipped: only root can make files of other owners to save");
        return;
    }
    let dir = temp();
    fs::set_permissions(dir.path(), Permissions::from_mode(0o711)).unwrap();
    let tree = subdir(&dir, "tree");
    for (name, uid) in [("mine", vml_testkit::nobody::NOBODY), ("roots", 0), ("another's", 4711)] {
        let path = tree.join(name);
        fs::write(&path, name).unwrap();
        lchown(&path, Some(uid), Some(uid)).unwrap();
        fs::set_permissions(&path, Permissions::from_mode(0o6755)).unwrap();
    }
    let backend = memory();
    let id = save(&init(&backend), "work", &tree).id;
    let target = subdir(&dir, "target");
    give_to_nobody(&target);
    for owners in [false, true] {
        let done = as_nobody(|| build(&open(&backend), &id, &target, &RestoreOptions { owners, ..restoring() }).unwrap());
        let Some((restored, problems)) = done else { return };
        assert_eq!(restored.files_count, 3);
        let mode = |name: &str| fs::metadata(target.join(name)).unwrap().mode() & 0o7777;
        assert_eq!(mode("mine"), 0o6755);
        assert_eq!((mode("roots"), mode("another's")), (0o755, 0o755), "what ran as somebody else must not run as this user");
        if owners {
            assert_eq!(problems.len(), 1, "{problems:?}");
            assert!(problems[0].message.starts_with("cannot set the owner, nor of 2 more"), "{problems:?}");
        } else {
            assert_eq!(problems, []);
        }
    }
}

#[test]
fn an_ordinary_user_restores_his_own_tree_with_everything() {
    let run = || {
        let dir = temp();
        let able = vml_testkit::trees::Able::find_out(dir.path());
        for seed in 0..12 {
            let tree = subdir(&dir, &format!("tree {seed}"));
            // Attributes of a file that nobody may write, which its owner can restore all the same.
            let file = tree.join("read-only");
            fs::write(&file, b"x").unwrap();
            if able.user_xattrs {
                set_xattr(&file, "user.note", b"kept").unwrap();
            }
            if able.acls {
                let acl = [(AclTag::Owner, 4), (AclTag::User(7), 4), (AclTag::OwningGroup, 4), (AclTag::Mask, 4), (AclTag::Other, 0)];
                set_xattr(&file, "system.posix_acl_access", &posix_acl(&acl)).unwrap();
            }
            fs::set_permissions(&file, Permissions::from_mode(0o400)).unwrap();
            make_tree(&tree, &mut Rng::new(seed), 50, &able);
            let repository = init(&memory());
            let id = save(&repository, "work", &tree).id;
            let target = subdir(&dir, &format!("target {seed}"));
            for _ in 0..2 {
                let (_, problems) = build(&repository, &id, &target, &RestoreOptions { owners: false, ..restoring() }).unwrap();
                assert_eq!(problems, []);
                assert!(look_at(&tree) == look_at(&target), "seed {seed}");
            }
        }
    };
    as_nobody(run);
}

#[test]
fn an_ordinary_user_saves_what_he_can_read_and_the_rest_is_named() {
    if !is_root() {
        eprintln!("skipped: only root can make files that this user cannot read");
        return;
    }
    let dir = temp();
    fs::set_permissions(dir.path(), Permissions::from_mode(0o755)).unwrap();
    let tree = subdir(&dir, "tree");
    fs::write(tree.join("open"), b"to all").unwrap();
    fs::write(tree.join("secret"), b"to none").unwrap();
    fs::write(subdir_of(&tree, "closed").join("file"), b"to none").unwrap();
    fs::set_permissions(tree.join("secret"), Permissions::from_mode(0o600)).unwrap();
    fs::set_permissions(tree.join("closed"), Permissions::from_mode(0o700)).unwrap();
    let_files_age();
    let repository = init(&memory());
    let monitor = CollectMonitor::default();
    let Some(saved) = as_nobody(|| try_save(&repository, "work", &tree, &monitor).unwrap()) else { return };
    assert_eq!(saved.problems_count, 2);
    let mut subjects: Vec<String> = monitor.problems().into_iter().map(|problem| problem.subject).collect();
    subjects.sort_unstable();
    assert_eq!(subjects, ["closed", "secret"]);
    assert!(monitor.problems().iter().all(|problem| problem.message.starts_with("left out: cannot read")), "{:?}", monitor.problems());
    let part = saved.entry.tree().unwrap();
    assert_eq!((part.left_out.len(), part.stats.files_count), (2, 1));
    // What could not be read then is read when it can be, though it has not changed.
    let whole = save(&repository, "work", &tree);
    assert_eq!(whole.entry.tree().unwrap().stats.files_count, 3);
    assert_equal(&tree, crate::support::build_new(&repository, &whole.id).path());
}

/// Reads of packs of data while `id` is restored by a thread, with so many bytes for frames.
fn reads(files: &Arc<dyn Backend>, id: &EntryId, tree: &Path, cache_len: usize) -> usize {
    let counted = FaultyBackend::new(Arc::clone(files));
    let repository = Repository::open(Arc::new(counted.clone()), RepositoryOptions { threads: 1, cache_len }).unwrap();
    let target = temp();
    let options = RestoreOptions { threads: 1, open_max: 1000, ..restoring() };
    let (_, problems) = build(&repository, id, target.path(), &options).unwrap();
    assert_eq!(problems, []);
    assert_equal(tree, target.path());
    counted.operations().iter().filter(|operation| operation.name == "read_at" && operation.key.starts_with("data/")).count()
}

#[test]
fn files_that_share_what_many_saves_stored_have_each_frame_read_once() {
    const PART: usize = 150_000;
    let dir = temp();
    let files = memory();
    let repository = init(&files);
    let tree = subdir(&dir, "tree");
    let mut parts: Vec<Vec<u8>> = Vec::new();
    for round in 0..4_u64 {
        for number in 0..6_u64 {
            let part = if number % 2 == 0 { text(round * 10 + number, PART) } else { incompressible(round * 10 + number, PART) };
            fs::write(tree.join(format!("{number} of {round}")), &part).unwrap();
            fs::write(tree.join(format!("small {number} of {round}")), &part[..2000 + usize::try_from(number).unwrap()]).unwrap();
            parts.push(part);
        }
        let_files_age();
        save(&repository, "work", &tree);
    }
    // Long files that have all of it in another order, with zeros and a hole.
    let mut rng = Rng::new(5);
    for number in 0..5 {
        let mut long: Vec<u8> = Vec::new();
        for _ in 0..parts.len() {
            let part = rng.below(parts.len());
            long.extend_from_slice(&parts[part]);
            if part.is_multiple_of(5) {
                long.resize(long.len() + 70_000, 0);
            }
        }
        fs::write(tree.join(format!("long {number}")), &long).unwrap();
        fs::File::options().write(true).open(tree.join(format!("long {number}"))).unwrap().set_len(long.len() as u64 + 300_000).unwrap();
    }
    let_files_age();
    let id = save(&repository, "work", &tree).id;
    for place in [subdir(&dir, "alone"), subdir(&dir, "beside")] {
        fs::write(dir.path().join("beside/long 3"), b"in the way").ok();
        build_path(&repository, &id, "long 3", &place, &restoring());
        assert_eq!(fs::read(place.join("long 3")).unwrap(), fs::read(tree.join("long 3")).unwrap());
        assert_eq!(fs::metadata(place.join("long 3")).unwrap().mode(), fs::metadata(tree.join("long 3")).unwrap().mode());
    }
    let once = reads(&files, &id, &tree, 64 << 20);
    assert!(once > 50, "{once} frames are too few to tell anything");
    // A few are read again: they went because there was nothing else to do.
    let again = reads(&files, &id, &tree, 1);
    assert!(again < once + once / 4, "{again} reads of {once} frames");
    let compacted = CompactOptions { dry_run: false, level: 3, max: None, portion: 1 << 30 };
    repository.compact(compacted, &mut |_| {}, &NoMonitor).unwrap();
    let (again, once) = (reads(&files, &id, &tree, 1), reads(&files, &id, &tree, 64 << 20));
    assert!(again < once + once / 4, "{again} reads of {once} frames");
}

#[test]
fn a_long_file_with_a_chunk_that_is_damaged_is_told_of_once_and_not_left_half() {
    let dir = temp();
    let files = memory();
    let repository = init(&files);
    let tree = subdir(&dir, "tree");
    fs::write(tree.join("long"), incompressible(3, 900_000)).unwrap();
    fs::write(tree.join("other"), text(4, 900_000)).unwrap();
    let_files_age();
    let id = save(&repository, "work", &tree).id;
    for key in keys(files.as_ref(), "data") {
        let mut bytes = read(files.as_ref(), &key);
        // In the middle of frames that are as they were: the noise is longer than the text in a pack.
        for at in (20_000..400_000.min(bytes.len())).step_by(30_000) {
            bytes[at] ^= 1;
        }
        overwrite(files.as_ref(), &key, &bytes);
    }
    let target = temp();
    let (restored, problems) = build(&open(&files), &id, target.path(), &restoring()).unwrap();
    let told: Vec<&str> = problems.iter().map(|problem| problem.subject.as_str()).filter(|subject| !subject.starts_with("pack")).collect();
    assert!(told.contains(&"long") && restored.problems_count == told.len() as u64, "{problems:?}");
    assert_eq!(told.iter().filter(|subject| **subject == "long").count(), 1, "{problems:?}");
    assert!(!target.path().join("long").exists());
    assert_eq!(target.path().join("other").exists(), !told.contains(&"other"));
}
