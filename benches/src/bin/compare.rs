//! `cargo run --release -p benches --bin compare`: VML beside restic, Borg, rustic and others; see `docs/benchmarks.md`.

use anyhow::{Context as _, Result};
use benches::compare::corpus::{Corpus, Kind, STATES};
use benches::compare::machine::Machine;
use benches::compare::options::Options;
use benches::compare::report::{self, Setting, ToolInfo};
use benches::compare::tools::{DiskVml, Vml};
use benches::compare::verdict::verdicts;
use benches::compare::{disks, limit, live, million, mount, page, plot, run, scale, series, sharing, tools, tune, upkeep};
use clap::Parser;
use serde_json::{Map, Value};
use std::fs;
use std::path::Path;
use std::process::ExitCode;

fn main() -> ExitCode {
    match compare(&Options::parse()) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("compare: {error:#}");
            ExitCode::FAILURE
        }
    }
}

fn compare(options: &Options) -> Result<()> {
    if let Some(repository) = &options.fill_million {
        return million::fill(repository);
    }
    if let Some((step, (place, chunks))) =
        options.scale_step.as_deref().zip(options.scale_place.as_deref().zip(options.scale.first().copied()))
    {
        println!("{}", scale::steps::run(step, &scale::steps::place(place, options.scale_key.as_deref(), chunks))?);
        return Ok(());
    }
    if let Some([dir, result]) = options.measure_limit.as_deref() {
        return limit::tell_limit(dir, result);
    }
    if let Some([repository, name, target, result]) = options.count_decoded.as_deref() {
        return series::count::tell_count(repository, &name.to_string_lossy(), target, result);
    }
    if let Some((from, dir)) = options.plot_from.as_deref().zip(options.plots.as_deref()) {
        let text = fs::read_to_string(from).with_context(|| format!("cannot read {}", from.display()))?;
        return plot::write(&serde_json::from_str(&text)?, dir);
    }
    options.check()?;
    let kind = if options.disks || options.tune || options.machines.is_some() { Kind::Images } else { Kind::Trees };
    let corpus = options.corpus.as_deref().map(|dir| Corpus::open(dir, kind)).transpose()?;
    if kind == Kind::Images {
        disks::check()?;
    }
    if corpus.is_some() && !options.inside {
        // Built before, while cargo still sees the world as it is.
        if kind == Kind::Images || options.tools.iter().any(|tool| tool == "vml") {
            tools::locate_vml(options)?;
        }
        return mount::enter_namespace();
    }
    let work = tempfile::Builder::new().prefix("vml-compare-").tempdir_in(&options.work);
    let work = work.with_context(|| format!("cannot work in {}", options.work.display()))?;
    let machine = Machine::this();
    let mut blocks = Vec::new();
    let mut numbers = Map::new();
    if let Some(dir) = options.corpus.as_deref().filter(|_| options.sharing) {
        let vml = Vml::new(tools::locate_vml(options)?);
        let (sizes, runs) = sharing::run(&vml, &fs::canonicalize(dir)?, options.runs.into(), work.path())?;
        blocks.push(("sharing", sharing::report::markdown(&report::machine_line(&machine), &sizes, &runs)));
        numbers.insert("sharing".to_owned(), sharing::report::to_json(&sizes, &runs));
    }
    if let Some(corpus) = corpus.as_ref().filter(|_| options.upkeep) {
        let vml = Vml::new(tools::locate_vml(options)?);
        let restic = tools::in_path("restic").context("restic is not installed: apt-get install restic")?;
        let runs = upkeep::run(&vml, &tools::Restic::new(restic), corpus, options.runs.into(), work.path())?;
        blocks.push(("upkeep", upkeep::report::markdown(&report::machine_line(&machine), &runs)));
        numbers.insert("upkeep".to_owned(), upkeep::report::to_json(&runs));
    }
    if let Some(corpus) = corpus.as_ref().filter(|_| options.series) {
        let vml = Vml::new(tools::locate_vml(options)?);
        let series = series::run(&vml, corpus, options.runs.into(), work.path())?;
        blocks.push(("series", series::report::markdown(&report::machine_line(&machine), &series)));
        numbers.insert("series".to_owned(), series::report::to_json(&series));
    }
    let alone = options.sharing || options.upkeep || options.series;
    if let Some(corpus) = corpus.as_ref().filter(|_| kind == Kind::Trees && !alone) {
        let found = tools::find(options, &|vml| Box::new(vml))?;
        let outcome = run::run(&found, corpus, options.runs.into(), work.path())?;
        let (setting, goals) = (setting(options, &machine, &found, work.path())?, verdicts(&outcome.results));
        blocks.push(("compare", report::markdown(&setting, &outcome, &goals, &[], "")));
        numbers.insert("compare".to_owned(), report::to_json(&setting, &outcome, &goals));
    }
    if let Some(corpus) = corpus.as_ref().filter(|_| options.disks) {
        let base_image = corpus.state(STATES[0]);
        let found = tools::find(&Options { tools: disks::tools(&options.tools), ..options.clone() }, &|vml| {
            Box::new(DiskVml { vml, base_image: base_image.clone() })
        })?;
        let vml = Vml::new(tools::locate_vml(options)?);
        let outcome = disks::run(&found, &vml, corpus, options.runs.into(), work.path())?;
        let setting = setting(options, &machine, &found, work.path())?;
        blocks.push(("disks", disks::report::markdown(&setting, &outcome)));
        numbers.insert("disks".to_owned(), disks::report::to_json(&setting, &outcome));
    }
    if let Some(corpus) = corpus.as_ref().filter(|_| options.tune) {
        let vml = Vml::new(tools::locate_vml(options)?);
        let lines = tune::run(&vml, &tune::TUNED.map(|state| corpus.state(state)), work.path())?;
        blocks.push(("tune", format!("{} {}", report::machine_line(&machine), tune::markdown(&lines)?)));
        numbers.insert("tune".to_owned(), lines.into());
    }
    if let Some((corpus, guest)) = corpus.as_ref().zip(options.machines.as_deref()) {
        let vml = Vml::new(tools::locate_vml(options)?);
        let data = corpus.state("w3");
        let guest = fs::canonicalize(guest).with_context(|| format!("cannot find {}", guest.display()))?;
        let data = fs::canonicalize(data)?;
        let runs = live::run(&vml, &guest, &data, options.runs.into(), work.path())?;
        blocks.push(("machines", live::report::markdown(&report::machine_line(&machine), &runs)));
        numbers.insert("machines".to_owned(), live::report::to_json(&runs));
    }
    if options.log_million {
        let vml = Vml::new(tools::locate_vml(options)?);
        let rows = million::run(&vml, work.path())?;
        blocks.push(("million", format!("{}\n\n{}", report::machine_line(&machine), million::markdown(&rows))));
        numbers.insert("million".to_owned(), million::to_json(&rows));
    }
    if !options.scale.is_empty() {
        let vml = Vml::new(tools::locate_vml(options)?);
        let sizes = scale::run(&vml, &options.scale, work.path())?;
        blocks.push(("scale", scale::report::markdown(&report::machine_line(&machine), &sizes)));
        numbers.insert("scale".to_owned(), scale::to_json(&sizes));
    }
    write(options, &blocks, numbers)
}

fn setting(options: &Options, machine: &Machine, tools: &[Box<dyn tools::Tool>], work: &Path) -> Result<Setting> {
    let tools = tools.iter().map(|tool| info(tool.as_ref())).collect::<Result<_>>()?;
    Ok(Setting { machine: machine.clone(), tools, runs: options.runs, in_memory: is_tmpfs(work) })
}

fn info(tool: &dyn tools::Tool) -> Result<ToolInfo> {
    Ok(ToolInfo { name: tool.name(), version: tools::version(tool)?, settings: tool.settings(), guarantees: tool.guarantees() })
}

fn is_tmpfs(path: &Path) -> bool {
    // Its magic number, see statfs(2).
    rustix::fs::statfs(path).is_ok_and(|stat| stat.f_type == 0x0102_1994)
}

/// Prints the blocks, and puts them and the numbers where they were asked for.
fn write(options: &Options, blocks: &[(&str, String)], numbers: Map<String, Value>) -> Result<()> {
    for (_, block) in blocks {
        println!("{block}");
    }
    let numbers = Value::Object(numbers);
    // First what cannot be made again without measuring.
    if let Some(path) = &options.json {
        let text = serde_json::to_string_pretty(&numbers)?;
        fs::write(path, text + "\n").with_context(|| format!("cannot write {}", path.display()))?;
    }
    if let Some(path) = &options.markdown {
        let mut text = fs::read_to_string(path).with_context(|| format!("cannot read {}", path.display()))?;
        for (name, block) in blocks {
            text = page::replace_block(&text, name, block).with_context(|| format!("cannot change {}", path.display()))?;
        }
        fs::write(path, text).with_context(|| format!("cannot write {}", path.display()))?;
    }
    if let Some(dir) = &options.plots {
        plot::write(&numbers, dir)?;
    }
    Ok(())
}
