//! A dry run: reads what another backend has, takes every write and keeps nothing of it but, in memory, what was swapped.

use super::{Backend, Listed, Mapped, Paged, PutOutcome, Staged, check_key};
use crate::error::{Error, ErrorKind, Result};
use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

/// Wraps a backend so that nothing in it changes.
///
/// A file that was swapped reads as it was swapped to, because whoever swaps twice relies on the first. What is published is gone.
#[derive(Debug, Clone)]
pub struct DiscardBackend {
    inner: Arc<dyn Backend>,
    swapped: Arc<Mutex<Swapped>>,
}

/// What was swapped; `None` for a file that was deleted so.
type Swapped = HashMap<String, Option<Arc<Vec<u8>>>>;

impl DiscardBackend {
    /// Reads come from `inner`.
    pub fn new(inner: Arc<dyn Backend>) -> Self {
        Self { inner, swapped: Arc::default() }
    }

    fn swapped(&self) -> MutexGuard<'_, Swapped> {
        self.swapped.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The file as it was swapped to, if it was.
    fn own(&self, key: &str) -> Option<Result<Arc<Vec<u8>>>> {
        let file = self.swapped().get(key)?.clone();
        Some(file.ok_or_else(|| Error::not_found(format!("{key} does not exist"))))
    }
}

impl Backend for DiscardBackend {
    fn read_at(&self, key: &str, offset: u64, buf: &mut [u8]) -> Result<()> {
        let Some(file) = self.own(key) else { return self.inner.read_at(key, offset, buf) };
        let file = file?;
        let start = usize::try_from(offset).ok();
        let range = start.and_then(|start| file.get(start..start.checked_add(buf.len())?));
        buf.copy_from_slice(range.ok_or_else(|| Error::corrupt(format!("{key} is cut short")))?);
        Ok(())
    }

    fn len(&self, key: &str) -> Result<u64> {
        match self.own(key) {
            Some(file) => Ok(file?.len() as u64),
            None => self.inner.len(key),
        }
    }

    fn list(&self, dir: &str) -> Result<Vec<Listed>> {
        self.inner.list(dir)
    }

    fn stage(&self) -> Result<Box<dyn Staged>> {
        Ok(Box::new(Discarded))
    }

    fn swap(&self, key: &str, expected: Option<&[u8]>, new: Option<&[u8]>) -> Result<bool> {
        check_key(key)?;
        let mut swapped = self.swapped();
        let same = match swapped.get(key) {
            Some(file) => file.as_ref().map(|file| &file[..]) == expected,
            None => match self.inner.map(key) {
                Ok(file) => Some(file.as_ref()) == expected,
                Err(error) if error.kind() == ErrorKind::NotFound => expected.is_none(),
                Err(error) => return Err(error),
            },
        };
        if same {
            swapped.insert(key.to_owned(), new.map(|bytes| Arc::new(bytes.to_vec())));
        }
        Ok(same)
    }

    fn delete(&self, key: &str) -> Result<()> {
        check_key(key)
    }

    fn map(&self, key: &str) -> Result<Mapped> {
        struct Shared(Arc<Vec<u8>>);
        impl AsRef<[u8]> for Shared {
            fn as_ref(&self) -> &[u8] {
                &self.0
            }
        }
        match self.own(key) {
            Some(file) => Ok(Mapped::new(Shared(file?))),
            None => self.inner.map(key),
        }
    }

    fn paged(&self, key: &str) -> Result<Paged> {
        match self.own(key) {
            Some(_) => self.map(key).map(Paged::Mapped),
            None => self.inner.paged(key),
        }
    }

    fn sweep(&self) -> Result<usize> {
        Ok(0)
    }

    fn read(&self, key: &str, limit: u64) -> Result<Vec<u8>> {
        match self.own(key) {
            Some(file) => {
                let file = file?;
                if file.len() as u64 > limit {
                    return Err(Error::corrupt(format!("{key} has {} bytes, more than the {limit} it may have", file.len())));
                }
                Ok(file.to_vec())
            }
            None => self.inner.read(key, limit),
        }
    }

    fn read_many(&self, keys: &[String], limit: u64) -> Vec<Result<Vec<u8>>> {
        if keys.iter().any(|key| self.own(key).is_some()) {
            return keys.iter().map(|key| self.read(key, limit)).collect();
        }
        self.inner.read_many(keys, limit)
    }

    fn prefetch(&self, keys: &[String]) {
        self.inner.prefetch(keys);
    }

    fn prefetch_dir(&self, dir: &str) {
        self.inner.prefetch_dir(dir);
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::backend::MemoryBackend;

    #[test]
    fn swaps_follow_each_other_and_nothing_is_kept() {
        let inner: Arc<dyn Backend> = Arc::new(MemoryBackend::new());
        inner.put("a/there", b"old").unwrap();
        let dry = DiscardBackend::new(Arc::clone(&inner));
        assert!(dry.swap("a/new", None, Some(b"1")).unwrap() && dry.swap("a/new", Some(b"1"), Some(b"22")).unwrap());
        assert!(!dry.swap("a/new", Some(b"1"), None).unwrap());
        assert_eq!(dry.read("a/new", 9).unwrap(), b"22");
        assert!(dry.swap("a/there", Some(b"old"), None).unwrap());
        assert_eq!(dry.len("a/there").unwrap_err().kind(), ErrorKind::NotFound);
        assert_eq!(inner.read("a/there", 9).unwrap(), b"old");
        assert_eq!(inner.list("a").unwrap().len(), 1);
    }
}
