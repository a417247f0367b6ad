//! Decides how wanted chunks cross: frames of which most is wanted as they are, the rest, and what was compacted, in frames made anew.

use super::{FrameAt, PARCEL_TARGET};
use std::collections::{HashMap, VecDeque};
use vml_chunk::{ChunkId, PackKind};

/// Frames of which part was told so far. Chunks of a frame come near each other, in the order in which they were saved.
const OPEN_MAX: usize = 256;
/// A frame crosses as it is if no more than one part in so many of it is not wanted.
const WASTED_PART: u64 = 4;
/// Plain bytes of chunks that one job makes frames of.
const COMPOSED_LEN: u64 = 4 << 20;
/// Chunks of such a job.
const COMPOSED_MAX: usize = 1 << 12;

/// What to do at once.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Job {
    /// Frames as they are, each with its wanted chunks.
    Fetch(Vec<(FrameAt, Vec<ChunkId>)>),
    /// Chunks out of frames.
    Compose(PackKind, Vec<ChunkId>),
}

struct Open {
    chunks: Vec<(ChunkId, u32)>,
    wanted_len: u64,
}

/// Collects wanted chunks into jobs; memory is bounded.
#[derive(Default)]
pub(super) struct Planner {
    open: HashMap<FrameAt, Open>,
    /// The open frames, those that were met first in front; some may be closed by now.
    order: VecDeque<FrameAt>,
    fetch: Vec<(FrameAt, Vec<ChunkId>)>,
    fetch_len: usize,
    compose: [(Vec<ChunkId>, u64); 2],
    jobs: Vec<Job>,
}

impl Planner {
    /// A chunk in `frame` is wanted; no chunk is told twice.
    pub(super) fn want(&mut self, frame: FrameAt, id: ChunkId, len: u32) {
        let open = self.open.entry(frame).or_insert_with(|| {
            self.order.push_back(frame);
            Open { chunks: Vec::new(), wanted_len: 0 }
        });
        open.chunks.push((id, len));
        open.wanted_len += u64::from(len);
        if open.wanted_len >= u64::from(frame.plain_len) {
            self.close(&frame);
        }
        while self.open.len() > OPEN_MAX {
            self.close_first();
        }
        // Frames that were closed in their turn stay behind in the order.
        if self.order.len() > 4 * OPEN_MAX {
            self.order.retain(|frame| self.open.contains_key(frame));
        }
    }

    /// Jobs that are complete.
    pub(super) fn take(&mut self) -> Vec<Job> {
        std::mem::take(&mut self.jobs)
    }

    /// The last jobs.
    pub(super) fn finish(mut self) -> Vec<Job> {
        while !self.order.is_empty() {
            self.close_first();
        }
        self.end_fetch();
        for kind in PackKind::ALL {
            self.end_compose(kind);
        }
        self.jobs
    }

    fn close_first(&mut self) {
        if let Some(frame) = self.order.pop_front() {
            self.close(&frame);
        }
    }

    fn close(&mut self, frame: &FrameAt) {
        let Some(open) = self.open.remove(frame) else { return };
        let wasted = u64::from(frame.plain_len).saturating_sub(open.wanted_len);
        if frame.alone && wasted <= u64::from(frame.plain_len) / WASTED_PART {
            self.fetch_len += frame.stored_len as usize;
            self.fetch.push((*frame, open.chunks.into_iter().map(|(id, _)| id).collect()));
            if self.fetch_len >= PARCEL_TARGET {
                self.end_fetch();
            }
            return;
        }
        for (id, len) in open.chunks {
            let (chunks, sum) = &mut self.compose[usize::from(frame.kind.number())];
            chunks.push(id);
            *sum += u64::from(len);
            if *sum >= COMPOSED_LEN || chunks.len() >= COMPOSED_MAX {
                self.end_compose(frame.kind);
            }
        }
    }

    fn end_fetch(&mut self) {
        self.fetch_len = 0;
        let frames = std::mem::take(&mut self.fetch);
        if !frames.is_empty() {
            self.jobs.push(Job::Fetch(frames));
        }
    }

    fn end_compose(&mut self, kind: PackKind) {
        let (chunks, _) = std::mem::take(&mut self.compose[usize::from(kind.number())]);
        if !chunks.is_empty() {
            self.jobs.push(Job::Compose(kind, chunks));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use vml_chunk::PackId;

    fn frame(number: u32, plain_len: u32) -> FrameAt {
        FrameAt { kind: PackKind::Data, pack: PackId::of(b"pack"), offset: number, stored_len: 1000, plain_len, alone: true }
    }

    fn id(number: u32) -> ChunkId {
        ChunkId::of(&number.to_le_bytes())
    }

    #[test]
    fn frames_that_are_wanted_cross_as_they_are_and_others_in_pieces() {
        let mut planner = Planner::default();
        planner.want(frame(1, 100), id(1), 60);
        planner.want(frame(2, 100), id(2), 60);
        planner.want(frame(1, 100), id(3), 40);
        planner.want(frame(3, 100), id(4), 80);
        assert_eq!(planner.take(), []);
        let jobs = planner.finish();
        assert_eq!(
            jobs,
            [
                Job::Fetch(vec![(frame(1, 100), vec![id(1), id(3)]), (frame(3, 100), vec![id(4)])]),
                Job::Compose(PackKind::Data, vec![id(2)])
            ]
        );
        let mut planner = Planner::default();
        planner.want(FrameAt { alone: false, ..frame(1, 100) }, id(1), 100);
        assert_eq!(planner.finish(), [Job::Compose(PackKind::Data, vec![id(1)])]);
    }

    #[test]
    fn what_is_kept_is_bounded_and_each_chunk_has_one_job() {
        let mut planner = Planner::default();
        let mut seen = Vec::new();
        let count = |jobs: Vec<Job>, seen: &mut Vec<ChunkId>| {
            for job in jobs {
                match job {
                    Job::Fetch(frames) => seen.extend(frames.into_iter().flat_map(|(_, ids)| ids)),
                    Job::Compose(_, ids) => seen.extend(ids),
                }
            }
        };
        for number in 0..5000_u32 {
            planner.want(frame(number * 7 % 1000, 100), id(number), 20);
            assert!(planner.open.len() <= OPEN_MAX && planner.order.len() <= 4 * OPEN_MAX);
            count(planner.take(), &mut seen);
        }
        count(planner.finish(), &mut seen);
        let mut expected: Vec<_> = (0..5000).map(id).collect();
        seen.sort_unstable();
        expected.sort_unstable();
        assert_eq!(seen, expected);
    }
}
