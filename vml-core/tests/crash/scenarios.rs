//! The table of commands that write: to add one, add a line.

use crate::ledger::{Fact, Ledger};
use crate::world::{OPTIONS, ROOT, collect, compact, config, digest, forget, note, open, save, set_ref, world};
use std::collections::HashMap;
use std::sync::Arc;
use vml_chunk::seal::Rights;
use vml_chunk::{ChunkId, LocalBackend};
use vml_core::monitor::NoMonitor;
use vml_core::refs::RefKind;
use vml_core::repository::{CheckOptions, Policy, RepairOptions};
use vml_core::{Backend, EntryId, Error, Repository, Result};
use vml_testkit::crash::{Disk, Handle, Image};
use vml_testkit::sealed::{PASSPHRASE, cheap_key};

type Files = Arc<dyn Backend>;

/// A command, and what is there before.
pub struct Scenario {
    pub name: &'static str,
    /// Makes what is there before.
    pub before: fn(&Files, &Ledger) -> Result<()>,
    /// The command. It opens the repository by itself.
    pub run: fn(&Files, &Ledger) -> Result<()>,
}

pub const ALL: [Scenario; 21] = [
    Scenario { name: "init", before: |_, _| Ok(()), run: init },
    Scenario { name: "first save", before: init, run: |files, ledger| save_small(files, ledger, 0, Some("first")) },
    Scenario { name: "save of a changed tree", before: one_entry, run: |files, ledger| save_small(files, ledger, 1, None) },
    Scenario { name: "save of two areas", before: one_entry, run: two_areas },
    Scenario { name: "save of what is there", before: one_entry, run: |files, ledger| save_small(files, ledger, 0, Some("again")) },
    Scenario { name: "save that merges the index", before: one_entry, run: merging },
    Scenario { name: "forget", before: three_large, run: |files, ledger| forget(&open(files)?, ledger, first(ledger)) },
    Scenario {
        name: "forget what another continues",
        before: two_entries,
        run: |files, ledger| forget(&open(files)?, ledger, first(ledger)),
    },
    Scenario { name: "collection", before: first_forgotten, run: |files, _| collect(&open(files)?) },
    Scenario { name: "collection after a killed one", before: half_collected, run: |files, _| collect(&open(files)?) },
    Scenario { name: "compaction", before: first_forgotten, run: |files, _| compact(&open(files)?) },
    Scenario { name: "save beside garbage, and a collection", before: first_forgotten, run: save_and_collect },
    Scenario { name: "receive", before: one_entry, run: receive },
    Scenario { name: "pull", before: one_entry, run: |files, ledger| pull(files, ledger, false) },
    Scenario { name: "push to a service", before: one_entry, run: |files, ledger| pull(files, ledger, true) },
    Scenario { name: "marks", before: one_entry, run: marks },
    Scenario { name: "check that finds damage", before: flawed, run: |files, _| check(files) },
    Scenario { name: "repair", before: flawed, run: |files, _| repair(files) },
    Scenario { name: "repair that makes parity", before: one_entry, run: |files, _| parity(files) },
    Scenario { name: "encrypted save", before: sealed_entry, run: |files, ledger| save_small(files, ledger, 1, Some("sealed")) },
    Scenario { name: "a key is taken away", before: sealed_entry, run: take_key_away },
];

pub fn named(name: &str) -> &'static Scenario {
    ALL.iter().find(|scenario| scenario.name == name).unwrap()
}

fn init(files: &Files, ledger: &Ledger) -> Result<()> {
    Repository::init(Arc::clone(files), config(), OPTIONS)?;
    ledger.note(Fact::Made);
    Ok(())
}

fn save_small(files: &Files, ledger: &Ledger, tree: usize, tag: Option<&str>) -> Result<()> {
    save(&open(files)?, ledger, "work", &world().small[tree], tag).map(|_| ())
}

fn one_entry(files: &Files, ledger: &Ledger) -> Result<()> {
    init(files, ledger)?;
    save_small(files, ledger, 0, None)
}

/// In an encrypted repository with two keys.
fn sealed_entry(files: &Files, ledger: &Ledger) -> Result<()> {
    let key = |passphrase, label| cheap_key(passphrase, label, Rights::Full);
    let repository = Repository::init_encrypted(files, config(), OPTIONS, &key(PASSPHRASE, "first"))?;
    repository.access()?.add_key(&key("another", "second"))?;
    ledger.note(Fact::Made);
    save_small(files, ledger, 0, None)
}

fn take_key_away(files: &Files, ledger: &Ledger) -> Result<()> {
    open(files)?.access()?.remove_key("second")?;
    save_small(files, ledger, 1, None)
}

fn two_entries(files: &Files, ledger: &Ledger) -> Result<()> {
    one_entry(files, ledger)?;
    save_small(files, ledger, 1, None)
}

fn two_areas(files: &Files, ledger: &Ledger) -> Result<()> {
    let repository = open(files)?;
    save(&repository, ledger, "work", &world().small[1], None)?;
    save(&repository, ledger, "other", &world().small[2], Some("other"))?;
    Ok(())
}

/// What it adds is less than four times what is there.
fn merging(files: &Files, ledger: &Ledger) -> Result<()> {
    save(&open(files)?, ledger, "large", &world().large[2], None).map(|_| ())
}

fn three_large(files: &Files, ledger: &Ledger) -> Result<()> {
    init(files, ledger)?;
    let repository = open(files)?;
    for (area, tree) in ["a", "b", "c"].iter().zip(&world().large) {
        save(&repository, ledger, area, tree, None)?;
    }
    let id = first(ledger);
    note(&repository, ledger, id, "goes with it")?;
    set_ref(&repository, ledger, RefKind::Tag, "on-it", None, Some(id))
}

/// The entry that was saved first.
fn first(ledger: &Ledger) -> EntryId {
    ledger.facts().into_iter().find_map(|fact| if let Fact::Saved(id) = fact { Some(id) } else { None }).unwrap()
}

fn first_forgotten(files: &Files, ledger: &Ledger) -> Result<()> {
    three_large(files, ledger)?;
    forget(&open(files)?, ledger, first(ledger))
}

/// A collection was killed when it had deleted the first pack.
fn half_collected(files: &Files, ledger: &Ledger) -> Result<()> {
    use vml_testkit::faulty::{Effect, FaultyBackend, Repeat};
    first_forgotten(files, ledger)?;
    let probe = FaultyBackend::new(crate::world::copy(files));
    collect(&open(&(Arc::new(probe.clone()) as Files))?)?;
    let deleted = probe.operations().iter().position(|operation| operation.name == "delete" && operation.key.starts_with("data/")).unwrap();
    let faulty = FaultyBackend::new(Arc::clone(files));
    faulty.fail_at(deleted, vml_core::ErrorKind::Io, Repeat::Forever, Effect::Done);
    assert!(collect(&open(&(Arc::new(faulty) as Files))?).is_err());
    Ok(())
}

fn save_and_collect(files: &Files, ledger: &Ledger) -> Result<()> {
    let repository = open(files)?;
    save(&repository, ledger, "a", &world().large[0], None)?;
    collect(&repository)
}

fn brought(ledger: &Ledger) {
    for id in &world().far {
        ledger.note(Fact::Saved(*id));
    }
    ledger.note(Fact::Ref(RefKind::Area, "far".to_owned(), world().far.last().copied()));
}

fn receive(files: &Files, ledger: &Ledger) -> Result<()> {
    world().receive(&open(files)?)?;
    brought(ledger);
    Ok(())
}

fn pull(files: &Files, ledger: &Ledger, durable: bool) -> Result<()> {
    world().pull(&open(files)?, durable)?;
    brought(ledger);
    Ok(())
}

fn marks(files: &Files, ledger: &Ledger) -> Result<()> {
    let (repository, id) = (open(files)?, first(ledger));
    // A name is looked up before it is given another.
    if !repository.entry_ids()?.contains(&id) {
        return Err(Error::not_found("the entry was forgotten"));
    }
    set_ref(&repository, ledger, RefKind::Tag, "one", None, Some(id))?;
    note(&repository, ledger, id, "looks good")?;
    set_ref(&repository, ledger, RefKind::Base, "debian@12", None, Some(id))?;
    set_ref(&repository, ledger, RefKind::Tag, "two", None, Some(id))?;
    set_ref(&repository, ledger, RefKind::Tag, "one", Some(id), None)?;
    set_ref(&repository, ledger, RefKind::Base, "debian@12", Some(id), None)
}

/// The footers of packs are damaged: everything can be read by the index, and a repair finds frames by their magic.
fn flawed(files: &Files, ledger: &Ledger) -> Result<()> {
    two_entries(files, ledger)?;
    for dir in ["data", "meta"] {
        let key = format!("{dir}/{}", files.list(dir)?.into_iter().map(|listed| listed.name).min().unwrap());
        let bytes = files.read(&key, u64::MAX)?;
        let mut damaged = bytes.clone();
        damaged[bytes.len() - 30] ^= 1;
        assert!(files.swap(&key, Some(&bytes), Some(&damaged))?);
    }
    ledger.note(Fact::Flawed);
    Ok(())
}

fn check(files: &Files) -> Result<()> {
    let options = CheckOptions { data: true, ..CheckOptions::default() };
    open(files)?.check(options, &NoMonitor).map(|_| ())
}

fn repair(files: &Files) -> Result<()> {
    let repository = open(files)?;
    let plan = repository.plan_repair(RepairOptions { data: true }, &NoMonitor)?;
    repository.repair(&plan, &[], 9, &NoMonitor).map(|_| ())
}

fn parity(files: &Files) -> Result<()> {
    let repository = open(files)?;
    repository.set_policy(&Policy { parity_percent: 5, ..Policy::default() })?;
    repair(files)
}

/// What is there before a command, all of it durable.
pub struct Base {
    pub image: Image,
    pub facts: Vec<Fact>,
    pub digests: HashMap<EntryId, ChunkId>,
}

impl Scenario {
    pub fn base(&self) -> Base {
        let disk = Disk::default();
        let files: Files = Arc::new(LocalBackend::create_on(Handle::new(&disk), ROOT).unwrap());
        let ledger = Ledger::new(|| 0);
        (self.before)(&files, &ledger).unwrap();
        Base { image: disk.image(), facts: ledger.facts(), digests: digests(&files, self.name) }
    }
}

/// Of all entries that are there.
pub fn digests(files: &Files, what: &str) -> HashMap<EntryId, ChunkId> {
    let Ok(repository) = open(files) else { return HashMap::new() };
    let whole = |id: EntryId| match digest(&repository, &id) {
        Ok(digest) => (id, digest),
        Err(error) => panic!("{what}: entry {} is not whole: {error:?}", id.short()),
    };
    repository.entry_ids().unwrap().into_iter().map(whole).collect()
}

#[test]
fn the_commands_do_what_their_names_say() {
    use crate::local::Recorded;
    let count = |name: &str, dir: &str, taken: bool| {
        let log = Recorded::of(named(name), false).log;
        let names =
            log.iter().filter(|op| matches!(op, vml_testkit::crash::Op::Remove(_)) == taken).filter_map(|op| op.name().map(str::to_owned));
        names.filter(|name| name.starts_with(dir)).count()
    };
    assert!(count("save that merges the index", "r/index/", true) > 0, "it merges");
    assert_eq!((count("collection", "r/data/", false), count("collection", "r/data/", true)), (1, 1), "it copies and deletes");
    assert_eq!((count("compaction", "r/data/", false), count("compaction", "r/data/", true)), (1, 3), "it writes all anew");
    assert!(count("collection after a killed one", "r/gc/", false) >= 2, "it takes over");
    assert_eq!(count("save of what is there", "r/data/", false), 0, "nothing is stored again");
    assert_eq!(
        (count("repair", "r/data/", false), count("repair", "r/data/", true)),
        (1, 1),
        "it saves what is sound and takes the rest away"
    );
    assert_eq!(count("repair that makes parity", "r/parity/", false), 2);
    assert_eq!(count("receive", "r/entries/", false), 2);
    assert_eq!(count("push to a service", "r/entries/", false), 2);
}
