//! Puts many chunks into a repository that were never there: packs without content, and the index over them.
//!
//! What is real: the segments, laid out by the store's own writer and as a series of saves leaves them; names, places and lengths of packs, which the
//! store compares with the index; the footers of packs that a collection will take away. What is not: the bytes of frames, and of other packs' footers.
//! They are holes. A command that reads them finds damage, so none that does is measured here.

use super::ids::{Ids, mix};
use anyhow::{Context as _, Result};
use std::fs::{self, File};
use std::os::unix::fs::FileExt as _;
use std::path::Path;
use vml_chunk::format::{FOOTER_CHUNK_LEN, FOOTER_FRAME_LEN, PACK_HEADER_LEN, PACK_TRAILER_LEN};
use vml_chunk::index::{FrameRow, INDEX_DIR, PackRow, Record, write_segment};
use vml_chunk::pack::{Footer, FooterChunk, FooterFrame};
use vml_chunk::seal::sealed_len;
use vml_chunk::{Backend, PackId, PackKind};

/// Plain bytes of a chunk: the average of the default chunker.
pub const CHUNK_LEN: u32 = 8 << 10;
/// Chunks of a frame: 4 MiB, the default.
const FRAME_CHUNKS: u32 = 512;
/// Bytes of a frame in its pack: half of what is in it.
const STORED_LEN: u32 = 2 << 20;
/// Lengths of packs, as the store chooses them: a 64th of what is stored, within these bounds.
const PACK_TARGET: std::ops::RangeInclusive<u64> = 16 << 20..=256 << 20;
/// One pack of so many is taken away by the collection that is measured.
const GOING: usize = 20;
/// Segments are each five times all smaller ones, down to this many records: as many as merges leave at most.
const SMALLEST: u64 = 20_000;

/// A pack of a segment.
#[derive(Debug, Clone, Copy)]
pub struct Pack {
    /// Its row in the index.
    pub row: PackRow,
    /// The frames of the segment that are in it.
    pub frames: (u32, u32),
    /// Whether the collection takes it away.
    pub goes: bool,
}

/// A segment.
#[derive(Debug, Clone)]
pub struct Part {
    /// Its chunks.
    pub ids: Ids,
    /// Its packs.
    pub packs: Vec<Pack>,
}

impl Part {
    fn frame_count(&self) -> u32 {
        u32::try_from(self.ids.count().div_ceil(FRAME_CHUNKS.into())).expect("below 2^32 chunks")
    }

    fn frame_chunks(&self, frame: u32) -> u32 {
        let left = self.ids.count() - u64::from(frame) * u64::from(FRAME_CHUNKS);
        u32::try_from(left).unwrap_or(u32::MAX).min(FRAME_CHUNKS)
    }

    /// The places of a pack's chunks among those of the segment, as they were stored.
    pub fn places(&self, pack: &Pack) -> std::ops::Range<u64> {
        let place = |frame: u32| (u64::from(frame) * u64::from(FRAME_CHUNKS)).min(self.ids.count());
        place(pack.frames.0)..place(pack.frames.1)
    }

    fn footer(&self, pack: &Pack) -> Footer {
        let frames = (pack.frames.0..pack.frames.1).zip(0..).map(|(frame, number)| FooterFrame {
            offset: offset(number),
            stored_len: STORED_LEN,
            plain_len: self.frame_chunks(frame) * CHUNK_LEN,
            chunk_count: self.frame_chunks(frame),
        });
        let chunks = self.places(pack).map(|place| FooterChunk { id: self.ids.id(self.ids.stored_at(place)), len: CHUNK_LEN });
        Footer { kind: PackKind::Data, compaction: 0, frames: frames.collect(), chunks: chunks.collect() }
    }

    fn write(&self, out: &mut dyn FnMut(&[u8]) -> vml_chunk::Result<()>) -> vml_chunk::Result<String> {
        let rows: Vec<PackRow> = self.packs.iter().map(|pack| pack.row).collect();
        let mut frames = Vec::with_capacity(self.frame_count() as usize);
        for (pack, number) in self.packs.iter().zip(0..) {
            frames.extend((pack.frames.0..pack.frames.1).zip(0..).map(|(frame, place)| FrameRow {
                pack: number,
                offset: offset(place),
                stored_len: STORED_LEN,
                plain_len: self.frame_chunks(frame) * CHUNK_LEN,
            }));
        }
        let count = usize::try_from(self.ids.count()).expect("below 2^32");
        write_segment(
            &rows,
            &mut frames.into_iter(),
            count,
            &mut |each| {
                self.ids.for_each(&mut |id, number| {
                    let place = self.ids.stored_as(number);
                    let (frame, slot) = (place / u64::from(FRAME_CHUNKS), place % u64::from(FRAME_CHUNKS));
                    let narrow = |value: u64| u32::try_from(value).expect("below 2^32");
                    each(&Record { id, frame: narrow(frame), offset: narrow(slot) * CHUNK_LEN, len: CHUNK_LEN })
                })
            },
            out,
        )
    }
}

fn offset(number: u32) -> u32 {
    PACK_HEADER_LEN as u32 + number * STORED_LEN
}

/// What a repository with so many chunks has: the same for each process that asks.
pub fn parts(chunks: u64) -> Vec<Part> {
    let (mut parts, mut left, mut stored, mut number) = (Vec::new(), chunks, 0_u64, 0_usize);
    while left > 0 {
        let count = if left > 2 * SMALLEST { left * 5 / 6 } else { left };
        let mut part = Part { ids: Ids::new(parts.len() as u64, count), packs: Vec::new() };
        left -= count;
        let mut frame = 0;
        while frame < part.frame_count() {
            let target = (stored / 64).clamp(*PACK_TARGET.start(), *PACK_TARGET.end());
            let frames = u32::try_from(target / u64::from(STORED_LEN)).expect("small").min(part.frame_count() - frame);
            let mut id = [0; 32];
            id.chunks_mut(8).zip(0..).for_each(|(bytes, salt)| bytes.copy_from_slice(&mix(mix(number as u64) ^ salt).to_le_bytes()));
            let row = PackRow { id: PackId::from_bytes(id), len: 0, kind: PackKind::Data, compaction: 0 };
            let mut pack = Pack { row, frames: (frame, frame + frames), goes: number % GOING == GOING - 1 };
            let places = part.places(&pack);
            pack.row.len = u64::from(offset(frames))
                + u64::from(frames) * FOOTER_FRAME_LEN as u64
                + (places.end - places.start) * FOOTER_CHUNK_LEN as u64
                + PACK_TRAILER_LEN as u64;
            stored += pack.row.len;
            part.packs.push(pack);
            (frame, number) = (frame + frames, number + 1);
        }
        parts.push(part);
    }
    parts
}

/// What was made.
#[derive(Debug, Clone, Copy, Default)]
pub struct Made {
    /// Packs.
    pub packs: usize,
    /// Their bytes, if they had content.
    pub packs_bytes: u64,
    /// Segments.
    pub segments: usize,
    /// Their plain bytes.
    pub index_bytes: u64,
}

/// Adds so many chunks to the repository in `dir`, whose files go through `backend`; those of packs are made beside it, because they have holes.
///
/// # Errors
/// What the file system or the library says.
pub fn fill(backend: &dyn Backend, dir: &Path, sealed: bool, chunks: u64) -> Result<Made> {
    let mut made = Made::default();
    let packs_dir = dir.join(PackKind::Data.dir());
    fs::create_dir_all(&packs_dir).with_context(|| format!("cannot make {}", packs_dir.display()))?;
    for part in parts(chunks) {
        for pack in &part.packs {
            let path = packs_dir.join(pack.row.id.to_string());
            let make = || {
                let file = File::create(&path)?;
                file.set_len(if sealed { sealed_len(&PackKind::Data.key(&pack.row.id), pack.row.len) } else { pack.row.len })?;
                if pack.goes && !sealed {
                    let end = u64::from(offset(pack.frames.1 - pack.frames.0));
                    let footer = part.footer(pack).encode(end);
                    assert_eq!(end + footer.len() as u64, pack.row.len, "a footer has the length that was foreseen");
                    file.write_all_at(&footer, end)?;
                }
                Ok::<(), std::io::Error>(())
            };
            make().with_context(|| format!("cannot make {}", path.display()))?;
            made.packs += 1;
            made.packs_bytes += pack.row.len;
        }
        let mut staged = backend.stage_in(INDEX_DIR)?;
        let name = part.write(&mut |bytes| {
            made.index_bytes += bytes.len() as u64;
            staged.append(bytes)
        })?;
        staged.publish(&format!("{INDEX_DIR}/{name}"))?;
        made.segments += 1;
    }
    Ok(made)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::Arc;
    use vml_chunk::{ChunkStore, LocalBackend, StoreOptions};

    #[test]
    fn what_is_made_is_a_store_that_has_the_chunks() {
        let place = tempfile::tempdir().unwrap();
        let backend = LocalBackend::open(place.path()).unwrap();
        let made = fill(&backend, place.path(), false, 300_000).unwrap();
        assert!(made.segments >= 2 && made.index_bytes / 300_000 < 48, "{made:?}");
        let (store, report) = ChunkStore::open(Arc::new(backend), StoreOptions::default()).unwrap();
        assert!(report.indexed_packs == 0 && report.bad_segments.is_empty() && report.missing_packs.is_empty(), "{report:?}");
        assert!(store.reload(true).unwrap().bad_segments.is_empty());
        assert_eq!((store.totals().chunks_count, store.totals().data_packs_count), (300_000, made.packs as u64));
        let view = store.view();
        for part in parts(300_000) {
            let pack = part.packs.last().unwrap();
            for place in part.places(pack).step_by(501) {
                let id = part.ids.id(part.ids.stored_at(place));
                let found: Vec<_> = view.locate(&id).collect();
                assert_eq!((found.len(), found[0].pack, found[0].chunk_len), (1, pack.row.id, CHUNK_LEN));
                assert_eq!(u64::from(found[0].chunk_offset), place % u64::from(FRAME_CHUNKS) * u64::from(CHUNK_LEN));
            }
        }
    }
}
