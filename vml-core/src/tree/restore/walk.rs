//! Goes through a stored tree: makes its directories and hands out their members.

use super::gather::Gather;
use super::member::Trouble;
use super::remove::remove;
use super::scatter::{Scattered, Scattering};
use super::{Found, Job, MemberJob, OutDirectory, Session, TreeLimit};
use crate::recipe::{Piece, Recipe, RecipeReader, Root};
use crate::tree::DEPTH_MAX;
use crate::tree::at;
use crate::tree::listing::ListingReader;
use crate::tree::node::{Content, Node, NodeKind};
use crate::tree::walk::node_of;
use crossbeam_channel::Sender;
use rustix::fs::{AtFlags, FileType, Mode};
use rustix::io::Errno;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::sync::Arc;
use std::sync::atomic::Ordering;
use vml_chunk::index::Location;
use vml_chunk::{Error, ErrorKind, IoResultExt, Result};

/// Members that wait for no frame, in a batch for a worker.
const LOOSE_MAX: usize = 64;
/// One of so many bytes ends its batch: a worker has enough to do with it.
const LOOSE_LEN: u64 = 1 << 20;
/// Bytes of memory for members and pieces that wait for others of their frame: some ten thousand files, or ten gigabytes of a long one.
const WAITING_MAX: usize = 16 << 20;

/// Makes directories and hands out their members.
pub(super) struct Walk<'s, 'a> {
    pub(super) session: &'s Session<'a>,
    pub(super) sender: Sender<Vec<Job>>,
    /// What waits for no frame.
    pub(super) loose: Vec<Job>,
    /// The others.
    pub(super) waiting: Gather<Job>,
    /// What was met, where there is a limit.
    pub(super) seen: TreeLimit,
}

struct Level<'a> {
    directory: Arc<OutDirectory>,
    members: ListingReader<'a>,
    /// What stood there before, sorted, and not yet met in the listing.
    existing: std::iter::Peekable<std::vec::IntoIter<Vec<u8>>>,
}

impl<'a> Walk<'_, 'a> {
    pub(super) fn run(mut self, root: &Node, fd: OwnedFd, empty: bool) -> Result<()> {
        let found = if empty { Found::Empty } else { Found::There };
        let NodeKind::Directory(_) = &root.kind else {
            root.check()?;
            // A single file goes into the target, whose own attributes are not touched.
            let stat = at::stat_open(&fd).at(|| "cannot read the target")?;
            let own = node_of(&[], &stat, Vec::new(), NodeKind::Directory(Recipe::empty()));
            let directory = OutDirectory::new(Vec::new(), fd, found, own, None);
            // One hold for the member and one that is never released: the target's own attributes stay.
            directory.hold();
            return self.push(MemberJob { directory, node: root.clone() }).and_then(|()| self.finish());
        };
        let directory = OutDirectory::new(Vec::new(), fd, found, root.clone(), None);
        self.session.open_count.fetch_add(1, Ordering::Relaxed);
        let mut stack = vec![self.level(&directory, empty)?];
        while let Some(level) = stack.last_mut() {
            if self.session.stopped() {
                return Ok(());
            }
            let directory = Arc::clone(&level.directory);
            let Some(node) = level.members.next() else {
                for name in level.existing.by_ref() {
                    self.extraneous(&directory, &name)?;
                }
                stack.pop();
                directory.release(self.session)?;
                continue;
            };
            let node = match node {
                Ok(node) => node,
                Err(error) if matches!(error.kind(), ErrorKind::Corrupt | ErrorKind::NotFound) => {
                    let cause = std::error::Error::source(&error).map(|cause| format!(" ({cause})")).unwrap_or_default();
                    let message = format!("only partly restored: its listing is damaged: {error}{cause}");
                    self.session.problem(&directory.path, message);
                    // What is missing is unknown from here on, so nothing is surplus either.
                    level.existing = Vec::new().into_iter().peekable();
                    level.members = ListingReader::new(self.session.store, &EMPTY);
                    continue;
                }
                Err(error) => return Err(error.context(format!("cannot read the listing of {}", at::shown(&directory.path)))),
            };
            self.count(&node)?;
            while let Some(name) = level.existing.next_if(|name| *name <= node.name) {
                if name != node.name {
                    self.extraneous(&directory, &name)?;
                }
            }
            if !node.is_dir() {
                directory.hold();
                self.push(MemberJob { directory, node })?;
            } else if stack.len() >= DEPTH_MAX {
                return Err(Error::corrupt(format!("the tree is nested deeper than {DEPTH_MAX} directories")));
            } else if let Some(level) = self.descend(&directory, node)? {
                stack.push(level);
            }
        }
        self.finish()
    }

    fn count(&mut self, node: &Node) -> Result<()> {
        let Some(limit) = self.session.options.limit else { return Ok(()) };
        self.seen.members_count += 1;
        self.seen.bytes = self.seen.bytes.saturating_add(node.len());
        let over = |what: &str, most: u64| {
            Err(Error::corrupt(format!(
                "the tree has more than the {most} {what} that its entry tells of: it is not what was saved, and is built no further"
            )))
        };
        if self.seen.members_count > limit.members_count {
            return over("members", limit.members_count);
        }
        if self.seen.bytes > limit.bytes { over("bytes", limit.bytes) } else { Ok(()) }
    }

    fn level(&self, directory: &Arc<OutDirectory>, empty: bool) -> Result<Level<'a>> {
        let NodeKind::Directory(listing) = &directory.node.kind else { unreachable!("only directories have levels") };
        let existing = if empty || !self.session.options.delete {
            Vec::new()
        } else {
            at::names(&directory.fd).at(|| format!("cannot list {}", at::shown(&directory.path)))?
        };
        Ok(Level {
            directory: Arc::clone(directory),
            members: ListingReader::new(self.session.store, listing),
            existing: existing.into_iter().peekable(),
        })
    }

    fn descend(&mut self, above: &Arc<OutDirectory>, node: Node) -> Result<Option<Level<'a>>> {
        let path = at::join(&above.path, &node.name);
        match self.open_or_make(above, &node.name) {
            Ok((fd, fresh)) => {
                above.hold();
                let directory = OutDirectory::new(path, fd, if fresh { Found::Fresh } else { Found::There }, node, Some(Arc::clone(above)));
                self.session.open_count.fetch_add(1, Ordering::Relaxed);
                self.level(&directory, fresh).map(Some)
            }
            Err(Errno::NOSPC | Errno::DQUOT) => {
                Err(Error::new(ErrorKind::NoSpace, format!("cannot make directory {}: no space left", at::shown(&path))))
            }
            Err(error) => {
                self.session.problem(&path, format!("not restored, nor what is in it: cannot make the directory: {error}"));
                Ok(None)
            }
        }
    }

    fn open_or_make(&self, above: &OutDirectory, name: &[u8]) -> rustix::io::Result<(OwnedFd, bool)> {
        let make = || rustix::fs::mkdirat(&above.fd, name, Mode::RWXU);
        let fresh = match make() {
            Ok(()) => true,
            Err(Errno::EXIST) => {
                let stat = at::stat(&above.fd, name)?;
                if FileType::from_raw_mode(u32::from(stat.stx_mode)) == FileType::Directory {
                    // Its own mode comes back at the end.
                    return Ok((open_closed(above.fd.as_fd(), name)?, false));
                } else {
                    rustix::fs::unlinkat(&above.fd, name, AtFlags::empty())?;
                    make()?;
                    true
                }
            }
            Err(error) => return Err(error),
        };
        Ok((at::open_beneath(above.fd.as_fd(), name)?, fresh))
    }

    fn extraneous(&self, directory: &OutDirectory, name: &[u8]) -> Result<()> {
        if self.session.options.delete {
            match remove(&directory.fd, name) {
                Ok(count) => _ = self.session.counters.deleted.fetch_add(count, Ordering::Relaxed),
                Err(error) => self.session.problem(&at::join(&directory.path, name), format!("cannot delete it: {error}")),
            }
        }
        Ok(())
    }

    /// Hands out a member: whole where its chunks are in one frame, else in pieces.
    fn push(&mut self, job: MemberJob) -> Result<()> {
        let job = Box::new(job);
        let NodeKind::File(Content::Recipe(recipe)) = &job.node.kind else { return self.add(None, Job::Member(job)) };
        let mut place = None;
        let mut scattered = matches!(recipe.root, Root::Nodes { .. });
        if let Root::Pieces(pieces) = &recipe.root {
            for piece in pieces {
                let Piece::Data { id, .. } = piece else { continue };
                // What is not there is told of by whoever writes the member.
                let Some(location) = self.session.store.locate(id) else { return self.add(None, Job::Member(job)) };
                let first: &Location = place.get_or_insert(location);
                scattered |= (first.pack, first.frame_offset) != (location.pack, location.frame_offset);
            }
        }
        if scattered && job.directory.was_empty() && job.node.link.is_none() {
            self.scatter(job)
        } else {
            self.add(place, Job::Member(job))
        }
    }

    /// Hands out the chunks of a file one by one.
    fn scatter(&mut self, job: Box<MemberJob>) -> Result<()> {
        let NodeKind::File(Content::Recipe(recipe)) = &job.node.kind else { unreachable!("only these have chunks") };
        let recipe = recipe.clone();
        let file = match Scattered::create(self.session, job)? {
            Scattering::Begun(file) => Arc::new(file),
            Scattering::Whole(job) => return self.add(None, Job::Member(job)),
            Scattering::Refused(directory) => return directory.release(self.session),
        };
        let mut offset = 0;
        for piece in RecipeReader::new(self.session.store, &recipe) {
            let piece = match piece {
                Ok(piece) => piece,
                Err(error) => {
                    file.fail(self.session, Trouble::Damaged(error))?;
                    break;
                }
            };
            let len = piece.len();
            let location = match &piece {
                Piece::Data { id, .. } => self.session.store.locate(id),
                Piece::Zero { .. } => None,
                Piece::Hole { .. } => {
                    offset += len;
                    continue;
                }
            };
            self.add(location, Job::Piece(file.piece(offset, piece)))?;
            offset += len;
            if self.session.stopped() {
                break;
            }
        }
        file.release(self.session, 1)
    }

    /// Adds a job to those that wait for the frame at `place`, or for none.
    fn add(&mut self, place: Option<Location>, job: Job) -> Result<()> {
        let len = job.len();
        match place {
            Some(place) => self.waiting.add(&place, len, weight(&job), job),
            None => {
                self.loose.push(job);
                if self.loose.len() >= LOOSE_MAX || len >= LOOSE_LEN {
                    self.send_loose()?;
                }
            }
        }
        if self.sender.is_empty()
            && let Some(batch) = self.waiting.take_ready()
        {
            self.send(batch)?;
        }
        let opened = || self.session.open_count.load(Ordering::Relaxed) > self.session.options.open_max;
        while self.waiting.weight() > WAITING_MAX || opened() {
            let Some(batch) = self.waiting.take_one() else { return self.send_loose() };
            self.send(batch)?;
        }
        Ok(())
    }

    fn finish(&mut self) -> Result<()> {
        self.send_loose()?;
        while let Some(batch) = self.waiting.take_one() {
            self.send(batch)?;
        }
        Ok(())
    }

    fn send_loose(&mut self) -> Result<()> {
        let batch = std::mem::take(&mut self.loose);
        self.send(batch)
    }

    fn send(&self, batch: Vec<Job>) -> Result<()> {
        // Workers only go away after a failure, which they have noted.
        if !batch.is_empty() && self.sender.send(batch).is_err() {
            return Err(Error::new(ErrorKind::Interrupted, "the restore has stopped"));
        }
        Ok(())
    }
}

/// About the bytes that a job occupies: a node may have many attributes.
fn weight(job: &Job) -> usize {
    size_of::<Job>()
        + match job {
            Job::Piece(_) => 0,
            Job::Member(job) => {
                let xattrs: usize = job.node.xattrs.iter().map(|(name, value)| 64 + name.len() + value.len()).sum();
                let pieces = match &job.node.kind {
                    NodeKind::File(Content::Recipe(recipe)) => size_of::<Piece>() * recipe.root.count(),
                    _ => 0,
                };
                size_of::<MemberJob>() + job.node.name.len() + xattrs + pieces
            }
        }
}

/// Opens a directory to read and write in it; one that is closed to its owner is opened up.
pub(super) fn open_closed(above: BorrowedFd<'_>, name: &[u8]) -> rustix::io::Result<OwnedFd> {
    let fd = match at::open_beneath(above, name) {
        Err(Errno::ACCESS) => {
            at::chmod(above, name, Mode::RWXU)?;
            at::open_beneath(above, name)?
        }
        other => other?,
    };
    open_up(&fd, at::stat_open(&fd)?.stx_mode);
    Ok(fd)
}

/// Where that is refused, whoever writes in it will hear so.
pub(super) fn open_up(directory: &OwnedFd, mode: u16) {
    if mode & 0o700 != 0o700 {
        _ = rustix::fs::fchmod(directory, Mode::from_raw_mode(u32::from(mode & 0o7777 | 0o700)));
    }
}

static EMPTY: Recipe = Recipe::empty();
