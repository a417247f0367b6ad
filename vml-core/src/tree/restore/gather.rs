//! Gathers what is to be written by where its data stands, so that a frame is decoded once for all of it.
//!
//! A tree's files are spread over the packs of every save that changed some of them. Taken in the tree's order they would ask for
//! more frames in turn than can be kept. So they wait for others of the same frame, as long as there is room to wait.

use std::collections::{BTreeMap, VecDeque};
use vml_chunk::PackId;
use vml_chunk::index::Location;

/// How many frames that have gone may be remembered before they are cleared away.
const MET_SLACK: usize = 64;

/// Jobs that wait, by the frame that they begin in.
pub(super) struct Gather<J> {
    frames: Frames<J>,
    /// The frames as they were met, each with its number; one that went with others is still in it.
    met: VecDeque<(u64, PackId, u32)>,
    /// Those of which as much is wanted as they have, as they became so.
    ready: VecDeque<(u64, PackId, u32)>,
    next_number: u64,
    weight: usize,
}

struct Waiting<J> {
    number: u64,
    compacted: bool,
    /// Bytes of the frame that nothing waits for yet.
    missing: u64,
    weight: usize,
    jobs: Vec<J>,
}

impl<J> Default for Gather<J> {
    fn default() -> Self {
        Self { frames: BTreeMap::new(), met: VecDeque::new(), ready: VecDeque::new(), next_number: 0, weight: 0 }
    }
}

impl<J> Gather<J> {
    /// What those weigh that wait.
    pub(super) fn weight(&self) -> usize {
        self.weight
    }

    /// Adds a job of this weight that wants `len` bytes of the frame at `location`.
    pub(super) fn add(&mut self, location: &Location, len: u64, weight: usize, job: J) {
        let (pack, offset) = (location.pack, location.frame_offset);
        let waiting = self.frames.entry((pack, offset)).or_insert_with(|| {
            let number = self.next_number;
            self.next_number += 1;
            self.met.push_back((number, pack, offset));
            Waiting { number, compacted: location.compacted, missing: u64::from(location.plain_len), weight: 0, jobs: Vec::new() }
        });
        waiting.jobs.push(job);
        waiting.weight += weight;
        self.weight += weight;
        // One in a group is better taken along with others.
        if waiting.missing > 0 && !waiting.compacted {
            waiting.missing = waiting.missing.saturating_sub(len);
            if waiting.missing == 0 {
                self.ready.push_back((waiting.number, pack, offset));
            }
        }
    }

    /// Takes the jobs of a frame of which probably nothing more will be wanted: who has nothing to do loses nothing by it.
    pub(super) fn take_ready(&mut self) -> Option<Vec<J>> {
        let first = next_of(&self.frames, &mut self.ready)?;
        self.take(first)
    }

    /// Takes the jobs of a frame that is ready, else of the one that was met first. In a pack that was compacted a frame is decoded after those before it, so
    /// what waits for those behind it goes along, in their order.
    pub(super) fn take_one(&mut self) -> Option<Vec<J>> {
        let first = next_of(&self.frames, &mut self.ready).or_else(|| next_of(&self.frames, &mut self.met))?;
        self.take(first)
    }

    fn take(&mut self, first: (PackId, u32)) -> Option<Vec<J>> {
        let mut taken = self.frames.remove(&first)?;
        if taken.compacted {
            let behind: Vec<_> = self.frames.range(first..=(first.0, u32::MAX)).map(|(place, _)| *place).collect();
            for waiting in behind.iter().filter_map(|place| self.frames.remove(place)) {
                taken.weight += waiting.weight;
                taken.jobs.extend(waiting.jobs);
            }
        }
        self.weight -= taken.weight;
        // Those that went by another way are still in both lists.
        if self.met.len() > 2 * self.frames.len() + MET_SLACK {
            let frames = &self.frames;
            self.met.retain(|met| is_there(frames, met));
            self.ready.retain(|met| is_there(frames, met));
        }
        Some(taken.jobs)
    }
}

type Frames<J> = BTreeMap<(PackId, u32), Waiting<J>>;

fn is_there<J>(frames: &Frames<J>, (number, pack, offset): &(u64, PackId, u32)) -> bool {
    frames.get(&(*pack, *offset)).is_some_and(|waiting| waiting.number == *number)
}

/// The first of a list that still waits.
fn next_of<J>(frames: &Frames<J>, list: &mut VecDeque<(u64, PackId, u32)>) -> Option<(PackId, u32)> {
    loop {
        let met = list.pop_front()?;
        if is_there(frames, &met) {
            return Some((met.1, met.2));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use vml_chunk::pack::PackKind;

    fn at(pack: u8, frame_offset: u32, compacted: bool) -> Location {
        let (stored_len, plain_len, chunk_offset, chunk_len) = (100, 400, 0, 40);
        let pack = PackId::from_bytes([pack; 32]);
        Location { pack, kind: PackKind::Data, compacted, frame_offset, stored_len, plain_len, chunk_offset, chunk_len }
    }

    #[test]
    fn what_one_frame_has_goes_together_and_the_frame_met_first_goes_first() {
        let mut gather = Gather::default();
        for (number, (pack, offset)) in [(1, 100), (1, 0), (2, 0), (1, 100), (2, 0)].into_iter().enumerate() {
            gather.add(&at(pack, offset, false), 40, 10, number);
        }
        assert_eq!((gather.weight(), gather.take_ready()), (50, None));
        assert_eq!(gather.take_one(), Some(vec![0, 3]));
        // Met anew, it is the last.
        gather.add(&at(1, 100, false), 40, 10, 5);
        assert_eq!([gather.take_one(), gather.take_one()], [Some(vec![1]), Some(vec![2, 4])]);
        assert_eq!((gather.take_one(), gather.weight(), gather.take_one()), (Some(vec![5]), 0, None));
    }

    #[test]
    fn a_frame_of_which_all_is_wanted_is_ready_and_what_has_gone_is_forgotten() {
        let mut gather = Gather::default();
        for round in 0..200 {
            gather.add(&at(2, 0, false), 1, 10, round);
            gather.add(&at(1, 0, false), 399, 10, round);
            assert_eq!(gather.take_ready(), None);
            gather.add(&at(1, 0, false), 1, 10, round);
            // One more that wants of it what another one does.
            gather.add(&at(1, 0, false), 1, 10, round);
            let taken = if round % 2 == 0 { gather.take_ready() } else { gather.take_one() };
            assert_eq!(taken, Some(vec![round; 3]));
            assert!(gather.met.len() <= 2 + MET_SLACK && gather.ready.len() <= 2, "what has gone is forgotten");
        }
        assert_eq!((gather.weight(), gather.take_ready()), (2000, None));
        assert_eq!(gather.take_one().map(|jobs| jobs.len()), Some(200));
        assert_eq!((gather.take_one(), gather.weight()), (None, 0));
    }

    #[test]
    fn of_a_compacted_pack_what_is_behind_goes_along_in_the_order_of_the_pack() {
        let mut gather = Gather::default();
        for (number, (pack, offset)) in [(1, 100), (1, 900), (2, 0), (1, 0), (1, 500), (1, 900)].into_iter().enumerate() {
            gather.add(&at(pack, offset, true), 400, 1, number);
        }
        assert_eq!(gather.take_ready(), None);
        assert_eq!(gather.take_one(), Some(vec![0, 4, 1, 5]));
        gather.add(&at(1, 900, true), 40, 1, 6);
        assert_eq!([gather.take_one(), gather.take_one()], [Some(vec![2]), Some(vec![3, 6])]);
        assert_eq!((gather.take_one(), gather.weight()), (None, 0));
    }
}
