//! Which packs go; a pure function of what each holds.

use crate::index::PackRow;

/// A pack and what is needed of it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct PackUse {
    /// The pack.
    pub pack: PackRow,
    /// How many of its chunks are needed.
    pub live_chunks_count: u64,
    /// About how many of its bytes that is.
    pub live_bytes: u64,
    /// How many of these are in frames that hardly shrank.
    pub dense_bytes: u64,
    /// Whether a writer is not done with it.
    pub held: bool,
}

impl PackUse {
    /// About how many of its bytes nobody needs.
    pub fn dead_bytes(&self) -> u64 {
        self.pack.len.saturating_sub(self.live_bytes)
    }

    /// A pack of which more than half is dead; footer and headers count as dead, so a small one is left alone for them.
    fn is_mostly_dead(&self) -> bool {
        self.dead_bytes() > self.pack.len / 2 && self.dead_bytes() > SMALLEST_GAIN
    }
}

/// Less than this is not worth a copy.
const SMALLEST_GAIN: u64 = 64 << 10;
/// Packs taken away at once: their names are one record, and 100,000 packs are 25 TB.
pub(super) const PACKS_MAX: usize = 100_000;

/// How far a collection goes.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct PlanOptions {
    /// Most bytes that are copied out of packs that are mostly dead; no limit when there is none.
    pub repack_max: Option<u64>,
}

/// What a collection is going to do.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Plan {
    /// Packs of which nothing is needed.
    pub delete: Vec<PackUse>,
    /// Packs whose live chunks are copied out before they go, those with the largest dead part first.
    pub repack: Vec<PackUse>,
    /// Packs that stay.
    pub kept_packs_count: u64,
    /// Their bytes.
    pub kept_bytes: u64,
    /// About how many of these nobody needs.
    pub kept_dead_bytes: u64,
    /// Packs among them that stay because a writer is not done with them.
    pub held_packs_count: u64,
}

impl Plan {
    /// Bytes of packs that go.
    pub fn freed_bytes(&self) -> u64 {
        self.delete.iter().chain(&self.repack).map(|pack_use| pack_use.pack.len).sum()
    }

    /// About how many bytes are copied out of them.
    pub fn copied_bytes(&self) -> u64 {
        self.repack.iter().map(|pack_use| pack_use.live_bytes).sum()
    }

    /// The packs that go.
    pub fn packs(&self) -> impl Iterator<Item = &PackRow> {
        self.delete.iter().chain(&self.repack).map(|pack_use| &pack_use.pack)
    }
}

/// Decides.
pub fn plan(mut uses: Vec<PackUse>, options: PlanOptions) -> Plan {
    // By the share of dead bytes, compared without a division; then by name, so that equals come in a fixed order.
    uses.sort_by(|a, b| {
        let (left, right) = (u128::from(a.dead_bytes()) * u128::from(b.pack.len), u128::from(b.dead_bytes()) * u128::from(a.pack.len));
        right.cmp(&left).then_with(|| a.pack.id.cmp(&b.pack.id))
    });
    let mut plan = Plan::default();
    let mut room = options.repack_max.unwrap_or(u64::MAX);
    for pack_use in uses {
        let full = plan.delete.len() + plan.repack.len() >= PACKS_MAX;
        if pack_use.live_chunks_count == 0 && !pack_use.held && !full {
            plan.delete.push(pack_use);
        } else if pack_use.is_mostly_dead() && pack_use.live_bytes <= room && !pack_use.held && !full {
            room -= pack_use.live_bytes;
            plan.repack.push(pack_use);
        } else {
            plan.kept_packs_count += 1;
            plan.kept_bytes += pack_use.pack.len;
            plan.kept_dead_bytes += pack_use.dead_bytes();
            plan.held_packs_count += u64::from(pack_use.held);
        }
    }
    plan
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::id::PackId;
    use crate::pack::PackKind;
    use proptest::prelude::*;

    fn pack(name: u64, len: u64, chunks: u64, live: u64, held: bool) -> PackUse {
        let row = PackRow { id: PackId::of(&name.to_le_bytes()), len, kind: PackKind::Data, compaction: 0 };
        PackUse { pack: row, live_chunks_count: chunks, live_bytes: live, dense_bytes: 0, held }
    }

    #[test]
    fn what_is_dead_goes_what_is_mostly_dead_is_copied_and_what_is_held_stays() {
        let (dead, mostly, half) =
            (pack(1, 1 << 20, 0, 0, false), pack(2, 1 << 20, 9, 100_000, false), pack(3, 1 << 20, 9, 600_000, false));
        let held = pack(4, 1 << 20, 0, 0, true);
        let small = pack(5, 5000, 1, 10, false);
        let plan = plan(vec![half, small, mostly, held, dead], PlanOptions::default());
        assert_eq!((plan.delete, plan.repack), (vec![dead], vec![mostly]));
        assert_eq!((plan.kept_packs_count, plan.held_packs_count, plan.kept_bytes), (3, 1, (2 << 20) + 5000));
    }

    proptest! {
        #[test]
        fn nothing_is_forgotten_and_limits_hold(
            packs in proptest::collection::vec((0_u64..1 << 24, 0_u64..3, 0_u64..=100, any::<bool>()), 0..60),
            limit in proptest::option::of(0_u64..1 << 25),
        ) {
            let uses: Vec<PackUse> = packs
                .iter()
                .enumerate()
                .map(|(i, (len, chunks, percent, held))| pack(i as u64, *len, *chunks, if *chunks == 0 { 0 } else { len * percent / 100 }, *held))
                .collect();
            let made = plan(uses.clone(), PlanOptions { repack_max: limit });
            prop_assert_eq!(made.delete.len() + made.repack.len() + made.kept_packs_count as usize, uses.len());
            prop_assert_eq!(made.freed_bytes() + made.kept_bytes, uses.iter().map(|u| u.pack.len).sum::<u64>());
            prop_assert!(made.delete.iter().all(|u| u.live_chunks_count == 0 && !u.held));
            prop_assert!(made.repack.iter().all(|u| u.live_chunks_count > 0 && !u.held && u.live_bytes * 2 <= u.pack.len));
            prop_assert!(made.copied_bytes() <= limit.unwrap_or(u64::MAX));
            prop_assert_eq!(uses.iter().filter(|u| u.live_chunks_count == 0 && !u.held).count(), made.delete.len());
            let mut turned = uses;
            turned.reverse();
            prop_assert_eq!(plan(turned, PlanOptions { repack_max: limit }), made, "the order does not matter");
        }
    }
}
