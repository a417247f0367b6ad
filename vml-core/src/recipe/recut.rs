//! Stores a stream anew, cut and named as another store does it.
//!
//! ```text
//! pieces of the source   data data data │ hole │ data
//!                        └── one stream ┘  stays └ another      cut by the target's chunker, put by its writer
//! ```
//! A run of data is cut as if it had been read from the file itself, so that a stream that was carried over and one that was saved where it goes have one recipe.

use super::{GetChunk, Piece, PutMeta, Recipe, RecipeReader, RecipeWriter};
use std::io;
use std::iter::Peekable;
use vml_chunk::{Chunk, ChunkWriter, Chunker, Error, ErrorKind, Result};

/// Reads `recipe` from `source` and puts its stream to `chunks`, its nodes to `put`; `read` hears of the bytes of each chunk that was read.
///
/// # Errors
/// As [`ChunkStore::get`](vml_chunk::ChunkStore::get) and `Corrupt` of the source; what the target's session says.
///
/// # Cost
/// That of the data. A chunk of the source and what the writer holds are in memory.
pub(crate) fn recut(
    source: &dyn GetChunk,
    recipe: &Recipe,
    chunker: &dyn Chunker,
    chunks: &mut ChunkWriter<'_>,
    put: PutMeta<'_>,
    read: &mut dyn FnMut(u64),
) -> Result<Recipe> {
    let mut pieces = RecipeReader::new(source, recipe).peekable();
    let mut made = RecipeWriter::default();
    while let Some(next) = pieces.peek() {
        if matches!(next, Ok(Piece::Data { .. })) {
            let mut run = DataRun { source, pieces: &mut pieces, chunk: None, at: 0, failure: None, read: &mut *read };
            let mut pushed = Ok(());
            let streamed = chunks.put_stream(chunker, &mut run, u64::MAX, &mut |chunk| {
                if pushed.is_ok() {
                    pushed = made.push_chunk(chunk, put);
                }
            })?;
            let failure = run.failure.take();
            pushed?;
            if let Err(error) = streamed {
                return Err(failure.unwrap_or_else(|| Error::new(ErrorKind::Io, "cannot read a stream").because(error)));
            }
        } else if let Some(piece) = pieces.next() {
            made.push(piece?, put)?;
        }
    }
    made.finish(put)
}

/// Neighbouring data pieces as one stream.
struct DataRun<'p, 'a> {
    source: &'a dyn GetChunk,
    pieces: &'p mut Peekable<RecipeReader<'a>>,
    chunk: Option<Chunk>,
    at: usize,
    /// Why reading ended, in the store's own words.
    failure: Option<Error>,
    read: &'p mut dyn FnMut(u64),
}

impl DataRun<'_, '_> {
    /// The next chunk; false where the run ends.
    fn advance(&mut self) -> Result<bool> {
        let is_data = |piece: &Result<Piece>| matches!(piece, Ok(Piece::Data { .. }) | Err(_));
        let Some(Piece::Data { id, len }) = self.pieces.next_if(is_data).transpose()? else { return Ok(false) };
        let chunk = self.source.get_chunk(&id)?;
        if chunk.len() != len as usize {
            return Err(Error::corrupt(format!("chunk {} has {} bytes where its recipe says {len}", id.short(), chunk.len())));
        }
        (self.read)(u64::from(len));
        (self.chunk, self.at) = (Some(chunk), 0);
        Ok(true)
    }
}

impl io::Read for DataRun<'_, '_> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        loop {
            if let Some(rest) = self.chunk.as_ref().and_then(|chunk| chunk.get(self.at..)).filter(|rest| !rest.is_empty()) {
                let len = rest.len().min(buffer.len());
                buffer[..len].copy_from_slice(&rest[..len]);
                self.at += len;
                return Ok(len);
            }
            match self.advance() {
                Ok(true) => {}
                Ok(false) => return Ok(0),
                Err(error) => {
                    self.failure = Some(error);
                    return Err(io::Error::other("a chunk cannot be read"));
                }
            }
        }
    }
}
