//! A process's access to a [`Disk`]: it can be made to wait for its turn, to fail, and to be killed.

use super::disk::Disk;
use super::image::Content;
use super::turns::Turns;
use std::ffi::OsString;
use std::fmt;
use std::io;
use std::path::Path;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use vml_chunk::files::{Files, Found};
use vml_chunk::{Listed, Mapped};

/// What goes wrong.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Trouble {
    /// The device fails.
    Eio,
    /// It is full; a write stores a part before it says so.
    Enospc,
    /// A signal came: nothing was done.
    Eintr,
    /// A write takes a part of what it was given.
    Short,
}

/// When it goes wrong.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Fault {
    /// The operation, from 0.
    pub at: usize,
    /// What happens.
    pub trouble: Trouble,
    /// Whether every later operation fails too: a device that is gone, or a process that is dead.
    pub forever: bool,
}

#[derive(Default)]
struct Hooks {
    turns: Option<(Arc<Turns>, usize)>,
    fault: Mutex<Option<Fault>>,
    /// Every operation is interrupted once before it is done, and every write is short.
    nervous: bool,
    count: AtomicUsize,
    fired: AtomicUsize,
    interrupted: AtomicUsize,
}

/// One process's access; clones are the same process.
#[derive(Clone, Default)]
pub struct Handle {
    disk: Disk,
    hooks: Arc<Hooks>,
}

impl fmt::Debug for Handle {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a disk in memory")
    }
}

impl Handle {
    /// A process that nothing happens to.
    pub fn new(disk: &Disk) -> Self {
        Self { disk: disk.clone(), hooks: Arc::default() }
    }

    /// A process that has its turn beside others, each operation of its own.
    pub fn taking_turns(disk: &Disk, turns: &Arc<Turns>, actor: usize) -> Self {
        let hooks = Hooks { turns: Some((Arc::clone(turns), actor)), ..Hooks::default() };
        Self { disk: disk.clone(), hooks: Arc::new(hooks) }
    }

    /// A process of which every operation is interrupted by a signal before it is done, and every write takes half.
    pub fn nervous(disk: &Disk) -> Self {
        Self { disk: disk.clone(), hooks: Arc::new(Hooks { nervous: true, ..Hooks::default() }) }
    }

    /// Makes an operation fail.
    pub fn fail(&self, fault: Fault) {
        *self.hooks.fault.lock().unwrap_or_else(PoisonError::into_inner) = Some(fault);
    }

    /// Operations so far.
    pub fn count(&self) -> usize {
        self.hooks.count.load(Ordering::Relaxed)
    }

    /// Operations that were made to fail.
    pub fn fired(&self) -> usize {
        self.hooks.fired.load(Ordering::Relaxed)
    }

    /// Operations that were interrupted.
    pub fn interrupted(&self) -> usize {
        self.hooks.interrupted.load(Ordering::Relaxed)
    }

    /// Waits for the turn, counts, and fails if it is to fail; tells how many of `len` bytes are to be written.
    fn step(&self, len: usize) -> io::Result<usize> {
        if let Some((turns, actor)) = &self.hooks.turns {
            turns.wait(*actor);
        }
        let number = self.hooks.count.fetch_add(1, Ordering::Relaxed);
        if self.hooks.nervous {
            // The even ones are the first tries.
            if number.is_multiple_of(2) {
                self.hooks.interrupted.fetch_add(1, Ordering::Relaxed);
                return Err(io::ErrorKind::Interrupted.into());
            }
            return Ok(len.div_ceil(2));
        }
        let fault = *self.hooks.fault.lock().unwrap_or_else(PoisonError::into_inner);
        let Some(fault) = fault.filter(|fault| number == fault.at || (fault.forever && number > fault.at)) else { return Ok(len) };
        self.hooks.fired.fetch_add(1, Ordering::Relaxed);
        match fault.trouble {
            Trouble::Eio => Err(io::Error::from_raw_os_error(5)),
            // The first write that does not fit is cut; what follows fails.
            Trouble::Enospc if len > 1 && number == fault.at && fault.forever => Ok(len / 2),
            Trouble::Enospc => Err(io::Error::from_raw_os_error(28)),
            Trouble::Eintr => Err(io::ErrorKind::Interrupted.into()),
            Trouble::Short => Ok(len.div_ceil(2)),
        }
    }
}

fn text(path: &Path) -> &str {
    match path.to_str().expect("names of tests are text") {
        "." => "",
        text => text,
    }
}

/// A file of a [`Disk`]; its lock is given back when it is dropped.
pub struct Opened {
    disk: Disk,
    number: u64,
    locked: std::cell::Cell<bool>,
}

impl Drop for Opened {
    fn drop(&mut self) {
        if self.locked.get() {
            self.disk.unlock(self.number);
        }
    }
}

impl Handle {
    fn opened(&self, number: u64) -> Opened {
        Opened { disk: self.disk.clone(), number, locked: std::cell::Cell::new(false) }
    }
}

impl Files for Handle {
    type File = Opened;

    fn find(&self, path: &Path) -> io::Result<Found> {
        self.step(0)?;
        if self.disk.is_dir(text(path)) {
            return Ok(Found::Directory);
        }
        self.disk.with_bytes(text(path), |bytes| Found::File(bytes.len() as u64))
    }

    fn list(&self, dir: &Path) -> io::Result<Vec<Listed>> {
        self.step(0)?;
        Ok(self.disk.list(text(dir))?.into_iter().map(|(name, len)| Listed { name, len }).collect())
    }

    fn list_dirs(&self, dir: &Path) -> io::Result<Vec<OsString>> {
        self.step(0)?;
        Ok(self.disk.list_dirs(text(dir))?.into_iter().map(OsString::from).collect())
    }

    fn read(&self, path: &Path) -> io::Result<Vec<u8>> {
        self.step(0)?;
        self.disk.with_bytes(text(path), <[u8]>::to_vec)
    }

    fn read_at(&self, path: &Path, offset: u64, buf: &mut [u8]) -> io::Result<()> {
        self.step(0)?;
        self.disk.with_bytes(text(path), |bytes| {
            let start = usize::try_from(offset).map_err(|_| io::ErrorKind::UnexpectedEof)?;
            let end = start.checked_add(buf.len()).ok_or(io::ErrorKind::UnexpectedEof)?;
            buf.copy_from_slice(bytes.get(start..end).ok_or(io::ErrorKind::UnexpectedEof)?);
            Ok(())
        })?
    }

    fn map(&self, path: &Path) -> io::Result<Mapped> {
        self.step(0)?;
        if self.disk.is_dir(text(path)) {
            return Err(io::ErrorKind::NotFound.into());
        }
        Ok(Mapped::new(Content::shared(self.disk.bytes(text(path))?)))
    }

    fn make_dir(&self, path: &Path) -> io::Result<()> {
        self.step(0)?;
        self.disk.make_dir(text(path))
    }

    fn create_unnamed(&self, dir: &Path) -> io::Result<Option<Opened>> {
        self.step(0)?;
        if !self.disk.is_dir(text(dir)) {
            return Err(io::ErrorKind::NotFound.into());
        }
        Ok(Some(self.opened(self.disk.create(None)?)))
    }

    fn create_new(&self, path: &Path) -> io::Result<Opened> {
        self.step(0)?;
        Ok(self.opened(self.disk.create(Some(text(path)))?))
    }

    fn open_or_create(&self, path: &Path) -> io::Result<Opened> {
        self.step(0)?;
        let number = self.disk.number_of(text(path)).or_else(|_| self.disk.create(Some(text(path))));
        // Another process may have been faster.
        Ok(self.opened(number.or_else(|_| self.disk.number_of(text(path)))?))
    }

    fn lock(&self, file: &Opened) -> io::Result<()> {
        self.step(0)?;
        while !self.disk.try_lock(file.number) {
            match &self.hooks.turns {
                Some((turns, actor)) => turns.wait(*actor),
                None => std::thread::yield_now(),
            }
        }
        file.locked.set(true);
        Ok(())
    }

    fn remove_unlocked(&self, path: &Path) -> io::Result<bool> {
        self.step(0)?;
        self.disk.remove(text(path), true)
    }

    fn has_name(&self, file: &Opened) -> io::Result<bool> {
        self.step(0)?;
        Ok(self.disk.names_of(file.number) > 0)
    }

    fn write(&self, file: &mut Opened, bytes: &[u8]) -> io::Result<usize> {
        let count = self.step(bytes.len())?;
        self.disk.write(file.number, &bytes[..count]);
        Ok(count)
    }

    fn sync(&self, file: &Opened) -> io::Result<()> {
        self.step(0)?;
        self.disk.sync(file.number);
        Ok(())
    }

    fn link(&self, file: &Opened, _from: Option<&Path>, to: &Path) -> io::Result<()> {
        self.step(0)?;
        self.disk.link(file.number, text(to))
    }

    fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
        self.step(0)?;
        self.disk.rename(text(from), text(to))
    }

    fn remove(&self, path: &Path) -> io::Result<()> {
        self.step(0)?;
        self.disk.remove(text(path), false).map(|_| ())
    }

    fn sync_dir(&self, path: &Path) -> io::Result<()> {
        self.step(0)?;
        self.disk.sync_dir(text(path))
    }
}
