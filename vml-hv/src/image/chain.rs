//! A disk in a chain of images: what one image does not have, the one below it has.

use super::qcow2::{Own, Qcow2Image};
use super::raw::RawImage;
use super::vmdk::{self, VmdkImage};
use super::{Format, OpenOptions, files, probe, qcow2, qcow2_header, qemu_nbd};
use std::fs::File;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use vml_core::disk::{Disk, Extent, ExtentKind, FileWitness, Layer, end_within};
use vml_core::{Error, ErrorKind, IoResultExt as _, Result};

/// Images of one chain; more are a loop, or should be merged.
const CHAIN_MAX: usize = 64;

/// An image of a chain.
enum Image {
    Qcow2(Qcow2Image),
    /// Something else: the lowest one, or a vmdk snapshot, whose holes are what it does not have.
    Whole(Box<dyn Disk>),
}

/// What is known of a chain's image before it is opened.
pub(super) struct Found {
    pub(super) path: PathBuf,
    pub(super) format: Format,
    pub(super) opened: (File, FileWitness),
    pub(super) header: Option<qcow2_header::Header>,
    pub(super) data_file: Option<PathBuf>,
    vmdk: Option<vmdk::Head>,
}

/// Opens the disk in the image at `path`.
pub(super) fn open(path: &Path, options: &OpenOptions) -> Result<Box<dyn Disk>> {
    let policy = Policy::new(path, options)?;
    let found = find(path, options, &policy)?;
    match qemu_nbd::needed(&found) {
        Some(_) => qemu_nbd::open(&found, options),
        None => open_found(found, &policy),
    }
}

/// The layers of the disk in the image at `path`; no program is started for them.
pub(super) fn layers(path: &Path, options: &OpenOptions) -> Result<Vec<Layer>> {
    let policy = Policy::new(path, options)?;
    let found = find(path, options, &policy)?;
    match qemu_nbd::needed(&found) {
        Some(_) => qemu_nbd::layers(&found),
        None => open_found(found, &policy).map(|disk| disk.layers().to_vec()),
    }
}

fn open_found(found: Vec<Found>, policy: &Policy) -> Result<Box<dyn Disk>> {
    let mut images = Vec::new();
    let mut layers = Vec::new();
    for found in found {
        let Found { path, opened, header, data_file, vmdk, .. } = found;
        match (header, vmdk) {
            (Some(header), _) => {
                let image = Qcow2Image::open(&path, opened, header, data_file.as_deref())?;
                layers.push((Format::Qcow2.name(), image.files.clone()));
                images.push(Image::Qcow2(image));
            }
            (None, Some(head)) => {
                let stands_alone = head.descriptor().parent.is_none();
                let image = VmdkImage::open(&path, opened.1, head, |name| policy.allow(&path, name))?;
                if images.is_empty() && stands_alone {
                    return Ok(Box::new(image));
                }
                layers.push((Format::Vmdk.name(), image.files()));
                images.push(Image::Whole(Box::new(image)));
            }
            (None, None) => {
                let image = RawImage::from_open(&path, opened)?;
                if images.is_empty() {
                    return Ok(Box::new(image));
                }
                layers.push((Format::Raw.name(), vec![(path, image.witness())]));
                images.push(Image::Whole(Box::new(image)));
            }
        }
    }
    let len = match images.first() {
        Some(Image::Qcow2(image)) => image.header.len,
        Some(Image::Whole(disk)) => disk.len(),
        None => 0,
    };
    let files = layers.iter().map(|(format, files)| ((*format).to_owned(), files.iter().map(|(path, _)| path.clone()).collect())).collect();
    let layers = layers
        .into_iter()
        .map(|(format, files)| Layer { format: format.to_owned(), files: files.into_iter().map(|(_, witness)| witness).collect() })
        .collect();
    Ok(Box::new(Chain { images, len, layers, files }))
}

/// The images of the chain at `path`, topmost first, as far as their headers tell.
fn find(path: &Path, options: &OpenOptions, policy: &Policy) -> Result<Vec<Found>> {
    let mut chain: Vec<Found> = Vec::new();
    let mut next = Some((std::fs::canonicalize(path).at(|| format!("cannot find the image {}", path.display()))?, options.format));
    while let Some((path, told)) = next.take() {
        if chain.len() == CHAIN_MAX || chain.iter().any(|image| image.path == path) {
            let what = if chain.len() == CHAIN_MAX { "is longer than 64 images" } else { "leads back to itself" };
            return Err(Error::corrupt(format!("the chain of images {what} at {}", path.display())));
        }
        let opened = files::open(&path)?;
        let format = match told {
            Some(format) => format,
            None => probe::probe(&path, &head(&path, &opened.0)?)?,
        };
        let mut found = Found { path, format, opened, header: None, data_file: None, vmdk: None };
        if format == Format::Qcow2 {
            let header = qcow2::header(&found.path, &found.opened.0)?;
            found.data_file = header.data_file.as_deref().map(|name| policy.allow(&found.path, Path::new(name))).transpose()?;
            if let Some(backing) = &header.backing {
                let path = policy.allow(&found.path, Path::new(&backing.name))?;
                let format = backing.format.as_deref().ok_or_else(|| {
                    Error::invalid(format!(
                        "{} does not name the format of its backing file {}; write it down with `qemu-img rebase -u -F FORMAT -b {} {}`",
                        found.path.display(),
                        backing.name,
                        backing.name,
                        found.path.display()
                    ))
                })?;
                next = Some((path, Some(format.parse::<Format>()?)));
            }
            found.header = Some(header);
        }
        if format == Format::Vmdk {
            let head = vmdk::head(&found.path, &found.opened.0)?;
            let above = chain.last().and_then(|above| above.vmdk.as_ref().map(|head| (&above.path, &head.descriptor().parent_id)));
            if let Some((above, _)) = above.filter(|(_, id)| !id.eq_ignore_ascii_case(&head.descriptor().content_id)) {
                let message = format!("{} has changed since the snapshot {} was made of it", found.path.display(), above.display());
                return Err(Error::corrupt(message));
            }
            if let Some(parent) = &head.descriptor().parent {
                next = Some((policy.allow(&found.path, Path::new(parent))?, Some(Format::Vmdk)));
            }
            found.vmdk = Some(head);
        }
        chain.push(found);
    }
    Ok(chain)
}

fn head(path: &Path, file: &File) -> Result<Vec<u8>> {
    let mut head = vec![0; 512];
    let read = file.read_at(&mut head, 0).at(|| format!("cannot read {}", path.display()))?;
    head.truncate(read);
    Ok(head)
}

/// Which files an image may name.
struct Policy {
    folders: Vec<PathBuf>,
}

impl Policy {
    fn new(path: &Path, options: &OpenOptions) -> Result<Self> {
        let canonical = |path: &Path| std::fs::canonicalize(path).at(|| format!("cannot find {}", path.display()));
        let image = canonical(path)?;
        let own = image.parent().map(Path::to_owned);
        let allowed = options.allowed_dirs.iter().map(|dir| canonical(dir)).collect::<Result<Vec<_>>>()?;
        Ok(Self { folders: own.into_iter().chain(allowed).collect() })
    }

    /// The file that `image` means by `name`, if it may be read.
    fn allow(&self, image: &Path, name: &Path) -> Result<PathBuf> {
        let text = name.to_string_lossy();
        let protocol = text.split_once(':').is_some_and(|(before, _)| !before.contains('/'));
        if protocol {
            return Err(Error::new(ErrorKind::UnsupportedFormat, format!("{} names {text:?}: only files can be read", image.display())));
        }
        let path = image.parent().unwrap_or(Path::new("/")).join(name);
        let found = std::fs::canonicalize(&path).at(|| format!("cannot find {}, which {} names", path.display(), image.display()))?;
        if self.folders.iter().any(|folder| found.starts_with(folder)) {
            return Ok(found);
        }
        Err(Error::new(
            ErrorKind::PermissionDenied,
            format!(
                "{} names {}, which is in another folder: allow that with --allow-dir {}",
                image.display(),
                found.display(),
                found.parent().unwrap_or(Path::new("/")).display()
            ),
        ))
    }
}

/// A disk in several images.
struct Chain {
    images: Vec<Image>,
    len: u64,
    layers: Vec<Layer>,
    /// Format and files of each image.
    files: Vec<(String, Vec<PathBuf>)>,
}

/// Where a run of the disk stands.
enum Place<'a> {
    Qcow2(&'a Qcow2Image, Own),
    Whole(&'a dyn Disk),
    Nowhere,
}

impl Chain {
    /// The run at `offset`: its extent, and where to read it.
    fn find(&self, offset: u64, limit: u64) -> Result<(Extent, Place<'_>)> {
        let mut len = limit;
        for (layer, image) in self.images.iter().enumerate() {
            match image {
                // Behind its end it reads as zeros, and what stands upon it never sees what is below.
                Image::Qcow2(image) if offset >= image.header.len && layer + 1 < self.images.len() => {
                    return Ok((Extent { len, kind: ExtentKind::Zero, layer }, Place::Nowhere));
                }
                Image::Qcow2(image) => {
                    let (own, own_len) = image.own(offset)?;
                    len = len.min(own_len);
                    let kind = match own {
                        Own::Absent => continue,
                        Own::Zero => ExtentKind::Zero,
                        Own::Plain(_) | Own::Compressed => ExtentKind::Data,
                    };
                    return Ok((Extent { len, kind, layer }, Place::Qcow2(image, own)));
                }
                // It may be shorter than what stands upon it.
                Image::Whole(disk) if offset < disk.len() => {
                    let extent = disk.extent_at(offset)?;
                    len = len.min(extent.len).min(disk.len() - offset);
                    if extent.kind != ExtentKind::Hole {
                        return Ok((Extent { len, kind: extent.kind, layer }, Place::Whole(disk.as_ref())));
                    }
                }
                Image::Whole(_) => {}
            }
        }
        Ok((Extent { len, kind: ExtentKind::Hole, layer: self.images.len() }, Place::Nowhere))
    }
}

impl Disk for Chain {
    fn len(&self) -> u64 {
        self.len
    }

    fn read_at(&self, mut buffer: &mut [u8], mut offset: u64) -> Result<()> {
        end_within(offset, buffer.len() as u64, self.len)?;
        while !buffer.is_empty() {
            let (extent, place) = self.find(offset, buffer.len() as u64)?;
            let (part, rest) = buffer.split_at_mut(usize::try_from(extent.len).expect("at most the buffer"));
            match place {
                Place::Qcow2(image, own) => image.read(own, part, offset)?,
                Place::Whole(disk) if extent.kind == ExtentKind::Data => disk.read_at(part, offset)?,
                Place::Whole(_) | Place::Nowhere => part.fill(0),
            }
            offset += extent.len;
            buffer = rest;
        }
        Ok(())
    }

    fn extent_at(&self, offset: u64) -> Result<Extent> {
        end_within(offset, 1, self.len)?;
        self.find(offset, self.len - offset).map(|(extent, _)| extent)
    }

    fn layers(&self) -> &[Layer] {
        &self.layers
    }

    fn layers_now(&self) -> Result<Vec<Layer>> {
        files::layers_now(&self.files)
    }
}
