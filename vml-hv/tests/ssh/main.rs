//! Guests over SSH, against a real `sshd` that serves directories of this host.
#![allow(clippy::unwrap_used, missing_docs)]

mod changes;
mod hosts;
mod patches;
mod saves;
mod server;
mod support;
mod trouble;
