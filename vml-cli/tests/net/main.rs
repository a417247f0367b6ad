//! The module `net` of the program beside servers that lie.
#![allow(clippy::unwrap_used, missing_docs)]

#[allow(dead_code, unused_imports)]
#[path = "../../src/net/mod.rs"]
mod net;

mod download;
mod network;
mod order;
mod tls;
