//! One file of a vmdk image that has tables of its own: grains of the disk that are there, the rest is zeros.
//!
//! The library reads a file with one position at a time, so each thread takes a reader of its own from those that are idle.

use super::descriptor::SECTOR_LEN;
use super::paged::PagedFile;
use std::fs::File;
use std::io::{Read, Seek, SeekFrom};
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};
use vmdk::VmdkReader;
use vml_core::{Error, ErrorKind, IoResultExt as _, Result};

type Reader = VmdkReader<PagedFile>;

/// Tables that a reader may keep before it makes room for a new one: 2 KiB each.
const TABLES_MAX: usize = 4096;
/// The header's flag for tables that mark grains as zeros.
const FLAG_ZEROS: u8 = 4;

/// An open file.
pub(in crate::image) struct SparseFile {
    file: Arc<File>,
    path: PathBuf,
    file_len: u64,
    /// Length in bytes of the part of the disk that it holds.
    pub(super) len: u64,
    grain_len: u64,
    /// Whether its tables may mark grains as zeros.
    pub(super) marks_zeros: bool,
    /// The descriptor inside it, where it has one.
    pub(super) descriptor: String,
    idle: Mutex<Vec<Reader>>,
}

impl SparseFile {
    pub(super) fn open(path: &Path, file: File) -> Result<Self> {
        let file_len = file.metadata().at(|| format!("cannot look at {}", path.display()))?.len();
        let mut begin = [0; 12];
        let read = file.read_at(&mut begin, 0).at(|| format!("cannot read {}", path.display()))?;
        let marks_zeros = begin[..read].starts_with(b"KDMV") && begin[8] & FLAG_ZEROS != 0;
        let file = Arc::new(file);
        let reader = open(&file, file_len, path)?;
        let info = reader.info();
        // Everything that is read here has grains.
        if info.grain_size_bytes == 0 {
            return Err(Error::new(ErrorKind::UnsupportedFormat, format!("{} has no grains", path.display())));
        }
        Ok(Self {
            file,
            path: path.to_owned(),
            file_len,
            len: info.virtual_disk_size,
            grain_len: info.grain_size_bytes,
            marks_zeros,
            descriptor: info.descriptor_text,
            idle: Mutex::new(vec![reader]),
        })
    }

    /// Whether the file has the grain at `offset`, and for how many bytes that holds; looks no further than `limit`.
    pub(super) fn run(&self, offset: u64, limit: u64) -> Result<(bool, u64)> {
        self.with(offset, |reader| {
            let there = reader.is_allocated(offset / SECTOR_LEN)?;
            let mut end = (offset / self.grain_len + 1) * self.grain_len;
            while end < offset.saturating_add(limit).min(self.len) && reader.is_allocated(end / SECTOR_LEN)? == there {
                end += self.grain_len;
            }
            Ok((there, end.min(self.len) - offset))
        })
    }

    pub(super) fn read_at(&self, buffer: &mut [u8], offset: u64) -> Result<()> {
        self.with(offset, |reader| {
            reader.seek(SeekFrom::Start(offset))?;
            reader.read_exact(buffer)
        })
    }

    fn with<T>(&self, offset: u64, act: impl FnOnce(&mut Reader) -> std::io::Result<T>) -> Result<T> {
        let idle = self.idle.lock().unwrap_or_else(PoisonError::into_inner).pop();
        let mut reader = match idle {
            Some(reader) => reader,
            None => open(&self.file, self.file_len, &self.path)?,
        };
        let result = act(&mut reader).map_err(|error| {
            let kind = if error.raw_os_error().is_some() { ErrorKind::Io } else { ErrorKind::Corrupt };
            let message = format!("cannot read the image {} at {offset} of its disk: it is cut short or damaged", self.path.display());
            Error::new(kind, message).because(error)
        })?;
        if reader.gt_cache_size() < TABLES_MAX {
            self.idle.lock().unwrap_or_else(PoisonError::into_inner).push(reader);
        }
        Ok(result)
    }
}

fn open(file: &Arc<File>, file_len: u64, path: &Path) -> Result<Reader> {
    VmdkReader::open(PagedFile::new(Arc::clone(file), file_len)).map_err(|error| {
        let kind = match &error {
            vmdk::VmdkError::Io(error) if error.raw_os_error().is_some() => ErrorKind::Io,
            vmdk::VmdkError::UnsupportedVersion(_) | vmdk::VmdkError::CompressedNotSupported => ErrorKind::UnsupportedFormat,
            _ => ErrorKind::Corrupt,
        };
        Error::new(kind, format!("cannot read the image {}: it is cut short, damaged, or of a kind that is not known here", path.display()))
            .because(error)
    })
}
