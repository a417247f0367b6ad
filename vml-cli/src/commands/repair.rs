//! `vml repair`

use super::{Context, Outcome, check};
use crate::args::RepairArgs;
use crate::net::Limit;
use crate::output::{human, json};
use crate::remotes::{self, Opened, list};
use crate::settings;
use anyhow::{Context as _, Result};
use serde_json::{Value, json};
use std::path::Path;
use vml_core::remote::{OpenRemote, RemoteSource};
use vml_core::repository::{PackPlan, RecordFix, RepairOptions, RepairPlan, RepairSource, Repaired};
use vml_core::share::{ShareFile, ShareSource};

/// Paths of one entry that are told to people.
const PATHS_MAX: u64 = 20;

pub fn run(context: &Context, args: &RepairArgs) -> Result<Outcome> {
    let repository = context.open(false)?;
    if let Some(percent) = args.parity {
        if args.dry_run {
            context.say(format_args!("packs would get parity of {percent} %"))?;
        } else {
            let policy = repository.policy()?;
            repository.set_policy(&vml_core::repository::Policy { parity_percent: percent, ..policy })?;
        }
    }
    let others = open_others(context, &args.from)?;
    let progress = context.progress();
    let plan = repository.plan_repair(RepairOptions { data: !args.known }, &progress);
    progress.finish();
    let plan = plan?;
    tell_plan(context, &plan)?;
    if args.dry_run {
        if context.json() {
            crate::output::value(&json!({ "plan": plan_json(&plan), "notices": progress.notices() }))?;
        }
        context.say("nothing was changed")?;
        return Ok(Outcome::of((plan.packs.len() + plan.records.len() + plan.missing_packs.len() + plan.unreadable.len()) as u64));
    }
    if plan.takes_away() {
        context.confirm("Do this? What is sound is saved before anything is taken away.", args.yes)?;
    }
    let progress = context.progress();
    let now_ms = settings::now_ms();
    let open: Vec<Option<OpenRemote<'_>>> = others
        .iter()
        .map(|(_, other)| match other {
            Other::Remote(Opened::Repository(repository)) => Some(OpenRemote::new(repository, "", true, now_ms)),
            _ => None,
        })
        .collect();
    let mut boxed: Vec<Box<dyn RepairSource + '_>> = Vec::new();
    for ((name, other), open) in others.iter().zip(&open) {
        match (other, open) {
            (Other::File(file), _) => boxed.push(Box::new(ShareSource::new(file, name.clone()))),
            (Other::Remote(Opened::Service(service)), _) => boxed.push(Box::new(RemoteSource::new(service.as_ref(), name.clone()))),
            (Other::Remote(_), Some(open)) => boxed.push(Box::new(RemoteSource::new(open, name.clone()))),
            (Other::Remote(_), None) => {}
        }
    }
    let sources: Vec<&dyn RepairSource> = boxed.iter().map(AsRef::as_ref).collect();
    let repaired = repository.repair(&plan, &sources, if context.json() { u64::MAX } else { PATHS_MAX }, &progress);
    progress.finish();
    let repaired = repaired.context("the repair did not come to its end; what was done stays done, and it can be done again")?;
    if context.json() {
        crate::output::value(&json!({
            "plan": plan_json(&plan),
            "packs": repaired.packs_count,
            "salvaged_chunks": repaired.salvaged_chunks_count,
            "written_bytes": repaired.written_bytes,
            "indexed_packs": repaired.indexed_packs_count,
            "healed_chunks": repaired.healed_chunks_count,
            "healed_bytes": repaired.healed_bytes,
            "fetched_entries": repaired.fetched_entries_count,
            "records": repaired.records.iter().map(|(key, what)| json!({ "key": key, "what": what })).collect::<Vec<_>>(),
            "parity_files": repaired.parity_count,
            "touched": repaired.checked.touched.iter().map(|touched| json!({
                "entry": touched.entry.to_string(), "of": super::entry_of(touched.kind.as_ref()), "paths": touched.paths_count,
            })).collect::<Vec<_>>(),
            "problems": json::problems(&progress.problems()),
            "notices": progress.notices(),
        }))?;
    }
    tell_done(context, &repaired)?;
    Ok(Outcome::of(repaired.problems_count))
}

/// Somewhere else, open.
enum Other {
    File(Box<ShareFile<'static>>),
    Remote(Opened),
}

/// A share file, the name of a remote, or where a repository is.
fn open_others(context: &Context, from: &[String]) -> Result<Vec<(String, Other)>> {
    let remotes = list::all()?;
    let open = |name: &String| -> Result<Other> {
        if Path::new(name).is_file() {
            return Ok(Other::File(Box::new(ShareFile::open(Path::new(name))?)));
        }
        let entry = match remotes.get(name) {
            Some(entry) => entry.clone(),
            None => list::Entry { url: remotes::normal(name)?, own: true, token: None, program: None },
        };
        Ok(Other::Remote(Opened::open(&entry, Limit::new(None), context.options(), context.keys())?))
    };
    let named = |name: &String| -> Result<(String, Other)> {
        let other = open(name).with_context(|| format!("cannot use {name}"))?;
        Ok((name.clone(), other))
    };
    from.iter().map(named).collect()
}

fn tell_plan(context: &Context, plan: &RepairPlan) -> Result<()> {
    context.say(format_args!("read {}, {}", human::counted(plan.read_packs_count, "pack"), human::size(plan.read_bytes)))?;
    for pack in &plan.packs {
        let key = format!("{}/{}", pack.kind.dir(), pack.id.short());
        context.say(format_args!("pack {key}, {}: {}", human::size(pack.len), pack_line(pack)))?;
    }
    for (key, reason) in &plan.unreadable {
        context.say(format_args!("pack {key}: it stays as it is: {reason}"))?;
    }
    for key in &plan.missing_packs {
        context.say(format_args!("pack {key}: it is missing, and the index forgets it"))?;
    }
    for record in &plan.records {
        let fix = match &record.fix {
            RecordFix::Set(_, says) => format!("it is set: {says}"),
            RecordFix::TakeAway(why) => format!("it is taken away: {why}"),
            RecordFix::FetchEntry(_) => "it is fetched with --from, or stays".to_owned(),
            RecordFix::FetchNote(..) => "it is fetched with --from, or taken away".to_owned(),
        };
        context.say(format_args!("{}: {}; {fix}", record.key, record.reason))?;
    }
    if plan.without_parity_count > 0 {
        context.say(format_args!("{} get parity", human::counted(plan.without_parity_count, "pack")))?;
    }
    if plan.is_empty() { context.say("nothing is damaged but what entries may lack") } else { Ok(()) }
}

fn pack_line(pack: &PackPlan) -> String {
    match pack.bad_count {
        _ if pack.mendable => "all of it comes back by its parity".to_owned(),
        Some(bad) => format!("{} chunks in it are sound, {} are not", human::count(pack.sound_count), human::count(bad)),
        None => format!("its footer is lost; {} chunks in it are sound", human::count(pack.sound_count)),
    }
}

fn plan_json(plan: &RepairPlan) -> Value {
    let fix = |fix: &RecordFix| match fix {
        RecordFix::Set(_, says) => json!({ "do": "set", "says": says }),
        RecordFix::TakeAway(why) => json!({ "do": "take_away", "why": why }),
        RecordFix::FetchEntry(_) => json!({ "do": "fetch_entry" }),
        RecordFix::FetchNote(..) => json!({ "do": "fetch_note" }),
    };
    json!({
        "read_packs": plan.read_packs_count,
        "read_bytes": plan.read_bytes,
        "packs": plan.packs.iter().map(|pack| json!({
            "pack": pack.kind.key(&pack.id),
            "bytes": pack.len,
            "mendable": pack.mendable,
            "sound_chunks": pack.sound_count,
            "bad_chunks": pack.bad_count,
            "reason": pack.reason,
        })).collect::<Vec<_>>(),
        "unreadable": plan.unreadable.iter().map(|(pack, reason)| json!({ "pack": pack, "reason": reason })).collect::<Vec<_>>(),
        "missing_packs": plan.missing_packs,
        "records": plan.records.iter().map(|record| json!({
            "key": record.key, "reason": record.reason, "fix": fix(&record.fix),
        })).collect::<Vec<_>>(),
        "without_parity": plan.without_parity_count,
    })
}

fn tell_done(context: &Context, repaired: &Repaired) -> Result<()> {
    if repaired.packs_count > 0 {
        context.say(format_args!(
            "saved {} and took away {}; wrote {}",
            human::counted(repaired.salvaged_chunks_count, "chunk"),
            human::counted(repaired.packs_count, "pack"),
            human::size(repaired.written_bytes)
        ))?;
    }
    for (key, what) in &repaired.records {
        context.say(format_args!("{key}: {what}"))?;
    }
    if repaired.healed_chunks_count > 0 {
        let chunks = human::counted(repaired.healed_chunks_count, "chunk");
        context.say(format_args!("fetched {chunks} that were lost, {}", human::size(repaired.healed_bytes)))?;
    }
    if repaired.parity_count > 0 {
        context.say(format_args!("made parity for {}", human::counted(repaired.parity_count, "pack")))?;
    }
    check::tell_touched(context, &repaired.checked)?;
    if repaired.problems_count == 0 {
        context.say("everything is whole")
    } else {
        context.say(format_args!("{} left", human::counted(repaired.problems_count, "problem")))
    }
}
