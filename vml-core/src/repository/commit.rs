//! Commits an entry beside collections: an intent first, then a look at what they take away, then the entry.
//!
//! ```text
//! saving/ENTRY   prepared ──(what it relies on is secure)──► committed ──► entries/ENTRY ──► deleted
//!                    └──(it is not, or its writer died: a collection takes it)──► deleted
//! ```
//! Every arrow out of the first state is one compare-and-swap on one file, so that writer and collection never differ on what became of it.
//! A collection marks what an intent names as it does for an entry. One whose writer died is finished by a later collection
//! when all it names is there: the state was saved, it only lacks its name.

use super::{ENTRIES_DIR, Repository};
use crate::entry::{Entry, EntryId};
use bincode::{Decode, Encode};
use vml_chunk::codec::{RecordKind, decode_record, encode_record};
use vml_chunk::{ChunkStore, Error, ErrorKind, Reliance, Result, Security};

/// Where intents are.
pub const SAVING_DIR: &str = "saving";
/// The record of an intent.
pub const INTENT_RECORD: RecordKind = RecordKind { number: 7, version: 1, name: "save that is being committed" };
/// Longest intent: an entry and a little.
const INTENT_MAX_LEN: usize = 17 << 20;
/// Collections that an intent outlives before it is taken for a dead writer's.
const GENERATIONS: u64 = 2;
/// Times that the same intent is met; each time somebody else has just changed it.
const TRIES: usize = 100;

/// What there is of all that an entry names.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Wholeness {
    /// All of it, in packs that stay: what its writer had to make sure of.
    Whole,
    /// All of it, but some in packs that go: a collection that sees the intent copies it, and the one after that finds it whole.
    Going,
    /// Not all.
    Incomplete,
}

/// An entry about to be committed.
#[derive(Debug, Clone, PartialEq, Eq, Encode, Decode)]
pub(super) struct Intent {
    /// The generation of collections when it was prepared.
    generation: u64,
    /// Whether it is decided: then the entry is as good as there.
    committed: bool,
    /// How often the entry was forgotten before that: what its writer makes sure of is no older.
    forgotten: u64,
    /// The entry's record.
    entry: Vec<u8>,
}

/// An intent as it was found.
pub(super) struct FoundIntent {
    pub(super) id: EntryId,
    pub(super) entry: Entry,
    key: String,
    bytes: Vec<u8>,
    intent: Intent,
}

/// Checks the bytes of an intent; tells the generation in which it was prepared.
pub(super) fn check_intent(id: &EntryId, bytes: &[u8]) -> Result<u64> {
    let intent: Intent = decode_record(INTENT_RECORD, bytes)?;
    if EntryId::of(&intent.entry) != *id {
        return Err(Error::corrupt("its entry does not match its name"));
    }
    Entry::decode(&intent.entry)?;
    Ok(intent.generation)
}

fn key_of(id: &EntryId) -> String {
    format!("{SAVING_DIR}/{id}")
}

impl Repository {
    /// Commits an entry that relies on `reliance` and on chunks of the entries `needed`; `None` when what it relies on is gone and
    /// it must be saved anew.
    pub(crate) fn commit(&self, store: &ChunkStore, reliance: &mut Reliance, entry: &Entry, needed: &[EntryId]) -> Result<Option<EntryId>> {
        let (id, record) = entry.encode();
        let forgotten = self.times_forgotten(&id)?;
        let mut intent = Intent { generation: store.generation()?, committed: false, forgotten, entry: record };
        let key = key_of(&id);
        let prepared = encode_record(INTENT_RECORD, &intent);
        let twin = self.prepare(&key, &prepared)?;
        if let Some(twin) = twin {
            intent = twin;
        } else {
            // Entries whose chunks were taken over are looked for only now: one that is there has been marked by whoever cannot know the intent.
            let stands = self.are_there(needed)? && store.secure(reliance)? == Security::Sound;
            if !stands {
                _ = self.backend.swap(&key, Some(&prepared), None)?;
                return Ok(None);
            }
            let committed = encode_record(INTENT_RECORD, &Intent { committed: true, ..intent.clone() });
            if !self.backend.swap(&key, Some(&prepared), Some(&committed))? && !self.is_decided(&key, &id)? {
                return Ok(None);
            }
        }
        let is_there = self.publish_entry(&id, &intent)?;
        // The next collection does it otherwise.
        _ = self.forget_intent(&key);
        Ok(is_there.then_some(id))
    }

    /// Publishes an entry whose intent is committed; `false` when it was forgotten since the intent was prepared: what it names may be gone.
    fn publish_entry(&self, id: &EntryId, intent: &Intent) -> Result<bool> {
        if !self.bring_back(id, intent.forgotten)? {
            return Ok(false);
        }
        self.backend.put(&format!("{ENTRIES_DIR}/{id}"), &intent.entry)?;
        // Whoever forgot it in between may not have seen it; then it stays forgotten.
        Ok(!self.is_forgotten(id)?)
    }

    /// Whether all these entries are there, and none is forgotten.
    pub(crate) fn are_there(&self, ids: &[EntryId]) -> Result<bool> {
        for id in ids {
            match self.backend.len(&format!("{ENTRIES_DIR}/{id}")) {
                Ok(_) if self.is_forgotten(id)? => return Ok(false),
                Ok(_) => {}
                Err(error) if error.kind() == ErrorKind::NotFound => return Ok(false),
                Err(error) => return Err(error),
            }
        }
        Ok(true)
    }

    /// Makes `prepared` the intent; gives the one that is there when the same entry is committed already.
    fn prepare(&self, key: &str, prepared: &[u8]) -> Result<Option<Intent>> {
        for _ in 0..TRIES {
            if self.backend.swap(key, None, Some(prepared))? {
                return Ok(None);
            }
            // The very same entry, to the millisecond: of a twin, or left by a writer that died.
            let Some((bytes, intent)) = self.read_intent(key)? else { continue };
            if let Some(intent) = intent.filter(|intent| intent.committed) {
                return Ok(Some(intent));
            }
            if bytes == prepared || self.backend.swap(key, Some(&bytes), Some(prepared))? {
                return Ok(None);
            }
        }
        Err(Error::new(ErrorKind::Locked, format!("{key} is changed by others all the time")))
    }

    /// Whether an intent that is not ours any more became an entry.
    fn is_decided(&self, key: &str, id: &EntryId) -> Result<bool> {
        match self.read_intent(key)? {
            Some((_, Some(intent))) if intent.committed => Ok(true),
            _ => self.are_there(&[*id]),
        }
    }

    fn read_intent(&self, key: &str) -> Result<Option<(Vec<u8>, Option<Intent>)>> {
        // In one piece, because it is swapped.
        let mapped = match self.backend.map(key) {
            Ok(mapped) => mapped,
            Err(error) if error.kind() == ErrorKind::NotFound => return Ok(None),
            // One that does not even open, in an encrypted repository.
            Err(error) if error.kind() == ErrorKind::Corrupt => return Ok(Some((Vec::new(), None))),
            Err(error) => return Err(error),
        };
        let bytes = mapped.as_ref();
        if bytes.len() > INTENT_MAX_LEN {
            return Err(Error::corrupt(format!("{key} is too long")));
        }
        Ok(Some((bytes.to_vec(), decode_record(INTENT_RECORD, bytes).ok())))
    }

    /// Removes an intent that is committed.
    fn forget_intent(&self, key: &str) -> Result<()> {
        if let Some((bytes, Some(intent))) = self.read_intent(key)?
            && intent.committed
        {
            self.backend.swap(key, Some(&bytes), None)?;
        }
        Ok(())
    }

    /// All intents that can be read. One that cannot names nothing, and cannot be committed by anybody.
    pub(super) fn intents(&self) -> Result<Vec<FoundIntent>> {
        let mut found = Vec::new();
        for listed in self.backend.list(SAVING_DIR)? {
            let Ok(id) = listed.name.parse::<EntryId>() else { continue };
            let key = key_of(&id);
            if let Some((bytes, Some(intent))) = self.read_intent(&key)?
                && EntryId::of(&intent.entry) == id
                && let Ok(entry) = Entry::decode(&intent.entry)
            {
                found.push(FoundIntent { id, entry, key, bytes, intent });
            }
        }
        Ok(found)
    }

    /// Ends intents that are decided, and those whose writers are taken for dead, by what there is of all that one names. A writer
    /// that lives after all learns of it by its own swap.
    pub(super) fn settle(&self, found: &FoundIntent, generation: u64, look: &mut dyn FnMut(&Entry) -> Result<Wholeness>) -> Result<()> {
        let mut decided = found.intent.committed;
        if !decided && found.intent.generation.saturating_add(GENERATIONS) <= generation {
            match look(&found.entry)? {
                Wholeness::Whole => {}
                Wholeness::Going => return Ok(()),
                Wholeness::Incomplete => return self.backend.swap(&found.key, Some(&found.bytes), None).map(|_| ()),
            }
            let committed = encode_record(INTENT_RECORD, &Intent { committed: true, ..found.intent.clone() });
            decided = self.backend.swap(&found.key, Some(&found.bytes), Some(&committed))?;
        }
        if decided {
            // One that was forgotten meanwhile stays so.
            self.publish_entry(&found.id, &found.intent)?;
            self.forget_intent(&found.key)?;
        }
        Ok(())
    }
}
