//! Checks a repository: that every entry is whole, and, if asked, that every byte is what it was.
//!
//! ```text
//! data    packs, all or a sample, on all threads; those proven by a run that was cut short are passed over        CheckLog
//! walk    every entry to every chunk it names: which entries and paths are touched by what is damaged or missing   Touched
//! note    packs that are damaged and chunks that are lost are noted, so that the next save of the same data heals them
//! ```

mod data;
mod walk;

pub use data::{CheckLog, NoLog, Sample};

use super::{Repository, describe};
use crate::entry::{EntryId, EntryKind};
use crate::monitor::{Monitor, Problem, Task};
use crate::refs::RefKind;
use std::collections::HashSet;
use std::sync::atomic::{AtomicU64, Ordering};
use vml_chunk::repair::{BadRows, Verdict};
use vml_chunk::{ChunkStore, ErrorKind, Result};
use walk::Walk;

/// How much is checked.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct CheckOptions {
    /// Read every byte of packs.
    pub data: bool,
    /// Of some packs only.
    pub sample: Option<Sample>,
    /// Most paths of one entry that are told; of the others it is told how many they are.
    pub paths_max: u64,
}

impl Default for CheckOptions {
    /// The structure, and twenty paths of each entry.
    fn default() -> Self {
        Self { data: false, sample: None, paths_max: 20 }
    }
}

/// An entry that is not whole.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Touched {
    /// The entry.
    pub entry: EntryId,
    /// What it is of, if its record can be read.
    pub kind: Option<EntryKind>,
    /// How many of its paths and streams are touched; of a directory whose listing is damaged, what is below it does not count.
    pub paths_count: u64,
}

/// Numbers of one check.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Checked {
    /// Entries walked.
    pub entries_count: u64,
    /// Directory listings and recipe nodes read.
    pub nodes_count: u64,
    /// Packs read; 0 when data was not checked.
    pub packs_count: u64,
    /// Their bytes.
    pub bytes: u64,
    /// Packs passed over because a run that was cut short had proven them.
    pub skipped_packs_count: u64,
    /// Their bytes.
    pub skipped_bytes: u64,
    /// Packs that were not in the sample.
    pub left_out_packs_count: u64,
    /// Entries that are not whole.
    pub touched: Vec<Touched>,
    /// Things found wrong.
    pub problems_count: u64,
}

impl Repository {
    /// Walks every entry to every chunk it names, and reads packs if `options` say so. Each problem is told to
    /// `monitor`, with the entry and the path it touches.
    ///
    /// # Errors
    /// When the repository cannot be read at all; damage is no error.
    pub fn check(&self, options: CheckOptions, monitor: &dyn Monitor) -> Result<Checked> {
        self.check_with(options, &NoLog, monitor)
    }

    /// As [`check`](Self::check); packs that `log` knows to be proven are not read, and it hears of those that are.
    ///
    /// # Errors
    /// As [`check`](Self::check).
    pub fn check_with(&self, options: CheckOptions, log: &dyn CheckLog, monitor: &dyn Monitor) -> Result<Checked> {
        self.refuse_put_only("a check reads everything")?;
        let counter = Counter { monitor, problems: AtomicU64::new(0) };
        // Entries are listed before the index is opened: what they name was durable before they were.
        let mut ids = self.entry_ids()?;
        ids.sort_unstable();
        // What is wrong is told below, once; what was mended is told by the opening that mended it.
        let store = self.store(&NoticesOnly(monitor))?;
        let mut report = store.reload(true)?;
        let missing_packs = std::mem::take(&mut report.missing_packs);
        if options.data {
            // Reading them tells more.
            report.unreadable_packs.clear();
        }
        super::tell(&report, &counter);
        let mut checked = Checked::default();
        let mut bad = BadRows::new(store.view());
        if options.data {
            let reports = self.check_data(store, options.sample, log, &counter, &mut checked)?;
            bad.add(&reports);
            self.note_packs(store, &reports, &counter);
        } else {
            tell_known_damage(store, &counter)?;
        }
        let before = counter.problems.load(Ordering::Relaxed);
        let mut walk = Walk::new(store, &bad, options.paths_max);
        self.walk_entries(&ids, &mut walk, &counter, &mut checked)?;
        // The index names a pack that was lost until it is merged, also when all it held was saved again since.
        let needed = counter.problems.load(Ordering::Relaxed) > before;
        for pack in missing_packs {
            let key = pack.kind.key(&pack.id);
            if needed {
                counter.problem(Problem { subject: key, message: super::MISSING_PACK.to_owned() });
            } else {
                counter.notice(&format!("{key} is missing or cut short, and no entry needs it"));
            }
        }
        self.note_lost(store, &walk, &counter)?;
        self.check_refs(&ids, &counter)?;
        self.notes(&counter)?;
        self.check_parity(store, options.data, &counter)?;
        checked.problems_count = counter.problems.into_inner();
        Ok(checked)
    }

    fn walk_entries(&self, ids: &[EntryId], walk: &mut Walk<'_>, counter: &Counter<'_>, checked: &mut Checked) -> Result<()> {
        for (id, entry) in self.entries(ids) {
            let id = &id;
            checked.entries_count += 1;
            match entry {
                Ok(entry) => {
                    let lost = |parent: &&EntryId| self.is_missing(ids, parent) && !self.is_forgotten(parent).unwrap_or(false);
                    if let Some(parent) = entry.parents.iter().find(lost)
                        && !self.was_received(id)
                    {
                        counter.problem(Problem {
                            subject: format!("entry {}", id.short()),
                            message: format!("its parent {} is missing", parent.short()),
                        });
                    }
                    let paths_count = walk.entry(id, &entry, counter);
                    if paths_count > 0 {
                        checked.touched.push(Touched { entry: *id, kind: Some(entry.kind), paths_count });
                    }
                }
                // Forgotten since it was listed.
                Err(error) if error.kind() == ErrorKind::NotFound && self.is_forgotten(id)? => {}
                Err(error) => {
                    counter.problem(Problem { subject: format!("entry {}", id.short()), message: describe(&error) });
                    checked.touched.push(Touched { entry: *id, kind: None, paths_count: 0 });
                    walk.is_complete = false;
                }
            }
        }
        checked.nodes_count = walk.nodes_count();
        Ok(())
    }

    /// Notes which packs are damaged, and which are sound after all.
    fn note_packs(&self, store: &ChunkStore, reports: &[vml_chunk::repair::PackReport], monitor: &dyn Monitor) {
        let noted = store.note_damage(&|damage| {
            for report in reports {
                match report.verdict {
                    Verdict::Damaged(_) | Verdict::Unreadable(_) => damage.packs.insert(report.kind, report.id),
                    Verdict::Missing | Verdict::Sound => damage.packs.remove(report.kind, &report.id),
                    Verdict::Mendable(..) | Verdict::Newer(_) => {}
                }
            }
        });
        cannot_note(noted, monitor);
    }

    /// Notes which chunks are lost, as far as the walk could see; packs that are gone need no note.
    fn note_lost(&self, store: &ChunkStore, walk: &Walk<'_>, monitor: &dyn Monitor) -> Result<()> {
        let there: HashSet<_> = store.pack_files()?.into_iter().map(|(kind, id, _)| (kind, id)).collect();
        let noted = store.note_damage(&|damage| {
            damage.set_lost(walk.lost());
            damage.unknown |= !walk.is_complete;
            damage.packs = damage.packs.iter().filter(|pack| there.contains(pack)).collect();
        });
        cannot_note(noted, monitor);
        Ok(())
    }

    fn check_refs(&self, ids: &[EntryId], monitor: &dyn Monitor) -> Result<()> {
        for kind in RefKind::ALL {
            for (name, target) in self.refs().list(kind)? {
                let message = match target {
                    Ok(id) if self.is_forgotten(&id).unwrap_or(false) => format!("points to entry {}, which was forgotten", id.short()),
                    Ok(id) if !self.is_missing(ids, &id) => continue,
                    Ok(id) => format!("points to entry {}, which is missing", id.short()),
                    Err(error) => describe(&error),
                };
                monitor.problem(Problem { subject: format!("{kind:?} {name}").to_lowercase(), message });
            }
        }
        Ok(())
    }

    /// Whether an entry is not there; one that somebody saved after `ids` were listed is.
    pub(super) fn is_missing(&self, ids: &[EntryId], id: &EntryId) -> bool {
        ids.binary_search(id).is_err() && self.entry(id).is_err_and(|error| error.kind() == ErrorKind::NotFound)
    }

    /// Parity that is missing is no damage.
    fn check_parity(&self, store: &ChunkStore, data: bool, monitor: &dyn Monitor) -> Result<()> {
        if store.options().parity_percent.is_some() {
            let without = store.packs_without_parity(data)?.len();
            if without > 0 {
                monitor.notice(&format!("{without} packs are without parity, or it is damaged: `vml repair` makes it"));
            }
        }
        Ok(())
    }
}

/// A repository on a medium that cannot be written can be checked all the same.
fn cannot_note(noted: Result<()>, monitor: &dyn Monitor) {
    if let Err(error) = noted {
        monitor.notice(&format!("what is damaged cannot be noted, so saves go on relying on it: {}", describe(&error)));
    }
}

fn tell_known_damage(store: &ChunkStore, monitor: &dyn Monitor) -> Result<()> {
    let there = store.pack_files()?;
    for (kind, id) in store.damage()?.packs.iter() {
        if there.iter().any(|(other, name, _)| (*other, *name) == (kind, id)) {
            let message = "it is known to be damaged: saves do not rely on it, and `vml repair` saves what is sound in it".to_owned();
            monitor.problem(Problem { subject: format!("pack {}", kind.key(&id)), message });
        }
    }
    Ok(())
}

/// Counts the problems it passes on.
pub(super) struct Counter<'a> {
    monitor: &'a dyn Monitor,
    problems: AtomicU64,
}

impl Monitor for Counter<'_> {
    fn advance(&self, task: Task, files: u64, bytes: u64) {
        self.monitor.advance(task, files, bytes);
    }

    fn expect(&self, task: Task, bytes: u64) {
        self.monitor.expect(task, bytes);
    }

    fn problem(&self, problem: Problem) {
        self.problems.fetch_add(1, Ordering::Relaxed);
        self.monitor.problem(problem);
    }

    fn notice(&self, message: &str) {
        self.monitor.notice(message);
    }
}

/// Passes on what is no problem.
struct NoticesOnly<'a>(&'a dyn Monitor);

impl Monitor for NoticesOnly<'_> {
    fn notice(&self, message: &str) {
        self.0.notice(message);
    }
}
