//! Opens a sealed file as it is read: an index of many gigabytes takes a few megabytes of memory.
//!
//! ```text
//! sealed   | header | block 0 | block 1 | block 2 | ...        mapped
//!                        │ opened when something in it is asked for
//! places   [ 0 ] [ 1 ] [ 2 ] ... [ n-1 ]                        block b stands in place b mod n, until another one needs it
//! ```
//! Each block proves itself by its tag, and its place by its number; the digest of the whole file is for whoever reads all of it.

use super::cipher::{Cipher, TAG_LEN};
use super::layout::{HEADER_LEN, block_count};
use crate::backend::{Blocks, Mapped};
use std::sync::{Mutex, PoisonError};

/// Plain bytes of one file that are kept.
const KEPT: usize = 8 << 20;

/// A sealed file and what of it is open.
pub(super) struct PagedFile {
    sealed: Mapped,
    cipher: Cipher,
    plain_len: usize,
    block_len: usize,
    places: Vec<Mutex<Place>>,
}

/// One open block.
#[derive(Default)]
struct Place {
    number: Option<u64>,
    /// Its bytes, and room for its tag.
    bytes: Vec<u8>,
    len: usize,
}

impl PagedFile {
    /// Over a file of which the length was looked at.
    pub(super) fn new(sealed: Mapped, cipher: Cipher, plain_len: usize, block_len: usize) -> Self {
        let count = usize::try_from(block_count(plain_len as u64, block_len)).unwrap_or(usize::MAX).min(KEPT / block_len);
        Self { sealed, cipher, plain_len, block_len, places: (0..count).map(|_| Mutex::default()).collect() }
    }

    /// Where a block stands in the sealed file.
    fn offset(&self, number: u64) -> usize {
        HEADER_LEN + usize::try_from(number).expect("a number of a block in memory") * (self.block_len + TAG_LEN)
    }

    /// Copies from one block; tells whether it opened.
    fn copy(&self, number: u64, skip: usize, part: &mut [u8]) -> bool {
        let place = &self.places[usize::try_from(number % self.places.len() as u64).expect("below a usize")];
        // A thread that panicked left no block in it.
        let mut place = place.lock().unwrap_or_else(PoisonError::into_inner);
        if place.number != Some(number) {
            place.number = None;
            let last = number + 1 == block_count(self.plain_len as u64, self.block_len);
            let len = if last { self.plain_len - usize::try_from(number).expect("below a usize") * self.block_len } else { self.block_len };
            let start = self.offset(number);
            let Some(sealed) = self.sealed.as_ref().get(start..start + len + TAG_LEN) else { return false };
            place.bytes.clear();
            place.bytes.extend_from_slice(sealed);
            if self.cipher.open(number, last, &mut place.bytes).is_none() {
                return false;
            }
            (place.number, place.len) = (Some(number), len);
        }
        let plain = &place.bytes[..place.len];
        plain.get(skip..skip + part.len()).is_some_and(|from| {
            part.copy_from_slice(from);
            true
        })
    }
}

impl Blocks for PagedFile {
    fn len(&self) -> usize {
        self.plain_len
    }

    fn fill(&self, offset: usize, buf: &mut [u8]) -> bool {
        if offset.checked_add(buf.len()).is_none_or(|end| end > self.plain_len) {
            return false;
        }
        let mut at = 0;
        while at < buf.len() {
            let (number, skip) = ((offset + at) / self.block_len, (offset + at) % self.block_len);
            let len = (self.block_len - skip).min(buf.len() - at);
            if !self.copy(number as u64, skip, &mut buf[at..at + len]) {
                return false;
            }
            at += len;
        }
        true
    }

    fn pass(&self, at: usize, stride: usize) {
        self.sealed.pass(self.offset((at / self.block_len) as u64), stride / self.block_len * (self.block_len + TAG_LEN));
    }
}

#[cfg(test)]
mod tests {
    use super::super::derive::Key;
    use super::super::layout::Header;
    use super::super::write::Sealer;
    use super::super::{Class, INDEX_BLOCK_LEN};
    use super::*;

    const BLOCK: usize = INDEX_BLOCK_LEN;

    fn cipher() -> Cipher {
        Cipher::new(&Key::default())
    }

    fn sealed(plain: &[u8]) -> Vec<u8> {
        let header = Header { class: Class::Shared, bound: false, small: true, epoch: 0, salt: [1; 32], point: [0; 32] };
        let mut out = Vec::new();
        let mut sealer = Sealer::new(cipher(), &header.encode(), BLOCK, &mut out);
        sealer.push(plain, &mut out);
        sealer.finish(&mut out);
        out
    }

    #[test]
    fn any_part_is_as_it_was_sealed_and_little_is_kept() {
        // Three times what is kept, so that places are taken over.
        let plain: Vec<u8> = (0..3 * KEPT + 4321).map(|i| (i % 251) as u8).collect();
        let file = PagedFile::new(Mapped::new(sealed(&plain)), cipher(), plain.len(), BLOCK);
        assert_eq!((file.len(), file.places.len()), (plain.len(), KEPT / BLOCK));
        for number in 0..40_000 {
            let (offset, len) = (number * 104_729 % plain.len(), [1, 42, 8, 5000][number % 4]);
            let mut part = vec![0; len];
            assert_eq!(file.fill(offset, &mut part), offset + len <= plain.len(), "{offset}");
            if offset + len <= plain.len() {
                assert!(part == plain[offset..offset + len], "{offset}");
            }
        }
        let kept: usize = file.places.iter().map(|place| place.lock().unwrap().bytes.capacity()).sum();
        assert!(kept <= KEPT + KEPT / 4, "{kept}");
        for (offset, len) in [(plain.len(), 1), (usize::MAX, 1), (plain.len() - 1, 2)] {
            assert!(!file.fill(offset, &mut vec![0; len]));
        }
        assert!(file.fill(plain.len(), &mut []));
    }

    #[test]
    fn a_block_that_was_changed_or_moved_does_not_open_and_its_neighbours_do() {
        let plain: Vec<u8> = (0..5 * BLOCK + 10).map(|i| (i / 7) as u8).collect();
        let whole = sealed(&plain);
        let start = |number: usize| HEADER_LEN + number * (BLOCK + TAG_LEN);
        let mut flipped = whole.clone();
        flipped[start(2) + 100] ^= 1;
        let mut moved = whole.clone();
        moved.copy_within(start(3)..start(4), start(2));
        let mut cut = whole;
        cut.truncate(start(5) + 3);
        for (damaged, bad) in [(flipped, 2), (moved, 2), (cut, 5)] {
            let file = PagedFile::new(Mapped::new(damaged), cipher(), plain.len(), BLOCK);
            for number in 0..6 {
                let mut byte = [0];
                assert_eq!(file.fill(number * BLOCK + 5, &mut byte), number != bad, "{number} of {bad}");
                assert!(number == bad || byte[0] == plain[number * BLOCK + 5]);
            }
            assert!(!file.fill(0, &mut vec![0; plain.len()]));
        }
    }
}
