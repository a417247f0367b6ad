//! What is done with states once they are saved: a single file restored, two compared, all listed, everything checked, a repository compacted,
//! and at last a save after 1 % was changed. Of disks, listing and compacting.

use super::corpus::{Corpus, Kind, STATES, contents, walk};
use super::edit::{SHARE, edit_tree};
use super::measure::measure;
use super::mount::Mounted;
use super::results::{COMPACTED, Step};
use super::run::{Outcome, Run, verify};
use super::tools::{Look, Vml, repository};
use anyhow::{Context as _, Result, bail};
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

/// The states that are compared with each other, and after the newer one so many were saved.
const COMPARED: [&str; 2] = ["w2", "w3"];
const LATER: usize = 1;
/// What one file that is restored has about; it is the nearest to this in the last state.
const FILE_LEN: u64 = 10_000_000;

/// All of it, each with every tool that can, in turns.
pub(super) fn measure_all(run: &mut Run<'_>, outcome: &mut Outcome) -> Result<()> {
    // Beside disks some of the trees are saved for their sizes alone.
    let trees = run.corpus.kind() == Kind::Trees && run.corpus.states().len() == STATES.len();
    if trees {
        restore_files(run, outcome)?;
        for i in run.turns(0) {
            let (tool, _) = &run.tools[i];
            if let Some(diff) = tool.diff(&run.look(i, COMPARED[0], LATER + 1), &run.look(i, COMPARED[1], LATER))? {
                outcome.results.add(tool.name(), Step::Diff, measure(diff, run.work)?);
            }
        }
    }
    for i in run.turns(0) {
        let (tool, place) = &run.tools[i];
        let list = tool.list(place).map(|list| (Step::List, list));
        for (step, command) in list.into_iter().chain(tool.others(place)) {
            outcome.results.add(tool.name(), step, measure(command, run.work)?);
        }
    }
    if trees {
        for i in run.turns(0) {
            let (tool, place) = &run.tools[i];
            if let Some(check) = tool.check(place) {
                let measured = measure(check, run.work)?;
                eprintln!("{}: checks in {:.2} s", tool.name(), measured.wall_s);
                outcome.results.add(tool.name(), Step::Check, measured);
            }
        }
    }
    // As the slow tools.
    if run.number == 0 {
        compact(run, outcome)?;
    }
    if trees {
        save_few(run, outcome)?;
    }
    Ok(())
}

/// Restores a single file of the last state, and compares it.
fn restore_files(run: &mut Run<'_>, outcome: &mut Outcome) -> Result<()> {
    let last = STATES[STATES.len() - 1];
    let (path, len) = file_near(run.corpus, last, FILE_LEN)?;
    if run.number == 0 {
        outcome.compared.push(format!("The file that is restored from {last} is `{}`, {len} bytes.", path.display()));
    }
    let wanted = fs::read(run.corpus.state(last).join(&path)).with_context(|| format!("cannot read {}", path.display()))?;
    let target = run.work.join("restored");
    for i in run.turns(0) {
        let (tool, _) = &run.tools[i];
        fs::create_dir(&target).with_context(|| format!("cannot make {}", target.display()))?;
        if let Some(restore) = tool.restore_file(&run.look(i, last, 0), &path, &target) {
            outcome.results.add(tool.name(), Step::RestoreFile, measure(restore, run.work)?);
            let mut found = Vec::new();
            walk(&target, &mut |file, _| {
                found.push(fs::read(file)? == wanted);
                Ok(())
            })?;
            if found != [true] {
                bail!("{} restored {} files for {}, or not its bytes", tool.name(), found.len(), path.display());
            }
        }
        fs::remove_dir_all(&target).with_context(|| format!("cannot remove {}", target.display()))?;
    }
    Ok(())
}

/// The regular file of a state whose length is nearest to `len`; the first by name of several.
fn file_near(corpus: &Corpus, state: &str, len: u64) -> Result<(PathBuf, u64)> {
    let dir = corpus.state(state);
    let mut nearest: Option<(u64, PathBuf, u64)> = None;
    walk(&dir, &mut |path, metadata| {
        let far = metadata.len().abs_diff(len);
        if nearest.as_ref().is_none_or(|(least, other, _)| (far, path) < (*least, other)) {
            nearest = Some((far, path.to_path_buf(), metadata.len()));
        }
        Ok(())
    })?;
    let (_, path, len) = nearest.with_context(|| format!("there is no file in {}", dir.display()))?;
    Ok((path.strip_prefix(&dir)?.to_path_buf(), len))
}

/// Compacts a copy of vml's repository, if this vml can, and builds from it.
fn compact(run: &mut Run<'_>, outcome: &mut Outcome) -> Result<()> {
    for i in 0..run.tools.len() {
        let (tool, place) = &run.tools[i];
        let (copy, target) = (run.work.join("compacted"), run.work.join("built"));
        let Some(command) =
            Some(tool).filter(|tool| tool.name() == "vml").and_then(|tool| Vml::new(tool.program().to_path_buf()).compact(&copy))
        else {
            continue;
        };
        copy_dir(place, &copy)?;
        let measured = measure(command, run.work)?;
        outcome.results.add(COMPACTED, Step::Compact, measured);
        outcome.results.add_size(COMPACTED, run.corpus.states().len() - 1, contents(&repository(&copy))?.bytes);
        fs::create_dir(&target).with_context(|| format!("cannot make {}", target.display()))?;
        let look = Look { place: &copy, ..run.look(i, COMPARED[1], LATER) };
        outcome.results.add(COMPACTED, Step::Build, measure(tool.build(&look, &target), run.work)?);
        if run.number == 0 {
            let state = run.corpus.state(COMPARED[1]);
            outcome.compared.push(verify("vml, after compacting,", run.corpus.kind(), &state, &target, run.work)?);
        }
        for dir in [&copy, &target] {
            fs::remove_dir_all(dir).with_context(|| format!("cannot remove {}", dir.display()))?;
        }
    }
    Ok(())
}

/// Saves a copy of the last state twice, the second time after 1 % of its bytes were edited.
fn save_few(run: &mut Run<'_>, outcome: &mut Outcome) -> Result<()> {
    let copy = run.work.join("edited");
    copy_dir(&run.corpus.state(STATES[STATES.len() - 1]), &copy)?;
    let mounted = Mounted::new(&copy, run.mount)?;
    for (tool, place) in &run.tools {
        run.corpus.warm(run.mount)?;
        measure(tool.save(place, run.mount, "copy"), run.work)?;
    }
    let edited = edit_tree(&copy, run.number as u64, SHARE)?;
    if run.number == 0 {
        outcome.compared.push(format!("For the save with 1 % changed {edited}."));
    }
    for i in run.turns(0) {
        let (tool, place) = &run.tools[i];
        run.corpus.warm(run.mount)?;
        let measured = measure(tool.save(place, run.mount, "edited"), run.work)?;
        eprintln!("{}: {} in {:.2} s", tool.name(), Step::SaveFew.title(), measured.wall_s);
        outcome.results.add(tool.name(), Step::SaveFew, measured);
    }
    drop(mounted);
    fs::remove_dir_all(&copy).with_context(|| format!("cannot remove {}", copy.display()))
}

/// `cp -a`.
pub(super) fn copy_dir(from: &Path, to: &Path) -> Result<()> {
    let status = Command::new("cp").arg("-a").arg(from).arg(to).status().context("cannot start cp")?;
    if !status.success() {
        bail!("cp cannot copy {}", from.display());
    }
    Ok(())
}
