//! A guest's directories as a tree to capture: listed by find, fetched as a tar stream.

use super::listing::{Entry, ListingParser, Scope, list_command, look_again_command, relative};
use super::script::shell;
use super::tar::{Header, Kind, TarReader};
use super::transport::{Ended, Input, Process, Transport};
use crate::guest::DEFAULT_EXCLUDE;
use std::io::{BufReader, Write};
use vml_core::tree::{Fetched, FetchedWhat, Fetching, Listed, Timestamp, Told, TreeSource, display_path};
use vml_core::{Error, ErrorKind, Result};

/// What of a guest is saved by default: what its users and administrators change.
pub const DEFAULT_DIRS: [&str; 7] = ["/home", "/root", "/etc", "/usr/local", "/opt", "/srv", "/var"];

/// Lines of what find or tar complains about that are told one by one.
const WORDS_MAX: usize = 100;

/// What of a guest is captured.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SshTreeOptions {
    /// The directory in the guest that is the root of the tree, usually `/`.
    pub root: String,
    /// Directories from that root, such as `/home`; empty for everything.
    pub dirs: Vec<String>,
    /// Whether a directory that is not there is a problem.
    pub dirs_must_exist: bool,
    /// Whether what lives only while the guest runs is passed over already there.
    pub default_exclude: bool,
    /// Whether what is mounted inside a chosen directory is left out.
    pub one_file_system: bool,
}

impl SshTreeOptions {
    /// Whether the directories can be listed.
    ///
    /// # Errors
    /// `InvalidInput` naming the one that cannot.
    pub fn check(&self) -> Result<()> {
        let plain = |path: &str| path.starts_with('/') && !path.chars().any(char::is_control) && path.len() <= 4096;
        for dir in &self.dirs {
            let inside = dir.trim_matches('/');
            let odd = inside.is_empty() || inside.split('/').any(|part| part.is_empty() || part == "." || part == "..");
            if !plain(dir) || odd {
                let message = format!("{dir:?} is no directory of a guest: write it from the root, as /home/dev; for everything say --all");
                return Err(Error::invalid(message));
            }
        }
        if plain(&self.root) { Ok(()) } else { Err(Error::invalid(format!("{:?} is no root of a tree", self.root))) }
    }

    /// The directories as the tree has them, without `/` in front.
    pub fn inside(&self) -> Vec<String> {
        self.dirs.iter().map(|dir| dir.trim_matches('/').to_owned()).collect()
    }
}

/// A guest's directories.
pub struct SshTree<'t> {
    transport: &'t dyn Transport,
    options: SshTreeOptions,
}

impl<'t> SshTree<'t> {
    /// Nothing is asked yet.
    ///
    /// # Errors
    /// As [`SshTreeOptions::check`].
    pub fn new(transport: &'t dyn Transport, options: SshTreeOptions) -> Result<Self> {
        options.check()?;
        Ok(Self { transport, options })
    }

    /// Adds where, and what the other side said, to an error of reading its answer.
    fn explain(&self, error: Error, process: Process) -> Error {
        let place = self.transport.place();
        if error.kind() == ErrorKind::UnsupportedFormat {
            return error;
        }
        if error.kind() != ErrorKind::Interrupted {
            return error.context(format!("cannot understand what {place} answers"));
        }
        // It has ended, or stands still: then it is not waited for.
        let timed_out = source_is(&error, std::io::ErrorKind::TimedOut);
        let words = if timed_out {
            "it stands still".to_owned()
        } else {
            process.finish().map_or_else(|error| error.to_string(), |ended| ended.words())
        };
        error.context(format!("lost {place} in the middle: {words}"))
    }

    fn records(&self, mut process: Process, header: bool, each: &mut dyn FnMut(Entry) -> Result<()>) -> Result<(Option<Timestamp>, Ended)> {
        let mut parser = ListingParser::new(BufReader::with_capacity(64 << 10, process.stdout()));
        let mut read = || -> Result<Option<Timestamp>> {
            let now = if header { Some(parser.header()?) } else { None };
            loop {
                match parser.next()? {
                    Entry::End(_) => return Ok(now),
                    entry => each(entry)?,
                }
            }
        };
        let read = read();
        drop(parser);
        match read {
            Ok(now) => Ok((now, process.finish()?)),
            Err(error) => Err(self.explain(error, process)),
        }
    }
}

fn source_is(error: &Error, kind: std::io::ErrorKind) -> bool {
    let mut source = std::error::Error::source(error);
    while let Some(error) = source {
        if error.downcast_ref::<std::io::Error>().is_some_and(|error| error.kind() == kind) {
            return true;
        }
        source = error.source();
    }
    false
}

/// Writes names that end with NUL to a process that reads them; it may end before it has read all.
pub(super) fn send_names<'n>(input: Option<Input>, names: impl Iterator<Item = &'n [u8]>) {
    let Some(input) = input else { return };
    let mut input = std::io::BufWriter::with_capacity(32 << 10, input);
    for name in names {
        let dot: &[u8] = if name.is_empty() { b"." } else { b"./" };
        if input.write_all(dot).and_then(|()| input.write_all(name)).and_then(|()| input.write_all(b"\0")).is_err() {
            return;
        }
    }
    _ = input.flush();
}

/// What find or tar complained about, without what is told otherwise; one line each.
pub(super) fn complaints(stderr: &str) -> Vec<(String, String)> {
    const TOLD: [&str; 8] = [
        "No such file or directory",
        "file changed as we read it",
        "File removed before we read it",
        "File shrank by",
        "socket ignored",
        "Exiting with failure status",
        "Error exit delayed",
        "Removing leading",
    ];
    let lines = stderr.lines().map(str::trim).filter(|line| !line.is_empty() && !TOLD.iter().any(|told| line.contains(told)));
    let plain = |line: &str| line.chars().map(|c| if c.is_control() { ' ' } else { c }).take(400).collect::<String>();
    lines
        .take(WORDS_MAX)
        .map(|line| match line.split_once(": ") {
            Some((tool @ ("find" | "tar" | "xargs" | "rm" | "rmdir" | "setfattr"), rest)) => (tool.to_owned(), plain(rest)),
            _ => ("the guest".to_owned(), plain(line)),
        })
        .collect()
}

impl TreeSource for SshTree<'_> {
    fn list(&self, each: &mut dyn FnMut(Told) -> Result<()>) -> Result<Timestamp> {
        let dirs = self.options.inside();
        let prune: Vec<&str> = if self.options.default_exclude {
            DEFAULT_EXCLUDE.iter().map(|pattern| pattern.trim_start_matches('/')).collect()
        } else {
            Vec::new()
        };
        let scope = Scope { root: &self.options.root, dirs: &dirs, prune: &prune, one_file_system: self.options.one_file_system };
        let process = self.transport.run(&list_command(&scope))?;
        let strict = self.options.dirs_must_exist;
        let (now, ended) = self.records(process, true, &mut |entry| match entry {
            Entry::Member(listed) => each(Told::Member(listed)),
            Entry::Missing(path) if strict => {
                let subject = display_path(relative(&path).unwrap_or(&path));
                each(Told::Trouble { subject, message: "left out: the guest has no such directory".to_owned() })
            }
            Entry::Missing(_) | Entry::End(_) => Ok(()),
        })?;
        for (subject, message) in complaints(&ended.stderr) {
            each(Told::Trouble { subject, message })?;
        }
        now.ok_or_else(|| Error::corrupt("the listing has no time"))
    }

    fn fetch(&self, paths: &[&[u8]], each: &mut dyn FnMut(Fetching<'_>) -> Result<()>) -> Result<()> {
        let script = "LC_ALL=C; export LC_ALL; cd -- \"$1\" || exit 97; \
            exec tar --create --file=- --format=posix --pax-option=delete=atime,delete=ctime,delete=mtime --xattrs \"--xattrs-include=*\" \
            --sparse --sparse-version=1.0 --numeric-owner --hard-dereference --no-recursion --ignore-failed-read --null --no-unquote \
            --files-from=-";
        let mut process = self.transport.run(&shell(script, [self.options.root.as_str()]))?;
        let input = process.take_stdin();
        std::thread::scope(|scope| {
            // The names go there while members come back.
            let names = scope.spawn(move || send_names(input, paths.iter().copied()));
            let mut tar = TarReader::new(BufReader::with_capacity(256 << 10, process.stdout()));
            let mut read = || -> Result<()> {
                while let Some(header) = tar.next()? {
                    let Some(path) = relative(&header.path).map(<[u8]>::to_vec) else {
                        return Err(Error::corrupt(format!("a tar stream leads to {}", display_path(&header.path))));
                    };
                    hand_over(&path, header, &mut tar, each)?;
                }
                Ok(())
            };
            let read = read();
            drop(tar);
            let ended = match read {
                Ok(()) => process.finish(),
                // Its end lets the thread with the names end too.
                Err(error) => Err(self.explain(error, process)),
            };
            _ = names.join();
            for (subject, message) in complaints(&ended?.stderr) {
                each(Fetching::Trouble { subject, message })?;
            }
            Ok(())
        })
    }

    fn look_again(&self, paths: &[&[u8]], each: &mut dyn FnMut(Listed) -> Result<()>) -> Result<()> {
        let mut process = self.transport.run(&look_again_command(&self.options.root))?;
        let input = process.take_stdin();
        std::thread::scope(|scope| {
            let names = scope.spawn(move || send_names(input, paths.iter().copied()));
            let listed = self.records(process, false, &mut |entry| match entry {
                Entry::Member(listed) => each(listed),
                Entry::Missing(_) | Entry::End(_) => Ok(()),
            });
            _ = names.join();
            listed.map(|_| ())
        })
    }
}

fn hand_over(path: &[u8], header: Header, data: &mut dyn std::io::Read, each: &mut dyn FnMut(Fetching<'_>) -> Result<()>) -> Result<()> {
    let what = match header.kind {
        Kind::File => FetchedWhat::File { size: header.size, runs: header.runs.as_deref(), data },
        Kind::Directory => FetchedWhat::Directory,
        Kind::Symlink(target) => FetchedWhat::Symlink(target),
        Kind::Device { char, major, minor } => FetchedWhat::Device { char, major, minor },
        Kind::Fifo => FetchedWhat::Fifo,
        // Not asked for; the member is missing, then, and that is told.
        Kind::HardLink(_) => return Ok(()),
    };
    each(Fetching::Member(Fetched { path, xattrs: header.xattrs, what }))
}
