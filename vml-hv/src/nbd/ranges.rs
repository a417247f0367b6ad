//! Ranges in order, of which a list never grows without bound.

use std::ops::Range;

/// Sorted ranges, apart. When there are too many, neighbours become one with the gap between them: the list may say more than was
/// added, never less.
pub(super) struct Ranges {
    ranges: Vec<Range<u64>>,
    count_max: usize,
    /// Gaps that are no longer than this are closed.
    gap: u64,
}

impl Ranges {
    pub(super) fn new(count_max: usize) -> Self {
        Self { ranges: Vec::new(), count_max: count_max.max(1), gap: 0 }
    }

    /// Adds a range that begins at or behind the end of the last one.
    pub(super) fn push(&mut self, range: Range<u64>) {
        while !self.join(&range) {
            if self.ranges.len() < self.count_max {
                self.ranges.push(range);
                return;
            }
            self.gap = (self.gap * 2).max(4096);
            let ranges = std::mem::take(&mut self.ranges);
            for range in ranges {
                if !self.join(&range) {
                    self.ranges.push(range);
                }
            }
        }
    }

    fn join(&mut self, range: &Range<u64>) -> bool {
        let last = self.ranges.last_mut().filter(|last| range.start - last.end <= self.gap);
        last.map(|last| last.end = range.end).is_some()
    }

    pub(super) fn into_vec(self) -> Vec<Range<u64>> {
        self.ranges
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn neighbours_are_one_and_many_are_fewer() {
        let mut ranges = Ranges::new(4);
        [0..10, 10..20, 25..30].into_iter().for_each(|range| ranges.push(range));
        assert_eq!(ranges.into_vec(), [0..20, 25..30]);
        let mut ranges = Ranges::new(4);
        let all: Vec<_> = (0..1000).map(|i| i * 10_000..i * 10_000 + 1).collect();
        all.iter().for_each(|range| ranges.push(range.clone()));
        let kept = ranges.into_vec();
        assert!(kept.len() <= 4 && kept.windows(2).all(|pair| pair[0].end < pair[1].start));
        assert!(all.iter().all(|range| kept.iter().any(|kept| kept.start <= range.start && range.end <= kept.end)));
    }
}
