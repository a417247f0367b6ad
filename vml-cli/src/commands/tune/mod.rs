//! `vml tune`: what settings of a repository come to on one's own data.
//!
//! Each trial is a process of its own, so that its memory is its own, and saves into a real repository that is removed
//! afterwards.

mod plot;
mod trial;

use super::{Context, Outcome};
use crate::args::TuneArgs;
use crate::output::{human, json};
use anyhow::{Context as _, Result, bail};
use serde_json::{Value, json};
use std::fs;
use std::process::{Command, Stdio};
use vml_core::tune::{self, Trial, TrialResult, chunker_name, recommend, short};
use vml_core::{Error, IoResultExt as _};

pub fn run(context: &Context, args: &TuneArgs) -> Result<Outcome> {
    if args.disks.is_empty() && args.tree.is_empty() {
        bail!(Error::invalid("there is nothing to try settings on: say --disk IMAGE or --tree DIR"));
    }
    if let Some(trial) = &args.trial {
        return trial::run(context, args, trial);
    }
    let chunkers = if args.chunker.is_empty() {
        tune::default_chunkers()
    } else {
        args.chunker.iter().map(|text| super::init::parse_chunker(text)).collect::<Result<_>>()?
    };
    let frames = if args.frame.is_empty() { tune::FRAMES.to_vec() } else { args.frame.clone() };
    let levels = if args.level.is_empty() { tune::LEVELS.to_vec() } else { args.level.clone() };
    let trials = tune::trials(&chunkers, &frames, &levels, args.all);
    let mut results = Vec::new();
    if !context.json() {
        context.say(format_args!(
            "{:<48} {:>12} {:>10} {:>10} {:>9} {:>11}",
            "settings", "stored", "chunks", "index", "MB/s", "peak memory"
        ))?;
    }
    for trial in &trials {
        let result = one(context, args, trial)?;
        results.push(result);
        if context.json() {
            crate::output::value(&describe(trial, &result))?;
        }
        context.say(format_args!(
            "{:<48} {:>12} {:>10} {:>10} {:>9.0} {:>11}",
            trial.options(),
            human::size(result.stored_bytes),
            human::count(result.chunks_count),
            human::size(result.index_bytes),
            result.speed() / 1e6,
            human::size(result.peak_bytes)
        ))?;
    }
    let best = recommend(&results);
    if let Some(path) = &args.svg {
        fs::write(path, plot::svg(&trials, &results, best)).at(|| format!("cannot write {}", path.display()))?;
    }
    if context.json() {
        crate::output::value(
            &json!({ "recommended": describe(&trials[best], &results[best]), "svg": args.svg.as_deref().map(json::host_path) }),
        )?;
    }
    let why = if best == 0 {
        "the default: nothing else gains 2 % without being much slower".to_owned()
    } else {
        let ratio = results[best].stored_bytes as f64 / results[0].stored_bytes.max(1) as f64;
        format!("{ratio:.2} of the default's size at {:.2} of its speed", results[best].speed() / results[0].speed().max(1.0))
    };
    context.say(format_args!("\nrecommended: vml init {}\n({why})", trials[best].options()))?;
    Ok(Outcome::Done)
}

/// Makes one trial in a process of its own.
fn one(context: &Context, args: &TuneArgs, trial: &Trial) -> Result<TrialResult> {
    let program = std::env::current_exe().context("cannot find this program to start it again")?;
    let mut command = Command::new(program);
    command.args(["--quiet", "tune", "--trial"]).arg(format!("{};{};{}", chunker_name(&trial.chunker), trial.frame_len, trial.level));
    command.arg("--threads").arg(context.options().threads.to_string());
    for disk in &args.disks {
        command.arg("--disk").arg(disk.to_string());
    }
    for dir in &args.allow_dir {
        command.arg("--allow-dir").arg(dir);
    }
    for tree in &args.tree {
        command.arg("--tree").arg(tree);
    }
    if let Some(work) = &args.work {
        command.arg("--work").arg(work);
    }
    let output = command.stdin(Stdio::null()).output().context("cannot start a trial")?;
    if !output.status.success() {
        let told = String::from_utf8_lossy(&output.stderr);
        bail!(Error::invalid(format!("the trial {} failed: {}", trial.options(), told.trim())));
    }
    trial::read(&output.stdout).with_context(|| format!("the trial {} told nothing that can be read", trial.options()))
}

fn describe(trial: &Trial, result: &TrialResult) -> Value {
    json!({
        "chunker": chunker_name(&trial.chunker),
        "frame": short(trial.frame_len),
        "level": trial.level,
        "stored_bytes": result.stored_bytes,
        "index_bytes": result.index_bytes,
        "chunks": result.chunks_count,
        "input_bytes": result.input_bytes,
        "bytes_per_second": result.speed().round(),
        "elapsed_ms": result.elapsed_ms,
        "peak_bytes": result.peak_bytes,
    })
}
