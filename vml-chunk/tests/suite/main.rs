//! Everything about `vml-chunk` that is tested through its public interface, in one binary.
#![allow(clippy::unwrap_used, missing_docs)]

mod cached;
mod compact;
mod conformance;
mod cut_points;
mod damage;
mod decoders;
mod faults;
mod format_page;
mod gc;
mod golden;
mod healing;
mod index;
mod limits;
mod model;
#[cfg(feature = "object")]
mod objects;
mod parity;
mod pool;
mod repair;
mod sealed;
#[cfg(feature = "object")]
mod served;
mod sessions;
mod support;
