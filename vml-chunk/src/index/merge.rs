//! Keeps segments few: small ones are merged into larger ones, streaming, in the manner of a log-structured merge.

use super::build::{SegmentLayout, count, flush_at, push_record};
use super::segment::{FrameRow, PackRow, Record, Segment};
use crate::error::Result;
use std::cmp::Reverse;
use std::collections::{BinaryHeap, HashMap};

/// How much larger each segment must be than all smaller ones together.
const RATIO: usize = 4;

/// Which of the segments, given by their record counts, to merge into one now: so many of the smallest that every one
/// left is at least four times what is below it. So n chunks stand in at most about log4(n) segments, and each record
/// is copied about as often. Empty when nothing needs merging.
pub fn merge_candidates(record_counts: &[usize]) -> Vec<usize> {
    let mut order: Vec<usize> = (0..record_counts.len()).collect();
    order.sort_by_key(|i| record_counts[*i]);
    let mut below = 0;
    let mut take = 0;
    for (position, i) in order.iter().enumerate() {
        if position > 0 && record_counts[*i] < below * RATIO {
            take = position + 1;
        }
        below += record_counts[*i];
    }
    order.truncate(take);
    order
}

/// Merges segments, handing the bytes of the new one to `out` in pieces. Records of packs for which `alive` is false
/// are left out.
///
/// # Errors
/// `InvalidInput` when the result has more rows than a segment can count, or whatever `out` says.
///
/// # Cost
/// Reads the inputs three times, in order; memory is the fan-out: half a byte a record.
pub fn merge_segments<T: AsRef<[u8]>>(
    inputs: &[&Segment<T>],
    alive: &dyn Fn(&PackRow) -> bool,
    out: &mut dyn FnMut(&[u8]) -> Result<()>,
) -> Result<()> {
    let tables = Tables::new(inputs, alive)?;
    let mut record_count = 0_usize;
    for_each_record(inputs, &tables, &mut |_| {
        record_count += 1;
        Ok(())
    })?;
    let mut layout = SegmentLayout::new(count(record_count)?);
    for_each_record(inputs, &tables, &mut |record| {
        layout.count(record);
        Ok(())
    })?;
    let mut hasher = blake3::Hasher::new();
    let mut hashed = |part: &[u8]| {
        hasher.update(part);
        out(part)
    };
    layout.write_head(&tables.packs, tables.frame_count, tables.frames(inputs), &mut hashed)?;
    let mut buffer = Vec::with_capacity(128 << 10);
    for_each_record(inputs, &tables, &mut |record| {
        push_record(&mut buffer, record);
        flush_at(&mut buffer, 64 << 10, &mut hashed)
    })?;
    flush_at(&mut buffer, 0, &mut hashed)?;
    let digest = hasher.finalize();
    out(digest.as_bytes())
}

/// How the packs and frames of the inputs are numbered in the output.
struct Tables {
    packs: Vec<PackRow>,
    /// For each input, the output's number of each pack; `None` for a dead one.
    pack_numbers: Vec<Vec<Option<u32>>>,
    /// For each input, the output's number of its first frame; dead packs' frames keep their place, so numbers only shift.
    first_frames: Vec<u32>,
    frame_count: usize,
}

impl Tables {
    fn new<T: AsRef<[u8]>>(inputs: &[&Segment<T>], alive: &dyn Fn(&PackRow) -> bool) -> Result<Self> {
        let mut known = HashMap::new();
        let mut tables = Self { packs: Vec::new(), pack_numbers: Vec::new(), first_frames: Vec::new(), frame_count: 0 };
        for input in inputs {
            let mut numbers = Vec::new();
            for i in 0..count(input.pack_count())? {
                let row = input.pack(i).filter(alive);
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
            tables.first_frames.push(count(tables.frame_count)?);
            tables.frame_count += input.frame_count();
        }
        count(tables.frame_count)?;
        Ok(tables)
    }

    fn frames<'a, T: AsRef<[u8]>>(&'a self, inputs: &'a [&Segment<T>]) -> impl Iterator<Item = FrameRow> + 'a {
        inputs.iter().enumerate().flat_map(move |(i, input)| {
            (0..input.frame_count()).map(move |number| {
                let row = u32::try_from(number).ok().and_then(|number| input.frame(number));
                let renumbered = row.and_then(|row| Some(FrameRow { pack: self.pack_number(i, row.pack)?, ..row }));
                // A dead pack's frame has no record that names it.
                renumbered.unwrap_or(FrameRow { pack: u32::MAX, offset: 0, stored_len: 0, plain_len: 0 })
            })
        })
    }

    fn pack_number(&self, input: usize, pack: u32) -> Option<u32> {
        self.pack_numbers[input].get(pack as usize).copied().flatten()
    }
}

/// Walks all records in order, each id once, numbered as in the output.
fn for_each_record<T: AsRef<[u8]>>(inputs: &[&Segment<T>], tables: &Tables, each: &mut dyn FnMut(&Record) -> Result<()>) -> Result<()> {
    let next = |input: usize, row: usize| (row < inputs[input].len()).then(|| Reverse((inputs[input].record(row).id, input, row)));
    let mut heap: BinaryHeap<_> = (0..inputs.len()).filter_map(|input| next(input, 0)).collect();
    let mut last = None;
    while let Some(Reverse((id, input, row))) = heap.pop() {
        heap.extend(next(input, row + 1));
        let mut record = inputs[input].record(row);
        let known = inputs[input].frame(record.frame).and_then(|frame| tables.pack_number(input, frame.pack));
        if last == Some(id) || known.is_none() {
            continue;
        }
        last = Some(id);
        record.frame += tables.first_frames[input];
        each(&record)?;
    }
    Ok(())
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
