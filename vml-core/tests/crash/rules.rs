//! The rules of write order, each broken: a test that does not find that would find nothing.
//!
//! Most are broken in the log of a command, by leaving syncs out or moving what belongs to a name behind what belongs to another. Two rules are
//! about processes side by side, and are broken by a backend that keeps from the others what one of them says.

use crate::beside::Act;
use crate::ledger::Ledger;
use crate::local::Recorded;
use crate::replay::{failure, local};
use crate::scenarios::named;
use crate::sound::{Job, Kind, learn};
use std::collections::HashMap;
use std::sync::{Arc, Mutex};
use vml_core::{Backend, MemoryBackend, Result};
use vml_testkit::crash::mutate::{dirs_not_synced, files_not_synced, moved_behind};
use vml_testkit::crash::{Image, Op, Tally, Turns, side_by_side};
use vml_testkit::faulty::FaultyBackend;
use vml_testkit::noise::Rng;

/// The log of a command whose rule is broken; the command as it is passes.
fn found(scenario: &str, breaks: impl Fn(&[Op]) -> Vec<Op>) -> String {
    let recorded = Recorded::of(named(scenario), false);
    let states = |log: &[Op]| local(scenario, &recorded.base.image, log, 0, &recorded.ledger, &Tally::default());
    assert_eq!(failure(&states(&recorded.log), &recorded.known), None);
    let broken = breaks(&recorded.log);
    assert_ne!(broken, recorded.log, "nothing is broken");
    let failure = failure(&states(&broken), &recorded.known).expect("the broken rule is not found out");
    println!("{}", failure.lines().next().unwrap());
    failure
}

fn inside(dir: &'static str) -> impl Fn(&str) -> bool {
    move |name| name.starts_with(dir) && name.as_bytes().get(dir.len()) == Some(&b'/')
}

/// Names that the log gives, or takes away, in a directory.
fn given(log: &[Op], dir: &'static str, taken: bool) -> Vec<String> {
    let names = log.iter().filter(|op| matches!(op, Op::Remove(_)) == taken).filter_map(Op::name);
    names.filter(|name| inside(dir)(name)).map(str::to_owned).collect()
}

#[test]
fn a_pack_that_is_not_synced_before_it_is_named_is_found() {
    for dir in ["r/data", "r/meta"] {
        found("first save", |log| files_not_synced(log, &inside(dir)));
    }
}

#[test]
fn a_segment_an_entry_a_ref_an_intent_that_is_not_synced_before_it_is_named_is_found() {
    for dir in ["r/index", "r/entries", "r/refs/areas"] {
        found("first save", |log| files_not_synced(log, &inside(dir)));
    }
    found("init", |log| files_not_synced(log, &|name| name == "r/config"));
    found("collection", |log| files_not_synced(log, &inside("r/gc")));
}

#[test]
fn a_directory_of_packs_that_is_not_synced_is_found() {
    for dir in ["r/data", "r/meta"] {
        found("first save", |log| dirs_not_synced(log, &|name| name == dir));
    }
}

#[test]
fn a_directory_of_entries_refs_notes_that_is_not_synced_is_found() {
    for dir in ["r/entries", "r/refs/areas", "r/refs/tags"] {
        found("first save", |log| dirs_not_synced(log, &|name| name == dir));
    }
    found("marks", |log| dirs_not_synced(log, &|name| name == "r/notes"));
}

#[test]
fn a_directory_whose_own_name_is_not_synced_is_found() {
    for dir in ["r", "r/refs"] {
        found("first save", |log| dirs_not_synced(log, &|name| name == dir));
    }
}

#[test]
fn an_index_before_its_packs_is_found() {
    found("first save", |log| moved_behind(log, &|name| inside("r/data")(name) || inside("r/meta")(name), &inside("r/index")));
}

#[test]
fn an_entry_before_its_packs_is_found() {
    found("first save", |log| moved_behind(log, &inside("r/data"), &inside("r/entries")));
}

#[test]
fn an_entry_before_its_index_is_found() {
    found("first save", |log| moved_behind(log, &inside("r/index"), &inside("r/entries")));
}

#[test]
fn a_ref_before_its_entry_is_found() {
    found("save of a changed tree", |log| moved_behind(log, &inside("r/entries"), &inside("r/refs/areas")));
}

#[test]
fn inputs_of_a_merge_that_go_before_the_merged_segment_is_there_are_found() {
    found("save that merges the index", |log| {
        let (merged, inputs) = (given(log, "r/index", false), given(log, "r/index", true));
        let merged = merged.last().unwrap().clone();
        moved_behind(log, &|name| name == merged, &|name| inputs.iter().any(|input| input == name))
    });
}

#[test]
fn packs_that_are_deleted_before_their_copies_are_there_are_found() {
    found("collection", |log| {
        let (copies, deleted) = (given(log, "r/data", false), given(log, "r/data", true));
        moved_behind(log, &|name| copies.iter().any(|copy| copy == name), &|name| deleted.iter().any(|pack| pack == name))
    });
}

#[test]
fn packs_that_are_deleted_before_they_are_listed_are_found() {
    found("collection", |log| {
        // Only the first writing of the list: the second is at the end anyway.
        let first = log.iter().position(|op| op.name() == Some("r/gc/quarantine")).unwrap();
        let end = log.iter().rposition(|op| matches!(op, Op::Remove(name) if inside("r/data")(name))).unwrap();
        let deleted = given(log, "r/data", true);
        let (head, tail) = log.split_at(end + 2);
        assert!(first < end);
        [moved_behind(head, &|name| name == "r/gc/quarantine", &|name| deleted.iter().any(|pack| pack == name)), tail.to_vec()].concat()
    });
}

#[test]
fn an_entry_that_goes_before_it_is_noted_as_forgotten_is_found() {
    found("forget what another continues", |log| moved_behind(log, &inside("r/forgotten"), &inside("r/entries")));
}

#[test]
fn an_entry_that_goes_before_its_refs_is_found() {
    found("forget", |log| moved_behind(log, &|name| name.starts_with("r/refs/"), &inside("r/entries")));
}

/// Keeps what one process swaps in some files from all others.
#[derive(Debug, Clone)]
struct Secretive {
    inner: Arc<dyn Backend>,
    dir: &'static str,
    own: Arc<Mutex<HashMap<String, Vec<u8>>>>,
}

impl Secretive {
    fn hides(&self, key: &str) -> bool {
        key.starts_with(self.dir)
    }
}

impl Backend for Secretive {
    fn read_at(&self, key: &str, offset: u64, buf: &mut [u8]) -> Result<()> {
        self.inner.read_at(key, offset, buf)
    }
    fn len(&self, key: &str) -> Result<u64> {
        self.inner.len(key)
    }
    fn list(&self, dir: &str) -> Result<Vec<vml_chunk::Listed>> {
        self.inner.list(dir)
    }
    fn stage(&self) -> Result<Box<dyn vml_chunk::Staged>> {
        self.inner.stage()
    }
    fn swap(&self, key: &str, expected: Option<&[u8]>, new: Option<&[u8]>) -> Result<bool> {
        if !self.hides(key) {
            return self.inner.swap(key, expected, new);
        }
        let mut own = self.own.lock().unwrap();
        match new {
            Some(bytes) => _ = own.insert(key.to_owned(), bytes.to_vec()),
            None => _ = own.remove(key),
        }
        Ok(true)
    }
    fn delete(&self, key: &str) -> Result<()> {
        self.inner.delete(key)
    }
    fn map(&self, key: &str) -> Result<vml_chunk::Mapped> {
        match self.own.lock().unwrap().get(key) {
            Some(bytes) => Ok(vml_chunk::Mapped::new(bytes.clone())),
            None => self.inner.map(key),
        }
    }
    fn sweep(&self) -> Result<usize> {
        self.inner.sweep()
    }
}

/// A backend that makes nothing durable that others did.
pub fn careless(inner: Arc<dyn Backend>) -> Arc<dyn Backend> {
    // It does not pass `settle` on; there is no such file.
    Arc::new(Secretive { inner, dir: "nothing/", own: Arc::default() })
}

#[test]
fn reliance_on_what_others_did_not_make_durable_is_found() {
    for scenario in ["first save", "receive", "forget"] {
        let failure = crate::kills::careless(scenario).expect("it is not found out that nothing is settled");
        println!("{}", failure.lines().next().unwrap());
    }
}

/// Runs a save that relies on what is collected beside two collections, until that goes wrong; at most so often.
fn side_by_side_until_it_fails(hidden: Option<&'static str>, orders: u64) -> Option<String> {
    let base = named("collection").base();
    let image = crate::objects::keyed(&base.image);
    for order in 0..orders {
        let files: Arc<dyn Backend> = Arc::new(MemoryBackend::new());
        for (key, content) in &image.files {
            files.put(key, content.bytes()).unwrap();
        }
        let ledger = Ledger::after(&base.facts, || 0);
        let acts = [Act::Save("a", 0, 0), Act::Collect, Act::Collect];
        let turns = Turns::new(acts.len(), Rng::new(order));
        let what = format!("order {order} of {acts:?}");
        let processes: Vec<Box<dyn FnOnce() + Send>> = (0..)
            .zip(acts)
            .map(|(actor, act)| {
                let own = Arc::clone(&turns);
                let mut files = Arc::clone(&files);
                if let Some(dir) = hidden {
                    files = Arc::new(Secretive { inner: files, dir, own: Arc::default() });
                }
                let files: Arc<dyn Backend> = Arc::new(FaultyBackend::observed(files, move |_| own.wait(actor)));
                let ledger = &ledger;
                // What it is told about is not the question here.
                Box::new(move || _ = act.run(&files, ledger)) as Box<dyn FnOnce() + Send>
            })
            .collect();
        side_by_side(&turns, processes);
        let mut left = Image::default();
        for dir in ["data", "meta", "index", "entries", "refs/areas", "refs/tags", "forgotten", "saving", "gc"] {
            for key in vml_testkit::files::keys(files.as_ref(), dir) {
                let content = vml_testkit::crash::Content::new(vml_testkit::files::read(files.as_ref(), &key));
                left.files.insert(key, content);
            }
        }
        left.files.insert("config".to_owned(), image.files["config"].clone());
        let job = Job { image: left, kind: Kind::Objects, expected: Arc::new(ledger.expected_at(0)), smooth: false, indexed: false, what };
        if let Err(failure) = job.sound(&learn_some(&base.digests)) {
            return Some(failure);
        }
    }
    None
}

fn learn_some(known: &HashMap<vml_core::EntryId, vml_chunk::ChunkId>) -> HashMap<vml_core::EntryId, vml_chunk::ChunkId> {
    let nothing: Arc<dyn Backend> = Arc::new(MemoryBackend::new());
    learn(known, &nothing, "nothing")
}

#[test]
fn an_intent_that_nobody_sees_is_found() {
    assert_eq!(side_by_side_until_it_fails(None, 60), None);
    let failure = side_by_side_until_it_fails(Some("saving/"), 2000).expect("a save without an intent is not found out");
    println!("{}", failure.lines().next().unwrap());
}

#[test]
fn a_list_of_packs_that_go_that_nobody_sees_is_found() {
    let failure = side_by_side_until_it_fails(Some("gc/"), 2000).expect("a collection without a list is not found out");
    println!("{}", failure.lines().next().unwrap());
}
