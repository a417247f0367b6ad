//! Carries the entries of a plan, one after the other.

use super::counterparts::{entry_there, note_of};
use super::parts::{Carrier, KnownEntry};
use super::verify::verify_equal;
use super::{Bringer, TransplantPlan, TransplantRequest};
use crate::entry::{BaseRef, Entry, EntryId, EntryKind, Note, Part};
use crate::monitor::Monitor;
use crate::recipe::Recipe;
use crate::refs::RefKind;
use crate::remote::{Arrived, Commit, NoteId, OpenRemote, Remote as _, note_id};
use crate::repository::{RECEIVED_AUTHOR, is_own_author};
use crate::share::publish::{Origin, place};
use crate::share::{Placed, check_entry};
use crate::tree::Memo;
use std::collections::HashSet;
use std::sync::Arc;
use vml_chunk::{Chunker, Error, ErrorKind, Result, WriteStats};

/// Times that an entry is carried when collections take away what it relied on.
const ATTEMPTS: usize = 5;
/// Notes and tags that are handed over at once.
const MARKS_AT_ONCE: usize = 1024;

/// A carried entry.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Transplant {
    /// The entry of the source.
    pub from: EntryId,
    /// What it became.
    pub entry: Entry,
    /// Its id, and what became of its ref.
    pub arrived: Arrived,
}

/// What was carried.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Transplanted {
    /// Entries that the target did not have, and such as it had and pointed no ref to.
    pub entries: Vec<Transplant>,
    /// Entries of the request that it had.
    pub present_count: u64,
    /// What was read, cut and stored.
    pub stats: WriteStats,
    /// Notes that came along.
    pub notes_count: u64,
    /// Tags that name another entry at the target, which they go on doing.
    pub other_tags: Vec<String>,
}

/// Carries the entries of a plan.
///
/// Nothing of an entry is visible at the target before all of it is there. After an error what was stored is kept, and the next try stores the rest.
///
/// # Errors
/// `NotFound` for an entry that the source does not have any more, `Corrupt` for one that is damaged there, `PermissionDenied` when the target takes only what is signed,
/// `Locked` when collections took away what was stored, again and again; else what either end says.
///
/// # Cost
/// That of what an entry does not share with those it continues or is relative to; see [`capture_disk`](crate::disk::capture_disk) for disks.
pub fn transplant(plan: &mut TransplantPlan<'_>, request: &TransplantRequest<'_>, monitor: &dyn Monitor) -> Result<Transplanted> {
    let target = plan.target;
    if matches!(request.from, Bringer::Remote { trusted: false, .. }) && !plan.plan.entries.is_empty() && target.policy()?.require_signed {
        let message = "this repository takes only what a trusted key has signed, and entries of a remote that is not your own are not";
        return Err(Error::new(ErrorKind::PermissionDenied, message));
    }
    let chunker = target.config().chunker.build()?;
    let run = Run { request, chunker: chunker.as_ref(), memo: Arc::default(), monitor };
    let mut done = Transplanted { present_count: plan.plan.present_count, ..Transplanted::default() };
    let entries = std::mem::take(&mut plan.plan.entries);
    let mut sessions = Vec::new();
    for (id, entry) in &entries {
        let carried = run.entry(plan, id, entry, &mut sessions, &mut done.stats);
        let (here, entry, new) = carried.map_err(|error| error.context(format!("cannot carry entry {} over", id.short())))?;
        plan.counterparts.set(*id, here);
        done.entries.push(Transplant { from: *id, entry, arrived: Arrived { id: here, new, placed: None } });
    }
    run.place(plan, &mut done)?;
    if request.what.marks {
        run.marks(plan, &mut done)?;
    }
    Ok(done)
}

/// What is the same for all entries.
struct Run<'a> {
    request: &'a TransplantRequest<'a>,
    chunker: &'a dyn Chunker,
    memo: Arc<Memo>,
    monitor: &'a dyn Monitor,
}

impl Run<'_> {
    /// Carries one entry; `sessions` are the entries at the target of all sessions of writing so far.
    fn entry(
        &self,
        plan: &mut TransplantPlan<'_>,
        id: &EntryId,
        entry: &Entry,
        sessions: &mut Vec<EntryId>,
        stats: &mut WriteStats,
    ) -> Result<(EntryId, Entry, bool)> {
        check_entry(entry)?;
        let (source, target) = (plan.source, plan.target);
        let from = source.store(self.monitor)?;
        let store = target.store(self.monitor)?;
        for _ in 0..ATTEMPTS {
            let mut made = self.mapped(plan, entry)?;
            let (known, mut needed) = self.known(plan, entry)?;
            self.memo.begin(u32::try_from(sessions.len()).map_err(|_| Error::invalid("more entries than can be carried at once"))?);
            let carrier = Carrier {
                source: from,
                chunker: self.chunker,
                inline_max: target.config().inline_max as usize,
                threads: target.threads(),
                memo: &self.memo,
                monitor: self.monitor,
            };
            let carried = store.writer().and_then(|writer| {
                made.parts = carrier.carry(&writer, entry, &known)?;
                writer.finish_relying()
            });
            needed.extend(self.memo.used().into_iter().filter_map(|number| sessions.get(number as usize)));
            let (written, mut reliance) = match carried {
                Ok(carried) => carried,
                // What was known was forgotten and collected while we relied on it.
                Err(error) if matches!(error.kind(), ErrorKind::NotFound | ErrorKind::Corrupt) && !target.are_there(&needed)? => {
                    self.memo.clear();
                    continue;
                }
                Err(error) => return Err(error),
            };
            add(stats, &written);
            if let Some((here, base)) = self.equal_base(plan, &made)? {
                target.add_note(&note_of(here, id, self.request.time_ms))?;
                sessions.push(here);
                return Ok((here, base, false));
            }
            if self.request.verify {
                verify_equal((from, entry), (store, &made), self.monitor)?;
            }
            let (here, _) = made.encode();
            // Before the entry, so that it is never here without saying where it came from.
            self.note_origin(plan, id, here)?;
            if target.commit(store, &mut reliance, &made, &needed)?.is_some() {
                sessions.push(here);
                return Ok((here, made, true));
            }
            self.memo.clear();
            self.monitor.notice("a collection took away what was stored: the entry is carried anew");
        }
        Err(Error::new(ErrorKind::Locked, "collections took away what was stored, again and again: try it when none runs"))
    }

    /// The entry as it will be, still with the parts of the source.
    fn mapped(&self, plan: &mut TransplantPlan<'_>, entry: &Entry) -> Result<Entry> {
        let mut parents = Vec::new();
        let mut seen = HashSet::new();
        // What was forgotten is replaced by what it continued, in its place.
        let mut next: Vec<EntryId> = entry.parents.iter().rev().copied().collect();
        while let Some(id) = next.pop() {
            if !seen.insert(id) {
                continue;
            }
            if let Some(here) = plan.counterparts.of(&id)? {
                parents.push(here.id);
            } else if let Some(before) = plan.source.continued_by_forgotten(&id)? {
                next.extend(before.into_iter().rev());
            } else {
                // It stayed behind, as it may with an entry that came from elsewhere.
                parents.push(id);
            }
        }
        parents.dedup();
        let base = match &entry.base {
            Some(base) => {
                let here = plan.counterparts.of(&base.entry)?;
                Some(BaseRef { entry: here.map_or(base.entry, |here| here.id), ..base.clone() })
            }
            None => None,
        };
        Ok(Entry { parents, base, ..entry.clone() })
    }

    /// What the entry continues or is relative to, as far as both have it, with its ids at the target. Nothing is taken over from a target that lost packs.
    fn known(&self, plan: &mut TransplantPlan<'_>, entry: &Entry) -> Result<(Vec<KnownEntry>, Vec<EntryId>)> {
        let (mut known, mut needed) = (Vec::new(), Vec::new());
        if plan.target.has_lost_packs() {
            return Ok((known, needed));
        }
        for id in entry.parents.iter().chain(entry.base.iter().map(|base| &base.entry)) {
            let Some(here) = plan.counterparts.of(id)? else { continue };
            // That it is the same is then the word of somebody else.
            if here.claimed && !self.request.from.is_trusted() {
                continue;
            }
            if let (Some(there), Some(entry)) = (entry_there(plan.source, id)?, entry_there(plan.target, &here.id)?) {
                known.push(KnownEntry { there, here: entry });
                needed.push(here.id);
            }
        }
        Ok((known, needed))
    }

    /// A base of this name and version that the target has already, with the same content.
    fn equal_base(&self, plan: &TransplantPlan<'_>, made: &Entry) -> Result<Option<(EntryId, Entry)>> {
        if !matches!(made.kind, EntryKind::Base { .. }) {
            return Ok(None);
        }
        let Some(here) = plan.target.refs().get(RefKind::Base, &made.origin())? else { return Ok(None) };
        let same = |part: &Part, other: &Part| match (part, other) {
            (Part::Tree(a), Part::Tree(b)) => a.root == b.root,
            (a, b) => disk_of(a).is_some() && disk_of(a) == disk_of(b) || matches!((a, b), (Part::Machine(a), Part::Machine(b)) if a == b),
        };
        // It may have parts that the other lacks; what is relative to the other does not mind.
        let has = |entry: &Entry| made.parts.iter().all(|part| entry.parts.iter().any(|other| same(part, other)));
        Ok(entry_there(plan.target, &here)?.filter(has).map(|entry| (here, entry)))
    }

    fn note_origin(&self, plan: &TransplantPlan<'_>, id: &EntryId, here: EntryId) -> Result<()> {
        let target = plan.target;
        target.add_note(&note_of(here, id, self.request.time_ms))?;
        match self.request.from {
            Bringer::Remote { name, trusted } => {
                let text = Origin::Remote { name, trusted }.text();
                target.add_note(&Note { entry: here, time_ms: self.request.time_ms, author: RECEIVED_AUTHOR.to_owned(), text })
            }
            Bringer::AsReceived => {
                let notes = plan.source.notes_of(id)?;
                notes
                    .into_iter()
                    .filter(|note| note.author == RECEIVED_AUTHOR)
                    .try_for_each(|note| target.add_note(&Note { entry: here, ..note }))
            }
        }
    }

    /// Points refs to what came, and to what an earlier run did not come to point one to.
    fn place(&self, plan: &mut TransplantPlan<'_>, done: &mut Transplanted) -> Result<()> {
        let target = plan.target;
        let mut named = HashSet::new();
        for kind in RefKind::ALL {
            named.extend(target.refs().list(kind)?.into_iter().filter_map(|(_, id)| id.ok()));
        }
        for id in plan.plan.present.clone() {
            let Some(here) = plan.counterparts.of(&id)?.filter(|here| !named.contains(&here.id)) else { continue };
            let Some(entry) = entry_there(target, &here.id)? else { continue };
            let arrived = Arrived { id: here.id, new: false, placed: None };
            done.entries.push(Transplant { from: id, entry, arrived });
        }
        let lineage = self.lineage(plan, done)?;
        // An entry that another one of them continues needs no ref of its own.
        let continued: HashSet<EntryId> = done.entries.iter().flat_map(|got| got.entry.parents.iter().copied()).collect();
        target.settle_entries()?;
        for got in done.entries.iter_mut().filter(|got| !continued.contains(&got.arrived.id)) {
            got.arrived.placed = Some(place(target, &got.arrived.id, &got.entry, &lineage)?);
        }
        done.entries.retain(|got| got.arrived.new || !matches!(got.arrived.placed, None | Some(Placed::Present(_))));
        Ok(())
    }

    /// What the last entry continues, by the names it has at the target, the newest first.
    fn lineage(&self, plan: &mut TransplantPlan<'_>, done: &Transplanted) -> Result<Vec<EntryId>> {
        let mut lineage = Vec::new();
        let mut next = done.entries.last().map(|got| got.from);
        while let Some(id) = next.filter(|_| lineage.len() < crate::share::LINEAGE_MAX) {
            let parents = match entry_there(plan.source, &id)? {
                Some(entry) => entry.parents,
                None => plan.source.continued_by_forgotten(&id)?.unwrap_or_default(),
            };
            next = parents.first().copied();
            if let Some(before) = next {
                lineage.extend(plan.counterparts.of(&before)?.map(|here| here.id));
            }
        }
        for id in self.request.lineage {
            lineage.extend(plan.counterparts.of(id)?.map(|here| here.id));
        }
        Ok(lineage)
    }

    /// Notes and tags of all entries that both have now.
    fn marks(&self, plan: &mut TransplantPlan<'_>, done: &mut Transplanted) -> Result<()> {
        let (source, target) = (plan.source, plan.target);
        let sink = OpenRemote::new(target, "", true, self.request.time_ms).telling(self.monitor);
        let have: HashSet<NoteId> = sink.notes()?.into_iter().collect();
        let mut notes = Vec::new();
        for note in source.notes(self.monitor)?.into_values().flatten().filter(|note| !is_own_author(&note.author)) {
            if let Some(here) = plan.counterparts.of(&note.entry)? {
                let (id, record) = note_id(&Note { entry: here.id, ..note });
                notes.extend((!have.contains(&id)).then_some(record));
            }
        }
        done.notes_count = notes.len() as u64;
        for part in notes.chunks(MARKS_AT_ONCE) {
            sink.commit(&Commit { notes: part.to_vec(), ..Commit::default() })?;
        }
        let mut tags = Vec::new();
        for (name, id) in source.refs().list(RefKind::Tag)? {
            // A damaged one is told by `vml check`; it keeps nobody from the others.
            let Ok(id) = id else { continue };
            tags.extend(plan.counterparts.of(&id)?.map(|here| (name, here.id)));
        }
        for part in tags.chunks(MARKS_AT_ONCE) {
            done.other_tags.extend(sink.commit(&Commit { tags: part.to_vec(), ..Commit::default() })?.other_tags);
        }
        Ok(())
    }
}

fn disk_of(part: &Part) -> Option<(&str, &Recipe)> {
    if let Part::Disk(disk) = part { Some((&disk.name, &disk.recipe)) } else { None }
}

fn add(sum: &mut WriteStats, more: &WriteStats) {
    sum.seen_chunks += more.seen_chunks;
    sum.seen_bytes += more.seen_bytes;
    sum.new_chunks += more.new_chunks;
    sum.new_bytes += more.new_bytes;
    sum.stored_bytes += more.stored_bytes;
    sum.packs_count += more.packs_count;
}
