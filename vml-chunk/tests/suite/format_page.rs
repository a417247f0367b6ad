//! The examples in docs/format.md are what the decoders read and the encoders write.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::Arc;
use vml_chunk::codec::{RecordKind, decode_payload, decode_record, encode_payload, encode_record};
use vml_chunk::frame::{FrameBuilder, FrameDecoder, FrameEncoder};
use vml_chunk::index::{Segment, SegmentPack, build_segment};
use vml_chunk::pack::{Footer, PackWriter, Trailer, verify_pack};
use vml_chunk::{Backend, ChunkId, ChunkerParams, MemoryBackend, PackId, PackKind};

fn page() -> String {
    std::fs::read_to_string(PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../docs/format.md")).unwrap()
}

/// The bytes of a block: pairs of digits, and a remark after `#`.
fn bytes_of(block: &[&str]) -> Vec<u8> {
    let digits = block.iter().flat_map(|line| line.split('#').next().unwrap().split_whitespace());
    digits.map(|pair| u8::from_str_radix(pair, 16).unwrap_or_else(|_| panic!("{pair:?} is not a byte"))).collect()
}

/// Every block that is marked `hex` and a word of this crate, by that word; blocks with other words are others' to test.
fn examples(page: &str) -> BTreeMap<&str, Vec<Vec<u8>>> {
    let mut examples: BTreeMap<&str, Vec<Vec<u8>>> = BTreeMap::new();
    let mut open: Option<(&str, Vec<&str>)> = None;
    for line in page.lines() {
        match (&mut open, line.strip_prefix("```")) {
            (None, Some(info)) => open = Some((info.strip_prefix("hex ").unwrap_or(""), Vec::new())),
            (Some(_), Some(_)) => {
                let (word, block) = open.take().unwrap();
                if ["record", "payload", "frame", "pack", "segment", "keyring", "sealed"].contains(&word) {
                    examples.entry(word).or_default().push(bytes_of(&block));
                }
            }
            (Some((_, block)), None) => block.push(line),
            (None, None) => {}
        }
    }
    assert!(open.is_none(), "a block is not closed");
    examples
}

fn example(word: &str) -> Vec<u8> {
    examples(&page()).remove(word).unwrap_or_else(|| panic!("docs/format.md has no example of a {word}")).remove(0)
}

/// The chunks of a frame, as a builder that would make it again.
fn rebuilt(frame: &[u8]) -> (FrameBuilder, Vec<Vec<u8>>) {
    let mut plain = Vec::new();
    let header = FrameDecoder::default().decode(frame, &mut plain).unwrap();
    let (mut builder, mut chunks) = (FrameBuilder::default(), Vec::new());
    let mut rest = &plain[..];
    for len in header.chunk_lens {
        let (chunk, tail) = rest.split_at(len as usize);
        builder.push(ChunkId::of(chunk), chunk);
        chunks.push(chunk.to_vec());
        rest = tail;
    }
    (builder, chunks)
}

fn footer_of(pack: &[u8]) -> Footer {
    let trailer = Trailer::decode(&pack[pack.len() - 64..], pack.len() as u64).unwrap();
    Footer::decode(&pack[usize::try_from(trailer.footer_offset).unwrap()..], pack.len() as u64).unwrap()
}

#[test]
fn the_record_is_what_it_says() {
    let kind = RecordKind { number: 65535, version: 1, name: "example" };
    let bytes = example("record");
    let value: (u32, String) = decode_record(kind, &bytes).unwrap();
    assert_eq!(value, (300, "abc".to_owned()));
    assert_eq!(encode_record(kind, &value), bytes);
}

#[test]
fn the_chunkers_parameters_are_what_they_say() {
    let bytes = example("payload");
    let params: ChunkerParams = decode_payload("chunker", &bytes).unwrap();
    assert_eq!(params, ChunkerParams::default());
    assert_eq!(encode_payload(&params), bytes);
}

#[test]
fn the_frame_is_what_it_says() {
    let bytes = example("frame");
    let (builder, chunks) = rebuilt(&bytes);
    assert_eq!(chunks, [b"hello ".to_vec(), b"world".to_vec()]);
    assert_eq!(FrameEncoder::new(3).unwrap().seal(builder).unwrap().bytes, bytes);
}

#[test]
fn the_pack_is_what_it_says() {
    let bytes = example("pack");
    let id = PackId::of(&bytes);
    assert!(page().contains(&format!("named `{id}`")));
    let footer = footer_of(&bytes);
    assert_eq!((footer.kind, footer.frames.len(), footer.chunks.len()), (PackKind::Data, 1, 2));
    assert_eq!(footer.encode(57), bytes[57..]);
    assert_eq!(bytes[16..57], example("frame"));
    let files = MemoryBackend::new();
    let mut pack = PackWriter::create(&files, PackKind::Data).unwrap();
    pack.append(&FrameEncoder::new(3).unwrap().seal(rebuilt(&bytes[16..57]).0).unwrap()).unwrap();
    assert_eq!(pack.finish(&files).unwrap().id, id);
    assert_eq!(files.read(&PackKind::Data.key(&id), 1000).unwrap(), bytes);
    verify_pack(&files, PackKind::Data, &id, |_, error| panic!("{error}")).unwrap();
}

#[test]
fn the_segment_is_what_it_says() {
    let bytes = example("segment");
    assert!(page().contains(&format!("named `{}`", PackId::of(&bytes))));
    let segment = Segment::from_data(&bytes[..]).unwrap();
    segment.verify().unwrap();
    let (_, world) = segment.find(&ChunkId::of(b"world")).unwrap();
    assert_eq!((world.frame, world.offset, world.len), (0, 6, 5));
    let pack = example("pack");
    let rows = [SegmentPack { id: PackId::of(&pack), len: pack.len() as u64, footer: &footer_of(&pack) }];
    assert_eq!(build_segment(&rows).unwrap(), bytes);
}

#[test]
fn the_keyring_and_the_sealed_file_are_what_they_say() {
    use vml_chunk::seal::SLOTS_KEY;
    let (keyring, sealed) = (example("keyring"), example("sealed"));
    let again: Arc<dyn Backend> = Arc::new(MemoryBackend::new());
    vml_testkit::sealed::seal(Arc::clone(&again)).unwrap().put("policy", b"hello").unwrap();
    assert_eq!(vml_chunk::id::hex(&again.read(SLOTS_KEY, 1 << 20).unwrap()), vml_chunk::id::hex(&keyring));
    assert_eq!(vml_chunk::id::hex(&again.read("policy", 1000).unwrap()), vml_chunk::id::hex(&sealed));
    let files: Arc<dyn Backend> = Arc::new(MemoryBackend::new());
    files.put(SLOTS_KEY, &keyring).unwrap();
    files.put("policy", &sealed).unwrap();
    assert_eq!(vml_testkit::sealed::open(Arc::clone(&files)).unwrap().read("policy", 100).unwrap(), b"hello");
}

#[test]
fn the_numbers_on_the_page_are_those_of_the_code() {
    use vml_chunk::format::{CHUNK_MAX_LEN, FRAME_MAX_CHUNKS, FRAME_MAX_STORED_LEN};
    let page = page();
    for number in [CHUNK_MAX_LEN, FRAME_MAX_CHUNKS, FRAME_MAX_STORED_LEN] {
        let digits = number.to_string();
        let mut spaced = String::new();
        for (at, digit) in digits.char_indices() {
            if at > 0 && (digits.len() - at).is_multiple_of(3) {
                spaced.push(' ');
            }
            spaced.push(digit);
        }
        assert!(page.contains(&spaced), "{spaced} is not on the page");
    }
}
