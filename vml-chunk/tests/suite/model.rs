//! Random operations on a store and on a map beside it: they always agree.

use crate::support::{keys, memory, open};
use proptest::prelude::*;
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use vml_chunk::{Backend, ChunkId, ChunkStore, LocalBackend, PackKind};
use vml_testkit::noise;

/// A chunk by its seed and length; few of them, so that sessions repeat each other.
#[derive(Debug, Clone, Copy)]
struct Piece {
    seed: u64,
    len: usize,
}

impl Piece {
    fn bytes(self) -> Vec<u8> {
        if self.seed.is_multiple_of(2) { noise::text(self.seed, self.len) } else { noise::incompressible(self.seed, self.len) }
    }
}

#[derive(Debug, Clone)]
enum Step {
    /// A session; unfinished ones are abandoned.
    Session {
        data: Vec<Piece>,
        meta: Vec<Piece>,
        finished: bool,
    },
    Reopen,
    Reload {
        verify: bool,
    },
    /// Deletes every index segment, or the one of this number.
    DeleteIndex(Option<usize>),
    /// A second process on the same files, with a session of its own.
    Other {
        data: Vec<Piece>,
    },
}

fn pieces(most: usize) -> impl Strategy<Value = Vec<Piece>> {
    let len = prop_oneof![Just(0_usize), Just(1), Just(100), Just(5000), Just(70_000)];
    prop::collection::vec((0..12_u64, len).prop_map(|(seed, len)| Piece { seed, len }), 0..most)
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        6 => (pieces(12), pieces(4), prop::bool::weighted(0.8)).prop_map(|(data, meta, finished)| Step::Session { data, meta, finished }),
        2 => Just(Step::Reopen),
        1 => any::<bool>().prop_map(|verify| Step::Reload { verify }),
        1 => prop::option::of(0..5_usize).prop_map(Step::DeleteIndex),
        1 => pieces(6).prop_map(|data| Step::Other { data }),
    ]
}

#[derive(Default)]
struct Model {
    stored: BTreeMap<ChunkId, Vec<u8>>,
    /// Chunks of abandoned sessions: their packs may have been published or not.
    perhaps: BTreeSet<ChunkId>,
}

impl Model {
    fn session(&mut self, store: &ChunkStore, data: &[Piece], meta: &[Piece], finished: bool) {
        let writer = store.writer().unwrap();
        let mut put = BTreeMap::new();
        for (kind, pieces) in [(PackKind::Data, data), (PackKind::Meta, meta)] {
            let mut out = writer.chunks(kind).unwrap();
            for piece in pieces {
                let bytes = piece.bytes();
                let chunk = out.put(&bytes).unwrap();
                assert_eq!((chunk.id, chunk.len as usize), (ChunkId::of(&bytes), bytes.len()));
                put.insert(chunk.id, bytes);
            }
            out.finish().unwrap();
        }
        let new = put.keys().filter(|id| !self.stored.contains_key(id)).count();
        if finished {
            let stats = writer.finish().unwrap();
            assert_eq!(stats.seen_chunks as usize, data.len() + meta.len());
            if self.perhaps.is_empty() {
                assert_eq!(stats.new_chunks as usize, new, "each chunk is stored once");
            }
            self.stored.extend(put);
        } else {
            self.perhaps.extend(put.into_keys());
        }
    }

    fn check(&self, store: &ChunkStore) {
        for (id, bytes) in &self.stored {
            assert!(store.contains(id));
            assert!(store.get(id).unwrap()[..] == bytes[..]);
        }
        for seed in 0..12 {
            let never = ChunkId::of(&noise::text(seed, 33));
            assert!(!store.contains(&never));
        }
        for id in self.perhaps.iter().filter(|id| !self.stored.contains_key(id)) {
            assert!(!store.contains(id) || ChunkId::of(&store.get(id).unwrap()) == *id);
        }
    }
}

fn run(files: &Arc<dyn Backend>, steps: &[Step]) {
    let mut model = Model::default();
    let (mut store, _) = open(files);
    for step in steps {
        match step {
            Step::Session { data, meta, finished } => model.session(&store, data, meta, *finished),
            Step::Reopen => store = open(files).0,
            Step::Reload { verify } => _ = store.reload(*verify).unwrap(),
            Step::DeleteIndex(which) => {
                let all = keys(files.as_ref(), "index");
                for (number, key) in all.iter().enumerate() {
                    if which.is_none_or(|which| number == which % all.len()) {
                        files.delete(key).unwrap();
                    }
                }
                // The open store has its mappings still.
                model.check(&store);
                store = open(files).0;
            }
            Step::Other { data } => {
                model.session(&open(files).0, data, &[], true);
                store.reload(false).unwrap();
            }
        }
        model.check(&store);
    }
    let (store, report) = open(files);
    assert!(report.bad_segments.is_empty() && report.missing_packs.is_empty() && report.unreadable_packs.is_empty());
    model.check(&store);
    assert!(keys(files.as_ref(), "index").len() <= 8);
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 60, ..ProptestConfig::default() })]

    #[test]
    fn a_store_in_memory_behaves_like_a_map(steps in prop::collection::vec(step(), 1..14)) {
        run(&memory(), &steps);
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 8, ..ProptestConfig::default() })]

    #[test]
    fn a_store_on_a_file_system_behaves_like_a_map(steps in prop::collection::vec(step(), 1..10)) {
        let dir = tempfile::tempdir().unwrap();
        let files: Arc<dyn Backend> = Arc::new(LocalBackend::create(dir.path()).unwrap());
        run(&files, &steps);
    }
}
