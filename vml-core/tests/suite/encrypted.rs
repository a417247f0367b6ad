//! Encrypted repositories: all that a plain one does, nothing in the clear that the threat model does not list, and keys that save but do not read.

use crate::support::{
    OPTIONS, assert_equal, build_new, config, init, keys, let_files_age, memory, problems_of_check, read, request, save, subdir, temp,
};
use std::path::Path;
use std::sync::Arc;
use vml_chunk::seal::{Rights, Unlock};
use vml_core::entry::{BaseRef, EntryKind, Fact, MachinePart, Note};
use vml_core::refs::RefKind;
use vml_core::remote::{OpenRemote, TransferRequest, plan_transfer, transfer};
use vml_core::repository::{CheckOptions, CollectOptions, FEATURE_SEALED, Policy, RepairOptions, SaveRequest, keys_of};
use vml_core::share::{ReceiveOptions, ShareRequest, receive, share};
use vml_core::tree::Exclude;
use vml_core::{Backend, CollectMonitor, Config, EntryId, ErrorKind, NoMonitor, Repository};
use vml_testkit::noise;
use vml_testkit::sealed::{PASSPHRASE, cheap_key};

fn init_sealed(backend: &Arc<dyn Backend>) -> Repository {
    Repository::init_encrypted(backend, config(), OPTIONS, &cheap_key(PASSPHRASE, "first", Rights::Full)).unwrap()
}

fn open_by(backend: &Arc<dyn Backend>, passphrase: &str) -> vml_core::Result<Repository> {
    Repository::open_with(Arc::clone(backend), OPTIONS, Some(&Unlock::passphrase(passphrase).unwrap()))
}

fn open_sealed(backend: &Arc<dyn Backend>) -> Repository {
    open_by(backend, PASSPHRASE).unwrap()
}

/// Some files with noise and some with text.
fn write_tree(dir: &Path, seed: u64) {
    std::fs::create_dir_all(dir.join("lib")).unwrap();
    for number in 0..20_u64 {
        std::fs::write(dir.join(format!("lib/{number}")), noise::mixed(seed * 100 + number, 30_000)).unwrap();
    }
    std::fs::write(dir.join("small"), format!("small {seed}")).unwrap();
}

#[track_caller]
fn assert_sound(backend: &Arc<dyn Backend>) {
    assert_eq!(problems_of_check(&open_sealed(backend), true), [""; 0]);
}

#[test]
fn an_encrypted_repository_does_all_that_a_plain_one_does() {
    let dir = temp();
    let tree = subdir(&dir, "tree");
    let backend = memory();
    write_tree(&tree, 1);
    let_files_age();
    let first = save(&init_sealed(&backend), "work", &tree);
    let second = save(&open_sealed(&backend), "work", &tree);
    assert_eq!(second.entry.parents, [first.id]);
    assert!(second.stats.seen_bytes < first.stats.seen_bytes / 2, "unchanged files are known by the parent's listing");
    write_tree(&tree, 2);
    let third = save(&open_sealed(&backend), "work", &tree);
    assert_equal(&tree, build_new(&open_sealed(&backend), &third.id).path());
    // Built over what is there, by comparing ids.
    let target = build_new(&open_sealed(&backend), &first.id);
    crate::support::build(&open_sealed(&backend), &third.id, target.path(), &crate::support::deleting()).unwrap();
    assert_equal(&tree, target.path());
    let repository = open_sealed(&backend);
    repository.refs().set(RefKind::Tag, "good", None, Some(second.id)).unwrap();
    repository.add_note(&Note { entry: third.id, time_ms: 1, author: "eva".to_owned(), text: "a remark".to_owned() }).unwrap();
    assert_eq!(repository.notes_of(&third.id).unwrap().len(), 1);
    assert_eq!(repository.resolve("work@~1").unwrap(), second.id);
    assert_eq!(repository.refs().list(RefKind::Tag).unwrap().into_iter().map(|(name, _)| name).collect::<Vec<_>>(), ["good"]);
    assert_sound(&backend);
    repository.forget(&[first.id, second.id], true, &NoMonitor).unwrap();
    let collected = open_sealed(&backend).collect(CollectOptions::default(), &NoMonitor).unwrap();
    assert!(collected.swept.deleted_packs_count > 0);
    assert_sound(&backend);
    // The index is made again from the packs.
    for key in keys(backend.as_ref(), "index") {
        backend.delete(&key).unwrap();
    }
    assert_equal(&tree, build_new(&open_sealed(&backend), &third.id).path());
    assert_sound(&backend);
    let discarding = open_sealed(&backend).discarding();
    std::fs::write(tree.join("new"), "not to be kept").unwrap();
    discarding.save(request("work", &tree, &Exclude::default()), &NoMonitor).unwrap();
    assert_eq!(open_sealed(&backend).resolve("work@latest").unwrap(), third.id);
}

#[test]
fn what_opens_it_and_what_does_not() {
    let backend = memory();
    init_sealed(&backend);
    let error = Repository::open(Arc::clone(&backend), OPTIONS).map(drop).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::NeedsKey);
    assert!(error.to_string().contains("\"first\" (passphrase)"), "{error}");
    let error = open_by(&backend, "something else").map(drop).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::WrongKey);
    assert_eq!(keys_of(backend.as_ref()).unwrap().unwrap().len(), 1);
    let plain = memory();
    init(&plain);
    assert_eq!(keys_of(plain.as_ref()).unwrap(), None);
    let error = open_by(&plain, PASSPHRASE).map(drop).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::InvalidInput, "whoever gives a passphrase expects that it is used");
    assert_eq!(crate::support::open(&plain).access().map(drop).unwrap_err().kind(), ErrorKind::InvalidInput);
    // An older program knows no such feature.
    let clear: Config = vml_chunk::codec::decode_record(vml_core::repository::CONFIG_RECORD, &read(backend.as_ref(), "config")).unwrap();
    assert_eq!(clear.features.read, [FEATURE_SEALED]);
    assert_eq!(clear.chunker, config().chunker, "the seed is not in the clear");
    assert_ne!(open_sealed(&backend).config().chunker, config().chunker);
    let again = Repository::init_encrypted(&backend, config(), OPTIONS, &cheap_key("x", "x", Rights::Full));
    assert_eq!(again.map(drop).unwrap_err().kind(), ErrorKind::AlreadyExists);
    open_sealed(&backend);
    backend.delete("keys/slots").unwrap();
    let error = open_by(&backend, PASSPHRASE).map(drop).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Corrupt, "{error}");
}

#[test]
fn a_configuration_that_was_changed_is_not_taken() {
    let backend = memory();
    init_sealed(&backend);
    let original = read(backend.as_ref(), "config");
    let mut changed = Config { level: 19, ..config() };
    changed.features.read = vec![FEATURE_SEALED.to_owned()];
    let bytes = vml_chunk::codec::encode_record(vml_core::repository::CONFIG_RECORD, &changed);
    assert!(backend.swap("config", Some(&original), Some(&bytes)).unwrap());
    assert_eq!(open_by(&backend, PASSPHRASE).map(drop).unwrap_err().kind(), ErrorKind::Corrupt);
    // One that says that nothing is encrypted: whoever gives a key is told.
    let plain = vml_chunk::codec::encode_record(vml_core::repository::CONFIG_RECORD, &config());
    assert!(backend.swap("config", Some(&bytes), Some(&plain)).unwrap());
    assert_eq!(open_by(&backend, PASSPHRASE).map(drop).unwrap_err().kind(), ErrorKind::InvalidInput);
}

/// All that is stored: keys and bytes.
fn all_of(backend: &dyn Backend) -> Vec<u8> {
    let mut all = read(backend, "config");
    all.extend(backend.read("keys/slots", 1 << 20).unwrap_or_default());
    for dir in crate::support::DIRS {
        for key in keys(backend, dir) {
            all.extend_from_slice(key.as_bytes());
            all.push(b'\n');
            all.extend_from_slice(&read(backend, &key));
        }
    }
    all.extend_from_slice(&backend.read("policy", 1 << 20).unwrap_or_default());
    all
}

#[test]
fn nothing_that_was_saved_can_be_found_in_what_is_stored() {
    const MARKER: &str = "xylophone";
    let dir = temp();
    let tree = subdir(&dir, "tree");
    let name = |what: &str| format!("{what}-{MARKER}");
    std::fs::create_dir(tree.join(name("directory"))).unwrap();
    std::fs::write(tree.join(name("file")), format!("{MARKER} in a short file")).unwrap();
    std::fs::write(tree.join("long"), format!("{MARKER} again and again\n").repeat(5000)).unwrap();
    // Nothing of it is compressed, so that it would stand there as it is.
    std::fs::write(tree.join("noise"), [noise::incompressible(1, 100_000), MARKER.as_bytes().to_vec()].concat()).unwrap();
    std::os::unix::fs::symlink(name("target"), tree.join("link")).unwrap();
    let save_all = |repository: &Repository| {
        let exclude = Exclude::new(&[name("excluded")]).unwrap();
        let tags = [name("tag")];
        let message = name("message");
        let base_kind = EntryKind::Base { name: name("base"), version: name("version") };
        let base = repository.save(SaveRequest { kind: base_kind, ..request("", &tree, &exclude) }, &NoMonitor).unwrap().id;
        let asked = SaveRequest {
            message: &message,
            author: MARKER,
            tags: &tags,
            facts: vec![Fact { name: "guest.name".to_owned(), value: name("guest") }],
            machine: Some(MachinePart { name: "machine.xml".to_owned(), bytes: name("machine").into_bytes() }),
            base: Some(BaseRef { name: name("base"), version: name("version"), entry: base }),
            ..request("area-xylophone", &tree, &exclude)
        };
        let saved = repository.save(asked, &NoMonitor).unwrap();
        repository.add_note(&Note { entry: saved.id, time_ms: 1, author: MARKER.to_owned(), text: name("note") }).unwrap();
        repository.set_policy(&Policy { require_signed: true, ..Policy::default() }).unwrap();
        let again = repository.save(SaveRequest { message: &message, ..request("area-xylophone", &tree, &exclude) }, &NoMonitor).unwrap();
        repository.forget(&[again.id], true, &NoMonitor).unwrap();
    };
    let found = |all: &[u8]| all.windows(MARKER.len()).filter(|window| *window == MARKER.as_bytes()).count();
    let plain = memory();
    save_all(&init(&plain));
    assert!(found(&all_of(plain.as_ref())) >= 8, "the test finds what stands in the clear");
    let backend = memory();
    let repository = init_sealed(&backend);
    repository.access().unwrap().add_key(&cheap_key("other", "the second label", Rights::PutOnly)).unwrap();
    save_all(&repository);
    let all = all_of(backend.as_ref());
    assert_eq!(found(&all), 0);
    // What the threat model lists: labels, and names of directories.
    let has = |text: &str| all.windows(text.len()).any(|window| window == text.as_bytes());
    assert!(has("the second label") && has("refs/areas/") && has(FEATURE_SEALED));
    for (text, why) in [("work", "an area"), ("VMLPACK", "a pack's magic"), ("VMLINDX", "a segment's magic"), ("tester", "an author")] {
        assert!(!has(text), "{why}");
    }
}

#[test]
fn a_put_only_key_saves_without_reading_and_stores_nothing_twice() {
    let dir = temp();
    let tree = subdir(&dir, "tree");
    let backend = memory();
    let owner = init_sealed(&backend);
    owner.access().unwrap().add_key(&cheap_key("nightly", "host7", Rights::PutOnly)).unwrap();
    write_tree(&tree, 1);
    let first = save(&owner, "work", &tree);
    let_files_age();
    std::fs::write(tree.join("lib/new"), noise::incompressible(77, 50_000)).unwrap();
    let putting = open_by(&backend, "nightly").unwrap();
    assert_eq!(putting.rights(), Some(Rights::PutOnly));
    let monitor = CollectMonitor::default();
    let exclude = Exclude::default();
    let second = putting.save(request("work", &tree, &exclude), &monitor).unwrap();
    assert_eq!((second.problems_count, monitor.problems()), (0, vec![]));
    assert!(monitor.notices().iter().any(|notice| notice.contains("can save but not read")), "{:?}", monitor.notices());
    assert_eq!(second.entry.parents, [first.id]);
    // What is new is one file, its listing and the witness.
    assert!(second.stats.new_bytes < 70_000, "{:?}", second.stats);
    assert!(second.stats.seen_bytes > 600_000, "every file was read");
    let third = open_by(&backend, "nightly").unwrap().save(request("other", &tree, &exclude), &monitor).unwrap();
    assert!(third.stats.new_bytes < 10_000, "{:?}", third.stats);
    let again = open_by(&backend, "nightly").unwrap();
    let cannot = |result: vml_core::Result<()>| {
        let error = result.unwrap_err();
        let mut text = format!("{error}");
        let mut cause = std::error::Error::source(&error);
        while let Some(error) = cause {
            text = format!("{text}: {error}");
            cause = error.source();
        }
        assert_eq!(error.kind(), ErrorKind::NeedsKey, "{text}");
        assert!(text.contains("can save but not read"), "{text}");
    };
    cannot(again.entry(&second.id).map(drop));
    cannot(again.entry(&first.id).map(drop));
    cannot(again.collect(CollectOptions::default(), &NoMonitor).map(drop));
    cannot(again.forget(&[first.id], true, &NoMonitor));
    cannot(again.check(CheckOptions { data: true, ..CheckOptions::default() }, &NoMonitor).map(drop));
    assert_eq!(again.resolve("work@latest").unwrap(), second.id, "refs are for all keys");
    assert_sound(&backend);
    for saved in [&second, &third] {
        assert_equal(&tree, build_new(&open_sealed(&backend), &saved.id).path());
    }
    let later = save(&open_sealed(&backend), "work", &tree);
    assert!(later.stats.seen_bytes < 100_000, "a full key uses the listing that the other one wrote");
}

#[test]
fn a_put_only_save_survives_collections_and_killed_writers() {
    let dir = temp();
    let tree = subdir(&dir, "tree");
    let backend = memory();
    init_sealed(&backend).access().unwrap().add_key(&cheap_key("nightly", "host7", Rights::PutOnly)).unwrap();
    let exclude = Exclude::default();
    for round in 0..3 {
        write_tree(&tree, round);
        let putting = open_by(&backend, "nightly").unwrap();
        let saved = putting.save(request("work", &tree, &exclude), &NoMonitor).unwrap();
        // Its index segment is lost: the packs cannot be looked into, and serve again when a full key has indexed them.
        for key in keys(backend.as_ref(), "index") {
            backend.delete(&key).unwrap();
        }
        let again = open_by(&backend, "nightly").unwrap().save(request("again", &tree, &exclude), &NoMonitor).unwrap();
        assert_equal(&tree, build_new(&open_sealed(&backend), &again.id).path());
        assert_equal(&tree, build_new(&open_sealed(&backend), &saved.id).path());
        let owner = open_sealed(&backend);
        if round > 0 {
            let old: Vec<EntryId> = owner.entry_ids().unwrap().into_iter().filter(|id| *id != saved.id && *id != again.id).collect();
            owner.forget(&old, true, &NoMonitor).unwrap();
        }
        owner.collect(CollectOptions::default(), &NoMonitor).unwrap();
        assert_sound(&backend);
    }
}

fn send(from: &Repository, to: &Repository, entry: EntryId) -> vml_core::Result<()> {
    let (source, sink) = (OpenRemote::new(from, "eva", true, 5), OpenRemote::new(to, "eva", true, 5));
    let entries = [entry];
    let request = TransferRequest { entries: &entries, history: true, marks: true };
    let plan = plan_transfer(&source, &sink, &request)?;
    transfer(&source, &sink, &plan, &request, &NoMonitor).map(drop)
}

#[test]
fn entries_cross_between_equal_keys_and_no_others() {
    let dir = temp();
    let tree = subdir(&dir, "tree");
    write_tree(&tree, 1);
    let (backend, plain, other, twin) = (memory(), memory(), memory(), memory());
    let source = init_sealed(&backend);
    let saved = save(&source, "work", &tree);
    source.add_note(&Note { entry: saved.id, time_ms: 1, author: "eva".to_owned(), text: "good".to_owned() }).unwrap();
    let in_plain = init(&plain);
    let plainly = save(&in_plain, "plain", &tree);
    for (from, to, entry) in [(&source, &in_plain, saved.id), (&in_plain, &source, plainly.id), (&source, &init_sealed(&other), saved.id)] {
        let error = send(from, to, entry).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::InvalidInput);
        assert!(error.to_string().contains("an encrypted repository"), "{error}");
    }
    let config = Config { created_ms: 7, ..Config::new([8; 16], 7) };
    let copy = Repository::init_like(&twin, config.clone(), OPTIONS, &source).unwrap();
    send(&source, &copy, saved.id).unwrap();
    let opened = open_by(&twin, PASSPHRASE).unwrap();
    assert_equal(&tree, build_new(&opened, &saved.id).path());
    assert!(opened.notes_of(&saved.id).unwrap().iter().any(|note| note.text == "good"));
    assert_eq!(problems_of_check(&opened, true), [""; 0]);
    send(&open_by(&twin, PASSPHRASE).unwrap(), &source, saved.id).unwrap();
    assert_eq!(Repository::init_like(&memory(), config, OPTIONS, &in_plain).map(drop).unwrap_err().kind(), ErrorKind::InvalidInput);
}

#[test]
fn plain_share_files_are_neither_written_nor_taken() {
    let dir = temp();
    let tree = subdir(&dir, "tree");
    write_tree(&tree, 1);
    let (backend, plain) = (memory(), memory());
    let repository = init_sealed(&backend);
    let ids = [save(&repository, "work", &tree).id];
    let asked = |entries| ShareRequest {
        entries,
        since: &[],
        full: true,
        level: 3,
        solid: false,
        threads: 1,
        author: "eva",
        time_ms: 1,
        signer: None,
    };
    let error = share(&repository, &asked(&ids), &mut Vec::new(), &NoMonitor).map(drop).unwrap_err();
    assert!(error.kind() == ErrorKind::InvalidInput && error.to_string().contains("an encrypted repository"), "{error}");
    let in_plain = init(&plain);
    let ids = [save(&in_plain, "work", &tree).id];
    let mut file = Vec::new();
    share(&in_plain, &asked(&ids), &mut file, &NoMonitor).unwrap();
    let options = ReceiveOptions { trusted: &|_| None, require_signed: false, time_ms: 1 };
    let error = receive(&repository, &mut &file[..], &options, &NoMonitor).map(drop).unwrap_err();
    assert!(error.kind() == ErrorKind::InvalidInput && error.to_string().contains("an encrypted repository"), "{error}");
}

#[test]
fn rotation_between_saves_changes_nothing_for_who_has_a_key() {
    let dir = temp();
    let tree = subdir(&dir, "tree");
    let backend = memory();
    let owner = init_sealed(&backend);
    owner.access().unwrap().add_key(&cheap_key("gone", "gone", Rights::Full)).unwrap();
    let gone = open_by(&backend, "gone").unwrap();
    let mut all = Vec::new();
    for round in 0..4 {
        write_tree(&tree, round / 2);
        std::fs::write(tree.join("round"), format!("round {round}")).unwrap();
        all.push(save(&open_sealed(&backend), "work", &tree).id);
        owner.access().unwrap().rotate_keys().unwrap();
    }
    owner.access().unwrap().remove_key("gone").unwrap();
    let last = save(&open_sealed(&backend), "work", &tree).id;
    for id in &all {
        build_new(&open_sealed(&backend), id);
    }
    assert_eq!(gone.entry(&last).map(drop).unwrap_err().kind(), ErrorKind::WrongKey);
    assert_eq!(open_by(&backend, "gone").map(drop).unwrap_err().kind(), ErrorKind::WrongKey);
    owner.forget(&all, true, &NoMonitor).unwrap();
    open_sealed(&backend).collect(CollectOptions::default(), &NoMonitor).unwrap();
    assert_sound(&backend);
    assert_equal(&tree, build_new(&open_sealed(&backend), &last).path());
}

/// The inner file: sealed bytes are damaged, not what is in them.
fn damage_sealed(backend: &dyn Backend, key: &str, at: usize, len: usize) {
    let mut bytes = read(backend, key);
    bytes[at..at + len].iter_mut().for_each(|byte| *byte ^= 0x55);
    crate::support::overwrite(backend, key, &bytes);
}

#[test]
fn a_sealed_pack_that_rotted_is_mended_by_its_parity_or_repaired() {
    let dir = temp();
    let tree = subdir(&dir, "tree");
    std::fs::write(tree.join("large"), noise::incompressible(3, 1_500_000)).unwrap();
    let_files_age();
    for parity in [true, false] {
        let backend = memory();
        let repository = init_sealed(&backend);
        if parity {
            repository.set_policy(&Policy { parity_percent: 20, ..Policy::default() }).unwrap();
        }
        let saved = save(&open_sealed(&backend), "work", &tree);
        let pack = keys(backend.as_ref(), "data").remove(0);
        // A bit costs the block of 64 KiB that it is in.
        damage_sealed(backend.as_ref(), &pack, 700_000, 1);
        if parity {
            assert_equal(&tree, build_new(&open_sealed(&backend), &saved.id).path());
        } else {
            assert_ne!(problems_of_check(&open_sealed(&backend), true), [""; 0]);
        }
        let repository = open_sealed(&backend);
        let plan = repository.plan_repair(RepairOptions { data: true }, &NoMonitor).unwrap();
        assert!(!plan.is_empty());
        repository.repair(&plan, &[], 100, &NoMonitor).unwrap();
        if !parity {
            // What was in that block is lost until it is saved again; nothing else is.
            assert_ne!(problems_of_check(&open_sealed(&backend), true), [""; 0]);
            save(&open_sealed(&backend), "again", &tree);
        }
        assert_sound(&backend);
        assert_equal(&tree, build_new(&open_sealed(&backend), &saved.id).path());
    }
}
