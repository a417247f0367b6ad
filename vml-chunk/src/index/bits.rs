//! A bit for each row of an index.

use super::IndexView;

/// A set of rows, by segment and number; both are those of the view that it was made for.
#[derive(Debug, Clone)]
pub struct RowBits(Vec<Vec<u64>>);

impl RowBits {
    /// None of the rows of `view`.
    pub fn new(view: &IndexView) -> Self {
        Self(view.segments().map(|(_, count)| vec![0; count.div_ceil(64)]).collect())
    }

    /// Those whose bits are set, 64 rows a word, a list of words for each segment.
    pub fn from_words(words: Vec<Vec<u64>>) -> Self {
        Self(words)
    }

    /// Adds a row; tells whether it was not there before.
    pub fn insert(&mut self, segment: usize, row: usize) -> bool {
        let word = &mut self.0[segment][row / 64];
        let is_new = *word >> (row % 64) & 1 == 0;
        *word |= 1 << (row % 64);
        is_new
    }

    /// Whether a row is there.
    pub fn contains(&self, segment: usize, row: usize) -> bool {
        self.0[segment][row / 64] >> (row % 64) & 1 == 1
    }

    /// Removes all rows.
    pub fn clear(&mut self) {
        self.0.iter_mut().for_each(|words| words.fill(0));
    }

    /// Bytes of memory that it takes.
    pub fn memory_len(&self) -> usize {
        self.0.iter().map(Vec::len).sum::<usize>() * 8
    }
}
