//! Reads a pack through its parity: shards that are not what they were are calculated from the others.

use super::layout::{DIGEST_LEN, ParityLayout, TRAILER_LEN, parity_key, shard_digest, table_digest};
use super::write::refused;
use crate::backend::{Backend, Listed, Mapped, Staged};
use crate::error::{Error, ErrorKind, Result};
use crate::id::PackId;
use crate::pack::PackKind;
use reed_solomon_simd::ReedSolomonDecoder;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, PoisonError};

/// The parity of a pack.
#[derive(Debug, Clone)]
pub struct Parity {
    key: String,
    layout: ParityLayout,
}

impl Parity {
    /// Opens it: reads the trailer.
    ///
    /// # Errors
    /// `NotFound` where there is none, `UnsupportedFormat`, `Corrupt`.
    pub fn open(backend: &dyn Backend, pack: &PackId) -> Result<Self> {
        let key = parity_key(pack);
        let len = backend.len(&key)?;
        let read = || {
            let offset = len.checked_sub(TRAILER_LEN as u64).ok_or_else(|| Error::corrupt("it is too short for parity"))?;
            let mut trailer = [0; TRAILER_LEN];
            backend.read_at(&key, offset, &mut trailer)?;
            let layout = ParityLayout::decode(&trailer, len)?;
            if layout.pack != *pack { Err(Error::corrupt("it is the parity of another pack")) } else { Ok(layout) }
        };
        let layout = read().map_err(|error: Error| error.context(format!("cannot use {key}")))?;
        Ok(Self { key, layout })
    }

    /// How it is laid out.
    pub fn layout(&self) -> &ParityLayout {
        &self.layout
    }

    /// Reads every byte of it and compares digests; the pack is not looked at.
    ///
    /// # Errors
    /// `Corrupt` when it is damaged, else what the backend says.
    pub fn verify(&self, backend: &dyn Backend) -> Result<()> {
        let bad = |stripe| Error::corrupt(format!("stripe {stripe} of {} is damaged", self.key));
        let shard_len = self.layout.shard_len as usize;
        for stripe in 0..self.layout.stripes() {
            let table = self.table(backend, stripe)?;
            let shards = self.layout.shards(stripe);
            let mut parity = vec![0; self.layout.parity_shards(stripe) * shard_len];
            backend.read_at(&self.key, self.parity_offset(stripe), &mut parity)?;
            let digests = table.chunks_exact(DIGEST_LEN).skip(shards);
            if parity.chunks_exact(shard_len).zip(digests).any(|(shard, digest)| shard_digest(shard) != digest) {
                return Err(bad(stripe));
            }
        }
        Ok(())
    }

    /// The digests of a stripe's shards.
    fn table(&self, backend: &dyn Backend, stripe: u64) -> Result<Vec<u8>> {
        let count = self.layout.shards(stripe) + self.layout.parity_shards(stripe);
        let mut table = vec![0; (count + 1) * DIGEST_LEN];
        backend.read_at(&self.key, self.layout.block_offset(stripe), &mut table)?;
        let sum = table.split_off(count * DIGEST_LEN);
        if table_digest(stripe, &table) != sum[..] {
            return Err(Error::corrupt(format!("the table of stripe {stripe} of {} is damaged", self.key)));
        }
        Ok(table)
    }

    fn parity_offset(&self, stripe: u64) -> u64 {
        let digests = self.layout.shards(stripe) + self.layout.parity_shards(stripe) + 1;
        self.layout.block_offset(stripe) + (digests * DIGEST_LEN) as u64
    }

    /// Reads a stripe of the pack as it was when it was written; tells how many shards were mended.
    ///
    /// # Errors
    /// `Corrupt` when more are bad than can be mended.
    fn stripe(&self, backend: &dyn Backend, pack_key: &str, stripe: u64, out: &mut Vec<u8>) -> Result<u64> {
        let layout = &self.layout;
        let (shard_len, shards) = (layout.shard_len as usize, layout.shards(stripe));
        let start = stripe * layout.stripe_len();
        let len = usize::try_from((layout.pack_len - start).min(layout.stripe_len())).unwrap_or(0);
        let table = self.table(backend, stripe)?;
        out.clear();
        out.resize(shards * shard_len, 0);
        // In one piece, and piece by piece only where that cannot be read.
        let mut missing = vec![false; shards];
        if backend.read_at(pack_key, start, &mut out[..len]).is_err() {
            for (number, missing) in missing.iter_mut().enumerate() {
                let (from, to) = (number * shard_len, ((number + 1) * shard_len).min(len));
                let read = backend.read_at(pack_key, start + from as u64, &mut out[from..to]);
                // Whatever the reason: what is calculated is compared with its digest.
                *missing = read.is_err();
            }
        }
        let digest = |number: usize| &table[number * DIGEST_LEN..(number + 1) * DIGEST_LEN];
        for (number, missing) in missing.iter_mut().enumerate() {
            *missing |= shard_digest(&out[number * shard_len..(number + 1) * shard_len]) != digest(number);
        }
        let bad = missing.iter().filter(|missing| **missing).count();
        if bad > 0 {
            self.calculate(backend, stripe, &missing, out, &digest)?;
        }
        out.truncate(len);
        Ok(bad as u64)
    }

    fn calculate<'t>(
        &self,
        backend: &dyn Backend,
        stripe: u64,
        missing: &[bool],
        out: &mut [u8],
        digest: &dyn Fn(usize) -> &'t [u8],
    ) -> Result<()> {
        let (shard_len, shards, parity) = (self.layout.shard_len as usize, missing.len(), self.layout.parity_shards(stripe));
        let bad = missing.iter().filter(|missing| **missing).count();
        let mut decoder = ReedSolomonDecoder::new(shards, parity, shard_len).map_err(refused)?;
        let mut shard = vec![0; shard_len];
        let mut found = 0;
        for number in 0..parity {
            let offset = self.parity_offset(stripe) + (number * shard_len) as u64;
            if found < bad && backend.read_at(&self.key, offset, &mut shard).is_ok() && shard_digest(&shard) == digest(shards + number) {
                decoder.add_recovery_shard(number, &shard).map_err(refused)?;
                found += 1;
            }
        }
        if found < bad {
            return Err(Error::corrupt(format!("{bad} of {shards} parts are bad, and parity mends {found}")));
        }
        for number in (0..shards).filter(|number| !missing[*number]) {
            decoder.add_original_shard(number, &out[number * shard_len..(number + 1) * shard_len]).map_err(refused)?;
        }
        let decoded = decoder.decode().map_err(refused)?;
        for (number, restored) in decoded.restored_original_iter() {
            if shard_digest(restored) != digest(number) {
                return Err(Error::corrupt("what parity gives is not what was stored"));
            }
            out[number * shard_len..(number + 1) * shard_len].copy_from_slice(restored);
        }
        Ok(())
    }
}

/// A backend in which one pack is read through its parity, as far as that mends it, and everything else as it is.
pub struct Mending<'a> {
    inner: &'a dyn Backend,
    pack_key: String,
    parity: Parity,
    /// The stripe that was read last.
    stripe: Mutex<Option<(u64, Vec<u8>)>>,
    mended: AtomicU64,
}

impl std::fmt::Debug for Mending<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Mending").field("pack_key", &self.pack_key).finish_non_exhaustive()
    }
}

impl<'a> Mending<'a> {
    /// Opens the parity of a pack.
    ///
    /// # Errors
    /// As [`Parity::open`].
    pub fn new(inner: &'a dyn Backend, kind: PackKind, pack: &PackId) -> Result<Self> {
        let parity = Parity::open(inner, pack)?;
        Ok(Self { inner, pack_key: kind.key(pack), parity, stripe: Mutex::default(), mended: AtomicU64::new(0) })
    }

    /// How many shards were calculated so far; one that was met twice may count twice.
    pub fn mended(&self) -> u64 {
        self.mended.load(Ordering::Relaxed)
    }
}

impl Backend for Mending<'_> {
    fn read_at(&self, key: &str, offset: u64, buf: &mut [u8]) -> Result<()> {
        if key != self.pack_key {
            return self.inner.read_at(key, offset, buf);
        }
        let layout = &self.parity.layout;
        if offset.checked_add(buf.len() as u64).is_none_or(|end| end > layout.pack_len) {
            return Err(Error::corrupt(format!("{key} is cut short: {} bytes at {offset} were asked for", buf.len())));
        }
        let mut kept = self.stripe.lock().unwrap_or_else(PoisonError::into_inner);
        let mut done = 0;
        while done < buf.len() {
            let at = offset + done as u64;
            let number = at / layout.stripe_len();
            if kept.as_ref().is_none_or(|(kept, _)| *kept != number) {
                let mut bytes = kept.take().map(|(_, bytes)| bytes).unwrap_or_default();
                if let Ok(mended) = self.parity.stripe(self.inner, key, number, &mut bytes) {
                    self.mended.fetch_add(mended, Ordering::Relaxed);
                    *kept = Some((number, bytes));
                }
            }
            let left_of_stripe = layout.stripe_len() - at % layout.stripe_len();
            let part = usize::try_from(left_of_stripe).unwrap_or(usize::MAX).min(buf.len() - done);
            match &*kept {
                Some((kept, bytes)) if *kept == number => {
                    let from = usize::try_from(at % layout.stripe_len()).unwrap_or(0);
                    buf[done..done + part].copy_from_slice(&bytes[from..from + part]);
                }
                // What cannot be mended is as it is: some of it may be good.
                _ => self.inner.read_at(key, at, &mut buf[done..done + part])?,
            }
            done += part;
        }
        Ok(())
    }

    fn len(&self, key: &str) -> Result<u64> {
        if key == self.pack_key { Ok(self.parity.layout.pack_len) } else { self.inner.len(key) }
    }

    fn list(&self, dir: &str) -> Result<Vec<Listed>> {
        self.inner.list(dir)
    }

    fn stage(&self) -> Result<Box<dyn Staged>> {
        self.inner.stage()
    }

    fn swap(&self, key: &str, expected: Option<&[u8]>, new: Option<&[u8]>) -> Result<bool> {
        self.inner.swap(key, expected, new)
    }

    fn delete(&self, key: &str) -> Result<()> {
        self.inner.delete(key)
    }

    fn settle(&self, dir: &str) -> Result<()> {
        self.inner.settle(dir)
    }

    fn map(&self, key: &str) -> Result<Mapped> {
        if key == self.pack_key {
            return Err(Error::new(ErrorKind::InvalidInput, "a pack that is mended is not mapped"));
        }
        self.inner.map(key)
    }

    fn sweep(&self) -> Result<usize> {
        self.inner.sweep()
    }
}
