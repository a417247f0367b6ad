//! `vml area add|list|show|rm`

use super::{Context, Outcome};
use crate::areas::{self, Area};
use crate::args::{AreaAddArgs, AreaCommand, AreaNameArgs, AreaRmArgs};
use crate::output::{complain, human, json};
use anyhow::{Context as _, Result};
use serde_json::{Value, json};
use vml_core::refs::{RefKind, check_name, split_base};
use vml_core::tree::Exclude;
use vml_core::{Error, Repository};

pub fn run(context: &Context, command: AreaCommand) -> Result<Outcome> {
    match command {
        AreaCommand::Add(args) => add(context, args),
        AreaCommand::List => list(context),
        AreaCommand::Show(args) => show(context, &args),
        AreaCommand::Rm(args) => remove(context, &args),
    }
}

fn add(context: &Context, args: AreaAddArgs) -> Result<Outcome> {
    check_name("area", &args.name)?;
    Exclude::new(&args.tree.exclude)?;
    let tree = std::fs::canonicalize(&args.tree.tree).map_err(vml_error(&format!("cannot find the tree {}", args.tree.tree.display())))?;
    if tree.to_str().is_none() {
        let message = format!("the path of the tree is not UTF-8, which its description must be: {}", tree.display());
        return Err(Error::invalid(message).into());
    }
    if !tree.is_dir() {
        return Err(Error::invalid(format!("{} is not a directory", tree.display())).into());
    }
    if let Some(base) = &args.base {
        split_base(base)?;
        let target = context.repository()?.refs().get(RefKind::Base, base)?;
        target.ok_or_else(|| Error::not_found(format!("there is no base {base:?} in the repository")))?;
    }
    let area = Area {
        name: args.name,
        tree,
        base: args.base,
        exclude: args.tree.exclude,
        default_exclude: !args.tree.no_default_exclude,
        one_file_system: args.tree.one_file_system,
    };
    let path = areas::add(&area)?;
    if context.json() {
        crate::output::value(&describe(&area, None)?)?;
    }
    context.say(format_args!("added the area {}, described in {}", area.name, path.display()))?;
    Ok(Outcome::Done)
}

fn list(context: &Context) -> Result<Outcome> {
    let mut problems = 0;
    let areas = areas::list()?;
    if areas.is_empty() {
        context.say("no areas on this host yet; `vml area add NAME --tree DIR` adds one")?;
    }
    for (name, area) in areas {
        match area {
            Ok(area) => {
                if context.json() {
                    crate::output::value(&describe(&area, None)?)?;
                }
                let base = area.base.map(|base| format!("  base {base}")).unwrap_or_default();
                context.say(format_args!("{name:<20} {}{base}", area.tree.display()))?;
            }
            Err(error) => {
                problems += 1;
                complain(format_args!("vml: area {name}: {error:#}"));
            }
        }
    }
    Ok(Outcome::of(problems))
}

fn show(context: &Context, args: &AreaNameArgs) -> Result<Outcome> {
    let area = areas::get(&args.name)?;
    // An area can be looked at where there is no repository yet.
    let repository = context.repository().ok();
    if context.json() {
        crate::output::value(&describe(&area, repository.as_ref())?)?;
        return Ok(Outcome::Done);
    }
    let path = areas::path(&area.name)?;
    context.say(format_args!("area     {}\nfile     {}\ntree     {}", area.name, path.display(), area.tree.display()))?;
    context.say(format_args!("base     {}", area.base.as_deref().unwrap_or("none")))?;
    for pattern in &area.exclude {
        context.say(format_args!("exclude  {pattern}"))?;
    }
    if !area.default_exclude {
        context.say("exclude  nothing by default, even of a guest's root")?;
    }
    if area.one_file_system {
        context.say("exclude  what is mounted inside")?;
    }
    let latest = repository.as_ref().map(|repository| latest(repository, &area.name)).transpose()?.flatten();
    match latest {
        Some((id, entry)) => {
            context.say(format_args!("latest   {}  {}  {}", id.short(), human::time(entry.time_ms), human::first_line(&entry.message)))?;
        }
        None => context.say("latest   nothing saved yet")?,
    }
    Ok(Outcome::Done)
}

fn latest(repository: &Repository, name: &str) -> Result<Option<(vml_core::EntryId, vml_core::Entry)>> {
    let Some(id) = repository.refs().get(RefKind::Area, name)? else { return Ok(None) };
    Ok(Some((id, repository.entry(&id)?)))
}

fn describe(area: &Area, repository: Option<&Repository>) -> Result<Value> {
    let latest = repository.map(|repository| repository.refs().get(RefKind::Area, &area.name)).transpose()?.flatten();
    Ok(json!({
        "area": area.name,
        "tree": json::host_path(&area.tree),
        "base": area.base,
        "exclude": area.exclude,
        "default_exclude": area.default_exclude,
        "one_file_system": area.one_file_system,
        "description": json::host_path(&areas::path(&area.name)?),
        "latest": latest.map(|id| id.to_string()),
    }))
}

fn remove(context: &Context, args: &AreaRmArgs) -> Result<Outcome> {
    // Asked for by name, so that one whose description is damaged can be removed too.
    let path = areas::path(&args.name)?;
    if !path.exists() {
        areas::get(&args.name)?;
    }
    context.confirm(&format!("Remove the description of the area {}? Its entries and its tree stay.", args.name), args.yes)?;
    areas::remove(&args.name)?;
    if context.json() {
        crate::output::value(&json!({ "removed": args.name }))?;
    }
    context.say(format_args!("removed the area {}; its log stays in the repository", args.name))?;
    Ok(Outcome::Done)
}

/// Turns a bare input error into one with a kind, for the exit code and the hint.
fn vml_error(message: &str) -> impl FnOnce(std::io::Error) -> anyhow::Error {
    let message = message.to_owned();
    move |error| {
        use vml_core::IoResultExt as _;
        let result: vml_core::Result<()> = Err(error).at(|| message);
        result.context("cannot add the area").expect_err("made from an error")
    }
}
