//! Raw images: the file is the disk; its holes are known to the file system.

use super::files;
use rustix::fs::SeekFrom;
use rustix::io::Errno;
use std::fs::File;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use vml_core::disk::{Disk, Extent, ExtentKind, FileWitness, Layer};
use vml_core::{Error, IoResultExt as _, Result};

/// A raw image, open.
pub struct RawImage {
    file: File,
    path: PathBuf,
    len: u64,
    layers: [Layer; 1],
}

impl RawImage {
    /// Opens a file or a block device.
    ///
    /// # Errors
    /// What the file system says.
    pub fn open(path: &Path) -> Result<Self> {
        Self::from_open(path, files::open(path)?)
    }

    /// The same of a file that is open already.
    pub(super) fn from_open(path: &Path, (file, witness): (File, FileWitness)) -> Result<Self> {
        // A block device's length is where its end is.
        let len = rustix::fs::seek(&file, SeekFrom::End(0)).at(|| format!("cannot find the length of {}", path.display()))?;
        Ok(Self { file, path: path.to_owned(), len, layers: [Layer { format: "raw".to_owned(), files: vec![witness] }] })
    }
}

impl RawImage {
    /// By what its file is known.
    pub(super) fn witness(&self) -> FileWitness {
        self.layers[0].files[0].clone()
    }
}

impl Disk for RawImage {
    fn len(&self) -> u64 {
        self.len
    }

    fn read_at(&self, buffer: &mut [u8], offset: u64) -> Result<()> {
        if offset.checked_add(buffer.len() as u64).is_none_or(|end| end > self.len) {
            return Err(Error::invalid(format!("{} bytes at {offset} lie beyond the end of {}", buffer.len(), self.path.display())));
        }
        self.file.read_exact_at(buffer, offset).at(|| format!("cannot read {} at {offset}", self.path.display()))
    }

    fn extent_at(&self, offset: u64) -> Result<Extent> {
        // The position that this moves belongs to nobody: reads name theirs.
        let seek = |position| match rustix::fs::seek(&self.file, position) {
            Ok(found) => Ok(found.min(self.len)),
            Err(Errno::NXIO) => Ok(self.len),
            Err(error) => Err(error),
        };
        let failed = || format!("cannot find the holes of {}", self.path.display());
        let extent = |end: u64, kind, layer| Extent { len: end.saturating_sub(offset).max(1), kind, layer };
        match seek(SeekFrom::Data(offset)) {
            Ok(data) if data > offset => Ok(extent(data, ExtentKind::Hole, 1)),
            Ok(_) => Ok(extent(seek(SeekFrom::Hole(offset)).at(failed)?, ExtentKind::Data, 0)),
            // What does not know of holes has none.
            Err(Errno::INVAL | Errno::OPNOTSUPP) => Ok(extent(self.len, ExtentKind::Data, 0)),
            Err(error) => Err(error).at(failed),
        }
    }

    fn layers(&self) -> &[Layer] {
        &self.layers
    }

    fn layers_now(&self) -> Result<Vec<Layer>> {
        Ok(vec![Layer { format: "raw".to_owned(), files: vec![files::witness(&self.file, &self.path)?] }])
    }
}
