//! The backend that seals what it writes and opens what it reads.

use super::Random;
use super::cipher::{Cipher, TAG_LEN};
use super::derive::{Key, Use, derive};
use super::keyring::Keyring;
use super::layout::{Class, HEADER_LEN, Header, INDEX_BLOCK_LEN, block_count, block_len, plain_len_of, sealed_len};
use super::paged::PagedFile;
use super::rename::Names;
use super::secrets::{Secrets, file_cipher, unknown_epoch};
use super::write::{SealedStaged, Sealer, State, not_sealed, open_whole};
use crate::backend::{Backend, Listed, Mapped, Paged, PutOutcome, Staged, check_key};
use crate::error::{Error, ErrorKind, Result};
use std::collections::HashMap;
use std::fmt;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, RwLock};

/// Times that a swap is tried on a file that reads as expected and is changed at that moment.
const TRIES: usize = 100;
/// Keys of files that are kept, each some hundred bytes.
const OPENED_MAX: usize = 4096;
/// What writers and readers of protected files have in common, kept for so many writers.
const AGREED_MAX: usize = 4096;
/// Where a file is longest of all that hold as much.
const SMALL_BLOCKS: &str = "index";
/// A ref that was not hidden with this repository's key is shown under no name that a ref can have.
const STRANGER: char = '~';

/// Seals every file of another backend but `config` and `keys/`.
pub struct SealedBackend {
    shared: Arc<Shared>,
}

pub(super) struct Shared {
    inner: Arc<dyn Backend>,
    config: [u8; 32],
    names: Names,
    random: Random,
    current: RwLock<Arc<Current>>,
    /// Files that were read from, by their keys.
    opened: Mutex<HashMap<String, Arc<Opened>>>,
    agreed: Mutex<Agreed>,
    /// Buffers for sealed blocks.
    buffers: Mutex<Vec<Vec<u8>>>,
}

/// What it takes to read a file.
struct Opened {
    cipher: Cipher,
    plain_len: u64,
}

/// What writers and readers have in common, by epoch and point.
#[derive(Default)]
struct Agreed {
    known: HashMap<(u32, [u8; 32]), Key>,
    /// For what this process writes: one key pair in its life, not one a file. Its private half is gone.
    own: Option<(u32, [u8; 32])>,
}

impl fmt::Debug for SealedBackend {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("SealedBackend").field("inner", &self.shared.inner).finish_non_exhaustive()
    }
}

/// Whether a file tells how the others are opened, and is in the clear.
fn is_clear(key: &str) -> bool {
    key == "config" || key == "keys" || key.starts_with("keys/")
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    // All that is in them is complete at each step.
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl SealedBackend {
    pub(super) fn with_secrets(inner: Arc<dyn Backend>, config: [u8; 32], secrets: Arc<Secrets>, random: Random) -> Self {
        let shared = Shared {
            inner,
            config,
            names: Names::new(&secrets.names),
            random,
            current: RwLock::new(Arc::new(Current::new(secrets))),
            opened: Mutex::default(),
            agreed: Mutex::default(),
            buffers: Mutex::default(),
        };
        Self { shared: Arc::new(shared) }
    }

    /// Where the sealed files are.
    pub fn inner(&self) -> &Arc<dyn Backend> {
        &self.shared.inner
    }

    /// What the key gives access to.
    pub fn secrets(&self) -> Arc<Secrets> {
        self.shared.secrets()
    }

    pub(super) fn config(&self) -> &[u8; 32] {
        &self.shared.config
    }

    pub(super) fn random(&self) -> &Random {
        &self.shared.random
    }

    pub(super) fn set_secrets(&self, secrets: Arc<Secrets>) {
        self.shared.set_secrets(secrets);
    }
}

/// The secrets that are used now.
struct Current {
    secrets: Arc<Secrets>,
    /// Whether the keyring that they came from is durable: who put it there may have been killed just before.
    durable: AtomicBool,
}

impl Current {
    fn new(secrets: Arc<Secrets>) -> Self {
        Self { secrets, durable: AtomicBool::new(false) }
    }
}

impl Shared {
    fn current(&self) -> Arc<Current> {
        Arc::clone(&self.current.read().unwrap_or_else(PoisonError::into_inner))
    }

    fn secrets(&self) -> Arc<Secrets> {
        Arc::clone(&self.current().secrets)
    }

    fn set_secrets(&self, secrets: Arc<Secrets>) {
        *self.current.write().unwrap_or_else(PoisonError::into_inner) = Arc::new(Current::new(secrets));
    }

    /// The file's key in the inner backend.
    pub(super) fn stored_key(&self, key: &str) -> Result<String> {
        check_key(key)?;
        match key.rsplit_once('/') {
            Some((dir, name)) if Names::hides(dir) => Ok(format!("{dir}/{}", self.names.hide(dir, name)?)),
            _ => Ok(key.to_owned()),
        }
    }

    pub(super) fn forget(&self, key: &str) {
        lock(&self.opened).remove(key);
    }

    /// The header of a new file, and its cipher. `name` is bound; `content` is what is known of its bytes: it goes into the salt beside randomness, so that
    /// no two files that differ in it have one key even if a machine's randomness repeats, as after it was set back to an earlier state.
    pub(super) fn new_file(&self, name: Option<&str>, class: Class, block_len: usize, content: &[&[u8]]) -> Result<(Header, Cipher)> {
        let current = self.current();
        if !current.durable.load(Ordering::Acquire) {
            // Nothing is sealed with secrets that a loss of power could take away.
            self.inner.settle("keys")?;
            current.durable.store(true, Ordering::Release);
        }
        let secrets = Arc::clone(&current.secrets);
        let (number, epoch) = secrets.current();
        let mut random = Key::default();
        (self.random)(&mut *random)?;
        let bound = name.unwrap_or("").as_bytes();
        let bound_len = (bound.len() as u64).to_le_bytes();
        let mut parts: Vec<&[u8]> = vec![&epoch.shared[..], &random[..], &bound_len, bound];
        parts.extend(content);
        let salt = *derive(Use::Salt, &parts);
        let (point, agreed) = match class {
            Class::Shared => ([0; 32], None),
            Class::Protected => self.agree_as_writer(&secrets, number).map(|(point, key)| (point, Some(key)))?,
        };
        let header = Header { class, bound: name.is_some(), small: block_len == INDEX_BLOCK_LEN, epoch: number, salt, point };
        let cipher = file_cipher(epoch, agreed.as_ref(), &header, name.unwrap_or(""));
        Ok((header, cipher))
    }

    fn agree_as_writer(&self, secrets: &Secrets, epoch: u32) -> Result<([u8; 32], Key)> {
        let mut agreed = lock(&self.agreed);
        if let Some((own_epoch, point)) = agreed.own
            && own_epoch == epoch
            && let Some(key) = agreed.known.get(&(epoch, point))
        {
            return Ok((point, key.clone()));
        }
        let (point, key) = secrets.agree_anew(&self.random)?;
        agreed.known.insert((epoch, point), key.clone());
        agreed.own = Some((epoch, point));
        Ok((point, key))
    }

    fn agree_as_reader(&self, secrets: &Secrets, key: &str, header: &Header) -> Result<Key> {
        let place = (header.epoch, header.point);
        if let Some(known) = lock(&self.agreed).known.get(&place) {
            return Ok(known.clone());
        }
        let new = secrets.agree_with(key, header)?;
        let mut agreed = lock(&self.agreed);
        if agreed.known.len() >= AGREED_MAX {
            let own = agreed.own;
            agreed.known.retain(|place, _| Some(*place) == own);
        }
        agreed.known.insert(place, new.clone());
        Ok(new)
    }

    /// The cipher of a file by its header.
    fn cipher_of(&self, key: &str, header: &[u8]) -> Result<Cipher> {
        let header = Header::decode(key, header)?;
        let mut secrets = self.secrets();
        if secrets.epoch(header.epoch).is_none() {
            // Somebody rotated since this process opened the repository.
            let again = Keyring::read(self.inner.as_ref()).and_then(|keyring| keyring.open(&self.config, &secrets.own));
            secrets = Arc::new(again.map_err(|error| error.context(format!("{key} was written after the keys were rotated")))?);
            self.set_secrets(Arc::clone(&secrets));
        }
        let epoch = secrets.epoch(header.epoch).ok_or_else(|| unknown_epoch(key))?;
        let agreed = match header.class {
            Class::Shared => None,
            Class::Protected => Some(self.agree_as_reader(&secrets, key, &header)?),
        };
        Ok(file_cipher(epoch, agreed.as_ref(), &header, key))
    }

    fn seal(&self, key: &str, bytes: &[u8]) -> Result<Vec<u8>> {
        let (header, cipher) = self.new_file(Some(key), Class::of(key), block_len(key), &[bytes])?;
        let mut out = Vec::with_capacity(usize::try_from(sealed_len(key, bytes.len() as u64)).unwrap_or(0));
        let mut sealer = Sealer::new(cipher, &header.encode(), block_len(key), &mut out);
        sealer.push(bytes, &mut out);
        sealer.finish(&mut out);
        Ok(out)
    }

    fn open(&self, key: &str, sealed: &[u8]) -> Result<Vec<u8>> {
        plain_len_of(key, sealed.len() as u64)?;
        open_whole(key, &self.cipher_of(key, sealed)?, sealed)
    }

    /// What it takes to read a part of a file; looks at its header the first time.
    fn opened(&self, key: &str, stored: &str) -> Result<(Arc<Opened>, bool)> {
        if let Some(opened) = lock(&self.opened).get(key) {
            return Ok((Arc::clone(opened), true));
        }
        let plain_len = plain_len_of(key, self.inner.len(stored)?)?;
        let mut header = [0; HEADER_LEN];
        self.inner.read_at(stored, 0, &mut header)?;
        let opened = Arc::new(Opened { cipher: self.cipher_of(key, &header)?, plain_len });
        let mut all = lock(&self.opened);
        if all.len() >= OPENED_MAX {
            all.clear();
        }
        all.insert(key.to_owned(), Arc::clone(&opened));
        Ok((opened, false))
    }

    fn read_blocks(&self, key: &str, stored: &str, opened: &Opened, offset: u64, buf: &mut [u8]) -> Result<()> {
        let end = offset.checked_add(buf.len() as u64).filter(|end| *end <= opened.plain_len);
        let Some(end) = end else {
            return Err(Error::corrupt(format!(
                "{key} is cut short: {} bytes at {offset} were asked for and it has {}",
                buf.len(),
                opened.plain_len
            )));
        };
        if buf.is_empty() {
            return Ok(());
        }
        let block_len = block_len(key);
        let sealed_block_len = block_len + TAG_LEN;
        let (first, last, all) = (offset / block_len as u64, (end - 1) / block_len as u64, block_count(opened.plain_len, block_len));
        let sealed_end = if last + 1 == all { opened.plain_len + all * TAG_LEN as u64 } else { (last + 1) * sealed_block_len as u64 };
        let start = first * sealed_block_len as u64;
        let len = usize::try_from(sealed_end - start).map_err(|_| Error::invalid("too many bytes were asked for at once"))?;
        let mut sealed = lock(&self.buffers).pop().unwrap_or_default();
        if sealed.len() < len {
            sealed.resize(len, 0);
        }
        let result = self.inner.read_at(stored, HEADER_LEN as u64 + start, &mut sealed[..len]).and_then(|()| {
            let mut skip = usize::try_from(offset % block_len as u64).expect("below a block");
            let mut at = 0;
            for (number, block) in (first..).zip(sealed[..len].chunks_mut(sealed_block_len)) {
                let plain = opened.cipher.open(number, number + 1 == all, block).ok_or_else(|| not_sealed(key))?;
                let part = &plain[skip..plain.len().min(skip + buf.len() - at)];
                buf[at..at + part.len()].copy_from_slice(part);
                at += part.len();
                skip = 0;
            }
            Ok(())
        });
        lock(&self.buffers).push(sealed);
        result
    }

    /// The whole file in the inner backend, and what is in it; `None` where there is none.
    fn whole(&self, key: &str, stored: &str) -> Result<Option<(Mapped, Vec<u8>)>> {
        match self.inner.map(stored) {
            Ok(sealed) => {
                let plain = self.open(key, sealed.as_ref())?;
                Ok(Some((sealed, plain)))
            }
            Err(error) if error.kind() == ErrorKind::NotFound => Ok(None),
            Err(error) => Err(error),
        }
    }
}

impl Backend for SealedBackend {
    fn read_at(&self, key: &str, offset: u64, buf: &mut [u8]) -> Result<()> {
        let shared = &self.shared;
        let stored = shared.stored_key(key)?;
        if is_clear(key) {
            return shared.inner.read_at(&stored, offset, buf);
        }
        let (opened, was_known) = shared.opened(key, &stored)?;
        match shared.read_blocks(key, &stored, &opened, offset, buf) {
            // It may be another file by now: one that was damaged was replaced, or one that was swapped.
            Err(error) if was_known && error.kind() == ErrorKind::Corrupt => {
                shared.forget(key);
                let (opened, _) = shared.opened(key, &stored)?;
                shared.read_blocks(key, &stored, &opened, offset, buf).inspect_err(|_| shared.forget(key))
            }
            Err(error) => {
                shared.forget(key);
                Err(error)
            }
            Ok(()) => Ok(()),
        }
    }

    fn len(&self, key: &str) -> Result<u64> {
        let len = self.shared.inner.len(&self.shared.stored_key(key)?)?;
        if is_clear(key) { Ok(len) } else { plain_len_of(key, len) }
    }

    fn list(&self, dir: &str) -> Result<Vec<Listed>> {
        let mut listed = self.shared.inner.list(dir)?;
        if is_clear(dir) {
            return Ok(listed);
        }
        for file in &mut listed {
            // One that is cut short is there, and has a length that nothing has.
            file.len = super::layout::plain_len(dir, file.len).unwrap_or(0);
            if Names::hides(dir) {
                let stranger = || format!("{STRANGER}{}", file.name);
                file.name = self.shared.names.show(dir, &file.name).unwrap_or_else(stranger);
            }
        }
        Ok(listed)
    }

    fn stage(&self) -> Result<Box<dyn Staged>> {
        // For whatever only full keys may read.
        self.stage_in("data")
    }

    fn stage_in(&self, dir: &str) -> Result<Box<dyn Staged>> {
        let (shared, inner) = (Arc::clone(&self.shared), self.shared.inner.stage_in(dir)?);
        Ok(Box::new(SealedStaged {
            shared,
            inner,
            class: Class::of(dir),
            block_len: block_len(dir),
            state: State::Beginning(Vec::new()),
            out: Vec::new(),
        }))
    }

    fn swap(&self, key: &str, expected: Option<&[u8]>, new: Option<&[u8]>) -> Result<bool> {
        let shared = &self.shared;
        let stored = shared.stored_key(key)?;
        if is_clear(key) {
            return shared.inner.swap(&stored, expected, new);
        }
        let new = new.map(|new| shared.seal(key, new)).transpose()?;
        let done = || {
            shared.forget(key);
            Ok(true)
        };
        if expected.is_none() {
            return if shared.inner.swap(&stored, None, new.as_deref())? { done() } else { Ok(false) };
        }
        for _ in 0..TRIES {
            let found = shared.whole(key, &stored)?;
            if found.as_ref().map(|(_, plain)| &plain[..]) != expected {
                return Ok(false);
            }
            let sealed = found.as_ref().map(|(sealed, _)| sealed.as_ref());
            if shared.inner.swap(&stored, sealed, new.as_deref())? {
                return done();
            }
            // Somebody was faster: does it still read as expected, sealed anew?
        }
        Err(Error::new(ErrorKind::Locked, format!("{key} is changed by others all the time")))
    }

    fn delete(&self, key: &str) -> Result<()> {
        self.shared.forget(key);
        self.shared.inner.delete(&self.shared.stored_key(key)?)
    }

    fn settle(&self, dir: &str) -> Result<()> {
        self.shared.inner.settle(dir)
    }

    fn map(&self, key: &str) -> Result<Mapped> {
        let stored = self.shared.stored_key(key)?;
        let sealed = self.shared.inner.map(&stored)?;
        if is_clear(key) {
            return Ok(sealed);
        }
        self.shared.open(key, sealed.as_ref()).map(Mapped::new)
    }

    fn paged(&self, key: &str) -> Result<Paged> {
        if block_len(key) != INDEX_BLOCK_LEN {
            return self.map(key).map(Paged::Mapped);
        }
        let sealed = self.shared.inner.map(&self.shared.stored_key(key)?)?;
        let plain_len = plain_len_of(key, sealed.as_ref().len() as u64)?;
        let cipher = self.shared.cipher_of(key, sealed.as_ref())?;
        // It is in memory, sealed, or mapped.
        let plain_len = usize::try_from(plain_len).map_err(|_| Error::corrupt(format!("{key} is too long")))?;
        Ok(Paged::Blocks(Arc::new(PagedFile::new(sealed, cipher, plain_len, INDEX_BLOCK_LEN))))
    }

    fn sweep(&self) -> Result<usize> {
        self.shared.inner.sweep()
    }

    fn put(&self, key: &str, bytes: &[u8]) -> Result<PutOutcome> {
        let stored = self.shared.stored_key(key)?;
        if is_clear(key) {
            return self.shared.inner.put(&stored, bytes);
        }
        let outcome = self.shared.inner.put(&stored, &self.shared.seal(key, bytes)?)?;
        if outcome == PutOutcome::Stored {
            self.shared.forget(key);
        }
        Ok(outcome)
    }

    fn read(&self, key: &str, limit: u64) -> Result<Vec<u8>> {
        let stored = self.shared.stored_key(key)?;
        if is_clear(key) {
            return self.shared.inner.read(&stored, limit);
        }
        let sealed = self.shared.inner.read(&stored, sealed_len(key, limit))?;
        match self.shared.open(key, &sealed) {
            // One that was swapped for a longer one between two looks at it; mapped, it is in one piece.
            Err(error) if error.kind() == ErrorKind::Corrupt => match self.shared.whole(key, &stored)? {
                Some((_, plain)) if plain.len() as u64 <= limit => Ok(plain),
                _ => Err(error),
            },
            other => other,
        }
    }

    fn read_many(&self, keys: &[String], limit: u64) -> Vec<Result<Vec<u8>>> {
        let stored: Vec<Result<String>> = keys.iter().map(|key| self.shared.stored_key(key)).collect();
        let good: Vec<String> = stored.iter().flatten().cloned().collect();
        let mut read = self.shared.inner.read_many(&good, sealed_len(SMALL_BLOCKS, limit)).into_iter();
        let one = |(key, stored): (&String, Result<String>)| {
            stored?;
            let sealed = read.next().unwrap_or_else(|| Err(Error::not_found(format!("{key} was not read"))))?;
            if is_clear(key) { Ok(sealed) } else { self.shared.open(key, &sealed) }
        };
        keys.iter().zip(stored).map(one).collect()
    }

    fn prefetch(&self, keys: &[String]) {
        let stored: Vec<String> = keys.iter().filter_map(|key| self.shared.stored_key(key).ok()).collect();
        self.shared.inner.prefetch(&stored);
    }

    fn prefetch_dir(&self, dir: &str) {
        self.shared.inner.prefetch_dir(dir);
    }
}
