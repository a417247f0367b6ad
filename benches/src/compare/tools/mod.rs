//! The tools: how each is found, set up and called. A tool's commands are made here and run elsewhere.

mod borg;
mod bup;
mod casync;
mod encrypted;
mod restic;
mod rustic;
mod vml;
mod zpaq;

use super::options::Options;
use super::results::Step;
use anyhow::{Context as _, Result};
use std::env;
use std::path::{Path, PathBuf};
use std::process::Command;

pub use encrypted::EncryptedVml;
pub use restic::Restic;
pub use vml::{BASE, DiskVml, Vml, disk, locate as locate_vml};

/// The names of all tools, in the order of the tables.
pub const NAMES: [&str; 8] = ["vml", "vml-encrypted", "restic", "borg", "rustic", "casync", "bup", "zpaq"];
/// The peers that goals are set against.
pub const PEERS: [&str; 3] = ["restic", "borg", "rustic"];

/// One saved state, as tools find it again.
#[derive(Debug, Clone, Copy)]
pub struct Look<'a> {
    /// The tool's own directory.
    pub place: &'a Path,
    /// Where the state was when it was saved.
    pub mount: &'a Path,
    /// The name under which it was saved.
    pub name: &'a str,
    /// How many states were saved after it.
    pub later: usize,
}

/// A program that stores states of directories.
///
/// `place` is the tool's own directory for one run; its repository is in [`repository`].
pub trait Tool {
    /// Its name in the tables.
    fn name(&self) -> &'static str;
    /// Its file.
    fn program(&self) -> &Path;
    /// How it was called, for the page.
    fn settings(&self) -> &'static str;
    /// What it verifies and encrypts, for the page.
    fn guarantees(&self) -> &'static str;
    /// The commands that make a repository for the tree at `mount`, before anything is measured: a directory, where nothing else is said.
    fn init(&self, place: &Path, _mount: &Path) -> Vec<Command> {
        let mut make = Command::new("mkdir");
        make.arg(repository(place));
        vec![make]
    }
    /// What must be done before the state `name` is saved, without being measured.
    fn prepare(&self, _place: &Path, _mount: &Path, _name: &str) -> Vec<Command> {
        Vec::new()
    }
    /// Saves what is at `mount` under a name that is not taken.
    fn save(&self, place: &Path, mount: &Path, name: &str) -> Command;
    /// Builds a saved state in the empty directory `target`.
    fn build(&self, look: &Look<'_>, target: &Path) -> Command;
    /// All builds that are measured, each into an empty directory `target`.
    fn builds(&self, look: &Look<'_>, target: &Path) -> Vec<(Step, Command)> {
        vec![(Step::Build, self.build(look, target))]
    }
    /// Lists what was saved; `None` where the tool cannot, as below.
    fn list(&self, place: &Path) -> Option<Command>;
    /// Restores the file at `path` inside a saved state into the empty directory `target`.
    fn restore_file(&self, look: &Look<'_>, path: &Path, target: &Path) -> Option<Command>;
    /// Tells what changed from one saved state to another. What must be asked before, such as ids, is not measured.
    ///
    /// # Errors
    /// When that cannot be asked.
    fn diff(&self, old: &Look<'_>, new: &Look<'_>) -> Result<Option<Command>>;
    /// Reads and checks every byte of the repository.
    fn check(&self, place: &Path) -> Option<Command>;
    /// What only this tool is measured at, when all states are saved.
    fn others(&self, _place: &Path) -> Vec<(Step, Command)> {
        Vec::new()
    }
    /// Whether it takes so long that it takes part in the first run only.
    fn once(&self) -> bool {
        false
    }
}

/// Where a tool's repository is.
pub fn repository(place: &Path) -> PathBuf {
    place.join("repository")
}

/// The first line that a tool prints about its version.
///
/// # Errors
/// When it does not start.
pub fn version(tool: &dyn Tool) -> Result<String> {
    let argument = if tool.name() == "restic" { "version" } else { "--version" };
    let output = Command::new(tool.program()).arg(argument).output().with_context(|| format!("cannot start {}", tool.name()))?;
    let text = String::from_utf8_lossy(&output.stdout);
    let line = text.lines().next().unwrap_or_default();
    Ok(line.split(" compiled").next().unwrap_or(line).trim().to_owned())
}

/// A command that sees nothing of the user's own settings: all state is in `place`.
fn command(program: &Path, place: &Path) -> Command {
    let mut command = Command::new(program);
    command.env_clear().env("PATH", env::var_os("PATH").unwrap_or_default()).env("HOME", place.join("home")).env("LC_ALL", "C.UTF-8");
    command
}

/// The tools that were asked for and are there, `vml` as it is made of its program. Each one that is missing is named with how to get it.
///
/// # Errors
/// When vml cannot be built.
pub fn find(options: &Options, vml: &dyn Fn(Vml) -> Box<dyn Tool>) -> Result<Vec<Box<dyn Tool>>> {
    let mut tools: Vec<Box<dyn Tool>> = Vec::new();
    for name in &options.tools {
        let boxed = |name: &str, make: &dyn Fn(PathBuf) -> Box<dyn Tool>| in_path(name).map(make);
        let found = match name.as_str() {
            "vml" => Some(vml(Vml::new(locate_vml(options)?))),
            "vml-encrypted" => Some(Box::new(EncryptedVml::new(Vml::new(locate_vml(options)?))?) as Box<dyn Tool>),
            "restic" => boxed("restic", &|program| Box::new(Restic::new(program))),
            "borg" => boxed("borg", &|program| Box::new(borg::Borg::new(program))),
            "casync" => boxed("casync", &|program| Box::new(casync::Casync::new(program))),
            "bup" => boxed("bup", &|program| Box::new(bup::Bup::new(program))),
            "zpaq" => boxed("zpaq", &|program| Box::new(zpaq::Zpaq::new(program))),
            _ => {
                options.rustic.clone().or_else(|| in_path("rustic")).map(|program| Box::new(rustic::Rustic::new(program)) as Box<dyn Tool>)
            }
        };
        match found {
            Some(tool) => tools.push(tool),
            None => eprintln!("compare: {name} is not installed and is left out: {}", how_to_install(name)),
        }
    }
    Ok(tools)
}

fn how_to_install(name: &str) -> &'static str {
    match name {
        "rustic" => "cargo install rustic-rs --locked",
        "borg" => "apt-get install borgbackup",
        "casync" => "apt-get install casync",
        "bup" => "apt-get install bup",
        "zpaq" => "apt-get install zpaq",
        _ => "apt-get install restic",
    }
}

/// The program of this name in `PATH`.
pub fn in_path(name: &str) -> Option<PathBuf> {
    env::split_paths(&env::var_os("PATH")?).map(|dir| dir.join(name)).find(|path| path.is_file())
}
