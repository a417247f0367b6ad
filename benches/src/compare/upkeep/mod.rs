//! Upkeep: checking every byte, collecting after half of the entries were forgotten, and saving meanwhile.
//!
//! ```text
//! both tools save base, w1, w1 again, w2, w3, v1 ─► check with all data ─► forget every second one ─► collect
//! a copy of vml's repository, v1 not in it: save v1 alone; save it while collections run
//! ```

pub mod report;

use super::corpus::{AGAIN, Corpus, contents};
use super::measure::{Measured, measure};
use super::mount::Mounted;
use super::tools::{Restic, Tool, Vml, repository};
use anyhow::{Context as _, Result, anyhow, bail};
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;

/// What is forgotten: every second state, in the order of saving.
pub const FORGOTTEN: [&str; 3] = ["w1", "w2", LAST];
/// What is left.
pub const KEPT: [&str; 3] = ["base", "w1-again", "w3"];
/// The state that is saved beside a collection.
pub const LAST: &str = "v1";

/// What one run measured.
#[derive(Debug, Clone)]
pub struct Run {
    /// `vml check --data` and `restic check --read-data`.
    pub check: [Measured; 2],
    /// `vml gc` and `restic prune`.
    pub collect: [Measured; 2],
    /// Bytes of the repositories before and after.
    pub bytes: [(u64, u64); 2],
    /// The save of [`LAST`] with nothing beside it.
    pub save_alone: Measured,
    /// The same while one collection after the other runs.
    pub save_beside: Measured,
    /// How many those were.
    pub collections: usize,
}

/// Measures `runs` times with the states of the corpus.
///
/// # Errors
/// When a command fails.
pub fn run(vml: &Vml, restic: &Restic, corpus: &Corpus, runs: usize, work: &Path) -> Result<Vec<Run>> {
    let mount = work.join("tree");
    fs::create_dir_all(&mount).with_context(|| format!("cannot make {}", mount.display()))?;
    (0..runs)
        .map(|number| {
            eprintln!("run {} of {runs}", number + 1);
            Bench { vml, restic, corpus, work, mount: &mount }.one(number)
        })
        .collect()
}

struct Bench<'a> {
    vml: &'a Vml,
    restic: &'a Restic,
    corpus: &'a Corpus,
    work: &'a Path,
    mount: &'a Path,
}

impl Bench<'_> {
    fn one(&self, number: usize) -> Result<Run> {
        let tools: [&dyn Tool; 2] = [self.vml, self.restic];
        let places = tools.map(|tool| self.work.join(tool.name()));
        let (without, busy) = (self.work.join("without"), self.work.join("busy"));
        for (tool, place) in tools.into_iter().zip(&places) {
            fs::create_dir_all(place.join("home")).with_context(|| format!("cannot make {}", place.display()))?;
            for command in tool.init(place, self.mount) {
                measure(command, self.work)?;
            }
        }
        for state in self.corpus.states() {
            let _mounted = Mounted::new(&self.corpus.state(state), self.mount)?;
            if *state == LAST {
                // The moment before the last save, twice, to save it alone and beside a collection.
                for copy in [&without, &busy] {
                    copy_place(&places[0], copy)?;
                }
            }
            for (tool, place) in tools.into_iter().zip(&places) {
                measure(tool.save(place, self.mount, state), self.work)?;
                if *state == AGAIN {
                    measure(tool.save(place, self.mount, &format!("{state}-again")), self.work)?;
                }
            }
        }
        // Who is first changes from run to run.
        let turns = if number.is_multiple_of(2) { [0, 1] } else { [1, 0] };
        let mut run = self.save_beside(&without, &busy)?;
        let mut check = [None; 2];
        for tool in turns {
            let command = if tool == 0 { self.vml_command(&places[0], &["check", "--data"]) } else { self.restic.check_data(&places[1]) };
            check[tool] = Some(measure(command, self.work)?);
        }
        let bytes = |place: &Path| contents(&repository(place)).map(|contents| contents.bytes);
        let before = [bytes(&places[0])?, bytes(&places[1])?];
        measure(self.vml_command(&places[0], &[&["forget", "--yes", "--force"], &FORGOTTEN[..]].concat()), self.work)?;
        measure(self.restic.forget_all_but(&places[1], &KEPT), self.work)?;
        let mut collect = [None; 2];
        for tool in turns {
            let command = if tool == 0 { self.vml_command(&places[0], &["gc"]) } else { self.restic.prune(&places[1]) };
            collect[tool] = Some(measure(command, self.work)?);
        }
        run.bytes = [(before[0], bytes(&places[0])?), (before[1], bytes(&places[1])?)];
        run.check = check.map(|measured| measured.expect("both had their turn"));
        run.collect = collect.map(|measured| measured.expect("both had their turn"));
        // What was collected is whole, or nothing above counts.
        measure(self.vml_command(&places[0], &["check", "--data"]), self.work)?;
        for place in places.iter().chain([&without, &busy]) {
            fs::remove_dir_all(place).with_context(|| format!("cannot remove {}", place.display()))?;
        }
        Ok(run)
    }

    /// Saves the last state alone, then beside a collection, in repositories that are alike.
    fn save_beside(&self, without: &Path, busy: &Path) -> Result<Run> {
        let _mounted = Mounted::new(&self.corpus.state(LAST), self.mount)?;
        let forgotten: Vec<&str> = FORGOTTEN.into_iter().filter(|name| *name != LAST).collect();
        for place in [without, busy] {
            measure(self.vml_command(place, &[&["forget", "--yes", "--force"], &forgotten[..]].concat()), self.work)?;
        }
        self.corpus.warm(self.mount)?;
        let save_alone = measure(self.vml.save(without, self.mount, LAST), self.work)?;
        self.corpus.warm(self.mount)?;
        let done = AtomicBool::new(false);
        let (save_beside, collections) = thread::scope(|scope| {
            // One after the other: a single one is over before the save has begun in earnest.
            let collect = scope.spawn(|| -> Result<usize> {
                let mut count = 0;
                while !done.load(Ordering::Relaxed) {
                    let mut gc = self.vml_command(busy, &["gc"]);
                    let output = gc.stdin(Stdio::null()).output().context("cannot start vml gc")?;
                    if !output.status.success() {
                        bail!("vml gc failed beside a save: {}", String::from_utf8_lossy(&output.stderr).trim());
                    }
                    count += 1;
                }
                Ok(count)
            });
            let saved = measure(self.vml.save(busy, self.mount, LAST), self.work);
            done.store(true, Ordering::Relaxed);
            let collections = collect.join().map_err(|_| anyhow!("the thread of collections died"))?;
            Ok::<_, anyhow::Error>((saved?, collections?))
        })?;
        measure(self.vml_command(busy, &["check", "--data"]), self.work)?;
        let none = [save_alone; 2];
        Ok(Run { check: none, collect: none, bytes: [(0, 0); 2], save_alone, save_beside, collections })
    }

    fn vml_command(&self, place: &Path, args: &[&str]) -> Command {
        let mut command = self.vml.command(place);
        command.args(args);
        command
    }
}

fn copy_place(from: &Path, to: &PathBuf) -> Result<()> {
    let status = Command::new("cp").arg("-a").arg(from).arg(to).status().context("cannot start cp")?;
    if !status.success() {
        bail!("cp cannot copy {}", from.display());
    }
    Ok(())
}
