//! Looks at directories ahead of the walk: their names, and what the kernel says of each member.
//!
//! ```text
//! scan, a thread: open, list, stat ──► Scanned ──► walk: compare with the parent entry, take over or queue
//! ```
//! Both go through the tree in one order, each directory before those in it and these by their names, so what comes next needs no
//! name: it is the next directory that the walk wants.

use super::DEPTH_MAX;
use super::at;
use super::attributes::{self, Target, Xattrs};
use super::exclude::Exclude;
use crossbeam_channel::{SendError, Sender};
use rustix::fs::{FileType, Statx};
use rustix::io::Errno;
use std::os::fd::{AsFd, OwnedFd};
use std::sync::Arc;

/// Members that are handed over together: those of a small directory, or a part of a large one.
const MEMBERS_MAX: usize = 256;
/// Such parts that wait for the walk at most.
pub(super) const AHEAD_MAX: usize = 32;

/// What the walk hears.
pub(super) enum Scanned {
    /// The next directory.
    Directory(Opened),
    /// The next directory cannot be read.
    Failed(Errno),
    /// More members of the directory that came before.
    More(Members),
}

/// A directory that is open.
pub(super) struct Opened {
    pub(super) fd: Arc<OwnedFd>,
    pub(super) stat: Statx,
    pub(super) xattrs: Xattrs,
    /// How many members it has that are not told, because it is on another file system.
    pub(super) hidden_count: u64,
    pub(super) members: Members,
}

/// Members of a directory, in the order of their names.
pub(super) struct Members {
    pub(super) list: std::vec::IntoIter<Member>,
    /// Whether others come after them.
    pub(super) more: bool,
}

pub(super) struct Member {
    pub(super) name: Vec<u8>,
    pub(super) what: What,
}

pub(super) enum What {
    Excluded,
    Failed(Errno),
    Stat(Statx),
}

pub(super) struct Scan<'a> {
    pub(super) sink: Sender<Scanned>,
    pub(super) exclude: &'a Exclude,
    pub(super) one_file_system: bool,
}

/// A directory whose subdirectories are being scanned.
struct Level {
    fd: Arc<OwnedFd>,
    path: Vec<u8>,
    /// With their devices.
    subdirectories: std::vec::IntoIter<(Vec<u8>, (u32, u32))>,
}

impl Scan<'_> {
    /// Tells of all directories, as long as somebody listens.
    pub(super) fn run(self, root: OwnedFd) {
        // The walk has ended early, and knows why.
        _ = self.scan(root);
    }

    fn scan(&self, root: OwnedFd) -> Result<(), SendError<Scanned>> {
        let device = at::stat_open(&root).map(|stat| device_of(&stat));
        let mut stack = Vec::new();
        stack.extend(self.directory(Ok(root), Vec::new(), false)?);
        while let Some(level) = stack.last_mut() {
            let Some((name, device_there)) = level.subdirectories.next() else {
                stack.pop();
                continue;
            };
            let (fd, path) = (Arc::clone(&level.fd), at::join(&level.path, &name));
            if stack.len() < DEPTH_MAX {
                let hide = self.one_file_system && device != Ok(device_there);
                stack.extend(self.directory(at::open_dir(&*fd, &name), path, hide)?);
            }
        }
        Ok(())
    }

    fn directory(&self, fd: rustix::io::Result<OwnedFd>, path: Vec<u8>, hide: bool) -> Result<Option<Level>, SendError<Scanned>> {
        let opened = fd.and_then(|fd| {
            let xattrs = attributes::read(Target::Open(fd.as_fd()))?;
            let names = at::names(&fd)?;
            // It may have been replaced since its name was read; what is open counts.
            let stat = at::stat_open(&fd)?;
            Ok((Arc::new(fd), stat, xattrs, names))
        });
        let (fd, stat, xattrs, mut names) = match opened {
            Ok(opened) => opened,
            Err(error) => {
                self.sink.send(Scanned::Failed(error))?;
                return Ok(None);
            }
        };
        let hidden_count = if hide { std::mem::take(&mut names).len() as u64 } else { 0 };
        let mut subdirectories = Vec::new();
        let mut names = names.into_iter();
        let mut next = || {
            let list: Vec<Member> =
                names.by_ref().take(MEMBERS_MAX).map(|name| self.member(&fd, &path, name, &mut subdirectories)).collect();
            Members { list: list.into_iter(), more: names.len() > 0 }
        };
        let mut members = next();
        let mut more = members.more;
        self.sink.send(Scanned::Directory(Opened { fd: Arc::clone(&fd), stat, xattrs, hidden_count, members }))?;
        while more {
            members = next();
            more = members.more;
            self.sink.send(Scanned::More(members))?;
        }
        Ok(Some(Level { fd, path, subdirectories: subdirectories.into_iter() }))
    }

    fn member(&self, fd: &OwnedFd, dir: &[u8], name: Vec<u8>, subdirectories: &mut Vec<(Vec<u8>, (u32, u32))>) -> Member {
        if !self.exclude.is_empty() && self.exclude.matches(&at::join(dir, &name), &name) {
            return Member { name, what: What::Excluded };
        }
        let what = match at::stat(fd, &name) {
            Ok(stat) => {
                if FileType::from_raw_mode(u32::from(stat.stx_mode)) == FileType::Directory {
                    subdirectories.push((name.clone(), device_of(&stat)));
                }
                What::Stat(stat)
            }
            Err(error) => What::Failed(error),
        };
        Member { name, what }
    }
}

fn device_of(stat: &Statx) -> (u32, u32) {
    (stat.stx_dev_major, stat.stx_dev_minor)
}
