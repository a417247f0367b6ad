//! Disks: the images of the corpus with all tools, in the way of its trees, and what concerns vml alone.
//!
//! ```text
//! lone    saves by vml beside other saves by vml      images   what is saved there, made from the corpus
//! report  goals, tables, JSON
//! ```

mod images;
mod lone;
pub mod report;

use super::corpus::{BUILT, Corpus, STATES};
use super::extents::differences;
use super::measure::Measured;
use super::results::Spread;
use super::run;
use super::tools::{Tool, Vml};
use anyhow::{Result, bail};
use std::path::Path;
use std::process::Command;

/// Trees of the same states, saved by vml: a column of their own.
const TREES: &str = "vml, trees";
/// QEMU's usual cluster, which is that of overlays.
const CLUSTER_LEN: u64 = 64 << 10;
const BLOCK_LEN: u64 = 4 << 10;

/// What a comparison of disks found.
pub struct Outcome {
    /// With all tools.
    pub main: run::Outcome,
    /// With vml alone.
    pub rows: Rows,
    /// Bytes in which the built state differs from the first one, in whole blocks and in whole clusters.
    pub differing: [u64; 2],
}

/// Saves by vml that are set beside each other.
#[derive(Debug, Clone, Default)]
pub struct Rows(Vec<Row>);

/// One save, repeated.
#[derive(Debug, Clone)]
struct Row {
    what: String,
    measured: Vec<Measured>,
    /// By how much the repository grew.
    added: Vec<u64>,
}

impl Rows {
    fn add(&mut self, what: &str, measured: Measured, added: u64) {
        eprintln!("vml saves {what} in {:.2} s and adds {:.1} MiB", measured.wall_s, added as f64 / 1_048_576.0);
        if !self.0.iter().any(|row| row.what == what) {
            self.0.push(Row { what: what.to_owned(), measured: Vec::new(), added: Vec::new() });
        }
        for row in self.0.iter_mut().filter(|row| row.what == what) {
            row.measured.push(measured);
            row.added.push(added);
        }
    }

    fn get(&self, what: &str) -> Option<&Row> {
        self.0.iter().find(|row| row.what == what)
    }
}

impl Row {
    fn wall(&self) -> Option<Spread> {
        Spread::of(self.measured.iter().map(|measured| measured.wall_s))
    }

    fn added(&self) -> Option<f64> {
        Spread::of(self.added.iter().map(|bytes| *bytes as f64)).map(|spread| spread.median)
    }

    fn peak(&self) -> Option<u64> {
        self.measured.iter().map(|measured| measured.peak_bytes).max()
    }
}

/// Of the tools that were asked for those that are measured with disks: the others take minutes for each save of a tree, or keep no holes.
pub fn tools(asked: &[String]) -> Vec<String> {
    asked.iter().filter(|name| ["vml", "restic", "borg", "rustic"].contains(&name.as_str())).cloned().collect()
}

/// Looks for QEMU's tools, which make images and compare them.
///
/// # Errors
/// When they are missing.
pub fn check() -> Result<()> {
    let found = Command::new("qemu-img").arg("--version").output();
    if !found.is_ok_and(|output| output.status.success()) {
        bail!("qemu-img makes images here and compares them, and is missing: apt-get install qemu-utils");
    }
    Ok(())
}

/// Measures `runs` times below `work`; sizes that are the same every time, once.
///
/// # Errors
/// When a tool fails, or vml builds anything but what was saved.
pub fn run(tools: &[Box<dyn Tool>], vml: &Vml, corpus: &Corpus, runs: usize, work: &Path) -> Result<Outcome> {
    let mut main = run::run(tools, corpus, runs, work)?;
    let trees = corpus.imaged_trees()?;
    let saved: [Box<dyn Tool>; 1] = [Box::new(vml.clone())];
    let saved = run::run(&saved, &trees, 1, work)?;
    for state in 0..trees.states().len() {
        saved.results.size("vml", state).into_iter().for_each(|bytes| main.results.add_size(TREES, state, bytes as u64));
    }
    let mut rows = Rows::default();
    let lone = lone::Lone { vml, corpus, trees: &trees, work };
    lone.sharing(&mut rows)?;
    lone.formats(&mut rows)?;
    lone.overlay(runs, &mut rows)?;
    lone.sparse(runs, &mut rows)?;
    let (base, built) = (corpus.state(STATES[0]), corpus.state(BUILT));
    let total = |block_len| Ok(differences(&base, &built, block_len)?.iter().map(|range| range.end - range.start).sum::<u64>());
    let differing = [BLOCK_LEN, CLUSTER_LEN].into_iter().map(total).collect::<Result<Vec<_>>>()?;
    Ok(Outcome { main, rows, differing: [differing[0], differing[1]] })
}
