//! The hot parts. Each is prepared first, which is not counted; the number that it returns says that it did what it should.

use std::sync::Arc;
use vml_chunk::frame::{FrameBuilder, FrameDecoder, FrameEncoder};
use vml_chunk::index::{Segment, SegmentPack, build_segment, merge_segments};
use vml_chunk::pack::{Footer, FooterChunk, FooterFrame};
use vml_chunk::{ChunkId, ChunkRef, ChunkStore, ChunkerParams, MemoryBackend, PackId, PackKind, Result, StoreOptions};
use vml_core::recipe::{Piece, Recipe, Root};
use vml_core::tree::{Block, Content, Node, NodeKind, Timestamp};
use vml_testkit::noise::{self, Rng};

/// What was prepared, to be run once.
pub type Prepared = Box<dyn FnOnce() -> Result<usize>>;
type Kernel = fn() -> Result<Prepared>;

/// All of them by name; `baseline.toml` has a count for each.
pub const KERNELS: [(&str, Kernel); 13] = [
    ("cut", cut),
    ("hash", hash),
    ("seal", seal),
    ("seal_incompressible", seal_incompressible),
    ("decode", decode),
    ("find_hit", find_hit),
    ("find_miss", find_miss),
    ("merge", merge),
    ("encode_listing", encode_listing),
    ("decode_listing", decode_listing),
    ("put_new", put_new),
    ("put_known", put_known),
    ("get", get),
];

const LEVEL: i32 = 3;
const CHUNK_LEN: usize = 8 << 10;
/// Of the repository that a stream is put into.
const STREAM_LEN: usize = 2 << 20;
/// Chunks in an index, and how many of them a frame has.
const RECORDS: usize = 30_000;
const FRAME_CHUNKS: usize = 128;
const NODES: u64 = 2000;

fn cut() -> Result<Prepared> {
    let (data, chunker) = (noise::mixed(1, 8 << 20), ChunkerParams::default().build()?);
    Ok(Box::new(move || {
        let (mut rest, mut count) = (&data[..], 0);
        while !rest.is_empty() {
            rest = &rest[chunker.cut(rest)..];
            count += 1;
        }
        Ok(count)
    }))
}

fn hash() -> Result<Prepared> {
    let data = noise::mixed(2, 8 << 20);
    Ok(Box::new(move || Ok(data.chunks(CHUNK_LEN).map(ChunkId::of).filter(|id| id.as_bytes()[0] < 128).count())))
}

fn frame(data: &[u8]) -> FrameBuilder {
    let mut frame = FrameBuilder::default();
    data.chunks(CHUNK_LEN).for_each(|chunk| frame.push(ChunkId::of(chunk), chunk));
    frame
}

fn seal_of(data: &[u8]) -> Result<Prepared> {
    let (frame, mut encoder) = (frame(data), FrameEncoder::new(LEVEL)?);
    Ok(Box::new(move || Ok(encoder.seal(frame)?.bytes.len())))
}

fn seal() -> Result<Prepared> {
    seal_of(&noise::text(3, 1 << 20))
}

fn seal_incompressible() -> Result<Prepared> {
    seal_of(&noise::incompressible(4, 1 << 20))
}

fn decode() -> Result<Prepared> {
    let sealed = FrameEncoder::new(LEVEL)?.seal(frame(&noise::text(5, 2 << 20)))?;
    Ok(Box::new(move || {
        let (mut decoder, mut plain) = (FrameDecoder::default(), Vec::new());
        decoder.decode(&sealed.bytes, &mut plain)?;
        Ok(plain.len())
    }))
}

fn random_id(rng: &mut Rng) -> ChunkId {
    let mut id = [0; 32];
    rng.fill(&mut id);
    ChunkId::from_bytes(id)
}

/// A segment over one pack with chunks of random ids.
fn segment(seed: u64) -> Result<Segment<Vec<u8>>> {
    let mut rng = Rng::new(seed);
    let mut footer = Footer { kind: PackKind::Data, compaction: 0, frames: Vec::new(), chunks: Vec::new() };
    for number in 0..RECORDS.div_ceil(FRAME_CHUNKS) {
        let count = FRAME_CHUNKS.min(RECORDS - number * FRAME_CHUNKS);
        let [number, chunk_count, len] = [number, count, CHUNK_LEN].map(|value| u32::try_from(value).expect("small"));
        footer.frames.push(FooterFrame { offset: 16 + number * 4096, stored_len: 4096, plain_len: chunk_count * len, chunk_count });
        footer.chunks.extend((0..count).map(|_| FooterChunk { id: random_id(&mut rng), len }));
    }
    let id = PackId::from_bytes(*random_id(&mut rng).as_bytes());
    Segment::from_data(build_segment(&[SegmentPack { id, len: 32 << 20, footer: &footer }])?)
}

fn find_of(ids: impl Fn(&Segment<Vec<u8>>, &mut Rng) -> ChunkId) -> Result<Prepared> {
    let (segment, mut rng) = (segment(6)?, Rng::new(7));
    let ids: Vec<ChunkId> = (0..RECORDS).map(|_| ids(&segment, &mut rng)).collect();
    Ok(Box::new(move || Ok(ids.iter().filter(|id| segment.find(id).is_some()).count())))
}

fn find_hit() -> Result<Prepared> {
    find_of(|segment, rng| segment.record(rng.below(segment.len())).id)
}

fn find_miss() -> Result<Prepared> {
    find_of(|_, rng| random_id(rng))
}

fn merge() -> Result<Prepared> {
    let parts = [segment(8)?, segment(9)?];
    Ok(Box::new(move || {
        let mut len = 0;
        merge_segments(&[&parts[0], &parts[1]], &|_| true, &mut |part| {
            len += part.len();
            Ok(())
        })?;
        Ok(len)
    }))
}

/// A directory with files of one and of several chunks, small ones, links and directories.
fn nodes() -> Vec<Node> {
    let mut rng = Rng::new(10);
    let recipe = |rng: &mut Rng, count: u32| {
        let pieces: Vec<Piece> = (0..count).map(|number| Piece::Data { id: random_id(rng), len: 8192 + number }).collect();
        Recipe { len: pieces.iter().map(Piece::len).sum(), root: Root::Pieces(pieces) }
    };
    let node = |number: u64| Node {
        name: format!("member-{number:05}").into_bytes(),
        mode: 0o644,
        uid: 1000,
        gid: 1000,
        mtime: Timestamp { seconds: 1_700_000_000 + number.cast_signed(), nanoseconds: 5 },
        xattrs: if number.is_multiple_of(50) { vec![(b"user.note".to_vec(), b"value".to_vec())] } else { Vec::new() },
        link: None,
        kind: match number % 10 {
            0..4 => NodeKind::File(Content::Recipe(recipe(&mut rng, 1))),
            4..7 => NodeKind::File(Content::Recipe(recipe(&mut rng, 6))),
            7 => NodeKind::File(Content::Inline(noise::text(number, 200))),
            8 => NodeKind::Symlink(b"../somewhere/else".to_vec()),
            _ => NodeKind::Directory(recipe(&mut rng, 1)),
        },
    };
    (0..NODES).map(node).collect()
}

fn encode_listing() -> Result<Prepared> {
    let nodes = nodes();
    Ok(Box::new(move || Ok(Block::encode(&nodes).len())))
}

fn decode_listing() -> Result<Prepared> {
    let bytes = Block::encode(&nodes());
    Ok(Box::new(move || Ok(Block::decode(&bytes)?.len())))
}

fn store() -> Result<ChunkStore> {
    // One thread, so that the count is the same every time; and a cache smaller than the stream, so that frames are decoded.
    let options = StoreOptions { threads: 1, cache_len: 1 << 20, ..StoreOptions::default() };
    Ok(ChunkStore::open(Arc::new(MemoryBackend::new()), options)?.0)
}

fn put(store: &ChunkStore, data: &[u8]) -> Result<Vec<ChunkRef>> {
    let (chunker, writer) = (ChunkerParams::default().build()?, store.writer()?);
    let mut chunks = writer.chunks(PackKind::Data)?;
    let mut recipe = Vec::new();
    chunks
        .put_stream(chunker.as_ref(), &mut &data[..], u64::MAX, &mut |chunk| recipe.push(chunk))?
        .expect("a slice is read without errors");
    chunks.finish()?;
    writer.finish()?;
    Ok(recipe)
}

fn put_new() -> Result<Prepared> {
    let (store, data) = (store()?, noise::mixed(11, STREAM_LEN));
    Ok(Box::new(move || Ok(put(&store, &data)?.len())))
}

fn put_known() -> Result<Prepared> {
    let (store, data) = (store()?, noise::mixed(11, STREAM_LEN));
    put(&store, &data)?;
    Ok(Box::new(move || Ok(put(&store, &data)?.len())))
}

fn get() -> Result<Prepared> {
    let (store, data) = (store()?, noise::mixed(11, STREAM_LEN));
    let recipe = put(&store, &data)?;
    Ok(Box::new(move || recipe.iter().try_fold(0, |len, chunk| Ok(len + store.get(&chunk.id)?.len()))))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_kernel_does_its_work() {
        let done = |name: &str| KERNELS.iter().find(|(known, _)| *known == name).unwrap().1().unwrap()().unwrap();
        assert_eq!([done("find_hit"), done("find_miss")], [RECORDS, 0]);
        assert_eq!([done("decode"), done("decode_listing"), done("get")], [2 << 20, 2000, STREAM_LEN]);
        assert_eq!(done("put_new"), done("put_known"));
        assert!((1 << 18..1 << 20).contains(&done("seal")) && done("seal_incompressible") > 1 << 20);
        assert!((500..2000).contains(&done("cut")) && (400..600).contains(&done("hash")));
        assert!(done("merge") > 2 * RECORDS * 20 && done("encode_listing") > 100_000);
    }
}
