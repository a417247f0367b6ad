//! The bytes of a volume as they are once its journal is replayed: blocks that the journal has come from there.

use super::journal::MAGIC;
use crate::disk::Disk;
use std::collections::{BTreeMap, HashMap};
use std::sync::{Arc, Mutex, PoisonError};
use vml_chunk::{Error, Result};

/// Bytes of blocks that are kept.
const KEPT_MAX: u64 = 8 << 20;

/// Blocks of the file system that the journal has, by number.
pub(super) type Replayed = BTreeMap<u64, Logged>;

/// Where the journal has a block.
#[derive(Debug, Clone, Copy)]
pub(super) struct Logged {
    /// Its place in the volume, in bytes.
    pub(super) at: u64,
    /// Whether the journal's mark, which the block begins with, was taken out of it.
    pub(super) escaped: bool,
}

/// A volume, and what its journal has for it.
pub(super) struct Store<'d> {
    pub(super) disk: &'d dyn Disk,
    pub(super) offset: u64,
    pub(super) len: u64,
    /// Length of a block of the file system, as soon as something is replayed.
    pub(super) block_len: u64,
    pub(super) replayed: Replayed,
    /// Blocks that are asked for again and again: a table's block has many inodes.
    pub(super) kept: Mutex<HashMap<u64, Arc<[u8]>>>,
}

impl Store<'_> {
    /// Reads bytes of the volume; beyond its end, or its disk's, is damage.
    pub(super) fn read(&self, buffer: &mut [u8], at: u64) -> Result<()> {
        self.read_home(buffer, at)?;
        if self.replayed.is_empty() || buffer.is_empty() {
            return Ok(());
        }
        let end = at + buffer.len() as u64;
        for (block, logged) in self.replayed.range(at / self.block_len..=(end - 1) / self.block_len) {
            let home = block * self.block_len;
            let (start, stop) = (home.max(at), (home + self.block_len).min(end));
            let part = &mut buffer[index(start - at)..index(stop - at)];
            self.read_home(part, logged.at.saturating_add(start - home))?;
            if logged.escaped {
                for (byte, mark) in part.iter_mut().zip(MAGIC.to_be_bytes().iter().skip(index(start - home))) {
                    *byte = *mark;
                }
            }
        }
        Ok(())
    }

    /// Reads a whole block, and keeps it for the next time.
    pub(super) fn block_kept(&self, block: u64, read: impl FnOnce() -> Result<Vec<u8>>) -> Result<Arc<[u8]>> {
        let kept = || self.kept.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(bytes) = kept().get(&block) {
            return Ok(Arc::clone(bytes));
        }
        let bytes: Arc<[u8]> = read()?.into();
        let mut kept = kept();
        if (kept.len() as u64 + 1) * bytes.len() as u64 > KEPT_MAX {
            kept.clear();
        }
        kept.insert(block, Arc::clone(&bytes));
        Ok(bytes)
    }

    /// Reads what stands at the place itself.
    fn read_home(&self, buffer: &mut [u8], at: u64) -> Result<()> {
        let end = at.checked_add(buffer.len() as u64).filter(|end| *end <= self.len);
        if end.and_then(|end| end.checked_add(self.offset)).is_none_or(|end| end > self.disk.len()) {
            return Err(Error::corrupt(format!("the ext4 file system at {} names a place beyond its end", self.offset)));
        }
        self.disk.read_at(buffer, self.offset + at)
    }
}

fn index(offset: u64) -> usize {
    usize::try_from(offset).expect("within a buffer")
}
