//! What was carried over lately: equal files and directories are carried once.
//!
//! Two generations of bounded size: what is asked for is kept, what nobody asked for during a whole generation is dropped.

use super::node::NodeKind;
use crate::recipe::{Recipe, Root};
use std::collections::{BTreeSet, HashMap};
use std::mem::take;
use std::sync::{Mutex, MutexGuard, PoisonError};
use vml_chunk::codec::encode_payload;

/// Pieces and references of one generation: some 12 MiB of memory.
const GENERATION_MAX: usize = 1 << 18;

/// Names a file's or directory's content at the source.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) struct MemoKey([u8; 32]);

impl MemoKey {
    /// `None` for what is not worth it.
    pub(super) fn of(kind: &NodeKind) -> Option<Self> {
        matches!(kind, NodeKind::File(_) | NodeKind::Directory(_)).then(|| Self(*blake3::hash(&encode_payload(kind)).as_bytes()))
    }
}

/// What source content became at the target, by several threads.
#[derive(Default)]
pub(crate) struct Memo(Mutex<State>);

#[derive(Default)]
struct State {
    young: HashMap<MemoKey, (NodeKind, u32)>,
    old: HashMap<MemoKey, (NodeKind, u32)>,
    weight: usize,
    session: u32,
    used: BTreeSet<u32>,
}

impl State {
    fn insert(&mut self, key: MemoKey, kind: NodeKind, session: u32) {
        self.weight += weight_of(&kind);
        self.young.insert(key, (kind, session));
        if self.weight >= GENERATION_MAX {
            self.old = take(&mut self.young);
            self.weight = 0;
        }
    }
}

impl Memo {
    fn lock(&self) -> MutexGuard<'_, State> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// What comes from now on belongs to the session of this number.
    pub(crate) fn begin(&self, session: u32) {
        let mut state = self.lock();
        (state.session, state.used) = (session, BTreeSet::new());
    }

    /// Earlier sessions whose chunks were relied on since [`begin`](Self::begin).
    pub(crate) fn used(&self) -> BTreeSet<u32> {
        self.lock().used.clone()
    }

    /// Forgets everything: what it names may be gone.
    pub(crate) fn clear(&self) {
        let mut state = self.lock();
        *state = State { session: state.session, ..State::default() };
    }

    pub(super) fn get(&self, key: MemoKey) -> Option<NodeKind> {
        let mut state = self.lock();
        let found = match state.young.get(&key) {
            Some(found) => found.clone(),
            None => {
                let found = state.old.remove(&key)?;
                state.insert(key, found.0.clone(), found.1);
                found
            }
        };
        if found.1 != state.session {
            state.used.insert(found.1);
        }
        Some(found.0)
    }

    pub(super) fn put(&self, key: MemoKey, kind: NodeKind) {
        let mut state = self.lock();
        let session = state.session;
        state.insert(key, kind, session);
    }
}

fn weight_of(kind: &NodeKind) -> usize {
    let of_recipe = |recipe: &Recipe| match &recipe.root {
        Root::Pieces(pieces) => pieces.len(),
        Root::Nodes { nodes, .. } => nodes.len(),
    };
    2 + match kind {
        NodeKind::File(super::Content::Recipe(recipe)) | NodeKind::Directory(recipe) => of_recipe(recipe),
        NodeKind::File(super::Content::Inline(bytes)) => bytes.len() / 32,
        _ => 0,
    }
}

#[cfg(test)]
mod tests {
    use super::super::Content;
    use super::*;

    fn file(number: u32) -> NodeKind {
        NodeKind::File(Content::Inline(number.to_le_bytes().to_vec()))
    }

    #[test]
    fn what_is_asked_for_stays_and_memory_is_bounded() {
        let memo = Memo::default();
        let key = |number| MemoKey::of(&file(number)).unwrap();
        memo.put(key(0), file(1000));
        for number in 1..1_000_000 {
            memo.put(key(number), file(number));
            if number % 10_000 == 0 {
                assert_eq!(memo.get(key(0)), Some(file(1000)));
            }
        }
        let state = memo.lock();
        assert!(state.young.len() + state.old.len() <= GENERATION_MAX);
        drop(state);
        assert_eq!(memo.get(key(5)), None);
    }

    #[test]
    fn it_tells_of_which_earlier_sessions_something_was_used() {
        let memo = Memo::default();
        let key = |number| MemoKey::of(&file(number)).unwrap();
        for session in 0..3 {
            memo.begin(session);
            memo.put(key(session), file(session));
        }
        assert!(memo.get(key(0)).is_some() && memo.get(key(2)).is_some());
        assert_eq!(memo.used().into_iter().collect::<Vec<_>>(), [0]);
        memo.begin(3);
        assert!(memo.used().is_empty());
        memo.clear();
        assert_eq!(memo.get(key(0)), None);
    }
}
