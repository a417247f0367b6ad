//! Walks the pieces of a recipe in order, fetching nodes as it goes.

use super::cursor::Cursor;
use super::{Piece, Recipe};
use vml_chunk::index::Location;
use vml_chunk::{Chunk, ChunkId, ChunkStore, Error, IdKey, Result};

/// Gets chunks: a store, or a test's map.
pub trait GetChunk: Sync {
    /// Gets a chunk whose bytes match its id.
    ///
    /// # Errors
    /// As [`ChunkStore::get`].
    fn get_chunk(&self, id: &ChunkId) -> Result<Chunk>;

    /// Whether this chunk is made when it is asked for, so that its length was not known when it was named.
    fn is_made(&self, id: &ChunkId) -> bool {
        _ = id;
        false
    }

    /// Where a chunk is, if it is in packs: whoever reads many does well to take those of one frame together.
    fn locate(&self, id: &ChunkId) -> Option<Location> {
        _ = id;
        None
    }

    /// How its chunks are named.
    fn ids(&self) -> IdKey {
        IdKey::PLAIN
    }
}

impl GetChunk for ChunkStore {
    fn get_chunk(&self, id: &ChunkId) -> Result<Chunk> {
        self.get(id)
    }

    fn locate(&self, id: &ChunkId) -> Option<Location> {
        self.view().locate(id).next()
    }

    fn ids(&self) -> IdKey {
        Self::ids(self).clone()
    }
}

/// Iterates over the pieces of a recipe. After an error it ends.
pub struct RecipeReader<'a> {
    cursor: Result<Cursor<'a>, Option<Error>>,
}

impl<'a> RecipeReader<'a> {
    /// Begins at the start of the stream.
    pub fn new(store: &'a dyn GetChunk, recipe: &Recipe) -> Self {
        Self { cursor: Cursor::new(store, recipe).map_err(Some) }
    }

    /// Begins with the piece that has the byte at `offset`, and tells where that piece begins.
    ///
    /// # Errors
    /// As [`ChunkStore::get`], and `Corrupt`.
    ///
    /// # Cost
    /// One chunk a level of the recipe.
    pub fn starting_at(store: &'a dyn GetChunk, recipe: &Recipe, offset: u64) -> Result<(Self, u64)> {
        let mut cursor = Cursor::new(store, recipe)?;
        cursor.seek(offset)?;
        let start = cursor.offset();
        Ok((Self { cursor: Ok(cursor) }, start))
    }
}

impl Iterator for RecipeReader<'_> {
    type Item = Result<Piece>;

    fn next(&mut self) -> Option<Result<Piece>> {
        let next = match &mut self.cursor {
            Ok(cursor) => cursor.next_piece(),
            Err(error) => return error.take().map(Err),
        };
        if next.is_err() {
            self.cursor = Err(None);
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
