//! `vml save`, and what `vml base add` shares with it.

use super::trees::{Tree, TreeFrom};
use super::{Context, Outcome, disks, inside, save_machine};
use crate::areas::{self, Area};
use crate::args::SaveArgs;
use crate::images::DiskImage;
use crate::output::{human, json};
use crate::{guests, settings};
use anyhow::{Context as _, Result};
use serde_json::json;
use std::fs;
use std::path::{Path, PathBuf};
use std::time::Instant;
use vml_core::entry::{BaseRef, DiskPart, EntryId, EntryKind, Fact, MachinePart};
use vml_core::machine::LiveDisk;
use vml_core::refs::{RefKind, split_base};
use vml_core::repository::{SaveDisk, SaveMemory, SaveRequest, SaveTree, Saved};
use vml_core::{Error, Repository};
use vml_hv::ssh::Traffic;

/// What to save, from an area's description or a base's arguments.
pub struct What<'a> {
    pub kind: EntryKind,
    pub tree: Option<TreeFrom<'a>>,
    pub disks: &'a [DiskImage],
    pub allow_dir: &'a [PathBuf],
    pub machine: Option<MachinePart>,
    /// What a hypervisor shows, where it does.
    pub live: Live<'a>,
    pub base: Option<&'a str>,
    pub exclude: &'a [String],
    pub default_exclude: bool,
    pub one_file_system: bool,
    pub message: &'a str,
    pub tags: &'a [String],
    pub dry_run: bool,
    /// Whether images that somebody writes to are saved all the same.
    pub in_use: bool,
    /// Whether it is a step of another command, which prints the JSON.
    pub is_step: bool,
}

/// What a machine's hypervisor shows of it.
#[derive(Default)]
pub struct Live<'a> {
    /// Its disks, while it runs.
    pub disks: &'a [LiveDisk],
    /// The entry since which it is known what changed on them.
    pub since: Option<EntryId>,
    /// Its memory.
    pub memory: Option<SaveMemory<'a>>,
    /// What else is known of it.
    pub facts: Vec<Fact>,
}

pub fn run(context: &Context, args: &SaveArgs) -> Result<Outcome> {
    let area = areas::get(&args.area)?;
    if area.is_machine() {
        return save_machine::run(context, args, &area);
    }
    if let (Some(ssh), None | Some("tree")) = (&area.ssh, args.mode.as_deref()) {
        let guest = guests::source(ssh, area.default_exclude, area.one_file_system)?;
        return save(context, What { tree: Some(TreeFrom::Guest(&guest)), ..what(&area, args, None) });
    }
    if let Some(mode) = &args.mode {
        let message = format!("--mode {mode} is for areas that are machines; {} is {}, and saved as that", area.name, area.place());
        return Err(Error::invalid(message).into());
    }
    let machine = area.machine.as_deref().map(disks::machine).transpose()?;
    save(context, what(&area, args, machine))
}

/// What is to be saved of an area that is no machine, or whose machine does not run.
pub fn what<'a>(area: &'a Area, args: &'a SaveArgs, machine: Option<MachinePart>) -> What<'a> {
    What {
        kind: EntryKind::State { area: area.name.clone() },
        tree: area.tree.as_deref().map(TreeFrom::Local),
        disks: &area.disks,
        allow_dir: &area.allow_dir,
        machine,
        live: Live::default(),
        base: area.base.as_deref(),
        exclude: &area.exclude,
        default_exclude: area.default_exclude,
        one_file_system: area.one_file_system,
        message: &args.message,
        tags: &args.tag,
        dry_run: args.dry_run,
        in_use: args.in_use,
        is_step: false,
    }
}

/// Saves what is described, and prints what that cost.
pub fn save(context: &Context, what: What<'_>) -> Result<Outcome> {
    Ok(store(context, what)?.1)
}

/// The same, and tells the entry.
pub fn store(context: &Context, mut what: What<'_>) -> Result<(EntryId, Outcome)> {
    let started = Instant::now();
    let (machine, live) = (what.machine.take(), std::mem::take(&mut what.live));
    let what = &what;
    let mut repository = context.repository()?;
    if what.dry_run {
        repository = repository.discarding();
    }
    let base = what.base.map(|name| find_base(&repository, name)).transpose()?;
    let tree = what.tree.map(|tree| Tree::open(context, what, tree)).transpose()?;
    let open = if live.disks.is_empty() { disks::open(what)? } else { disks::OpenDisks::default() };
    let mut facts = vec![Fact::new("host.name", settings::host()), Fact::new("vml.version", env!("CARGO_PKG_VERSION"))];
    let place = |path: &Path| fs::canonicalize(path).unwrap_or_else(|_| path.to_owned()).display().to_string();
    if let Some(TreeFrom::Local(path)) = what.tree {
        facts.insert(1, Fact::new("host.path", place(path)));
    }
    facts.extend(what.disks.iter().map(|disk| Fact::new(format!("host.disk.{}", disk.name), place(&disk.file))));
    facts.extend(tree.iter().flat_map(|tree| tree.facts.clone()));
    facts.extend(live.facts);
    let live_disks = live.disks.iter().map(|disk| SaveDisk {
        name: &disk.name,
        format: &disk.format,
        disk: disk.disk.as_ref(),
        changed: live.since.zip(disk.changed.as_deref()),
        shown: &[],
    });
    let progress = context.progress();
    let request = SaveRequest {
        kind: what.kind.clone(),
        tree: tree.as_ref().map(|tree| SaveTree {
            place: tree.place(),
            exclude: &tree.exclude,
            one_file_system: what.one_file_system,
            users: &tree.owners.users,
            groups: &tree.owners.groups,
        }),
        disks: &disks::requests(&open).into_iter().chain(live_disks).collect::<Vec<_>>(),
        machine,
        memory: live.memory,
        add_parts: true,
        base,
        author: &settings::author(),
        message: what.message,
        tags: what.tags,
        facts,
        // A tree has said it already.
        learn: what.tree.is_none().then_some(&inside::learn),
        now: settings::now(),
        elapsed_ms: &|| settings::elapsed_ms(started),
    };
    let saved = repository.save(request, &progress);
    progress.finish();
    let saved = saved.with_context(|| match (&what.kind, what.tree) {
        (EntryKind::Base { name, version }, _) => format!("cannot save the base {name}@{version}"),
        (_, Some(tree)) => format!("cannot save {}", tree.shown()),
        (EntryKind::State { area }, None) => format!("cannot save the disks of {area}"),
    })?;
    let elapsed_ms = settings::elapsed_ms(started);
    print(context, what, &saved, elapsed_ms, &progress.problems(), &progress.notices())?;
    Ok((saved.id, Outcome::of(saved.problems_count)))
}

fn find_base(repository: &Repository, text: &str) -> Result<BaseRef> {
    let (name, version) = split_base(text)?;
    let entry = repository.refs().get(RefKind::Base, text)?;
    let entry = entry.ok_or_else(|| Error::not_found(format!("there is no base {text:?} in the repository")))?;
    Ok(BaseRef { name: name.to_owned(), version: version.to_owned(), entry })
}

fn print(
    context: &Context,
    what: &What<'_>,
    saved: &Saved,
    elapsed_ms: u64,
    problems: &[vml_core::Problem],
    notices: &[String],
) -> Result<()> {
    let cost = &saved.stats;
    // Of a base that was given another face only what was saved now.
    let tree = saved.entry.tree().filter(|_| what.tree.is_some());
    let disks: Vec<&DiskPart> = saved.entry.disks().filter(|disk| what.disks.iter().any(|saved| saved.name == disk.name)).collect();
    let traffic = if let Some(TreeFrom::Guest(guest)) = what.tree { Some(guest.transport.traffic()) } else { None };
    if context.json() && what.is_step {
        return Ok(());
    }
    if context.json() {
        let stats = tree.map(|tree| tree.stats).unwrap_or_default();
        let (left_out, more) = tree.map(|tree| (tree.left_out.as_slice(), tree.left_out_more_count)).unwrap_or_default();
        return crate::output::value(&json!({
            "entry": if what.dry_run { None } else { Some(saved.id.to_string()) },
            "dry_run": what.dry_run,
            "origin": saved.entry.origin(),
            "parent": saved.entry.parents.first().map(ToString::to_string),
            "base": saved.entry.base.as_ref().map(|base| format!("{}@{}", base.name, base.version)),
            "files": stats.files_count,
            "directories": stats.directories_count,
            "others": stats.others_count,
            "bytes": stats.bytes + disks.iter().map(|disk| disk.stats.data_bytes).sum::<u64>(),
            "read_files": stats.read_files_count,
            "read_bytes": stats.read_bytes + disks.iter().map(|disk| disk.stats.read_bytes).sum::<u64>(),
            "disks": disks.iter().map(|disk| json::disk(disk)).collect::<Vec<_>>(),
            "memory_bytes": saved.entry.memory().map(|memory| memory.stats.data_bytes),
            "new_chunks": cost.new_chunks,
            "new_bytes": cost.new_bytes,
            "stored_bytes": cost.stored_bytes,
            "received_bytes": traffic.map(Traffic::received),
            "sent_bytes": traffic.map(Traffic::sent),
            "elapsed_ms": elapsed_ms,
            "left_out": left_out.iter().map(json::left_out).collect::<Vec<_>>(),
            "left_out_more": more,
            "problems": json::problems(problems),
            "notices": notices,
        }));
    }
    if let Some(tree) = tree {
        for row in tree.left_out.iter().take(20) {
            context.say(format_args!("left out {}", human::left_out(row)))?;
        }
        let more = tree.left_out.len().saturating_sub(20) as u64 + tree.left_out_more_count;
        if more > 0 {
            context.say(format_args!("left out {more} more: `vml show` lists them"))?;
        }
    }
    let verb = if what.dry_run { "would save".to_owned() } else { format!("saved {} as {}", saved.entry.origin(), saved.id.short()) };
    let tree = tree.map(|tree| {
        let stats = &tree.stats;
        let files = human::counted(stats.files_count, "file");
        format!("{} in {files}, of which {} read", human::size(stats.bytes), human::count(stats.read_files_count))
    });
    let saved_disks = disks.iter().map(|disk| {
        let (data, len, read) = (human::size(disk.stats.data_bytes), human::size(disk.recipe.len), human::size(disk.stats.read_bytes));
        format!("disk {} with {data} of {len}, {read} read", disk.name)
    });
    let memory = saved.entry.memory().map(|memory| format!("memory of {}", human::size(memory.stats.data_bytes)));
    context.say(format_args!(
        "{verb}: {}; new {}, stored {}, in {}",
        tree.into_iter().chain(saved_disks).chain(memory).collect::<Vec<_>>().join("; "),
        human::size(cost.new_bytes),
        human::size(cost.stored_bytes),
        human::elapsed(elapsed_ms),
    ))?;
    if saved.problems_count > 0 {
        context.say(format_args!("with {}, named above", human::counted(saved.problems_count, "problem")))?;
    }
    if let Some((traffic, from)) = traffic.zip(what.tree) {
        let (received, sent) = (human::size(traffic.received()), human::size(traffic.sent()));
        context.say(format_args!("{received} came from {}, {sent} went there", from.shown()))?;
    }
    Ok(())
}
