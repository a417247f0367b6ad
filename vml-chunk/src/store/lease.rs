//! What a writer says it is writing, so that a collection leaves its packs alone until an entry names them.
//!
//! A lease is a favour and no lock: a collection that does not honour it costs the writer the work of storing its chunks
//! again and nobody a chunk, because writers look at the [quarantine](super::quarantine) before they commit. So it can be taken from a writer that
//! is dead without being sure of that: one that has seen two collections begin since it was last renewed is no longer honoured.

use super::quarantine::{PackNames, Seen};
use crate::backend::Backend;
use crate::codec::{RecordKind, decode_record, encode_record};
use crate::error::{ErrorKind, Result};
use crate::id::PackId;
use crate::pack::PackKind;
use bincode::{Decode, Encode};

/// Where leases are.
pub const LEASES_DIR: &str = "leases";
/// The record of a lease.
pub const LEASE_RECORD: RecordKind = RecordKind { number: 6, version: 1, name: "writer's lease" };
/// Tries to find a free name; others take one at the same moment.
const TRIES: u64 = 1000;
/// Collections that a lease outlives.
const GENERATIONS: u64 = 2;

/// What a lease says.
#[derive(Debug, Clone, Default, PartialEq, Eq, Encode, Decode)]
pub struct LeaseRecord {
    /// The generation in which it was last renewed.
    pub generation: u64,
    /// Packs that its writer has published.
    pub packs: PackNames,
}

/// A writer's own lease; none before its first pack in the middle of a session.
#[derive(Debug, Default)]
pub(super) struct Lease {
    record: LeaseRecord,
    held: Option<(String, Vec<u8>)>,
}

impl Lease {
    /// Says that a pack is about to be published, and renews the lease.
    pub(super) fn cover(&mut self, backend: &dyn Backend, kind: PackKind, id: PackId) -> Result<()> {
        self.record.generation = Seen::read(backend)?.list.generation;
        self.record.packs.insert(kind, id);
        let bytes = encode_record(LEASE_RECORD, &self.record);
        if let Some((key, old)) = self.held.take()
            && backend.swap(&key, Some(&old), Some(&bytes))?
        {
            self.held = Some((key, bytes));
            return Ok(());
        }
        // The first one, or a collection has taken it for a dead writer's.
        let numbers = backend.list(LEASES_DIR)?.into_iter().filter_map(|listed| listed.name.parse::<u64>().ok());
        let next = numbers.max().map_or(1, |number| number.saturating_add(1));
        for number in next..next.saturating_add(TRIES) {
            let key = format!("{LEASES_DIR}/{number}");
            if backend.swap(&key, None, Some(&bytes))? {
                self.held = Some((key, bytes));
                break;
            }
        }
        Ok(())
    }

    /// Gives it back; one that cannot be is taken by a collection in the end.
    pub(super) fn release(&mut self, backend: &dyn Backend) {
        if let Some((key, bytes)) = self.held.take() {
            _ = backend.swap(&key, Some(&bytes), None);
        }
    }
}

/// A lease as a collection finds it.
pub(crate) struct Found {
    key: String,
    /// None of one that does not even open, in an encrypted repository.
    bytes: Option<Vec<u8>>,
    /// Empty for one that cannot be read.
    pub(crate) record: LeaseRecord,
}

impl Found {
    /// All leases.
    pub(crate) fn all(backend: &dyn Backend) -> Result<Vec<Self>> {
        let mut leases = Vec::new();
        for listed in backend.list(LEASES_DIR)? {
            let key = format!("{LEASES_DIR}/{}", listed.name);
            match backend.map(&key) {
                Ok(mapped) => {
                    let bytes = mapped.as_ref().to_vec();
                    let record = decode_record::<LeaseRecord>(LEASE_RECORD, &bytes).ok().filter(|record| record.packs.is_sorted());
                    leases.push(Self { key, bytes: Some(bytes), record: record.unwrap_or_default() });
                }
                Err(error) if error.kind() == ErrorKind::Corrupt => {
                    leases.push(Self { key, bytes: None, record: LeaseRecord::default() });
                }
                Err(error) if error.kind() == ErrorKind::NotFound => {}
                Err(error) => return Err(error),
            }
        }
        Ok(leases)
    }

    /// Whether a collection that finds `generation` leaves its packs alone.
    pub(crate) fn counts_in(&self, generation: u64) -> bool {
        self.record.generation.saturating_add(GENERATIONS) > generation
    }

    /// Takes it away, unless its writer renewed it meanwhile.
    pub(crate) fn take(&self, backend: &dyn Backend) -> Result<()> {
        match &self.bytes {
            Some(bytes) => backend.swap(&self.key, Some(bytes), None).map(|_| ()),
            None => backend.delete(&self.key),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::backend::MemoryBackend;

    #[test]
    fn a_lease_grows_is_given_back_and_is_taken_when_it_has_seen_two_collections() {
        let backend = MemoryBackend::new();
        let (mut one, mut other) = (Lease::default(), Lease::default());
        one.cover(&backend, PackKind::Data, PackId::of(b"1")).unwrap();
        other.cover(&backend, PackKind::Data, PackId::of(b"2")).unwrap();
        one.cover(&backend, PackKind::Meta, PackId::of(b"3")).unwrap();
        let found = Found::all(&backend).unwrap();
        assert_eq!(found.iter().map(|lease| lease.record.packs.len()).collect::<Vec<_>>(), [2, 1]);
        assert!(found[0].counts_in(0) && found[0].counts_in(1) && !found[0].counts_in(2));
        other.release(&backend);
        found[0].take(&backend).unwrap();
        assert!(Found::all(&backend).unwrap().is_empty());
        // Its writer lives after all.
        one.cover(&backend, PackKind::Data, PackId::of(b"4")).unwrap();
        assert_eq!(Found::all(&backend).unwrap()[0].record.packs.len(), 3);
    }
}
