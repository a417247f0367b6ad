//! Where a byte stream is cut into chunks: [`ChunkerParams`] names a way to cut, [`Chunker`] does it.
//!
//! Cut points decide what deduplicates against what, so the parameters belong to the repository, are recorded there and
//! are never guessed. A chunker sees a slice and tells the length of the first chunk in it; it keeps no state between
//! chunks, so a stream is cut the same however it is buffered.

mod fastcdc;
mod fixed;

pub use fastcdc::FastCdc;
pub use fixed::Fixed;

use crate::error::{Error, Result};
use bincode::{Decode, Encode};

/// A way to cut a stream.
pub trait Chunker: Send + Sync {
    /// The longest chunk it ever cuts, in bytes.
    fn max_len(&self) -> usize;

    /// The length of the first chunk of `data`, which is not empty and holds at least [`max_len`](Self::max_len) bytes
    /// unless the stream ends with it. The result is at least 1 and at most `data.len()`.
    fn cut(&self, data: &[u8]) -> usize;
}

/// Which chunker with which sizes, as a repository records it.
#[derive(Debug, Clone, PartialEq, Eq, Encode, Decode)]
pub enum ChunkerParams {
    /// Content-defined cut points by FastCDC in its 2020 form.
    FastCdc2020 {
        /// Shortest chunk in bytes, but for a stream's last: even, 64 to 1 Mi.
        min_len: u32,
        /// Chunk length aimed at: even, 256 to 4 Mi.
        avg_len: u32,
        /// Longest chunk: even, 1 Ki to under 16 Mi.
        max_len: u32,
        /// How strongly lengths gather around the average: 0 to 3.
        normalization: u8,
        /// Mixed into the gear table; 0 for the published one.
        seed: u64,
    },
    /// Chunks of one length.
    Fixed {
        /// Length in bytes: 64 to under 16 Mi.
        len: u32,
    },
}

impl Default for ChunkerParams {
    /// FastCDC 2 KiB / 8 KiB / 64 KiB: see the measurements in `docs/storage.md`.
    fn default() -> Self {
        Self::FastCdc2020 { min_len: 2 << 10, avg_len: 8 << 10, max_len: 64 << 10, normalization: 1, seed: 0 }
    }
}

impl ChunkerParams {
    /// Makes the chunker.
    ///
    /// # Errors
    /// `InvalidInput` when a size is outside its limits; sizes may come from a file, so they are checked here.
    pub fn build(&self) -> Result<Box<dyn Chunker>> {
        Ok(match *self {
            Self::FastCdc2020 { min_len, avg_len, max_len, normalization, seed } => {
                Box::new(FastCdc::new(min_len, avg_len, max_len, normalization, seed)?)
            }
            Self::Fixed { len } => Box::new(Fixed::new(len)?),
        })
    }
}

fn check_len(what: &str, len: u32, low: usize, high: usize) -> Result<usize> {
    let value = len as usize;
    if value < low || value > high {
        return Err(Error::invalid(format!("the chunker's {what} is {len} bytes, it must be from {low} to {high}")));
    }
    Ok(value)
}
