//! The files of images: opened for reading, and known by what would change if they did.

use rustix::fs::{AtFlags, FileType, StatxFlags, StatxTimestamp};
use std::fs::File;
use std::os::fd::AsFd;
use std::path::{Path, PathBuf};
use vml_core::disk::{FileWitness, Layer};
use vml_core::{Error, IoResultExt as _, Result};

/// Opens a file or a block device for reading, with its witness as it was before a byte was read.
pub(super) fn open(path: &Path) -> Result<(File, FileWitness)> {
    // Opening a pipe would wait for its other end.
    let stat = rustix::fs::stat(path).at(|| format!("cannot find the image {}", path.display()))?;
    if !matches!(FileType::from_raw_mode(stat.st_mode), FileType::RegularFile | FileType::BlockDevice) {
        return Err(Error::invalid(format!("{} is neither a file nor a block device", path.display())));
    }
    let file = File::open(path).at(|| format!("cannot open the image {}", path.display()))?;
    let witness = witness(&file, path)?;
    Ok((file, witness))
}

/// How an open file is now.
pub(super) fn witness(file: &impl AsFd, path: &Path) -> Result<FileWitness> {
    let stat =
        rustix::fs::statx(file, "", AtFlags::EMPTY_PATH, StatxFlags::BASIC_STATS).at(|| format!("cannot look at {}", path.display()))?;
    let ns = |time: StatxTimestamp| i128::from(time.tv_sec) * 1_000_000_000 + i128::from(time.tv_nsec);
    Ok(FileWitness {
        device: u64::from(stat.stx_dev_major) << 32 | u64::from(stat.stx_dev_minor),
        inode: stat.stx_ino,
        len: stat.stx_size,
        mtime_ns: ns(stat.stx_mtime),
        ctime_ns: ns(stat.stx_ctime),
    })
}

/// The layers of a chain as its files are now.
pub(super) fn layers_now(layers: &[(String, Vec<PathBuf>)]) -> Result<Vec<Layer>> {
    let now = |path: &PathBuf| open(path).map(|(_, witness)| witness);
    let layer = |(format, paths): &(String, Vec<PathBuf>)| {
        Ok(Layer { format: format.clone(), files: paths.iter().map(now).collect::<Result<_>>()? })
    };
    layers.iter().map(layer).collect()
}
