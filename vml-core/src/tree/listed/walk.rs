//! Walks a sorted listing side by side with the trees that are known; takes over what is unchanged, asks for the rest.

use super::fetch::{Fetch, Place, Wanted, own_node};
use super::sort::{Sorted, key};
use super::{Listed, ListedKind};
use crate::recipe::Recipe;
use crate::tree::assemble::Directory;
use crate::tree::at;
use crate::tree::capture::{LeftOutReason, Session};
use crate::tree::listing::ListingReader;
use crate::tree::node::{NAME_MAX, Node, NodeKind, Timestamp};
use crate::tree::read::{Links, Seat};
use crate::tree::walk::{Walked, listing_of, member_named};
use crate::tree::witness::{Stamp, WitnessReader, WitnessWriter, fingerprint, is_racy};
use std::collections::{BTreeSet, HashSet, VecDeque};
use std::sync::Arc;
use vml_chunk::{Error, Result};

pub(super) struct Walk<'w, 'f, 'a> {
    session: &'w Session<'a>,
    fetch: &'w mut Fetch<'f, 'a>,
    base: Option<(&'a Node, Timestamp)>,
    now: Timestamp,
    witness: WitnessReader<'a>,
    prints: WitnessWriter<'a>,
    links: Links<(u64, u64)>,
    walked: Walked,
    next: Option<Listed>,
    last_path: Option<Vec<u8>>,
}

/// A directory whose subdirectories are being walked.
struct Level {
    directory: Arc<Directory>,
    device: u64,
    subdirectories: VecDeque<Subdirectory>,
}

struct Subdirectory {
    slot: usize,
    listed: Listed,
    known: Known,
}

/// The same directory in the trees that are known.
#[derive(Default)]
struct Known {
    parent: Option<Recipe>,
    base: Option<Recipe>,
    /// Its own attributes, when they are known to be the same.
    xattrs: Option<Vec<(Vec<u8>, Vec<u8>)>>,
}

pub(super) fn stamp(listed: &Listed) -> Stamp {
    Stamp { inode: listed.inode, size: listed.size, mtime: listed.mtime, ctime: listed.ctime }
}

impl<'w, 'f, 'a> Walk<'w, 'f, 'a> {
    pub(super) fn new(session: &'w Session<'a>, fetch: &'w mut Fetch<'f, 'a>, base: Option<(&'a Node, Timestamp)>, now: Timestamp) -> Self {
        Self {
            session,
            fetch,
            base,
            now,
            witness: WitnessReader::new(session.store, session.options.parent.map(|(_, witness)| witness)),
            prints: WitnessWriter::new(session.chunker),
            links: Links::new(),
            walked: Walked { witness: Recipe::empty(), directories_count: 0, uids: BTreeSet::new(), gids: BTreeSet::new() },
            next: None,
            last_path: None,
        }
    }

    pub(super) fn run(mut self, mut sorted: Sorted) -> Result<Walked> {
        self.advance(&mut sorted)?;
        let root = self.next.take().filter(|root| root.path.is_empty() && root.kind == ListedKind::Directory);
        let root = root.ok_or_else(|| Error::corrupt("the listing does not begin with the root of a tree"))?;
        self.last_path = Some(Vec::new());
        self.advance(&mut sorted)?;
        self.note_owner(&root);
        let mut known = Known {
            parent: self.session.options.parent.and_then(|(node, _)| listing_of(node)),
            base: self.base.and_then(|(node, _)| listing_of(node)),
            xattrs: None,
        };
        // The root has no directory above that could tell that it is unchanged, but a base may.
        known.xattrs = self.base.filter(|(node, since)| agree(node, &root) && root.ctime <= *since).map(|(node, _)| node.xattrs.clone());
        let device = root.device;
        let mut stack = vec![self.enter(root, None, known, device, &mut sorted)?];
        while let Some(level) = stack.last_mut() {
            let Some(next) = level.subdirectories.pop_front() else {
                stack.pop();
                continue;
            };
            let (above, device) = (Arc::clone(&level.directory), level.device);
            if stack.len() >= crate::tree::DEPTH_MAX {
                self.session.problem(&next.listed.path, format!("left out: nested deeper than {} directories", crate::tree::DEPTH_MAX));
                self.session.leave_out(next.listed.path, 0, LeftOutReason::Unreadable);
                self.session.deliver(&above, next.slot, None)?;
                continue;
            }
            stack.push(self.enter(next.listed, Some((above, next.slot)), next.known, device, &mut sorted)?);
        }
        while let Some(orphan) = self.next.take() {
            self.orphan(&orphan);
            self.advance(&mut sorted)?;
        }
        self.fetch.settle_all()?;
        self.walked.witness = self.prints.finish(&mut |bytes| self.session.put_meta(bytes))?;
        Ok(self.walked)
    }

    fn note_owner(&mut self, listed: &Listed) {
        self.walked.uids.insert(listed.uid);
        self.walked.gids.insert(listed.gid);
    }

    /// Goes on to the next member; one that is told twice counts once.
    fn advance(&mut self, sorted: &mut Sorted) -> Result<()> {
        loop {
            self.next = sorted.next()?;
            match &self.next {
                Some(next) if self.last_path.as_ref() == Some(&next.path) => {}
                Some(next) => {
                    self.last_path = Some(next.path.clone());
                    return Ok(());
                }
                None => return Ok(()),
            }
        }
    }

    fn orphan(&self, listed: &Listed) {
        self.session.problem(&listed.path, "left out: the listing does not have its directory".to_owned());
        self.session.leave_out(listed.path.clone(), 0, LeftOutReason::Unreadable);
    }

    /// Handles every member that is no directory and collects those that are.
    fn enter(
        &mut self,
        own: Listed,
        above: Option<(Arc<Directory>, usize)>,
        mut known: Known,
        device_above: u64,
        sorted: &mut Sorted,
    ) -> Result<Level> {
        self.walked.directories_count += 1;
        let device = own.device;
        let path = own.path.clone();
        let node = known.xattrs.take().map(|xattrs| own_node(&own, xattrs));
        let described = node.is_some();
        let directory = Directory::new(path.clone(), node, above);
        if !described {
            self.fetch.want(Wanted { listed: own, place: Place::Own(Arc::clone(&directory)) })?;
        }
        let store = self.session.store;
        let prints = if known.parent.is_some() { self.witness.directory(&path) } else { HashSet::new() };
        let readers = |listing: Option<Recipe>| listing.map(|listing| ListingReader::new(store, &listing).peekable());
        let (mut parents, mut bases) = (readers(known.parent), readers(known.base));
        let first = {
            // Where its members begin: the key of one without a name.
            let mut member = path.clone();
            if !member.is_empty() {
                member.push(b'/');
            }
            key(&member)
        };
        let mut own_prints = Vec::new();
        let mut subdirectories = VecDeque::new();
        let mut slot = 0;
        let mut members = 0_u64;
        while let Some(next) = &self.next {
            let place = key(&next.path);
            if place < first {
                let orphan = self.next.take();
                orphan.iter().for_each(|orphan| self.orphan(orphan));
                self.advance(sorted)?;
                continue;
            }
            if !place.starts_with(&first) {
                break;
            }
            let Some(listed) = self.next.take() else { break };
            self.advance(sorted)?;
            members += 1;
            let name = place[first.len()..].to_vec();
            if name.is_empty() || name.len() > NAME_MAX || name == b"." || name == b".." || name.contains(&0) {
                return Err(Error::corrupt(format!("the listing has an impossible name in {:?}", at::shown(&path))));
            }
            if listed.kind == ListedKind::Socket {
                self.session.leave_out(listed.path, 0, LeftOutReason::Socket);
                continue;
            }
            self.note_owner(&listed);
            let parent = parents.as_mut().and_then(|parents| member_named(parents, &name));
            let base = bases.as_mut().and_then(|bases| member_named(bases, &name));
            let stamp = stamp(&listed);
            let print = fingerprint(&name, &stamp);
            if !is_racy(&stamp, Some(self.now)) {
                own_prints.push(print);
            }
            let since = self.base.map(|(_, since)| since);
            let same_parent = parent.as_ref().filter(|node| prints.contains(&print) && agree(node, &listed));
            let same_base = || base.as_ref().filter(|node| since.is_some_and(|since| listed.ctime <= since) && agree(node, &listed));
            let same = same_parent.or_else(same_base).filter(|node| self.session.is_whole(node));
            if listed.kind == ListedKind::Directory {
                let known = Known {
                    xattrs: same.map(|node| node.xattrs.clone()),
                    parent: parent.as_ref().and_then(listing_of),
                    base: base.as_ref().and_then(listing_of),
                };
                subdirectories.push_back(Subdirectory { slot, listed, known });
            } else {
                let same = same.cloned();
                self.member(&directory, slot, name, listed, same)?;
            }
            slot += 1;
        }
        if members == 0 && device != device_above && self.session.options.one_file_system {
            self.session.leave_out(path.clone(), 0, LeftOutReason::OtherFileSystem);
        }
        self.prints.push(&path, &own_prints, &mut |bytes| self.session.put_meta(bytes))?;
        let done = directory.close(slot, &mut |bytes| self.session.put_meta(bytes))?;
        self.session.complete(done);
        Ok(Level { directory, device, subdirectories })
    }

    /// Takes over an unchanged member, or asks for a changed one.
    fn member(&mut self, directory: &Arc<Directory>, slot: usize, name: Vec<u8>, listed: Listed, same: Option<Node>) -> Result<()> {
        let seat = Seat { directory: Arc::clone(directory), slot, name, group: None };
        let Some(seat) = self.links.seat(self.session, (listed.device, listed.inode), listed.links, seat)? else { return Ok(()) };
        match same {
            Some(node) => self.session.take_over(&seat, node),
            None => self.fetch.want(Wanted { listed, place: Place::Member(seat) }),
        }
    }
}

/// Whether a known node is, as far as a listing tells, what is listed.
fn agree(node: &Node, listed: &Listed) -> bool {
    let same_kind = match (&node.kind, listed.kind) {
        (NodeKind::File(content), ListedKind::File) => content.len() == listed.size,
        (NodeKind::Symlink(target), ListedKind::Symlink) => *target == listed.target,
        (NodeKind::Directory(_), ListedKind::Directory)
        | (NodeKind::CharDevice { .. }, ListedKind::CharDevice)
        | (NodeKind::BlockDevice { .. }, ListedKind::BlockDevice)
        | (NodeKind::Fifo, ListedKind::Fifo) => true,
        _ => false,
    };
    same_kind && (node.mode, node.uid, node.gid, node.mtime) == (listed.mode, listed.uid, listed.gid, listed.mtime)
}
