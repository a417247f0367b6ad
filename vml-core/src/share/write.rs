//! Writes a share file.

use super::section::{SectionKind, SectionWriter};
use super::sign::{Signer, statement};
use super::solid::{SolidReader, SolidWriter};
use super::{ENTRIES_MAX, Head, LINEAGE_MAX, Need, SHARE_HEAD_RECORD};
use crate::entry::{Entry, EntryId, EntryKind};
use crate::monitor::{Monitor, Task};
use crate::refs::RefKind;
use crate::repository::Repository;
use crate::repository::reach::Reach;
use std::collections::HashSet;
use std::io::Write;
use vml_chunk::codec::encode_record;
use vml_chunk::format::{FRAME_MAX_CHUNKS, FRAME_TARGET_MAX, META_FRAME_LEN};
use vml_chunk::frame::{FrameBuilder, FrameEncoder, SealedFrame};
use vml_chunk::{ChunkId, ChunkStore, Error, ErrorKind, PackKind, Result};

/// Most threads that compress: each may need a hundred megabytes.
const THREADS_MAX: usize = 4;

/// What to share, and what the library cannot know.
#[derive(Clone, Copy)]
pub struct ShareRequest<'a> {
    /// The entries.
    pub entries: &'a [EntryId],
    /// Entries that the receiver is known to have, beside the bases.
    pub since: &'a [EntryId],
    /// Whether bases are in the file, so that it needs nothing.
    pub full: bool,
    /// zstd level, 1 to 19.
    pub level: i32,
    /// Whether the content is one stream, in which what repeats is found 128 MiB back: the smallest file, made by one thread.
    pub solid: bool,
    /// Threads that compress.
    pub threads: usize,
    /// Who makes it.
    pub author: &'a str,
    /// The time now: milliseconds since 1970-01-01 00:00 UTC.
    pub time_ms: i64,
    /// The key to sign with.
    pub signer: Option<&'a dyn Signer>,
}

/// A written file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Shared {
    /// What it is.
    pub head: Head,
    /// Its length in bytes.
    pub bytes: u64,
    /// Chunks in it.
    pub chunks_count: u64,
    /// Their plain bytes.
    pub plain_bytes: u64,
}

/// What a file of a request has and needs: entries with their records in the order in which they are received.
pub(super) struct Selection {
    pub(super) entries: Vec<(EntryId, Entry)>,
    /// What the receiver must have; without a record where only an equal base of the same name is here.
    pub(super) needs: Vec<(Need, Option<Entry>)>,
    /// Entries whose chunks stay out of the file.
    pub(super) known: Vec<Entry>,
}

pub(super) fn select(repository: &Repository, request: &ShareRequest<'_>) -> Result<Selection> {
    let mut entries: Vec<(EntryId, Entry)> = Vec::new();
    let mut needs: Vec<(Need, Option<Entry>)> = Vec::new();
    let mut known = Vec::new();
    let wanted: HashSet<EntryId> = request.entries.iter().copied().collect();
    for id in request.since.iter().filter(|id| !wanted.contains(*id)) {
        if needs.iter().any(|(need, _)| need.entry == *id) {
            continue;
        }
        let entry = repository.entry(id)?;
        known.push(entry.clone());
        needs.push((Need { kind: entry.kind.clone(), entry: *id, time_ms: entry.time_ms }, Some(entry)));
    }
    for id in request.entries {
        let entry = repository.entry(id)?;
        let base = entry.base.clone().filter(|base| !wanted.contains(&base.entry));
        let told = |id: &EntryId| entries.iter().any(|(other, _)| other == id) || needs.iter().any(|(need, _)| need.entry == *id);
        if let Some(base) = base.filter(|base| !told(&base.entry)) {
            let kind = EntryKind::Base { name: base.name.clone(), version: base.version.clone() };
            match repository.entry(&base.entry) {
                Ok(own) if request.full => entries.push((base.entry, own)),
                Ok(own) => {
                    known.push(own.clone());
                    needs.push((Need { kind, entry: base.entry, time_ms: own.time_ms }, Some(own)));
                }
                Err(error) if error.kind() == ErrorKind::NotFound && !request.full => {
                    // It was received upon an equal base of that name.
                    let name = format!("{}@{}", base.name, base.version);
                    let equal = repository.refs().get(RefKind::Base, &name)?.ok_or(error)?;
                    known.push(repository.entry(&equal)?);
                    needs.push((Need { kind, entry: base.entry, time_ms: 0 }, None));
                }
                Err(error) => return Err(error),
            }
        }
        if !entries.iter().any(|(other, _)| other == id) {
            entries.push((*id, entry));
        }
    }
    if entries.is_empty() || entries.len() > ENTRIES_MAX || needs.len() > ENTRIES_MAX {
        return Err(Error::invalid(format!("a share file holds from 1 to {ENTRIES_MAX} entries")));
    }
    sort(&mut entries);
    Ok(Selection { entries, needs, known })
}

/// Bases first, then by time, so that what an entry continues stands before it.
fn sort(entries: &mut [(EntryId, Entry)]) {
    entries.sort_by_key(|(id, entry)| (matches!(entry.kind, EntryKind::State { .. }), entry.time_ms, *id));
}

/// Writes the entries of `request` to `out`.
///
/// # Errors
/// `NotFound` for entries and chunks that are not there, `InvalidInput` for a level that is none, what `out` says.
///
/// # Cost
/// Reads the listings and recipes of bases and entries once, and of their content what goes into the file.
pub fn share(repository: &Repository, request: &ShareRequest<'_>, out: &mut dyn Write, monitor: &dyn Monitor) -> Result<Shared> {
    let selection = select(repository, request)?;
    let store = repository.store(monitor)?;
    let lineage = selection.entries.last().map(|(_, entry)| lineage(repository, entry)).unwrap_or_default();
    let head = Head {
        entries: selection.entries.iter().map(|(id, _)| *id).collect(),
        needs: selection.needs.iter().map(|(need, _)| need.clone()).collect(),
        lineage,
        author: request.author.to_owned(),
        time_ms: request.time_ms,
        signer: request.signer.map(|signer| *signer.public_key().as_bytes()),
        chunker: repository.config().chunker.clone(),
        inline_max: repository.config().inline_max,
    };
    head.check()?;
    let mut file = SectionWriter::new(out)?;
    file.section(SectionKind::Head, &encode_record(SHARE_HEAD_RECORD, &head))?;
    for (_, entry) in &selection.entries {
        file.section(SectionKind::Entry, &entry.encode().1)?;
    }
    for entry in selection.needs.iter().filter_map(|(_, entry)| entry.as_ref()) {
        file.section(SectionKind::Needed, &entry.encode().1)?;
    }
    let mut reach = Reach::new(store);
    for entry in &selection.known {
        reach.entry(entry, false, &mut |_, _, _| Ok(true)).map_err(|error| error.context("cannot tell what the receiver has"))?;
    }
    let mut frames = Frames::new(store, file, request, monitor)?;
    for (id, entry) in &selection.entries {
        let visited = reach.entry(entry, true, &mut |kind, id, len| frames.push(kind, id, len).map(|()| true));
        visited.map_err(|error| error.context(format!("cannot share entry {}", id.short())))?;
    }
    let (file, chunks_count, plain_bytes) = frames.finish()?;
    let bytes = file.finish(&mut |digest| request.signer.map(|signer| signer.sign(&statement(digest))).transpose())?;
    Ok(Shared { head, bytes, chunks_count, plain_bytes })
}

/// What an entry continues, as far as it is here.
fn lineage(repository: &Repository, entry: &Entry) -> Vec<EntryId> {
    let mut lineage = Vec::new();
    let mut next = entry.parents.first().copied();
    while let (Some(id), true) = (next, lineage.len() < LINEAGE_MAX) {
        lineage.push(id);
        next = repository.entry(&id).ok().and_then(|entry| entry.parents.first().copied());
    }
    lineage
}

/// Collects chunks into frames, and compresses several at once.
struct Frames<'a> {
    store: &'a ChunkStore,
    file: SectionWriter<'a>,
    monitor: &'a dyn Monitor,
    open: [FrameBuilder; 2],
    full: Vec<(PackKind, FrameBuilder)>,
    encoders: Vec<FrameEncoder>,
    /// Where content goes instead of frames.
    solid: Option<Solid>,
    chunks_count: u64,
    plain_bytes: u64,
}

/// Content on its way into one stream.
struct Solid {
    writer: SolidWriter,
    /// Reads what was written, before it goes into the file.
    check: SolidReader,
    lens: Vec<u32>,
    plain: Vec<u8>,
}

impl Solid {
    fn new(level: i32) -> Result<Self> {
        Ok(Self { writer: SolidWriter::new(level)?, check: SolidReader::new()?, lens: Vec::new(), plain: Vec::new() })
    }

    fn is_full_for(&self, len: usize) -> bool {
        !self.lens.is_empty() && (self.plain.len() + len > FRAME_TARGET_MAX || self.lens.len() >= FRAME_MAX_CHUNKS)
    }

    /// The section of what was collected.
    fn section(&mut self) -> Result<Vec<u8>> {
        let payload = self.writer.section(&self.lens, &self.plain)?;
        if self.check.section(&payload)? != (std::mem::take(&mut self.lens), std::mem::take(&mut self.plain)) {
            return Err(Error::corrupt("content does not survive compression: the memory of this machine may be faulty"));
        }
        Ok(payload)
    }
}

impl<'a> Frames<'a> {
    fn new(store: &'a ChunkStore, file: SectionWriter<'a>, request: &ShareRequest<'_>, monitor: &'a dyn Monitor) -> Result<Self> {
        let threads = request.threads.clamp(1, THREADS_MAX);
        let encoders = (0..threads).map(|_| FrameEncoder::new(request.level)).collect::<Result<Vec<_>>>()?;
        let solid = request.solid.then(|| Solid::new(request.level)).transpose()?;
        Ok(Self { store, file, monitor, open: Default::default(), full: Vec::new(), encoders, solid, chunks_count: 0, plain_bytes: 0 })
    }

    fn push(&mut self, kind: PackKind, id: &ChunkId, len: u32) -> Result<()> {
        let chunk = self.store.get(id)?;
        if chunk.len() != len as usize {
            return Err(Error::corrupt(format!("chunk {} has {} bytes where an entry says {len}", id.short(), chunk.len())));
        }
        self.chunks_count += 1;
        self.plain_bytes += u64::from(len);
        self.monitor.advance(Task::Share, 1, u64::from(len));
        if let Some(solid) = self.solid.as_mut().filter(|_| kind == PackKind::Data) {
            if solid.is_full_for(chunk.len()) {
                self.file.section(SectionKind::Solid, &solid.section()?)?;
            }
            solid.lens.push(len);
            solid.plain.extend_from_slice(&chunk);
            return Ok(());
        }
        let (slot, target) = match kind {
            PackKind::Data => (0, FRAME_TARGET_MAX),
            PackKind::Meta => (1, META_FRAME_LEN),
        };
        if self.open[slot].is_full_for(chunk.len(), target) {
            self.full.push((kind, std::mem::take(&mut self.open[slot])));
            if self.full.len() >= self.encoders.len() {
                self.compress()?;
            }
        }
        self.open[slot].push(*id, &chunk);
        Ok(())
    }

    fn compress(&mut self) -> Result<()> {
        let frames = std::mem::take(&mut self.full);
        let sealed: Vec<(PackKind, Result<SealedFrame>)> = std::thread::scope(|scope| {
            let threads: Vec<_> = frames
                .into_iter()
                .zip(&mut self.encoders)
                .map(|((kind, frame), encoder)| (kind, scope.spawn(move || encoder.seal(frame))))
                .collect();
            let lost = || Err(Error::new(ErrorKind::Interrupted, "a thread that compressed a frame has died"));
            threads.into_iter().map(|(kind, thread)| (kind, thread.join().unwrap_or_else(|_| lost()))).collect()
        });
        for (kind, frame) in sealed {
            let section = if kind == PackKind::Data { SectionKind::Data } else { SectionKind::Meta };
            self.file.section(section, &frame?.bytes)?;
        }
        Ok(())
    }

    fn finish(mut self) -> Result<(SectionWriter<'a>, u64, u64)> {
        let [data, meta] = std::mem::take(&mut self.open);
        for (kind, frame) in [(PackKind::Meta, meta), (PackKind::Data, data)] {
            if !frame.is_empty() {
                self.full.push((kind, frame));
                if self.full.len() >= self.encoders.len() {
                    self.compress()?;
                }
            }
        }
        self.compress()?;
        if let Some(solid) = self.solid.as_mut().filter(|solid| !solid.lens.is_empty()) {
            self.file.section(SectionKind::Solid, &solid.section()?)?;
        }
        Ok((self.file, self.chunks_count, self.plain_bytes))
    }
}
