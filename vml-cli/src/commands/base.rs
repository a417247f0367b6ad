//! `vml base add|list|rm`; its other verbs have files of their own

use super::save::{self, What};
use super::trees::TreeFrom;
use super::{Context, Outcome, disks as save_disks};
use crate::args::{BaseAddArgs, BaseCommand, BaseRmArgs};
use crate::bases;
use crate::images::DiskImage;
use crate::output::{complain, human, json};
use anyhow::Result;
use serde_json::json;
use vml_core::Error;
use vml_core::entry::EntryKind;
use vml_core::refs::{RefKind, split_base};

pub fn run(context: &Context, command: BaseCommand) -> Result<Outcome> {
    match command {
        BaseCommand::Add(args) => add(context, &args),
        BaseCommand::Fetch(args) => super::fetch::run(context, &args),
        BaseCommand::Catalogue(command) => super::catalogue::run(context, command),
        BaseCommand::List => list(context),
        BaseCommand::Export(args) => super::build::export(context, &args),
        BaseCommand::Rm(args) => remove(context, &args),
    }
}

fn add(context: &Context, args: &BaseAddArgs) -> Result<Outcome> {
    let (name, version) = split_base(&args.base)?;
    let disks = args.disks.disks.iter().map(DiskImage::located).collect::<Result<Vec<_>>>()?;
    let what = What {
        kind: EntryKind::Base { name: name.to_owned(), version: version.to_owned() },
        tree: args.tree.tree.as_deref().map(TreeFrom::Local),
        disks: &disks,
        allow_dir: &args.disks.allow_dir,
        machine: args.disks.machine.as_deref().map(save_disks::machine).transpose()?,
        live: save::Live::default(),
        base: None,
        exclude: &args.tree.exclude,
        default_exclude: !args.tree.no_default_exclude,
        one_file_system: args.tree.one_file_system,
        message: &args.message,
        tags: &[],
        dry_run: false,
        in_use: false,
        is_step: false,
    };
    let outcome = save::save(context, what)?;
    if !disks.is_empty() {
        let entry = context.repository()?.refs().get(RefKind::Base, &args.base)?;
        let entry = entry.ok_or_else(|| Error::not_found(format!("the base {} went away meanwhile", args.base)))?;
        bases::note(&args.base, &entry, &disks, &args.disks.allow_dir)?;
    }
    Ok(outcome)
}

fn list(context: &Context) -> Result<Outcome> {
    let repository = context.repository()?;
    let mut problems = 0;
    let bases = repository.refs().list(RefKind::Base)?;
    if bases.is_empty() {
        context.say("no bases yet; `vml base add NAME@VERSION --tree DIR`, or --disk FILE, adds one")?;
    }
    for (name, target) in bases {
        match target.and_then(|id| repository.entry(&id).map(|entry| (id, entry))) {
            Ok((id, entry)) => {
                if context.json() {
                    crate::output::value(&json::entry(&id, &entry))?;
                }
                let line = format!(
                    "{name:<24} {}  {}  {}  {}",
                    id.short(),
                    human::time(entry.time_ms),
                    human::extent_of(&entry),
                    human::first_line(&entry.message),
                );
                context.say(line.trim_end())?;
            }
            Err(error) => {
                problems += 1;
                complain(format_args!("vml: base {name}: {:#}", anyhow::Error::from(error)));
            }
        }
    }
    Ok(Outcome::of(problems))
}

fn remove(context: &Context, args: &BaseRmArgs) -> Result<Outcome> {
    split_base(&args.base)?;
    let repository = context.repository()?;
    let refs = repository.refs();
    let target = refs.get(RefKind::Base, &args.base)?.ok_or_else(|| Error::not_found(format!("there is no base {:?}", args.base)))?;
    let used = repository
        .entries(&repository.entry_ids()?)
        .filter(|(_, entry)| entry.as_ref().is_ok_and(|entry| entry.base.as_ref().is_some_and(|base| base.entry == target)))
        .count();
    context.confirm(&format!("Forget the base {}? {} of it stay whole.", args.base, human::counted(used as u64, "entry")), args.yes)?;
    refs.set(RefKind::Base, &args.base, Some(target), None)?;
    bases::forget(&args.base)?;
    if context.json() {
        crate::output::value(&json!({ "removed": args.base, "entry": target.to_string(), "used_by": used }))?;
    }
    context.say(format_args!("forgot the base {} (entry {})", args.base, target.short()))?;
    Ok(Outcome::Done)
}
