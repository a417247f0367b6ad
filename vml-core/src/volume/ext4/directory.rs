//! The names in directories.
//!
//! An indexed directory is read as a list like any other: to a reader of lists its index is one big empty entry.

use super::super::bytes::Fields;
use super::Ext4;
use super::inode::{INLINE_DATA, Inode, InodeKind};
use vml_chunk::{Error, Result};

/// Longest directory that is read.
const LEN_MAX: u64 = 1 << 30;
/// In the inode a directory begins with its parent's number, for `..`.
const INLINE_PARENT_LEN: usize = 4;

/// A name in a directory.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct DirName<'a> {
    /// 1 to 255 bytes, without `/` and NUL, not `.` and not `..`.
    pub name: &'a [u8],
    /// The inode that it names; whether there is one is not known yet.
    pub inode: u32,
}

impl Ext4<'_> {
    /// Tells all names of a directory but `.` and `..` to `visit`, in no order, until it fails. A damaged directory may
    /// have a name twice.
    ///
    /// # Errors
    /// `InvalidInput` when it is no directory, `Corrupt` when its blocks cannot be a directory's, `UnsupportedFormat` when
    /// it is encrypted; and those of `visit`.
    pub fn for_names(&self, directory: &Inode, visit: &mut dyn FnMut(DirName<'_>) -> Result<()>) -> Result<()> {
        if directory.kind != InodeKind::Directory {
            return Err(Error::invalid(format!("inode {} is no directory", directory.number)));
        }
        self.refuse_encrypted(directory)?;
        if directory.len > LEN_MAX {
            return Err(Error::corrupt(format!("the directory in inode {} has an impossible length", directory.number)));
        }
        if directory.flags & INLINE_DATA != 0 {
            let bytes = self.inline_data(directory)?.unwrap_or_default();
            // Each half is a list of its own.
            let (block, rest) = bytes.split_at(bytes.len().min(directory.block.len()));
            list(directory.number, block.get(INLINE_PARENT_LEN..).unwrap_or_default(), visit)?;
            return list(directory.number, rest, visit);
        }
        for run in self.home_runs(directory)? {
            let first = (run.disk_offset - self.store.offset) / self.block_len;
            for block in first..first + run.len.div_ceil(self.block_len) {
                list(directory.number, &self.read_block(block)?, visit)?;
            }
        }
        Ok(())
    }
}

/// The names in one block.
fn list(directory: u32, mut bytes: &[u8], visit: &mut dyn FnMut(DirName<'_>) -> Result<()>) -> Result<()> {
    let bad = |what: &str| Error::corrupt(format!("the directory in inode {directory} has {what}"));
    let block_len = bytes.len();
    while !bytes.is_empty() {
        let fields = Fields(bytes);
        let (inode, name_len) = (fields.u32(0), usize::from(fields.u8(6)));
        let entry_len = match usize::from(fields.u16(4)) {
            // The longest blocks are longer than the field can say: two low bits, always zero otherwise, say the rest.
            0 | 0xFFFF if block_len == 1 << 16 => block_len,
            len if block_len == 1 << 16 => len & 0xFFFC | (len & 3) << 16,
            len => len,
        };
        if entry_len < 8 || entry_len % 4 != 0 || entry_len > bytes.len() || 8 + name_len > entry_len {
            return Err(bad("an entry of an impossible length"));
        }
        let name = fields.bytes(8, name_len);
        bytes = &bytes[entry_len..];
        // Removed ones, indices and checksums have no inode.
        if inode == 0 || matches!(name, b"." | b"..") {
            continue;
        }
        if name.is_empty() || name.iter().any(|byte| matches!(byte, 0 | b'/')) {
            return Err(bad("a name that cannot be one"));
        }
        visit(DirName { name, inode })?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn names(block: &[u8]) -> Result<Vec<(Vec<u8>, u32)>> {
        let mut names = Vec::new();
        list(2, block, &mut |name| {
            names.push((name.name.to_vec(), name.inode));
            Ok(())
        })?;
        Ok(names)
    }

    #[test]
    fn an_entry_can_be_as_long_as_the_longest_block() {
        for len in [0_u16, 0xFFFF] {
            let mut block = vec![0; 1 << 16];
            block[4..6].copy_from_slice(&len.to_le_bytes());
            assert_eq!(names(&block).unwrap(), []);
            block[..4].copy_from_slice(&12_u32.to_le_bytes());
            block[6..10].copy_from_slice(&[2, 1, b'a', b'b']);
            assert_eq!(names(&block).unwrap(), [(b"ab".to_vec(), 12)]);
            // In a shorter block these are no lengths.
            assert!(names(&block[..1 << 15]).is_err());
        }
    }

    #[test]
    fn what_cannot_be_a_name_is_damage() {
        let entry = |name_len: u8, name: &[u8]| [&[12, 0, 0, 0, 16, 0, name_len, 1][..], name, &[0; 8][name.len()..]].concat();
        assert_eq!(names(&entry(2, b"ab")).unwrap(), [(b"ab".to_vec(), 12)]);
        assert_eq!(names(&entry(2, b"..")).unwrap(), []);
        for (name_len, name) in [(0, &b""[..]), (3, b"a/b"), (3, b"a\0b"), (9, b"abcdefgh")] {
            assert!(names(&entry(name_len, name)).is_err(), "{name:?}");
        }
    }
}
