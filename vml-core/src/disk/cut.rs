//! Where a disk is cut: a pure function of what the guest sees and of where its file system says that files lie.
//!
//! ```text
//! zone      8 MiB of the disk; nothing goes over its edge, so zones are captured side by side and taken over singly
//! file run  cut like the file in a tree: begins a chunk, ends one at the file's last byte
//! the rest  cut at blocks of zeros; near files also where a block's tail is zeros: tables and directories are blocks
//! ```
//! Zeros are no data, whatever the image file says of them, so all images of one guest have one recipe. Long runs of
//! zeros only inside files: a tree has short ones in its chunks.

use super::FileRun;
use std::ops::Range;

/// Bytes of a zone.
pub(crate) const ZONE_LEN: u64 = 8 << 20;
/// What zeros are looked for by.
const BLOCK_LEN: usize = 4 << 10;
/// Shortest run of zeros that is no data inside a file.
const FILE_ZEROS_MIN: usize = 64 << 10;
/// Fewest zeros at the end of a block that are its tail.
const TAIL_MIN: usize = 16;

/// A part of a disk.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Span {
    /// A stream of its own for the chunker.
    Data(Range<usize>),
    /// Zeros.
    Zeros(usize),
}

/// Splits `data`, which stands at `offset` of the disk, into spans that follow each other. `runs` are the disk's file runs,
/// sorted and apart; `tails` says whether blocks have tails.
pub(super) fn spans(data: &[u8], offset: u64, runs: &[FileRun], tails: bool) -> Vec<Span> {
    let mut spans = Spans(Vec::new());
    let end = offset + data.len() as u64;
    let first = runs.partition_point(|run| run.end <= offset);
    let mut at = 0;
    for run in runs[first..].iter().take_while(|run| run.start < end) {
        let place = |position: u64| usize::try_from(position.clamp(offset, end) - offset).expect("within data");
        let (start, stop) = (place(run.start).max(at), place(run.end));
        spans.push_rest(data, at..start, offset, tails);
        spans.push_file(data, start..stop.max(start));
        at = stop.max(start);
    }
    spans.push_rest(data, at..data.len(), offset, tails);
    spans.0
}

struct Spans(Vec<Span>);

impl Spans {
    fn zeros(&mut self, len: usize) {
        match self.0.last_mut() {
            _ if len == 0 => {}
            Some(Span::Zeros(before)) => *before += len,
            _ => self.0.push(Span::Zeros(len)),
        }
    }

    fn data(&mut self, range: Range<usize>) {
        if !range.is_empty() {
            self.0.push(Span::Data(range));
        }
    }

    fn push_file(&mut self, data: &[u8], range: Range<usize>) {
        let (mut start, mut at) = (range.start, range.start);
        while at < range.end {
            let zeros = zero_blocks(data, at, range.end, range.start);
            if zeros >= FILE_ZEROS_MIN {
                self.data(start..at);
                self.zeros(zeros);
                start = at + zeros;
            }
            at += zeros.max(BLOCK_LEN);
        }
        self.data(start..range.end);
    }

    fn push_rest(&mut self, data: &[u8], range: Range<usize>, offset: u64, tails: bool) {
        let mut start = range.start;
        let mut at = range.start;
        while at < range.end {
            // To the end of the block as the disk counts, which a file's end is within.
            let into = usize::try_from((offset + at as u64) % BLOCK_LEN as u64).expect("below a block");
            let stop = (at + BLOCK_LEN - into).min(range.end);
            let block = &data[at..stop];
            if is_zero(block) {
                self.data(start..at);
                self.zeros(block.len());
                start = stop;
            } else if tails {
                let kept = block.len() - trailing_zeros(block);
                if block.len() - kept >= TAIL_MIN {
                    self.data(start..at + kept);
                    self.zeros(block.len() - kept);
                    start = stop;
                }
            }
            at = stop;
        }
        self.data(start..range.end);
    }
}

/// Bytes of the whole zero blocks, counted from `origin`, that follow each other from `at` on; a shorter last one counts.
fn zero_blocks(data: &[u8], at: usize, end: usize, origin: usize) -> usize {
    debug_assert!((at - origin).is_multiple_of(BLOCK_LEN));
    let mut stop = at;
    while stop < end && is_zero(&data[stop..(stop + BLOCK_LEN).min(end)]) {
        stop = (stop + BLOCK_LEN).min(end);
    }
    stop - at
}

/// Whether there is nothing but zeros.
pub(super) fn is_zero(bytes: &[u8]) -> bool {
    static ZEROS: [u8; BLOCK_LEN] = [0; BLOCK_LEN];
    bytes.chunks(BLOCK_LEN).all(|part| *part == ZEROS[..part.len()])
}

fn trailing_zeros(block: &[u8]) -> usize {
    block.iter().rev().take_while(|byte| **byte == 0).count()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn disk() -> Vec<u8> {
        vec![0; 256 << 10]
    }

    #[test]
    fn zeros_are_no_data_and_everything_is_covered() {
        let mut data = disk();
        data[5000..9000].fill(1);
        let found = spans(&data, 0, &[], false);
        assert_eq!(found, [Span::Zeros(4096), Span::Data(4096..12288), Span::Zeros(data.len() - 12288)]);
    }

    #[test]
    fn a_file_is_a_stream_that_ends_with_its_last_byte() {
        let mut data = disk();
        data[8192..20000].fill(7);
        let runs = [FileRun { start: 1 << 20 | 12288, end: 1 << 20 | 20000 }];
        let found = spans(&data, 1 << 20, &runs, true);
        assert_eq!(found, [Span::Zeros(8192), Span::Data(8192..12288), Span::Data(12288..20000), Span::Zeros(data.len() - 20000)]);
    }

    #[test]
    fn short_zeros_inside_a_file_stay_in_it_and_long_ones_do_not() {
        let mut data = disk();
        data[..4096].fill(1);
        data[12288..16384].fill(1);
        data[200_000..].fill(1);
        let runs = [FileRun { start: 0, end: 256 << 10 }];
        let zeros = 196_608 - 16384;
        assert_eq!(spans(&data, 0, &runs, true), [Span::Data(0..16384), Span::Zeros(zeros), Span::Data(196_608..data.len())]);
    }

    #[test]
    fn the_tail_of_a_block_is_zeros_near_files_only() {
        let mut data = disk();
        data[..8192].fill(1);
        data[4080..4096].fill(0);
        assert_eq!(spans(&data, 0, &[], false)[0], Span::Data(0..8192));
        assert_eq!(spans(&data, 0, &[], true)[..3], [Span::Data(0..4080), Span::Zeros(16), Span::Data(4096..8192)]);
    }

    #[test]
    fn runs_that_go_beyond_the_part_are_clipped() {
        let data = vec![3; 64 << 10];
        let runs = [FileRun { start: 0, end: 1 << 20 }];
        assert_eq!(spans(&data, 65536, &runs, true), [Span::Data(0..65536)]);
        assert_eq!(spans(&data, 2 << 20, &runs, true), [Span::Data(0..65536)]);
    }
}
