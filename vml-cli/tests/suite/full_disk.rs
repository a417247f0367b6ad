//! A disk that is full: the command says so, what was saved is whole, and with some space it goes on.

use crate::support::{Host, assert_equal, content, is_root, skip, write};
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

/// A small file system, unmounted in the end.
struct Mount(PathBuf);

impl Mount {
    fn new(test: &str, at: PathBuf, size: &str) -> Option<Self> {
        if !is_root() {
            skip(test, "only root can mount a small disk");
            return None;
        }
        fs::create_dir_all(&at).unwrap();
        let mounted = Command::new("mount").args(["-t", "tmpfs", "-o", &format!("size={size}"), "none"]).arg(&at).output();
        if mounted.is_ok_and(|output| output.status.success()) {
            return Some(Self(at));
        }
        skip(test, "mounting a small disk is not permitted here");
        None
    }
}

impl Drop for Mount {
    fn drop(&mut self) {
        _ = Command::new("umount").arg("-l").arg(&self.0).status();
    }
}

fn fill(dir: &Path) -> PathBuf {
    let path = dir.join("ballast");
    // Ends with the error that is wanted.
    _ = fs::write(&path, vec![1; 64 << 20]);
    path
}

#[test]
fn a_save_on_a_full_disk_fails_clearly_and_goes_on_when_there_is_space() {
    let host = Host::bare();
    let Some(disk) = Mount::new("a_save_on_a_full_disk", host.path("disk"), "8m") else { return };
    let run = |args: &[&str]| {
        let mut command = host.command(args);
        crate::support::Ran::of(&command.env("VML_REPO", disk.0.join("repository")).output().unwrap())
    };
    crate::support::make_guest(&host.path("guest"));
    for args in [&["init"][..], &["area", "add", "work", "--tree", "guest"], &["save", "work", "-m", "first"]] {
        assert_eq!(run(args).code, 0);
    }
    fs::rename(host.path("guest/etc"), host.path("guest/etc2")).unwrap();
    let first = host.path("first");
    assert_eq!(run(&["build", "work@latest", first.to_str().unwrap()]).code, 0);
    write(&host.path("guest/large"), &vml_testkit::noise::incompressible(3, 6 << 20));
    let ballast = disk.0.join("ballast");
    fs::write(&ballast, vec![1; 4 << 20]).unwrap();

    run(&["save", "work", "-m", "too much"]).fails(3, &["cannot save", "No space left on device", "free some space and run it again"]);
    assert_eq!(run(&["log"]).out.matches("work").count(), 1, "no entry of half a tree");
    // And with not a byte left at all.
    let rest = fill(&disk.0);
    for args in [&["save", "work", "-m", "x"][..], &["tag", "work@latest", "one"], &["note", "work@latest", "x"]] {
        run(args).fails(3, &["No space left on device"]);
    }
    fs::remove_file(rest).unwrap();
    assert_eq!(run(&["check", "--data"]).code, 0);
    let again = host.path("again");
    assert_eq!(run(&["build", "work@latest", again.to_str().unwrap()]).code, 0);
    assert_equal(&first, &again);

    _ = fs::remove_file(&ballast);
    let saved = run(&["save", "work", "-m", "now it fits"]);
    assert_eq!((saved.code, saved.err.as_str()), (0, ""));
    let out = host.path("out");
    assert_eq!(run(&["build", "work@latest", out.to_str().unwrap()]).code, 0);
    assert_equal(&host.path("guest"), &out);
    assert_eq!(run(&["check", "--data"]).code, 0);
    assert!(fs::read_dir(disk.0.join("repository/tmp")).map_or(0, Iterator::count) <= 1, "nothing piles up");
}

#[test]
fn a_build_onto_a_full_disk_fails_clearly_and_goes_on_when_there_is_space() {
    let host = Host::with_area();
    let Some(disk) = Mount::new("a_build_onto_a_full_disk", host.path("disk"), "8m") else { return };
    write(&host.path("guest/large"), &vml_testkit::noise::incompressible(3, 3 << 20));
    host.ok(["save", "work", "-m", "large"]);
    let before = content(&host.repository());
    fs::write(disk.0.join("ballast"), vec![1; 6 << 20]).unwrap();
    host.run(["build", "work@latest", "disk/out"]).fails(3, &["cannot build", "No space left on device", "free some space"]);
    assert!(!host.path("disk/out/large").exists(), "half a file is not left under its name");
    assert_eq!(content(&host.repository()), before);
    fs::remove_file(disk.0.join("ballast")).unwrap();
    host.ok(["build", "work@latest", "disk/out", "--delete", "--yes"]);
    assert_equal(&host.path("guest"), &host.path("disk/out"));
}

#[test]
fn an_area_is_described_whole_or_not_at_all() {
    let host = Host::bare();
    let Some(disk) = Mount::new("an_area_is_described_whole_or_not_at_all", host.path("home"), "1m") else { return };
    crate::support::make_guest(&host.path("guest"));
    fs::create_dir_all(disk.0.join("areas/work")).unwrap();
    let ballast = fill(&disk.0);
    host.run(["area", "add", "work", "--tree", "guest"]).fails(3, &["vml.toml", "No space left on device", "free some space"]);
    fs::remove_file(ballast).unwrap();
    host.ok(["area", "add", "work", "--tree", "guest"]);
}

#[test]
fn a_fetch_on_a_full_disk_goes_on_when_there_is_space() {
    let host = Host::new();
    let Some(disk) = Mount::new("a_fetch_on_a_full_disk", host.path("home/bases"), "2m") else { return };
    let bytes = vml_testkit::noise::incompressible(5, 3 << 20);
    let server = vml_testkit::web::WebServer::start();
    let catalogue = format!(
        "version = 1\n[[base]]\nname = \"lab\"\nversion = \"1\"\nformat = \"raw\"\nurls = [{:?}]\nsize = {}\nblake3 = \"{}\"\n",
        server.put("/x", bytes.clone()),
        bytes.len(),
        blake3::hash(&bytes).to_hex()
    );
    fs::write(host.path("c.toml"), catalogue).unwrap();
    let fetch = ["base", "fetch", "lab@1", "--catalogue", "c.toml"];
    host.run(fetch).fails(3, &["cannot fetch lab@1", "No space left on device", "free some space and run it again"]);
    assert!(host.json_lines(["base", "list"]).is_empty());
    let grown = Command::new("mount").args(["-o", "remount,size=8m"]).arg(&disk.0).status().unwrap();
    assert!(grown.success());
    let fetched = host.json(fetch);
    assert!(fetched["continued_at"].as_u64().unwrap() > 1 << 20, "{fetched}");
    assert!(fs::read(host.path("home/bases/lab@1/disk.raw")).unwrap() == bytes);
}
