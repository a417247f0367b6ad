//! A recipe rebuilds one byte stream: data by chunk id, zero runs, holes.
//!
//! A short recipe stands where it is used. A long one is a tree: its pieces are cut into nodes by content, each node is
//! a chunk, and so on upward, until at most [`INLINE_MAX`] references are left. Two streams that differ in one place
//! share all nodes but those on the way to it, seeking is logarithmic, and memory does not depend on the length.
//!
//! ```text
//! Recipe { len, root } ── Pieces [≤16]
//!                      └─ Nodes depth 1 [≤16] ── leaf: Pieces [64..512]
//!                      └─ Nodes depth 2 [≤16] ── inner: node refs [64..512] ── leaf ...
//! ```

mod compare;
mod cursor;
mod read;
mod recut;
mod write;

pub use compare::differing_ranges;
pub(crate) use cursor::{Cursor, Item};
pub(crate) use read::for_zeros;
pub use read::{GetChunk, RecipeReader, read_stream};
pub(crate) use recut::recut;
pub use write::{ByteStream, PutMeta, RecipeWriter};

use bincode::{Decode, Encode};
use vml_chunk::{ChunkId, Error, Result, codec};

/// Most pieces or node references that stand in the recipe itself.
pub const INLINE_MAX: usize = 16;
/// A node ends at the first piece that says so after this many.
pub(crate) const NODE_MIN: usize = 64;
/// A node ends here whatever the pieces say.
pub(crate) const NODE_MAX: usize = 512;
/// One piece in this many says so.
pub(crate) const NODE_DIVISOR: u16 = 128;
/// Deepest tree; 64^8 pieces are more than a stream can have.
pub(crate) const DEPTH_MAX: u8 = 8;

/// A part of a stream.
#[derive(Debug, Clone, PartialEq, Eq, Encode, Decode)]
pub enum Piece {
    /// The bytes of a chunk.
    Data {
        /// The chunk.
        id: ChunkId,
        /// Its length in bytes.
        len: u32,
    },
    /// Allocated zeros.
    Zero {
        /// Length in bytes.
        len: u64,
    },
    /// A hole: reads as zeros, occupies nothing.
    Hole {
        /// Length in bytes.
        len: u64,
    },
}

impl Piece {
    /// Its length in bytes.
    pub fn len(&self) -> u64 {
        match self {
            Self::Data { len, .. } => u64::from(*len),
            Self::Zero { len } | Self::Hole { len } => *len,
        }
    }

    /// Whether it is empty; a recipe has no such piece.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }
}

/// A node of a long recipe.
#[derive(Debug, Clone, PartialEq, Eq, Encode, Decode)]
pub struct NodeRef {
    /// The chunk that holds the node.
    pub id: ChunkId,
    /// The length of the stream below it, in bytes.
    pub len: u64,
    /// Bytes of the chunk that holds the node.
    pub node_len: u32,
}

/// What a recipe begins with.
#[derive(Debug, Clone, PartialEq, Eq, Encode, Decode)]
pub enum Root {
    /// The whole of a short stream.
    Pieces(Vec<Piece>),
    /// The top of a tree.
    Nodes {
        /// Levels below: 1 where the nodes hold pieces.
        depth: u8,
        /// The topmost nodes.
        nodes: Vec<NodeRef>,
    },
}

impl Root {
    /// How many pieces, or nodes, it holds itself.
    pub fn count(&self) -> usize {
        match self {
            Self::Pieces(pieces) => pieces.len(),
            Self::Nodes { nodes, .. } => nodes.len(),
        }
    }
}

/// The ordered references that rebuild one stream.
#[derive(Debug, Clone, PartialEq, Eq, Encode, Decode)]
pub struct Recipe {
    /// Length of the stream in bytes.
    pub len: u64,
    /// Its parts.
    pub root: Root,
}

impl Recipe {
    /// The recipe of an empty stream.
    pub const fn empty() -> Self {
        Self { len: 0, root: Root::Pieces(Vec::new()) }
    }

    /// Checks that lengths add up and limits hold, as far as the recipe itself tells.
    ///
    /// # Errors
    /// `Corrupt`.
    pub fn check(&self) -> Result<()> {
        let bad = |why: &str| Err(Error::corrupt(format!("a recipe {why}")));
        let (sum, count) = match &self.root {
            Root::Pieces(pieces) => (sum_pieces(pieces), pieces.len()),
            Root::Nodes { depth, nodes } => {
                if *depth == 0 || *depth > DEPTH_MAX || nodes.is_empty() {
                    return bad("has an impossible depth");
                }
                (sum_nodes(nodes), nodes.len())
            }
        };
        if count > INLINE_MAX {
            return bad("holds more than it may");
        }
        if sum != Some(self.len) { bad("does not add up to its length") } else { Ok(()) }
    }
}

/// The payload of a node chunk.
#[derive(Debug, Clone, PartialEq, Eq, Encode, Decode)]
pub enum Node {
    /// The lowest level.
    Leaf(Vec<Piece>),
    /// A level above.
    Inner(Vec<NodeRef>),
}

impl Node {
    /// The bytes of the chunk.
    pub fn encode(&self) -> Vec<u8> {
        codec::encode_payload(self)
    }

    /// Reads a node and checks its limits.
    ///
    /// # Errors
    /// `Corrupt`.
    pub fn decode(bytes: &[u8]) -> Result<Self> {
        let node: Self = codec::decode_payload("recipe node", bytes)?;
        let (sum, count) = match &node {
            Self::Leaf(pieces) => (sum_pieces(pieces), pieces.len()),
            Self::Inner(nodes) => (sum_nodes(nodes), nodes.len()),
        };
        // A node that ends after a run of holes has one piece more.
        if sum.is_none() || count == 0 || count > NODE_MAX + 1 {
            return Err(Error::corrupt("a recipe node is empty, too large or has an empty part"));
        }
        Ok(node)
    }
}

/// Sum of the lengths, or `None` when one is empty or the sum overflows.
pub(crate) fn sum_pieces(pieces: &[Piece]) -> Option<u64> {
    pieces.iter().try_fold(0_u64, |sum, piece| if piece.is_empty() { None } else { sum.checked_add(piece.len()) })
}

pub(crate) fn sum_nodes(nodes: &[NodeRef]) -> Option<u64> {
    nodes.iter().try_fold(0_u64, |sum, node| if node.len == 0 { None } else { sum.checked_add(node.len) })
}
