//! One trial: saves everything into a fresh repository and tells what that came to.

use super::super::{Context, Outcome, init};
use crate::args::TuneArgs;
use crate::settings;
use anyhow::{Context as _, Result};
use serde::{Deserialize, Serialize};
use std::fs;
use std::path::Path;
use std::sync::Arc;
use std::time::Instant;
use vml_core::entry::EntryKind;
use vml_core::repository::{SaveDisk, SaveRequest, SaveTree, TreePlace};
use vml_core::tree::Exclude;
use vml_core::tune::TrialResult;
use vml_core::{Config, Error, IoResultExt as _, LocalBackend, NoMonitor, Repository};

/// A result on its way to the parent.
#[derive(Serialize, Deserialize)]
struct Told {
    stored_bytes: u64,
    index_bytes: u64,
    chunks_count: u64,
    input_bytes: u64,
    elapsed_ms: u64,
    peak_bytes: u64,
}

pub(super) fn run(context: &Context, args: &TuneArgs, trial: &str) -> Result<Outcome> {
    let wrong = || Error::invalid(format!("{trial:?} is no trial"));
    let [chunker, frame_len, level] = trial.split(';').collect::<Vec<_>>()[..] else { return Err(wrong().into()) };
    let mut config = Config::new(settings::random_id()?, settings::now_ms());
    config.chunker = init::parse_chunker(chunker)?;
    config.frame_len = frame_len.parse().map_err(|_| wrong())?;
    config.level = level.parse().map_err(|_| wrong())?;
    let work = args.work.clone().unwrap_or_else(std::env::temp_dir);
    let folder = work.join(format!("vml-tune-{}", std::process::id()));
    let result = save_all(context, args, config, &folder);
    // Whatever came of it, nothing of it is kept.
    let removed = fs::remove_dir_all(&folder);
    let told = result?;
    removed.at(|| format!("cannot remove {}", folder.display()))?;
    crate::output::value(&serde_json::to_value(told)?)?;
    Ok(Outcome::Done)
}

fn save_all(context: &Context, args: &TuneArgs, config: Config, folder: &Path) -> Result<Told> {
    let repository = Repository::init(Arc::new(LocalBackend::create(folder)?), config, context.options())?;
    let exclude = Exclude::default();
    let started = Instant::now();
    let mut input_bytes = 0;
    // Each input is an area of its own: none may know another's files unread.
    let mut number = 0;
    let mut save = |tree: Option<SaveTree<'_>>, disks: &[SaveDisk<'_>]| -> Result<()> {
        number += 1;
        let request = SaveRequest {
            kind: EntryKind::State { area: format!("trial{number}") },
            tree,
            disks,
            machine: None,
            memory: None,
            add_parts: false,
            base: None,
            author: "",
            message: "",
            tags: &[],
            facts: Vec::new(),
            now: settings::now(),
            learn: None,
            elapsed_ms: &|| 0,
        };
        let entry = repository.save(request, &NoMonitor)?.entry;
        input_bytes += entry.tree().map_or(0, |tree| tree.stats.bytes) + entry.disks().map(|disk| disk.stats.data_bytes).sum::<u64>();
        Ok(())
    };
    for path in &args.tree {
        let tree = SaveTree { place: TreePlace::Local(path), exclude: &exclude, one_file_system: false, users: &[], groups: &[] };
        save(Some(tree), &[]).with_context(|| format!("cannot save {}", path.display()))?;
    }
    for image in &args.disks {
        let disk = image.open(&args.allow_dir)?;
        let disk = SaveDisk { name: &image.name, format: "", disk: disk.as_ref(), changed: None, shown: &[] };
        save(None, &[disk]).with_context(|| format!("cannot save {}", image.file.display()))?;
    }
    let elapsed_ms = settings::elapsed_ms(started);
    let totals = repository.store(&NoMonitor)?.totals();
    Ok(Told {
        stored_bytes: totals.data_bytes + totals.meta_bytes + totals.index_bytes,
        index_bytes: totals.index_bytes,
        chunks_count: totals.chunks_count,
        input_bytes,
        elapsed_ms,
        peak_bytes: peak_bytes()?,
    })
}

/// Most memory this process had, as the kernel tells.
fn peak_bytes() -> Result<u64> {
    let status = fs::read_to_string("/proc/self/status").at(|| "cannot read this process's memory use")?;
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:")).context("the kernel does not tell this process's memory use")?;
    let kib: u64 = line.trim().trim_end_matches(" kB").trim().parse().context("the kernel tells no number")?;
    Ok(kib << 10)
}

/// Reads what a trial printed.
pub(super) fn read(printed: &[u8]) -> Result<TrialResult> {
    let Told { stored_bytes, index_bytes, chunks_count, input_bytes, elapsed_ms, peak_bytes } = serde_json::from_slice(printed)?;
    Ok(TrialResult { stored_bytes, index_bytes, chunks_count, input_bytes, elapsed_ms, peak_bytes })
}
