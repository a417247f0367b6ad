//! New raw images: sparse, complete or not there at all.
//!
//! An image is made under a temporary name beside its own and renamed when it is whole and durable, so that nobody takes half a
//! disk for one.

use rustix::fs::{RenameFlags, renameat_with};
use std::fs::{self, File};
use std::io::ErrorKind as IoKind;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use vml_core::disk::DiskTarget;
use vml_core::{Error, ErrorKind, IoResultExt as _, Result};

/// A raw image being written.
pub struct RawTarget {
    file: File,
    part: PathBuf,
    path: PathBuf,
    len: u64,
    replace: bool,
    finished: bool,
}

impl RawTarget {
    /// Begins an image of `len` bytes, all zeros; `replace` says whether a file at `path` may be replaced at the end.
    ///
    /// # Errors
    /// `AlreadyExists`, or what the file system says.
    pub fn create(path: &Path, len: u64, replace: bool) -> Result<Self> {
        let exists = || Error::new(ErrorKind::AlreadyExists, format!("{} is there already", path.display()));
        if !replace && path.symlink_metadata().is_ok() {
            return Err(exists());
        }
        let name = path.file_name().ok_or_else(|| Error::invalid(format!("{} names no file", path.display())))?;
        let mut part_name = std::ffi::OsString::from(".");
        part_name.push(name);
        part_name.push(".part");
        let part = path.with_file_name(part_name);
        // One that a killed run left.
        match fs::remove_file(&part) {
            Err(error) if error.kind() != IoKind::NotFound => return Err(error).at(|| format!("cannot remove {}", part.display())),
            _ => {}
        }
        let file = File::create_new(&part).at(|| format!("cannot make {}", part.display()))?;
        let target = Self { file, part, path: path.to_owned(), len, replace, finished: false };
        target.file.set_len(len).at(|| format!("cannot make {} {len} bytes long", path.display()))?;
        Ok(target)
    }

    /// Makes the image durable and gives it its name.
    ///
    /// # Errors
    /// `AlreadyExists` when somebody took the name meanwhile, or what the file system says.
    pub fn finish(mut self) -> Result<()> {
        let failed = || format!("cannot finish {}", self.path.display());
        self.file.sync_all().at(failed)?;
        let flags = if self.replace { RenameFlags::empty() } else { RenameFlags::NOREPLACE };
        renameat_with(rustix::fs::CWD, &self.part, rustix::fs::CWD, &self.path, flags).at(failed)?;
        let folder = self.path.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or(Path::new("."));
        File::open(folder).and_then(|folder| folder.sync_all()).at(failed)?;
        self.finished = true;
        Ok(())
    }
}

impl DiskTarget for RawTarget {
    fn write_at(&self, bytes: &[u8], offset: u64) -> Result<()> {
        if offset.checked_add(bytes.len() as u64).is_none_or(|end| end > self.len) {
            return Err(Error::invalid(format!("{} bytes at {offset} lie beyond the end of {}", bytes.len(), self.path.display())));
        }
        self.file.write_all_at(bytes, offset).at(|| format!("cannot write {} at {offset}", self.path.display()))
    }
}

impl Drop for RawTarget {
    fn drop(&mut self) {
        if !self.finished {
            _ = fs::remove_file(&self.part);
        }
    }
}
