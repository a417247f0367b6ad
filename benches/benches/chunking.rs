//! Cutting and hashing: what every byte that is read costs.
#![allow(missing_docs, clippy::unwrap_used)]

use benches::sample::sample;
use criterion::{Criterion, Throughput, criterion_group, criterion_main};
use std::hint::black_box;
use std::time::Duration;
use vml_chunk::{ChunkId, ChunkerParams};

fn chunking(criterion: &mut Criterion) {
    let data = sample(64 << 20).bytes;
    let mut group = criterion.benchmark_group("chunking");
    group.throughput(Throughput::Bytes(data.len() as u64));
    let fastcdc = ChunkerParams::FastCdc2020 { min_len: 2 << 10, avg_len: 8 << 10, max_len: 64 << 10, normalization: 1, seed: 0 };
    let chunker = fastcdc.build().unwrap();
    group.bench_function("fastcdc 2/8/64 KiB", |bencher| {
        bencher.iter(|| {
            let (mut rest, mut count) = (&data[..], 0_u64);
            while !rest.is_empty() {
                rest = &rest[chunker.cut(rest)..];
                count += 1;
            }
            black_box(count)
        });
    });
    group.bench_function("BLAKE3 of 8 KiB chunks", |bencher| {
        bencher.iter(|| {
            for chunk in data.chunks_exact(8 << 10) {
                black_box(ChunkId::of(chunk));
            }
        });
    });
    group.finish();
}

criterion_group! {
    name = group;
    config = Criterion::default().sample_size(10).warm_up_time(Duration::from_millis(300)).measurement_time(Duration::from_secs(2));
    targets = chunking
}
criterion_main!(group);
