//! Carries a plan out: quarantine, copies, deletion, and an index without what is gone.

use super::compact::Compaction;
use super::marks::Marks;
use super::plan::{PackUse, Plan};
use crate::error::{Error, ErrorKind, Result};
use crate::frame::{FrameDecoder, SealedFrame};
use crate::id::{ChunkId, PackId};
use crate::index::{INDEX_DIR, IndexView, PackRow};
use crate::pack::{FooterChunk, PackKind, read_footer};
use crate::parity::parity_key;
use crate::store::{ChunkStore, ChunkWriter, Found, PackNames, Quarantine, Seen, StoreWriter};
use std::collections::HashSet;
use std::sync::Arc;

/// A frame of which so many eighths are needed is copied as it is: compressing it again costs more than the rest of it.
const WHOLE_EIGHTHS: u64 = 7;

/// What a collection did.
#[derive(Debug, Default)]
pub struct Swept {
    /// Packs that are gone.
    pub deleted_packs_count: u64,
    /// Their bytes.
    pub deleted_bytes: u64,
    /// Chunks that were copied out of them.
    pub copied_chunks_count: u64,
    /// Bytes of the packs written for those.
    pub written_bytes: u64,
    /// Packs that stay because a chunk of theirs that is needed cannot be read, with the reason.
    pub damaged_packs: Vec<(String, Error)>,
}

/// One collection.
pub struct Collector<'s> {
    store: &'s ChunkStore,
    seen: Seen,
    held: PackNames,
    leases: Vec<Found>,
    view: Arc<IndexView>,
    /// Packs that go, as they are in the index.
    going: Vec<PackRow>,
}

impl<'s> Collector<'s> {
    /// Looks at what is there. The caller has listed what it keeps before.
    ///
    /// # Errors
    /// What the backend says; `Corrupt` when the quarantine cannot be read.
    ///
    /// # Cost
    /// Reads the index once, in order.
    pub fn begin(store: &'s ChunkStore) -> Result<Self> {
        let backend = store.backend().as_ref();
        let seen = Seen::read(backend)?.sound()?;
        // Before and after the packs are listed: a lease names a pack before it is there, and may be given back meanwhile.
        let mut leases = Found::all(backend)?;
        // Every byte of the index is checked: a record that a flipped bit hides would make a chunk dead that is needed.
        store.reload(true)?;
        let before = leases.iter().filter(|lease| lease.counts_in(seen.list.generation)).flat_map(|lease| lease.record.packs.iter());
        let mut held: Vec<_> = before.collect();
        leases = Found::all(backend)?;
        held.extend(leases.iter().filter(|lease| lease.counts_in(seen.list.generation)).flat_map(|lease| lease.record.packs.iter()));
        Ok(Self { store, seen, held: held.into_iter().collect(), leases, view: store.view(), going: Vec::new() })
    }

    /// The index over which to [mark](Marks).
    pub fn view(&self) -> &Arc<IndexView> {
        &self.view
    }

    /// What each pack holds of what is marked. Packs that an earlier collection did not come to delete are left out: they go anyway.
    pub fn measure(&self, marks: &Marks) -> Vec<PackUse> {
        let mut uses = marks.measure(&|kind, id| self.held.contains(kind, id));
        uses.retain(|pack_use| !self.seen.list.packs.contains(pack_use.pack.kind, &pack_use.pack.id) && !self.is_abandoned(&pack_use.pack));
        uses
    }

    fn is_abandoned(&self, pack: &PackRow) -> bool {
        self.seen.list.abandoned.contains(pack.kind, &pack.id)
    }

    /// Packs that an earlier collection had begun to take away.
    pub fn unfinished(&self) -> Vec<PackRow> {
        let mut packs = self.view.packs();
        packs.retain(|pack| self.seen.list.packs.contains(pack.kind, &pack.id) || self.is_abandoned(pack));
        packs
    }

    /// Commits the list of packs that go. What was committed before this can still need them; after it, nothing begins to.
    ///
    /// # Errors
    /// `Locked` when another collection began meanwhile.
    pub fn quarantine(&mut self, plan: &Plan) -> Result<()> {
        let backend = self.store.backend().as_ref();
        // A segment that was taken away must not come back after the list has forgotten what it names.
        backend.settle(INDEX_DIR)?;
        let old = std::mem::take(&mut self.seen);
        self.going = plan.packs().copied().collect();
        self.going.extend(
            self.view
                .packs()
                .into_iter()
                .filter(|pack| old.list.packs.contains(pack.kind, &pack.id) || old.list.abandoned.contains(pack.kind, &pack.id)),
        );
        let named: HashSet<_> = (0..self.view.segments().count()).flat_map(|number| self.view.packs_named_in(number)).collect();
        let list = Quarantine {
            generation: old.list.generation.saturating_add(1),
            packs: plan.packs().map(|pack| (pack.kind, pack.id)).collect(),
            // Of those that no index names any more nobody needs to hear.
            gone: old.list.gone.iter().filter(|pack| named.contains(pack)).collect(),
            // Its collector may be slow and not dead: the names are given up for ever.
            abandoned: old.list.abandoned.iter().chain(old.list.packs.iter()).collect(),
        };
        let bytes = list.replace(backend, old.bytes.as_deref())?;
        let generation = old.list.generation;
        self.seen = Seen { list, bytes: Some(bytes), ..Seen::default() };
        for lease in self.leases.iter().filter(|lease| !lease.counts_in(generation)) {
            lease.take(backend)?;
        }
        Ok(())
    }

    /// Lets all packs stay, after a failure of the caller's. Nothing was deleted.
    ///
    /// # Errors
    /// What the backend says.
    pub fn release(self) -> Result<()> {
        let list = Quarantine { packs: PackNames::default(), ..self.seen.list };
        list.replace(self.store.backend().as_ref(), self.seen.bytes.as_deref()).map(|_| ())
    }

    /// Copies what is marked out of the packs that go, and deletes them. `each` hears of every pack that is done.
    ///
    /// # Errors
    /// What the backend says, `Locked` when another collection took over; what is not done is done by the next one.
    pub fn sweep(self, marks: &Marks, each: &mut dyn FnMut(&PackRow)) -> Result<Swept> {
        self.sweep_as(marks, None, each)
    }

    /// As [`sweep`](Self::sweep); what it copies of content is [compacted](super::Compaction).
    ///
    /// # Errors
    /// As [`sweep`](Self::sweep), `InvalidInput` for a level that zstd does not have.
    ///
    /// # Cost
    /// Memory of some 200 MiB at level 19, for the windows of writer and reader and for what zstd searches in.
    pub fn compact(self, marks: &Marks, compaction: Compaction<'_>, each: &mut dyn FnMut(&PackRow)) -> Result<Swept> {
        self.sweep_as(marks, Some(compaction), each)
    }

    fn sweep_as(self, marks: &Marks, compaction: Option<Compaction<'_>>, each: &mut dyn FnMut(&PackRow)) -> Result<Swept> {
        let (store, bytes) = (self.store, self.seen.bytes.clone());
        self.try_sweep(marks, compaction, each).map_err(|error| match Seen::read(store.backend().as_ref()) {
            // Whatever it stumbled over, packs that the other one deleted most likely.
            Ok(seen) if error.kind() == ErrorKind::NotFound && seen.bytes != bytes => {
                Error::new(ErrorKind::Locked, "another collection began meanwhile and goes on with what this one had not finished")
                    .because(error)
            }
            _ => error,
        })
    }

    fn try_sweep(mut self, marks: &Marks, compaction: Option<Compaction<'_>>, each: &mut dyn FnMut(&PackRow)) -> Result<Swept> {
        let mut swept = Swept::default();
        let going = std::mem::take(&mut self.going);
        let deleted = if going.is_empty() { Vec::new() } else { self.copy_and_delete(&going, marks, compaction, &mut swept, each)? };
        let list = &self.seen.list;
        self.store.drop_from_index(&|kind, id| list.forbids(kind, id))?;
        self.store.drop_orphaned_parity()?;
        let done = Quarantine {
            packs: PackNames::default(),
            gone: list.gone.iter().chain(list.packs.iter().filter(|pack| deleted.contains(pack))).collect(),
            ..list.clone()
        };
        done.replace(self.store.backend().as_ref(), self.seen.bytes.as_deref())?;
        Ok(swept)
    }

    fn copy_and_delete(
        &self,
        going: &[PackRow],
        marks: &Marks,
        mut compaction: Option<Compaction<'_>>,
        swept: &mut Swept,
        each: &mut dyn FnMut(&PackRow),
    ) -> Result<Vec<(PackKind, PackId)>> {
        let writer = match &compaction {
            Some(compaction) => self.store.compacting_writer(compaction.level)?,
            None => self.store.writer()?,
        };
        let mut copy = Copy {
            store: self.store,
            writer: &writer,
            list: &self.seen.list,
            marks,
            decoder: FrameDecoder::default(),
            is_compacting: false,
        };
        let mut whole = Vec::new();
        for kind in PackKind::ALL {
            let mut chunks = writer.chunks(kind)?;
            copy.is_compacting = kind == PackKind::Data && compaction.is_some();
            if let Some(compaction) = compaction.as_mut().filter(|_| kind == PackKind::Data) {
                (compaction.order)(&mut |id| copy.one(id, &mut chunks).map(|copied| swept.copied_chunks_count += u64::from(copied)))?;
            }
            for pack in going.iter().filter(|pack| pack.kind == kind) {
                match copy.pack(pack, &mut chunks) {
                    Ok(count) => {
                        swept.copied_chunks_count += count;
                        whole.push(*pack);
                    }
                    Err(error) if error.kind() == ErrorKind::Corrupt => swept.damaged_packs.push((kind.key(&pack.id), error)),
                    Err(error) => return Err(error),
                }
                each(pack);
            }
            chunks.finish()?;
        }
        // The copies are durable and indexed from here on.
        let (stats, _reliance) = writer.finish_relying()?;
        swept.written_bytes = stats.stored_bytes;
        // What stays instead of them may be of a writer that was killed before its name was durable.
        self.store.settle_packs()?;
        let mut deleted = Vec::new();
        for pack in whole {
            self.store.backend().delete(&pack.kind.key(&pack.id))?;
            self.store.backend().delete(&parity_key(&pack.id))?;
            swept.deleted_packs_count += 1;
            swept.deleted_bytes += pack.len;
            deleted.push((pack.kind, pack.id));
        }
        Ok(deleted)
    }
}

/// Copies live chunks into the packs of a session.
struct Copy<'a> {
    store: &'a ChunkStore,
    writer: &'a StoreWriter<'a>,
    list: &'a Quarantine,
    marks: &'a Marks,
    decoder: FrameDecoder,
    is_compacting: bool,
}

impl Copy<'_> {
    /// Copies a chunk, if it is needed and in a pack that goes; tells whether it was. One that cannot be read is left to the turn of its pack.
    fn one(&mut self, id: &ChunkId, chunks: &mut ChunkWriter<'_>) -> Result<bool> {
        let view = self.store.view();
        let goes = view.locate(id).any(|place| place.kind == PackKind::Data && self.list.forbids(place.kind, &place.pack));
        if !goes || !self.is_needed(id) {
            return Ok(false);
        }
        let bytes = match self.get(id) {
            Err(error) if error.kind() == ErrorKind::Corrupt => return Ok(false),
            other => other?,
        };
        if !self.writer.claim_anew(id) {
            return Ok(false);
        }
        chunks.put_claimed(*id, &bytes).map(|()| true)
    }

    /// Copies what is needed of one pack and nowhere else; `Corrupt` when it cannot be read anywhere.
    fn pack(&mut self, pack: &PackRow, chunks: &mut ChunkWriter<'_>) -> Result<u64> {
        let footer = match read_footer(self.store.backend().as_ref(), pack.kind, &pack.id) {
            Ok((footer, _)) => footer,
            // The collection before this one deleted it, or one that took over.
            Err(error) if error.kind() == ErrorKind::NotFound => return Ok(0),
            Err(error) => return Err(error),
        };
        let mut rest = &footer.chunks[..];
        let mut copied = 0;
        for frame in &footer.frames {
            let own;
            (own, rest) = rest.split_at(frame.chunk_count as usize);
            let needed: Vec<&FooterChunk> = own.iter().filter(|chunk| self.is_needed(&chunk.id)).collect();
            let bytes: u64 = needed.iter().map(|chunk| u64::from(chunk.len)).sum();
            if needed.is_empty() {
                continue;
            }
            copied += needed.len() as u64;
            let place = (u64::from(frame.offset), frame.stored_len as usize);
            let is_most = bytes * 8 >= u64::from(frame.plain_len) * WHOLE_EIGHTHS;
            if is_most && !self.is_compacting && self.whole_frame(pack, place, frame.plain_len, own)? {
                continue;
            }
            for chunk in needed {
                let bytes = self.get(&chunk.id)?;
                if self.writer.claim_anew(&chunk.id) {
                    chunks.put_claimed(chunk.id, &bytes)?;
                }
            }
        }
        Ok(copied)
    }

    /// Whether a chunk is live and has no copy that stays. One that has is read there: what nobody has looked at for years may be damaged.
    fn is_needed(&self, id: &ChunkId) -> bool {
        if !self.marks.is_live(id) || self.writer.has_stored(id) {
            return false;
        }
        let view = self.store.view();
        !view.locate(id).any(|place| !self.list.forbids(place.kind, &place.pack) && self.store.read_at(id, &place).is_ok())
    }

    /// Takes a frame over as it is, if all of it is sound; tells whether it did.
    fn whole_frame(&mut self, pack: &PackRow, (offset, len): (u64, usize), plain_len: u32, own: &[FooterChunk]) -> Result<bool> {
        let mut bytes = vec![0; len];
        match self.store.backend().read_at(&pack.kind.key(&pack.id), offset, &mut bytes) {
            // A collection that this one took over from deletes it at this very moment; then its copies are indexed.
            Err(error) if matches!(error.kind(), ErrorKind::NotFound | ErrorKind::Corrupt) => return Ok(false),
            other => other?,
        }
        let mut plain = Vec::new();
        let Ok(header) = self.decoder.decode(&bytes, &mut plain) else { return Ok(false) };
        let mut rest = &plain[..];
        let mut sound = header.chunk_lens.iter().eq(own.iter().map(|chunk| &chunk.len));
        for chunk in own {
            if !sound {
                break;
            }
            let (bytes, tail) = rest.split_at(chunk.len as usize);
            sound = self.store.ids().id(bytes) == chunk.id;
            rest = tail;
        }
        if !sound {
            return Ok(false);
        }
        for chunk in own {
            _ = self.writer.claim_anew(&chunk.id);
        }
        let chunks = own.iter().map(|chunk| (chunk.id, chunk.len)).collect();
        self.writer.append_frame(pack.kind, &SealedFrame { bytes, plain_len, chunks })?;
        Ok(true)
    }

    fn get(&self, id: &ChunkId) -> Result<crate::store::Chunk> {
        // Nothing is lost that was there: a chunk that cannot be read anywhere keeps its pack.
        self.store
            .get(id)
            .map_err(|error| if error.kind() == ErrorKind::NotFound { Error::corrupt(error.to_string()).because(error) } else { error })
    }
}
