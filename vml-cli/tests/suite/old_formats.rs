//! Repositories that were written by each version whose format is kept, in `testdata/repos`: they are read, built, checked, and written to.
//!
//! ```text
//! testdata/repos/VERSION/repository   as `vml` wrote it
//!                       /state.vml    a share file of the entry `shared`
//!                       /ENTRY.txt    what its build must give: a line a member, made from what was saved
//! ```
//! `cargo test -p vml-cli --test suite old_formats -- --ignored` with `VML_MAKE_REPOSITORY=VERSION` makes one: once, before a version is released.

use crate::support::{Host, make_guest, settle, write};
use std::collections::BTreeSet;
use std::fmt::Write as _;
use std::fs;
use std::os::unix::fs::{MetadataExt as _, PermissionsExt as _, symlink};
use std::path::{Path, PathBuf};
use std::process::Command;
use vml_testkit::noise::{incompressible, text};

fn kept() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../testdata/repos")
}

/// A line for everything below `dir`, sorted. No owners, which not everybody can build.
fn listing(dir: &Path) -> String {
    let mut lines = BTreeSet::new();
    let mut stack = vec![dir.to_path_buf()];
    while let Some(at) = stack.pop() {
        for member in fs::read_dir(&at).unwrap() {
            let path = member.unwrap().path();
            let meta = fs::symlink_metadata(&path).unwrap();
            let mut line =
                format!("{} {:o} {}.{:09}", path.strip_prefix(dir).unwrap().display(), meta.mode(), meta.mtime(), meta.mtime_nsec());
            if meta.is_symlink() {
                write!(line, " -> {}", fs::read_link(&path).unwrap().display()).unwrap();
            } else if meta.is_file() {
                write!(line, " {} {} {}", meta.len(), meta.nlink(), blake3::hash(&fs::read(&path).unwrap())).unwrap();
            } else if meta.is_dir() {
                stack.push(path);
            }
            lines.insert(line);
        }
    }
    lines.into_iter().map(|line| line + "\n").collect()
}

/// The digest of a disk, which is built without a time.
fn disk_listing(image: &Path) -> String {
    let bytes = fs::read(image).unwrap();
    format!("system.raw {} {}\n", bytes.len(), blake3::hash(&bytes))
}

fn copy(from: &Path, to: &Path) {
    let status = Command::new("cp").arg("-r").arg(from).arg(to).status().unwrap();
    assert!(status.success());
}

fn versions() -> Vec<PathBuf> {
    let mut found: Vec<PathBuf> = fs::read_dir(kept()).unwrap().map(|entry| entry.unwrap().path()).filter(|path| path.is_dir()).collect();
    found.sort();
    found
}

/// Ids and kinds of all entries of a log.
fn ids(host: &Host) -> Vec<String> {
    host.json_lines(["log"]).iter().map(|entry| entry["entry"].as_str().unwrap().to_owned()).collect()
}

#[test]
fn repositories_of_all_kept_versions_are_read_and_written() {
    let versions = versions();
    assert!(!versions.is_empty(), "testdata/repos has a repository of this version");
    for version in versions {
        let what = version.display();
        let host = Host::bare();
        fs::create_dir_all(host.path("home")).unwrap();
        copy(&version.join("repository"), &host.repository());
        let mut listed: Vec<String> = ids(&host);
        listed.sort();
        let mut expected: Vec<String> = files_named(&version, "txt");
        expected.sort();
        assert_eq!(listed, expected, "{what}");
        for id in &listed {
            let out = host.path(&format!("out-{id}"));
            let expected = fs::read_to_string(version.join(id).with_extension("txt")).unwrap();
            let has_disk = expected.starts_with("system.raw ");
            let mut args = vec!["build", id, out.to_str().unwrap()];
            if has_disk {
                args.extend(["--format", "raw"]);
            }
            host.ok(args);
            let built = if has_disk { disk_listing(&out.join("system.raw")) } else { listing(&out) };
            assert_eq!(built, expected, "{what}: {id}");
        }
        assert_eq!(host.run(["check", "--data"]).code, 0, "{what}");
        assert!(host.ok(["show", "shared"]).contains("a remark"), "{what}");
        // It is written to as if it were new.
        make_guest(&host.path("guest"));
        host.ok(["area", "add", "more", "--tree", "guest"]);
        host.ok(["save", "more", "-m", "by this version"]);
        host.ok(["gc"]);
        assert_eq!(host.run(["check", "--data"]).code, 0, "{what}");
        // And its share file is received, into an empty repository of today.
        let other = Host::new();
        let file = version.join("state.vml");
        other.ok(["receive", file.to_str().unwrap()]);
        assert_eq!(other.run(["check", "--data"]).code, 0, "{what}");
    }
}

fn files_named(dir: &Path, extension: &str) -> Vec<String> {
    let paths = fs::read_dir(dir).unwrap().map(|entry| entry.unwrap().path());
    let stems = paths.filter(|path| path.extension().is_some_and(|found| found == extension));
    stems.map(|path| path.file_stem().unwrap().to_str().unwrap().to_owned()).collect()
}

#[test]
#[ignore = "makes testdata/repos/VERSION, once, before that version is released"]
fn make_a_repository_of_this_version() {
    let version = std::env::var("VML_MAKE_REPOSITORY").expect("VML_MAKE_REPOSITORY names the version");
    let target = kept().join(version);
    let host = Host::bare();
    // Small frames, so that little data makes several.
    host.ok(["init", "--frame", "64K"]);
    for tree in ["base", "guest"] {
        make_guest(&host.path(tree));
        write(&host.path(tree).join("usr/lib/large"), &incompressible(1, 40_000));
        settle(&host.path(tree));
    }
    host.ok(["base", "add", "debian@12", "--tree", "base"]);
    let expect = |name: &str, listing: String| {
        let id = host.json(["show", name])["entry"].as_str().unwrap().to_owned();
        fs::create_dir_all(&target).unwrap();
        fs::write(target.join(id).with_extension("txt"), listing).unwrap();
    };
    expect("BASE:debian@12", listing(&host.path("base")));
    let home = host.path("guest/home/dev");
    write(&home.join("empty"), b"");
    write(&home.join("text"), text(3, 30_000).as_slice());
    fs::hard_link(home.join("text"), home.join("same text")).unwrap();
    symlink("nowhere", home.join("dangling")).unwrap();
    let sparse = fs::File::create(home.join("sparse")).unwrap();
    sparse.set_len(300_000).unwrap();
    settle(&host.path("guest"));
    fs::set_permissions(home.join("plot.py"), fs::Permissions::from_mode(0o755)).unwrap();
    host.ok(["area", "add", "work", "--tree", "guest", "--base", "debian@12"]);
    host.ok(["save", "work", "-m", "first"]);
    write(&home.join("notes"), b"two\n");
    settle(&host.path("guest"));
    host.ok(["save", "work", "-m", "second", "--tag", "shared"]);
    expect("shared", listing(&host.path("guest")));
    host.ok(["note", "shared", "a remark"]);
    // What the log passes over, and packs that are gone.
    host.ok(["forget", "work@~1", "--yes"]);
    let mut disk = vec![0; 200_001];
    disk[10_000..30_000].copy_from_slice(&incompressible(5, 20_000));
    disk[200_000] = 1;
    write(&host.path("disk.raw"), &disk);
    host.ok(["area", "add", "disk", "--disk", "system=disk.raw"]);
    host.ok(["save", "disk", "-m", "a disk"]);
    expect("disk@latest", disk_listing(&host.path("disk.raw")));
    host.ok(["gc"]);
    host.ok(["share", "shared", "-o", target.join("state.vml").to_str().unwrap(), "--full", "--no-sign"]);
    copy(&host.repository(), &target.join("repository"));
}
