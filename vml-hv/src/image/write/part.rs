//! A file that gets its name when it is whole and durable, so that nobody takes half a disk for one.

use rustix::fs::{RenameFlags, renameat_with};
use std::fs::{self, File};
use std::io::ErrorKind as IoKind;
use std::path::{Path, PathBuf};
use vml_core::{Error, ErrorKind, IoResultExt as _, Result};

/// A file being written.
pub(super) struct PartFile {
    pub(super) file: File,
    pub(super) path: PathBuf,
    part: PathBuf,
    replace: bool,
    finished: bool,
}

impl PartFile {
    /// Begins the file at `path`; `replace` says whether one that is there may be replaced at the end.
    pub(super) fn create(path: &Path, replace: bool) -> Result<Self> {
        if !replace && path.symlink_metadata().is_ok() {
            return Err(Error::new(ErrorKind::AlreadyExists, format!("{} is there already", path.display())));
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
        // For reading too: its tables may be looked at again.
        let file = File::options().read(true).write(true).create_new(true).open(&part).at(|| format!("cannot make {}", part.display()))?;
        Ok(Self { file, path: path.to_owned(), part, replace, finished: false })
    }

    /// Makes the file durable and gives it its name.
    pub(super) fn finish(mut self) -> Result<()> {
        let failed = || format!("cannot finish {}", self.path.display());
        self.file.sync_all().at(failed)?;
        let flags = if self.replace { RenameFlags::empty() } else { RenameFlags::NOREPLACE };
        renameat_with(rustix::fs::CWD, &self.part, rustix::fs::CWD, &self.path, flags).at(failed)?;
        self.finished = true;
        let folder = self.path.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or(Path::new("."));
        File::open(folder).and_then(|folder| folder.sync_all()).at(failed)
    }
}

impl Drop for PartFile {
    fn drop(&mut self) {
        if !self.finished {
            _ = fs::remove_file(&self.part);
        }
    }
}
