//! The examples in the part "Logbook" of docs/format.md are what the decoders read and the encoders write.

use std::path::PathBuf;
use vml_chunk::codec::{decode_record, encode_record};
use vml_core::Entry;
use vml_core::entry::{NOTE_RECORD, Note};
use vml_core::recipe::{self, Piece};
use vml_core::repository::{CONFIG_RECORD, Config};
use vml_core::tree::{Block, Content, NodeKind};

fn example(word: &str) -> Vec<u8> {
    let path = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../docs/format.md");
    let page = std::fs::read_to_string(path).unwrap();
    let start = format!("```hex {word}\n");
    let begin = page.find(&start).unwrap_or_else(|| panic!("docs/format.md has no example of a {word}")) + start.len();
    let block = &page[begin..begin + page[begin..].find("```").unwrap()];
    let digits = block.lines().flat_map(|line| line.split('#').next().unwrap().split_whitespace());
    digits.map(|pair| u8::from_str_radix(pair, 16).unwrap_or_else(|_| panic!("{pair:?} is not a byte"))).collect()
}

#[test]
fn the_configuration_on_the_page_is_the_default_one() {
    let bytes = example("config");
    let config: Config = decode_record(CONFIG_RECORD, &bytes).unwrap();
    assert_eq!(config, Config::new([0x11; 16], 1_700_000_000_000));
    assert_eq!(encode_record(CONFIG_RECORD, &config), bytes);
}

#[test]
fn the_entry_on_the_page_is_what_it_says() {
    let bytes = example("entry");
    let entry = Entry::decode(&bytes).unwrap();
    assert_eq!((entry.origin(), entry.message.as_str(), entry.author.as_str()), ("work".to_owned(), "first", "dev@host"));
    assert_eq!(entry.tree().unwrap().stats.files_count, 1);
    assert_eq!(entry.encode().1, bytes);
}

#[test]
fn the_note_on_the_page_is_what_it_says() {
    let bytes = example("note");
    let note: Note = decode_record(NOTE_RECORD, &bytes).unwrap();
    assert_eq!((note.author.as_str(), note.text.as_str()), ("dev@host", "good"));
    assert_eq!(encode_record(NOTE_RECORD, &note), bytes);
}

#[test]
fn the_ref_on_the_page_points_to_the_entry_on_the_page() {
    use std::sync::Arc;
    use vml_core::refs::RefKind;
    use vml_core::{Backend, EntryId, MemoryBackend};
    let bytes = example("ref");
    let backend: Arc<dyn Backend> = Arc::new(MemoryBackend::new());
    let repository = super::support::init(&backend);
    let target = EntryId::of(&example("entry"));
    repository.refs().set(RefKind::Area, "work", None, Some(target)).unwrap();
    assert_eq!(backend.read("refs/areas/work", 4096).unwrap(), bytes);
}

#[test]
fn the_recipe_node_on_the_page_is_what_it_says() {
    let bytes = example("recipe-node");
    let node = recipe::Node::decode(&bytes).unwrap();
    let recipe::Node::Leaf(pieces) = &node else { panic!("it is a leaf") };
    assert!(matches!(pieces[..], [Piece::Data { len: 5, .. }, Piece::Zero { len: 4096 }, Piece::Hole { len: 1_048_576 }]));
    assert_eq!(node.encode(), bytes);
}

#[test]
fn the_listing_on_the_page_is_what_it_says() {
    let bytes = example("listing");
    let nodes = Block::decode(&bytes).unwrap();
    let names: Vec<&[u8]> = nodes.iter().map(|node| node.name.as_slice()).collect();
    assert_eq!(names, [&b"a"[..], b"l"]);
    assert!(matches!(&nodes[0].kind, NodeKind::File(Content::Inline(bytes)) if bytes == b"hi\n"));
    assert!(matches!(&nodes[1].kind, NodeKind::Symlink(target) if target == b"a"));
    assert_eq!(Block::encode(&nodes), bytes);
}

/// Prints the examples, to be put on the page after a change of the format.
#[test]
#[ignore = "prints bytes for docs/format.md"]
fn print_examples() {
    use vml_core::entry::{Cost, EntryKind, Fact, Owner, Part, TreePart};
    use vml_core::recipe::Recipe;
    use vml_core::tree::{Node, Timestamp, TreeStats};
    use vml_core::{EntryId, recipe::Root};
    let show = |word: &str, bytes: &[u8]| {
        println!("```hex {word}");
        for line in bytes.chunks(16) {
            println!("{}", line.iter().map(|byte| format!("{byte:02x}")).collect::<Vec<_>>().join(" "));
        }
        println!("```");
    };
    show("config", &encode_record(CONFIG_RECORD, &Config::new([0x11; 16], 1_700_000_000_000)));
    let node = |name: &[u8], kind| Node {
        name: name.to_vec(),
        mode: 0o644,
        uid: 1000,
        gid: 1000,
        mtime: Timestamp { seconds: 1_700_000_000, nanoseconds: 5 },
        xattrs: Vec::new(),
        link: None,
        kind,
    };
    let listing =
        Block::encode(&[node(b"a", NodeKind::File(Content::Inline(b"hi\n".to_vec()))), node(b"l", NodeKind::Symlink(b"a".to_vec()))]);
    show("listing", &listing);
    let pieces =
        vec![Piece::Data { id: vml_chunk::ChunkId::of(b"hello"), len: 5 }, Piece::Zero { len: 4096 }, Piece::Hole { len: 1 << 20 }];
    show("recipe-node", &recipe::Node::Leaf(pieces).encode());
    let block = Piece::Data { id: vml_chunk::ChunkId::of(&listing), len: u32::try_from(listing.len()).unwrap() };
    let root = Node { mode: 0o755, ..node(b"", NodeKind::Directory(Recipe { len: block.len(), root: Root::Pieces(vec![block]) })) };
    let tree = TreePart {
        root,
        witness: Recipe::empty(),
        users: vec![Owner { id: 1000, name: "dev".to_owned() }],
        groups: Vec::new(),
        stats: TreeStats { files_count: 1, directories_count: 1, others_count: 1, bytes: 3, read_files_count: 1, read_bytes: 3 },
        exclude: Vec::new(),
        left_out: Vec::new(),
        left_out_more_count: 0,
    };
    let entry = Entry {
        kind: EntryKind::State { area: "work".to_owned() },
        parents: Vec::new(),
        base: None,
        time_ms: 1_700_000_000_000,
        author: "dev@host".to_owned(),
        message: "first".to_owned(),
        tags: Vec::new(),
        parts: vec![Part::Tree(Box::new(tree))],
        cost: Cost { new_chunks_count: 1, new_bytes: 64, stored_bytes: 320, elapsed_ms: 12 },
        facts: vec![Fact { name: "host.name".to_owned(), value: "host".to_owned() }],
    };
    let (id, bytes) = entry.encode();
    show("entry", &bytes);
    let note = Note { entry: id, time_ms: 1_700_000_001_000, author: "dev@host".to_owned(), text: "good".to_owned() };
    show("note", &encode_record(NOTE_RECORD, &note));
    show("ref", &encode_record(vml_chunk::codec::RecordKind { number: 3, version: 1, name: "ref" }, &id));
    assert_eq!(EntryId::of(&bytes), id);
}
