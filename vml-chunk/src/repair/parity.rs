//! Parity that is missing, damaged, or of packs that are gone.

use crate::error::{ErrorKind, Result};
use crate::id::PackId;
use crate::pack::PackKind;
use crate::parity::{Parity, make_parity, parity_key};
use crate::store::ChunkStore;

impl ChunkStore {
    /// Packs whose parity is missing or damaged; with `verify` every byte of the parity is read.
    ///
    /// # Errors
    /// What the backend says.
    pub fn packs_without_parity(&self, verify: bool) -> Result<Vec<(PackKind, PackId)>> {
        let backend = self.backend().as_ref();
        let mut without = Vec::new();
        for (kind, id, len) in self.pack_files()? {
            let parity = Parity::open(backend, &id).and_then(|parity| {
                if verify {
                    parity.verify(backend)?;
                }
                Ok(parity)
            });
            match parity {
                // Of another length it is of no use for this pack.
                Ok(parity) if parity.layout().pack_len == len => {}
                // A newer program's is left alone.
                Err(error) if error.kind() == ErrorKind::UnsupportedFormat => {}
                _ => without.push((kind, id)),
            }
        }
        Ok(without)
    }

    /// Makes the parity of a pack that is whole, in place of what is there; tells whether it did: a pack that has gone needs none.
    ///
    /// # Errors
    /// `Corrupt` for a pack that is damaged, else what the backend says.
    pub fn make_parity(&self, kind: PackKind, id: &PackId, percent: u8) -> Result<bool> {
        let backend = self.backend().as_ref();
        match make_parity(backend, &kind.key(id), id, percent) {
            Ok(()) => {}
            Err(error) if error.kind() == ErrorKind::NotFound => return Ok(false),
            Err(error) => return Err(error),
        }
        // A collection may have taken the pack away meanwhile, and its parity before that was there.
        match backend.len(&kind.key(id)) {
            Err(error) if error.kind() == ErrorKind::NotFound => backend.delete(&parity_key(id)).map(|()| false),
            other => other.map(|_| true),
        }
    }
}
