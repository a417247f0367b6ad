//! The formats of the logbook.

use crate::seal;
use vml_chunk::codec::{decode_record, encode_record};
use vml_core::recipe::Node as RecipeNode;
use vml_core::repository::{CONFIG_RECORD, Config};
use vml_core::tree::Block;
use vml_core::{Entry, EntryId};

/// A node of a long recipe.
pub fn recipe_node(bytes: &[u8]) {
    let Ok(node) = RecipeNode::decode(bytes) else { return };
    assert_eq!(node.encode(), bytes, "a recipe node has one encoding");
    match &node {
        RecipeNode::Leaf(pieces) => assert!(pieces.iter().all(|piece| !piece.is_empty()), "no piece is empty"),
        RecipeNode::Inner(nodes) => assert!(nodes.iter().all(|node| node.len > 0), "no node is empty"),
    }
}

/// A block of a directory's listing.
pub fn listing_block(bytes: &[u8]) {
    let Ok(nodes) = Block::decode(bytes) else { return };
    assert_eq!(Block::encode(&nodes), bytes, "a listing block has one encoding");
    assert!(nodes.is_sorted_by(|a, b| a.name < b.name), "names are in order");
    for node in &nodes {
        node.check().expect("a decoded node was checked");
        let name = &node.name[..];
        assert!(!name.is_empty() && name != b"." && name != b".." && !name.contains(&b'/') && !name.contains(&0), "no name leads away");
        let shown = vml_core::tree::display_path(name);
        assert!(!shown.chars().any(char::is_control), "a name is safe on a terminal");
    }
}

/// The record of an entry.
pub fn entry_record(bytes: &[u8]) {
    for bytes in [bytes.to_vec(), seal::record(bytes)] {
        let Ok(entry) = Entry::decode(&bytes) else { continue };
        let (id, encoded) = entry.encode();
        assert_eq!(encoded, bytes, "an entry has one encoding");
        assert_eq!(id, EntryId::of(&bytes));
        if let Some(tree) = entry.tree() {
            assert!(tree.root.is_dir() && tree.root.name.is_empty(), "a tree has a root");
            tree.witness.check().expect("a decoded recipe was checked");
        }
        for disk in entry.disks() {
            disk.recipe.check().expect("a decoded recipe was checked");
            assert!(!disk.name.contains('/') && !disk.name.starts_with('.'), "a disk's name is a file's");
        }
    }
}

/// The record of a repository's configuration; one that is usable makes a chunker that cuts.
pub fn config_record(bytes: &[u8]) {
    for bytes in [bytes.to_vec(), seal::record(bytes)] {
        let Ok(config) = decode_record::<Config>(CONFIG_RECORD, &bytes) else { continue };
        assert_eq!(encode_record(CONFIG_RECORD, &config), bytes, "a configuration has one encoding");
        if config.check().is_err() {
            continue;
        }
        let chunker = config.chunker.build().expect("a checked configuration has a usable chunker");
        // Longer than the longest chunk would be megabytes an input; a stream that ends earlier must be cut too.
        let data: Vec<u8> = (0..5000_u32).map(|n| n.wrapping_mul(2_654_435_761).to_le_bytes()[3]).collect();
        let mut rest = &data[..];
        while !rest.is_empty() {
            let len = chunker.cut(rest);
            assert!((1..=rest.len()).contains(&len) && len <= chunker.max_len(), "a cut of {len} of {} bytes", rest.len());
            rest = &rest[len..];
        }
    }
}
