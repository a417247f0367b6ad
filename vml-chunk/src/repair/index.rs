//! Makes the index anew from what the packs say of themselves.

use crate::error::Result;
use crate::store::ChunkStore;

/// What became of the index.
#[derive(Debug, Default)]
pub struct Rebuilt {
    /// Packs that it names now.
    pub packs_count: u64,
    /// Segments that are new.
    pub segments_count: u64,
    /// Packs whose footers cannot be read: their chunks are not in it.
    pub unreadable: Vec<String>,
}

impl ChunkStore {
    /// Makes segments over all packs, and deletes those that were there before. Beside others it is safe: a segment that somebody adds meanwhile stays.
    ///
    /// # Errors
    /// What the backend says; the old index is there then.
    ///
    /// # Cost
    /// Reads every footer; memory for some hundred thousand chunks.
    pub fn rebuild_index(&self) -> Result<Rebuilt> {
        let (packs_count, segments_count, unreadable) = self.index_anew()?;
        Ok(Rebuilt { packs_count, segments_count, unreadable })
    }
}
