//! Repairs a repository: looks what is damaged, says what it would do, does it, and says what is left.
//!
//! ```text
//! plan      packs that are damaged or missing, small records that cannot be read          RepairPlan, nothing is changed
//! records   each is set to what it must have said, fetched, or taken away                 records, refs
//! packs     what is sound is copied, the rest goes; the index is made anew                vml_chunk::repair
//! heal      chunks that entries lack are fetched from sources, by their ids               RepairSource
//! parity    is made where it is missing
//! check     which entries are touched by what is lost; it is noted, for the next save     Repaired
//! ```
//! It may run beside everything else and be killed at any moment; done again it goes on. Nothing is deleted before what is good in it is somewhere else, and
//! nothing that was written by a newer program is touched.

mod heal;
mod records;
mod refs;

pub use records::{RecordFix, RecordPlan};

use super::{CheckOptions, Checked, Repository, describe};
use crate::entry::EntryId;
use crate::monitor::{Monitor, Problem, Task};
use heal::Healed;
use vml_chunk::repair::{PackReport, Verdict};
use vml_chunk::{ChunkId, ChunkStore, PackId, PackKind, Result};

/// A chunk that is asked for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct WantedChunk {
    /// Its id.
    pub id: ChunkId,
    /// Its length in bytes.
    pub len: u32,
}

/// Somewhere else that may have what is lost: another repository, a share file.
pub trait RepairSource: Sync {
    /// How people know it.
    fn name(&self) -> String;

    /// Tells `each` the bytes of those of these chunks that it has, in any order. They are compared with the ids by whoever asked.
    ///
    /// # Errors
    /// When it cannot be read; what it has not, or only damaged, is no error.
    fn chunks(&self, kind: PackKind, wanted: &[WantedChunk], each: &mut dyn FnMut(&[u8]) -> Result<()>) -> Result<()>;

    /// The record of an entry, if it has that.
    ///
    /// # Errors
    /// When it cannot be read.
    fn entry(&self, id: &EntryId) -> Result<Option<Vec<u8>>>;

    /// The record of a note, by the entry that it is of and the digest of the record, if it has that.
    ///
    /// # Errors
    /// When it cannot be read.
    fn note(&self, entry: &EntryId, digest: &[u8; 32]) -> Result<Option<Vec<u8>>>;
}

/// How a repair looks for damage.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct RepairOptions {
    /// Read every byte of every pack. Without it only packs are read that are known to be damaged, are cut, or have footers that cannot be read.
    pub data: bool,
}

/// A damaged pack.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PackPlan {
    /// What it holds.
    pub kind: PackKind,
    /// Its name.
    pub id: PackId,
    /// Its length in bytes.
    pub len: u64,
    /// Whether its parity gives everything back.
    pub mendable: bool,
    /// Chunks in it that are sound.
    pub sound_count: u64,
    /// Chunks in it that are not; unknown where its footer is lost.
    pub bad_count: Option<u64>,
    /// What is wrong.
    pub reason: String,
}

/// What a repair is going to do.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct RepairPlan {
    /// Packs that are taken away after what is sound in them was copied.
    pub packs: Vec<PackPlan>,
    /// Packs that are known to be damaged and are not any more: somebody put the right bytes back.
    pub sound_again: Vec<(PackKind, PackId)>,
    /// Packs that cannot be read now, or were written by a newer program, with the reason: they stay.
    pub unreadable: Vec<(String, String)>,
    /// Packs that the index names and that are missing.
    pub missing_packs: Vec<String>,
    /// Segments of the index that were damaged; opening has mended them.
    pub bad_segments_count: u64,
    /// Small records.
    pub records: Vec<RecordPlan>,
    /// Packs without sound parity, where the repository has parity.
    pub without_parity_count: u64,
    /// Packs read.
    pub read_packs_count: u64,
    /// Their bytes.
    pub read_bytes: u64,
    /// Whether chunks are known to be lost from before.
    pub known_damage: bool,
}

impl RepairPlan {
    /// Whether nothing was found that a repair would change; what entries lack is found by the repair itself.
    pub fn is_empty(&self) -> bool {
        let packs = self.packs.is_empty() && self.missing_packs.is_empty() && self.sound_again.is_empty();
        packs && self.records.is_empty() && self.without_parity_count == 0
    }

    /// Whether something is taken away: packs of which not all is saved, or records that cannot be mended.
    pub fn takes_away(&self) -> bool {
        !self.packs.is_empty() || self.records.iter().any(|record| record.fix.takes_away())
    }
}

/// What a repair did, and what is left.
#[derive(Debug, Default)]
pub struct Repaired {
    /// Packs that were taken away.
    pub packs_count: u64,
    /// Chunks of theirs that were saved.
    pub salvaged_chunks_count: u64,
    /// Bytes of packs that were written.
    pub written_bytes: u64,
    /// Packs in the new index, if one was made.
    pub indexed_packs_count: u64,
    /// Chunks that came from sources.
    pub healed_chunks_count: u64,
    /// Their plain bytes.
    pub healed_bytes: u64,
    /// Entries whose records came from sources.
    pub fetched_entries_count: u64,
    /// What was done to small records: the key, and what.
    pub records: Vec<(String, String)>,
    /// Files of parity that were made.
    pub parity_count: u64,
    /// What is wrong now.
    pub checked: Checked,
    /// Things that could not be mended.
    pub problems_count: u64,
}

impl Repository {
    /// Looks what is damaged; changes nothing but what opening mends.
    ///
    /// # Errors
    /// When the repository cannot be read at all.
    pub fn plan_repair(&self, options: RepairOptions, monitor: &dyn Monitor) -> Result<RepairPlan> {
        self.refuse_put_only("a repair reads everything")?;
        let store = self.store(monitor)?;
        let report = store.reload(true)?;
        super::tell(&report_of(&report), monitor);
        let mut plan = RepairPlan { bad_segments_count: report.bad_segments.len() as u64, ..RepairPlan::default() };
        let damage = store.damage()?;
        plan.known_damage = !damage.is_empty();
        let mut packs = store.pack_files()?;
        let indexed: std::collections::HashMap<_, _> = store.view().packs().iter().map(|pack| ((pack.kind, pack.id), pack.len)).collect();
        if !options.data {
            packs.retain(|(kind, id, len)| indexed.get(&(*kind, *id)) != Some(len) || damage.packs.contains(*kind, id));
        }
        plan.read_packs_count = packs.len() as u64;
        plan.read_bytes = packs.iter().map(|(_, _, len)| len).sum();
        monitor.expect(Task::CheckData, plan.read_bytes);
        let there = store.pack_files()?;
        let mut unsound = std::collections::HashSet::new();
        for found in store.examine(&packs, &|report| monitor.advance(Task::CheckData, 1, report.len))? {
            unsound.insert((found.kind, found.id));
            match &found.verdict {
                Verdict::Mendable(_, error) | Verdict::Damaged(error) => plan.packs.push(pack_plan(&found, describe(error))),
                Verdict::Unreadable(error) | Verdict::Newer(error) => plan.unreadable.push((found.key(), describe(error))),
                Verdict::Missing | Verdict::Sound => {}
            }
        }
        let sound = packs.iter().map(|(kind, id, _)| (*kind, *id)).filter(|pack| !unsound.contains(pack));
        plan.sound_again = sound.filter(|(kind, id)| damage.packs.contains(*kind, id)).collect();
        let is_there = |kind: PackKind, id: &PackId| there.iter().any(|(other, name, _)| (*other, name) == (kind, id));
        let missing = report.missing_packs.iter().filter(|pack| !is_there(pack.kind, &pack.id));
        plan.missing_packs = missing.map(|pack| pack.kind.key(&pack.id)).collect();
        plan.records = self.plan_records()?;
        plan.records.extend(self.plan_refs()?);
        if store.options().parity_percent.is_some() {
            plan.without_parity_count = store.packs_without_parity(options.data)?.len() as u64;
        }
        Ok(plan)
    }

    /// Does what was planned, and fetches from `sources` what entries lack. What is left is told to `monitor`, with the entries and paths it touches.
    ///
    /// # Errors
    /// What the backend or a source says, `Locked` when a collection or another repair began meanwhile; it can be done again.
    pub fn repair(&self, plan: &RepairPlan, sources: &[&dyn RepairSource], paths_max: u64, monitor: &dyn Monitor) -> Result<Repaired> {
        let store = self.store(monitor)?;
        let mut repaired = Repaired::default();
        let mut stay = plan.unreadable.clone();
        store.note_damage(&|damage| plan.sound_again.iter().for_each(|(kind, id)| damage.packs.remove(*kind, id)))?;
        // The list of what goes must be understood before anything can go.
        self.fix_records(&plan.records, sources, &mut repaired, monitor)?;
        let packs: Vec<(PackKind, PackId)> = plan.packs.iter().map(|pack| (pack.kind, pack.id)).collect();
        if !packs.is_empty() || !plan.missing_packs.is_empty() {
            self.replace_packs(store, &packs, &mut repaired, &mut stay, monitor)?;
        }
        if !sources.is_empty() {
            let Healed { chunks_count, bytes } = self.heal(store, sources, monitor)?;
            (repaired.healed_chunks_count, repaired.healed_bytes) = (chunks_count, bytes);
        }
        // Entries that were fetched may be what a ref must point to.
        self.fix_records(&self.plan_refs()?, &[], &mut repaired, monitor)?;
        self.make_parity(store, &mut repaired, monitor)?;
        repaired.checked = self.check(CheckOptions { paths_max, ..CheckOptions::default() }, monitor)?;
        for (key, reason) in &stay {
            monitor.problem(Problem { subject: format!("pack {key}"), message: format!("it stays as it is: {reason}") });
        }
        repaired.problems_count += repaired.checked.problems_count + stay.len() as u64;
        Ok(repaired)
    }

    fn replace_packs(
        &self,
        store: &ChunkStore,
        packs: &[(PackKind, PackId)],
        repaired: &mut Repaired,
        stay: &mut Vec<(String, String)>,
        monitor: &dyn Monitor,
    ) -> Result<()> {
        // What was lost with packs that are missing is known by the index only until that is made anew.
        store.note_damage(&|damage| damage.unknown = true)?;
        if !packs.is_empty() {
            let taken = store.take_away(packs, &mut |_, _| monitor.advance(Task::Repair, 1, 0))?;
            repaired.packs_count = taken.packs.len() as u64;
            repaired.salvaged_chunks_count = taken.salvaged_count;
            repaired.written_bytes = taken.written_bytes;
            stay.extend(taken.stay.iter().map(|(key, error)| (key.clone(), describe(error))));
        }
        // A pack that could not be read just now may have lost its footer: only the old index knows what is in it.
        if stay.is_empty() {
            repaired.indexed_packs_count = store.rebuild_index()?.packs_count;
        }
        Ok(())
    }

    fn make_parity(&self, store: &ChunkStore, repaired: &mut Repaired, monitor: &dyn Monitor) -> Result<()> {
        store.drop_orphaned_parity()?;
        let Some(percent) = store.options().parity_percent else { return Ok(()) };
        let mut unmade = 0;
        for (kind, id) in store.packs_without_parity(true)? {
            match store.make_parity(kind, &id, percent) {
                Ok(made) => repaired.parity_count += u64::from(made),
                Err(error) if matches!(error.kind(), vml_chunk::ErrorKind::Corrupt | vml_chunk::ErrorKind::Io) => {
                    monitor.problem(Problem { subject: format!("pack {}", kind.key(&id)), message: describe(&error) });
                    unmade += 1;
                }
                Err(error) => return Err(error),
            }
            monitor.advance(Task::Repair, 1, 0);
        }
        repaired.problems_count = unmade;
        Ok(())
    }
}

fn pack_plan(found: &PackReport, reason: String) -> PackPlan {
    let mendable = matches!(found.verdict, Verdict::Mendable(..));
    PackPlan {
        kind: found.kind,
        id: found.id,
        len: found.len,
        mendable,
        sound_count: found.sound_count,
        bad_count: (mendable || found.sound.is_none()).then_some(found.bad.len() as u64),
        reason,
    }
}

/// What of a report is worth a notice.
fn report_of(report: &vml_chunk::OpenReport) -> vml_chunk::OpenReport {
    vml_chunk::OpenReport {
        indexed_packs: report.indexed_packs,
        bad_segments: report.bad_segments.clone(),
        ..vml_chunk::OpenReport::default()
    }
}
