//! What a server said of allocation, kept: one answer tells of many runs, which are asked for one by one.

use super::reply::Extents;
use super::wire::{STATE_HOLE, STATE_ZERO, lie};
use std::collections::VecDeque;
use vml_core::Result;

/// Answers that are kept; threads that read ahead and those that follow are in different ones.
const ANSWERS_MAX: usize = 4;
/// Runs that are kept of an answer.
const RUNS_MAX: usize = 128 << 10;

/// A run of an export.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct NbdRun {
    /// Length in bytes, at least 1.
    pub len: u64,
    /// Whether it reads as zeros.
    pub is_zero: bool,
    /// Whether no space is taken for it.
    pub is_hole: bool,
    /// Which image of a chain has it, from 1 on; 0 where none has. Known only if it was asked for at opening.
    pub depth: Option<u32>,
}

/// What was said of a part of the export.
struct Answer {
    start: u64,
    runs: Vec<Kept>,
}

#[derive(Clone, Copy, PartialEq, Eq)]
struct Kept {
    end: u64,
    state: u32,
    depth: Option<u32>,
}

/// The latest answers, the latest last.
#[derive(Default)]
pub(super) struct Runs(VecDeque<Answer>);

impl Runs {
    /// The run at `offset`, up to where it ends or the answer did.
    pub(super) fn at(&self, offset: u64) -> Option<NbdRun> {
        let holds = |answer: &&Answer| answer.start <= offset && answer.runs.last().is_some_and(|last| offset < last.end);
        let answer = self.0.iter().rfind(holds)?;
        let run = answer.runs.get(answer.runs.partition_point(|run| run.end <= offset))?;
        let (is_zero, is_hole) = (run.state & STATE_ZERO != 0, run.state & STATE_HOLE != 0);
        Some(NbdRun { len: run.end - offset, is_zero, is_hole, depth: run.depth })
    }

    /// Keeps an answer about `start`; `depths` are there if they were asked for.
    pub(super) fn keep(&mut self, start: u64, states: &Extents, depths: Option<&Extents>) -> Result<()> {
        let mut runs: Vec<Kept> = Vec::new();
        let mut end = start;
        let mut states = states.iter().copied();
        let mut depths = depths.map(|depths| depths.iter().copied());
        let (mut state, mut depth) = (states.next(), depths.as_mut().and_then(Iterator::next));
        // Both tell of the same bytes, cut in different places.
        while let Some((state_len, now)) = &mut state
            && runs.len() < RUNS_MAX
        {
            let len = match (&mut depth, &depths) {
                (Some((depth_len, _)), _) => (*depth_len).min(*state_len),
                (None, Some(_)) => break,
                (None, None) => *state_len,
            };
            end += u64::from(len);
            let run = Kept { end, state: *now, depth: depth.map(|(_, depth)| depth) };
            match runs.last_mut() {
                Some(last) if (last.state, last.depth) == (run.state, run.depth) => last.end = end,
                _ => runs.push(run),
            }
            *state_len -= len;
            if *state_len == 0 {
                state = states.next();
            }
            if let Some((depth_len, _)) = &mut depth {
                *depth_len -= len;
                if *depth_len == 0 {
                    depth = depths.as_mut().and_then(Iterator::next);
                }
            }
        }
        if end == start {
            return Err(lie("it says nothing of the bytes it was asked about"));
        }
        if self.0.len() == ANSWERS_MAX {
            self.0.pop_front();
        }
        self.0.push_back(Answer { start, runs });
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn states_and_depths_are_told_together() {
        let mut runs = Runs::default();
        runs.keep(100, &vec![(10, 0), (30, 3)], Some(&vec![(5, 1), (15, 2), (10, 1)])).unwrap();
        let at = |offset| runs.at(offset).map(|run| (run.len, run.is_zero, run.depth));
        assert_eq!(at(99), None);
        assert_eq!(at(100), Some((5, false, Some(1))));
        assert_eq!(at(107), Some((3, false, Some(2))));
        assert_eq!(at(110), Some((10, true, Some(2))));
        assert_eq!(at(129), Some((1, true, Some(1))));
        assert_eq!(at(130), None, "only as far as both tell");
        assert!(runs.keep(0, &Extents::new(), None).is_err());
    }
}
