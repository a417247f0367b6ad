//! From a file's bytes to the disk's: extent trees, and the block lists of ext2 and ext3.

use super::super::bytes::Fields;
use super::Ext4;
use super::inode::{EXTENTS, INLINE_DATA, Inode};
use vml_chunk::{Error, Result};

/// Levels of an extent tree.
const DEPTH_MAX: u16 = 5;
/// Blocks of mapping that are read for one file: enough for a terabyte in single blocks.
const MAPPING_BLOCKS_MAX: u32 = 1 << 20;

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
    ///
    /// # Errors
    /// `Corrupt` when the mapping cannot be.
    pub fn runs(&self, inode: &Inode) -> Result<Vec<Run>> {
        let mut walk =
            Walk { ext4: self, len: inode.len, number: inode.number, runs: Vec::new(), next: 0, blocks_left: MAPPING_BLOCKS_MAX };
        if inode.flags & INLINE_DATA != 0 {
            return Ok(Vec::new());
        }
        if inode.flags & EXTENTS != 0 {
            walk.extents(&inode.block, None)?;
        } else {
            walk.lists(&inode.block)?;
        }
        Ok(walk.runs)
    }
}

struct Walk<'a> {
    ext4: &'a Ext4<'a>,
    len: u64,
    number: u32,
    runs: Vec<Run>,
    /// The file's first block that may come next: a mapping goes forward only.
    next: u64,
    blocks_left: u32,
}

impl Walk<'_> {
    fn bad(&self, what: &str) -> Error {
        Error::corrupt(format!("the mapping of inode {} {what}", self.number))
    }

    fn block(&mut self, block: u64) -> Result<Vec<u8>> {
        self.blocks_left = self.blocks_left.checked_sub(1).ok_or_else(|| self.bad("does not end"))?;
        self.ext4.read_block(block)
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
        self.next = first + count;
        let block_len = self.ext4.block_len;
        let file_offset = first * block_len;
        if !written || file_offset >= self.len {
            return Ok(());
        }
        let len = (count * block_len).min(self.len - file_offset);
        let disk_offset = self.ext4.offset + start * block_len;
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
