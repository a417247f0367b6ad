//! What the other end of a remote says: messages, blocks and parcels of frames.

use crate::seeds::Seed;
use vml_chunk::{ChunkId, ChunkerParams, PackId, PackKind};
use vml_core::EntryId;
use vml_core::refs::RefKind;
use vml_core::remote::wire::{
    BlockReader, Message, NEEDS_MAX_LEN, decode_message, decode_parcel, encode_message, encode_parcel, push_block,
};
use vml_core::remote::{Commit, Committed, FrameAt, HistoryItem, Need, Needs, NoteId, PARCEL_MAX, RemoteInfo, RemoteRef, Stowed};

/// The first byte says as what the others are read.
pub fn remote_wire(bytes: &[u8]) {
    let Some((kind, bytes)) = bytes.split_first() else { return };
    match kind {
        0 => parcel(bytes),
        1 => blocks(bytes),
        2 => message::<RemoteInfo>(bytes),
        3 => message::<Vec<RemoteRef>>(bytes),
        4 => message::<Vec<HistoryItem>>(bytes),
        5 => message::<Vec<Vec<u8>>>(bytes),
        6 => message::<Vec<NoteId>>(bytes),
        7 => message::<Needs>(bytes),
        8 => message::<(Vec<EntryId>, Vec<EntryId>)>(bytes),
        9 => message::<Vec<FrameAt>>(bytes),
        10 => message::<Commit>(bytes),
        11 => message::<Committed>(bytes),
        12 => message::<Vec<bool>>(bytes),
        _ => message::<Stowed>(bytes),
    }
}

/// What is understood has one encoding.
fn message<T: Message>(bytes: &[u8]) {
    if let Ok(understood) = decode_message::<T>("message", bytes) {
        assert!(encode_message(&understood) == bytes, "a message that is written otherwise");
    }
}

fn parcel(bytes: &[u8]) {
    if let Ok(parcel) = decode_parcel(bytes) {
        assert!(parcel.iter().map(|(_, frame)| frame.len()).sum::<usize>() <= PARCEL_MAX, "more than a call may have");
        let written = encode_parcel(&parcel);
        assert!(bytes.starts_with(&written), "a parcel that is written otherwise");
    }
}

fn blocks(bytes: &[u8]) {
    let mut reader = BlockReader::new(bytes, NEEDS_MAX_LEN);
    let mut written = Vec::new();
    while let Ok(Some(block)) = reader.next_block() {
        assert!(!block.is_empty() && block.len() <= NEEDS_MAX_LEN, "an impossible block");
        push_block(&mut written, &block);
    }
    assert!(bytes.starts_with(&written), "blocks that are written otherwise");
}

/// One of each.
pub fn remote_wire_seeds() -> Vec<Seed> {
    let seed = |kind: u8, bytes: Vec<u8>| [vec![kind], bytes].concat();
    let entry = |number: u8| EntryId::of(&[number]);
    let frame = FrameAt { kind: PackKind::Meta, pack: PackId::of(b"pack"), offset: 16, stored_len: 300, plain_len: 1000, alone: true };
    let need = Need { id: ChunkId::from_bytes([5; 32]), len: 1000, frame: 0 };
    let info = RemoteInfo { id: [1; 16], chunker: ChunkerParams::default(), frame_len: 4 << 20, level: 3, inline_max: 512, ids: [0; 16] };
    let commit = Commit {
        entries: vec![vec![1, 2, 3]],
        lineage: vec![entry(1)],
        forgotten: vec![(entry(2), vec![entry(3)])],
        notes: vec![vec![4]],
        tags: vec![("good".to_owned(), entry(1))],
    };
    let mut two_blocks = Vec::new();
    push_block(&mut two_blocks, b"first");
    push_block(&mut two_blocks, b"second");
    two_blocks.extend_from_slice(&[0; 4]);
    vec![
        ("parcel", seed(0, encode_parcel(&vec![(PackKind::Data, vec![7; 20]), (PackKind::Meta, vec![8; 3])]))),
        ("blocks", seed(1, two_blocks)),
        ("info", seed(2, encode_message(&info))),
        ("refs", seed(3, encode_message(&vec![RemoteRef { kind: RefKind::Base, name: "debian@12".to_owned(), entry: entry(1) }]))),
        ("history", seed(4, encode_message(&vec![HistoryItem { id: entry(1), forgotten: Some(vec![entry(2)]) }]))),
        ("needs", seed(7, encode_message(&Needs { frames: vec![frame], chunks: vec![need] }))),
        ("commit", seed(10, encode_message(&commit))),
    ]
}
