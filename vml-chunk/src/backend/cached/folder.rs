//! The folder of copies. Nothing in it is trusted, and nothing that goes wrong with it is an error.
//!
//! ```text
//! meta-6437b3…   a copy, named by its key; its modification time is that of its last use
//! tmp-4711-3     a copy that is being made; renamed when it is whole
//! ```

use crate::backend::Mapped;
use crate::backend::names::{NameCheck, matches_name};
use crate::error::{Error, IoResultExt, Result};
use crate::mmap;
use std::fs::{self, File, FileTimes};
use std::io::{Read, Write};
use std::os::unix::fs::{FileExt, OpenOptionsExt};
use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::SystemTime;

/// Numbers the files that are being made in this process.
static NEXT: AtomicU64 = AtomicU64::new(0);
/// Longest copy that is read into memory.
const READ_MAX: u64 = 64 << 20;

#[derive(Debug)]
pub(super) struct Folder {
    dir: Option<PathBuf>,
    limit: u64,
    /// Something could not be written: not tried again.
    broken: AtomicBool,
    /// Bytes added since the folder was last measured; the first addition measures it.
    added: AtomicU64,
}

impl Folder {
    pub(super) fn new(dir: PathBuf, limit: u64) -> Self {
        Self { dir: Some(dir), limit, broken: AtomicBool::new(false), added: AtomicU64::new(u64::MAX / 2) }
    }

    /// No folder at all.
    pub(super) fn none() -> Self {
        Self { dir: None, limit: 0, broken: AtomicBool::new(true), added: AtomicU64::new(0) }
    }

    pub(super) fn limit(&self) -> u64 {
        self.limit
    }

    /// Whether copies can be kept, as far as is known.
    pub(super) fn is_usable(&self) -> bool {
        !self.broken.load(Ordering::Relaxed)
    }

    fn path(&self, key: &str) -> Option<PathBuf> {
        Some(self.dir.as_ref()?.join(key.replace('/', "-")))
    }

    pub(super) fn has(&self, key: &str) -> bool {
        self.path(key).is_some_and(|path| path.exists())
    }

    pub(super) fn remove(&self, key: &str) {
        _ = self.path(key).map(fs::remove_file);
    }

    /// A whole small copy, if there is one and it is what its name says.
    pub(super) fn read(&self, key: &str, digest: &str) -> Option<Vec<u8>> {
        let file = self.open_file(key)?;
        let mut bytes = Vec::new();
        file.take(READ_MAX).read_to_end(&mut bytes).ok()?;
        if matches_name(&bytes, digest) {
            return Some(bytes);
        }
        self.remove(key);
        None
    }

    /// A long copy, if there is one and it is what its name says.
    pub(super) fn open(&self, key: &str, digest: &str) -> Option<Kept> {
        let file = self.open_file(key)?;
        let mut check = NameCheck::default();
        let mut buffer = vec![0; 256 << 10];
        let mut reader = &file;
        let sound = loop {
            match reader.read(&mut buffer) {
                Ok(0) => break check.matches(digest),
                Ok(count) => check.update(&buffer[..count]),
                Err(error) if error.kind() == std::io::ErrorKind::Interrupted => {}
                Err(_) => break false,
            }
        };
        if !sound {
            self.remove(key);
            return None;
        }
        Some(Kept(file))
    }

    fn open_file(&self, key: &str) -> Option<File> {
        // Whoever put something else there shall not make us wait for it.
        let flags = rustix::fs::OFlags::NONBLOCK | rustix::fs::OFlags::NOFOLLOW;
        let file = File::options().read(true).custom_flags(flags.bits().cast_signed()).open(self.path(key)?).ok()?;
        if !file.metadata().ok()?.is_file() {
            return None;
        }
        // Last used now; whether that can be said is of no matter.
        _ = file.set_times(FileTimes::new().set_modified(SystemTime::now()));
        Some(file)
    }

    pub(super) fn write(&self, key: &str, bytes: &[u8]) {
        if let Some(mut file) = self.begin() {
            file.append(bytes);
            file.name(key);
        }
    }

    /// Begins a copy.
    pub(super) fn begin(&self) -> Option<Making<'_>> {
        if !self.is_usable() {
            return None;
        }
        let dir = self.dir.as_ref()?;
        let path = dir.join(format!("tmp-{}-{}", std::process::id(), NEXT.fetch_add(1, Ordering::Relaxed)));
        let create = || File::options().write(true).create(true).truncate(true).mode(0o600).open(&path);
        let made = create().or_else(|_| {
            use std::os::unix::fs::DirBuilderExt as _;
            fs::DirBuilder::new().recursive(true).mode(0o700).create(dir)?;
            create()
        });
        match made {
            Ok(file) => Some(Making { folder: self, path, file, len: 0, failed: false }),
            Err(_) => {
                self.broken.store(true, Ordering::Relaxed);
                None
            }
        }
    }

    /// Makes room when so much was added that it may be needed.
    fn added(&self, len: u64) {
        let added = self.added.fetch_add(len, Ordering::Relaxed).saturating_add(len);
        if added < self.limit / 16 {
            return;
        }
        self.added.store(0, Ordering::Relaxed);
        let Some(Ok(members)) = self.dir.as_ref().map(fs::read_dir) else { return };
        let mut files: Vec<(SystemTime, u64, PathBuf)> = members
            .flatten()
            .filter_map(|member| {
                let meta = member.metadata().ok().filter(fs::Metadata::is_file)?;
                Some((meta.modified().ok()?, meta.len(), member.path()))
            })
            .collect();
        let mut total: u64 = files.iter().map(|(_, len, _)| len).sum();
        files.sort_unstable();
        // A little more than needed, so that it is not needed again at once.
        let target = self.limit - self.limit / 8;
        if total <= self.limit {
            return;
        }
        for (_, len, path) in files {
            if total <= target {
                break;
            }
            if fs::remove_file(path).is_ok() {
                total -= len;
            }
        }
    }
}

/// A copy that is being made.
pub(super) struct Making<'a> {
    folder: &'a Folder,
    path: PathBuf,
    file: File,
    len: u64,
    failed: bool,
}

impl Making<'_> {
    pub(super) fn append(&mut self, bytes: &[u8]) {
        self.failed = self.failed || self.file.write_all(bytes).is_err();
        self.len += bytes.len() as u64;
    }

    /// Gives it its name, if it could be written.
    pub(super) fn name(mut self, key: &str) {
        let named = self.folder.path(key).is_some_and(|path| !self.failed && fs::rename(&self.path, path).is_ok());
        self.failed = !named;
        if named {
            self.path.clear();
            self.folder.added(self.len);
        }
    }
}

impl Drop for Making<'_> {
    fn drop(&mut self) {
        if self.failed {
            self.folder.broken.store(true, Ordering::Relaxed);
        }
        if !self.path.as_os_str().is_empty() {
            _ = fs::remove_file(&self.path);
        }
    }
}

/// A copy that is what its name says. It stays readable when it is removed from the folder.
#[derive(Debug)]
pub(super) struct Kept(File);

impl Kept {
    pub(super) fn read_at(&self, key: &str, offset: u64, buf: &mut [u8]) -> Result<()> {
        match self.0.read_exact_at(buf, offset) {
            Err(error) if error.kind() == std::io::ErrorKind::UnexpectedEof || i64::try_from(offset).is_err() => {
                Err(Error::corrupt(format!("{key} is cut short: {} bytes at {offset} were asked for", buf.len())))
            }
            other => other.at(|| format!("cannot read the copy of {key}")),
        }
    }

    pub(super) fn map(&self) -> Option<Mapped> {
        mmap::map(&self.0).ok().map(Mapped::of_file)
    }
}
