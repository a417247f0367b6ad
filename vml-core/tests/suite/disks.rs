//! Disks: what goes in comes out, whatever the image says of its zeros; what is known is not read; a change costs what it
//! changes.

use proptest::prelude::*;
use std::ops::Range;
use std::sync::Mutex;
use std::sync::atomic::{AtomicU64, Ordering};
use vml_chunk::{ChunkStore, ChunkerParams, MemoryBackend, StoreOptions};
use vml_core::disk::{
    CapturedDisk, Disk, DiskCaptureOptions, DiskTarget, Extent, ExtentKind, FileRun, KnownDisk, SavedDisk, capture_disk, changed_above,
    restore_disk, verify_disk,
};
use vml_core::recipe::{GetChunk, Piece, Recipe, RecipeReader, differing_ranges};
use vml_core::{ErrorKind, NoMonitor, Result};
use vml_testkit::noise::{Rng, incompressible};

const ZONE: u64 = 8 << 20;

/// A disk in memory whose image has granules: a granule is data, noted zeros, or a hole.
struct TestDisk {
    bytes: Vec<u8>,
    granule: u64,
    /// What an image says of each granule; one that is not zero is data.
    said: Vec<(ExtentKind, usize)>,
    read: AtomicU64,
}

impl TestDisk {
    fn new(bytes: Vec<u8>, granule: u64, rng: &mut Rng) -> Self {
        let said = bytes
            .chunks(usize::try_from(granule).unwrap())
            .map(|part| if part.iter().any(|byte| *byte != 0) { (ExtentKind::Data, 0) } else { kind_for_zeros(rng) })
            .collect();
        Self { bytes, granule, said, read: AtomicU64::new(0) }
    }

    fn read_bytes(&self) -> u64 {
        self.read.swap(0, Ordering::Relaxed)
    }
}

fn kind_for_zeros(rng: &mut Rng) -> (ExtentKind, usize) {
    [(ExtentKind::Data, 0), (ExtentKind::Zero, 0), (ExtentKind::Hole, 1)][usize::try_from(below(rng, 3)).unwrap()]
}

impl Disk for TestDisk {
    fn len(&self) -> u64 {
        self.bytes.len() as u64
    }

    fn read_at(&self, buffer: &mut [u8], offset: u64) -> Result<()> {
        self.read.fetch_add(buffer.len() as u64, Ordering::Relaxed);
        let start = usize::try_from(offset).unwrap();
        buffer.copy_from_slice(&self.bytes[start..start + buffer.len()]);
        Ok(())
    }

    fn extent_at(&self, offset: u64) -> Result<Extent> {
        assert!(offset < self.len());
        let first = offset / self.granule;
        let (kind, layer) = self.said[usize::try_from(first).unwrap()];
        let same = self.said[usize::try_from(first).unwrap()..].iter().take_while(|said| **said == (kind, layer)).count() as u64;
        Ok(Extent { len: ((first + same) * self.granule).min(self.len()) - offset, kind, layer })
    }
}

struct Image(Mutex<Vec<u8>>);

impl DiskTarget for Image {
    fn write_at(&self, bytes: &[u8], offset: u64) -> Result<()> {
        let start = usize::try_from(offset).unwrap();
        self.0.lock().unwrap()[start..start + bytes.len()].copy_from_slice(bytes);
        Ok(())
    }

    fn zero_at(&self, offset: u64, len: u64) -> Result<()> {
        let start = usize::try_from(offset).unwrap();
        self.0.lock().unwrap()[start..start + usize::try_from(len).unwrap()].fill(0);
        Ok(())
    }
}

fn store() -> ChunkStore {
    let options = StoreOptions { threads: 2, cache_len: 1 << 20, frame_len: 64 << 10, level: 1, ..StoreOptions::default() };
    ChunkStore::open(std::sync::Arc::new(MemoryBackend::new()), options).unwrap().0
}

fn capture(store: &ChunkStore, disk: &dyn Disk, known: Option<KnownDisk<'_>>, runs: &[FileRun]) -> (CapturedDisk, u64) {
    let writer = store.writer().unwrap();
    let chunker = ChunkerParams::default().build().unwrap();
    let options = DiskCaptureOptions { known, runs, threads: 2 };
    let captured = capture_disk(&writer, chunker.as_ref(), disk, &options, &NoMonitor).unwrap();
    let stats = writer.finish().unwrap();
    (captured, stats.new_bytes)
}

fn restored(store: &ChunkStore, recipe: &Recipe) -> Vec<u8> {
    let image = Image(Mutex::new(vec![0; usize::try_from(recipe.len).unwrap()]));
    restore_disk(store, recipe, std::iter::once(0..recipe.len), &image, 2, &NoMonitor).unwrap();
    image.0.into_inner().unwrap()
}

fn below(rng: &mut Rng, end: u64) -> u64 {
    rng.next_u64() % end
}

/// A disk's bytes: text, noise and zeros by turns.
fn content(rng: &mut Rng, len: usize) -> Vec<u8> {
    let mut bytes = vec![0; len];
    let mut at = 0;
    while at < len {
        let run = usize::try_from(below(rng, 300_000) + 1).unwrap().min(len - at);
        match below(rng, 3) {
            0 => bytes[at..at + run].copy_from_slice(&incompressible(below(rng, 1 << 30), run)),
            1 => bytes[at..at + run].iter_mut().enumerate().for_each(|(i, byte)| *byte = u8::try_from(i * i / 7 % 251).unwrap()),
            _ => {}
        }
        at += run;
    }
    bytes
}

fn runs_of(rng: &mut Rng, len: u64) -> Vec<FileRun> {
    let mut runs = Vec::new();
    let mut at = 0;
    while at < len {
        let start = at + below(rng, 40) * 4096;
        let end = start + below(rng, 200_000) + 1;
        if end > len {
            break;
        }
        runs.push(FileRun { start, end });
        at = end.next_multiple_of(4096);
    }
    runs
}

fn check_stats(store: &ChunkStore, captured: &CapturedDisk) {
    let data: u64 = RecipeReader::new(store, &captured.recipe)
        .map(Result::unwrap)
        .filter(|piece| matches!(piece, Piece::Data { .. }))
        .map(|piece| piece.len())
        .sum();
    assert_eq!(captured.stats.data_bytes, data);
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(24))]

    #[test]
    fn a_disk_comes_back_and_its_recipe_does_not_depend_on_its_image(seed: u64, len in 1_usize..20_000_000, with_runs: bool) {
        let mut rng = Rng::new(seed);
        let bytes = content(&mut rng, len);
        let runs = if with_runs { runs_of(&mut rng, len as u64) } else { Vec::new() };
        let store = store();
        let raw = TestDisk::new(bytes.clone(), 4096, &mut rng);
        let (first, _) = capture(&store, &raw, None, &runs);
        check_stats(&store, &first);
        prop_assert!(restored(&store, &first.recipe) == bytes);
        verify_disk(&store, &first.recipe, &raw, 2, &NoMonitor).unwrap();
        let other = TestDisk::new(bytes.clone(), 65536, &mut rng);
        let (second, new_bytes) = capture(&store, &other, None, &runs);
        prop_assert_eq!(new_bytes, 0);
        prop_assert_eq!(&second.recipe, &first.recipe);
        // By offset, in odd pieces.
        let saved = SavedDisk::new(&store, &first.recipe);
        for _ in 0..20 {
            let offset = below(&mut rng, len as u64);
            let part = usize::try_from(below(&mut rng, 100_000).min(len as u64 - offset)).unwrap();
            let mut buffer = vec![1; part];
            saved.read_at(&mut buffer, offset).unwrap();
            prop_assert!(buffer == bytes[usize::try_from(offset).unwrap()..][..part]);
        }
    }

    #[test]
    fn changed_ranges_are_spliced(seed: u64, len in 100_000_usize..40_000_000, changes in 0_usize..6, grow in -3_000_000_i64..3_000_000) {
        let mut rng = Rng::new(seed);
        let old_bytes = content(&mut rng, len);
        let store = store();
        let runs = runs_of(&mut rng, len as u64);
        let (old, _) = capture(&store, &TestDisk::new(old_bytes.clone(), 4096, &mut rng), None, &runs);
        let mut bytes = old_bytes.clone();
        let new_len = usize::try_from((len as i64 + grow).max(1)).unwrap();
        bytes.resize(new_len, 0);
        let mut changed: Vec<Range<u64>> = Vec::new();
        let mut at = 0;
        for _ in 0..changes {
            let start = at + below(&mut rng, new_len as u64 / 3 / 512 + 1) * 512;
            let end = (start + (below(&mut rng, 200) + 1) * 512).min(new_len as u64);
            if start >= end {
                break;
            }
            let (from, to) = (usize::try_from(start).unwrap(), usize::try_from(end).unwrap());
            let fresh = if below(&mut rng, 3) == 0 { vec![0; to - from] } else { incompressible(below(&mut rng, 1 << 40), to - from) };
            bytes[from..to].copy_from_slice(&fresh);
            changed.push(start..end);
            at = end + 1;
        }
        let disk = TestDisk::new(bytes.clone(), 4096, &mut rng);
        let known = KnownDisk { recipe: &old.recipe, data_bytes: old.stats.data_bytes, changed: &changed };
        let (new, _) = capture(&store, &disk, Some(known), &runs_of(&mut rng, new_len as u64));
        prop_assert!(restored(&store, &new.recipe) == bytes);
        check_stats(&store, &new);
        // What differs is what changed, as far as whole chunks tell; restoring only that upon the old disk gives the new one.
        let mut ranges = Vec::new();
        differing_ranges(&store, &old.recipe, &new.recipe, &mut |range| {
            ranges.push(range);
            true
        }).unwrap();
        prop_assert!(ranges.windows(2).all(|pair| pair[0].end < pair[1].start));
        let mut upon = old_bytes;
        upon.resize(new_len, 0);
        let image = Image(Mutex::new(upon));
        let inside = ranges.into_iter().map(|range| range.start..range.end.min(new_len as u64)).filter(|range| !range.is_empty());
        restore_disk(&store, &new.recipe, inside, &image, 2, &NoMonitor).unwrap();
        prop_assert!(image.0.into_inner().unwrap() == bytes);
    }
}

#[test]
fn what_is_known_is_not_read() {
    let mut rng = Rng::new(7);
    let bytes = incompressible(1, 64 << 20);
    let store = store();
    let disk = TestDisk::new(bytes, 65536, &mut rng);
    let (first, _) = capture(&store, &disk, None, &[]);
    assert_eq!(disk.read_bytes(), 64 << 20);
    let changed = [ZONE + 123_392..ZONE + 123_904, 3 * ZONE + 512..3 * ZONE + 1024];
    let known = |changed| Some(KnownDisk { recipe: &first.recipe, data_bytes: first.stats.data_bytes, changed });
    let (second, new_bytes) = capture(&store, &disk, known(&changed), &[]);
    let read = disk.read_bytes();
    assert!(read < 2 << 20, "{read} bytes for two sectors");
    assert_eq!((new_bytes, &second.recipe), (0, &first.recipe), "the same bytes are cut the same");
    assert_eq!(second.stats.known_bytes, 6 * ZONE);
    let (third, _) = capture(&store, &disk, known(&[]), &[]);
    assert_eq!((disk.read_bytes(), &third.recipe), (0, &first.recipe));
}

/// A store that counts what is asked of it.
struct Counted<'a>(&'a ChunkStore, AtomicU64);

impl GetChunk for Counted<'_> {
    fn get_chunk(&self, id: &vml_chunk::ChunkId) -> Result<vml_chunk::Chunk> {
        self.1.fetch_add(1, Ordering::Relaxed);
        self.0.get(id)
    }
}

/// A disk of a tebibyte with data at a few places.
struct Sparse {
    data: Vec<Range<u64>>,
    asked: AtomicU64,
}

impl Disk for Sparse {
    fn len(&self) -> u64 {
        1 << 40
    }

    fn read_at(&self, buffer: &mut [u8], offset: u64) -> Result<()> {
        for (i, word) in buffer.chunks_mut(8).enumerate() {
            let value = (offset / 8 + i as u64).wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1;
            word.copy_from_slice(&value.to_le_bytes()[..word.len()]);
        }
        Ok(())
    }

    fn extent_at(&self, offset: u64) -> Result<Extent> {
        self.asked.fetch_add(1, Ordering::Relaxed);
        let next = self.data.iter().find(|range| range.end > offset);
        Ok(match next {
            Some(range) if range.start <= offset => Extent { len: range.end - offset, kind: ExtentKind::Data, layer: 0 },
            Some(range) => Extent { len: range.start - offset, kind: ExtentKind::Hole, layer: 1 },
            None => Extent { len: self.len() - offset, kind: ExtentKind::Hole, layer: 1 },
        })
    }
}

#[test]
fn a_sparse_disk_costs_what_its_data_costs_and_is_opened_at_any_place_with_few_reads() {
    let data: Vec<Range<u64>> =
        (0..64).map(|i: u64| i * (17 << 30)).filter(|start| *start < 1 << 40).map(|start| start..start + (1 << 20)).collect();
    let disk = Sparse { data: data.clone(), asked: AtomicU64::new(0) };
    let store = store();
    let (captured, _) = capture(&store, &disk, None, &[]);
    let total: u64 = data.iter().map(|range| range.end - range.start).sum();
    assert_eq!((captured.stats.read_bytes, captured.stats.data_bytes), (total, total));
    let asked = disk.asked.load(Ordering::Relaxed);
    assert!(asked < 20 * data.len() as u64, "{asked} questions for {} extents", data.len());
    let counted = Counted(&store, AtomicU64::new(0));
    let (mut reader, start) = RecipeReader::starting_at(&counted, &captured.recipe, 5 * (17 << 30) + 4096).unwrap();
    assert!(start <= 5 * (17 << 30) + 4096 && matches!(reader.next(), Some(Ok(Piece::Data { .. }))));
    assert!(counted.1.load(Ordering::Relaxed) <= 3, "one node a level");
    assert_eq!(changed_above(&disk, 1).unwrap(), data);
    assert_eq!(changed_above(&disk, 0).unwrap(), []);
}

#[test]
fn a_disk_that_lies_is_an_error() {
    struct Liar(ExtentKind, u64);
    impl Disk for Liar {
        fn len(&self) -> u64 {
            1 << 20
        }
        fn read_at(&self, _: &mut [u8], offset: u64) -> Result<()> {
            Err(vml_core::Error::corrupt(format!("a cluster at {offset} cannot be read")))
        }
        fn extent_at(&self, _: u64) -> Result<Extent> {
            Ok(Extent { len: self.1, kind: self.0, layer: 0 })
        }
    }
    let store = store();
    let chunker = ChunkerParams::default().build().unwrap();
    for (liar, what) in [(Liar(ExtentKind::Hole, 0), "not even a hole"), (Liar(ExtentKind::Data, u64::MAX), "cannot be read")] {
        let writer = store.writer().unwrap();
        let options = DiskCaptureOptions { known: None, runs: &[], threads: 2 };
        let error = capture_disk(&writer, chunker.as_ref(), &liar, &options, &NoMonitor).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Corrupt);
        assert!(error.to_string().contains(what), "{error}");
        assert!(writer.finish().is_err());
    }
}

#[test]
fn a_disk_that_differs_is_found() {
    let mut rng = Rng::new(3);
    let mut bytes = content(&mut rng, 3_000_000);
    bytes[1_000_000] = 9;
    let store = store();
    let (captured, _) = capture(&store, &TestDisk::new(bytes.clone(), 4096, &mut rng), None, &[]);
    for at in [0, 1_000_000, 2_999_999] {
        let mut other = bytes.clone();
        other[at] ^= 1;
        let error = verify_disk(&store, &captured.recipe, &TestDisk::new(other, 4096, &mut rng), 2, &NoMonitor).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Corrupt, "{at}");
    }
    let mut longer = bytes.clone();
    longer.extend([0; 300]);
    verify_disk(&store, &captured.recipe, &TestDisk::new(longer.clone(), 4096, &mut rng), 2, &NoMonitor).unwrap();
    longer.push(1);
    assert!(verify_disk(&store, &captured.recipe, &TestDisk::new(longer, 4096, &mut rng), 2, &NoMonitor).is_err());
    assert!(verify_disk(&store, &captured.recipe, &TestDisk::new(bytes[..9999].to_vec(), 4096, &mut rng), 2, &NoMonitor).is_err());
}
