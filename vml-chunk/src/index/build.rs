//! Makes a segment from the footers of packs.

use super::segment::{FrameRow, PackRow, Record};
use super::write::{count, write_segment};
use crate::error::Result;
use crate::id::PackId;
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
    let row = |pack: &SegmentPack<'_>| PackRow { id: pack.id, len: pack.len, kind: pack.footer.kind, compaction: pack.footer.compaction };
    let rows: Vec<PackRow> = packs.iter().map(row).collect();
    let mut bytes = Vec::new();
    write_segment(&rows, &mut frames.iter().copied(), records.len(), &mut |each| records.iter().try_for_each(each), &mut |part| {
        bytes.extend_from_slice(part);
        Ok(())
    })?;
    Ok(bytes)
}
