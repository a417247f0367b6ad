//! All segments of a repository together, as one process sees them at one moment.

use super::INDEX_DIR;
use super::segment::{PackRow, Record, Segment};
use crate::backend::{Backend, Paged};
use crate::error::{ErrorKind, Result};
use crate::id::{ChunkId, PackId};
use crate::pack::PackKind;
use std::collections::{HashMap, HashSet};

/// Where a chunk is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Location {
    /// Its pack.
    pub pack: PackId,
    /// What the pack holds.
    pub kind: PackKind,
    /// Whether the pack was compacted: its frame may need those before it.
    pub compacted: bool,
    /// Where its frame begins in the pack, in bytes.
    pub frame_offset: u32,
    /// Bytes of the frame in the pack.
    pub stored_len: u32,
    /// Bytes of the frame's chunks together.
    pub plain_len: u32,
    /// Where the chunk begins in the plain frame.
    pub chunk_offset: u32,
    /// Its plain length.
    pub chunk_len: u32,
}

struct Loaded {
    name: String,
    segment: Segment<Paged>,
    /// For each row of the pack table, whether the pack is there with the length the row says.
    alive: Vec<bool>,
}

/// A set of segments. It never changes: a writer makes a new one.
#[derive(Default)]
pub struct IndexView {
    segments: Vec<Loaded>,
}

/// What loading a view found.
#[derive(Default)]
pub(crate) struct Loading {
    pub(crate) view: IndexView,
    /// Segments that are damaged.
    pub(crate) bad_segments: Vec<String>,
    /// Packs that are there but in no good segment.
    pub(crate) unindexed: Vec<(PackKind, PackId)>,
    /// Packs that a segment names and that are missing or cut.
    pub(crate) missing: Vec<PackRow>,
}

impl IndexView {
    /// Maps every segment and compares their pack tables with the packs that are there. With `verify` each segment is
    /// read and checked against its digest, which opening otherwise spares.
    pub(crate) fn load(backend: &dyn Backend, verify: bool) -> Result<Loading> {
        // Segments first: a pack published meanwhile is then merely one not indexed yet.
        let mut loading = Loading::default();
        let mut names: Vec<_> = backend.list(INDEX_DIR)?;
        names.retain(|listed| listed.name.parse::<PackId>().is_ok());
        // Large segments answer most look-ups.
        names.sort_by(|a, b| b.len.cmp(&a.len).then_with(|| a.name.cmp(&b.name)));
        backend.prefetch(&names.iter().map(|listed| format!("{INDEX_DIR}/{}", listed.name)).collect::<Vec<_>>());
        let mut segments = Vec::new();
        for listed in names {
            let loaded = backend.paged(&format!("{INDEX_DIR}/{}", listed.name)).and_then(Segment::from_data).and_then(|segment| {
                if verify {
                    segment.verify()?;
                }
                Ok(segment)
            });
            match loaded {
                Ok(segment) => segments.push((listed.name, segment)),
                // Merged into another by a writer since it was listed; its packs count as not indexed here.
                Err(error) if error.kind() == ErrorKind::NotFound => {}
                Err(error) if error.kind() == ErrorKind::Corrupt => loading.bad_segments.push(listed.name),
                // Too many open files or a missing permission says nothing about the segment.
                Err(error) => return Err(error),
            }
        }
        let mut packs = HashMap::new();
        for kind in PackKind::ALL {
            for listed in backend.list(kind.dir())? {
                if let Ok(id) = listed.name.parse::<PackId>() {
                    packs.insert((kind, id), listed.len);
                }
            }
        }
        let mut indexed = HashSet::new();
        let mut missing: HashMap<PackId, PackRow> = HashMap::new();
        for (name, segment) in segments {
            let mut alive = Vec::with_capacity(segment.pack_count());
            for row in (0..segment.pack_count()).map(|number| u32::try_from(number).ok().and_then(|number| segment.pack(number))) {
                let there = row.is_some_and(|row| packs.get(&(row.kind, row.id)) == Some(&row.len));
                if let (Some(row), false) = (row, there) {
                    missing.insert(row.id, row);
                }
                indexed.extend(row.map(|row| (row.kind, row.id)));
                alive.push(there);
            }
            loading.view.segments.push(Loaded { name, segment, alive });
        }
        loading.unindexed = packs.into_keys().filter(|pack| !indexed.contains(pack)).collect();
        // The order of a directory is chance; results should not be.
        loading.unindexed.sort_unstable();
        loading.missing = missing.into_values().collect();
        loading.missing.sort_unstable_by_key(|row| row.id);
        Ok(loading)
    }

    /// This view and one more segment, whose packs are all there.
    pub(crate) fn with_segment(&self, name: String, segment: Segment<Paged>) -> Self {
        let mut segments: Vec<Loaded> = self.segments.iter().map(Loaded::share).collect();
        let alive = vec![true; segment.pack_count()];
        segments.push(Loaded { name, segment, alive });
        Self { segments }
    }

    /// This view without the segments of these names.
    pub(crate) fn without_segments(&self, names: &[String]) -> Self {
        Self { segments: self.segments.iter().filter(|loaded| !names.contains(&loaded.name)).map(Loaded::share).collect() }
    }

    /// Names and record counts of the segments.
    pub fn segments(&self) -> impl Iterator<Item = (&str, usize)> {
        self.segments.iter().map(|loaded| (loaded.name.as_str(), loaded.segment.len()))
    }

    /// Names of the packs in the pack table of a segment, there or not.
    pub(crate) fn packs_named_in(&self, number: usize) -> impl Iterator<Item = (PackKind, PackId)> + '_ {
        let segment = &self.segments[number].segment;
        (0..segment.pack_count()).filter_map(|row| segment.pack(u32::try_from(row).ok()?)).map(|row| (row.kind, row.id))
    }

    /// Whether the pack in this row of a segment's pack table is there.
    pub(crate) fn is_there(&self, number: usize, pack: u32) -> bool {
        self.segments[number].alive.get(pack as usize).copied().unwrap_or(false)
    }

    pub(crate) fn segment(&self, number: usize) -> &Segment<Paged> {
        &self.segments[number].segment
    }

    /// Bytes of all segments.
    pub fn stored_len(&self) -> u64 {
        self.segments.iter().map(|loaded| loaded.segment.stored_len()).sum()
    }

    /// Number of records; a chunk stored twice by two writers at once may count twice.
    pub fn chunk_count(&self) -> usize {
        self.segments.iter().map(|loaded| loaded.segment.len()).sum()
    }

    /// Whether a pack that is there has the chunk.
    pub fn contains(&self, id: &ChunkId) -> bool {
        self.position(id).is_some()
    }

    /// Segment and row of a chunk: a small dense number for bitmaps over all chunks.
    pub fn position(&self, id: &ChunkId) -> Option<(usize, usize)> {
        self.position_in(id, &|_, _| true)
    }

    /// As [`position`](Self::position), in a pack that is `usable`.
    pub(crate) fn position_in(&self, id: &ChunkId, usable: &dyn Fn(PackKind, &PackId) -> bool) -> Option<(usize, usize)> {
        self.places(id).find(|(_, _, location)| usable(location.kind, &location.pack)).map(|(number, row, _)| (number, row))
    }

    /// Everywhere that a chunk is.
    pub fn locate<'a>(&'a self, id: &'a ChunkId) -> impl Iterator<Item = Location> + 'a {
        self.places(id).map(|(_, _, location)| location)
    }

    /// Everywhere that a chunk is, with segment and row of each record.
    pub fn places<'a>(&'a self, id: &'a ChunkId) -> impl Iterator<Item = (usize, usize, Location)> + 'a {
        self.segments.iter().enumerate().flat_map(move |(number, loaded)| {
            loaded.segment.find_all(id).filter_map(move |(row, record)| Some((number, row, loaded.locate(&record)?)))
        })
    }

    /// Calls `each` with segment, row and chunk of every record in packs that are there and `wanted`.
    pub fn for_each_record_in(&self, wanted: &dyn Fn(&PackRow) -> bool, each: &mut dyn FnMut(usize, usize, &PackRow, &ChunkId)) {
        for (number, loaded) in self.segments.iter().enumerate() {
            let row_of = |pack: usize| u32::try_from(pack).ok().and_then(|pack| loaded.segment.pack(pack)).filter(wanted);
            let packs: Vec<Option<PackRow>> = (0..loaded.alive.len()).map(|pack| row_of(pack).filter(|_| loaded.alive[pack])).collect();
            if packs.iter().all(Option::is_none) {
                continue;
            }
            for (row, record) in loaded.segment.scan().enumerate() {
                let pack = loaded.segment.frame(record.frame).and_then(|frame| packs.get(frame.pack as usize)?.as_ref());
                if let Some(pack) = pack {
                    each(number, row, pack, &record.id);
                }
            }
        }
    }

    /// The packs that are there, each once.
    pub fn packs(&self) -> Vec<PackRow> {
        let mut rows: Vec<PackRow> = self.segments.iter().flat_map(Loaded::packs).collect();
        rows.sort_unstable_by_key(|row| (row.kind, row.id));
        rows.dedup();
        rows
    }
}

impl Loaded {
    fn share(&self) -> Self {
        Self { name: self.name.clone(), segment: self.segment.share(), alive: self.alive.clone() }
    }

    fn locate(&self, record: &Record) -> Option<Location> {
        let frame = self.segment.frame(record.frame)?;
        if !*self.alive.get(frame.pack as usize)? {
            return None;
        }
        let pack = self.segment.pack(frame.pack)?;
        Some(Location {
            pack: pack.id,
            kind: pack.kind,
            compacted: pack.compaction > 0,
            frame_offset: frame.offset,
            stored_len: frame.stored_len,
            plain_len: frame.plain_len,
            chunk_offset: record.offset,
            chunk_len: record.len,
        })
    }

    fn packs(&self) -> impl Iterator<Item = PackRow> + '_ {
        let alive = self.alive.iter().enumerate().filter(|(_, alive)| **alive);
        alive.filter_map(|(number, _)| self.segment.pack(u32::try_from(number).ok()?))
    }
}

impl Segment<Paged> {
    fn share(&self) -> Self {
        Self::from_data(self.shared_data()).expect("its header was read before")
    }
}
