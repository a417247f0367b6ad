//! Writes a stored tree out: one thread makes directories, the others fill them.
//!
//! Everything is made relative to open directories, by single names, without following links, so nothing is ever
//! written outside the target, whatever the entry says and whatever stands there already. A directory gets its own
//! attributes when its last member is finished: making members would change its times, and its mode may forbid them.
//! A file that exists is replaced by a rename once its successor is complete; one that has the right bytes is kept, so
//! a restore that was killed continues where it was.

use super::at;
use super::attributes::{self, Target};
use super::listing::ListingReader;
use super::node::{Node, NodeKind};
use super::restore_member::{Links, restore_member};
use crate::monitor::{Monitor, Problem};
use crate::recipe::{GetChunk, Recipe};
use crossbeam_channel::{Sender, bounded};
use rustix::fs::{AtFlags, FileType, Gid, Mode, Timespec, Timestamps, Uid};
use rustix::io::Errno;
use std::collections::BTreeMap;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::Path;
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use vml_chunk::{Error, ErrorKind, IoResultExt, Result};

/// Members in one batch for a worker.
const BATCH_FILES: usize = 64;
/// And their bytes.
const BATCH_LEN: u64 = 1 << 20;

/// How a tree is restored.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RestoreOptions {
    /// Whether members of an existing directory that the tree does not have are deleted.
    pub delete: bool,
    /// Whether owners and groups are set; needs to be root.
    pub owners: bool,
    /// Whether device nodes are made, and files get set-user-id, set-group-id and capabilities: not from who is not trusted.
    pub special: bool,
    /// What the tree is said to have at most, if that is known: it is built no further.
    pub limit: Option<TreeLimit>,
    /// Threads that decode and write.
    pub threads: usize,
}

/// What a tree has at most. A small listing that names another one many times, which does the same, is a tree of any size.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct TreeLimit {
    /// Members of all kinds.
    pub members_count: u64,
    /// Bytes of its files, holes included.
    pub bytes: u64,
}

/// Numbers of one restore.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Restored {
    /// Regular files written or found right.
    pub files_count: u64,
    /// Their bytes.
    pub bytes: u64,
    /// Files that had the right bytes already.
    pub kept_files_count: u64,
    /// Directories.
    pub directories_count: u64,
    /// Symbolic links, devices, FIFOs.
    pub others_count: u64,
    /// Members deleted, because the tree does not have them.
    pub deleted_count: u64,
    /// Members that could not be restored, or not as they should be.
    pub problems_count: u64,
}

/// Restores `root` at `target`: a directory's members into it, anything else as `target/name`.
///
/// # Errors
/// When the target cannot be written at all, is full, or the store cannot be read; a problem with one member or a damaged
/// listing is told to `monitor` and the restore goes on.
pub fn restore_tree(store: &dyn GetChunk, root: &Node, target: &Path, options: &RestoreOptions, monitor: &dyn Monitor) -> Result<Restored> {
    root.check_attributes()?;
    let fd = at::open_root(target)?;
    let stat = at::stat_open(&fd).at(|| format!("cannot read {}", target.display()))?;
    if root.is_dir() {
        // It may be closed to its owner since an earlier restore; its own mode comes back at the end.
        open_up(&fd, stat.stx_mode);
    }
    let session = Session {
        store,
        options,
        monitor,
        root: fd.try_clone().at(|| format!("cannot open {}", target.display()))?,
        uid: rustix::process::geteuid().as_raw(),
        gid: rustix::process::getegid().as_raw(),
        links: Links::default(),
        counters: Counters::default(),
        refused: Mutex::default(),
        stopped: AtomicBool::new(false),
        failure: Mutex::default(),
    };
    let empty = at::names(&fd).at(|| format!("cannot list {}", target.display()))?.is_empty();
    let (sender, queue) = bounded::<Vec<MemberJob>>(options.threads.max(1) * 2);
    std::thread::scope(|scope| {
        for _ in 0..options.threads.max(1) {
            let (queue, session) = (queue.clone(), &session);
            scope.spawn(move || {
                for job in queue.iter().flatten() {
                    if session.stopped() {
                        break;
                    }
                    if let Err(error) = restore_member(session, &job).and_then(|()| job.directory.release(session)) {
                        session.fail(error);
                    }
                }
            });
        }
        drop(queue);
        let walked = Walk { session: &session, sender, batch: Vec::new(), batch_len: 0, seen: TreeLimit { members_count: 0, bytes: 0 } }
            .run(root, fd, empty);
        if let Err(error) = walked {
            session.fail(error);
        }
    });
    if let Some(error) = session.failure.into_inner().unwrap_or_else(PoisonError::into_inner) {
        return Err(error);
    }
    for ((name, reason), (count, path)) in session.refused.into_inner().unwrap_or_else(PoisonError::into_inner) {
        let more = if count > 1 { format!(", nor of {} more", count - 1) } else { String::new() };
        monitor.problem(Problem { subject: path, message: format!("cannot set {name}{more}: {reason}") });
        session.counters.problems.fetch_add(1, Ordering::Relaxed);
    }
    let get = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
    let counters = &session.counters;
    Ok(Restored {
        files_count: get(&counters.files),
        bytes: get(&counters.bytes),
        kept_files_count: get(&counters.kept_files),
        directories_count: get(&counters.directories),
        others_count: get(&counters.others),
        deleted_count: get(&counters.deleted),
        problems_count: get(&counters.problems),
    })
}

/// What all threads of one restore share.
pub(super) struct Session<'a> {
    pub(super) store: &'a dyn GetChunk,
    pub(super) options: &'a RestoreOptions,
    pub(super) monitor: &'a dyn Monitor,
    pub(super) root: OwnedFd,
    pub(super) uid: u32,
    gid: u32,
    pub(super) links: Links,
    pub(super) counters: Counters,
    /// Attributes that could not be set: name and reason, with how many and the first.
    refused: Mutex<BTreeMap<(String, String), (u64, String)>>,
    stopped: AtomicBool,
    failure: Mutex<Option<Error>>,
}

#[derive(Default)]
pub(super) struct Counters {
    pub(super) files: AtomicU64,
    pub(super) bytes: AtomicU64,
    pub(super) kept_files: AtomicU64,
    pub(super) directories: AtomicU64,
    pub(super) others: AtomicU64,
    pub(super) deleted: AtomicU64,
    pub(super) problems: AtomicU64,
}

/// A member to be made.
pub(super) struct MemberJob {
    pub(super) directory: Arc<OutDirectory>,
    pub(super) node: Node,
}

/// A directory of the target that is being filled.
pub(super) struct OutDirectory {
    pub(super) path: Vec<u8>,
    pub(super) fd: OwnedFd,
    /// Whether it was made by this restore, so that no member can be in the way.
    pub(super) fresh: bool,
    /// Whether new members get a group or an ACL from it, besides what they are given.
    pub(super) inherits: bool,
    node: Node,
    parent: Option<Arc<OutDirectory>>,
    /// Members that are not finished, and one for the walk.
    pending: AtomicUsize,
}

impl OutDirectory {
    fn new(path: Vec<u8>, fd: OwnedFd, fresh: bool, node: Node, parent: Option<Arc<Self>>) -> Arc<Self> {
        // One made just now inherited from the one above what it passes on; one that was there is asked.
        let inherits = match &parent {
            Some(parent) if fresh => parent.inherits,
            _ => {
                at::stat_open(&fd).is_ok_and(|stat| stat.stx_mode & 0o2000 != 0)
                    || attributes::read(Target::Open(fd.as_fd())).is_ok_and(|xattrs| !xattrs.is_empty())
            }
        };
        Arc::new(Self { path, fd, fresh, inherits, node, parent, pending: AtomicUsize::new(1) })
    }

    /// One more member is to be finished before the directory is.
    pub(super) fn hold(&self) {
        self.pending.fetch_add(1, Ordering::Relaxed);
    }

    /// One member is finished; the last one gives the directory its own attributes.
    pub(super) fn release(self: &Arc<Self>, session: &Session<'_>) -> Result<()> {
        let mut directory = Arc::clone(self);
        loop {
            // The last one must see what the others did.
            if directory.pending.fetch_sub(1, Ordering::AcqRel) > 1 {
                return Ok(());
            }
            session.set_attributes(directory.fd.as_fd(), &directory.node, &directory.path, directory.fresh && !directory.inherits);
            session.counters.directories.fetch_add(1, Ordering::Relaxed);
            match &directory.parent {
                Some(parent) => directory = Arc::clone(parent),
                None => return Ok(()),
            }
        }
    }
}

impl Session<'_> {
    pub(super) fn stopped(&self) -> bool {
        self.stopped.load(Ordering::Relaxed)
    }

    fn fail(&self, error: Error) {
        self.stopped.store(true, Ordering::Relaxed);
        self.failure.lock().unwrap_or_else(PoisonError::into_inner).get_or_insert(error);
    }

    pub(super) fn problem(&self, path: &[u8], message: String) {
        self.counters.problems.fetch_add(1, Ordering::Relaxed);
        self.monitor.problem(Problem { subject: at::shown(path), message });
    }

    pub(super) fn refuse(&self, path: &[u8], what: String, reason: &dyn std::fmt::Display) {
        let mut refused = self.refused.lock().unwrap_or_else(PoisonError::into_inner);
        refused.entry((what, reason.to_string())).or_insert_with(|| (0, at::shown(path))).0 += 1;
    }

    /// Sets owner, extended attributes, mode and times of an open file or directory, in the order that keeps each: a new
    /// owner clears set-user-id and capabilities, an ACL changes the mode, and the mode may forbid to set attributes. One that is
    /// `plain` was made just now and has inherited nothing.
    pub(super) fn set_attributes(&self, file: BorrowedFd<'_>, node: &Node, path: &[u8], plain: bool) {
        let mut owned = (self.uid, self.gid) == (node.uid, node.gid) && plain;
        if self.options.owners && !owned {
            match rustix::fs::fchown(file, Some(Uid::from_raw(node.uid)), Some(Gid::from_raw(node.gid))) {
                Ok(()) => owned = true,
                Err(error) => self.refuse(path, "the owner".to_owned(), &error),
            }
        }
        if !(plain && node.xattrs.is_empty()) {
            for (name, error) in attributes::write(Target::Open(file), &node.xattrs, plain) {
                self.refuse(path, format!("attribute {}", super::display_path(&name)), &error);
            }
        }
        if let Err(error) = rustix::fs::fchmod(file, self.mode(node, owned)) {
            self.refuse(path, "the mode".to_owned(), &error);
        }
        if let Err(error) = rustix::fs::futimens(file, &times(node)) {
            self.refuse(path, "the time".to_owned(), &error);
        }
    }

    /// Without its owner or group, which `owned` says it has, a file must not run with the rights of those that made it.
    pub(super) fn mode(&self, node: &Node, owned: bool) -> Mode {
        let mut mode = node.mode;
        if !owned && !node.is_dir() {
            if node.uid != self.uid {
                mode &= !0o6000;
            } else if node.gid != self.gid {
                mode &= !0o2000;
            }
        }
        Mode::from_raw_mode(u32::from(mode))
    }
}

pub(super) fn times(node: &Node) -> Timestamps {
    let time = Timespec { tv_sec: node.mtime.seconds, tv_nsec: i64::from(node.mtime.nanoseconds) };
    Timestamps { last_access: time, last_modification: time }
}

/// Makes directories and hands out their members.
struct Walk<'s, 'a> {
    session: &'s Session<'a>,
    sender: Sender<Vec<MemberJob>>,
    batch: Vec<MemberJob>,
    batch_len: u64,
    /// What was met, where there is a limit.
    seen: TreeLimit,
}

struct Level<'a> {
    directory: Arc<OutDirectory>,
    members: ListingReader<'a>,
    /// What stood there before, sorted, and not yet met in the listing.
    existing: std::iter::Peekable<std::vec::IntoIter<Vec<u8>>>,
}

impl<'a> Walk<'_, 'a> {
    fn run(mut self, root: &Node, fd: OwnedFd, empty: bool) -> Result<()> {
        let NodeKind::Directory(_) = &root.kind else {
            root.check()?;
            // A single file goes into the target, whose own attributes are not touched.
            let stat = at::stat_open(&fd).at(|| "cannot read the target")?;
            let own = super::walk::node_of(&[], &stat, Vec::new(), NodeKind::Directory(Recipe::empty()));
            let directory = OutDirectory::new(Vec::new(), fd, false, own, None);
            // One hold for the member and one that is never released: the target's own attributes stay.
            directory.hold();
            return self.push(MemberJob { directory, node: root.clone() }).and_then(|()| self.send());
        };
        let directory = OutDirectory::new(Vec::new(), fd, false, root.clone(), None);
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
            } else if stack.len() >= super::DEPTH_MAX {
                return Err(Error::corrupt(format!("the tree is nested deeper than {} directories", super::DEPTH_MAX)));
            } else if let Some(level) = self.descend(&directory, node)? {
                stack.push(level);
            }
        }
        self.send()
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
                let directory = OutDirectory::new(path, fd, fresh, node, Some(Arc::clone(above)));
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

    fn push(&mut self, job: MemberJob) -> Result<()> {
        self.batch_len += job.node.len();
        self.batch.push(job);
        if self.batch.len() >= BATCH_FILES || self.batch_len >= BATCH_LEN { self.send() } else { Ok(()) }
    }

    fn send(&mut self) -> Result<()> {
        self.batch_len = 0;
        let batch = std::mem::take(&mut self.batch);
        // Workers only go away after a failure, which they have noted.
        if !batch.is_empty() && self.sender.send(batch).is_err() {
            return Err(Error::new(ErrorKind::Interrupted, "the restore has stopped"));
        }
        Ok(())
    }
}

/// Opens a directory to read and write in it; one that is closed to its owner is opened up.
fn open_closed(above: BorrowedFd<'_>, name: &[u8]) -> rustix::io::Result<OwnedFd> {
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
fn open_up(directory: &OwnedFd, mode: u16) {
    if mode & 0o700 != 0o700 {
        _ = rustix::fs::fchmod(directory, Mode::from_raw_mode(u32::from(mode & 0o7777 | 0o700)));
    }
}

static EMPTY: Recipe = Recipe::empty();

/// Removes a member and, when it is a directory, what is in it; never through a link. Returns how many.
pub(super) fn remove(dir: impl AsFd, name: &[u8]) -> rustix::io::Result<u64> {
    let mut count = 0;
    // Directories on the way down; emptied, then removed from the one above.
    let mut stack: Vec<(OwnedFd, Vec<u8>, std::vec::IntoIter<Vec<u8>>)> = Vec::new();
    let mut next = Some(name.to_vec());
    loop {
        if let Some(name) = next.take() {
            let above = stack.last().map_or(dir.as_fd(), |(fd, _, _)| fd.as_fd());
            match rustix::fs::unlinkat(above, name.as_slice(), AtFlags::empty()) {
                Ok(()) => count += 1,
                Err(Errno::ISDIR | Errno::PERM) => {
                    let fd = open_closed(above, &name)?;
                    let names = at::names(&fd)?;
                    stack.push((fd, name, names.into_iter()));
                }
                Err(error) => return Err(error),
            }
        }
        let Some((_, _, names)) = stack.last_mut() else { return Ok(count) };
        next = names.next();
        if next.is_none()
            && let Some((fd, name, _)) = stack.pop()
        {
            drop(fd);
            let above = stack.last().map_or(dir.as_fd(), |(fd, _, _)| fd.as_fd());
            rustix::fs::unlinkat(above, name.as_slice(), AtFlags::REMOVEDIR)?;
            count += 1;
            if stack.is_empty() {
                return Ok(count);
            }
        }
    }
}
