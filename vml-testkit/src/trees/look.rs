//! Looks at a tree through the standard library, with nothing of what is tested.

use super::walk;
use rustix::fs::SeekFrom;
use std::collections::{BTreeMap, HashMap};
use std::fs::{self, File};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{FileTypeExt, MetadataExt};
use std::path::{Path, PathBuf};
use std::process::Command;

/// Everything that can be seen of one member and that a restore must bring back.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Seen {
    /// Kind and permissions.
    pub mode: u32,
    /// Owner and group.
    pub owner: (u32, u32),
    /// Seconds and nanoseconds of the last modification; a directory's too.
    pub mtime: (i64, i64),
    /// Device number of a device.
    pub device: u64,
    /// Bytes of a file, target of a link.
    pub content: Vec<u8>,
    /// Runs of data in a file.
    pub data: Vec<(u64, u64)>,
    /// Extended attributes by name.
    pub xattrs: BTreeMap<Vec<u8>, Vec<u8>>,
    /// The first path, in the order of the walk, that names the same file.
    pub first: PathBuf,
}

/// Everything below `root`, by path; the root itself as the empty path. Sockets are passed over.
pub fn look_at(root: &Path) -> BTreeMap<PathBuf, Seen> {
    let mut first: HashMap<(u64, u64), PathBuf> = HashMap::new();
    let mut all = BTreeMap::new();
    for path in std::iter::once(root.to_path_buf()).chain(walk(root)) {
        let meta = fs::symlink_metadata(&path).unwrap();
        let kind = meta.file_type();
        if kind.is_socket() {
            continue;
        }
        let short = path.strip_prefix(root).unwrap().to_path_buf();
        let (mut content, mut data) = (Vec::new(), Vec::new());
        if kind.is_file() {
            content = fs::read(&path).unwrap();
            data = data_runs(&path, meta.len());
        } else if kind.is_symlink() {
            content = fs::read_link(&path).unwrap().as_os_str().as_bytes().to_vec();
        }
        let seen = Seen {
            mode: meta.mode(),
            owner: (meta.uid(), meta.gid()),
            mtime: (meta.mtime(), meta.mtime_nsec()),
            device: if kind.is_char_device() || kind.is_block_device() { meta.rdev() } else { 0 },
            content,
            data,
            xattrs: xattrs(&path),
            first: first.entry((meta.dev(), meta.ino())).or_insert_with(|| short.clone()).clone(),
        };
        all.insert(short, seen);
    }
    all
}

fn data_runs(path: &Path, len: u64) -> Vec<(u64, u64)> {
    let file = File::open(path).unwrap();
    let mut runs = Vec::new();
    let mut offset = 0;
    while let (true, Ok(start)) = (offset < len, rustix::fs::seek(&file, SeekFrom::Data(offset))) {
        let end = rustix::fs::seek(&file, SeekFrom::Hole(start)).unwrap();
        runs.push((start, end));
        offset = end;
    }
    runs
}

fn xattrs(path: &Path) -> BTreeMap<Vec<u8>, Vec<u8>> {
    let mut names = vec![0; 64 << 10];
    let Ok(len) = rustix::fs::llistxattr(path, &mut names[..]) else { return BTreeMap::new() };
    let mut found = BTreeMap::new();
    for name in names[..len].split(|byte| *byte == 0).filter(|name| !name.is_empty()) {
        let mut value = vec![0; 64 << 10];
        let len = rustix::fs::lgetxattr(path, name, &mut value[..]).unwrap();
        found.insert(name.to_vec(), value[..len].to_vec());
    }
    found
}

/// What `rsync` would do to make `right` as `left` is, with every byte read and every attribute compared; nothing when they are
/// equal. `None`, with a line that says so, where `rsync` is not installed.
pub fn rsync_differences(left: &Path, right: &Path) -> Option<Vec<String>> {
    let ask = |path: &Path| {
        let mut path = path.as_os_str().to_os_string();
        path.push("/");
        path
    };
    // Sockets are not saved; rsync knows them as "specials" together with FIFOs, so both are left to the other checks.
    let options = ["-aHAXn", "--no-specials", "--delete", "--itemize-changes", "--checksum", "--numeric-ids"];
    let output = match Command::new("rsync").args(options).arg(ask(left)).arg(ask(right)).output() {
        Ok(output) => output,
        Err(error) => {
            eprintln!("not compared with rsync: {error}");
            return None;
        }
    };
    assert!(output.status.success(), "rsync: {}", String::from_utf8_lossy(&output.stderr));
    let told = String::from_utf8_lossy(&output.stdout).into_owned();
    Some(told.lines().filter(|line| !line.starts_with("skipping non-regular") && !line.is_empty()).map(str::to_owned).collect())
}

#[cfg(test)]
mod tests {
    use crate::noise::Rng;
    use crate::trees::{Able, change_tree, look_at, make_tree};

    #[test]
    fn a_seed_makes_the_same_tree_twice_and_changes_change_it() {
        let dir = tempfile::tempdir().unwrap();
        let able = Able::find_out(dir.path());
        let trees = [1, 2].map(|number| {
            let root = dir.path().join(number.to_string());
            std::fs::create_dir(&root).unwrap();
            make_tree(&root, &mut Rng::new(9), 80, &able);
            root
        });
        let seen = look_at(&trees[0]);
        assert!(seen == look_at(&trees[1]), "the same seed");
        assert!(seen.len() > 40 && seen.iter().any(|(path, seen)| seen.first != *path), "with hard links");
        change_tree(&trees[1], &mut Rng::new(10), 10, &able);
        assert!(seen != look_at(&trees[1]));
        for seed in 11..40 {
            change_tree(&trees[1], &mut Rng::new(seed), 10, &able);
        }
    }
}
