//! Makes recipes while a stream is read: nodes are put as soon as they are full.

use super::{DEPTH_MAX, INLINE_MAX, NODE_DIVISOR, NODE_MAX, NODE_MIN, Node, NodeRef, Piece, Recipe, Root, sum_nodes, sum_pieces};
use vml_chunk::{ChunkId, ChunkRef, Chunker, Error, Result};

/// Puts one metadata chunk.
pub type PutMeta<'a> = &'a mut dyn FnMut(&[u8]) -> Result<ChunkRef>;

/// Collects the pieces of one stream.
#[derive(Default)]
pub struct RecipeWriter {
    len: u64,
    pieces: Vec<Piece>,
    /// Levels of node references above the pieces, lowest first.
    levels: Vec<Vec<NodeRef>>,
}

impl RecipeWriter {
    /// Appends a piece; an empty one is ignored, and neighbouring holes or zero runs become one.
    ///
    /// # Errors
    /// What `put` says.
    pub fn push(&mut self, piece: Piece, put: PutMeta<'_>) -> Result<()> {
        if piece.is_empty() {
            return Ok(());
        }
        self.len = self.len.checked_add(piece.len()).ok_or_else(|| Error::invalid("a stream cannot be longer than 2^64 bytes"))?;
        match (self.pieces.last_mut(), &piece) {
            (Some(Piece::Hole { len }), Piece::Hole { len: more }) | (Some(Piece::Zero { len }), Piece::Zero { len: more }) => *len += more,
            _ => self.pieces.push(piece),
        }
        // A run is closed by the next data only, so that the node never ends between two runs that would be one.
        if let Some(Piece::Data { id, .. }) = self.pieces.last()
            && ends_node(self.pieces.len(), id)
        {
            self.close_leaf(put)?;
        } else if self.pieces.len() > NODE_MAX {
            let last = self.pieces.pop();
            self.close_leaf(put)?;
            self.pieces.extend(last);
        }
        Ok(())
    }

    /// Appends a chunk.
    ///
    /// # Errors
    /// What `put` says.
    pub fn push_chunk(&mut self, chunk: ChunkRef, put: PutMeta<'_>) -> Result<()> {
        self.push(Piece::Data { id: chunk.id, len: chunk.len }, put)
    }

    /// Whether a node may be taken over here as it is: the last one has just ended.
    pub(crate) fn is_between_nodes(&self) -> bool {
        self.pieces.is_empty()
    }

    /// Appends a node of pieces that another recipe has, where [`is_between_nodes`](Self::is_between_nodes).
    pub(crate) fn push_leaf(&mut self, node: NodeRef, put: PutMeta<'_>) -> Result<()> {
        debug_assert!(self.is_between_nodes());
        self.len = self.len.checked_add(node.len).ok_or_else(|| Error::invalid("a stream cannot be longer than 2^64 bytes"))?;
        self.add_node_ref(0, node, put)
    }

    /// Ends the stream.
    ///
    /// # Errors
    /// What `put` says.
    pub fn finish(mut self, put: PutMeta<'_>) -> Result<Recipe> {
        if self.levels.is_empty() && self.pieces.len() <= INLINE_MAX {
            return Ok(Recipe { len: self.len, root: Root::Pieces(self.pieces) });
        }
        if !self.pieces.is_empty() {
            self.close_leaf(put)?;
        }
        // Close level by level until one is short enough to stand in the recipe.
        let mut depth = 1_u8;
        loop {
            let level = usize::from(depth) - 1;
            if level + 1 == self.levels.len() && self.levels[level].len() <= INLINE_MAX {
                let nodes = std::mem::take(&mut self.levels[level]);
                return Ok(Recipe { len: self.len, root: Root::Nodes { depth, nodes } });
            }
            if depth == DEPTH_MAX {
                return Err(Error::invalid("a stream has more pieces than a recipe can hold"));
            }
            if !self.levels[level].is_empty() {
                self.close_inner(level, put)?;
            }
            depth += 1;
        }
    }

    fn close_leaf(&mut self, put: PutMeta<'_>) -> Result<()> {
        let pieces = std::mem::take(&mut self.pieces);
        let len = sum_pieces(&pieces).expect("the whole stream's length was added up");
        self.add_node(0, &Node::Leaf(pieces), len, put)
    }

    fn close_inner(&mut self, level: usize, put: PutMeta<'_>) -> Result<()> {
        let nodes = std::mem::take(&mut self.levels[level]);
        let len = sum_nodes(&nodes).expect("the whole stream's length was added up");
        self.add_node(level + 1, &Node::Inner(nodes), len, put)
    }

    fn add_node(&mut self, level: usize, node: &Node, len: u64, put: PutMeta<'_>) -> Result<()> {
        let chunk = put(&node.encode())?;
        self.add_node_ref(level, NodeRef { id: chunk.id, len, node_len: chunk.len }, put)
    }

    fn add_node_ref(&mut self, level: usize, node: NodeRef, put: PutMeta<'_>) -> Result<()> {
        let id = node.id;
        if self.levels.len() == level {
            self.levels.push(Vec::new());
        }
        self.levels[level].push(node);
        if ends_node(self.levels[level].len(), &id) { self.close_inner(level, put) } else { Ok(()) }
    }
}

/// Whether the reference `id`, the last of `count`, ends its node: decided by content, so that an insertion moves no
/// other boundary.
fn ends_node(count: usize, id: &ChunkId) -> bool {
    let bytes = id.as_bytes();
    count >= NODE_MAX || count >= NODE_MIN && u16::from_le_bytes([bytes[0], bytes[1]]).is_multiple_of(NODE_DIVISOR)
}

/// Cuts bytes that arrive in small parts into chunks and collects their recipe.
pub struct ByteStream<'c> {
    chunker: &'c dyn Chunker,
    buffer: Vec<u8>,
    recipe: RecipeWriter,
}

impl<'c> ByteStream<'c> {
    /// Begins a stream.
    pub fn new(chunker: &'c dyn Chunker) -> Self {
        Self { chunker, buffer: Vec::new(), recipe: RecipeWriter::default() }
    }

    /// Appends bytes.
    ///
    /// # Errors
    /// What `put` says.
    pub fn push(&mut self, bytes: &[u8], put: PutMeta<'_>) -> Result<()> {
        self.buffer.extend_from_slice(bytes);
        if self.buffer.len() >= 8 * self.chunker.max_len() {
            self.cut(self.chunker.max_len(), put)?;
        }
        Ok(())
    }

    /// Ends the stream.
    ///
    /// # Errors
    /// What `put` says.
    pub fn finish(mut self, put: PutMeta<'_>) -> Result<Recipe> {
        self.cut(1, put)?;
        self.recipe.finish(put)
    }

    /// Cuts chunks while at least `keep` bytes are there.
    fn cut(&mut self, keep: usize, put: PutMeta<'_>) -> Result<()> {
        let mut start = 0;
        while self.buffer.len() - start >= keep {
            let len = self.chunker.cut(&self.buffer[start..]);
            let chunk = put(&self.buffer[start..start + len])?;
            self.recipe.push_chunk(chunk, put)?;
            start += len;
        }
        self.buffer.drain(..start);
        Ok(())
    }
}
