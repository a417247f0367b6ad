//! Which chunks are needed: bits over the rows of the index, and what they add up to for each pack.

use super::plan::PackUse;
use crate::id::{ChunkId, PackId};
use crate::index::{IndexView, PackRow, RowBits};
use crate::pack::PackKind;
use std::collections::{HashMap, HashSet};
use std::sync::Arc;

/// Ways in which a caller walks on below a chunk. One chunk can be met in several of them, because what is a listing here may be the content
/// of a file there; each way has bits of its own.
pub const WALKS: usize = 3;

/// A set of live chunks, and of those below which the caller has been.
///
/// # Cost
/// Half a byte for each row of the index: 48 MiB for a hundred million chunks. What was stored after the index was looked at costs 33 bytes a chunk that is
/// walked below, and nothing for others: it is in no pack that goes.
pub struct Marks {
    view: Arc<IndexView>,
    live: RowBits,
    walked: [RowBits; WALKS],
    late: HashSet<(usize, ChunkId)>,
}

impl Marks {
    /// None yet, over the chunks of `view`.
    pub fn new(view: Arc<IndexView>) -> Self {
        let none = || RowBits::new(&view);
        Self { live: none(), walked: std::array::from_fn(|_| none()), late: HashSet::new(), view }
    }

    /// The chunk is needed. Tells whether the index has it.
    pub fn mark(&mut self, id: &ChunkId) -> bool {
        let Some((segment, row)) = self.view.position(id) else { return false };
        self.live.insert(segment, row);
        true
    }

    /// The chunk is needed, and the caller walks on below it in way `walk`; tells whether it was not there before.
    pub fn enter(&mut self, walk: usize, id: &ChunkId) -> bool {
        let Some((segment, row)) = self.view.position(id) else { return self.late.insert((walk, *id)) };
        self.live.insert(segment, row);
        self.walked[walk].insert(segment, row)
    }

    /// Forgets below which chunks the caller has been; what is needed stays so.
    pub fn walk_anew(&mut self) {
        self.walked.iter_mut().for_each(RowBits::clear);
        self.late.clear();
    }

    /// Whether the chunk is needed.
    pub fn is_live(&self, id: &ChunkId) -> bool {
        self.view.position(id).is_some_and(|(segment, row)| self.live.contains(segment, row))
    }

    /// Bytes of memory that it takes, beside the index, which is mapped.
    pub fn memory_len(&self) -> usize {
        let bits = std::iter::once(&self.live).chain(&self.walked).map(RowBits::memory_len).sum::<usize>();
        bits + self.late.capacity() * (size_of::<(usize, ChunkId)>() + 1)
    }

    /// What each pack holds of it. A chunk in several packs counts in one. `held` are packs that a writer is not done with.
    ///
    /// # Cost
    /// Reads the index once, in order; memory is four bytes a frame.
    pub fn measure(&self, held: &dyn Fn(PackKind, &PackId) -> bool) -> Vec<PackUse> {
        let mut uses: HashMap<(PackKind, PackId), PackUse> = HashMap::new();
        for row in self.view.packs() {
            let held = held(row.kind, &row.id);
            uses.insert((row.kind, row.id), PackUse { pack: row, live_chunks_count: 0, live_bytes: 0, dense_bytes: 0, held });
        }
        for number in 0..self.view.segments().count() {
            let segment = self.view.segment(number);
            let mut frames = vec![(0_u32, 0_u32); segment.frame_count()];
            for record in segment.scan_rows(self.live.rows(number), self.live.is_dense(number)) {
                if let Some((chunks, bytes)) = frames.get_mut(record.frame as usize) {
                    *chunks += 1;
                    *bytes = bytes.saturating_add(record.len);
                }
            }
            for (frame, (chunks, bytes)) in frames.into_iter().enumerate().filter(|(_, (chunks, _))| *chunks > 0) {
                let row =
                    u32::try_from(frame).ok().and_then(|frame| segment.frame(frame)).filter(|row| self.view.is_there(number, row.pack));
                let Some(row) = row else { continue };
                let pack: Option<PackRow> = segment.pack(row.pack);
                if let Some(pack_use) = pack.and_then(|pack| uses.get_mut(&(pack.kind, pack.id))) {
                    pack_use.live_chunks_count += u64::from(chunks);
                    let live_bytes = u64::from(row.stored_len) * u64::from(bytes.min(row.plain_len)) / u64::from(row.plain_len.max(1));
                    pack_use.live_bytes += live_bytes;
                    // By a sixteenth.
                    if u64::from(row.stored_len) * 16 > u64::from(row.plain_len) * 15 {
                        pack_use.dense_bytes += live_bytes;
                    }
                }
            }
        }
        let mut uses: Vec<PackUse> = uses.into_values().collect();
        uses.sort_unstable_by_key(|pack_use| (pack_use.pack.kind, pack_use.pack.id));
        uses
    }
}
