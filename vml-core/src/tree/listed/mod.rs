//! Captures a tree that is elsewhere: a listing of all members, and the bytes of those that changed.
//!
//! ```text
//! source.list ──► sort (spool) ──► walk, side by side with known trees ──unchanged──► slot in its directory
//!                                         └──changed──► batch ──► source.fetch ──► cut, put ──► slot
//!                                                         ▲            │ look again: other times, read again
//!                                                         └────────────┘
//! ```
//! A member is known by its fingerprint in the parent entry's witness, as a file of this host is. A base was saved elsewhere,
//! so there its metadata must agree, and the guest must not have changed it since the base was saved. A listing of any
//! length is sorted on disk; what waits in memory is one batch.

mod fetch;
mod sort;
mod walk;

use super::capture::{CaptureOptions, Captured, Session};
use super::node::{Node, Timestamp};
use crate::monitor::Monitor;
use bincode::{Decode, Encode};
use std::io::Read;
use std::ops::Range;
use std::path::Path;
use vml_chunk::{Chunker, Result, StoreWriter};

/// What a listed member is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Encode, Decode)]
pub enum ListedKind {
    /// A regular file.
    File,
    /// A directory.
    Directory,
    /// A symbolic link.
    Symlink,
    /// A character device.
    CharDevice,
    /// A block device.
    BlockDevice,
    /// A named pipe.
    Fifo,
    /// A socket, which is left out.
    Socket,
}

/// What a listing says of one member.
#[derive(Debug, Clone, PartialEq, Eq, Encode, Decode)]
pub struct Listed {
    /// From the root of the tree, without a `/` in front; empty for the root itself.
    pub path: Vec<u8>,
    /// What it is.
    pub kind: ListedKind,
    /// The low twelve bits.
    pub mode: u16,
    /// Numeric owner.
    pub uid: u32,
    /// Numeric group.
    pub gid: u32,
    /// Bytes.
    pub size: u64,
    /// Its number on its file system.
    pub inode: u64,
    /// Names it has.
    pub links: u32,
    /// The file system it is on.
    pub device: u64,
    /// Last modification.
    pub mtime: Timestamp,
    /// Last change of anything.
    pub ctime: Timestamp,
    /// Where a symbolic link leads; else empty.
    pub target: Vec<u8>,
}

/// One thing that a listing tells.
#[derive(Debug)]
pub enum Told {
    /// A member; a directory is told before what is in it.
    Member(Listed),
    /// Something could not be listed.
    Trouble {
        /// What.
        subject: String,
        /// Why.
        message: String,
    },
}

/// A member that was asked for, on its way.
pub struct Fetched<'a> {
    /// As it was asked for.
    pub path: &'a [u8],
    /// Sorted by name, as the kernel gives them.
    pub xattrs: Vec<(Vec<u8>, Vec<u8>)>,
    /// The rest.
    pub what: FetchedWhat<'a>,
}

/// What a fetched member is.
pub enum FetchedWhat<'a> {
    /// A regular file.
    File {
        /// Its length, holes included.
        size: u64,
        /// Where it has data, in order and apart; what is between is a hole. `None` for all of it.
        runs: Option<&'a [Range<u64>]>,
        /// The bytes of the runs, one after the other.
        data: &'a mut dyn Read,
    },
    /// A directory.
    Directory,
    /// A symbolic link and its target.
    Symlink(Vec<u8>),
    /// A device and its numbers.
    Device {
        /// Whether it is a character device.
        char: bool,
        /// Major number.
        major: u32,
        /// Minor number.
        minor: u32,
    },
    /// A named pipe.
    Fifo,
}

/// What fetching came upon.
pub enum Fetching<'a> {
    /// A member.
    Member(Fetched<'a>),
    /// Something was not to be had; the subject says what.
    Trouble {
        /// What.
        subject: String,
        /// Why.
        message: String,
    },
}

/// A tree that is elsewhere.
pub trait TreeSource {
    /// Tells every member, the root and each directory before what is in it; returns the source's own time at the start.
    ///
    /// # Errors
    /// When the listing is not complete, or what `each` says.
    fn list(&self, each: &mut dyn FnMut(Told) -> Result<()>) -> Result<Timestamp>;

    /// Brings the members at `paths` in any order; those that are gone or cannot be read are missing.
    ///
    /// # Errors
    /// When it was cut short, or what `each` says.
    fn fetch(&self, paths: &[&[u8]], each: &mut dyn FnMut(Fetching<'_>) -> Result<()>) -> Result<()>;

    /// Lists the members at `paths` again; those that are gone are missing.
    ///
    /// # Errors
    /// As [`list`](Self::list).
    fn look_again(&self, paths: &[&[u8]], each: &mut dyn FnMut(Listed) -> Result<()>) -> Result<()>;
}

/// What is known of the tree from elsewhere, and where its listing may be sorted.
pub struct ListedOptions<'a> {
    /// As for a tree of this host; its `now` is not used, the source has its own.
    pub capture: &'a CaptureOptions<'a>,
    /// The root of the base's tree, and when it was saved.
    pub base: Option<(&'a Node, Timestamp)>,
    /// A directory of this host for a listing that is too long for memory.
    pub spool: &'a Path,
}

/// Captures the tree of `source` into the session `writer`; a problem with one member is told to `monitor` and the capture
/// goes on.
///
/// # Errors
/// What `source` says, `Corrupt` for a listing without a root, or when the store or the spool fails.
pub fn capture_listed(
    writer: &StoreWriter<'_>,
    chunker: &dyn Chunker,
    source: &dyn TreeSource,
    options: &ListedOptions<'_>,
    monitor: &dyn Monitor,
) -> Result<Captured> {
    let session = Session::new(writer, chunker, options.capture, monitor)?;
    let mut sorter = sort::Sorter::new(options.spool);
    let mut excluded: Option<Vec<u8>> = None;
    let now = source.list(&mut |told| match told {
        Told::Trouble { subject, message } => {
            session.problem(subject.as_bytes(), message);
            Ok(())
        }
        Told::Member(listed) => {
            if excluded.as_ref().is_some_and(|dir| listed.path.strip_prefix(dir.as_slice()).is_some_and(|rest| rest.first() == Some(&b'/')))
            {
                return Ok(());
            }
            let name = listed.path.rsplit(|byte| *byte == b'/').next().unwrap_or_default();
            if !listed.path.is_empty() && options.capture.exclude.matches(&listed.path, name) {
                session.leave_out(listed.path.clone(), 0, super::LeftOutReason::Excluded);
                excluded = Some(listed.path);
                return Ok(());
            }
            sorter.push(&listed)
        }
    })?;
    let mut fetch = fetch::Fetch::new(&session, source, writer)?;
    let walked = walk::Walk::new(&session, &mut fetch, options.base, now).run(sorter.finish()?)?;
    fetch.finish()?;
    session.end(walked)
}
