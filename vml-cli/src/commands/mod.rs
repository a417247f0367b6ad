//! One file a verb: take the arguments, call the library, print.

mod access;
mod area;
mod base;
mod browse;
mod build;
mod build_machine;
mod catalogue;
mod check;
mod compact;
mod demo;
mod diff;
mod disks;
mod fetch;
mod forget;
mod gc;
mod guest_proxies;
mod import_base;
mod init;
mod inside;
mod key;
mod log;
mod machine;
mod mark;
mod patch_guest;
mod receive;
mod remote;
mod repair;
mod restore;
mod save;
mod save_machine;
mod serve;
mod share;
mod share_file;
mod stats;
mod switch;
mod token;
mod transfer;
mod transplant;
mod trees;
mod tune;

use crate::args::{Args, BaseCommand, Command, Global};
use crate::places::Place;
use crate::progress::Progress;
use crate::unlock::Keys;
use anyhow::{Context as _, Result, bail};
use clap::CommandFactory as _;
use std::ffi::OsStr;
use std::io::{IsTerminal, Write};
use std::os::unix::ffi::OsStrExt;
use vml_chunk::seal::Rights;
use vml_core::entry::EntryKind;
use vml_core::{Error, ErrorKind, Repository, RepositoryOptions};

/// How a command that did not fail ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Outcome {
    /// All is well.
    Done,
    /// It went on over problems with single items, which were told.
    Problems,
}

impl Outcome {
    fn of(problems_count: u64) -> Self {
        if problems_count == 0 { Self::Done } else { Self::Problems }
    }
}

/// What every command needs: the global options.
pub struct Context {
    global: Global,
    keys: Keys,
    /// Whether the command can be done with a key that saves but does not read.
    saves: bool,
}

impl Context {
    fn json(&self) -> bool {
        self.global.json
    }

    fn progress(&self) -> Progress {
        Progress::new(self.global.quiet, self.global.json)
    }

    /// Prints a line for people, unless there is JSON or silence instead.
    fn say(&self, text: impl std::fmt::Display) -> Result<()> {
        if self.global.quiet || self.global.json { Ok(()) } else { crate::output::line(text) }
    }

    /// Where the repository is.
    fn place(&self) -> Result<Place> {
        Place::find(self.global.repo.as_deref())
    }

    /// How encrypted repositories are opened.
    fn keys(&self) -> &Keys {
        &self.keys
    }

    fn options(&self) -> RepositoryOptions {
        let mut options = RepositoryOptions::default();
        if let Some(threads) = self.global.threads {
            options.threads = usize::from(threads);
        }
        options
    }

    fn repository(&self) -> Result<Repository> {
        self.open(true)
    }

    /// Without copies in the cache folder a repository's own files are seen, wherever they are.
    fn open(&self, copies: bool) -> Result<Repository> {
        self.open_with(copies, self.options())
    }

    /// With options of the command's own.
    fn repository_with(&self, options: RepositoryOptions) -> Result<Repository> {
        self.open_with(true, options)
    }

    fn open_with(&self, copies: bool, options: RepositoryOptions) -> Result<Repository> {
        let place = self.place()?;
        let open = place.open(copies).and_then(|backend| self.keys.open(backend, options));
        let repository = open.with_context(|| format!("cannot open the repository {place}"))?;
        if repository.rights() == Some(Rights::PutOnly) && !self.saves {
            bail!(Error::new(
                ErrorKind::NeedsKey,
                format!("this key can save but not read: the repository {place} needs another one for this")
            ));
        }
        Ok(repository)
    }

    /// Asks before something is lost; without a terminal the answer must be given as --yes.
    fn confirm(&self, question: &str, yes: bool) -> Result<()> {
        if yes {
            return Ok(());
        }
        if !std::io::stdin().is_terminal() || !std::io::stderr().is_terminal() {
            bail!(Error::invalid(format!("{question} There is no terminal to ask on: say --yes")));
        }
        let mut err = std::io::stderr().lock();
        write!(err, "{question} [y/N] ").and_then(|()| err.flush()).context("cannot ask")?;
        drop(err);
        let mut answer = String::new();
        std::io::stdin().read_line(&mut answer)?;
        if matches!(answer.trim(), "y" | "Y" | "yes") { Ok(()) } else { bail!(Error::new(ErrorKind::Interrupted, "nothing was done")) }
    }
}

/// Does what was typed.
pub fn run(args: Args) -> Result<Outcome> {
    let keys = Keys::new(args.global.unlock.clone(), !args.global.json);
    let saves = matches!(args.command, Command::Save(_) | Command::Area(_) | Command::Access(_) | Command::Base(BaseCommand::Add(_)));
    let context = Context { global: args.global, keys, saves };
    match args.command {
        Command::Init(args) => init::run(&context, &args),
        Command::Access(command) => access::run(&context, command),
        Command::Base(args) => base::run(&context, args),
        Command::Area(args) => area::run(&context, args),
        Command::Save(args) => save::run(&context, &args),
        Command::Switch(args) => switch::run(&context, &args),
        Command::Log(args) => log::log(&context, &args),
        Command::Show(args) => log::show(&context, &args),
        Command::Diff(args) => diff::run(&context, &args),
        Command::Note(args) => mark::note(&context, args),
        Command::Tag(args) => mark::tag(&context, &args),
        Command::Ls(args) => browse::ls(&context, &args),
        Command::Cat(args) => browse::cat(&context, &args),
        Command::Build(args) => build::run(&context, &args),
        Command::Restore(args) => restore::restore(&context, &args),
        Command::Share(args) => share::run(&context, &args),
        Command::Receive(args) => receive::run(&context, &args),
        Command::Key(command) => key::run(&context, command),
        Command::Remote(command) => remote::run(&context, command),
        Command::Push(args) => transfer::push(&context, &args),
        Command::Pull(args) => transfer::pull(&context, &args),
        Command::Clone(args) => transfer::clone(&context, &args),
        Command::Serve(args) => serve::run(&context, args),
        Command::Token(command) => token::run(&context, command),
        Command::Guest(command) => guest_proxies::run(&context, &command),
        Command::Stats(args) => stats::run(&context, &args),
        Command::Check(args) => check::run(&context, &args),
        Command::Repair(args) => repair::run(&context, &args),
        Command::Forget(args) => forget::run(&context, &args),
        Command::Gc(args) => gc::run(&context, &args),
        Command::Compact(args) => compact::run(&context, &args),
        Command::Tune(args) => tune::run(&context, &args),
        Command::Completions(args) => {
            // Into memory first: the generator panics when its reader has gone.
            let mut script = Vec::new();
            clap_complete::generate(args.shell, &mut Args::command(), "vml", &mut script);
            std::io::stdout().lock().write_all(&script)?;
            Ok(Outcome::Done)
        }
        Command::Demo(args) => demo::run(&context, &args),
    }
}

/// What an entry is of, for people.
fn entry_of(kind: Option<&EntryKind>) -> Option<String> {
    kind.map(|kind| match kind {
        EntryKind::State { area } => area.clone(),
        EntryKind::Base { name, version } => format!("{name}@{version}"),
    })
}

/// Whether a directory is there and has something in it.
fn has_members(dir: &std::path::Path) -> bool {
    std::fs::read_dir(dir).is_ok_and(|mut members| members.next().is_some())
}

/// Splits `ENTRY:PATH`; `BASE:name@version` has a colon of its own. A path is bytes, an entry's name is text.
fn split_target(target: &OsStr) -> Result<(&str, Option<&[u8]>)> {
    let bytes = target.as_bytes();
    let start = if bytes.starts_with(b"BASE:") || bytes.starts_with(b"base:") { 5 } else { 0 };
    let colon = bytes[start..].iter().position(|byte| *byte == b':').map(|colon| start + colon);
    let (entry, path) = colon.map_or((bytes, None), |colon| (&bytes[..colon], Some(&bytes[colon + 1..])));
    let entry = std::str::from_utf8(entry).map_err(|_| Error::invalid(format!("{} names no entry", target.display())))?;
    Ok((entry, path))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_target_is_split_at_its_own_colon() {
        let split = |text: &'static str| split_target(OsStr::new(text)).unwrap();
        assert_eq!(split("a1b2:etc/hosts"), ("a1b2", Some(&b"etc/hosts"[..])));
        assert_eq!(split("work@~1:a:b"), ("work@~1", Some(&b"a:b"[..])));
        assert_eq!(split("BASE:debian@12:etc"), ("BASE:debian@12", Some(&b"etc"[..])));
        assert_eq!(split("BASE:debian@12"), ("BASE:debian@12", None));
        assert_eq!(split("tag:"), ("tag", Some(&b""[..])));
        assert_eq!(split_target(OsStr::from_bytes(b"tag:\xff")).unwrap(), ("tag", Some(&b"\xff"[..])));
        assert!(split_target(OsStr::from_bytes(b"\xff:a")).is_err());
    }
}
