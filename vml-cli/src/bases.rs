//! Images of this host that show the disks of bases: `bases/NAME@VERSION.toml` in the home folder.
//!
//! An overlay can stand on such an image for as long as nobody changes it, so its files are noted as they were; one that
//! has changed since shows nothing any more.

use crate::images::DiskImage;
use crate::{files, settings};
use anyhow::{Context as _, Result};
use serde::{Deserialize, Serialize};
use std::fs;
use std::path::{Path, PathBuf};
use vml_core::disk::Layer;
use vml_core::refs::split_base;
use vml_core::repository::ShownDisk;
use vml_core::{EntryId, IoResultExt as _};

const HEAD: &str = "# Images of this host that show the disks of a base. Removing this file forgets them; the images stay.\n\n";

#[derive(Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Note {
    /// The base's entry.
    entry: String,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    allow_dir: Vec<PathBuf>,
    #[serde(default, rename = "disk")]
    disks: Vec<NotedDisk>,
}

#[derive(Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct NotedDisk {
    name: String,
    file: PathBuf,
    format: String,
    /// The files of the image and of those below it as they were: device, inode, length, times.
    state: Vec<String>,
}

/// An image that shows a disk of a base, as it was when it was noted.
pub struct BaseImage {
    /// Entry, disk and images.
    pub shown: ShownDisk,
    /// The image.
    pub file: PathBuf,
    /// Its format.
    pub format: String,
    /// Where the files below it may lie.
    allow_dir: Vec<PathBuf>,
}

impl BaseImage {
    /// What must be allowed to an overlay that stands on it.
    pub fn allowed(&self) -> impl Iterator<Item = PathBuf> + '_ {
        // Images below it lie beside it.
        let folder = self.file.parent().filter(|_| self.shown.layers.len() > 1).map(Path::to_owned);
        self.allow_dir.iter().cloned().chain(folder).chain(std::iter::once(self.file.clone()))
    }
}

fn folder() -> Result<PathBuf> {
    Ok(settings::home()?.join("bases"))
}

fn path(base: &str) -> Result<PathBuf> {
    split_base(base)?;
    Ok(folder()?.join(format!("{base}.toml")))
}

fn state(layers: &[Layer]) -> Vec<String> {
    let files = layers.iter().flat_map(|layer| &layer.files);
    files.map(|file| format!("{}:{}:{}:{}:{}", file.device, file.inode, file.len, file.mtime_ns, file.ctime_ns)).collect()
}

/// Notes the images of a base's disks, besides those of its other disks that were noted before.
pub fn note(base: &str, entry: &EntryId, images: &[DiskImage], allow_dir: &[PathBuf]) -> Result<()> {
    let path = path(base)?;
    let mut disks = read(&path).map(|note| note.disks).unwrap_or_default();
    for image in images {
        let image = image.located()?;
        let layers = image.layers(allow_dir)?;
        let format = layers.first().map_or("raw", |layer| layer.format.as_str()).to_owned();
        disks.retain(|other| other.name != image.name);
        disks.push(NotedDisk { name: image.name, file: image.file, format, state: state(&layers) });
    }
    let located = |dir: &PathBuf| fs::canonicalize(dir).at(|| format!("cannot find the folder {}", dir.display()));
    let allow_dir = allow_dir.iter().map(located).collect::<Result<_, _>>()?;
    let note = Note { entry: entry.to_string(), allow_dir, disks };
    let text = format!("{HEAD}{}", toml::to_string_pretty(&note)?);
    // At once: half of a note would hide its images.
    Ok(files::replace(&path, &text, files::PUBLIC)?)
}

fn read(path: &Path) -> Option<Note> {
    toml::from_str(&fs::read_to_string(path).ok()?).ok()
}

/// Forgets the images of a base.
pub fn forget(base: &str) -> Result<()> {
    match fs::remove_file(path(base)?) {
        Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
            Err(error).with_context(|| format!("cannot forget the images of {base}"))
        }
        _ => Ok(()),
    }
}

/// The images of a base that are there, unchanged.
pub fn images(base: &str) -> Vec<BaseImage> {
    path(base).map(|path| unchanged(&path)).unwrap_or_default()
}

/// Those of all bases.
pub fn all() -> Vec<BaseImage> {
    let Some(notes) = folder().ok().and_then(|folder| fs::read_dir(folder).ok()) else { return Vec::new() };
    let mut paths: Vec<PathBuf> =
        notes.flatten().map(|note| note.path()).filter(|path| path.extension().is_some_and(|end| end == "toml")).collect();
    paths.sort_unstable();
    paths.iter().flat_map(|path| unchanged(path)).collect()
}

fn unchanged(path: &Path) -> Vec<BaseImage> {
    let Some(note) = read(path) else { return Vec::new() };
    let Ok(entry) = note.entry.parse::<EntryId>() else { return Vec::new() };
    let image = |disk: NotedDisk| {
        let image = DiskImage { name: disk.name.clone(), file: disk.file.clone(), format: Some(disk.format.clone()) };
        let layers = image.layers(&note.allow_dir).ok()?;
        (state(&layers) == disk.state).then(|| BaseImage {
            shown: ShownDisk { entry, disk: disk.name, layers },
            file: disk.file,
            format: disk.format,
            allow_dir: note.allow_dir.clone(),
        })
    };
    note.disks.into_iter().filter_map(image).collect()
}
