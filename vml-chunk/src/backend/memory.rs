//! A repository in memory: for tests, examples and whoever embeds the store without a disk.

use super::{Backend, Listed, Mapped, PutOutcome, Staged, check_key};
use crate::error::{Error, Result};
use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};

type Files = BTreeMap<String, Arc<Vec<u8>>>;

/// Keeps every file in memory; clones share them.
#[derive(Clone, Default)]
pub struct MemoryBackend {
    files: Arc<Mutex<Files>>,
}

impl std::fmt::Debug for MemoryBackend {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("MemoryBackend").finish_non_exhaustive()
    }
}

impl MemoryBackend {
    /// An empty one.
    pub fn new() -> Self {
        Self::default()
    }

    fn files(&self) -> std::sync::MutexGuard<'_, Files> {
        // Every change is a single map operation, so a panic elsewhere leaves the map whole.
        self.files.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn get(&self, key: &str) -> Result<Arc<Vec<u8>>> {
        check_key(key)?;
        self.files().get(key).cloned().ok_or_else(|| Error::not_found(format!("{key} does not exist")))
    }
}

impl Backend for MemoryBackend {
    fn read_at(&self, key: &str, offset: u64, buf: &mut [u8]) -> Result<()> {
        let file = self.get(key)?;
        let start = usize::try_from(offset).ok();
        let range = start.and_then(|start| file.get(start..start.checked_add(buf.len())?));
        let bytes = range.ok_or_else(|| {
            Error::corrupt(format!("{key} is cut short: {} bytes at {offset} were asked for and it has {}", buf.len(), file.len()))
        })?;
        buf.copy_from_slice(bytes);
        Ok(())
    }

    fn len(&self, key: &str) -> Result<u64> {
        Ok(self.get(key)?.len() as u64)
    }

    fn list(&self, dir: &str) -> Result<Vec<Listed>> {
        check_key(dir)?;
        let prefix = format!("{dir}/");
        let files = self.files();
        let inside = files.range(prefix.clone()..).take_while(|(key, _)| key.starts_with(&prefix));
        Ok(inside
            .filter(|(key, _)| !key[prefix.len()..].contains('/'))
            .map(|(key, bytes)| Listed { name: key[prefix.len()..].to_owned(), len: bytes.len() as u64 })
            .collect())
    }

    fn stage(&self) -> Result<Box<dyn Staged>> {
        Ok(Box::new(StagedMemory { backend: self.clone(), bytes: Vec::new() }))
    }

    fn swap(&self, key: &str, expected: Option<&[u8]>, new: Option<&[u8]>) -> Result<bool> {
        check_key(key)?;
        let mut files = self.files();
        if files.get(key).map(|bytes| &bytes[..]) != expected {
            return Ok(false);
        }
        match new {
            Some(bytes) => files.insert(key.to_owned(), Arc::new(bytes.to_vec())),
            None => files.remove(key),
        };
        Ok(true)
    }

    fn delete(&self, key: &str) -> Result<()> {
        check_key(key)?;
        self.files().remove(key);
        Ok(())
    }

    fn map(&self, key: &str) -> Result<Mapped> {
        struct Shared(Arc<Vec<u8>>);
        impl AsRef<[u8]> for Shared {
            fn as_ref(&self) -> &[u8] {
                &self.0
            }
        }
        Ok(Mapped::new(Shared(self.get(key)?)))
    }

    fn sweep(&self) -> Result<usize> {
        Ok(0)
    }
}

struct StagedMemory {
    backend: MemoryBackend,
    bytes: Vec<u8>,
}

impl Staged for StagedMemory {
    fn append(&mut self, bytes: &[u8]) -> Result<()> {
        self.bytes.extend_from_slice(bytes);
        Ok(())
    }

    fn publish(&mut self, key: &str) -> Result<PutOutcome> {
        check_key(key)?;
        let mut files = self.backend.files();
        if files.contains_key(key) {
            return Ok(PutOutcome::AlreadyThere);
        }
        files.insert(key.to_owned(), Arc::new(std::mem::take(&mut self.bytes)));
        Ok(PutOutcome::Stored)
    }
}
