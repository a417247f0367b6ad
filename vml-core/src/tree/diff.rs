//! Compares two stored trees; what is equal by id is not looked at.

use super::listing::ListingReader;
use super::node::{Node, NodeKind};
use super::{DEPTH_MAX, at};
use crate::recipe::GetChunk;
use std::cmp::Ordering;
use std::iter::Peekable;
use vml_chunk::{Error, Result};

/// What happened to a path.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ChangeKind {
    /// Only in the new tree.
    Added,
    /// Only in the old tree.
    Removed,
    /// In both, and different.
    Modified {
        /// Another kind of file.
        kind: bool,
        /// Other bytes, another link target, another device.
        content: bool,
        /// Other permissions.
        mode: bool,
        /// Another owner or group.
        owner: bool,
        /// Another modification time.
        time: bool,
        /// Other extended attributes.
        xattrs: bool,
        /// Another set of names.
        links: bool,
    },
}

/// One difference.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Change {
    /// Path from the root of the tree.
    pub path: Vec<u8>,
    /// What happened.
    pub kind: ChangeKind,
    /// The node before.
    pub old: Option<Node>,
    /// The node after.
    pub new: Option<Node>,
}

/// Tells every difference from `old` to `new` to `each`, in the order of the walk; members of a directory that is only
/// in one of them are told one by one. Returning false from `each` ends it.
///
/// # Errors
/// As the store; differences found before were told.
///
/// # Cost
/// Proportional to the difference: directories that are equal are equal by id.
pub fn diff_trees(store: &dyn GetChunk, old: &Node, new: &Node, path: &[u8], each: &mut dyn FnMut(Change) -> bool) -> Result<()> {
    // A stack of our own: a tree may be deeper than a thread's stack.
    let mut stack = Vec::new();
    if !visit(store, path.to_vec(), Some(old), Some(new), &mut stack, each) {
        return Ok(());
    }
    while let Some(level) = stack.last_mut() {
        let (old, new) = next_pair(&mut level.old, &mut level.new)?;
        let Some(name) = old.as_ref().or(new.as_ref()).map(|node| node.name.clone()) else {
            stack.pop();
            continue;
        };
        let path = at::join(&level.path, &name);
        if stack.len() > DEPTH_MAX {
            return Err(Error::corrupt(format!("a tree is nested deeper than {DEPTH_MAX} directories")));
        }
        if !visit(store, path, old.as_ref(), new.as_ref(), &mut stack, each) {
            return Ok(());
        }
    }
    Ok(())
}

type Members<'a> = Option<Peekable<ListingReader<'a>>>;

/// A directory that differs, being compared.
struct Level<'a> {
    path: Vec<u8>,
    old: Members<'a>,
    new: Members<'a>,
}

/// Tells how two nodes differ and, where their listings do, begins to compare those. Returns whether to go on.
fn visit<'a>(
    store: &'a dyn GetChunk,
    path: Vec<u8>,
    old: Option<&Node>,
    new: Option<&Node>,
    stack: &mut Vec<Level<'a>>,
    each: &mut dyn FnMut(Change) -> bool,
) -> bool {
    let kind = match (old, new) {
        (Some(old), Some(new)) => compare(old, new),
        (None, Some(_)) => Some(ChangeKind::Added),
        (Some(_), None) => Some(ChangeKind::Removed),
        (None, None) => None,
    };
    if let Some(kind) = kind
        && !each(Change { path: path.clone(), kind, old: old.cloned(), new: new.cloned() })
    {
        return false;
    }
    let listing = |node: Option<&Node>| match node.map(|node| &node.kind) {
        Some(NodeKind::Directory(listing)) => Some(listing.clone()),
        _ => None,
    };
    let (old, new) = (listing(old), listing(new));
    if old != new {
        let members = |listing: Option<_>| listing.map(|listing| ListingReader::new(store, &listing).peekable());
        stack.push(Level { path, old: members(old), new: members(new) });
    }
    true
}

/// The next name of either listing, with its node in both.
fn next_pair(old: &mut Members<'_>, new: &mut Members<'_>) -> Result<(Option<Node>, Option<Node>)> {
    let order = match (old.as_mut().and_then(Peekable::peek), new.as_mut().and_then(Peekable::peek)) {
        (Some(Ok(a)), Some(Ok(b))) => a.name.cmp(&b.name),
        // An error is taken, and so returned, before anything is called added or removed for it.
        (_, Some(Err(_))) | (None, _) => Ordering::Greater,
        (Some(_), _) => Ordering::Less,
    };
    let take = |side: &mut Members<'_>| side.as_mut().and_then(Iterator::next).transpose();
    Ok(match order {
        Ordering::Less => (take(old)?, None),
        Ordering::Greater => (None, take(new)?),
        Ordering::Equal => (take(old)?, take(new)?),
    })
}

fn compare(old: &Node, new: &Node) -> Option<ChangeKind> {
    let kind = std::mem::discriminant(&old.kind) != std::mem::discriminant(&new.kind);
    // A directory's content is its members; they speak for themselves.
    let content = !kind && !old.is_dir() && old.kind != new.kind;
    let (mode, owner) = (old.mode != new.mode, (old.uid, old.gid) != (new.uid, new.gid));
    let (time, xattrs, links) = (old.mtime != new.mtime, old.xattrs != new.xattrs, old.link != new.link);
    (kind || content || mode || owner || time || xattrs || links).then_some(ChangeKind::Modified {
        kind,
        content,
        mode,
        owner,
        time,
        xattrs,
        links,
    })
}
