//! Opens a store, and brings an index that lost something up to what the packs say.

use super::cache::FrameCache;
use super::damage::Damage;
use super::groups::Groups;
use super::quarantine::Seen;
use super::{ChunkStore, read};
use crate::backend::{Backend, Mapped, Paged, PutOutcome};
use crate::error::{Error, ErrorKind, Result};
use crate::format::{FRAME_TARGET_MAX, FRAME_TARGET_MIN};
use crate::id::{IdKey, PackId};
use crate::index::{INDEX_DIR, IndexView, PackRow, Segment, SegmentPack, build_segment};
use crate::pack::{Footer, PackKind, read_footer};
use crate::parity::PARITY_PERCENT_MAX;
use rayon::prelude::*;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, RwLock};

/// Chunks indexed in one go: 44 bytes of memory each while they are sorted.
pub(super) const SEGMENT_BATCH: usize = 500_000;

/// How a store writes and how much memory it may use.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StoreOptions {
    /// Plain bytes a frame aims at: 64 KiB to 8 MiB; frames of metadata at most [`META_FRAME_LEN`](crate::format::META_FRAME_LEN).
    pub frame_len: usize,
    /// zstd level, 1 to 19.
    pub level: i32,
    /// Threads that compress and hash.
    pub threads: usize,
    /// Plain bytes of frames kept for readers.
    pub cache_len: usize,
    /// Parity beside each pack that is written, in percent of it, 1 to 100; none without.
    pub parity_percent: Option<u8>,
    /// How chunks are named.
    pub ids: IdKey,
}

impl Default for StoreOptions {
    /// Frames of 4 MiB at level 3, a thread a core, 64 MiB of cache.
    fn default() -> Self {
        let threads = std::thread::available_parallelism().map_or(1, std::num::NonZero::get);
        Self { frame_len: 4 << 20, level: 3, threads, cache_len: 32 << 20, parity_percent: None, ids: IdKey::PLAIN }
    }
}

/// What opening a store found and mended.
#[derive(Debug, Default)]
pub struct OpenReport {
    /// Packs that the index did not know and that it knows now.
    pub indexed_packs: usize,
    /// Damaged segments, ignored and rebuilt from the packs.
    pub bad_segments: Vec<String>,
    /// Packs that the index names and that are missing or cut: their chunks count as not stored.
    pub missing_packs: Vec<PackRow>,
    /// Packs whose footer cannot be read, with the reason.
    pub unreadable_packs: Vec<(String, Error)>,
}

impl ChunkStore {
    /// Opens the store on `backend`; an empty backend is an empty store.
    ///
    /// # Errors
    /// `InvalidInput` for options outside their limits, `UnsupportedFormat` for a newer index, else what the backend says.
    /// Damage is no error here: see [`OpenReport`].
    ///
    /// # Cost
    /// Lists packs and segments and maps the segments: nothing is loaded, whatever their size. Packs that are not
    /// indexed cost two small reads each.
    pub fn open(backend: Arc<dyn Backend>, options: StoreOptions) -> Result<(Self, OpenReport)> {
        if !(FRAME_TARGET_MIN..=FRAME_TARGET_MAX).contains(&options.frame_len) {
            return Err(Error::invalid(format!(
                "the frame length is {} bytes, it must be from {FRAME_TARGET_MIN} to {FRAME_TARGET_MAX}",
                options.frame_len
            )));
        }
        if let Some(percent) = options.parity_percent.filter(|percent| !(1..=PARITY_PERCENT_MAX).contains(percent)) {
            return Err(Error::invalid(format!("parity is {percent} %, it must be from 1 to {PARITY_PERCENT_MAX}")));
        }
        let (view, report, seen) = load(backend.as_ref(), false, options.threads)?;
        let store = Self {
            seen: Mutex::new(seen.bytes),
            cache: FrameCache::new(options.cache_len),
            groups: Groups::new(options.cache_len),
            backend,
            options,
            view: RwLock::new(Arc::new(view)),
            changing: Mutex::default(),
            scratch: read::ScratchPool::default(),
            mended: Mutex::default(),
            looked_at: Mutex::default(),
        };
        Ok((store, report))
    }

    /// Looks again at what is there; with `verify` every byte of the index is checked.
    ///
    /// # Errors
    /// As [`open`](Self::open).
    pub fn reload(&self, verify: bool) -> Result<OpenReport> {
        self.reload_holding(verify, &self.change_view())
    }

    pub(super) fn reload_holding(&self, verify: bool, changing: &MutexGuard<'_, ()>) -> Result<OpenReport> {
        let (view, report, seen) = load(self.backend.as_ref(), verify, self.options.threads)?;
        self.set_view(view, changing);
        *self.seen.lock().unwrap_or_else(PoisonError::into_inner) = seen.bytes;
        Ok(report)
    }
}

fn load(backend: &dyn Backend, verify: bool, threads: usize) -> Result<(IndexView, OpenReport, Seen)> {
    // First, so that what a collection takes away while we look is known to be later than this.
    let seen = Seen::read(backend)?;
    let mut loading = IndexView::load(backend, verify)?;
    if !loading.missing.is_empty() {
        // What was taken away on purpose is not missed; perhaps it was put on the list since.
        let list = Seen::read(backend)?.list;
        loading.missing.retain(|row| !list.forbids(row.kind, &row.id) && !seen.list.forbids(row.kind, &row.id));
    }
    let mut report = OpenReport { bad_segments: loading.bad_segments, missing_packs: loading.missing, ..OpenReport::default() };
    let mut view = loading.view;
    for name in &report.bad_segments {
        // Out of the way, so that the next one need not look at it again; a read-only repository keeps it.
        _ = backend.delete(&format!("{INDEX_DIR}/{name}"));
    }
    if loading.unindexed.is_empty() {
        return Ok((view, report, seen));
    }
    // A segment must not outlive a pack that it names, and whoever published these may have been killed before their names were durable. Where
    // that cannot be made sure of, the segments are for this process only.
    let durable = PackKind::ALL.iter().all(|kind| backend.settle(kind.dir()).is_ok());
    let pool = rayon::ThreadPoolBuilder::new()
        .num_threads(threads.max(1))
        .build()
        .map_err(|error| Error::new(ErrorKind::Io, "cannot start threads to read pack footers").because(error))?;
    // Packs that are going have segments of their own, which need not be written anew when they are gone.
    let list = Seen::read(backend)?.list;
    let (going, staying): (Vec<_>, Vec<_>) = loading.unindexed.into_iter().partition(|(kind, id)| list.forbids(*kind, id));
    // So has each one that is damaged, which a repair takes away.
    let damage = Damage::read(backend)?;
    let (damaged, staying): (Vec<_>, Vec<_>) = staying.into_iter().partition(|(kind, id)| damage.packs.contains(*kind, id));
    // Few enough at a time that their footers are a bounded part of memory.
    for group in staying.chunks(64).chain(going.chunks(64)).chain(damaged.chunks(1)) {
        let footers: Vec<_> = pool.install(|| group.par_iter().map(|(kind, id)| (*kind, *id, read_footer(backend, *kind, id))).collect());
        let mut batch: Vec<(PackId, u64, Footer)> = Vec::new();
        for (kind, id, footer) in footers {
            match footer {
                Ok((footer, len)) => batch.push((id, len, footer)),
                Err(error) if error.kind() == ErrorKind::UnsupportedFormat => return Err(error),
                // Taken away by a collection since it was listed.
                Err(error) if error.kind() == ErrorKind::NotFound => {}
                // For a key that can save but not read they are not there; what they hold is stored again.
                Err(error) if error.kind() == ErrorKind::NeedsKey => {}
                Err(error) => report.unreadable_packs.push((kind.key(&id), error)),
            }
        }
        report.indexed_packs += batch.len();
        while !batch.is_empty() {
            let mut count = 0;
            let take = batch.iter().take_while(|(_, _, footer)| {
                let first = count == 0;
                count += footer.chunks.len();
                first || count <= SEGMENT_BATCH
            });
            let rest = batch.split_off(take.count());
            view = if durable { add_segment(backend, &view, &batch, true)? } else { with_own_segment(&view, &batch)? };
            batch = rest;
        }
    }
    Ok((view, report, seen))
}

/// Writes a segment over `packs` and adds it to `view`. With `best_effort` a repository that cannot be written is
/// served from memory.
pub(super) fn add_segment(
    backend: &dyn Backend,
    view: &IndexView,
    packs: &[(PackId, u64, Footer)],
    best_effort: bool,
) -> Result<IndexView> {
    let rows: Vec<_> = packs.iter().map(|(id, len, footer)| SegmentPack { id: *id, len: *len, footer }).collect();
    let bytes = build_segment(&rows)?;
    let name = blake3::hash(&bytes).to_hex().to_string();
    let key = format!("{INDEX_DIR}/{name}");
    let data = match put_and_map(backend, &key, &bytes) {
        Ok(paged) => paged,
        Err(error) if best_effort && error.kind() != ErrorKind::InvalidInput => Paged::Mapped(Mapped::new(bytes)),
        // A dry run's backend takes the segment and has it not.
        Err(error) if error.kind() == ErrorKind::NotFound => Paged::Mapped(Mapped::new(bytes)),
        Err(error) => return Err(error),
    };
    Ok(view.with_segment(name, Segment::from_data(data)?))
}

/// Writes a segment over `packs`; tells its name.
pub(super) fn put_segment(backend: &dyn Backend, packs: &[(PackId, u64, Footer)]) -> Result<String> {
    let rows: Vec<_> = packs.iter().map(|(id, len, footer)| SegmentPack { id: *id, len: *len, footer }).collect();
    let bytes = build_segment(&rows)?;
    let name = blake3::hash(&bytes).to_hex().to_string();
    put_and_map(backend, &format!("{INDEX_DIR}/{name}"), &bytes)?;
    Ok(name)
}

/// As [`add_segment`], and nothing is written.
fn with_own_segment(view: &IndexView, packs: &[(PackId, u64, Footer)]) -> Result<IndexView> {
    let rows: Vec<_> = packs.iter().map(|(id, len, footer)| SegmentPack { id: *id, len: *len, footer }).collect();
    let bytes = build_segment(&rows)?;
    let name = blake3::hash(&bytes).to_hex().to_string();
    Ok(view.with_segment(name, Segment::from_data(Paged::Mapped(Mapped::new(bytes)))?))
}

/// Stores a segment; a damaged one of the same name is replaced, since the caller knows what its bytes must be.
fn put_and_map(backend: &dyn Backend, key: &str, bytes: &[u8]) -> Result<Paged> {
    if backend.put(key, bytes)? == PutOutcome::AlreadyThere && backend.map(key)?.as_ref() != bytes {
        backend.delete(key)?;
        backend.put(key, bytes)?;
    }
    backend.paged(key)
}
