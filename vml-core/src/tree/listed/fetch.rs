//! Fetches changed members in batches, and again those that changed meanwhile.

use super::walk::stamp;
use super::{Fetched, FetchedWhat, Fetching, Listed, ListedKind, TreeSource};
use crate::recipe::{Piece, RecipeWriter};
use crate::tree::assemble::Directory;
use crate::tree::capture::Session;
use crate::tree::node::{Content, Node, NodeKind};
use crate::tree::read::Seat;
use std::collections::HashMap;
use std::io::Read;
use std::ops::Range;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use vml_chunk::{ChunkWriter, Error, ErrorKind, PackKind, Result, StoreWriter};

/// Members in one batch.
const BATCH_MEMBERS: usize = 16 << 10;
/// Bytes in one batch, so that what was read is looked at again soon.
const BATCH_LEN: u64 = 256 << 20;
/// Times that a file is read before it is taken as last seen.
const TRIES: usize = 3;
/// Longest attributes of one member that are kept, as on Linux.
const XATTRS_MAX_LEN: usize = 1 << 20;

/// A member whose bytes, or attributes, are asked for.
pub(super) struct Wanted {
    pub(super) listed: Listed,
    pub(super) place: Place,
}

/// Where it belongs.
pub(super) enum Place {
    /// A slot of a directory.
    Member(Seat),
    /// The attributes of a directory.
    Own(Arc<Directory>),
}

/// What arrived of a member.
struct Got {
    xattrs: Vec<(Vec<u8>, Vec<u8>)>,
    kind: NodeKind,
}

pub(super) struct Fetch<'f, 'a> {
    session: &'f Session<'a>,
    source: &'f dyn TreeSource,
    chunks: ChunkWriter<'f>,
    wanted: Vec<Wanted>,
    wanted_len: u64,
}

/// A directory's own node, still without its listing.
pub(super) fn own_node(listed: &Listed, xattrs: Vec<(Vec<u8>, Vec<u8>)>) -> Node {
    let name = listed.path.rsplit(|byte| *byte == b'/').next().unwrap_or_default();
    node(listed, name, Got { xattrs, kind: NodeKind::Directory(crate::recipe::Recipe::empty()) })
}

fn node(listed: &Listed, name: &[u8], got: Got) -> Node {
    Node {
        name: name.to_vec(),
        mode: listed.mode,
        uid: listed.uid,
        gid: listed.gid,
        mtime: listed.mtime,
        xattrs: got.xattrs,
        link: None,
        kind: got.kind,
    }
}

impl<'f, 'a> Fetch<'f, 'a> {
    pub(super) fn new(session: &'f Session<'a>, source: &'f dyn TreeSource, writer: &'f StoreWriter<'_>) -> Result<Self> {
        Ok(Self { session, source, chunks: writer.chunks(PackKind::Data)?, wanted: Vec::new(), wanted_len: 0 })
    }

    pub(super) fn want(&mut self, wanted: Wanted) -> Result<()> {
        if wanted.listed.kind == ListedKind::File {
            self.wanted_len = self.wanted_len.saturating_add(wanted.listed.size);
        }
        self.wanted.push(wanted);
        if self.wanted.len() >= BATCH_MEMBERS || self.wanted_len >= BATCH_LEN { self.settle_all() } else { Ok(()) }
    }

    pub(super) fn finish(self) -> Result<()> {
        self.chunks.finish()
    }

    /// Fetches and settles everything that is wanted.
    pub(super) fn settle_all(&mut self) -> Result<()> {
        self.wanted_len = 0;
        let mut pending = std::mem::take(&mut self.wanted);
        for last_try in (1..=TRIES).map(|number| number == TRIES) {
            if pending.is_empty() {
                break;
            }
            let mut got = self.fetch(&pending)?;
            let mut seen = HashMap::new();
            let paths: Vec<&[u8]> = pending.iter().map(|wanted| wanted.listed.path.as_slice()).collect();
            self.source.look_again(&paths, &mut |listed| {
                // What was not asked for is not kept.
                if got.contains_key(&listed.path) || seen.len() < paths.len() {
                    seen.insert(listed.path.clone(), listed);
                }
                Ok(())
            })?;
            let mut again = Vec::new();
            for wanted in pending {
                let (got, now) = (got.remove(&wanted.listed.path), seen.remove(&wanted.listed.path));
                again.extend(self.settle(wanted, got, now, last_try)?);
            }
            pending = again;
        }
        Ok(())
    }

    /// Settles one member, or gives it back to be read again.
    fn settle(&self, wanted: Wanted, got: Option<Got>, now: Option<Listed>, last_try: bool) -> Result<Option<Wanted>> {
        let path = &wanted.listed.path;
        let lost = |why: &str| self.session.problem(path, format!("left out: {why}"));
        let Some(now) = now else {
            lost("it vanished while the tree was saved");
            return self.give_up(&wanted).map(|()| None);
        };
        if now.kind != wanted.listed.kind {
            lost("it was replaced while the tree was saved");
            return self.give_up(&wanted).map(|()| None);
        }
        let whole = got.as_ref().is_some_and(|got| matches(got, &now));
        let steady = whole && (same_state(&wanted.listed, &now) || now.kind == ListedKind::Directory);
        match got {
            Some(got) if steady || last_try && whole_kind(&got, &now) => {
                if !steady {
                    self.session.problem(path, format!("it changed {TRIES} times while it was read: saved as last seen"));
                }
                self.deliver(&wanted, &now, got).map(|()| None)
            }
            None if last_try || same_state(&wanted.listed, &now) => {
                lost("it could not be read");
                self.give_up(&wanted).map(|()| None)
            }
            _ if last_try => {
                lost("it was replaced while the tree was saved");
                self.give_up(&wanted).map(|()| None)
            }
            _ => Ok(Some(Wanted { listed: now, place: wanted.place })),
        }
    }

    fn deliver(&self, wanted: &Wanted, now: &Listed, got: Got) -> Result<()> {
        match &wanted.place {
            Place::Member(seat) => {
                if let NodeKind::File(content) = &got.kind {
                    self.session.counters.read_files.fetch_add(1, Ordering::Relaxed);
                    self.session.counters.read_bytes.fetch_add(content.len(), Ordering::Relaxed);
                }
                let node = Node { link: seat.link(), ..node(now, &seat.name, got) };
                self.session.settle(seat, Some(node))
            }
            Place::Own(directory) => self.describe(directory, own_node(now, got.xattrs)),
        }
    }

    /// Without the member; a directory stays, without its attributes, for what is in it.
    fn give_up(&self, wanted: &Wanted) -> Result<()> {
        match &wanted.place {
            Place::Member(seat) => self.session.settle(seat, None),
            Place::Own(directory) => self.describe(directory, own_node(&wanted.listed, Vec::new())),
        }
    }

    fn describe(&self, directory: &Arc<Directory>, node: Node) -> Result<()> {
        let done = directory.describe(node, &mut |bytes| self.session.put_meta(bytes))?;
        self.session.complete(done);
        Ok(())
    }

    /// What arrives of `wanted`, by path.
    fn fetch(&mut self, wanted: &[Wanted]) -> Result<HashMap<Vec<u8>, Got>> {
        let paths: Vec<&[u8]> = wanted.iter().map(|wanted| wanted.listed.path.as_slice()).collect();
        let asked: std::collections::HashSet<&[u8]> = paths.iter().copied().collect();
        let (session, chunks) = (self.session, &mut self.chunks);
        let mut got: HashMap<Vec<u8>, Got> = HashMap::new();
        self.source.fetch(&paths, &mut |fetching| match fetching {
            Fetching::Trouble { subject, message } => {
                session.problem(subject.as_bytes(), message);
                Ok(())
            }
            Fetching::Member(member) => {
                if asked.contains(member.path) && !got.contains_key(member.path) {
                    let path = member.path.to_vec();
                    got.insert(path, take(session, chunks, member)?);
                }
                Ok(())
            }
        })?;
        Ok(got)
    }
}

/// Whether what arrived is what is there now, as far as both tell.
fn matches(got: &Got, now: &Listed) -> bool {
    whole_kind(got, now)
        && match &got.kind {
            NodeKind::File(content) => content.len() == now.size,
            NodeKind::Symlink(target) => *target == now.target,
            _ => true,
        }
}

fn whole_kind(got: &Got, now: &Listed) -> bool {
    matches!(
        (&got.kind, now.kind),
        (NodeKind::File(_), ListedKind::File)
            | (NodeKind::Directory(_), ListedKind::Directory)
            | (NodeKind::Symlink(_), ListedKind::Symlink)
            | (NodeKind::CharDevice { .. }, ListedKind::CharDevice)
            | (NodeKind::BlockDevice { .. }, ListedKind::BlockDevice)
            | (NodeKind::Fifo, ListedKind::Fifo)
    )
}

fn same_state(a: &Listed, b: &Listed) -> bool {
    stamp(a) == stamp(b)
}

fn take(session: &Session<'_>, chunks: &mut ChunkWriter<'_>, member: Fetched<'_>) -> Result<Got> {
    let mut xattrs = member.xattrs;
    xattrs.sort_unstable();
    xattrs.dedup_by(|a, b| a.0 == b.0);
    let len: usize = xattrs.iter().map(|(name, value)| name.len() + value.len()).sum();
    if len > XATTRS_MAX_LEN || xattrs.iter().any(|(name, _)| name.is_empty() || name.len() > 255 || name.contains(&0)) {
        return Err(Error::corrupt("a member has impossible extended attributes"));
    }
    let kind = match member.what {
        FetchedWhat::File { size, runs, data } => NodeKind::File(content(session, chunks, size, runs, data)?),
        FetchedWhat::Directory => NodeKind::Directory(crate::recipe::Recipe::empty()),
        FetchedWhat::Symlink(target) => NodeKind::Symlink(target),
        FetchedWhat::Device { char: true, major, minor } => NodeKind::CharDevice { major, minor },
        FetchedWhat::Device { char: false, major, minor } => NodeKind::BlockDevice { major, minor },
        FetchedWhat::Fifo => NodeKind::Fifo,
    };
    Ok(Got { xattrs, kind })
}

/// Cuts the bytes of a file, run by run as a file of this host is.
fn content(
    session: &Session<'_>,
    chunks: &mut ChunkWriter<'_>,
    size: u64,
    runs: Option<&[Range<u64>]>,
    data: &mut dyn Read,
) -> Result<Content> {
    let cut_short = |error| Error::new(ErrorKind::Interrupted, "the bytes of a file stopped arriving").because(error);
    if runs.is_none() && size <= session.options.inline_max as u64 {
        let mut bytes = Vec::new();
        data.take(size).read_to_end(&mut bytes).map_err(cut_short)?;
        return Ok(Content::Inline(bytes));
    }
    let mut recipe = RecipeWriter::default();
    let mut put = |bytes: &[u8]| session.put_meta(bytes);
    let mut at = 0;
    let whole = 0..size;
    for run in runs.unwrap_or(std::slice::from_ref(&whole)) {
        if run.start < at || run.end < run.start || run.end > size {
            return Err(Error::corrupt("the map of a sparse file is not in order"));
        }
        recipe.push(Piece::Hole { len: run.start - at }, &mut put)?;
        let mut failed = Ok(());
        let len = run.end - run.start;
        let read = chunks.put_stream(session.chunker, data, len, &mut |chunk| {
            if failed.is_ok() {
                failed = recipe.push_chunk(chunk, &mut |bytes| session.put_meta(bytes));
            }
        })?;
        failed?;
        if read.map_err(cut_short)? != len {
            return Err(Error::new(ErrorKind::Interrupted, "the bytes of a file stopped arriving"));
        }
        at = run.end;
    }
    recipe.push(Piece::Hole { len: size - at }, &mut put)?;
    Ok(Content::Recipe(recipe.finish(&mut put)?))
}
