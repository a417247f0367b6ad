//! A saved disk, read by offset.

use super::{Disk, Extent, ExtentKind, end_within};
use crate::recipe::{GetChunk, Piece, Recipe, RecipeReader};
use std::collections::VecDeque;
use std::sync::{Arc, Mutex, PoisonError};
use vml_chunk::{Error, Result};

/// Stretches of a recipe kept for the next read.
const KEPT_MAX: usize = 64;
/// Pieces of one stretch.
const STRETCH_PIECES: usize = 256;

/// A disk in a repository, as a [`Disk`].
pub struct SavedDisk<'a> {
    store: &'a dyn GetChunk,
    recipe: &'a Recipe,
    kept: Mutex<VecDeque<Arc<Stretch>>>,
}

/// Pieces that follow each other, each with where it begins.
struct Stretch {
    pieces: Vec<(u64, Piece)>,
    end: u64,
}

impl Stretch {
    fn has(&self, offset: u64) -> bool {
        self.pieces.first().is_some_and(|(start, _)| *start <= offset) && offset < self.end
    }
}

impl<'a> SavedDisk<'a> {
    /// The disk that `recipe` rebuilds.
    pub fn new(store: &'a dyn GetChunk, recipe: &'a Recipe) -> Self {
        Self { store, recipe, kept: Mutex::default() }
    }

    /// What rebuilds it.
    pub fn recipe(&self) -> &'a Recipe {
        self.recipe
    }

    /// The pieces that hold a range, each with where it begins, which may be before the range; the last may end behind it.
    ///
    /// # Errors
    /// `InvalidInput` beyond the end; else as the store.
    pub fn pieces(&self, offset: u64, len: u64) -> Result<Vec<(u64, Piece)>> {
        let end = end_within(offset, len, self.recipe.len)?;
        let mut pieces = Vec::new();
        let mut at = offset;
        while at < end {
            let stretch = self.stretch(at)?;
            let first = stretch.pieces.partition_point(|(start, piece)| start + piece.len() <= at);
            pieces.extend(stretch.pieces[first..].iter().take_while(|(start, _)| *start < end).cloned());
            at = stretch.end;
        }
        Ok(pieces)
    }

    fn stretch(&self, offset: u64) -> Result<Arc<Stretch>> {
        let kept = || self.kept.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(stretch) = kept().iter().find(|stretch| stretch.has(offset)) {
            return Ok(Arc::clone(stretch));
        }
        let (reader, mut end) = RecipeReader::starting_at(self.store, self.recipe, offset)?;
        let mut pieces = Vec::new();
        for piece in reader.take(STRETCH_PIECES) {
            let piece = piece?;
            let start = end;
            end += piece.len();
            pieces.push((start, piece));
        }
        let stretch = Arc::new(Stretch { pieces, end });
        if !stretch.has(offset) {
            return Err(Error::corrupt(format!("the disk's recipe has nothing at {offset}")));
        }
        let mut kept = kept();
        kept.push_front(Arc::clone(&stretch));
        kept.truncate(KEPT_MAX);
        Ok(stretch)
    }
}

impl Disk for SavedDisk<'_> {
    fn len(&self) -> u64 {
        self.recipe.len
    }

    fn read_at(&self, buffer: &mut [u8], offset: u64) -> Result<()> {
        for (start, piece) in self.pieces(offset, buffer.len() as u64)? {
            // The part of the piece that is asked for, as offsets into the buffer and into the piece.
            let from = start.max(offset);
            let to = (start + piece.len()).min(offset + buffer.len() as u64);
            let place = |position: u64, origin: u64| usize::try_from(position - origin).expect("within the buffer or a chunk");
            let out = &mut buffer[place(from, offset)..place(to, offset)];
            match piece {
                Piece::Data { id, len } => {
                    let chunk = self.store.get_chunk(&id)?;
                    if chunk.len() != len as usize {
                        return Err(Error::corrupt(format!("chunk {} has {} bytes, its recipe says {len}", id.short(), chunk.len())));
                    }
                    out.copy_from_slice(&chunk[place(from, start)..place(to, start)]);
                }
                Piece::Zero { .. } | Piece::Hole { .. } => out.fill(0),
            }
        }
        Ok(())
    }

    fn extent_at(&self, offset: u64) -> Result<Extent> {
        end_within(offset, 1, self.recipe.len)?;
        let stretch = self.stretch(offset)?;
        let first = stretch.pieces.partition_point(|(start, piece)| start + piece.len() <= offset);
        let is_data = |piece: &Piece| matches!(piece, Piece::Data { .. });
        let data = is_data(&stretch.pieces[first].1);
        let same = stretch.pieces[first..].iter().take_while(|(_, piece)| is_data(piece) == data);
        let end = same.last().map_or(offset, |(start, piece)| start + piece.len());
        let (kind, layer) = if data { (ExtentKind::Data, 0) } else { (ExtentKind::Hole, 1) };
        Ok(Extent { len: end - offset, kind, layer })
    }
}
