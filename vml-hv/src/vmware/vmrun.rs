//! The program `vmrun`.

use crate::command::run;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;
use vml_core::{Error, ErrorKind, Result};

/// How the program is called.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Vmrun {
    pub(super) program: String,
    /// Whose machines: `ws` or `fusion`.
    pub(super) host: String,
}

impl Vmrun {
    /// Runs `vmrun -T HOST COMMAND [VMX] ARGUMENTS…`, and returns what it says.
    pub(super) fn run(&self, command: &str, vmx: Option<&Path>, arguments: &[&str], limit: Duration) -> Result<String> {
        let mut process = Command::new(&self.program);
        process.args(["-T", &self.host, command]).args(vmx).args(arguments);
        let ran = run(process, limit)?;
        if ran.status.success() {
            return Ok(ran.stdout);
        }
        let words = ran.words();
        let words = words.trim_start_matches("Error:").trim();
        let lower = words.to_ascii_lowercase();
        let kind = match () {
            () if lower.contains("not powered on") || lower.contains("not running") => ErrorKind::InvalidInput,
            () if lower.contains("permission") => ErrorKind::PermissionDenied,
            () if lower.contains("cannot open vm") || lower.contains("not found") => ErrorKind::NotFound,
            () if lower.contains("in use") => ErrorKind::Locked,
            () if lower.contains("space") => ErrorKind::NoSpace,
            () => ErrorKind::Io,
        };
        Err(Error::new(kind, format!("vmrun {command}: {words}")))
    }

    /// The machines that run now.
    pub(super) fn running(&self, limit: Duration) -> Result<Vec<PathBuf>> {
        let said = self.run("list", None, &[], limit)?;
        // "Total running VMs: 1", then a path a line.
        Ok(said.lines().skip(1).map(str::trim).filter(|line| !line.is_empty()).map(PathBuf::from).collect())
    }

    /// The names of a machine's snapshots.
    pub(super) fn snapshots(&self, vmx: &Path, limit: Duration) -> Result<Vec<String>> {
        let said = self.run("listSnapshots", Some(vmx), &[], limit)?;
        Ok(said.lines().skip(1).map(|line| line.trim().to_owned()).filter(|line| !line.is_empty()).collect())
    }
}
