//! From a file's bytes to the disk's: extent trees, and the block lists of ext2 and ext3.

use super::super::bytes::Fields;
use super::Ext4;
use super::inode::{EXTENTS, INLINE_DATA, Inode};
use vml_chunk::{Error, ErrorKind, Result};

/// Levels of an extent tree.
const DEPTH_MAX: u16 = 5;

/// A piece of a file that lies in one run on the disk.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Run {
    /// Where it begins in the file.
    pub file_offset: u64,
    /// Its length in bytes.
    pub len: u64,
    /// Where it begins on the disk.
    pub disk_offset: u64,
}

impl Ext4<'_> {
    /// The runs of a file that have data, in the file's order and not beyond its length; what is between them is holes.
    /// Data that only the journal has is there. A file with [`inline_data`](Self::inline_data) has none.
    ///
    /// # Errors
    /// `Corrupt` when the mapping cannot be. `UnsupportedFormat` when the file is encrypted, or has a block in the journal
    /// that does not stand there as it is: one that begins like the journal's own.
    pub fn runs(&self, inode: &Inode) -> Result<Vec<Run>> {
        self.refuse_encrypted(inode)?;
        let home = self.home_runs(inode)?;
        if self.store.replayed.is_empty() { Ok(home) } else { self.journaled_runs(inode, &home) }
    }

    /// The runs of a file where they are, or will be when the journal is written back.
    pub(in super::super) fn home_runs(&self, inode: &Inode) -> Result<Vec<Run>> {
        if inode.flags & INLINE_DATA != 0 {
            return Ok(Vec::new());
        }
        // A file cannot have more blocks than there are.
        let blocks_left = self.blocks_count.min(self.store.len / self.block_len);
        let mut walk = Walk { ext4: self, len: inode.len, number: inode.number, runs: Vec::new(), next: 0, blocks_left };
        if inode.flags & EXTENTS != 0 {
            walk.extents(&inode.block, None)?;
        } else {
            walk.lists(&inode.block)?;
        }
        Ok(walk.runs)
    }

    /// A short file's bytes.
    pub(super) fn contents(&self, inode: &Inode, len_max: u64) -> Result<Vec<u8>> {
        if inode.len > len_max {
            return Err(Error::corrupt(format!("inode {} is longer than it can be", inode.number)));
        }
        let index = |offset: u64| usize::try_from(offset).expect("within the file, which is short");
        let mut bytes = vec![0; index(inode.len)];
        for run in self.home_runs(inode)? {
            let part = &mut bytes[index(run.file_offset)..index(run.file_offset + run.len)];
            self.store.read(part, run.disk_offset - self.store.offset)?;
        }
        Ok(bytes)
    }

    /// Cuts runs where the journal has blocks of theirs.
    fn journaled_runs(&self, inode: &Inode, home: &[Run]) -> Result<Vec<Run>> {
        let mut runs: Vec<Run> = Vec::with_capacity(home.len());
        for run in home {
            let start = run.disk_offset - self.store.offset;
            let end = start + run.len;
            let place = |at: u64, end: u64, disk_at: u64| Run {
                file_offset: run.file_offset + (at - start),
                len: end - at,
                disk_offset: self.store.offset + disk_at,
            };
            let mut at = start;
            for (block, logged) in self.store.replayed.range(start / self.block_len..end.div_ceil(self.block_len)) {
                if logged.escaped {
                    let message = format!(
                        "inode {} has a block in the journal that cannot be read there; start the machine and shut it down, or mount \
                         the file system once",
                        inode.number
                    );
                    return Err(Error::new(ErrorKind::UnsupportedFormat, message));
                }
                let home = block * self.block_len;
                if at < home {
                    runs.push(place(at, home, at));
                }
                at = (home + self.block_len).min(end);
                runs.push(place(home, at, logged.at));
            }
            if at < end {
                runs.push(place(at, end, at));
            }
        }
        Ok(runs)
    }
}

struct Walk<'a> {
    ext4: &'a Ext4<'a>,
    len: u64,
    number: u32,
    runs: Vec<Run>,
    /// The file's first block that may come next: a mapping goes forward only.
    next: u64,
    /// Blocks that the mapping may still have, with those that it names.
    blocks_left: u64,
}

impl Walk<'_> {
    fn bad(&self, what: &str) -> Error {
        Error::corrupt(format!("the mapping of inode {} {what}", self.number))
    }

    fn block(&mut self, block: u64) -> Result<Vec<u8>> {
        self.take(1)?;
        self.ext4.read_block(block)
    }

    fn take(&mut self, count: u64) -> Result<()> {
        self.blocks_left = self.blocks_left.checked_sub(count).ok_or_else(|| self.bad("has more blocks than there are"))?;
        Ok(())
    }

    fn extents(&mut self, node: &[u8], expected_depth: Option<u16>) -> Result<()> {
        let fields = Fields(node);
        let (entries, depth) = (usize::from(fields.u16(2)), fields.u16(6));
        if fields.u16(0) != 0xF30A || depth > DEPTH_MAX || expected_depth.is_some_and(|expected| depth != expected) {
            return Err(self.bad("is no extent tree"));
        }
        if 12 + entries * 12 > node.len() {
            return Err(self.bad("has more entries than fit"));
        }
        for entry in node[12..].chunks_exact(12).take(entries) {
            let fields = Fields(entry);
            if depth > 0 {
                let child = self.block(u64::from(fields.u32(4)) | u64::from(fields.u16(8)) << 32)?;
                self.extents(&child, Some(depth - 1))?;
                continue;
            }
            let (first, len) = (u64::from(fields.u32(0)), fields.u16(4));
            let start = u64::from(fields.u16(6)) << 32 | u64::from(fields.u32(8));
            // Longer ones are reserved and not written: they read as zeros.
            let (count, written) = if len > 0x8000 { (u64::from(len - 0x8000), false) } else { (u64::from(len), true) };
            self.push(first, start, count, written)?;
        }
        Ok(())
    }

    fn push(&mut self, first: u64, start: u64, count: u64, written: bool) -> Result<()> {
        if first < self.next || start.checked_add(count).is_none_or(|end| end > self.ext4.blocks_count) {
            return Err(self.bad("goes backward or leaves the file system"));
        }
        if count == 0 {
            return Err(self.bad("has an empty extent"));
        }
        self.take(count)?;
        self.next = first + count;
        let block_len = self.ext4.block_len;
        let file_offset = first * block_len;
        if !written || file_offset >= self.len {
            return Ok(());
        }
        let len = (count * block_len).min(self.len - file_offset);
        // The superblock may say more blocks than the volume has.
        if (start * block_len).checked_add(len).is_none_or(|end| end > self.ext4.store.len) {
            return Err(self.bad("leaves the volume"));
        }
        let disk_offset = self.ext4.store.offset + start * block_len;
        match self.runs.last_mut() {
            Some(last) if last.file_offset + last.len == file_offset && last.disk_offset + last.len == disk_offset => last.len += len,
            _ => self.runs.push(Run { file_offset, len, disk_offset }),
        }
        Ok(())
    }

    /// Twelve blocks, then lists of blocks, of lists, and of lists of lists.
    fn lists(&mut self, block: &[u8; 60]) -> Result<()> {
        let fields = Fields(block);
        for i in 0..12 {
            self.listed(u64::from(fields.u32(i * 4)), i as u64)?;
        }
        let per_block = self.ext4.block_len / 4;
        let mut first = 12;
        for (level, i) in (1..=3).zip(12..) {
            let span = per_block.pow(level);
            self.list(u64::from(fields.u32(i * 4)), level, first)?;
            first += span;
        }
        Ok(())
    }

    fn list(&mut self, block: u64, level: u32, first: u64) -> Result<()> {
        if block == 0 || first.saturating_mul(self.ext4.block_len) >= self.len {
            return Ok(());
        }
        let bytes = self.block(block)?;
        let span = (self.ext4.block_len / 4).pow(level - 1);
        for (i, entry) in (0_u64..).zip(bytes.chunks_exact(4)) {
            let entry = u64::from(Fields(entry).u32(0));
            let first = first + i * span;
            if first.saturating_mul(self.ext4.block_len) >= self.len {
                break;
            }
            if level > 1 { self.list(entry, level - 1, first)? } else { self.listed(entry, first)? }
        }
        Ok(())
    }

    fn listed(&mut self, block: u64, first: u64) -> Result<()> {
        if block == 0 { Ok(()) } else { self.push(first, block, 1, true) }
    }
}
