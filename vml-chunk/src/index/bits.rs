//! A bit for each row of an index, with memory for the parts that have one.

use super::IndexView;
use std::sync::OnceLock;
use std::sync::atomic::{AtomicU64, Ordering};

/// Words of a block: 512 bytes, for 4096 rows.
const WORDS: usize = 64;
const BLOCK_ROWS: usize = WORDS * 64;

type Block = Box<[u64; WORDS]>;

/// A set of rows, by segment and number; both are those of the view that it was made for.
///
/// # Cost
/// A bit a row where rows are set everywhere, a sixty-fourth of that where none is.
#[derive(Debug, Clone)]
pub struct RowBits(Vec<Vec<Option<Block>>>);

impl RowBits {
    /// None of the rows of `view`.
    pub fn new(view: &IndexView) -> Self {
        Self::with_counts(view.segments().map(|(_, count)| count))
    }

    fn with_counts(counts: impl Iterator<Item = usize>) -> Self {
        Self(counts.map(|count| vec![None; count.div_ceil(BLOCK_ROWS)]).collect())
    }

    /// Adds a row; tells whether it was not there before.
    pub fn insert(&mut self, segment: usize, row: usize) -> bool {
        let block = self.0[segment][row / BLOCK_ROWS].get_or_insert_with(|| Box::new([0; WORDS]));
        let (word, bit) = (&mut block[row / 64 % WORDS], 1 << (row % 64));
        let is_new = *word & bit == 0;
        *word |= bit;
        is_new
    }

    /// Whether a row is there.
    pub fn contains(&self, segment: usize, row: usize) -> bool {
        self.0[segment][row / BLOCK_ROWS].as_ref().is_some_and(|block| block[row / 64 % WORDS] >> (row % 64) & 1 == 1)
    }

    /// Words that are not zero, with the first row of each.
    fn words(&self, segment: usize) -> impl Iterator<Item = (usize, u64)> + '_ {
        let blocks = self.0[segment].iter().enumerate().filter_map(|(number, block)| Some((number, block.as_ref()?)));
        blocks.flat_map(|(number, block)| {
            let words = block.iter().enumerate().filter(|(_, word)| **word != 0);
            words.map(move |(place, word)| (number * BLOCK_ROWS + place * 64, *word))
        })
    }

    /// The rows of a segment that are there, rising.
    pub fn rows(&self, segment: usize) -> impl Iterator<Item = usize> + '_ {
        self.words(segment).flat_map(|(first, word)| {
            let mut left = word;
            std::iter::from_fn(move || {
                let bit = left.trailing_zeros() as usize;
                (left != 0).then(|| {
                    left &= left - 1;
                    first + bit
                })
            })
        })
    }

    /// Whether most pages of a segment have a row that is there: reading all of it is then faster than reading these alone.
    pub fn is_dense(&self, segment: usize) -> bool {
        self.words(segment).count() > self.0[segment].len() * WORDS / 4
    }

    /// Removes all rows.
    pub fn clear(&mut self) {
        self.0.iter_mut().flatten().for_each(|block| *block = None);
    }

    /// Bytes of memory that it takes.
    pub fn memory_len(&self) -> usize {
        let blocks = self.0.iter().flatten();
        blocks.map(|block| size_of::<Option<Block>>() + block.as_ref().map_or(0, |_| size_of::<[u64; WORDS]>())).sum()
    }
}

/// As [`RowBits`], to which many threads add at a time.
pub(crate) struct SharedRowBits(Vec<Vec<OnceLock<Box<[AtomicU64; WORDS]>>>>);

impl SharedRowBits {
    pub(crate) fn new(view: &IndexView) -> Self {
        Self(view.segments().map(|(_, count)| (0..count.div_ceil(BLOCK_ROWS)).map(|_| OnceLock::new()).collect()).collect())
    }

    pub(crate) fn insert(&self, segment: usize, row: usize) {
        let block = self.0[segment][row / BLOCK_ROWS].get_or_init(|| Box::new([const { AtomicU64::new(0) }; WORDS]));
        block[row / 64 % WORDS].fetch_or(1 << (row % 64), Ordering::Relaxed);
    }

    /// What was added; nothing is left in here.
    pub(crate) fn take(&mut self) -> RowBits {
        let plain = |block: OnceLock<Box<[AtomicU64; WORDS]>>| Some(Box::new(block.into_inner()?.map(AtomicU64::into_inner)));
        RowBits(std::mem::take(&mut self.0).into_iter().map(|blocks| blocks.into_iter().map(plain).collect()).collect())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::collections::BTreeSet;

    const COUNT: usize = 3 * BLOCK_ROWS + 5;

    proptest! {
        #[test]
        fn rows_are_told_as_they_were_put(rows in proptest::collection::btree_set(0..COUNT, 0..600)) {
            let mut bits = RowBits::with_counts([0, COUNT].into_iter());
            let shared = SharedRowBits(vec![Vec::new(), (0..COUNT.div_ceil(BLOCK_ROWS)).map(|_| OnceLock::new()).collect()]);
            for row in rows.iter().rev() {
                prop_assert!(bits.insert(1, *row) && !bits.insert(1, *row));
                shared.insert(1, *row);
            }
            let mut shared = shared;
            let shared = shared.take();
            for bits in [&bits, &shared] {
                prop_assert_eq!(bits.rows(1).collect::<Vec<_>>(), rows.iter().copied().collect::<Vec<_>>());
                prop_assert_eq!(bits.rows(0).count(), 0);
                prop_assert!((0..COUNT).all(|row| bits.contains(1, row) == rows.contains(&row)));
                prop_assert_eq!(bits.is_dense(1), rows.iter().map(|row| row / 64).collect::<BTreeSet<_>>().len() > WORDS);
                let blocks = rows.iter().map(|row| row / BLOCK_ROWS).collect::<BTreeSet<_>>().len();
                prop_assert_eq!(bits.memory_len(), blocks * 512 + 4 * 8);
            }
            bits.clear();
            prop_assert_eq!(bits.rows(1).count(), 0);
        }
    }
}
