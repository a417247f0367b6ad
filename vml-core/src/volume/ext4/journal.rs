//! The journal: what was committed there and has not been written to its place yet.
//!
//! ```text
//! superblock │ descriptor  block  block … │ revoke … │ commit │ descriptor  block … │ commit │ …   and round again
//! ```
//! A descriptor says which blocks of the file system follow it, a revoke block which earlier ones no longer count. A
//! transaction counts when its commit block is there. Nothing is written: the result is a map that reading goes through.
//! Checksums are not verified; a transaction without its end is told by the missing commit block.

use super::super::bytes::Fields;
use super::Ext4;
use super::mapping::Run;
use super::store::{Logged, Replayed};
use vml_chunk::{Error, ErrorKind, Result};

/// What every block of the journal's own begins with, big-endian.
pub(super) const MAGIC: u32 = 0xC03B_3998;

/// Longest journal that is replayed.
const LEN_MAX: u64 = 1 << 30;
/// Blocks that one journal can have for the file system.
const REPLAYED_MAX: usize = 1 << 20;

const DESCRIPTOR: u32 = 1;
const COMMIT: u32 = 2;
const SUPERBLOCK_V1: u32 = 3;
const SUPERBLOCK_V2: u32 = 4;
const REVOKE: u32 = 5;

const HAS_64BIT: u32 = 0x2;
const CSUM_V2: u32 = 0x8;
const CSUM_V3: u32 = 0x10;
const FAST_COMMIT: u32 = 0x20;
const KNOWN_INCOMPAT: u32 = 0x3F;
/// Blocks for fast commits where the superblock does not say how many.
const FAST_COMMIT_BLOCKS: u32 = 256;

const ESCAPED: u32 = 1;
const SAME_UUID: u32 = 2;
const LAST: u32 = 8;

/// What the journal in an inode has for the file system.
///
/// # Errors
/// `Corrupt` when it is no journal or has a part that cannot be read; `UnsupportedFormat` for what it cannot be replayed
/// with.
pub(super) fn replay(ext4: &Ext4<'_>, number: u32) -> Result<Replayed> {
    let inode = ext4.inode(number).map_err(|error| error.context("cannot find the journal of the ext4 file system"))?;
    let mut log = Log { ext4, runs: ext4.home_runs(&inode)?, features: 0, first: 0, end: inode.len / ext4.block_len };
    let Some((start, sequence)) = log.open()? else { return Ok(Replayed::new()) };
    log.walk(start, sequence)
}

/// The journal as blocks of a file.
struct Log<'a> {
    ext4: &'a Ext4<'a>,
    runs: Vec<Run>,
    features: u32,
    /// First block of the ring, and the one behind its last.
    first: u64,
    end: u64,
}

/// What a transaction has done until its commit block.
#[derive(Default)]
struct Transaction {
    /// Blocks of the file system, and where they are.
    blocks: Vec<(u64, Logged)>,
    /// Places of its revoke blocks.
    revokes: Vec<u64>,
}

impl Log<'_> {
    fn bad(&self, what: &str) -> Error {
        Error::corrupt(format!("the journal of the ext4 file system at {} {what}", self.ext4.store.offset))
    }

    fn unsupported(&self, what: &str) -> Error {
        let message = format!(
            "the journal of the ext4 file system at {} {what}; start the machine and shut it down, or mount the file system once",
            self.ext4.store.offset
        );
        Error::new(ErrorKind::UnsupportedFormat, message)
    }

    /// Reads the journal's superblock; where the walk begins and with which transaction, `None` when there is nothing.
    fn open(&mut self) -> Result<Option<(u64, u32)>> {
        let block_len = self.ext4.block_len;
        if self.end == 0 {
            return Err(self.bad("is empty"));
        }
        let bytes = self.block(0)?;
        let fields = Fields(&bytes);
        let kind = fields.u32_be(4);
        if fields.u32_be(0) != MAGIC || !matches!(kind, SUPERBLOCK_V1 | SUPERBLOCK_V2) || u64::from(fields.u32_be(0xC)) != block_len {
            return Err(self.bad("has no superblock"));
        }
        let len = u64::from(fields.u32_be(0x10));
        if len > self.end {
            return Err(self.bad("is longer than its file"));
        }
        self.first = u64::from(fields.u32_be(0x14));
        let (sequence, start) = (fields.u32_be(0x18), u64::from(fields.u32_be(0x1C)));
        if kind == SUPERBLOCK_V2 {
            self.features = fields.u32_be(0x28);
        }
        if start == 0 {
            return Ok(None);
        }
        if self.features & !KNOWN_INCOMPAT != 0 {
            return Err(self.unsupported(&format!("has features that are not known ({:#x})", self.features)));
        }
        if len * block_len > LEN_MAX {
            return Err(self.unsupported("is longer than a gigabyte"));
        }
        let fast = match (self.features & FAST_COMMIT != 0, fields.u32_be(0x54)) {
            (false, _) => 0,
            (true, 0) => u64::from(FAST_COMMIT_BLOCKS),
            (true, count) => u64::from(count),
        };
        self.end = len.saturating_sub(fast);
        if self.first == 0 || self.first >= self.end {
            return Err(self.bad("has no room"));
        }
        if !(self.first..self.end).contains(&start) {
            return Err(self.bad("begins outside itself"));
        }
        Ok(Some((start, sequence)))
    }

    /// The place of a block in the volume.
    fn place(&self, index: u64) -> Result<u64> {
        let at = index * self.ext4.block_len;
        let run = self.runs.partition_point(|run| run.file_offset + run.len <= at);
        let run = self.runs.get(run).filter(|run| run.file_offset <= at).ok_or_else(|| self.bad("has a hole"))?;
        Ok(run.disk_offset - self.ext4.store.offset + (at - run.file_offset))
    }

    fn block(&self, index: u64) -> Result<Vec<u8>> {
        self.ext4.read_block(self.place(index)? / self.ext4.block_len)
    }

    /// Goes from one transaction to the next, at most once round.
    fn walk(&self, start: u64, first_sequence: u32) -> Result<Replayed> {
        let mut replayed = Replayed::new();
        let mut transaction = Transaction::default();
        let mut sequence = first_sequence;
        let mut ring = Ring { at: start, first: self.first, end: self.end, left: self.end - self.first };
        while let Some(index) = ring.next() {
            let bytes = self.block(index)?;
            let fields = Fields(&bytes);
            if fields.u32_be(0) != MAGIC || fields.u32_be(8) != sequence {
                break;
            }
            match fields.u32_be(4) {
                DESCRIPTOR => {
                    for (block, escaped) in self.tags(&bytes) {
                        // More blocks than there are: the transaction cannot have an end either.
                        let Some(index) = ring.next() else { break };
                        transaction.blocks.push((block, Logged { at: self.place(index)?, escaped }));
                    }
                }
                REVOKE => transaction.revokes.push(index),
                COMMIT => {
                    self.commit(&std::mem::take(&mut transaction), &mut replayed)?;
                    sequence = sequence.wrapping_add(1);
                }
                _ => break,
            }
        }
        self.refuse_fast_commits(sequence)?;
        Ok(replayed)
    }

    /// What a transaction revokes does not count before it and in it.
    fn commit(&self, transaction: &Transaction, replayed: &mut Replayed) -> Result<()> {
        replayed.extend(transaction.blocks.iter().copied());
        for index in &transaction.revokes {
            let bytes = self.block(*index)?;
            let number_len = if self.features & HAS_64BIT != 0 { 8 } else { 4 };
            let end = (Fields(&bytes).u32_be(12) as usize).min(self.used_len(&bytes));
            for number in bytes.get(16..end).unwrap_or_default().chunks_exact(number_len) {
                let high = Fields(number).u32_be(0);
                let block = if number_len == 8 { u64::from(high) << 32 | u64::from(Fields(number).u32_be(4)) } else { u64::from(high) };
                replayed.remove(&block);
            }
        }
        if replayed.len() > REPLAYED_MAX { Err(self.unsupported("has too many blocks")) } else { Ok(()) }
    }

    /// The length of a block of the journal's own without its checksum.
    fn used_len(&self, bytes: &[u8]) -> usize {
        if self.features & (CSUM_V2 | CSUM_V3) != 0 { bytes.len() - 4 } else { bytes.len() }
    }

    /// The blocks that a descriptor names, and whether they are escaped.
    fn tags(&self, bytes: &[u8]) -> Vec<(u64, bool)> {
        let is_64bit = self.features & HAS_64BIT != 0;
        let tag_len = match (self.features & CSUM_V3 != 0, self.features & CSUM_V2 != 0) {
            (true, _) => 16,
            (false, true) => 10 + if is_64bit { 4 } else { 0 },
            (false, false) => 8 + if is_64bit { 4 } else { 0 },
        };
        let mut tags = Vec::new();
        let mut at = 12;
        while at + tag_len <= self.used_len(bytes) {
            let fields = Fields(&bytes[at..at + tag_len]);
            let flags = if tag_len == 16 { fields.u32_be(4) } else { fields.u32_be(4) & 0xFFFF };
            let high = if is_64bit { u64::from(fields.u32_be(8)) << 32 } else { 0 };
            tags.push((high | u64::from(fields.u32_be(0)), flags & ESCAPED != 0));
            at += tag_len + if flags & SAME_UUID != 0 { 0 } else { 16 };
            if flags & LAST != 0 {
                break;
            }
        }
        tags
    }

    /// Fast commits follow the last transaction in a place of their own, as changes instead of blocks.
    fn refuse_fast_commits(&self, sequence: u32) -> Result<()> {
        if self.features & FAST_COMMIT == 0 {
            return Ok(());
        }
        let bytes = self.block(self.end)?;
        let fields = Fields(&bytes);
        // The first tag is a head, with features and the transaction that it follows.
        if fields.u16(0) == 9 && fields.u32(8) == sequence {
            return Err(self.unsupported("has fast commits, which cannot be replayed here"));
        }
        Ok(())
    }
}

/// Indices of blocks, once round.
struct Ring {
    at: u64,
    first: u64,
    end: u64,
    left: u64,
}

impl Iterator for Ring {
    type Item = u64;

    fn next(&mut self) -> Option<u64> {
        self.left = self.left.checked_sub(1)?;
        let index = self.at;
        self.at = if index + 1 < self.end { index + 1 } else { self.first };
        Some(index)
    }
}
