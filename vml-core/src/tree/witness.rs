//! The witness: by what an unchanged file is known at the next save, kept beside the tree.
//!
//! For each directory, in the order of the walk, it has the path and for each file a fingerprint: the first eight bytes
//! of the BLAKE3 of its name, inode number, size, modification and change time. A file whose fingerprint is there is the file
//! that was saved: nothing can change it without changing its ctime. Two exceptions are handled here: a file changed
//! within the clock's tick of the save could be changed again without its ctime moving, so files as young as that
//! get no fingerprint; and a file that could not be read has no node to take over.
//!
//! It is not part of the tree, because two equal trees on different disks differ in it, and whoever receives a tree has
//! no use for it.

use super::node::Timestamp;
use crate::recipe::{ByteStream, GetChunk, Piece, PutMeta, Recipe, RecipeReader};
use rustix::fs::Statx;
use std::cmp::Ordering;
use std::collections::HashSet;
use vml_chunk::{Chunker, Error, Result};

/// Changes younger than this at the start of a save are not trusted, in nanoseconds: kernels stamp files with a clock
/// that moves every 1 to 10 ms.
const TICK_NS: i128 = 50_000_000;

/// By what one state of a file is told from another.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Stamp {
    pub(super) inode: u64,
    pub(super) size: u64,
    pub(super) mtime: Timestamp,
    pub(super) ctime: Timestamp,
}

impl From<&Statx> for Stamp {
    fn from(stat: &Statx) -> Self {
        let [mtime, ctime] = [stat.stx_mtime, stat.stx_ctime].map(|time| Timestamp { seconds: time.tv_sec, nanoseconds: time.tv_nsec });
        Self { inode: stat.stx_ino, size: stat.stx_size, mtime, ctime }
    }
}

/// What tells one state of a file from another, in short.
pub(super) fn fingerprint(name: &[u8], stamp: &Stamp) -> u64 {
    let mut hasher = blake3::Hasher::new();
    hasher.update(&stamp.inode.to_le_bytes());
    hasher.update(&stamp.size.to_le_bytes());
    for time in [stamp.mtime, stamp.ctime] {
        hasher.update(&time.seconds.to_le_bytes());
        hasher.update(&time.nanoseconds.to_le_bytes());
    }
    hasher.update(name);
    let mut head = [0; 8];
    head.copy_from_slice(&hasher.finalize().as_bytes()[..8]);
    u64::from_le_bytes(head)
}

/// Whether a file changed so shortly before `now` that it may change again unnoticed.
pub(super) fn is_racy(stamp: &Stamp, now: Option<Timestamp>) -> bool {
    now.is_some_and(|now| is_young(nanoseconds(stamp.ctime), now))
}

/// The same of a change time in nanoseconds since 1970.
pub(crate) fn is_young(ctime_ns: i128, now: Timestamp) -> bool {
    ctime_ns > nanoseconds(now) - TICK_NS
}

fn nanoseconds(time: Timestamp) -> i128 {
    i128::from(time.seconds) * 1_000_000_000 + i128::from(time.nanoseconds)
}

/// Writes a witness, directory by directory.
pub(super) struct WitnessWriter<'c> {
    stream: ByteStream<'c>,
}

impl<'c> WitnessWriter<'c> {
    pub(super) fn new(chunker: &'c dyn Chunker) -> Self {
        Self { stream: ByteStream::new(chunker) }
    }

    pub(super) fn push(&mut self, path: &[u8], fingerprints: &[u64], put: PutMeta<'_>) -> Result<()> {
        if fingerprints.is_empty() {
            return Ok(());
        }
        let mut bytes = Vec::with_capacity(8 + path.len() + fingerprints.len() * 8);
        for len in [path.len(), fingerprints.len()] {
            bytes.extend_from_slice(&u32::try_from(len).map_err(|_| Error::invalid("a directory has more than 2^32 files"))?.to_le_bytes());
        }
        bytes.extend_from_slice(path);
        fingerprints.iter().for_each(|print| bytes.extend_from_slice(&print.to_le_bytes()));
        self.stream.push(&bytes, put)
    }

    pub(super) fn finish(self, put: PutMeta<'_>) -> Result<Recipe> {
        self.stream.finish(put)
    }
}

/// Reads a witness in the order of the walk; what is damaged or missing merely makes files be read.
pub(super) struct WitnessReader<'a> {
    store: &'a dyn GetChunk,
    pieces: Option<RecipeReader<'a>>,
    buffer: Vec<u8>,
    start: usize,
    next: Option<(Vec<u8>, HashSet<u64>)>,
}

impl<'a> WitnessReader<'a> {
    pub(super) fn new(store: &'a dyn GetChunk, witness: Option<&Recipe>) -> Self {
        Self { store, pieces: witness.map(|recipe| RecipeReader::new(store, recipe)), buffer: Vec::new(), start: 0, next: None }
    }

    /// The fingerprints of the directory `path`; directories are asked for in the order of the walk.
    pub(super) fn directory(&mut self, path: &[u8]) -> HashSet<u64> {
        loop {
            if self.next.is_none() {
                self.next = self.read_directory();
            }
            match &self.next {
                None => return HashSet::new(),
                Some((known, _)) => match walk_order(known, path) {
                    Ordering::Less => self.next = None,
                    Ordering::Equal => return self.next.take().map(|(_, prints)| prints).unwrap_or_default(),
                    Ordering::Greater => return HashSet::new(),
                },
            }
        }
    }

    fn read_directory(&mut self) -> Option<(Vec<u8>, HashSet<u64>)> {
        let path_len = self.read_u32()?;
        let count = self.read_u32()?;
        let path = self.take(path_len)?.to_vec();
        let prints = self.take(count.checked_mul(8)?)?;
        let set = prints.chunks_exact(8).map(|eight| u64::from_le_bytes(eight.try_into().expect("eight bytes"))).collect();
        Some((path, set))
    }

    fn read_u32(&mut self) -> Option<usize> {
        Some(u32::from_le_bytes(self.take(4)?.try_into().expect("four bytes")) as usize)
    }

    /// The next `len` bytes, while chunks last.
    fn take(&mut self, len: usize) -> Option<&[u8]> {
        while self.buffer.len() - self.start < len {
            let piece = self.pieces.as_mut()?.next()?;
            let chunk = match piece {
                Ok(Piece::Data { id, .. }) => self.store.get_chunk(&id).ok()?,
                _ => return None,
            };
            self.buffer.drain(..self.start);
            self.start = 0;
            self.buffer.extend_from_slice(&chunk);
        }
        let range = self.start..self.start + len;
        self.start += len;
        Some(&self.buffer[range])
    }
}

/// A directory comes before what is in it, and members in the order of their names.
fn walk_order(a: &[u8], b: &[u8]) -> Ordering {
    match (a.is_empty(), b.is_empty()) {
        (true, true) => Ordering::Equal,
        (true, false) => Ordering::Less,
        (false, true) => Ordering::Greater,
        (false, false) => a.split(|byte| *byte == b'/').cmp(b.split(|byte| *byte == b'/')),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_order_is_that_of_the_walk_not_of_the_bytes() {
        // '-' sorts before '/': as bytes "a-b" is before "a/b", in the walk it is after.
        assert_eq!(walk_order(b"a/b", b"a-b"), Ordering::Less);
        assert_eq!(walk_order(b"", b"a"), Ordering::Less);
        assert_eq!(walk_order(b"a", b"a/b"), Ordering::Less);
    }
}
