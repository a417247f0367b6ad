//! ext2, ext3 and ext4, read only.
//!
//! ```text
//! superblock ─► group descriptors ─► inode tables ─► inode ─► mapping (extents or block lists) ─► bytes on the disk
//!                                                      │ ├──► inline: a small file's bytes; symlink: a link's target
//!                                                      │ └──► attributes, acl
//!                                                      └────► directory: names and the inodes that they name
//! ```
//! Where the machine was not shut down, its last changes are in the journal alone. Opening replays it into a map, and the
//! store that everything else reads from goes through that map: what is seen is what a mount would show, and nothing is
//! written.

mod acl;
mod attributes;
mod directory;
mod inline;
mod inode;
mod journal;
mod mapping;
mod store;
mod superblock;
mod symlink;

pub use directory::DirName;
pub use inode::{Inode, InodeKind};
pub use mapping::Run;
pub use superblock::Ext4;
