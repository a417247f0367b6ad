//! Forgets entries: by policy or by name. What they hold goes with the next collection, if nothing else needs it.
//!
//! ```text
//! refs move or go ──► what it continued is noted ──► its record goes ──► its notes go
//! refs/areas, tags    forgotten/ENTRY                entries/ENTRY       notes/ENTRY-*
//! ```
//! Each step is durable before the next, so a run that is cut short leaves an entry that is there or one that is forgotten, and doing it
//! again ends it. Entries after a forgotten one still name it as their parent; `AREA@~1` and the log go on to the nearest that is left.

mod policy;

pub use policy::{Calendar, Candidate, Decision, KeepPolicy, LocalTime, Reason, Within, decide};

use super::{NOTES_DIR, Repository, describe, entry_of_note};
use crate::entry::{EntryId, EntryKind};
use crate::monitor::{Monitor, Problem};
use crate::refs::RefKind;
use std::collections::{BTreeMap, HashMap, HashSet};
use vml_chunk::{Error, ErrorKind, Result};

/// What a policy is asked about.
pub struct ForgetOptions<'a> {
    /// What to keep.
    pub policy: &'a KeepPolicy,
    /// One area only.
    pub area: Option<&'a str>,
    /// By whose calendar.
    pub calendar: &'a dyn Calendar,
}

/// An entry in a plan.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Row {
    /// What becomes of it.
    pub decision: Decision,
    /// When it was saved.
    pub time_ms: i64,
    /// Its message's first line, at most 200 characters.
    pub message: String,
    /// Tags that name it now.
    pub tags: Vec<String>,
}

/// What a policy decided: for each area its entries, the newest first.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Forgetting {
    /// Areas by name.
    pub areas: Vec<(String, Vec<Row>)>,
}

impl Forgetting {
    /// The entries to forget.
    pub fn forgotten(&self) -> Vec<EntryId> {
        let rows = self.areas.iter().flat_map(|(_, rows)| rows);
        rows.filter(|row| !row.decision.is_kept()).map(|row| row.decision.id).collect()
    }
}

/// What is known of all entries.
struct Known {
    entries: HashMap<EntryId, Brief>,
    /// Entries that are bases now.
    bases: HashSet<EntryId>,
    /// Entries that others are relative to.
    relied_on: HashSet<EntryId>,
    tags: HashMap<EntryId, Vec<String>>,
    latest: HashMap<EntryId, Vec<String>>,
}

struct Brief {
    kind: EntryKind,
    time_ms: i64,
    message: String,
    born_tags: Vec<String>,
    parents: Vec<EntryId>,
    base: Option<EntryId>,
}

impl Repository {
    /// Decides which entries of areas a policy keeps; changes nothing. Entries that cannot be read are told to `monitor` and stay.
    ///
    /// # Errors
    /// `NotFound` for an area without an entry, else what the backend says.
    pub fn plan_forgetting(&self, options: &ForgetOptions<'_>, monitor: &dyn Monitor) -> Result<Forgetting> {
        let known = self.know(monitor)?;
        let mut areas: BTreeMap<&str, Vec<Candidate>> = BTreeMap::new();
        for (id, brief) in &known.entries {
            let EntryKind::State { area } = &brief.kind else { continue };
            if options.area.is_none_or(|only| only == area) {
                areas.entry(area).or_default().push(Candidate {
                    id: *id,
                    time_ms: brief.time_ms,
                    born_tags: brief.born_tags.clone(),
                    tags: known.tags.get(id).cloned().unwrap_or_default(),
                    is_latest: known.latest.contains_key(id),
                    is_base: known.bases.contains(id) || known.relied_on.contains(id),
                });
            }
        }
        if let Some(area) = options.area
            && areas.is_empty()
        {
            return Err(Error::not_found(format!("the area {area:?} has no entry in this repository")));
        }
        let row = |decision: Decision| {
            let brief = &known.entries[&decision.id];
            let message = brief.message.lines().next().unwrap_or_default().chars().take(200).collect();
            let tags = known.tags.get(&decision.id).cloned().unwrap_or_default();
            Row { time_ms: brief.time_ms, message, tags, decision }
        };
        let decided = areas.into_iter().map(|(area, candidates)| {
            (area.to_owned(), decide(&candidates, options.policy, options.calendar).into_iter().map(&row).collect())
        });
        Ok(Forgetting { areas: decided.collect() })
    }

    /// Forgets these entries. The ref of an area whose latest is among them moves to the nearest before it that is left, or goes.
    ///
    /// # Errors
    /// `InvalidInput` for a base, for an entry that another, which stays, is relative to, and, without `force`, for one that a tag names:
    /// nothing is done then. `Locked` when an area got a new latest meanwhile, else what the backend says.
    pub fn forget(&self, ids: &[EntryId], force: bool, monitor: &dyn Monitor) -> Result<()> {
        let known = self.know(monitor)?;
        let going: HashSet<EntryId> = ids.iter().copied().collect();
        for id in ids {
            known.may_go(id, &going, force)?;
        }
        self.move_refs(&going, &known)?;
        // A ref that somebody took away must not come back to an entry that is forgotten.
        RefKind::ALL.into_iter().try_for_each(|kind| self.refs().settle(kind))?;
        // From here on it is forgotten, whatever becomes of its file.
        for id in ids {
            self.put_forgotten(id, &self.nearest_left(id, &known, &going)?)?;
        }
        for id in ids {
            self.delete_entry(id)?;
            // Somebody may have brought it back before it was deleted.
            self.put_forgotten(id, &self.nearest_left(id, &known, &going)?)?;
        }
        // Somebody may have given a tag, which is not kept from pointing anywhere, since the refs were looked at.
        self.move_refs(&going, &known)?;
        for listed in self.backend.list(NOTES_DIR)? {
            if entry_of_note(&listed.name).is_some_and(|entry| going.contains(&entry)) {
                self.backend.delete(&format!("{NOTES_DIR}/{}", listed.name))?;
            }
        }
        Ok(())
    }

    fn know(&self, monitor: &dyn Monitor) -> Result<Known> {
        self.refuse_put_only("what may be forgotten must be read")?;
        let mut known = Known {
            entries: HashMap::new(),
            bases: HashSet::new(),
            relied_on: HashSet::new(),
            tags: HashMap::new(),
            latest: HashMap::new(),
        };
        for (id, entry) in self.entries(&self.entry_ids()?) {
            match entry {
                Ok(entry) => {
                    known.entries.insert(
                        id,
                        Brief {
                            kind: entry.kind,
                            time_ms: entry.time_ms,
                            message: entry.message,
                            born_tags: entry.tags,
                            parents: entry.parents,
                            base: entry.base.map(|base| base.entry),
                        },
                    );
                }
                Err(error) if error.kind() == ErrorKind::NotFound => {}
                Err(error) => monitor.problem(Problem { subject: format!("entry {}", id.short()), message: describe(&error) }),
            }
        }
        known.relied_on = known.entries.values().filter_map(|brief| brief.base).collect();
        for kind in RefKind::ALL {
            for (name, target) in self.refs().list(kind)? {
                let target = match target {
                    Ok(target) => target,
                    Err(error) => {
                        monitor.problem(Problem { subject: format!("{kind:?} {name}").to_lowercase(), message: describe(&error) });
                        continue;
                    }
                };
                match kind {
                    RefKind::Area => known.latest.entry(target).or_default().push(name),
                    RefKind::Tag => known.tags.entry(target).or_default().push(name),
                    RefKind::Base => _ = known.bases.insert(target),
                }
            }
        }
        Ok(known)
    }

    /// The entries that one continued, without those that go or are gone.
    fn nearest_left(&self, id: &EntryId, known: &Known, going: &HashSet<EntryId>) -> Result<Vec<EntryId>> {
        let mut left = Vec::new();
        let mut seen = HashSet::from([*id]);
        let parents_of = |id: &EntryId| -> Result<Vec<EntryId>> {
            match known.entries.get(id) {
                Some(brief) => Ok(brief.parents.clone()),
                None => Ok(self.forgotten(id)?.map(|record| record.parents).unwrap_or_default()),
            }
        };
        let mut next = parents_of(id)?;
        next.reverse();
        while let Some(id) = next.pop() {
            if known.entries.contains_key(&id) && !going.contains(&id) {
                if !left.contains(&id) {
                    left.push(id);
                }
            } else if seen.insert(id) {
                next.extend(parents_of(&id)?.into_iter().rev());
            }
        }
        Ok(left)
    }

    fn move_refs(&self, going: &HashSet<EntryId>, known: &Known) -> Result<()> {
        let refs = self.refs();
        for kind in [RefKind::Area, RefKind::Tag] {
            for (name, target) in refs.list(kind)? {
                let Ok(target) = target else { continue };
                if !going.contains(&target) {
                    continue;
                }
                let new = match kind {
                    RefKind::Area => self.nearest_left(&target, known, going)?.into_iter().next(),
                    _ => None,
                };
                refs.set(kind, &name, Some(target), new)?;
            }
        }
        Ok(())
    }
}

impl Known {
    fn may_go(&self, id: &EntryId, going: &HashSet<EntryId>, force: bool) -> Result<()> {
        let relative = self.entries.iter().find(|(other, brief)| brief.base == Some(*id) && !going.contains(other));
        if let Some((other, _)) = relative {
            return Err(Error::invalid(format!("entry {} is the base of entry {}: forget that one first", id.short(), other.short())));
        }
        if self.bases.contains(id) {
            return Err(Error::invalid(format!("entry {} is a base, which `vml forget` never forgets: `vml base rm` does", id.short())));
        }
        if let Some(tags) = self.tags.get(id).filter(|_| !force) {
            return Err(Error::invalid(format!(
                "entry {} has the tag {}: say --force to forget it all the same",
                id.short(),
                tags.join(", ")
            )));
        }
        Ok(())
    }
}
