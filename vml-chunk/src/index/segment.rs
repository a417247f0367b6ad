//! One segment of the index, read in place.

use super::source::{STRIDE, Source};
use crate::error::{Error, ErrorKind, Result};
use crate::format::{
    COMPACTION_MAX, RECORD_LEN, SEGMENT_FRAME_LEN, SEGMENT_HEADER_LEN, SEGMENT_MAGIC, SEGMENT_PACK_LEN, SEGMENT_TRAILER_LEN,
    SEGMENT_VERSION, id_at, u16_at, u24_at, u32_at, u64_at,
};
use crate::id::{ChunkId, ID_LEN, PackId};
use crate::pack::PackKind;
use std::cmp::Ordering;
use std::ops::Range;

/// A row of a segment's pack table.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct PackRow {
    /// The pack.
    pub id: PackId,
    /// Its length in bytes.
    pub len: u64,
    /// What it holds.
    pub kind: PackKind,
    /// The zstd level at which it was compacted, 0 when it was not.
    pub compaction: u8,
}

/// A row of a segment's frame table.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct FrameRow {
    /// Number of its pack in the segment's pack table.
    pub pack: u32,
    /// Where it begins in the pack, in bytes.
    pub offset: u32,
    /// Its bytes in the pack.
    pub stored_len: u32,
    /// Bytes of its chunks together.
    pub plain_len: u32,
}

/// One row of the index.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Record {
    /// The chunk.
    pub id: ChunkId,
    /// Number of its frame in the segment's frame table.
    pub frame: u32,
    /// Where it begins in the plain frame, in bytes.
    pub offset: u32,
    /// Its plain length in bytes.
    pub len: u32,
}

impl Record {
    /// What stands for a record that cannot be read: it leads to no frame.
    const UNREADABLE: Self = Self { id: ChunkId::from_bytes([0; ID_LEN]), frame: u32::MAX, offset: 0, len: 0 };

    fn decode(bytes: &[u8]) -> Self {
        Self {
            id: ChunkId::from_bytes(id_at(bytes, 0)),
            frame: u32_at(bytes, ID_LEN),
            offset: u24_at(bytes, ID_LEN + 4),
            len: u24_at(bytes, ID_LEN + 7),
        }
    }
}

/// A segment over any bytes: mapped, opened block by block, read, or made up by a fuzzer.
pub struct Segment<T> {
    data: T,
    pack_count: usize,
    frame_count: usize,
    record_count: usize,
    fanout_bits: u32,
}

impl<T: Source> Segment<T> {
    /// Reads the header; constant time. The rest is trusted for nothing: every look-up checks what it reads.
    ///
    /// # Errors
    /// `UnsupportedFormat` or `Corrupt`.
    pub fn from_data(data: T) -> Result<Self> {
        let bad = |why: &str| Error::corrupt(format!("the index segment {why}"));
        if data.len() < SEGMENT_HEADER_LEN + SEGMENT_TRAILER_LEN {
            return Err(bad("is cut short"));
        }
        let mut header = [0; SEGMENT_HEADER_LEN];
        data.with(0, SEGMENT_HEADER_LEN, |bytes| header.copy_from_slice(bytes)).ok_or_else(|| bad("cannot be opened"))?;
        if header[..8] != SEGMENT_MAGIC {
            return Err(bad("does not begin with its magic bytes"));
        }
        // Every version has its header's checksum here, so that a flipped bit is no newer version.
        if blake3::hash(&header[..32]).as_bytes() != &header[32..] {
            return Err(bad("has a header that does not match its checksum"));
        }
        let version = u16_at(&header, 8);
        if version > SEGMENT_VERSION {
            return Err(Error::new(
                ErrorKind::UnsupportedFormat,
                format!("the index segment has format version {version}, this program knows up to {SEGMENT_VERSION}"),
            ));
        }
        let segment = Self {
            pack_count: u32_at(&header, 12) as usize,
            frame_count: u32_at(&header, 16) as usize,
            record_count: u32_at(&header, 20) as usize,
            fanout_bits: u32::from(u16_at(&header, 10)),
            data,
        };
        if version == 0
            || header[24..32] != [0; 8]
            || segment.fanout_bits > 24
            || segment.data.len() != segment.records_offset() + segment.record_count * RECORD_LEN + SEGMENT_TRAILER_LEN
        {
            return Err(bad("does not have the length its header says"));
        }
        Ok(segment)
    }

    /// Number of chunks.
    pub fn len(&self) -> usize {
        self.record_count
    }

    /// Whether it has no chunk.
    pub fn is_empty(&self) -> bool {
        self.record_count == 0
    }

    /// Bytes of the whole segment.
    pub fn stored_len(&self) -> u64 {
        self.data.len() as u64
    }

    /// Checks every byte against the digest that ends the segment, that records are sorted, and that the fan-out leads to
    /// each of them.
    ///
    /// # Errors
    /// `Corrupt`.
    pub fn verify(&self) -> Result<()> {
        let body_len = self.data.len() - SEGMENT_TRAILER_LEN;
        let mut hasher = blake3::Hasher::new();
        for at in (0..body_len).step_by(STRIDE) {
            self.data.pass(at);
            let hashed = self.data.with(at, STRIDE.min(body_len - at), |part| _ = hasher.update(part));
            hashed.ok_or_else(|| Error::corrupt("a part of the index segment cannot be opened"))?;
        }
        if self.data.with(body_len, SEGMENT_TRAILER_LEN, |digest| hasher.finalize().as_bytes() == digest) != Some(true) {
            return Err(Error::corrupt("the index segment does not match its checksum"));
        }
        let astray = || Error::corrupt("the index segment's fan-out does not lead to its records");
        let mut last: Option<ChunkId> = None;
        // The next bucket whose beginning is to be compared.
        let mut bucket = 0;
        for (row, record) in (0..).zip(self.scan()) {
            if last.is_some_and(|last| last > record.id) || record.frame as usize >= self.frame_count {
                return Err(Error::corrupt("the index segment's records are not in order"));
            }
            last = Some(record.id);
            while bucket <= self.bucket_of(record.id.as_bytes()) {
                if self.bucket_start(bucket) != row {
                    return Err(astray());
                }
                bucket += 1;
            }
        }
        let rest_is_empty = (bucket..=1 << self.fanout_bits).all(|bucket| self.bucket_start(bucket) == self.record_count);
        if rest_is_empty { Ok(()) } else { Err(astray()) }
    }

    /// Finds a chunk's records, each with its row number: one for every pack that has it, most often one.
    pub fn find_all<'a>(&'a self, id: &'a ChunkId) -> impl Iterator<Item = (usize, Record)> + 'a {
        let first = self.find(id);
        let next = move |(row, _): &(usize, Record)| {
            let row = row + 1;
            let is_next =
                row < self.record_count && self.data.with(self.record_offset(row), ID_LEN, |bytes| bytes == id.as_bytes()) == Some(true);
            is_next.then(|| (row, self.record(row)))
        };
        std::iter::successors(first, next)
    }

    /// Finds a chunk's first record and its row number.
    pub fn find(&self, id: &ChunkId) -> Option<(usize, Record)> {
        let bucket = self.bucket_of(id.as_bytes());
        // A damaged fan-out only narrows the search wrongly; the bounds keep it inside the table.
        let bounds = |bytes: &[u8]| (u32_at(bytes, 0) as usize, u32_at(bytes, 4) as usize);
        let (low, high) = self.data.with(self.fanout_offset() + bucket * 4, 8, bounds)?;
        let (mut low, mut high) = (low.min(self.record_count), high.min(self.record_count));
        let mut found = None;
        while low < high {
            let middle = low.midpoint(high);
            match self.data.with(self.record_offset(middle), ID_LEN, |bytes| bytes.cmp(id.as_bytes()))? {
                Ordering::Less => low = middle + 1,
                Ordering::Greater => high = middle,
                Ordering::Equal => (found, high) = (Some(middle), middle),
            }
        }
        found.map(|row| (row, self.record(row)))
    }

    /// The record of row `row`, which is below [`len`](Self::len). One that cannot be opened leads to no frame.
    pub fn record(&self, row: usize) -> Record {
        debug_assert!(row < self.record_count);
        self.data.with(self.record_offset(row), RECORD_LEN, Record::decode).unwrap_or(Record::UNREADABLE)
    }

    /// All records in order. Pages that were passed are let go of, and those that come are got ahead.
    pub fn scan(&self) -> Scan<'_, T, Range<usize>> {
        Scan { segment: self, rows: 0..self.record_count, stride_end: Some(0) }
    }

    /// The records of these rows, which rise and are below [`len`](Self::len). Where they are `many`, as [`scan`](Self::scan); else nothing is read that
    /// is not asked for.
    pub fn scan_rows<I: Iterator<Item = usize>>(&self, rows: I, many: bool) -> Scan<'_, T, I> {
        Scan { segment: self, rows, stride_end: many.then_some(0) }
    }

    /// Row `number` of the frame table, if there is one.
    pub fn frame(&self, number: u32) -> Option<FrameRow> {
        let number = number as usize;
        if number >= self.frame_count {
            return None;
        }
        self.data.with(self.frames_offset() + number * SEGMENT_FRAME_LEN, SEGMENT_FRAME_LEN, |bytes| FrameRow {
            pack: u32_at(bytes, 0),
            offset: u32_at(bytes, 4),
            stored_len: u32_at(bytes, 8),
            plain_len: u32_at(bytes, 12),
        })
    }

    /// Number of frames.
    pub fn frame_count(&self) -> usize {
        self.frame_count
    }

    /// Number of packs.
    pub fn pack_count(&self) -> usize {
        self.pack_count
    }

    /// Row `number` of the pack table, if there is one and it is sound.
    pub fn pack(&self, number: u32) -> Option<PackRow> {
        let number = number as usize;
        if number >= self.pack_count {
            return None;
        }
        self.data.with(SEGMENT_HEADER_LEN + number * SEGMENT_PACK_LEN, SEGMENT_PACK_LEN, |bytes| {
            let kind = PackKind::from_number(bytes[40]).filter(|_| bytes[41] <= COMPACTION_MAX && bytes[42..] == [0; 6])?;
            Some(PackRow { id: PackId::from_bytes(id_at(bytes, 0)), len: u64_at(bytes, 32), kind, compaction: bytes[41] })
        })?
    }

    /// Another handle on the same bytes.
    pub(super) fn shared_data(&self) -> T
    where
        T: Clone,
    {
        self.data.clone()
    }

    /// The bucket of the fan-out that an id falls into.
    fn bucket_of(&self, id: &[u8]) -> usize {
        if self.fanout_bits == 0 { 0 } else { (u32::from_be_bytes([id[0], id[1], id[2], id[3]]) >> (32 - self.fanout_bits)) as usize }
    }

    /// The first row of a bucket, as the fan-out says; of the one after the last bucket too.
    fn bucket_start(&self, bucket: usize) -> usize {
        self.data.with(self.fanout_offset() + bucket * 4, 4, |bytes| u32_at(bytes, 0) as usize).unwrap_or(usize::MAX)
    }

    fn frames_offset(&self) -> usize {
        SEGMENT_HEADER_LEN + self.pack_count * SEGMENT_PACK_LEN
    }

    fn fanout_offset(&self) -> usize {
        self.frames_offset() + self.frame_count * SEGMENT_FRAME_LEN
    }

    fn records_offset(&self) -> usize {
        self.fanout_offset() + ((1 << self.fanout_bits) + 1) * 4
    }

    fn record_offset(&self, row: usize) -> usize {
        self.records_offset() + row * RECORD_LEN
    }
}

/// Walks records of a segment, in order.
pub struct Scan<'a, T, I> {
    segment: &'a Segment<T>,
    rows: I,
    /// Where in the segment the walk tells again how far it is, if it does.
    stride_end: Option<usize>,
}

impl<T: Source, I: Iterator<Item = usize>> Iterator for Scan<'_, T, I> {
    type Item = Record;

    fn next(&mut self) -> Option<Record> {
        let row = self.rows.next()?;
        let at = self.segment.record_offset(row);
        if self.stride_end.is_some_and(|end| at >= end) {
            self.segment.data.pass(at);
            self.stride_end = Some(at + STRIDE);
        }
        Some(self.segment.record(row))
    }

    fn size_hint(&self) -> (usize, Option<usize>) {
        self.rows.size_hint()
    }
}
