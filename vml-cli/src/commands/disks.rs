//! What commands do with disks on the way into the repository: open them, and refuse those that somebody writes to.

use super::save::What;
use crate::bases::{self, BaseImage};
use crate::images::DiskImage;
use anyhow::{Context as _, Result, bail};
use std::fs;
use std::io::Read;
use std::path::{Path, PathBuf};
use std::time::Duration;
use vml_core::disk::Disk;
use vml_core::entry::{MACHINE_MAX_LEN, MachinePart};
use vml_core::repository::{SaveDisk, ShownDisk};
use vml_core::{Error, ErrorKind, IoResultExt as _};
use vml_hv::image;

/// So long after its last change a file can be known by its times.
const SETTLE_MS: i128 = 80;

/// A disk to save, open.
struct OpenDisk<'a> {
    image: &'a DiskImage,
    disk: Box<dyn Disk>,
}

/// All of them, and what is known of images below them.
#[derive(Default)]
pub struct OpenDisks<'a> {
    open: Vec<OpenDisk<'a>>,
    shown: Vec<ShownDisk>,
}

/// Opens the disks to save.
pub fn open<'a>(what: &What<'a>) -> Result<OpenDisks<'a>> {
    let shown = bases::all();
    // An overlay that was built here stands on an image that the user named as a base's.
    let allowed: Vec<PathBuf> = what.allow_dir.iter().cloned().chain(shown.iter().flat_map(BaseImage::allowed)).collect();
    let open = what.disks.iter().map(|image| open_one(image, &allowed, what.in_use)).collect::<Result<_>>()?;
    Ok(OpenDisks { open, shown: shown.into_iter().map(|image| image.shown).collect() })
}

fn open_one<'a>(image: &'a DiskImage, allowed: &[PathBuf], in_use: bool) -> Result<OpenDisk<'a>> {
    let open = || image.open(allowed).with_context(|| format!("cannot open the disk {}", image.name));
    let mut disk = open()?;
    if !in_use && let Some(writer) = image::writer_of(&image.file)? {
        let message = format!(
            "{} is open for writing by {writer}, a running machine perhaps: stop it first, or say --in-use to save what is there",
            image.file.display()
        );
        bail!(Error::new(ErrorKind::Locked, message));
    }
    // A file that changed a moment ago could change again unnoticed; a moment later it is known by its times.
    let now = crate::settings::file_time_ns();
    let newest = disk.layers().iter().flat_map(|layer| &layer.files).map(|file| file.ctime_ns).max().unwrap_or(i128::MIN);
    let age_ms = now.saturating_sub(newest) / 1_000_000;
    if (0..SETTLE_MS).contains(&age_ms) {
        std::thread::sleep(Duration::from_millis(u64::try_from(SETTLE_MS - age_ms).unwrap_or(0)));
        disk = open()?;
    }
    Ok(OpenDisk { image, disk })
}

/// The disks as the library takes them.
pub fn requests<'a>(disks: &'a OpenDisks<'a>) -> Vec<SaveDisk<'a>> {
    let format = |disk: &'a OpenDisk<'a>| disk.disk.layers().first().map_or("raw", |layer| layer.format.as_str());
    let request = |disk: &'a OpenDisk<'a>| SaveDisk {
        name: &disk.image.name,
        format: format(disk),
        disk: disk.disk.as_ref(),
        changed: None,
        shown: &disks.shown,
    };
    disks.open.iter().map(request).collect()
}

/// Reads a machine's description.
pub fn machine(path: &Path) -> Result<MachinePart> {
    let name = path.file_name().map(|name| name.to_string_lossy().into_owned()).unwrap_or_default();
    let mut bytes = Vec::new();
    let file = fs::File::open(path).at(|| format!("cannot open the machine's description {}", path.display()))?;
    // One byte more than may be, so that the library can tell.
    file.take(MACHINE_MAX_LEN as u64 + 1).read_to_end(&mut bytes).at(|| format!("cannot read {}", path.display()))?;
    Ok(MachinePart { name, bytes })
}
