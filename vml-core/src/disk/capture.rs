//! Captures a disk: what cannot have changed is taken over from its former recipe, the rest is read by zones, side by side.
//!
//! ```text
//! plan: changed ranges, extents ──nothing there──► hole          ┐
//!                        ├──────────unchanged────► known recipe  ├─► in order ──► recipe
//!                        └──zone──► worker: read, cut, put       ┘
//! ```
//! A zone of which only parts changed is cut anew from the piece before a change to where cuts fall on known ones again.
//! Memory is bounded by a zone a thread and a bounded number of zones that wait for an earlier one.

use super::cut::{Span, ZONE_LEN, spans};
use super::plan::{Plan, Step, Zone};
use super::{Disk, FileRun};
use crate::monitor::{Monitor, Task};
use crate::recipe::{Cursor, Item, Piece, Recipe, RecipeReader, RecipeWriter};
use bincode::{Decode, Encode};
use std::collections::BTreeMap;
use std::ops::Range;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Condvar, Mutex, PoisonError};
use std::time::Duration;
use vml_chunk::{ChunkRef, ChunkStore, ChunkWriter, Chunker, Error, ErrorKind, PackKind, Result, StoreWriter, run_pool};

/// Steps that may wait for an earlier one to be finished.
const WAITING_MAX: u64 = 256;
/// Known bytes read behind a change, in which cuts should fall on known ones again.
const SETTLE_LEN: u64 = 256 << 10;

/// What is known of a disk beforehand.
#[derive(Debug, Clone, Copy)]
pub struct KnownDisk<'a> {
    /// A recipe of an earlier state.
    pub recipe: &'a Recipe,
    /// Bytes of it that are data.
    pub data_bytes: u64,
    /// In which ranges, sorted and apart, the disk may differ from it.
    pub changed: &'a [Range<u64>],
}

/// How a disk is captured.
pub struct DiskCaptureOptions<'a> {
    /// An earlier state to take unchanged ranges from.
    pub known: Option<KnownDisk<'a>>,
    /// Where the disk's file systems say that files lie, sorted and apart; where chunks are cut depends on it, not what
    /// is saved.
    pub runs: &'a [FileRun],
    /// Threads that read, hash and compress.
    pub threads: usize,
}

/// Numbers of one capture.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Encode, Decode)]
pub struct DiskStats {
    /// Bytes that are data, not zeros.
    pub data_bytes: u64,
    /// Bytes that were read.
    pub read_bytes: u64,
    /// Bytes taken over without being read.
    pub known_bytes: u64,
}

/// A captured disk.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CapturedDisk {
    /// What rebuilds it.
    pub recipe: Recipe,
    /// Numbers.
    pub stats: DiskStats,
}

/// Captures a disk into the session `writer`.
///
/// # Errors
/// When the disk cannot be read, or the store fails.
///
/// # Cost
/// That of the data in the ranges that may have changed; for the rest, one small read in about a hundred chunks.
pub fn capture_disk(
    writer: &StoreWriter<'_>,
    chunker: &dyn Chunker,
    disk: &dyn Disk,
    options: &DiskCaptureOptions<'_>,
    monitor: &dyn Monitor,
) -> Result<CapturedDisk> {
    let store = writer.store();
    let session = Session {
        writer,
        store,
        chunker,
        disk,
        options,
        monitor,
        buffers: Mutex::default(),
        read_bytes: AtomicU64::new(0),
        assembly: Mutex::new(Assembly {
            next: 0,
            waiting: BTreeMap::new(),
            recipe: RecipeWriter::default(),
            known: options.known.map(|known| Cursor::new(store, known.recipe)).transpose()?,
            len: disk.len(),
            stats: DiskStats { data_bytes: options.known.map_or(0, |known| known.data_bytes), ..DiskStats::default() },
            meta: writer.chunks(PackKind::Meta)?,
        }),
        moved: Condvar::new(),
    };
    monitor.expect(Task::Capture, disk.len());
    run_pool(
        writer,
        PackKind::Data,
        options.threads,
        |chunks, (number, step): (u64, Step)| session.work(chunks, number, step),
        |sink| {
            let mut plan = Plan::new(disk, options.known.map(|known| (known.recipe.len, known.changed)));
            let mut number = 0;
            while let Some(step) = plan.next_step()? {
                for step in session.refit(step)? {
                    session.wait_until_near(number)?;
                    sink.send((number, step))?;
                    number += 1;
                }
            }
            Ok(())
        },
    )?;
    let read_bytes = session.read_bytes.load(Ordering::Relaxed);
    let cut_off = match options.known {
        Some(known) if known.recipe.len > disk.len() => {
            let cut_off = disk.len()..known.recipe.len;
            data_len(&session.known_pieces(&cut_off)?, cut_off.start)
        }
        _ => 0,
    };
    let Assembly { recipe, mut meta, stats, waiting, .. } = session.assembly.into_inner().unwrap_or_else(PoisonError::into_inner);
    if !waiting.is_empty() {
        return Err(Error::new(ErrorKind::Interrupted, "the capture ended before the disk was complete"));
    }
    let recipe = recipe.finish(&mut |bytes| meta.put(bytes))?;
    meta.finish()?;
    Ok(CapturedDisk { recipe, stats: DiskStats { data_bytes: stats.data_bytes.saturating_sub(cut_off), read_bytes, ..stats } })
}

/// What all threads of one capture share.
struct Session<'a> {
    writer: &'a StoreWriter<'a>,
    store: &'a ChunkStore,
    chunker: &'a dyn Chunker,
    disk: &'a dyn Disk,
    options: &'a DiskCaptureOptions<'a>,
    monitor: &'a dyn Monitor,
    buffers: Mutex<Vec<Vec<u8>>>,
    read_bytes: AtomicU64,
    assembly: Mutex<Assembly<'a>>,
    /// Told when the assembly has moved on.
    moved: Condvar,
}

/// Puts finished parts in order.
struct Assembly<'a> {
    next: u64,
    waiting: BTreeMap<u64, Part>,
    recipe: RecipeWriter,
    known: Option<Cursor<'a>>,
    len: u64,
    stats: DiskStats,
    meta: ChunkWriter<'a>,
}

/// A finished step.
struct Part {
    body: Body,
    len: u64,
    /// Data that the known state has in its place.
    old_data_bytes: u64,
}

enum Body {
    Pieces(Vec<Piece>),
    Known(Range<u64>),
}

impl Session<'_> {
    fn work(&self, chunks: &mut ChunkWriter<'_>, number: u64, step: Step) -> Result<()> {
        let part = match step {
            Step::Known(range) => Part { len: range.end - range.start, body: Body::Known(range), old_data_bytes: 0 },
            Step::Hole(range) => {
                let len = range.end - range.start;
                let old = self.known_pieces(&range)?;
                Part { body: Body::Pieces(vec![Piece::Hole { len }]), len, old_data_bytes: data_len(&old, range.start) }
            }
            Step::Zone(zone) => {
                let old = self.known_pieces(&zone.range)?;
                let old_data_bytes = data_len(&old, zone.range.start);
                let pieces = match &zone.changed {
                    Some(changed) if fits(&old, &zone.range) => self.patch(chunks, &zone.range, &old, changed)?,
                    _ => self.cut(chunks, &zone.range)?,
                };
                Part { body: Body::Pieces(pieces), len: zone.range.end - zone.range.start, old_data_bytes }
            }
        };
        let len = part.len;
        let mut assembly = self.assembly.lock().unwrap_or_else(PoisonError::into_inner);
        assembly.waiting.insert(number, part);
        while let Some(part) = {
            let next = assembly.next;
            assembly.waiting.remove(&next)
        } {
            assembly.add(part)?;
            assembly.next += 1;
        }
        drop(assembly);
        self.moved.notify_all();
        self.monitor.advance(Task::Capture, 0, len);
        Ok(())
    }

    /// A range of the known state whose edges are inside chunks, because it was cut by other zones, is read after all.
    fn refit(&self, step: Step) -> Result<Vec<Step>> {
        let (Step::Known(range), Some(known)) = (&step, self.options.known) else { return Ok(vec![step]) };
        for edge in [range.start, range.end] {
            let (mut reader, start) = RecipeReader::starting_at(self.store, known.recipe, edge)?;
            if start != edge && matches!(reader.next().transpose()?, Some(Piece::Data { .. })) {
                let starts = range.clone().step_by(usize::try_from(ZONE_LEN).expect("a few megabytes"));
                let zones = starts.map(|start| Zone { range: start..(start + ZONE_LEN).min(range.end), changed: None });
                return Ok(zones.map(Step::Zone).collect());
            }
        }
        Ok(vec![step])
    }

    /// Waits while too many finished steps would have to wait for an earlier one.
    fn wait_until_near(&self, number: u64) -> Result<()> {
        let mut assembly = self.assembly.lock().unwrap_or_else(PoisonError::into_inner);
        while number - assembly.next >= WAITING_MAX {
            // A worker that fails tells nobody here.
            self.writer.check()?;
            assembly = self.moved.wait_timeout(assembly, Duration::from_millis(20)).unwrap_or_else(PoisonError::into_inner).0;
        }
        Ok(())
    }

    /// The known state's pieces from the one at the start of `range` on, with where they begin; none when nothing is known.
    fn known_pieces(&self, range: &Range<u64>) -> Result<Vec<(u64, Piece)>> {
        let Some(known) = self.options.known else { return Ok(Vec::new()) };
        let (reader, mut at) = RecipeReader::starting_at(self.store, known.recipe, range.start)?;
        let mut pieces = Vec::new();
        for piece in reader {
            let (start, mut piece) = (at, piece?);
            at += piece.len();
            if let Piece::Hole { len } | Piece::Zero { len } = &mut piece {
                let clipped = start.max(range.start)..at.min(range.end);
                *len = clipped.end.saturating_sub(clipped.start);
                pieces.push((clipped.start, piece));
            } else {
                pieces.push((start, piece));
            }
            if at >= range.end {
                break;
            }
        }
        Ok(pieces)
    }

    /// Reads a range and cuts it.
    fn cut(&self, chunks: &mut ChunkWriter<'_>, range: &Range<u64>) -> Result<Vec<Piece>> {
        let mut buffer = self.buffers.lock().unwrap_or_else(PoisonError::into_inner).pop().unwrap_or_default();
        let result = self.cut_with(&mut buffer, chunks, range);
        self.buffers.lock().unwrap_or_else(PoisonError::into_inner).push(buffer);
        result
    }

    fn cut_with(&self, buffer: &mut Vec<u8>, chunks: &mut ChunkWriter<'_>, range: &Range<u64>) -> Result<Vec<Piece>> {
        let len = usize::try_from(range.end - range.start).expect("at most a zone");
        if buffer.len() < len {
            buffer.resize(len, 0);
        }
        let data = &mut buffer[..len];
        let read = super::read::read_extents(self.disk, data, range.start)?;
        self.read_bytes.fetch_add(read, Ordering::Relaxed);
        let mut pieces = Vec::new();
        for span in spans(data, range.start, self.options.runs, !self.options.runs.is_empty()) {
            match span {
                Span::Zeros(len) => pieces.push(Piece::Hole { len: len as u64 }),
                Span::Data(span) => {
                    let mut rest = &data[span];
                    while !rest.is_empty() {
                        let (chunk, behind) = rest.split_at(self.chunker.cut(rest));
                        let ChunkRef { id, len } = chunks.put(chunk)?;
                        pieces.push(Piece::Data { id, len });
                        rest = behind;
                    }
                }
            }
        }
        Ok(pieces)
    }

    /// Cuts anew around the changes of a zone and takes over the rest.
    fn patch(&self, chunks: &mut ChunkWriter<'_>, zone: &Range<u64>, old: &[(u64, Piece)], changed: &[Range<u64>]) -> Result<Vec<Piece>> {
        let mut pieces = Vec::new();
        let mut at = zone.start;
        let mut regions = regions(old, zone, changed).into_iter().peekable();
        let mut old = old.iter().peekable();
        while at < zone.end {
            if let Some(region) = regions.next_if(|region| region.start == at) {
                pieces.extend(self.cut(chunks, &region)?);
                at = region.end;
                continue;
            }
            let stop = regions.peek().map_or(zone.end, |region| region.start);
            while old.next_if(|(start, piece)| start + piece.len() <= at).is_some() {}
            let Some((start, piece)) = old.peek() else { return Err(Error::corrupt("the known recipe ends within a disk's zone")) };
            match piece {
                Piece::Data { .. } => {
                    debug_assert_eq!(*start, at);
                    pieces.push(piece.clone());
                    at += piece.len();
                }
                Piece::Hole { len } | Piece::Zero { len } => {
                    let end = (start + len).min(stop);
                    pieces.push(Piece::Hole { len: end - at });
                    at = end;
                }
            }
        }
        Ok(pieces)
    }
}

/// What to cut anew for changes: from the piece before each to a border of pieces some way behind it.
fn regions(old: &[(u64, Piece)], zone: &Range<u64>, changed: &[Range<u64>]) -> Vec<Range<u64>> {
    let is_data = |piece: &Piece| matches!(piece, Piece::Data { .. });
    let holder = |position: u64| old.iter().find(|(start, piece)| start + piece.len() > position);
    let mut regions: Vec<Range<u64>> = Vec::new();
    for change in changed {
        let start = holder(change.start).map_or(change.start, |(start, piece)| if is_data(piece) { *start } else { change.start });
        let settled = (change.end + SETTLE_LEN).min(zone.end);
        let end = match holder(settled) {
            Some((start, piece)) if is_data(piece) && *start < settled => start + piece.len(),
            _ => settled,
        };
        match regions.last_mut() {
            Some(last) if last.end >= start => last.end = last.end.max(end),
            _ => regions.push(start.max(zone.start)..end.min(zone.end)),
        }
    }
    regions
}

/// Whether the pieces cover the zone and no chunk goes over its edge.
fn fits(old: &[(u64, Piece)], zone: &Range<u64>) -> bool {
    let end = |(start, piece): &(u64, Piece)| start + piece.len();
    old.first().is_some_and(|(start, _)| *start == zone.start) && old.last().map(end) == Some(zone.end)
}

/// Data of the pieces that begin at `start` or later; one across it was counted with what is before.
fn data_len(pieces: &[(u64, Piece)], start: u64) -> u64 {
    let counted = pieces.iter().filter(|(at, piece)| *at >= start && matches!(piece, Piece::Data { .. }));
    counted.map(|(_, piece)| piece.len()).sum()
}

impl Assembly<'_> {
    fn add(&mut self, part: Part) -> Result<()> {
        let meta = &mut self.meta;
        let put: &mut dyn FnMut(&[u8]) -> Result<ChunkRef> = &mut |bytes| meta.put(bytes);
        match part.body {
            Body::Pieces(pieces) => {
                for piece in pieces {
                    if matches!(piece, Piece::Data { .. }) {
                        self.stats.data_bytes += piece.len();
                    }
                    self.recipe.push(piece, put)?;
                }
                self.stats.data_bytes = self.stats.data_bytes.saturating_sub(part.old_data_bytes);
            }
            Body::Known(range) => {
                self.stats.known_bytes += part.len;
                let Some(known) = &mut self.known else { return Err(Error::invalid("nothing is known of the disk")) };
                take_over(known, &range, self.len, &mut self.recipe, put)?;
            }
        }
        Ok(())
    }
}

/// Appends what the known recipe has in a range, whole nodes where both are between nodes.
fn take_over(
    known: &mut Cursor<'_>,
    range: &Range<u64>,
    disk_len: u64,
    recipe: &mut RecipeWriter,
    put: &mut dyn FnMut(&[u8]) -> Result<ChunkRef>,
) -> Result<()> {
    known.seek_item(range.start)?;
    let mut at = range.start;
    while at < range.end {
        let start = known.offset();
        let item = known.peek().cloned().ok_or_else(|| Error::corrupt("the known recipe ends before the disk does"))?;
        let end = start + item.len();
        match item {
            // The last node of a recipe may end where no other would.
            Item::Node { node, level: 1 }
                if start == at && end <= range.end && recipe.is_between_nodes() && (!known.is_last() || end == disk_len) =>
            {
                recipe.push_leaf(node, put)?;
                known.skip();
            }
            Item::Node { .. } => {
                known.descend()?;
                continue;
            }
            Item::Piece(piece @ Piece::Data { .. }) => {
                if start != at || end > range.end {
                    return Err(Error::corrupt("the known recipe has a chunk across the edge of a zone"));
                }
                recipe.push(piece, put)?;
                known.skip();
            }
            Item::Piece(Piece::Hole { .. } | Piece::Zero { .. }) => {
                recipe.push(Piece::Hole { len: end.min(range.end) - at }, put)?;
                if end <= range.end {
                    known.skip();
                }
            }
        }
        at = end.min(range.end);
    }
    Ok(())
}
