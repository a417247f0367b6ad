//! `vml save`, and what `vml base add` shares with it.

use super::{Context, Outcome};
use crate::areas;
use crate::args::SaveArgs;
use crate::output::{human, json};
use crate::settings;
use anyhow::{Context as _, Result};
use serde_json::json;
use std::fs;
use std::path::Path;
use std::sync::Arc;
use std::time::Instant;
use vml_core::entry::{BaseRef, EntryKind, Fact};
use vml_core::refs::{RefKind, split_base};
use vml_core::repository::{SaveRequest, SaveTree, Saved};
use vml_core::tree::Exclude;
use vml_core::{DiscardBackend, Error, Repository};
use vml_hv::guest::{self, DEFAULT_EXCLUDE, GuestRoot};

/// What to save, from an area's description or a base's arguments.
pub struct What<'a> {
    pub kind: EntryKind,
    pub tree: &'a Path,
    pub base: Option<&'a str>,
    pub exclude: &'a [String],
    pub default_exclude: bool,
    pub one_file_system: bool,
    pub message: &'a str,
    pub tags: &'a [String],
    pub dry_run: bool,
}

pub fn run(context: &Context, args: &SaveArgs) -> Result<Outcome> {
    let area = areas::get(&args.area)?;
    let what = What {
        kind: EntryKind::State { area: area.name.clone() },
        tree: &area.tree,
        base: area.base.as_deref(),
        exclude: &area.exclude,
        default_exclude: area.default_exclude,
        one_file_system: area.one_file_system,
        message: &args.message,
        tags: &args.tag,
        dry_run: args.dry_run,
    };
    save(context, &what)
}

pub fn save(context: &Context, what: &What<'_>) -> Result<Outcome> {
    let started = Instant::now();
    let mut repository = context.repository()?;
    if what.dry_run {
        repository = Repository::open(Arc::new(DiscardBackend::new(Arc::clone(repository.backend()))), context.options())?;
    }
    let base = what.base.map(|name| find_base(&repository, name)).transpose()?;
    let root = GuestRoot::open(what.tree).context("cannot read the tree to save")?;
    let is_guest = root.is_guest();
    let mut patterns: Vec<String> = what.exclude.to_vec();
    if is_guest && what.default_exclude {
        patterns.extend(DEFAULT_EXCLUDE.map(str::to_owned));
    }
    patterns.extend(own_repository(context, what.tree)?);
    let exclude = Exclude::new(&patterns)?;
    let owners = if is_guest { guest::owners(&root) } else { guest::host_owners().unwrap_or_default() };
    let path = fs::canonicalize(what.tree).unwrap_or_else(|_| what.tree.to_owned());
    let mut facts = vec![
        Fact { name: "host.name".to_owned(), value: settings::host() },
        Fact { name: "host.path".to_owned(), value: path.display().to_string() },
        Fact { name: "vml.version".to_owned(), value: env!("CARGO_PKG_VERSION").to_owned() },
    ];
    if is_guest {
        facts.extend(guest::facts(&root));
    }
    let progress = context.progress();
    let request = SaveRequest {
        kind: what.kind.clone(),
        tree: Some(SaveTree {
            path: what.tree,
            exclude: &exclude,
            one_file_system: what.one_file_system,
            users: &owners.users,
            groups: &owners.groups,
        }),
        disks: &[],
        machine: None,
        add_parts: false,
        base,
        author: &settings::author(),
        message: what.message,
        tags: what.tags,
        facts,
        now: settings::now(),
        elapsed_ms: &|| settings::elapsed_ms(started),
    };
    let saved = repository.save(request, &progress);
    progress.finish();
    let saved = saved.with_context(|| format!("cannot save {}", what.tree.display()))?;
    let elapsed_ms = settings::elapsed_ms(started);
    print(context, what, &saved, elapsed_ms, &progress.problems(), &progress.notices())?;
    Ok(Outcome::of(saved.problems_count))
}

/// A pattern for the repository, if it is inside the tree: saved into itself it would grow with every entry.
fn own_repository(context: &Context, tree: &Path) -> Result<Option<String>> {
    let (Ok(repository), Ok(tree)) = (fs::canonicalize(context.repository_path()?), fs::canonicalize(tree)) else { return Ok(None) };
    let Ok(inside) = repository.strip_prefix(&tree) else { return Ok(None) };
    let Some(inside) = inside.to_str().filter(|path| !path.is_empty()) else {
        let message = format!("the repository {} would be saved into itself: keep it outside the tree", repository.display());
        return Err(Error::invalid(message).into());
    };
    let mut pattern = String::from("/");
    for letter in inside.chars() {
        if matches!(letter, '*' | '?' | '[' | ']' | '{' | '}' | '!' | '\\') {
            pattern.push('\\');
        }
        pattern.push(letter);
    }
    pattern.push_str("/*");
    Ok(Some(pattern))
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
    let tree = saved.entry.tree().context("the entry has no tree")?;
    let (stats, cost) = (&tree.stats, &saved.stats);
    if context.json() {
        return crate::output::value(&json!({
            "entry": if what.dry_run { None } else { Some(saved.id.to_string()) },
            "dry_run": what.dry_run,
            "origin": saved.entry.origin(),
            "parent": saved.entry.parents.first().map(ToString::to_string),
            "base": saved.entry.base.as_ref().map(|base| format!("{}@{}", base.name, base.version)),
            "files": stats.files_count,
            "directories": stats.directories_count,
            "others": stats.others_count,
            "bytes": stats.bytes,
            "read_files": stats.read_files_count,
            "read_bytes": stats.read_bytes,
            "new_chunks": cost.new_chunks,
            "new_bytes": cost.new_bytes,
            "stored_bytes": cost.stored_bytes,
            "elapsed_ms": elapsed_ms,
            "left_out": tree.left_out.iter().map(json::left_out).collect::<Vec<_>>(),
            "left_out_more": tree.left_out_more_count,
            "problems": json::problems(problems),
            "notices": notices,
        }));
    }
    for row in tree.left_out.iter().take(20) {
        context.say(format_args!("left out {}", human::left_out(row)))?;
    }
    let more = tree.left_out.len().saturating_sub(20) as u64 + tree.left_out_more_count;
    if more > 0 {
        context.say(format_args!("left out {more} more: `vml show` lists them"))?;
    }
    let verb = if what.dry_run { "would save".to_owned() } else { format!("saved {} as {}", saved.entry.origin(), saved.id.short()) };
    context.say(format_args!(
        "{verb}: {} in {}, of which {} read; new {}, stored {}, in {}",
        human::size(stats.bytes),
        human::counted(stats.files_count, "file"),
        human::count(stats.read_files_count),
        human::size(cost.new_bytes),
        human::size(cost.stored_bytes),
        human::elapsed(elapsed_ms),
    ))?;
    if saved.problems_count > 0 {
        context.say(format_args!("with {}, named above", human::counted(saved.problems_count, "problem")))?;
    }
    Ok(())
}
