//! The superblock and the group descriptors: what a file system is, and where its inodes are.

use super::super::bytes::Fields;
use super::super::partition::Volume;
use crate::disk::Disk;
use vml_chunk::{Error, ErrorKind, Result};

/// Features without which a file system cannot be read, and which are understood.
const KNOWN_INCOMPAT: u32 = 0x2 | 0x4 | 0x10 | 0x40 | 0x80 | 0x100 | 0x200 | 0x400 | 0x2000 | 0x4000 | 0x8000 | 0x10000 | 0x20000;
/// Names of features that are not.
const UNKNOWN_NAMES: [(u32, &str); 3] = [(0x1, "compression"), (0x8, "an external journal's device"), (0x1000, "dirdata")];
/// Descriptors of a file system of 64 TiB with 4 KiB blocks.
const GROUPS_MAX: u64 = 1 << 19;

/// A file system on a disk.
pub struct Ext4<'d> {
    pub(super) disk: &'d dyn Disk,
    pub(super) offset: u64,
    pub(super) len: u64,
    pub(super) block_len: u64,
    pub(super) blocks_count: u64,
    pub(super) inodes_count: u32,
    pub(super) inodes_per_group: u32,
    pub(super) inode_len: usize,
    groups: Vec<Group>,
}

/// A block group, as far as it matters for reading.
#[derive(Debug, Clone, Copy)]
pub(super) struct Group {
    pub(super) inode_table: u64,
    /// Inodes at the table's beginning that may be in use.
    pub(super) used_count: u32,
}

impl<'d> Ext4<'d> {
    /// Opens the file system of a volume.
    ///
    /// # Errors
    /// `UnsupportedFormat` naming a feature, `Corrupt` when it cannot be one.
    pub fn open(disk: &'d dyn Disk, volume: &Volume) -> Result<Self> {
        let mut bytes = [0; 1024];
        if volume.len < 4096 {
            return Err(Error::corrupt("the volume is too short for a file system"));
        }
        disk.read_at(&mut bytes, volume.offset + 1024)?;
        let fields = Fields(&bytes);
        let bad = |what: &str| Err(Error::corrupt(format!("the ext4 file system at {} has {what}", volume.offset)));
        if fields.u16(0x38) != 0xEF53 {
            return bad("no superblock");
        }
        let incompat = fields.u32(0x60);
        if incompat & !KNOWN_INCOMPAT != 0 {
            let known = UNKNOWN_NAMES.iter().find(|(bit, _)| incompat & bit != 0).map_or("one that is not known", |(_, name)| name);
            let message =
                format!("the ext4 file system at {} needs a feature that cannot be read here: {known} ({incompat:#x})", volume.offset);
            return Err(Error::new(ErrorKind::UnsupportedFormat, message));
        }
        let log_block_len = fields.u32(0x18);
        if log_block_len > 6 {
            return bad("impossible blocks");
        }
        let block_len = 1024_u64 << log_block_len;
        let is_64bit = incompat & 0x80 != 0;
        let blocks_count = u64::from(fields.u32(0x04)) | if is_64bit { u64::from(fields.u32(0x150)) << 32 } else { 0 };
        let (blocks_per_group, inodes_per_group) = (u64::from(fields.u32(0x20)), fields.u32(0x28));
        let first_block = u64::from(fields.u32(0x14));
        let revision = fields.u32(0x4C);
        let inode_len = if revision == 0 { 128 } else { usize::from(fields.u16(0x58)) };
        if !inode_len.is_power_of_two() || !(128..=4096).contains(&inode_len) || inode_len as u64 > block_len {
            return bad("impossible inodes");
        }
        if blocks_per_group == 0 || inodes_per_group == 0 || blocks_count <= first_block || u64::from(inodes_per_group) > 8 * block_len {
            return bad("impossible block groups");
        }
        let groups_count = (blocks_count - first_block).div_ceil(blocks_per_group);
        let desc_len = if is_64bit { usize::from(fields.u16(0xFE)).max(32) } else { 32 };
        if groups_count > GROUPS_MAX || desc_len > 1024 || !desc_len.is_power_of_two() {
            return bad("more block groups than it can have");
        }
        let mut ext4 = Self {
            disk,
            offset: volume.offset,
            len: volume.len,
            block_len,
            blocks_count,
            inodes_count: fields.u32(0),
            inodes_per_group,
            inode_len,
            groups: Vec::new(),
        };
        let table = Table {
            first_block,
            blocks_per_group,
            desc_len,
            per_block: block_len / desc_len as u64,
            first_meta: if incompat & 0x10 != 0 { u64::from(fields.u32(0x104)) } else { u64::MAX },
            sparse_super: fields.u32(0x64) & 0x1 != 0,
            sparse_super2: if fields.u32(0x5C) & 0x200 != 0 { Some([fields.u32(0x24C), fields.u32(0x250)]) } else { None },
            counts_unused: fields.u32(0x64) & 0x410 != 0,
        };
        ext4.groups = ext4.read_groups(&table, groups_count)?;
        Ok(ext4)
    }

    pub(super) fn groups(&self) -> &[Group] {
        &self.groups
    }

    /// Reads bytes of the volume; beyond its end, or its disk's, is damage.
    pub(super) fn read(&self, buffer: &mut [u8], at: u64) -> Result<()> {
        let end = at.checked_add(buffer.len() as u64).filter(|end| *end <= self.len && self.offset + end <= self.disk.len());
        if end.is_none() {
            return Err(Error::corrupt(format!("the ext4 file system at {} names a place beyond its end", self.offset)));
        }
        self.disk.read_at(buffer, self.offset + at)
    }

    pub(super) fn read_block(&self, block: u64) -> Result<Vec<u8>> {
        let mut bytes = vec![0; usize::try_from(self.block_len).expect("at most 64 KiB")];
        if block >= self.blocks_count {
            return Err(Error::corrupt(format!("the ext4 file system at {} names block {block}, which it does not have", self.offset)));
        }
        self.read(&mut bytes, block * self.block_len)?;
        Ok(bytes)
    }

    fn read_groups(&self, table: &Table, count: u64) -> Result<Vec<Group>> {
        let mut groups = Vec::with_capacity(usize::try_from(count).expect("checked before"));
        let mut number = 0;
        while number < count {
            let block = self.read_block(table.block_of(number / table.per_block))?;
            for bytes in block.chunks_exact(table.desc_len).take(usize::try_from(count - number).unwrap_or(usize::MAX)) {
                let fields = Fields(bytes);
                let high = |at: usize| if table.desc_len >= 64 { u64::from(fields.u32(at)) << 32 } else { 0 };
                let unused = u32::from(fields.u16(0x1C)) | if table.desc_len >= 64 { u32::from(fields.u16(0x32)) << 16 } else { 0 };
                let used_count = match table.counts_unused {
                    true if fields.u16(0x12) & 0x1 != 0 => 0,
                    true => self.inodes_per_group.saturating_sub(unused),
                    false => self.inodes_per_group,
                };
                groups.push(Group { inode_table: u64::from(fields.u32(0x8)) | high(0x28), used_count });
                number += 1;
            }
        }
        Ok(groups)
    }
}

/// Where group descriptors are.
struct Table {
    first_block: u64,
    blocks_per_group: u64,
    desc_len: usize,
    per_block: u64,
    first_meta: u64,
    sparse_super: bool,
    sparse_super2: Option<[u32; 2]>,
    counts_unused: bool,
}

impl Table {
    /// The block with the descriptors of the `number`th block of them.
    fn block_of(&self, number: u64) -> u64 {
        if number < self.first_meta {
            return self.first_block + 1 + number;
        }
        // Each meta group keeps its own, behind its superblock's copy if it has one.
        let group = number * self.per_block;
        self.first_block + group * self.blocks_per_group + u64::from(self.has_superblock(group))
    }

    fn has_superblock(&self, group: u64) -> bool {
        let is_power = |of: u64| {
            let mut power = of;
            while power < group {
                power *= of;
            }
            power == group
        };
        match self.sparse_super2 {
            Some(backups) => group == 0 || backups.iter().any(|backup| u64::from(*backup) == group),
            None => !self.sparse_super || group <= 1 || is_power(3) || is_power(5) || is_power(7),
        }
    }
}
