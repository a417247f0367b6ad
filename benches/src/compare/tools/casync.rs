//! casync, <https://github.com/systemd/casync>.

use super::{Look, Tool, command, repository};
use anyhow::Result;
use std::path::{Path, PathBuf};
use std::process::Command;

/// The `casync` program.
pub(super) struct Casync {
    program: PathBuf,
}

impl Casync {
    pub(super) fn new(program: PathBuf) -> Self {
        Self { program }
    }

    /// The index of a state and the store of all chunks.
    fn stored(&self, verb: &str, place: &Path, name: &str) -> Command {
        let mut command = command(&self.program, place);
        let mut store = std::ffi::OsString::from("--store=");
        store.push(repository(place).join("store.castr"));
        command.arg(verb).arg(store).arg(repository(place).join(name).with_extension("caidx"));
        command
    }
}

impl Tool for Casync {
    fn name(&self) -> &'static str {
        "casync"
    }

    fn program(&self) -> &Path {
        &self.program
    }

    fn settings(&self) -> &'static str {
        "`casync make` and `casync extract` with their defaults: one file a chunk, of 64 KiB on average, compressed one by one, one thread; no encoder \
         cache, so each save reads everything. A single file can be had through a FUSE mount only, and states are not listed, compared or \
         checked: those rows are empty"
    }

    fn guarantees(&self) -> &'static str {
        "Nothing is encrypted. extract: every chunk is compared with its SHA-512/256. save: what was compressed is not decompressed again, and nothing \
         is synced."
    }

    fn once(&self) -> bool {
        true
    }

    fn save(&self, place: &Path, mount: &Path, name: &str) -> Command {
        let mut make = self.stored("make", place, name);
        make.arg(mount);
        make
    }

    fn build(&self, look: &Look<'_>, target: &Path) -> Command {
        let mut extract = self.stored("extract", look.place, look.name);
        extract.arg(target);
        extract
    }

    fn list(&self, _place: &Path) -> Option<Command> {
        None
    }

    fn restore_file(&self, _look: &Look<'_>, _path: &Path, _target: &Path) -> Option<Command> {
        None
    }

    fn diff(&self, _old: &Look<'_>, _new: &Look<'_>) -> Result<Option<Command>> {
        Ok(None)
    }

    fn check(&self, _place: &Path) -> Option<Command> {
        None
    }
}
