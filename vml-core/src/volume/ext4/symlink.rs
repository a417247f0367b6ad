//! Where symbolic links lead.

use super::Ext4;
use super::inode::{Inode, InodeKind};
use vml_chunk::{Error, Result};

impl Ext4<'_> {
    /// The target of a symbolic link: not empty, and without NUL.
    ///
    /// # Errors
    /// `InvalidInput` when it is none, `Corrupt` when the target cannot be one, `UnsupportedFormat` when it is encrypted.
    pub fn symlink_target(&self, inode: &Inode) -> Result<Vec<u8>> {
        if inode.kind != InodeKind::Symlink {
            return Err(Error::invalid(format!("inode {} is no symbolic link", inode.number)));
        }
        self.refuse_encrypted(inode)?;
        let len = usize::try_from(inode.len).unwrap_or(usize::MAX);
        let target = match self.inline_data(inode)? {
            Some(bytes) => bytes,
            None if len < inode.block.len() => inode.block[..len].to_vec(),
            None => self.contents(inode, self.block_len)?,
        };
        if target.is_empty() || target.len() != len || target.contains(&0) {
            return Err(Error::corrupt(format!("the target of the symbolic link in inode {} cannot be one", inode.number)));
        }
        Ok(target)
    }
}
