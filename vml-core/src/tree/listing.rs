//! Listings: the nodes of one directory, in blocks that are chunks.
//!
//! A block ends after a name that says so, so a changed file rewrites one block of a large directory, and an added name
//! moves no other boundary. Blocks are put while the directory is read, so memory does not depend on its size.

use super::node::Node;
use crate::recipe::{GetChunk, Piece, PutMeta, Recipe, RecipeReader, RecipeWriter};
use vml_chunk::{Error, Result, codec};

/// A block does not end by a name before it has this many bytes.
const BLOCK_MIN_LEN: usize = 8 << 10;
/// A block ends when it has this many bytes.
const BLOCK_MAX_LEN: usize = 128 << 10;
/// One name in this many ends its block.
const NAME_DIVISOR: u32 = 64;

/// Nodes of one directory that stand in one chunk: sorted, not empty.
pub struct Block;

impl Block {
    /// The bytes of a block: the nodes' own encodings one after the other.
    pub fn encode(nodes: &[Node]) -> Vec<u8> {
        nodes.iter().flat_map(codec::encode_payload).collect()
    }

    /// Reads a block; its nodes are checked and in order.
    ///
    /// # Errors
    /// `Corrupt`.
    pub fn decode(bytes: &[u8]) -> Result<Vec<Node>> {
        let config = bincode::config::standard().with_limit::<{ codec::DECODE_LIMIT }>();
        let mut nodes: Vec<Node> = Vec::new();
        let mut rest = bytes;
        while !rest.is_empty() {
            let (node, used): (Node, usize) =
                bincode::decode_from_slice(rest, config).map_err(|error| Error::corrupt("a listing does not decode").because(error))?;
            node.check()?;
            if nodes.last().is_some_and(|last| last.name >= node.name) {
                return Err(Error::corrupt("a listing's names are not in order"));
            }
            nodes.push(node);
            rest = &rest[used..];
        }
        if nodes.is_empty() || Self::encode(&nodes) != bytes {
            return Err(Error::corrupt("a listing is not in its one canonical encoding"));
        }
        Ok(nodes)
    }
}

/// Collects the nodes of one directory in the order of their names.
#[derive(Default)]
pub struct ListingWriter {
    block: Vec<u8>,
    recipe: RecipeWriter,
}

impl ListingWriter {
    /// Appends a node whose name follows all before.
    ///
    /// # Errors
    /// What `put` says.
    pub fn push(&mut self, node: &Node, put: PutMeta<'_>) -> Result<()> {
        self.block.extend_from_slice(&codec::encode_payload(node));
        let len = self.block.len();
        if len >= BLOCK_MAX_LEN || len >= BLOCK_MIN_LEN && name_ends_block(&node.name) {
            self.close(put)?;
        }
        Ok(())
    }

    /// Ends the directory.
    ///
    /// # Errors
    /// What `put` says.
    pub fn finish(mut self, put: PutMeta<'_>) -> Result<Recipe> {
        if !self.block.is_empty() {
            self.close(put)?;
        }
        self.recipe.finish(put)
    }

    fn close(&mut self, put: PutMeta<'_>) -> Result<()> {
        let chunk = put(&self.block)?;
        self.block.clear();
        self.recipe.push_chunk(chunk, put)
    }
}

fn name_ends_block(name: &[u8]) -> bool {
    let hash = blake3::hash(name);
    let head = hash.as_bytes();
    u32::from_le_bytes([head[0], head[1], head[2], head[3]]).is_multiple_of(NAME_DIVISOR)
}

/// Iterates over the nodes of one directory; a block at a time is in memory.
pub struct ListingReader<'a> {
    store: &'a dyn GetChunk,
    blocks: RecipeReader<'a>,
    nodes: std::vec::IntoIter<Node>,
    last: Vec<u8>,
}

impl<'a> ListingReader<'a> {
    /// Begins with the first name.
    pub fn new(store: &'a dyn GetChunk, listing: &Recipe) -> Self {
        Self { store, blocks: RecipeReader::new(store, listing), nodes: Vec::new().into_iter(), last: Vec::new() }
    }

    fn next_block(&mut self) -> Result<Option<Vec<Node>>> {
        let Some(piece) = self.blocks.next().transpose()? else { return Ok(None) };
        let Piece::Data { id, len } = piece else { return Err(Error::corrupt("a listing has a hole")) };
        let chunk = self.store.get_chunk(&id)?;
        if chunk.len() != len as usize && !self.store.is_made(&id) {
            return Err(Error::corrupt(format!("listing block {} has {} bytes where its recipe says {len}", id.short(), chunk.len())));
        }
        let nodes = Block::decode(&chunk).map_err(|error| error.context(format!("cannot read listing block {}", id.short())))?;
        // Blocks are in order inside; across them the order must hold too.
        if nodes.first().is_some_and(|first| !self.last.is_empty() && first.name <= self.last) {
            return Err(Error::corrupt("a listing's names are not in order"));
        }
        self.last = nodes.last().map(|node| node.name.clone()).unwrap_or_default();
        Ok(Some(nodes))
    }
}

impl Iterator for ListingReader<'_> {
    type Item = Result<Node>;

    fn next(&mut self) -> Option<Result<Node>> {
        loop {
            if let Some(node) = self.nodes.next() {
                return Some(Ok(node));
            }
            match self.next_block() {
                Ok(Some(nodes)) => self.nodes = nodes.into_iter(),
                Ok(None) => return None,
                Err(error) => return Some(Err(error)),
            }
        }
    }
}
