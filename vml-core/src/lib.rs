//! The logbook: entries of virtual machines as data, in a repository on a chunk store.
//!
//! A [`Repository`] holds entries; an [`Entry`] is one saved state: its tree, its base, who, when and why. Trees are captured
//! from directories and restored to them with everything a Linux guest has.
//!
//! ```text
//! transplant   into a repository that cuts otherwise
//! remote       push, pull, clone                   catalogue   bases that can be had from the network
//! share        entries in one file, signed
//! repository   save, resolve, check, notes         entry   what one state says      refs   areas, tags, bases
//! tree         capture, restore, diff, compare     recipe  what rebuilds a stream   monitor
//! vml-chunk    chunks, frames, packs, index, backends
//! ```
//! The library is silent: it prints nothing, reads no environment and no clock; what it has to say goes to a [`Monitor`].
//! It shares the error type of `vml-chunk`.

pub mod catalogue;
pub mod disk;
pub mod entry;
pub mod machine;
pub mod monitor;
mod name;
pub mod recipe;
pub mod refs;
pub mod remote;
pub mod repository;
pub mod share;
pub mod transplant;
pub mod tree;
pub mod tune;
pub mod volume;

pub use entry::{Entry, EntryId};
pub use monitor::{CollectMonitor, Monitor, NoMonitor, Problem, Task};
pub use repository::{Config, Repository, RepositoryOptions};
#[cfg(feature = "object")]
pub use vml_chunk::backend::object;
pub use vml_chunk::{
    Backend, CachedBackend, ChunkId, ChunkStore, DiscardBackend, Error, ErrorKind, IoResultExt, LocalBackend, MemoryBackend, PackId,
    PackKind, Result,
};

/// The README's example is compiled and run as a test.
#[cfg(doctest)]
#[doc = include_str!("../../README.md")]
struct Readme;
