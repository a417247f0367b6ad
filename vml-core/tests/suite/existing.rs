//! Restoring over what is there already: kept where it is right, replaced where it is not, and never a step outside.

use crate::support::{able, assert_equal, build, deleting, init, memory, restoring, save, subdir, temp};
use std::fs::{self, Permissions};
use std::os::unix::fs::{MetadataExt, PermissionsExt, symlink};
use std::path::{Path, PathBuf};
use tempfile::TempDir;
use vml_core::{EntryId, Repository};
use vml_testkit::noise::{Rng, incompressible};
use vml_testkit::trees::{AclTag, change_tree, look_at, make_tree, posix_acl, set_mtime, set_xattr, walk};

struct Saved {
    dir: TempDir,
    tree: PathBuf,
    repository: Repository,
    id: EntryId,
}

/// Saves what `make` makes.
fn saved(make: impl FnOnce(&Path)) -> Saved {
    let dir = temp();
    let tree = subdir(&dir, "tree");
    make(&tree);
    let repository = init(&memory());
    let id = save(&repository, "work", &tree).id;
    Saved { dir, tree, repository, id }
}

#[test]
fn what_has_the_right_bytes_is_kept_and_given_the_right_attributes() {
    let made = saved(|tree| {
        for number in 0..20 {
            fs::write(tree.join(format!("{number}")), incompressible(number, 1000 * usize::try_from(number).unwrap())).unwrap();
        }
    });
    let target = subdir(&made.dir, "target");
    let (first, _) = build(&made.repository, &made.id, &target, &restoring()).unwrap();
    assert_eq!((first.files_count, first.kept_files_count), (20, 0));
    let inode = |name: &str| fs::metadata(target.join(name)).unwrap().ino();
    let before = [inode("3"), inode("7")];
    fs::set_permissions(target.join("3"), Permissions::from_mode(0o4777)).unwrap();
    set_mtime(&target.join("5"), 12345, 6).unwrap();
    fs::write(target.join("7"), incompressible(8, 7000)).unwrap();
    // As a restore that was killed leaves it: cut, and missing.
    fs::write(target.join("9"), &incompressible(9, 9000)[..4096]).unwrap();
    fs::remove_file(target.join("11")).unwrap();
    let (again, problems) = build(&made.repository, &made.id, &target, &restoring()).unwrap();
    assert_eq!((again.files_count, again.kept_files_count, problems.len()), (20, 17, 0));
    assert_eq!(inode("3"), before[0], "kept");
    assert_ne!(inode("7"), before[1], "replaced as a whole, never written into");
    assert_equal(&made.tree, &target);
}

#[test]
fn surplus_members_stay_unless_deleting_is_asked_for() {
    let made = saved(|tree| make_tree(tree, &mut Rng::new(4), 30, able()));
    let target = subdir(&made.dir, "target");
    make_tree(&target, &mut Rng::new(5), 30, able());
    fs::create_dir_all(target.join("surplus/of several/levels")).unwrap();
    fs::write(target.join("surplus/of several/file"), b"x").unwrap();
    let before = walk(&target).len() as u64;
    let (kept, problems) = build(&made.repository, &made.id, &target, &restoring()).unwrap();
    assert_eq!((kept.deleted_count, problems.len()), (0, 0));
    assert!(target.join("surplus/of several/file").exists());
    let (deleted, problems) = build(&made.repository, &made.id, &target, &deleting()).unwrap();
    assert_eq!((deleted.deleted_count, problems.len()), (before, 0));
    assert_equal(&made.tree, &target);
}

#[test]
fn any_state_becomes_any_other_when_deleting() {
    for seed in 0..10 {
        let mut rng = Rng::new(seed);
        let dir = temp();
        let tree = subdir(&dir, "tree");
        make_tree(&tree, &mut rng, 40, able());
        let repository = init(&memory());
        let mut ids = vec![save(&repository, "work", &tree).id];
        let mut seen = vec![look_at(&tree)];
        for _ in 0..2 {
            change_tree(&tree, &mut rng, 12, able());
            crate::support::let_files_age();
            ids.push(save(&repository, "work", &tree).id);
            seen.push(look_at(&tree));
        }
        let target = subdir(&dir, "target");
        for state in [0, 2, 1, 1, 0] {
            let (_, problems) = build(&repository, &ids[state], &target, &deleting()).unwrap();
            assert_eq!(problems, [], "seed {seed}");
            assert!(look_at(&target) == seen[state], "seed {seed}, state {state}");
        }
    }
}

#[test]
fn what_is_of_another_kind_gives_way() {
    let made = saved(|tree| {
        fs::write(tree.join("file"), incompressible(1, 20_000)).unwrap();
        fs::write(tree.join("tiny"), b"t").unwrap();
        symlink("file", tree.join("link")).unwrap();
        fs::create_dir(tree.join("directory")).unwrap();
        fs::write(tree.join("directory/in it"), b"1").unwrap();
        fs::hard_link(tree.join("file"), tree.join("second name")).unwrap();
    });
    type Maker = fn(&Path);
    let obstacles: [Maker; 4] = [
        |path| fs::write(path, b"in the way").unwrap(),
        |path| symlink("/etc", path).unwrap(),
        |path| fs::create_dir(path).unwrap(),
        |path| rustix::fs::mknodat(rustix::fs::CWD, path, rustix::fs::FileType::Fifo, rustix::fs::Mode::RUSR, 0).unwrap(),
    ];
    for (number, make) in obstacles.iter().enumerate() {
        let target = subdir(&made.dir, &format!("target {number}"));
        for name in ["file", "tiny", "link", "directory", "second name"] {
            make(&target.join(name));
        }
        let (_, problems) = build(&made.repository, &made.id, &target, &restoring()).unwrap();
        assert_eq!(problems, [], "obstacle {number}");
        assert_equal(&made.tree, &target);
    }
}

#[test]
fn a_directory_with_members_gives_way_only_when_deleting() {
    let made = saved(|tree| {
        fs::write(tree.join("file"), incompressible(1, 20_000)).unwrap();
        symlink("file", tree.join("link")).unwrap();
    });
    let target = subdir(&made.dir, "target");
    for name in ["file", "link"] {
        fs::create_dir(target.join(name)).unwrap();
        fs::write(target.join(name).join("precious"), b"x").unwrap();
    }
    let (_, problems) = build(&made.repository, &made.id, &target, &restoring()).unwrap();
    assert_eq!(problems.len(), 2);
    assert!(problems.iter().all(|problem| problem.message.contains("in the way")), "{problems:?}");
    assert!(target.join("file/precious").exists() && target.join("link/precious").exists());
    assert_eq!(walk(&target).len(), 4, "no half file is left");
    build(&made.repository, &made.id, &target, &deleting()).unwrap();
    assert_equal(&made.tree, &target);
}

#[test]
fn links_that_lead_outside_are_replaced_and_nothing_outside_is_touched() {
    let made = saved(|tree| {
        fs::create_dir_all(tree.join("a/b")).unwrap();
        fs::write(tree.join("a/file"), incompressible(1, 9000)).unwrap();
        fs::write(tree.join("a/b/tiny"), b"t").unwrap();
        fs::write(tree.join("shared"), b"equal bytes").unwrap();
        fs::hard_link(tree.join("shared"), tree.join("a/shared")).unwrap();
        fs::set_permissions(tree.join("shared"), Permissions::from_mode(0o4711)).unwrap();
    });
    let outside = subdir(&made.dir, "outside");
    fs::create_dir(outside.join("b")).unwrap();
    for name in ["file", "b/tiny", "single", "shared"] {
        fs::write(outside.join(name), b"equal bytes").unwrap();
        set_mtime(&outside.join(name), 1000, 0).unwrap();
    }
    let before = look_at(&outside);
    for options in [restoring(), deleting()] {
        let target = temp();
        // A directory, a file and a directory inside one that is there lead outside, one as a hard link.
        symlink(&outside, target.path().join("a")).unwrap();
        build(&made.repository, &made.id, target.path(), &options).unwrap();
        assert_equal(&made.tree, target.path());
        let target = temp();
        fs::create_dir(target.path().join("a")).unwrap();
        symlink(outside.join("b"), target.path().join("a/b")).unwrap();
        symlink(outside.join("file"), target.path().join("a/file")).unwrap();
        fs::hard_link(outside.join("shared"), target.path().join("shared")).unwrap();
        build(&made.repository, &made.id, target.path(), &options).unwrap();
        assert_equal(&made.tree, target.path());
        let unlinked = look_at(&outside);
        assert!(before == unlinked, "something outside was touched");
    }
}

#[test]
fn deleting_removes_links_and_not_what_they_lead_to() {
    let made = saved(|tree| fs::write(tree.join("file"), b"x").unwrap());
    let outside = subdir(&made.dir, "outside");
    fs::write(outside.join("precious"), b"x").unwrap();
    let target = subdir(&made.dir, "target");
    fs::create_dir(target.join("surplus")).unwrap();
    for path in ["link", "surplus/link"] {
        symlink(&outside, target.join(path)).unwrap();
    }
    let (restored, _) = build(&made.repository, &made.id, &target, &deleting()).unwrap();
    assert_eq!(restored.deleted_count, 3);
    assert!(outside.join("precious").exists());
    assert_equal(&made.tree, &target);
}

#[test]
fn names_that_were_linked_to_each_other_come_apart() {
    let made = saved(|tree| {
        for (name, second, mode) in [("a", "c", 0o644), ("b", "d", 0o600)] {
            fs::write(tree.join(name), b"equal bytes").unwrap();
            fs::hard_link(tree.join(name), tree.join(second)).unwrap();
            fs::set_permissions(tree.join(name), Permissions::from_mode(mode)).unwrap();
        }
    });
    let target = subdir(&made.dir, "target");
    fs::write(target.join("a"), b"equal bytes").unwrap();
    for name in ["b", "c", "d"] {
        fs::hard_link(target.join("a"), target.join(name)).unwrap();
    }
    build(&made.repository, &made.id, &target, &restoring()).unwrap();
    assert_equal(&made.tree, &target);
}

#[test]
fn what_directories_that_are_there_hand_down_does_not_stay() {
    let made = saved(|tree| {
        fs::create_dir_all(tree.join("there/new")).unwrap();
        for name in ["there/file", "there/new/file"] {
            fs::write(tree.join(name), b"plain").unwrap();
        }
        symlink("file", tree.join("there/link")).unwrap();
    });
    let target = subdir(&made.dir, "target");
    let there = target.join("there");
    fs::create_dir(&there).unwrap();
    if able().owners {
        std::os::unix::fs::lchown(&there, Some(0), Some(4711)).unwrap();
    }
    fs::set_permissions(&there, Permissions::from_mode(0o2777)).unwrap();
    if able().acls {
        let acl = [(AclTag::Owner, 7), (AclTag::User(4711), 7), (AclTag::OwningGroup, 7), (AclTag::Mask, 7), (AclTag::Other, 7)];
        set_xattr(&there, "system.posix_acl_default", &posix_acl(&acl)).unwrap();
    }
    build(&made.repository, &made.id, &target, &restoring()).unwrap();
    assert_equal(&made.tree, &target);
}

#[test]
fn a_target_that_is_no_directory_is_refused() {
    let made = saved(|tree| fs::write(tree.join("file"), b"x").unwrap());
    for target in [made.dir.path().join("missing"), made.tree.join("file")] {
        let error = build(&made.repository, &made.id, &target, &restoring()).unwrap_err();
        assert!(error.to_string().contains("cannot open directory"), "{error:?}");
    }
}
