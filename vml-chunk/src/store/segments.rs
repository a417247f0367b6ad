//! Keeps the index in order: few segments, and none that names packs which a collection took away.

use super::ChunkStore;
use super::damage::Damage;
use super::quarantine::Seen;
use crate::backend::PutOutcome;
use crate::error::{ErrorKind, Result};
use crate::id::PackId;
use crate::index::{INDEX_DIR, PackRow, Segment, merge_candidates, merge_segments};
use crate::pack::PackKind;
use std::collections::HashSet;

impl ChunkStore {
    /// Merges small segments, so that they stay few.
    pub(super) fn merge_index(&self) -> Result<()> {
        let changing = self.change_view();
        let view = self.view();
        let (names, counts): (Vec<String>, Vec<usize>) = view.segments().map(|(name, count)| (name.to_owned(), count)).unzip();
        if merge_candidates(&counts).is_empty() {
            return Ok(());
        }
        // What names a damaged pack waits for the repair that takes it out.
        let damage = Damage::read(self.backend.as_ref())?;
        let sound: Vec<usize> =
            (0..counts.len()).filter(|number| !view.packs_named_in(*number).any(|(kind, id)| damage.packs.contains(kind, &id))).collect();
        let sound_counts: Vec<usize> = sound.iter().map(|number| counts[*number]).collect();
        let chosen: Vec<usize> = merge_candidates(&sound_counts).into_iter().map(|chosen| sound[chosen]).collect();
        if chosen.is_empty() {
            return Ok(());
        }
        let inputs: Vec<_> = chosen.iter().map(|i| view.segment(*i)).collect();
        // A segment that was damaged is not spread further.
        if inputs.iter().any(|segment| segment.verify().is_err()) {
            self.reload_holding(true, &changing)?;
            return Ok(());
        }
        // What is going would only be taken out again. A pack that is going and still there is in no segment then, and indexed at the next
        // opening. A pack that stays keeps all its records, also of chunks that another one has: that one may be listed a moment after
        // we looked, and deleted because this one has the chunk.
        let list = Seen::read(self.backend.as_ref())?.sound()?.list;
        let mut there = HashSet::new();
        for kind in PackKind::ALL {
            there.extend(self.backend.list(kind.dir())?.into_iter().filter_map(|listed| listed.name.parse::<PackId>().ok()));
        }
        let stays = |pack: &PackRow| there.contains(&pack.id) && !list.forbids(pack.kind, &pack.id);
        let alive: HashSet<PackId> = view.packs().iter().filter(|pack| stays(pack)).map(|pack| pack.id).collect();
        let mut staged = self.backend.stage_in(INDEX_DIR)?;
        let name = merge_segments(&inputs, &|pack| alive.contains(&pack.id), &mut |part| staged.append(part))?;
        let key = format!("{INDEX_DIR}/{name}");
        let damaged = |key: &str| self.backend.paged(key).and_then(Segment::from_data).and_then(|segment| segment.verify()).is_err();
        if staged.publish(&key)? == PutOutcome::AlreadyThere && damaged(&key) {
            self.backend.delete(&key)?;
            staged.publish(&key)?;
        }
        let merged = match self.backend.paged(&key) {
            Ok(paged) => Segment::from_data(paged)?,
            // A dry run's backend kept nothing, and nothing is lost.
            Err(error) if error.kind() == ErrorKind::NotFound => return Ok(()),
            Err(error) => return Err(error),
        };
        // Only now, with the merged one durable: a reader that listed the old ones looks again.
        let old: Vec<String> = chosen.iter().map(|i| names[*i].clone()).filter(|old| *old != name).collect();
        self.set_view(view.without_segments(&old).with_segment(name, merged), &changing);
        for name in &old {
            self.backend.delete(&format!("{INDEX_DIR}/{name}"))?;
        }
        Ok(())
    }

    /// Writes segments anew that name packs which are `unwanted` and not there.
    pub(crate) fn drop_from_index(&self, unwanted: &dyn Fn(PackKind, &PackId) -> bool) -> Result<()> {
        let changing = self.change_view();
        self.reload_holding(false, &changing)?;
        let view = self.view();
        let there: HashSet<(PackKind, PackId)> = view.packs().iter().map(|pack| (pack.kind, pack.id)).collect();
        let names: Vec<String> = view.segments().map(|(name, _)| name.to_owned()).collect();
        for (number, old) in names.into_iter().enumerate() {
            if !view.packs_named_in(number).any(|pack| !there.contains(&pack) && unwanted(pack.0, &pack.1)) {
                continue;
            }
            let segment = view.segment(number);
            // One that is damaged is not spread further; the packs make a new one when it is gone.
            let sound = segment.verify().is_ok();
            // A pack that was lost and not taken away stays known, so that it is missed.
            let stays = |kind: PackKind, id: &PackId| there.contains(&(kind, *id)) || !unwanted(kind, id);
            if sound && view.packs_named_in(number).any(|(kind, id)| stays(kind, &id)) {
                let mut staged = self.backend.stage_in(INDEX_DIR)?;
                let name = merge_segments(&[segment], &|pack| stays(pack.kind, &pack.id), &mut |part| staged.append(part))?;
                // One of that name that is there already is damaged at worst, and then made again from the packs.
                staged.publish(&format!("{INDEX_DIR}/{name}"))?;
            }
            self.backend.delete(&format!("{INDEX_DIR}/{old}"))?;
        }
        self.reload_holding(false, &changing).map(|_| ())
    }
}
