//! `vml receive`

use super::{Context, Outcome, transplant};
use crate::args::ReceiveArgs;
use crate::keys;
use crate::output::{human, json};
use crate::remotes::link;
use crate::settings;
use anyhow::{Context as _, Result};
use serde_json::json;
use std::fs::File;
use std::io::{BufReader, Read};
use std::path::Path;
use std::time::Instant;
use vml_core::share::seal::{SEALED_MAGIC, Unsealed, is_sealed};
use vml_core::share::{Placed, PublicKey, ReceiveOptions, Received, receive};
use vml_core::{Entry, EntryId, IoResultExt as _, Monitor as _};

pub fn run(context: &Context, args: &ReceiveArgs) -> Result<Outcome> {
    let started = Instant::now();
    let repository = context.repository()?;
    let progress = context.progress();
    let known = keys::list()?;
    let trusted = |key: &PublicKey| known.iter().find(|known| known.key == *key).map(|known| known.name.clone());
    let options = ReceiveOptions { trusted: &trusted, require_signed: args.require_signed, time_ms: settings::now_ms() };
    let link = args.file.to_str().filter(|name| link::is_link(name));
    let reader: Box<dyn Read> = if args.file == Path::new("-") {
        Box::new(std::io::stdin().lock())
    } else if let Some(link) = link {
        link::open(link)?
    } else {
        let file = File::open(&args.file).at(|| format!("cannot open {}", args.file.display()))?;
        Box::new(file)
    };
    let mut reader = unsealed(reader, args).with_context(|| format!("cannot receive {}", args.file.display()))?;
    if !args.no_fetch {
        let require_signed = args.require_signed || repository.policy()?.require_signed;
        let may = |signer: Option<PublicKey>| !require_signed || signer.is_some_and(|key| trusted(&key).is_some());
        reader = super::fetch::before_receiving(context, reader, &may)?;
    }
    let (preface, mut reader) = super::fetch::preface_of(reader);
    let received = match preface {
        Ok(preface) if repository.config().is_encrypted() || preface.head.chunker != repository.config().chunker => {
            progress.notice("the file is of a repository that cuts streams or names chunks in another way: its entries are carried over");
            transplant::receive_other(context, &repository, &preface, &mut reader, &options, &progress)
        }
        // Whatever is wrong with it is told there.
        _ => receive(&repository, &mut reader, &options, &progress).map_err(Into::into),
    };
    progress.finish();
    let received = received.with_context(|| format!("cannot receive {}", args.file.display()))?;
    let elapsed_ms = settings::elapsed_ms(started);
    if context.json() {
        crate::output::value(&json!({
            "entries": received.entries.iter().map(|got| placed_json(&got.id, &got.entry, got.new, got.placed.as_ref())).collect::<Vec<_>>(),
            "signer": received.signer.map(|key| key.fingerprint()),
            "known_as": received.known_as,
            "bytes": received.bytes,
            "chunks": received.chunks_count,
            "new_chunks": received.new_chunks_count,
            "stored_bytes": received.stored_bytes,
            "elapsed_ms": elapsed_ms,
            "notices": progress.notices(),
        }))?;
    }
    tell(context, &received, elapsed_ms)?;
    Ok(Outcome::Done)
}

/// What is in a file, which may be sealed.
fn unsealed<'a>(reader: Box<dyn Read + 'a>, args: &ReceiveArgs) -> Result<Box<dyn Read + 'a>> {
    let mut reader = BufReader::with_capacity(1 << 20, reader);
    let mut start = Vec::new();
    (&mut reader).take(SEALED_MAGIC.len() as u64).read_to_end(&mut start).at(|| "cannot read the share file".to_owned())?;
    let sealed = is_sealed(&start);
    let whole = std::io::Cursor::new(start).chain(reader);
    if !sealed {
        return Ok(Box::new(whole));
    }
    let identities = keys::identities(&args.opening.identity).context("the file is sealed")?;
    Ok(Box::new(Unsealed::new(whole, &identities)?))
}

/// An entry that came, and what became of its ref.
pub fn placed_json(id: &EntryId, entry: &Entry, new: bool, placed: Option<&Placed>) -> serde_json::Value {
    let mut value = json::entry(id, entry);
    value["new"] = new.into();
    let (placed, name) = match placed {
        None => (None, None),
        Some(Placed::Made(name)) => (Some("made"), Some(name)),
        Some(Placed::Advanced(name)) => (Some("advanced"), Some(name)),
        Some(Placed::Present(name)) => (Some("present"), Some(name)),
        Some(Placed::Tagged(name)) => (Some("tagged"), Some(name)),
    };
    value["placed"] = json!({ "how": placed, "name": name });
    value
}

/// Of what an entry is, and what was said of it, if anything was.
pub fn what(entry: &Entry) -> String {
    match human::first_line(&entry.message) {
        said if said.is_empty() => entry.origin(),
        said => format!("{}: {said}", entry.origin()),
    }
}

/// What became of an entry's ref, as the end of a sentence for people.
pub fn place(entry: &Entry, placed: Option<&Placed>, there: &str) -> String {
    match placed {
        None => String::new(),
        Some(Placed::Made(name)) => format!("; {name} is new {there}"),
        Some(Placed::Advanced(name)) => format!("; the log of {name} goes on with it"),
        Some(Placed::Present(name)) => format!("; {name} has it"),
        Some(Placed::Tagged(tag)) => format!("; {} {there} is another, so it has the tag {tag}", entry.origin()),
    }
}

fn tell(context: &Context, received: &Received, elapsed_ms: u64) -> Result<()> {
    for got in &received.entries {
        let (id, what) = (got.id.short(), what(&got.entry));
        let was = if got.new { "received" } else { "there already:" };
        let place = place(&got.entry, got.placed.as_ref(), "here");
        context.say(format_args!("{was} {id} of {what}{place}"))?;
    }
    context.say(signed_by(received.signer.as_ref(), received.known_as.as_deref()))?;
    context.say(format_args!(
        "{} in {}, {} new, stored {}, in {}",
        human::size(received.bytes),
        human::counted(received.chunks_count, "chunk"),
        human::count(received.new_chunks_count),
        human::size(received.stored_bytes),
        human::elapsed(elapsed_ms)
    ))
}

/// Who signed a file, for people.
pub fn signed_by(signer: Option<&PublicKey>, known_as: Option<&str>) -> String {
    match (signer, known_as) {
        (Some(key), Some(name)) => format!("signed by {name}, {key}"),
        (Some(key), None) => format!("signed by an UNKNOWN key, {key}"),
        (None, _) => "NOT signed".to_owned(),
    }
}
