//! Where a segment's bytes come from: memory, a mapping, or blocks that are opened when they are needed.

use crate::backend::Paged;

/// Bytes that are read here and there, and sometimes from one end to the other.
pub trait Source {
    /// How many there are.
    fn len(&self) -> usize;

    /// Whether there are none.
    fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Hands `len` bytes from `at` on to `read`; `None` beyond the end, and where they are damaged.
    fn with<R>(&self, at: usize, len: usize, read: impl FnOnce(&[u8]) -> R) -> Option<R>;

    /// Who reads from one end to the other has come to `at`; told every mebibyte.
    fn pass(&self, at: usize) {
        _ = at;
    }
}

/// How often a walk from one end to the other tells where it is, in bytes.
pub const STRIDE: usize = 1 << 20;

impl<T: AsRef<[u8]>> Source for T {
    fn len(&self) -> usize {
        self.as_ref().len()
    }

    fn with<R>(&self, at: usize, len: usize, read: impl FnOnce(&[u8]) -> R) -> Option<R> {
        self.as_ref().get(at..at.checked_add(len)?).map(read)
    }
}

impl Source for Paged {
    fn len(&self) -> usize {
        match self {
            Self::Mapped(bytes) => bytes.as_ref().len(),
            Self::Blocks(blocks) => blocks.len(),
        }
    }

    fn with<R>(&self, at: usize, len: usize, read: impl FnOnce(&[u8]) -> R) -> Option<R> {
        match self {
            Self::Mapped(bytes) => bytes.with(at, len, read),
            Self::Blocks(blocks) => {
                // Rows are short; a walk asks for more.
                let mut row = [0; 64];
                let mut more;
                let buf = if len <= row.len() {
                    &mut row[..len]
                } else {
                    more = vec![0; len.min(blocks.len())];
                    &mut more[..]
                };
                (buf.len() == len && blocks.fill(at, buf)).then(|| read(buf))
            }
        }
    }

    fn pass(&self, at: usize) {
        match self {
            Self::Mapped(bytes) => bytes.pass(at, STRIDE),
            Self::Blocks(blocks) => blocks.pass(at, STRIDE),
        }
    }
}
