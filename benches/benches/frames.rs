//! Sealing frames, which is compression and its verification, and decoding them.
#![allow(missing_docs, clippy::unwrap_used)]

use benches::sample::sample;
use criterion::{BatchSize, BenchmarkId, Criterion, Throughput, criterion_group, criterion_main};
use std::time::Duration;
use vml_chunk::ChunkId;
use vml_chunk::frame::{FrameBuilder, FrameDecoder, FrameEncoder};

const FRAME_LEN: usize = 1 << 20;

/// Frames out of the middle of the sample's parts: 8 KiB chunks.
fn frames(data: &[u8]) -> Vec<Vec<(ChunkId, &[u8])>> {
    data.chunks_exact(FRAME_LEN).map(|frame| frame.chunks(8 << 10).map(|chunk| (ChunkId::of(chunk), chunk)).collect()).collect()
}

fn builder(chunks: &[(ChunkId, &[u8])]) -> FrameBuilder {
    let mut builder = FrameBuilder::default();
    chunks.iter().for_each(|(id, chunk)| builder.push(*id, chunk));
    builder
}

fn seal_and_decode(criterion: &mut Criterion) {
    let data = sample(8 << 20).bytes;
    let frames = frames(&data);
    let mut group = criterion.benchmark_group("frames");
    group.throughput(Throughput::Bytes(data.len() as u64));
    for level in [1, 3, 5, 9] {
        let mut encoder = FrameEncoder::new(level).unwrap();
        group.bench_with_input(BenchmarkId::new("seal", level), &frames, |bencher, frames| {
            let builders = || frames.iter().map(|chunks| builder(chunks)).collect::<Vec<_>>();
            bencher.iter_batched(
                builders,
                |builders| builders.into_iter().map(|builder| encoder.seal(builder).unwrap().bytes.len()).sum::<usize>(),
                BatchSize::LargeInput,
            );
        });
        let sealed: Vec<Vec<u8>> = frames.iter().map(|chunks| encoder.seal(builder(chunks)).unwrap().bytes).collect();
        let stored: usize = sealed.iter().map(Vec::len).sum();
        eprintln!("level {level}: {stored} of {} bytes", data.len());
        group.bench_with_input(BenchmarkId::new("decode", level), &sealed, |bencher, sealed| {
            let (mut decoder, mut plain) = (FrameDecoder::default(), Vec::new());
            bencher.iter(|| sealed.iter().map(|frame| decoder.decode(frame, &mut plain).unwrap().plain_len).sum::<u32>());
        });
    }
    group.finish();
}

criterion_group! {
    name = group;
    config = Criterion::default().sample_size(10).warm_up_time(Duration::from_millis(300)).measurement_time(Duration::from_secs(2));
    targets = seal_and_decode
}
criterion_main!(group);
