//! Compares two directory trees on disk, byte by byte and attribute by attribute, without the store: how a restore is
//! proved.

use super::at;
use super::attributes::{self, Target};
use super::node::display_path;
use rustix::fs::{FileType, SeekFrom, Statx};
use rustix::io::Errno;
use std::collections::HashMap;
use std::fs::File;
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::fs::FileExt;
use std::path::Path;
use vml_chunk::{IoResultExt, Result};

/// What is compared beside names, kinds, bytes, link targets and device numbers.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct CompareOptions {
    /// Owner and group: only root can restore them.
    pub owners: bool,
    /// Where the holes of files are.
    pub holes: bool,
}

/// Numbers and differences of one comparison.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Comparison {
    /// Members compared, the roots included.
    pub members_count: u64,
    /// Bytes of files compared.
    pub bytes: u64,
    /// One line a difference: the path and what differs.
    pub differences: Vec<String>,
}

/// Compares the trees at `left` and `right`; sockets are passed over, as they are not captured.
///
/// # Errors
/// When either cannot be read; a difference is no error.
pub fn compare_directories(left: &Path, right: &Path, options: CompareOptions) -> Result<Comparison> {
    let mut compare = Compare { options, result: Comparison::default(), links: HashMap::new(), links_back: HashMap::new() };
    let (a, b) = (at::open_root(left)?, at::open_root(right)?);
    let stats = at::stat_open(&a).and_then(|x| Ok((x, at::stat_open(&b)?))).at(|| "cannot read the roots")?;
    compare.attributes(b"", &stats.0, &stats.1, Target::Open(a.as_fd()), Target::Open(b.as_fd()))?;
    compare.directories(&a, &b, b"")?;
    Ok(compare.result)
}

type Inode = (u32, u32, u64);

struct Compare {
    options: CompareOptions,
    result: Comparison,
    /// Files with several names: which inode on the right belongs to one on the left, and back.
    links: HashMap<Inode, Inode>,
    links_back: HashMap<Inode, Inode>,
}

impl Compare {
    fn differ(&mut self, path: &[u8], what: impl std::fmt::Display) {
        self.result.differences.push(format!("{}: {what}", at::shown(path)));
    }

    fn directories(&mut self, a: &OwnedFd, b: &OwnedFd, path: &[u8]) -> Result<()> {
        let failed = |side: &str| format!("cannot list {} on the {side}", at::shown(path));
        let (left, right) = (at::names(a).at(|| failed("left"))?, at::names(b).at(|| failed("right"))?);
        for name in left.iter().filter(|name| right.binary_search(name).is_err()) {
            if !is_socket(a, name) {
                self.differ(&at::join(path, name), "only on the left");
            }
        }
        for name in right.iter().filter(|name| left.binary_search(name).is_err()) {
            self.differ(&at::join(path, name), "only on the right");
        }
        for name in left.iter().filter(|name| right.binary_search(name).is_ok()) {
            let path = at::join(path, name);
            self.members(a, b, name, &path).map_err(|error| error.context(format!("cannot compare {}", at::shown(&path))))?;
        }
        Ok(())
    }

    fn members(&mut self, a: &OwnedFd, b: &OwnedFd, name: &[u8], path: &[u8]) -> Result<()> {
        let read = || "cannot read a member";
        let (x, y) = (at::stat(a, name).at(read)?, at::stat(b, name).at(read)?);
        let kind = |stat: &Statx| FileType::from_raw_mode(u32::from(stat.stx_mode));
        if kind(&x) != kind(&y) {
            self.differ(path, "another kind of file");
            return Ok(());
        }
        self.attributes(path, &x, &y, Target::Member(a.as_fd(), name), Target::Member(b.as_fd(), name))?;
        match kind(&x) {
            FileType::Directory => {
                let (a, b) = (at::open_dir(a, name).at(read)?, at::open_dir(b, name).at(read)?);
                return self.directories(&a, &b, path);
            }
            FileType::RegularFile if x.stx_size != y.stx_size => self.differ(path, format!("{} bytes and {}", x.stx_size, y.stx_size)),
            FileType::RegularFile => {
                let (a, b) = (File::from(at::open_file(a, name).at(read)?), File::from(at::open_file(b, name).at(read)?));
                self.bytes(path, &a, &b, x.stx_size)?;
            }
            FileType::Symlink => {
                let target = |dir| rustix::fs::readlinkat(dir, name, Vec::new()).at(read);
                if target(a)? != target(b)? {
                    self.differ(path, "another target");
                }
            }
            FileType::CharacterDevice | FileType::BlockDevice
                if (x.stx_rdev_major, x.stx_rdev_minor) != (y.stx_rdev_major, y.stx_rdev_minor) =>
            {
                self.differ(path, "another device");
            }
            _ => {}
        }
        let inode = |stat: &Statx| (stat.stx_dev_major, stat.stx_dev_minor, stat.stx_ino);
        if x.stx_nlink != y.stx_nlink {
            self.differ(path, format!("{} names and {}", x.stx_nlink, y.stx_nlink));
        } else if x.stx_nlink > 1 {
            let (left, right) = (inode(&x), inode(&y));
            if *self.links.entry(left).or_insert(right) != right || *self.links_back.entry(right).or_insert(left) != left {
                self.differ(path, "linked to another file");
            }
        }
        Ok(())
    }

    fn attributes(&mut self, path: &[u8], x: &Statx, y: &Statx, a: Target<'_>, b: Target<'_>) -> Result<()> {
        self.result.members_count += 1;
        if x.stx_mode != y.stx_mode {
            self.differ(path, format!("mode {:o} and {:o}", x.stx_mode & 0o7777, y.stx_mode & 0o7777));
        }
        if self.options.owners && (x.stx_uid, x.stx_gid) != (y.stx_uid, y.stx_gid) {
            self.differ(path, format!("owner {}:{} and {}:{}", x.stx_uid, x.stx_gid, y.stx_uid, y.stx_gid));
        }
        let time = |stat: &Statx| (stat.stx_mtime.tv_sec, stat.stx_mtime.tv_nsec);
        if time(x) != time(y) {
            self.differ(path, format!("modified {:?} and {:?}", time(x), time(y)));
        }
        let read = |target| attributes::read(target).at(|| "cannot read extended attributes");
        let (left, right) = (read(a)?, read(b)?);
        if left != right {
            let names = |xattrs: &[(Vec<u8>, Vec<u8>)]| xattrs.iter().map(|(name, _)| display_path(name)).collect::<Vec<_>>().join(" ");
            self.differ(path, format!("extended attributes [{}] and [{}]", names(&left), names(&right)));
        }
        Ok(())
    }

    fn bytes(&mut self, path: &[u8], a: &File, b: &File, size: u64) -> Result<()> {
        const PART: usize = 256 << 10;
        let (mut x, mut y) = (vec![0; PART], vec![0; PART]);
        let mut offset = 0;
        while offset < size {
            let len = usize::try_from(size - offset).unwrap_or(usize::MAX).min(PART);
            let read = || "cannot read a file";
            a.read_exact_at(&mut x[..len], offset).at(read)?;
            b.read_exact_at(&mut y[..len], offset).at(read)?;
            if x[..len] != y[..len] {
                self.differ(path, format!("other bytes between {offset} and {}", offset + len as u64));
                return Ok(());
            }
            offset += len as u64;
        }
        self.result.bytes += size;
        if self.options.holes && holes(a, size)? != holes(b, size)? {
            self.differ(path, "other holes");
        }
        Ok(())
    }
}

fn is_socket(dir: &OwnedFd, name: &[u8]) -> bool {
    at::stat(dir, name).is_ok_and(|stat| FileType::from_raw_mode(u32::from(stat.stx_mode)) == FileType::Socket)
}

/// Where data begins and ends.
fn holes(file: &File, size: u64) -> Result<Vec<(u64, u64)>> {
    let mut runs = Vec::new();
    let mut offset = 0;
    while offset < size {
        let start = match rustix::fs::seek(file, SeekFrom::Data(offset)) {
            Err(Errno::NXIO) => break,
            other => other.at(|| "cannot look for holes")?,
        };
        let end = rustix::fs::seek(file, SeekFrom::Hole(start)).at(|| "cannot look for holes")?;
        runs.push((start, end));
        offset = end;
    }
    Ok(runs)
}
