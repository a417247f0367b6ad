//! Puts directories together while their members are still being read by other threads.
//!
//! Each member has a slot, its place in the order of names. Members arrive in any order; what is complete from the front
//! goes into the listing at once, so only members that wait for an earlier one are in memory. The last member to
//! arrive closes the directory, which is then itself a member of the one above.

use super::listing::ListingWriter;
use super::node::{Node, NodeKind};
use crate::recipe::{PutMeta, Recipe};
use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};
use vml_chunk::Result;

/// A directory being put together.
pub(super) struct Directory {
    /// Its path in the tree; empty for the root.
    pub(super) path: Vec<u8>,
    parent: Option<(Arc<Directory>, usize)>,
    /// Hears of its listing.
    note: Option<Note>,
    state: Mutex<State>,
}

/// Hears of a listing that is complete.
pub(super) type Note = Box<dyn Fn(&Recipe) + Send + Sync>;

#[derive(Default)]
struct State {
    /// Its own node, still without a listing; `None` until it is described.
    node: Option<Node>,
    listing: ListingWriter,
    /// Members that arrived before one in front of them; `None` for one that is left out.
    waiting: BTreeMap<usize, Option<Node>>,
    next: usize,
    /// Number of slots, once all are known.
    total: Option<usize>,
}

impl Directory {
    /// Begins a directory; without a `node` it is complete only after [`describe`](Self::describe).
    pub(super) fn new(path: Vec<u8>, node: Option<Node>, parent: Option<(Arc<Self>, usize)>) -> Arc<Self> {
        Arc::new(Self { path, parent, note: None, state: Mutex::new(State { node, ..State::default() }) })
    }

    /// The same, and `note` hears of its listing.
    pub(super) fn noting(path: Vec<u8>, node: Option<Node>, parent: Option<(Arc<Self>, usize)>, note: Note) -> Arc<Self> {
        Arc::new(Self { path, parent, note: Some(note), state: Mutex::new(State { node, ..State::default() }) })
    }

    /// Says what the directory itself is; returns as [`deliver`](Self::deliver).
    pub(super) fn describe(self: &Arc<Self>, node: Node, put: PutMeta<'_>) -> Result<Option<Node>> {
        self.update(put, |state| state.node = Some(node))
    }

    /// Delivers the member of `slot`; returns the root's node when that completes the tree.
    pub(super) fn deliver(self: &Arc<Self>, slot: usize, member: Option<Node>, put: PutMeta<'_>) -> Result<Option<Node>> {
        self.update(put, |state| _ = state.waiting.insert(slot, member))
    }

    /// Says that there are `total` slots; returns as [`deliver`](Self::deliver).
    pub(super) fn close(self: &Arc<Self>, total: usize, put: PutMeta<'_>) -> Result<Option<Node>> {
        self.update(put, |state| state.total = Some(total))
    }

    fn update(self: &Arc<Self>, put: PutMeta<'_>, change: impl FnOnce(&mut State)) -> Result<Option<Node>> {
        let Some(mut done) = self.advance(put, change)? else { return Ok(None) };
        let mut directory = Arc::clone(self);
        // Upward in a loop: a tree may be deeper than a thread's stack.
        while let Some((above, slot)) = &directory.parent {
            let (above, slot) = (Arc::clone(above), *slot);
            match above.advance(put, |state| _ = state.waiting.insert(slot, Some(done)))? {
                Some(node) => done = node,
                None => return Ok(None),
            }
            directory = above;
        }
        Ok(Some(done))
    }

    /// Applies `change` and moves what is complete into the listing; returns the node if that was all.
    fn advance(&self, put: PutMeta<'_>, change: impl FnOnce(&mut State)) -> Result<Option<Node>> {
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        change(&mut state);
        loop {
            let next = state.next;
            let Some(member) = state.waiting.remove(&next) else { break };
            state.next += 1;
            if let Some(node) = member {
                state.listing.push(&node, put)?;
            }
        }
        if state.total != Some(state.next) {
            return Ok(None);
        }
        let Some(node) = state.node.take() else { return Ok(None) };
        state.total = None;
        let listing = std::mem::take(&mut state.listing).finish(put)?;
        if let Some(note) = &self.note {
            note(&listing);
        }
        Ok(Some(Node { kind: NodeKind::Directory(listing), ..node }))
    }
}
