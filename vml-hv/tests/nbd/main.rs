//! The NBD client against QEMU's server, and against one that lies.

#![allow(missing_docs, clippy::unwrap_used)]

mod exports;
mod lies;
mod server;
