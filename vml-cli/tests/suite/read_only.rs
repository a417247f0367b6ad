//! A repository on a medium that cannot be written: every command that reads works, with an index or without one, and the others say why not.

use crate::support::{Host, assert_equal, is_root, make_guest, skip, write};
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

/// A directory that is shown read-only at its own path, until it is dropped.
struct ReadOnly(PathBuf);

impl ReadOnly {
    fn new(test: &str, at: &Path) -> Option<Self> {
        if !is_root() {
            skip(test, "only root can make a directory read-only for itself");
            return None;
        }
        let mount = |args: &[&str]| Command::new("mount").args(args).arg(at).output().is_ok_and(|output| output.status.success());
        let shown = at.to_str().unwrap().to_owned();
        if !mount(&["--bind", &shown]) {
            skip(test, "bind mounts are not permitted here");
            return None;
        }
        let mounted = Self(at.to_path_buf());
        if !mount(&["-o", "remount,bind,ro"]) {
            skip(test, "read-only mounts are not permitted here");
            return None;
        }
        Some(mounted)
    }
}

impl Drop for ReadOnly {
    fn drop(&mut self) {
        _ = Command::new("umount").arg("-l").arg(&self.0).status();
    }
}

/// Everything that reads, on `repository`, and what it gave.
fn read_everything(host: &Host, with_index: bool) {
    for args in [
        &["log"][..],
        &["log", "work", "-n", "1"],
        &["show", "work@latest"],
        &["show", "BASE:debian@12"],
        &["diff", "work@~1", "work@latest"],
        &["ls", "work@latest:home/dev"],
        &["cat", "work@latest:home/dev/notes"],
        &["stats"],
        &["base", "list"],
        &["area", "list"],
        &["tag"],
        &["remote", "list"],
        &["check"],
        &["check", "--data"],
        &["gc", "--dry-run"],
        &["forget", "--keep-last", "1", "--dry-run"],
    ] {
        let ran = host.run(args);
        assert_eq!(ran.code, 0, "vml {args:?}: {}{}", ran.out, ran.err);
        let told = ran.err.contains("rebuilt from");
        assert!(ran.err.is_empty() || (told && !with_index), "vml {args:?}: {}", ran.err);
    }
    let run = |args: &[&str]| assert_eq!(host.run(args).code, 0, "vml {args:?}");
    let out = |name: &str| host.path(name).to_str().unwrap().to_owned();
    run(&["build", "work@latest", &out("built")]);
    assert_equal(&host.path("as saved"), &host.path("built"));
    run(&["restore", "work@latest:home/dev", &out("restored")]);
    run(&["share", "work@latest", "-o", &out("state.vml"), "--full", "--no-sign"]);
    for name in ["built", "restored", "state.vml"] {
        let path = host.path(name);
        if path.is_dir() { fs::remove_dir_all(path).unwrap() } else { fs::remove_file(path).unwrap() }
    }
    // From another host: all of it is copied.
    let other = Host::bare();
    let source = host.repository();
    assert_eq!(other.run(["clone", source.to_str().unwrap()]).code, 0);
    assert_eq!(other.run(["check", "--data"]).code, 0);
}

fn refuse_writing(host: &Host) {
    write(&host.path("guest/home/dev/more"), b"more");
    for args in [
        &["save", "work", "-m", "no"][..],
        &["tag", "work@latest", "golden"],
        &["note", "work@latest", "a remark"],
        &["gc"],
        &["forget", "work@~1", "--yes"],
    ] {
        host.run(args).fails(3, &["Read-only file system"]);
    }
    fs::remove_file(host.path("guest/home/dev/more")).unwrap();
}

fn names(dir: &Path) -> Vec<PathBuf> {
    crate::support::files(dir)
}

#[test]
fn a_repository_on_a_read_only_medium_is_read_by_every_reading_command() {
    let host = Host::with_base(|dev| write(&dev.join("large"), &vml_testkit::noise::incompressible(7, 1 << 20)));
    let copied = Command::new("cp").arg("-a").args([host.path("guest"), host.path("as saved")]).status().unwrap();
    assert!(copied.success());
    let before = names(&host.repository());
    let Some(medium) = ReadOnly::new("a_repository_on_a_read_only_medium", &host.repository()) else { return };
    read_everything(&host, true);
    refuse_writing(&host);
    drop(medium);
    assert_eq!(names(&host.repository()), before, "nothing was written");
    // A medium that was written when the index was lost, and a save was killed: the index is made in memory.
    fs::remove_dir_all(host.repository().join("index")).unwrap();
    fs::create_dir_all(host.repository().join("tmp")).unwrap();
    write(&host.repository().join("tmp/99999-1"), b"half a pack");
    let Some(_medium) = ReadOnly::new("a_repository_on_a_read_only_medium", &host.repository()) else { return };
    read_everything(&host, false);
}

#[test]
fn a_new_repository_cannot_be_made_there_and_says_why() {
    let host = Host::bare();
    make_guest(&host.path("guest"));
    fs::create_dir_all(host.path("medium")).unwrap();
    let Some(_medium) = ReadOnly::new("a_new_repository_cannot_be_made_there", &host.path("medium")) else { return };
    host.run(["init", "--repo", host.path("medium/repository").to_str().unwrap()]).fails(3, &["Read-only file system"]);
}
