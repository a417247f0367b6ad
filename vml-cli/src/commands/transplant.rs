//! What `push`, `pull`, `share` and `receive` do where the other side cuts streams or names chunks otherwise.

use super::{Context, receive};
use crate::output::human;
use crate::progress::Progress;
use crate::remotes::Opened;
use crate::settings;
use anyhow::{Context as _, Result, bail};
use serde_json::json;
use std::io::{Read, Write};
use std::sync::Arc;
use vml_core::remote::{OpenRemote, Remote, RemoteInfo};
use vml_core::repository::ChunkerParams;
use vml_core::share::{Preface, ReceiveOptions, Received, ShareRequest, Shared};
use vml_core::transplant::{Transplanted, receive_through, share_through};
use vml_core::{Config, Error, ErrorKind, LocalBackend, Repository};

/// Whether two repositories cut alike, so that frames can cross as they are.
pub fn cut_alike(here: &Repository, there: &Repository) -> Result<bool> {
    Ok(info(here)?.cuts_like(&info(there)?))
}

fn info(repository: &Repository) -> Result<RemoteInfo> {
    Ok(OpenRemote::new(repository, "", false, 0).info()?)
}

/// The other repository, where entries have to be carried over; `None` where frames can cross as they are.
///
/// # Errors
/// `InvalidInput` where neither is possible.
pub fn other<'o>(here: &Repository, opened: &'o Opened, progress: &Progress) -> Result<Option<&'o Repository>> {
    if let Opened::Repository(there) = opened {
        return Ok((!cut_alike(here, there)?).then_some(there.as_ref()));
    }
    let there = opened.with("", progress, |there| Ok(there.info()?))?;
    let own = info(here)?;
    if own.ids != there.ids {
        let message = "an encrypted repository names what it holds by its own key, so the same bytes are other chunks at the other side; a service takes \
                       and gives chunks as they are. Name its directory or object storage, which are opened here and carried over";
        bail!(Error::new(ErrorKind::InvalidInput, message));
    }
    if !own.cuts_like(&there) {
        let message = "it cuts streams in another way than this repository, so the same bytes are other chunks there and nothing would be shared; a service takes \
                       and gives chunks as they are. Name its directory or object storage, which are opened here and carried over; or `vml clone` it, which makes a repository that cuts alike";
        bail!(Error::new(ErrorKind::InvalidInput, message));
    }
    Ok(None)
}

/// Says what was carried over.
pub fn tell(
    context: &Context,
    name: &str,
    (word, to): (&str, &str),
    done: &Transplanted,
    progress: &Progress,
    elapsed_ms: u64,
) -> Result<()> {
    if context.json() {
        let entries = done.entries.iter().map(|got| {
            let mut value = receive::placed_json(&got.arrived.id, &got.entry, got.arrived.new, got.arrived.placed.as_ref());
            value["carried_from"] = got.from.to_string().into();
            value
        });
        crate::output::value(&json!({
            "remote": name,
            "carried_over": true,
            "entries": entries.collect::<Vec<_>>(),
            "present": done.present_count,
            "read_bytes": done.stats.seen_bytes,
            "new_chunks": done.stats.new_chunks,
            "stored_bytes": done.stats.stored_bytes,
            "notes": done.notes_count,
            "other_tags": done.other_tags,
            "elapsed_ms": elapsed_ms,
            "notices": progress.notices(),
        }))?;
    }
    for got in &done.entries {
        let place = receive::place(&got.entry, got.arrived.placed.as_ref(), if word == "pushed" { "there" } else { "here" });
        let (from, id, origin) = (got.from.short(), got.arrived.id.short(), got.entry.origin());
        context.say(format_args!("{word} {from} of {origin} as {id}: {}{place}", human::first_line(&got.entry.message)))?;
    }
    for tag in &done.other_tags {
        context.say(format_args!("the tag {} names another entry there, and goes on doing so", human::printable(tag)))?;
    }
    if done.entries.is_empty() && done.notes_count == 0 {
        return context.say(format_args!("nothing new{to}{name}"));
    }
    context.say(format_args!(
        "{}{to}{name}, carried over because it cuts streams in another way: read {}, stored {}, in {}",
        human::counted(done.entries.len() as u64, "entry"),
        human::size(done.stats.seen_bytes),
        human::size(done.stats.stored_bytes),
        human::elapsed(elapsed_ms)
    ))
}

/// Receives a file of a repository that cuts in another way, by a repository in a temporary folder.
pub fn receive_other(
    context: &Context,
    repository: &Repository,
    preface: &Preface,
    reader: &mut dyn Read,
    options: &ReceiveOptions<'_>,
    progress: &Progress,
) -> Result<Received> {
    let (_dir, scratch) = scratch(context, preface.head.chunker.clone(), preface.head.inline_max)
        .context("the share file is of a repository of a kind that cannot be made here")?;
    Ok(receive_through(&scratch, repository, preface, reader, options, progress)?)
}

/// Writes a share file of an encrypted repository, by a repository in a temporary folder.
pub fn share_other(
    context: &Context,
    repository: &Repository,
    request: &ShareRequest<'_>,
    out: &mut dyn Write,
    progress: &Progress,
) -> Result<Shared> {
    // Cut as everybody cuts who has no secret, so that most receivers take it in as it is.
    let info = info(repository)?;
    let (_dir, scratch) = scratch(context, info.chunker, info.inline_max)?;
    Ok(share_through(&scratch, repository, request, out, progress)?)
}

/// An empty repository without encryption, which is gone with its folder.
fn scratch(context: &Context, chunker: ChunkerParams, inline_max: u32) -> Result<(tempfile::TempDir, Repository)> {
    let dir = tempfile::tempdir().context("cannot make a temporary folder")?;
    let mut config = Config::new(settings::random_id()?, settings::now_ms());
    (config.chunker, config.inline_max) = (chunker, inline_max);
    config.check()?;
    let backend = Arc::new(LocalBackend::create(dir.path())?);
    let scratch = Repository::init(backend, config, context.options()).context("cannot make a repository in a temporary folder")?;
    Ok((dir, scratch))
}
