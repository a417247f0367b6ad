//! Writes a saved disk, or ranges of it, in the order in which its chunks are stored.
//!
//! A disk's chunks lie in the frames of many saves. Written in the disk's order each frame would be decoded again and again;
//! so a window of pieces is sorted by frame, and threads take frames, not ranges. Chunks that follow each other in frame
//! and disk are written at once.

use super::DiskTarget;
use crate::monitor::{Monitor, Task};
use crate::recipe::{Piece, Recipe, RecipeReader};
use std::ops::Range;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Mutex, PoisonError};
use vml_chunk::{Chunk, ChunkId, ChunkStore, Error, PackId, Result};

/// Pieces that are sorted together: about a gigabyte of the disk, 10 MiB of memory.
const WINDOW_PIECES: usize = 1 << 17;

/// Numbers of one restore.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct RestoredDisk {
    /// Bytes of data written.
    pub data_bytes: u64,
    /// Bytes that are zeros.
    pub zero_bytes: u64,
}

/// A part of a chunk, and where it goes.
struct Slice {
    id: ChunkId,
    chunk_len: u32,
    /// The part of the chunk.
    from: u32,
    len: u32,
    at: u64,
    frame: Option<(PackId, u32)>,
}

/// Writes what `recipe` has in `ranges`, which are sorted and apart, to `target`.
///
/// # Errors
/// `NotFound` or `Corrupt` when chunks cannot be read, else what the target says; the target is then unfinished.
pub fn restore_disk(
    store: &ChunkStore,
    recipe: &Recipe,
    ranges: impl IntoIterator<Item = Range<u64>>,
    target: &dyn DiskTarget,
    threads: usize,
    monitor: &dyn Monitor,
) -> Result<RestoredDisk> {
    let mut done = RestoredDisk::default();
    let mut window = Vec::new();
    for range in ranges {
        let (reader, mut at) = RecipeReader::starting_at(store, recipe, range.start)?;
        for piece in reader {
            if at >= range.end {
                break;
            }
            let piece = piece?;
            let part = at.max(range.start)..(at + piece.len()).min(range.end);
            let len = part.end - part.start;
            match piece {
                Piece::Data { id, len: chunk_len } => {
                    let narrow = |value: u64| u32::try_from(value).expect("within a chunk");
                    let slice = Slice { id, chunk_len, from: narrow(part.start - at), len: narrow(len), at: part.start, frame: None };
                    window.push(slice);
                    done.data_bytes += len;
                    if window.len() == WINDOW_PIECES {
                        write_window(store, &mut window, target, threads, monitor)?;
                    }
                }
                Piece::Zero { .. } | Piece::Hole { .. } => {
                    target.zero_at(part.start, len)?;
                    done.zero_bytes += len;
                    monitor.advance(Task::Restore, 0, len);
                }
            }
            at += piece.len();
        }
    }
    write_window(store, &mut window, target, threads, monitor)?;
    Ok(done)
}

fn write_window(store: &ChunkStore, window: &mut Vec<Slice>, target: &dyn DiskTarget, threads: usize, monitor: &dyn Monitor) -> Result<()> {
    let view = store.view();
    for slice in &mut *window {
        // One that is not found is looked for again when it is read.
        slice.frame = view.locate(&slice.id).next().map(|location| (location.pack, location.frame_offset));
    }
    drop(view);
    window.sort_unstable_by_key(|slice| (slice.frame, slice.at));
    let frames: Vec<&[Slice]> = window.chunk_by(|a, b| a.frame == b.frame).collect();
    let next = AtomicUsize::new(0);
    let failure: Mutex<Option<Error>> = Mutex::new(None);
    std::thread::scope(|scope| {
        for _ in 0..threads.clamp(1, frames.len().max(1)) {
            scope.spawn(|| {
                while let Some(slices) = frames.get(next.fetch_add(1, Ordering::Relaxed)) {
                    if let Err(error) = write_frame(store, slices, target, monitor) {
                        next.store(frames.len(), Ordering::Relaxed);
                        failure.lock().unwrap_or_else(PoisonError::into_inner).get_or_insert(error);
                        break;
                    }
                }
            });
        }
    });
    let failed = failure.into_inner().unwrap_or_else(PoisonError::into_inner);
    window.clear();
    failed.map_or(Ok(()), Err)
}

fn write_frame(store: &ChunkStore, slices: &[Slice], target: &dyn DiskTarget, monitor: &dyn Monitor) -> Result<()> {
    // Whole chunks that follow each other, with where they go.
    let mut run: Option<(Chunk, u64)> = None;
    let flush = |run: Option<(Chunk, u64)>| -> Result<()> {
        let Some((bytes, at)) = run else { return Ok(()) };
        target.write_at(&bytes, at)?;
        monitor.advance(Task::Restore, 0, bytes.len() as u64);
        Ok(())
    };
    for slice in slices {
        let chunk = store.get(&slice.id)?;
        if chunk.len() != slice.chunk_len as usize {
            let message = format!("chunk {} has {} bytes, the disk's recipe says {}", slice.id.short(), chunk.len(), slice.chunk_len);
            return Err(Error::corrupt(message));
        }
        if slice.len < slice.chunk_len {
            let part = &chunk[slice.from as usize..(slice.from + slice.len) as usize];
            target.write_at(part, slice.at)?;
            monitor.advance(Task::Restore, 0, part.len() as u64);
            continue;
        }
        if let Some((bytes, at)) = &mut run
            && *at + bytes.len() as u64 == slice.at
            && bytes.join(&chunk)
        {
            continue;
        }
        flush(run.replace((chunk, slice.at)))?;
    }
    flush(run)
}
