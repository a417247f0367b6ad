//! Lays a segment out, in one go, from tables and records that are walked and never held.

use super::segment::{FrameRow, PackRow, Record};
use crate::error::{Error, Result};
use crate::format::{SEGMENT_HEADER_LEN, SEGMENT_MAGIC, SEGMENT_VERSION, push_u24};
use crate::id::ID_LEN;

/// Bytes that are handed out at a time.
const PIECE: usize = 256 << 10;

/// Hears of one record.
pub type EachRecord<'a> = dyn FnMut(&Record) -> Result<()> + 'a;

/// Hands the bytes of a segment to `out`, in pieces; returns the name that the segment has, the digest of all of them in hexadecimal.
///
/// `records` calls what it is given for each record, in the order of ids; it is asked twice and does the same both times, with `records_max`
/// records at most.
///
/// # Errors
/// `InvalidInput` when there are more rows than a segment can count, or whatever `records` and `out` say.
///
/// # Cost
/// Memory is the fan-out: at most half a byte a record, and 64 MiB.
pub fn write_segment(
    packs: &[PackRow],
    frames: &mut dyn ExactSizeIterator<Item = FrameRow>,
    records_max: usize,
    records: &mut dyn FnMut(&mut EachRecord<'_>) -> Result<()>,
    out: &mut dyn FnMut(&[u8]) -> Result<()>,
) -> Result<String> {
    let mut fanout = Fanout::new(count(records_max)?);
    records(&mut |record| {
        fanout.count(record);
        Ok(())
    })?;
    fanout.fit();
    let mut hasher = blake3::Hasher::new();
    let mut buffer = Vec::with_capacity(PIECE + (1 << 10));
    push_header(&mut buffer, packs.len(), frames.len(), &fanout)?;
    let mut hashed = |buffer: &mut Vec<u8>, full: usize| {
        if buffer.len() > full {
            hasher.update(buffer);
            out(buffer)?;
            buffer.clear();
        }
        Ok::<(), Error>(())
    };
    for pack in packs {
        buffer.extend_from_slice(pack.id.as_bytes());
        buffer.extend_from_slice(&pack.len.to_le_bytes());
        buffer.extend_from_slice(&[pack.kind.number(), pack.compaction, 0, 0, 0, 0, 0, 0]);
        hashed(&mut buffer, PIECE)?;
    }
    for frame in frames {
        for value in [frame.pack, frame.offset, frame.stored_len, frame.plain_len] {
            buffer.extend_from_slice(&value.to_le_bytes());
        }
        hashed(&mut buffer, PIECE)?;
    }
    let mut start = 0_u32;
    for bucket in &fanout.buckets {
        buffer.extend_from_slice(&start.to_le_bytes());
        start += bucket;
        hashed(&mut buffer, PIECE)?;
    }
    buffer.extend_from_slice(&start.to_le_bytes());
    drop(fanout);
    records(&mut |record| {
        buffer.extend_from_slice(&record.id.as_bytes()[..ID_LEN]);
        buffer.extend_from_slice(&record.frame.to_le_bytes());
        push_u24(&mut buffer, record.offset);
        push_u24(&mut buffer, record.len);
        hashed(&mut buffer, PIECE)
    })?;
    hashed(&mut buffer, 0)?;
    let digest = hasher.finalize();
    out(digest.as_bytes())?;
    // The name is a digest over the digest, too.
    Ok(hasher.update(digest.as_bytes()).finalize().to_hex().to_string())
}

fn push_header(head: &mut Vec<u8>, pack_count: usize, frame_count: usize, fanout: &Fanout) -> Result<()> {
    head.extend_from_slice(&SEGMENT_MAGIC);
    head.extend_from_slice(&SEGMENT_VERSION.to_le_bytes());
    head.extend_from_slice(&u16::try_from(fanout.bits).expect("at most 24").to_le_bytes());
    for value in [count(pack_count)?, count(frame_count)?, fanout.record_count, 0, 0] {
        head.extend_from_slice(&value.to_le_bytes());
    }
    let sum = blake3::hash(head);
    head.extend_from_slice(sum.as_bytes());
    debug_assert_eq!(head.len(), SEGMENT_HEADER_LEN);
    Ok(())
}

/// How many records fall into each bucket.
struct Fanout {
    bits: u32,
    buckets: Vec<u32>,
    record_count: u32,
}

impl Fanout {
    /// About 16 records a bucket.
    fn bits_for(record_count: u32) -> u32 {
        (record_count / 16).checked_ilog2().map_or(0, |log| log + 1).min(24)
    }

    /// For at most so many records.
    fn new(records_max: u32) -> Self {
        let bits = Self::bits_for(records_max);
        Self { bits, buckets: vec![0; 1 << bits], record_count: 0 }
    }

    fn count(&mut self, record: &Record) {
        let id = record.id.as_bytes();
        let first = u32::from_be_bytes([id[0], id[1], id[2], id[3]]);
        let bucket = if self.bits == 0 { 0 } else { first >> (32 - self.bits) };
        self.buckets[bucket as usize] += 1;
        self.record_count += 1;
    }

    /// Joins buckets until they are as many as the records that came need.
    fn fit(&mut self) {
        while self.bits > Self::bits_for(self.record_count) {
            self.bits -= 1;
            let half = 1 << self.bits;
            for bucket in 0..half {
                self.buckets[bucket] = self.buckets[2 * bucket] + self.buckets[2 * bucket + 1];
            }
            self.buckets.truncate(half);
        }
    }
}

pub(super) fn count(value: usize) -> Result<u32> {
    u32::try_from(value).map_err(|_| Error::invalid("an index segment can count 2^32 rows at most"))
}
