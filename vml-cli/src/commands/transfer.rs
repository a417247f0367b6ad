//! `vml push`, `vml pull` and `vml clone`

use super::share::{find_secrets, refuse_secrets};
use super::{Context, Outcome, receive, remote, transplant as other};
use crate::args::{CloneArgs, LineArgs, PullArgs, PushArgs};
use crate::net::Limit;
use crate::output::{human, json};
use crate::progress::Progress;
use crate::remotes::Opened;
use crate::remotes::list::{self, Entry};
use crate::settings;
use anyhow::{Context as _, Result, bail};
use serde_json::json;
use std::time::Instant;
use vml_core::refs::{RefKind, check_name};
use vml_core::remote::{OpenRemote, Remote, RemoteRef, TransferPlan, TransferRequest, Transferred, plan_transfer, transfer};
use vml_core::transplant::{Bringer, TransplantRequest, plan_transplant, transplant};
use vml_core::{Config, EntryId, Error, ErrorKind, Repository};

/// Looks into what is about to be sent: entries, and those that the other end has.
type Look<'a> = &'a dyn Fn(&[EntryId], &[EntryId]) -> Result<()>;

/// Fewest digits of an id.
const ID_DIGITS_MIN: usize = 4;

pub fn push(context: &Context, args: &PushArgs) -> Result<Outcome> {
    let (name, entry, wanted) = remote_and_entries(args.remote.as_deref(), &args.entry)?;
    let repository = context.repository()?;
    let progress = context.progress();
    let author = settings::author();
    let here = OpenRemote::new(&repository, &author, true, settings::now_ms()).telling(&progress);
    let entries = if wanted.is_empty() { heads(&here.refs()?) } else { local(&repository, &wanted)? };
    let opened = Opened::open(&entry, Limit::new(args.line.limit), context.options(), context.keys())?;
    let crossing = Crossing { context, progress: &progress, name: &name, line: &args.line, word: "pushed", to: " to " };
    let look_for_secrets = |ids: &[EntryId], known: &[EntryId]| {
        if entry.own {
            return Ok(());
        }
        let found = find_secrets(&repository, ids, known, &progress)?;
        refuse_secrets(context, &found, args.allow_secrets, args.with_memory, false)
    };
    let carried = other::other(&repository, &opened, &progress).and_then(|there| {
        let Some(there) = there else { return Ok(None) };
        let from = Bringer::Remote { name: &author, trusted: true };
        crossing.carry(&repository, there, from, &entries, &look_for_secrets).map(Some)
    });
    if !matches!(carried, Ok(None)) {
        progress.finish();
    }
    if let Some(done) = carried.with_context(|| format!("cannot push to {name}"))? {
        return Ok(done);
    }
    let run = |there: &dyn Remote| {
        let look = |plan: &TransferPlan| {
            let ids: Vec<EntryId> = plan.entries.iter().map(|(id, _)| *id).collect();
            look_for_secrets(&ids, &plan.known_at(there)?)
        };
        crossing.run(&here, there, &entries, &look)
    };
    let done = opened.with(&author, &progress, run);
    progress.finish();
    done.with_context(|| format!("cannot push to {name}"))
}

pub fn pull(context: &Context, args: &PullArgs) -> Result<Outcome> {
    let (name, entry, wanted) = remote_and_entries(args.remote.as_deref(), &args.entry)?;
    let repository = context.repository()?;
    pull_from(context, &repository, &name, &entry, &wanted, &args.line)
}

/// Pulls what is wanted from a remote; everything that it names if nothing is said.
fn pull_from(context: &Context, repository: &Repository, name: &str, entry: &Entry, wanted: &[String], line: &LineArgs) -> Result<Outcome> {
    let progress = context.progress();
    let here = OpenRemote::new(repository, &entry.url, entry.own, settings::now_ms()).telling(&progress);
    let opened = Opened::open(entry, Limit::new(line.limit), context.options(), context.keys())?;
    let crossing = Crossing { context, progress: &progress, name, line, word: "pulled", to: " from " };
    let carried_from = other::other(repository, &opened, &progress).with_context(|| format!("cannot pull from {name}"))?;
    let done = opened.with(&settings::author(), &progress, |there| {
        let refs = there.refs()?;
        let entries = if wanted.is_empty() { heads(&refs) } else { far(there, &refs, wanted)? };
        match carried_from {
            Some(from) => {
                let bringer = Bringer::Remote { name: &entry.url, trusted: entry.own };
                crossing.carry(from, repository, bringer, &entries, &|_, _| Ok(()))
            }
            None => crossing.run(there, &here, &entries, &|_| Ok(())),
        }
    });
    progress.finish();
    done.with_context(|| format!("cannot pull from {name}"))
}

pub fn clone(context: &Context, args: &CloneArgs) -> Result<Outcome> {
    let entry = remote::describe(&args.place)?;
    let place = context.place()?;
    if place.is_taken() {
        bail!(Error::new(ErrorKind::AlreadyExists, format!("there is something in {place} already: name another with --repo")));
    }
    let opened = Opened::open(&entry, Limit::new(None), context.options(), context.keys())?;
    let progress = context.progress();
    let info =
        opened.with(&settings::author(), &progress, |there| Ok(there.info()?)).with_context(|| format!("cannot clone {}", entry.url))?;
    let mut config = Config::new(settings::random_id()?, settings::now_ms());
    (config.chunker, config.frame_len) = (info.chunker, info.frame_len);
    (config.level, config.inline_max) = (info.level, info.inline_max);
    if let (Opened::Service(_), true) = (&opened, info.ids != [0; 16]) {
        bail!(Error::invalid(
            "an encrypted repository is cloned from its directory or object storage, with a full key: a service does not give its keys away"
        ));
    }
    config.check().with_context(|| format!("{} is a repository of a kind that cannot be made here", entry.url))?;
    let init = place.create().and_then(|backend| match &opened {
        // Its entries can only be read with its secrets.
        Opened::Repository(source) if source.rights().is_some() => Ok(Repository::init_like(&backend, config, context.options(), source)?),
        _ => Ok(Repository::init(backend, config, context.options())?),
    });
    let repository = init.with_context(|| format!("cannot make a repository in {place}"))?;
    context.say(format_args!("made a repository in {place}"))?;
    if !list::all()?.contains_key(list::DEFAULT) {
        list::add(list::DEFAULT, entry.clone())?;
    }
    let line = LineArgs { limit: args.limit, no_history: false, dry_run: false, verify: false };
    let pulled = pull_from(context, &repository, list::DEFAULT, &entry, &[], &line);
    pulled.with_context(|| format!("what came is kept in {place}: `vml pull` there goes on"))
}

/// The first name may be that of a remote or already that of an entry.
fn remote_and_entries(remote: Option<&str>, entries: &[String]) -> Result<(String, Entry, Vec<String>)> {
    let mut wanted = entries.to_vec();
    let remotes = list::all()?;
    let named = match remote {
        Some(name) if !remotes.contains_key(name) && !entries.is_empty() && check_name("remote", name).is_ok() => {
            bail!(Error::not_found(format!("there is no remote {name:?}: `vml remote list` lists them")))
        }
        Some(name) if !remotes.contains_key(name) => {
            wanted.insert(0, name.to_owned());
            None
        }
        other => other,
    };
    let (name, entry) = list::find_in(remotes, named)?;
    Ok((name, entry, wanted))
}

/// What refs name, each once.
fn heads(refs: &[RemoteRef]) -> Vec<EntryId> {
    let mut ids: Vec<EntryId> = refs.iter().map(|at| at.entry).collect();
    ids.sort_unstable();
    ids.dedup();
    ids
}

/// Entries of this repository; an area's name means its latest.
fn local(repository: &Repository, wanted: &[String]) -> Result<Vec<EntryId>> {
    let resolve =
        |name: &String| match check_name("area", name).ok().and_then(|()| repository.refs().get(RefKind::Area, name).ok().flatten()) {
            Some(id) => Ok(id),
            None => Ok(repository.resolve(name)?),
        };
    wanted.iter().map(resolve).collect()
}

/// Entries of a remote.
fn far(there: &dyn Remote, refs: &[RemoteRef], wanted: &[String]) -> Result<Vec<EntryId>> {
    let mut known: Option<Vec<EntryId>> = None;
    let mut found = Vec::new();
    for name in wanted {
        let plain = name.strip_suffix("@latest").unwrap_or(name);
        let base = name.strip_prefix("BASE:").or_else(|| name.strip_prefix("base:"));
        let named = refs.iter().find(|at| match at.kind {
            RefKind::Area => at.name == plain,
            RefKind::Tag => at.name == *name,
            RefKind::Base => base == Some(at.name.as_str()),
        });
        if let Some(at) = named {
            found.push(at.entry);
            continue;
        }
        let digits = name.len() >= ID_DIGITS_MIN && name.bytes().all(|byte| byte.is_ascii_hexdigit());
        let fitting: Vec<EntryId> = if digits {
            if known.is_none() {
                known =
                    Some(there.history(&heads(refs))?.into_iter().filter(|item| item.forgotten.is_none()).map(|item| item.id).collect());
            }
            let begins = |id: &&EntryId| id.to_string().starts_with(&name.to_ascii_lowercase());
            known.iter().flatten().filter(begins).copied().collect()
        } else {
            Vec::new()
        };
        match fitting.as_slice() {
            [id] => found.push(*id),
            [] => bail!(Error::not_found(format!(
                "the remote has no area, tag, base or entry {name:?}: `vml remote show` lists what is named"
            ))),
            several => bail!(Error::invalid(format!("{name:?} could be {} entries of the remote: type more digits", several.len()))),
        }
    }
    Ok(found)
}

/// A push or a pull, with what is said of it.
struct Crossing<'a> {
    context: &'a Context,
    progress: &'a Progress,
    name: &'a str,
    line: &'a LineArgs,
    word: &'a str,
    to: &'a str,
}

impl Crossing<'_> {
    fn run(
        &self,
        source: &dyn Remote,
        sink: &dyn Remote,
        entries: &[EntryId],
        look: &dyn Fn(&TransferPlan) -> Result<()>,
    ) -> Result<Outcome> {
        let started = Instant::now();
        let request = TransferRequest { entries, history: !self.line.no_history, marks: true };
        let plan = plan_transfer(source, sink, &request)?;
        look(&plan)?;
        if self.line.dry_run {
            return self.tell_plan(&plan);
        }
        let done = transfer(source, sink, &plan, &request, self.progress)?;
        self.progress.finish();
        self.tell(&done, settings::elapsed_ms(started))?;
        Ok(Outcome::Done)
    }

    /// The same where both cut streams in different ways.
    fn carry(&self, source: &Repository, target: &Repository, from: Bringer<'_>, entries: &[EntryId], look: Look<'_>) -> Result<Outcome> {
        let started = Instant::now();
        let what = TransferRequest { entries, history: !self.line.no_history, marks: true };
        let mut plan = plan_transplant(source, target, &what, self.progress)?;
        let known = plan.known()?;
        look(&plan.plan.entries.iter().map(|(id, _)| *id).collect::<Vec<_>>(), &known)?;
        if self.line.dry_run {
            return self.tell_plan(&plan.plan);
        }
        let request = TransplantRequest { what, from, time_ms: settings::now_ms(), verify: self.line.verify, lineage: &[] };
        let done = transplant(&mut plan, &request, self.progress)?;
        self.progress.finish();
        other::tell(self.context, self.name, (self.word, self.to), &done, self.progress, settings::elapsed_ms(started))?;
        Ok(Outcome::Done)
    }

    fn tell_plan(&self, plan: &TransferPlan) -> Result<Outcome> {
        self.progress.finish();
        for (id, entry) in &plan.entries {
            if self.context.json() {
                crate::output::value(&json::entry(id, entry))?;
            }
            self.context.say(format_args!("{}  {}  {}", id.short(), entry.origin(), human::first_line(&entry.message)))?;
        }
        let count = human::counted(plan.entries.len() as u64, "entry");
        self.context.say(format_args!("{count} would be {}{}{}", self.word, self.to, self.name))?;
        Ok(Outcome::Done)
    }

    fn tell(&self, done: &Transferred, elapsed_ms: u64) -> Result<()> {
        let context = self.context;
        if context.json() {
            let entries =
                done.entries.iter().map(|(entry, arrived)| receive::placed_json(&arrived.id, entry, arrived.new, arrived.placed.as_ref()));
            crate::output::value(&json!({
                "remote": self.name,
                "entries": entries.collect::<Vec<_>>(),
                "present": done.present_count,
                "needed_chunks": done.needed_chunks_count,
                "sent_chunks": done.sent_chunks_count,
                "frames": done.frames_count,
                "frames_bytes": done.frames_bytes,
                "notes": done.notes_count,
                "other_tags": done.other_tags,
                "elapsed_ms": elapsed_ms,
                "notices": self.progress.notices(),
            }))?;
        }
        for (entry, arrived) in &done.entries {
            let place = receive::place(entry, arrived.placed.as_ref(), if self.word == "pushed" { "there" } else { "here" });
            context.say(format_args!("{} {} of {}{place}", self.word, arrived.id.short(), receive::what(entry)))?;
        }
        for tag in &done.other_tags {
            context.say(format_args!("the tag {} names another entry there, and goes on doing so", human::printable(tag)))?;
        }
        if done.entries.is_empty() && done.notes_count == 0 {
            return context.say(format_args!("nothing new{}{}", self.to, self.name));
        }
        context.say(format_args!(
            "{}{}{}: {} in {}, in {}",
            human::counted(done.entries.len() as u64, "entry"),
            self.to,
            self.name,
            human::size(done.frames_bytes),
            human::counted(done.sent_chunks_count, "chunk"),
            human::elapsed(elapsed_ms)
        ))
    }
}
