//! `vml build` and `vml restore`

use super::{Context, Outcome, has_members, split_target};
use crate::args::{BuildArgs, RestoreArgs};
use crate::output::{human, json};
use crate::settings;
use anyhow::{Context as _, Result, bail};
use serde_json::json;
use std::fs;
use std::path::Path;
use std::time::Instant;
use vml_core::disk::{restore_disk, verify_disk};
use vml_core::tree::{RestoreOptions, display_path, find_path, restore_tree};
use vml_core::{Entry, Error, ErrorKind, IoResultExt as _, Monitor as _, Task};
use vml_hv::image::RawImage;
use vml_hv::image::write::RawTarget;

pub fn build(context: &Context, args: &BuildArgs) -> Result<Outcome> {
    if !args.delete && !args.replace && has_members(&args.dir) {
        bail!(Error::new(ErrorKind::AlreadyExists, format!("{} is not empty", args.dir.display())));
    }
    let repository = context.repository()?;
    let entry = repository.entry(&repository.resolve(&args.entry)?)?;
    let disks = entry.disks().next().is_some();
    match (args.only.as_deref(), entry.tree().is_some(), disks) {
        (None, true, true) => bail!(Error::invalid("the entry has a tree and disks: say --only tree or --only disks")),
        (Some("disks"), _, true) | (None, false, true) => build_disks(context, args, &entry),
        (Some("disks"), _, false) => bail!(Error::not_found("the entry has no disks")),
        _ => put_back(context, &Request { entry: &args.entry, path: b"", dir: &args.dir, delete: args.delete, yes: args.yes }),
    }
}

/// Writes each disk as a sparse raw image.
fn build_disks(context: &Context, args: &BuildArgs, entry: &Entry) -> Result<Outcome> {
    let started = Instant::now();
    let repository = context.repository()?;
    let progress = context.progress();
    let store = repository.store(&progress)?;
    let threads = context.options().threads;
    fs::create_dir_all(&args.dir).at(|| format!("cannot make directory {}", args.dir.display()))?;
    progress.expect(Task::Restore, entry.disks().map(|disk| disk.recipe.len).sum());
    let mut built = Vec::new();
    for disk in entry.disks() {
        let path = args.dir.join(format!("{}.raw", disk.name));
        let write = || {
            let target = RawTarget::create(&path, disk.recipe.len, args.replace)?;
            let restored = restore_disk(store, &disk.recipe, std::iter::once(0..disk.recipe.len), &target, threads, &progress)?;
            target.finish()?;
            if args.verify {
                verify_disk(store, &disk.recipe, &RawImage::open(&path)?, threads, &progress)?;
            }
            Ok::<_, Error>(restored)
        };
        let restored = write().with_context(|| format!("cannot build the disk {} as {}", disk.name, path.display()))?;
        built.push((disk.name.clone(), path, disk.recipe.len, restored.data_bytes));
    }
    if let Some(machine) = entry.machine() {
        let path = args.dir.join(&machine.name);
        if !args.replace && path.symlink_metadata().is_ok() {
            bail!(Error::new(ErrorKind::AlreadyExists, format!("{} is there already", path.display())));
        }
        fs::write(&path, &machine.bytes).at(|| format!("cannot write {}", path.display()))?;
    }
    progress.finish();
    let elapsed_ms = settings::elapsed_ms(started);
    if context.json() {
        let disk = |(name, path, len, data): &(String, std::path::PathBuf, u64, u64)| json!({ "name": name, "file": json::host_path(path), "format": "raw", "bytes": len, "data_bytes": data });
        crate::output::value(&json!({
            "entry": entry.encode().0.to_string(),
            "directory": json::host_path(&args.dir),
            "disks": built.iter().map(disk).collect::<Vec<_>>(),
            "verified": args.verify,
            "elapsed_ms": elapsed_ms,
            "notices": progress.notices(),
        }))?;
    }
    let verified = if args.verify { ", and compared" } else { "" };
    for (name, path, len, data) in &built {
        context.say(format_args!("built disk {name} as {}: {} of {}{verified}", path.display(), human::size(*data), human::size(*len)))?;
    }
    context.say(format_args!("in {}", human::elapsed(elapsed_ms)))?;
    Ok(Outcome::Done)
}

pub fn restore(context: &Context, args: &RestoreArgs) -> Result<Outcome> {
    let (entry, path) = split_target(&args.target)?;
    let Some(path) = path else { bail!(Error::invalid(format!("{:?} names no path: write ENTRY:PATH, or use `vml build`", args.target))) };
    put_back(context, &Request { entry, path, dir: &args.dir, delete: args.delete, yes: args.yes })
}

struct Request<'a> {
    entry: &'a str,
    path: &'a [u8],
    dir: &'a Path,
    delete: bool,
    yes: bool,
}

fn put_back(context: &Context, request: &Request<'_>) -> Result<Outcome> {
    let started = Instant::now();
    let repository = context.repository()?;
    let id = repository.resolve(request.entry)?;
    let entry = repository.entry(&id)?;
    let root = &entry.tree().with_context(|| format!("entry {} has no tree", id.short()))?.root;
    let progress = context.progress();
    let store = repository.store(&progress)?;
    let node = find_path(store, root, request.path)?;
    if request.delete && has_members(request.dir) {
        let question = format!("Make {} equal to the entry, deleting what it does not have?", request.dir.display());
        context.confirm(&question, request.yes)?;
    }
    if fs::metadata(request.dir).is_ok_and(|meta| !meta.is_dir()) {
        bail!(Error::invalid(format!("{} is not a directory", request.dir.display())));
    }
    fs::create_dir_all(request.dir).at(|| format!("cannot make directory {}", request.dir.display()))?;
    let options = RestoreOptions { delete: request.delete, owners: settings::is_root(), threads: context.options().threads };
    if let (true, Some(tree)) = (request.path.is_empty(), entry.tree()) {
        progress.expect(Task::Restore, tree.stats.bytes);
    }
    let restored = restore_tree(store, &node, request.dir, &options, &progress);
    progress.finish();
    let restored = restored.with_context(|| format!("cannot build {} in {}", id.short(), request.dir.display()))?;
    let elapsed_ms = settings::elapsed_ms(started);
    if context.json() {
        crate::output::value(&json!({
            "entry": id.to_string(),
            "directory": json::host_path(request.dir),
            "files": restored.files_count,
            "kept_files": restored.kept_files_count,
            "directories": restored.directories_count,
            "others": restored.others_count,
            "deleted": restored.deleted_count,
            "bytes": restored.bytes,
            "owners": options.owners,
            "elapsed_ms": elapsed_ms,
            "problems": json::problems(&progress.problems()),
            "notices": progress.notices(),
        }))?;
    }
    let kept = if restored.kept_files_count > 0 {
        format!(", {} of them there already", human::count(restored.kept_files_count))
    } else {
        String::new()
    };
    let deleted = if restored.deleted_count > 0 { format!(", {} deleted", human::count(restored.deleted_count)) } else { String::new() };
    let what = match request.path {
        [] => format!("built {}", id.short()),
        path => format!("restored {} of {}", display_path(path), id.short()),
    };
    context.say(format_args!(
        "{what} in {}: {} in {}{kept}{deleted}, in {}",
        request.dir.display(),
        human::size(restored.bytes),
        human::counted(restored.files_count, "file"),
        human::elapsed(elapsed_ms)
    ))?;
    if !options.owners {
        context.say("owners are yours: only root can set others")?;
    }
    Ok(Outcome::of(restored.problems_count))
}
