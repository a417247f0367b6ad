//! Small inputs to begin with, each the real encoding of something; `cargo run -p fuzz-checks --example seeds` writes them.

use vml_chunk::codec::encode_record;
use vml_chunk::frame::{FrameBuilder, FrameEncoder, GroupEncoder};
use vml_chunk::index::{SegmentPack, build_segment};
use vml_chunk::pack::{Footer, FooterChunk, FooterFrame};
use vml_chunk::{ChunkId, ChunkerParams, IdKey, PackId, PackKind};
use vml_core::disk::DiskStats;
use vml_core::entry::{BaseRef, Cost, DiskPart, EntryKind, Fact, Owner, Part, TreePart};
use vml_core::recipe::{Node as RecipeNode, NodeRef, Piece, Recipe, Root};
use vml_core::repository::{CONFIG_RECORD, Config, Features};
use vml_core::share::{Head, Need, SHARE_HEAD_RECORD};
use vml_core::tree::{Block, Content, LeftOut, LeftOutReason, Node, NodeKind, Timestamp, TreeStats};
use vml_core::{Entry, EntryId};
use vml_hv::ssh::tar::{Member, MemberData, TarWriter};

/// A name and the bytes.
pub type Seed = (&'static str, Vec<u8>);

fn id(number: u8) -> ChunkId {
    ChunkId::of(&[number])
}

fn footer_of(kind: PackKind, frames: &[&[u32]], first: u8) -> (Footer, u64) {
    let mut footer = Footer { kind, compaction: 0, frames: Vec::new(), chunks: Vec::new() };
    let (mut offset, mut number) = (16, first);
    for lens in frames {
        let plain_len = lens.iter().sum();
        footer.frames.push(FooterFrame {
            offset,
            stored_len: 24 + plain_len / 2,
            plain_len,
            chunk_count: u32::try_from(lens.len()).expect("few"),
        });
        offset += 24 + plain_len / 2;
        for len in *lens {
            footer.chunks.push(FooterChunk { id: id(number), len: *len });
            number += 1;
        }
    }
    (footer, u64::from(offset))
}

/// Footers of an empty pack, a small one and one of metadata.
pub fn pack_footer() -> Vec<Seed> {
    let encode = |(footer, offset): (Footer, u64)| footer.encode(offset);
    vec![
        ("empty", encode(footer_of(PackKind::Data, &[], 0))),
        ("two-frames", encode(footer_of(PackKind::Data, &[&[100, 200], &[0, 70_000, 3]], 0))),
        ("meta", encode(footer_of(PackKind::Meta, &[&[5]], 9))),
    ]
}

/// Segments over nothing, over one chunk, and over two packs with a fan-out.
pub fn index_segment() -> Vec<Seed> {
    let build = |footers: &[(Footer, u64)]| {
        let packs: Vec<SegmentPack<'_>> =
            footers.iter().map(|(footer, offset)| SegmentPack { id: PackId::of(&offset.to_le_bytes()), len: *offset, footer }).collect();
        build_segment(&packs).expect("few rows")
    };
    let many = [1_u32; 40];
    vec![
        ("empty", build(&[])),
        ("one", build(&[footer_of(PackKind::Meta, &[&[5]], 9)])),
        ("fan-out", build(&[footer_of(PackKind::Data, &[&many[..20], &many[20..]], 0), footer_of(PackKind::Meta, &[&[8, 9]], 39)])),
    ]
}

/// Frames between other bytes.
pub fn salvage() -> Vec<Seed> {
    let frames: Vec<Vec<u8>> = frame().into_iter().map(|(_, bytes)| bytes).collect();
    let between = |rest: &[u8]| frames.iter().flat_map(|frame| [rest, frame].concat()).collect();
    vec![("row", between(b"")), ("gaps", between(b"VMLfVMLPACK"))]
}

/// The ends of files of parity.
pub fn parity_file() -> Vec<Seed> {
    let layout = |len| vml_chunk::parity::ParityLayout::new(PackId::of(b"p"), len, 5);
    let file = |len| {
        let layout = layout(len);
        let mut bytes = vec![0; usize::try_from(layout.file_len()).expect("small") - 96];
        bytes.extend_from_slice(&layout.encode());
        bytes
    };
    vec![("empty", file(0)), ("trailer", layout(100).encode().to_vec())]
}

/// Compressed and raw frames, and two of a group.
pub fn frame() -> Vec<Seed> {
    let build = |chunks: &[&[u8]]| {
        let mut builder = FrameBuilder::default();
        chunks.iter().for_each(|chunk| builder.push(ChunkId::of(chunk), chunk));
        builder
    };
    let seal =
        |chunks: &[&[u8]]| FrameEncoder::new(3).and_then(|mut encoder| encoder.seal(build(chunks))).expect("chunks with their ids").bytes;
    let mut group = GroupEncoder::new(3, IdKey::PLAIN).expect("a level of zstd");
    let mut grouped = |chunks: &[&[u8]]| group.seal(build(chunks)).expect("chunks with their ids").bytes;
    vec![
        ("group-first", grouped(&[b"a line of text and a line of text and more of it\n", &[b'b'; 300]])),
        ("group-second", grouped(&[b"and a line of text and more of it, and a line of text\n"])),
        ("zstd", seal(&[&[b'a'; 400], b"a line of text and a line of text\n"])),
        ("raw", seal(&[b"\x01\x9f\x33\xe0short"])),
        ("empty-chunk", seal(&[b"", b"x"])),
    ]
}

fn pieces() -> Vec<Piece> {
    vec![Piece::Data { id: id(1), len: 8192 }, Piece::Zero { len: 300 }, Piece::Hole { len: 1 << 40 }, Piece::Data { id: id(2), len: 7 }]
}

fn recipe() -> Recipe {
    Recipe { len: pieces().iter().map(Piece::len).sum(), root: Root::Pieces(pieces()) }
}

fn deep_recipe() -> Recipe {
    let nodes = vec![NodeRef { id: id(3), len: 1 << 20, node_len: 4000 }, NodeRef { id: id(4), len: 77, node_len: 36 }];
    Recipe { len: (1 << 20) + 77, root: Root::Nodes { depth: 2, nodes } }
}

/// A leaf and a node above leaves.
pub fn recipe_node() -> Vec<Seed> {
    let Root::Nodes { nodes, .. } = deep_recipe().root else { return Vec::new() };
    vec![("leaf", RecipeNode::Leaf(pieces()).encode()), ("inner", RecipeNode::Inner(nodes).encode())]
}

fn node(name: &str, kind: NodeKind) -> Node {
    Node {
        name: name.as_bytes().to_vec(),
        mode: 0o4755,
        uid: 1000,
        gid: 100_000,
        mtime: Timestamp { seconds: 1_700_000_000, nanoseconds: 123_456_789 },
        xattrs: Vec::new(),
        link: None,
        kind,
    }
}

/// Every kind of member; attributes and links; one that comes before 1970.
pub fn listing_block() -> Vec<Seed> {
    let kinds = [
        node("a", NodeKind::File(Content::Inline(b"hello".to_vec()))),
        node("b", NodeKind::File(Content::Recipe(recipe()))),
        node("c", NodeKind::Directory(deep_recipe())),
        node("d", NodeKind::Symlink(b"../a".to_vec())),
        node("e", NodeKind::CharDevice { major: 1, minor: 3 }),
        node("f", NodeKind::BlockDevice { major: 259, minor: 70_000 }),
        node("g", NodeKind::Fifo),
    ];
    let mut linked = node("\u{1b}[31m", NodeKind::File(Content::Inline(Vec::new())));
    linked.xattrs = vec![(b"security.capability".to_vec(), vec![1, 0, 0, 2]), (b"user.x".to_vec(), Vec::new())];
    linked.link = Some(b"usr/bin/first".to_vec());
    linked.mtime = Timestamp { seconds: -1, nanoseconds: 999_999_999 };
    vec![("kinds", Block::encode(&kinds)), ("attributes", Block::encode(&[linked]))]
}

/// A base and a state that is relative to it.
pub fn entry_record() -> Vec<Seed> {
    let base = Entry {
        kind: EntryKind::Base { name: "debian".to_owned(), version: "12.5".to_owned() },
        parents: Vec::new(),
        base: None,
        time_ms: 1_700_000_000_000,
        author: "me@host".to_owned(),
        message: String::new(),
        tags: Vec::new(),
        parts: Vec::new(),
        cost: Cost::default(),
        facts: Vec::new(),
    };
    let tree = TreePart {
        root: node("", NodeKind::Directory(recipe())),
        witness: deep_recipe(),
        users: vec![Owner { id: 0, name: "root".to_owned() }],
        groups: vec![Owner { id: 100_000, name: "dev".to_owned() }],
        stats: TreeStats { files_count: 3, bytes: 1 << 33, ..TreeStats::default() },
        exclude: vec!["*.o".to_owned()],
        left_out: vec![LeftOut { path: b"run/socket".to_vec(), members_count: 0, reason: LeftOutReason::Socket }],
        left_out_more_count: 1,
    };
    let state = Entry {
        kind: EntryKind::State { area: "work".to_owned() },
        parents: vec![EntryId::of(b"parent")],
        base: Some(BaseRef { name: "debian".to_owned(), version: "12.5".to_owned(), entry: EntryId::of(b"base") }),
        time_ms: -1,
        message: "done\nfor today".to_owned(),
        tags: vec!["v1.0".to_owned()],
        parts: vec![Part::Tree(Box::new(tree))],
        cost: Cost { new_chunks_count: 12, new_bytes: 70_000, stored_bytes: 30_000, elapsed_ms: 250 },
        facts: vec![Fact { name: "guest.os".to_owned(), value: "debian 12".to_owned() }],
        ..base.clone()
    };
    vec![("base", base.encode().1), ("state", state.encode().1)]
}

/// Configurations with both chunkers; every setting is written out, since a seed must not change with a default.
pub fn config_record() -> Vec<Seed> {
    let fastcdc = Config {
        id: [7; 16],
        created_ms: 1_700_000_000_000,
        chunker: ChunkerParams::FastCdc2020 { min_len: 2 << 10, avg_len: 8 << 10, max_len: 64 << 10, normalization: 1, seed: 0 },
        frame_len: 1 << 20,
        level: 3,
        inline_max: 512,
        features: Features::default(),
    };
    let mut fixed = fastcdc.clone();
    fixed.chunker = ChunkerParams::Fixed { len: 4096 };
    fixed.features.write = vec!["unheard-of".to_owned()];
    vec![("fastcdc", encode_record(CONFIG_RECORD, &fastcdc)), ("fixed", encode_record(CONFIG_RECORD, &fixed))]
}

/// Nothing, damage to single fields, and the beginnings of partition tables.
pub fn volume() -> Vec<Seed> {
    let mut mbr = vec![0; 2048];
    mbr[446 + 4] = 0x83;
    mbr[446 + 8..446 + 16].copy_from_slice(&[1, 0, 0, 0, 2, 0, 0, 0]);
    mbr[462 + 4] = 5;
    mbr[462 + 8..462 + 16].copy_from_slice(&[3, 0, 0, 0, 1, 0, 0, 0]);
    mbr[510..512].copy_from_slice(&[0x55, 0xAA]);
    let mut gpt = vec![0; 2048];
    gpt[512..520].copy_from_slice(b"EFI PART");
    gpt[524] = 92;
    vec![
        ("whole", Vec::new()),
        ("log-block-size", vec![0x18, 0x04, 0, 1, 2]),
        ("inode-size", vec![0x58, 0x04, 0, 2, 0, 2]),
        ("features", vec![0x60, 0x04, 0, 4, 0x46, 0x82, 0, 0]),
        ("mbr", mbr),
        ("gpt", gpt),
    ]
}

/// Headers of version 2 and 3, with and without a backing file.
pub fn qcow2_header() -> Vec<Seed> {
    let header = |version: u32, backing: &[u8]| {
        let mut bytes = b"QFI\xfb".to_vec();
        bytes.extend(version.to_be_bytes());
        bytes.extend((if backing.is_empty() { 0_u64 } else { 128 }).to_be_bytes());
        bytes.extend(u32::try_from(backing.len()).unwrap_or(0).to_be_bytes());
        bytes.extend(16_u32.to_be_bytes());
        bytes.extend((1_u64 << 30).to_be_bytes());
        bytes.extend(0_u32.to_be_bytes());
        bytes.extend(2_u32.to_be_bytes());
        bytes.extend((3_u64 << 16).to_be_bytes());
        bytes.extend((1_u64 << 16).to_be_bytes());
        bytes.extend(1_u32.to_be_bytes());
        bytes.extend([0; 12]);
        if version == 3 {
            bytes.extend([0; 24]);
            bytes.extend(4_u32.to_be_bytes());
            bytes.extend(104_u32.to_be_bytes());
            bytes.extend([0xE2, 0x79, 0x2A, 0xCA, 0, 0, 0, 3]);
            bytes.extend(b"raw\0\0\0\0\0");
        }
        bytes.resize(128, 0);
        bytes.extend(backing);
        bytes
    };
    vec![("version-2", header(2, b"")), ("version-3", header(3, b"")), ("backing", header(3, b"base.raw"))]
}

/// A descriptor of several files, and an image with one grain in one file.
pub fn vmdk() -> Vec<Seed> {
    let head = "# Disk DescriptorFile\nversion=1\nCID=13d79b56\nparentCID=ffffffff\n";
    let several =
        format!("{head}createType=\"custom\"\nRW 4 FLAT \"a.vmdk\" 0\nRW 8 SPARSE \"b.vmdk\"\nRW 2 ZERO\nddb.adapterType = \"ide\"\n");
    let inside = format!("{head}createType=\"monolithicSparse\"\nRW 24 SPARSE \"a.vmdk\"\n");
    // By sectors: header, descriptor, directory of tables, a table of eight grains, a grain of eight sectors.
    let mut file = vec![0; 512 * 12];
    file[..4].copy_from_slice(b"KDMV");
    let fields: [(usize, &[u8]); 10] = [
        (4, &1_u32.to_le_bytes()),
        (8, &3_u32.to_le_bytes()),
        (12, &24_u64.to_le_bytes()),
        (20, &8_u64.to_le_bytes()),
        (28, &1_u64.to_le_bytes()),
        (36, &1_u64.to_le_bytes()),
        (44, &8_u32.to_le_bytes()),
        (56, &2_u64.to_le_bytes()),
        (512 * 2, &3_u32.to_le_bytes()),
        (512 * 3 + 4, &4_u32.to_le_bytes()),
    ];
    for (at, bytes) in fields {
        file[at..at + bytes.len()].copy_from_slice(bytes);
    }
    file[512..512 + inside.len()].copy_from_slice(inside.as_bytes());
    file[512 * 4..].fill(7);
    vec![("descriptor", several.into_bytes()), ("one-grain", file)]
}

/// What servers say: one that sends chunks, with data, holes, an error and extents, and one that knows little.
pub fn nbd_server() -> Vec<Seed> {
    fn option(option: u32, kind: u32, data: &[u8]) -> Vec<u8> {
        let len = u32::try_from(data.len()).unwrap_or(0);
        let head = [option.to_be_bytes(), kind.to_be_bytes(), len.to_be_bytes()].concat();
        [&0x0003_E889_0455_65A9_u64.to_be_bytes(), head.as_slice(), data].concat()
    }
    fn chunk(cookie: u64, flags: u16, kind: u16, data: &[u8]) -> Vec<u8> {
        let len = u32::try_from(data.len()).unwrap_or(0);
        let head = [&0x668E_33EF_u32.to_be_bytes(), &flags.to_be_bytes()[..], &kind.to_be_bytes(), &cookie.to_be_bytes()].concat();
        [head.as_slice(), &len.to_be_bytes(), data].concat()
    }
    let greeting = |flags: u8| [b"NBDMAGICIHAVEOPT".as_slice(), &[0, flags]].concat();
    let export = option(7, 3, &[[0, 0].as_slice(), &(1_u64 << 20).to_be_bytes(), &[1, 3]].concat());
    let blocks = option(7, 3, &[0, 3, 0, 0, 0, 1, 0, 0, 16, 0, 2, 0, 0, 0]);
    let words = |words: &[u32]| words.iter().flat_map(|word| word.to_be_bytes()).collect::<Vec<u8>>();
    let chunks = [
        greeting(3),
        option(8, 1, &[]),
        option(10, 4, b"\0\0\0\x01base:allocation"),
        option(10, 4, b"\0\0\0\x02qemu:allocation-depth"),
        option(10, 1, &[]),
        export.clone(),
        blocks,
        option(7, 1, &[]),
        chunk(1, 0, 2, &words(&[0, 0, 508])),
        chunk(1, 1, 1, &words(&[0, 508, 0x0102_0304])),
        chunk(2, 0, 5, &words(&[1, 256, 0, 1 << 20, 3])),
        chunk(2, 1, 5, &words(&[2, 128, 1, 384, 0])),
        chunk(3, 1, 1 << 15 | 1, b"\0\0\0\x05\0\x03bad"),
        chunk(4, 1, 1 << 15 | 2, b"\0\0\0\x16\0\0\0\0\0\0\0\0\x06\0"),
    ];
    let mut simple = [greeting(1), option(8, 1 << 31 | 1, b"unheard of"), export, option(7, 1, &[])].concat();
    simple.extend(words(&[0x6744_6698, 0, 0, 1]));
    simple.extend([7; 512]);
    simple.extend(words(&[0x6744_6698, 95, 0, 2]));
    simple.extend(words(&[0x6744_6698, 5, 0, 3]));
    vec![("chunks", chunks.concat()), ("simple", simple)]
}

/// Streams of a file with an attribute, of a sparse file, and of what has no bytes.
pub fn tar_stream() -> Vec<Seed> {
    let mtime = Timestamp { seconds: 1_700_000_000, nanoseconds: 5 };
    let write = |members: &[(MemberData<'_>, &[u8])]| {
        let xattrs = [(b"user.a=".to_vec(), b"b".to_vec())];
        let mut tar = TarWriter::new(Vec::new());
        for (data, bytes) in members {
            let member = Member { path: b"./a", data: data.clone(), mode: 0o644, uid: 1, gid: 2, mtime, xattrs: &xattrs };
            tar.member(&member).and_then(|()| tar.data(bytes)).expect("memory takes everything");
        }
        tar.finish().expect("memory takes everything")
    };
    let runs = [512..515, 600..604];
    vec![
        ("file", write(&[(MemberData::File { size: 3, runs: None }, b"abc")])),
        ("sparse", write(&[(MemberData::File { size: 9000, runs: Some(&runs) }, b"abcdefg")])),
        ("links", write(&[(MemberData::Symlink(b"b"), b""), (MemberData::HardLink(b"./b"), b"")])),
        ("device", write(&[(MemberData::Device { char: true, major: 1, minor: 3 }, b"")])),
    ]
}

/// A listing with its header and its end, and one that is cut short.
pub fn ssh_listing() -> Vec<Seed> {
    let whole = b"vml-listing 1\0find (GNU findutils) 4.9.0\0tar (GNU tar) 1.34\x001700000000.5\0\
        d 755 0 0 4096 2 3 65024 1700000000.0000000000 1700000000.0000000000\0.\0\0\
        l 777 0 5 3 42 1 65024 -1.5000000000 1700000000.1234567890\0./a\0b\0vml-missing\0./opt\0vml-end\x000\0";
    vec![("whole", whole.to_vec()), ("short", whole[..120].to_vec())]
}

/// Sections in a file, with a table and an end that fit them.
fn share_of(parts: &[(u8, Vec<u8>)]) -> Vec<u8> {
    let mut bytes = b"VMLSHARE\x01\0\0\0\0\0\0\0".to_vec();
    for (kind, payload) in parts.iter().chain([&(6, Vec::new())]) {
        let len = u32::try_from(payload.len()).expect("a few bytes");
        bytes.extend([b"VMLs", &[*kind, 0, 0, 0][..], &len.to_le_bytes(), &[0; 36], payload].concat());
    }
    bytes.extend([&b"VMLSEND\0"[..], &[0; 24]].concat());
    crate::seal::share(&bytes)
}

/// A catalogue with one base.
pub fn catalogue() -> Vec<Seed> {
    let text = "version = 1\n[[base]]\nname = \"a\"\nversion = \"1\"\nkind = \"disk\"\nformat = \"raw\"\ncompression = \"zst\"\nurls = [\"http://h/x\"]\nsize = 9\n\
        unpacked_size = 99\nsha256 = \"0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef\"\nmachine = { cpus = 2 }\n";
    vec![("one", text.as_bytes().to_vec())]
}

/// An entry with a directory and a disk, all in the file; and one that needs a base, which is named only.
pub fn share_file() -> Vec<Seed> {
    let frame = |bytes: &[u8]| {
        let mut frame = FrameBuilder::default();
        frame.push(ChunkId::of(bytes), bytes);
        FrameEncoder::new(1).and_then(|mut encoder| encoder.seal(frame)).expect("a small frame").bytes
    };
    let stream = |bytes: &[u8]| {
        let len = u32::try_from(bytes.len()).expect("a few bytes");
        Recipe { len: u64::from(len), root: Root::Pieces(vec![Piece::Data { id: ChunkId::of(bytes), len }]) }
    };
    let block = Block::encode(&[node("a", NodeKind::File(Content::Inline(b"hello".to_vec())))]);
    let content: Vec<u8> = (0..16).collect();
    let tree = TreePart {
        root: node("", NodeKind::Directory(stream(&block))),
        witness: Recipe::empty(),
        users: Vec::new(),
        groups: Vec::new(),
        stats: TreeStats::default(),
        exclude: Vec::new(),
        left_out: Vec::new(),
        left_out_more_count: 0,
    };
    let disk = DiskPart {
        name: "system".to_owned(),
        format: "raw".to_owned(),
        recipe: stream(&content),
        stats: DiskStats::default(),
        layers: Vec::new(),
        volumes: Vec::new(),
    };
    let entry = |kind, base, parts| Entry {
        kind,
        parents: Vec::new(),
        base,
        time_ms: 0,
        author: String::new(),
        message: String::new(),
        tags: Vec::new(),
        parts,
        cost: Cost::default(),
        facts: Vec::new(),
    };
    let base_kind = || EntryKind::Base { name: "debian".to_owned(), version: "12".to_owned() };
    let state_kind = || EntryKind::State { area: "work".to_owned() };
    let (base, base_bytes) = entry(base_kind(), None, Vec::new()).encode();
    let base_ref = BaseRef { name: "debian".to_owned(), version: "12".to_owned(), entry: base };
    let (whole, whole_bytes) = entry(state_kind(), None, vec![Part::Tree(Box::new(tree)), Part::Disk(Box::new(disk))]).encode();
    let (thin, thin_bytes) = entry(state_kind(), Some(base_ref), Vec::new()).encode();
    let head = |entry: EntryId, needs: Vec<Need>| {
        let head = Head {
            entries: vec![entry],
            needs,
            lineage: Vec::new(),
            author: "me".to_owned(),
            time_ms: 0,
            signer: None,
            chunker: ChunkerParams::default(),
            inline_max: 512,
        };
        encode_record(SHARE_HEAD_RECORD, &head)
    };
    let need = Need { kind: base_kind(), entry: base, time_ms: 0 };
    vec![
        ("whole", share_of(&[(1, head(whole, Vec::new())), (2, whole_bytes), (4, frame(&block)), (5, frame(&content))])),
        ("thin", share_of(&[(1, head(thin, vec![need])), (2, thin_bytes), (3, base_bytes)])),
    ]
}

#[cfg(test)]
mod tests {
    use super::*;
    use vml_core::share::{ReceiveOptions, receive};
    use vml_core::{Config, MemoryBackend, NoMonitor, Repository, RepositoryOptions};

    /// Damage is worth trying only to what is understood while it is whole.
    #[test]
    fn the_share_files_are_taken() {
        for (name, bytes) in share_file() {
            let backend = std::sync::Arc::new(MemoryBackend::new());
            let repository = Repository::init(backend, Config::new([7; 16], 0), RepositoryOptions::default()).expect("memory");
            let options = ReceiveOptions { trusted: &|_| None, require_signed: false, time_ms: 0 };
            let received = receive(&repository, &mut bytes.as_slice(), &options, &NoMonitor).expect(name);
            assert_eq!(received.entries.len(), 1);
        }
    }
}
