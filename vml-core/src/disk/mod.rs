//! A virtual machine's disk as the guest sees it: bytes by offset, whatever image file or connection they come from.
//!
//! Raw, qcow2 and vmdk images of one guest differ as files and are equal as [`Disk`]s, so they share chunks. What can be
//! known without reading is asked for: where a disk has no data, and which layer of a chain of images holds what.

mod capture;
mod clusters;
mod cut;
mod plan;
mod read;
mod restore;
mod saved;
mod verify;

pub use capture::{CapturedDisk, DiskCaptureOptions, DiskStats, KnownDisk, capture_disk};
pub use clusters::{ClusterMap, ClusterState};
pub use plan::changed_above;
pub use restore::{RestoredDisk, restore_disk};
pub use saved::SavedDisk;
pub use verify::verify_disk;

use bincode::{Decode, Encode};
use vml_chunk::{Error, Result};

/// Bytes of a disk that are a file's, one after the other: `end` is exact where it is the file's end.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct FileRun {
    /// First byte on the disk.
    pub start: u64,
    /// Behind the last byte.
    pub end: u64,
}

/// What stands in a run of a disk.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ExtentKind {
    /// Bytes that have to be read; they may be zeros all the same.
    Data,
    /// Zeros that are noted as such, and hide what a layer below has there.
    Zero,
    /// Nothing: no layer has anything there; reads as zeros.
    Hole,
}

/// A run of a disk.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Extent {
    /// Length in bytes, at least 1.
    pub len: u64,
    /// What stands there.
    pub kind: ExtentKind,
    /// The layer that says so: 0 is the topmost image of a chain; for a hole it is the number of layers.
    pub layer: usize,
}

/// A file as it stood on the host when its image was opened, to know later whether it has changed since.
#[derive(Debug, Clone, PartialEq, Eq, Encode, Decode)]
pub struct FileWitness {
    /// The device that its file system is on.
    pub device: u64,
    /// Its inode number.
    pub inode: u64,
    /// Its length in bytes.
    pub len: u64,
    /// Last modification, nanoseconds since 1970.
    pub mtime_ns: i128,
    /// Last change of the inode, nanoseconds since 1970.
    pub ctime_ns: i128,
}

/// One image of a chain.
#[derive(Debug, Clone, PartialEq, Eq, Encode, Decode)]
pub struct Layer {
    /// For example `qcow2`.
    pub format: String,
    /// The image's files: one, or more where it is split or keeps its data elsewhere.
    pub files: Vec<FileWitness>,
}

/// A disk that can be read: an image, a saved disk, a running machine's disk. Threads read it side by side.
pub trait Disk: Send + Sync {
    /// Length in bytes: what the guest sees, also where the file is shorter or longer.
    fn len(&self) -> u64;

    /// Whether it has no bytes.
    fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Fills `buffer` with the bytes from `offset` on.
    ///
    /// # Errors
    /// `InvalidInput` beyond the end; `Corrupt` where the image cannot be what it says; `Io`.
    fn read_at(&self, buffer: &mut [u8], offset: u64) -> Result<()>;

    /// The run that begins at `offset`, which is below the length. It ends at or before the end of the disk; its
    /// neighbour may be of the same kind.
    ///
    /// # Errors
    /// As [`read_at`](Self::read_at).
    fn extent_at(&self, offset: u64) -> Result<Extent>;

    /// The images it is made of, topmost first; none where there are no files whose change could be noticed.
    fn layers(&self) -> &[Layer] {
        &[]
    }

    /// The same images as their files are now: where they differ from [`layers`](Self::layers) somebody writes to them.
    ///
    /// # Errors
    /// When a file cannot be looked at.
    fn layers_now(&self) -> Result<Vec<Layer>> {
        Ok(self.layers().to_vec())
    }
}

/// Where `len` bytes at `offset` of a disk of `disk_len` bytes end.
///
/// # Errors
/// `InvalidInput` where that is beyond its end.
pub fn end_within(offset: u64, len: u64, disk_len: u64) -> Result<u64> {
    let end = offset.checked_add(len).filter(|end| *end <= disk_len);
    end.ok_or_else(|| Error::invalid(format!("{len} bytes at {offset} lie beyond the end of a disk of {disk_len} bytes")))
}

/// A disk, or an image of one, being written. Threads write side by side.
pub trait DiskTarget: Send + Sync {
    /// Writes bytes at an offset of the disk. Nothing is written twice, and what is never written reads as zeros, or
    /// as what an overlay's base has there.
    ///
    /// # Errors
    /// `InvalidInput` beyond the end, `NoSpace`, `Io`.
    fn write_at(&self, bytes: &[u8], offset: u64) -> Result<()>;

    /// Makes `len` bytes from `offset` on zeros; where nothing was written before, they are.
    ///
    /// # Errors
    /// As [`write_at`](Self::write_at).
    fn zero_at(&self, offset: u64, len: u64) -> Result<()> {
        _ = (offset, len);
        Ok(())
    }
}
