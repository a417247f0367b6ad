//! The operations on files by which a repository in a directory is written and read: the seam below [`LocalBackend`](super::LocalBackend).
//!
//! ```text
//! LocalBackend ──► Files ──► System       the operating system
//!                    └─────► in tests: a disk in memory that records, fails, and loses what was not synced
//! ```
//! Each method is one system call or a plain loop of them, so that whatever stands behind this trait sees the order in which things are made
//! durable. The types are known when a program is compiled: nothing is chosen while it runs.

use crate::backend::{Listed, Mapped};
use crate::mmap;
use rustix::fs::{AtFlags, CWD, FlockOperation, Mode, OFlags};
use rustix::io::Errno;
use std::ffi::OsString;
use std::fmt;
use std::fs::{self, File};
use std::io::{self, Write};
use std::os::fd::AsRawFd;
use std::os::unix::fs::{FileExt, MetadataExt};
use std::path::Path;

/// What a name stands for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Found {
    /// A file of that many bytes.
    File(u64),
    /// A directory.
    Directory,
    /// Neither.
    Other,
}

/// A file system.
///
/// Errors are those of the operating system; `Interrupted` says that nothing was done and is tried again by the caller.
pub trait Files: Clone + Send + Sync + fmt::Debug + 'static {
    /// An open file.
    type File: Send;

    /// What a name stands for.
    fn find(&self, path: &Path) -> io::Result<Found>;

    /// The files directly in a directory.
    fn list(&self, dir: &Path) -> io::Result<Vec<Listed>>;

    /// The names of the directories directly in a directory.
    fn list_dirs(&self, dir: &Path) -> io::Result<Vec<OsString>>;

    /// Reads a whole file.
    fn read(&self, path: &Path) -> io::Result<Vec<u8>>;

    /// Fills `buf` from `offset` of a file; `UnexpectedEof` when it is shorter, `InvalidInput` for an offset that no file can have.
    fn read_at(&self, path: &Path, offset: u64, buf: &mut [u8]) -> io::Result<()>;

    /// The bytes of a file that is never written again.
    fn map(&self, path: &Path) -> io::Result<Mapped>;

    /// Makes one directory.
    fn make_dir(&self, path: &Path) -> io::Result<()>;

    /// Makes a file without a name, where `dir` is; `None` where that is not possible.
    fn create_unnamed(&self, dir: &Path) -> io::Result<Option<Self::File>>;

    /// Makes a file that is not there.
    fn create_new(&self, path: &Path) -> io::Result<Self::File>;

    /// Opens a file for writing, made if it is not there.
    fn open_or_create(&self, path: &Path) -> io::Result<Self::File>;

    /// Waits until nobody has the file locked, and locks it until it is closed.
    fn lock(&self, file: &Self::File) -> io::Result<()>;

    /// Deletes a file if nobody has it locked; tells whether it did.
    fn remove_unlocked(&self, path: &Path) -> io::Result<bool>;

    /// Whether the file has a name.
    fn has_name(&self, file: &Self::File) -> io::Result<bool>;

    /// Appends some of these bytes; tells how many.
    fn write(&self, file: &mut Self::File, bytes: &[u8]) -> io::Result<usize>;

    /// The file's bytes are durable on return.
    fn sync(&self, file: &Self::File) -> io::Result<()>;

    /// Gives a file, which has the name `from` or none, another name that is not taken.
    fn link(&self, file: &Self::File, from: Option<&Path>, to: &Path) -> io::Result<()>;

    /// Gives what is named `from` the name `to` instead, whatever had it before.
    fn rename(&self, from: &Path, to: &Path) -> io::Result<()>;

    /// Takes a file's name away.
    fn remove(&self, path: &Path) -> io::Result<()>;

    /// The names in a directory are durable on return.
    fn sync_dir(&self, path: &Path) -> io::Result<()>;
}

/// The operating system's files.
#[derive(Debug, Clone, Copy, Default)]
pub struct System;

impl Files for System {
    type File = File;

    fn find(&self, path: &Path) -> io::Result<Found> {
        let meta = fs::metadata(path)?;
        Ok(match (meta.is_file(), meta.is_dir()) {
            (true, _) => Found::File(meta.len()),
            (_, true) => Found::Directory,
            _ => Found::Other,
        })
    }

    fn list(&self, dir: &Path) -> io::Result<Vec<Listed>> {
        let mut files = Vec::new();
        for entry in fs::read_dir(dir)? {
            let entry = entry?;
            // A file deleted while we list is simply not there.
            let Ok(meta) = entry.metadata() else { continue };
            if let (true, Some(name)) = (meta.is_file(), entry.file_name().to_str()) {
                files.push(Listed { name: name.to_owned(), len: meta.len() });
            }
        }
        Ok(files)
    }

    fn list_dirs(&self, dir: &Path) -> io::Result<Vec<OsString>> {
        let mut dirs = Vec::new();
        for entry in fs::read_dir(dir)? {
            let entry = entry?;
            if entry.file_type().is_ok_and(|kind| kind.is_dir()) {
                dirs.push(entry.file_name());
            }
        }
        Ok(dirs)
    }

    fn read(&self, path: &Path) -> io::Result<Vec<u8>> {
        fs::read(path)
    }

    fn read_at(&self, path: &Path, offset: u64, buf: &mut [u8]) -> io::Result<()> {
        File::open(path)?.read_exact_at(buf, offset)
    }

    fn map(&self, path: &Path) -> io::Result<Mapped> {
        mmap::map(&File::open(path)?).map(Mapped::of_file)
    }

    fn make_dir(&self, path: &Path) -> io::Result<()> {
        fs::create_dir(path)
    }

    fn create_unnamed(&self, dir: &Path) -> io::Result<Option<File>> {
        match rustix::fs::open(dir, OFlags::TMPFILE | OFlags::RDWR | OFlags::CLOEXEC, Mode::from(0o666)) {
            Ok(file) => Ok(Some(file.into())),
            Err(Errno::OPNOTSUPP | Errno::ISDIR | Errno::INVAL | Errno::NOENT) => Ok(None),
            Err(error) => Err(error.into()),
        }
    }

    fn create_new(&self, path: &Path) -> io::Result<File> {
        File::options().read(true).write(true).create_new(true).open(path)
    }

    fn open_or_create(&self, path: &Path) -> io::Result<File> {
        File::options().write(true).create(true).truncate(false).open(path)
    }

    fn lock(&self, file: &File) -> io::Result<()> {
        Ok(rustix::fs::flock(file, FlockOperation::LockExclusive)?)
    }

    fn remove_unlocked(&self, path: &Path) -> io::Result<bool> {
        let file = File::open(path)?;
        Ok(rustix::fs::flock(&file, FlockOperation::NonBlockingLockExclusive).is_ok() && fs::remove_file(path).is_ok())
    }

    fn has_name(&self, file: &File) -> io::Result<bool> {
        Ok(file.metadata()?.nlink() > 0)
    }

    fn write(&self, file: &mut File, bytes: &[u8]) -> io::Result<usize> {
        file.write(bytes)
    }

    fn sync(&self, file: &File) -> io::Result<()> {
        file.sync_all()
    }

    fn link(&self, file: &File, from: Option<&Path>, to: &Path) -> io::Result<()> {
        Ok(match from {
            Some(from) => rustix::fs::linkat(CWD, from, CWD, to, AtFlags::empty()),
            None => {
                let own = format!("/proc/self/fd/{}", file.as_raw_fd());
                rustix::fs::linkat(CWD, own, CWD, to, AtFlags::SYMLINK_FOLLOW)
            }
        }?)
    }

    fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
        fs::rename(from, to)
    }

    fn remove(&self, path: &Path) -> io::Result<()> {
        fs::remove_file(path)
    }

    fn sync_dir(&self, path: &Path) -> io::Result<()> {
        File::open(path)?.sync_all()
    }
}

/// Does it again as long as a signal keeps it from being done.
pub(super) fn retry<T>(mut run: impl FnMut() -> io::Result<T>) -> io::Result<T> {
    loop {
        match run() {
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            other => return other,
        }
    }
}

/// Appends all of the bytes.
pub(super) fn write_all<F: Files>(files: &F, file: &mut F::File, mut bytes: &[u8]) -> io::Result<()> {
    while !bytes.is_empty() {
        match retry(|| files.write(file, bytes))? {
            0 => return Err(io::ErrorKind::WriteZero.into()),
            count => bytes = &bytes[count..],
        }
    }
    Ok(())
}
