//! What stays of an entry that was forgotten: which entries it continued, so that the chain it stood in still leads on, and that it was forgotten.
//!
//! The record wins over the entry: one that was forgotten and whose file is there all the same is not there for anybody. So whoever is late, a publisher that
//! slept before his last step, or an intent that a loss of power brought back, cannot bring back an entry whose chunks were collected since. Bringing it back is a
//! step of its own: a commit notes how often the entry was forgotten before it makes sure of its chunks, and may undo that often and no oftener.

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
    /// How often it was forgotten.
    times: u64,
    /// After how many of these it came back. If that is fewer, it is forgotten now.
    returned: u64,
}

/// Times that the same record is met; each time somebody else has just changed it.
const TRIES: usize = 100;

/// Checks the bytes of a record.
pub(super) fn check_forgotten(bytes: &[u8]) -> Result<()> {
    decode_record::<Forgotten>(FORGOTTEN_RECORD, bytes).map(|_| ())
}

/// What a record that cannot be read becomes, and what that says. Whoever forgets takes the entry's file away after this record was written.
pub(super) fn mended_record(is_there: bool) -> (Vec<u8>, &'static str) {
    let record = Forgotten { parents: Vec::new(), times: 1, returned: u64::from(is_there) };
    let says = if is_there { "the entry is there" } else { "the entry was forgotten; what it continued is not known" };
    (encode_record(FORGOTTEN_RECORD, &record), says)
}

fn key_of(id: &EntryId) -> String {
    format!("{FORGOTTEN_DIR}/{id}")
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
            // One that is damaged is there; whoever reads it is told.
            if !self.entry(&id).is_err_and(|error| error.kind() == ErrorKind::NotFound) {
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
        Ok(self.forgotten(id)?.is_some_and(|record| record.returned < record.times))
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
        self.put_forgotten(id, parents)
    }

    pub(super) fn forgotten(&self, id: &EntryId) -> Result<Option<Forgotten>> {
        match self.backend.read(&key_of(id), RECORD_MAX_LEN) {
            Ok(bytes) => decode_record(FORGOTTEN_RECORD, &bytes).map(Some),
            Err(error) if error.kind() == ErrorKind::NotFound => Ok(None),
            Err(error) => Err(error),
        }
    }

    /// The record as it is, with its bytes; bytes that cannot be understood have none.
    fn read_forgotten(&self, id: &EntryId) -> Result<Option<(Vec<u8>, Option<Forgotten>)>> {
        // In one piece, because it is swapped.
        match self.backend.map(&key_of(id)) {
            Ok(mapped) => Ok(Some((mapped.as_ref().to_vec(), decode_record(FORGOTTEN_RECORD, mapped.as_ref()).ok()))),
            Err(error) if error.kind() == ErrorKind::NotFound => Ok(None),
            Err(error) => Err(error),
        }
    }

    /// Notes that an entry is forgotten; durable before the entry goes.
    pub(super) fn put_forgotten(&self, id: &EntryId, parents: &[EntryId]) -> Result<()> {
        for _ in 0..TRIES {
            let old = self.read_forgotten(id)?;
            let (times, returned) = match &old {
                Some((_, Some(record))) if record.returned < record.times => {
                    // Whoever noted it may have been killed before it was durable.
                    return self.backend.settle(FORGOTTEN_DIR);
                }
                Some((_, Some(record))) => (record.times + 1, record.returned),
                _ => (1, 0),
            };
            let new = encode_record(FORGOTTEN_RECORD, &Forgotten { parents: parents.to_vec(), times, returned });
            if self.backend.swap(&key_of(id), old.as_ref().map(|(bytes, _)| &bytes[..]), Some(&new))? {
                return Ok(());
            }
        }
        Err(Error::new(ErrorKind::Locked, format!("{} is changed by others all the time", key_of(id))))
    }

    /// How often an entry was forgotten.
    pub(super) fn times_forgotten(&self, id: &EntryId) -> Result<u64> {
        Ok(self.forgotten(id)?.map_or(0, |record| record.times))
    }

    /// Undoes that an entry was forgotten, if that was so often when `times` were counted; tells whether it is not forgotten now.
    pub(super) fn bring_back(&self, id: &EntryId, times: u64) -> Result<bool> {
        for _ in 0..TRIES {
            let Some((bytes, Some(record))) = self.read_forgotten(id)? else { return Ok(true) };
            if record.times > times {
                return Ok(record.returned == record.times);
            }
            if record.returned == record.times {
                return Ok(true);
            }
            let new = encode_record(FORGOTTEN_RECORD, &Forgotten { returned: record.times, ..record });
            if self.backend.swap(&key_of(id), Some(&bytes), Some(&new))? {
                return Ok(true);
            }
        }
        Err(Error::new(ErrorKind::Locked, format!("{} is changed by others all the time", key_of(id))))
    }

    /// Deletes an entry's record. What it named stays until a collection.
    pub(super) fn delete_entry(&self, id: &EntryId) -> Result<()> {
        self.backend.delete(&format!("{ENTRIES_DIR}/{id}"))
    }
}
