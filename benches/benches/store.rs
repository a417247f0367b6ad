//! The chunk store as a whole, in memory: a new stream, the same stream again, and reading it back.
#![allow(missing_docs, clippy::unwrap_used)]

use benches::sample::sample;
use criterion::{BatchSize, Criterion, Throughput, criterion_group, criterion_main};
use std::sync::Arc;
use std::time::Duration;
use vml_chunk::{ChunkRef, ChunkStore, ChunkerParams, IdKey, MemoryBackend, PackKind, StoreOptions};

/// One thread: a core's worth, comparable between machines.
fn options(ids: IdKey) -> StoreOptions {
    StoreOptions { threads: 1, ids, ..StoreOptions::default() }
}

fn open() -> ChunkStore {
    ChunkStore::open(Arc::new(MemoryBackend::new()), options(IdKey::PLAIN)).unwrap().0
}

/// As [`open`], encrypted.
fn open_sealed() -> ChunkStore {
    let sealed = vml_testkit::sealed::seal(Arc::new(MemoryBackend::new())).unwrap();
    let ids = sealed.secrets().ids();
    ChunkStore::open(Arc::new(sealed), options(ids)).unwrap().0
}

fn put(store: &ChunkStore, data: &[u8]) -> Vec<ChunkRef> {
    let chunker = ChunkerParams::default().build().unwrap();
    let writer = store.writer().unwrap();
    let mut chunks = writer.chunks(PackKind::Data).unwrap();
    let mut recipe = Vec::new();
    chunks.put_stream(chunker.as_ref(), &mut &data[..], u64::MAX, &mut |chunk| recipe.push(chunk)).unwrap().unwrap();
    chunks.finish().unwrap();
    writer.finish().unwrap();
    recipe
}

fn store(criterion: &mut Criterion) {
    measure(criterion, "store", &open);
    measure(criterion, "store, encrypted", &open_sealed);
}

fn measure(criterion: &mut Criterion, name: &str, open: &dyn Fn() -> ChunkStore) {
    let data = sample(16 << 20).bytes;
    let mut group = criterion.benchmark_group(name);
    group.throughput(Throughput::Bytes(data.len() as u64));
    group.bench_function("put_stream, all new", |bencher| {
        bencher.iter_batched(open, |store| put(&store, &data).len(), BatchSize::PerIteration);
    });
    let full = open();
    let recipe = put(&full, &data);
    group.bench_function("put_stream, all known", |bencher| bencher.iter(|| put(&full, &data).len()));
    group.bench_function("get, in order", |bencher| {
        // A cache far smaller than the sample, so that frames are decoded and not remembered.
        let options = StoreOptions { cache_len: 4 << 20, ..options(full.ids().clone()) };
        let (store, _) = ChunkStore::open(Arc::clone(full.backend()), options).unwrap();
        bencher.iter(|| recipe.iter().map(|chunk| store.get(&chunk.id).unwrap().len()).sum::<usize>());
    });
    group.finish();
}

criterion_group! {
    name = group;
    config = Criterion::default().sample_size(10).warm_up_time(Duration::from_millis(300)).measurement_time(Duration::from_secs(3));
    targets = store
}
criterion_main!(group);
