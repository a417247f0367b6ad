//! The index at a million chunks: look-ups, building a segment, merging two.
#![allow(missing_docs, clippy::unwrap_used)]

use criterion::{Criterion, Throughput, criterion_group, criterion_main};
use std::hint::black_box;
use std::time::Duration;
use vml_chunk::index::{Segment, SegmentPack, build_segment, merge_segments};
use vml_chunk::pack::{Footer, FooterChunk, FooterFrame};
use vml_chunk::{ChunkId, PackId, PackKind};
use vml_testkit::noise::Rng;

/// Frames of a pack, and chunks of a frame: 32 MiB of stored bytes, 1 MiB of plain ones.
const PACK_FRAMES: u32 = 64;
const FRAME_CHUNKS: u32 = 128;
const CHUNK_LEN: u32 = 8 << 10;
const MILLION: usize = 1_000_000;
/// Look-ups in one measurement, spread over the segment.
const LOOKUPS: usize = 100_000;

fn random_id(rng: &mut Rng) -> ChunkId {
    let mut id = [0; 32];
    rng.fill(&mut id);
    ChunkId::from_bytes(id)
}

/// Footers with `chunk_count` chunks of random ids.
fn footers(seed: u64, chunk_count: usize) -> Vec<Footer> {
    let mut rng = Rng::new(seed);
    let mut left = chunk_count;
    let mut footers = Vec::new();
    while left > 0 {
        let mut footer = Footer { kind: PackKind::Data, compaction: 0, frames: Vec::new(), chunks: Vec::new() };
        for number in 0..PACK_FRAMES {
            let count = u32::try_from(left.min(FRAME_CHUNKS as usize)).unwrap();
            if count == 0 {
                break;
            }
            let frame =
                FooterFrame { offset: 16 + number * (512 << 10), stored_len: 512 << 10, plain_len: count * CHUNK_LEN, chunk_count: count };
            footer.frames.push(frame);
            footer.chunks.extend((0..count).map(|_| FooterChunk { id: random_id(&mut rng), len: CHUNK_LEN }));
            left -= count as usize;
        }
        footers.push(footer);
    }
    footers
}

fn build(seed: u64, footers: &[Footer]) -> Vec<u8> {
    let mut rng = Rng::new(seed ^ 0xff);
    let mut pack = |footer| SegmentPack { id: PackId::from_bytes(*random_id(&mut rng).as_bytes()), len: 32 << 20, footer };
    let packs: Vec<SegmentPack<'_>> = footers.iter().map(&mut pack).collect();
    build_segment(&packs).unwrap()
}

fn index(criterion: &mut Criterion) {
    let all = footers(1, MILLION);
    let mut group = criterion.benchmark_group("index");
    group.throughput(Throughput::Elements(MILLION as u64));
    group.bench_function("build 1M records", |bencher| bencher.iter(|| build(1, &all).len()));
    let parts =
        [(2, MILLION * 4 / 5), (3, MILLION / 5)].map(|(seed, count)| Segment::from_data(build(seed, &footers(seed, count))).unwrap());
    group.bench_function("merge 800k and 200k records", |bencher| {
        bencher.iter(|| {
            let mut bytes = Vec::new();
            let written = merge_segments(&[&parts[0], &parts[1]], &|_| true, &mut |part| {
                bytes.extend_from_slice(part);
                Ok(())
            });
            written.map(|_| bytes.len()).unwrap()
        });
    });
    let bytes = build(1, &all);
    eprintln!("a record of a segment of 1M costs {:.2} bytes", bytes.len() as f64 / MILLION as f64);
    group.throughput(Throughput::Elements(LOOKUPS as u64));
    let segment = Segment::from_data(&bytes[..]).unwrap();
    let mut rng = Rng::new(9);
    let hits: Vec<ChunkId> = (0..LOOKUPS).map(|_| segment.record(rng.below(segment.len())).id).collect();
    let misses: Vec<ChunkId> = (0..LOOKUPS).map(|_| random_id(&mut rng)).collect();
    for (name, ids) in [("look-up hit", &hits), ("look-up miss", &misses)] {
        group.bench_function(name, |bencher| bencher.iter(|| ids.iter().filter(|id| segment.find(black_box(id)).is_some()).count()));
    }
    group.bench_function("open", |bencher| bencher.iter(|| Segment::from_data(black_box(&bytes[..])).unwrap().len()));
    group.finish();
}

criterion_group! {
    name = group;
    config = Criterion::default().sample_size(10).warm_up_time(Duration::from_millis(300)).measurement_time(Duration::from_secs(2));
    targets = index
}
criterion_main!(group);
