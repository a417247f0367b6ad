//! vmdk images: VMware's, in one file or in many.
//!
//! ```text
//! descriptor (text) ──► parts in order:  flat: a file's bytes   sparse: a file with tables of grains   zero
//! ```
//! The library reads what is inside a file with tables. Which files there are, where each may lie and how they make up the disk is
//! decided here, because a descriptor is written by whoever made the image.

mod descriptor;
mod paged;
mod sparse;

pub use descriptor::{Descriptor, ExtentLine, Place, decode as decode_descriptor};

use super::files;
use super::raw::RawImage;
use descriptor::{DESCRIPTOR_MAX, SECTOR_LEN};
use sparse::SparseFile;
use std::fs::File;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use vml_core::disk::{Disk, Extent, ExtentKind, FileWitness, Layer, end_within};
use vml_core::{Error, ErrorKind, IoResultExt as _, Result};

/// How the first bytes of VMware's newest sparse files look: the library does not check what it computes from them.
const SE_SPARSE_MARK: [u8; 8] = 0xCAFE_BABE_u64.to_le_bytes();
/// Bytes that one answer about grains may cover.
const RUN_MAX: u64 = 1 << 30;

/// What the file of an image turned out to be.
pub(super) enum Head {
    /// A descriptor that names others.
    Text(Descriptor),
    /// A file that holds everything, with the descriptor inside it.
    Whole(Box<SparseFile>, Descriptor),
}

impl Head {
    /// What the image says of itself.
    pub(super) fn descriptor(&self) -> &Descriptor {
        let (Self::Text(descriptor) | Self::Whole(_, descriptor)) = self;
        descriptor
    }
}

/// Whether the bytes begin like the file of a vmdk image.
pub(super) fn has_mark(head: &[u8]) -> bool {
    head.starts_with(b"KDMV") || head.starts_with(b"COWD") || descriptor::has_mark(head)
}

/// Reads what the image at `path` says of itself.
pub(super) fn head(path: &Path, file: &File) -> Result<Head> {
    let failed = || format!("cannot read {}", path.display());
    let len = file.metadata().at(failed)?.len();
    let mut begin = [0; 64];
    let read = file.read_at(&mut begin, 0).at(failed)?;
    let context = |error: Error| error.context(format!("cannot read the image {}", path.display()));
    if descriptor::has_mark(&begin[..read]) {
        let mut text = vec![0; usize::try_from(len).unwrap_or(usize::MAX).min(DESCRIPTOR_MAX + 1)];
        file.read_exact_at(&mut text, 0).at(failed)?;
        return Ok(Head::Text(decode_descriptor(&text).map_err(context)?));
    }
    let whole = sparse(path, file.try_clone().at(failed)?)?;
    if whole.descriptor.is_empty() {
        let message = format!("{} is one of the files of a vmdk image: name the one with the descriptor", path.display());
        return Err(Error::invalid(message));
    }
    let inside = decode_descriptor(whole.descriptor.as_bytes()).map_err(context)?;
    Ok(Head::Whole(Box::new(whole), inside))
}

fn sparse(path: &Path, file: File) -> Result<SparseFile> {
    let mut mark = [0; 8];
    let read = file.read_at(&mut mark, 0).at(|| format!("cannot read {}", path.display()))?;
    if mark[..read] == SE_SPARSE_MARK {
        let message = format!("{} is a vmdk file of the kind seSparse: convert the image with `qemu-img convert`", path.display());
        return Err(Error::new(ErrorKind::UnsupportedFormat, message));
    }
    SparseFile::open(path, file)
}

/// An open image.
pub(super) struct VmdkImage {
    parts: Vec<Part>,
    len: u64,
    paths: Vec<PathBuf>,
    layers: [Layer; 1],
}

struct Part {
    start: u64,
    len: u64,
    what: What,
}

enum What {
    Flat { file: RawImage, start: u64 },
    Sparse(SparseFile),
    Zero,
}

impl VmdkImage {
    /// Opens the files of an image; `allow` says where the one that a name means lies, if it may be read.
    pub(super) fn open(path: &Path, witness: FileWitness, head: Head, allow: impl Fn(&Path) -> Result<PathBuf>) -> Result<Self> {
        let mut image = Self {
            parts: Vec::new(),
            len: 0,
            paths: vec![path.to_owned()],
            layers: [Layer { format: "vmdk".to_owned(), files: vec![witness] }],
        };
        let is_snapshot = head.descriptor().parent.is_some();
        match head {
            Head::Whole(file, _) => image.push(file.len, What::Sparse(*file)),
            Head::Text(descriptor) => {
                for extent in descriptor.extents {
                    let len = extent.sectors * SECTOR_LEN;
                    let what = match extent.place {
                        Place::Zero => What::Zero,
                        Place::Flat { file, start } => {
                            let (path, opened) = image.open_file(&allow(Path::new(&file))?)?;
                            let file = RawImage::from_open(&path, opened)?;
                            let start = start * SECTOR_LEN;
                            check_len(&path, file.len().saturating_sub(start), len)?;
                            What::Flat { file, start }
                        }
                        Place::Sparse { file } => {
                            let (path, (file, _)) = image.open_file(&allow(Path::new(&file))?)?;
                            let file = sparse(&path, file)?;
                            check_len(&path, file.len, len)?;
                            What::Sparse(file)
                        }
                    };
                    image.push(len, what);
                }
            }
        }
        // In a snapshot, what is not there is below: zeros must not look as if they were not there.
        let unclear = |part: &Part| !matches!(&part.what, What::Sparse(file) if !file.marks_zeros);
        if is_snapshot && image.parts.iter().any(unclear) {
            let message = format!("{} is a snapshot of a kind that is not read: convert it with `qemu-img convert`", path.display());
            return Err(Error::new(ErrorKind::UnsupportedFormat, message));
        }
        Ok(image)
    }

    fn open_file(&mut self, path: &Path) -> Result<(PathBuf, (File, FileWitness))> {
        let (file, witness) = files::open(path)?;
        self.layers[0].files.push(witness.clone());
        self.paths.push(path.to_owned());
        Ok((path.to_owned(), (file, witness)))
    }

    fn push(&mut self, len: u64, what: What) {
        if len > 0 {
            self.parts.push(Part { start: self.len, len, what });
            self.len += len;
        }
    }

    /// The part that has the byte at `offset`, how far into it that is, and how much of it is left.
    fn part(&self, offset: u64) -> Result<(&Part, u64, u64)> {
        end_within(offset, 1, self.len)?;
        // The first part begins at 0, and parts follow each other.
        let part = &self.parts[self.parts.partition_point(|part| part.start <= offset) - 1];
        let into = offset - part.start;
        Ok((part, into, part.len - into))
    }

    /// Its files.
    pub(super) fn files(&self) -> Vec<(PathBuf, FileWitness)> {
        self.paths.iter().cloned().zip(self.layers[0].files.iter().cloned()).collect()
    }
}

fn check_len(path: &Path, there: u64, needed: u64) -> Result<()> {
    if there >= needed {
        return Ok(());
    }
    let message =
        format!("{} has {there} bytes of the disk where its descriptor says {needed}: it is cut short or damaged", path.display());
    Err(Error::corrupt(message))
}

impl Disk for VmdkImage {
    fn len(&self) -> u64 {
        self.len
    }

    fn read_at(&self, mut buffer: &mut [u8], mut offset: u64) -> Result<()> {
        end_within(offset, buffer.len() as u64, self.len)?;
        while !buffer.is_empty() {
            let (part, into, rest) = self.part(offset)?;
            let len = usize::try_from(rest).unwrap_or(usize::MAX).min(buffer.len());
            let (head, tail) = buffer.split_at_mut(len);
            match &part.what {
                What::Flat { file, start } => file.read_at(head, start + into)?,
                What::Sparse(file) => file.read_at(head, into)?,
                What::Zero => head.fill(0),
            }
            offset += len as u64;
            buffer = tail;
        }
        Ok(())
    }

    fn extent_at(&self, offset: u64) -> Result<Extent> {
        let (part, into, rest) = self.part(offset)?;
        let hole = |len| Extent { len, kind: ExtentKind::Hole, layer: 1 };
        Ok(match &part.what {
            What::Zero => hole(rest),
            What::Flat { file, start } => {
                let extent = file.extent_at(start + into)?;
                Extent { len: extent.len.min(rest), ..extent }
            }
            What::Sparse(file) => match file.run(into, RUN_MAX)? {
                (true, len) => Extent { len: len.min(rest), kind: ExtentKind::Data, layer: 0 },
                (false, len) => hole(len.min(rest)),
            },
        })
    }

    fn layers(&self) -> &[Layer] {
        &self.layers
    }

    fn layers_now(&self) -> Result<Vec<Layer>> {
        files::layers_now(&[("vmdk".to_owned(), self.paths.clone())])
    }
}
