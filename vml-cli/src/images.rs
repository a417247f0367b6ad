//! Disk images as a user names them.

use anyhow::Result;
use serde::{Deserialize, Serialize};
use std::fs;
use std::path::{Path, PathBuf};
use vml_core::disk::{Disk, Layer};
use vml_core::refs::check_name;
use vml_core::{Error, IoResultExt as _};
use vml_hv::image::{self, Format, OpenOptions};

/// A disk and its image.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct DiskImage {
    /// By what the machine's disks are told apart.
    pub name: String,
    /// The image.
    pub file: PathBuf,
    /// Its format, where it is not to be told from name and content.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub format: Option<String>,
}

/// Reads `[NAME=]FILE[,format=FORMAT]`.
pub fn parse_disk(text: &str) -> Result<DiskImage, String> {
    let (rest, format) = match text.rsplit_once(",format=") {
        Some((rest, format)) => {
            format.parse::<Format>().map_err(|error| error.to_string())?;
            (rest, Some(format.to_owned()))
        }
        None => (text, None),
    };
    let (name, file) = match rest.split_once('=') {
        Some((name, file)) if check_name("disk", name).is_ok() => (name.to_owned(), file),
        _ => (name_of(Path::new(rest)), rest),
    };
    if file.is_empty() {
        return Err("it names no file".to_owned());
    }
    check_name("disk", &name).map_err(|error| format!("{error}; write NAME=FILE to give it another"))?;
    Ok(DiskImage { name, file: PathBuf::from(file), format })
}

/// A name for the disk in a file: the file's without its ending.
fn name_of(file: &Path) -> String {
    file.file_stem().map(|stem| stem.to_string_lossy().into_owned()).unwrap_or_default()
}

impl std::fmt::Display for DiskImage {
    /// As [`parse_disk`] reads it.
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}={}", self.name, self.file.display())?;
        self.format.as_ref().map_or(Ok(()), |format| write!(f, ",format={format}"))
    }
}

impl DiskImage {
    /// The same with the path from the root and without links, as it is written down.
    pub fn located(&self) -> Result<Self> {
        let file = fs::canonicalize(&self.file).at(|| format!("cannot find the image {}", self.file.display()))?;
        if file.to_str().is_none() {
            let message = format!("the path of the image is not UTF-8, which its description must be: {}", file.display());
            return Err(Error::invalid(message).into());
        }
        Ok(Self { file, ..self.clone() })
    }

    fn options(&self, allowed_dirs: &[PathBuf]) -> Result<OpenOptions> {
        let format = self.format.as_deref().map(str::parse).transpose()?;
        Ok(OpenOptions { format, allowed_dirs: allowed_dirs.to_vec(), qemu_nbd: None, run_dir: Some(std::env::temp_dir()) })
    }

    /// Opens the image; files it names may lie in its own folder or in `allowed_dirs`.
    pub fn open(&self, allowed_dirs: &[PathBuf]) -> Result<Box<dyn Disk>> {
        Ok(image::open(&self.file, &self.options(allowed_dirs)?)?)
    }

    /// The image and those below it, as their files are now.
    pub fn layers(&self, allowed_dirs: &[PathBuf]) -> Result<Vec<Layer>> {
        Ok(image::layers(&self.file, &self.options(allowed_dirs)?)?)
    }
}
