//! Repairs: after any damage a repository is whole again or says exactly what is lost, and what is not damaged is never affected.

use crate::support::{DIRS, config, keys, let_files_age, memory, open, overwrite, problems_of_check, read, save, subdir, temp, try_save};
use std::collections::{BTreeMap, BTreeSet};
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use tempfile::TempDir;
use vml_core::entry::Note;
use vml_core::monitor::{CollectMonitor, NoMonitor};
use vml_core::recipe::{Recipe, read_stream};
use vml_core::refs::RefKind;
use vml_core::remote::{OpenRemote, RemoteSource};
use vml_core::repository::{CheckLog, CheckOptions, CollectOptions, Policy, RepairOptions, RepairPlan, RepairSource, Repaired, Sample};
use vml_core::share::{ShareFile, ShareRequest, ShareSource, share};
use vml_core::tree::{Content, ListingReader, NodeKind};
use vml_core::{Backend, EntryId, Error, ErrorKind, PackKind, Repository, RepositoryOptions, Result};
use vml_testkit::faulty::{Effect, FaultyBackend, Repeat};
use vml_testkit::noise::{Rng, incompressible, text};

const DATA: RepairOptions = RepairOptions { data: true };
/// One thread, so that operations come in a fixed order.
const ONE: RepositoryOptions = RepositoryOptions { threads: 1, cache_len: 8 << 20 };

/// Everything of a repository in memory.
fn copy_of(backend: &dyn Backend) -> Arc<dyn Backend> {
    let copy = memory();
    vml_testkit::faulty::copy_files(backend, copy.as_ref(), &DIRS);
    for key in ["config", "policy", "damage"] {
        if let Ok(bytes) = backend.read(key, u64::MAX) {
            copy.put(key, &bytes).unwrap();
        }
    }
    copy
}

struct Sampled {
    _dir: TempDir,
    files: Arc<dyn Backend>,
    trees: [PathBuf; 2],
    ids: [EntryId; 2],
    contents: [BTreeMap<Vec<u8>, [u8; 32]>; 2],
    /// One file of each kind, of the first entry where it is of one.
    keys: Vec<(&'static str, String)>,
}

/// Two areas without anything in common, parity, notes, a tag, a base, a policy, an intent, a lease, a forgotten entry, a quarantine.
fn sample(parity: bool) -> Sampled {
    let dir = temp();
    let trees = ["first", "second"].map(|name| {
        let tree = subdir(&dir, name);
        let seed = name.len() as u64 * 100;
        for number in 0..3 {
            std::fs::create_dir(tree.join(format!("d{number}"))).unwrap();
            std::fs::write(tree.join(format!("d{number}/text")), text(seed + number, 4000)).unwrap();
            std::fs::write(tree.join(format!("d{number}/tiny")), format!("{name} {number}")).unwrap();
        }
        std::fs::write(tree.join("large"), incompressible(seed, 150_000)).unwrap();
        tree
    });
    let_files_age();
    let files = memory();
    let repository = Repository::init(Arc::clone(&files), config(), ONE).unwrap();
    if parity {
        repository.set_policy(&Policy { parity_percent: 5, ..Policy::default() }).unwrap();
    }
    let mut named = Vec::new();
    let gone = save(&repository, "gone", &trees[1]);
    repository.forget(&[gone.id], true, &NoMonitor).unwrap();
    repository.collect(CollectOptions::default(), &NoMonitor).unwrap();
    let before: BTreeSet<String> = DIRS.iter().flat_map(|dir| keys(files.as_ref(), dir)).collect();
    let first = save(&repository, "first", &trees[0]);
    for (what, dir) in [("data pack", "data"), ("meta pack", "meta"), ("entry", "entries"), ("area", "refs/areas"), ("parity", "parity")] {
        let new = keys(files.as_ref(), dir).into_iter().find(|key| !before.contains(key));
        named.extend(new.map(|key| (what, key)));
    }
    let second = save(&repository, "second", &trees[1]);
    repository.refs().set(RefKind::Tag, "golden", None, Some(first.id)).unwrap();
    repository.refs().set(RefKind::Base, "debian@12", None, Some(second.id)).unwrap();
    repository.add_note(&Note { entry: first.id, time_ms: 5, author: "me".to_owned(), text: "a remark".to_owned() }).unwrap();
    named.extend([("tag", "refs/tags/golden".to_owned()), ("base", "refs/bases/debian@12".to_owned())]);
    for (what, dir) in [("note", "notes"), ("segment", "index"), ("forgotten", "forgotten"), ("quarantine", "gc")] {
        named.push((what, keys(files.as_ref(), dir)[0].clone()));
    }
    // What writers leave that died: bytes of the right kinds, whatever they say.
    let intent = vml_chunk::codec::encode_record(vml_core::repository::INTENT_RECORD, &(3_u64, false, 0_u64, first.entry.encode().1));
    files.put(&format!("saving/{}", first.id), &intent).unwrap();
    let lease = vml_chunk::store::LeaseRecord { generation: 3, ..Default::default() };
    files.put("leases/1", &vml_chunk::codec::encode_record(vml_chunk::store::LEASE_RECORD, &lease)).unwrap();
    if parity {
        named.push(("policy", "policy".to_owned()));
    }
    named.extend([("intent", format!("saving/{}", first.id)), ("lease", "leases/1".to_owned())]);
    let contents = [first.id, second.id].map(|id| contents(&repository, &id).unwrap());
    assert_eq!(problems_of_check(&open(&files), true), [""; 0]);
    Sampled { _dir: dir, files, trees, ids: [first.id, second.id], contents, keys: named }
}

/// The digests of all files of an entry; what cannot be read is left out, if `lenient`.
fn contents_of(repository: &Repository, id: &EntryId, lenient: bool) -> Result<BTreeMap<Vec<u8>, [u8; 32]>> {
    let entry = repository.entry(id)?;
    let store = repository.store(&NoMonitor)?;
    let mut found = BTreeMap::new();
    let mut waiting = vec![(Vec::new(), entry.tree().unwrap().root.clone())];
    let digest = |recipe: &Recipe| -> Result<[u8; 32]> {
        let mut hasher = blake3::Hasher::new();
        read_stream(store, recipe, &mut |part| {
            hasher.update(part);
            Ok(())
        })?;
        Ok(*hasher.finalize().as_bytes())
    };
    while let Some((path, node)) = waiting.pop() {
        match &node.kind {
            NodeKind::Directory(listing) => {
                for member in ListingReader::new(store, listing) {
                    match member {
                        Ok(member) => waiting.push(([&path[..], b"/", &member.name].concat(), member)),
                        Err(error) if !lenient => return Err(error),
                        Err(_) => {}
                    }
                }
            }
            NodeKind::File(Content::Inline(bytes)) => _ = found.insert(path, *blake3::hash(bytes).as_bytes()),
            NodeKind::File(Content::Recipe(recipe)) => match digest(recipe) {
                Ok(digest) => _ = found.insert(path, digest),
                Err(error) if !lenient => return Err(error),
                Err(error) => assert!(is_clear(&error), "{error:?}"),
            },
            _ => {}
        }
    }
    Ok(found)
}

fn contents(repository: &Repository, id: &EntryId) -> Result<BTreeMap<Vec<u8>, [u8; 32]>> {
    contents_of(repository, id, false)
}

fn is_clear(error: &Error) -> bool {
    matches!(error.kind(), ErrorKind::Corrupt | ErrorKind::NotFound) && !error.to_string().is_empty()
}

#[derive(Debug, Clone, Copy)]
enum Damage {
    Delete,
    Cut(usize),
    Flip(usize),
}

fn damages(rng: &mut Rng, len: usize) -> Vec<Damage> {
    let mut all = vec![Damage::Delete];
    all.extend([0, 1, 27, len / 2, len - 1].map(Damage::Cut));
    all.extend(
        (0..64)
            .map(|number| Damage::Flip((len * 8 / 64).max(1) * number + rng.below((len * 8 / 64).max(1))))
            .filter(|damage| matches!(damage, Damage::Flip(bit) if *bit < len * 8)),
    );
    all
}

fn apply(files: &dyn Backend, key: &str, damage: Damage) {
    let mut bytes = read(files, key);
    match damage {
        Damage::Delete => return files.delete(key).unwrap(),
        Damage::Cut(len) => bytes.truncate(len),
        Damage::Flip(bit) => bytes[bit / 8] ^= 1 << (bit % 8),
    }
    overwrite(files, key, &bytes);
}

fn repair_with(repository: &Repository, sources: &[&dyn RepairSource]) -> Result<(RepairPlan, Repaired)> {
    let plan = repository.plan_repair(DATA, &NoMonitor)?;
    let repaired = repository.repair(&plan, sources, 20, &NoMonitor)?;
    Ok((plan, repaired))
}

fn open_one(files: &Arc<dyn Backend>) -> Repository {
    Repository::open(Arc::clone(files), ONE).unwrap()
}

/// Everything that reads; nothing is wrong, the second entry is whole.
fn everything_that_reads(sample: &Sampled, files: &Arc<dyn Backend>, kind: &str, what: &str) {
    let repository = open_one(files);
    let [first, second] = sample.ids;
    assert!(repository.entry_ids().unwrap().contains(&second), "{what}");
    assert!(contents(&repository, &second).unwrap() == sample.contents[1], "{what}: an undamaged entry is affected");
    assert_eq!(repository.resolve("second@latest").unwrap(), second, "{what}");
    match contents_of(&repository, &first, true) {
        Ok(found) => {
            let right = found.iter().all(|(path, digest)| sample.contents[0].get(path) == Some(digest));
            assert!(right, "{what}: wrong bytes");
            assert!(found.len() == sample.contents[0].len() || kind.ends_with("pack"), "{what}: not whole");
        }
        Err(error) => assert!(is_clear(&error) && kind == "entry", "{what}: {error:?}"),
    }
    let monitor = CollectMonitor::default();
    repository.notes(&monitor).unwrap();
    for name in ["first@latest", "golden", "BASE:debian@12"] {
        match repository.resolve(name) {
            Ok(id) => assert!(sample.ids.contains(&id), "{what}: {name}"),
            Err(error) => assert!(is_clear(&error), "{what}: {name}: {error:?}"),
        }
    }
    for kind in RefKind::ALL {
        for (name, target) in repository.refs().list(kind).unwrap() {
            assert!(target.map_or_else(|error| is_clear(&error), |id| sample.ids.contains(&id)), "{what}: {name}");
        }
    }
    _ = repository.policy();
    _ = problems_of_check(&repository, false);
}

#[test]
fn after_any_damage_a_repair_leaves_what_is_whole_or_tells_what_is_lost() {
    let tried = AtomicUsize::new(0);
    for parity in [false, true] {
        let sample = sample(parity);
        let jobs: Vec<_> = sample.keys.iter().enumerate().collect();
        assert_eq!(jobs.len(), if parity { 14 } else { 12 });
        std::thread::scope(|scope| {
            for part in 0..4 {
                let (jobs, sample, tried) = (&jobs, &sample, &tried);
                scope.spawn(move || {
                    for (number, (kind, key)) in jobs.iter().filter(|(number, _)| number % 4 == part) {
                        let len = read(sample.files.as_ref(), key).len();
                        for damage in damages(&mut Rng::new(*number as u64), len) {
                            damage_and_repair(sample, kind, key, damage, parity);
                            tried.fetch_add(1, Ordering::Relaxed);
                        }
                    }
                });
            }
        });
    }
    let tried = tried.into_inner();
    println!("{tried} damaged files, each read by everything, repaired, and saved on");
    assert!(tried > 1500, "{tried}");
}

fn damage_and_repair(sample: &Sampled, kind: &str, key: &str, damage: Damage, parity: bool) {
    let what = format!("{kind} {key}, {damage:?}, parity: {parity}");
    let files = copy_of(sample.files.as_ref());
    apply(files.as_ref(), key, damage);
    everything_that_reads(sample, &files, kind, &what);
    let (plan, repaired) = repair_with(&open_one(&files), &[]).unwrap_or_else(|error| panic!("{what}: {error:?}"));
    let undone = matches!(
        (kind, damage),
        ("segment" | "policy" | "intent" | "lease" | "note" | "tag" | "base" | "area" | "forgotten" | "quarantine", Damage::Delete)
    );
    assert!(!plan.is_empty() || undone || kind == "segment" || kind == "entry", "{what}: nothing was planned");
    everything_that_reads(sample, &files, kind, &what);
    // What is left is what is lost, and a second repair finds nothing more to do.
    let left = problems_of_check(&open_one(&files), true);
    assert_eq!(left.len() as u64, repaired.problems_count, "{what}: {left:?} {repaired:?}");
    let may_lose = ["data pack", "meta pack", "entry"].contains(&kind);
    assert!(left.is_empty() || may_lose, "{what}: {left:?}");
    if kind.ends_with("pack") && parity && matches!(damage, Damage::Flip(_)) {
        assert!(left.is_empty(), "{what}: parity heals one bit: {left:?}");
    }
    assert!(left.iter().all(|line| line.contains(&sample.ids[0].short())), "{what}: {left:?}");
    assert!(
        open_one(&files).plan_repair(DATA, &NoMonitor).unwrap().records.iter().all(|record| record.key.starts_with("entries/")),
        "{what}"
    );
    // Saved again, it is whole.
    for (area, tree) in [("first", &sample.trees[0]), ("second", &sample.trees[1])] {
        try_save(&open_one(&files), area, tree, &NoMonitor).unwrap_or_else(|error| panic!("{what}: {error:?}"));
    }
    let left = problems_of_check(&open_one(&files), true);
    assert!(left.is_empty() || kind == "entry", "{what}: not healed by saving again: {left:?}");
    if left.is_empty() {
        open_one(&files).collect(CollectOptions::default(), &NoMonitor).unwrap_or_else(|error| panic!("{what}: {error:?}"));
        let [first, second] = sample.ids;
        for (id, contents_then) in [(first, &sample.contents[0]), (second, &sample.contents[1])] {
            if kind != "entry" {
                assert!(contents(&open_one(&files), &id).unwrap() == *contents_then, "{what}: {}", id.short());
            }
        }
    }
}

#[test]
fn damage_that_a_check_has_found_is_healed_by_the_next_save() {
    let sample = sample(false);
    for (kind, key) in sample.keys.iter().filter(|(kind, _)| kind.ends_with("pack")) {
        let files = copy_of(sample.files.as_ref());
        let len = read(files.as_ref(), key).len();
        // In the middle of the frames.
        apply(files.as_ref(), key, Damage::Flip(len / 3 * 8));
        try_save(&open(&files), "first", &sample.trees[0], &NoMonitor).unwrap();
        assert_ne!(
            contents_of(&open(&files), &sample.ids[0], true).unwrap().len(),
            sample.contents[0].len(),
            "{kind}: nobody has looked yet"
        );
        let found = problems_of_check(&open(&files), true);
        assert!(found.iter().any(|line| line.contains(key.as_str())) && found.iter().any(|line| line.contains("entry ")), "{found:?}");
        assert!(files.len("damage").is_ok());
        try_save(&open(&files), "first", &sample.trees[0], &NoMonitor).unwrap();
        assert!(contents(&open(&files), &sample.ids[0]).unwrap() == sample.contents[0], "{kind}: healed");
        let known = problems_of_check(&open(&files), false);
        assert_eq!(known.len(), 1, "the pack is still there: {known:?}");
        assert_eq!(repair_with(&open(&files), &[]).unwrap().1.problems_count, 0);
        assert!(files.len("damage").is_err() && files.len(key).is_err());
        assert_eq!(problems_of_check(&open(&files), true), [""; 0]);
    }
}

#[test]
fn what_is_lost_comes_from_another_repository_or_a_share_file() {
    let sample = sample(false);
    let whole = open(&copy_of(sample.files.as_ref()));
    let dir = temp();
    let path = dir.path().join("first.vml");
    let request = ShareRequest {
        entries: &sample.ids[..1],
        since: &[],
        full: true,
        level: 1,
        solid: false,
        threads: 1,
        author: "eva",
        time_ms: 1,
        signer: None,
    };
    share(&whole, &request, &mut std::fs::File::create(&path).unwrap(), &NoMonitor).unwrap();
    let remote = OpenRemote::new(&whole, "far", true, 1);
    let file = ShareFile::open(&path).unwrap();
    let sources: [(&str, Box<dyn RepairSource + '_>); 2] = [
        ("remote", Box::new(RemoteSource::new(&remote, "far".to_owned()))),
        ("file", Box::new(ShareSource::new(&file, "first.vml".to_owned()))),
    ];
    for (name, source) in &sources {
        for (kind, key) in sample.keys.iter().filter(|(kind, _)| ["data pack", "meta pack", "entry", "note"].contains(kind)) {
            for damage in [Damage::Delete, Damage::Cut(30), Damage::Flip(400)] {
                let what = format!("{kind}, {damage:?}, from {name}");
                if *kind == "note" && *name == "file" || matches!((*kind, damage), ("entry" | "note", Damage::Delete)) {
                    continue;
                }
                let files = copy_of(sample.files.as_ref());
                apply(files.as_ref(), key, damage);
                let (_, repaired) = repair_with(&open(&files), &[source.as_ref()]).unwrap();
                assert_eq!(repaired.problems_count, 0, "{what}: {repaired:?}");
                assert!(
                    repaired.healed_chunks_count > 0 || !kind.ends_with("pack") || matches!(damage, Damage::Flip(_)),
                    "{what}: {repaired:?}"
                );
                assert_eq!(repaired.fetched_entries_count, u64::from(*kind == "entry"), "{what}");
                assert_eq!(problems_of_check(&open(&files), true), [""; 0], "{what}");
                for (id, then) in sample.ids.iter().zip(&sample.contents) {
                    assert!(contents(&open(&files), id).unwrap() == *then, "{what}");
                }
                assert!(files.len("damage").is_err(), "{what}");
                assert_eq!(open(&files).notes_of(&sample.ids[0]).unwrap().len(), 1, "{what}");
            }
        }
    }
    // Everything of it, packs and all, comes back.
    let files = copy_of(sample.files.as_ref());
    for dir in ["data", "meta", "index"] {
        keys(files.as_ref(), dir).iter().for_each(|key| files.delete(key).unwrap());
    }
    let (_, repaired) = repair_with(&open(&files), &[sources[0].1.as_ref()]).unwrap();
    assert_eq!(repaired.problems_count, 0, "{repaired:?}");
    assert!(contents(&open(&files), &sample.ids[1]).unwrap() == sample.contents[1]);
}

#[test]
fn a_source_that_lies_heals_nothing_and_spoils_nothing() {
    struct Liar;
    impl RepairSource for Liar {
        fn name(&self) -> String {
            "liar".to_owned()
        }
        fn chunks(
            &self,
            _: PackKind,
            wanted: &[vml_core::repository::WantedChunk],
            each: &mut dyn FnMut(&[u8]) -> Result<()>,
        ) -> Result<()> {
            wanted.iter().try_for_each(|chunk| each(&vec![0; chunk.len as usize]))
        }
        fn entry(&self, _: &EntryId) -> Result<Option<Vec<u8>>> {
            Ok(Some(b"nonsense".to_vec()))
        }
        fn note(&self, _: &EntryId, _: &[u8; 32]) -> Result<Option<Vec<u8>>> {
            Err(Error::corrupt("no notes here"))
        }
    }
    let sample = sample(false);
    let files = copy_of(sample.files.as_ref());
    for (kind, key) in sample.keys.iter().filter(|(kind, _)| ["data pack", "entry", "note"].contains(kind)) {
        apply(files.as_ref(), key, if *kind == "data pack" { Damage::Delete } else { Damage::Flip(300) });
    }
    let (_, repaired) = repair_with(&open(&files), &[&Liar]).unwrap();
    assert_eq!((repaired.healed_chunks_count, repaired.fetched_entries_count), (0, 0));
    assert!(repaired.problems_count > 0);
    assert!(contents(&open(&files), &sample.ids[1]).unwrap() == sample.contents[1]);
}

#[test]
fn a_repair_that_is_killed_at_any_operation_is_done_again() {
    let sample = sample(true);
    let whole = open(&copy_of(sample.files.as_ref()));
    let remote = OpenRemote::new(&whole, "far", true, 1);
    let source = RemoteSource::new(&remote, "far".to_owned());
    let damaged = || {
        let files = copy_of(sample.files.as_ref());
        for (kind, key) in &sample.keys {
            match *kind {
                // More than parity gives back, with a footer that is lost; two copies of the index; a ref.
                "data pack" => apply(files.as_ref(), key, Damage::Cut(60_000)),
                "parity" | "area" | "quarantine" => apply(files.as_ref(), key, Damage::Flip(200)),
                "meta pack" => apply(files.as_ref(), key, Damage::Flip(900)),
                _ => {}
            }
        }
        files
    };
    let counting = FaultyBackend::new(damaged());
    let run = |files: Arc<dyn Backend>| {
        let repository = Repository::open(files, ONE)?;
        repair_with(&repository, &[&source]).map(|(_, repaired)| repaired)
    };
    assert_eq!(run(Arc::new(counting.clone())).unwrap().problems_count, 0);
    let count = counting.count();
    let mut tried = 0;
    for at in 0..count {
        // Reads are repeated by whoever reads; what writes leaves something behind.
        if !["append", "publish", "swap", "delete", "settle", "stage"].contains(&counting.operations()[at].name) {
            continue;
        }
        for effect in [Effect::Nothing, Effect::Done] {
            let files = damaged();
            let faulty = FaultyBackend::new(Arc::clone(&files));
            faulty.fail_at(at, ErrorKind::Interrupted, Repeat::Forever, effect);
            _ = run(Arc::new(faulty));
            let what = format!("killed at {}, {effect:?}", counting.operations()[at]);
            // A writer in between, if the refs let it.
            if tried % 3 == 0 {
                _ = try_save(&open_one(&files), "second", &sample.trees[1], &NoMonitor);
            }
            assert!(contents(&open_one(&files), &sample.ids[1]).unwrap() == sample.contents[1], "{what}");
            let repaired = run(Arc::clone(&files)).unwrap_or_else(|error| panic!("{what}: {error:?}"));
            assert_eq!(repaired.problems_count, 0, "{what}: {repaired:?}");
            assert_eq!(problems_of_check(&open_one(&files), true), [""; 0], "{what}");
            assert!(contents(&open_one(&files), &sample.ids[0]).unwrap() == sample.contents[0], "{what}");
            open_one(&files).collect(CollectOptions::default(), &NoMonitor).unwrap();
            assert_eq!(problems_of_check(&open_one(&files), false), [""; 0], "{what}: after a collection");
            tried += 1;
        }
    }
    println!("a repair of {count} operations was killed at {tried} of them");
    assert!(tried > 60, "{tried}");
}

#[test]
fn a_repair_runs_beside_a_save_and_a_collection() {
    for round in 0..rounds() {
        let sample = sample(false);
        let files = copy_of(sample.files.as_ref());
        let key = &sample.keys.iter().find(|(kind, _)| *kind == "data pack").unwrap().1;
        let len = read(files.as_ref(), key).len();
        apply(files.as_ref(), key, Damage::Flip(Rng::new(round).below(len / 2) * 8 + 800));
        std::thread::scope(|scope| {
            let saver = scope.spawn(|| try_save(&open(&files), "first", &sample.trees[0], &NoMonitor).map(|saved| saved.id));
            let collector = scope.spawn(|| open(&files).collect(CollectOptions::default(), &NoMonitor).map(|_| ()));
            let repairer = scope.spawn(|| repair_with(&open(&files), &[]).map(|_| ()));
            for ended in [collector.join().unwrap(), repairer.join().unwrap()] {
                // One of the two took the other's list over, or the collection met the damage.
                if let Err(error) = ended {
                    assert!(matches!(error.kind(), ErrorKind::Locked | ErrorKind::Corrupt | ErrorKind::NotFound), "{error:?}");
                }
            }
            saver.join().unwrap().unwrap();
        });
        repair_with(&open(&files), &[]).unwrap();
        try_save(&open(&files), "first", &sample.trees[0], &NoMonitor).unwrap();
        assert_eq!(problems_of_check(&open(&files), true), [""; 0], "round {round}");
        for (id, then) in sample.ids.iter().zip(&sample.contents) {
            assert!(contents(&open(&files), id).unwrap() == *then, "round {round}");
        }
    }
}

fn rounds() -> u64 {
    std::env::var("VML_TEST_ROUNDS").ok().and_then(|rounds| rounds.parse().ok()).unwrap_or(8)
}

#[test]
fn a_check_goes_on_where_one_was_cut_short_and_says_what_it_passed_over() {
    #[derive(Default)]
    struct Log(std::sync::Mutex<BTreeSet<String>>);
    impl CheckLog for Log {
        fn is_proven(&self, kind: PackKind, id: &vml_chunk::PackId) -> bool {
            self.0.lock().unwrap().contains(&kind.key(id))
        }
        fn proven(&self, kind: PackKind, id: &vml_chunk::PackId) {
            self.0.lock().unwrap().insert(kind.key(id));
        }
    }
    let sample = sample(false);
    let options = CheckOptions { data: true, ..CheckOptions::default() };
    let log = Log::default();
    let all = open(&sample.files).check_with(options, &log, &NoMonitor).unwrap();
    let count = all.packs_count;
    assert_eq!((log.0.lock().unwrap().len() as u64, all.skipped_packs_count), (count, 0));
    let key = log.0.lock().unwrap().pop_last().unwrap();
    let rest = open(&sample.files).check_with(options, &log, &NoMonitor).unwrap();
    assert_eq!((rest.packs_count, rest.skipped_packs_count), (1, count - 1));
    assert!(rest.bytes + rest.skipped_bytes == all.bytes && log.0.lock().unwrap().contains(&key));
    let sampled = CheckOptions { sample: Some(Sample { seed: 4, round: 0, parts_per_million: 10_000 }), ..options };
    let checked = open(&sample.files).check(sampled, &NoMonitor).unwrap();
    assert!(checked.packs_count >= 1 && checked.left_out_packs_count == count - checked.packs_count);
}

#[test]
fn paths_are_told_up_to_a_limit_and_the_rest_is_counted() {
    let sample = sample(false);
    let files = copy_of(sample.files.as_ref());
    files.delete(&sample.keys[0].1).unwrap();
    let monitor = CollectMonitor::default();
    let checked = open(&files).check(CheckOptions { paths_max: 2, ..CheckOptions::default() }, &monitor).unwrap();
    let of_entry: Vec<String> = monitor.problems().iter().map(ToString::to_string).filter(|line| line.starts_with("entry ")).collect();
    assert_eq!(checked.touched.len(), 1);
    assert!(checked.touched[0].paths_count > 2 && checked.touched[0].entry == sample.ids[0]);
    assert_eq!(of_entry.len(), 3, "{of_entry:?}");
    assert!(of_entry[2].contains(&format!("{} more of its paths", checked.touched[0].paths_count - 2)), "{of_entry:?}");
}

#[test]
fn refs_go_to_the_newest_entry_that_can_be_read() {
    let sample = sample(false);
    let files = copy_of(sample.files.as_ref());
    let [first, _] = sample.ids;
    // A second entry in the area, whose record rots, and with it the base is gone.
    std::fs::write(sample.trees[0].join("more"), b"more").unwrap();
    let newer = try_save(&open(&files), "first", &sample.trees[0], &NoMonitor).unwrap();
    apply(files.as_ref(), &format!("entries/{}", newer.id), Damage::Flip(500));
    apply(files.as_ref(), "refs/bases/debian@12", Damage::Flip(99));
    let (plan, repaired) = repair_with(&open(&files), &[]).unwrap();
    assert!(plan.takes_away(), "the base cannot be told");
    assert_eq!(open(&files).resolve("first@latest").unwrap(), first, "{repaired:?}");
    assert_eq!(open(&files).refs().get(RefKind::Base, "debian@12").unwrap(), None);
    // The damaged entry stays listed, and says so.
    assert!(open(&files).entry_ids().unwrap().contains(&newer.id));
    assert_eq!(repaired.problems_count, 1);
    assert!(try_save(&open(&files), "first", &sample.trees[0], &NoMonitor).is_ok(), "and one can save on");
}
