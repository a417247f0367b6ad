//! Files inside saved disks, which real tools made.

use crate::support::{Host, write};
use std::fs;
use std::os::unix::fs::{MetadataExt, PermissionsExt, symlink};
use std::path::Path;
use std::process::Command;
use vml_testkit::noise::{incompressible, mixed};

fn tool(program: &str, args: &[&str], dir: &Path) {
    let mut command = Command::new(program);
    command.env("PATH", format!("{}:/usr/sbin:/sbin", std::env::var("PATH").unwrap_or_default())).current_dir(dir);
    let output = command.args(args).output().unwrap_or_else(|error| panic!("{program}, which scripts/setup.sh installs: {error}"));
    assert!(output.status.success(), "{program} {args:?}: {}", String::from_utf8_lossy(&output.stderr));
}

/// A guest's tree with what is hard to keep.
fn make_tree(root: &Path) {
    for dir in ["etc", "home/dev/deep/er", "var/empty"] {
        fs::create_dir_all(root.join(dir)).unwrap();
    }
    write(&root.join("etc/passwd"), b"root:x:0:0:root:/root:/bin/sh\n");
    write(&root.join("etc/empty"), b"");
    write(&root.join("home/dev/large"), &mixed(1, 3_500_001));
    write(&root.join("home/dev/small"), b"a few bytes");
    let mut sparse = vec![0; 6 << 20];
    sparse[5 << 20..(5 << 20) + 70_000].copy_from_slice(&incompressible(2, 70_000));
    write(&root.join("home/dev/sparse"), &sparse);
    for i in 0..300 {
        write(&root.join(format!("home/dev/deep/er/file {i}")), &incompressible(i, usize::try_from(i).unwrap() * 7));
    }
    fs::hard_link(root.join("home/dev/small"), root.join("home/dev/second name")).unwrap();
    symlink("../small", root.join("home/dev/deep/link")).unwrap();
    symlink("x".repeat(200), root.join("home/dev/long link")).unwrap();
    fs::set_permissions(root.join("home/dev/small"), fs::Permissions::from_mode(0o4751)).unwrap();
}

/// All paths below with what `ls` tells of them.
fn list(dir: &Path, below: &Path, rows: &mut Vec<String>) {
    for member in fs::read_dir(dir).unwrap().flatten() {
        let path = member.path();
        let meta = path.symlink_metadata().unwrap();
        let content = match () {
            () if meta.is_symlink() => fs::read_link(&path).unwrap().into_os_string().into_encoded_bytes(),
            () if meta.is_file() => fs::read(&path).unwrap(),
            () => Vec::new(),
        };
        let links = if meta.is_dir() { 0 } else { meta.nlink() };
        let shown = path.strip_prefix(below).unwrap().display().to_string();
        rows.push(format!("{shown} {:o} {} {links} {}", meta.mode(), meta.mtime(), blake3_hex(&content)));
        if meta.is_dir() {
            list(&path, below, rows);
        }
    }
    rows.sort_unstable();
}

fn blake3_hex(bytes: &[u8]) -> String {
    format!("{} {}", bytes.len(), vml_core::EntryId::of(bytes))
}

fn rows(dir: &Path) -> Vec<String> {
    let mut rows = Vec::new();
    list(dir, dir, &mut rows);
    // mke2fs adds it, and times of the root are its own.
    rows.retain(|row| !row.starts_with("lost+found"));
    rows
}

#[test]
fn files_are_listed_printed_restored_and_compared() {
    let host = Host::bare();
    let dir = host.path("");
    let tree = host.path("tree");
    make_tree(&tree);
    tool("mke2fs", &["-q", "-t", "ext4", "-d", "tree", "guest.raw", "64M"], &dir);
    host.ok(["init"]);
    host.ok(["area", "add", "work", "--disk", "system=guest.raw"]);
    host.ok(["save", "work", "-m", "first"]);
    host.ok(["restore", "work@latest:", "out"]);
    assert_eq!(rows(&tree), rows(&host.path("out")));
    assert_eq!(host.ok(["cat", "work@latest:etc/passwd"]), "root:x:0:0:root:/root:/bin/sh\n");
    let listed = host.ok(["ls", "-R", "work@latest:home/dev/deep"]);
    assert_eq!(listed.lines().count(), 302, "{listed}");
    assert!(host.ok(["ls", "-l", "work@latest:home/dev"]).contains("-rwsr-x--x"));
    host.run(["cat", "work@latest:etc/none"]).fails(3, &["is not in the entry"]);
    host.run(["ls", "work@latest", "--disk", "other"]).fails(3, &["no disk \"other\"", "system"]);
    host.run(["ls", "work@latest", "--partition", "3"]).fails(3, &["no partition 3"]);

    // Another state of it, in which a file moved on the disk and another changed.
    tool("debugfs", &["-w", "-R", "rm /etc/passwd", "guest.raw"], &dir);
    write(&host.path("new"), b"root:x:0:0:other:/root:/bin/sh\n");
    tool("debugfs", &["-w", "-R", "write new /etc/passwd", "guest.raw"], &dir);
    tool("debugfs", &["-w", "-R", "write new /etc/shells", "guest.raw"], &dir);
    host.ok(["save", "work", "-m", "second"]);
    let diff = host.ok(["diff", "work@~1", "work@latest"]);
    let lines: Vec<&str> = diff.lines().filter(|line| !line.starts_with("M etc/  (")).collect();
    assert_eq!(lines.len(), 3, "{diff}");
    assert!(lines[0].starts_with("M etc/passwd  (content") && lines[1] == "A etc/shells", "{diff}");
    assert_eq!(host.ok(["cat", "work@~1:etc/passwd"]), "root:x:0:0:root:/root:/bin/sh\n");

    // The same files as a tree: only what mke2fs made of the root differs.
    host.ok(["area", "add", "tree", "--tree", "tree"]);
    host.ok(["save", "tree", "-m", "as a tree"]);
    let diff = host.ok(["diff", "tree@latest", "work@~1"]);
    assert!(!diff.contains("content"), "{diff}");
}

#[test]
fn partitions_are_chosen_and_what_cannot_be_read_is_said() {
    let host = Host::bare();
    let dir = host.path("");
    make_tree(&host.path("tree"));
    fs::create_dir(host.path("data")).unwrap();
    write(&host.path("data/only here"), b"data");
    tool("mke2fs", &["-q", "-t", "ext4", "-d", "tree", "root.part", "30M"], &dir);
    tool("mke2fs", &["-q", "-t", "ext2", "-d", "data", "data.part", "10M"], &dir);
    let mut disk = vec![0; 64 << 20];
    for (file, at) in [("root.part", 1 << 20), ("data.part", 40 << 20)] {
        let part = fs::read(host.path(file)).unwrap();
        disk[at..at + part.len()].copy_from_slice(&part);
    }
    fs::write(host.path("disk.raw"), &disk).unwrap();
    fs::write(host.path("table"), "label: gpt\nstart=2048, size=61440\nstart=81920, size=20480\n").unwrap();
    tool("sh", &["-c", "sfdisk -q disk.raw < table"], &dir);
    host.ok(["init"]);
    host.ok(["area", "add", "work", "--disk", "system=disk.raw"]);
    host.ok(["save", "work", "-m", "two partitions"]);
    assert!(host.ok(["cat", "work@latest:etc/passwd"]).starts_with("root:"));
    assert_eq!(host.ok(["cat", "--partition", "2", "work@latest:only here"]), "data");
    host.run(["ls", "--partition", "5", "work@latest"]).fails(3, &["no partition 5; it has 1 (ext4), 2 (ext2)"]);

    // A file system that is known and not read: the places that differ are told instead of files.
    let mut other = vec![0; 16 << 20];
    other[..4].copy_from_slice(b"XFSB");
    fs::write(host.path("xfs.raw"), &other).unwrap();
    host.ok(["area", "add", "xfs", "--disk", "system=xfs.raw"]);
    host.ok(["save", "xfs", "-m", "one"]);
    other[8 << 20..(8 << 20) + 5000].copy_from_slice(&incompressible(3, 5000));
    fs::write(host.path("xfs.raw"), &other).unwrap();
    host.ok(["save", "xfs", "-m", "two"]);
    host.run(["ls", "xfs@latest"]).fails(3, &["only ext2, ext3 and ext4", "0 (xfs)"]);
    let changed = host.json_lines(["diff", "xfs@~1", "xfs@latest"]);
    let (offset, bytes) = (changed[0]["offset"].as_u64().unwrap(), changed[0]["bytes"].as_u64().unwrap());
    assert!(changed.len() == 1 && offset <= 8 << 20 && offset + bytes >= (8 << 20) + 5000 && bytes < 1 << 20, "{changed:?}");
}
