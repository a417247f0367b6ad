//! The one place of this crate that maps memory.

#![expect(unsafe_code, reason = "mapping a file is unsafe by nature; the contract is below")]

use memmap2::{Advice, Mmap, UncheckedAdvice};
use std::fs::File;
use std::io;

/// A published file, mapped.
pub(crate) struct Map(Mmap);

impl AsRef<[u8]> for Map {
    fn as_ref(&self) -> &[u8] {
        &self.0
    }
}

impl Map {
    /// Whoever reads from one end to the other has come to `at`, and tells so every `stride` bytes: what comes is got in few large reads, and what
    /// was passed is let go of, so that a walk over a large index costs neither a page fault a page nor the memory of all of it. Hints: it makes
    /// no difference whether the system takes them.
    pub(crate) fn pass(&self, at: usize, stride: usize) {
        let end = self.0.len();
        let at = at.min(end);
        let len = |from: usize| stride.min(end - from.min(end));
        // The part after the next is read from disk while the next one is used.
        _ = self.0.advise_range(Advice::WillNeed, at, len(at) + len(at + stride));
        _ = self.0.advise_range(Advice::PopulateRead, at, len(at));
        // Of the page that `at` stands in the rest is still to be read, and so is what it begins with by others.
        let passed = (at.saturating_sub(2 * stride), at & !(PAGE - 1));
        if passed.0 < passed.1 {
            // SAFETY: the mapping is shared and only read, its file does not change, see below: pages that are let go of come back as they were.
            _ = unsafe { self.0.unchecked_advise_range(UncheckedAdvice::DontNeed, passed.0, passed.1 - passed.0) };
        }
    }
}

/// A page is at least this long wherever it matters: advice on a longer one takes in a little more.
const PAGE: usize = 4 << 10;

/// Maps a published file for reading.
///
/// Only files that are never written again are mapped: they are published by a link after they are complete, and only
/// unlinked afterwards, which leaves a mapping whole. Truncating such a file by hand while a process reads it can still
/// kill that process (SIGBUS); packs, which hold the data, are therefore read and not mapped.
pub(crate) fn map(file: &File) -> io::Result<Map> {
    // SAFETY: the file is immutable by the repository's rules, see above.
    let map = unsafe { Mmap::map(file)? };
    // Look-ups jump about; reading ahead would only fill the page cache. Walks say what they need.
    map.advise(Advice::Random)?;
    Ok(Map(map))
}
