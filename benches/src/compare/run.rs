//! The order of everything: so that each tool has the same chances.
//!
//! Per run every tool gets a fresh repository. The states are saved one after the other; for each the tools take turns,
//! in an order that rotates from state to state and from run to run, and every measured save is preceded by a reading
//! of the whole state. Builds and lists come when all states are saved.

use super::corpus::{AGAIN, BUILT, Contents, Corpus, Kind, contents, walk};
use super::measure::measure;
use super::mount::Mounted;
use super::results::{FLOOR, Results, Step};
use super::tools::{Tool, repository};
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
    /// Sentences about what vml built and was then compared with the state.
    pub compared: Vec<String>,
}

/// Runs the comparison `runs` times below `work`.
///
/// # Errors
/// When a tool fails, or vml builds anything but what was saved.
pub fn run(tools: &[Box<dyn Tool>], corpus: &Corpus, runs: usize, work: &Path) -> Result<Outcome> {
    let mount = mount_point(corpus.kind(), work)?;
    let states = corpus.states().iter().map(|state| corpus.contents(state)).collect::<Result<Vec<_>>>()?;
    let mut outcome = Outcome { kind: corpus.kind(), results: Results::default(), states, compared: Vec::new() };
    for run in 0..runs {
        let places: Vec<PathBuf> = tools.iter().map(|tool| work.join(tool.name())).collect();
        for (tool, place) in tools.iter().zip(&places) {
            fs::create_dir_all(place.join("home")).with_context(|| format!("cannot make {}", place.display()))?;
            for command in tool.init(place, &mount) {
                measure(command, work)?;
            }
        }
        let mut turn = run;
        for (number, state) in corpus.states().iter().enumerate() {
            let _mounted = Mounted::new(&corpus.state(state), &mount)?;
            for i in order(tools.len(), turn) {
                let (tool, place) = (tools[i].as_ref(), &places[i]);
                for command in tool.prepare(place, &mount, state) {
                    measure(command, work)?;
                }
                corpus.warm(&mount)?;
                let measured = measure(tool.save(place, &mount, state), work)?;
                outcome.results.add(tool.name(), Step::Save(number), measured);
                outcome.results.add_size(tool.name(), number, contents(&repository(place))?.bytes);
                eprintln!("run {} of {runs}: {} saves {state} in {:.2} s", run + 1, tool.name(), measured.wall_s);
            }
            turn += 1;
            if *state == AGAIN {
                for i in order(tools.len(), turn) {
                    corpus.warm(&mount)?;
                    let again = format!("{state}-again");
                    outcome.results.add(tools[i].name(), Step::SaveAgain, measure(tools[i].save(&places[i], &mount, &again), work)?);
                }
                turn += 1;
            }
        }
        build_all(tools, &places, corpus, turn, work, run == 0, &mut outcome)?;
        for i in order(tools.len(), turn + 1) {
            outcome.results.add(tools[i].name(), Step::List, measure(tools[i].list(&places[i]), work)?);
        }
        for place in &places {
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

/// Builds one state with every tool and with `cp -a`, each into a fresh directory.
fn build_all(
    tools: &[Box<dyn Tool>],
    places: &[PathBuf],
    corpus: &Corpus,
    turn: usize,
    work: &Path,
    compare: bool,
    outcome: &mut Outcome,
) -> Result<()> {
    let built = corpus.state(BUILT);
    let position = corpus.states().iter().position(|state| *state == BUILT).context("the built state is one of the states")?;
    let later = corpus.states().len() - 1 - position;
    let target = work.join("built");
    // The number after the last tool stands for the floor.
    for i in order(tools.len() + 1, turn) {
        let (name, builds) = match tools.get(i) {
            Some(tool) => (tool.name(), tool.builds(&places[i], BUILT, later, &target)),
            None => {
                corpus.warm(&built)?;
                let mut copy = Command::new("cp");
                copy.arg("-a").arg(&built).arg(target.join("copy"));
                (FLOOR, vec![(Step::Build, copy)])
            }
        };
        for (step, command) in builds {
            fs::create_dir(&target).with_context(|| format!("cannot make {}", target.display()))?;
            let measured = measure(command, work)?;
            eprintln!("{name}: {} in {:.2} s", step.title(), measured.wall_s);
            outcome.results.add(name, step, measured);
            outcome.results.add_written(name, step, allocated(&target)?);
            if compare && name == "vml" {
                outcome.compared.push(verify(corpus.kind(), &built, &target, work)?);
            }
            fs::remove_dir_all(&target).with_context(|| format!("cannot remove {}", target.display()))?;
        }
    }
    Ok(())
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
fn verify(kind: Kind, state: &Path, target: &Path, work: &Path) -> Result<String> {
    match kind {
        Kind::Trees => {
            let comparison = compare_directories(state, target, CompareOptions { owners: true, holes: true })?;
            if let Some(first) = comparison.differences.first() {
                bail!("vml built {BUILT} with {} differences, the first one: {first}", comparison.differences.len());
            }
            let members = comparison.members_count;
            Ok(format!("The tree that vml built in the first run was compared with the state: {members} members are equal."))
        }
        Kind::Images => {
            let format = if target.join("disk.raw").exists() { "raw" } else { "qcow2" };
            let image = target.join("disk").with_extension(format);
            let mut compare = Command::new("qemu-img");
            compare.args(["compare", "-f", "raw", "-F", format]).arg(state).arg(image);
            measure(compare, work).with_context(|| format!("vml built {BUILT} as {format} otherwise than it was saved"))?;
            Ok(format!(
                "The {format} image that vml built in the first run was compared with the state by `qemu-img compare`: it is equal."
            ))
        }
    }
}

/// The numbers below `count`, beginning with `turn` modulo `count`.
fn order(count: usize, turn: usize) -> impl Iterator<Item = usize> {
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
