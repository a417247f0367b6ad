//! Makes one member of a directory that is no directory itself.

use super::remove::remove;
use super::{MemberJob, OutDirectory, Session, times};
use crate::monitor::Task;
use crate::recipe::{Piece, RecipeReader, for_zeros};
use crate::tree::at;
use crate::tree::attributes::{self, Target};
use crate::tree::node::{Content, Node, NodeKind};
use rustix::fs::{AtFlags, FileType, Gid, Mode, OFlags, SeekFrom, Uid};
use rustix::io::Errno;
use std::collections::HashMap;
use std::fs::File;
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::fs::FileExt;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use vml_chunk::{Chunk, ChunkId, Error, ErrorKind, Result};

/// Numbers the names of files that will be renamed over others.
static NEXT_TEMPORARY: AtomicU64 = AtomicU64::new(0);

/// By this a program has rights that its caller has not.
const CAPABILITY: &[u8] = b"security.capability";

/// Files with several names, by the path of the first in the stored tree.
#[derive(Default)]
pub(super) struct Links(Mutex<HashMap<Vec<u8>, LinkState>>);

enum LinkState {
    /// One name is being written; the others wait, and hold their directories open.
    Writing(Vec<(Arc<OutDirectory>, Node)>),
    /// The path in the target of the name that was written; `None` when it could not be.
    Done(Option<Vec<u8>>),
}

/// What became of a member's bytes.
pub(super) enum Outcome {
    Written,
    /// It had the right bytes already.
    Kept,
}

/// Why a member cannot be made.
pub(super) enum Trouble {
    Os(Errno),
    Io(std::io::Error),
    Damaged(Error),
    InTheWay,
}

impl From<Errno> for Trouble {
    fn from(error: Errno) -> Self {
        Self::Os(error)
    }
}

/// Makes a member with all its attributes. The error is one that ends the restore; others are problems.
pub(super) fn restore_member(session: &Session<'_>, job: &MemberJob) -> Result<()> {
    if !session.options.special {
        let Some(node) = tame(session, job) else { return Ok(()) };
        return restore_tamed(session, &MemberJob { directory: Arc::clone(&job.directory), node });
    }
    restore_tamed(session, job)
}

/// A member without what gives a stranger power over this host; none for a device.
pub(super) fn tame(session: &Session<'_>, job: &MemberJob) -> Option<Node> {
    const STRANGER: &str = "the entry is from an unknown signer";
    let mut node = job.node.clone();
    let path = at::join(&job.directory.path, &node.name);
    if matches!(node.kind, NodeKind::CharDevice { .. } | NodeKind::BlockDevice { .. }) {
        session.refuse(&path, "the device".to_owned(), &STRANGER);
        return None;
    }
    if node.mode & 0o6000 != 0 {
        node.mode &= !0o6000;
        session.refuse(&path, "set-user-id and set-group-id".to_owned(), &STRANGER);
    }
    if node.xattrs.iter().any(|(name, _)| name == CAPABILITY) {
        node.xattrs.retain(|(name, _)| name != CAPABILITY);
        session.refuse(&path, "capabilities".to_owned(), &STRANGER);
    }
    Some(node)
}

fn restore_tamed(session: &Session<'_>, job: &MemberJob) -> Result<()> {
    let Some(group) = &job.node.link else { return make(session, &job.directory, &job.node).map(|_| ()) };
    let done = {
        let mut links = session.links.0.lock().unwrap_or_else(PoisonError::into_inner);
        match links.get_mut(group) {
            None => {
                links.insert(group.clone(), LinkState::Writing(Vec::new()));
                None
            }
            Some(LinkState::Writing(waiting)) => {
                // One more hold than the caller will release: it is released when the link is made.
                job.directory.hold();
                waiting.push((Arc::clone(&job.directory), job.node.clone()));
                return Ok(());
            }
            Some(LinkState::Done(path)) => Some(path.clone()),
        }
    };
    if let Some(path) = done {
        return link(session, path.as_deref(), &job.directory, &job.node);
    }
    let made = make(session, &job.directory, &job.node)?;
    let path = made.then(|| at::join(&job.directory.path, &job.node.name));
    let waiting = session.links.0.lock().unwrap_or_else(PoisonError::into_inner).insert(group.clone(), LinkState::Done(path.clone()));
    if let Some(LinkState::Writing(waiting)) = waiting {
        for (directory, node) in waiting {
            link(session, path.as_deref(), &directory, &node)?;
            directory.release(session)?;
        }
    }
    Ok(())
}

/// Gives a file one more name; where that fails it becomes a file of its own.
fn link(session: &Session<'_>, first: Option<&[u8]>, directory: &Arc<OutDirectory>, node: &Node) -> Result<()> {
    if let Some(first) = first {
        match try_link(session, first, directory, node) {
            Ok(()) => {
                count(session, node, &Outcome::Written);
                return Ok(());
            }
            Err(error) => session.refuse(&at::join(&directory.path, &node.name), "the hard link, it is a copy".to_owned(), &error),
        }
    }
    make(session, directory, node).map(|_| ())
}

fn try_link(session: &Session<'_>, first: &[u8], directory: &OutDirectory, node: &Node) -> rustix::io::Result<()> {
    let (above, name) =
        first.iter().rposition(|byte| *byte == b'/').map_or((&b""[..], first), |slash| (&first[..slash], &first[slash + 1..]));
    let source = at::open_beneath(session.root.as_fd(), above)?;
    match rustix::fs::linkat(&source, name, &directory.fd, node.name.as_slice(), AtFlags::empty()) {
        Err(Errno::EXIST) => {
            let (there, wanted) = (at::stat(&directory.fd, &node.name)?, at::stat(&source, name)?);
            if (there.stx_dev_major, there.stx_dev_minor, there.stx_ino) == (wanted.stx_dev_major, wanted.stx_dev_minor, wanted.stx_ino) {
                return Ok(());
            }
            clear_way(session, directory, &node.name).map_err(|_| Errno::EXIST)?;
            rustix::fs::linkat(&source, name, &directory.fd, node.name.as_slice(), AtFlags::empty())
        }
        other => other,
    }
}

/// Makes a member; tells a problem when it cannot. Returns whether it is there.
fn make(session: &Session<'_>, directory: &OutDirectory, node: &Node) -> Result<bool> {
    let path = at::join(&directory.path, &node.name);
    let made = match &node.kind {
        NodeKind::File(content) => make_file(session, directory, node, content, &path),
        _ => make_special(session, directory, node, &path),
    };
    match made {
        Ok(outcome) => {
            count(session, node, &outcome);
            Ok(true)
        }
        Err(trouble) => tell(session, node, &path, trouble).map(|()| false),
    }
}

/// Tells a problem with one member; an error is one that ends the restore.
pub(super) fn tell(session: &Session<'_>, node: &Node, path: &[u8], trouble: Trouble) -> Result<()> {
    let no_space = |error: &dyn std::fmt::Display| Error::new(ErrorKind::NoSpace, format!("cannot write {}: {error}", at::shown(path)));
    match trouble {
        Trouble::Os(error @ (Errno::NOSPC | Errno::DQUOT)) => return Err(no_space(&error)),
        Trouble::Io(error) if vml_chunk::error::kind_of_io(&error) == ErrorKind::NoSpace => return Err(no_space(&error)),
        Trouble::Os(Errno::PERM) if matches!(node.kind, NodeKind::CharDevice { .. } | NodeKind::BlockDevice { .. }) => {
            session.problem(path, "not restored: only root can make a device".to_owned());
        }
        Trouble::Os(error) => session.problem(path, format!("not restored: {error}")),
        Trouble::Io(error) => session.problem(path, format!("not restored: {error}")),
        Trouble::InTheWay => {
            session.problem(path, "not restored: a directory that is not empty is in the way (--delete removes it)".to_owned());
        }
        // The store's own trouble is this member's only as far as its chunks go.
        Trouble::Damaged(error) if matches!(error.kind(), ErrorKind::Corrupt | ErrorKind::NotFound) => {
            let cause = std::error::Error::source(&error).map(|cause| format!(" ({cause})")).unwrap_or_default();
            session.problem(path, format!("not restored: its data is damaged: {error}{cause}"));
        }
        Trouble::Damaged(error) => return Err(error),
    }
    Ok(())
}

pub(super) fn count(session: &Session<'_>, node: &Node, outcome: &Outcome) {
    if let NodeKind::File(content) = &node.kind {
        session.counters.files.fetch_add(1, Ordering::Relaxed);
        session.counters.bytes.fetch_add(content.len(), Ordering::Relaxed);
        if matches!(outcome, Outcome::Kept) {
            session.counters.kept_files.fetch_add(1, Ordering::Relaxed);
        }
    } else {
        session.counters.others.fetch_add(1, Ordering::Relaxed);
    }
    session.monitor.advance(Task::Restore, 1, node.len());
}

fn make_file(
    session: &Session<'_>,
    directory: &OutDirectory,
    node: &Node,
    content: &Content,
    path: &[u8],
) -> std::result::Result<Outcome, Trouble> {
    if !directory.was_empty()
        && let Some(file) = open_equal(session, directory, node, content)
    {
        // Its mode may forbid its owner to change its attributes.
        if session.uid != 0 {
            _ = rustix::fs::fchmod(&file, Mode::RUSR | Mode::WUSR);
        }
        session.set_attributes(file.as_fd(), node, path, false);
        return Ok(Outcome::Kept);
    }
    let create = |name: &[u8]| create(directory, name);
    // Directly where nothing can be in the way, else under another name first.
    let (name, fd) = match create(&node.name) {
        Ok(fd) => (node.name.clone(), fd),
        Err(Errno::EXIST) => loop {
            let name = format!(".vml-{}-{}", std::process::id(), NEXT_TEMPORARY.fetch_add(1, Ordering::Relaxed)).into_bytes();
            match create(&name) {
                Ok(fd) => break (name, fd),
                Err(Errno::EXIST) => {}
                Err(error) => return Err(error.into()),
            }
        },
        Err(error) => return Err(error.into()),
    };
    let file = File::from(fd);
    let written = write_content(session, &file, content).and_then(|()| {
        session.set_attributes(file.as_fd(), node, path, !directory.inherits);
        if name != node.name {
            if matches!(at::stat(&directory.fd, &node.name), Ok(stat) if FileType::from_raw_mode(u32::from(stat.stx_mode)) == FileType::Directory) {
                clear_way(session, directory, &node.name)?;
            }
            rustix::fs::renameat(&directory.fd, name.as_slice(), &directory.fd, node.name.as_slice())?;
        }
        Ok(Outcome::Written)
    });
    if written.is_err() {
        // Half a file must not be taken for the file.
        _ = rustix::fs::unlinkat(&directory.fd, name.as_slice(), AtFlags::empty());
    }
    written
}

/// Makes a file where nothing stands.
pub(super) fn create(directory: &OutDirectory, name: &[u8]) -> rustix::io::Result<OwnedFd> {
    let flags = OFlags::CREATE | OFlags::EXCL | OFlags::WRONLY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    rustix::fs::openat(&directory.fd, name, flags, Mode::RUSR | Mode::WUSR)
}

fn write_content(session: &Session<'_>, file: &File, content: &Content) -> std::result::Result<(), Trouble> {
    let recipe = match content {
        Content::Inline(bytes) => return file.write_all_at(bytes, 0).map_err(Trouble::Io),
        Content::Recipe(recipe) => recipe,
    };
    let mut run = Run::new(file);
    let mut offset = 0;
    let mut ends_in_hole = false;
    for piece in RecipeReader::new(session.store, recipe) {
        let piece = piece.map_err(Trouble::Damaged)?;
        run.write(session, offset, &piece)?;
        ends_in_hole = matches!(piece, Piece::Hole { .. });
        offset += piece.len();
    }
    run.flush().map_err(Trouble::Io)?;
    if ends_in_hole { file.set_len(offset).map_err(Trouble::Io) } else { Ok(()) }
}

/// A chunk that has the length which its recipe says.
fn chunk(session: &Session<'_>, id: &ChunkId, len: u32) -> std::result::Result<Chunk, Trouble> {
    let chunk = session.store.get_chunk(id).map_err(Trouble::Damaged)?;
    if chunk.len() == len as usize {
        return Ok(chunk);
    }
    Err(Trouble::Damaged(Error::corrupt(format!("chunk {} has another length than its recipe says", id.short()))))
}

/// Chunks that follow each other in the file and in their frame, to be written at once: a file's chunks usually do.
pub(super) struct Run<'a> {
    file: &'a File,
    chunk: Option<Chunk>,
    offset: u64,
}

impl<'a> Run<'a> {
    pub(super) fn new(file: &'a File) -> Self {
        Self { file, chunk: None, offset: 0 }
    }

    /// Writes what `piece` has at `offset`, some of it later.
    pub(super) fn write(&mut self, session: &Session<'_>, offset: u64, piece: &Piece) -> std::result::Result<(), Trouble> {
        match piece {
            Piece::Data { id, len } => self.push(offset, chunk(session, id, *len)?).map_err(Trouble::Io),
            Piece::Zero { len } => write_zeros(self.file, offset, *len).map_err(Trouble::Io),
            Piece::Hole { .. } => Ok(()),
        }
    }

    fn push(&mut self, offset: u64, next: Chunk) -> std::io::Result<()> {
        if let Some(chunk) = &mut self.chunk
            && self.offset + chunk.len() as u64 == offset
            && chunk.join(&next)
        {
            return Ok(());
        }
        self.flush()?;
        self.offset = offset;
        self.chunk = Some(next);
        Ok(())
    }

    pub(super) fn flush(&mut self) -> std::io::Result<()> {
        match self.chunk.take() {
            Some(chunk) => self.file.write_all_at(&chunk, self.offset),
            None => Ok(()),
        }
    }
}

fn write_zeros(file: &File, mut offset: u64, len: u64) -> std::io::Result<()> {
    for_zeros(len, |zeros| {
        file.write_all_at(zeros, offset)?;
        offset += zeros.len() as u64;
        Ok(())
    })
}

/// The file that stands there already, if it is a plain one with exactly these bytes and no other name: what it is linked to
/// may be outside the target, or another file in the tree. One with holes is written anew: they may be what a build that was killed had not written.
fn open_equal(session: &Session<'_>, directory: &OutDirectory, node: &Node, content: &Content) -> Option<File> {
    let stat = at::stat(&directory.fd, &node.name).ok()?;
    let regular = FileType::from_raw_mode(u32::from(stat.stx_mode)) == FileType::RegularFile;
    if !regular || stat.stx_size != content.len() || stat.stx_nlink > 1 {
        return None;
    }
    let file = File::from(at::open_file(&directory.fd, &node.name).ok()?);
    if stat.stx_size > 0 && rustix::fs::seek(&file, SeekFrom::Hole(0)) != Ok(stat.stx_size) {
        return None;
    }
    let mut buffer = Vec::new();
    let mut same = |offset: u64, len: usize, is: &dyn Fn(&[u8]) -> bool| {
        buffer.resize(len, 0);
        file.read_exact_at(&mut buffer, offset).is_ok() && is(&buffer)
    };
    match content {
        Content::Inline(bytes) => same(0, bytes.len(), &|read| read == bytes).then_some(()),
        Content::Recipe(recipe) => {
            let (mut offset, ids) = (0, session.store.ids());
            for piece in RecipeReader::new(session.store, recipe) {
                match piece.ok()? {
                    Piece::Data { id, len } if same(offset, len as usize, &|read| ids.id(read) == id) => offset += u64::from(len),
                    _ => return None,
                }
            }
            Some(())
        }
    }?;
    Some(file)
}

fn make_special(session: &Session<'_>, directory: &OutDirectory, node: &Node, path: &[u8]) -> std::result::Result<Outcome, Trouble> {
    let name = node.name.as_slice();
    let create = || match &node.kind {
        NodeKind::Symlink(target) => rustix::fs::symlinkat(target.as_slice(), &directory.fd, name),
        NodeKind::Fifo => rustix::fs::mknodat(&directory.fd, name, FileType::Fifo, Mode::RUSR | Mode::WUSR, 0),
        NodeKind::CharDevice { major, minor } => rustix::fs::mknodat(
            &directory.fd,
            name,
            FileType::CharacterDevice,
            Mode::RUSR | Mode::WUSR,
            rustix::fs::makedev(*major, *minor),
        ),
        NodeKind::BlockDevice { major, minor } => {
            rustix::fs::mknodat(&directory.fd, name, FileType::BlockDevice, Mode::RUSR | Mode::WUSR, rustix::fs::makedev(*major, *minor))
        }
        NodeKind::File(_) | NodeKind::Directory(_) => unreachable!("handled elsewhere"),
    };
    match create() {
        Err(Errno::EXIST) => {
            clear_way(session, directory, name)?;
            create()?;
        }
        other => other?,
    }
    let member = Target::Member(directory.fd.as_fd(), name);
    let mut owned = false;
    if session.options.owners {
        let (uid, gid) = (Uid::from_raw(node.uid), Gid::from_raw(node.gid));
        match rustix::fs::chownat(&directory.fd, name, Some(uid), Some(gid), AtFlags::SYMLINK_NOFOLLOW) {
            Ok(()) => owned = true,
            Err(error) => session.refuse(path, "the owner".to_owned(), &error),
        }
    }
    for (name, error) in attributes::write(member, &node.xattrs, !directory.inherits) {
        session.refuse(path, format!("attribute {}", crate::tree::display_path(&name)), &error);
    }
    if !matches!(node.kind, NodeKind::Symlink(_))
        && let Err(error) = at::chmod(&directory.fd, name, session.mode(node, owned))
    {
        session.refuse(path, "the mode".to_owned(), &error);
    }
    if let Err(error) = rustix::fs::utimensat(&directory.fd, name, &times(node), AtFlags::SYMLINK_NOFOLLOW) {
        session.refuse(path, "the time".to_owned(), &error);
    }
    Ok(Outcome::Written)
}

/// Removes what stands where a member shall be; a directory with members only when deleting was asked for.
fn clear_way(session: &Session<'_>, directory: &OutDirectory, name: &[u8]) -> std::result::Result<(), Trouble> {
    match rustix::fs::unlinkat(&directory.fd, name, AtFlags::empty()) {
        Ok(()) | Err(Errno::NOENT) => return Ok(()),
        Err(Errno::ISDIR | Errno::PERM) => {}
        Err(error) => return Err(error.into()),
    }
    if session.options.delete {
        let count = remove(&directory.fd, name)?;
        session.counters.deleted.fetch_add(count, Ordering::Relaxed);
        return Ok(());
    }
    match rustix::fs::unlinkat(&directory.fd, name, AtFlags::REMOVEDIR) {
        Err(Errno::NOTEMPTY | Errno::EXIST) => Err(Trouble::InTheWay),
        other => other.map_err(Into::into),
    }
}
