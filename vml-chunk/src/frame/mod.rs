//! A frame: a few mebibytes of chunks compressed together, the unit of decompression.
//!
//! ```text
//! magic "VMLf" | codec u8 | filter u8 | chunk count u16 | plain length u32 | payload length u32 | sum[8]
//! | chunk length u24 ... | distance back u32, in a group only | payload
//! ```
//! In packs that were compacted, frames form groups: what repeats is found through all of a group, and a frame is decoded after those before it.
//!
//! ```text
//! frame, distance 0 ─► frame, distance d ─► raw frame, by itself ─► frame, distance e ...
//! └──────────────── one zstd frame, cut where these end ─────────────────┘
//! ```
//! `sum` is the head of the BLAKE3 of everything else before the payload. A frame says by itself where its chunks are, so
//! the frames of a pack whose footer is lost can still be found and read. Compression is the cost of a save and the
//! frame is where it happens; see `docs/storage.md` for why chunks are not compressed one by one.

mod build;
mod filter;
mod group;
mod group_build;
mod open;

pub use build::{FrameBuilder, FrameEncoder, SealedFrame};
pub use group::GroupDecoder;
pub use group_build::GroupEncoder;
pub(crate) use open::back_len;
pub use open::{FrameDecoder, FrameHeader};

/// How a frame's payload is stored.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Codec {
    /// As it is, because it would not shrink.
    Raw,
    /// One zstd frame with its content size.
    Zstd,
    /// A piece of the zstd frame that goes through its group.
    Grouped,
}

impl Codec {
    pub(crate) fn number(self) -> u8 {
        match self {
            Self::Raw => 0,
            Self::Zstd => 1,
            Self::Grouped => 2,
        }
    }

    pub(crate) fn from_number(number: u8) -> Option<Self> {
        match number {
            0 => Some(Self::Raw),
            1 => Some(Self::Zstd),
            2 => Some(Self::Grouped),
            _ => None,
        }
    }
}

/// What was done to a frame's plain bytes before they were compressed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Filter {
    /// Nothing.
    None,
    /// Operands of x86 calls and jumps are places instead of distances.
    X86,
}

impl Filter {
    pub(crate) fn number(self) -> u8 {
        match self {
            Self::None => 0,
            Self::X86 => 1,
        }
    }

    pub(crate) fn from_number(number: u8) -> Option<Self> {
        match number {
            0 => Some(Self::None),
            1 => Some(Self::X86),
            _ => None,
        }
    }
}
