//! The order of everything: so that each tool has the same chances.
//!
//! ```text
//! each run, a fresh repository for every tool
//!   each state     the tools take turns ─► measured save ─► size          (after the first state the machine's limit has its turn, too)
//!   then           builds, beside `cp -a` ─► what is done with saved states (`after`) ─► a save with 1 % changed
//! ```
//! The order of turns rotates from state to state and from run to run, and every measured save is preceded by a reading of the whole
//! state. Tools that take very long take part in the first run only.

use super::after;
use super::corpus::{AGAIN, BUILT, Contents, Corpus, Kind, STATES, contents, walk};
use super::limit;
use super::measure::measure;
use super::mount::Mounted;
use super::results::{FLOOR, LIMIT, Results, Step};
use super::tools::{Look, Tool, repository};
use anyhow::{Context as _, Result, bail};
use std::fs;
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};
use std::process::Command;
use vml_core::tree::compare::{CompareOptions, compare_directories};

/// What a comparison found.
pub struct Outcome {
    /// What the states are.
    pub kind: Kind,
    /// The numbers.
    pub results: Results,
    /// What the states hold, in their order.
    pub states: Vec<Contents>,
    /// Sentences about what vml built and was then compared with the state, and about what else the numbers stand for.
    pub compared: Vec<String>,
}

/// One run: the tools that take part, their places, and what they work on.
pub(super) struct Run<'a> {
    pub(super) tools: Vec<(&'a dyn Tool, PathBuf)>,
    pub(super) corpus: &'a Corpus,
    pub(super) mount: &'a Path,
    pub(super) work: &'a Path,
    pub(super) number: usize,
    pub(super) turn: usize,
}

/// Runs the comparison `runs` times below `work`.
///
/// # Errors
/// When a tool fails, or vml builds anything but what was saved.
pub fn run(tools: &[Box<dyn Tool>], corpus: &Corpus, runs: usize, work: &Path) -> Result<Outcome> {
    let mount = mount_point(corpus.kind(), work)?;
    let states = corpus.states().iter().map(|state| corpus.contents(state)).collect::<Result<Vec<_>>>()?;
    let mut outcome = Outcome { kind: corpus.kind(), results: Results::default(), states, compared: Vec::new() };
    for number in 0..runs {
        let taking_part = tools.iter().filter(|tool| number == 0 || !tool.once());
        let tools = taking_part.map(|tool| (tool.as_ref(), work.join(tool.name()))).collect();
        let mut run = Run { tools, corpus, mount: &mount, work, number, turn: number };
        eprintln!("run {} of {runs}", number + 1);
        run.save_all(&mut outcome)?;
        run.build_all(&mut outcome)?;
        after::measure_all(&mut run, &mut outcome)?;
        for (_, place) in &run.tools {
            fs::remove_dir_all(place).with_context(|| format!("cannot remove {}", place.display()))?;
        }
    }
    Ok(outcome)
}

/// What states are mounted on: a mount of a file needs a file.
fn mount_point(kind: Kind, work: &Path) -> Result<PathBuf> {
    let (mount, made) = match kind {
        Kind::Trees => (work.join("tree"), fs::create_dir_all(work.join("tree"))),
        Kind::Images => (work.join("disk.raw"), fs::write(work.join("disk.raw"), "")),
    };
    made.with_context(|| format!("cannot make {}", mount.display()))?;
    Ok(mount)
}

impl Run<'_> {
    /// The tools in the order of the next turn, by their numbers; `more` stands for so many others after the last one.
    pub(super) fn turns(&mut self, more: usize) -> impl Iterator<Item = usize> + use<> {
        self.turn += 1;
        order(self.tools.len() + more, self.turn - 1)
    }

    /// How a state is found again that was saved `later` states before the last one.
    pub(super) fn look<'a>(&'a self, tool: usize, name: &'a str, later: usize) -> Look<'a> {
        Look { place: &self.tools[tool].1, mount: self.mount, name, later }
    }

    fn save_all(&mut self, outcome: &mut Outcome) -> Result<()> {
        for (tool, place) in &self.tools {
            fs::create_dir_all(place.join("home")).with_context(|| format!("cannot make {}", place.display()))?;
            for command in tool.init(place, self.mount) {
                measure(command, self.work)?;
            }
        }
        for (number, state) in self.corpus.states().iter().enumerate() {
            let _mounted = Mounted::new(&self.corpus.state(state), self.mount)?;
            let limited = usize::from(number == 0 && self.corpus.kind() == Kind::Trees);
            for i in self.turns(limited) {
                let Some((tool, place)) = self.tools.get(i) else {
                    outcome.results.add(LIMIT, Step::Save(number), limit::measure_limit(self.mount, self.work)?);
                    continue;
                };
                for command in tool.prepare(place, self.mount, state) {
                    measure(command, self.work)?;
                }
                self.corpus.warm(self.mount)?;
                let measured = measure(tool.save(place, self.mount, state), self.work)?;
                outcome.results.add(tool.name(), Step::Save(number), measured);
                outcome.results.add_size(tool.name(), number, contents(&repository(place))?.bytes);
                eprintln!("{} saves {state} in {:.2} s", tool.name(), measured.wall_s);
            }
            if *state == AGAIN {
                for i in self.turns(0) {
                    let (tool, place) = &self.tools[i];
                    self.corpus.warm(self.mount)?;
                    let again = tool.save(place, self.mount, &format!("{state}-again"));
                    outcome.results.add(tool.name(), Step::SaveAgain, measure(again, self.work)?);
                }
            }
        }
        Ok(())
    }

    /// Builds one state with every tool and with `cp -a`, each into a fresh directory, and with vml the first one, too.
    fn build_all(&mut self, outcome: &mut Outcome) -> Result<()> {
        let built = self.corpus.state(BUILT);
        let position = self.corpus.states().iter().position(|state| *state == BUILT).context("the built state is one of the states")?;
        let later = self.corpus.states().len() - 1 - position;
        let target = self.work.join("built");
        for i in self.turns(1) {
            let (name, mut builds) = match self.tools.get(i) {
                Some((tool, _)) => (tool.name(), tool.builds(&self.look(i, BUILT, later), &target)),
                None => {
                    self.corpus.warm(&built)?;
                    let mut copy = Command::new("cp");
                    copy.arg("-a").arg(&built).arg(target.join("copy"));
                    (FLOOR, vec![(Step::Build, copy)])
                }
            };
            if name == "vml" && self.corpus.kind() == Kind::Trees {
                builds.push((Step::BuildFirst, self.tools[i].0.build(&self.look(i, STATES[0], 0), &target)));
            }
            for (step, command) in builds {
                fs::create_dir(&target).with_context(|| format!("cannot make {}", target.display()))?;
                let measured = measure(command, self.work)?;
                eprintln!("{name}: {} in {:.2} s", step.title(), measured.wall_s);
                outcome.results.add(name, step, measured);
                outcome.results.add_written(name, step, allocated(&target)?);
                if self.number == 0 && name.starts_with("vml") && step != Step::BuildFirst {
                    outcome.compared.push(verify(name, self.corpus.kind(), &built, &target, self.work)?);
                }
                fs::remove_dir_all(&target).with_context(|| format!("cannot remove {}", target.display()))?;
            }
        }
        Ok(())
    }
}

/// What the files below `dir` take on their file system.
fn allocated(dir: &Path) -> Result<u64> {
    let mut bytes = 0;
    walk(dir, &mut |_, metadata| {
        bytes += metadata.blocks() * 512;
        Ok(())
    })?;
    Ok(bytes)
}

/// Compares what vml built in `target` with the state; a sentence about it.
pub(super) fn verify(name: &str, kind: Kind, state: &Path, target: &Path, work: &Path) -> Result<String> {
    match kind {
        Kind::Trees => {
            let comparison = compare_directories(state, target, CompareOptions { owners: true, holes: true })?;
            if let Some(first) = comparison.differences.first() {
                bail!("{name} built {} with {} differences, the first one: {first}", state.display(), comparison.differences.len());
            }
            let members = comparison.members_count;
            Ok(format!("The tree that {name} built in the first run was compared with the state: {members} members are equal."))
        }
        Kind::Images => {
            let format = if target.join("disk.raw").exists() { "raw" } else { "qcow2" };
            let image = target.join("disk").with_extension(format);
            let mut compare = Command::new("qemu-img");
            compare.args(["compare", "-f", "raw", "-F", format]).arg(state).arg(image);
            measure(compare, work).with_context(|| format!("{name} built {BUILT} as {format} otherwise than it was saved"))?;
            Ok(format!(
                "The {format} image that {name} built in the first run was compared with the state by `qemu-img compare`: it is equal."
            ))
        }
    }
}

/// The numbers below `count`, beginning with `turn` modulo `count`.
fn order(count: usize, turn: usize) -> impl Iterator<Item = usize> + use<> {
    (0..count).map(move |i| (i + turn) % count)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn everyone_is_first_in_turn() {
        assert_eq!(order(3, 0).collect::<Vec<_>>(), [0, 1, 2]);
        assert_eq!(order(3, 4).collect::<Vec<_>>(), [1, 2, 0]);
        assert_eq!(order(0, 4).count(), 0);
    }
}
