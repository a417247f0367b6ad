//! `vml check`

use super::{Context, Outcome};
use crate::args::{CheckArgs, SampleSize};
use crate::checks::{self, Log};
use crate::output::{human, json};
use anyhow::Result;
use serde_json::json;
use vml_core::Repository;
use vml_core::repository::{CheckLog, CheckOptions, Checked, NoLog, Sample, Touched};

/// Paths of one entry that are told to people.
const PATHS_MAX: u64 = 20;

pub fn run(context: &Context, args: &CheckArgs) -> Result<Outcome> {
    let repository = context.open(false)?;
    let progress = context.progress();
    let id = repository.config().id;
    let samples = checks::samples(&id);
    let sample = args.sample.map(|size| Ok::<_, anyhow::Error>(sample_of(size, &repository, samples)?)).transpose()?;
    let options =
        CheckOptions { data: args.data || sample.is_some(), sample, paths_max: if context.json() { u64::MAX } else { PATHS_MAX } };
    // A sample is short; only what reads everything is gone on with.
    let log = (options.data && sample.is_none()).then(|| Log::open(&id, args.restart));
    let checked = repository.check_with(options, log.as_ref().map_or(&NoLog as &dyn CheckLog, |log| log as &dyn CheckLog), &progress);
    progress.finish();
    let checked = checked?;
    let since_ms = log.as_ref().and_then(Log::since_ms);
    if let Some(log) = log {
        log.finish();
    }
    if sample.is_some() {
        checks::count_sample(&id, samples);
    }
    if context.json() {
        crate::output::value(&json!({
            "entries": checked.entries_count,
            "listings": checked.nodes_count,
            "packs": checked.packs_count,
            "bytes": checked.bytes,
            "skipped_packs": checked.skipped_packs_count,
            "skipped_bytes": checked.skipped_bytes,
            "left_out_packs": checked.left_out_packs_count,
            "touched": checked.touched.iter().map(touched_json).collect::<Vec<_>>(),
            "problems": json::problems(&progress.problems()),
            "notices": progress.notices(),
        }))?;
    }
    if checked.skipped_packs_count > 0 {
        context.say(format_args!(
            "passed over {}, {}, proven since {} by a check that was cut short; --restart reads them again",
            human::counted(checked.skipped_packs_count, "pack"),
            human::size(checked.skipped_bytes),
            since_ms.map(human::time).unwrap_or_default()
        ))?;
    }
    if sample.is_some() {
        let rest = human::counted(checked.left_out_packs_count, "pack");
        context.say(format_args!("read a sample of {}; {rest} left for other samples", human::counted(checked.packs_count, "pack")))?;
    }
    tell_touched(context, &checked)?;
    let read = if options.data { format!(", {} read", human::size(checked.bytes)) } else { String::new() };
    let result = if checked.problems_count == 0 {
        "no problems".to_owned()
    } else {
        format!("{} found", human::counted(checked.problems_count, "problem"))
    };
    context.say(format_args!("checked {}{read}: {result}", human::counted(checked.entries_count, "entry")))?;
    Ok(Outcome::of(checked.problems_count))
}

fn sample_of(size: SampleSize, repository: &Repository, round: u64) -> vml_core::Result<Sample> {
    let parts_per_million = match size {
        SampleSize::Parts(parts) => parts,
        SampleSize::Bytes(bytes) => {
            let totals = repository.store(&vml_core::NoMonitor)?.totals();
            let all = u128::from((totals.data_bytes + totals.meta_bytes).max(1));
            u32::try_from((u128::from(bytes) * 1_000_000).div_ceil(all).min(1_000_000)).unwrap_or(1_000_000)
        }
    };
    let mut seed = [0; 8];
    seed.copy_from_slice(&repository.config().id[..8]);
    Ok(Sample { seed: u64::from_le_bytes(seed), round, parts_per_million })
}

fn touched_json(touched: &Touched) -> serde_json::Value {
    json!({ "entry": touched.entry.to_string(), "of": super::entry_of(touched.kind.as_ref()), "paths": touched.paths_count })
}

/// Which entries are not whole.
pub(super) fn tell_touched(context: &Context, checked: &Checked) -> Result<()> {
    for touched in &checked.touched {
        let what = match touched.paths_count {
            0 => "its record cannot be read".to_owned(),
            1 => "one of its paths is touched".to_owned(),
            count => format!("{} of its paths are touched", human::count(count)),
        };
        let of = super::entry_of(touched.kind.as_ref()).map(|of| format!(" of {of}")).unwrap_or_default();
        context.say(format_args!("entry {}{of}: {what}", touched.entry.short()))?;
    }
    Ok(())
}
