//! Chunks of one length: for memory pages, where content never shifts.

use super::{Chunker, check_len};
use crate::error::Result;
use crate::format::CHUNK_MAX_LEN;

/// Cuts every `len` bytes.
pub struct Fixed {
    len: usize,
}

impl Fixed {
    /// Checks the length.
    ///
    /// # Errors
    /// `InvalidInput` when it is below 64 bytes or above what a record can say.
    pub fn new(len: u32) -> Result<Self> {
        Ok(Self { len: check_len("length", len, 64, CHUNK_MAX_LEN)? })
    }
}

impl Chunker for Fixed {
    fn max_len(&self) -> usize {
        self.len
    }

    fn cut(&self, data: &[u8]) -> usize {
        data.len().min(self.len)
    }
}
