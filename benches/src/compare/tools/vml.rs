//! VML itself.

use super::{Look, Tool, command, repository};
use crate::compare::corpus::STATES;
use crate::compare::options::Options;
use crate::compare::results::Step;
use anyhow::{Context as _, Result, bail};
use std::env;
use std::ffi::OsString;
use std::path::{Path, PathBuf};
use std::process::Command;

/// The area's name in every repository.
pub const AREA: &str = "work";

/// The base's name where there is one.
pub const BASE: &str = "guest@1";

const GUARANTEES: &str = "save: every frame is decompressed and compared with its chunks' BLAKE3 before its pack is published. build: every \
                          chunk is compared with its BLAKE3. Nothing is encrypted.";

/// The `vml` program.
#[derive(Debug, Clone)]
pub struct Vml {
    program: PathBuf,
}

/// `--vml`, else the program built beside this one.
///
/// # Errors
/// When it cannot be built, or this program is no release build.
pub fn locate(options: &Options) -> Result<PathBuf> {
    if let Some(program) = &options.vml {
        return program.canonicalize().with_context(|| format!("cannot find {}", program.display()));
    }
    let own = env::current_exe().context("cannot find this program's own file")?;
    let dir = own.parent().context("this program's file has no directory")?;
    let program = dir.join("vml");
    // Built before the namespace was entered; the second start finds it.
    if options.inside && program.is_file() {
        return Ok(program);
    }
    if !dir.ends_with("release") {
        bail!("this is no release build: run it with `cargo run --release -p benches --bin compare`, or give --vml FILE");
    }
    let cargo = env::var_os("CARGO").unwrap_or_else(|| "cargo".into());
    let manifest = Path::new(env!("CARGO_MANIFEST_DIR")).join("../Cargo.toml");
    let status = Command::new(cargo).args(["build", "--release", "-p", "vml-cli", "--manifest-path"]).arg(manifest).status();
    if !status.context("cannot start cargo")?.success() || !program.is_file() {
        bail!("vml could not be built");
    }
    Ok(program)
}

impl Vml {
    /// The program at this path.
    pub fn new(program: PathBuf) -> Self {
        Self { program }
    }

    /// `vml` with its repository and its areas in `place`.
    pub fn command(&self, place: &Path) -> Command {
        let mut command = command(&self.program, place);
        command.env("VML_HOME", place.join("home")).env("VML_REPO", repository(place));
        command
    }

    /// `vml compact`, with its defaults and without a question; `None` for a vml that has no such command.
    pub fn compact(&self, place: &Path) -> Option<Command> {
        let help = Command::new(&self.program).args(["compact", "--help"]).output().ok().filter(|help| help.status.success())?;
        let mut compact = self.command(place);
        compact.arg("compact");
        if String::from_utf8_lossy(&help.stdout).contains("--yes") {
            compact.arg("--yes");
        }
        Some(compact)
    }
}

impl Tool for Vml {
    fn name(&self) -> &'static str {
        "vml"
    }

    fn program(&self) -> &Path {
        &self.program
    }

    fn settings(&self) -> &'static str {
        "`vml init` with its defaults, `vml area add … --no-default-exclude`"
    }

    fn guarantees(&self) -> &'static str {
        GUARANTEES
    }

    fn init(&self, place: &Path, mount: &Path) -> Vec<Command> {
        let (mut init, mut area) = (self.command(place), self.command(place));
        init.arg("init");
        area.args(["area", "add", AREA, "--no-default-exclude", "--tree"]).arg(mount);
        vec![init, area]
    }

    fn save(&self, place: &Path, _mount: &Path, name: &str) -> Command {
        let mut save = self.command(place);
        save.args(["save", AREA, "-m", name, "--tag", name]);
        save
    }

    fn build(&self, look: &Look<'_>, target: &Path) -> Command {
        let mut build = self.command(look.place);
        build.args(["build", look.name]).arg(target);
        build
    }

    fn list(&self, place: &Path) -> Option<Command> {
        let mut log = self.command(place);
        log.arg("log");
        Some(log)
    }

    fn restore_file(&self, look: &Look<'_>, path: &Path, target: &Path) -> Option<Command> {
        let mut what = OsString::from(format!("{}:", look.name));
        what.push(path);
        let mut restore = self.command(look.place);
        restore.arg("restore").arg(what).arg(target);
        Some(restore)
    }

    fn diff(&self, old: &Look<'_>, new: &Look<'_>) -> Result<Option<Command>> {
        let mut diff = self.command(old.place);
        diff.args(["diff", old.name, new.name]);
        Ok(Some(diff))
    }

    fn check(&self, place: &Path) -> Option<Command> {
        let mut check = self.command(place);
        check.args(["check", "--data"]);
        Some(check)
    }
}

/// `vml` with disks: the first state is a base, and stays where it is, so that overlays can be built on it.
pub struct DiskVml {
    /// The program.
    pub vml: Vml,
    /// The first state's image.
    pub base_image: PathBuf,
}

impl Tool for DiskVml {
    fn name(&self) -> &'static str {
        self.vml.name()
    }

    fn program(&self) -> &Path {
        self.vml.program()
    }

    fn settings(&self) -> &'static str {
        "`vml init` with its defaults; the first state by `vml base add guest@1 --disk …`, the others by `vml area add … --base guest@1 \
         --disk …` and `vml save`; built with `--format raw` and `--format overlay`"
    }

    fn guarantees(&self) -> &'static str {
        GUARANTEES
    }

    fn init(&self, place: &Path, _mount: &Path) -> Vec<Command> {
        let mut init = self.vml.command(place);
        init.arg("init");
        vec![init]
    }

    fn prepare(&self, place: &Path, mount: &Path, name: &str) -> Vec<Command> {
        if name != STATES[1] {
            return Vec::new();
        }
        let mut area = self.vml.command(place);
        area.args(["area", "add", AREA, "--base", BASE, "--disk"]).arg(disk(mount));
        vec![area]
    }

    fn save(&self, place: &Path, mount: &Path, name: &str) -> Command {
        if name != STATES[0] {
            return self.vml.save(place, mount, name);
        }
        let mut base = self.vml.command(place);
        base.args(["base", "add", BASE, "-m", name, "--disk"]).arg(disk(&self.base_image));
        base
    }

    fn build(&self, look: &Look<'_>, target: &Path) -> Command {
        let mut build = self.vml.build(look, target);
        build.args(["--format", "raw"]);
        build
    }

    fn builds(&self, look: &Look<'_>, target: &Path) -> Vec<(Step, Command)> {
        let mut overlay = self.vml.build(look, target);
        overlay.args(["--format", "overlay"]);
        vec![(Step::Build, self.build(look, target)), (Step::Overlay, overlay)]
    }

    fn list(&self, place: &Path) -> Option<Command> {
        self.vml.list(place)
    }

    fn restore_file(&self, look: &Look<'_>, path: &Path, target: &Path) -> Option<Command> {
        self.vml.restore_file(look, path, target)
    }

    fn diff(&self, old: &Look<'_>, new: &Look<'_>) -> Result<Option<Command>> {
        self.vml.diff(old, new)
    }

    fn check(&self, place: &Path) -> Option<Command> {
        self.vml.check(place)
    }
}

/// A disk of the same name, whatever its image is called.
pub fn disk(image: &Path) -> OsString {
    let mut text = OsString::from("disk=");
    text.push(image);
    text
}
