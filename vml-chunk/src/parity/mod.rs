//! Parity beside packs, by Reed-Solomon codes: a few sectors that rotted in a pack are calculated from the others.
//!
//! ```text
//! pack     | stripe: up to 1024 shards of 4 KiB ............ | stripe ... | last one, shorter |
//! parity   | digests of all shards, their sum | parity shards | ...                            | trailer |
//! ```
//! Each shard has a digest, so it is known which ones are bad, and a stripe is whole again if no more of its shards are bad than it has parity shards. Everything
//! is over a pack's bytes as they are stored, whatever they mean. Encoding and mending keep one stripe in memory.
//!
//! A file of parity is put after its pack and before the index names it. It is never needed to read what is whole: one that is missing, damaged or of
//! a pack that is gone is no damage, and can be made again.

mod layout;
mod mend;
mod write;

pub use layout::{PARITY_DIR, PARITY_PERCENT_MAX, PARITY_VERSION, ParityLayout, parity_key};
pub use mend::{Mending, Parity};
pub use write::{ParityWriter, make_parity};
