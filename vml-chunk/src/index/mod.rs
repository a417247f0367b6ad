//! Where each chunk is: sorted immutable segments, mapped and searched, never loaded.
//!
//! One record is 42 bytes: 32 of id, 4 of frame number, 3 of offset and 3 of length; the fan-out adds at most half a
//! byte and the tables of frames and packs about an eighth at the default frame length, so a chunk costs 43 bytes on disk and none of heap. Opening
//! a segment reads its header and nothing else. The index is a cache: every byte of it can be rebuilt from the footers
//! of the packs, and a hit is verified against the chunk's id when it is read, so a damaged index cannot give a wrong
//! answer, only a missing one.

mod bits;
mod build;
mod merge;
mod segment;
mod source;
mod view;
mod write;

pub use bits::RowBits;
pub(crate) use bits::SharedRowBits;
pub use build::{SegmentPack, build_segment};
pub use merge::{SEGMENT_RECORDS_MAX, merge_candidates, merge_segments};
pub use segment::{FrameRow, PackRow, Record, Scan, Segment};
pub use source::Source;
pub use view::{IndexView, Location};
pub use write::{EachRecord, write_segment};

/// The directory of the backend that holds segments.
pub const INDEX_DIR: &str = "index";
