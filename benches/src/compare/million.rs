//! How fast a repository with a million chunks is listed and checked.
//!
//! The chunks are synthetic and small; the index has as many records as one over real ones, and its records are what
//! such commands must not read. There are fewer frames and packs than real chunks would need. They are put by another process of this program: a child begins with its parent's peak
//! memory, so the one that measures must stay small.

use super::measure::{Measured, measure};
use super::results::Spread;
use super::tools::{Tool, Vml, repository};
use anyhow::{Context as _, Result};
use serde_json::{Value, json};
use std::env;
use std::fs;
use std::path::Path;
use std::process::Command;
use std::sync::Arc;
use vml_chunk::PackKind;
use vml_core::{LocalBackend, NoMonitor, Repository, RepositoryOptions};

/// Chunks in the repository beside those of its few entries.
pub const CHUNKS: u64 = 1_000_000;
const CHUNK_LEN: usize = 100;
const ENTRIES: usize = 5;
const REPEATS: usize = 5;
/// Largest time for `log` and `show`, and largest peak memory of any command.
const GOAL_MS: f64 = 30.0;
const GOAL_MIB: f64 = 256.0;

/// One command's numbers.
#[derive(Debug, Clone)]
pub struct Row {
    /// What was typed.
    pub command: &'static str,
    /// The goal for its time, if it has one.
    pub goal_ms: Option<f64>,
    /// Each repetition.
    pub measured: Vec<Measured>,
}

/// Puts the chunks into the repository at `path`.
///
/// # Errors
/// What the library says.
pub fn fill(path: &Path) -> Result<()> {
    let backend = LocalBackend::open(path)?;
    let repository = Repository::open(Arc::new(backend), RepositoryOptions::default())?;
    let writer = repository.store(&NoMonitor)?.writer()?;
    let mut chunks = writer.chunks(PackKind::Data)?;
    let mut chunk = [0; CHUNK_LEN];
    for number in 0..CHUNKS {
        chunk[..8].copy_from_slice(&number.to_le_bytes());
        chunks.put(&chunk)?;
    }
    chunks.finish()?;
    writer.finish()?;
    Ok(())
}

/// Makes the repository below `work` and measures.
///
/// # Errors
/// When a command fails.
pub fn run(vml: &Vml, work: &Path) -> Result<Vec<Row>> {
    let place = work.join("million");
    let tree = place.join("tree");
    fs::create_dir_all(place.join("home")).with_context(|| format!("cannot make {}", place.display()))?;
    fs::create_dir_all(&tree).with_context(|| format!("cannot make {}", tree.display()))?;
    for command in vml.init(&place, &tree) {
        measure(command, work)?;
    }
    for number in 0..ENTRIES {
        let name = format!("state-{number}");
        fs::write(tree.join(&name), name.repeat(1000)).with_context(|| format!("cannot write {}", tree.display()))?;
        measure(vml.save(&place, &tree, &name), work)?;
    }
    eprintln!("storing a million chunks");
    let mut fill = Command::new(env::current_exe().context("cannot find this program's own file")?);
    fill.arg("--fill-million").arg(repository(&place));
    measure(fill, work)?;
    let commands: [(&str, &[&str], Option<f64>); 3] =
        [("vml log", &["log"], Some(GOAL_MS)), ("vml show", &["show", "state-2"], Some(GOAL_MS)), ("vml check", &["check"], None)];
    let mut rows = Vec::new();
    for (command, args, goal_ms) in commands {
        let repeat = |_| {
            let mut command = vml.command(&place);
            command.args(args);
            measure(command, work)
        };
        // Once before it counts: the program's own file is read into memory.
        repeat(0)?;
        rows.push(Row { command, goal_ms, measured: (0..REPEATS).map(repeat).collect::<Result<_>>()? });
    }
    fs::remove_dir_all(&place).with_context(|| format!("cannot remove {}", place.display()))?;
    Ok(rows)
}

/// The table.
pub fn markdown(rows: &[Row]) -> String {
    let mut text = format!(
        "A repository with {CHUNKS} synthetic chunks and {ENTRIES} entries; the median of {REPEATS} calls, smallest to largest in \
         brackets. Peak memory includes what is resident of mapped index segments.\n\n\
         | command | wall ms | goal | peak MiB | goal |\n|---|---:|---|---:|---|\n"
    );
    for row in rows {
        let Some(wall) = Spread::of(row.measured.iter().map(|measured| measured.wall_s * 1000.0)) else { continue };
        let peak = row.measured.iter().map(|measured| measured.peak_bytes as f64 / f64::from(1 << 20)).fold(0.0, f64::max);
        let word = |met: bool| if met { "met" } else { "**not met**" };
        let wall_word = row.goal_ms.map_or("none".to_owned(), |goal| format!("≤ {goal}: {}", word(wall.median <= goal)));
        text.push_str(&format!(
            "| `{}` | {:.1} ({:.1}–{:.1}) | {wall_word} | {peak:.1} | ≤ {GOAL_MIB}: {} |\n",
            row.command,
            wall.median,
            wall.min,
            wall.max,
            word(peak <= GOAL_MIB)
        ));
    }
    text
}

/// Every number.
pub fn to_json(rows: &[Row]) -> Value {
    let one = |row: &Row| {
        let wall_ms: Vec<f64> = row.measured.iter().map(|measured| measured.wall_s * 1000.0).collect();
        let peak_bytes: Vec<u64> = row.measured.iter().map(|measured| measured.peak_bytes).collect();
        json!({ "command": row.command, "goal_ms": row.goal_ms, "wall_ms": wall_ms, "peak_bytes": peak_bytes })
    };
    json!({ "chunks": CHUNKS, "entries": ENTRIES, "commands": rows.iter().map(one).collect::<Vec<_>>() })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_table_judges_medians_and_the_largest_peak() {
        let took = |wall_s, peak_mib: u64| Measured { wall_s, cpu_s: 0.0, peak_bytes: peak_mib << 20, ..Measured::default() };
        let rows = [
            Row { command: "vml log", goal_ms: Some(30.0), measured: vec![took(0.050, 9), took(0.010, 300), took(0.020, 8)] },
            Row { command: "vml check", goal_ms: None, measured: vec![took(2.0, 8)] },
        ];
        let text = markdown(&rows);
        assert!(text.contains("| `vml log` | 20.0 (10.0–50.0) | ≤ 30: met | 300.0 | ≤ 256: **not met** |"), "{text}");
        assert!(text.contains("| `vml check` | 2000.0 (2000.0–2000.0) | none | 8.0 | ≤ 256: met |"), "{text}");
    }
}
