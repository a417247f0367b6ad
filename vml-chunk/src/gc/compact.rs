//! Compaction: a collection that takes whole packs away and writes what is needed of them anew, at a high level and in groups.
//!
//! ```text
//! plan         packs of data that were not compacted yet; those that are small are joined when others go      pure
//! quarantine   as of any collection; it is one, and whatever became of it the next one goes on
//! copy         chunk by chunk in the order of whoever reads them most, then what is left of each pack
//! delete       as of any collection
//! ```
//! A pack that is full is published and stays, whenever the compaction ends: the next one finds the chunks of a pack that goes in one that stays, and has them not to do.

use super::plan::{PACKS_MAX, PackUse, Plan};
use crate::error::Result;
use crate::id::ChunkId;
use crate::pack::PackKind;

/// zstd's level where none is said.
pub const COMPACTION_LEVEL: u8 = 19;
/// A compacted pack that is shorter is joined with others, when there is something to compact.
const SMALL_LEN: u64 = 4 << 20;
/// About what is left of a hundred bytes that were compressed at level 3, as it was measured at levels 3, 9 and 19 (`docs/storage.md`).
const fn left_percent(level: u8) -> u64 {
    match level {
        0..9 => 95,
        9..19 => 90,
        _ => 79,
    }
}

/// Takes one chunk over.
pub type TakeOver<'a> = &'a mut dyn FnMut(&ChunkId) -> Result<()>;

/// How what is copied is written.
pub struct Compaction<'a> {
    /// zstd's level, 1 to 19.
    pub level: u8,
    /// Called once, with a function that takes a chunk over: it calls that with ids in the order in which they are to stand. Those that are in no pack that goes,
    /// or that it is told twice, are passed over. What it does not name comes after, in the order of the packs.
    pub order: &'a mut dyn FnMut(TakeOver<'_>) -> Result<()>,
}

/// What a compaction is going to do.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct CompactionPlan {
    /// Packs that go.
    pub plan: Plan,
    /// About how many bytes will be written instead of them.
    pub expected_bytes: u64,
}

/// Decides which packs of data are compacted at `level`: those that were not, or at a lower one, of at most `max` bytes together, the first of `uses` before others.
pub fn plan_compaction(mut uses: Vec<PackUse>, level: u8, max: Option<u64>) -> CompactionPlan {
    uses.sort_by_key(|pack_use| pack_use.pack.compaction);
    let mut made = CompactionPlan::default();
    let mut room = max.unwrap_or(u64::MAX);
    for pack_use in uses {
        let (pack, plan) = (pack_use.pack, &mut made.plan);
        let is_small = pack.len < SMALL_LEN && !(plan.repack.is_empty() && plan.delete.is_empty());
        let is_chosen = pack.kind == PackKind::Data && (pack.compaction < level || is_small);
        if !is_chosen || pack_use.held || pack.len > room || plan.delete.len() + plan.repack.len() >= PACKS_MAX {
            plan.kept_packs_count += 1;
            plan.kept_bytes += pack.len;
            plan.kept_dead_bytes += pack_use.dead_bytes();
            plan.held_packs_count += u64::from(pack_use.held);
            continue;
        }
        room -= pack.len;
        if pack_use.live_chunks_count == 0 {
            plan.delete.push(pack_use);
            continue;
        }
        let shrinks = if pack.compaction == 0 { pack_use.live_bytes.saturating_sub(pack_use.dense_bytes) } else { 0 };
        made.expected_bytes += pack_use.live_bytes - shrinks / 100 * (100 - left_percent(level));
        plan.repack.push(pack_use);
    }
    made
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::id::PackId;
    use crate::index::PackRow;

    fn pack(name: u8, kind: PackKind, len: u64, compaction: u8) -> PackUse {
        let row = PackRow { id: PackId::of(&[name]), len, kind, compaction };
        PackUse { pack: row, live_chunks_count: 9, live_bytes: len, dense_bytes: 0, held: false }
    }

    fn names(plan: &CompactionPlan) -> Vec<PackId> {
        let mut names: Vec<_> = plan.plan.packs().map(|pack| pack.id).collect();
        names.sort_unstable();
        names
    }

    fn ids(numbers: &[u8]) -> Vec<PackId> {
        let mut ids: Vec<_> = numbers.iter().map(|number| PackId::of(&[*number])).collect();
        ids.sort_unstable();
        ids
    }

    #[test]
    fn what_was_not_compacted_goes_with_what_is_small_and_nothing_else() {
        let (fresh, done, small) =
            (pack(1, PackKind::Data, 20 << 20, 0), pack(2, PackKind::Data, 20 << 20, 19), pack(3, PackKind::Data, 9000, 19));
        let (meta, low) = (pack(4, PackKind::Meta, 20 << 20, 0), pack(5, PackKind::Data, 20 << 20, 9));
        let held = PackUse { held: true, ..pack(6, PackKind::Data, 20 << 20, 0) };
        let dead = PackUse { live_chunks_count: 0, live_bytes: 0, ..pack(7, PackKind::Data, 1 << 20, 0) };
        let made = plan_compaction(vec![fresh, done, small, meta, low, held, dead], 19, None);
        assert_eq!(names(&made), ids(&[1, 3, 5, 7]));
        assert_eq!(made.plan.delete, [dead]);
        assert_eq!((made.plan.kept_packs_count, made.plan.held_packs_count), (3, 1));
        assert_eq!(made.expected_bytes, (20 << 20) / 100 * 79 + (20 << 20) % 100 + 9000 + (20 << 20));
        assert_eq!(names(&plan_compaction(vec![done, small, meta], 19, None)), []);
        let quick = plan_compaction(vec![fresh, done, low], 9, None);
        assert_eq!((names(&quick), quick.expected_bytes), (ids(&[1]), (20 << 20) / 100 * 90 + (20 << 20) % 100));
    }

    #[test]
    fn a_limit_bounds_what_goes_and_what_does_not_shrink_is_not_expected_to() {
        let packs: Vec<PackUse> = (0..9).map(|name| pack(name, PackKind::Data, 10 << 20, 0)).collect();
        assert_eq!(names(&plan_compaction(packs, 19, Some(35 << 20))).len(), 3);
        let dense = PackUse { dense_bytes: 10 << 20, ..pack(1, PackKind::Data, 10 << 20, 0) };
        assert_eq!(plan_compaction(vec![dense], 19, None).expected_bytes, 10 << 20);
    }
}
