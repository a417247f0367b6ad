//! `vml serve`

use super::{Context, Outcome};
use crate::args::ServeArgs;
use crate::output::complain;
use crate::places::Place;
use crate::service::{AccessLog, Auth, ListenOptions, Service, ServiceOptions, Tls, listen, serve_stdio};
use crate::tokens::{self, Scope};
use crate::{keys, output};
use anyhow::{Context as _, Result, bail};
use serde_json::json;
use std::net::TcpListener;
use std::path::PathBuf;
use std::time::Duration;
use vml_core::{Error, Repository};

/// Plain bytes of frames kept for readers: many clients want the same.
const CACHE_LEN: usize = 32 << 20;

pub fn run(context: &Context, args: ServeArgs) -> Result<Outcome> {
    let place = context.place()?;
    // A place in object storage reads like a path in messages.
    let hidden = PathBuf::from(place.to_string());
    let repository = open(context, &place)?;
    if let Some(key) = &args.key {
        keys::signer(Some(key))?;
    }
    let patience = Duration::from_secs(args.patience);
    let options = |auth, log, owner| ServiceOptions {
        auth,
        log,
        append_only: args.append_only,
        owner,
        url: args.url.clone(),
        key: args.key.clone(),
        patience,
    };
    if args.stdio {
        let scopes = if args.read_only { Scope::Read } else { Scope::Admin };
        let service = Service::new(repository, &hidden, false, options(Auth::everybody(&[scopes]), AccessLog::none(), true))?;
        serve_stdio(&service)?;
        return Ok(Outcome::Done);
    }
    let file = tokens::path(args.tokens.as_deref())?;
    let loopback = args.listen.ip().is_loopback();
    let none = tokens::list(&file)?.is_empty();
    if none && !args.public_read && !loopback {
        bail!(Error::invalid(format!(
            "there is no token yet, and {} is no loopback address: make one with `vml token new`, or let everybody read with --public-read",
            args.listen
        )));
    }
    let tls = match (args.tls_cert, args.tls_key) {
        (Some(certificate), Some(key)) => Some(Tls::open(certificate, key)?),
        _ => None,
    };
    if tls.is_none() && !loopback {
        complain(format_args!("vml: without --tls-cert, tokens and entries cross the network as they are"));
    }
    let auth = Auth::by_tokens(file, args.public_read, loopback && !args.public_read, args.wrong_tokens)?;
    if auth.is_open() {
        complain("vml: there is no token yet: everybody on this host may read and add entries");
    }
    let log = match args.access_log {
        Some(path) => AccessLog::to_file(path, context.json())?,
        None if context.global.quiet => AccessLog::none(),
        None => AccessLog::to_stderr(context.json()),
    };
    let listener = TcpListener::bind(args.listen).with_context(|| format!("cannot listen on {}", args.listen))?;
    let address = listener.local_addr().context("cannot listen")?;
    let scheme = if tls.is_some() { "https" } else { "http" };
    let service = Service::new(repository, &hidden, tls.is_some(), options(auth, log, false))?;
    let url = format!("{scheme}://{address}");
    if context.json() {
        output::value(&json!({ "url": url }))?;
    }
    context.say(format_args!("serving {place} at {url}"))?;
    let grace = Duration::from_secs(args.grace);
    listen(&service, listener, ListenOptions { tls, connections: args.connections as usize, grace })?;
    Ok(Outcome::Done)
}

/// The repository, with its store open and what was found there told.
fn open(context: &Context, place: &Place) -> Result<Repository> {
    let mut options = context.options();
    options.cache_len = CACHE_LEN;
    let progress = context.progress();
    let open = || -> Result<Repository> {
        let repository = context.keys().open(place.open(true)?, options)?;
        repository.store(&progress)?;
        Ok(repository)
    };
    open().with_context(|| format!("cannot open the repository {place}"))
}
