//! New images: complete, or not there at all.
//!
//! ```text
//! part    a file under a temporary name until it is whole     raw · qcow2   images of one format
//! ```

mod part;
mod qcow2;
mod raw;

pub use qcow2::{BackingImage, CLUSTER_LEN, Qcow2Target};
pub use raw::RawTarget;
