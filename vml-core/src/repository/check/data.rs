//! Reads packs: all of them, those that a run which was cut short had not come to, or a sample.

use super::{Checked, Counter};
use crate::monitor::{Monitor, Problem, Task};
use crate::repository::{Repository, describe};
use std::sync::Mutex;
use vml_chunk::repair::{PackReport, Verdict};
use vml_chunk::{ChunkStore, PackId, PackKind, Result};

/// Packs that were proven before; kept by the caller, because the repository may be on a medium that cannot be written.
pub trait CheckLog: Sync {
    /// Whether the run that this one continues has proven a pack.
    fn is_proven(&self, kind: PackKind, id: &PackId) -> bool {
        _ = (kind, id);
        false
    }

    /// A pack was proven now. Called from any thread.
    fn proven(&self, kind: PackKind, id: &PackId) {
        _ = (kind, id);
    }
}

/// Knows of no earlier run.
#[derive(Debug, Clone, Copy, Default)]
pub struct NoLog;

impl CheckLog for NoLog {}

const MILLION: u64 = 1_000_000;

/// A choice of packs. Its rounds go once around all of them: what one round leaves out comes in another.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Sample {
    /// Gives the packs an order.
    pub seed: u64,
    /// How many samples were taken before.
    pub round: u64,
    /// How much of all packs: so many in a million.
    pub parts_per_million: u32,
}

impl Sample {
    /// Where on a circle of a million parts a pack stands, seen from the beginning of this round.
    fn place(&self, kind: PackKind, id: &PackId) -> u64 {
        let mut hasher = blake3::Hasher::new();
        hasher.update(&self.seed.to_le_bytes()).update(&[kind.number()]).update(id.as_bytes());
        let mut head = [0; 8];
        head.copy_from_slice(&hasher.finalize().as_bytes()[..8]);
        let start = self.round.wrapping_mul(u64::from(self.parts_per_million)) % MILLION;
        (u64::from_le_bytes(head) % MILLION + MILLION - start) % MILLION
    }

    /// The packs of this round: one at least.
    fn choose(&self, packs: Vec<(PackKind, PackId, u64)>) -> Vec<(PackKind, PackId, u64)> {
        let nearest = packs.iter().min_by_key(|(kind, id, _)| self.place(*kind, id)).copied();
        let mut chosen = packs;
        chosen.retain(|(kind, id, _)| self.place(*kind, id) < u64::from(self.parts_per_million));
        if chosen.is_empty() {
            chosen.extend(nearest);
        }
        chosen
    }
}

impl Repository {
    pub(super) fn check_data(
        &self,
        store: &ChunkStore,
        sample: Option<Sample>,
        log: &dyn CheckLog,
        monitor: &Counter<'_>,
        checked: &mut Checked,
    ) -> Result<Vec<PackReport>> {
        let all = store.pack_files()?;
        let count = all.len() as u64;
        let mut packs = sample.map_or(all.clone(), |sample| sample.choose(all));
        checked.left_out_packs_count = count - packs.len() as u64;
        packs.retain(|(kind, id, len)| {
            let is_proven = log.is_proven(*kind, id);
            checked.skipped_packs_count += u64::from(is_proven);
            checked.skipped_bytes += if is_proven { *len } else { 0 };
            !is_proven
        });
        // Each thread takes the next one: the long ones first, so that none is left alone with one at the end.
        packs.sort_by_key(|(_, _, len)| std::cmp::Reverse(*len));
        checked.packs_count = packs.len() as u64;
        checked.bytes = packs.iter().map(|(_, _, len)| len).sum();
        monitor.expect(Task::CheckData, checked.bytes);
        let damage = store.damage()?;
        let cleared = Mutex::new(Vec::new());
        let reports = store.examine(&packs, &|report| {
            if matches!(report.verdict, Verdict::Sound) {
                log.proven(report.kind, &report.id);
                if damage.packs.contains(report.kind, &report.id) {
                    cleared.lock().unwrap_or_else(std::sync::PoisonError::into_inner).push((report.kind, report.id));
                }
            }
            monitor.advance(Task::CheckData, 1, report.len);
        })?;
        for report in &reports {
            let message = match &report.verdict {
                // A collection took it away; what was needed of it is elsewhere. Else the walk tells what is missing.
                Verdict::Sound | Verdict::Missing => continue,
                Verdict::Mendable(parts, error) => {
                    format!("{}; its parity gives back what has changed, {parts} parts of it: `vml repair` does that", describe(error))
                }
                Verdict::Damaged(error) if report.sound.is_some() => {
                    format!("{}; {} chunks in it are sound", describe(error), report.sound_count)
                }
                Verdict::Damaged(error) => {
                    format!("{}; of its chunks {} are sound and {} are not", describe(error), report.sound_count, report.bad.len())
                }
                Verdict::Unreadable(error) => format!("it cannot be read: {}", describe(error)),
                Verdict::Newer(error) => describe(error),
            };
            monitor.problem(Problem { subject: format!("pack {}", report.key()), message });
        }
        let cleared = cleared.into_inner().unwrap_or_else(std::sync::PoisonError::into_inner);
        if !cleared.is_empty() {
            // Whoever took it for damaged could not read it then.
            _ = store.note_damage(&|damage| cleared.iter().for_each(|(kind, id)| damage.packs.remove(*kind, id)));
        }
        Ok(reports)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn samples_go_around_and_leave_nothing_out() {
        let packs: Vec<_> = (0..500_u64).map(|n| (PackKind::Data, PackId::of(&n.to_le_bytes()), 1)).collect();
        for parts_per_million in [50_000, 70_000, 333_333] {
            let mut seen = std::collections::HashSet::new();
            let rounds = MILLION.div_ceil(u64::from(parts_per_million));
            for round in 0..rounds {
                let chosen = Sample { seed: 9, round, parts_per_million }.choose(packs.clone());
                let expected = 500.0 * f64::from(parts_per_million) / 1e6;
                assert!((chosen.len() as f64) < expected * 1.8 && (chosen.len() as f64) > expected * 0.4, "{} of {expected}", chosen.len());
                seen.extend(chosen.into_iter().map(|(_, id, _)| id));
            }
            assert_eq!(seen.len(), 500);
        }
        let tiny = Sample { seed: 1, round: 0, parts_per_million: 1 };
        assert_eq!(tiny.choose(packs[..3].to_vec()).len(), 1, "a sample is never of nothing");
        assert!(tiny.choose(Vec::new()).is_empty());
        assert_ne!(
            Sample { round: 1, parts_per_million: 50_000, ..tiny }.choose(packs.clone()),
            Sample { parts_per_million: 50_000, ..tiny }.choose(packs)
        );
    }
}
