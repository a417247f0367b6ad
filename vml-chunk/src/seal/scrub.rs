//! Looks whether a sealed file is as it was written, without any key.

use crate::backend::Backend;
use crate::backend::NameCheck;
use crate::error::{Error, Result};
use crate::format::{SEALED_DIGEST_LEN, SEALED_MAGIC};

/// Read at a time.
const PIECE: usize = 1 << 20;

/// Whether a sealed file ends with the digest of what stands before it.
pub(super) fn is_whole(sealed: &[u8]) -> bool {
    sealed
        .len()
        .checked_sub(SEALED_DIGEST_LEN)
        .is_some_and(|at| sealed.starts_with(&SEALED_MAGIC) && blake3::hash(&sealed[..at]).as_bytes()[..] == sealed[at..])
}

/// Reads a sealed file of the backend below the seal, and looks whether it is as it was written. Who keeps a repository for others needs no key for
/// that. It says nothing about who wrote it.
///
/// # Errors
/// `Corrupt` when it is not, `NotFound`, else what the backend says.
pub fn scrub(inner: &dyn Backend, key: &str) -> Result<()> {
    let len = inner.len(key)?;
    let mut check = NameCheck::default();
    let mut buffer = vec![0; PIECE];
    let mut at = 0;
    while at < len {
        let part = usize::try_from(len - at).unwrap_or(usize::MAX).min(PIECE);
        inner.read_at(key, at, &mut buffer[..part])?;
        check.update(&buffer[..part]);
        at += part as u64;
    }
    if check.is_sealed_whole() { Ok(()) } else { Err(Error::corrupt(format!("{key} is not as it was sealed: its bytes have changed"))) }
}
