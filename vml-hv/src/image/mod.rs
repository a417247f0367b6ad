//! Disk images on the host: raw, qcow2 and vmdk; read as what the guest sees.
//!
//! ```text
//! probe   which format, told or decided safely       in_use  whether somebody writes to an image
//! chain   an image and those below it                files   by what a file is known
//! raw · qcow2 · vmdk   one image each                      write/  new images
//! qemu_nbd      chains of which QEMU reads one image
//! ```
//! An image is written by a guest or came from a stranger: what it says is checked before it is followed, and the files it names are
//! read only inside its own folder and those that the caller allows.

mod chain;
mod files;
mod in_use;
mod probe;
mod qcow2;
mod qcow2_header;
mod qemu_nbd;
mod raw;
mod vmdk;
pub mod write;

pub use in_use::writer_of;
pub use probe::Format;
pub use qcow2_header::{Backing, Header as Qcow2Header, decode as decode_qcow2_header};
pub use raw::RawImage;
pub use vmdk::{Descriptor as VmdkDescriptor, ExtentLine as VmdkExtent, Place as VmdkPlace, decode_descriptor as decode_vmdk_descriptor};

use std::path::{Path, PathBuf};
use vml_core::Result;
use vml_core::disk::{Disk, Layer};

/// How an image is opened.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct OpenOptions {
    /// Its format; without it name and content must agree on one.
    pub format: Option<Format>,
    /// Folders in which files that it names may lie, besides its own.
    pub allowed_dirs: Vec<PathBuf>,
    /// QEMU's server for what only QEMU reads; without it `qemu-nbd` is looked for where programs are.
    pub qemu_nbd: Option<PathBuf>,
    /// The folder in which a socket to it is made for a moment; without it `/tmp`.
    pub run_dir: Option<PathBuf>,
}

/// Opens the disk in an image, with all images below it.
///
/// # Errors
/// `InvalidInput` when the format cannot be told, `PermissionDenied` when a file it names lies where none is allowed,
/// `Corrupt` for an image that cannot be what it says, `UnsupportedFormat` for what cannot be read.
pub fn open(path: &Path, options: &OpenOptions) -> Result<Box<dyn Disk>> {
    chain::open(path, options)
}

/// The [layers](Disk::layers) of the disk in an image, with less work than [`open`] where that starts a program.
///
/// # Errors
/// As [`open`].
pub fn layers(path: &Path, options: &OpenOptions) -> Result<Vec<Layer>> {
    chain::layers(path, options)
}
