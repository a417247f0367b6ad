//! The list of packs that a collection takes away: what writers and collectors agree by.
//!
//! ```text
//! one file, gc/quarantine, changed by compare-and-swap only
//!   generation   how many collections have begun; never falls
//!   packs        being taken away now: readable until they are gone, relied upon by nobody anew
//!   gone         taken away by collections that came to their end; an index may still name them
//!   abandoned    of collections that did not: whoever runs one may be slow and delete them at any time, for ever
//! ```
//! No writer gives a pack one of these names, so that a name that was given up once stays so for whoever deletes late.

use crate::backend::Backend;
use crate::codec::{RecordKind, decode_record, encode_record};
use crate::error::{Error, ErrorKind, Result};
use crate::id::PackId;
use crate::pack::PackKind;
use bincode::{Decode, Encode};

/// Where it is.
pub const QUARANTINE_KEY: &str = "gc/quarantine";
/// Its record.
pub const QUARANTINE_RECORD: RecordKind = RecordKind { number: 5, version: 1, name: "collection's quarantine" };
/// Longest record: half a million packs.
const QUARANTINE_MAX_LEN: usize = 16 << 20;

/// Names of packs, sorted, each once.
#[derive(Debug, Clone, Default, PartialEq, Eq, Encode, Decode)]
pub struct PackNames {
    data: Vec<PackId>,
    meta: Vec<PackId>,
}

impl PackNames {
    fn of(&self, kind: PackKind) -> &Vec<PackId> {
        match kind {
            PackKind::Data => &self.data,
            PackKind::Meta => &self.meta,
        }
    }

    /// Whether it has this name.
    pub fn contains(&self, kind: PackKind, id: &PackId) -> bool {
        self.of(kind).binary_search(id).is_ok()
    }

    /// Adds a name.
    pub fn insert(&mut self, kind: PackKind, id: PackId) {
        let names = match kind {
            PackKind::Data => &mut self.data,
            PackKind::Meta => &mut self.meta,
        };
        if let Err(place) = names.binary_search(&id) {
            names.insert(place, id);
        }
    }

    /// All names.
    pub fn iter(&self) -> impl Iterator<Item = (PackKind, PackId)> + '_ {
        PackKind::ALL.into_iter().flat_map(|kind| self.of(kind).iter().map(move |id| (kind, *id)))
    }

    /// How many names.
    pub fn len(&self) -> usize {
        self.data.len() + self.meta.len()
    }

    /// Whether it has none.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Takes a name away.
    pub fn remove(&mut self, kind: PackKind, id: &PackId) {
        let names = match kind {
            PackKind::Data => &mut self.data,
            PackKind::Meta => &mut self.meta,
        };
        names.retain(|name| name != id);
    }

    pub(super) fn is_sorted(&self) -> bool {
        [&self.data, &self.meta].into_iter().all(|names| names.is_sorted_by(|a, b| a < b))
    }
}

impl FromIterator<(PackKind, PackId)> for PackNames {
    fn from_iter<I: IntoIterator<Item = (PackKind, PackId)>>(names: I) -> Self {
        let mut all = Self::default();
        for (kind, id) in names {
            match kind {
                PackKind::Data => all.data.push(id),
                PackKind::Meta => all.meta.push(id),
            }
        }
        for names in [&mut all.data, &mut all.meta] {
            names.sort_unstable();
            names.dedup();
        }
        all
    }
}

/// What the list says.
#[derive(Debug, Clone, Default, PartialEq, Eq, Encode, Decode)]
pub struct Quarantine {
    /// How many collections have begun.
    pub generation: u64,
    /// Packs that are being taken away.
    pub packs: PackNames,
    /// Packs that are gone.
    pub gone: PackNames,
    /// Packs that somebody may delete at any time.
    pub abandoned: PackNames,
}

impl Quarantine {
    /// Whether nothing may rely on a pack of this name, and no pack be given it.
    pub fn forbids(&self, kind: PackKind, id: &PackId) -> bool {
        [&self.packs, &self.gone, &self.abandoned].into_iter().any(|names| names.contains(kind, id))
    }

    /// Whether it names no pack.
    pub fn is_empty(&self) -> bool {
        [&self.packs, &self.gone, &self.abandoned].into_iter().all(PackNames::is_empty)
    }

    /// Replaces what `expected` says; returns the new file.
    ///
    /// # Errors
    /// `Locked` when somebody else changed it meanwhile.
    pub(crate) fn replace(&self, backend: &dyn Backend, expected: Option<&[u8]>) -> Result<Vec<u8>> {
        let bytes = encode_record(QUARANTINE_RECORD, self);
        if bytes.len() > QUARANTINE_MAX_LEN {
            return Err(Error::invalid(format!("{} packs are more than one collection can take away", self.packs.len())));
        }
        if backend.swap(QUARANTINE_KEY, expected, Some(&bytes))? {
            return Ok(bytes);
        }
        Err(Error::new(ErrorKind::Locked, "another collection began meanwhile and goes on with what this one had not finished"))
    }
}

/// The list as it was read.
#[derive(Debug, Clone, Default)]
pub(crate) struct Seen {
    pub(crate) list: Quarantine,
    /// The file, for a swap and to see whether it changed; `None` where there is none.
    pub(crate) bytes: Option<Vec<u8>>,
    /// Why it cannot be understood. Who only reads needs not care.
    pub(crate) damage: Option<(ErrorKind, String)>,
}

impl Seen {
    /// Reads the list.
    pub(crate) fn read(backend: &dyn Backend) -> Result<Self> {
        // In one piece: another length and other bytes would be two files when it is swapped in between.
        let mapped = match backend.map(QUARANTINE_KEY) {
            Ok(mapped) => mapped,
            Err(error) if error.kind() == ErrorKind::NotFound => return Ok(Self::default()),
            // One that does not even open, in an encrypted repository; as if it had other bytes each time.
            Err(error) if error.kind() == ErrorKind::Corrupt => {
                return Ok(Self { damage: Some((ErrorKind::Corrupt, error.to_string())), ..Self::default() });
            }
            Err(error) => return Err(error),
        };
        let bytes = mapped.as_ref();
        if bytes.len() > QUARANTINE_MAX_LEN {
            return Ok(Self { damage: Some((ErrorKind::Corrupt, "it is too long".to_owned())), ..Self::default() });
        }
        let read = decode_record::<Quarantine>(QUARANTINE_RECORD, bytes).and_then(|list| {
            let sorted = [&list.packs, &list.gone, &list.abandoned].into_iter().all(PackNames::is_sorted);
            if sorted { Ok(list) } else { Err(Error::corrupt("its names are not in order")) }
        });
        let bytes = Some(bytes.to_vec());
        Ok(match read {
            Ok(list) => Self { list, bytes, damage: None },
            Err(error) => Self { list: Quarantine::default(), bytes, damage: Some((error.kind(), error.to_string())) },
        })
    }

    /// The list, for whoever writes or deletes by it.
    pub(crate) fn sound(self) -> Result<Self> {
        match &self.damage {
            None => Ok(self),
            Some((kind, why)) => Err(Error::new(*kind, why.clone()).context(format!(
                "cannot tell which packs a collection takes away: {QUARANTINE_KEY} cannot be read; delete it while no collection runs"
            ))),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::backend::MemoryBackend;

    #[test]
    fn it_is_replaced_by_who_saw_it_last_and_refuses_damage() {
        let backend = MemoryBackend::new();
        assert_eq!(Seen::read(&backend).unwrap().bytes, None);
        let names: PackNames = [(PackKind::Meta, PackId::of(b"b")), (PackKind::Data, PackId::of(b"a"))].into_iter().collect();
        let list = Quarantine { generation: 1, packs: names.clone(), ..Quarantine::default() };
        let first = list.replace(&backend, None).unwrap();
        assert_eq!(list.replace(&backend, None).unwrap_err().kind(), ErrorKind::Locked);
        let seen = Seen::read(&backend).unwrap().sound().unwrap();
        assert_eq!((&seen.list, seen.bytes.as_deref()), (&list, Some(&first[..])));
        assert!(seen.list.forbids(PackKind::Meta, &PackId::of(b"b")) && !seen.list.forbids(PackKind::Data, &PackId::of(b"b")));
        let mut damaged = first.clone();
        damaged[40] ^= 1;
        assert!(backend.swap(QUARANTINE_KEY, Some(&first), Some(&damaged)).unwrap());
        let seen = Seen::read(&backend).unwrap();
        assert!(seen.list.is_empty());
        assert_eq!(seen.sound().map(|_| ()).unwrap_err().kind(), ErrorKind::Corrupt);
        assert_eq!(names.iter().count(), 2);
    }
}
