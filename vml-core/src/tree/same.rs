//! Whether two files have the same bytes, however they were cut.

use super::Content;
use crate::recipe::{GetChunk, Piece, RecipeReader};
use vml_chunk::{Error, Result};

/// Compares the bytes of two files whose chunks `store` has; where both have the same chunk at the same place, it is not read.
///
/// # Errors
/// As [`ChunkStore::get`](vml_chunk::ChunkStore::get), and `Corrupt`.
pub fn same_content(store: &dyn GetChunk, old: &Content, new: &Content) -> Result<bool> {
    same(Side::new(store, old), Side::new(store, new), true)
}

/// Compares the bytes of two files in two stores; all of them are read.
///
/// # Errors
/// As [`same_content`].
pub fn same_bytes(old: (&dyn GetChunk, &Content), new: (&dyn GetChunk, &Content)) -> Result<bool> {
    same(Side::new(old.0, old.1), Side::new(new.0, new.1), false)
}

/// Whether two streams have the same bytes; with `by_name` equal names of chunks say so.
fn same(mut old: Side<'_>, mut new: Side<'_>, by_name: bool) -> Result<bool> {
    if old.total != new.total {
        return Ok(false);
    }
    loop {
        let (len_old, len_new) = (old.fill()?, new.fill()?);
        let len = len_old.min(len_new);
        if len == 0 {
            return Ok(len_old == len_new);
        }
        let same_piece = by_name && old.piece.is_some() && old.piece == new.piece && old.passed == new.passed;
        if !same_piece && !same_part(&mut old, &mut new, len)? {
            return Ok(false);
        }
        old.passed += len;
        new.passed += len;
    }
}

/// Whether the next `len` bytes of two pieces are equal.
fn same_part(old: &mut Side<'_>, new: &mut Side<'_>, len: u64) -> Result<bool> {
    let (old, new) = (old.bytes(len)?, new.bytes(len)?);
    let zeros = |bytes: &[u8]| bytes.iter().all(|byte| *byte == 0);
    Ok(match (old, new) {
        (Some(old), Some(new)) => old == new,
        (Some(bytes), None) | (None, Some(bytes)) => zeros(bytes),
        (None, None) => true,
    })
}

/// One of the two files.
struct Side<'a> {
    store: &'a dyn GetChunk,
    pieces: Box<dyn Iterator<Item = Result<Piece>> + 'a>,
    piece: Option<Piece>,
    /// The bytes of `piece`, once they were asked for; all there are of a file that is inline.
    bytes: Option<Vec<u8>>,
    passed: u64,
    /// Bytes of the whole file.
    total: u64,
}

impl<'a> Side<'a> {
    fn new(store: &'a dyn GetChunk, content: &Content) -> Self {
        let total = content.len();
        match content {
            Content::Inline(bytes) => {
                Self { store, pieces: Box::new(std::iter::empty()), piece: None, bytes: Some(bytes.clone()), passed: 0, total }
            }
            Content::Recipe(recipe) => {
                Self { store, pieces: Box::new(RecipeReader::new(store, recipe)), piece: None, bytes: None, passed: 0, total }
            }
        }
    }

    fn len(&self) -> u64 {
        self.piece.as_ref().map_or(self.bytes.as_ref().map_or(0, |bytes| bytes.len() as u64), Piece::len)
    }

    /// Makes sure that there are bytes to compare; how many are left of the piece, 0 at the end.
    fn fill(&mut self) -> Result<u64> {
        if self.passed == self.len()
            && let Some(piece) = self.pieces.next().transpose()?
        {
            (self.piece, self.bytes, self.passed) = (Some(piece), None, 0);
        }
        Ok(self.len() - self.passed)
    }

    /// The next `len` bytes; `None` for zeros.
    fn bytes(&mut self, len: u64) -> Result<Option<&[u8]>> {
        if let (Some(Piece::Data { id, .. }), None) = (&self.piece, &self.bytes) {
            self.bytes = Some(self.store.get_chunk(id)?.to_vec());
        }
        let Some(bytes) = &self.bytes else { return Ok(None) };
        let range = usize::try_from(self.passed).ok().zip(usize::try_from(self.passed + len).ok());
        let part = range.and_then(|(from, to)| bytes.get(from..to));
        part.map(Some).ok_or_else(|| Error::corrupt("a chunk is shorter than its recipe says"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::recipe::{Recipe, Root};
    use vml_chunk::{Chunk, ChunkId};

    struct Known(Vec<Vec<u8>>);

    impl GetChunk for Known {
        fn get_chunk(&self, id: &ChunkId) -> Result<Chunk> {
            let found = self.0.iter().find(|bytes| ChunkId::of(bytes) == *id);
            found.map(|bytes| Chunk::from(bytes.clone())).ok_or_else(|| Error::not_found("no such chunk"))
        }
    }

    #[test]
    fn bytes_count_and_not_how_they_were_cut() {
        let store = Known(vec![b"abc".to_vec(), b"de\0\0".to_vec(), b"abcd".to_vec(), b"e".to_vec(), b"x".to_vec()]);
        let data = |i: usize| Piece::Data { id: ChunkId::of(&store.0[i]), len: u32::try_from(store.0[i].len()).unwrap_or(0) };
        let file = |pieces: Vec<Piece>| Content::Recipe(Recipe { len: pieces.iter().map(Piece::len).sum(), root: Root::Pieces(pieces) });
        let whole = file(vec![data(0), data(1)]);
        let other = file(vec![data(2), data(3), Piece::Hole { len: 2 }]);
        let inline = |bytes: &[u8]| Content::Inline(bytes.to_vec());
        let same = |old: &Content, new: &Content| same_content(&store, old, new).expect("all chunks are there");
        assert!(same(&whole, &other) && same(&other, &whole) && same(&whole, &whole));
        assert!(same(&inline(b"abcde\0\0"), &whole) && same(&inline(b"a"), &inline(b"a")) && same(&inline(b""), &file(Vec::new())));
        assert!(!same(&inline(b"a"), &inline(b"b")) && !same(&whole, &inline(b"abcdf\0\0")) && !same(&whole, &file(vec![data(0)])));
        assert!(!same(&other, &file(vec![data(2), data(4), Piece::Zero { len: 2 }])));
    }
}
