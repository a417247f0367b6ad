//! The superblock and the group descriptors: what a file system is, and where its inodes are.

use super::super::bytes::Fields;
use super::super::partition::Volume;
use super::journal;
use super::store::{Replayed, Store};
use crate::disk::Disk;
use std::sync::{Arc, Mutex};
use vml_chunk::{Error, ErrorKind, Result};

/// Features without which a file system cannot be read, and which are understood.
const KNOWN_INCOMPAT: u32 = 0x2 | 0x4 | 0x10 | 0x40 | 0x80 | 0x100 | 0x200 | 0x400 | 0x2000 | 0x4000 | 0x8000 | 0x10000 | 0x20000;
/// Names of features that are not.
const UNKNOWN_NAMES: [(u32, &str); 3] = [(0x1, "compression"), (0x8, "an external journal's device"), (0x1000, "dirdata")];
/// Descriptors of a file system of 64 TiB with 4 KiB blocks.
const GROUPS_MAX: u64 = 1 << 19;

/// A file system on a disk.
pub struct Ext4<'d> {
    pub(super) store: Store<'d>,
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
    /// Opens the file system of a volume. What its journal has and its blocks have not yet counts as written.
    ///
    /// # Errors
    /// `UnsupportedFormat` naming a feature, `Corrupt` when it or its journal cannot be one.
    pub fn open(disk: &'d dyn Disk, volume: &Volume) -> Result<Self> {
        if volume.len < 4096 {
            return Err(Error::corrupt("the volume is too short for a file system"));
        }
        let store = |block_len, replayed| {
            let (offset, len) = (volume.offset, volume.len);
            Store { disk, offset, len, block_len, replayed, kept: Mutex::default() }
        };
        let (ext4, journal) = Self::read_superblock(store(0, Replayed::new()))?;
        let replayed = match journal {
            Journal::Clean => return Ok(ext4),
            Journal::Inode(number) => journal::replay(&ext4, number)?,
            Journal::Elsewhere => {
                let message = format!(
                    "the ext4 file system at {} was not unmounted and has its journal on another disk; mount it once with both",
                    volume.offset
                );
                return Err(Error::new(ErrorKind::UnsupportedFormat, message));
            }
        };
        if replayed.is_empty() {
            return Ok(ext4);
        }
        // The superblock and the descriptors may be in the journal themselves.
        let block_len = ext4.block_len;
        let (ext4, _) = Self::read_superblock(store(block_len, replayed))?;
        if ext4.block_len != block_len {
            return Err(Error::corrupt(format!("the ext4 file system at {} has blocks of two lengths", volume.offset)));
        }
        Ok(ext4)
    }

    fn read_superblock(store: Store<'d>) -> Result<(Self, Journal)> {
        let mut bytes = [0; 1024];
        store.read(&mut bytes, 1024)?;
        let offset = store.offset;
        let fields = Fields(&bytes);
        let bad = |what: &str| Err(Error::corrupt(format!("the ext4 file system at {offset} has {what}")));
        if fields.u16(0x38) != 0xEF53 {
            return bad("no superblock");
        }
        let incompat = fields.u32(0x60);
        if incompat & !KNOWN_INCOMPAT != 0 {
            let known = UNKNOWN_NAMES.iter().find(|(bit, _)| incompat & bit != 0).map_or("one that is not known", |(_, name)| name);
            let message = format!("the ext4 file system at {offset} needs a feature that cannot be read here: {known} ({incompat:#x})");
            return Err(Error::new(ErrorKind::UnsupportedFormat, message));
        }
        let log_block_len = fields.u32(0x18);
        if log_block_len > 6 {
            return bad("impossible blocks");
        }
        let block_len = 1024_u64 << log_block_len;
        let is_64bit = incompat & 0x80 != 0;
        let blocks_count = u64::from(fields.u32(0x04)) | if is_64bit { u64::from(fields.u32(0x150)) << 32 } else { 0 };
        if blocks_count.checked_mul(block_len).and_then(|len| len.checked_add(offset)).is_none() {
            return bad("more blocks than it can have");
        }
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
        let mut ext4 =
            Self { store, block_len, blocks_count, inodes_count: fields.u32(0), inodes_per_group, inode_len, groups: Vec::new() };
        let table = Table {
            superblock: 1024 / block_len,
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
        let has_changes = fields.u32(0x5C) & 0x4 != 0 && incompat & 0x4 != 0;
        let journal = match fields.u32(0xE0) {
            _ if !has_changes => Journal::Clean,
            0 => Journal::Elsewhere,
            number => Journal::Inode(number),
        };
        Ok((ext4, journal))
    }

    pub(super) fn groups(&self) -> &[Group] {
        &self.groups
    }

    pub(super) fn read_block(&self, block: u64) -> Result<Vec<u8>> {
        let mut bytes = vec![0; usize::try_from(self.block_len).expect("at most 64 KiB")];
        if block >= self.blocks_count {
            return Err(Error::corrupt(format!(
                "the ext4 file system at {} names block {block}, which it does not have",
                self.store.offset
            )));
        }
        self.store.read(&mut bytes, block * self.block_len)?;
        Ok(bytes)
    }

    /// As [`read_block`](Self::read_block), for blocks that many inodes need.
    pub(super) fn read_block_kept(&self, block: u64) -> Result<Arc<[u8]>> {
        self.store.block_kept(block, || self.read_block(block))
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

/// Where a file system has changes that are not in their place yet.
enum Journal {
    /// Nowhere.
    Clean,
    Inode(u32),
    Elsewhere,
}

/// Where group descriptors are.
struct Table {
    /// The superblock's own block: not always the first one, which clusters begin with.
    superblock: u64,
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
            return self.superblock + 1 + number;
        }
        // Each meta group keeps its own, behind its superblock's copy if it has one.
        let group = number * self.per_block;
        let start = if group == 0 { self.superblock } else { self.first_block + group * self.blocks_per_group };
        start + u64::from(self.has_superblock(group))
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
