//! bup, <https://bup.github.io>.

use super::{Look, Tool, command, repository};
use anyhow::Result;
use std::ffi::OsString;
use std::path::{Path, PathBuf};
use std::process::Command;

/// The `bup` program.
pub(super) struct Bup {
    program: PathBuf,
}

impl Bup {
    pub(super) fn new(program: PathBuf) -> Self {
        Self { program }
    }

    fn command(&self, place: &Path) -> Command {
        let mut command = command(&self.program, place);
        command.env("BUP_DIR", repository(place));
        command
    }

    fn restore(&self, look: &Look<'_>, path: &Path, target: &Path) -> Command {
        let mut what = OsString::from(format!("/{}/latest", look.name));
        what.push(path);
        // It keeps flags of ext4 that a tmpfs does not have, warns of each file, and ends with 1.
        let script = "\"$1\" restore -q -C \"$2\" \"$3\" 2>/dev/null; status=$?; [ $status -ne 1 ] || status=0; exit $status";
        let mut restore = self.shell(look.place, script);
        restore.arg(target).arg(what);
        restore
    }

    /// A script whose `$1` is the program.
    fn shell(&self, place: &Path, script: &str) -> Command {
        let mut shell = command(Path::new("/bin/sh"), place);
        shell.env("BUP_DIR", repository(place)).args(["-c", script, "sh"]).arg(&self.program);
        shell
    }
}

impl Tool for Bup {
    fn name(&self) -> &'static str {
        "bup"
    }

    fn program(&self) -> &Path {
        &self.program
    }

    fn settings(&self) -> &'static str {
        "`bup index` and `bup save` into a branch of the state's name, both measured as one, `bup restore`, `bup fsck`, with their defaults: chunks of 8 KiB \
         on average, deflated one by one (level 1) in packs of Git, one thread. States are not compared: that row is empty"
    }

    fn guarantees(&self) -> &'static str {
        "Nothing is encrypted. restore: objects are inflated with zlib's checksum and not compared with their SHA-1, which fsck does. save: what was compressed \
         is not decompressed again."
    }

    fn once(&self) -> bool {
        true
    }

    fn init(&self, place: &Path, _mount: &Path) -> Vec<Command> {
        let mut init = self.command(place);
        init.arg("init");
        vec![init]
    }

    fn save(&self, place: &Path, mount: &Path, name: &str) -> Command {
        let mut save = self.shell(place, "\"$1\" index \"$2\" && \"$1\" save -q -n \"$3\" \"$2\"");
        save.arg(mount).arg(name);
        save
    }

    fn build(&self, look: &Look<'_>, target: &Path) -> Command {
        // With a dot at the end: what is in it, not the directory by its name.
        self.restore(look, &look.mount.join("."), target)
    }

    fn list(&self, place: &Path) -> Option<Command> {
        let mut list = self.command(place);
        list.arg("ls");
        Some(list)
    }

    fn restore_file(&self, look: &Look<'_>, path: &Path, target: &Path) -> Option<Command> {
        Some(self.restore(look, &look.mount.join(path), target))
    }

    fn diff(&self, _old: &Look<'_>, _new: &Look<'_>) -> Result<Option<Command>> {
        Ok(None)
    }

    fn check(&self, place: &Path) -> Option<Command> {
        let mut fsck = self.command(place);
        fsck.args(["fsck", "-j2"]);
        Some(fsck)
    }
}
