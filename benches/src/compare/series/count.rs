//! Counts what a build decodes: the library that `vml build` is made of, over a backend that looks at every frame as it is read.
//!
//! Restoring gets chunks, and a chunk's frame is read with one call, unless it is kept from the last time. So the frames that are read are those
//! that are decoded, each as often. It happens in a process of its own, whose memory is no part of what else is measured.

use super::super::measure::measure;
use anyhow::{Context as _, Result, bail};
use serde_json::{Value, json};
use std::path::Path;
use std::process::Command;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::{env, fs};
use vml_chunk::frame::FrameHeader;
use vml_chunk::{Backend, Listed, LocalBackend, Mapped, Staged};
use vml_core::tree::{RestoreOptions, restore_tree};
use vml_core::{NoMonitor, Repository, RepositoryOptions};

/// What one build read and decoded.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Counted {
    /// Frames.
    pub frames: u64,
    /// Their bytes as stored.
    pub stored_bytes: u64,
    /// Their bytes as decoded.
    pub decoded_bytes: u64,
    /// Bytes of the files that were built.
    pub built_bytes: u64,
}

impl Counted {
    /// Decoded bytes for each byte that was built.
    pub fn per_byte(&self) -> f64 {
        self.decoded_bytes as f64 / self.built_bytes as f64
    }

    /// Every number.
    pub fn to_json(self) -> Value {
        json!({
            "frames": self.frames, "stored_bytes": self.stored_bytes, "decoded_bytes": self.decoded_bytes, "built_bytes": self.built_bytes,
            "decoded_per_built": self.per_byte(),
        })
    }

    fn from_json(value: &Value) -> Option<Self> {
        let get = |name: &str| value.get(name)?.as_u64();
        Some(Self {
            frames: get("frames")?,
            stored_bytes: get("stored_bytes")?,
            decoded_bytes: get("decoded_bytes")?,
            built_bytes: get("built_bytes")?,
        })
    }
}

/// Counts in another process.
///
/// # Errors
/// When it fails.
pub fn measure_count(repository: &Path, name: &str, work: &Path) -> Result<Counted> {
    let (target, result) = (work.join("counted"), work.join("count"));
    fs::create_dir(&target).with_context(|| format!("cannot make {}", target.display()))?;
    let mut command = Command::new(env::current_exe().context("cannot find this program's own file")?);
    command.arg("--count-decoded").arg(repository).arg(name).arg(&target).arg(&result);
    measure(command, work)?;
    fs::remove_dir_all(&target).with_context(|| format!("cannot remove {}", target.display()))?;
    let text = fs::read_to_string(&result).context("nothing was counted")?;
    Counted::from_json(&serde_json::from_str(&text)?).context("what was counted is not complete")
}

/// What that process does: builds the entry `name` in `target` and writes what was counted to `result`.
///
/// # Errors
/// What the library says, or when anything could not be built.
pub fn tell_count(repository: &Path, name: &str, target: &Path, result: &Path) -> Result<()> {
    let counted = count(Arc::new(LocalBackend::open(repository)?), name, target)?;
    fs::write(result, counted.to_json().to_string()).with_context(|| format!("cannot write {}", result.display()))
}

fn count(backend: Arc<dyn Backend>, name: &str, target: &Path) -> Result<Counted> {
    let counting = Arc::new(Counting { inner: backend, frames: Frames::default() });
    let options = RepositoryOptions::default();
    let repository = Repository::open(Arc::clone(&counting) as Arc<dyn Backend>, options)?;
    let entry = repository.entry(&repository.resolve(name)?)?;
    let tree = entry.tree().context("the entry has no tree")?;
    let restore = RestoreOptions { delete: false, owners: false, special: true, limit: None, threads: options.threads, open_max: 4096 };
    let restored = restore_tree(repository.store(&NoMonitor)?, &tree.root, target, &restore, &NoMonitor)?;
    if restored.problems_count > 0 {
        bail!("{} members could not be built", restored.problems_count);
    }
    let get = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
    let Frames { count, stored_bytes, decoded_bytes } = &counting.frames;
    Ok(Counted { frames: get(count), stored_bytes: get(stored_bytes), decoded_bytes: get(decoded_bytes), built_bytes: restored.bytes })
}

#[derive(Debug, Default)]
struct Frames {
    count: AtomicU64,
    stored_bytes: AtomicU64,
    decoded_bytes: AtomicU64,
}

#[derive(Debug)]
struct Counting {
    inner: Arc<dyn Backend>,
    frames: Frames,
}

impl Backend for Counting {
    fn read_at(&self, key: &str, offset: u64, buf: &mut [u8]) -> vml_chunk::Result<()> {
        self.inner.read_at(key, offset, buf)?;
        // Whatever is no frame has another magic number.
        if let Ok(header) = FrameHeader::decode(buf) {
            self.frames.count.fetch_add(1, Ordering::Relaxed);
            self.frames.stored_bytes.fetch_add(buf.len() as u64, Ordering::Relaxed);
            self.frames.decoded_bytes.fetch_add(header.plain_len.into(), Ordering::Relaxed);
        }
        Ok(())
    }

    fn len(&self, key: &str) -> vml_chunk::Result<u64> {
        self.inner.len(key)
    }

    fn list(&self, dir: &str) -> vml_chunk::Result<Vec<Listed>> {
        self.inner.list(dir)
    }

    fn stage(&self) -> vml_chunk::Result<Box<dyn Staged>> {
        self.inner.stage()
    }

    fn swap(&self, key: &str, expected: Option<&[u8]>, new: Option<&[u8]>) -> vml_chunk::Result<bool> {
        self.inner.swap(key, expected, new)
    }

    fn delete(&self, key: &str) -> vml_chunk::Result<()> {
        self.inner.delete(key)
    }

    fn map(&self, key: &str) -> vml_chunk::Result<Mapped> {
        self.inner.map(key)
    }

    fn sweep(&self) -> vml_chunk::Result<usize> {
        self.inner.sweep()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use vml_chunk::{ChunkStore, ChunkerParams, MemoryBackend, PackKind, StoreOptions};
    use vml_testkit::noise;

    #[test]
    fn every_frame_that_is_read_is_counted() {
        let counting = Arc::new(Counting { inner: Arc::new(MemoryBackend::new()), frames: Frames::default() });
        let (store, _) = ChunkStore::open(Arc::clone(&counting) as Arc<dyn Backend>, StoreOptions::default()).unwrap();
        let writer = store.writer().unwrap();
        let mut chunks = writer.chunks(PackKind::Data).unwrap();
        let data = noise::text(1, 300_000);
        let mut recipe = Vec::new();
        let chunker = ChunkerParams::default().build().unwrap();
        chunks.put_stream(chunker.as_ref(), &mut &data[..], u64::MAX, &mut |chunk| recipe.push(chunk)).unwrap().unwrap();
        chunks.finish().unwrap();
        writer.finish().unwrap();
        let read = recipe.iter().map(|chunk| store.get(&chunk.id).unwrap().len()).sum::<usize>();
        let counted = [&counting.frames.count, &counting.frames.decoded_bytes].map(|counter| counter.load(Ordering::Relaxed));
        assert_eq!((read, counted), (300_000, [1, 300_000]), "one frame, read once");
        let found = Counted { frames: 2, stored_bytes: 3, decoded_bytes: 9, built_bytes: 6 };
        assert_eq!((Counted::from_json(&found.to_json()), found.per_byte()), (Some(found), 1.5));
    }
}
