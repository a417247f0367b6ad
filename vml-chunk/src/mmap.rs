//! The one place of this crate that maps memory.

#![expect(unsafe_code, reason = "mapping a file is unsafe by nature; the contract is below")]

use std::fs::File;
use std::io;

/// Maps a published file for reading.
///
/// Only files that are never written again are mapped: they are published by a link after they are complete, and only
/// unlinked afterwards, which leaves a mapping whole. Truncating such a file by hand while a process reads it can still
/// kill that process (SIGBUS); packs, which hold the data, are therefore read and not mapped.
pub(crate) fn map(file: &File) -> io::Result<memmap2::Mmap> {
    // SAFETY: the file is immutable by the repository's rules, see above.
    let map = unsafe { memmap2::Mmap::map(file)? };
    // Look-ups jump about; reading ahead would only fill the page cache.
    map.advise(memmap2::Advice::Random)?;
    Ok(map)
}
