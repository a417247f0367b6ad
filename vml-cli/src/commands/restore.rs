//! `vml restore`, and what `vml build` shares with it.

use super::inside::{self, Inside};
use super::{Context, Outcome, has_members, split_target};
use crate::args::{InsideArgs, RestoreArgs};
use crate::output::{human, json};
use crate::progress::Progress;
use crate::settings;
use anyhow::{Context as _, Result, bail};
use serde_json::json;
use std::fs;
use std::path::Path;
use std::time::Instant;
use vml_core::share;
use vml_core::tree::{RestoreOptions, display_path, find_path, restore_tree};
use vml_core::{Entry, EntryId, Error, IoResultExt as _, Monitor as _, Repository, Task};

pub fn restore(context: &Context, args: &RestoreArgs) -> Result<Outcome> {
    let (entry, path) = split_target(&args.target)?;
    let Some(path) = path else { bail!(Error::invalid(format!("{:?} names no path: write ENTRY:PATH, or use `vml build`", args.target))) };
    put_back(
        context,
        &Request { entry, path, dir: &args.dir, delete: args.delete, yes: args.yes, inside: &args.inside, special: args.allow_special },
    )
}

/// What to put back, and where.
pub(super) struct Request<'a> {
    pub(super) entry: &'a str,
    pub(super) path: &'a [u8],
    pub(super) dir: &'a Path,
    pub(super) delete: bool,
    pub(super) yes: bool,
    pub(super) inside: &'a InsideArgs,
    /// Whether devices and set-user-id are made whoever signed the entry.
    pub(super) special: bool,
}

pub(super) fn put_back(context: &Context, request: &Request<'_>) -> Result<Outcome> {
    let started = Instant::now();
    let repository = context.repository()?;
    let id = repository.resolve(request.entry)?;
    let entry = repository.entry(&id)?;
    let progress = context.progress();
    let store = repository.store(&progress)?;
    inside::with_tree(store, &entry, request.inside, |tree| {
        put_back_from(context, request, &repository, (&id, &entry), tree, &progress, started)
    })
}

fn put_back_from(
    context: &Context,
    request: &Request<'_>,
    repository: &Repository,
    (id, entry): (&EntryId, &Entry),
    tree: &Inside<'_>,
    progress: &Progress,
    started: Instant,
) -> Result<Outcome> {
    let store = tree.store;
    let node = find_path(store, &tree.root, request.path)?;
    if request.delete && has_members(request.dir) {
        let question = format!("Make {} equal to the entry, deleting what it does not have?", request.dir.display());
        context.confirm(&question, request.yes)?;
    }
    if fs::metadata(request.dir).is_ok_and(|meta| !meta.is_dir()) {
        bail!(Error::invalid(format!("{} is not a directory", request.dir.display())));
    }
    fs::create_dir_all(request.dir).at(|| format!("cannot make directory {}", request.dir.display()))?;
    let special = request.special
        || share::provenance(repository, id)?.is_none_or(|told| told.trusted_remote || crate::keys::any_trusted(&told.signers));
    // An entry with a tree says how large it is; a disk's file system is asked itself.
    let limit = entry.tree().filter(|part| part.root == tree.root).map(|part| part.stats.limit());
    let threads = context.options().threads;
    let options =
        RestoreOptions { delete: request.delete, owners: settings::is_root(), special, limit, threads, open_max: settings::open_max() };
    if let (true, Some(tree)) = (request.path.is_empty(), entry.tree()) {
        progress.expect(Task::Restore, tree.stats.bytes);
    }
    let restored = restore_tree(store, &node, request.dir, &options, progress);
    repository.tell_mended(progress);
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
