//! Proves packs, many at a time.

use super::sound::{Sound, for_each_sound};
use crate::backend::Backend;
use crate::error::{Error, ErrorKind, Result};
use crate::id::{ChunkId, IdKey, PackId};
use crate::pack::{PackKind, verify_pack_keyed};
use crate::parity::Mending;
use crate::store::ChunkStore;
use rayon::prelude::*;
use std::collections::HashSet;
use std::sync::{Mutex, PoisonError};

/// Compacted packs that are read side by side.
const GROUPS_AT_ONCE: usize = 2;

/// What became of a pack.
#[derive(Debug)]
pub enum Verdict {
    /// Every byte is what it was.
    Sound,
    /// Bytes have changed, and its parity gives all of them back: so many parts were calculated.
    Mendable(u64, Error),
    /// Bytes have changed.
    Damaged(Error),
    /// It could not be read now, which does not say that it is damaged.
    Unreadable(Error),
    /// It is not there, or not any more.
    Missing,
    /// It was written by a newer program.
    Newer(Error),
}

/// What an examination of one pack found.
#[derive(Debug)]
pub struct PackReport {
    /// What it holds.
    pub kind: PackKind,
    /// Its name.
    pub id: PackId,
    /// Its length in bytes, as it is listed.
    pub len: u64,
    /// What became of it.
    pub verdict: Verdict,
    /// Chunks in it that are sound, if it is damaged.
    pub sound_count: u64,
    /// Chunks that its footer names and that are not sound.
    pub bad: Vec<ChunkId>,
    /// What is sound, where the footer is lost: whatever else was in it is not known.
    pub sound: Option<HashSet<ChunkId>>,
}

impl PackReport {
    /// The backend's key.
    pub fn key(&self) -> String {
        self.kind.key(&self.id)
    }

    /// Whether its bytes have changed.
    pub fn is_damaged(&self) -> bool {
        matches!(self.verdict, Verdict::Mendable(..) | Verdict::Damaged(_))
    }
}

/// Reads every byte of a pack and compares its name, its frames and every chunk with what they should be; if it is damaged, looks what is sound.
pub fn examine(backend: &dyn Backend, ids: &IdKey, kind: PackKind, id: &PackId, len: u64) -> PackReport {
    let mut report = PackReport { kind, id: *id, len, verdict: Verdict::Sound, sound_count: 0, bad: Vec::new(), sound: None };
    let Err(error) = prove(backend, ids, kind, id) else { return report };
    match error.kind() {
        ErrorKind::NotFound => {
            report.verdict = Verdict::Missing;
            return report;
        }
        ErrorKind::UnsupportedFormat => {
            report.verdict = Verdict::Newer(error);
            return report;
        }
        _ => {}
    }
    let mending = Mending::new(backend, kind, id).ok();
    if let Some(mending) = &mending
        && prove(mending, ids, kind, id).is_ok()
    {
        report.verdict = Verdict::Mendable(mending.mended(), error);
        return report;
    }
    if error.kind() != ErrorKind::Corrupt {
        report.verdict = Verdict::Unreadable(error);
        return report;
    }
    let mut sound = HashSet::new();
    let reader = mending.as_ref().map_or(backend, |mending| mending as &dyn Backend);
    let found = for_each_sound(reader, ids, kind, id, &mut |part| {
        match part {
            Sound::Frame { chunks, .. } => sound.extend(chunks.iter().map(|(id, _)| *id)),
            Sound::Chunk(id, _) => _ = sound.insert(id),
        }
        Ok(())
    });
    match found {
        Ok(tally) => {
            (report.sound_count, report.bad) = (tally.sound_count, tally.bad);
            report.sound = tally.footer_lost.then_some(sound);
            report.verdict = Verdict::Damaged(error);
        }
        Err(error) if error.kind() == ErrorKind::NotFound => report.verdict = Verdict::Missing,
        Err(error) => report.verdict = Verdict::Unreadable(error),
    }
    report
}

/// That a pack is what it was.
fn prove(backend: &dyn Backend, ids: &IdKey, kind: PackKind, id: &PackId) -> Result<()> {
    let mut bad = None;
    verify_pack_keyed(backend, ids, kind, id, |chunk, error| {
        bad.get_or_insert_with(|| Error::new(error.kind(), format!("chunk {}: {error}", chunk.id.short())));
    })?;
    bad.map_or(Ok(()), Err)
}

impl ChunkStore {
    /// All packs that are there, indexed or not, with their lengths.
    ///
    /// # Errors
    /// What the backend says.
    pub fn pack_files(&self) -> Result<Vec<(PackKind, PackId, u64)>> {
        let mut packs = Vec::new();
        for kind in PackKind::ALL {
            let listed = self.backend().list(kind.dir())?;
            packs.extend(listed.into_iter().filter_map(|listed| Some((kind, listed.name.parse().ok()?, listed.len))));
        }
        packs.sort_unstable();
        Ok(packs)
    }

    /// Examines these packs on all threads; `each` hears of every one, and those that are not sound are returned.
    ///
    /// # Errors
    /// When threads cannot be started; what is wrong with packs is no error.
    pub fn examine(&self, packs: &[(PackKind, PackId, u64)], each: &(dyn Fn(&PackReport) + Sync)) -> Result<Vec<PackReport>> {
        let compacted: HashSet<PackId> = self.view().packs().iter().filter(|pack| pack.compaction > 0).map(|pack| pack.id).collect();
        let (grouped, plain): (Vec<_>, Vec<_>) = packs.iter().partition(|(_, id, _)| compacted.contains(id));
        let found = Mutex::new(Vec::new());
        let threads = self.options().threads.max(1);
        // Each of them needs the memory of a group.
        for (packs, threads) in [(plain, threads), (grouped, threads.min(GROUPS_AT_ONCE))] {
            let pool = rayon::ThreadPoolBuilder::new()
                .num_threads(threads)
                .build()
                .map_err(|error| Error::new(ErrorKind::Io, "cannot start threads to read packs").because(error))?;
            pool.install(|| {
                packs.par_iter().for_each(|(kind, id, len)| {
                    let report = examine(self.backend().as_ref(), self.ids(), *kind, id, *len);
                    each(&report);
                    if !matches!(report.verdict, Verdict::Sound) {
                        found.lock().unwrap_or_else(PoisonError::into_inner).push(report);
                    }
                });
            });
        }
        let mut found = found.into_inner().unwrap_or_else(PoisonError::into_inner);
        found.sort_unstable_by_key(|report| (report.kind, report.id));
        Ok(found)
    }
}
