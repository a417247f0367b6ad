//! Captures a directory tree: one thread looks at directories, one walks, the others read.
//!
//! ```text
//! scan: names, stat ──► walk: compare with parent entry ──unchanged──► slot in its directory (assemble)
//!                         └──changed──► batch of files ──► workers: read, cut, put ──► slot
//! ```
//! The walk visits directories in a fixed order, so the parent entry's listings and witness are read side by side with
//! it, and memory does not depend on the size of the tree.

use super::assemble::Directory;
use super::at;
use super::exclude::Exclude;
use super::node::{Content, Node, NodeKind, Timestamp};
use super::read::{FileJob, read_member};
use super::restore::TreeLimit;
use super::walk::{Walk, Walked};
use crate::monitor::{Monitor, Problem, Task};
use crate::recipe::{Piece, Recipe, RecipeReader};
use bincode::{Decode, Encode};
use std::collections::BTreeSet;
use std::path::Path;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, PoisonError};
use vml_chunk::{ChunkRef, ChunkStore, ChunkWriter, Chunker, Error, ErrorKind, PackKind, Result, StoreWriter, run_pool};

/// How a tree is captured.
pub struct CaptureOptions<'a> {
    /// What to leave out.
    pub exclude: &'a Exclude,
    /// Whether to leave out what is mounted inside the tree.
    pub one_file_system: bool,
    /// The root of the tree's state in the parent entry and its witness, to know unchanged files by.
    pub parent: Option<(&'a Node, &'a Recipe)>,
    /// Whether chunks of unchanged files are looked up before they are relied on: for a store that has lost packs.
    pub distrust_parent: bool,
    /// The time now; without it files changed a moment ago may be taken for unchanged later.
    pub now: Option<Timestamp>,
    /// Files of at most this many bytes stand in their node.
    pub inline_max: usize,
    /// Threads that read, hash and compress.
    pub threads: usize,
}

/// Why something is not in the entry.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Encode, Decode)]
pub enum LeftOutReason {
    /// A pattern says so.
    Excluded,
    /// It is mounted there, and one file system was asked for.
    OtherFileSystem,
    /// A socket: it means nothing without the process that made it.
    Socket,
    /// It could not be read, or was gone when its turn came.
    Unreadable,
}

/// Something that is not in the entry.
#[derive(Debug, Clone, PartialEq, Eq, Encode, Decode)]
pub struct LeftOut {
    /// The path, or the directory of several.
    pub path: Vec<u8>,
    /// How many members of `path`; 0 when `path` itself is left out.
    pub members_count: u64,
    /// Why.
    pub reason: LeftOutReason,
}

/// Numbers of one capture.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Encode, Decode)]
pub struct TreeStats {
    /// Regular files.
    pub files_count: u64,
    /// Directories.
    pub directories_count: u64,
    /// Symbolic links, devices, FIFOs.
    pub others_count: u64,
    /// Bytes of the files, holes included.
    pub bytes: u64,
    /// Files that were read, because they are new or changed.
    pub read_files_count: u64,
    /// Their bytes.
    pub read_bytes: u64,
}

impl TreeStats {
    /// What the tree has, the root not counted.
    pub fn limit(&self) -> TreeLimit {
        let members = [self.files_count, self.directories_count, self.others_count];
        TreeLimit { members_count: members.into_iter().fold(0, u64::saturating_add), bytes: self.bytes }
    }
}

/// A captured tree.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Captured {
    /// Its root.
    pub root: Node,
    /// By what its files are known at the next capture.
    pub witness: Recipe,
    /// Numbers.
    pub stats: TreeStats,
    /// What is not in it: the first thousand.
    pub left_out: Vec<LeftOut>,
    /// How many there were beyond those.
    pub left_out_more_count: u64,
    /// Every owner in it.
    pub uids: BTreeSet<u32>,
    /// Every group in it.
    pub gids: BTreeSet<u32>,
    /// Members that could not be captured, or not as they should.
    pub problems_count: u64,
}

/// Most rows in [`Captured::left_out`].
const LEFT_OUT_MAX: usize = 1000;

/// Captures the tree at `path` into the session `writer`; a problem with one member is told to `monitor` and the
/// capture goes on.
///
/// # Errors
/// When `path` is no directory that can be read, or the store fails.
pub fn capture_tree(
    writer: &StoreWriter<'_>,
    chunker: &dyn Chunker,
    path: &Path,
    options: &CaptureOptions<'_>,
    monitor: &dyn Monitor,
) -> Result<Captured> {
    let root = at::open_root(path)?;
    let session = Session::new(writer, chunker, options, monitor)?;
    let produce = |sink: &vml_chunk::JobSink<Vec<FileJob>>| Walk::new(&session, sink).run(root);
    let walked = run_pool(
        writer,
        PackKind::Data,
        options.threads,
        |chunks, batch: Vec<FileJob>| {
            for job in batch {
                let member = read_member(&session, chunks, &job)?;
                session.settle(&job.seat, member)?;
            }
            Ok(())
        },
        produce,
    )?;
    session.end(walked)
}

/// What all threads of one capture share.
pub(super) struct Session<'a> {
    writer: &'a StoreWriter<'a>,
    pub(super) store: &'a ChunkStore,
    pub(super) chunker: &'a dyn Chunker,
    pub(super) options: &'a CaptureOptions<'a>,
    pub(super) monitor: &'a dyn Monitor,
    meta: Mutex<ChunkWriter<'a>>,
    pub(super) counters: Counters,
    left_out: Mutex<LeftOutList>,
    done: Mutex<Option<Node>>,
}

#[derive(Default)]
pub(super) struct Counters {
    pub(super) files: AtomicU64,
    pub(super) others: AtomicU64,
    pub(super) bytes: AtomicU64,
    pub(super) read_files: AtomicU64,
    pub(super) read_bytes: AtomicU64,
    pub(super) problems: AtomicU64,
}

#[derive(Default)]
struct LeftOutList {
    rows: Vec<LeftOut>,
    more_count: u64,
}

impl<'a> Session<'a> {
    pub(super) fn new(
        writer: &'a StoreWriter<'a>,
        chunker: &'a dyn Chunker,
        options: &'a CaptureOptions<'a>,
        monitor: &'a dyn Monitor,
    ) -> Result<Self> {
        Ok(Self {
            writer,
            store: writer.store(),
            chunker,
            options,
            monitor,
            meta: Mutex::new(writer.chunks(PackKind::Meta)?),
            counters: Counters::default(),
            left_out: Mutex::default(),
            done: Mutex::default(),
        })
    }

    /// What was captured, when every member was delivered.
    pub(super) fn end(self, walked: Walked) -> Result<Captured> {
        let Self { meta, counters, left_out, done, .. } = self;
        meta.into_inner().unwrap_or_else(PoisonError::into_inner).finish()?;
        let root = done.into_inner().unwrap_or_else(PoisonError::into_inner);
        let root = root.ok_or_else(|| Error::new(ErrorKind::Interrupted, "the walk ended before the tree was complete"))?;
        let mut left_out = left_out.into_inner().unwrap_or_else(PoisonError::into_inner);
        let get = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
        left_out.rows.sort_by(|a, b| a.path.cmp(&b.path));
        Ok(Captured {
            root,
            witness: walked.witness,
            stats: TreeStats {
                files_count: get(&counters.files),
                directories_count: walked.directories_count,
                others_count: get(&counters.others),
                bytes: get(&counters.bytes),
                read_files_count: get(&counters.read_files),
                read_bytes: get(&counters.read_bytes),
            },
            left_out: left_out.rows,
            left_out_more_count: left_out.more_count,
            uids: walked.uids,
            gids: walked.gids,
            problems_count: get(&counters.problems),
        })
    }

    /// Whether the chunks of a known node may be relied on.
    pub(super) fn is_whole(&self, node: &Node) -> bool {
        match &node.kind {
            NodeKind::File(Content::Recipe(recipe)) if self.options.distrust_parent => {
                RecipeReader::new(self.store, recipe).all(|piece| match piece {
                    Ok(Piece::Data { id, .. }) => self.writer.stands(&id),
                    Ok(_) => true,
                    Err(_) => false,
                })
            }
            _ => true,
        }
    }

    /// Puts a chunk of metadata.
    pub(super) fn put_meta(&self, bytes: &[u8]) -> Result<ChunkRef> {
        self.meta.lock().unwrap_or_else(PoisonError::into_inner).put(bytes)
    }

    /// Puts a finished member into its directory.
    pub(super) fn deliver(&self, directory: &std::sync::Arc<Directory>, slot: usize, member: Option<Node>) -> Result<()> {
        let done = directory.deliver(slot, member, &mut |bytes| self.put_meta(bytes))?;
        self.complete(done);
        Ok(())
    }

    /// Notes the root, when it is complete.
    pub(super) fn complete(&self, root: Option<Node>) {
        if root.is_some() {
            *self.done.lock().unwrap_or_else(PoisonError::into_inner) = root;
        }
    }

    /// Counts a member that will be in the entry.
    pub(super) fn count(&self, node: &Node) {
        if matches!(node.kind, NodeKind::File(_)) {
            self.counters.files.fetch_add(1, Ordering::Relaxed);
            self.counters.bytes.fetch_add(node.len(), Ordering::Relaxed);
        } else {
            self.counters.others.fetch_add(1, Ordering::Relaxed);
        }
        self.monitor.advance(Task::Capture, 1, node.len());
    }

    /// Tells of a member that is not captured, or not as it should be.
    pub(super) fn problem(&self, path: &[u8], message: String) {
        self.counters.problems.fetch_add(1, Ordering::Relaxed);
        self.monitor.problem(Problem { subject: at::shown(path), message });
    }

    pub(super) fn leave_out(&self, path: Vec<u8>, members_count: u64, reason: LeftOutReason) {
        let mut list = self.left_out.lock().unwrap_or_else(PoisonError::into_inner);
        if list.rows.len() < LEFT_OUT_MAX {
            list.rows.push(LeftOut { path, members_count, reason });
        } else {
            list.more_count += 1;
        }
    }
}
