//! Recipes: what goes in comes out, one stream has one recipe, and a change costs what it changes.

use proptest::prelude::*;
use std::collections::HashMap;
use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};
use vml_chunk::{Chunk, ChunkId, ChunkRef};
use vml_core::recipe::{GetChunk, INLINE_MAX, Node, Piece, Recipe, RecipeReader, RecipeWriter, Root, read_stream};
use vml_core::{Entry, Error, Result};
use vml_testkit::noise::Rng;

/// Node chunks by id, and how often they are asked for.
#[derive(Default)]
struct Nodes {
    chunks: Mutex<HashMap<ChunkId, Vec<u8>>>,
    asked: AtomicUsize,
}

impl Nodes {
    fn write(&self, pieces: &[Piece]) -> Recipe {
        let put = &mut |bytes: &[u8]| {
            let id = ChunkId::of(bytes);
            self.chunks.lock().unwrap().insert(id, bytes.to_vec());
            Ok(ChunkRef { id, len: u32::try_from(bytes.len()).unwrap() })
        };
        let mut writer = RecipeWriter::default();
        for piece in pieces {
            writer.push(piece.clone(), put).unwrap();
        }
        let recipe = writer.finish(put).unwrap();
        recipe.check().unwrap();
        recipe
    }

    fn read(&self, recipe: &Recipe) -> Vec<Piece> {
        RecipeReader::new(self, recipe).map(|piece| piece.unwrap()).collect()
    }

    fn count(&self) -> usize {
        self.chunks.lock().unwrap().len()
    }
}

impl GetChunk for Nodes {
    fn get_chunk(&self, id: &ChunkId) -> Result<Chunk> {
        self.asked.fetch_add(1, Ordering::Relaxed);
        let bytes = self.chunks.lock().unwrap().get(id).cloned().ok_or_else(|| Error::not_found("no such node"))?;
        Ok(bytes.into())
    }
}

fn data(number: u64) -> Piece {
    let id = ChunkId::of(&number.to_le_bytes());
    Piece::Data { id, len: 1 + u32::try_from(number % 70_000).unwrap() }
}

/// Neighbouring holes and zero runs made one, and nothing empty.
fn merged(pieces: &[Piece]) -> Vec<Piece> {
    let mut merged: Vec<Piece> = Vec::new();
    for piece in pieces.iter().filter(|piece| !piece.is_empty()) {
        match (merged.last_mut(), piece) {
            (Some(Piece::Hole { len }), Piece::Hole { len: more }) | (Some(Piece::Zero { len }), Piece::Zero { len: more }) => *len += more,
            _ => merged.push(piece.clone()),
        }
    }
    merged
}

fn any_piece() -> impl Strategy<Value = Piece> {
    prop_oneof![
        6 => (0_u64..100_000).prop_map(data),
        1 => (0_u64..1000).prop_map(|len| Piece::Hole { len }),
        1 => (0_u64..1000).prop_map(|len| Piece::Zero { len }),
    ]
}

/// Mostly few kinds of pieces, so that runs are long; lengths around the limits of nodes.
fn any_pieces() -> impl Strategy<Value = Vec<Piece>> {
    let runs = prop_oneof![(0_u64..9).prop_map(|len| Piece::Hole { len }), (0_u64..9).prop_map(|len| Piece::Zero { len })];
    prop_oneof![
        proptest::collection::vec(any_piece(), 0..40),
        proptest::collection::vec(any_piece(), 500..1600),
        proptest::collection::vec(runs, 480..1200),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 96, failure_persistence: None, max_shrink_iters: 200, ..ProptestConfig::default() })]

    #[test]
    fn what_is_written_is_read_and_one_stream_has_one_recipe(pieces in any_pieces(), seed: u64) {
        let nodes = Nodes::default();
        let recipe = nodes.write(&pieces);
        let expected = merged(&pieces);
        prop_assert_eq!(recipe.len, expected.iter().map(Piece::len).sum::<u64>());
        prop_assert_eq!(nodes.read(&recipe), expected.clone());
        prop_assert_eq!(expected.len() <= INLINE_MAX, matches!(recipe.root, Root::Pieces(_)));
        prop_assert_eq!(nodes.write(&expected), recipe.clone());
        // However the runs arrive: whole, or in parts.
        let mut rng = Rng::new(seed);
        let split: Vec<Piece> = expected.iter().flat_map(|piece| match piece {
            Piece::Hole { len } => { let cut = rng.next_u64() % (len + 1); vec![Piece::Hole { len: cut }, Piece::Hole { len: len - cut }] }
            Piece::Zero { len } => { let cut = rng.next_u64() % (len + 1); vec![Piece::Zero { len: cut }, Piece::Zero { len: len - cut }] }
            Piece::Data { .. } => vec![piece.clone()],
        }).collect();
        prop_assert_eq!(nodes.write(&split), recipe);
    }

    #[test]
    fn no_bytes_make_a_decoder_panic(bytes in proptest::collection::vec(any::<u8>(), 0..400), at in any::<prop::sample::Index>()) {
        if let Ok(node) = Node::decode(&bytes) {
            prop_assert_eq!(node.encode(), bytes.clone());
        }
        _ = vml_core::tree::Block::decode(&bytes);
        _ = Entry::decode(&bytes);
        // And bytes that almost are a node.
        let mut almost = Node::Leaf((0..20).map(data).collect()).encode();
        let at = at.index(almost.len());
        almost.splice(at.., bytes.iter().copied());
        if let Ok(node) = Node::decode(&almost) {
            prop_assert_eq!(node.encode(), almost);
        }
    }
}

#[test]
fn two_hundred_thousand_pieces_make_a_tree_of_levels() {
    let pieces: Vec<Piece> = (0..200_000).map(data).collect();
    let nodes = Nodes::default();
    let recipe = nodes.write(&pieces);
    let Root::Nodes { depth, nodes: top } = &recipe.root else { panic!("it is long") };
    assert!(*depth >= 2 && top.len() <= INLINE_MAX, "depth {depth}, {} on top", top.len());
    assert!((200_000 / 512..200_000 / 64).contains(&nodes.count()), "{} nodes", nodes.count());
    assert!(vml_core::recipe::Node::decode(nodes.chunks.lock().unwrap().values().next().unwrap()).is_ok());
    assert!(nodes.read(&recipe) == pieces);
    assert_eq!(nodes.asked.load(Ordering::Relaxed), nodes.count(), "each node is read once");
}

#[test]
fn an_insertion_changes_the_nodes_on_the_way_to_it_and_no_others() {
    let mut pieces: Vec<Piece> = (0..100_000).map(data).collect();
    let nodes = Nodes::default();
    let before = nodes.write(&pieces);
    let count = nodes.count();
    for (at, number) in [(50_000, 1_000_001), (0, 1_000_002), (100_002, 1_000_003)] {
        let known = nodes.count();
        pieces.insert(at, data(number));
        assert_ne!(nodes.write(&pieces), before);
        let new = nodes.count() - known;
        assert!((1..=6).contains(&new), "{new} of {count} nodes are new after an insertion at {at}");
    }
}

#[test]
fn a_missing_or_exchanged_node_ends_the_reading_with_an_error() {
    let nodes = Nodes::default();
    let recipe = nodes.write(&(0..5000).map(data).collect::<Vec<_>>());
    let Root::Nodes { nodes: top, .. } = &recipe.root else { panic!("it is long") };
    let ids: Vec<ChunkId> = nodes.chunks.lock().unwrap().keys().copied().collect();
    for id in &ids {
        let bytes = nodes.chunks.lock().unwrap().remove(id).unwrap();
        let results: Vec<Result<Piece>> = RecipeReader::new(&nodes, &recipe).collect();
        assert!(results.last().unwrap().is_err() && results[..results.len() - 1].iter().all(Result::is_ok));
        nodes.chunks.lock().unwrap().insert(*id, bytes);
    }
    // A leaf of another length in the place of the first node.
    let other = Node::Leaf(vec![data(1), data(2)]).encode();
    nodes.chunks.lock().unwrap().insert(top[0].id, other);
    let results: Vec<Result<Piece>> = RecipeReader::new(&nodes, &recipe).collect();
    assert!(results.len() == 1 && results[0].is_err());
}

#[test]
fn a_stream_of_runs_reads_as_zeros() {
    let nodes = Nodes::default();
    let recipe = nodes.write(&[Piece::Hole { len: 100_000 }, Piece::Zero { len: 70_000 }, Piece::Hole { len: 1 }]);
    let mut total = 0;
    read_stream(&nodes, &recipe, &mut |bytes| {
        assert!(bytes.len() <= 64 << 10 && bytes.iter().all(|byte| *byte == 0));
        total += bytes.len();
        Ok(())
    })
    .unwrap();
    assert_eq!(total, 170_001);
}
