//! Crash states: what a disk or an object store may hold after a loss of power, for every moment of a run.
//!
//! ```text
//! LocalBackend ──► Handle ──► Disk ──► log of operations ──► Survivors ──► an Image for every state ──► a Disk, and so on
//!                    │ turns, faults        │ mutate                        │ which names and bytes are durable
//! any Backend ───► Objects ────────────────────────────────► their states ┘
//! ```
//! [`Disk`] is a file system in memory that writes down what is done to it. [`Survivors`] follows such a log and tells which states a crash may
//! leave at each place of it, by what was synced; [`objects`] does the same for a store that knows whole files only. [`mutate`] makes
//! the log of a program that syncs or orders less, to see that its mistakes are found. [`Turns`] lets several processes run side by side in an order that a seed decides.

mod disk;
mod handle;
mod image;
pub mod mutate;
pub mod objects;
mod survive;
mod tally;
mod turns;

pub use disk::{Disk, Op};
pub use handle::{Fault, Handle, Trouble};
pub use image::{Content, Image};
pub use objects::Objects;
pub use survive::Survivors;
pub use tally::Tally;
pub use turns::{Turns, side_by_side};
