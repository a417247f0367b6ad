//! `vml remote`

use super::{Context, Outcome};
use crate::args::{PlaceArgs, RemoteAddArgs, RemoteCommand};
use crate::net::Limit;
use crate::output::human;
use crate::remotes::list::{self, Entry};
use crate::remotes::{self, Kind, Opened};
use crate::settings;
use anyhow::{Context as _, Result, bail};
use serde_json::json;
use std::io::Read;
use std::path::Path;
use vml_core::refs::RefKind;
use vml_core::{Error, IoResultExt as _};

/// A token is far shorter.
const TOKEN_MAX_LEN: u64 = 4096;

pub fn run(context: &Context, command: RemoteCommand) -> Result<Outcome> {
    match command {
        RemoteCommand::Add(args) => add(context, &args),
        RemoteCommand::List => print_all(context),
        RemoteCommand::Show(args) => show(context, args.name.as_deref()),
        RemoteCommand::Rm(args) => {
            list::remove(&args.name)?;
            if context.json() {
                crate::output::value(&json!({ "removed": args.name }))?;
            }
            context.say(format_args!("forgot the remote {}", args.name))?;
            Ok(Outcome::Done)
        }
    }
}

/// What a remote is, from what was typed.
pub fn describe(place: &PlaceArgs) -> Result<Entry> {
    let kind = remotes::kind_of(&place.url)?;
    let token = place.token_file.as_deref().map(read_token).transpose()?;
    if token.is_some() && kind != Kind::Http {
        bail!(Error::invalid("a token is for http:// and https://"));
    }
    if place.program.is_some() && kind != Kind::Ssh {
        bail!(Error::invalid("--program is for ssh://"));
    }
    let own = place.own || (!place.shared && matches!(kind, Kind::Directory | Kind::Ssh));
    Ok(Entry { url: remotes::normal(&place.url)?, own, token, program: place.program.clone() })
}

fn read_token(path: &Path) -> Result<String> {
    let mut text = String::new();
    if path == Path::new("-") {
        std::io::stdin().lock().take(TOKEN_MAX_LEN).read_to_string(&mut text).context("cannot read a token from standard input")?;
    } else {
        let file = std::fs::File::open(path).at(|| format!("cannot open {}", path.display()))?;
        file.take(TOKEN_MAX_LEN).read_to_string(&mut text).at(|| format!("cannot read {}", path.display()))?;
    }
    let token = text.trim();
    if token.is_empty() || !token.bytes().all(|byte| byte.is_ascii_graphic()) {
        bail!(Error::invalid(format!("there is no token in {}", path.display())));
    }
    Ok(token.to_owned())
}

fn add(context: &Context, args: &RemoteAddArgs) -> Result<Outcome> {
    let entry = describe(&args.place)?;
    if context.json() {
        crate::output::value(&json!({ "name": args.name, "url": entry.url, "own": entry.own }))?;
    }
    let (url, whose) = (entry.url.clone(), if entry.own { "your own" } else { "shared with others" });
    list::add(&args.name, entry)?;
    context.say(format_args!("{} is {url}, {whose}", args.name))?;
    Ok(Outcome::Done)
}

fn print_all(context: &Context) -> Result<Outcome> {
    let all = list::all()?;
    if all.is_empty() {
        context.say("no remotes yet; `vml remote add NAME URL` adds one")?;
    }
    for (name, entry) in all {
        if context.json() {
            crate::output::value(&json!({ "name": name, "url": entry.url, "own": entry.own, "token": entry.token.is_some() }))?;
        }
        context.say(format_args!("{name:<16} {}  {}", if entry.own { "own   " } else { "shared" }, entry.url))?;
    }
    Ok(Outcome::Done)
}

fn show(context: &Context, name: Option<&str>) -> Result<Outcome> {
    let (name, entry) = list::find(name)?;
    let opened = Opened::open(&entry, Limit::new(None), context.options(), context.keys())?;
    let progress = context.progress();
    let refs = opened.with(&settings::author(), &progress, |remote| Ok(remote.refs()?));
    progress.finish();
    let refs = refs.with_context(|| format!("cannot ask the remote {name}"))?;
    if refs.is_empty() {
        context.say(format_args!("{name} has no entry that is named"))?;
    }
    for at in refs {
        let kind = match at.kind {
            RefKind::Area => "area",
            RefKind::Tag => "tag",
            RefKind::Base => "base",
        };
        if context.json() {
            crate::output::value(&json!({ "kind": kind, "name": at.name, "entry": at.entry.to_string() }))?;
        }
        context.say(format_args!("{kind:<4}  {}  {}", at.entry.short(), human::printable(&at.name)))?;
    }
    Ok(Outcome::Done)
}
