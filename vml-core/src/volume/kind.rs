//! Tells file systems apart by their marks.

use super::bytes::Fields;
use crate::disk::Disk;
use vml_chunk::Result;

/// What a volume holds, as far as its marks tell.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum FileSystem {
    /// ext2, without a journal.
    Ext2,
    /// ext3, without extents.
    Ext3,
    /// ext4.
    Ext4,
    /// XFS.
    Xfs,
    /// Btrfs.
    Btrfs,
    /// Swap space of Linux.
    Swap,
    /// A physical volume of LVM.
    Lvm,
    /// Encrypted by LUKS.
    Luks,
    /// FAT of any width.
    Fat,
    /// NTFS.
    Ntfs,
    /// None that is known.
    Unknown,
}

impl FileSystem {
    /// Its name, as tools write it.
    pub fn name(self) -> &'static str {
        match self {
            Self::Ext2 => "ext2",
            Self::Ext3 => "ext3",
            Self::Ext4 => "ext4",
            Self::Xfs => "xfs",
            Self::Btrfs => "btrfs",
            Self::Swap => "swap",
            Self::Lvm => "LVM",
            Self::Luks => "LUKS",
            Self::Fat => "FAT",
            Self::Ntfs => "NTFS",
            Self::Unknown => "unknown",
        }
    }

    /// Whether its files can be read here.
    pub fn is_readable(self) -> bool {
        matches!(self, Self::Ext2 | Self::Ext3 | Self::Ext4)
    }
}

/// What stands in a run of a disk, with its label and identity.
pub(super) fn look(disk: &dyn Disk, offset: u64, len: u64) -> Result<(FileSystem, String, String)> {
    let mut head = vec![0; usize::try_from(len.min(68 << 10)).expect("a few kilobytes")];
    disk.read_at(&mut head, offset)?;
    Ok(recognise(&head))
}

/// The same by the first bytes of a volume.
fn recognise(head: &[u8]) -> (FileSystem, String, String) {
    let fields = Fields(head);
    let is = |at: usize, mark: &[u8]| fields.bytes(at, mark.len()) == mark;
    let with = |kind, label: (usize, usize), uuid: usize| (kind, fields.text(label.0, label.1), uuid_text(fields.bytes(uuid, 16)));
    if fields.u16(0x438) == 0xEF53 {
        let (compat, incompat) = (fields.u32(0x45C), fields.u32(0x460));
        let kind = match (compat & 0x4 != 0, incompat & 0x2C0 != 0) {
            (_, true) => FileSystem::Ext4,
            (true, false) => FileSystem::Ext3,
            (false, false) => FileSystem::Ext2,
        };
        return with(kind, (0x478, 16), 0x468);
    }
    if is(0, b"XFSB") {
        return with(FileSystem::Xfs, (0x6C, 12), 0x20);
    }
    if is(0x10040, b"_BHRfS_M") {
        return with(FileSystem::Btrfs, (0x1012B, 256), 0x10020);
    }
    if is(0xFF6, b"SWAPSPACE2") {
        return with(FileSystem::Swap, (0x41C, 16), 0x40C);
    }
    let plain = |kind| (kind, String::new(), String::new());
    match () {
        () if is(0, b"LUKS\xba\xbe") => plain(FileSystem::Luks),
        () if is(0x200, b"LABELONE") => plain(FileSystem::Lvm),
        () if is(3, b"NTFS    ") => plain(FileSystem::Ntfs),
        () if is(0x36, b"FAT") || is(0x52, b"FAT32") => plain(FileSystem::Fat),
        () => plain(FileSystem::Unknown),
    }
}

pub(super) fn uuid_text(bytes: &[u8]) -> String {
    let mut text = String::new();
    for (i, byte) in bytes.iter().enumerate() {
        if matches!(i, 4 | 6 | 8 | 10) {
            text.push('-');
        }
        text.push_str(&format!("{byte:02x}"));
    }
    text
}
