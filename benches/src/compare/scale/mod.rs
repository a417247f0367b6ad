//! How VML's index behaves from a million chunks to a hundred million: opening, look-ups, merges, collections, and what ordinary commands cost as a
//! repository grows.
//!
//! ```text
//! make      packs without content and the index over them          ids    their chunks' ids, computed
//! steps     what is measured by the library, in a child            watch  a child's time and memory, its own and mapped
//! report    goals, table, JSON
//! ```

pub mod ids;
pub mod make;
pub mod report;
pub mod steps;
pub mod watch;

use super::tools::{Tool, Vml, repository};
use anyhow::{Context as _, Result};
use serde_json::{Value, json};
use std::env;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use vml_testkit::noise;
use watch::{Watched, watch};

/// Entries of a small tree that are in each repository beside the chunks that nobody needs.
const ENTRIES: usize = 5;
/// Calls of a short command.
const REPEATS: usize = 5;
/// A command that takes longer is called once.
const SHORT_S: f64 = 1.0;
/// Bytes of the file that the saves with something new add.
const NEW_LEN: usize = 8 << 20;
/// Encrypted repositories are measured up to this many chunks.
const SEALED_MAX: u64 = 10_000_000;

/// One thing that was measured.
#[derive(Debug, Clone)]
pub struct Row {
    /// What.
    pub what: &'static str,
    /// Each time it was run.
    pub runs: Vec<Watched>,
    /// What a step of the library told of itself.
    pub told: Value,
}

/// All of one repository.
#[derive(Debug, Clone)]
pub struct Size {
    /// Chunks.
    pub chunks: u64,
    /// Whether it is encrypted.
    pub sealed: bool,
    /// In the order in which it was measured.
    pub rows: Vec<Row>,
}

struct Bench<'a> {
    vml: &'a Vml,
    place: PathBuf,
    tree: PathBuf,
    key: Option<PathBuf>,
    chunks: u64,
    rows: Vec<Row>,
}

/// Makes a repository of each size below `work`, one after the other, and measures.
///
/// # Errors
/// When a command fails, or a result is wrong.
pub fn run(vml: &Vml, sizes: &[u64], work: &Path) -> Result<Vec<Size>> {
    let mut all = Vec::new();
    for &chunks in sizes {
        for sealed in [false, true] {
            if sealed && chunks > SEALED_MAX {
                continue;
            }
            let place = work.join("scale");
            let (tree, key) = (place.join("tree"), sealed.then(|| place.join("key")));
            let mut bench = Bench { vml, tree, key, chunks, rows: Vec::new(), place };
            bench.measure()?;
            fs::remove_dir_all(&bench.place).with_context(|| format!("cannot remove {}", bench.place.display()))?;
            all.push(Size { chunks, sealed, rows: bench.rows });
        }
    }
    Ok(all)
}

impl Bench<'_> {
    fn measure(&mut self) -> Result<()> {
        eprintln!("{} chunks{}", self.chunks, if self.key.is_some() { ", encrypted" } else { "" });
        self.prepare()?;
        self.step("fill")?;
        self.step("open")?;
        self.step("lookups")?;
        self.command("log", &["log"])?;
        self.command("show", &["show", "state-2"])?;
        self.command("save, nothing new", &["save", "work", "-m", "again"])?;
        self.save_new()?;
        if self.key.is_none() {
            self.command("check", &["check"])?;
            self.command("gc --dry-run", &["gc", "--dry-run"])?;
        }
        self.step("merge")?;
        if self.key.is_none() {
            self.step("collect")?;
        }
        Ok(())
    }

    /// A repository with a few entries.
    fn prepare(&self) -> Result<()> {
        for dir in [&self.place.join("home"), &self.tree] {
            fs::create_dir_all(dir).with_context(|| format!("cannot make {}", dir.display()))?;
        }
        if let Some(key) = &self.key {
            let text = vml_chunk::seal::key_file_text("scale")?;
            fs::write(key, text.as_bytes()).with_context(|| format!("cannot write {}", key.display()))?;
        }
        for mut command in self.vml.init(&self.place, &self.tree) {
            if self.key.is_some() && command.get_args().next().is_some_and(|first| first == "init") {
                command.arg("--encrypt");
            }
            watch(self.with_key(command))?;
        }
        for number in 0..ENTRIES {
            let name = format!("state-{number}");
            fs::write(self.tree.join(&name), name.repeat(1000)).with_context(|| format!("cannot write {}", self.tree.display()))?;
            watch(self.with_key(self.vml.save(&self.place, &self.tree, &name)))?;
        }
        Ok(())
    }

    fn with_key(&self, mut command: Command) -> Command {
        if let Some(key) = &self.key {
            command.arg("--key-file").arg(key);
        }
        command
    }

    fn command(&mut self, what: &'static str, args: &[&str]) -> Result<()> {
        let call = |_| {
            let mut command = self.vml.command(&self.place);
            command.args(args);
            watch(self.with_key(command))
        };
        let first = call(0)?;
        let runs = if first.wall_s > SHORT_S { vec![first] } else { (0..REPEATS).map(call).collect::<Result<_>>()? };
        self.push(what, runs, Value::Null);
        Ok(())
    }

    /// Saves with a new file, a thousand chunks or so, each time another.
    fn save_new(&mut self) -> Result<()> {
        let mut runs = Vec::new();
        for number in 0..3 {
            let path = self.tree.join("new");
            fs::write(&path, noise::incompressible(number, NEW_LEN)).with_context(|| format!("cannot write {}", path.display()))?;
            let mut command = self.vml.command(&self.place);
            command.args(["save", "work", "-m", "something new"]);
            runs.push(watch(self.with_key(command))?);
        }
        self.push("save, 8 MiB new", runs, Value::Null);
        Ok(())
    }

    fn step(&mut self, name: &'static str) -> Result<()> {
        let mut command = Command::new(env::current_exe().context("cannot find this program's own file")?);
        command.args(["--scale-step", name, "--scale", &self.chunks.to_string()]).arg("--scale-place").arg(repository(&self.place));
        if let Some(key) = &self.key {
            command.arg("--scale-key").arg(key);
        }
        let watched = watch(command)?;
        let told = serde_json::from_str(&watched.said).with_context(|| format!("step {name} printed {:?}", watched.said))?;
        self.push(name, vec![watched], told);
        Ok(())
    }

    fn push(&mut self, what: &'static str, runs: Vec<Watched>, told: Value) {
        let longest = runs.iter().map(|run| run.wall_s).fold(0.0, f64::max);
        let anon = runs.iter().map(|run| run.anon_bytes).max().unwrap_or(0) >> 20;
        eprintln!("  {what}: {longest:.3} s, {anon} MiB of its own {told}");
        self.rows.push(Row { what, runs, told });
    }
}

/// Every number.
pub fn to_json(sizes: &[Size]) -> Value {
    let row = |row: &Row| json!({ "what": row.what, "told": row.told, "runs": row.runs.iter().map(Watched::to_json).collect::<Vec<_>>() });
    let size =
        |size: &Size| json!({ "chunks": size.chunks, "encrypted": size.sealed, "rows": size.rows.iter().map(row).collect::<Vec<_>>() });
    sizes.iter().map(size).collect()
}
