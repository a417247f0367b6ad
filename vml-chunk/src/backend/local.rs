//! A repository in a directory of a local file system.
//!
//! A staged file has no name at all where the file system offers that (`O_TMPFILE`), so a killed writer leaves nothing;
//! elsewhere it lies in `tmp/`, locked by its writer, and [`sweep`](Backend::sweep) removes those whose lock is free. Publishing is:
//! sync the file, link it to its name, sync the directory. [`swap`](Backend::swap) is serialised by a lock on `tmp/swap.lock` and ends in
//! a rename and a sync of the directory.

use super::{Backend, Listed, Mapped, PutOutcome, Staged, check_key};
use crate::error::{Error, ErrorKind, IoResultExt, Result};
use crate::mmap;
use rustix::fs::{AtFlags, CWD, FlockOperation, Mode, OFlags};
use rustix::io::Errno;
use std::fs::{self, File};
use std::io::Write;
use std::os::fd::AsRawFd;
use std::os::unix::fs::{FileExt, MetadataExt};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};

const TMP: &str = "tmp";
/// Numbers the fallback's file names inside this process; the process id tells processes apart.
static NEXT_TMP: AtomicU64 = AtomicU64::new(0);

/// Keeps every file under one directory.
#[derive(Debug, Clone)]
pub struct LocalBackend {
    root: PathBuf,
    unnamed: bool,
}

impl LocalBackend {
    /// Opens the directory `root`, which exists.
    ///
    /// # Errors
    /// `NotFound` when there is no such directory.
    pub fn open(root: impl Into<PathBuf>) -> Result<Self> {
        let root = root.into();
        let meta = fs::metadata(&root).at(|| format!("cannot open directory {}", root.display()))?;
        if !meta.is_dir() {
            return Err(Error::invalid(format!("{} is not a directory", root.display())));
        }
        Ok(Self { root, unnamed: true })
    }

    /// Makes the directory `root` and those above it, durably, and opens it.
    ///
    /// # Errors
    /// Whatever the file system says.
    pub fn create(root: impl Into<PathBuf>) -> Result<Self> {
        let root = root.into();
        make_dirs(&root)?;
        Self::open(root)
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

    fn open_file(&self, key: &str) -> Result<(PathBuf, File)> {
        let path = self.path(key)?;
        let file = File::open(&path).at(|| format!("cannot open {}", path.display()))?;
        Ok((path, file))
    }

    /// A new file in `tmp/`, locked, so that a sweep tells it from a dead writer's.
    fn create_tmp(&self) -> Result<(PathBuf, File)> {
        let dir = self.root.join(TMP);
        make_dirs(&dir)?;
        loop {
            let name = format!("{}-{}", std::process::id(), NEXT_TMP.fetch_add(1, Ordering::Relaxed));
            let path = dir.join(name);
            let file = match File::options().read(true).write(true).create_new(true).open(&path) {
                Err(error) if error.kind() == std::io::ErrorKind::AlreadyExists => continue,
                other => other.at(|| format!("cannot create {}", path.display()))?,
            };
            // Waits: a sweep that came between the two calls holds the lock for an instant, and has removed the file then.
            rustix::io::retry_on_intr(|| rustix::fs::flock(&file, FlockOperation::LockExclusive))
                .at(|| format!("cannot lock {}", path.display()))?;
            if file.metadata().at(|| format!("cannot read {}", path.display()))?.nlink() > 0 {
                return Ok((path, file));
            }
        }
    }
}

impl Backend for LocalBackend {
    fn read_at(&self, key: &str, offset: u64, buf: &mut [u8]) -> Result<()> {
        let (path, file) = self.open_file(key)?;
        file.read_exact_at(buf, offset).map_err(|error| {
            let what = format!("{} bytes at {offset} of {}", buf.len(), path.display());
            // An offset that no file can have is past the end of this one too; the system calls it invalid.
            if error.kind() == std::io::ErrorKind::UnexpectedEof || i64::try_from(offset).is_err() {
                Error::corrupt(format!("cannot read {what}: the file is cut short"))
            } else {
                Error::new(crate::error::kind_of_io(&error), format!("cannot read {what}")).because(error)
            }
        })
    }

    fn len(&self, key: &str) -> Result<u64> {
        let path = self.path(key)?;
        let meta = fs::metadata(&path).at(|| format!("cannot find {}", path.display()))?;
        if !meta.is_file() {
            return Err(Error::not_found(format!("{} is not a file", path.display())));
        }
        Ok(meta.len())
    }

    fn list(&self, dir: &str) -> Result<Vec<Listed>> {
        let path = self.path(dir)?;
        let entries = match fs::read_dir(&path) {
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(Vec::new()),
            other => other.at(|| format!("cannot list {}", path.display()))?,
        };
        let mut files = Vec::new();
        for entry in entries {
            let entry = entry.at(|| format!("cannot list {}", path.display()))?;
            // A file deleted while we list is simply not there.
            let Ok(meta) = entry.metadata() else { continue };
            if let (true, Some(name)) = (meta.is_file(), entry.file_name().to_str()) {
                files.push(Listed { name: name.to_owned(), len: meta.len() });
            }
        }
        Ok(files)
    }

    fn stage(&self) -> Result<Box<dyn Staged>> {
        let backend = self.clone();
        if self.unnamed {
            match rustix::fs::open(&self.root, OFlags::TMPFILE | OFlags::RDWR | OFlags::CLOEXEC, Mode::from(0o666)) {
                Ok(file) => return Ok(Box::new(StagedFile { backend, file: file.into(), path: None })),
                Err(Errno::OPNOTSUPP | Errno::ISDIR | Errno::INVAL | Errno::NOENT) => {}
                Err(error) => return Err(error).at(|| format!("cannot create a file in {}", self.root.display())),
            }
        }
        let (path, file) = self.create_tmp()?;
        Ok(Box::new(StagedFile { backend, file, path: Some(path) }))
    }

    fn swap(&self, key: &str, expected: Option<&[u8]>, new: Option<&[u8]>) -> Result<bool> {
        let path = self.path(key)?;
        let parent = path.parent().expect("a key has a directory above it").to_path_buf();
        make_dirs(&parent)?;
        make_dirs(&self.root.join(TMP))?;
        let lock_path = self.root.join(TMP).join("swap.lock");
        let lock = File::options()
            .write(true)
            .create(true)
            .truncate(false)
            .open(&lock_path)
            .at(|| format!("cannot open {}", lock_path.display()))?;
        // Held for microseconds by anybody; dropped with the file.
        lock.lock().at(|| format!("cannot lock {}", lock_path.display()))?;
        let current = match fs::read(&path) {
            Ok(bytes) => Some(bytes),
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => None,
            Err(error) => return Err(error).at(|| format!("cannot read {}", path.display())),
        };
        if current.as_deref() != expected {
            return Ok(false);
        }
        match new {
            Some(bytes) => {
                let (tmp, mut file) = self.create_tmp()?;
                let written = file.write_all(bytes).and_then(|()| file.sync_all()).and_then(|()| fs::rename(&tmp, &path));
                written.inspect_err(|_| _ = fs::remove_file(&tmp)).at(|| format!("cannot write {}", path.display()))?;
            }
            None if current.is_some() => fs::remove_file(&path).at(|| format!("cannot delete {}", path.display()))?,
            None => {}
        }
        sync_dir(&parent)?;
        Ok(true)
    }

    fn delete(&self, key: &str) -> Result<()> {
        let path = self.path(key)?;
        match fs::remove_file(&path) {
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(()),
            other => other.at(|| format!("cannot delete {}", path.display())).and_then(|()| sync_dir(path.parent().expect("has a parent"))),
        }
    }

    fn map(&self, key: &str) -> Result<Mapped> {
        let (path, file) = self.open_file(key)?;
        Ok(Mapped::new(mmap::map(&file).at(|| format!("cannot map {}", path.display()))?))
    }

    fn sweep(&self) -> Result<usize> {
        let dir = self.root.join(TMP);
        let mut removed = 0;
        for listed in self.list(TMP)? {
            // Names of writers look like 4711-3; the lock of `swap` stays.
            if !listed.name.starts_with(|c: char| c.is_ascii_digit()) {
                continue;
            }
            let path = dir.join(&listed.name);
            let Ok(file) = File::open(&path) else { continue };
            if rustix::fs::flock(&file, FlockOperation::NonBlockingLockExclusive).is_ok() && fs::remove_file(&path).is_ok() {
                removed += 1;
            }
        }
        Ok(removed)
    }
}

struct StagedFile {
    backend: LocalBackend,
    file: File,
    path: Option<PathBuf>,
}

impl StagedFile {
    fn link(&self, target: &Path) -> rustix::io::Result<()> {
        match &self.path {
            Some(path) => rustix::fs::linkat(CWD, path, CWD, target, AtFlags::empty()),
            None => {
                let own = format!("/proc/self/fd/{}", self.file.as_raw_fd());
                rustix::fs::linkat(CWD, own, CWD, target, AtFlags::SYMLINK_FOLLOW)
            }
        }
    }
}

impl Staged for StagedFile {
    fn append(&mut self, bytes: &[u8]) -> Result<()> {
        self.file.write_all(bytes).at(|| format!("cannot write to repository {}", self.backend.root.display()))
    }

    fn publish(&mut self, key: &str) -> Result<PutOutcome> {
        let target = self.backend.path(key)?;
        let parent = target.parent().expect("a key has a directory above it");
        self.file.sync_all().at(|| format!("cannot write {} to disk", target.display()))?;
        let outcome = match self.link(&target) {
            Err(Errno::NOENT) => {
                make_dirs(parent)?;
                // Another writer may have made it a moment ago and not synced it yet.
                sync_dir(parent.parent().unwrap_or(parent))?;
                self.link(&target)
            }
            other => other,
        };
        match outcome {
            Ok(()) => {}
            Err(Errno::EXIST) => {
                // Whoever linked it may not have synced the name yet, and the caller is about to rely on it.
                sync_dir(parent)?;
                return Ok(PutOutcome::AlreadyThere);
            }
            Err(Errno::NOENT) if self.path.is_none() => {
                return Err(Error::new(ErrorKind::Io, format!("cannot name {}: is /proc mounted?", target.display())));
            }
            Err(error) => return Err(error).at(|| format!("cannot name {}", target.display())),
        }
        if let Some(path) = self.path.take() {
            fs::remove_file(&path).at(|| format!("cannot remove {}", path.display()))?;
        }
        sync_dir(parent)?;
        Ok(PutOutcome::Stored)
    }
}

impl Drop for StagedFile {
    fn drop(&mut self) {
        if let Some(path) = &self.path {
            // Nothing to be done about a failure here; a sweep will find the file.
            _ = fs::remove_file(path);
        }
    }
}

/// Makes `path` and the directories above it; each new name is durable.
fn make_dirs(path: &Path) -> Result<()> {
    match fs::create_dir(path) {
        Ok(()) => path.parent().map_or(Ok(()), |parent| sync_dir(if parent.as_os_str().is_empty() { Path::new(".") } else { parent })),
        Err(error) if error.kind() == std::io::ErrorKind::AlreadyExists => Ok(()),
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => {
            let parent = path.parent().filter(|parent| !parent.as_os_str().is_empty() && *parent != path);
            match parent {
                Some(parent) => make_dirs(parent).and_then(|()| make_dirs(path)),
                None => Err(error).at(|| format!("cannot make directory {}", path.display())),
            }
        }
        Err(error) => Err(error).at(|| format!("cannot make directory {}", path.display())),
    }
}

fn sync_dir(path: &Path) -> Result<()> {
    File::open(path).and_then(|dir| dir.sync_all()).at(|| format!("cannot write directory {} to disk", path.display()))
}
