//! A file on its way into a repository's directory.

use super::LocalBackend;
use super::files::{Files, retry, write_all};
use crate::backend::{PutOutcome, Staged};
use crate::error::{Error, ErrorKind, IoResultExt, Result};
use std::io;
use std::path::{Path, PathBuf};

pub(super) struct StagedFile<F: Files> {
    pub(super) backend: LocalBackend<F>,
    pub(super) file: F::File,
    /// Its name in `tmp/`; none for a file without a name.
    pub(super) path: Option<PathBuf>,
}

impl<F: Files> StagedFile<F> {
    fn link(&self, target: &Path) -> io::Result<()> {
        retry(|| self.backend.files.link(&self.file, self.path.as_deref(), target))
    }
}

impl<F: Files> Staged for StagedFile<F> {
    fn append(&mut self, bytes: &[u8]) -> Result<()> {
        write_all(&self.backend.files, &mut self.file, bytes).at(|| format!("cannot write to repository {}", self.backend.root.display()))
    }

    fn publish(&mut self, key: &str) -> Result<PutOutcome> {
        let target = self.backend.path(key)?;
        let parent = target.parent().expect("a key has a directory above it");
        retry(|| self.backend.files.sync(&self.file)).at(|| format!("cannot write {} to disk", target.display()))?;
        self.backend.have_dir(parent)?;
        let outcome = match self.link(&target) {
            // Somebody removed the directory by hand since.
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                self.backend.forget_dirs();
                self.backend.have_dir(parent)?;
                self.link(&target)
            }
            other => other,
        };
        match outcome {
            Ok(()) => {}
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {
                // Whoever linked it may not have synced the name yet, and the caller is about to rely on it.
                self.backend.sync_dir(parent)?;
                return Ok(PutOutcome::AlreadyThere);
            }
            Err(error) if error.kind() == io::ErrorKind::NotFound && self.path.is_none() => {
                return Err(Error::new(ErrorKind::Io, format!("cannot name {}: is /proc mounted?", target.display())));
            }
            Err(error) => return Err(error).at(|| format!("cannot name {}", target.display())),
        }
        if let Some(path) = self.path.take() {
            retry(|| self.backend.files.remove(&path)).at(|| format!("cannot remove {}", path.display()))?;
        }
        self.backend.sync_dir(parent)?;
        Ok(PutOutcome::Stored)
    }
}

impl<F: Files> Drop for StagedFile<F> {
    fn drop(&mut self) {
        if let Some(path) = &self.path {
            // Nothing to be done about a failure here; a sweep will find the file.
            _ = retry(|| self.backend.files.remove(path));
        }
    }
}
