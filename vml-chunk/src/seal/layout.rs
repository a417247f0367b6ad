//! Where what stands in a sealed file, and how long it is.

use super::cipher::TAG_LEN;
use crate::error::{Error, ErrorKind, Result};
use crate::format::{SEALED_DIGEST_LEN, SEALED_MAGIC, u16_at, u32_at};

/// Version of the layout.
pub const SEALED_VERSION: u16 = 1;
/// Number of AES-256-GCM.
pub const CIPHER_AES_256_GCM: u8 = 1;
/// Bytes of a sealed file's header.
pub const HEADER_LEN: usize = 88;
/// Plain bytes of a block; the last one may be shorter.
pub const BLOCK_LEN: usize = 64 << 10;
/// The same in segments of the index, of which a look-up reads some hundred bytes.
pub const INDEX_BLOCK_LEN: usize = 4 << 10;

/// Plain bytes of a block of the file with this key, or of files in the directory of this name.
pub fn block_len(key: &str) -> usize {
    if key.split('/').next() == Some("index") { INDEX_BLOCK_LEN } else { BLOCK_LEN }
}

/// Who can read a file.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Class {
    /// Every key of the repository.
    Shared,
    /// Full keys only.
    Protected,
}

impl Class {
    /// The class of a file with this key.
    ///
    /// What writers must read to save is shared; all that tells of the saved states, and whatever nobody has thought of, is protected.
    pub fn of(key: &str) -> Self {
        match key.split('/').next() {
            Some("index" | "refs" | "leases" | "gc" | "forgotten" | "policy" | "damage") => Self::Shared,
            _ => Self::Protected,
        }
    }
}

/// The first bytes of a sealed file. All of them go into its key.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Header {
    pub(super) class: Class,
    /// Whether the file's name goes into its key.
    pub(super) bound: bool,
    /// Whether its blocks are those of an index.
    pub(super) small: bool,
    pub(super) epoch: u32,
    pub(super) salt: [u8; 32],
    /// The writer's public key for protected files, else zeros.
    pub(super) point: [u8; 32],
}

impl Header {
    pub(super) fn encode(&self) -> [u8; HEADER_LEN] {
        let mut bytes = [0; HEADER_LEN];
        bytes[..8].copy_from_slice(&SEALED_MAGIC);
        bytes[8..10].copy_from_slice(&SEALED_VERSION.to_le_bytes());
        bytes[10] = CIPHER_AES_256_GCM;
        bytes[11] = u8::from(self.class == Class::Protected);
        bytes[12] = u8::from(self.bound);
        bytes[13] = u8::from(self.small);
        bytes[16..20].copy_from_slice(&self.epoch.to_le_bytes());
        bytes[24..56].copy_from_slice(&self.salt);
        bytes[56..88].copy_from_slice(&self.point);
        bytes
    }

    /// What the file `key` begins with. Nothing of it is proven before a block opens.
    pub(super) fn decode(key: &str, bytes: &[u8]) -> Result<Self> {
        let bad = |what: &str| Error::corrupt(format!("{key} {what}"));
        if bytes.len() < HEADER_LEN || bytes[..8] != SEALED_MAGIC {
            return Err(bad("is not sealed, in an encrypted repository: it was not written by VML with a key of it"));
        }
        let (version, cipher) = (u16_at(bytes, 8), bytes[10]);
        if (version, cipher) != (SEALED_VERSION, CIPHER_AES_256_GCM) {
            // A flipped bit looks the same; what is newer has a feature in the configuration, and is refused there.
            return Err(bad(&format!(
                "is sealed in version {version} with cipher {cipher}, which its repository's configuration does not allow"
            )));
        }
        let class = match bytes[11] {
            0 => Class::Shared,
            1 => Class::Protected,
            _ => return Err(bad("has a damaged header")),
        };
        let zeros = |range: std::ops::Range<usize>| bytes[range].iter().all(|byte| *byte == 0);
        if bytes[12] > 1 || bytes[13] > 1 || !zeros(14..16) || !zeros(20..24) || (class == Class::Shared && !zeros(56..88)) {
            return Err(bad("has a damaged header"));
        }
        let mut header =
            Self { class, bound: bytes[12] == 1, small: bytes[13] == 1, epoch: u32_at(bytes, 16), salt: [0; 32], point: [0; 32] };
        header.salt.copy_from_slice(&bytes[24..56]);
        header.point.copy_from_slice(&bytes[56..88]);
        // What only full keys may read was not sealed for all, whoever put it there.
        if (class == Class::Shared && Class::of(key) == Class::Protected) || header.small != (block_len(key) == INDEX_BLOCK_LEN) {
            return Err(bad("is sealed for another place"));
        }
        Ok(header)
    }
}

/// How many blocks of `block_len` a file of `plain_len` bytes has; an empty one has one.
pub(super) fn block_count(plain_len: u64, block_len: usize) -> u64 {
    plain_len.div_ceil(block_len as u64).max(1)
}

/// The length of a sealed file with this key by that of what is in it.
pub fn sealed_len(key: &str, plain_len: u64) -> u64 {
    let overhead = (HEADER_LEN + SEALED_DIGEST_LEN) as u64;
    plain_len.saturating_add(block_count(plain_len, block_len(key)) * TAG_LEN as u64).saturating_add(overhead)
}

/// The length of what is in a sealed file with this key by that of the file; `None` where no file has that length.
pub fn plain_len(key: &str, sealed_len: u64) -> Option<u64> {
    let sealed_block_len = (block_len(key) + TAG_LEN) as u64;
    let body = sealed_len.checked_sub((HEADER_LEN + SEALED_DIGEST_LEN) as u64)?;
    let blocks = body.div_ceil(sealed_block_len);
    let last = body.checked_sub(blocks.checked_sub(1)? * sealed_block_len)?;
    let shortest = if blocks == 1 { TAG_LEN } else { TAG_LEN + 1 } as u64;
    (last >= shortest).then(|| body - blocks * TAG_LEN as u64)
}

/// As [`plain_len`], for a file that should have one.
pub(super) fn plain_len_of(key: &str, sealed_len: u64) -> Result<u64> {
    plain_len(key, sealed_len)
        .ok_or_else(|| Error::new(ErrorKind::Corrupt, format!("{key} is cut short: no sealed file has {sealed_len} bytes")))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const KEYS: [&str; 3] = ["data/a", "index/a", "index"];

    #[test]
    fn lengths_at_the_edges() {
        let rest = (HEADER_LEN + SEALED_DIGEST_LEN) as u64;
        for key in KEYS {
            let block = block_len(key) as u64;
            for (plain, blocks) in [(0, 1), (1, 1), (block - 1, 1), (block, 1), (block + 1, 2), (2 * block, 2), (2 * block + 1, 3)] {
                assert_eq!(sealed_len(key, plain), plain + blocks * 16 + rest);
                assert_eq!(plain_len(key, sealed_len(key, plain)), Some(plain));
            }
            // A tombstone of an object store, nothing, and a last block that holds nothing.
            for none in [0, 17, rest, rest + 15, rest + block + 32] {
                assert_eq!(plain_len(key, none), None, "{none}");
            }
            assert_eq!(sealed_len(key, u64::MAX), u64::MAX);
        }
        assert_eq!(KEYS.map(block_len), [BLOCK_LEN, INDEX_BLOCK_LEN, INDEX_BLOCK_LEN]);
    }

    proptest! {
        #[test]
        fn each_length_has_one_other(len in 0_u64..1 << 40, key in proptest::sample::select(&KEYS[..])) {
            prop_assert_eq!(plain_len(key, sealed_len(key, len)), Some(len));
            if let Some(plain) = plain_len(key, len) {
                prop_assert_eq!(sealed_len(key, plain), len);
            }
        }
    }
}
