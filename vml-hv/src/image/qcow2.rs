//! One qcow2 image, without what lies below it: its own clusters only, so that a chain can be walked image by image.
//!
//! The library reads mappings and compressed clusters. What it would take for zeros, a table or a cluster beyond the end of
//! a file that was cut short, is looked for when the image is opened: all tables are read once, a few kilobytes for a gigabyte.

use super::files;
use super::qcow2_header::{HEAD_LEN, Header, decode};
use imago::file::File as Storage;
use imago::qcow2::Qcow2;
use imago::{DenyImplicitOpenGate, FormatAccess, FormatDriverBuilder, ShallowMapping};
use std::collections::HashSet;
use std::fs::File;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use vml_core::disk::FileWitness;
use vml_core::{Error, ErrorKind, IoResultExt as _, Result};

/// What one image says of a run of its disk.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Own {
    /// Plain bytes in the file, from there on.
    Plain(u64),
    /// Compressed bytes.
    Compressed,
    /// Zeros that hide what is below.
    Zero,
    /// Nothing: as the image below has it.
    Absent,
}

/// An open image.
pub(super) struct Qcow2Image {
    access: FormatAccess<Storage>,
    data: File,
    data_len: u64,
    path: PathBuf,
    pub(super) header: Header,
    pub(super) files: Vec<(PathBuf, FileWitness)>,
}

/// Reads the header of an image.
pub(super) fn header(path: &Path, file: &File) -> Result<Header> {
    let len = file.metadata().at(|| format!("cannot look at {}", path.display()))?.len();
    let mut head = vec![0; HEAD_LEN.min(usize::try_from(len).unwrap_or(HEAD_LEN))];
    file.read_exact_at(&mut head, 0).at(|| format!("cannot read {}", path.display()))?;
    decode(&head, len).map_err(|error| error.context(format!("cannot read the image {}", path.display())))
}

impl Qcow2Image {
    /// Opens an image whose header was read from the same file; `data_file` is where its data is, if it is another file.
    pub(super) fn open(path: &Path, opened: (File, FileWitness), header: Header, data_file: Option<&Path>) -> Result<Self> {
        let (file, witness) = opened;
        let mut files = vec![(path.to_owned(), witness)];
        let failed =
            |error: std::io::Error| Error::new(ErrorKind::Corrupt, format!("cannot read the image {}", path.display())).because(error);
        let share = |file: &File| file.try_clone().at(|| format!("cannot open {} twice", path.display()));
        let data = match data_file {
            Some(data_path) => {
                let (data, witness) = files::open(data_path)?;
                files.push((data_path.to_owned(), witness));
                data
            }
            None => share(&file)?,
        };
        let data_len = data.metadata().at(|| format!("cannot look at {}", path.display()))?.len();
        check_tables(path, &file, &header, data_len)?;
        let storage = Storage::try_from(share(&file)?).map_err(failed)?;
        let mut builder = Qcow2::<Storage>::builder(storage).backing(None);
        if data_file.is_some() {
            builder = builder.data_file(Some(Storage::try_from(share(&data)?).map_err(failed)?));
        }
        let image = builder.open(DenyImplicitOpenGate::default()).map_err(failed)?;
        Ok(Self { access: FormatAccess::new(image), data, data_len, path: path.to_owned(), header, files })
    }

    /// What the image itself has at `offset`, and for how many bytes.
    pub(super) fn own(&self, offset: u64) -> Result<(Own, u64)> {
        let rest = self.header.len.saturating_sub(offset);
        if rest == 0 {
            return Ok((Own::Absent, u64::MAX));
        }
        let (mapping, len) = self.access.get_shallow_mapping(offset, rest).map_err(|error| self.failed(offset, error))?;
        let own = match mapping {
            ShallowMapping::Raw { offset, .. } => Own::Plain(offset),
            ShallowMapping::Special { .. } => Own::Compressed,
            ShallowMapping::Zero { explicit: true, .. } => Own::Zero,
            ShallowMapping::Zero { .. } | ShallowMapping::Indirect { .. } | ShallowMapping::Eof { .. } => Own::Absent,
            _ => {
                return Err(Error::new(
                    ErrorKind::UnsupportedFormat,
                    format!("{} has a mapping that is not known here", self.path.display()),
                ));
            }
        };
        Ok((own, if len == 0 { rest } else { len }))
    }

    /// Reads what [`own`](Self::own) says stands there.
    pub(super) fn read(&self, own: Own, buffer: &mut [u8], offset: u64) -> Result<()> {
        match own {
            Own::Plain(at) => {
                // The last cluster may be cut where the file ends; what is missing reads as zeros.
                let there = usize::try_from(self.data_len.saturating_sub(at)).unwrap_or(usize::MAX).min(buffer.len());
                let (read, rest) = buffer.split_at_mut(there);
                rest.fill(0);
                self.data.read_exact_at(read, at).at(|| format!("cannot read {} at {at}", self.path.display()))
            }
            Own::Compressed => self.access.read(buffer, offset).map_err(|error| self.failed(offset, error)),
            Own::Zero | Own::Absent => {
                buffer.fill(0);
                Ok(())
            }
        }
    }

    fn failed(&self, offset: u64, error: std::io::Error) -> Error {
        Error::new(ErrorKind::Corrupt, format!("cannot read the image {} at {offset} of its disk", self.path.display())).because(error)
    }
}

/// Reads the tables once and sees that they and what they name are in the file.
pub(super) fn check_tables(path: &Path, file: &File, header: &Header, data_len: u64) -> Result<()> {
    let failed = || format!("cannot read the tables of {}", path.display());
    let file_len = file.metadata().at(failed)?.len();
    let bad = |what: String| Err(Error::corrupt(format!("the image {} is cut short or damaged: {what}", path.display())));
    let mut l1 = vec![0; header.l1_count as usize * 8];
    file.read_exact_at(&mut l1, header.l1_offset).at(failed)?;
    let mut l2 = vec![0; usize::try_from(header.cluster_len).expect("at most 2 MiB")];
    let mut seen = HashSet::new();
    for entry in words(&l1) {
        let table = entry & OFFSET_MASK;
        // A table that stands under two entries is read once.
        if table == 0 || !seen.insert(table) {
            continue;
        }
        if !table.is_multiple_of(header.cluster_len) || table.checked_add(header.cluster_len).is_none_or(|end| end > file_len) {
            return bad(format!("it names a table at {table} and ends at {file_len}"));
        }
        file.read_exact_at(&mut l2, table).at(failed)?;
        // Where clusters have parts, a word behind each entry says which of them are there.
        for entry in words(&l2).step_by(if header.extended_l2 { 2 } else { 1 }) {
            if entry >> 62 & 1 == 1 {
                // A compressed cluster: fewer bits for the place, the others count its sectors.
                let size_bits = header.cluster_len.trailing_zeros() - 8;
                let at = entry & ((1 << (62 - size_bits)) - 1);
                if at >= file_len {
                    return bad(format!("it names compressed data at {at} and ends at {file_len}"));
                }
            } else {
                let at = entry & OFFSET_MASK;
                if at != 0 && (at >= data_len || !at.is_multiple_of(header.cluster_len)) {
                    return bad(format!("it names data at {at} and ends at {data_len}"));
                }
            }
        }
    }
    Ok(())
}

/// Bits of a table's entry that are a place in the file.
const OFFSET_MASK: u64 = 0x00FF_FFFF_FFFF_FE00;

fn words(table: &[u8]) -> impl Iterator<Item = u64> + '_ {
    table.as_chunks::<8>().0.iter().map(|bytes| u64::from_be_bytes(*bytes))
}
