//! What somebody without VML would send: a tar of the files that changed, or the whole disk.

use anyhow::{Context as _, Result, bail};
use std::fs;
use std::path::Path;
use std::process::{Command, Stdio};

/// Bytes of a tar of the files of `state` that are not the same in `base`, through `zstd -19 --long`.
///
/// # Errors
/// When `rsync`, `tar` or `zstd` fail.
pub fn changed_tar(base: &Path, state: &Path, work: &Path) -> Result<u64> {
    let (changed, packed) = (work.join("changed"), work.join("changed.tar.zst"));
    let mut rsync = Command::new("rsync");
    rsync.arg("-aHAX").arg("--compare-dest").arg(base).arg(format!("{}/", state.display())).arg(&changed);
    succeed(&mut rsync)?;
    let mut tar = Command::new("tar")
        .args(["--create", "--sort=name", "--xattrs", "--acls", "-C"])
        .arg(&changed)
        .arg(".")
        .stdout(Stdio::piped())
        .spawn()?;
    let input = tar.stdout.take().context("tar has no output")?;
    let mut zstd = Command::new("zstd");
    zstd.args(["-q", "-f", "-19", "--long=27", "-T2", "-o"]).arg(&packed).stdin(input);
    succeed(&mut zstd)?;
    if !tar.wait()?.success() {
        bail!("tar failed");
    }
    let len = fs::metadata(&packed)?.len();
    fs::remove_dir_all(&changed)?;
    fs::remove_file(&packed)?;
    Ok(len)
}

/// Bytes of the image as compressed qcow2, by zstd.
///
/// # Errors
/// When `qemu-img` fails.
pub fn compressed_image(image: &Path, work: &Path) -> Result<u64> {
    let packed = work.join("image.qcow2");
    let mut convert = Command::new("qemu-img");
    convert.args(["convert", "-c", "-f", "raw", "-O", "qcow2", "-o", "compression_type=zstd"]).arg(image).arg(&packed);
    succeed(&mut convert)?;
    let len = fs::metadata(&packed)?.len();
    fs::remove_file(&packed)?;
    Ok(len)
}

fn succeed(command: &mut Command) -> Result<()> {
    let program = command.get_program().display().to_string();
    if !command.status().with_context(|| format!("cannot start {program}"))?.success() {
        bail!("{program} failed");
    }
    Ok(())
}
