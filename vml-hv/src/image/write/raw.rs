//! New raw images: sparse, and on file systems that share blocks a clone of another image in which only what differs is written.

use super::part::PartFile;
use rustix::fs::{FallocateFlags, fallocate, ioctl_ficlone};
use std::fs::File;
use std::os::unix::fs::FileExt;
use std::path::Path;
use vml_core::disk::DiskTarget;
use vml_core::{Error, IoResultExt as _, Result};

/// A raw image being written.
pub struct RawTarget {
    part: PartFile,
    len: u64,
    /// Whether there are other bytes than zeros that were not written.
    is_clone: bool,
}

impl RawTarget {
    /// Begins an image of `len` bytes, all zeros; `replace` says whether a file at `path` may be replaced at the end.
    ///
    /// # Errors
    /// `AlreadyExists`, or what the file system says.
    pub fn create(path: &Path, len: u64, replace: bool) -> Result<Self> {
        let part = PartFile::create(path, replace)?;
        part.file.set_len(len).at(|| format!("cannot make {} {len} bytes long", path.display()))?;
        Ok(Self { part, len, is_clone: false })
    }

    /// The same with the bytes of the raw image `base`, whose blocks it shares; `None` where the file systems cannot.
    ///
    /// # Errors
    /// As [`create`](Self::create), and when `base` cannot be opened.
    pub fn create_clone(path: &Path, base: &Path, len: u64, replace: bool) -> Result<Option<Self>> {
        let base = File::open(base).at(|| format!("cannot open the image {}", base.display()))?;
        let part = PartFile::create(path, replace)?;
        if ioctl_ficlone(&part.file, &base).is_err() {
            return Ok(None);
        }
        part.file.set_len(len).at(|| format!("cannot make {} {len} bytes long", path.display()))?;
        Ok(Some(Self { part, len, is_clone: true }))
    }

    /// Makes the image durable and gives it its name.
    ///
    /// # Errors
    /// `AlreadyExists` when somebody took the name meanwhile, or what the file system says.
    pub fn finish(self) -> Result<()> {
        self.part.finish()
    }

    fn check(&self, offset: u64, len: u64) -> Result<()> {
        if offset.checked_add(len).is_none_or(|end| end > self.len) {
            return Err(Error::invalid(format!("{len} bytes at {offset} lie beyond the end of {}", self.part.path.display())));
        }
        Ok(())
    }
}

impl DiskTarget for RawTarget {
    fn write_at(&self, bytes: &[u8], offset: u64) -> Result<()> {
        self.check(offset, bytes.len() as u64)?;
        self.part.file.write_all_at(bytes, offset).at(|| format!("cannot write {} at {offset}", self.part.path.display()))
    }

    fn zero_at(&self, offset: u64, len: u64) -> Result<()> {
        self.check(offset, len)?;
        if !self.is_clone || len == 0 {
            return Ok(());
        }
        fallocate(&self.part.file, FallocateFlags::PUNCH_HOLE | FallocateFlags::KEEP_SIZE, offset, len)
            .at(|| format!("cannot make a hole in {} at {offset}", self.part.path.display()))
    }
}
