//! One segment of the index, read in place.

use crate::error::{Error, ErrorKind, Result};
use crate::format::{
    RECORD_LEN, SEGMENT_FRAME_LEN, SEGMENT_HEADER_LEN, SEGMENT_MAGIC, SEGMENT_PACK_LEN, SEGMENT_TRAILER_LEN, SEGMENT_VERSION, id_at,
    u16_at, u24_at, u32_at, u64_at,
};
use crate::id::{ChunkId, ID_LEN, PackId};
use crate::pack::PackKind;

/// A row of a segment's pack table.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct PackRow {
    /// The pack.
    pub id: PackId,
    /// Its length in bytes.
    pub len: u64,
    /// What it holds.
    pub kind: PackKind,
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

/// A segment over any bytes: mapped, read or made up by a fuzzer.
pub struct Segment<T> {
    data: T,
    pack_count: usize,
    frame_count: usize,
    record_count: usize,
    fanout_bits: u32,
}

impl<T: AsRef<[u8]>> Segment<T> {
    /// Reads the header; constant time. The rest is trusted for nothing: every look-up checks what it reads.
    ///
    /// # Errors
    /// `UnsupportedFormat` or `Corrupt`.
    pub fn from_data(data: T) -> Result<Self> {
        let bytes = data.as_ref();
        let bad = |why: &str| Error::corrupt(format!("the index segment {why}"));
        if bytes.len() < SEGMENT_HEADER_LEN + SEGMENT_TRAILER_LEN {
            return Err(bad("is cut short"));
        }
        if bytes[..8] != SEGMENT_MAGIC {
            return Err(bad("does not begin with its magic bytes"));
        }
        // Every version has its header's checksum here, so that a flipped bit is no newer version.
        if blake3::hash(&bytes[..32]).as_bytes() != &bytes[32..SEGMENT_HEADER_LEN] {
            return Err(bad("has a header that does not match its checksum"));
        }
        let version = u16_at(bytes, 8);
        if version > SEGMENT_VERSION {
            return Err(Error::new(
                ErrorKind::UnsupportedFormat,
                format!("the index segment has format version {version}, this program knows up to {SEGMENT_VERSION}"),
            ));
        }
        let segment = Self {
            pack_count: u32_at(bytes, 12) as usize,
            frame_count: u32_at(bytes, 16) as usize,
            record_count: u32_at(bytes, 20) as usize,
            fanout_bits: u32::from(u16_at(bytes, 10)),
            data,
        };
        if version == 0
            || segment.data.as_ref()[24..32] != [0; 8]
            || segment.fanout_bits > 24
            || segment.data.as_ref().len() != segment.records_offset() + segment.record_count * RECORD_LEN + SEGMENT_TRAILER_LEN
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
        self.data.as_ref().len() as u64
    }

    /// Checks every byte against the digest that ends the segment, that records are sorted, and that the fan-out leads to
    /// each of them.
    ///
    /// # Errors
    /// `Corrupt`.
    pub fn verify(&self) -> Result<()> {
        let bytes = self.data.as_ref();
        let (body, digest) = bytes.split_at(bytes.len() - SEGMENT_TRAILER_LEN);
        if blake3::hash(body).as_bytes() != digest {
            return Err(Error::corrupt("the index segment does not match its checksum"));
        }
        let sorted = (1..self.record_count).all(|i| self.id(i - 1) < self.id(i));
        let whole = (0..self.record_count).all(|i| (self.record(i).frame as usize) < self.frame_count);
        if !sorted || !whole {
            return Err(Error::corrupt("the index segment's records are not in order"));
        }
        let mut row = 0;
        for bucket in 0..1 << self.fanout_bits {
            if self.bucket_start(bucket) != row {
                return Err(Error::corrupt("the index segment's fan-out does not lead to its records"));
            }
            while row < self.record_count && self.bucket_of(self.id(row)) == bucket {
                row += 1;
            }
        }
        if row != self.record_count || self.bucket_start(1 << self.fanout_bits) != row {
            return Err(Error::corrupt("the index segment's fan-out does not lead to its records"));
        }
        Ok(())
    }

    /// Finds a chunk's record and its row number.
    pub fn find(&self, id: &ChunkId) -> Option<(usize, Record)> {
        let bucket = self.bucket_of(id.as_bytes());
        // A damaged fan-out only narrows the search wrongly; the bounds keep it inside the table.
        let mut low = self.bucket_start(bucket).min(self.record_count);
        let mut high = self.bucket_start(bucket + 1).min(self.record_count);
        while low < high {
            let middle = low.midpoint(high);
            match self.id(middle).cmp(id.as_bytes()) {
                std::cmp::Ordering::Less => low = middle + 1,
                std::cmp::Ordering::Greater => high = middle,
                std::cmp::Ordering::Equal => return Some((middle, self.record(middle))),
            }
        }
        None
    }

    /// The record of row `row`, which is below [`len`](Self::len).
    pub fn record(&self, row: usize) -> Record {
        let bytes = self.data.as_ref();
        let at = self.records_offset() + row * RECORD_LEN;
        Record {
            id: ChunkId::from_bytes(id_at(bytes, at)),
            frame: u32_at(bytes, at + ID_LEN),
            offset: u24_at(bytes, at + ID_LEN + 4),
            len: u24_at(bytes, at + ID_LEN + 7),
        }
    }

    /// Row `number` of the frame table, if there is one.
    pub fn frame(&self, number: u32) -> Option<FrameRow> {
        let number = number as usize;
        if number >= self.frame_count {
            return None;
        }
        let bytes = self.data.as_ref();
        let at = self.frames_offset() + number * SEGMENT_FRAME_LEN;
        Some(FrameRow {
            pack: u32_at(bytes, at),
            offset: u32_at(bytes, at + 4),
            stored_len: u32_at(bytes, at + 8),
            plain_len: u32_at(bytes, at + 12),
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
        let bytes = self.data.as_ref();
        let at = SEGMENT_HEADER_LEN + number * SEGMENT_PACK_LEN;
        let kind = PackKind::from_number(bytes[at + 40]).filter(|_| bytes[at + 41..at + SEGMENT_PACK_LEN] == [0; 7])?;
        Some(PackRow { id: PackId::from_bytes(id_at(bytes, at)), len: u64_at(bytes, at + 32), kind })
    }

    /// Another handle on the same bytes.
    pub(super) fn shared_data(&self) -> T
    where
        T: Clone,
    {
        self.data.clone()
    }

    fn id(&self, row: usize) -> &[u8] {
        let at = self.records_offset() + row * RECORD_LEN;
        &self.data.as_ref()[at..at + ID_LEN]
    }

    /// The bucket of the fan-out that an id falls into.
    fn bucket_of(&self, id: &[u8]) -> usize {
        if self.fanout_bits == 0 { 0 } else { (u32::from_be_bytes([id[0], id[1], id[2], id[3]]) >> (32 - self.fanout_bits)) as usize }
    }

    /// The first row of a bucket, as the fan-out says; of the one after the last bucket too.
    fn bucket_start(&self, bucket: usize) -> usize {
        u32_at(self.data.as_ref(), self.fanout_offset() + bucket * 4) as usize
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
}
