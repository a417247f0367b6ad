//! Looks at a tree ahead of the walk: opens its directories and asks what their members are.
//!
//! Half of the time of a save in which little changed is the kernel's, for this. What is found comes in the order in which the walk wants it: a directory, its
//! members, its end, then the same for each of its subdirectories.

use super::at;
use super::attributes::{self, Target};
use super::exclude::Exclude;
use crossbeam_channel::{Receiver, Sender, bounded};
use rustix::fs::{FileType, Statx};
use rustix::io::Errno;
use std::collections::VecDeque;
use std::os::fd::{AsFd, OwnedFd};
use std::sync::Arc;
use std::thread::Scope;

/// What is handed over at once: it costs as much as a few members.
const BLOCK_LEN: usize = 64;
/// Blocks that wait for the walk. Every second thing in them may be a directory that is open, and a process may have 1024 open.
const BLOCKS_MAX: usize = 4;

/// What the scan comes upon. `N` is how a member's name is given.
#[expect(clippy::large_enum_variant, reason = "nearly all are members")]
pub(super) enum Scanned<N = Vec<u8>> {
    /// A directory was opened.
    Directory(Box<ScannedDirectory>),
    /// A directory cannot be opened or listed: it has no members and no end.
    Unreadable(Errno),
    /// A member of the directory at hand.
    Member(N, Member),
    /// The directory at hand has no more members.
    End,
}

impl<N> Scanned<N> {
    /// The same, with a member's name given in another way.
    fn with_name<M>(self, change: impl FnOnce(N) -> M) -> Scanned<M> {
        match self {
            Self::Directory(directory) => Scanned::Directory(directory),
            Self::Unreadable(error) => Scanned::Unreadable(error),
            Self::Member(name, member) => Scanned::Member(change(name), member),
            Self::End => Scanned::End,
        }
    }
}

/// A directory that is open.
pub(super) struct ScannedDirectory {
    pub(super) fd: Arc<OwnedFd>,
    pub(super) stat: Statx,
    pub(super) xattrs: Vec<(Vec<u8>, Vec<u8>)>,
    /// How many members it has that are passed over, because it is on another file system.
    pub(super) passed_over_count: u64,
}

/// What a member is.
#[expect(clippy::large_enum_variant, reason = "nearly all are there, and each in a box of its own would be freed by the other thread")]
pub(super) enum Member {
    /// Left out as was asked.
    Excluded,
    /// It cannot be looked at.
    Unreadable(Errno),
    /// It is there.
    There(Statx),
}

/// Goes through the tree.
pub(super) struct Scan<'a> {
    exclude: &'a Exclude,
    /// Where the tree is, when it shall not be left.
    device: Option<(u32, u32)>,
    stack: Vec<Level>,
}

/// A directory whose members, then whose subdirectories are gone through.
struct Level {
    path: Vec<u8>,
    fd: Arc<OwnedFd>,
    names: std::vec::IntoIter<Vec<u8>>,
    subdirectories: VecDeque<(Vec<u8>, (u32, u32))>,
    ended: bool,
}

impl Level {
    fn new(path: Vec<u8>, fd: Arc<OwnedFd>, names: Vec<Vec<u8>>) -> Self {
        Self { path, fd, names: names.into_iter(), subdirectories: VecDeque::new(), ended: false }
    }
}

impl<'a> Scan<'a> {
    /// A scan that begins with the members of the root, which is open.
    pub(super) fn new(root: Arc<OwnedFd>, names: Vec<Vec<u8>>, exclude: &'a Exclude, device: Option<(u32, u32)>) -> Self {
        Self { exclude, device, stack: vec![Level::new(Vec::new(), root, names)] }
    }

    fn member(exclude: &Exclude, level: &mut Level, name: Vec<u8>) -> Scanned {
        if !exclude.is_empty() && exclude.matches(&at::join(&level.path, &name), &name) {
            return Scanned::Member(name, Member::Excluded);
        }
        match at::stat(&*level.fd, &name) {
            Ok(stat) => {
                if FileType::from_raw_mode(u32::from(stat.stx_mode)) == FileType::Directory {
                    level.subdirectories.push_back((name.clone(), (stat.stx_dev_major, stat.stx_dev_minor)));
                }
                Scanned::Member(name, Member::There(stat))
            }
            Err(error) => Scanned::Member(name, Member::Unreadable(error)),
        }
    }

    fn open(&mut self, above: &OwnedFd, path: Vec<u8>, name: &[u8], device: (u32, u32)) -> Scanned {
        let opened = at::open_dir(above, name).and_then(|fd| {
            let xattrs = attributes::read(Target::Open(fd.as_fd()))?;
            let names = at::names(&fd)?;
            // The directory may have been replaced since its name was read; what is open counts.
            let stat = at::stat_open(&fd)?;
            Ok((fd, stat, xattrs, names))
        });
        let (fd, stat, xattrs, mut names) = match opened {
            Ok(opened) => opened,
            Err(error) => return Scanned::Unreadable(error),
        };
        let fd = Arc::new(fd);
        let mut passed_over_count = 0;
        if self.device.is_some_and(|own| own != device) {
            passed_over_count = names.len() as u64;
            names = Vec::new();
        }
        self.stack.push(Level::new(path, Arc::clone(&fd), names));
        Scanned::Directory(Box::new(ScannedDirectory { fd, stat, xattrs, passed_over_count }))
    }
}

impl Iterator for Scan<'_> {
    type Item = Scanned;

    fn next(&mut self) -> Option<Scanned> {
        loop {
            let depth = self.stack.len();
            let level = self.stack.last_mut()?;
            if let Some(name) = level.names.next() {
                return Some(Self::member(self.exclude, level, name));
            }
            if !level.ended {
                level.ended = true;
                return Some(Scanned::End);
            }
            // The walk does not go deeper either.
            match level.subdirectories.pop_front().filter(|_| depth < super::DEPTH_MAX) {
                Some((name, device)) => {
                    let (above, path) = (Arc::clone(&level.fd), at::join(&level.path, &name));
                    return Some(self.open(&above, path, &name, device));
                }
                None => _ = self.stack.pop(),
            }
        }
    }
}

/// What was found, from a thread that goes ahead, or looked at as it is asked for.
pub(super) enum Ahead<'a> {
    Here(Scan<'a>),
    There { blocks: Receiver<Block>, block: Block },
}

/// Some of what was found, in few allocations: memory that one thread takes and another one frees makes them wait for each other.
#[derive(Default)]
pub(super) struct Block {
    /// The members' names, one after the other.
    names: Vec<u8>,
    names_taken: usize,
    /// With the lengths of names.
    found: VecDeque<Scanned<usize>>,
}

impl Block {
    fn new() -> Self {
        Self { names: Vec::with_capacity(32 * BLOCK_LEN), names_taken: 0, found: VecDeque::with_capacity(BLOCK_LEN) }
    }

    fn push(&mut self, scanned: Scanned) {
        self.found.push_back(scanned.with_name(|name| {
            self.names.extend_from_slice(&name);
            name.len()
        }));
    }

    fn pop(&mut self) -> Option<Scanned> {
        let scanned = self.found.pop_front()?;
        Some(scanned.with_name(|len| {
            let start = self.names_taken;
            self.names_taken += len;
            self.names[start..self.names_taken].to_vec()
        }))
    }
}

impl<'a> Ahead<'a> {
    /// Lets a thread of `scope` go ahead.
    pub(super) fn start<'scope>(scan: Scan<'a>, scope: &'scope Scope<'scope, '_>) -> Self
    where
        'a: 'scope,
    {
        let (sender, blocks) = bounded(BLOCKS_MAX);
        scope.spawn(move || run(scan, &sender));
        Self::There { blocks, block: Block::default() }
    }
}

fn run(scan: Scan<'_>, sender: &Sender<Block>) {
    let mut block = Block::new();
    for scanned in scan {
        block.push(scanned);
        // A walk that ended early takes no more.
        if block.found.len() >= BLOCK_LEN && sender.send(std::mem::replace(&mut block, Block::new())).is_err() {
            return;
        }
    }
    _ = sender.send(block);
}

impl Iterator for Ahead<'_> {
    type Item = Scanned;

    fn next(&mut self) -> Option<Scanned> {
        match self {
            Self::Here(scan) => scan.next(),
            Self::There { blocks, block } => loop {
                if let Some(next) = block.pop() {
                    return Some(next);
                }
                *block = blocks.recv().ok()?;
            },
        }
    }
}
