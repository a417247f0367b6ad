//! Opening and listing relative to an open directory: never through a symbolic link, never upward.

use rustix::fs::{AtFlags, Dir, Mode, OFlags, ResolveFlags, Statx, StatxFlags};
use rustix::io::Errno;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use std::path::Path;
use vml_chunk::{IoResultExt, Result};

use super::node::display_path;

/// What capture and restore ask of a file.
pub(super) const STAT: StatxFlags = StatxFlags::BASIC_STATS;

const DIRECTORY: OFlags = OFlags::RDONLY.union(OFlags::DIRECTORY).union(OFlags::NOFOLLOW).union(OFlags::CLOEXEC);

/// Opens the directory that everything else is relative to; this one may be reached by links, it is the caller's.
pub(super) fn open_root(path: &Path) -> Result<OwnedFd> {
    rustix::fs::open(path, OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC, Mode::empty())
        .at(|| format!("cannot open directory {}", path.display()))
}

/// Opens a member that is a directory.
pub(super) fn open_dir(dir: impl AsFd, name: &[u8]) -> rustix::io::Result<OwnedFd> {
    without_atime(DIRECTORY, |flags| rustix::fs::openat(dir.as_fd(), name, flags, Mode::empty()))
}

/// Opens a member that is a regular file for reading; a FIFO put in its place does not block.
pub(super) fn open_file(dir: impl AsFd, name: &[u8]) -> rustix::io::Result<OwnedFd> {
    let flags = OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::CLOEXEC;
    without_atime(flags, |flags| rustix::fs::openat(dir.as_fd(), name, flags, Mode::empty()))
}

/// Reading should leave no trace; the kernel allows that to the owner and to root only.
fn without_atime(flags: OFlags, open: impl Fn(OFlags) -> rustix::io::Result<OwnedFd>) -> rustix::io::Result<OwnedFd> {
    match open(flags | OFlags::NOATIME) {
        Err(Errno::PERM) => open(flags),
        other => other,
    }
}

/// Opens the directory at `path` below `root`, whatever anybody does to the tree meanwhile. Where the kernel lacks
/// `openat2`, or the path is longer than it takes, each component is opened by itself, with the same guarantee.
pub(super) fn open_beneath(root: BorrowedFd<'_>, path: &[u8]) -> rustix::io::Result<OwnedFd> {
    let resolve = ResolveFlags::BENEATH | ResolveFlags::NO_SYMLINKS | ResolveFlags::NO_MAGICLINKS;
    let whole: &[u8] = if path.is_empty() { b"." } else { path };
    match rustix::fs::openat2(root, whole, DIRECTORY, Mode::empty(), resolve) {
        Err(Errno::NOSYS | Errno::PERM | Errno::NAMETOOLONG | Errno::AGAIN | Errno::INVAL) => {}
        other => return other,
    }
    let mut dir = rustix::fs::openat(root, ".", DIRECTORY, Mode::empty())?;
    for part in path.split(|byte| *byte == b'/').filter(|part| !part.is_empty()) {
        if part == b".." {
            return Err(Errno::XDEV);
        }
        dir = rustix::fs::openat(&dir, part, DIRECTORY, Mode::empty())?;
    }
    Ok(dir)
}

/// The names in a directory, sorted by their bytes.
pub(super) fn names(dir: impl AsFd) -> rustix::io::Result<Vec<Vec<u8>>> {
    let mut names = Vec::new();
    for entry in Dir::read_from(dir)? {
        let entry = entry?;
        let name = entry.file_name().to_bytes();
        if name != b"." && name != b".." {
            names.push(name.to_vec());
        }
    }
    names.sort_unstable();
    Ok(names)
}

/// What a member is, without following it.
pub(super) fn stat(dir: impl AsFd, name: &[u8]) -> rustix::io::Result<Statx> {
    rustix::fs::statx(dir, name, AtFlags::SYMLINK_NOFOLLOW | AtFlags::NO_AUTOMOUNT, STAT)
}

/// What an open file is.
pub(super) fn stat_open(file: impl AsFd) -> rustix::io::Result<Statx> {
    rustix::fs::statx(file, "", AtFlags::EMPTY_PATH, STAT)
}

/// Sets the mode of a member by an open handle of the thing itself: a name could be a link by now.
pub(super) fn chmod(dir: impl AsFd, name: &[u8], mode: Mode) -> rustix::io::Result<()> {
    let handle = rustix::fs::openat(dir, name, OFlags::PATH | OFlags::NOFOLLOW | OFlags::CLOEXEC, Mode::empty())?;
    rustix::fs::chmod(format!("/proc/self/fd/{}", handle.as_raw_fd()), mode)
}

/// A path for the calls that have no form relative to a directory.
pub(super) fn proc_path(dir: impl AsFd, name: &[u8]) -> Vec<u8> {
    let mut path = format!("/proc/self/fd/{}/", dir.as_fd().as_raw_fd()).into_bytes();
    path.extend_from_slice(name);
    path
}

/// `dir/name`, or `name` in the root, whose path is empty.
pub fn join(dir: &[u8], name: &[u8]) -> Vec<u8> {
    let mut path = Vec::with_capacity(dir.len() + 1 + name.len());
    path.extend_from_slice(dir);
    if !dir.is_empty() {
        path.push(b'/');
    }
    path.extend_from_slice(name);
    path
}

/// For errors: where in the tree.
pub(super) fn shown(path: &[u8]) -> String {
    if path.is_empty() { "/".to_owned() } else { display_path(path) }
}
