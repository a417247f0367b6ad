//! Walks the tree: names, kinds, what changed since the parent entry; reads no file. What the members are it is told by a scan.

use super::assemble::Directory;
use super::at;
use super::attributes::{self, Target};
use super::capture::{LeftOutReason, Session};
use super::listing::ListingReader;
use super::node::{Node, NodeKind, Timestamp};
use super::read::{FileJob, Links, Seat};
use super::scan::{Ahead, Member, Scan, Scanned, ScannedDirectory};
use super::witness::{Stamp, WitnessReader, WitnessWriter, fingerprint, is_racy};
use crate::recipe::Recipe;
use rustix::fs::{FileType, Statx};
use std::collections::{BTreeSet, HashSet};
use std::iter::Peekable;
use std::os::fd::OwnedFd;
use std::sync::Arc;
use vml_chunk::{Error, ErrorKind, IoResultExt, JobSink, Result};

/// Files in one batch for a worker: enough that handing it over costs nothing, few enough to be spread.
const BATCH_FILES: usize = 64;
/// And their bytes.
const BATCH_LEN: u64 = 1 << 20;

/// What the walk itself found out.
pub(super) struct Walked {
    pub(super) witness: Recipe,
    pub(super) directories_count: u64,
    pub(super) uids: BTreeSet<u32>,
    pub(super) gids: BTreeSet<u32>,
}

pub(super) struct Walk<'s, 'a> {
    session: &'s Session<'a>,
    sink: &'s JobSink<Vec<FileJob>>,
    known: WitnessReader<'a>,
    witness: WitnessWriter<'a>,
    batch: Vec<FileJob>,
    batch_len: u64,
    links: Links<(u32, u32, u64)>,
    walked: Walked,
}

/// A directory whose subdirectories are being walked.
struct Level {
    directory: Arc<Directory>,
    subdirectories: std::vec::IntoIter<Subdirectory>,
}

struct Subdirectory {
    slot: usize,
    name: Vec<u8>,
    parent_listing: Option<Recipe>,
}

impl<'s, 'a> Walk<'s, 'a> {
    pub(super) fn new(session: &'s Session<'a>, sink: &'s JobSink<Vec<FileJob>>) -> Self {
        Self {
            session,
            sink,
            known: WitnessReader::new(session.store, session.options.parent.map(|(_, witness)| witness)),
            witness: WitnessWriter::new(session.chunker),
            batch: Vec::new(),
            batch_len: 0,
            links: Links::new(),
            walked: Walked { witness: Recipe::empty(), directories_count: 0, uids: BTreeSet::new(), gids: BTreeSet::new() },
        }
    }

    pub(super) fn run(mut self, root: OwnedFd) -> Result<Walked> {
        let stat = at::stat_open(&root).at(|| "cannot read the tree's root")?;
        self.walked.uids.insert(stat.stx_uid);
        self.walked.gids.insert(stat.stx_gid);
        let options = self.session.options;
        let parent_listing = options.parent.and_then(|(node, _)| listing_of(node));
        // An error with a member is a problem; one with the root ends the capture.
        let xattrs = attributes::read(Target::Open(std::os::fd::AsFd::as_fd(&root))).at(|| "cannot read the tree's root")?;
        let node = node_of(&[], &stat, xattrs, NodeKind::Directory(Recipe::empty()));
        let directory = Directory::new(Vec::new(), Some(node), None);
        let names = at::names(&root).at(|| "cannot list the tree's root")?;
        let root = Arc::new(root);
        let device = options.one_file_system.then_some((stat.stx_dev_major, stat.stx_dev_minor));
        let scan = Scan::new(Arc::clone(&root), names, options.exclude, device);
        std::thread::scope(|scope| {
            // Whoever asks for one thread gets what is there when it is that member's turn.
            let mut ahead = if options.threads > 1 { Ahead::start(scan, scope) } else { Ahead::Here(scan) };
            let first = self.enter(&mut ahead, directory, &root, parent_listing)?;
            self.subdirectories(&mut ahead, first)
        })?;
        self.send()?;
        self.walked.witness = self.witness.finish(&mut |bytes| self.session.put_meta(bytes))?;
        Ok(self.walked)
    }

    fn subdirectories(&mut self, ahead: &mut Ahead<'_>, first: Level) -> Result<()> {
        let mut stack = vec![first];
        while let Some(level) = stack.last_mut() {
            let Some(next) = level.subdirectories.next() else {
                stack.pop();
                continue;
            };
            let directory = Arc::clone(&level.directory);
            if stack.len() >= super::DEPTH_MAX {
                let path = at::join(&directory.path, &next.name);
                self.session.problem(&path, format!("left out: nested deeper than {} directories", super::DEPTH_MAX));
                self.session.leave_out(path, 0, LeftOutReason::Unreadable);
                self.session.deliver(&directory, next.slot, None)?;
                continue;
            }
            if let Some(level) = self.descend(ahead, &directory, next)? {
                stack.push(level);
            }
        }
        Ok(())
    }

    fn descend(&mut self, ahead: &mut Ahead<'_>, above: &Arc<Directory>, next: Subdirectory) -> Result<Option<Level>> {
        let path = at::join(&above.path, &next.name);
        match ahead.next() {
            Some(Scanned::Directory(scanned)) => {
                let ScannedDirectory { fd, stat, xattrs, passed_over_count } = *scanned;
                let node = node_of(&next.name, &stat, xattrs, NodeKind::Directory(Recipe::empty()));
                let directory = Directory::new(path, Some(node), Some((Arc::clone(above), next.slot)));
                if passed_over_count > 0 {
                    self.session.leave_out(directory.path.clone(), passed_over_count, LeftOutReason::OtherFileSystem);
                }
                self.enter(ahead, directory, &fd, next.parent_listing).map(Some)
            }
            Some(Scanned::Unreadable(error)) => {
                self.session.problem(&path, format!("left out: cannot read the directory: {error}"));
                self.session.leave_out(path, 0, LeftOutReason::Unreadable);
                self.session.deliver(above, next.slot, None)?;
                Ok(None)
            }
            _ => Err(astray()),
        }
    }

    /// Handles every member that is no directory and collects those that are.
    fn enter(
        &mut self,
        ahead: &mut Ahead<'_>,
        directory: Arc<Directory>,
        fd: &Arc<OwnedFd>,
        parent_listing: Option<Recipe>,
    ) -> Result<Level> {
        self.walked.directories_count += 1;
        let prints = match parent_listing {
            Some(_) => self.known.directory(&directory.path),
            None => HashSet::new(),
        };
        let store = self.session.store;
        let mut parents = parent_listing.map(|listing| ListingReader::new(store, &listing).peekable());
        let mut own_prints = Vec::new();
        let mut subdirectories = Vec::new();
        let mut tally = Tally::default();
        let mut slot = 0;
        loop {
            let (name, member) = match ahead.next() {
                Some(Scanned::Member(name, member)) => (name, member),
                Some(Scanned::End) => break,
                _ => return Err(astray()),
            };
            let stat = match member {
                Member::There(stat) => stat,
                Member::Excluded => {
                    tally.add(LeftOutReason::Excluded, at::join(&directory.path, &name));
                    continue;
                }
                Member::Unreadable(error) => {
                    let why = match error {
                        rustix::io::Errno::NOENT => "it vanished while the tree was saved".to_owned(),
                        error => format!("cannot read it: {error}"),
                    };
                    let path = at::join(&directory.path, &name);
                    self.session.problem(&path, format!("left out: {why}"));
                    tally.add(LeftOutReason::Unreadable, path);
                    continue;
                }
            };
            let file_type = FileType::from_raw_mode(u32::from(stat.stx_mode));
            if file_type == FileType::Socket {
                tally.add(LeftOutReason::Socket, at::join(&directory.path, &name));
                continue;
            }
            self.walked.uids.insert(stat.stx_uid);
            self.walked.gids.insert(stat.stx_gid);
            let parent = parents.as_mut().and_then(|parents| member_named(parents, &name));
            if file_type == FileType::Directory {
                let parent_listing = parent.as_ref().and_then(listing_of);
                subdirectories.push(Subdirectory { slot, name, parent_listing });
                slot += 1;
                continue;
            }
            let stamp = Stamp::from(&stat);
            let print = fingerprint(&name, &stamp);
            if !is_racy(&stamp, self.session.options.now) {
                own_prints.push(print);
            }
            let unchanged = parent.filter(|node| prints.contains(&print) && self.is_usable(node, file_type));
            self.member(&directory, fd, slot, name, &stat, unchanged)?;
            slot += 1;
        }
        tally.report(self.session, &directory.path);
        self.witness.push(&directory.path, &own_prints, &mut |bytes| self.session.put_meta(bytes))?;
        let done = directory.close(slot, &mut |bytes| self.session.put_meta(bytes))?;
        self.session.complete(done);
        Ok(Level { directory, subdirectories: subdirectories.into_iter() })
    }

    /// Takes over an unchanged member, or queues a changed one to be read.
    fn member(
        &mut self,
        directory: &Arc<Directory>,
        fd: &Arc<OwnedFd>,
        slot: usize,
        name: Vec<u8>,
        stat: &Statx,
        unchanged: Option<Node>,
    ) -> Result<()> {
        let key = (stat.stx_dev_major, stat.stx_dev_minor, stat.stx_ino);
        let seat = Seat { directory: Arc::clone(directory), slot, name, group: None };
        let Some(seat) = self.links.seat(self.session, key, stat.stx_nlink, seat)? else { return Ok(()) };
        match unchanged {
            Some(node) => self.session.take_over(&seat, node),
            None => {
                self.batch_len +=
                    if FileType::from_raw_mode(u32::from(stat.stx_mode)) == FileType::RegularFile { stat.stx_size } else { 0 };
                self.batch.push(FileJob { seat, fd: Arc::clone(fd), stat: *stat });
                if self.batch.len() >= BATCH_FILES || self.batch_len >= BATCH_LEN { self.send() } else { Ok(()) }
            }
        }
    }

    fn send(&mut self) -> Result<()> {
        self.batch_len = 0;
        let batch = std::mem::take(&mut self.batch);
        if batch.is_empty() { Ok(()) } else { self.sink.send(batch) }
    }

    /// Whether the parent entry's node can stand for the file: of the same kind, and its chunks still there.
    fn is_usable(&self, node: &Node, file_type: FileType) -> bool {
        let same = match node.kind {
            NodeKind::File(_) => FileType::RegularFile,
            NodeKind::Directory(_) => FileType::Directory,
            NodeKind::Symlink(_) => FileType::Symlink,
            NodeKind::CharDevice { .. } => FileType::CharacterDevice,
            NodeKind::BlockDevice { .. } => FileType::BlockDevice,
            NodeKind::Fifo => FileType::Fifo,
        };
        if same != file_type {
            return false;
        }
        self.session.is_whole(node)
    }
}

/// The thread that looks ahead has ended before the tree did.
fn astray() -> Error {
    Error::new(ErrorKind::Interrupted, "the look ahead of the walk has ended")
}

/// Members of one directory that are left out, one row a reason.
#[derive(Default)]
struct Tally {
    rows: Vec<(LeftOutReason, u64, Vec<u8>)>,
}

impl Tally {
    fn add(&mut self, reason: LeftOutReason, path: Vec<u8>) {
        match self.rows.iter_mut().find(|(known, _, _)| *known == reason) {
            Some((_, count, _)) => *count += 1,
            None => self.rows.push((reason, 1, path)),
        }
    }

    fn report(self, session: &Session<'_>, directory: &[u8]) {
        for (reason, count, path) in self.rows {
            if count == 1 {
                session.leave_out(path, 0, reason);
            } else {
                session.leave_out(directory.to_vec(), count, reason);
            }
        }
    }
}

/// A node from what the kernel says.
pub(super) fn node_of(name: &[u8], stat: &Statx, xattrs: Vec<(Vec<u8>, Vec<u8>)>, kind: NodeKind) -> Node {
    Node {
        name: name.to_vec(),
        mode: stat.stx_mode & 0o7777,
        uid: stat.stx_uid,
        gid: stat.stx_gid,
        mtime: Timestamp { seconds: stat.stx_mtime.tv_sec, nanoseconds: stat.stx_mtime.tv_nsec },
        xattrs,
        link: None,
        kind,
    }
}

pub(super) fn listing_of(node: &Node) -> Option<Recipe> {
    match &node.kind {
        NodeKind::Directory(listing) => Some(listing.clone()),
        _ => None,
    }
}

/// The parent's member of this name; names are asked for in order. Damage in the parent's listing ends it: the files are read then.
pub(super) fn member_named(parents: &mut Peekable<ListingReader<'_>>, name: &[u8]) -> Option<Node> {
    loop {
        match parents.peek()? {
            Ok(node) if node.name.as_slice() < name => _ = parents.next(),
            Ok(node) if node.name == name => return parents.next()?.ok(),
            _ => return None,
        }
    }
}
