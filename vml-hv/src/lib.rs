//! What VML knows of guests and of the hypervisors that run them.
//!
//! [`guest`] looks at a directory tree and tells whether it is the root of a Linux guest, which one, whom its numeric
//! owners are, and what of it is not worth keeping. [`image`] reads and writes disk images, [`nbd`] reads disks that a server
//! exports, [`qemu`] runs machines, [`ssh`] reaches into guests that run.
//! Other hypervisors will stand beside them; `docs/architecture.md` shows where.

mod command;
pub mod guest;
pub mod image;
pub mod nbd;
pub mod qemu;
pub mod ssh;
