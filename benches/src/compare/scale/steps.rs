//! What is measured inside a process of its own: the library on an index of any size.

use super::ids::{Ids, mix};
use super::make::{self, Part};
use super::watch::status_bytes;
use anyhow::{Context as _, Result, bail, ensure};
use serde_json::{Value, json};
use std::fs;
use std::hint::black_box;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Instant;
use vml_chunk::gc::{Collector, Marks, PlanOptions, plan};
use vml_chunk::index::{INDEX_DIR, Segment, merge_segments};
use vml_chunk::seal::Unlock;
use vml_chunk::{ChunkId, LocalBackend};
use vml_core::{NoMonitor, Repository, RepositoryOptions};

/// Look-ups that are timed together.
const LOOKUPS: u64 = 200_000;
/// Times that a repository is opened.
const OPENS: usize = 9;

/// Which repository, of how many chunks.
#[derive(Debug, Clone)]
pub struct Place {
    /// Its directory.
    pub dir: PathBuf,
    /// Its key, if it is encrypted.
    pub key: Option<PathBuf>,
    /// Chunks that were put into it.
    pub chunks: u64,
}

impl Place {
    /// Opens it, not yet its index.
    ///
    /// # Errors
    /// What the library says.
    pub fn open(&self) -> Result<Repository> {
        let unlock = match &self.key {
            Some(path) => Some(Unlock::key_file(&fs::read(path).with_context(|| format!("cannot read {}", path.display()))?)?),
            None => None,
        };
        let backend = Arc::new(LocalBackend::open(&self.dir)?);
        Ok(Repository::open_with(backend, RepositoryOptions::default(), unlock.as_ref())?)
    }
}

/// Runs the step of this name.
///
/// # Errors
/// What the library says, or when a result is wrong.
pub fn run(name: &str, place: &Place) -> Result<Value> {
    match name {
        "fill" => fill(place),
        "open" => open(place),
        "lookups" => lookups(place),
        "merge" => merge(place),
        "collect" => collect(place),
        _ => bail!("there is no step {name}"),
    }
}

fn fill(place: &Place) -> Result<Value> {
    let repository = place.open()?;
    let made = make::fill(repository.backend().as_ref(), &place.dir, place.key.is_some(), place.chunks)?;
    Ok(json!({ "packs": made.packs, "packs_bytes": made.packs_bytes, "segments": made.segments, "index_bytes": made.index_bytes }))
}

/// The store: configuration, index, list of packs.
fn open(place: &Place) -> Result<Value> {
    let mut seconds = Vec::new();
    for _ in 0..OPENS {
        let started = Instant::now();
        let repository = place.open()?;
        let count = repository.store(&NoMonitor)?.view().chunk_count() as u64;
        seconds.push(started.elapsed().as_secs_f64());
        ensure!(count >= place.chunks, "the index has {count} chunks");
        black_box(&repository);
        if seconds.len() == OPENS {
            return Ok(json!({ "open_s": seconds, "memory": memory() }));
        }
    }
    bail!("it was never opened")
}

/// What of the memory is of its own, and what is resident of mappings, now.
fn memory() -> Value {
    let status = fs::read_to_string("/proc/self/status").unwrap_or_default();
    let mapped = status_bytes(&status, "RssFile") + status_bytes(&status, "RssShmem");
    json!({ "anon_bytes": status_bytes(&status, "RssAnon"), "mapped_bytes": mapped })
}

/// Draws a chunk of all.
fn draw(parts: &[Part], chunks: u64, number: u64) -> ChunkId {
    let mut drawn = mix(number) % chunks;
    for part in parts {
        if drawn < part.ids.count() {
            return part.ids.id(drawn);
        }
        drawn -= part.ids.count();
    }
    unreachable!("the parts have all chunks")
}

fn lookups(place: &Place) -> Result<Value> {
    let repository = place.open()?;
    let view = repository.store(&NoMonitor)?.view();
    let parts = make::parts(place.chunks);
    let absent = Ids::new(u64::MAX, place.chunks);
    let before = memory();
    let rate = |first: u64, hits: bool| {
        let started = Instant::now();
        let found = (first..first + LOOKUPS)
            .filter(|number| {
                let id = if hits { draw(&parts, place.chunks, *number) } else { absent.id(mix(*number) % place.chunks) };
                view.contains(black_box(&id))
            })
            .count() as u64;
        let seconds = started.elapsed().as_secs_f64();
        ensure!(found == if hits { LOOKUPS } else { 0 }, "{found} of {LOOKUPS} chunks were found");
        Ok(LOOKUPS as f64 / seconds)
    };
    // First touched, then once more.
    let (hits_first, hits_again) = (rate(0, true)?, rate(0, true)?);
    let (misses_first, misses_again) = (rate(1 << 40, false)?, rate(1 << 40, false)?);
    Ok(json!({
        "hits_first": hits_first, "hits_again": hits_again, "misses_first": misses_first, "misses_again": misses_again,
        "before": before, "memory": memory(),
    }))
}

/// All segments into one, which goes nowhere.
fn merge(place: &Place) -> Result<Value> {
    let repository = place.open()?;
    let backend = repository.backend();
    let mut segments = Vec::new();
    for listed in backend.list(INDEX_DIR)? {
        segments.push(Segment::from_data(backend.paged(&format!("{INDEX_DIR}/{}", listed.name))?)?);
    }
    let started = Instant::now();
    segments.iter().try_for_each(Segment::verify)?;
    let verified = started.elapsed().as_secs_f64();
    let started = Instant::now();
    let mut written = 0;
    merge_segments(&segments.iter().collect::<Vec<_>>(), &|_| true, &mut |part| {
        written += part.len() as u64;
        Ok(())
    })?;
    Ok(json!({ "verify_s": verified, "merge_s": started.elapsed().as_secs_f64(), "written_bytes": written, "memory": memory() }))
}

/// A collection to which all but the packs that go is needed: what is marked, chunk by chunk in the order of packs, is what a walk over entries that need
/// all of it would mark. It ends with an index without them, which is looked at.
fn collect(place: &Place) -> Result<Value> {
    let repository = place.open()?;
    let store = repository.store(&NoMonitor)?;
    let parts = make::parts(place.chunks);
    let mut laps = Vec::new();
    let mut since = Instant::now();
    let mut lap = |name: &'static str| {
        laps.push((name, since.elapsed().as_secs_f64(), memory()));
        since = Instant::now();
    };
    let mut collector = Collector::begin(store)?;
    lap("begin");
    let mut marks = Marks::new(Arc::clone(collector.view()));
    for part in &parts {
        for pack in part.packs.iter().filter(|pack| !pack.goes) {
            for place in part.places(pack) {
                let known = marks.mark(&part.ids.id(part.ids.stored_at(place)));
                ensure!(known, "a chunk is not in the index");
            }
        }
    }
    lap("mark");
    let planned = plan(collector.measure(&marks), PlanOptions::default());
    lap("plan");
    let going: Vec<_> = parts.iter().flat_map(|part| &part.packs).filter(|pack| pack.goes).map(|pack| pack.row.id).collect();
    let planned_packs: std::collections::HashSet<_> = planned.packs().map(|pack| pack.id).collect();
    ensure!(going.iter().all(|id| planned_packs.contains(id)), "a pack that nobody needs is not in the plan");
    ensure!(planned.repack.is_empty(), "nothing is to be copied: there is no content");
    collector.quarantine(&planned)?;
    let swept = collector.sweep(&marks, &mut |_| {})?;
    lap("sweep");
    let marks_bytes = marks.memory_len();
    drop(marks);
    ensure!(swept.deleted_packs_count as usize == planned_packs.len(), "{} packs were deleted", swept.deleted_packs_count);
    for part in &parts {
        for pack in &part.packs {
            let (all, id) = (part.places(pack), |place: u64| part.ids.id(part.ids.stored_at(place)));
            let sample = all.clone().step_by(997).chain(all.end.checked_sub(1));
            ensure!(sample.map(id).all(|id| store.contains(&id) != pack.goes), "the index is wrong after the collection");
        }
    }
    let laps: Vec<Value> =
        laps.into_iter().map(|(name, seconds, memory)| json!({ "name": name, "s": seconds, "memory": memory })).collect();
    Ok(json!({ "laps": laps, "marks_bytes": marks_bytes, "deleted_packs": swept.deleted_packs_count }))
}

/// For [`Place::dir`] of a command line.
pub fn place(dir: &Path, key: Option<&Path>, chunks: u64) -> Place {
    Place { dir: dir.to_path_buf(), key: key.map(Path::to_path_buf), chunks }
}
