//! The NBD client against QEMU's server and against one that lies, and images that are read through it.

#![allow(missing_docs, clippy::unwrap_used)]

mod exports;
mod images;
mod lies;
mod server;
