//! Makes entries that came from elsewhere known: a note of where they came from, the entry, then refs.

use super::sign::PublicKey;
use crate::entry::{Entry, EntryId, EntryKind, Note};
use crate::refs::RefKind;
use crate::repository::{RECEIVED_AUTHOR, Repository};
use bincode::{Decode, Encode};
use std::collections::{BTreeSet, HashSet};
use vml_chunk::{ErrorKind, Result};

/// Entries of a log that are looked through for one that they continue.
const ANCESTORS_MAX: usize = 1 << 20;

/// Entries whose chunks are all here.
pub(crate) struct Arrival<'a> {
    /// Each after those that it continues.
    pub(crate) entries: Vec<(EntryId, Entry)>,
    /// What the last one continues, as far as it is known, the newest first.
    pub(crate) lineage: &'a [EntryId],
    pub(crate) origin: Origin<'a>,
    /// The time now: milliseconds since 1970-01-01 00:00 UTC.
    pub(crate) time_ms: i64,
}

/// What became of a ref.
#[derive(Debug, Clone, PartialEq, Eq, Encode, Decode)]
pub enum Placed {
    /// The area or base was made, and points to the entry.
    Made(String),
    /// The area's log goes on with the entry.
    Advanced(String),
    /// It has the entry already.
    Present(String),
    /// The area or base of that name is another: the entry got this tag.
    Tagged(String),
}

/// An entry that came.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ReceivedEntry {
    /// Its id.
    pub id: EntryId,
    /// Itself.
    pub entry: Entry,
    /// Whether it was not in the repository.
    pub new: bool,
    /// What became of its ref; none where a later entry of the file stands for it.
    pub placed: Option<Placed>,
}

/// Commits the entries of an arrival, then points refs to them.
pub(crate) fn publish(
    repository: &Repository,
    arrival: Arrival<'_>,
    commit: &mut dyn FnMut(&Entry) -> Result<()>,
) -> Result<Vec<ReceivedEntry>> {
    let mut received = Vec::new();
    // An entry that another one of them continues needs no ref of its own.
    let continued: HashSet<EntryId> = arrival.entries.iter().flat_map(|(_, entry)| entry.parents.iter().copied()).collect();
    for (id, entry) in arrival.entries {
        let new = !repository.are_there(&[id])? || !is_readable(repository, &id)?;
        // One that came without a trusted signature may come again with one; one that was saved here stays ours.
        let is_told = |told: &Provenance| arrival.origin.is_told_by(told);
        if new || provenance(repository, &id)?.is_some_and(|told| !is_told(&told)) {
            // Before the entry, so that it is never here without saying that it came from elsewhere.
            let text = arrival.origin.text();
            repository.add_note(&Note { entry: id, time_ms: arrival.time_ms, author: RECEIVED_AUTHOR.to_owned(), text })?;
        }
        if new {
            commit(&entry)?;
        } else {
            repository.settle_entries()?;
        }
        received.push(ReceivedEntry { id, entry, new, placed: None });
    }
    for got in received.iter_mut().filter(|got| !continued.contains(&got.id)) {
        got.placed = Some(place(repository, &got.id, &got.entry, arrival.lineage)?);
    }
    Ok(received)
}

/// `false` when it has gone since.
fn is_readable(repository: &Repository, id: &EntryId) -> Result<bool> {
    match repository.entry(id) {
        Ok(_) => Ok(true),
        Err(error) if error.kind() == ErrorKind::NotFound => Ok(false),
        Err(error) => Err(error),
    }
}

/// Points a ref to an entry: its area or base where that is free or what the entry continues, else a tag.
pub(crate) fn place(repository: &Repository, id: &EntryId, entry: &Entry, lineage: &[EntryId]) -> Result<Placed> {
    let refs = repository.refs();
    let name = entry.origin();
    let kind = if matches!(entry.kind, EntryKind::State { .. }) { RefKind::Area } else { RefKind::Base };
    let present = refs.get(kind, &name)?;
    match present {
        None => {
            refs.set(kind, &name, None, Some(*id))?;
            return Ok(Placed::Made(name));
        }
        Some(present) if present == *id => {
            refs.settle(kind)?;
            return Ok(Placed::Present(name));
        }
        Some(present) if kind == RefKind::Area => {
            if ancestors(repository, id).contains(&present) || lineage.contains(&present) && !lineage.contains(id) {
                refs.set(kind, &name, Some(present), Some(*id))?;
                return Ok(Placed::Advanced(name));
            }
            if ancestors(repository, &present).contains(id) {
                refs.settle(kind)?;
                return Ok(Placed::Present(name));
            }
        }
        Some(_) => {}
    }
    let mut stem = name.replace('@', "-");
    stem.truncate(60);
    let tag = format!("{stem}-received-{}", id.short());
    match refs.get(RefKind::Tag, &tag)? {
        Some(target) if target == *id => refs.settle(RefKind::Tag)?,
        other => refs.set(RefKind::Tag, &tag, other, Some(*id))?,
    }
    Ok(Placed::Tagged(tag))
}

/// What an entry continues, as far as it is here; without itself.
fn ancestors(repository: &Repository, id: &EntryId) -> BTreeSet<EntryId> {
    let mut found = BTreeSet::new();
    let mut next = vec![*id];
    while let (Some(id), true) = (next.pop(), found.len() < ANCESTORS_MAX) {
        let parents = repository.entry(&id).map(|entry| entry.parents).unwrap_or_default();
        next.extend(parents.into_iter().filter(|parent| found.insert(*parent)));
    }
    found
}

/// Where an entry came from.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Provenance {
    /// Fingerprints of the keys that signed the files it came in; none where they were not signed.
    pub signers: Vec<String>,
    /// Whether it came from a remote that this repository's owner trusts as himself.
    pub trusted_remote: bool,
}

/// From where entries come.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Origin<'a> {
    /// A share file.
    File { author: &'a str, signer: Option<&'a PublicKey>, known_as: Option<&'a str> },
    /// Another repository.
    Remote { name: &'a str, trusted: bool },
}

const SIGNER_LINE: &str = "signer: ";
const TRUSTED_LINE: &str = "trusted remote";

impl Origin<'_> {
    fn is_told_by(&self, told: &Provenance) -> bool {
        match self {
            Self::File { signer, .. } => signer.is_none_or(|key| told.signers.contains(&key.to_string())),
            Self::Remote { trusted, .. } => !trusted || told.trusted_remote,
        }
    }

    /// The note that says so.
    pub(crate) fn text(&self) -> String {
        // Names are what somebody else wrote; they must not look like a line of ours.
        let clean = |name: &str| name.chars().filter(|letter| !letter.is_control()).take(200).collect::<String>();
        match self {
            Self::File { author, signer: Some(key), known_as } => {
                let known = known_as.map_or_else(|| "not a trusted key".to_owned(), |name| format!("known as {name}"));
                format!("received from {}, signed, {known}\n{SIGNER_LINE}{key}", clean(author))
            }
            Self::File { author, signer: None, .. } => format!("received from {}, not signed", clean(author)),
            Self::Remote { name, trusted: true } => format!("from {}\n{TRUSTED_LINE}", clean(name)),
            Self::Remote { name, trusted: false } => format!("from {}, not signed", clean(name)),
        }
    }
}

/// Whether an entry was received, and who signed it; `None` for one that was saved here.
///
/// # Errors
/// What the backend says; `Corrupt` when a note of the entry cannot be read.
pub fn provenance(repository: &Repository, id: &EntryId) -> Result<Option<Provenance>> {
    let notes = repository.notes_of(id)?;
    let mut received = notes.iter().filter(|note| note.author == RECEIVED_AUTHOR).peekable();
    if received.peek().is_none() {
        return Ok(None);
    }
    let mut told = Provenance::default();
    for line in received.filter_map(|note| note.text.lines().nth(1)) {
        told.trusted_remote |= line == TRUSTED_LINE;
        told.signers.extend(line.strip_prefix(SIGNER_LINE).map(str::to_owned));
    }
    Ok(Some(told))
}
