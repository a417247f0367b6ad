//! Everything about `vml-core` that is tested through its public interface, in one binary.
#![allow(clippy::unwrap_used, missing_docs)]

mod beside;
mod collect;
mod corpus;
mod counting;
mod damage;
mod differing;
mod disks;
mod existing;
mod ext4;
mod ext4_journal;
mod faults;
mod forget;
mod format_page;
mod hostile;
mod listed;
mod names;
mod recipes;
mod remote;
mod restore;
mod round_trip;
mod share;
mod support;
mod trouble;
mod vast_disk;
mod volume;
