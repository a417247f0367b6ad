//! Which chunks are damaged: bits over the rows of the index.

use super::examine::{PackReport, Verdict};
use crate::id::{ChunkId, PackId};
use crate::index::{IndexView, RowBits};
use crate::pack::PackKind;
use std::collections::HashMap;
use std::sync::Arc;

/// The records of an index behind which there is nothing sound.
///
/// # Cost
/// A bit for each row of the index.
pub struct BadRows {
    view: Arc<IndexView>,
    bits: RowBits,
}

impl BadRows {
    /// None in `view`.
    pub fn new(view: Arc<IndexView>) -> Self {
        Self { bits: RowBits::new(&view), view }
    }

    /// Adds what was found in packs.
    pub fn add(&mut self, reports: &[PackReport]) {
        for report in reports.iter().filter(|report| matches!(report.verdict, Verdict::Damaged(_)) && report.sound.is_none()) {
            for id in &report.bad {
                for (segment, row, place) in self.view.places(id) {
                    if (place.kind, place.pack) == (report.kind, report.id) {
                        self.bits.insert(segment, row);
                    }
                }
            }
        }
        // Of these it is only known what is sound, or that nothing can be read.
        let partly = reports.iter().filter(|report| {
            matches!(report.verdict, Verdict::Unreadable(_)) || (matches!(report.verdict, Verdict::Damaged(_)) && report.sound.is_some())
        });
        let partly: HashMap<(PackKind, PackId), &PackReport> = partly.map(|report| ((report.kind, report.id), report)).collect();
        if partly.is_empty() {
            return;
        }
        let bits = &mut self.bits;
        self.view.for_each_record_in(&|pack| partly.contains_key(&(pack.kind, pack.id)), &mut |segment, row, pack, id| {
            let sound = partly.get(&(pack.kind, pack.id)).and_then(|report| report.sound.as_ref());
            if sound.is_none_or(|sound| !sound.contains(id)) {
                bits.insert(segment, row);
            }
        });
    }

    /// Whether a chunk of this length is in a pack, and there not known to be damaged.
    pub fn is_sound(&self, id: &ChunkId, len: u32) -> bool {
        self.view.places(id).any(|(segment, row, place)| place.chunk_len == len && !self.bits.contains(segment, row))
    }
}
