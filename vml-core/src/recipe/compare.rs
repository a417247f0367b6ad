//! Where two recipes differ, by position; nodes that both have at the same place are not looked into.

use super::{Cursor, GetChunk, Item, Piece, Recipe};
use std::ops::Range;
use vml_chunk::Result;

/// Tells every range of bytes in which two streams may differ to `each`, in order: neighbouring ones as one, what one stream
/// has beyond the end of the other included. Equal bytes that were cut differently count as different; zeros and holes do not.
/// Returning false from `each` ends it.
///
/// # Errors
/// As [`ChunkStore::get`](vml_chunk::ChunkStore::get), and `Corrupt`.
///
/// # Cost
/// Proportional to the difference.
pub fn differing_ranges(store: &dyn GetChunk, old: &Recipe, new: &Recipe, each: &mut dyn FnMut(Range<u64>) -> bool) -> Result<()> {
    let mut sides = [Side::new(store, old)?, Side::new(store, new)?];
    let mut open: Option<Range<u64>> = None;
    loop {
        let [a, b] = &mut sides;
        let (offset, len, differs) = match (a.remaining(), b.remaining()) {
            (None, None) => break,
            (Some(len), None) => (a.offset(), a.pass(len), true),
            (None, Some(len)) => (b.offset(), b.pass(len), true),
            (Some(of_a), Some(of_b)) => {
                let offset = a.offset();
                if a.is_whole() && b.is_whole() && a.cursor.peek() == b.cursor.peek() {
                    b.pass(of_b);
                    (offset, a.pass(of_a), false)
                } else if a.is_node() && (of_a >= of_b || !b.is_node()) {
                    a.cursor.descend()?;
                    continue;
                } else if b.is_node() {
                    b.cursor.descend()?;
                    continue;
                } else {
                    let differs = !(a.is_zero() && b.is_zero());
                    let len = of_a.min(of_b);
                    b.pass(len);
                    (offset, a.pass(len), differs)
                }
            }
        };
        if !differs {
            continue;
        }
        match &mut open {
            Some(range) if range.end == offset => range.end += len,
            _ => {
                if let Some(range) = open.replace(offset..offset + len)
                    && !each(range)
                {
                    return Ok(());
                }
            }
        }
    }
    if let Some(range) = open {
        each(range);
    }
    Ok(())
}

/// One of the two streams.
struct Side<'a> {
    cursor: Cursor<'a>,
    /// Bytes of the next item, a piece, that were passed already.
    passed: u64,
}

impl<'a> Side<'a> {
    fn new(store: &'a dyn GetChunk, recipe: &Recipe) -> Result<Self> {
        Ok(Self { cursor: Cursor::new(store, recipe)?, passed: 0 })
    }

    fn offset(&self) -> u64 {
        self.cursor.offset() + self.passed
    }

    fn remaining(&self) -> Option<u64> {
        self.cursor.peek().map(|item| item.len() - self.passed)
    }

    fn is_whole(&self) -> bool {
        self.passed == 0
    }

    fn is_node(&self) -> bool {
        matches!(self.cursor.peek(), Some(Item::Node { .. }))
    }

    fn is_zero(&self) -> bool {
        matches!(self.cursor.peek(), Some(Item::Piece(Piece::Zero { .. } | Piece::Hole { .. })))
    }

    /// Passes `len` bytes, at most what remains of the next item.
    fn pass(&mut self, len: u64) -> u64 {
        self.passed += len;
        if self.remaining() == Some(0) {
            self.cursor.skip();
            self.passed = 0;
        }
        len
    }
}
