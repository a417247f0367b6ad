//! What stays of an entry that was forgotten: which entries it continued, so that the chain it stood in still leads on.

use super::{ENTRIES_DIR, RECORD_MAX_LEN, Repository};
use crate::entry::{Entry, EntryId};
use bincode::{Decode, Encode};
use std::collections::HashSet;
use vml_chunk::codec::{RecordKind, decode_record, encode_record};
use vml_chunk::{Error, ErrorKind, Result};

/// Where these records are.
pub const FORGOTTEN_DIR: &str = "forgotten";
/// The record.
pub const FORGOTTEN_RECORD: RecordKind = RecordKind { number: 8, version: 1, name: "record of a forgotten entry" };

/// The record of an entry that was forgotten; its file's name is that entry's id.
#[derive(Debug, Clone, PartialEq, Eq, Encode, Decode)]
pub(super) struct Forgotten {
    /// The nearest entries before it that were there when it was forgotten.
    pub(super) parents: Vec<EntryId>,
}

impl Repository {
    /// The entry that `entry` continues: the nearest one before it that was not forgotten.
    ///
    /// # Errors
    /// `NotFound` when an entry in between is lost, else what the backend says.
    pub fn previous(&self, entry: &Entry) -> Result<Option<EntryId>> {
        let mut seen = HashSet::new();
        let mut next = entry.parents.first().copied();
        while let Some(id) = next {
            if self.are_there(&[id])? {
                return Ok(Some(id));
            }
            let forgotten = self.forgotten(&id)?;
            let Some(record) = forgotten else {
                // What a received entry continues may have stayed elsewhere.
                if self.was_received(&entry.encode().0) {
                    return Ok(None);
                }
                let lost = Error::not_found(format!("{ENTRIES_DIR}/{id} does not exist, and it was not forgotten"));
                return Err(lost.context(format!("cannot read entry {}", id.short())));
            };
            // Names are digests and cannot lead in a circle, but files can be put anywhere.
            next = record.parents.first().copied().filter(|_| seen.insert(id));
        }
        Ok(None)
    }

    /// Whether an entry was forgotten.
    ///
    /// # Errors
    /// What the backend says.
    pub fn is_forgotten(&self, id: &EntryId) -> Result<bool> {
        Ok(self.forgotten(id)?.is_some())
    }

    /// What an entry that was forgotten continued; `None` for one that was not.
    pub(crate) fn continued_by_forgotten(&self, id: &EntryId) -> Result<Option<Vec<EntryId>>> {
        Ok(self.forgotten(id)?.map(|record| record.parents))
    }

    /// Takes over from another repository that an entry was forgotten there, unless this one knows of it.
    pub(crate) fn note_forgotten(&self, id: &EntryId, parents: &[EntryId]) -> Result<()> {
        if self.are_there(&[*id])? || self.is_forgotten(id)? {
            return Ok(());
        }
        self.put_forgotten(id, &Forgotten { parents: parents.to_vec() })
    }

    pub(super) fn forgotten(&self, id: &EntryId) -> Result<Option<Forgotten>> {
        match self.backend.read(&format!("{FORGOTTEN_DIR}/{id}"), RECORD_MAX_LEN) {
            Ok(bytes) => decode_record(FORGOTTEN_RECORD, &bytes).map(Some),
            Err(error) if error.kind() == ErrorKind::NotFound => Ok(None),
            Err(error) => Err(error),
        }
    }

    /// Notes that an entry is forgotten; durable before the entry goes.
    pub(super) fn put_forgotten(&self, id: &EntryId, record: &Forgotten) -> Result<()> {
        self.backend.put(&format!("{FORGOTTEN_DIR}/{id}"), &encode_record(FORGOTTEN_RECORD, record)).map(|_| ())
    }

    /// Deletes an entry's record. What it named stays until a collection.
    pub(super) fn delete_entry(&self, id: &EntryId) -> Result<()> {
        self.backend.delete(&format!("{ENTRIES_DIR}/{id}"))
    }
}
