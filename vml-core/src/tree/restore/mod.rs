//! Writes a stored tree out: one thread makes directories, the others fill them.
//!
//! ```text
//! walk ── members by frame (gather) ──┬─ member    a file of one frame, a link, a device
//!                                     └─ scatter   the chunks of a long file, each when its frame is at hand
//! ```
//!
//! Everything is made relative to open directories, by single names, without following links, so nothing is ever
//! written outside the target, whatever the entry says and whatever stands there already. A directory gets its own
//! attributes when its last member is finished: making members would change its times, and its mode may forbid them.
//! A file that exists is replaced by a rename once its successor is complete; one that has the right bytes is kept, so
//! a restore that was killed continues where it was.

mod gather;
mod member;
mod remove;
mod scatter;
mod walk;

use self::gather::Gather;
use self::member::{Links, restore_member};
use self::scatter::{PieceJob, write_pieces};
use self::walk::{Walk, open_up};
use super::at;
use super::attributes::{self, Target};
use super::node::Node;
use crate::monitor::{Monitor, Problem};
use crate::recipe::GetChunk;
use crossbeam_channel::bounded;
use rustix::fs::{Gid, Mode, Timespec, Timestamps, Uid};
use std::collections::BTreeMap;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::Path;
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use vml_chunk::{Error, IoResultExt, Result};

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
    /// Directories and files of the target that may be open at once, beside those that lie above each other and those with several names: with
    /// more, frames are decoded again less often. A process may have 1024 open unless it is allowed more.
    pub open_max: usize,
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
        open_count: AtomicUsize::new(0),
        counters: Counters::default(),
        refused: Mutex::default(),
        stopped: AtomicBool::new(false),
        failure: Mutex::default(),
    };
    let empty = at::names(&fd).at(|| format!("cannot list {}", target.display()))?.is_empty();
    let (sender, queue) = bounded::<Vec<Job>>(options.threads.max(1) * 2);
    std::thread::scope(|scope| {
        for _ in 0..options.threads.max(1) {
            let (queue, session) = (queue.clone(), &session);
            scope.spawn(move || {
                for batch in &queue {
                    if session.stopped() {
                        break;
                    }
                    if let Err(error) = run(session, batch) {
                        session.fail(error);
                    }
                }
            });
        }
        drop(queue);
        let seen = TreeLimit { members_count: 0, bytes: 0 };
        let walked = Walk { session: &session, sender, loose: Vec::new(), waiting: Gather::default(), seen }.run(root, fd, empty);
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

/// Does the jobs of a batch; pieces in a row are one run.
fn run(session: &Session<'_>, batch: Vec<Job>) -> Result<()> {
    let mut pieces: Vec<PieceJob> = Vec::new();
    for job in batch {
        match job {
            Job::Piece(piece) => pieces.push(piece),
            Job::Member(job) => {
                write_pieces(session, &pieces)?;
                pieces.clear();
                if session.stopped() {
                    return Ok(());
                }
                restore_member(session, &job).and_then(|()| job.directory.release(session))?;
            }
        }
    }
    write_pieces(session, &pieces)
}

/// What all threads of one restore share.
struct Session<'a> {
    store: &'a dyn GetChunk,
    options: &'a RestoreOptions,
    monitor: &'a dyn Monitor,
    root: OwnedFd,
    uid: u32,
    gid: u32,
    links: Links,
    /// Directories and scattered files that are not finished.
    open_count: AtomicUsize,
    counters: Counters,
    /// Attributes that could not be set: name and reason, with how many and the first.
    refused: Mutex<BTreeMap<(String, String), (u64, String)>>,
    stopped: AtomicBool,
    failure: Mutex<Option<Error>>,
}

#[derive(Default)]
struct Counters {
    files: AtomicU64,
    bytes: AtomicU64,
    kept_files: AtomicU64,
    directories: AtomicU64,
    others: AtomicU64,
    deleted: AtomicU64,
    problems: AtomicU64,
}

/// What is handed to a worker.
enum Job {
    Member(Box<MemberJob>),
    Piece(PieceJob),
}

impl Job {
    /// The bytes that it writes.
    fn len(&self) -> u64 {
        match self {
            Self::Member(job) => job.node.len(),
            Self::Piece(job) => job.len(),
        }
    }
}

/// A member to be made.
struct MemberJob {
    directory: Arc<OutDirectory>,
    node: Node,
}

/// A directory of the target that is being filled.
struct OutDirectory {
    path: Vec<u8>,
    fd: OwnedFd,
    /// How it was when the restore came to it.
    found: Found,
    /// Whether new members get a group or an ACL from it, besides what they are given.
    inherits: bool,
    node: Node,
    parent: Option<Arc<OutDirectory>>,
    /// Members that are not finished, and one for the walk.
    pending: AtomicUsize,
}

/// How a directory of the target was found.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Found {
    /// Not at all: it was made by this restore.
    Fresh,
    /// Without members.
    Empty,
    /// With members, perhaps.
    There,
}

impl OutDirectory {
    /// Whether no member can be in the way of another.
    fn was_empty(&self) -> bool {
        self.found != Found::There
    }

    fn new(path: Vec<u8>, fd: OwnedFd, found: Found, node: Node, parent: Option<Arc<Self>>) -> Arc<Self> {
        // One made just now inherited from the one above what it passes on; one that was there is asked.
        let inherits = match &parent {
            Some(parent) if found == Found::Fresh => parent.inherits,
            _ => {
                at::stat_open(&fd).is_ok_and(|stat| stat.stx_mode & 0o2000 != 0)
                    || attributes::read(Target::Open(fd.as_fd())).is_ok_and(|xattrs| !xattrs.is_empty())
            }
        };
        Arc::new(Self { path, fd, found, inherits, node, parent, pending: AtomicUsize::new(1) })
    }

    /// One more member is to be finished before the directory is.
    fn hold(&self) {
        self.pending.fetch_add(1, Ordering::Relaxed);
    }

    /// One member is finished; the last one gives the directory its own attributes.
    fn release(self: &Arc<Self>, session: &Session<'_>) -> Result<()> {
        let mut directory = Arc::clone(self);
        loop {
            // The last one must see what the others did.
            if directory.pending.fetch_sub(1, Ordering::AcqRel) > 1 {
                return Ok(());
            }
            let plain = directory.found == Found::Fresh && !directory.inherits;
            session.set_attributes(directory.fd.as_fd(), &directory.node, &directory.path, plain);
            session.counters.directories.fetch_add(1, Ordering::Relaxed);
            session.open_count.fetch_sub(1, Ordering::Relaxed);
            match &directory.parent {
                Some(parent) => directory = Arc::clone(parent),
                None => return Ok(()),
            }
        }
    }
}

impl Session<'_> {
    fn stopped(&self) -> bool {
        self.stopped.load(Ordering::Relaxed)
    }

    fn fail(&self, error: Error) {
        self.stopped.store(true, Ordering::Relaxed);
        self.failure.lock().unwrap_or_else(PoisonError::into_inner).get_or_insert(error);
    }

    fn problem(&self, path: &[u8], message: String) {
        self.counters.problems.fetch_add(1, Ordering::Relaxed);
        self.monitor.problem(Problem { subject: at::shown(path), message });
    }

    fn refuse(&self, path: &[u8], what: String, reason: &dyn std::fmt::Display) {
        let mut refused = self.refused.lock().unwrap_or_else(PoisonError::into_inner);
        refused.entry((what, reason.to_string())).or_insert_with(|| (0, at::shown(path))).0 += 1;
    }

    /// Sets owner, extended attributes, mode and times of an open file or directory, in the order that keeps each: a new
    /// owner clears set-user-id and capabilities, an ACL changes the mode, and the mode may forbid to set attributes. One that is
    /// `plain` was made just now and has inherited nothing.
    fn set_attributes(&self, file: BorrowedFd<'_>, node: &Node, path: &[u8], plain: bool) {
        let mut owned = (self.uid, self.gid) == (node.uid, node.gid) && plain;
        if self.options.owners && !owned {
            match rustix::fs::fchown(file, Some(Uid::from_raw(node.uid)), Some(Gid::from_raw(node.gid))) {
                Ok(()) => owned = true,
                Err(error) => self.refuse(path, "the owner".to_owned(), &error),
            }
        }
        if !(plain && node.xattrs.is_empty()) {
            for (name, error) in attributes::write(Target::Open(file), &node.xattrs, plain) {
                self.refuse(path, format!("attribute {}", crate::tree::display_path(&name)), &error);
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
    fn mode(&self, node: &Node, owned: bool) -> Mode {
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

fn times(node: &Node) -> Timestamps {
    let time = Timespec { tv_sec: node.mtime.seconds, tv_nsec: i64::from(node.mtime.nanoseconds) };
    Timestamps { last_access: time, last_modification: time }
}
