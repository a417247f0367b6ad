//! Makes a segment from the footers of packs, and lays its bytes out for both ways to make one.

use super::segment::{FrameRow, PackRow, Record};
use crate::error::{Error, Result};
use crate::format::{SEGMENT_HEADER_LEN, SEGMENT_MAGIC, SEGMENT_VERSION, push_u24};
use crate::id::{ID_LEN, PackId};
use crate::pack::Footer;

/// A pack to be indexed.
pub struct SegmentPack<'a> {
    /// Its name.
    pub id: PackId,
    /// Its length in bytes.
    pub len: u64,
    /// Its tables.
    pub footer: &'a Footer,
}

/// Makes the bytes of a segment over these packs.
///
/// # Errors
/// `InvalidInput` when there are more chunks than a segment can count.
///
/// # Cost
/// 44 bytes of memory a chunk and the segment itself: callers index a bounded number of chunks at a time.
pub fn build_segment(packs: &[SegmentPack<'_>]) -> Result<Vec<u8>> {
    let mut records = Vec::with_capacity(packs.iter().map(|pack| pack.footer.chunks.len()).sum());
    let mut frames = Vec::new();
    for (pack_number, pack) in packs.iter().enumerate() {
        let mut chunks = pack.footer.chunks.iter();
        for frame in &pack.footer.frames {
            let frame_number = count(frames.len())?;
            frames.push(FrameRow {
                pack: count(pack_number)?,
                offset: frame.offset,
                stored_len: frame.stored_len,
                plain_len: frame.plain_len,
            });
            let mut offset = 0;
            for chunk in chunks.by_ref().take(frame.chunk_count as usize) {
                records.push(Record { id: chunk.id, frame: frame_number, offset, len: chunk.len });
                offset += chunk.len;
            }
        }
    }
    records.sort_unstable();
    // A chunk can stand in two packs when two writers stored it at once; the first frame serves.
    records.dedup_by_key(|record| record.id);
    let rows: Vec<PackRow> = packs.iter().map(|pack| PackRow { id: pack.id, len: pack.len, kind: pack.footer.kind }).collect();
    let mut bytes = Vec::new();
    let mut layout = SegmentLayout::new(count(records.len())?);
    records.iter().for_each(|record| layout.count(record));
    layout.write_head(&rows, frames.len(), frames.iter().copied(), &mut |part| {
        bytes.extend_from_slice(part);
        Ok(())
    })?;
    records.iter().for_each(|record| push_record(&mut bytes, record));
    let digest = blake3::hash(&bytes);
    bytes.extend_from_slice(digest.as_bytes());
    Ok(bytes)
}

/// What stands before the records of a segment; needs to have seen every record once.
pub(super) struct SegmentLayout {
    record_count: u32,
    fanout_bits: u32,
    buckets: Vec<u32>,
}

impl SegmentLayout {
    /// For a segment of `record_count` records: about 16 of them a bucket.
    pub(super) fn new(record_count: u32) -> Self {
        let fanout_bits = (record_count / 16).checked_ilog2().map_or(0, |log| log + 1).min(24);
        Self { record_count, fanout_bits, buckets: vec![0; 1 << fanout_bits] }
    }

    pub(super) fn count(&mut self, record: &Record) {
        let id = record.id.as_bytes();
        let first = u32::from_be_bytes([id[0], id[1], id[2], id[3]]);
        let bucket = if self.fanout_bits == 0 { 0 } else { first >> (32 - self.fanout_bits) };
        self.buckets[bucket as usize] += 1;
    }

    /// Hands header, pack table, frame table and fan-out to `out`, in pieces.
    pub(super) fn write_head(
        &self,
        packs: &[PackRow],
        frame_count: usize,
        frames: impl Iterator<Item = FrameRow>,
        out: &mut dyn FnMut(&[u8]) -> Result<()>,
    ) -> Result<()> {
        let mut head = Vec::with_capacity(SEGMENT_HEADER_LEN);
        head.extend_from_slice(&SEGMENT_MAGIC);
        head.extend_from_slice(&SEGMENT_VERSION.to_le_bytes());
        head.extend_from_slice(&u16::try_from(self.fanout_bits).expect("at most 24").to_le_bytes());
        for value in [count(packs.len())?, count(frame_count)?, self.record_count, 0, 0] {
            head.extend_from_slice(&value.to_le_bytes());
        }
        let sum = blake3::hash(&head);
        head.extend_from_slice(sum.as_bytes());
        debug_assert_eq!(head.len(), SEGMENT_HEADER_LEN);
        for pack in packs {
            head.extend_from_slice(pack.id.as_bytes());
            head.extend_from_slice(&pack.len.to_le_bytes());
            head.extend_from_slice(&[pack.kind.number(), 0, 0, 0, 0, 0, 0, 0]);
        }
        out(&head)?;
        let mut rows = Vec::with_capacity(64 << 10);
        for frame in frames {
            for value in [frame.pack, frame.offset, frame.stored_len, frame.plain_len] {
                rows.extend_from_slice(&value.to_le_bytes());
            }
            flush_at(&mut rows, 64 << 10, out)?;
        }
        let mut start = 0_u32;
        for bucket in &self.buckets {
            rows.extend_from_slice(&start.to_le_bytes());
            start += bucket;
            flush_at(&mut rows, 64 << 10, out)?;
        }
        rows.extend_from_slice(&start.to_le_bytes());
        flush_at(&mut rows, 0, out)
    }
}

pub(super) fn flush_at(buffer: &mut Vec<u8>, len: usize, out: &mut dyn FnMut(&[u8]) -> Result<()>) -> Result<()> {
    if buffer.len() > len {
        out(buffer)?;
        buffer.clear();
    }
    Ok(())
}

pub(super) fn push_record(bytes: &mut Vec<u8>, record: &Record) {
    bytes.extend_from_slice(&record.id.as_bytes()[..ID_LEN]);
    bytes.extend_from_slice(&record.frame.to_le_bytes());
    push_u24(bytes, record.offset);
    push_u24(bytes, record.len);
}

pub(super) fn count(value: usize) -> Result<u32> {
    u32::try_from(value).map_err(|_| Error::invalid("an index segment can count 2^32 rows at most"))
}
