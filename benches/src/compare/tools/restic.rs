//! restic, <https://restic.net>.

use super::{Tool, command, repository};
use std::path::{Path, PathBuf};
use std::process::Command;

/// The `restic` program.
pub struct Restic {
    program: PathBuf,
    /// Versions from 0.15 on can restore holes.
    sparse: bool,
}

impl Restic {
    /// The program at this path.
    pub fn new(program: PathBuf) -> Self {
        let help = Command::new(&program).args(["restore", "--help"]).output();
        let sparse = help.is_ok_and(|help| String::from_utf8_lossy(&help.stdout).contains("--sparse"));
        Self { program, sparse }
    }

    fn command(&self, place: &Path) -> Command {
        let mut command = command(&self.program, place);
        command.env("RESTIC_PASSWORD", "compare").env("RESTIC_REPOSITORY", repository(place)).env("RESTIC_CACHE_DIR", place.join("cache"));
        command
    }

    /// Checks the structure and reads every byte.
    pub fn check(&self, place: &Path) -> Command {
        let mut check = self.command(place);
        check.args(["check", "--read-data", "--quiet"]);
        check
    }

    /// Forgets what was not saved under one of these names.
    pub fn forget_all_but(&self, place: &Path, kept: &[&str]) -> Command {
        let mut forget = self.command(place);
        forget.args(["forget", "--quiet", "--group-by", ""]);
        for name in kept {
            forget.args(["--keep-tag", name]);
        }
        forget
    }

    /// Removes what no snapshot needs.
    pub fn prune(&self, place: &Path) -> Command {
        let mut prune = self.command(place);
        prune.args(["prune", "--quiet"]);
        prune
    }
}

impl Tool for Restic {
    fn name(&self) -> &'static str {
        "restic"
    }

    fn program(&self) -> &Path {
        &self.program
    }

    fn settings(&self) -> &'static str {
        "`restic init --repository-version 2`, default compression (`auto`), cache beside the repository, restored with `--sparse` where it \
         has that (from 0.15 on)"
    }

    fn guarantees(&self) -> &'static str {
        "Always encrypts and authenticates (AES-256-CTR, Poly1305). restore: every blob is authenticated and compared with its SHA-256. \
         save: what was compressed is not decompressed again."
    }

    fn init(&self, place: &Path, _mount: &Path) -> Vec<Command> {
        let mut init = self.command(place);
        init.args(["init", "--repository-version", "2"]);
        vec![init]
    }

    fn save(&self, place: &Path, mount: &Path, name: &str) -> Command {
        let mut save = self.command(place);
        save.args(["backup", "--quiet", "--tag", name]).arg(mount);
        save
    }

    fn build(&self, place: &Path, name: &str, _later: usize, target: &Path) -> Command {
        let mut restore = self.command(place);
        restore.args(["restore", "latest", "--quiet", "--tag", name, "--target"]).arg(target);
        if self.sparse {
            restore.arg("--sparse");
        }
        restore
    }

    fn list(&self, place: &Path) -> Command {
        let mut list = self.command(place);
        list.arg("snapshots");
        list
    }
}
