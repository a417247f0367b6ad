//! rustic, <https://rustic.cli.rs>.

use super::{Look, Tool, command, repository};
use anyhow::Result;
use std::ffi::OsString;
use std::path::{Path, PathBuf};
use std::process::Command;

/// The `rustic` program.
pub(super) struct Rustic {
    program: PathBuf,
}

impl Rustic {
    pub(super) fn new(program: PathBuf) -> Self {
        Self { program }
    }

    fn command(&self, place: &Path) -> Command {
        let mut command = command(&self.program, place);
        command
            .env("RUSTIC_PASSWORD", "compare")
            .env("RUSTIC_REPOSITORY", repository(place))
            .env("RUSTIC_CACHE_DIR", place.join("cache"))
            .env("RUSTIC_NO_PROGRESS", "true");
        command
    }
}

impl Tool for Rustic {
    fn name(&self) -> &'static str {
        "rustic"
    }

    fn program(&self) -> &Path {
        &self.program
    }

    fn settings(&self) -> &'static str {
        "`rustic init` with its defaults, cache beside the repository"
    }

    fn guarantees(&self) -> &'static str {
        "Always encrypts and authenticates, in restic's format. restore: every blob is authenticated. save: by its default the data \
         that was compressed and encrypted is decoded again and compared."
    }

    fn init(&self, place: &Path, _mount: &Path) -> Vec<Command> {
        let mut init = self.command(place);
        init.arg("init");
        vec![init]
    }

    fn save(&self, place: &Path, mount: &Path, _name: &str) -> Command {
        let mut save = self.command(place);
        save.arg("backup").arg(mount);
        save
    }

    fn build(&self, look: &Look<'_>, target: &Path) -> Command {
        let mut restore = self.command(look.place);
        restore.args(["restore", &format!("latest~{}", look.later)]).arg(target);
        restore
    }

    fn list(&self, place: &Path) -> Option<Command> {
        let mut list = self.command(place);
        list.args(["snapshots", "--all"]);
        Some(list)
    }

    fn restore_file(&self, look: &Look<'_>, path: &Path, target: &Path) -> Option<Command> {
        let mut what = OsString::from(format!("latest~{}:", look.later));
        what.push(look.mount.join(path));
        let mut restore = self.command(look.place);
        // What it restores is a single file then, which goes to the path that is given.
        restore.arg("restore").arg(what).arg(target.join(path.file_name()?));
        Some(restore)
    }

    fn diff(&self, old: &Look<'_>, new: &Look<'_>) -> Result<Option<Command>> {
        let mut diff = self.command(old.place);
        diff.args(["diff", &format!("latest~{}", old.later), &format!("latest~{}", new.later)]);
        Ok(Some(diff))
    }

    fn check(&self, place: &Path) -> Option<Command> {
        let mut check = self.command(place);
        check.args(["check", "--read-data"]);
        Some(check)
    }
}
