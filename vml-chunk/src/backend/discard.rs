//! A dry run: reads what another backend has, takes every write and keeps nothing.

use super::{Backend, Listed, Mapped, PutOutcome, Staged, check_key};
use crate::error::{ErrorKind, Result};
use std::sync::Arc;

/// Files that are swapped are small.
const SWAP_MAX_LEN: u64 = 1 << 20;

/// Wraps a backend so that nothing in it changes.
#[derive(Debug, Clone)]
pub struct DiscardBackend {
    inner: Arc<dyn Backend>,
}

impl DiscardBackend {
    /// Reads come from `inner`.
    pub fn new(inner: Arc<dyn Backend>) -> Self {
        Self { inner }
    }
}

impl Backend for DiscardBackend {
    fn read_at(&self, key: &str, offset: u64, buf: &mut [u8]) -> Result<()> {
        self.inner.read_at(key, offset, buf)
    }

    fn len(&self, key: &str) -> Result<u64> {
        self.inner.len(key)
    }

    fn list(&self, dir: &str) -> Result<Vec<Listed>> {
        self.inner.list(dir)
    }

    fn stage(&self) -> Result<Box<dyn Staged>> {
        Ok(Box::new(Discarded))
    }

    fn swap(&self, key: &str, expected: Option<&[u8]>, _new: Option<&[u8]>) -> Result<bool> {
        let current = match self.inner.read(key, SWAP_MAX_LEN) {
            Ok(bytes) => Some(bytes),
            Err(error) if error.kind() == ErrorKind::NotFound => None,
            Err(error) => return Err(error),
        };
        Ok(current.as_deref() == expected)
    }

    fn delete(&self, key: &str) -> Result<()> {
        check_key(key)
    }

    fn map(&self, key: &str) -> Result<Mapped> {
        self.inner.map(key)
    }

    fn sweep(&self) -> Result<usize> {
        Ok(0)
    }
}

struct Discarded;

impl Staged for Discarded {
    fn append(&mut self, _bytes: &[u8]) -> Result<()> {
        Ok(())
    }

    fn publish(&mut self, key: &str) -> Result<PutOutcome> {
        check_key(key)?;
        Ok(PutOutcome::Stored)
    }
}
