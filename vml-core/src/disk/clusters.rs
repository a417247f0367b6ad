//! Which clusters of an image will hold what, known before the first of them is written: so an image's tables can be laid
//! out at once, its data follows in the disk's order, and threads write it side by side.

use crate::recipe::{GetChunk, Piece, Recipe, RecipeReader, differing_ranges};
use std::ops::Range;
use vml_chunk::{Error, ErrorKind, Result};

/// Clusters of a map, two bits each: 64 TiB in clusters of 64 KiB.
const CLUSTERS_MAX: u64 = 1 << 30;
/// A reader of pieces goes on to the next run when that begins within so many bytes.
const GAP_MAX: u64 = 32 << 20;

/// What an image says of a cluster.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ClusterState {
    /// Nothing: zeros, or what the image below has.
    Absent,
    /// Zeros, whatever is below.
    Zero,
    /// Bytes.
    Data,
}

/// The state of every cluster of an image.
pub struct ClusterMap {
    len: u64,
    cluster_len: u64,
    /// Clusters that the image says something of.
    own: Vec<u64>,
    /// Those of them that hold bytes.
    data: Vec<u64>,
    /// Clusters with bytes before each word.
    ranks: Vec<u64>,
}

impl ClusterMap {
    /// The clusters of an image of its own.
    ///
    /// # Errors
    /// `InvalidInput` for a cluster length that is no power of two, `UnsupportedFormat` for a disk of too many clusters; else as the store.
    pub fn whole(store: &dyn GetChunk, recipe: &Recipe, cluster_len: u64) -> Result<Self> {
        let mut map = Self::new(recipe, cluster_len)?;
        map.mark_data(store, recipe, std::iter::once(0..recipe.len))?;
        map.own = map.data.clone();
        Ok(map)
    }

    /// The clusters of an image upon one that shows `base`: those in which the two differ.
    ///
    /// # Errors
    /// As [`whole`](Self::whole).
    ///
    /// # Cost
    /// Proportional to the difference, and a bit for every cluster.
    pub fn over(store: &dyn GetChunk, base: &Recipe, recipe: &Recipe, cluster_len: u64) -> Result<Self> {
        let mut map = Self::new(recipe, cluster_len)?;
        differing_ranges(store, base, recipe, &mut |range| {
            // What only the base has, behind the end, is not shown.
            let range = range.start..range.end.min(recipe.len);
            if range.is_empty() {
                return false;
            }
            set(&mut map.own, range.start / cluster_len..range.end.div_ceil(cluster_len));
            true
        })?;
        let runs: Vec<Range<u64>> = map.ranges().collect();
        map.mark_data(store, recipe, runs)?;
        Ok(map)
    }

    fn new(recipe: &Recipe, cluster_len: u64) -> Result<Self> {
        if !cluster_len.is_power_of_two() {
            return Err(Error::invalid(format!("clusters of {cluster_len} bytes cannot be")));
        }
        let count = recipe.len.div_ceil(cluster_len);
        if count > CLUSTERS_MAX {
            let message = format!("a disk of {} bytes is too long for an image in clusters of {cluster_len}", recipe.len);
            return Err(Error::new(ErrorKind::UnsupportedFormat, message));
        }
        let words = usize::try_from(count.div_ceil(64)).expect("bounded above");
        Ok(Self { len: recipe.len, cluster_len, own: vec![0; words], data: vec![0; words], ranks: Vec::new() })
    }

    /// Notes the clusters that have bytes in `runs`, which are sorted and apart.
    fn mark_data(&mut self, store: &dyn GetChunk, recipe: &Recipe, runs: impl IntoIterator<Item = Range<u64>>) -> Result<()> {
        let mut reader: Option<(RecipeReader<'_>, u64)> = None;
        // The piece that the last run ended in may go on in the next.
        let mut last: Option<(u64, Piece)> = None;
        for run in runs {
            if reader.as_ref().is_none_or(|(_, at)| at + GAP_MAX < run.start) {
                reader = Some(RecipeReader::starting_at(store, recipe, run.start)?);
                last = None;
            }
            let Some((pieces, at)) = &mut reader else { break };
            loop {
                if let Some((start, piece)) = &last {
                    let (from, to) = (run.start.max(*start), run.end.min(start + piece.len()));
                    if from < to && matches!(piece, Piece::Data { .. }) {
                        set(&mut self.data, from / self.cluster_len..to.div_ceil(self.cluster_len));
                    }
                    if *at >= run.end {
                        break;
                    }
                }
                let Some(piece) = pieces.next().transpose()? else { break };
                last = Some((*at, piece.clone()));
                *at += piece.len();
            }
        }
        let before = |count: &mut u64, word: &u64| {
            let before = *count;
            *count += u64::from(word.count_ones());
            Some(before)
        };
        self.ranks = self.data.iter().scan(0, before).collect();
        Ok(())
    }

    /// Length of the disk in bytes.
    pub fn disk_len(&self) -> u64 {
        self.len
    }

    /// Length of a cluster in bytes.
    pub fn cluster_len(&self) -> u64 {
        self.cluster_len
    }

    /// Clusters of the disk.
    pub fn clusters_count(&self) -> u64 {
        self.len.div_ceil(self.cluster_len)
    }

    /// Clusters with bytes.
    pub fn data_count(&self) -> u64 {
        self.ranks.last().zip(self.data.last()).map_or(0, |(before, word)| before + u64::from(word.count_ones()))
    }

    /// What the image says of a cluster; beyond the end nothing.
    pub fn state(&self, cluster: u64) -> ClusterState {
        match (is_set(&self.own, cluster), is_set(&self.data, cluster)) {
            (_, true) => ClusterState::Data,
            (true, false) => ClusterState::Zero,
            (false, false) => ClusterState::Absent,
        }
    }

    /// Clusters with bytes before this one.
    pub fn data_before(&self, cluster: u64) -> u64 {
        let Some((word, before)) = index(cluster).and_then(|i| Some((self.data.get(i)?, self.ranks.get(i)?))) else {
            return self.data_count();
        };
        before + u64::from((word & ((1 << (cluster % 64)) - 1)).count_ones())
    }

    /// The runs of the disk that the image says something of, in order and apart.
    pub fn ranges(&self) -> impl Iterator<Item = Range<u64>> + '_ {
        let mut next = 0;
        std::iter::from_fn(move || {
            let start = find(&self.own, next, true)?;
            let end = find(&self.own, start, false).unwrap_or(u64::MAX).min(self.clusters_count());
            next = end;
            Some(start * self.cluster_len..(end * self.cluster_len).min(self.len))
        })
    }
}

fn index(cluster: u64) -> Option<usize> {
    usize::try_from(cluster / 64).ok()
}

fn is_set(words: &[u64], cluster: u64) -> bool {
    index(cluster).and_then(|i| words.get(i)).is_some_and(|word| word >> (cluster % 64) & 1 == 1)
}

fn set(words: &mut [u64], clusters: Range<u64>) {
    let mut at = clusters.start;
    while at < clusters.end {
        let end = clusters.end.min((at / 64 + 1) * 64);
        let bits = u64::MAX >> (64 - (end - at)) << (at % 64);
        if let Some(word) = index(at).and_then(|i| words.get_mut(i)) {
            *word |= bits;
        }
        at = end;
    }
}

/// The first cluster from `start` on whose bit is `wanted`.
fn find(words: &[u64], start: u64, wanted: bool) -> Option<u64> {
    let first = index(start)?;
    let flip = if wanted { 0 } else { u64::MAX };
    for (i, word) in words.iter().enumerate().skip(first) {
        let mut word = word ^ flip;
        if i == first {
            word &= u64::MAX << (start % 64);
        }
        if word != 0 {
            return Some(i as u64 * 64 + u64::from(word.trailing_zeros()));
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bits_are_set_found_and_counted() {
        let mut words = vec![0; 4];
        set(&mut words, 3..5);
        set(&mut words, 60..130);
        set(&mut words, 192..256);
        let runs = |words: &[u64]| {
            let mut runs = Vec::new();
            let mut next = 0;
            while let Some(start) = find(words, next, true) {
                let end = find(words, start, false).unwrap_or(256);
                runs.push(start..end);
                next = end;
            }
            runs
        };
        assert_eq!(runs(&words), [3..5, 60..130, 192..256]);
        assert!(is_set(&words, 64) && !is_set(&words, 130) && !is_set(&words, 5000));
        set(&mut words, 0..256);
        assert_eq!(find(&words, 0, false), None);
    }
}
