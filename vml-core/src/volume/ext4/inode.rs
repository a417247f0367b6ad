//! Inodes: what a file is.

use super::super::bytes::Fields;
use super::Ext4;
use crate::tree::Timestamp;
use vml_chunk::{Error, ErrorKind, Result};

/// What an inode is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum InodeKind {
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
    /// A socket.
    Socket,
}

/// A file's inode.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Inode {
    /// Its number.
    pub number: u32,
    /// What it is.
    pub kind: InodeKind,
    /// Permissions, the low twelve bits.
    pub mode: u16,
    /// Owner.
    pub uid: u32,
    /// Group.
    pub gid: u32,
    /// Length in bytes.
    pub len: u64,
    /// Names it has.
    pub links_count: u16,
    /// Last modification.
    pub mtime: Timestamp,
    /// Major and minor number of a device.
    pub device: (u32, u32),
    pub(super) flags: u32,
    /// The mapping's root, or a short symbolic link, or inline data.
    pub(super) block: [u8; 60],
    /// The block with more attributes; 0 when there is none.
    pub(super) attributes_block: u64,
    /// What follows the fixed fields: attributes.
    pub(super) extra: Vec<u8>,
}

const ENCRYPTED: u32 = 0x800;
pub(super) const EXTENTS: u32 = 0x8_0000;
pub(super) const INLINE_DATA: u32 = 0x1000_0000;

/// Bytes of an inode table that are read at once.
const TABLE_PIECE: usize = 1 << 20;

impl Ext4<'_> {
    /// Reads an inode.
    ///
    /// # Errors
    /// `Corrupt` when there is none of this number, or it is not in use.
    pub fn inode(&self, number: u32) -> Result<Inode> {
        let index = number.checked_sub(1).filter(|_| number <= self.inodes_count);
        let place = index.map(|index| (index / self.inodes_per_group, index % self.inodes_per_group));
        let place = place.and_then(|(group, index)| Some((self.groups().get(group as usize)?, index)));
        let missing = || Error::corrupt(format!("the ext4 file system at {} has no inode {number}", self.store.offset));
        let (group, index) = place.ok_or_else(missing)?;
        // Both lengths are powers of two, so an inode is in one block.
        let per_block = self.block_len / self.inode_len as u64;
        let block = group.inode_table.checked_add(u64::from(index) / per_block).ok_or_else(missing)?;
        let table = self.read_block_kept(block)?;
        let at = index as usize % usize::try_from(per_block).expect("at most 512") * self.inode_len;
        decode(number, &table[at..at + self.inode_len]).ok_or_else(missing)
    }

    /// Tells every inode that is in use to `each`, until it returns false; tables that cannot be read are passed over.
    pub(in super::super) fn for_inodes(&self, each: &mut dyn FnMut(Inode) -> bool) {
        let mut table = Vec::new();
        for (group, first) in self.groups().iter().zip((0_u64..).step_by(self.inodes_per_group as usize)) {
            let count = u64::from(group.used_count.min(self.inodes_per_group));
            let inode_len = self.inode_len as u64;
            let Some(start) = group.inode_table.checked_mul(self.block_len) else { continue };
            for index in (0..count).step_by(TABLE_PIECE / self.inode_len) {
                let len = (TABLE_PIECE as u64).min((count - index) * inode_len);
                table.resize(usize::try_from(len).expect("a piece"), 0);
                if start.checked_add(index * inode_len).is_none_or(|at| self.store.read(&mut table, at).is_err()) {
                    break;
                }
                for (bytes, number) in table.chunks_exact(self.inode_len).zip(first + index + 1..) {
                    let Some(number) = u32::try_from(number).ok().filter(|number| *number <= self.inodes_count) else { break };
                    if let Some(inode) = decode(number, bytes)
                        && !each(inode)
                    {
                        return;
                    }
                }
            }
        }
    }

    /// Without its key an encrypted file is noise, and so are the names of an encrypted directory.
    pub(super) fn refuse_encrypted(&self, inode: &Inode) -> Result<()> {
        if inode.flags & ENCRYPTED == 0 {
            return Ok(());
        }
        let message = format!("inode {} of the ext4 file system at {} is encrypted and cannot be read", inode.number, self.store.offset);
        Err(Error::new(ErrorKind::UnsupportedFormat, message))
    }
}

/// Reads an inode's bytes; `None` when it is not in use.
pub(super) fn decode(number: u32, bytes: &[u8]) -> Option<Inode> {
    let fields = Fields(bytes);
    let (mode, links_count) = (fields.u16(0), fields.u16(0x1A));
    if links_count == 0 {
        return None;
    }
    let kind = match mode >> 12 {
        0x8 => InodeKind::File,
        0x4 => InodeKind::Directory,
        0xA => InodeKind::Symlink,
        0x2 => InodeKind::CharDevice,
        0x6 => InodeKind::BlockDevice,
        0x1 => InodeKind::Fifo,
        0xC => InodeKind::Socket,
        _ => return None,
    };
    let extra_len = if bytes.len() > 128 { usize::from(fields.u16(0x80)) } else { 0 };
    let block: [u8; 60] = fields.bytes(0x28, 60).try_into().ok()?;
    // Elsewhere the upper half was something else once, and nothing but files is that long.
    let len_high = if kind == InodeKind::File { u64::from(fields.u32(0x6C)) << 32 } else { 0 };
    let mtime_extra = if extra_len >= 0x8C - 0x80 { fields.u32(0x88) } else { 0 };
    Some(Inode {
        number,
        kind,
        mode: mode & 0o7777,
        uid: u32::from(fields.u16(0x2)) | u32::from(fields.u16(0x78)) << 16,
        gid: u32::from(fields.u16(0x18)) | u32::from(fields.u16(0x7A)) << 16,
        len: u64::from(fields.u32(0x4)) | len_high,
        links_count,
        mtime: time(fields.u32(0x10), mtime_extra),
        device: device(&block),
        flags: fields.u32(0x20),
        block,
        attributes_block: u64::from(fields.u32(0x68)) | u64::from(fields.u16(0x76)) << 32,
        extra: bytes.get(128 + extra_len..).unwrap_or_default().to_vec(),
    })
}

/// Signed seconds with two more bits above, and nanoseconds.
fn time(low: u32, extra: u32) -> Timestamp {
    let seconds = i64::from(low.cast_signed()) + (i64::from(extra & 3) << 32);
    Timestamp { seconds, nanoseconds: (extra >> 2).min(999_999_999) }
}

/// The old 8-and-8-bit form, or the new one behind it.
fn device(block: &[u8; 60]) -> (u32, u32) {
    let fields = Fields(block);
    let (old, new) = (fields.u32(0), fields.u32(4));
    if old != 0 { (old >> 8 & 0xFF, old & 0xFF) } else { (new >> 8 & 0xFFF, new & 0xFF | new >> 12 & 0xF_FF00) }
}
