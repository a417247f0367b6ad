//! Writes parity, while its pack is written or from a pack that is there.

use super::layout::{
    DIGEST_LEN, PARITY_PERCENT_MAX, ParityLayout, SHARD_LEN, STRIPE_SHARDS, parity_key, parity_shards, shard_digest, table_digest,
};
use super::mend::Parity;
use crate::backend::{Backend, PutOutcome, Staged};
use crate::error::{Error, ErrorKind, Result};
use crate::id::PackId;
use reed_solomon_simd::ReedSolomonEncoder;

/// Bytes of a pack that are encoded together.
const STRIPE_LEN: usize = SHARD_LEN as usize * STRIPE_SHARDS as usize;

/// Parity on its way: takes the bytes of a pack in their order.
pub struct ParityWriter {
    staged: Box<dyn Staged>,
    percent: u8,
    /// The stripe that is not full yet.
    buffer: Vec<u8>,
    stripe: u64,
    len: u64,
}

impl ParityWriter {
    /// Begins a file.
    ///
    /// # Errors
    /// `InvalidInput` for a percentage beyond 1 to 100, else what the backend says.
    pub fn create(backend: &dyn Backend, percent: u8) -> Result<Self> {
        if !(1..=PARITY_PERCENT_MAX).contains(&percent) {
            return Err(Error::invalid(format!("{percent} % of parity cannot be: 1 to {PARITY_PERCENT_MAX}")));
        }
        Ok(Self { staged: backend.stage()?, percent, buffer: Vec::new(), stripe: 0, len: 0 })
    }

    /// Takes the next bytes of the pack.
    ///
    /// # Errors
    /// What the backend says; nothing can be done with the writer then.
    pub fn push(&mut self, mut bytes: &[u8]) -> Result<()> {
        self.len += bytes.len() as u64;
        while !bytes.is_empty() {
            let (part, rest) = bytes.split_at(bytes.len().min(STRIPE_LEN - self.buffer.len()));
            self.buffer.extend_from_slice(part);
            bytes = rest;
            if self.buffer.len() == STRIPE_LEN {
                self.write_stripe()?;
            }
        }
        Ok(())
    }

    /// Publishes it, once the pack has its name. One that is there is kept if it is whole.
    ///
    /// # Errors
    /// What the backend says.
    pub fn finish(mut self, backend: &dyn Backend, pack: &PackId) -> Result<()> {
        if !self.buffer.is_empty() {
            self.write_stripe()?;
        }
        self.staged.append(&ParityLayout::new(*pack, self.len, self.percent).encode())?;
        let key = parity_key(pack);
        if self.staged.publish(&key)? == PutOutcome::AlreadyThere {
            // Nobody relies on parity, so one that is not known to be whole is replaced.
            if Parity::open(backend, pack).and_then(|there| there.verify(backend)).is_err() {
                backend.delete(&key)?;
                self.staged.publish(&key)?;
            }
        }
        Ok(())
    }

    fn write_stripe(&mut self) -> Result<()> {
        let shard_len = SHARD_LEN as usize;
        let shards = self.buffer.len().div_ceil(shard_len);
        let parity = parity_shards(shards, self.percent);
        self.buffer.resize(shards * shard_len, 0);
        let mut encoder = ReedSolomonEncoder::new(shards, parity, shard_len).map_err(refused)?;
        let mut table = Vec::with_capacity((shards + parity + 1) * DIGEST_LEN);
        for shard in self.buffer.chunks_exact(shard_len) {
            table.extend_from_slice(&shard_digest(shard));
            encoder.add_original_shard(shard).map_err(refused)?;
        }
        let encoded = encoder.encode().map_err(refused)?;
        encoded.recovery_iter().for_each(|shard| table.extend_from_slice(&shard_digest(shard)));
        let sum = table_digest(self.stripe, &table);
        table.extend_from_slice(&sum);
        self.staged.append(&table)?;
        for shard in encoded.recovery_iter() {
            self.staged.append(shard)?;
        }
        self.buffer.clear();
        self.stripe += 1;
        Ok(())
    }
}

pub(super) fn refused(error: reed_solomon_simd::Error) -> Error {
    Error::new(ErrorKind::Io, "cannot calculate parity").because(error)
}

/// Makes the parity of a pack that is there, if every byte of it is what its name says.
///
/// # Errors
/// `Corrupt` for a pack that is damaged, else what the backend says.
pub fn make_parity(backend: &dyn Backend, pack_key: &str, pack: &PackId, percent: u8) -> Result<()> {
    let len = backend.len(pack_key)?;
    let mut writer = ParityWriter::create(backend, percent)?;
    let mut hasher = blake3::Hasher::new();
    let mut buffer = vec![0; 1 << 20];
    let mut at = 0;
    while at < len {
        let part = usize::try_from(len - at).unwrap_or(usize::MAX).min(buffer.len());
        backend.read_at(pack_key, at, &mut buffer[..part])?;
        hasher.update(&buffer[..part]);
        writer.push(&buffer[..part])?;
        at += part as u64;
    }
    if hasher.finalize().as_bytes() != pack.as_bytes() {
        return Err(Error::corrupt(format!("pack {pack_key} does not match its name: its bytes have changed since it was written")));
    }
    writer.finish(backend, pack)
}
