//! A repository that this process has open, as one end of a transfer; also what stands behind a service.

use super::{
    Arrived, CHUNKS_MAX, Commit, Committed, ENTRIES_MAX, FrameAt, HISTORY_MAX, HistoryItem, Need, Needs, NoteId, PARCEL_MAX, PARCEL_TARGET,
    Parcel, RECORDS_TARGET, Remote, RemoteInfo, RemoteRef, Stowed,
};
use crate::entry::{Entry, EntryId, NOTE_RECORD, Note};
use crate::monitor::{Monitor, NoMonitor};
use crate::refs::{RefKind, check_name};
use crate::repository::reach::{Reach, told};
use crate::repository::{Repository, is_own_author};
use crate::share::check_entry;
use crate::share::publish::{Arrival, Origin, publish};
use std::collections::{HashMap, HashSet};
use std::sync::{Arc, Mutex, PoisonError};
use vml_chunk::codec::{decode_record, encode_record};
use vml_chunk::format::META_FRAME_LEN;
use vml_chunk::frame::{FrameBuilder, FrameEncoder};
use vml_chunk::{ChunkId, ChunkerParams, Error, ErrorKind, PackKind, Reliance, Result, StoreWriter};

/// Chunks of one call of `each` at most, so that the sink can begin before the walk is at its end.
const NEEDS_LEN: usize = CHUNKS_MAX / 4;
/// Chunks of the first; each later one is twice as long.
const FIRST_NEEDS_LEN: usize = 1 << 10;

/// A repository that this process has open.
pub struct OpenRemote<'r> {
    repository: &'r Repository,
    /// What entries that come are said to come from.
    origin: &'r str,
    trusted: bool,
    time_ms: i64,
    durable: bool,
    monitor: &'r dyn Monitor,
    session: Mutex<Option<Arc<StoreWriter<'r>>>>,
}

impl<'r> OpenRemote<'r> {
    /// Entries that come to it are noted as coming from `origin`, which its owner trusts as himself or not, at `time_ms`: milliseconds since
    /// 1970-01-01 00:00 UTC.
    pub fn new(repository: &'r Repository, origin: &'r str, trusted: bool, time_ms: i64) -> Self {
        Self { repository, origin, trusted, time_ms, durable: false, monitor: &NoMonitor, session: Mutex::default() }
    }

    /// What opening the store finds is told to `monitor`.
    #[must_use]
    pub fn telling(mut self, monitor: &'r dyn Monitor) -> Self {
        self.monitor = monitor;
        self
    }

    /// Every parcel is durable and indexed when `store` returns, and not only when `commit` does: for a service, whose callers may never come back.
    #[must_use]
    pub fn durable(mut self) -> Self {
        self.durable = true;
        self
    }

    fn session(&self) -> Result<Arc<StoreWriter<'r>>> {
        let mut session = self.session.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(writer) = &*session {
            return Ok(Arc::clone(writer));
        }
        let writer = Arc::new(self.repository.store(self.monitor)?.writer()?);
        Ok(Arc::clone(session.insert(writer)))
    }

    /// Publishes what was stored; what it relies on is kept from collections while the result lives.
    fn end_session(&self) -> Result<Option<Reliance>> {
        let taken = self.session.lock().unwrap_or_else(PoisonError::into_inner).take();
        let Some(writer) = taken else { return Ok(None) };
        let writer =
            Arc::try_unwrap(writer).map_err(|_| Error::invalid("entries are committed while their chunks are still being stored"))?;
        Ok(Some(writer.finish_relying()?.1))
    }

    /// Walks entries that are to be committed, noting what they rely on.
    fn rely(&self, entries: &[(EntryId, Entry)]) -> Result<Reliance> {
        let store = self.repository.store(self.monitor)?;
        // Some of it may have been stored by another process.
        store.reload(false)?;
        let writer = store.writer()?;
        let view = store.view();
        let mut reach = Reach::new(store);
        for (id, entry) in entries {
            let is_stored =
                &mut |chunk: &ChunkId, len| writer.rely_on(chunk) && view.locate(chunk).any(|location| location.chunk_len == len);
            let missing =
                reach.missing(entry, true, is_stored).map_err(|error| error.context(format!("entry {} is damaged", id.short())))?;
            if missing > 0 {
                return Err(Error::not_found(format!("{} chunks of entry {} are not in the repository", told(missing), id.short())));
            }
        }
        Ok(writer.finish_relying()?.1)
    }

    fn is_there(&self, id: &EntryId) -> Result<bool> {
        if !self.repository.are_there(&[*id])? {
            return Ok(false);
        }
        match self.repository.entry(id) {
            Ok(_) => Ok(true),
            Err(error) if error.kind() == ErrorKind::NotFound => Ok(false),
            Err(error) => Err(error),
        }
    }

    fn put_notes(&self, records: &[Vec<u8>]) -> Result<()> {
        for record in records {
            let note: Note = decode_record(NOTE_RECORD, record)?;
            // Those say whom this repository trusts; nobody else does.
            if !is_own_author(&note.author) && self.is_there(&note.entry)? {
                self.repository.add_note(&note)?;
            }
        }
        Ok(())
    }

    /// Gives tags that are free; returns those that name another entry.
    fn put_tags(&self, tags: &[(String, EntryId)]) -> Result<Vec<String>> {
        let refs = self.repository.refs();
        let mut others = Vec::new();
        for (name, target) in tags {
            check_name("tag", name)?;
            match refs.get(RefKind::Tag, name)? {
                Some(present) if present == *target => refs.settle(RefKind::Tag)?,
                Some(_) => others.push(name.clone()),
                None if self.is_there(target)? => refs.set(RefKind::Tag, name, None, Some(*target))?,
                None => {}
            }
        }
        Ok(others)
    }
}

fn check_count<T>(items: &[T], max: usize, what: &str) -> Result<()> {
    if items.len() > max {
        return Err(Error::invalid(format!("{} {what} were named at once, {max} are the limit", items.len())));
    }
    Ok(())
}

/// As many records as fit into an answer.
fn collect_records<T>(items: &[T], read: &mut dyn FnMut(&T) -> Result<Vec<u8>>) -> Result<Vec<Vec<u8>>> {
    let mut records = Vec::new();
    let mut len = 0;
    for item in items {
        let record = read(item)?;
        len += record.len();
        if len > RECORDS_TARGET && !records.is_empty() {
            break;
        }
        records.push(record);
    }
    Ok(records)
}

impl Remote for OpenRemote<'_> {
    fn info(&self) -> Result<RemoteInfo> {
        let config = self.repository.config();
        let mut chunker = config.chunker.clone();
        if let (ChunkerParams::FastCdc2020 { seed, .. }, true) = (&mut chunker, config.is_encrypted()) {
            // Whoever shall know it has the keys.
            *seed = 0;
        }
        Ok(RemoteInfo {
            id: config.id,
            chunker,
            frame_len: config.frame_len,
            level: config.level,
            inline_max: config.inline_max,
            ids: self.repository.ids().check(),
        })
    }

    fn refs(&self) -> Result<Vec<RemoteRef>> {
        let mut found = Vec::new();
        for kind in RefKind::ALL {
            for (name, target) in self.repository.refs().list(kind)? {
                // A damaged one is told by `vml check`; it keeps nobody from the others.
                found.extend(target.ok().map(|entry| RemoteRef { kind, name, entry }));
            }
        }
        Ok(found)
    }

    fn history(&self, entries: &[EntryId]) -> Result<Vec<HistoryItem>> {
        check_count(entries, ENTRIES_MAX, "entries")?;
        let mut seen: HashSet<EntryId> = entries.iter().copied().collect();
        let mut found: Vec<(i64, HistoryItem)> = Vec::new();
        let mut next: Vec<(i64, EntryId)> = entries.iter().map(|id| (i64::MAX, *id)).collect();
        while let Some((later_ms, id)) = next.pop() {
            if found.len() >= HISTORY_MAX {
                break;
            }
            let (time_ms, forgotten, before) = match self.repository.entry(&id) {
                Ok(entry) => {
                    let base = entry.base.as_ref().map(|base| base.entry);
                    (entry.time_ms, None, entry.parents.into_iter().chain(base).collect())
                }
                Err(error) if error.kind() == ErrorKind::NotFound => match self.repository.continued_by_forgotten(&id)? {
                    Some(parents) => (later_ms, Some(parents.clone()), parents),
                    None => continue,
                },
                Err(error) => return Err(error),
            };
            found.push((time_ms, HistoryItem { id, forgotten }));
            next.extend(before.into_iter().filter(|id| seen.insert(*id)).map(|id| (time_ms, id)));
        }
        found.sort_by_key(|(time_ms, item)| (std::cmp::Reverse(*time_ms), item.id));
        Ok(found.into_iter().map(|(_, item)| item).collect())
    }

    fn entries_there(&self, entries: &[EntryId]) -> Result<Vec<bool>> {
        check_count(entries, ENTRIES_MAX, "entries")?;
        let there: Vec<bool> = entries.iter().map(|id| self.is_there(id)).collect::<Result<_>>()?;
        if there.contains(&true) {
            self.repository.settle_entries()?;
        }
        Ok(there)
    }

    fn records(&self, entries: &[EntryId]) -> Result<Vec<Vec<u8>>> {
        check_count(entries, ENTRIES_MAX, "entries")?;
        // An entry has one encoding.
        collect_records(entries, &mut |id| Ok(self.repository.entry(id)?.encode().1))
    }

    fn notes(&self) -> Result<Vec<NoteId>> {
        let notes = self.repository.notes(self.monitor)?;
        let told = notes.values().flatten().filter(|note| !is_own_author(&note.author));
        let mut ids: Vec<NoteId> = told.map(|note| note_id(note).0).collect();
        ids.sort_unstable();
        Ok(ids)
    }

    fn note_records(&self, notes: &[NoteId]) -> Result<Vec<Vec<u8>>> {
        check_count(notes, ENTRIES_MAX, "notes")?;
        let wanted: HashSet<NoteId> = notes.iter().copied().collect();
        let mut found = HashMap::new();
        for note in self.repository.notes(self.monitor)?.into_values().flatten().filter(|note| !is_own_author(&note.author)) {
            let (id, record) = note_id(&note);
            if wanted.contains(&id) {
                found.insert(id, record);
            }
        }
        collect_records(notes, &mut |id| {
            found.get(id).cloned().ok_or_else(|| Error::not_found(format!("a note of entry {} is not there", id.entry.short())))
        })
    }

    fn needs(&self, entries: &[EntryId], known: &[EntryId], each: &mut dyn FnMut(Needs) -> Result<()>) -> Result<()> {
        check_count(entries, ENTRIES_MAX, "entries")?;
        check_count(known, ENTRIES_MAX, "entries")?;
        let store = self.repository.store(self.monitor)?;
        let mut reach = Reach::new(store);
        for id in known {
            match self.repository.entry(id) {
                Ok(entry) => reach.entry(&entry, false, &mut |_, _, _| Ok(true))?,
                Err(error) if error.kind() == ErrorKind::NotFound => {}
                Err(error) => return Err(error),
            }
        }
        let mut batch = Needs::default();
        let mut batch_len = FIRST_NEEDS_LEN;
        let mut numbers: HashMap<FrameAt, u32> = HashMap::new();
        for id in entries {
            let entry = self.repository.entry(id)?;
            let walked = reach.entry(&entry, true, &mut |_, chunk, len| {
                let at = |location: vml_chunk::index::Location| FrameAt {
                    kind: location.kind,
                    pack: location.pack,
                    offset: location.frame_offset,
                    stored_len: location.stored_len,
                    plain_len: location.plain_len,
                    alone: !location.compacted,
                };
                let find = || store.view().locate(chunk).find(|location| location.chunk_len == len).map(at);
                let frame = match find() {
                    Some(frame) => frame,
                    // Somebody else may have stored it since this process looked.
                    None => {
                        store.reload(false)?;
                        find().ok_or_else(|| Error::not_found(format!("chunk {} is not in the repository", chunk.short())))?
                    }
                };
                let next = u32::try_from(batch.frames.len()).expect("limited by the batch");
                let number = *numbers.entry(frame).or_insert_with(|| {
                    batch.frames.push(frame);
                    next
                });
                batch.chunks.push(Need { id: *chunk, len, frame: number });
                if batch.chunks.len() >= batch_len {
                    batch_len = NEEDS_LEN.min(2 * batch_len);
                    numbers.clear();
                    each(std::mem::take(&mut batch))?;
                }
                Ok(true)
            });
            walked.map_err(|error| error.context(format!("cannot send entry {}", id.short())))?;
        }
        if batch.chunks.is_empty() { Ok(()) } else { each(batch) }
    }

    fn has(&self, chunks: &[ChunkId]) -> Result<Vec<bool>> {
        check_count(chunks, CHUNKS_MAX, "chunks")?;
        let standing = self.repository.store(self.monitor)?.standing_as_known()?;
        Ok(chunks.iter().map(|id| standing.has(id)).collect())
    }

    fn fetch(&self, frames: &[FrameAt]) -> Result<Parcel> {
        let len: usize = frames.iter().map(|frame| frame.stored_len as usize).sum();
        if len > PARCEL_MAX {
            return Err(Error::invalid(format!("{len} bytes of frames were asked for at once, {PARCEL_MAX} are the limit")));
        }
        let store = self.repository.store(self.monitor)?;
        let read = |frame: &FrameAt| {
            let mut bytes = Vec::new();
            store.read_frame(frame.kind, &frame.pack, frame.offset, frame.stored_len, &mut bytes)?;
            Ok((frame.kind, bytes))
        };
        frames.iter().map(read).collect()
    }

    fn compose(&self, kind: PackKind, chunks: &[ChunkId]) -> Result<Parcel> {
        check_count(chunks, CHUNKS_MAX, "chunks")?;
        let store = self.repository.store(self.monitor)?;
        let config = self.repository.config();
        let frame_len = match kind {
            PackKind::Data => config.frame_len as usize,
            PackKind::Meta => META_FRAME_LEN,
        };
        let mut encoder = FrameEncoder::keyed(i32::from(config.level), self.repository.ids().clone())?;
        let mut parcel = Parcel::new();
        let mut frame = FrameBuilder::default();
        let mut plain_len = 0;
        for id in chunks {
            let chunk = store.get(id)?;
            plain_len += chunk.len();
            if plain_len > PARCEL_MAX - PARCEL_TARGET {
                return Err(Error::invalid("more chunks were asked for at once than an answer may have"));
            }
            if frame.is_full_for(chunk.len(), frame_len) {
                parcel.push((kind, encoder.seal(std::mem::take(&mut frame))?.bytes));
            }
            frame.push(*id, &chunk);
        }
        if !frame.is_empty() {
            parcel.push((kind, encoder.seal(frame)?.bytes));
        }
        Ok(parcel)
    }

    fn store(&self, parcel: Parcel) -> Result<Stowed> {
        if !self.durable {
            return put(&*self.session()?, parcel);
        }
        let writer = self.repository.store(self.monitor)?.writer()?;
        let put = put(&writer, parcel);
        // What came before an error is kept: the next try finds it.
        let finished = writer.finish();
        put.and_then(|stowed| finished.map(|_| stowed))
    }

    fn commit(&self, commit: &Commit) -> Result<Committed> {
        check_count(&commit.entries, ENTRIES_MAX, "entries")?;
        check_count(&commit.notes, ENTRIES_MAX, "notes")?;
        check_count(&commit.tags, ENTRIES_MAX, "tags")?;
        if !self.trusted && !commit.entries.is_empty() && self.repository.policy()?.require_signed {
            let message = "this repository takes only what a trusted key has signed, and entries of a remote that is not your own are not";
            return Err(Error::new(ErrorKind::PermissionDenied, message));
        }
        let stored = self.end_session()?;
        let mut entries = Vec::new();
        for record in &commit.entries {
            let entry = Entry::decode(record)?;
            check_entry(&entry)?;
            entries.push((EntryId::of(record), entry));
        }
        let mut new = Vec::new();
        for (id, entry) in &entries {
            if !self.is_there(id)? {
                new.push((*id, entry.clone()));
            }
        }
        let store = self.repository.store(self.monitor)?;
        let mut reliance = self.rely(&new)?;
        let mut commit_one = |entry: &Entry| {
            let committed = self.repository.commit(store, &mut reliance, entry, &[])?;
            let taken = "a collection took away what the entry needs meanwhile";
            committed.map(|_| ()).ok_or_else(|| Error::not_found(taken))
        };
        for (id, parents) in &commit.forgotten {
            self.repository.note_forgotten(id, parents)?;
        }
        let origin = Origin::Remote { name: self.origin, trusted: self.trusted };
        let arrival = Arrival { entries, lineage: &commit.lineage, origin, time_ms: self.time_ms };
        let entries = publish(self.repository, arrival, &mut commit_one)?;
        drop((stored, reliance));
        self.put_notes(&commit.notes)?;
        let other_tags = self.put_tags(&commit.tags)?;
        let arrived = entries.into_iter().map(|got| Arrived { id: got.id, new: got.new, placed: got.placed });
        Ok(Committed { entries: arrived.collect(), other_tags })
    }

    fn forget(&self, entries: &[EntryId], force: bool) -> Result<()> {
        check_count(entries, ENTRIES_MAX, "entries")?;
        self.repository.forget(entries, force, self.monitor)
    }
}

/// Puts the chunks of all frames.
fn put(writer: &StoreWriter<'_>, parcel: Parcel) -> Result<Stowed> {
    let mut chunks = [writer.chunks(PackKind::Data)?, writer.chunks(PackKind::Meta)?];
    let mut stowed = Stowed::default();
    let run = || {
        for (kind, frame) in parcel {
            let (count, new_count) = chunks[usize::from(kind.number())].put_frame(frame)?;
            stowed.chunks_count += count;
            stowed.new_chunks_count += new_count;
        }
        Ok(())
    };
    let result = run();
    let [data, meta] = chunks.map(vml_chunk::ChunkWriter::finish);
    result.and(data).and(meta).map(|()| stowed)
}

pub(crate) fn note_id(note: &Note) -> (NoteId, Vec<u8>) {
    let record = encode_record(NOTE_RECORD, note);
    (NoteId { entry: note.entry, digest: *blake3::hash(&record).as_bytes() }, record)
}
