//! Directory trees as content: nodes, listings, and what is done with them.
//!
//! ```text
//! root node ── listing (a recipe over blocks of nodes, sorted by name)
//!                ├─ file: inline bytes or a recipe          ├─ symlink, device, FIFO
//!                └─ directory ── its own listing ...
//! ```
//! A listing is content-addressed, so unchanged directories are shared between entries and skipped by diff. Nothing in
//! a node depends on the host it was read from: inode numbers and change times, by which an unchanged file is known
//! at the next save, are kept beside the tree in the *witness*.

mod assemble;
mod at;
mod attributes;
mod capture;
mod carry;
pub mod compare;
mod diff;
mod exclude;
mod listed;
mod listing;
mod lookup;
mod memo;
mod node;
mod read;
mod restore;
mod same;
mod scan;
mod walk;
mod witness;

pub use at::join as join_path;
pub use capture::{CaptureOptions, Captured, LeftOut, LeftOutReason, TreeStats, capture_tree};
pub(crate) use carry::{CarryOptions, KnownTree, carry_tree};
pub use diff::{Change, ChangeKind, diff_trees};
pub use exclude::Exclude;
pub use listed::{Fetched, FetchedWhat, Fetching, Listed, ListedKind, ListedOptions, Told, TreeSource, capture_listed};
pub use listing::{Block, ListingReader, ListingWriter};
pub use lookup::{find_path, split_path};
pub(crate) use memo::Memo;
pub use node::{Content, Node, NodeKind, Timestamp, display_path};
pub use restore::{RestoreOptions, Restored, TreeLimit, restore_tree};
pub use same::{same_bytes, same_content};
pub(crate) use witness::is_young;

/// Deepest nesting of directories that is read or written.
pub const DEPTH_MAX: usize = 4096;
