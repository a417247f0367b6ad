//! Trees that nobody could have saved, made by hand: reading them gives errors and named problems; nothing is written outside the
//! target, nothing panics, hangs or eats the stack.

use crate::support::{able, build, init, keys, memory, problems_of_check, restoring, save, subdir, temp};
use std::fs;
use std::sync::Arc;
use vml_chunk::{ChunkRef, PackKind};
use vml_core::entry::{Cost, Part, TreePart};
use vml_core::monitor::NoMonitor;
use vml_core::recipe::{Node as RecipeNode, NodeRef, Piece, Recipe, Root, read_stream};
use vml_core::repository::CollectOptions;
use vml_core::share::{ShareRequest, share};
use vml_core::tree::{
    Block, Content, ListingReader, ListingWriter, Node, NodeKind, RestoreOptions, Timestamp, TreeStats, diff_trees, find_path,
};
use vml_core::{Backend, Entry, EntryId, Error, ErrorKind, Repository};
use vml_testkit::trees::{look_at, walk};

const TIME: Timestamp = Timestamp { seconds: 1_000_000_000, nanoseconds: 0 };

fn node(name: impl AsRef<[u8]>, kind: NodeKind) -> Node {
    let name = name.as_ref().to_vec();
    let (uid, gid) = (rustix::process::geteuid().as_raw(), rustix::process::getegid().as_raw());
    Node { name, mode: 0o755, uid, gid, mtime: TIME, xattrs: Vec::new(), link: None, kind }
}

fn file(name: impl AsRef<[u8]>) -> Node {
    node(name, NodeKind::File(Content::Inline(b"content".to_vec())))
}

fn pieces(chunks: &[ChunkRef]) -> Recipe {
    let pieces: Vec<Piece> = chunks.iter().map(|chunk| Piece::Data { id: chunk.id, len: chunk.len }).collect();
    Recipe { len: pieces.iter().map(Piece::len).sum(), root: Root::Pieces(pieces) }
}

fn dir(name: &str, listing: Recipe) -> Node {
    node(name, NodeKind::Directory(listing))
}

struct Lab {
    backend: Arc<dyn Backend>,
    repository: Repository,
    good: EntryId,
    good_root: Node,
}

impl Lab {
    fn new() -> Self {
        let held = temp();
        let tree = subdir(&held, "tree");
        fs::write(tree.join("good"), b"a good file").unwrap();
        let backend = memory();
        let repository = init(&backend);
        let saved = save(&repository, "good", &tree);
        let good_root = saved.entry.tree().unwrap().root.clone();
        Self { backend, repository, good: saved.id, good_root }
    }

    fn put(&self, chunks: &[Vec<u8>]) -> Vec<ChunkRef> {
        let store = self.repository.store(&NoMonitor).unwrap();
        let writer = store.writer().unwrap();
        let mut out = writer.chunks(PackKind::Meta).unwrap();
        let put = chunks.iter().map(|chunk| out.put(chunk).unwrap()).collect();
        out.finish().unwrap();
        writer.finish().unwrap();
        put
    }

    /// The listing of these nodes as they are, in one block.
    fn listing(&self, nodes: &[Node]) -> Recipe {
        pieces(&self.put(&[Block::encode(nodes)]))
    }

    fn publish(&self, root: &Node) -> (EntryId, Entry) {
        let part = TreePart {
            root: root.clone(),
            witness: Recipe::empty(),
            users: Vec::new(),
            groups: Vec::new(),
            stats: TreeStats::default(),
            exclude: Vec::new(),
            left_out: Vec::new(),
            left_out_more_count: 0,
        };
        let model = self.repository.entry(&self.good).unwrap();
        let entry = Entry { parts: vec![Part::Tree(Box::new(part))], parents: Vec::new(), cost: Cost::default(), ..model };
        let (id, bytes) = entry.encode();
        self.backend.put(&format!("entries/{id}"), &bytes).unwrap();
        (id, entry)
    }

    fn unpublish(&self, id: &EntryId) {
        self.backend.delete(&format!("entries/{id}")).unwrap();
    }

    /// Does everything with the tree; returns how many problems or errors restoring gave, and what a check said.
    fn try_everything(&self, root: &Node, what: &str) -> (usize, Vec<String>) {
        let (id, entry) = self.publish(root);
        let around = temp();
        fs::write(around.path().join("witness"), b"untouched").unwrap();
        let target = subdir(&around, "target");
        let told = match Entry::decode(&entry.encode().1).and_then(|_| build(&self.repository, &id, &target, &restoring())) {
            Ok((_, problems)) => problems.len(),
            Err(error) => {
                assert_corrupt(&error, what);
                1
            }
        };
        let mut outside: Vec<_> = fs::read_dir(around.path()).unwrap().map(|member| member.unwrap().file_name()).collect();
        outside.sort_unstable();
        assert_eq!(outside, ["target", "witness"], "{what}");
        for (old, new) in [(root, &self.good_root), (&self.good_root, root)] {
            let mut count = 0;
            let store = self.repository.store(&NoMonitor).unwrap();
            let result = diff_trees(store, old, new, b"", &mut |_| {
                count += 1;
                count < 100_000
            });
            result.unwrap_or_else(|error| assert_corrupt(&error, what));
        }
        let found = problems_of_check(&self.repository, false);
        self.unpublish(&id);
        (told, found)
    }
}

#[track_caller]
fn assert_corrupt(error: &Error, what: &str) {
    assert!(matches!(error.kind(), ErrorKind::Corrupt | ErrorKind::NotFound), "{what}: {error:?}");
}

#[test]
fn names_that_lead_elsewhere_and_impossible_members_are_refused() {
    let lab = Lab::new();
    let long = vec![b'x'; 256];
    let recipe = |len, root| NodeKind::File(Content::Recipe(Recipe { len, root }));
    let chunk = lab.put(&[b"some bytes".to_vec()])[0];
    let hole = |len| Piece::Hole { len };
    let many = Root::Nodes { depth: 9, nodes: vec![NodeRef { id: chunk.id, len: 5, node_len: chunk.len }] };
    let level = Root::Nodes { depth: 0, nodes: vec![NodeRef { id: chunk.id, len: 5, node_len: chunk.len }] };
    let cases: Vec<(&str, Vec<Node>)> = vec![
        ("a name of two dots", vec![file("..")]),
        ("a name of one dot", vec![file(".")]),
        ("a name with a slash", vec![file("a/b")]),
        ("an absolute name", vec![file("/tmp/escaped")]),
        ("a name that climbs", vec![file("../escaped")]),
        ("an empty name", vec![file("")]),
        ("a name with a NUL", vec![file(b"a\0b")]),
        ("a name that is too long", vec![file(&long)]),
        ("the same name twice", vec![file("a"), file("a")]),
        ("names out of order", vec![file("b"), file("a")]),
        ("a directory named two dots", vec![dir("..", lab.listing(&[file("escaped")]))]),
        ("an impossible mode", vec![Node { mode: 0o10000, ..file("a") }]),
        ("an impossible time", vec![Node { mtime: Timestamp { seconds: 0, nanoseconds: 1_000_000_000 }, ..file("a") }]),
        ("an attribute without a name", vec![Node { xattrs: vec![(Vec::new(), Vec::new())], ..file("a") }]),
        ("attributes out of order", vec![Node { xattrs: vec![(b"user.b".to_vec(), vec![]), (b"user.a".to_vec(), vec![])], ..file("a") }]),
        ("an empty hard link", vec![Node { link: Some(Vec::new()), ..file("a") }]),
        ("a link to nothing", vec![node("a", NodeKind::Symlink(Vec::new()))]),
        ("a link with a NUL", vec![node("a", NodeKind::Symlink(b"a\0".to_vec()))]),
        ("a file that does not add up", vec![node("a", recipe(11, Root::Pieces(vec![hole(10)])))]),
        ("a file with an empty piece", vec![node("a", recipe(10, Root::Pieces(vec![hole(10), hole(0)])))]),
        ("lengths that overflow", vec![node("a", recipe(8, Root::Pieces(vec![hole(u64::MAX), hole(9)])))]),
        ("more pieces than a recipe may hold", vec![node("a", recipe(17, Root::Pieces(vec![hole(1); 17])))]),
        ("a recipe too deep", vec![node("a", recipe(5, many))]),
        ("a recipe of no level", vec![node("a", recipe(5, level))]),
    ];
    for (what, nodes) in cases {
        let listing = lab.listing(&nodes);
        assert_eq!(Block::decode(&Block::encode(&nodes)).unwrap_err().kind(), ErrorKind::Corrupt, "{what}");
        for root in [dir("", listing.clone()), dir("", lab.listing(&[file("0 fine"), dir("1 inner", listing)]))] {
            let (told, found) = lab.try_everything(&root, what);
            assert!(told > 0 && !found.is_empty(), "{what}: nobody says a word");
        }
    }
}

#[test]
fn listings_that_are_none_are_refused() {
    let lab = Lab::new();
    let some = Block::encode(&[file("a"), file("b")]);
    let put = lab.put(&[b"garbage".to_vec(), some.clone(), some[..some.len() - 1].to_vec(), Block::encode(&[file("c")])]);
    let absent = ChunkRef { id: vml_chunk::ChunkId::of(b"never stored"), len: 12 };
    let with_hole = Recipe { len: 10, root: Root::Pieces(vec![Piece::Hole { len: 10 }]) };
    let lying = ChunkRef { len: put[1].len - 1, ..put[1] };
    let as_node =
        |depth| Recipe { len: 5, root: Root::Nodes { depth, nodes: vec![NodeRef { id: put[1].id, len: 5, node_len: put[1].len }] } };
    let cases = [
        ("garbage", pieces(&put[..1])),
        ("a block cut short", pieces(&put[2..3])),
        ("a block that is missing", pieces(&[absent])),
        ("a hole", with_hole),
        ("the same block twice", pieces(&[put[1], put[1]])),
        ("blocks out of order", pieces(&[put[3], put[1]])),
        ("a block of another length", pieces(&[lying])),
        ("a block as a recipe's node", as_node(1)),
        ("a block as a recipe's node deep down", as_node(8)),
    ];
    for (what, listing) in cases {
        let (told, found) = lab.try_everything(&dir("", listing), what);
        assert!(told > 0 && !found.is_empty(), "{what}: nobody says a word");
    }
}

#[test]
fn files_whose_recipes_lie_are_not_made_and_others_are() {
    let lab = Lab::new();
    let chunk = lab.put(&[b"some bytes".to_vec()])[0];
    let data = |len| Recipe { len: u64::from(len), root: Root::Pieces(vec![Piece::Data { id: chunk.id, len }]) };
    let node_of = |len| {
        let leaf = lab.put(&[vml_core::recipe::Node::Leaf(vec![Piece::Data { id: chunk.id, len: chunk.len }]).encode()])[0];
        Recipe { len, root: Root::Nodes { depth: 1, nodes: vec![NodeRef { id: leaf.id, len, node_len: leaf.len }] } }
    };
    for (what, recipe) in [("shorter", data(9)), ("longer", data(11)), ("a node that is longer", node_of(11))] {
        let nodes = [file("before"), node("liar", NodeKind::File(Content::Recipe(recipe.clone()))), file("then")];
        let root = dir("", lab.listing(&nodes));
        let (told, found) = lab.try_everything(&root, what);
        assert_eq!((told, found.len()), (1, 1), "{what}: {found:?}");
        let (id, _) = lab.publish(&root);
        let target = temp();
        build(&lab.repository, &id, target.path(), &restoring()).unwrap();
        assert_eq!(walk(target.path()).len(), 2, "{what}: no half file");
        lab.unpublish(&id);
        let store = lab.repository.store(&NoMonitor).unwrap();
        assert_corrupt(&read_stream(store, &recipe, &mut |_| Ok(())).unwrap_err(), what);
    }
    // The same node at its true length is fine, and at a wrong depth is not.
    let true_node = node_of(10);
    let Root::Nodes { nodes, .. } = &true_node.root else { unreachable!() };
    let deep = Recipe { len: 10, root: Root::Nodes { depth: 2, nodes: nodes.clone() } };
    let store = lab.repository.store(&NoMonitor).unwrap();
    let mut read = Vec::new();
    read_stream(store, &true_node, &mut |bytes| {
        read.extend_from_slice(bytes);
        Ok(())
    })
    .unwrap();
    assert_eq!(read, b"some bytes");
    assert_corrupt(&read_stream(store, &deep, &mut |_| Ok(())).unwrap_err(), "a leaf where a branch should be");
}

#[test]
fn a_file_longer_than_any_file_can_be_is_a_problem_and_no_panic() {
    let lab = Lab::new();
    for len in [u64::MAX, u64::MAX / 2 + 1] {
        let huge = Recipe { len, root: Root::Pieces(vec![Piece::Hole { len }]) };
        let nodes = [node("huge", NodeKind::File(Content::Recipe(huge))), file("other")];
        let (told, found) = lab.try_everything(&dir("", lab.listing(&nodes)), "a huge file");
        assert_eq!((told, found.len()), (1, 0), "it can be stored, and cannot be made");
    }
}

#[test]
fn a_record_whose_root_is_no_directory_is_refused() {
    let lab = Lab::new();
    for root in [file(""), dir("named", Recipe::empty()), node("", NodeKind::Symlink(b"/".to_vec()))] {
        let (id, _) = lab.publish(&root);
        assert_eq!(lab.repository.entry(&id).unwrap_err().kind(), ErrorKind::Corrupt);
        assert_eq!(problems_of_check(&lab.repository, false).len(), 1);
        lab.unpublish(&id);
    }
    assert_eq!(keys(lab.backend.as_ref(), "entries").len(), 1);
}

/// A tree of so many directories inside each other, with a file in the innermost.
fn nested(lab: &Lab, levels: usize) -> Node {
    let store = lab.repository.store(&NoMonitor).unwrap();
    let writer = store.writer().unwrap();
    let mut out = writer.chunks(PackKind::Meta).unwrap();
    let mut inner = file("bottom");
    for _ in 0..levels {
        let mut listing = ListingWriter::default();
        listing.push(&inner, &mut |bytes| out.put(bytes)).unwrap();
        inner = dir("d", listing.finish(&mut |bytes| out.put(bytes)).unwrap());
    }
    out.finish().unwrap();
    writer.finish().unwrap();
    Node { name: Vec::new(), ..inner }
}

/// Restoring holds a directory open for each level.
fn may_open(count: u64) -> bool {
    use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
    let limit = getrlimit(Resource::Nofile);
    _ = setrlimit(Resource::Nofile, Rlimit { current: limit.maximum, maximum: limit.maximum });
    let enough = getrlimit(Resource::Nofile).current.is_none_or(|current| current > count + 1000);
    if !enough {
        eprintln!("skipped: this process may not have {count} files open");
    }
    enough
}

#[test]
fn five_thousand_directories_inside_each_other_are_too_many_and_said_to_be() {
    let lab = Lab::new();
    let root = nested(&lab, 5000);
    let store = lab.repository.store(&NoMonitor).unwrap();
    let error = diff_trees(store, &root, &dir("", Recipe::empty()), b"", &mut |_| true).unwrap_err();
    assert_corrupt(&error, "diff");
    assert_eq!(find_path(store, &root, &b"d/".repeat(4999)).unwrap().kind.letter(), 'd');
    if may_open(5000) {
        let (told, found) = lab.try_everything(&root, "deep");
        assert_eq!((told, found.len()), (1, 1), "{found:?}");
        assert!(found[0].contains("nested deeper than 4096"), "{found:?}");
    }
}

#[test]
fn four_thousand_directories_inside_each_other_are_built_and_saved() {
    if !may_open(4000) {
        return;
    }
    let lab = Lab::new();
    let root = nested(&lab, 4000);
    let (id, _) = lab.publish(&root);
    let target = temp();
    let (restored, problems) = build(&lab.repository, &id, target.path(), &restoring()).unwrap();
    assert_eq!((restored.directories_count, restored.files_count, problems.len()), (4000, 1, 0));
    let saved = save(&lab.repository, "deep", target.path());
    assert_eq!(saved.entry.tree().unwrap().root, root);
}

#[test]
fn reading_a_listing_never_panics_whatever_its_bytes_are() {
    let mut rng = vml_testkit::noise::Rng::new(8);
    let held = temp();
    let tree = subdir(&held, "tree");
    vml_testkit::trees::make_tree(&tree, &mut rng, 40, able());
    let lab = Lab::new();
    let saved = save(&lab.repository, "work", &tree);
    let store = lab.repository.store(&NoMonitor).unwrap();
    let NodeKind::Directory(listing) = &saved.entry.tree().unwrap().root.kind else { unreachable!() };
    let nodes: Vec<Node> = ListingReader::new(store, listing).map(|node| node.unwrap()).collect();
    let bytes = Block::encode(&nodes);
    assert_eq!(Block::decode(&bytes).unwrap(), nodes);
    for _ in 0..4000 {
        let mut damaged = bytes.clone();
        for _ in 0..=rng.below(3) {
            let at = rng.below(damaged.len());
            damaged[at] = u8::try_from(rng.below(256)).unwrap();
        }
        damaged.truncate(bytes.len() - rng.below(2) * rng.below(bytes.len()));
        if let Ok(nodes) = Block::decode(&damaged) {
            assert_eq!(Block::encode(&nodes), damaged, "one value has one encoding");
        }
    }
    assert!(!look_at(&tree).is_empty());
}

/// A directory with two names for another one, which has two names for another one: of 2 to the power of `levels` members.
fn doubled(lab: &Lab, levels: usize) -> Node {
    let mut listing = lab.listing(&[file("bottom")]);
    for _ in 0..levels {
        listing = lab.listing(&[dir("a", listing.clone()), dir("b", listing)]);
    }
    dir("", listing)
}

/// A file that has a node 500 times, which has a node 500 times, over one chunk of one byte.
fn repeated(lab: &Lab, levels: u8) -> Recipe {
    const TIMES: usize = 500;
    let chunk = lab.put(&[b"x".to_vec()])[0];
    let mut len = TIMES as u64;
    let mut node = lab.put(&[RecipeNode::Leaf(vec![Piece::Data { id: chunk.id, len: chunk.len }; TIMES]).encode()])[0];
    for _ in 1..levels {
        let child = NodeRef { id: node.id, len, node_len: node.len };
        node = lab.put(&[RecipeNode::Inner(vec![child; TIMES]).encode()])[0];
        len *= TIMES as u64;
    }
    let top = NodeRef { id: node.id, len, node_len: node.len };
    Recipe { len, root: Root::Nodes { depth: levels, nodes: vec![top] } }
}

#[test]
fn trees_and_files_that_contain_themselves_many_times_cost_no_more_than_they_are() {
    let lab = Lab::new();
    let file = || dir("", lab.listing(&[node("f", NodeKind::File(Content::Recipe(repeated(&lab, 6))))]));
    let bombs: [(&str, &dyn Fn() -> Node); 2] = [("doubled", &|| doubled(&lab, 60)), ("repeated", &file)];
    for (what, make) in bombs {
        let root = make();
        let (id, entry) = lab.publish(&root);
        // Checked, listed, shared, collected: each thing once.
        assert_eq!(problems_of_check(&lab.repository, true), Vec::<String>::new(), "{what}");
        let collected = lab.repository.collect(CollectOptions::default(), &NoMonitor).unwrap();
        assert_eq!((collected.entries_count, collected.missing_chunks_count), (2, 0), "{what}");
        let request = ShareRequest {
            entries: &[id],
            since: &[],
            full: true,
            level: 3,
            solid: false,
            threads: 1,
            author: "eva",
            time_ms: 5,
            signer: None,
        };
        share(&lab.repository, &request, &mut Vec::new(), &NoMonitor).unwrap();
        // Equal trees are not looked into, and a difference is told as far as anybody wants to hear.
        let store = lab.repository.store(&NoMonitor).unwrap();
        diff_trees(store, &root, &root, b"", &mut |_| panic!("equal")).unwrap();
        // The entry says that it has nothing, so nothing much is made of it.
        let target = temp();
        let limited = RestoreOptions { limit: Some(entry.tree().unwrap().stats.limit()), ..restoring() };
        let error = build(&lab.repository, &id, target.path(), &limited).map(|_| ()).unwrap_err();
        assert_corrupt(&error, what);
        assert!(error.to_string().contains("that its entry tells of"), "{error}");
        assert!(look_at(target.path()).len() <= 1, "{what}");
        lab.unpublish(&id);
    }
}
