//! restic, <https://restic.net>.

use super::{Look, Tool, command, repository};
use anyhow::{Context as _, Result};
use serde_json::Value;
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
    pub fn check_data(&self, place: &Path) -> Command {
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

    fn build(&self, look: &Look<'_>, target: &Path) -> Command {
        let mut restore = self.command(look.place);
        restore.args(["restore", "latest", "--quiet", "--tag", look.name, "--target"]).arg(target);
        if self.sparse {
            restore.arg("--sparse");
        }
        restore
    }

    fn list(&self, place: &Path) -> Option<Command> {
        let mut list = self.command(place);
        list.arg("snapshots");
        Some(list)
    }

    fn restore_file(&self, look: &Look<'_>, path: &Path, target: &Path) -> Option<Command> {
        let mut restore = self.build(look, target);
        restore.arg("--include").arg(look.mount.join(path));
        Some(restore)
    }

    fn diff(&self, old: &Look<'_>, new: &Look<'_>) -> Result<Option<Command>> {
        let mut diff = self.command(old.place);
        diff.args(["diff", &self.id(old)?, &self.id(new)?]);
        Ok(Some(diff))
    }

    fn check(&self, place: &Path) -> Option<Command> {
        Some(self.check_data(place))
    }
}

impl Restic {
    /// The id of a snapshot: `diff` takes nothing else.
    fn id(&self, look: &Look<'_>) -> Result<String> {
        let mut list = self.command(look.place);
        list.args(["snapshots", "--json", "--tag", look.name]);
        let output = list.output().context("cannot start restic")?;
        let snapshots: Value = serde_json::from_slice(&output.stdout).context("restic snapshots gives no JSON")?;
        let id = snapshots.as_array().and_then(|all| all.last()?.get("id")?.as_str());
        Ok(id.with_context(|| format!("restic knows no snapshot {}", look.name))?.to_owned())
    }
}
