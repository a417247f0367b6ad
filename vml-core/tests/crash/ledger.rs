//! What a run was told is done, and at which place of its log.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Mutex;
use vml_core::EntryId;
use vml_core::refs::RefKind;

/// Something that a caller may rely on from some place of the log on.
#[derive(Debug, Clone)]
pub enum Fact {
    /// There is a repository.
    Made,
    /// The entry was saved.
    Saved(EntryId),
    /// From here on the entry may be gone.
    Forgetting(EntryId),
    /// A ref is going to be pointed there.
    Setting(RefKind, String, Option<EntryId>),
    /// A ref points there.
    Ref(RefKind, String, Option<EntryId>),
    /// The entry has a note with this text.
    Noted(EntryId, String),
}

type Position = Box<dyn Fn() -> usize + Send + Sync>;

/// Facts in the order in which they came.
pub struct Ledger {
    facts: Mutex<Vec<(usize, Fact)>>,
    position: Position,
}

impl Ledger {
    pub fn new(position: impl Fn() -> usize + Send + Sync + 'static) -> Self {
        Self { facts: Mutex::default(), position: Box::new(position) }
    }

    /// Begins with what was so before.
    pub fn after(facts: &[Fact], position: impl Fn() -> usize + Send + Sync + 'static) -> Self {
        Self { facts: Mutex::new(facts.iter().map(|fact| (0, fact.clone())).collect()), position: Box::new(position) }
    }

    /// What is known when everything stops at `place`: what was told by then; what was being done may have been done.
    pub fn stopped_at(&self, place: usize, position: impl Fn() -> usize + Send + Sync + 'static) -> Self {
        let facts = self.facts.lock().unwrap();
        let told = |(at, fact): &(usize, Fact)| (if *at <= place { 0 } else { usize::MAX }, fact.clone());
        Self { facts: Mutex::new(facts.iter().map(told).collect()), position: Box::new(position) }
    }

    pub fn note(&self, fact: Fact) {
        let position = (self.position)();
        self.facts.lock().unwrap().push((position, fact));
    }

    pub fn facts(&self) -> Vec<Fact> {
        self.facts.lock().unwrap().iter().map(|(_, fact)| fact.clone()).collect()
    }

    /// Places from which on something else is expected.
    pub fn places(&self) -> BTreeSet<usize> {
        self.facts.lock().unwrap().iter().map(|(position, _)| *position).collect()
    }

    /// What must hold after so many operations.
    pub fn expected_at(&self, position: usize) -> Expected {
        let mut expected = Expected::default();
        for (at, fact) in &*self.facts.lock().unwrap() {
            let is_told = *at <= position;
            // What names an entry that is forgotten goes or moves, and does not come back when the very same is saved again.
            if let Fact::Forgetting(id) = fact {
                expected.notes.retain(|(of, _)| of != id);
                let moving = expected.refs.iter().filter(|(_, values)| values.contains(&Some(*id))).map(|(name, _)| name.clone());
                expected.moving.extend(moving.collect::<Vec<_>>());
            }
            match fact {
                Fact::Made => expected.made |= is_told,
                Fact::Saved(id) if is_told => _ = expected.saved.insert(*id),
                // It may begin at any moment.
                Fact::Forgetting(id) if is_told => _ = expected.saved.remove(id),
                Fact::Saved(_) | Fact::Forgetting(_) => {}
                Fact::Setting(kind, name, target) => {
                    let values = expected.refs.entry((kind_number(*kind), name.clone())).or_insert_with(|| BTreeSet::from([None]));
                    values.insert(*target);
                }
                Fact::Ref(kind, name, target) => {
                    if is_told {
                        expected.moving.remove(&(kind_number(*kind), name.clone()));
                    }
                    let values = expected.refs.entry((kind_number(*kind), name.clone())).or_default();
                    if is_told {
                        *values = BTreeSet::from([*target]);
                    } else {
                        if values.is_empty() {
                            values.insert(None);
                        }
                        values.insert(*target);
                    }
                }
                Fact::Noted(id, text) if is_told => _ = expected.notes.insert((*id, text.clone())),
                Fact::Noted(..) => {}
            }
        }
        let saved = expected.saved.clone();
        expected.notes.retain(|(id, _)| saved.contains(id));
        expected
    }
}

fn kind_number(kind: RefKind) -> usize {
    RefKind::ALL.iter().position(|other| *other == kind).unwrap()
}

/// What must hold.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Expected {
    /// Whether there must be a repository.
    pub made: bool,
    /// Entries that must be there, whole.
    pub saved: BTreeSet<EntryId>,
    /// Where refs may point: what was told last, or what is being set.
    pub refs: BTreeMap<(usize, String), BTreeSet<Option<EntryId>>>,
    /// Refs that named an entry which was forgotten since.
    pub moving: BTreeSet<(usize, String)>,
    /// Notes that must be there.
    pub notes: BTreeSet<(EntryId, String)>,
}
