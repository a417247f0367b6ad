//! What is on a disk: partitions, file systems, and where the files of those that are understood lie.
//!
//! ```text
//! partition  MBR and GPT        kind    what file system a volume has
//! ext4/      ext2, 3 and 4, read only
//! guest_tree the files of a saved disk as a tree
//! layout     where files lie, as a hint for cutting
//! ```
//! Everything here is written by a guest, so nothing of it is believed: sizes are bounded, numbers are checked before they
//! are used, loops are cut. The layouts are those of the Linux kernel's documentation and of the UEFI specification.

mod bytes;
pub mod ext4;
mod guest_tree;
mod kind;
mod layout;
mod partition;

pub use guest_tree::{GuestTree, TreePair};
pub use kind::FileSystem;
pub use layout::file_runs;
pub use partition::{Volume, find};
