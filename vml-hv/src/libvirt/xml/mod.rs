//! A domain's XML: read, and adapted to another name, other disks and other network cards.
//!
//! ```text
//! tree    elements with their places in the text          read   what VML needs of a domain
//! adapt   changes by place: the rest stays byte for byte   host   what of its host a domain reaches for
//! ```
//! The text may come from somebody else's entry. It is read in bounded space and depth; it has no document type, so no entities of its own.

mod adapt;
mod host;
mod read;
mod tree;

pub use adapt::{Adaptation, NewDisk, adapt};
pub use host::reaches;
pub use read::{DomainXml, XmlDisk, read};
#[cfg(feature = "libvirt")]
pub(super) use tree::{Tree, escaped};
