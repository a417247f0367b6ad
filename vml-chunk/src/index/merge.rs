//! Keeps segments few: small ones are merged into larger ones, streaming, in the manner of a log-structured merge.

use super::segment::{FrameRow, PackRow, Record, Scan, Segment};
use super::source::Source;
use super::write::{EachRecord, count, write_segment};
use crate::error::Result;
use crate::id::ChunkId;
use std::cmp::Reverse;
use std::collections::binary_heap::PeekMut;
use std::collections::{BinaryHeap, HashMap};
use std::ops::Range;

/// How much larger each segment must be than all smaller ones together.
const RATIO: usize = 4;

/// No merge makes a larger segment: a save that comes to merge copies 46 GB at most, and rows have numbers of 32 bits.
pub const SEGMENT_RECORDS_MAX: usize = 1 << 30;

/// Which of the segments, given by their record counts, to merge into one now: so many of the smallest that every one
/// left is at least four times what is below it. So n chunks stand in at most about log4(n) segments, and each record
/// is copied about as often. Empty when nothing needs merging. What would become larger than [`SEGMENT_RECORDS_MAX`] is left alone.
pub fn merge_candidates(record_counts: &[usize]) -> Vec<usize> {
    let mut order: Vec<usize> = (0..record_counts.len()).collect();
    order.sort_by_key(|i| record_counts[*i]);
    let mut below = 0;
    let mut take = 0;
    for (position, i) in order.iter().enumerate() {
        let with_it = below + record_counts[*i];
        if with_it > SEGMENT_RECORDS_MAX {
            break;
        }
        if position > 0 && record_counts[*i] < below * RATIO {
            take = position + 1;
        }
        below = with_it;
    }
    order.truncate(take);
    order
}

/// Merges segments, handing the bytes of the new one to `out` in pieces. Records of packs for which `alive` is false
/// are left out. Returns the name of the new segment.
///
/// # Errors
/// `InvalidInput` when the result has more rows than a segment can count, or whatever `out` says.
///
/// # Cost
/// Reads the records of the inputs twice, in order; memory is the fan-out, half a byte a record up to 64 MiB, and four bytes a frame.
pub fn merge_segments<T: Source>(
    inputs: &[&Segment<T>],
    alive: &dyn Fn(&PackRow) -> bool,
    out: &mut dyn FnMut(&[u8]) -> Result<()>,
) -> Result<String> {
    let tables = Tables::new(inputs, alive)?;
    let records_max = inputs.iter().map(|input| input.len()).sum();
    let mut frames = Frames { inputs, tables: &tables, input: 0, frame: 0, left: tables.frame_count };
    write_segment(&tables.packs, &mut frames, records_max, &mut |each| for_each_record(inputs, &tables, each), out)
}

/// No frame of the output.
const GONE: u32 = u32::MAX;

/// How the packs and frames of the inputs are numbered in the output.
struct Tables {
    packs: Vec<PackRow>,
    /// For each input, the output's number of each pack; `None` for a dead one.
    pack_numbers: Vec<Vec<Option<u32>>>,
    /// For each input, the output's number of each frame; [`GONE`] for those of dead packs.
    frame_numbers: Vec<Vec<u32>>,
    frame_count: usize,
}

impl Tables {
    fn new<T: Source>(inputs: &[&Segment<T>], alive: &dyn Fn(&PackRow) -> bool) -> Result<Self> {
        let mut known = HashMap::new();
        let mut tables = Self { packs: Vec::new(), pack_numbers: Vec::new(), frame_numbers: Vec::new(), frame_count: 0 };
        for (i, input) in inputs.iter().enumerate() {
            let mut numbers = Vec::new();
            for pack in 0..count(input.pack_count())? {
                let row = input.pack(pack).filter(alive);
                numbers.push(match row {
                    // Two segments may both know a pack, when two processes indexed it at once.
                    Some(row) => {
                        let number = *known.entry(row.id).or_insert(tables.packs.len());
                        if number == tables.packs.len() {
                            tables.packs.push(row);
                        }
                        Some(count(number)?)
                    }
                    None => None,
                });
            }
            tables.pack_numbers.push(numbers);
            let mut frames = Vec::with_capacity(input.frame_count());
            for frame in 0..count(input.frame_count())? {
                let stays = input.frame(frame).is_some_and(|row| tables.pack_number(i, row.pack).is_some());
                frames.push(if stays { count(tables.frame_count)? } else { GONE });
                tables.frame_count += usize::from(stays);
            }
            tables.frame_numbers.push(frames);
        }
        count(tables.frame_count)?;
        Ok(tables)
    }

    fn pack_number(&self, input: usize, pack: u32) -> Option<u32> {
        self.pack_numbers[input].get(pack as usize).copied().flatten()
    }

    fn frame_number(&self, input: usize, frame: u32) -> Option<u32> {
        self.frame_numbers[input].get(frame as usize).copied().filter(|number| *number != GONE)
    }
}

/// The frame table of the output.
struct Frames<'a, T> {
    inputs: &'a [&'a Segment<T>],
    tables: &'a Tables,
    input: usize,
    frame: u32,
    left: usize,
}

impl<T: Source> Iterator for Frames<'_, T> {
    type Item = FrameRow;

    fn next(&mut self) -> Option<FrameRow> {
        while let Some(input) = self.inputs.get(self.input) {
            let frame = self.frame;
            if frame as usize == input.frame_count() {
                (self.input, self.frame) = (self.input + 1, 0);
                continue;
            }
            self.frame += 1;
            if self.tables.frame_number(self.input, frame).is_some() {
                self.left -= 1;
                // One that cannot be read any more leads to no pack.
                let row = input.frame(frame).and_then(|row| Some(FrameRow { pack: self.tables.pack_number(self.input, row.pack)?, ..row }));
                return Some(row.unwrap_or(FrameRow { pack: u32::MAX, offset: 0, stored_len: 0, plain_len: 0 }));
            }
        }
        None
    }

    fn size_hint(&self) -> (usize, Option<usize>) {
        (self.left, Some(self.left))
    }
}

impl<T: Source> ExactSizeIterator for Frames<'_, T> {}

/// Walks all records in order, numbered as in the output.
///
/// Every record of a pack that stays is there, also where another pack has the same chunk: whoever takes that one away, now or at the same moment, relies
/// on a pack that is named by a segment being found by all that it holds.
fn for_each_record<T: Source>(inputs: &[&Segment<T>], tables: &Tables, each: &mut EachRecord<'_>) -> Result<()> {
    let mut scans: Vec<Scan<'_, T, Range<usize>>> = inputs.iter().map(|input| input.scan()).collect();
    // What is gone is passed over before it is sorted in.
    let mut next = |input: usize| {
        scans[input].find_map(|record| {
            let frame = tables.frame_number(input, record.frame)?;
            Some(Reverse((record.id, input, Row { frame, offset: record.offset, len: record.len, was: record.frame })))
        })
    };
    let mut heap: BinaryHeap<_> = (0..inputs.len()).filter_map(&mut next).collect();
    // Records of one id, each with the input that it is of.
    let mut alike: Vec<(usize, Row)> = Vec::new();
    let mut last: Option<ChunkId> = None;
    let place = |(input, row): (usize, Row)| {
        let frame = inputs[input].frame(row.was);
        frame.and_then(|frame| Some((tables.pack_number(input, frame.pack)?, frame.offset, row.offset)))
    };
    while let Some(mut first) = heap.peek_mut() {
        let Reverse((id, input, row)) = *first;
        // In its place: one step down the heap, where the next of the same input is the next of all most often.
        match next(input) {
            Some(following) => *first = following,
            None => _ = PeekMut::pop(first),
        }
        if last != Some(id) {
            last = Some(id);
            alike.clear();
        } else if alike.iter().any(|other| place(*other) == place((input, row))) {
            // The same record of a pack that two segments know.
            continue;
        }
        alike.push((input, row));
        each(&Record { id, frame: row.frame, offset: row.offset, len: row.len })?;
    }
    Ok(())
}

/// Where a chunk is, in the output.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
struct Row {
    frame: u32,
    offset: u32,
    len: u32,
    /// The number that its frame has in the input.
    was: u32,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn segments_stay_few_and_large_ones_are_left_alone() {
        assert!(merge_candidates(&[]).is_empty());
        assert!(merge_candidates(&[5]).is_empty());
        assert!(merge_candidates(&[1_000_000, 10]).is_empty());
        assert_eq!(merge_candidates(&[1_000_000, 10, 12]), [1, 2]);
        // What is as large as may be stays, and what is below it is merged.
        let full = SEGMENT_RECORDS_MAX;
        assert!(merge_candidates(&[full, full - 10, full / 2]).is_empty());
        assert_eq!(merge_candidates(&[full, 10, full - 10, 12, full / 2]), [1, 3]);
        assert_eq!(merge_candidates(&[full / 2, full / 2]), [0, 1]);
        let mut sizes: Vec<usize> = Vec::new();
        for _ in 0..1000 {
            sizes.push(100);
            let merged = merge_candidates(&sizes);
            if !merged.is_empty() {
                let sum = merged.iter().map(|i| sizes[*i]).sum();
                sizes = sizes.iter().enumerate().filter(|(i, _)| !merged.contains(i)).map(|(_, size)| *size).collect();
                sizes.push(sum);
            }
            assert!(sizes.len() <= 6, "{sizes:?}");
        }
        assert_eq!(sizes.iter().sum::<usize>(), 100_000);
    }
}
