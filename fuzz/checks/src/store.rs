//! Sequences of what is done to a repository: what was saved can be read until it is forgotten, and damage is noticed and never read as something else.

use crate::seeds::Seed;
use std::collections::BTreeMap;
use std::sync::Arc;
use vml_core::disk::{Disk, Extent, ExtentKind, SavedDisk};
use vml_core::entry::EntryKind;
use vml_core::repository::{CheckOptions, CollectOptions, SaveDisk, SaveRequest};
use vml_core::tree::Timestamp;
use vml_core::{Backend, Config, EntryId, Error, MemoryBackend, NoMonitor, Repository, RepositoryOptions, Result};

/// Operations of one sequence.
const OPERATIONS_MAX: usize = 24;
/// Bytes of a part of a disk.
const PART_LEN: usize = 4096;

/// A disk of a few parts, each filled with noise of its own; part 0 is zeros.
struct Parts(Vec<u8>);

impl Disk for Parts {
    fn len(&self) -> u64 {
        (self.0.len() * PART_LEN) as u64
    }

    fn read_at(&self, buffer: &mut [u8], offset: u64) -> Result<()> {
        let at = usize::try_from(offset).map_err(|_| Error::invalid("beyond the end"))?;
        for (place, byte) in buffer.iter_mut().enumerate() {
            let part = self.0.get((at + place) / PART_LEN).ok_or_else(|| Error::invalid("beyond the end"))?;
            // Not equal in all parts of one kind, and not at all like zeros.
            *byte = if *part == 0 { 0 } else { part.wrapping_mul(31) ^ ((at + place) % 251) as u8 ^ 1 };
        }
        Ok(())
    }

    fn extent_at(&self, offset: u64) -> Result<Extent> {
        Ok(Extent { len: self.len() - offset, kind: ExtentKind::Data, layer: 0 })
    }
}

struct Model {
    backend: Arc<MemoryBackend>,
    repository: Repository,
    /// What each entry has.
    entries: BTreeMap<EntryId, Vec<u8>>,
    damaged: bool,
    time_ms: i64,
}

const OPTIONS: RepositoryOptions = RepositoryOptions { threads: 1, cache_len: 1 << 20 };

impl Model {
    fn new() -> Self {
        let backend = Arc::new(MemoryBackend::new());
        let config = Config { level: 1, frame_len: 64 << 10, ..Config::new([7; 16], 0) };
        let repository = Repository::init(Arc::clone(&backend) as Arc<dyn Backend>, config, OPTIONS).expect("memory takes everything");
        Self { backend, repository, entries: BTreeMap::new(), damaged: false, time_ms: 1_000_000 }
    }

    fn save(&mut self, area: u8, parts: &[u8]) {
        let disk = Parts(parts.to_vec());
        let disks = [SaveDisk { name: "vda", format: "raw", disk: &disk, changed: None, shown: &[] }];
        self.time_ms += 1000;
        let request = SaveRequest {
            kind: EntryKind::State { area: format!("area{}", area % 3) },
            tree: None,
            disks: &disks,
            machine: None,
            memory: None,
            add_parts: false,
            base: None,
            author: "",
            message: "",
            tags: &[],
            facts: Vec::new(),
            now: Timestamp { seconds: self.time_ms / 1000, nanoseconds: 0 },
            learn: None,
            elapsed_ms: &|| 0,
        };
        match self.repository.save(request, &NoMonitor) {
            Ok(saved) => _ = self.entries.insert(saved.id, parts.to_vec()),
            Err(error) => assert!(self.damaged, "a save failed: {error:?}"),
        }
    }

    fn nth(&self, number: u8) -> Option<EntryId> {
        self.entries.keys().nth(usize::from(number) % self.entries.len().max(1)).copied()
    }

    fn forget(&mut self, number: u8) {
        let Some(id) = self.nth(number) else { return };
        match self.repository.forget(&[id], true, &NoMonitor) {
            Ok(()) => _ = self.entries.remove(&id),
            Err(error) => assert!(self.damaged, "nothing was forgotten: {error:?}"),
        }
    }

    fn collect(&mut self) {
        let collected = self.repository.collect(CollectOptions::default(), &NoMonitor);
        assert!(collected.is_ok() || self.damaged, "a collection failed: {collected:?}");
    }

    fn reopen(&mut self) {
        self.repository = Repository::open(Arc::clone(&self.backend) as Arc<dyn Backend>, OPTIONS).expect("its configuration is whole");
    }

    /// Flips a bit in a pack, or takes a segment away, which costs nothing.
    fn damage(&mut self, which: u8, place: u8) {
        let dir = ["data", "meta", "index"][usize::from(which % 3)];
        let listed = self.backend.list(dir).expect("memory can be listed");
        let Some(file) = listed.get(usize::from(place) % listed.len().max(1)) else { return };
        let key = format!("{dir}/{}", file.name);
        if dir == "index" {
            self.backend.delete(&key).expect("memory forgets");
        } else {
            let mut bytes = self.backend.read(&key, u64::MAX).expect("it was listed");
            let at = usize::from(place) * bytes.len() / 256;
            bytes[at] ^= 1 << (which / 3 % 8);
            self.backend.delete(&key).expect("memory forgets");
            self.backend.put(&key, &bytes).expect("memory takes everything");
            self.damaged = true;
        }
        self.reopen();
    }

    /// Every entry is whole, or what is missing is told.
    fn look(&self) {
        let store = match self.repository.store(&NoMonitor) {
            Ok(store) => store,
            Err(error) => return assert!(self.damaged, "the store cannot be opened: {error:?}"),
        };
        for (id, parts) in &self.entries {
            let entry = self.repository.entry(id).expect("records are whole");
            let disk = entry.disks().next().expect("it was saved");
            let (expected, saved) = (Parts(parts.clone()), SavedDisk::new(store, &disk.recipe));
            assert_eq!(saved.len(), expected.len());
            let (mut a, mut b) = (vec![0; PART_LEN], vec![0; PART_LEN]);
            for at in (0..expected.len()).step_by(PART_LEN) {
                expected.read_at(&mut a, at).expect("it is in memory");
                match saved.read_at(&mut b, at) {
                    Ok(()) => assert!(a == b, "other bytes than were saved"),
                    Err(error) => assert!(self.damaged, "what was saved cannot be read: {error:?}"),
                }
            }
        }
        let checked = self.repository.check(CheckOptions { data: true, ..CheckOptions::default() }, &NoMonitor);
        assert!(self.damaged || checked.is_ok_and(|checked| checked.problems_count == 0), "a check finds something");
    }
}

/// Each operation is a byte that says what, and one or more that say how.
pub fn store_sequence(bytes: &[u8]) {
    let mut model = Model::new();
    let mut rest = bytes.iter().copied();
    for _ in 0..OPERATIONS_MAX {
        let (Some(what), Some(how)) = (rest.next(), rest.next()) else { break };
        match what % 6 {
            0 | 1 => {
                let parts: Vec<u8> = rest.by_ref().take(1 + usize::from(how % 8)).collect();
                model.save(what / 6, &parts);
            }
            2 => model.forget(how),
            3 => model.collect(),
            4 => model.reopen(),
            _ => model.damage(what / 6, how),
        }
    }
    model.look();
}

/// A life without damage, and one with.
pub fn store_sequence_seeds() -> Vec<Seed> {
    vec![
        ("collected", vec![0, 1, 9, 8, 0, 1, 9, 7, 2, 0, 3, 0, 4, 0, 0, 1, 8, 8]),
        ("damaged", vec![0, 1, 3, 4, 5, 99, 0, 0, 5, 2, 0, 3, 0]),
    ]
}
