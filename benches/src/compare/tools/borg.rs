//! Borg, <https://www.borgbackup.org>.

use super::{Look, Tool, command, repository};
use anyhow::Result;
use std::path::{Path, PathBuf};
use std::process::Command;

/// The `borg` program.
pub(super) struct Borg {
    program: PathBuf,
}

impl Borg {
    pub(super) fn new(program: PathBuf) -> Self {
        Self { program }
    }

    fn command(&self, place: &Path) -> Command {
        let mut command = command(&self.program, place);
        command
            .env("BORG_REPO", repository(place))
            .env("BORG_BASE_DIR", place.join("home"))
            .env("BORG_UNKNOWN_UNENCRYPTED_REPO_ACCESS_IS_OK", "yes");
        command
    }
}

impl Tool for Borg {
    fn name(&self) -> &'static str {
        "borg"
    }

    fn program(&self) -> &Path {
        &self.program
    }

    fn settings(&self) -> &'static str {
        "`borg init --encryption=none`, `borg create --compression zstd,3`, default files cache (`ctime,size,inode`), caches beside the \
         repository, `borg extract --sparse`"
    }

    fn guarantees(&self) -> &'static str {
        "Nothing is encrypted here. extract: segment entries are checked by CRC-32, chunks by their SHA-256. save: what was compressed is \
         not decompressed again."
    }

    fn init(&self, place: &Path, _mount: &Path) -> Vec<Command> {
        let mut init = self.command(place);
        init.args(["init", "--encryption=none"]);
        vec![init]
    }

    fn save(&self, place: &Path, mount: &Path, name: &str) -> Command {
        let mut save = self.command(place);
        save.args(["create", "--compression", "zstd,3", &format!("::{name}")]).arg(mount);
        save
    }

    fn build(&self, look: &Look<'_>, target: &Path) -> Command {
        let mut extract = self.command(look.place);
        extract.args(["extract", "--sparse", &format!("::{}", look.name)]).current_dir(target);
        extract
    }

    fn list(&self, place: &Path) -> Option<Command> {
        let mut list = self.command(place);
        list.arg("list");
        Some(list)
    }

    fn restore_file(&self, look: &Look<'_>, path: &Path, target: &Path) -> Option<Command> {
        let mut extract = self.build(look, target);
        // Paths in an archive have no leading slash.
        let path = look.mount.join(path);
        extract.arg(path.strip_prefix("/").unwrap_or(&path));
        Some(extract)
    }

    fn diff(&self, old: &Look<'_>, new: &Look<'_>) -> Result<Option<Command>> {
        let mut diff = self.command(old.place);
        diff.args(["diff", &format!("::{}", old.name), new.name]);
        Ok(Some(diff))
    }

    fn check(&self, place: &Path) -> Option<Command> {
        let mut check = self.command(place);
        check.args(["check", "--verify-data"]);
        Some(check)
    }
}
