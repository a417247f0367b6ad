//! Puts chunks: each new one once, in frames, in packs, and an index segment last.

use super::ChunkStore;
use super::damage::Damage;
use super::lease::Lease;
use super::open::{SEGMENT_BATCH, add_segment};
use super::quarantine::Seen;
use super::secure::{Part, Reliance};
use crate::chunker::Chunker;
use crate::error::{Error, ErrorKind, Result};
use crate::format::{CHUNK_MAX_LEN, META_FRAME_LEN};
use crate::frame::{FrameBuilder, FrameDecoder, FrameEncoder, GroupEncoder, SealedFrame};
use crate::id::{ChunkId, PackId};
use crate::index::{IndexView, SharedRowBits};
use crate::pack::{Footer, PackKind, PackWriter};
use crate::stats::WriteStats;
use crossbeam_channel::Sender;
use std::collections::HashSet;
use std::io::Read;
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

/// Read at a time from a stream.
const READ_LEN: usize = 1 << 20;
/// A frame from elsewhere is taken as it is if no more than one part in so many of it is stored already.
const ADOPTED_PART: u64 = 4;
/// Sets of this session's ids, so that threads seldom wait for each other.
const SHARDS: usize = 64;
/// Packs are at least and at most this long, and a 64th of what is stored in between: a small repository loses little
/// to a kill, a large one has few files.
const PACK_TARGET: std::ops::RangeInclusive<u64> = 16 << 20..=256 << 20;

/// A piece of a stream: what a recipe keeps of it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ChunkRef {
    /// The chunk.
    pub id: ChunkId,
    /// Its length in bytes.
    pub len: u32,
}

/// One session of writing to a store, shared by the threads that write.
///
/// Nothing is visible to readers, and nothing is safe, before [`finish`](Self::finish) returned. After the first error
/// every call fails; what was published by then stays and serves the next session.
pub struct StoreWriter<'s> {
    store: &'s ChunkStore,
    /// What was stored when the session began, and what of it the session relies on.
    base: Arc<IndexView>,
    relied: SharedRowBits,
    /// What collections were taking away then: no chunk is found in these packs.
    seen: Seen,
    /// What was known to be damaged then: nor in those.
    damage: Damage,
    /// Packs of this session.
    own: Mutex<HashSet<(PackKind, PackId)>>,
    lease: Mutex<Lease>,
    /// Ids claimed in this session that no segment names yet.
    pending: Vec<Mutex<HashSet<ChunkId>>>,
    packs: [Mutex<Option<PackWriter>>; 2],
    published: Mutex<Vec<(PackId, u64, Footer)>>,
    pack_target: u64,
    /// The level at which its packs of data are compacted, 0 when they are not.
    compaction: u8,
    failed: AtomicBool,
    counters: Counters,
}

#[derive(Default)]
struct Counters {
    seen_chunks: AtomicU64,
    seen_bytes: AtomicU64,
    new_chunks: AtomicU64,
    new_bytes: AtomicU64,
    stored_bytes: AtomicU64,
    packs: AtomicU64,
}

impl ChunkStore {
    /// Begins a session of writing.
    ///
    /// # Errors
    /// What the backend says; `Corrupt` when it cannot be told which packs a collection takes away.
    pub fn writer(&self) -> Result<StoreWriter<'_>> {
        self.backend.sweep()?;
        let seen = self.seen_since_view()?;
        let damage = Damage::read(self.backend.as_ref())?;
        let base = self.view();
        let stored: u64 = base.packs().iter().map(|pack| pack.len).sum();
        Ok(StoreWriter {
            store: self,
            relied: SharedRowBits::new(&base),
            base,
            seen,
            damage,
            own: Mutex::default(),
            lease: Mutex::default(),
            pending: (0..SHARDS).map(|_| Mutex::default()).collect(),
            packs: [Mutex::default(), Mutex::default()],
            published: Mutex::default(),
            pack_target: (stored / 64).clamp(*PACK_TARGET.start(), *PACK_TARGET.end()),
            compaction: 0,
            failed: AtomicBool::new(false),
            counters: Counters::default(),
        })
    }

    /// Begins a session whose packs of data are compacted at a zstd level: one thread writes them.
    pub(crate) fn compacting_writer(&self, level: u8) -> Result<StoreWriter<'_>> {
        let mut writer = self.writer()?;
        writer.compaction = level;
        Ok(writer)
    }
}

impl StoreWriter<'_> {
    /// A writer for one thread, into packs of `kind`.
    ///
    /// # Errors
    /// `InvalidInput` when the store's compression level is not zstd's.
    pub fn chunks(&self, kind: PackKind) -> Result<ChunkWriter<'_>> {
        Ok(ChunkWriter {
            writer: self,
            kind,
            frame_len: match kind {
                PackKind::Data => self.store.options.frame_len,
                PackKind::Meta => self.store.options.frame_len.min(META_FRAME_LEN),
            },
            frame: FrameBuilder::default(),
            encoder: FrameEncoder::keyed(self.store.options.level, self.store.options.ids.clone())?,
            groups: match (kind, self.compaction) {
                (PackKind::Data, level @ 1..) => Some(GroupEncoder::new(i32::from(level), self.store.options.ids.clone())?),
                _ => None,
            },
            decoder: FrameDecoder::default(),
            buffer: Vec::new(),
            helpers: None,
        })
    }

    /// The store it writes to.
    pub fn store(&self) -> &ChunkStore {
        self.store
    }

    /// What was taken and stored so far.
    pub fn stats(&self) -> WriteStats {
        let get = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
        WriteStats {
            seen_chunks: get(&self.counters.seen_chunks),
            seen_bytes: get(&self.counters.seen_bytes),
            new_chunks: get(&self.counters.new_chunks),
            new_bytes: get(&self.counters.new_bytes),
            stored_bytes: get(&self.counters.stored_bytes),
            packs_count: get(&self.counters.packs),
        }
    }

    /// Publishes everything: packs, then the index over them. All [`ChunkWriter`]s have finished.
    ///
    /// # Errors
    /// What the backend says; `Interrupted` when the session had failed before.
    pub fn finish(self) -> Result<WriteStats> {
        self.finish_relying().map(|(stats, _)| stats)
    }

    /// As [`finish`](Self::finish); also tells what the session relies on. Who makes anything that names its chunks known to others
    /// calls [`ChunkStore::secure`] with it first. The session's lease lasts until the second of them is dropped.
    ///
    /// # Errors
    /// As [`finish`](Self::finish).
    pub fn finish_relying(mut self) -> Result<(WriteStats, Reliance)> {
        self.check()?;
        for kind in PackKind::ALL {
            let pack = self.lock(&self.packs[usize::from(kind.number())]).take();
            if let Some(pack) = pack.filter(|pack| !pack.is_empty()) {
                // What names it follows at once, so it needs no lease.
                self.publish(pack, false)?;
            }
        }
        self.write_segment()?;
        let end = self.store.view();
        // Everything is durable and indexed; a merge that fails, on a full disk say, is done by the next session.
        _ = self.store.merge_index();
        let part = Part { base: Arc::clone(&self.base), relied: self.relied.take(), own: std::mem::take(&mut *self.lock(&self.own)), end };
        let lease = std::mem::take(&mut *self.lock(&self.lease));
        let reliance = Reliance::new(part, self.seen.bytes.clone(), lease, Arc::clone(&self.store.backend));
        Ok((self.stats(), reliance))
    }

    /// The quarantine's file when the session began.
    pub(super) fn seen_bytes(&self) -> Option<&[u8]> {
        self.seen.bytes.as_deref()
    }

    /// A claimed chunk that is not stored would be missing unnoticed.
    pub(crate) fn fail_session(&self) {
        self.fail();
    }

    pub(super) fn fail(&self) {
        self.failed.store(true, Ordering::Relaxed);
    }

    /// Whether the session can go on.
    ///
    /// # Errors
    /// `Interrupted` after any of its threads met an error.
    pub fn check(&self) -> Result<()> {
        if self.failed.load(Ordering::Relaxed) {
            return Err(Error::new(ErrorKind::Interrupted, "the session of writing cannot be continued after an error"));
        }
        Ok(())
    }

    /// Whether the chunk is new to store and session; the caller that hears so stores it.
    fn claim(&self, id: &ChunkId) -> bool {
        let shard = &self.pending[usize::from(id.as_bytes()[31]) % SHARDS];
        // Held over the look-up, so that two threads with the same new chunk cannot both find it missing; the view is
        // taken under it, so that a chunk is in the set or in the view, whatever `write_segment` does.
        let mut pending = self.lock(shard);
        !pending.contains(id) && !self.rely_on(id) && !self.is_own(id) && pending.insert(*id)
    }

    /// As `claim`, but only what this session stored itself counts as stored.
    pub(crate) fn claim_anew(&self, id: &ChunkId) -> bool {
        let shard = &self.pending[usize::from(id.as_bytes()[31]) % SHARDS];
        let mut pending = self.lock(shard);
        !pending.contains(id) && !self.is_own(id) && pending.insert(*id)
    }

    /// Whether the chunk was stored when the session began, in a pack that nobody takes away and that is not known to be damaged; it is noted that the session relies on it.
    pub fn rely_on(&self, id: &ChunkId) -> bool {
        let stands = |kind: PackKind, pack: &PackId| !self.seen.list.forbids(kind, pack) && !self.damage.packs.contains(kind, pack);
        let Some((segment, row)) = self.base.position_in(id, &stands) else { return false };
        self.relied.insert(segment, row);
        true
    }

    /// Whether the chunk is in a pack of this session that is indexed. Others' packs that came since do not count: nobody
    /// has noted that they are relied on.
    fn is_own(&self, id: &ChunkId) -> bool {
        let own = self.lock(&self.own);
        !own.is_empty() && self.store.view().locate(id).any(|location| own.contains(&(location.kind, location.pack)))
    }

    /// Whether the chunk is there without being put again, in a pack that nobody takes away and that is not known to be damaged.
    pub fn stands(&self, id: &ChunkId) -> bool {
        self.rely_on(id) || self.has_stored(id)
    }

    /// Whether this session stores the chunk.
    pub(crate) fn has_stored(&self, id: &ChunkId) -> bool {
        self.lock(&self.pending[usize::from(id.as_bytes()[31]) % SHARDS]).contains(id) || self.is_own(id)
    }

    /// Appends a frame as it is; its chunks that are wanted have been claimed.
    pub(crate) fn append_frame(&self, kind: PackKind, frame: &SealedFrame) -> Result<()> {
        self.append(kind, frame, true).map(|_| ())
    }

    /// Appends a frame to the pack at hand; tells whether that was the pack's last one, which it is only if it may be.
    fn append(&self, kind: PackKind, frame: &SealedFrame, may_be_last: bool) -> Result<bool> {
        self.check()?;
        let result = self.try_append(kind, frame, may_be_last);
        if result.is_err() {
            self.fail();
        }
        result
    }

    fn try_append(&self, kind: PackKind, frame: &SealedFrame, may_be_last: bool) -> Result<bool> {
        let full = {
            let mut slot = self.lock(&self.packs[usize::from(kind.number())]);
            let pack = match &mut *slot {
                Some(pack) => pack,
                None => {
                    let options = &self.store.options;
                    let compaction = if kind == PackKind::Data { self.compaction } else { 0 };
                    let (ids, parity_percent) = (options.ids.clone(), options.parity_percent);
                    slot.insert(PackWriter::create_with(self.store.backend.as_ref(), kind, compaction, ids, parity_percent)?)
                }
            };
            pack.append(frame)?;
            self.counters.stored_bytes.fetch_add(frame.bytes.len() as u64, Ordering::Relaxed);
            if pack.len() < self.pack_target || !may_be_last { None } else { slot.take() }
        };
        // Syncing takes long; the others go on with a new pack meanwhile.
        let is_full = full.is_some();
        full.map_or(Ok(()), |pack| self.publish(pack, true)).map(|()| is_full)
    }

    fn publish(&self, pack: PackWriter, leased: bool) -> Result<()> {
        let frames_len = pack.len();
        let kind = pack.kind();
        let backend = self.store.backend.as_ref();
        let pack = pack.finish_named(backend, &mut |id| {
            // A damaged pack of that name would be replaced, and be known as damaged all the same.
            if self.seen.list.forbids(kind, id) || self.damage.packs.contains(kind, id) {
                return Ok(false);
            }
            if leased {
                self.lock(&self.lease).cover(backend, kind, *id)?;
            }
            Ok(true)
        })?;
        self.lock(&self.own).insert((kind, pack.id));
        self.counters.stored_bytes.fetch_add(pack.len - frames_len + crate::format::PACK_HEADER_LEN as u64, Ordering::Relaxed);
        self.counters.packs.fetch_add(1, Ordering::Relaxed);
        let mut published = self.lock(&self.published);
        published.push((pack.id, pack.len, pack.footer));
        let count: usize = published.iter().map(|(_, _, footer)| footer.chunks.len()).sum();
        drop(published);
        if count >= SEGMENT_BATCH { self.write_segment() } else { Ok(()) }
    }

    /// Indexes what was published and forgets the ids, so that a session of any size has bounded memory.
    fn write_segment(&self) -> Result<()> {
        let mut published = self.lock(&self.published);
        let packs = std::mem::take(&mut *published);
        if packs.is_empty() {
            return Ok(());
        }
        let changing = self.store.change_view();
        let view = add_segment(self.store.backend.as_ref(), &self.store.view(), &packs, false)?;
        self.store.set_view(view, &changing);
        drop((changing, published));
        for chunk in packs.iter().flat_map(|(_, _, footer)| &footer.chunks) {
            self.lock(&self.pending[usize::from(chunk.id.as_bytes()[31]) % SHARDS]).remove(&chunk.id);
        }
        Ok(())
    }

    fn lock<'a, T>(&self, mutex: &'a Mutex<T>) -> MutexGuard<'a, T> {
        // A thread that panicked left the session in an unknown state; it is over.
        mutex.lock().unwrap_or_else(|poisoned| {
            self.fail();
            PoisonError::into_inner(poisoned)
        })
    }
}

impl Drop for StoreWriter<'_> {
    fn drop(&mut self) {
        // A session that failed; one that ended has handed its lease on.
        self.lock(&self.lease).release(self.store.backend.as_ref());
    }
}

/// Frames for other threads to compress while this one goes on reading.
pub(super) struct Helpers {
    pub(super) frames: Sender<FrameBuilder>,
    pub(super) idle: std::sync::Arc<AtomicUsize>,
}

/// Puts chunks from one thread. [`finish`](Self::finish) it; a writer that is dropped with chunks in hand fails the session.
pub struct ChunkWriter<'w> {
    writer: &'w StoreWriter<'w>,
    kind: PackKind,
    frame_len: usize,
    frame: FrameBuilder,
    encoder: FrameEncoder,
    /// What makes frames instead, in a session that compacts.
    groups: Option<GroupEncoder>,
    decoder: FrameDecoder,
    buffer: Vec<u8>,
    pub(super) helpers: Option<Helpers>,
}

impl ChunkWriter<'_> {
    /// Puts one chunk.
    ///
    /// # Errors
    /// `InvalidInput` above 16 MiB, else as the session.
    pub fn put(&mut self, bytes: &[u8]) -> Result<ChunkRef> {
        self.writer.check()?;
        if bytes.len() > CHUNK_MAX_LEN {
            return Err(Error::invalid(format!("a chunk of {} bytes is above the limit of {CHUNK_MAX_LEN}", bytes.len())));
        }
        let id = self.writer.store.options.ids.id(bytes);
        let len = u32::try_from(bytes.len()).expect("checked above");
        let counters = &self.writer.counters;
        counters.seen_chunks.fetch_add(1, Ordering::Relaxed);
        counters.seen_bytes.fetch_add(u64::from(len), Ordering::Relaxed);
        if self.writer.claim(&id) {
            self.put_claimed(id, bytes)?;
        }
        Ok(ChunkRef { id, len })
    }

    /// Stores a chunk of this id that was claimed before.
    pub(crate) fn put_claimed(&mut self, id: ChunkId, bytes: &[u8]) -> Result<()> {
        let counters = &self.writer.counters;
        counters.new_chunks.fetch_add(1, Ordering::Relaxed);
        counters.new_bytes.fetch_add(bytes.len() as u64, Ordering::Relaxed);
        if self.frame.is_full_for(bytes.len(), self.frame_len) {
            self.seal()?;
        }
        self.frame.push(id, bytes);
        Ok(())
    }

    /// Puts the chunks of a frame that comes from another store. It is taken as it is when most of it is new, which spares compressing it
    /// again; else its new chunks are put one by one. Its chunks get the ids of their bytes, whatever anybody said. Tells how many there were and
    /// how many were new.
    ///
    /// # Errors
    /// `Corrupt` when it is damaged or beyond a limit, else as the session.
    pub fn put_frame(&mut self, bytes: Vec<u8>) -> Result<(u64, u64)> {
        self.writer.check()?;
        let mut plain = std::mem::take(&mut self.buffer);
        let result = self.put_frame_with(bytes, &mut plain);
        self.buffer = plain;
        result
    }

    fn put_frame_with(&mut self, bytes: Vec<u8>, plain: &mut Vec<u8>) -> Result<(u64, u64)> {
        let header = self.decoder.decode(&bytes, plain)?;
        let mut chunks = Vec::with_capacity(header.chunk_lens.len());
        let mut rest = &plain[..];
        for len in &header.chunk_lens {
            // The header was checked: its chunks fill the frame.
            let (chunk, tail) = rest.split_at(*len as usize);
            chunks.push((self.writer.store.options.ids.id(chunk), *len));
            rest = tail;
        }
        let claimed: Vec<bool> = chunks.iter().map(|(id, _)| self.writer.claim(id)).collect();
        let new = || chunks.iter().zip(&claimed).filter(|(_, new)| **new);
        let new_bytes: u64 = new().map(|((_, len), _)| u64::from(*len)).sum();
        let counts = (chunks.len() as u64, new().count() as u64);
        let counters = &self.writer.counters;
        counters.seen_chunks.fetch_add(counts.0, Ordering::Relaxed);
        counters.seen_bytes.fetch_add(plain.len() as u64, Ordering::Relaxed);
        if new_bytes > 0 && new_bytes >= plain.len() as u64 / ADOPTED_PART * (ADOPTED_PART - 1) {
            counters.new_chunks.fetch_add(counts.1, Ordering::Relaxed);
            counters.new_bytes.fetch_add(new_bytes, Ordering::Relaxed);
            let frame = SealedFrame { bytes, plain_len: header.plain_len, chunks };
            return self.writer.append_frame(self.kind, &frame).map(|()| counts);
        }
        let mut rest = &plain[..];
        for ((id, len), new) in chunks.iter().zip(claimed) {
            let (chunk, tail) = rest.split_at(*len as usize);
            if new {
                // A claimed chunk that is not stored would be missing unnoticed.
                self.put_claimed(*id, chunk).inspect_err(|_| self.writer.fail())?;
            }
            rest = tail;
        }
        Ok(counts)
    }

    /// Cuts a stream of at most `limit` bytes and puts its chunks, telling each to `each` in order; returns the bytes read.
    ///
    /// # Errors
    /// An error of `reader` is given back as it is, with the outer result `Ok`: it is the stream's and not the store's,
    /// and the session goes on.
    pub fn put_stream(
        &mut self,
        chunker: &dyn Chunker,
        reader: &mut dyn Read,
        limit: u64,
        each: &mut dyn FnMut(ChunkRef),
    ) -> Result<std::io::Result<u64>> {
        let mut buffer = std::mem::take(&mut self.buffer);
        let result = self.put_stream_with(&mut buffer, chunker, reader, limit, each);
        self.buffer = buffer;
        result
    }

    fn put_stream_with(
        &mut self,
        buffer: &mut Vec<u8>,
        chunker: &dyn Chunker,
        reader: &mut dyn Read,
        limit: u64,
        each: &mut dyn FnMut(ChunkRef),
    ) -> Result<std::io::Result<u64>> {
        let max_len = chunker.max_len();
        if buffer.len() < READ_LEN + max_len {
            buffer.resize(READ_LEN + max_len, 0);
        }
        let (mut start, mut end, mut total) = (0, 0, 0_u64);
        loop {
            // What is left of the last read goes to the front; it is shorter than one chunk's maximum.
            buffer.copy_within(start..end, 0);
            end -= start;
            start = 0;
            let mut ended = false;
            while end < max_len || end < READ_LEN {
                let room = usize::try_from(limit - total).unwrap_or(usize::MAX).min(buffer.len() - end);
                match if room == 0 { Ok(0) } else { reader.read(&mut buffer[end..end + room]) } {
                    Ok(0) => {
                        ended = true;
                        break;
                    }
                    Ok(count) => {
                        end += count;
                        total += count as u64;
                    }
                    Err(error) if error.kind() == std::io::ErrorKind::Interrupted => {}
                    Err(error) => return Ok(Err(error)),
                }
            }
            while start < end && (ended || end - start >= max_len) {
                let len = chunker.cut(&buffer[start..end]);
                each(self.put(&buffer[start..start + len])?);
                start += len;
            }
            if ended {
                return Ok(Ok(total));
            }
        }
    }

    /// Seals the last frame.
    ///
    /// # Errors
    /// As the session.
    pub fn finish(mut self) -> Result<()> {
        self.seal_here()
    }

    /// Compresses a frame that another writer handed over.
    pub(super) fn encode(&mut self, frame: FrameBuilder) -> Result<()> {
        let Some(groups) = &mut self.groups else {
            let sealed = self.encoder.seal(frame).inspect_err(|_| self.writer.fail())?;
            return self.writer.append_frame(self.kind, &sealed);
        };
        let sealed = groups.seal(frame).inspect_err(|_| self.writer.fail())?;
        // A pack has whole groups, so that none is short because its pack was full.
        if self.writer.append(self.kind, &sealed, groups.begins_group(self.frame_len))? {
            groups.end_group();
        }
        Ok(())
    }

    fn seal(&mut self) -> Result<()> {
        if let Some(helpers) = &self.helpers
            && helpers.idle.load(Ordering::Relaxed) > 0
        {
            let frame = std::mem::take(&mut self.frame);
            match helpers.frames.try_send(frame) {
                Ok(()) => return Ok(()),
                Err(refused) => self.frame = refused.into_inner(),
            }
        }
        self.seal_here()
    }

    fn seal_here(&mut self) -> Result<()> {
        if self.frame.is_empty() {
            return self.writer.check();
        }
        let frame = std::mem::take(&mut self.frame);
        self.encode(frame)
    }
}

impl Drop for ChunkWriter<'_> {
    fn drop(&mut self) {
        // Its chunks are claimed, and nobody will store them.
        if !self.frame.is_empty() {
            self.writer.fail();
        }
    }
}
