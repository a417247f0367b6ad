//! Walks the pieces of a recipe in order, fetching nodes as it goes.

use super::{Node, NodeRef, Piece, Recipe, Root, sum_nodes, sum_pieces};
use vml_chunk::{Chunk, ChunkId, ChunkStore, Error, Result};

/// Gets chunks: a store, or a test's map.
pub trait GetChunk {
    /// Gets a chunk whose bytes match its id.
    ///
    /// # Errors
    /// As [`ChunkStore::get`].
    fn get_chunk(&self, id: &ChunkId) -> Result<Chunk>;
}

impl GetChunk for ChunkStore {
    fn get_chunk(&self, id: &ChunkId) -> Result<Chunk> {
        self.get(id)
    }
}

/// Iterates over the pieces of a recipe. After an error it ends.
pub struct RecipeReader<'a> {
    store: &'a dyn GetChunk,
    /// Nodes still to visit on each level, topmost first, each list reversed.
    levels: Vec<Vec<NodeRef>>,
    pieces: std::vec::IntoIter<Piece>,
    depth: usize,
    failed: Option<Error>,
}

impl<'a> RecipeReader<'a> {
    /// Begins at the start of the stream.
    pub fn new(store: &'a dyn GetChunk, recipe: &Recipe) -> Self {
        let mut reader = Self { store, levels: Vec::new(), pieces: Vec::new().into_iter(), depth: 0, failed: recipe.check().err() };
        match &recipe.root {
            Root::Pieces(pieces) => reader.pieces = pieces.clone().into_iter(),
            Root::Nodes { depth, nodes } => {
                reader.depth = usize::from(*depth);
                reader.levels.push(nodes.iter().rev().cloned().collect());
            }
        }
        reader
    }

    fn advance(&mut self) -> Result<Option<Piece>> {
        if let Some(error) = self.failed.take() {
            return Err(error);
        }
        loop {
            if let Some(piece) = self.pieces.next() {
                return Ok(Some(piece));
            }
            let level = self.levels.len();
            let Some(nodes) = self.levels.last_mut() else { return Ok(None) };
            let Some(next) = nodes.pop() else {
                self.levels.pop();
                continue;
            };
            let node = Node::decode(&self.store.get_chunk(&next.id)?)?;
            match node {
                Node::Leaf(pieces) if level == self.depth && sum_pieces(&pieces) == Some(next.len) => self.pieces = pieces.into_iter(),
                Node::Inner(mut nodes) if level < self.depth && sum_nodes(&nodes) == Some(next.len) => {
                    nodes.reverse();
                    self.levels.push(nodes);
                }
                _ => return Err(Error::corrupt(format!("recipe node {} is not what its parent says", next.id.short()))),
            }
        }
    }
}

impl Iterator for RecipeReader<'_> {
    type Item = Result<Piece>;

    fn next(&mut self) -> Option<Result<Piece>> {
        let next = self.advance();
        if next.is_err() {
            self.levels.clear();
            self.pieces = Vec::new().into_iter();
        }
        next.transpose()
    }
}

/// Hands a stream's bytes to `out` in order; zeros and holes in pieces of at most 64 KiB.
///
/// # Errors
/// As [`ChunkStore::get`], or what `out` says.
pub fn read_stream(store: &dyn GetChunk, recipe: &Recipe, out: &mut dyn FnMut(&[u8]) -> Result<()>) -> Result<()> {
    for piece in RecipeReader::new(store, recipe) {
        match piece? {
            Piece::Data { id, len } => {
                let chunk = store.get_chunk(&id)?;
                if chunk.len() != len as usize {
                    return Err(Error::corrupt(format!("chunk {} has {} bytes where its recipe says {len}", id.short(), chunk.len())));
                }
                out(&chunk)?;
            }
            Piece::Zero { len } | Piece::Hole { len } => for_zeros(len, &mut *out)?,
        }
    }
    Ok(())
}

/// Hands `len` zeros to `out`, in pieces of at most 64 KiB.
pub(crate) fn for_zeros<E>(mut len: u64, mut out: impl FnMut(&[u8]) -> Result<(), E>) -> Result<(), E> {
    static ZEROS: [u8; 64 << 10] = [0; 64 << 10];
    while len > 0 {
        let part = usize::try_from(len).unwrap_or(usize::MAX).min(ZEROS.len());
        out(&ZEROS[..part])?;
        len -= part as u64;
    }
    Ok(())
}
