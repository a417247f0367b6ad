//! Which entry of the source is which of the target.

use crate::entry::{Entry, EntryId, EntryKind, Note, Part};
use crate::monitor::Monitor;
use crate::repository::{Repository, TRANSPLANT_AUTHOR};
use std::collections::HashMap;
use vml_chunk::{ErrorKind, Result};

/// Before the id in the text of a note.
const ENTRY_WORDS: &str = "this is entry ";

/// A counterpart of a source entry.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Counterpart {
    /// The entry of the target.
    pub(super) id: EntryId,
    /// Whether only the source says so, of an entry that it got from the target.
    pub(super) claimed: bool,
}

/// Finds counterparts, by what each repository noted when entries were carried into it.
pub(super) struct Counterparts<'a> {
    source: &'a Repository,
    target: &'a Repository,
    /// By notes of the target: entries of the source.
    carried_here: HashMap<EntryId, EntryId>,
    /// By notes of the source: entries of the target.
    carried_there: HashMap<EntryId, EntryId>,
    found: HashMap<EntryId, Option<Counterpart>>,
}

impl<'a> Counterparts<'a> {
    pub(super) fn new(source: &'a Repository, target: &'a Repository, monitor: &dyn Monitor) -> Result<Self> {
        let told = |repository: &Repository| -> Result<Vec<(EntryId, EntryId)>> {
            let notes = repository.notes(monitor)?;
            Ok(notes.into_values().flatten().filter_map(|note| Some((note.entry, origin_of(&note)?))).collect())
        };
        Ok(Self {
            carried_here: told(target)?.into_iter().map(|(here, there)| (there, here)).collect(),
            carried_there: told(source)?.into_iter().collect(),
            source,
            target,
            found: HashMap::new(),
        })
    }

    /// The entry that stands for `id` at the target, if it is there.
    pub(super) fn of(&mut self, id: &EntryId) -> Result<Option<Counterpart>> {
        if let Some(found) = self.found.get(id) {
            return Ok(*found);
        }
        let found = self.look(id)?;
        self.found.insert(*id, found);
        Ok(found)
    }

    /// From now on `here` stands for `id`.
    pub(super) fn set(&mut self, id: EntryId, here: EntryId) {
        self.found.insert(id, Some(Counterpart { id: here, claimed: false }));
    }

    fn look(&self, id: &EntryId) -> Result<Option<Counterpart>> {
        for here in self.carried_here.get(id).into_iter().chain([id]) {
            if entry_there(self.target, here)?.is_some() {
                return Ok(Some(Counterpart { id: *here, claimed: false }));
            }
        }
        // It came from the target once. The source may say what it likes; it must at least look like it.
        if let Some(here) = self.carried_there.get(id)
            && let (Some(there), Some(entry)) = (entry_there(self.source, id)?, entry_there(self.target, here)?)
            && looks_like(&there, &entry)
        {
            return Ok(Some(Counterpart { id: *here, claimed: true }));
        }
        Ok(None)
    }
}

/// The note that says from which entry one came.
pub(super) fn note_of(here: EntryId, there: &EntryId, time_ms: i64) -> Note {
    let text = format!("{ENTRY_WORDS}{there} of a repository that cuts or names its chunks otherwise");
    Note { entry: here, time_ms, author: TRANSPLANT_AUTHOR.to_owned(), text }
}

pub(super) fn origin_of(note: &Note) -> Option<EntryId> {
    let text = note.text.strip_prefix(ENTRY_WORDS).filter(|_| note.author == TRANSPLANT_AUTHOR)?;
    text.split(' ').next()?.parse().ok()
}

/// An entry, if it is there and not forgotten.
pub(super) fn entry_there(repository: &Repository, id: &EntryId) -> Result<Option<Entry>> {
    if !repository.are_there(&[*id])? {
        return Ok(None);
    }
    match repository.entry(id) {
        Ok(entry) => Ok(Some(entry)),
        Err(error) if error.kind() == ErrorKind::NotFound => Ok(None),
        Err(error) => Err(error),
    }
}

/// Whether two entries say the same of what was saved; their content is not looked at.
fn looks_like(a: &Entry, b: &Entry) -> bool {
    let base = |entry: &Entry| entry.base.as_ref().map(|base| (base.name.clone(), base.version.clone()));
    // A base may be the target's own import of the same.
    let told = |entry: &Entry| match &entry.kind {
        EntryKind::State { .. } => Some((entry.time_ms, entry.author.clone(), entry.message.clone(), entry.facts.clone())),
        EntryKind::Base { .. } => None,
    };
    let part = |(a, b): (&Part, &Part)| match (a, b) {
        (Part::Tree(a), Part::Tree(b)) => (a.stats.files_count, a.stats.bytes) == (b.stats.files_count, b.stats.bytes),
        (Part::Disk(a), Part::Disk(b)) => (&a.name, a.recipe.len) == (&b.name, b.recipe.len),
        (Part::Machine(a), Part::Machine(b)) => a == b,
        (Part::Memory(a), Part::Memory(b)) => a.recipe.len == b.recipe.len,
        _ => false,
    };
    a.kind == b.kind && base(a) == base(b) && told(a) == told(b) && a.parts.len() == b.parts.len() && a.parts.iter().zip(&b.parts).all(part)
}
