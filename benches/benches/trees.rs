//! Directory trees: an unchanged tree saved again, and one restored.
#![allow(missing_docs, clippy::unwrap_used)]

use benches::sample::sample;
use criterion::{BatchSize, Criterion, Throughput, criterion_group, criterion_main};
use std::fs;
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, SystemTime, UNIX_EPOCH};
use tempfile::TempDir;
use vml_core::entry::EntryKind;
use vml_core::repository::{SaveRequest, SaveTree, Saved, TreePlace};
use vml_core::tree::{Exclude, RestoreOptions, Timestamp, restore_tree};
use vml_core::{Config, MemoryBackend, NoMonitor, Repository, RepositoryOptions};

const DIRECTORIES: usize = 100;
const FILES: usize = 40;
const FILE_LEN: usize = 8 << 10;

/// A directory in memory where there is one: the disk is not what is measured.
fn memory_dir() -> TempDir {
    TempDir::new_in("/dev/shm").or_else(|_| TempDir::new()).unwrap()
}

fn make_tree(dir: &Path) {
    let data = sample(DIRECTORIES * FILES * FILE_LEN).bytes;
    for (number, file) in data.chunks_exact(FILE_LEN).enumerate() {
        let dir = dir.join(format!("directory-{:03}", number / FILES));
        fs::create_dir_all(&dir).unwrap();
        fs::write(dir.join(format!("file-{number:04}")), file).unwrap();
    }
}

fn save(repository: &Repository, path: &Path) -> Saved {
    // An hour ahead: files made a moment ago count as settled.
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_secs() + 3600;
    let exclude = Exclude::default();
    let request = SaveRequest {
        kind: EntryKind::State { area: "work".to_owned() },
        tree: Some(SaveTree { place: TreePlace::Local(path), exclude: &exclude, one_file_system: false, users: &[], groups: &[] }),
        disks: &[],
        machine: None,
        memory: None,
        add_parts: false,
        base: None,
        author: "bench",
        message: "",
        tags: &[],
        facts: Vec::new(),
        now: Timestamp { seconds: i64::try_from(now).unwrap(), nanoseconds: 0 },
        learn: None,
        elapsed_ms: &|| 0,
    };
    repository.save(request, &NoMonitor).unwrap()
}

fn trees(criterion: &mut Criterion) {
    let work = memory_dir();
    let tree = work.path().join("tree");
    make_tree(&tree);
    let config = Config::new([1; 16], 0);
    let repository = Repository::init(Arc::new(MemoryBackend::new()), config, RepositoryOptions::default()).unwrap();
    let saved = save(&repository, &tree);
    let mut group = criterion.benchmark_group("trees");
    group.throughput(Throughput::Elements((DIRECTORIES * FILES) as u64));
    group.bench_function("save 4000 unchanged files", |bencher| {
        bencher.iter(|| {
            let stats = save(&repository, &tree).entry.tree().unwrap().stats;
            assert_eq!(stats.read_files_count, 0, "no file may be read again");
            stats.files_count
        });
    });
    group.throughput(Throughput::Bytes((DIRECTORIES * FILES * FILE_LEN) as u64));
    let options = RestoreOptions {
        delete: false,
        owners: false,
        special: true,
        limit: None,
        threads: RepositoryOptions::default().threads,
        open_max: 4096,
    };
    group.bench_function("restore 4000 files", |bencher| {
        let restore = |target: TempDir| {
            let store = repository.store(&NoMonitor).unwrap();
            let restored = restore_tree(store, &saved.entry.tree().unwrap().root, target.path(), &options, &NoMonitor).unwrap();
            assert_eq!(restored.problems_count, 0);
            target
        };
        bencher.iter_batched(memory_dir, restore, BatchSize::PerIteration);
    });
    group.finish();
}

criterion_group! {
    name = group;
    config = Criterion::default().sample_size(10).warm_up_time(Duration::from_millis(300)).measurement_time(Duration::from_secs(3));
    targets = trees
}
criterion_main!(group);
