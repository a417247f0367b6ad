//! zpaq, <http://mattmahoney.net/dc/zpaq.html>.

use super::{Look, Tool, command, repository};
use anyhow::Result;
use std::path::{Path, PathBuf};
use std::process::Command;

/// The `zpaq` program.
pub(super) struct Zpaq {
    program: PathBuf,
}

impl Zpaq {
    pub(super) fn new(program: PathBuf) -> Self {
        Self { program }
    }

    fn command(&self, verb: &str, place: &Path) -> Command {
        let mut command = command(&self.program, place);
        command.arg(verb).arg(repository(place).join("archive.zpaq"));
        command
    }

    fn extract(&self, look: &Look<'_>, what: &Path, target: &Path) -> Command {
        let mut extract = self.command("x", look.place);
        extract.arg(what).arg("-to").arg(target);
        if look.later > 0 {
            // So many updates back from the end; a save of nothing new makes none.
            extract.args(["-until", &format!("-{}", look.later)]);
        }
        extract
    }
}

impl Tool for Zpaq {
    fn name(&self) -> &'static str {
        "zpaq"
    }

    fn program(&self) -> &Path {
        &self.program
    }

    fn settings(&self) -> &'static str {
        "`zpaq a archive tree -m1`, its default method, all cores, one file to which each save appends. An unchanged file is known by its path, its size and the \
         whole second of its time, not by inode or change time; owners, links, extended attributes and holes are not kept. Versions are \
         not listed alone or compared: those rows are empty"
    }

    fn guarantees(&self) -> &'static str {
        "Nothing is encrypted here. extract, and `x -all -test` as the check: fragments are compared with their SHA-1. save: what was compressed is not \
         decompressed again, and nothing is synced."
    }

    fn once(&self) -> bool {
        true
    }

    fn save(&self, place: &Path, mount: &Path, _name: &str) -> Command {
        let mut add = self.command("a", place);
        add.arg(mount).arg("-m1");
        add
    }

    fn build(&self, look: &Look<'_>, target: &Path) -> Command {
        self.extract(look, look.mount, &target.join("tree"))
    }

    fn list(&self, _place: &Path) -> Option<Command> {
        None
    }

    fn restore_file(&self, look: &Look<'_>, path: &Path, target: &Path) -> Option<Command> {
        let name = path.file_name()?;
        Some(self.extract(look, &look.mount.join(path), &target.join(name)))
    }

    fn diff(&self, _old: &Look<'_>, _new: &Look<'_>) -> Result<Option<Command>> {
        Ok(None)
    }

    fn check(&self, place: &Path) -> Option<Command> {
        let mut test = self.command("x", place);
        test.args(["-all", "-test"]);
        Some(test)
    }
}
