//! `vml` as a user types it: the real binary, in a home of its own, one process a command.
#![allow(clippy::unwrap_used, missing_docs)]

mod bad_input;
mod commands;
mod compact;
mod damage;
mod demo;
mod disk_chains;
mod disks;
mod encrypted;
mod fetch;
mod forget;
mod full_disk;
mod gc;
mod guests;
mod inside;
mod json;
mod kills;
mod live_tree;
mod manual;
#[cfg(feature = "object")]
mod objects;
mod odd_names;
mod old_formats;
mod places;
mod read_only;
mod recovery;
mod remotes;
mod share;
mod shared_blocks;
mod side_by_side;
mod support;
mod transcript;
mod vmdk;
mod vmware;
