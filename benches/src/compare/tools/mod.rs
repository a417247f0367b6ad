//! The tools: how each is found, set up and called. A tool's commands are made here and run elsewhere.

mod borg;
mod restic;
mod rustic;
mod vml;

use super::options::Options;
use super::results::Step;
use anyhow::{Context as _, Result};
use std::env;
use std::path::{Path, PathBuf};
use std::process::Command;

pub use restic::Restic;
pub use vml::{BASE, DiskVml, Vml, disk, locate as locate_vml};

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
    /// The commands that make a repository for the tree at `mount`, before anything is measured.
    fn init(&self, place: &Path, mount: &Path) -> Vec<Command>;
    /// What must be done before the state `name` is saved, without being measured.
    fn prepare(&self, _place: &Path, _mount: &Path, _name: &str) -> Vec<Command> {
        Vec::new()
    }
    /// Saves what is at `mount` under a name that is not taken.
    fn save(&self, place: &Path, mount: &Path, name: &str) -> Command;
    /// Builds the state saved under `name`, after which `later` more were saved, in the empty directory `target`.
    fn build(&self, place: &Path, name: &str, later: usize, target: &Path) -> Command;
    /// All builds that are measured, each into an empty directory `target`.
    fn builds(&self, place: &Path, name: &str, later: usize, target: &Path) -> Vec<(Step, Command)> {
        vec![(Step::Build, self.build(place, name, later, target))]
    }
    /// Lists what was saved.
    fn list(&self, place: &Path) -> Command;
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
        let found = match name.as_str() {
            "vml" => Some(vml(Vml::new(locate_vml(options)?))),
            "restic" => in_path("restic").map(|program| Box::new(Restic::new(program)) as Box<dyn Tool>),
            "borg" => in_path("borg").map(|program| Box::new(borg::Borg::new(program)) as Box<dyn Tool>),
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
        _ => "apt-get install restic borgbackup",
    }
}

/// The program of this name in `PATH`.
pub fn in_path(name: &str) -> Option<PathBuf> {
    env::split_paths(&env::var_os("PATH")?).map(|dir| dir.join(name)).find(|path| path.is_file())
}
