//! Ids of chunks that were never there, in their order, without holding them.
//!
//! ```text
//! all 64-bit numbers, cut into equal ranges    | range 0 | range 1 | range 2 | …
//! in each so many ids, drawn evenly               · ·· ·    ··  ·     · · ··
//! ```
//! So they are spread as digests are, a few thousand at a time are sorted, and each can be computed from its number alone.

use vml_chunk::ChunkId;

/// Ids of a range.
const RANGE_IDS: u64 = 4096;

/// The ids of one segment.
#[derive(Debug, Clone, Copy)]
pub struct Ids {
    seed: u64,
    count: u64,
    /// 64-bit numbers in a range.
    width: u64,
    /// Chunk number `i` is the one that was stored as number `i * step % count`, in frames and packs; and the other way.
    step: u64,
    back: u64,
}

/// SplitMix64's finalizer: a number that looks drawn, and is always the same.
pub fn mix(value: u64) -> u64 {
    let mut z = value.wrapping_add(0x9e37_79b9_7f4a_7c15);
    z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    z ^ (z >> 31)
}

impl Ids {
    /// So many ids, at most 2^32 and at least one; others for each seed.
    pub fn new(seed: u64, count: u64) -> Self {
        let width = u64::MAX / count.div_ceil(RANGE_IDS);
        // About the golden section, so that neighbours by id are far from each other in the packs.
        let mut step = (count as f64 * 0.618) as u64 | 1;
        while gcd(step, count) != 1 {
            step += 2;
        }
        Self { seed, count, width, step: step % count.max(2), back: inverse(step % count.max(2), count) }
    }

    /// How many.
    pub fn count(&self) -> u64 {
        self.count
    }

    /// The id of chunk `number`, which is below the count. Numbers rise with ids only from one range to the next.
    pub fn id(&self, number: u64) -> ChunkId {
        let drawn = mix(mix(self.seed) ^ number);
        let mut bytes = [0; 32];
        bytes[..8].copy_from_slice(&((number / RANGE_IDS) * self.width + drawn % self.width).to_be_bytes());
        for (part, salt) in bytes[8..].chunks_mut(8).zip(1..) {
            part.copy_from_slice(&mix(drawn ^ salt).to_le_bytes());
        }
        ChunkId::from_bytes(bytes)
    }

    /// As which chunk of all it was stored.
    pub fn stored_as(&self, number: u64) -> u64 {
        number * self.step % self.count
    }

    /// Which chunk was stored as number `place`.
    pub fn stored_at(&self, place: u64) -> u64 {
        place * self.back % self.count
    }

    /// Calls `each` with id and number of all, in the order of ids.
    pub fn for_each<E>(&self, each: &mut dyn FnMut(ChunkId, u64) -> Result<(), E>) -> Result<(), E> {
        let mut range = Vec::with_capacity(RANGE_IDS as usize);
        for first in (0..self.count).step_by(RANGE_IDS as usize) {
            range.clear();
            range.extend((first..self.count.min(first + RANGE_IDS)).map(|number| (self.id(number), number)));
            range.sort_unstable();
            range.iter().try_for_each(|(id, number)| each(*id, *number))?;
        }
        Ok(())
    }
}

fn gcd(a: u64, b: u64) -> u64 {
    if b == 0 { a } else { gcd(b, a % b) }
}

/// The number by which `step` gives 1, modulo `count`; they have no common divisor.
fn inverse(step: u64, count: u64) -> u64 {
    let (mut old, mut new) = ((i128::from(step), 1_i128), (i128::from(count), 0_i128));
    while new.0 != 0 {
        let quotient = old.0 / new.0;
        (old, new) = (new, (old.0 - quotient * new.0, old.1 - quotient * new.1));
    }
    u64::try_from(old.1.rem_euclid(i128::from(count))).expect("below the count")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ids_come_in_order_each_once_and_have_a_place_each() {
        for count in [1, 2, 5, 4096, 4097, 30_000] {
            let ids = Ids::new(7, count);
            let mut last = None;
            let mut places = vec![false; usize::try_from(count).unwrap()];
            let walked = ids.for_each(&mut |id, number| {
                assert!(last < Some(id), "{count}: {number}");
                last = Some(id);
                let place = ids.stored_as(number);
                assert_eq!(ids.stored_at(place), number, "{count}");
                assert!(!std::mem::replace(&mut places[usize::try_from(place).unwrap()], true));
                assert_eq!(ids.id(number), id);
                Ok::<(), ()>(())
            });
            walked.unwrap();
            assert!(places.iter().all(|taken| *taken), "{count}");
        }
        assert_ne!(Ids::new(1, 10).id(3), Ids::new(2, 10).id(3));
    }
}
