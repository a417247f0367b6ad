//! What is known to be damaged, so that nothing new relies on it and the next save of the same data heals it.
//!
//! ```text
//! one file, damage, changed by compare-and-swap only
//!   packs     in which bytes have changed: what is sound in them is read, nobody finds a chunk there that need not be stored
//!   lost      chunks that an entry names and no pack has
//!   unknown   whether there may be more of these than are named
//! ```
//! It is advice and no lock: whoever does not know of it relies on what is damaged, as he did before that was found. A check that reads
//! every byte and a repair write it; a check or a repair that finds everything whole takes it away.

use super::ChunkStore;
use super::quarantine::PackNames;
use crate::backend::Backend;
use crate::codec::{RecordKind, decode_record, encode_record};
use crate::error::{Error, ErrorKind, Result};
use crate::id::ChunkId;
use bincode::{Decode, Encode};

/// Where it is.
pub const DAMAGE_KEY: &str = "damage";
/// Its record.
pub const DAMAGE_RECORD: RecordKind = RecordKind { number: 12, version: 1, name: "list of what is damaged" };
/// Most lost chunks that are named.
pub const LOST_MAX: usize = 1 << 18;
/// Longest record.
const DAMAGE_MAX_LEN: u64 = 32 << 20;
/// Times that the record is met; each time somebody else has just changed it.
const TRIES: usize = 100;

/// What is known to be damaged.
#[derive(Debug, Clone, Default, PartialEq, Eq, Encode, Decode)]
pub struct Damage {
    /// Packs in which bytes have changed.
    pub packs: PackNames,
    /// Chunks that an entry names and no pack has, rising; at most [`LOST_MAX`].
    pub lost: Vec<ChunkId>,
    /// Whether there may be more of these.
    pub unknown: bool,
}

impl Damage {
    /// Whether nothing is known to be damaged.
    pub fn is_empty(&self) -> bool {
        self.packs.is_empty() && self.lost.is_empty() && !self.unknown
    }

    /// Names lost chunks, as many as may be named.
    pub fn set_lost(&mut self, mut lost: Vec<ChunkId>) {
        lost.sort_unstable();
        lost.dedup();
        self.unknown = lost.len() > LOST_MAX;
        lost.truncate(LOST_MAX);
        self.lost = lost;
    }

    /// Reads the record. One that cannot be understood says that anything may be damaged.
    ///
    /// # Errors
    /// What the backend says.
    pub fn read(backend: &dyn Backend) -> Result<Self> {
        Ok(Known::read(backend)?.damage)
    }
}

/// The record as it was read.
struct Known {
    damage: Damage,
    bytes: Option<Vec<u8>>,
    /// Whether it could be understood.
    sound: bool,
}

impl Known {
    fn read(backend: &dyn Backend) -> Result<Self> {
        // In one piece, because it is swapped.
        let mapped = match backend.map(DAMAGE_KEY) {
            Ok(mapped) => mapped,
            Err(error) if error.kind() == ErrorKind::NotFound => return Ok(Self { damage: Damage::default(), bytes: None, sound: true }),
            Err(error) => return Err(error),
        };
        let bytes = mapped.as_ref();
        let is_sorted = |damage: &Damage| damage.packs.is_sorted() && damage.lost.is_sorted_by(|a, b| a < b);
        let read = (bytes.len() as u64 <= DAMAGE_MAX_LEN)
            .then(|| decode_record::<Damage>(DAMAGE_RECORD, bytes))
            .and_then(Result::ok)
            .filter(is_sorted);
        let sound = read.is_some();
        let damage = read.unwrap_or(Damage { unknown: true, ..Damage::default() });
        Ok(Self { damage, bytes: Some(bytes.to_vec()), sound })
    }
}

impl ChunkStore {
    /// What is known to be damaged.
    ///
    /// # Errors
    /// What the backend says.
    pub fn damage(&self) -> Result<Damage> {
        Damage::read(self.backend.as_ref())
    }

    /// Whether the record of what is damaged can be understood, or is not there.
    ///
    /// # Errors
    /// What the backend says.
    pub fn is_damage_known(&self) -> Result<bool> {
        Ok(Known::read(self.backend.as_ref())?.sound)
    }

    /// Changes what is known to be damaged; the record goes when nothing is.
    ///
    /// # Errors
    /// What the backend says; `Locked` when others change it all the time.
    pub fn note_damage(&self, change: &dyn Fn(&mut Damage)) -> Result<()> {
        for _ in 0..TRIES {
            let known = Known::read(self.backend.as_ref())?;
            let mut new = known.damage.clone();
            change(&mut new);
            if known.sound && new == known.damage {
                return Ok(());
            }
            let bytes = (!new.is_empty()).then(|| encode_record(DAMAGE_RECORD, &new));
            if bytes == known.bytes || self.backend.swap(DAMAGE_KEY, known.bytes.as_deref(), bytes.as_deref())? {
                return Ok(());
            }
        }
        Err(Error::new(ErrorKind::Locked, format!("{DAMAGE_KEY} is changed by others all the time")))
    }

    /// Whether entries may name chunks that are not there, by what is known of damage. What was lost and is there again is forgotten.
    ///
    /// # Errors
    /// What the backend says.
    pub fn has_known_damage(&self) -> Result<bool> {
        let damage = self.damage()?;
        if damage.is_empty() {
            return Ok(false);
        }
        if damage.unknown || !damage.packs.is_empty() {
            return Ok(true);
        }
        let view = self.view();
        if damage.lost.iter().any(|id| !view.contains(id)) {
            return Ok(true);
        }
        // A repository that cannot be written goes on knowing it.
        _ = self.note_damage(&|now| {
            if *now == damage {
                *now = Damage::default();
            }
        });
        Ok(false)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::backend::MemoryBackend;
    use crate::id::PackId;
    use crate::pack::PackKind;
    use crate::store::StoreOptions;
    use std::sync::Arc;

    #[test]
    fn it_is_there_while_something_is_damaged_and_its_own_damage_says_that_anything_may_be() {
        let files: Arc<dyn Backend> = Arc::new(MemoryBackend::new());
        let (store, _) = ChunkStore::open(Arc::clone(&files), StoreOptions::default()).unwrap();
        assert!(!store.has_known_damage().unwrap());
        store.note_damage(&|damage| damage.packs.insert(PackKind::Data, PackId::of(b"a"))).unwrap();
        store.note_damage(&|damage| damage.set_lost(vec![ChunkId::of(b"2"), ChunkId::of(b"1"), ChunkId::of(b"2")])).unwrap();
        let damage = store.damage().unwrap();
        assert_eq!((damage.packs.len(), damage.lost.len(), damage.unknown), (1, 2, false));
        let mut bytes = files.read(DAMAGE_KEY, 1000).unwrap();
        bytes[40] ^= 1;
        files.delete(DAMAGE_KEY).unwrap();
        files.put(DAMAGE_KEY, &bytes).unwrap();
        assert!(store.damage().unwrap().unknown && store.has_known_damage().unwrap() && !store.is_damage_known().unwrap());
        store.note_damage(&|damage| *damage = Damage::default()).unwrap();
        assert_eq!(files.len(DAMAGE_KEY).unwrap_err().kind(), ErrorKind::NotFound);
    }
}
