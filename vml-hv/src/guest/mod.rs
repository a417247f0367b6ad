//! Guests seen from outside, as a directory tree.
//!
//! A guest's files are read with its own root as `/`: a symbolic link in it leads to where it would lead inside, never to
//! the host's files. Everything read is limited, and what cannot be read is simply not known.

pub mod accounts;
pub mod archive;
mod identity;
mod owners;
mod root;

pub use identity::{facts, facts_in, release_facts};
pub use owners::{Owners, host_owners, owners, owners_in};
pub use root::{DEFAULT_EXCLUDE, GuestRoot};
