//! The repository service over real connections: what it answers, whom it refuses, and what it outlives.

#![allow(clippy::unwrap_used, missing_docs)]

mod access;
mod bad_input;
mod client;
mod clients;
mod crowd;
mod ending;
mod files;
mod server;
mod stdio;
#[allow(dead_code)]
#[path = "../suite/support.rs"]
mod support;
mod tls;
mod transfers;
mod unit;
