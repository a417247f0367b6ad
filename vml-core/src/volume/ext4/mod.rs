//! ext2, ext3 and ext4, read only.
//!
//! ```text
//! superblock ─► group descriptors ─► inode tables ─► inode ─► mapping (extents or block lists) ─► bytes on the disk
//! ```

mod inode;
mod mapping;
mod superblock;

pub use inode::{Inode, InodeKind};
pub use mapping::Run;
pub use superblock::Ext4;
