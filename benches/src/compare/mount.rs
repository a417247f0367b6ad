//! Shows one directory after the other at one path, by bind mounts in a mount namespace of this process alone.
//!
//! All tools know unchanged files by their path, so every state must stand at the same one; a symbolic link would be
//! saved as a link by some and resolved by others.

use anyhow::{Context as _, Result, bail};
use std::ffi::OsString;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::Command;

/// Starts this program again in a mount namespace of its own, where mounts vanish with it, however it ends.
///
/// # Errors
/// Always an error, as it does not return otherwise.
pub fn enter_namespace() -> Result<()> {
    if !rustix::process::geteuid().is_root() {
        bail!("comparing needs root: states are bind-mounted on one path, and owners are restored");
    }
    let program = std::env::current_exe().context("cannot find this program's own file")?;
    let mut args: Vec<OsString> = std::env::args_os().skip(1).collect();
    args.push("--inside".into());
    let error = Command::new("unshare").args(["--mount", "--propagation", "private"]).arg(program).args(args).exec();
    Err(error).context("cannot start unshare, which is in the package util-linux")
}

/// A directory shown at another path until it is dropped.
pub struct Mounted {
    at: PathBuf,
}

impl Mounted {
    /// Shows `dir` at `at`, which exists.
    ///
    /// # Errors
    /// When the mount is refused, as in some containers.
    pub fn new(dir: &Path, at: &Path) -> Result<Self> {
        run(Command::new("mount").arg("--bind").arg(dir).arg(at)).context("bind mounts are needed, and this machine refuses them")?;
        Ok(Self { at: at.to_path_buf() })
    }
}

impl Drop for Mounted {
    fn drop(&mut self) {
        if let Err(error) = run(Command::new("umount").arg(&self.at)) {
            eprintln!("compare: {error:#}");
        }
    }
}

fn run(command: &mut Command) -> Result<()> {
    let output = command.output().with_context(|| format!("cannot start {command:?}"))?;
    if !output.status.success() {
        bail!("{command:?} failed: {}", String::from_utf8_lossy(&output.stderr).trim());
    }
    Ok(())
}
