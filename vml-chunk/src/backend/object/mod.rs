//! A repository in object storage: Amazon's S3 and what speaks its language, Google Cloud Storage, Azure.
//!
//! ```text
//! bucket/prefix/config  bucket/prefix/data/6437b3…  …     the same keys and the same bytes as in a directory
//! stage    in memory ──(32 MiB)──► multipart upload to tmp/NONCE, parts sent while the caller goes on
//! publish  one PUT, If-None-Match: *          or a copy on the server, if absent (If-None-Match on its completion)
//! swap     GET with its ETag, then PUT, If-Match: ETag (If-None-Match: * where there was nothing)
//! ```
//! *Atomic*: each of these is decided by one conditional request on the name itself; the store lets one of several win. A multipart upload
//! straight to its name cannot be had with a condition by way of the crate, hence the copy; a store that has put-if-absent but no copy-if-absent gets one
//! PUT from memory instead. [`probe`](ObjectBackend::probe) tries which of them hold.
//!
//! *An answer that got lost* leaves open whether a request was carried out. Every conditional write therefore carries a nonce in the object's metadata: whoever
//! is refused looks whether the object there is its own.
//!
//! *Deleting by swap*: deleting under a condition cannot be had everywhere, so a file that was swapped away stays as an object of 17 bytes, a *tombstone*,
//! which reads as absent and is swapped like any other. Nothing else may have that length, which no record, pack or segment has, so that a listing knows
//! tombstones without reading them.
//!
//! The trait is synchronous; a private runtime does the requests, and any number of threads may wait for it.

mod connect;
mod explain;
mod probe;
mod put;
mod run;
mod stage;
mod swap;

pub use connect::{ObjectPlace, Service, connect};
pub use probe::{ABILITIES_KEY, ABILITIES_RECORD, Abilities};

use super::{Backend, Listed, Mapped, Staged, check_key};
use crate::error::{Error, ErrorKind, IoResultExt, Result};
use explain::explain;
use futures_util::StreamExt;
use object_store::path::Path;
use object_store::{Attribute, GetOptions, GetRange, ObjectStore, ObjectStoreExt, UpdateVersion};
use run::Runner;
use std::fmt;
use std::sync::{Arc, OnceLock};
use std::time::Duration;

/// What stands in a file that was deleted by a swap.
const TOMBSTONE: &[u8] = b"VML: no file here";
/// Where files lie that have no name yet.
const TMP: &str = "tmp";
/// Longest file that is read whole: an index segment of a hundred million chunks is.
const WHOLE_MAX: u64 = 8 << 30;
/// Requests on their way when many files are read.
const AT_ONCE: usize = 32;
/// Longest file that is kept in memory and put in one request; longer ones are uploaded in parts.
const LONG: usize = 32 << 20;
/// A part of a long one; S3 wants 5 MiB or more.
const PART: usize = 8 << 20;
/// After this time, by the store's own clock, a staged file is taken for a dead writer's.
const ABANDONED_AFTER: Duration = Duration::from_secs(7 * 24 * 3600);
/// The metadata that tells a write from others.
const NONCE: &str = "vmlwrite";

/// Keeps every file as an object below one prefix.
#[derive(Clone)]
pub struct ObjectBackend {
    shared: Arc<Shared>,
}

struct Shared {
    store: Arc<dyn ObjectStore>,
    root: Path,
    name: String,
    abandoned_after: Duration,
    long: usize,
    part: usize,
    abilities: OnceLock<Abilities>,
    runner: Runner,
}

impl fmt::Debug for ObjectBackend {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ObjectBackend").field("name", &self.shared.name).finish_non_exhaustive()
    }
}

/// What was read of an object.
struct Fetched {
    bytes: Vec<u8>,
    /// Of the whole object.
    len: u64,
    version: UpdateVersion,
}

impl ObjectBackend {
    /// Keeps files in `store` below `prefix`, which may be empty; errors call the place `name`. [`connect`] makes a store from an address.
    ///
    /// # Errors
    /// `InvalidInput` for a prefix that cannot be one, `Io` when threads cannot be started.
    pub fn new(store: Arc<dyn ObjectStore>, prefix: &str, name: &str) -> Result<Self> {
        let root = Path::parse(prefix).map_err(|error| Error::invalid(format!("{prefix:?} cannot be a prefix")).because(error))?;
        let (runner, abilities, name) = (Runner::start()?, OnceLock::new(), name.to_owned());
        let shared = Shared { store, root, name, abandoned_after: ABANDONED_AFTER, long: LONG, part: PART, abilities, runner };
        Ok(Self { shared: Arc::new(shared) })
    }

    /// Takes staged files for abandoned after another time than a week.
    ///
    /// # Errors
    /// `InvalidInput` when the backend is in use already.
    pub fn with_abandoned_after(mut self, time: Duration) -> Result<Self> {
        self.unshared()?.abandoned_after = time;
        Ok(self)
    }

    /// Uploads files in parts of `part` bytes that are longer than `long`, instead of 8 MiB and 32 MiB. Real stores want parts of 5 MiB at least.
    ///
    /// # Errors
    /// `InvalidInput` when the backend is in use already, or for parts without a length.
    pub fn with_parts(mut self, long: usize, part: usize) -> Result<Self> {
        if part == 0 {
            return Err(Error::invalid("parts must have a length"));
        }
        let shared = self.unshared()?;
        (shared.long, shared.part) = (long, part);
        Ok(self)
    }

    /// Takes it as known what the store does beyond what is needed, instead of reading what a probe found.
    ///
    /// # Errors
    /// `InvalidInput` when the backend is in use already.
    pub fn with_abilities(mut self, abilities: Abilities) -> Result<Self> {
        self.unshared()?.abilities = OnceLock::from(abilities);
        Ok(self)
    }

    fn unshared(&mut self) -> Result<&mut Shared> {
        Arc::get_mut(&mut self.shared).ok_or_else(|| Error::invalid("the backend is in use"))
    }
}

impl Shared {
    fn path(&self, key: &str) -> Result<Path> {
        check_key(key)?;
        self.raw_path(key)
    }

    fn raw_path(&self, key: &str) -> Result<Path> {
        let path = if self.root.as_ref().is_empty() { key.to_owned() } else { format!("{}/{key}", self.root) };
        Path::parse(path).map_err(|error| Error::invalid(format!("{key:?} cannot be the name of an object")).because(error))
    }

    /// How errors call a file.
    fn what(&self, key: &str) -> String {
        format!("{}/{key}", self.name)
    }

    /// A file's length; `NotFound` for a tombstone too.
    fn len(&self, key: &str) -> Result<u64> {
        let (store, path, what) = (Arc::clone(&self.store), self.path(key)?, self.what(key));
        let meta = self.runner.wait(async move { store.head(&path).await.map_err(|error| explain(&error, &what)) })??;
        if meta.size == TOMBSTONE.len() as u64 { Err(self.absent(key)) } else { Ok(meta.size) }
    }

    fn absent(&self, key: &str) -> Error {
        Error::not_found(format!("{} does not exist", self.what(key)))
    }

    /// A whole file of at most `limit` bytes; `NotFound` for a tombstone too.
    fn read(&self, key: &str, limit: u64) -> Result<Fetched> {
        let (store, path, what) = (Arc::clone(&self.store), self.path(key)?, self.what(key));
        let fetched = self.runner.wait(async move { fetch(store.as_ref(), &path, None, limit, &what).await })??;
        if is_tombstone(&fetched) { Err(self.absent(key)) } else { Ok(fetched) }
    }

    /// `len` bytes from `offset` on.
    fn read_range(&self, key: &str, offset: u64, len: u64) -> Result<Vec<u8>> {
        let cut = |have: u64| {
            Error::corrupt(format!("{} is cut short: {len} bytes at {offset} were asked for and it has {have}", self.what(key)))
        };
        let (store, path, what) = (Arc::clone(&self.store), self.path(key)?, self.what(key));
        let end = offset.checked_add(len).filter(|end| i64::try_from(*end).is_ok());
        if len == 0 || end.is_none() {
            let have = self.len(key)?;
            return if end.is_some_and(|end| end <= have) { Ok(Vec::new()) } else { Err(cut(have)) };
        }
        let range = offset..end.unwrap_or(offset);
        let fetched = self.runner.wait(async move { fetch(store.as_ref(), &path, Some(range), len, &what).await })?;
        match fetched {
            Ok(fetched) if fetched.bytes.len() as u64 == len && fetched.len != TOMBSTONE.len() as u64 => Ok(fetched.bytes),
            Ok(fetched) if fetched.len == TOMBSTONE.len() as u64 => Err(self.absent(key)),
            Ok(fetched) => Err(cut(fetched.len)),
            Err(error) if error.kind() == ErrorKind::NotFound => Err(error),
            // Stores differ in how they refuse a range beyond the end.
            Err(error) => match self.len(key) {
                Ok(have) if end.is_none_or(|end| end > have) => Err(cut(have)),
                _ => Err(error),
            },
        }
    }
}

fn is_tombstone(fetched: &Fetched) -> bool {
    fetched.bytes == TOMBSTONE
}

/// Gets an object or a range of it: never more than `limit` bytes, whatever the store sends.
async fn fetch(store: &dyn ObjectStore, path: &Path, range: Option<std::ops::Range<u64>>, limit: u64, what: &str) -> Result<Fetched> {
    let options = GetOptions { range: range.map(GetRange::Bounded), ..GetOptions::default() };
    let result = store.get_opts(path, options).await.map_err(|error| explain(&error, what))?;
    let len = result.meta.size;
    let expected = result.range.end.saturating_sub(result.range.start);
    if expected > limit {
        return Err(Error::corrupt(format!("{what} has {expected} bytes, more than the {limit} it may have")));
    }
    let version = UpdateVersion { e_tag: result.meta.e_tag.clone(), version: result.meta.version.clone() };
    let mut bytes = Vec::with_capacity(usize::try_from(expected.min(1 << 20)).unwrap_or(0));
    let mut stream = result.into_stream();
    while let Some(part) = stream.next().await {
        let part = part.map_err(|error| explain(&error, what))?;
        if (bytes.len() + part.len()) as u64 > expected {
            return Err(Error::new(ErrorKind::Io, format!("the object store sent more of {what} than it has")));
        }
        bytes.extend_from_slice(&part);
    }
    if bytes.len() as u64 != expected {
        return Err(Error::new(ErrorKind::Io, format!("the object store sent {} bytes of {what} instead of {expected}", bytes.len())));
    }
    Ok(Fetched { bytes, len, version })
}

/// Sixteen random bytes in hexadecimal digits.
fn nonce() -> Result<String> {
    let mut bytes = [0; 16];
    let mut filled = 0;
    while filled < bytes.len() {
        filled += rustix::rand::getrandom(&mut bytes[filled..], rustix::rand::GetRandomFlags::empty()).at(|| "cannot get random bytes")?;
    }
    Ok(crate::id::hex(&bytes))
}

fn nonce_attribute() -> Attribute {
    Attribute::Metadata(NONCE.into())
}

impl Backend for ObjectBackend {
    fn read_at(&self, key: &str, offset: u64, buf: &mut [u8]) -> Result<()> {
        buf.copy_from_slice(&self.shared.read_range(key, offset, buf.len() as u64)?);
        Ok(())
    }

    fn len(&self, key: &str) -> Result<u64> {
        self.shared.len(key)
    }

    fn list(&self, dir: &str) -> Result<Vec<Listed>> {
        let (store, path, what) = (Arc::clone(&self.shared.store), self.shared.path(dir)?, self.shared.what(dir));
        let result = self
            .shared
            .runner
            .wait(async move { store.list_with_delimiter(Some(&path)).await.map_err(|error| explain(&error, &what)) })??;
        let alive = result.objects.into_iter().filter(|object| object.size != TOMBSTONE.len() as u64);
        Ok(alive.filter_map(|object| Some(Listed { name: object.location.filename()?.to_owned(), len: object.size })).collect())
    }

    fn stage(&self) -> Result<Box<dyn Staged>> {
        Ok(Box::new(stage::StagedObject::new(self.clone())))
    }

    fn swap(&self, key: &str, expected: Option<&[u8]>, new: Option<&[u8]>) -> Result<bool> {
        self.shared.swap(key, expected, new)
    }

    fn delete(&self, key: &str) -> Result<()> {
        let (store, path, what) = (Arc::clone(&self.shared.store), self.shared.path(key)?, self.shared.what(key));
        let result = self.shared.runner.wait(async move { store.delete(&path).await.map_err(|error| explain(&error, &what)) })?;
        result.or_else(|error| if error.kind() == ErrorKind::NotFound { Ok(()) } else { Err(error) })
    }

    fn map(&self, key: &str) -> Result<Mapped> {
        Ok(Mapped::new(self.shared.read(key, WHOLE_MAX)?.bytes))
    }

    fn sweep(&self) -> Result<usize> {
        stage::sweep(&self.shared)
    }

    fn read(&self, key: &str, limit: u64) -> Result<Vec<u8>> {
        Ok(self.shared.read(key, limit)?.bytes)
    }

    fn read_many(&self, keys: &[String], limit: u64) -> Vec<Result<Vec<u8>>> {
        let mut asked = Vec::new();
        for key in keys {
            match self.shared.path(key) {
                Ok(path) => asked.push((path, self.shared.what(key))),
                Err(error) => return keys.iter().map(|_| Err(Error::new(error.kind(), error.to_string()))).collect(),
            }
        }
        let store = Arc::clone(&self.shared.store);
        let fetched = self.shared.runner.each(asked, AT_ONCE, move |(path, what)| {
            let store = Arc::clone(&store);
            async move { fetch(store.as_ref(), &path, None, limit, &what).await }
        });
        let settle = |(key, result): (&String, Result<Result<Fetched>>)| match result.and_then(|result| result) {
            Ok(fetched) if is_tombstone(&fetched) => Err(self.shared.absent(key)),
            other => other.map(|fetched| fetched.bytes),
        };
        keys.iter().zip(fetched).map(settle).collect()
    }
}
