//! Compares a disk with what was saved: by the ids of its chunks, so the saved bytes need not be decoded.

use super::cut::is_zero;
use super::read::{checked_extent, read_extents};
use super::{Disk, ExtentKind};
use crate::monitor::{Monitor, Task};
use crate::recipe::{GetChunk, Piece, Recipe, RecipeReader};
use crossbeam_channel::bounded;
use std::sync::{Mutex, PoisonError};
use vml_chunk::{Error, IdKey, Result};

/// Bytes compared at a time.
const BATCH_LEN: u64 = 4 << 20;

/// Pieces that follow each other.
struct Batch {
    start: u64,
    len: u64,
    pieces: Vec<Piece>,
}

/// Reads `disk` and compares it with what `recipe` rebuilds. A longer disk must have zeros behind.
///
/// # Errors
/// `Corrupt` naming the first place found to differ; else as the disk or the store.
pub fn verify_disk(store: &dyn GetChunk, recipe: &Recipe, disk: &dyn Disk, threads: usize, monitor: &dyn Monitor) -> Result<()> {
    if disk.len() < recipe.len {
        return Err(Error::corrupt(format!("the disk has {} bytes where {} were saved", disk.len(), recipe.len)));
    }
    monitor.expect(Task::Restore, recipe.len);
    let failure: Mutex<Option<Error>> = Mutex::new(None);
    let fail = |error: Error| _ = failure.lock().unwrap_or_else(PoisonError::into_inner).get_or_insert(error);
    let (sender, queue) = bounded::<Batch>(threads.max(1) * 2);
    std::thread::scope(|scope| {
        for _ in 0..threads.max(1) {
            let (queue, fail) = (queue.clone(), &fail);
            scope.spawn(move || {
                let (mut buffer, ids) = (Vec::new(), store.ids());
                for batch in queue {
                    if let Err(error) = compare(disk, &batch, &ids, &mut buffer) {
                        fail(error);
                        return;
                    }
                    monitor.advance(Task::Restore, 0, batch.len);
                }
            });
        }
        drop(queue);
        // Moved in here, so that the workers see the end.
        let sender = sender;
        let mut batch = Batch { start: 0, len: 0, pieces: Vec::new() };
        let end = Piece::Hole { len: disk.len() - recipe.len };
        for piece in RecipeReader::new(store, recipe).chain((!end.is_empty()).then_some(Ok(end))) {
            let piece = match piece {
                Ok(piece) => piece,
                Err(error) => return fail(error),
            };
            batch.len += piece.len();
            batch.pieces.push(piece);
            if batch.len >= BATCH_LEN {
                let next = Batch { start: batch.start + batch.len, len: 0, pieces: Vec::new() };
                // All workers have gone after an error.
                if sender.send(std::mem::replace(&mut batch, next)).is_err() {
                    return;
                }
            }
        }
        _ = sender.send(batch);
    });
    failure.into_inner().unwrap_or_else(PoisonError::into_inner).map_or(Ok(()), Err)
}

fn compare(disk: &dyn Disk, batch: &Batch, ids: &IdKey, buffer: &mut Vec<u8>) -> Result<()> {
    let mut at = batch.start;
    for run in batch.pieces.chunk_by(|a, b| is_data(a) && is_data(b)) {
        let len: u64 = run.iter().map(Piece::len).sum();
        if is_data(&run[0]) {
            buffer.resize(usize::try_from(len).expect("a batch of chunks"), 0);
            read_extents(disk, buffer, at)?;
            let mut rest = buffer.as_slice();
            for piece in run {
                let (bytes, behind) = rest.split_at(usize::try_from(piece.len()).expect("a chunk"));
                if !matches!(piece, Piece::Data { id, .. } if ids.id(bytes) == *id) {
                    return Err(differs(at + (buffer.len() - rest.len()) as u64));
                }
                rest = behind;
            }
        } else {
            compare_zeros(disk, at, at + len, buffer)?;
        }
        at += len;
    }
    Ok(())
}

fn compare_zeros(disk: &dyn Disk, start: u64, end: u64, buffer: &mut Vec<u8>) -> Result<()> {
    let mut at = start;
    while at < end {
        let extent = checked_extent(disk, at)?;
        let len = extent.len.min(end - at).min(if extent.kind == ExtentKind::Data { BATCH_LEN } else { u64::MAX });
        if extent.kind == ExtentKind::Data {
            buffer.resize(usize::try_from(len).expect("at most a batch"), 0);
            disk.read_at(buffer, at)?;
            if !is_zero(buffer) {
                return Err(differs(at));
            }
        }
        at += len;
    }
    Ok(())
}

fn differs(offset: u64) -> Error {
    Error::corrupt(format!("the disk is not what was saved, at byte {offset}"))
}

fn is_data(piece: &Piece) -> bool {
    matches!(piece, Piece::Data { .. })
}
