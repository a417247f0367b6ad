//! Whether bytes are what their name says: the digest in it, or, for a sealed file, the digest at its end.
//!
//! The name of a sealed file is a digest of what is inside. Whoever has no key compares the digest that it ends with, which shows damage and no forgery;
//! that shows when it is opened.

use crate::format::{SEALED_DIGEST_LEN, SEALED_MAGIC};

/// Takes a file piece by piece.
#[derive(Default)]
pub struct NameCheck {
    hasher: blake3::Hasher,
    /// The first bytes until it is known what the file is; of a sealed one then what may be its digest.
    held: Vec<u8>,
    sealed: Option<bool>,
}

impl NameCheck {
    /// Takes the next bytes.
    pub fn update(&mut self, bytes: &[u8]) {
        match self.sealed {
            Some(false) => _ = self.hasher.update(bytes),
            Some(true) => self.hold(bytes),
            None => {
                self.held.extend_from_slice(bytes);
                if self.held.len() >= SEALED_MAGIC.len() {
                    let held = std::mem::take(&mut self.held);
                    self.sealed = Some(held.starts_with(&SEALED_MAGIC));
                    self.update(&held);
                }
            }
        }
    }

    /// Hashes what cannot be the digest at the end.
    fn hold(&mut self, bytes: &[u8]) {
        if bytes.len() >= SEALED_DIGEST_LEN {
            self.hasher.update(&self.held);
            let (head, tail) = bytes.split_at(bytes.len() - SEALED_DIGEST_LEN);
            self.hasher.update(head);
            self.held.clear();
            self.held.extend_from_slice(tail);
        } else {
            self.held.extend_from_slice(bytes);
            let head = self.held.len().saturating_sub(SEALED_DIGEST_LEN);
            self.hasher.update(&self.held[..head]);
            self.held.drain(..head);
        }
    }

    /// Whether it is a sealed file that is as it was written.
    pub fn is_sealed_whole(&self) -> bool {
        self.sealed == Some(true) && self.held.len() == SEALED_DIGEST_LEN && self.hasher.finalize().as_bytes()[..] == self.held[..]
    }

    /// Whether its digest is `digest`, in hexadecimal digits, or it is a sealed file that is as it was written.
    pub fn matches(&self, digest: &str) -> bool {
        match self.sealed {
            Some(true) => self.is_sealed_whole(),
            Some(false) => self.hasher.finalize().to_hex().as_str() == digest,
            None => blake3::hash(&self.held).to_hex().as_str() == digest,
        }
    }
}

/// As [`NameCheck`], of a whole file.
pub(crate) fn matches_name(bytes: &[u8], digest: &str) -> bool {
    let mut check = NameCheck::default();
    check.update(bytes);
    check.matches(digest)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_is_told_by_its_name_or_its_end_however_it_comes() {
        let plain = b"some bytes that are no sealed file".to_vec();
        let mut sealed = [&SEALED_MAGIC[..], &[7; 100]].concat();
        sealed.extend_from_slice(blake3::hash(&sealed).as_bytes());
        let name = blake3::hash(&plain).to_hex().to_string();
        for step in [1, 5, 31, 32, 33, 64, 1000] {
            let check = |bytes: &[u8]| {
                let mut check = NameCheck::default();
                bytes.chunks(step).for_each(|part| check.update(part));
                check
            };
            assert!(check(&plain).matches(&name) && !check(&plain).is_sealed_whole());
            assert!(check(&sealed).matches("whatever") && check(&sealed).is_sealed_whole());
            for len in 0..sealed.len() {
                assert!(!check(&sealed[..len]).matches(&name), "cut at {len}");
            }
            for at in 0..sealed.len() {
                let mut damaged = sealed.clone();
                damaged[at] ^= 1;
                assert!(!check(&damaged).matches(&name), "flipped at {at}");
            }
        }
        assert!(matches_name(b"", blake3::hash(b"").to_hex().as_str()));
    }
}
