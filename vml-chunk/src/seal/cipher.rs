//! AES-256-GCM by `ring`, with nonces that are counted: no key here is ever used for two files or two boxes.

use super::derive::Key;
use crate::error::{Error, Result};
use ring::aead::{AES_256_GCM, Aad, LessSafeKey, Nonce, UnboundKey};

/// Bytes of a tag.
pub(crate) const TAG_LEN: usize = 16;

/// One key, for the blocks of one file.
pub(super) struct Cipher(LessSafeKey);

impl Cipher {
    pub(super) fn new(key: &Key) -> Self {
        Self(LessSafeKey::new(UnboundKey::new(&AES_256_GCM, &**key).expect("the key has the cipher's length")))
    }

    /// The block's number, and whether it is the last: the STREAM construction, so that a block stands in one place only.
    fn nonce(number: u64, last: bool) -> Nonce {
        let mut nonce = [0; 12];
        nonce[..8].copy_from_slice(&number.to_le_bytes());
        nonce[11] = u8::from(last);
        Nonce::assume_unique_for_key(nonce)
    }

    /// Encrypts what follows `start` in place and appends the tag.
    pub(super) fn seal(&self, number: u64, last: bool, bytes: &mut Vec<u8>, start: usize) {
        let tag = self.0.seal_in_place_separate_tag(Self::nonce(number, last), Aad::empty(), &mut bytes[start..]);
        bytes.extend_from_slice(tag.expect("a block is far below the cipher's limit").as_ref());
    }

    /// Decrypts a block with its tag in place; `None` when it is not what was sealed.
    pub(super) fn open<'a>(&self, number: u64, last: bool, block: &'a mut [u8]) -> Option<&'a [u8]> {
        self.0.open_in_place(Self::nonce(number, last), Aad::empty(), block).ok().map(|plain| &*plain)
    }

    /// Encrypts the only message of a key.
    pub(super) fn seal_once(key: &Key, plain: &[u8]) -> Vec<u8> {
        let mut bytes = Vec::with_capacity(plain.len() + TAG_LEN);
        bytes.extend_from_slice(plain);
        Self::new(key).seal(0, true, &mut bytes, 0);
        bytes
    }

    /// Decrypts the only message of a key.
    pub(super) fn open_once(key: &Key, sealed: &[u8]) -> Result<zeroize::Zeroizing<Vec<u8>>> {
        let mut bytes = zeroize::Zeroizing::new(sealed.to_vec());
        let plain_len = Self::new(key).open(0, true, &mut bytes).map(<[u8]>::len);
        let plain_len = plain_len.ok_or_else(|| Error::corrupt("it does not open with its key"))?;
        bytes.truncate(plain_len);
        Ok(bytes)
    }
}
