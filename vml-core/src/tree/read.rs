//! Reads one member of a directory into a node, its bytes into chunks.

use super::assemble::Directory;
use super::at;
use super::attributes::{self, Target};
use super::capture::{LeftOutReason, Session};
use super::node::{Content, Node, NodeKind};
use super::walk::node_of;
use crate::recipe::{Piece, RecipeWriter};
use rustix::fs::{FileType, SeekFrom, Statx};
use rustix::io::Errno;
use std::collections::HashMap;
use std::fs::File;
use std::hash::Hash;
use std::io::Read;
use std::os::fd::{AsFd, OwnedFd};
use std::sync::atomic::Ordering;
use std::sync::{Arc, Mutex, PoisonError};
use vml_chunk::{ChunkWriter, Result};

/// A member to be read.
pub(super) struct FileJob {
    pub(super) seat: Seat,
    pub(super) fd: Arc<OwnedFd>,
    pub(super) stat: Statx,
}

/// Where a member belongs.
pub(super) struct Seat {
    pub(super) directory: Arc<Directory>,
    pub(super) slot: usize,
    pub(super) name: Vec<u8>,
    /// For a file with several names: what its other names wait for.
    pub(super) group: Option<Arc<LinkGroup>>,
}

impl Seat {
    pub(super) fn path(&self) -> Vec<u8> {
        at::join(&self.directory.path, &self.name)
    }

    /// The path that all names of the file carry, if it has several.
    pub(super) fn link(&self) -> Option<Vec<u8>> {
        self.group.as_ref().map(|group| group.path.clone())
    }
}

/// The names of one file: the first is read, the others take over its node.
pub(super) struct LinkGroup {
    /// The path of the first name.
    pub(super) path: Vec<u8>,
    state: Mutex<LinkState>,
}

#[derive(Default)]
struct LinkState {
    /// Set when the first name is settled; `None` inside when it could not be read.
    result: Option<Option<Node>>,
    waiting: Vec<(Arc<Directory>, usize, Vec<u8>)>,
}

impl LinkGroup {
    pub(super) fn new(path: Vec<u8>) -> Self {
        Self { path, state: Mutex::default() }
    }

    /// Adds a name; gives the node when it is there already, else the name will be settled with the first.
    pub(super) fn join(&self, directory: &Arc<Directory>, slot: usize, name: &[u8]) -> Option<Option<Node>> {
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        if state.result.is_none() {
            state.waiting.push((Arc::clone(directory), slot, name.to_vec()));
        }
        state.result.clone()
    }
}

/// Files with several names, by what tells them apart, with how many names are still to come.
pub(super) struct Links<K>(HashMap<K, (Arc<LinkGroup>, u32)>);

impl<K: Eq + Hash> Links<K> {
    pub(super) fn new() -> Self {
        Self(HashMap::new())
    }

    /// The seat of a file that has `names_count` names; `None` when another of its names was met before, with which this one goes.
    pub(super) fn seat(&mut self, session: &Session<'_>, key: K, names_count: u32, mut seat: Seat) -> Result<Option<Seat>> {
        if names_count < 2 {
            return Ok(Some(seat));
        }
        let Some((known, left)) = self.0.get_mut(&key) else {
            let first = Arc::new(LinkGroup::new(seat.path()));
            self.0.insert(key, (Arc::clone(&first), names_count - 1));
            seat.group = Some(first);
            return Ok(Some(seat));
        };
        let known = Arc::clone(known);
        *left -= 1;
        if *left == 0 {
            self.0.remove(&key);
        }
        if let Some(result) = known.join(&seat.directory, seat.slot, &seat.name) {
            session.settle_name(&seat.directory, seat.slot, &seat.name, result)?;
        }
        Ok(None)
    }
}

impl Session<'_> {
    /// Delivers a member as it is known.
    pub(super) fn take_over(&self, seat: &Seat, known: Node) -> Result<()> {
        self.settle(seat, Some(Node { link: seat.link(), ..known }))
    }

    /// Delivers a member, and all names that wait for it.
    pub(super) fn settle(&self, seat: &Seat, member: Option<Node>) -> Result<()> {
        if let Some(group) = &seat.group {
            let waiting = {
                let mut state = group.state.lock().unwrap_or_else(PoisonError::into_inner);
                state.result = Some(member.clone());
                std::mem::take(&mut state.waiting)
            };
            for (directory, slot, name) in waiting {
                self.settle_name(&directory, slot, &name, member.clone())?;
            }
        }
        self.settle_name(&seat.directory, seat.slot, &seat.name, member)
    }

    /// Delivers a member under one of its names.
    pub(super) fn settle_name(&self, directory: &Arc<Directory>, slot: usize, name: &[u8], member: Option<Node>) -> Result<()> {
        let member = member.map(|node| Node { name: name.to_vec(), ..node });
        match &member {
            Some(node) => self.count(node),
            None => self.leave_out(at::join(&directory.path, name), 0, LeftOutReason::Unreadable),
        }
        self.deliver(directory, slot, member)
    }
}

/// Why a member cannot be captured as it should be.
enum Trouble {
    Os(Errno),
    Io(std::io::Error),
    /// It is another kind of file than when its directory was listed.
    Replaced,
}

/// Reads a member. `None` when it cannot be: the problem is told. The error is the store's.
pub(super) fn read_member(session: &Session<'_>, chunks: &mut ChunkWriter<'_>, job: &FileJob) -> Result<Option<Node>> {
    let outcome = match FileType::from_raw_mode(u32::from(job.stat.stx_mode)) {
        FileType::RegularFile => read_file(session, chunks, job)?,
        other => read_special(job, other),
    };
    let path = || job.seat.path();
    Ok(match outcome {
        Ok(mut node) => {
            node.link = job.seat.link();
            Some(node)
        }
        Err(Trouble::Os(Errno::NOENT)) => {
            session.problem(&path(), "left out: it vanished while the tree was saved".to_owned());
            None
        }
        Err(Trouble::Os(error)) => {
            session.problem(&path(), format!("left out: cannot read it: {error}"));
            None
        }
        Err(Trouble::Io(error)) => {
            session.problem(&path(), format!("left out: cannot read it: {error}"));
            None
        }
        Err(Trouble::Replaced) => {
            session.problem(&path(), "left out: it was replaced while the tree was saved".to_owned());
            None
        }
    })
}

fn read_special(job: &FileJob, file_type: FileType) -> std::result::Result<Node, Trouble> {
    let (major, minor) = (job.stat.stx_rdev_major, job.stat.stx_rdev_minor);
    let kind = match file_type {
        FileType::Symlink => {
            let target = rustix::fs::readlinkat(&*job.fd, job.seat.name.as_slice(), Vec::new())
                .map_err(|error| if error == Errno::INVAL { Trouble::Replaced } else { Trouble::Os(error) })?;
            NodeKind::Symlink(target.into_bytes())
        }
        FileType::CharacterDevice => NodeKind::CharDevice { major, minor },
        FileType::BlockDevice => NodeKind::BlockDevice { major, minor },
        FileType::Fifo => NodeKind::Fifo,
        _ => return Err(Trouble::Replaced),
    };
    let xattrs = attributes::read(Target::Member(job.fd.as_fd(), &job.seat.name)).map_err(Trouble::Os)?;
    Ok(node_of(&job.seat.name, &job.stat, xattrs, kind))
}

fn read_file(session: &Session<'_>, chunks: &mut ChunkWriter<'_>, job: &FileJob) -> Result<std::result::Result<Node, Trouble>> {
    let opened = at::open_file(&*job.fd, &job.seat.name).and_then(|fd| Ok((at::stat_open(&fd)?, fd)));
    let (mut stat, fd) = match opened {
        Ok(opened) => opened,
        Err(Errno::LOOP | Errno::NXIO) => return Ok(Err(Trouble::Replaced)),
        Err(error) => return Ok(Err(Trouble::Os(error))),
    };
    if FileType::from_raw_mode(u32::from(stat.stx_mode)) != FileType::RegularFile {
        return Ok(Err(Trouble::Replaced));
    }
    let mut file = File::from(fd);
    for last_try in [false, true] {
        let content = match read_content(session, chunks, &mut file, &stat)? {
            Ok(content) => content,
            Err(error) => return Ok(Err(Trouble::Io(error))),
        };
        let read = attributes::read(Target::Open(file.as_fd())).and_then(|xattrs| Ok((xattrs, at::stat_open(&file)?)));
        let (xattrs, after) = match read {
            Ok(read) => read,
            Err(error) => return Ok(Err(Trouble::Os(error))),
        };
        let changed = !same_state(&stat, &after) || content.len() != after.stx_size;
        if changed && !last_try {
            stat = after;
            continue;
        }
        if changed {
            let path = job.seat.path();
            session.problem(&path, "it changed twice while it was read: saved as last seen".to_owned());
        }
        session.counters.read_files.fetch_add(1, Ordering::Relaxed);
        session.counters.read_bytes.fetch_add(content.len(), Ordering::Relaxed);
        return Ok(Ok(node_of(&job.seat.name, &after, xattrs, NodeKind::File(content))));
    }
    unreachable!("the second try returns")
}

fn same_state(a: &Statx, b: &Statx) -> bool {
    let times = |stat: &Statx| [stat.stx_mtime, stat.stx_ctime].map(|time| (time.tv_sec, time.tv_nsec));
    a.stx_size == b.stx_size && times(a) == times(b)
}

/// The bytes of a file from its start; the inner error is the file's.
fn read_content(session: &Session<'_>, chunks: &mut ChunkWriter<'_>, file: &mut File, stat: &Statx) -> Result<std::io::Result<Content>> {
    let size = stat.stx_size;
    // Not by the number of blocks: attributes and extents occupy some too, and what is reserved behind the end does.
    let sparse = size > 0 && seek(file, SeekFrom::Hole(0)).is_ok_and(|hole| hole < size);
    if size <= session.options.inline_max as u64 && !sparse {
        let mut bytes = Vec::with_capacity(session.options.inline_max + 1);
        let read = seek(file, SeekFrom::Start(0))
            .map_err(Into::into)
            .and_then(|_| (&*file).take(session.options.inline_max as u64 + 1).read_to_end(&mut bytes));
        match read {
            Ok(len) if len <= session.options.inline_max => return Ok(Ok(Content::Inline(bytes))),
            // It has grown: read it as what it is now.
            Ok(_) => {}
            Err(error) => return Ok(Err(error)),
        }
    }
    let mut recipe = RecipeWriter::default();
    let read = if sparse {
        read_sparse(session, chunks, file, size, &mut recipe)?
    } else {
        read_part(session, chunks, file, 0, u64::MAX, &mut recipe)?.map(|_| ())
    };
    Ok(match read {
        Ok(()) => Ok(Content::Recipe(recipe.finish(&mut |bytes| session.put_meta(bytes))?)),
        Err(error) => Err(error),
    })
}

/// Reads data where there is data and notes holes where there are holes.
fn read_sparse(
    session: &Session<'_>,
    chunks: &mut ChunkWriter<'_>,
    file: &mut File,
    size: u64,
    recipe: &mut RecipeWriter,
) -> Result<std::io::Result<()>> {
    let mut offset = 0;
    while offset < size {
        let data = match seek(file, SeekFrom::Data(offset)) {
            Ok(data) => data.min(size),
            // No data behind `offset`.
            Err(Errno::NXIO) => size,
            Err(error) => return Ok(Err(error.into())),
        };
        recipe.push(Piece::Hole { len: data - offset }, &mut |bytes| session.put_meta(bytes))?;
        if data == size {
            break;
        }
        let end = match seek(file, SeekFrom::Hole(data)) {
            Ok(end) => end.min(size),
            Err(error) => return Ok(Err(error.into())),
        };
        match read_part(session, chunks, file, data, end - data, recipe)? {
            Ok(len) if len == end - data => {}
            // Cut while it is read; its length will not match, and that is noticed.
            Ok(_) => break,
            Err(error) => return Ok(Err(error)),
        }
        offset = end;
    }
    Ok(Ok(()))
}

fn read_part(
    session: &Session<'_>,
    chunks: &mut ChunkWriter<'_>,
    file: &mut File,
    offset: u64,
    limit: u64,
    recipe: &mut RecipeWriter,
) -> Result<std::io::Result<u64>> {
    if let Err(error) = seek(file, SeekFrom::Start(offset)) {
        return Ok(Err(error.into()));
    }
    let mut failed = Ok(());
    let read = chunks.put_stream(session.chunker, file, limit, &mut |chunk| {
        if failed.is_ok() {
            failed = recipe.push_chunk(chunk, &mut |bytes| session.put_meta(bytes));
        }
    })?;
    failed.map(|()| read)
}

fn seek(file: &File, position: SeekFrom) -> rustix::io::Result<u64> {
    rustix::fs::seek(file, position)
}
