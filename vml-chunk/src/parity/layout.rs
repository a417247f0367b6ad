//! The bytes of a file of parity: where each stripe is, its table, and the trailer; pure functions.

use crate::error::{Error, ErrorKind, Result};
use crate::format::{PACK_MAX_LEN, id_at, u16_at, u32_at, u64_at};
use crate::id::{ID_LEN, PackId};

/// Where files of parity are.
pub const PARITY_DIR: &str = "parity";
/// Version of the layout.
pub const PARITY_VERSION: u16 = 1;
/// Most parity in percent of what it protects.
pub const PARITY_PERCENT_MAX: u8 = 100;
/// First bytes of the trailer.
const PARITY_MAGIC: [u8; 8] = *b"VMLPAR\0\0";
/// Bytes of the trailer.
pub(super) const TRAILER_LEN: usize = 96;
/// Bytes of a shard's digest, and of a table's.
pub(super) const DIGEST_LEN: usize = 16;
/// Bytes of a shard: what a disk loses at a time.
pub(super) const SHARD_LEN: u32 = 4096;
/// Shards of the pack in a stripe.
pub(super) const STRIPE_SHARDS: u32 = 1024;
/// Limits of what a file may say.
const SHARD_LEN_MAX: u32 = 1 << 16;
const STRIPE_SHARDS_MAX: u32 = 1 << 13;

/// The key of the parity of a pack.
pub fn parity_key(id: &PackId) -> String {
    format!("{PARITY_DIR}/{id}")
}

/// How a pack is divided, and where what belongs to its parts is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ParityLayout {
    /// The pack.
    pub pack: PackId,
    /// Its length in bytes.
    pub pack_len: u64,
    /// Parity shards for a hundred shards of the pack.
    pub percent: u8,
    /// Bytes of a shard, a multiple of 64.
    pub shard_len: u32,
    /// Shards of the pack in each stripe but the last.
    pub stripe_shards: u32,
}

impl ParityLayout {
    /// As this program writes it.
    pub fn new(pack: PackId, pack_len: u64, percent: u8) -> Self {
        Self { pack, pack_len, percent, shard_len: SHARD_LEN, stripe_shards: STRIPE_SHARDS }
    }

    /// Bytes of the pack in each stripe but the last.
    pub(super) fn stripe_len(&self) -> u64 {
        u64::from(self.shard_len) * u64::from(self.stripe_shards)
    }

    /// How many stripes.
    pub fn stripes(&self) -> u64 {
        self.pack_len.div_ceil(self.stripe_len())
    }

    /// Shards of the pack in a stripe.
    pub fn shards(&self, stripe: u64) -> usize {
        let left = self.pack_len.saturating_sub(stripe * self.stripe_len()).min(self.stripe_len());
        usize::try_from(left.div_ceil(u64::from(self.shard_len))).unwrap_or(0)
    }

    /// Parity shards of a stripe: as many of its shards can be mended.
    pub fn parity_shards(&self, stripe: u64) -> usize {
        parity_shards(self.shards(stripe), self.percent)
    }

    /// Bytes that belong to a stripe of so many shards.
    fn block_len(&self, shards: usize) -> u64 {
        let parity = parity_shards(shards, self.percent);
        ((shards + parity + 1) * DIGEST_LEN) as u64 + parity as u64 * u64::from(self.shard_len)
    }

    /// Where the table of a stripe begins.
    pub(super) fn block_offset(&self, stripe: u64) -> u64 {
        stripe * self.block_len(self.stripe_shards as usize)
    }

    /// The length of the whole file.
    pub fn file_len(&self) -> u64 {
        let last = self.stripes().saturating_sub(1);
        let blocks = if self.pack_len == 0 { 0 } else { self.block_offset(last) + self.block_len(self.shards(last)) };
        blocks + TRAILER_LEN as u64
    }

    /// The last bytes of the file.
    pub fn encode(&self) -> [u8; TRAILER_LEN] {
        let mut bytes = [0; TRAILER_LEN];
        bytes[..8].copy_from_slice(&PARITY_MAGIC);
        bytes[8..10].copy_from_slice(&PARITY_VERSION.to_le_bytes());
        bytes[10] = self.percent;
        bytes[12..16].copy_from_slice(&self.shard_len.to_le_bytes());
        bytes[16..20].copy_from_slice(&self.stripe_shards.to_le_bytes());
        bytes[24..32].copy_from_slice(&self.pack_len.to_le_bytes());
        bytes[32..64].copy_from_slice(self.pack.as_bytes());
        let sum = blake3::hash(&bytes[..64]);
        bytes[64..].copy_from_slice(sum.as_bytes());
        bytes
    }

    /// Reads the trailer, the last bytes of a file of `file_len`.
    ///
    /// # Errors
    /// `UnsupportedFormat` for a newer version, else `Corrupt`.
    pub fn decode(bytes: &[u8], file_len: u64) -> Result<Self> {
        let bad = |why: &str| Error::corrupt(format!("the parity's trailer {why}"));
        if bytes.len() != TRAILER_LEN || bytes[..8] != PARITY_MAGIC {
            return Err(bad("is missing: the file is cut short or no parity"));
        }
        if bytes[64..] != blake3::hash(&bytes[..64]).as_bytes()[..ID_LEN] {
            return Err(bad("does not match its checksum"));
        }
        let version = u16_at(bytes, 8);
        if version > PARITY_VERSION {
            let message = format!("the parity has format version {version}, this program knows up to {PARITY_VERSION}");
            return Err(Error::new(ErrorKind::UnsupportedFormat, message));
        }
        let layout = Self {
            pack: PackId::from_bytes(id_at(bytes, 32)),
            pack_len: u64_at(bytes, 24),
            percent: bytes[10],
            shard_len: u32_at(bytes, 12),
            stripe_shards: u32_at(bytes, 16),
        };
        let good = version == PARITY_VERSION
            && bytes[11] == 0
            && bytes[20..24] == [0; 4]
            && (1..=PARITY_PERCENT_MAX).contains(&layout.percent)
            && (64..=SHARD_LEN_MAX).contains(&layout.shard_len)
            && layout.shard_len.is_multiple_of(64)
            && (1..=STRIPE_SHARDS_MAX).contains(&layout.stripe_shards)
            && layout.pack_len <= PACK_MAX_LEN;
        // Only now, with everything within its limits, can lengths be added up.
        if !good || layout.file_len() != file_len {
            return Err(bad("does not fit the length of the file"));
        }
        Ok(layout)
    }
}

/// Two at least, so that a small pack survives a bad sector that lies across two shards.
pub(super) fn parity_shards(shards: usize, percent: u8) -> usize {
    (shards * usize::from(percent)).div_ceil(100).max(2)
}

/// The digest of a shard.
pub(super) fn shard_digest(shard: &[u8]) -> [u8; DIGEST_LEN] {
    let mut digest = [0; DIGEST_LEN];
    digest.copy_from_slice(&blake3::hash(shard).as_bytes()[..DIGEST_LEN]);
    digest
}

/// The digest of a stripe's table, which is of no other stripe.
pub(super) fn table_digest(stripe: u64, table: &[u8]) -> [u8; DIGEST_LEN] {
    let mut hasher = blake3::Hasher::new();
    hasher.update(&stripe.to_le_bytes()).update(table);
    let mut digest = [0; DIGEST_LEN];
    digest.copy_from_slice(&hasher.finalize().as_bytes()[..DIGEST_LEN]);
    digest
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_trailer_round_trips_and_every_flipped_bit_of_it_is_noticed() {
        for len in [1, 4096, 4097, 4 << 20, (4 << 20) + 1, 256 << 20] {
            let layout = ParityLayout::new(PackId::of(b"p"), len, 5);
            let bytes = layout.encode();
            assert_eq!(ParityLayout::decode(&bytes, layout.file_len()).unwrap(), layout);
            assert!(ParityLayout::decode(&bytes, layout.file_len() + 1).is_err());
            for bit in 0..TRAILER_LEN * 8 {
                let mut damaged = bytes;
                damaged[bit / 8] ^= 1 << (bit % 8);
                assert_eq!(ParityLayout::decode(&damaged, layout.file_len()).unwrap_err().kind(), ErrorKind::Corrupt, "bit {bit}");
            }
        }
        let layout = ParityLayout::new(PackId::of(b"p"), (4 << 20) + 1, 5);
        assert_eq!((layout.stripes(), layout.shards(0), layout.shards(1)), (2, 1024, 1));
        assert_eq!((layout.parity_shards(0), layout.parity_shards(1)), (52, 2));
    }
}
