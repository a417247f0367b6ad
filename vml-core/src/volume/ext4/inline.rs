//! Small files and directories whose bytes are in the inode itself.

use super::inode::{INLINE_DATA, Inode};
use super::{Ext4, attributes};
use vml_chunk::Result;

impl Ext4<'_> {
    /// The bytes of a file that has them in its inode; `None` for every other. They may be fewer than the file's length:
    /// what is missing reads as zeros.
    ///
    /// # Errors
    /// `Corrupt` when the attribute with the second half cannot be; `UnsupportedFormat` when the file is encrypted.
    pub fn inline_data(&self, inode: &Inode) -> Result<Option<Vec<u8>>> {
        if inode.flags & INLINE_DATA == 0 {
            return Ok(None);
        }
        self.refuse_encrypted(inode)?;
        let mut bytes = inode.block.to_vec();
        bytes.extend_from_slice(attributes::inline_rest(inode)?);
        bytes.truncate(usize::try_from(inode.len).unwrap_or(usize::MAX));
        Ok(Some(bytes))
    }
}
