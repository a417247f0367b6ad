//! What VML knows of guests and, later, of the hypervisors that run them.
//!
//! [`guest`] looks at a directory tree and tells whether it is the root of a Linux guest, which one, whom its numeric
//! owners are, and what of it is not worth keeping. Adapters for hypervisors, guests over SSH and image formats will
//! stand beside it; `docs/architecture.md` shows where.

pub mod guest;
pub mod image;
