//! What the tests of all crates share: suites that every implementation of a seam must pass, backends that fail on
//! purpose, directory trees of every kind, and data that is the same on every machine. Never published; failures are panics.
#![allow(clippy::unwrap_used)]

pub mod backend_suite;
pub mod crash;
pub mod faulty;
pub mod files;
pub mod guest;
pub mod nobody;
pub mod noise;
pub mod sealed;
pub mod squid;
pub mod sshd;
pub mod trees;
pub mod web;
