//! What of a disk has to be read: decided by extents and by what is known, before a byte is.

use super::cut::ZONE_LEN;
use super::read::checked_extent;
use super::{Disk, ExtentKind};
use std::ops::Range;
use vml_chunk::Result;

/// One step of a capture; steps cover the disk in order.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Step {
    /// As the known state has it; whole zones.
    Known(Range<u64>),
    /// No data; whole zones.
    Hole(Range<u64>),
    /// To be read.
    Zone(Zone),
}

/// A zone that has to be read.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Zone {
    pub(super) range: Range<u64>,
    /// Its ranges that may differ from the known state; `None` when nothing is known of it.
    pub(super) changed: Option<Vec<Range<u64>>>,
}

/// Makes the steps, one after the other.
pub(super) struct Plan<'a> {
    disk: &'a dyn Disk,
    known: Option<Known<'a>>,
    at: u64,
}

struct Known<'a> {
    len: u64,
    /// Changed ranges that do not end before the place the plan has reached.
    changed: &'a [Range<u64>],
}

impl<'a> Plan<'a> {
    /// `known` is the length of the known state and the sorted ranges in which the disk may differ from it.
    pub(super) fn new(disk: &'a dyn Disk, known: Option<(u64, &'a [Range<u64>])>) -> Self {
        Self { disk, known: known.map(|(len, changed)| Known { len, changed }), at: 0 }
    }

    pub(super) fn next_step(&mut self) -> Result<Option<Step>> {
        let (start, len) = (self.at, self.disk.len());
        if start >= len {
            return Ok(None);
        }
        let end = (start + ZONE_LEN).min(len);
        let mut changed = None;
        // What a shorter known disk ends within is read.
        if let Some(known) = &mut self.known
            && end <= known.len
        {
            let passed = known.changed.iter().take_while(|range| range.end <= start).count();
            known.changed = &known.changed[passed..];
            let next = known.changed.first().map_or(u64::MAX, |range| range.start.max(start));
            if next >= end {
                // Up to the zone of the next change, but not beyond what is known.
                let known_end = if known.len >= len { len } else { floor(known.len) };
                self.at = if next < known_end { floor(next) } else { known_end };
                return Ok(Some(Step::Known(start..self.at)));
            }
            let inside = known.changed.iter().take_while(|range| range.start < end);
            changed = Some(inside.map(|range| range.start.max(start)..range.end.min(end)).collect());
        }
        let reach = self.hole_end(start, if self.known.is_some() { end } else { len })?;
        let whole = if reach >= len { len } else { floor(reach) };
        if whole > start {
            self.at = whole;
            return Ok(Some(Step::Hole(start..whole)));
        }
        self.at = end;
        Ok(Some(Step::Zone(Zone { range: start..end, changed })))
    }

    /// Where the run without data that begins at `start` ends, or `start`; not beyond `limit`.
    fn hole_end(&self, start: u64, limit: u64) -> Result<u64> {
        let mut at = start;
        while at < limit {
            let extent = checked_extent(self.disk, at)?;
            if extent.kind == ExtentKind::Data {
                break;
            }
            at = at.saturating_add(extent.len);
        }
        Ok(at.min(limit))
    }
}

fn floor(position: u64) -> u64 {
    position - position % ZONE_LEN
}

/// The ranges of a disk that the topmost `layers` images have something in, sorted and apart: where it may differ from
/// what the images below them show.
///
/// # Errors
/// As [`Disk::extent_at`].
pub fn changed_above(disk: &dyn Disk, layers: usize) -> Result<Vec<Range<u64>>> {
    let mut ranges: Vec<Range<u64>> = Vec::new();
    let mut at = 0;
    while at < disk.len() {
        let extent = checked_extent(disk, at)?;
        let end = at.saturating_add(extent.len).min(disk.len());
        if extent.layer < layers && layers > 0 {
            match ranges.last_mut() {
                Some(last) if last.end == at => last.end = end,
                _ => ranges.push(at..end),
            }
        }
        at = end;
    }
    Ok(ranges)
}
