//! A repository in a directory of a local file system.
//!
//! A staged file has no name at all where the file system offers that (`O_TMPFILE`), so a killed writer leaves nothing;
//! elsewhere it lies in `tmp/`, locked by its writer, and [`sweep`](Backend::sweep) removes those whose lock is free. Publishing is:
//! sync the file, link it to its name, sync the directory. [`swap`](Backend::swap) is serialised by a lock on `tmp/swap.lock` and ends in
//! a rename and a sync of the directory.
//!
//! A name that somebody else gave and did not come to sync can be seen, but not be relied upon: a loss of power takes it back. Directories are
//! therefore synced by everybody who uses them for the first time, and [`settle`](Backend::settle) does it for files.

pub mod files;
mod staged;

use super::{Backend, Listed, Mapped, Staged, check_key};
use crate::error::{Error, ErrorKind, IoResultExt, Result};
use files::{Files, Found, System, retry, write_all};
use staged::StagedFile;
use std::collections::HashSet;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

const TMP: &str = "tmp";
/// Numbers the fallback's file names inside this process; the process id tells processes apart.
static NEXT_TMP: AtomicU64 = AtomicU64::new(0);

/// Keeps every file under one directory.
#[derive(Debug, Clone)]
pub struct LocalBackend<F: Files = System> {
    files: F,
    root: PathBuf,
    unnamed: bool,
    /// Directories that are there and whose names are durable, as far as this process made sure of it.
    dirs: Arc<Mutex<HashSet<PathBuf>>>,
}

impl LocalBackend {
    /// Opens the directory `root`, which exists.
    ///
    /// # Errors
    /// `NotFound` when there is no such directory.
    pub fn open(root: impl Into<PathBuf>) -> Result<Self> {
        Self::open_on(System, root)
    }

    /// Makes the directory `root` and those above it, durably, and opens it.
    ///
    /// # Errors
    /// Whatever the file system says.
    pub fn create(root: impl Into<PathBuf>) -> Result<Self> {
        Self::create_on(System, root)
    }
}

impl<F: Files> LocalBackend<F> {
    /// As [`open`](LocalBackend::open), on any file system.
    ///
    /// # Errors
    /// As [`open`](LocalBackend::open).
    pub fn open_on(files: F, root: impl Into<PathBuf>) -> Result<Self> {
        let root = root.into();
        match retry(|| files.find(&root)).at(|| format!("cannot open directory {}", root.display()))? {
            Found::Directory => Ok(Self { files, root, unnamed: true, dirs: Arc::default() }),
            _ => Err(Error::invalid(format!("{} is not a directory", root.display()))),
        }
    }

    /// As [`create`](LocalBackend::create), on any file system.
    ///
    /// # Errors
    /// As [`create`](LocalBackend::create).
    pub fn create_on(files: F, root: impl Into<PathBuf>) -> Result<Self> {
        let root = root.into();
        make_dirs(&files, &root)?;
        Self::open_on(files, root)
    }

    /// Stages files by name, as on a file system without `O_TMPFILE`.
    #[must_use]
    pub fn with_named_staging(mut self) -> Self {
        self.unnamed = false;
        self
    }

    fn path(&self, key: &str) -> Result<PathBuf> {
        check_key(key)?;
        Ok(self.root.join(key))
    }

    /// Makes sure that a directory of the repository is there and that its name, and those of all above it up to the root, are durable.
    fn have_dir(&self, dir: &Path) -> Result<()> {
        if dir == self.root || self.dirs.lock().unwrap_or_else(PoisonError::into_inner).contains(dir) {
            return Ok(());
        }
        let parent = dir.parent().expect("it is below the root");
        self.have_dir(parent)?;
        match retry(|| self.files.make_dir(dir)) {
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {}
            other => other.at(|| format!("cannot make directory {}", dir.display()))?,
        }
        // Another writer may have made it a moment ago, and been killed before it synced it. One sync serves all that are there.
        let there = retry(|| self.files.list_dirs(parent)).at(|| format!("cannot list {}", parent.display()))?;
        self.sync_dir(parent)?;
        let mut dirs = self.dirs.lock().unwrap_or_else(PoisonError::into_inner);
        dirs.extend(there.into_iter().map(|name| parent.join(name)));
        dirs.insert(dir.to_path_buf());
        Ok(())
    }

    fn forget_dirs(&self) {
        self.dirs.lock().unwrap_or_else(PoisonError::into_inner).clear();
    }

    fn sync_dir(&self, dir: &Path) -> Result<()> {
        sync_dir(&self.files, dir)
    }

    /// The directory for files on their way. Nobody minds when it is lost.
    fn have_tmp(&self) -> Result<PathBuf> {
        let dir = self.root.join(TMP);
        match retry(|| self.files.make_dir(&dir)) {
            Err(error) if error.kind() != io::ErrorKind::AlreadyExists => {
                Err(error).at(|| format!("cannot make directory {}", dir.display()))
            }
            _ => Ok(dir),
        }
    }

    /// A new file in `tmp/`, locked, so that a sweep tells it from a dead writer's.
    fn create_tmp(&self) -> Result<(PathBuf, F::File)> {
        let dir = self.have_tmp()?;
        loop {
            let name = format!("{}-{}", std::process::id(), NEXT_TMP.fetch_add(1, Ordering::Relaxed));
            let path = dir.join(name);
            let file = match retry(|| self.files.create_new(&path)) {
                Err(error) if error.kind() == io::ErrorKind::AlreadyExists => continue,
                other => other.at(|| format!("cannot create {}", path.display()))?,
            };
            // Waits: a sweep that came between the two calls holds the lock for an instant, and has removed the file then.
            let locked = retry(|| self.files.lock(&file)).at(|| format!("cannot lock {}", path.display()));
            let named = locked.and_then(|()| retry(|| self.files.has_name(&file)).at(|| format!("cannot read {}", path.display())));
            match named {
                Ok(true) => return Ok((path, file)),
                Ok(false) => {}
                Err(error) => {
                    _ = retry(|| self.files.remove(&path));
                    return Err(error);
                }
            }
        }
    }

    /// Writes a new small file and gives it a name that may be taken.
    fn replace(&self, path: &Path, bytes: &[u8]) -> Result<()> {
        let (tmp, mut file) = self.create_tmp()?;
        let files = &self.files;
        let written =
            write_all(files, &mut file, bytes).and_then(|()| retry(|| files.sync(&file))).and_then(|()| retry(|| files.rename(&tmp, path)));
        written.inspect_err(|_| _ = retry(|| files.remove(&tmp))).at(|| format!("cannot write {}", path.display()))
    }
}

impl<F: Files> Backend for LocalBackend<F> {
    fn read_at(&self, key: &str, offset: u64, buf: &mut [u8]) -> Result<()> {
        let path = self.path(key)?;
        retry(|| self.files.read_at(&path, offset, buf)).map_err(|error| {
            let what = format!("{} bytes at {offset} of {}", buf.len(), path.display());
            // An offset that no file can have is past the end of this one too; the system calls it invalid.
            if error.kind() == io::ErrorKind::UnexpectedEof
                || (error.kind() == io::ErrorKind::InvalidInput && i64::try_from(offset).is_err())
            {
                Error::corrupt(format!("cannot read {what}: the file is cut short"))
            } else {
                Error::new(crate::error::kind_of_io(&error), format!("cannot read {what}")).because(error)
            }
        })
    }

    fn len(&self, key: &str) -> Result<u64> {
        let path = self.path(key)?;
        match retry(|| self.files.find(&path)).at(|| format!("cannot find {}", path.display()))? {
            Found::File(len) => Ok(len),
            _ => Err(Error::not_found(format!("{} is not a file", path.display()))),
        }
    }

    fn list(&self, dir: &str) -> Result<Vec<Listed>> {
        let path = self.path(dir)?;
        match retry(|| self.files.list(&path)) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(Vec::new()),
            other => other.at(|| format!("cannot list {}", path.display())),
        }
    }

    fn stage(&self) -> Result<Box<dyn Staged>> {
        let backend = self.clone();
        if self.unnamed
            && let Some(file) =
                retry(|| self.files.create_unnamed(&self.root)).at(|| format!("cannot create a file in {}", self.root.display()))?
        {
            return Ok(Box::new(StagedFile { backend, file, path: None }));
        }
        let (path, file) = self.create_tmp()?;
        Ok(Box::new(StagedFile { backend, file, path: Some(path) }))
    }

    fn swap(&self, key: &str, expected: Option<&[u8]>, new: Option<&[u8]>) -> Result<bool> {
        let path = self.path(key)?;
        let parent = path.parent().expect("a key has a directory above it");
        self.have_dir(parent)?;
        let lock_path = self.have_tmp()?.join("swap.lock");
        let lock = retry(|| self.files.open_or_create(&lock_path)).at(|| format!("cannot open {}", lock_path.display()))?;
        // Held for microseconds by anybody; dropped with the file.
        retry(|| self.files.lock(&lock)).at(|| format!("cannot lock {}", lock_path.display()))?;
        let current = match retry(|| self.files.read(&path)) {
            Ok(bytes) => Some(bytes),
            Err(error) if error.kind() == io::ErrorKind::NotFound => None,
            Err(error) => return Err(error).at(|| format!("cannot read {}", path.display())),
        };
        if current.as_deref() != expected {
            return Ok(false);
        }
        match new {
            Some(bytes) => self.replace(&path, bytes)?,
            None if current.is_some() => retry(|| self.files.remove(&path)).at(|| format!("cannot delete {}", path.display()))?,
            None => {}
        }
        self.sync_dir(parent)?;
        Ok(true)
    }

    fn delete(&self, key: &str) -> Result<()> {
        let path = self.path(key)?;
        match retry(|| self.files.remove(&path)) {
            Ok(()) => self.sync_dir(path.parent().expect("has a parent")),
            // Whoever deleted it may have been killed before that was durable.
            Err(error) if error.kind() == io::ErrorKind::NotFound => key.rsplit_once('/').map_or(Ok(()), |(dir, _)| self.settle(dir)),
            Err(error) => Err(error).at(|| format!("cannot delete {}", path.display())),
        }
    }

    fn map(&self, key: &str) -> Result<Mapped> {
        let path = self.path(key)?;
        retry(|| self.files.map(&path)).at(|| format!("cannot map {}", path.display()))
    }

    fn settle(&self, dir: &str) -> Result<()> {
        let path = self.path(dir)?;
        match retry(|| self.files.find(&path)) {
            // Its own name, too.
            Ok(Found::Directory) => self.have_dir(&path).and_then(|()| self.sync_dir(&path)),
            Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error).at(|| format!("cannot find {}", path.display())),
            _ => Ok(()),
        }
    }

    fn sweep(&self) -> Result<usize> {
        let dir = self.root.join(TMP);
        let mut removed = 0;
        for listed in self.list(TMP)? {
            // Names of writers look like 4711-3; the lock of `swap` stays.
            if listed.name.starts_with(|c: char| c.is_ascii_digit())
                && retry(|| self.files.remove_unlocked(&dir.join(&listed.name))).unwrap_or(false)
            {
                removed += 1;
            }
        }
        Ok(removed)
    }
}

/// Makes `path` and the directories above it; each name that was missing is durable, and that of the first that was there.
fn make_dirs<F: Files>(files: &F, path: &Path) -> Result<()> {
    let parent = path.parent().filter(|parent| *parent != path);
    let above = || parent.map(|parent| if parent.as_os_str().is_empty() { Path::new(".") } else { parent });
    match retry(|| files.make_dir(path)) {
        Ok(()) => above().map_or(Ok(()), |parent| sync_dir(files, parent)),
        // Whoever made it may have been killed before it was synced. Where that is not ours to do, it was not we who made it.
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists => above().map_or(Ok(()), |parent| {
            sync_dir(files, parent).or_else(|error| if error.kind() == ErrorKind::PermissionDenied { Ok(()) } else { Err(error) })
        }),
        Err(error) if error.kind() == io::ErrorKind::NotFound => match parent.filter(|parent| !parent.as_os_str().is_empty()) {
            Some(parent) => make_dirs(files, parent).and_then(|()| make_dirs(files, path)),
            None => Err(error).at(|| format!("cannot make directory {}", path.display())),
        },
        Err(error) => Err(error).at(|| format!("cannot make directory {}", path.display())),
    }
}

fn sync_dir<F: Files>(files: &F, path: &Path) -> Result<()> {
    retry(|| files.sync_dir(path)).at(|| format!("cannot write directory {} to disk", path.display()))
}
