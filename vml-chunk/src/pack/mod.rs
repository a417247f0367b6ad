//! A pack: an immutable file of frames, then a footer that tells what is in them.
//!
//! ```text
//! header (16) | frame | frame | ... | frame table | chunk table | trailer (64)
//! ```
//! A pack is named by the BLAKE3 of all its bytes, so any store can scrub it. Data packs hold file and disk content,
//! metadata packs hold listings and recipes, so that listing, diff and collection never read file data. A pack is
//! published whole and durable, and never modified.

mod footer;
mod reader;
mod writer;

pub use footer::{Footer, FooterChunk, FooterFrame, Trailer};
pub use reader::{read_footer, verify_pack, verify_pack_keyed};
pub use writer::{PackInfo, PackWriter};

use crate::format::{PACK_HEADER_LEN, PACK_MAGIC, PACK_VERSION};
use crate::id::PackId;

/// What a pack holds.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, bincode::Encode, bincode::Decode)]
pub enum PackKind {
    /// Content of files, disks and memory.
    Data,
    /// Listings, recipes and whatever else describes.
    Meta,
}

impl PackKind {
    /// Both kinds.
    pub const ALL: [Self; 2] = [Self::Data, Self::Meta];

    /// The directory of the backend that holds packs of this kind.
    pub fn dir(self) -> &'static str {
        match self {
            Self::Data => "data",
            Self::Meta => "meta",
        }
    }

    /// The backend's key of a pack.
    pub fn key(self, id: &PackId) -> String {
        format!("{}/{id}", self.dir())
    }

    /// The first bytes of every pack of this kind that was compacted at this level, or at none: 0.
    pub(crate) fn header(self, compaction: u8) -> [u8; PACK_HEADER_LEN] {
        let mut header = [0; PACK_HEADER_LEN];
        header[..8].copy_from_slice(&PACK_MAGIC);
        header[8..10].copy_from_slice(&PACK_VERSION.to_le_bytes());
        (header[10], header[11]) = (self.number(), compaction);
        header
    }

    /// Its number in every format.
    pub fn number(self) -> u8 {
        match self {
            Self::Data => 0,
            Self::Meta => 1,
        }
    }

    /// The kind of a number.
    pub fn from_number(number: u8) -> Option<Self> {
        match number {
            0 => Some(Self::Data),
            1 => Some(Self::Meta),
            _ => None,
        }
    }
}
