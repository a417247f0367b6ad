//! A local copy of what never changes, in front of a backend that is far away.
//!
//! ```text
//! index/ meta/ entries/ notes/   kept whole in a folder: their names are digests of their bytes, or of what is sealed in them: each copy can be checked
//! data/                          read by ranges; a read that continues another fetches ahead
//! everything else                asked for each time: refs, intents, leases, the quarantine, and which files there are
//! ```
//! A copy is compared with its name when it is made and when a process first uses it; one that differs is thrown away and got again. Whether a file is
//! there at all is the backend's to say: listings and lengths are never kept, and a copy of an entry is used only when this process has seen the entry
//! listed. A folder that cannot be written costs time and nothing else. Processes share one, also of several repositories.

mod ahead;
mod folder;

use super::names::{NameCheck, matches_name};
use super::{Backend, Listed, Mapped, PutOutcome, Staged, check_key};
use crate::error::{Error, ErrorKind, Result};
use ahead::Ahead;
use folder::{Folder, Kept};
use std::collections::{HashMap, HashSet};
use std::path::PathBuf;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

/// Longest file that is got in one piece, and longest one that is kept of those this process writes.
const PIECE: u64 = 8 << 20;
/// Pieces of one file on their way at a time.
const PIECES_AT_ONCE: usize = 4;
/// Longest file that is also kept in memory, and all of them together.
const SMALL: usize = 256 << 10;
const SMALL_ALL: usize = 16 << 20;
/// Copies that are kept open.
const OPEN_MAX: usize = 256;
/// Most files that are got because they may be needed.
const PREFETCHED: usize = 4096;
/// A file longer than this part of the folder's limit is not kept.
const PART_OF_LIMIT: u64 = 4;
/// The same for segments of the index: one that is not kept is got as a whole, into memory, by each process.
const INDEX_PART_OF_LIMIT: u64 = 2;

/// Keeps immutable files of another backend in a folder.
#[derive(Debug)]
pub struct CachedBackend {
    inner: Arc<dyn Backend>,
    state: Arc<State>,
    ahead: Ahead,
}

#[derive(Debug)]
struct State {
    folder: Folder,
    known: Mutex<Known>,
}

/// What this process knows of the backend's files.
#[derive(Debug, Default)]
struct Known {
    /// Lengths of files in listings.
    lens: HashMap<String, u64>,
    /// Entries in listings.
    entries: HashSet<String>,
    /// Copies that were compared with their names.
    open: HashMap<String, Arc<Kept>>,
    small: HashMap<String, Arc<Vec<u8>>>,
    small_len: usize,
    /// Files whose bytes at the backend are not, or may not be, what their names say: always asked for.
    bypassed: HashSet<String>,
}

/// The digest in the name of a file that is kept.
fn digest_of(key: &str) -> Option<&str> {
    let (dir, name) = key.split_once('/')?;
    let digest = match dir {
        "index" | "meta" | "entries" => name,
        // ENTRY-NOTE
        "notes" => name.rsplit_once('-')?.1,
        _ => return None,
    };
    let good = digest.len() == 64 && digest.bytes().all(|byte| matches!(byte, b'0'..=b'9' | b'a'..=b'f'));
    good.then_some(digest)
}

fn is_small(key: &str) -> bool {
    key.starts_with("entries/") || key.starts_with("notes/")
}

impl State {
    fn known(&self) -> MutexGuard<'_, Known> {
        // Every change is complete at each step.
        self.known.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Keeps bytes if they are what the name says; tells whether they are.
    fn keep(&self, key: &str, bytes: &[u8]) -> bool {
        let Some(digest) = digest_of(key) else { return false };
        if !matches_name(bytes, digest) {
            self.known().bypassed.insert(key.to_owned());
            return false;
        }
        self.folder.write(key, bytes);
        if is_small(key) {
            self.remember(key, Arc::new(bytes.to_vec()));
        }
        true
    }

    fn remember(&self, key: &str, bytes: Arc<Vec<u8>>) {
        let mut known = self.known();
        if bytes.len() <= SMALL && known.small_len + bytes.len() <= SMALL_ALL {
            known.small_len += bytes.len();
            if let Some(old) = known.small.insert(key.to_owned(), bytes) {
                known.small_len -= old.len();
            }
        }
    }

    fn forget(&self, key: &str) {
        let mut known = self.known();
        known.open.remove(key);
        known.entries.remove(key);
        known.lens.remove(key);
        if let Some(old) = known.small.remove(key) {
            known.small_len -= old.len();
        }
        drop(known);
        self.folder.remove(key);
    }
}

impl CachedBackend {
    /// Keeps files of `inner` in the folder `dir`, which is made when it is needed, up to `limit` bytes.
    pub fn new(inner: Arc<dyn Backend>, dir: impl Into<PathBuf>, limit: u64) -> Self {
        let state = State { folder: Folder::new(dir.into(), limit), known: Mutex::default() };
        Self { inner, state: Arc::new(state), ahead: Ahead::default() }
    }

    /// Keeps no copies, and reads ahead only: for whoever wants to see the backend's own bytes.
    pub fn without_copies(inner: Arc<dyn Backend>) -> Self {
        Self { inner, state: Arc::new(State { folder: Folder::none(), known: Mutex::default() }), ahead: Ahead::default() }
    }

    /// Whether a copy may be used: its name is a digest, nothing speaks against it, and an entry is there.
    fn may_use(&self, key: &str) -> bool {
        if digest_of(key).is_none() {
            return false;
        }
        let known = self.state.known();
        if known.bypassed.contains(key) {
            return false;
        }
        // An entry can be forgotten at any time; a reader that has seen it listed may read it.
        !key.starts_with("entries/") || known.entries.contains(key)
    }

    /// The copy of a small file.
    fn small(&self, key: &str) -> Option<Arc<Vec<u8>>> {
        if !is_small(key) {
            return None;
        }
        if let Some(bytes) = self.state.known().small.get(key) {
            return Some(Arc::clone(bytes));
        }
        let bytes = Arc::new(self.state.folder.read(key, digest_of(key)?)?);
        self.state.remember(key, Arc::clone(&bytes));
        Some(bytes)
    }

    /// A copy of a long file, made if there is none; `None` when it cannot be kept.
    fn kept(&self, key: &str) -> Result<Option<Arc<Kept>>> {
        if !self.may_use(key) {
            return Ok(None);
        }
        if let Some(kept) = self.state.known().open.get(key) {
            return Ok(Some(Arc::clone(kept)));
        }
        let Some(digest) = digest_of(key) else { return Ok(None) };
        let mut kept = self.state.folder.open(key, digest);
        if kept.is_none() && self.state.folder.is_usable() {
            let known = self.state.known().lens.get(key).copied();
            let len = known.map_or_else(|| self.inner.len(key), Ok)?;
            let part = if key.starts_with("index/") { INDEX_PART_OF_LIMIT } else { PART_OF_LIMIT };
            if len > self.state.folder.limit() / part {
                return Ok(None);
            }
            if len <= PIECE {
                self.state.keep(key, &self.inner.read(key, PIECE)?);
            } else {
                self.fetch_in_pieces(key, digest, len)?;
            }
            kept = self.state.folder.open(key, digest);
        }
        let kept = kept.map(Arc::new);
        if let Some(kept) = &kept {
            let mut known = self.state.known();
            if known.open.len() >= OPEN_MAX
                && let Some(other) = known.open.keys().next().cloned()
            {
                known.open.remove(&other);
            }
            known.open.insert(key.to_owned(), Arc::clone(kept));
        }
        Ok(kept)
    }

    /// Copies a long file, a few pieces at a time.
    fn fetch_in_pieces(&self, key: &str, digest: &str, len: u64) -> Result<()> {
        let Some(mut file) = self.state.folder.begin() else { return Ok(()) };
        let mut check = NameCheck::default();
        let starts: Vec<u64> = (0..len).step_by(usize::try_from(PIECE).unwrap_or(usize::MAX)).collect();
        for group in starts.chunks(PIECES_AT_ONCE) {
            let get = |start: u64| {
                let mut piece = vec![0; usize::try_from((len - start).min(PIECE)).unwrap_or(0)];
                self.inner.read_at(key, start, &mut piece).map(|()| piece)
            };
            let pieces: Vec<Result<Vec<u8>>> = std::thread::scope(|scope| {
                let gets: Vec<_> = group.iter().map(|start| scope.spawn(move || get(*start))).collect();
                let panicked = || Err(Error::new(ErrorKind::Interrupted, "a thread that read ahead panicked"));
                gets.into_iter().map(|get| get.join().unwrap_or_else(|_| panicked())).collect()
            });
            for piece in pieces {
                let piece = piece?;
                check.update(&piece);
                file.append(&piece);
            }
        }
        if check.matches(digest) {
            file.name(key);
        } else {
            self.state.known().bypassed.insert(key.to_owned());
        }
        Ok(())
    }
}

fn limited(key: &str, bytes: &[u8], limit: u64) -> Result<Vec<u8>> {
    if bytes.len() as u64 > limit {
        return Err(Error::corrupt(format!("{key} has {} bytes, more than the {limit} it may have", bytes.len())));
    }
    Ok(bytes.to_vec())
}

impl Backend for CachedBackend {
    fn read_at(&self, key: &str, offset: u64, buf: &mut [u8]) -> Result<()> {
        if let Some(kept) = if is_small(key) { None } else { self.kept(key)? } {
            return kept.read_at(key, offset, buf);
        }
        if !key.starts_with("data/") && !key.starts_with("meta/") {
            return self.inner.read_at(key, offset, buf);
        }
        let len = self.state.known().lens.get(key).copied();
        self.ahead.read_at(self.inner.as_ref(), key, len, offset, buf)
    }

    fn len(&self, key: &str) -> Result<u64> {
        self.inner.len(key)
    }

    fn list(&self, dir: &str) -> Result<Vec<Listed>> {
        let listed = self.inner.list(dir)?;
        let mut known = self.state.known();
        if matches!(dir, "index" | "meta" | "data") {
            known.lens.extend(listed.iter().map(|file| (format!("{dir}/{}", file.name), file.len)));
        } else if dir == "entries" {
            known.entries = listed.iter().map(|file| format!("{dir}/{}", file.name)).collect();
        }
        drop(known);
        // Whoever looks again what there is has met something odd, perhaps, and shall see it as it is now.
        self.ahead.clear();
        Ok(listed)
    }

    fn stage(&self) -> Result<Box<dyn Staged>> {
        Ok(Box::new(CachedStaged { inner: self.inner.stage()?, state: Arc::clone(&self.state), bytes: Some(Vec::new()) }))
    }

    fn swap(&self, key: &str, expected: Option<&[u8]>, new: Option<&[u8]>) -> Result<bool> {
        self.inner.swap(key, expected, new)
    }

    fn delete(&self, key: &str) -> Result<()> {
        check_key(key)?;
        self.state.forget(key);
        self.ahead.forget(key);
        self.inner.delete(key)
    }

    fn map(&self, key: &str) -> Result<Mapped> {
        if is_small(key) {
            return self.inner.map(key);
        }
        match self.kept(key)?.and_then(|kept| kept.map()) {
            Some(mapped) => Ok(mapped),
            None => self.inner.map(key),
        }
    }

    fn settle(&self, dir: &str) -> Result<()> {
        self.inner.settle(dir)
    }

    fn sweep(&self) -> Result<usize> {
        self.inner.sweep()
    }

    fn read(&self, key: &str, limit: u64) -> Result<Vec<u8>> {
        if self.may_use(key)
            && let Some(bytes) = self.small(key)
        {
            return limited(key, &bytes, limit);
        }
        let bytes = self.inner.read(key, limit)?;
        if is_small(key) && self.state.keep(key, &bytes) && key.starts_with("entries/") {
            self.state.known().entries.insert(key.to_owned());
        }
        Ok(bytes)
    }

    fn read_many(&self, keys: &[String], limit: u64) -> Vec<Result<Vec<u8>>> {
        let mut results: Vec<Option<Result<Vec<u8>>>> = Vec::new();
        let mut missing = Vec::new();
        for key in keys {
            let own = if self.may_use(key) { self.small(key) } else { None };
            if own.is_none() {
                missing.push(key.clone());
            }
            results.push(own.map(|bytes| limited(key, &bytes, limit)));
        }
        let mut got = self.inner.read_many(&missing, limit).into_iter();
        let fill = |(key, result): (&String, Option<Result<Vec<u8>>>)| {
            result.unwrap_or_else(|| {
                let bytes = got.next().unwrap_or_else(|| Err(Error::not_found(format!("{key} was not read"))))?;
                if is_small(key) {
                    self.state.keep(key, &bytes);
                }
                Ok(bytes)
            })
        };
        keys.iter().zip(results).map(fill).collect()
    }

    fn prefetch_dir(&self, dir: &str) {
        if let Ok(mut listed) = self.list(dir) {
            listed.truncate(PREFETCHED);
            self.prefetch(&listed.into_iter().map(|file| format!("{dir}/{}", file.name)).collect::<Vec<_>>());
        }
    }

    fn prefetch(&self, keys: &[String]) {
        let missing: Vec<String> = {
            let known = self.state.known();
            let wanted = |key: &&String| {
                let short = is_small(key) || known.lens.get(*key).is_some_and(|len| *len <= PIECE);
                short && digest_of(key).is_some() && !known.small.contains_key(*key) && !known.bypassed.contains(*key)
            };
            keys.iter().filter(wanted).filter(|key| !self.state.folder.has(key)).cloned().collect()
        };
        // Few at a time, because they are in memory together.
        for group in missing.chunks(64) {
            for (key, bytes) in group.iter().zip(self.inner.read_many(group, PIECE)) {
                if let Ok(bytes) = bytes {
                    self.state.keep(key, &bytes);
                }
            }
        }
    }
}

/// Keeps what this process writes, if it is short: the next save looks at it first.
struct CachedStaged {
    inner: Box<dyn Staged>,
    state: Arc<State>,
    bytes: Option<Vec<u8>>,
}

impl Staged for CachedStaged {
    fn append(&mut self, bytes: &[u8]) -> Result<()> {
        match &mut self.bytes {
            Some(own) if (own.len() + bytes.len()) as u64 <= PIECE => own.extend_from_slice(bytes),
            own => *own = None,
        }
        self.inner.append(bytes)
    }

    fn publish(&mut self, key: &str) -> Result<PutOutcome> {
        let outcome = self.inner.publish(key)?;
        if digest_of(key).is_some() {
            match (outcome, &self.bytes) {
                (PutOutcome::Stored, bytes) => {
                    self.state.forget(key);
                    self.state.known().bypassed.remove(key);
                    if let Some(bytes) = bytes {
                        self.state.keep(key, bytes);
                    }
                    if key.starts_with("entries/") {
                        self.state.known().entries.insert(key.to_owned());
                    }
                }
                // Whoever meets its own file looks whether it is whole: at the backend's, and not at a copy.
                (PutOutcome::AlreadyThere, _) => {
                    self.state.forget(key);
                    self.state.known().bypassed.insert(key.to_owned());
                }
            }
        }
        Ok(outcome)
    }
}
