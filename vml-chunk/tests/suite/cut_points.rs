//! Where streams are cut: golden offsets, and the same whatever pieces a reader gives.

use crate::support::{self, golden};
use proptest::prelude::*;
use std::fmt::Write as _;
use std::io::{self, Read};
use std::sync::Arc;
use vml_chunk::{ChunkStore, Chunker, ChunkerParams, MemoryBackend, PackKind};
use vml_testkit::noise::{self, Rng};

fn fastcdc(min_len: u32, avg_len: u32, max_len: u32, normalization: u8, seed: u64) -> ChunkerParams {
    ChunkerParams::FastCdc2020 { min_len, avg_len, max_len, normalization, seed }
}

/// The ends of all chunks of `data`, cut as one slice.
fn cut_all(chunker: &dyn Chunker, data: &[u8]) -> Vec<usize> {
    let mut ends = Vec::new();
    let mut start = 0;
    while start < data.len() {
        let len = chunker.cut(&data[start..]);
        assert!(len > 0 && len <= chunker.max_len() && start + len <= data.len());
        start += len;
        ends.push(start);
    }
    ends
}

#[test]
fn cut_points_are_the_golden_ones() {
    let chunkers =
        [fastcdc(2 << 10, 8 << 10, 64 << 10, 1, 0), fastcdc(4 << 10, 16 << 10, 128 << 10, 2, 7), ChunkerParams::Fixed { len: 4096 }];
    assert_eq!(chunkers[0], ChunkerParams::default(), "the default is what most repositories will have");
    let inputs = [
        ("incompressible(1)", noise::incompressible(1, 600_000)),
        ("text(2)", noise::text(2, 600_000)),
        ("mixed(3)", noise::mixed(3, 600_000)),
        ("zeros", vec![0; 200_001]),
        ("incompressible(4)", noise::incompressible(4, 2048)),
    ];
    let mut page =
        String::from("# The end of every chunk, in bytes, by chunker and input; the inputs are made by vml-testkit's noise module.\n");
    for params in &chunkers {
        let chunker = params.build().unwrap();
        for (name, data) in &inputs {
            write!(page, "\n{params:?}\n{name} {} bytes\n", data.len()).unwrap();
            for line in cut_all(chunker.as_ref(), data).chunks(16) {
                let ends: Vec<String> = line.iter().map(ToString::to_string).collect();
                writeln!(page, "{}", ends.join(" ")).unwrap();
            }
        }
    }
    let golden = String::from_utf8(golden("cut-points.txt", || page.clone().into_bytes())).unwrap();
    for (number, (now, then)) in page.lines().zip(golden.lines()).enumerate() {
        assert_eq!(now, then, "line {} of testdata/golden/cut-points.txt", number + 1);
    }
    assert_eq!(page, golden);
}

#[test]
fn chunk_lengths_stay_inside_their_bounds_and_near_their_average() {
    let data = noise::incompressible(5, 4 << 20);
    let chunker = ChunkerParams::default().build().unwrap();
    let ends = cut_all(chunker.as_ref(), &data);
    let lens: Vec<usize> = ends.iter().scan(0, |start, end| Some(end - std::mem::replace(start, *end))).collect();
    assert!(lens[..lens.len() - 1].iter().all(|len| (2048..=65536).contains(len)));
    let average = data.len() / lens.len();
    assert!((7000..14_000).contains(&average), "{average}");
}

#[test]
fn an_insertion_moves_only_the_cuts_near_it() {
    let data = noise::mixed(6, 2 << 20);
    let mut changed = data.clone();
    changed.splice(1_000_000..1_000_000, *b"inserted");
    let chunker = ChunkerParams::default().build().unwrap();
    let before = cut_all(chunker.as_ref(), &data);
    let after = cut_all(chunker.as_ref(), &changed);
    let kept = before.iter().filter(|end| **end > 1_200_000 && after.binary_search(&(**end + 8)).is_ok()).count();
    let later = before.iter().filter(|end| **end > 1_200_000).count();
    assert!(kept * 10 >= later * 9, "{kept} of {later} cuts after the insertion are the same");
}

#[test]
fn parameters_outside_their_limits_are_refused() {
    let bad = [
        fastcdc(62, 8192, 65536, 1, 0),
        fastcdc(2048, 254, 65536, 1, 0),
        fastcdc(2048, 8192, 1022, 1, 0),
        fastcdc(2049, 8192, 65536, 1, 0),
        fastcdc(8192, 8192, 65536, 1, 0),
        fastcdc(2048, 65536, 65536, 1, 0),
        fastcdc(2048, 8192, 1 << 24, 1, 0),
        fastcdc(2048, 8192, 65536, 4, 0),
        fastcdc(u32::MAX, u32::MAX, u32::MAX, 255, u64::MAX),
        ChunkerParams::Fixed { len: 0 },
        ChunkerParams::Fixed { len: 63 },
        ChunkerParams::Fixed { len: 1 << 24 },
        ChunkerParams::Fixed { len: u32::MAX },
    ];
    for params in bad {
        assert_eq!(params.build().err().map(|error| error.kind()), Some(vml_chunk::ErrorKind::InvalidInput), "{params:?}");
    }
    for params in [fastcdc(64, 256, 1024, 0, 1), fastcdc(1 << 20, 4 << 20, (1 << 24) - 2, 3, u64::MAX), ChunkerParams::Fixed { len: 64 }] {
        assert!(params.build().is_ok(), "{params:?}");
    }
}

/// Gives 1 to `most` bytes at a time, with an interruption now and then.
struct Stutter<'a> {
    data: &'a [u8],
    most: usize,
    rng: Rng,
}

impl Read for Stutter<'_> {
    fn read(&mut self, buf: &mut [u8]) -> io::Result<usize> {
        if self.rng.below(7) == 0 {
            return Err(io::ErrorKind::Interrupted.into());
        }
        let len = (1 + self.rng.below(self.most)).min(buf.len()).min(self.data.len());
        buf[..len].copy_from_slice(&self.data[..len]);
        self.data = &self.data[len..];
        Ok(len)
    }
}

fn ends_of_stream(params: &ChunkerParams, reader: &mut dyn Read, limit: u64) -> (Vec<usize>, u64) {
    let (store, _) = ChunkStore::open(Arc::new(MemoryBackend::new()), support::options()).unwrap();
    let writer = store.writer().unwrap();
    let mut chunks = writer.chunks(PackKind::Data).unwrap();
    let mut ends = Vec::new();
    let mut end = 0;
    let mut each = |chunk: vml_chunk::ChunkRef| {
        end += chunk.len as usize;
        ends.push(end);
    };
    let total = chunks.put_stream(params.build().unwrap().as_ref(), reader, limit, &mut each).unwrap().unwrap();
    chunks.finish().unwrap();
    writer.finish().unwrap();
    (ends, total)
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 24, ..ProptestConfig::default() })]

    #[test]
    fn cutting_does_not_depend_on_how_the_reader_splits_its_reads(
        seed in any::<u64>(), len in prop_oneof![0..5000_usize, 0..3_000_000_usize], most in prop_oneof![Just(1_usize), 2..9000_usize, Just(2 << 20)], fixed in any::<bool>(),
    ) {
        // One byte at a time takes long, so then the stream is short.
        let data = noise::mixed(seed, if most == 1 { len.min(200_000) } else { len });
        let params = if fixed { ChunkerParams::Fixed { len: 4096 } } else { ChunkerParams::default() };
        let whole = cut_all(params.build().unwrap().as_ref(), &data);
        let (ends, total) = ends_of_stream(&params, &mut Stutter { data: &data, most, rng: Rng::new(seed) }, u64::MAX);
        prop_assert_eq!(total, data.len() as u64);
        prop_assert_eq!(ends, whole);
    }

    #[test]
    fn a_limited_stream_is_cut_as_if_it_ended_there(seed in any::<u64>(), len in 0..2_500_000_usize, limit in 0..2_500_000_usize) {
        let data = noise::mixed(seed, len);
        let params = ChunkerParams::default();
        let whole = cut_all(params.build().unwrap().as_ref(), &data[..limit.min(len)]);
        let (ends, total) = ends_of_stream(&params, &mut &data[..], limit as u64);
        prop_assert_eq!(total, limit.min(len) as u64);
        prop_assert_eq!(ends, whole);
    }
}

#[test]
fn a_readers_error_is_its_own_and_the_session_goes_on() {
    struct Broken(usize);
    impl Read for Broken {
        fn read(&mut self, buf: &mut [u8]) -> io::Result<usize> {
            let len = self.0.min(buf.len());
            self.0 -= len;
            if len == 0 { Err(io::Error::other("unplugged")) } else { Ok(len) }
        }
    }
    let (store, _) = ChunkStore::open(support::memory(), support::options()).unwrap();
    let writer = store.writer().unwrap();
    let mut chunks = writer.chunks(PackKind::Data).unwrap();
    let chunker = ChunkerParams::default().build().unwrap();
    let error = chunks.put_stream(chunker.as_ref(), &mut Broken(3 << 20), u64::MAX, &mut |_| {}).unwrap().unwrap_err();
    assert_eq!(error.to_string(), "unplugged");
    let good = noise::text(1, 100_000);
    let mut ids = Vec::new();
    chunks.put_stream(chunker.as_ref(), &mut &good[..], u64::MAX, &mut |chunk| ids.push(chunk.id)).unwrap().unwrap();
    chunks.finish().unwrap();
    writer.finish().unwrap();
    let back: Vec<u8> = ids.iter().flat_map(|id| store.get(id).unwrap().to_vec()).collect();
    assert!(back == good);
}
