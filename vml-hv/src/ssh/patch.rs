//! Brings a running guest to a saved state: what differs is sent as a tar stream, what the state lacks is removed.
//!
//! ```text
//! the guest now (a captured tree) ─┐                 ┌─► names ──► xargs rm, then rmdir for directories, deepest first
//!                                  ├─ differences ───┤
//! the saved state ─────────────────┘                 └─► tar stream ──► tar --extract
//! ```
//! Both trees are content in one store, so equal files are known by their ids and nothing else is sent. Only the chosen
//! directories are touched, and nothing that a pattern leaves out. A directory is removed only when it is empty, so what
//! nobody looked at is never deleted. Accounts are merged ([`crate::guest::accounts`]).

use super::script::shell;
use super::source::{SshTreeOptions, complaints, send_names};
use super::tar::{Member, MemberData, TarWriter};
use super::transport::{Process, Transport};
use crate::guest::accounts::{AccountFile, Clash, merge};
use std::collections::{BTreeMap, HashMap, HashSet};
use std::io::{Read, Write};
use std::ops::Range;
use vml_core::monitor::{Monitor, Problem, Task};
use vml_core::recipe::{GetChunk, Piece, RecipeReader, read_stream};
use vml_core::tree::{Change, ChangeKind, Content, Exclude, Node, NodeKind, diff_trees, display_path, find_path};
use vml_core::{Error, ErrorKind, Result};

/// Longest file of accounts that is merged.
const ACCOUNTS_MAX_LEN: u64 = 4 << 20;
/// Most runs of a sparse file that is sent with its holes.
const RUNS_MAX: usize = 1 << 18;

/// What is patched, from which state to which.
pub struct PatchOptions<'a> {
    /// The guest's directories that may be touched.
    pub scope: &'a SshTreeOptions,
    /// What is left as it is.
    pub exclude: &'a Exclude,
    /// The root of the tree that the guest has now.
    pub from: &'a Node,
    /// The root of the tree that it shall have.
    pub to: &'a Node,
}

/// What a patch would do.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct PatchPlan {
    /// Members to be sent.
    pub send_count: u64,
    /// Bytes of the files among them.
    pub send_bytes: u64,
    /// Members to be removed.
    pub remove_count: u64,
    /// Names of accounts that only the guest has, which stay.
    pub kept_accounts: Vec<String>,
    /// Numbers of accounts with two names.
    pub clashes: Vec<Clash>,
}

/// What a patch did.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Patched {
    /// What was sent and removed.
    pub plan: PatchPlan,
    /// Members that are not as they should be; the monitor was told.
    pub problems_count: u64,
}

impl PatchOptions<'_> {
    /// Whether a path may be touched.
    fn covers(&self, path: &[u8]) -> bool {
        let dirs = self.scope.inside();
        let inside = dirs.is_empty()
            || dirs.iter().any(|dir| path.strip_prefix(dir.as_bytes()).is_some_and(|rest| matches!(rest.first(), None | Some(b'/'))));
        let ends = path.iter().enumerate().filter(|(_, byte)| **byte == b'/').map(|(at, _)| at).chain(std::iter::once(path.len()));
        inside
            && !path.is_empty()
            && !ends.into_iter().any(|end| {
                let part = &path[..end];
                self.exclude.matches(part, part.rsplit(|byte| *byte == b'/').next().unwrap_or_default())
            })
    }

    /// Tells every difference that is to be handled.
    fn changes(&self, store: &dyn GetChunk, each: &mut dyn FnMut(Change) -> Result<()>) -> Result<()> {
        let mut failed = Ok(());
        diff_trees(store, self.from, self.to, b"", &mut |change| {
            if self.covers(&change.path) {
                failed = each(change);
            }
            failed.is_ok()
        })?;
        failed
    }
}

/// Whether the old member must go before the new one can be.
fn is_removed(change: &Change) -> bool {
    let gone = matches!(change.kind, ChangeKind::Removed | ChangeKind::Modified { kind: true, .. });
    // A file of accounts is never taken from a guest.
    gone && !(change.new.is_none() && AccountFile::at(&change.path).is_some())
}

/// What [`apply`] would do.
///
/// # Errors
/// As the store.
pub fn plan(store: &dyn GetChunk, options: &PatchOptions<'_>) -> Result<PatchPlan> {
    let mut plan = PatchPlan::default();
    options.changes(store, &mut |change| {
        plan.remove_count += u64::from(is_removed(&change));
        if let Some(new) = &change.new {
            note(&mut plan, new);
            if let Some(merged) = accounts(store, &change)? {
                plan.kept_accounts.extend(merged.kept);
                plan.clashes.extend(merged.clashes);
            }
        }
        Ok(())
    })?;
    Ok(plan)
}

/// Attributes that a directory has and shall not have: a stream can add to a directory that is there, not take away. What
/// permissions its own ACL gives is replaced, and everything but directories is made anew.
fn stale_attributes(change: &Change) -> impl Iterator<Item = &[u8]> {
    let both = change.old.as_ref().zip(change.new.as_ref()).filter(|(old, new)| old.is_dir() && new.is_dir());
    both.into_iter().flat_map(|(old, new)| {
        let names = old.xattrs.iter().map(|(name, _)| name.as_slice());
        names.filter(|name| *name != b"system.posix_acl_access" && !new.xattrs.iter().any(|(kept, _)| kept == name))
    })
}

fn note(plan: &mut PatchPlan, node: &Node) {
    plan.send_count += 1;
    plan.send_bytes += node.len();
}

/// Patches a guest. Killed in the middle, it leaves the guest between the two states; run again, it goes on.
///
/// # Errors
/// As the store and [`Transport::run`]; `Interrupted` when the guest stops in the middle.
pub fn apply(store: &dyn GetChunk, transport: &dyn Transport, options: &PatchOptions<'_>, monitor: &dyn Monitor) -> Result<Patched> {
    options.scope.check()?;
    let mut patched = Patched::default();
    let mut tell = |subject: String, message: String| {
        patched.problems_count += 1;
        monitor.problem(Problem { subject, message });
    };
    let mut plan = PatchPlan::default();
    let mut directories: Vec<Vec<u8>> = Vec::new();
    let root = options.scope.root.as_str();
    // Without arguments nothing runs, so that nothing is removed where nothing is to be.
    let remove = |what: &str| format!("LC_ALL=C; export LC_ALL; cd -- \"$1\" || exit 97; xargs -0 -r {what}; echo \"vml-done $?\"");

    let (mut names, mut stale) = (Vec::new(), BTreeMap::<Vec<u8>, Vec<Vec<u8>>>::new());
    options.changes(store, &mut |change| {
        for name in stale_attributes(&change) {
            stale.entry(name.to_vec()).or_default().push(change.path.clone());
        }
        if is_removed(&change) {
            plan.remove_count += 1;
            if change.old.as_ref().is_some_and(Node::is_dir) { directories.push(change.path) } else { names.push(change.path) }
        }
        Ok(())
    })?;
    // Those in a directory come after it in the order of the walk.
    directories.reverse();
    let over = |names: &[Vec<u8>], command: &str, argument: &str| {
        if names.is_empty() {
            return Ok(Vec::new());
        }
        let mut process = transport.run(&shell(&remove(command), [root, argument]))?;
        let input = process.take_stdin();
        std::thread::scope(|scope| {
            scope.spawn(|| send_names(input, names.iter().map(Vec::as_slice)));
            end_of(process, transport)
        })
    };
    for (names, command) in [(names, "rm -f --"), (directories, "rmdir --")] {
        over(&names, command, "")?.into_iter().for_each(|(subject, message)| tell(subject, message));
    }
    for (name, paths) in stale {
        // Names of attributes that are no text are nobody's but a file system's own.
        let Ok(text) = String::from_utf8(name) else { continue };
        match over(&paths, "setfattr -h -x \"$2\" --", &text) {
            Ok(words) => words.into_iter().for_each(|(subject, message)| tell(subject, message)),
            Err(error) if error.kind() == ErrorKind::UnsupportedFormat => {
                let subject = display_path(&paths[0]);
                let message = format!(
                    "keeps the attribute {}, as {} directories do: the guest has no setfattr",
                    display_path(text.as_bytes()),
                    paths.len()
                );
                tell(subject, message);
            }
            Err(error) => return Err(error),
        }
    }

    let script = "LC_ALL=C; export LC_ALL; cd -- \"$1\" || exit 97; \
        tar --extract --file=- --acls --xattrs \"--xattrs-include=*\" --same-owner --preserve-permissions --numeric-owner \
        --delay-directory-restore --warning=no-timestamp; echo \"vml-done $?\"";
    let mut process = transport.run(&shell(script, [root]))?;
    let Some(input) = process.take_stdin() else { return Err(Error::new(ErrorKind::Io, "a process has no standard input")) };
    let mut sender = Sender {
        store,
        options,
        tar: TarWriter::new(std::io::BufWriter::with_capacity(256 << 10, input)),
        links: HashMap::new(),
        directories: HashSet::new(),
        plan: &mut plan,
        monitor,
    };
    let sent = options.changes(store, &mut |change| sender.change(&change));
    let finished = match sent {
        Ok(()) => sender.tar.finish().map(drop).map_err(stopped),
        Err(error) => {
            drop(sender);
            Err(error)
        }
    };
    match (finished, end_of(process, transport)) {
        (Err(error), Ok(_)) => return Err(error),
        // What the guest says about its end is the better reason.
        (Err(error), Err(reason)) if error.kind() != ErrorKind::Interrupted => return Err(error.because(reason)),
        (_, Err(reason)) => return Err(reason),
        (Ok(()), Ok(words)) => words.into_iter().for_each(|(subject, message)| tell(subject, message)),
    }
    for clash in &plan.clashes {
        let message = format!(
            "number {} is {:?} in the saved state and {:?} in the guest: both stay, and share their files",
            clash.id, clash.saved, clash.guest
        );
        tell("accounts".to_owned(), message);
    }
    patched.plan = plan;
    Ok(patched)
}

fn stopped(error: std::io::Error) -> Error {
    Error::new(ErrorKind::Interrupted, "the guest stopped taking what it is sent").because(error)
}

/// Waits for a command that says `vml-done STATUS` at its end; what it complained about.
fn end_of(mut process: Process, transport: &dyn Transport) -> Result<Vec<(String, String)>> {
    let mut answer = Vec::new();
    let read = process.stdout().take(64 << 10).read_to_end(&mut answer);
    let place = transport.place();
    read.map_err(|error| Error::new(ErrorKind::Interrupted, format!("{place} stands still in the middle of a patch")).because(error))?;
    let ended = process.finish()?;
    let answer = String::from_utf8_lossy(&answer);
    let status = answer.lines().find_map(|line| line.strip_prefix("vml-done ")?.trim().parse::<i32>().ok());
    match status {
        None => Err(Error::new(ErrorKind::Interrupted, format!("lost {place} in the middle of a patch: {}", ended.words()))),
        Some(0) => Ok(complaints(&ended.stderr)),
        Some(127) => Err(Error::new(ErrorKind::UnsupportedFormat, format!("{place} lacks a tool: {}", ended.words()))),
        Some(status) => {
            let mut words = complaints(&ended.stderr);
            if words.is_empty() {
                words.push((place, format!("a command ended with status {status}: {}", ended.words())));
            }
            Ok(words)
        }
    }
}

/// The merged file of accounts, if the change is of one.
fn accounts(store: &dyn GetChunk, change: &Change) -> Result<Option<crate::guest::accounts::Merged>> {
    let Some(file) = AccountFile::at(&change.path) else { return Ok(None) };
    let read = |node: &Option<Node>| node.as_ref().map_or(Ok(None), |node| bytes_of(store, node));
    match (read(&change.old)?, read(&change.new)?) {
        (Some(guest), Some(saved)) => Ok(Some(merge(file, &guest, &saved))),
        _ => Ok(None),
    }
}

/// The bytes of a short file.
fn bytes_of(store: &dyn GetChunk, node: &Node) -> Result<Option<Vec<u8>>> {
    match &node.kind {
        NodeKind::File(content) if content.len() > ACCOUNTS_MAX_LEN => Ok(None),
        NodeKind::File(Content::Inline(bytes)) => Ok(Some(bytes.clone())),
        NodeKind::File(Content::Recipe(recipe)) => {
            let mut bytes = Vec::new();
            read_stream(store, recipe, &mut |part| {
                bytes.extend_from_slice(part);
                Ok(())
            })?;
            Ok(Some(bytes))
        }
        _ => Ok(None),
    }
}

struct Sender<'a, W: Write> {
    store: &'a dyn GetChunk,
    options: &'a PatchOptions<'a>,
    tar: TarWriter<W>,
    /// Files with several names: under which one each was sent.
    links: HashMap<Vec<u8>, Vec<u8>>,
    /// Directories that were sent.
    directories: HashSet<Vec<u8>>,
    plan: &'a mut PatchPlan,
    monitor: &'a dyn Monitor,
}

impl<W: Write> Sender<'_, W> {
    fn change(&mut self, change: &Change) -> Result<()> {
        self.directory_above(&change.path)?;
        let Some(new) = &change.new else { return Ok(()) };
        if new.is_dir() {
            self.directories.insert(change.path.clone());
        }
        note(self.plan, new);
        self.monitor.advance(Task::Restore, 1, new.len());
        if let Some(merged) = accounts(self.store, change)? {
            self.plan.kept_accounts.extend(merged.kept);
            self.plan.clashes.extend(merged.clashes);
            self.head(&change.path, new, MemberData::File { size: merged.bytes.len() as u64, runs: None })?;
            return self.tar.data(&merged.bytes).map_err(stopped);
        }
        if let Some(link) = &new.link {
            let known = match self.links.get(link) {
                Some(known) => Some(known.clone()),
                // The guest may have the first name already, just as it should be.
                None if *link != change.path && self.has(link) => Some(link.clone()),
                None => None,
            };
            match known {
                Some(known) => return self.head(&change.path, new, MemberData::HardLink(&dotted(&known))),
                None => _ = self.links.insert(link.clone(), change.path.clone()),
            }
        }
        self.member(&change.path, new)
    }

    fn has(&self, path: &[u8]) -> bool {
        let find = |root| find_path(self.store, root, path).ok();
        matches!((find(self.options.from), find(self.options.to)), (Some(now), Some(then)) if now == then)
    }

    /// Changing a member changes the times of its directory; they are set again.
    fn directory_above(&mut self, path: &[u8]) -> Result<()> {
        let end = path.iter().rposition(|byte| *byte == b'/').unwrap_or(0);
        let above = &path[..end];
        if !self.options.covers(above) || self.directories.contains(above) {
            return Ok(());
        }
        self.directories.insert(above.to_vec());
        match find_path(self.store, self.options.to, above) {
            Ok(node) if node.is_dir() => self.member(above, &node),
            Ok(_) => Ok(()),
            Err(error) if error.kind() == ErrorKind::NotFound => Ok(()),
            Err(error) => Err(error),
        }
    }

    fn head(&mut self, path: &[u8], node: &Node, data: MemberData<'_>) -> Result<()> {
        let path = dotted(path);
        let (xattrs, mtime) = (node.xattrs.as_slice(), node.mtime);
        let member = Member { path: &path, data, mode: node.mode, uid: node.uid, gid: node.gid, mtime, xattrs };
        self.tar.member(&member).map_err(stopped)
    }

    fn member(&mut self, path: &[u8], node: &Node) -> Result<()> {
        match &node.kind {
            NodeKind::Directory(_) => self.head(path, node, MemberData::Directory),
            NodeKind::Symlink(target) => self.head(path, node, MemberData::Symlink(target)),
            NodeKind::Fifo => self.head(path, node, MemberData::Fifo),
            NodeKind::CharDevice { major, minor } => self.head(path, node, MemberData::Device { char: true, major: *major, minor: *minor }),
            NodeKind::BlockDevice { major, minor } => {
                self.head(path, node, MemberData::Device { char: false, major: *major, minor: *minor })
            }
            NodeKind::File(Content::Inline(bytes)) => {
                self.head(path, node, MemberData::File { size: bytes.len() as u64, runs: None })?;
                self.tar.data(bytes).map_err(stopped)
            }
            NodeKind::File(Content::Recipe(recipe)) => {
                let runs = self.runs(recipe)?;
                self.head(path, node, MemberData::File { size: recipe.len, runs: runs.as_deref() })?;
                let zeros = [0; 64 << 10];
                for piece in RecipeReader::new(self.store, recipe) {
                    match piece? {
                        Piece::Hole { .. } if runs.is_some() => {}
                        Piece::Hole { mut len } | Piece::Zero { mut len } => {
                            while len > 0 {
                                let part = len.min(zeros.len() as u64);
                                self.tar.data(&zeros[..part as usize]).map_err(stopped)?;
                                len -= part;
                            }
                        }
                        Piece::Data { id, len } => {
                            let chunk = self.store.get_chunk(&id)?;
                            if chunk.len() != len as usize {
                                return Err(Error::corrupt(format!(
                                    "a chunk of {} has another length than its recipe says",
                                    display_path(path)
                                )));
                            }
                            self.tar.data(&chunk).map_err(stopped)?;
                        }
                    }
                }
                Ok(())
            }
        }
    }

    /// Where a file has data; nothing for one without holes, or with holes that a stream cannot tell.
    fn runs(&self, recipe: &vml_core::recipe::Recipe) -> Result<Option<Vec<Range<u64>>>> {
        let (mut runs, mut at, mut holes) = (Vec::<Range<u64>>::new(), 0, false);
        for piece in RecipeReader::new(self.store, recipe) {
            let piece = piece?;
            let end = at + piece.len();
            match piece {
                Piece::Hole { .. } => holes = true,
                _ if runs.last().is_some_and(|run| run.end == at) => {
                    if let Some(run) = runs.last_mut() {
                        run.end = end;
                    }
                }
                _ => runs.push(at..end),
            }
            if runs.len() > RUNS_MAX {
                return Ok(None);
            }
            at = end;
        }
        // GNU tar begins each run with a block.
        let aligned = |run: &Range<u64>| run.start.is_multiple_of(512) && (run.end.is_multiple_of(512) || run.end == recipe.len);
        Ok(Some(runs).filter(|runs| holes && runs.iter().all(aligned)))
    }
}

/// As find and tar call a path, so that none looks like an option.
fn dotted(path: &[u8]) -> Vec<u8> {
    if path.is_empty() { b".".to_vec() } else { [b"./", path].concat() }
}
