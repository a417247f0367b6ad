//! Takes damaged packs away, after everything sound in them was copied.

use super::sound::{Sound, for_each_sound};
use crate::backend::Backend;
use crate::error::{Error, ErrorKind, Result};
use crate::frame::SealedFrame;
use crate::id::{ChunkId, PackId};
use crate::index::INDEX_DIR;
use crate::pack::PackKind;
use crate::parity::{Mending, parity_key};
use crate::store::{ChunkStore, ChunkWriter, Damage, PackNames, Quarantine, Seen, StoreWriter};
use std::collections::HashSet;

/// A frame of which so many eighths are wanted is copied as it is: compressing it again costs more than the rest of it.
const WHOLE_EIGHTHS: u64 = 7;

/// What was done.
#[derive(Debug, Default)]
pub struct TakenAway {
    /// Packs that are gone.
    pub packs: Vec<(PackKind, PackId)>,
    /// Their chunks that were stored again.
    pub salvaged_count: u64,
    /// Chunks that their footers name and that could not be saved; others may be where a footer was lost.
    pub lost_count: u64,
    /// Bytes that were written.
    pub written_bytes: u64,
    /// Packs that stay because they could not be read now, with the reason.
    pub stay: Vec<(String, Error)>,
}

impl ChunkStore {
    /// Copies what is sound in these packs to others and deletes them. `each` hears of every pack that is done.
    ///
    /// # Errors
    /// What the backend says, `Locked` when a collection or another repair began meanwhile. It can be done again, whenever it failed.
    ///
    /// # Cost
    /// Reads the packs once; memory for the footer of one.
    pub fn take_away(&self, packs: &[(PackKind, PackId)], each: &mut dyn FnMut(PackKind, &PackId)) -> Result<TakenAway> {
        let backend = self.backend().as_ref();
        let mut taken = TakenAway::default();
        // From here on saves look whether what they take over is there.
        self.note_damage(&|damage| {
            packs.iter().for_each(|(kind, id)| damage.packs.insert(*kind, *id));
            damage.unknown = true;
        })?;
        let (list, bytes) = self.list_packs(packs)?;
        // Nobody begins to rely on them now, this writer included.
        let writer = self.writer()?;
        let mut copy = Copy { store: self, writer: &writer, list: &list, damage: self.damage()?, salvaged_count: 0 };
        let mut whole = Vec::new();
        for kind in PackKind::ALL {
            let mut chunks = writer.chunks(kind)?;
            for (_, id) in packs.iter().filter(|(other, _)| *other == kind) {
                match copy.pack(kind, id, &mut chunks) {
                    Ok(lost) => {
                        taken.lost_count += lost;
                        whole.push((kind, *id));
                    }
                    // Whoever took over the list took it away, after its copies were durable.
                    Err(error) if error.kind() == ErrorKind::NotFound => whole.push((kind, *id)),
                    Err(error) if matches!(error.kind(), ErrorKind::Io | ErrorKind::PermissionDenied) => {
                        writer.check()?;
                        taken.stay.push((kind.key(id), error));
                    }
                    Err(error) => return Err(error),
                }
                each(kind, id);
            }
            chunks.finish()?;
        }
        taken.salvaged_count = copy.salvaged_count;
        // The copies are durable and indexed from here on.
        let (stats, _reliance) = writer.finish_relying()?;
        taken.written_bytes = stats.stored_bytes;
        self.settle_packs()?;
        for (kind, id) in whole {
            backend.delete(&kind.key(&id))?;
            backend.delete(&parity_key(&id))?;
            taken.packs.push((kind, id));
        }
        self.drop_from_index(&|kind, id| list.forbids(kind, id))?;
        let deleted = list.packs.iter().filter(|pack| taken.packs.contains(pack));
        let done = Quarantine { packs: PackNames::default(), gone: list.gone.iter().chain(deleted).collect(), ..list.clone() };
        done.replace(backend, Some(&bytes))?;
        self.note_damage(&|damage| taken.packs.iter().for_each(|(kind, id)| damage.packs.remove(*kind, id)))?;
        Ok(taken)
    }

    /// Lists packs in the quarantine, as a collection does; what one that did not come to its end had listed is left to the next.
    fn list_packs(&self, packs: &[(PackKind, PackId)]) -> Result<(Quarantine, Vec<u8>)> {
        let backend = self.backend().as_ref();
        backend.settle(INDEX_DIR)?;
        let old = Seen::read(backend)?.sound()?;
        self.reload(false)?;
        let view = self.view();
        let named: HashSet<_> = (0..view.segments().count()).flat_map(|number| view.packs_named_in(number)).collect();
        let abandoned: PackNames = old.list.abandoned.iter().chain(old.list.packs.iter()).collect();
        let list = Quarantine {
            generation: old.list.generation.saturating_add(1),
            packs: packs.iter().filter(|(kind, id)| !abandoned.contains(*kind, id)).copied().collect(),
            gone: old.list.gone.iter().filter(|pack| named.contains(pack)).collect(),
            abandoned,
        };
        let bytes = list.replace(backend, old.bytes.as_deref())?;
        Ok((list, bytes))
    }
}

struct Copy<'a> {
    store: &'a ChunkStore,
    writer: &'a StoreWriter<'a>,
    list: &'a Quarantine,
    damage: Damage,
    salvaged_count: u64,
}

impl Copy<'_> {
    /// Copies what is sound in one pack and nowhere else; tells how many chunks are known to be lost.
    fn pack(&mut self, kind: PackKind, id: &PackId, chunks: &mut ChunkWriter<'_>) -> Result<u64> {
        let backend = self.store.backend().as_ref();
        let mending = Mending::new(backend, kind, id).ok();
        let reader = mending.as_ref().map_or(backend, |mending| mending as &dyn Backend);
        let tally = for_each_sound(reader, self.store.ids(), kind, id, &mut |sound| self.take(kind, &sound, chunks))?;
        Ok(tally.bad.iter().filter(|id| !self.is_elsewhere(id)).count() as u64)
    }

    fn take(&mut self, kind: PackKind, sound: &Sound<'_>, chunks: &mut ChunkWriter<'_>) -> Result<()> {
        match sound {
            Sound::Chunk(id, bytes) => self.put(*id, bytes, chunks),
            Sound::Frame { stored, plain, chunks: own, alone } => {
                let wanted: Vec<bool> = own.iter().map(|(id, _)| !self.is_elsewhere(id)).collect();
                let bytes: u64 = own.iter().zip(&wanted).filter(|(_, wanted)| **wanted).map(|((_, len), _)| u64::from(*len)).sum();
                if *alone && wanted.contains(&true) && bytes * 8 >= plain.len() as u64 * WHOLE_EIGHTHS {
                    for (id, _) in *own {
                        _ = self.writer.claim_anew(id);
                    }
                    self.salvaged_count += own.len() as u64;
                    let plain_len = u32::try_from(plain.len()).unwrap_or(u32::MAX);
                    return self.writer.append_frame(kind, &SealedFrame { bytes: stored.to_vec(), plain_len, chunks: own.to_vec() });
                }
                let mut rest = *plain;
                for ((id, len), wanted) in own.iter().zip(wanted) {
                    let (bytes, tail) = rest.split_at(*len as usize);
                    if wanted {
                        self.put(*id, bytes, chunks)?;
                    }
                    rest = tail;
                }
                Ok(())
            }
        }
    }

    fn put(&mut self, id: ChunkId, bytes: &[u8], chunks: &mut ChunkWriter<'_>) -> Result<()> {
        if !self.is_elsewhere(&id) && self.writer.claim_anew(&id) {
            self.salvaged_count += 1;
            chunks.put_claimed(id, bytes).inspect_err(|_| self.writer.fail_session())?;
        }
        Ok(())
    }

    /// Whether a pack that stays has the chunk, which is looked at: what nobody has read for years may be damaged too.
    fn is_elsewhere(&self, id: &ChunkId) -> bool {
        if self.writer.has_stored(id) {
            return true;
        }
        let view = self.store.view();
        let stays = |kind: PackKind, pack: &PackId| !self.list.forbids(kind, pack) && !self.damage.packs.contains(kind, pack);
        view.locate(id).any(|place| stays(place.kind, &place.pack) && self.store.read_at(id, &place).is_ok())
    }
}
