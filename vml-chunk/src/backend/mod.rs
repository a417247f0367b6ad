//! Where the files of a repository live: the one seam between the store and a file system, memory or an object store.
//!
//! Files are named by keys like `data/6437b3…`: components of printable ASCII joined by `/`. Everything published is
//! immutable but the files changed by [`Backend::swap`]. Caches, retries, faults and dry runs are wrappers around this trait; every
//! implementation passes the one conformance suite in `vml-testkit`.

mod cached;
mod discard;
mod local;
mod memory;
mod names;
#[cfg(feature = "object")]
pub mod object;

pub use cached::CachedBackend;
pub use discard::DiscardBackend;
pub use local::{LocalBackend, files};
pub use memory::MemoryBackend;
pub use names::NameCheck;
#[cfg(feature = "object")]
pub use object::ObjectBackend;

use crate::error::{Error, ErrorKind, Result};
use crate::mmap::Map;
use std::fmt;
use std::sync::Arc;

/// What became of a put-if-absent.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum PutOutcome {
    /// The file is there now and durable.
    Stored,
    /// A file of that name was there; it is unchanged.
    AlreadyThere,
}

/// A file in a listing.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Listed {
    /// The last component of its key.
    pub name: String,
    /// Its length in bytes.
    pub len: u64,
}

/// Bytes of a published file, mapped or read.
#[derive(Clone)]
pub struct Mapped(Arc<dyn Owner>);

trait Owner: Send + Sync {
    fn bytes(&self) -> &[u8];

    fn pass(&self, _at: usize, _stride: usize) {}
}

struct Plain<T>(T);

impl<T: AsRef<[u8]> + Send + Sync> Owner for Plain<T> {
    fn bytes(&self) -> &[u8] {
        self.0.as_ref()
    }
}

impl Owner for Map {
    fn bytes(&self) -> &[u8] {
        self.as_ref()
    }

    fn pass(&self, at: usize, stride: usize) {
        Self::pass(self, at, stride);
    }
}

impl Mapped {
    /// Wraps whatever owns the bytes.
    pub fn new(owner: impl AsRef<[u8]> + Send + Sync + 'static) -> Self {
        Self(Arc::new(Plain(owner)))
    }

    pub(crate) fn of_file(map: Map) -> Self {
        Self(Arc::new(map))
    }

    /// Whoever reads from one end to the other has come to `at`, and tells so every `stride` bytes.
    pub(crate) fn pass(&self, at: usize, stride: usize) {
        self.0.pass(at, stride);
    }
}

impl AsRef<[u8]> for Mapped {
    fn as_ref(&self) -> &[u8] {
        self.0.bytes()
    }
}

/// A published file that is read here and there, and may be larger than memory.
#[derive(Clone)]
pub enum Paged {
    /// All of it at hand.
    Mapped(Mapped),
    /// Opened block by block.
    Blocks(Arc<dyn Blocks>),
}

/// A file of which only parts can be had at a time.
pub trait Blocks: Send + Sync {
    /// Its length in bytes.
    fn len(&self) -> usize;

    /// Whether it has no bytes.
    fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Fills `buf` from `offset`; tells whether that could be done: not beyond the end, and not where the file is damaged.
    fn fill(&self, offset: usize, buf: &mut [u8]) -> bool;

    /// Whoever reads from one end to the other has come to `at`, and tells so every `stride` bytes.
    fn pass(&self, at: usize, stride: usize) {
        _ = (at, stride);
    }
}

/// A repository's files.
///
/// Methods may be called from any thread. Errors name the key; a missing file is `NotFound`.
pub trait Backend: Send + Sync + fmt::Debug {
    /// Fills `buf` from `offset`. A file too short for that is `Corrupt`: what is published has a known length.
    fn read_at(&self, key: &str, offset: u64, buf: &mut [u8]) -> Result<()>;

    /// The length of a file in bytes.
    fn len(&self, key: &str) -> Result<u64>;

    /// The files directly in `dir`, in no order; none when there is no such directory. Directories are not listed.
    fn list(&self, dir: &str) -> Result<Vec<Listed>>;

    /// Begins a file that has no name yet.
    fn stage(&self) -> Result<Box<dyn Staged>>;

    /// Begins a file that will be published in `dir`, which a backend that treats files by their place must know from the start.
    fn stage_in(&self, dir: &str) -> Result<Box<dyn Staged>> {
        _ = dir;
        self.stage()
    }

    /// Replaces the whole content of a small file if it is `expected` now (`None`: if it does not exist); `new` of
    /// `None` deletes it. Atomic against every other writer, durable on return; `false` when it was not `expected`.
    fn swap(&self, key: &str, expected: Option<&[u8]>, new: Option<&[u8]>) -> Result<bool>;

    /// Deletes a file, durably. A file that is gone already is no error.
    fn delete(&self, key: &str) -> Result<()>;

    /// What others did to names in `dir` before this call, and perhaps did not come to make durable, is durable on return: what was listed or read can
    /// be relied upon then. A backend that shows nothing before it is durable has nothing to do.
    fn settle(&self, _dir: &str) -> Result<()> {
        Ok(())
    }

    /// The bytes of a published file, mapped where the backend can.
    fn map(&self, key: &str) -> Result<Mapped>;

    /// As [`map`](Self::map), for a long file of which little is read: it is opened as far as it is read, where a backend would have to open all of it.
    /// What is damaged is then met when it is read.
    fn paged(&self, key: &str) -> Result<Paged> {
        self.map(key).map(Paged::Mapped)
    }

    /// Removes what dead writers left behind that was never published; tells how many files.
    fn sweep(&self) -> Result<usize>;

    /// Stores a whole small file if there is none of that name.
    fn put(&self, key: &str, bytes: &[u8]) -> Result<PutOutcome> {
        let mut staged = self.stage()?;
        staged.append(bytes)?;
        staged.publish(key)
    }

    /// Reads a whole small file of at most `limit` bytes.
    fn read(&self, key: &str, limit: u64) -> Result<Vec<u8>> {
        let len = self.len(key)?;
        if len > limit {
            return Err(Error::corrupt(format!("{key} has {len} bytes, more than the {limit} it may have")));
        }
        let mut bytes = vec![0; usize::try_from(len).map_err(|_| Error::corrupt(format!("{key} is too long")))?];
        self.read_at(key, 0, &mut bytes)?;
        Ok(bytes)
    }

    /// Reads many small files as [`read`](Self::read) does, side by side where each takes long to come.
    fn read_many(&self, keys: &[String], limit: u64) -> Vec<Result<Vec<u8>>> {
        keys.iter().map(|key| self.read(key, limit)).collect()
    }

    /// A hint that these immutable files will be read soon: a cache gets those that it has not, side by side. Failures are met when they are read.
    fn prefetch(&self, _keys: &[String]) {}

    /// A hint that files of this directory of immutable ones will be read, it is not known which.
    fn prefetch_dir(&self, _dir: &str) {}
}

/// A file on its way: invisible until published, gone without a trace when dropped.
pub trait Staged: Send {
    /// Appends bytes.
    fn append(&mut self, bytes: &[u8]) -> Result<()>;

    /// Gives the file its name if no file has it; the file and its name are durable on return. After
    /// [`PutOutcome::AlreadyThere`] it can be tried again.
    fn publish(&mut self, key: &str) -> Result<PutOutcome>;
}

/// Longest component of a key, in bytes.
pub const KEY_COMPONENT_MAX: usize = 200;

/// Checks that a key cannot name anything outside the repository.
///
/// # Errors
/// `InvalidInput` naming the key.
pub fn check_key(key: &str) -> Result<()> {
    let good = |part: &str| {
        !part.is_empty()
            && part.len() <= KEY_COMPONENT_MAX
            && !part.starts_with('.')
            && part.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"-_.@+~".contains(&byte))
    };
    if key.split('/').count() <= 4 && key.split('/').all(good) {
        Ok(())
    } else {
        Err(Error::new(ErrorKind::InvalidInput, format!("{key:?} cannot be the name of a repository's file")))
    }
}
