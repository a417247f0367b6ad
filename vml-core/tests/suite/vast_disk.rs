//! A disk of a terabyte with little on it costs what is on it: counted reads, not time.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use vml_chunk::{Chunk, ChunkId, ChunkStore, ChunkerParams, MemoryBackend, StoreOptions};
use vml_core::disk::{Disk, DiskCaptureOptions, Extent, ExtentKind, KnownDisk, SavedDisk, capture_disk};
use vml_core::recipe::{GetChunk, Root};
use vml_core::{NoMonitor, Result};
use vml_testkit::noise::incompressible;

const TIB: u64 = 1 << 40;
/// Stretches of data, each of which ends where no block does.
const STRETCHES: u64 = 1500;
const STRETCH_LEN: u64 = 40_000;
/// Distance of their beginnings; blocks of the disk are aligned.
const STEP: u64 = TIB / STRETCHES / 4096 * 4096;

struct Vast {
    noise: Vec<u8>,
    read: AtomicU64,
    asked: AtomicU64,
}

impl Vast {
    /// How far the nearest stretch at or before `offset` is, and its number.
    fn into(offset: u64) -> (u64, u64) {
        (offset % STEP, offset / STEP)
    }
}

impl Disk for Vast {
    fn len(&self) -> u64 {
        TIB
    }

    fn read_at(&self, buffer: &mut [u8], offset: u64) -> Result<()> {
        self.read.fetch_add(buffer.len() as u64, Ordering::Relaxed);
        for (i, byte) in buffer.iter_mut().enumerate() {
            let (into, number) = Self::into(offset + i as u64);
            *byte = if into < STRETCH_LEN && number < STRETCHES {
                self.noise[usize::try_from((into + number * 977) % self.noise.len() as u64).unwrap()]
            } else {
                0
            };
        }
        Ok(())
    }

    fn extent_at(&self, offset: u64) -> Result<Extent> {
        self.asked.fetch_add(1, Ordering::Relaxed);
        let (into, number) = Self::into(offset);
        let extent = |len: u64, kind, layer| Extent { len: len.min(TIB - offset), kind, layer };
        Ok(match into < STRETCH_LEN && number < STRETCHES {
            true => extent(STRETCH_LEN - into, ExtentKind::Data, 0),
            false => extent(STEP - into, ExtentKind::Hole, 1),
        })
    }
}

struct Counted<'a>(&'a ChunkStore, AtomicU64);

impl GetChunk for Counted<'_> {
    fn get_chunk(&self, id: &ChunkId) -> Result<Chunk> {
        self.1.fetch_add(1, Ordering::Relaxed);
        self.0.get_chunk(id)
    }
}

#[test]
fn a_terabyte_costs_what_is_on_it() {
    let options = StoreOptions { threads: 2, cache_len: 1 << 20, frame_len: 64 << 10, level: 1, ..StoreOptions::default() };
    let store = ChunkStore::open(Arc::new(MemoryBackend::new()), options).unwrap().0;
    let chunker = ChunkerParams::default().build().unwrap();
    let disk = Vast { noise: incompressible(8, 1 << 20), read: AtomicU64::new(0), asked: AtomicU64::new(0) };
    let save = |known| {
        let writer = store.writer().unwrap();
        let options = DiskCaptureOptions { known, runs: &[], threads: 2 };
        let captured = capture_disk(&writer, chunker.as_ref(), &disk, &options, &NoMonitor).unwrap();
        (captured, writer.finish().unwrap())
    };
    let (first, stats) = save(None);
    assert_eq!(first.recipe.len, TIB);
    let data = STRETCHES * STRETCH_LEN;
    let read = disk.read.swap(0, Ordering::Relaxed);
    assert!((data..data + data / 10).contains(&read), "{read} bytes were read for {data}");
    let asked = disk.asked.swap(0, Ordering::Relaxed);
    assert!(asked < STRETCHES * 8, "extents were asked for {asked} times");
    assert!(stats.stored_bytes < data + data / 10, "{stats:?}");

    // Opening the recipe anywhere takes one chunk a level.
    let Root::Nodes { depth, .. } = &first.recipe.root else { panic!("the recipe of so many pieces is a tree: {:?}", first.recipe.root) };
    assert!((1..=4).contains(depth));
    let levels = u64::from(*depth);
    for offset in [0, STEP, TIB / 3, STEP * 1000 + 5, TIB - 1] {
        let counted = Counted(&store, AtomicU64::new(0));
        let saved = SavedDisk::new(&counted, &first.recipe);
        let mut byte = [0];
        saved.read_at(&mut byte, offset).unwrap();
        let mut expected = [0];
        disk.read_at(&mut expected, offset).unwrap();
        assert_eq!(byte, expected);
        // Besides the levels: what follows in the stretch that is kept, and the chunk of data.
        assert!(counted.1.load(Ordering::Relaxed) <= levels + 4, "{} chunks for one byte at {offset}", counted.1.load(Ordering::Relaxed));
    }

    // One changed block is what a second save reads and stores.
    disk.read.swap(0, Ordering::Relaxed);
    let changed = std::slice::from_ref(&(STEP * 700..STEP * 700 + 4096));
    let (second, stats) = save(Some(KnownDisk { recipe: &first.recipe, data_bytes: first.stats.data_bytes, changed }));
    assert_eq!(second.recipe, first.recipe, "nothing has changed in truth");
    assert_eq!(stats.new_chunks, 0);
    assert!(disk.read.load(Ordering::Relaxed) <= STRETCH_LEN + 4096, "{:?}", disk.read);
}
