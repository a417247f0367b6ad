//! Seals: header, blocks, digest.

use super::backend::Shared;
use super::cipher::{Cipher, TAG_LEN};
use super::layout::{BLOCK_LEN, Class, HEADER_LEN, block_len};
use crate::backend::{PutOutcome, Staged};
use crate::error::{Error, ErrorKind, Result};
use crate::format::SEALED_DIGEST_LEN;
use std::sync::Arc;

/// Seals the blocks of one file.
pub(super) struct Sealer {
    cipher: Cipher,
    hasher: blake3::Hasher,
    block_len: usize,
    /// At most a block: whether it is the last one is known when more comes, or nothing.
    pending: Vec<u8>,
    number: u64,
}

impl Sealer {
    pub(super) fn new(cipher: Cipher, header: &[u8; HEADER_LEN], block_len: usize, out: &mut Vec<u8>) -> Self {
        let mut hasher = blake3::Hasher::new();
        hasher.update(header);
        out.extend_from_slice(header);
        Self { cipher, hasher, block_len, pending: Vec::new(), number: 0 }
    }

    /// Takes plain bytes and appends what is sealed by now to `out`.
    pub(super) fn push(&mut self, mut bytes: &[u8], out: &mut Vec<u8>) {
        let start = out.len();
        out.reserve(bytes.len() + (bytes.len() / self.block_len + 1) * TAG_LEN);
        while self.pending.len() + bytes.len() > self.block_len {
            let block = out.len();
            let (head, tail) = bytes.split_at(self.block_len - self.pending.len());
            out.append(&mut self.pending);
            out.extend_from_slice(head);
            bytes = tail;
            self.cipher.seal(self.number, false, out, block);
            self.number += 1;
        }
        self.pending.extend_from_slice(bytes);
        self.hasher.update(&out[start..]);
    }

    /// Appends the last block, and the digest of all.
    pub(super) fn finish(&mut self, out: &mut Vec<u8>) {
        let start = out.len();
        out.append(&mut self.pending);
        self.cipher.seal(self.number, true, out, start);
        self.hasher.update(&out[start..]);
        out.extend_from_slice(self.hasher.finalize().as_bytes());
    }
}

/// Opens a whole sealed file.
pub(super) fn open_whole(key: &str, cipher: &Cipher, sealed: &[u8]) -> Result<Vec<u8>> {
    let plain_len = super::layout::plain_len_of(key, sealed.len() as u64)?;
    let body = &sealed[HEADER_LEN..sealed.len() - SEALED_DIGEST_LEN];
    let mut plain = Vec::with_capacity(usize::try_from(plain_len).unwrap_or(0) + TAG_LEN);
    let blocks = super::layout::block_count(plain_len, block_len(key));
    for (number, block) in (0..).zip(body.chunks(block_len(key) + TAG_LEN)) {
        let start = plain.len();
        plain.extend_from_slice(block);
        let opened = cipher.open(number, number + 1 == blocks, &mut plain[start..]);
        let len = opened.ok_or_else(|| not_sealed(key))?.len();
        plain.truncate(start + len);
    }
    if !super::scrub::is_whole(sealed) {
        return Err(not_sealed(key));
    }
    Ok(plain)
}

pub(super) fn not_sealed(key: &str) -> Error {
    Error::corrupt(format!("{key} is not as it was sealed: its bytes have changed, or it is another file"))
}

/// A file on its way through a seal.
pub(super) struct SealedStaged {
    pub(super) shared: Arc<Shared>,
    pub(super) inner: Box<dyn Staged>,
    pub(super) class: Class,
    pub(super) block_len: usize,
    pub(super) state: State,
    pub(super) out: Vec<u8>,
}

pub(super) enum State {
    /// The first bytes, up to 64 KiB: its salt is made from them, too.
    Beginning(Vec<u8>),
    Going(Box<Sealer>),
    Finished,
    Failed,
}

impl SealedStaged {
    fn begin(&mut self, first: &[u8], next: &[u8]) -> Result<Box<Sealer>> {
        let rest = next.len().min(BLOCK_LEN - first.len());
        let (header, cipher) = self.shared.new_file(None, self.class, self.block_len, &[first, &next[..rest]])?;
        let mut sealer = Sealer::new(cipher, &header.encode(), self.block_len, &mut self.out);
        sealer.push(first, &mut self.out);
        Ok(Box::new(sealer))
    }

    fn flush(&mut self) -> Result<()> {
        let written = if self.out.is_empty() { Ok(()) } else { self.inner.append(&self.out) };
        self.out.clear();
        written
    }
}

fn over() -> Error {
    Error::new(ErrorKind::Interrupted, "the file cannot be continued after an error or after it was published")
}

impl Staged for SealedStaged {
    fn append(&mut self, bytes: &[u8]) -> Result<()> {
        // What fails in here cannot be taken up again: it is not known how much of it arrived.
        let mut sealer = match std::mem::replace(&mut self.state, State::Failed) {
            State::Beginning(mut first) if first.len() + bytes.len() <= BLOCK_LEN => {
                first.extend_from_slice(bytes);
                self.state = State::Beginning(first);
                return Ok(());
            }
            State::Beginning(first) => self.begin(&first, bytes)?,
            State::Going(sealer) => sealer,
            State::Finished => {
                self.state = State::Finished;
                return Err(over());
            }
            State::Failed => return Err(over()),
        };
        sealer.push(bytes, &mut self.out);
        self.flush()?;
        self.state = State::Going(sealer);
        Ok(())
    }

    fn publish(&mut self, key: &str) -> Result<PutOutcome> {
        let stored = self.shared.stored_key(key)?;
        if Class::of(key) != self.class || block_len(key) != self.block_len {
            return Err(Error::invalid(format!("{key} was begun for another place: how it is sealed is decided then")));
        }
        let sealer = match std::mem::replace(&mut self.state, State::Failed) {
            State::Beginning(first) => Some(self.begin(&first, &[])?),
            State::Going(sealer) => Some(sealer),
            State::Finished => None,
            State::Failed => return Err(over()),
        };
        if let Some(mut sealer) = sealer {
            sealer.finish(&mut self.out);
            self.flush()?;
        }
        self.state = State::Finished;
        let outcome = self.inner.publish(&stored)?;
        if outcome == PutOutcome::Stored {
            self.shared.forget(key);
        }
        Ok(outcome)
    }
}
