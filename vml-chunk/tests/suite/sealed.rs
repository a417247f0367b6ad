//! Encryption at rest: what is sealed, what opens it, and that nothing else does.

use crate::support::{chunks, flip, keys, options, read, save};
use proptest::prelude::*;
use std::sync::Arc;
use vml_chunk::gc::{Collector, Marks, PlanOptions, plan};
use vml_chunk::index::Source;
use vml_chunk::seal::{
    BLOCK_LEN, HEADER_LEN, INDEX_BLOCK_LEN, Rights, SLOTS_KEY, SealedBackend, Unlock, block_len, key_file_text, plain_len, scrub,
    sealed_len,
};
use vml_chunk::{Backend, ChunkStore, ErrorKind, LocalBackend, MemoryBackend, PackKind, PutOutcome, StoreOptions};
use vml_testkit::crash::{Disk, Handle, Objects};
use vml_testkit::faulty::copy_files;
use vml_testkit::files::overwrite;
use vml_testkit::sealed::{CONFIG, PASSPHRASE, cheap_key, open, seal, steady_random, unlock};
use vml_testkit::{backend_suite, noise};

fn memory() -> Arc<dyn Backend> {
    Arc::new(MemoryBackend::new())
}

fn in_memory() -> (Arc<dyn Backend>, SealedBackend) {
    let inner = memory();
    (Arc::clone(&inner), seal(inner).unwrap())
}

#[test]
fn the_sealed_backend_conforms_over_every_other() {
    // Making the keyring leaves a lock that the suite does not expect.
    let tidy = |inner: Arc<dyn Backend>| -> Arc<dyn Backend> {
        let sealed = seal(Arc::clone(&inner)).unwrap();
        inner.delete("tmp/swap.lock").unwrap();
        Arc::new(sealed)
    };
    backend_suite::run(&|| tidy(memory()));
    let dir = tempfile::tempdir().unwrap();
    let count = std::cell::Cell::new(0);
    for named in [false, true] {
        backend_suite::run(&|| {
            count.set(count.get() + 1);
            let local = LocalBackend::create(dir.path().join(count.get().to_string())).unwrap();
            tidy(Arc::new(if named { local.with_named_staging() } else { local }))
        });
    }
    let on_disk = |handle: Handle| Arc::new(LocalBackend::create_on(handle, "r").unwrap());
    backend_suite::run(&|| tidy(on_disk(Handle::nervous(&Disk::default()))));
    backend_suite::run(&|| tidy(Arc::new(Objects::default())));
}

fn staged(backend: &dyn Backend, key: &str, bytes: &[u8], step: usize) {
    let mut staged = backend.stage_in(key.split('/').next().unwrap()).unwrap();
    bytes.chunks(step.max(1)).for_each(|part| staged.append(part).unwrap());
    assert_eq!(staged.publish(key).unwrap(), PutOutcome::Stored);
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(60))]
    #[test]
    fn any_part_of_any_file_is_what_was_written(
        len in prop_oneof![0..200_usize, (BLOCK_LEN - 3)..(BLOCK_LEN + 3), (INDEX_BLOCK_LEN - 3)..(INDEX_BLOCK_LEN + 3), 0..(4 * BLOCK_LEN)],
        step in prop_oneof![1000..3000_usize, Just(BLOCK_LEN), 1..(5 * BLOCK_LEN)],
        reads in prop::collection::vec((0.0..1.0_f64, 0.0..1.0_f64), 8),
    ) {
        let (inner, sealed) = in_memory();
        let bytes = noise::incompressible(len as u64, len);
        staged(&sealed, "data/staged", &bytes, step);
        sealed.put("entries/put", &bytes).unwrap();
        staged(&sealed, "index/staged", &bytes, step);
        sealed.put("index/put", &bytes).unwrap();
        for key in ["data/staged", "entries/put", "index/staged", "index/put"] {
            prop_assert_eq!(sealed.len(key).unwrap(), len as u64);
            prop_assert_eq!(inner.len(key).unwrap(), sealed_len(key, len as u64));
            prop_assert_eq!(plain_len(key, inner.len(key).unwrap()), Some(len as u64));
            prop_assert!(sealed.map(key).unwrap().as_ref() == bytes);
            prop_assert!(sealed.read(key, len as u64).unwrap() == bytes);
            scrub(inner.as_ref(), key).unwrap();
            for (from, to) in &reads {
                let (from, to) = ((from * len as f64) as usize, (to * len as f64) as usize);
                let (from, to) = (from.min(to), from.max(to));
                let mut part = vec![0; to - from];
                sealed.read_at(key, from as u64, &mut part).unwrap();
                prop_assert!(part == bytes[from..to], "{} to {}", from, to);
                let paged = sealed.paged(key).unwrap();
                prop_assert_eq!(Source::len(&paged), len);
                prop_assert!(paged.with(from, to - from, |part| part == &bytes[from..to]) == Some(true), "{} to {}, paged", from, to);
                prop_assert!(paged.with(from, len - from + 1, |_| ()).is_none());
            }
        }
    }
}

/// Every way to read a file: right bytes, or `Corrupt`; tells whether all were wrong.
fn is_refused(backend: &dyn Backend, key: &str, bytes: &[u8], what: &str) -> bool {
    let mut refused = 0;
    let mut check = |result: vml_chunk::Result<Vec<u8>>, expected: &[u8]| match result {
        Ok(read) => assert!(read == expected, "{what}: wrong bytes"),
        Err(error) => {
            assert_eq!(error.kind(), ErrorKind::Corrupt, "{what}: {error:?}");
            assert!(error.to_string().contains(key) || format!("{error:?}").contains(key), "{what}: {error:?}");
            refused += 1;
        }
    };
    check(backend.map(key).map(|mapped| mapped.as_ref().to_vec()), bytes);
    check(backend.read(key, 1 << 30), bytes);
    let mut buf = vec![0; bytes.len()];
    check(backend.read_at(key, 0, &mut buf).map(|()| buf), bytes);
    refused == 3
}

#[test]
fn a_sealed_file_that_was_touched_does_not_open() {
    let (inner, sealed) = in_memory();
    let all = noise::text(5, 3 * BLOCK_LEN + 100);
    let of = |key: &str| &all[..3 * block_len(key) + 100];
    sealed.put("index/put", of("index/put")).unwrap();
    staged(&sealed, "data/staged", of("data/staged"), 100_000);
    for key in ["index/put", "data/staged"] {
        let bytes = of(key);
        let original = read(inner.as_ref(), key);
        let body = HEADER_LEN..original.len() - 32;
        let spread = |range: std::ops::Range<usize>, step: usize| range.step_by(step).collect::<Vec<_>>();
        // Each bit of header, first and last bytes; some of each block.
        let mut at: Vec<usize> = spread(0..HEADER_LEN + 40, 1);
        at.extend(spread(body.clone(), 1499));
        at.extend(spread(body.end - 40..original.len(), 1));
        let spoil = |spoilt: &[u8], what: &str| {
            overwrite(inner.as_ref(), key, spoilt);
            // One that has it open and one that comes anew.
            for backend in [&sealed, &open(Arc::clone(&inner)).unwrap()] {
                let refused = is_refused(backend, key, bytes, what);
                assert!(refused || scrub(inner.as_ref(), key).is_err(), "{what}: unnoticed");
            }
        };
        for at in at {
            for bit in [0, 7] {
                let mut spoilt = original.clone();
                spoilt[at] ^= 1 << bit;
                spoil(&spoilt, &format!("{key}: bit {bit} of byte {at}"));
            }
        }
        let block = block_len(key) + 16;
        for len in [0, 17, 87, 88, 119, 120, 135, 136, 200, HEADER_LEN + block, HEADER_LEN + block + 32, original.len() - 1] {
            spoil(&original[..len], &format!("{key}: cut at {len}"));
        }
        let (head, tail) = (&original[..HEADER_LEN], &original[original.len() - 32..]);
        let blocks: Vec<&[u8]> = original[body].chunks(block).collect();
        let orders: [&[usize]; 8] =
            [&[0, 1, 2], &[1, 0, 2, 3], &[0, 2, 1, 3], &[0, 1, 2, 2, 3], &[1, 2, 3], &[0, 1, 3], &[3], &[0, 1, 2, 3, 3]];
        for order in orders {
            let body: Vec<u8> = order.iter().flat_map(|at| blocks[*at]).copied().collect();
            let mut spoilt = [head, &body].concat();
            // With the digest that anybody can make.
            let digest = *blake3::hash(&spoilt).as_bytes();
            spoilt.extend_from_slice(&digest);
            overwrite(inner.as_ref(), key, &spoilt);
            let fresh = open(Arc::clone(&inner)).unwrap();
            assert!(is_refused(&fresh, key, bytes, &format!("{key}: blocks {order:?}")), "{key}: blocks {order:?}");
        }
        spoil(&[&original[..], &[0]].concat(), &format!("{key}: a byte more"));
        spoil(&[&original[..], tail].concat(), &format!("{key}: another end"));
        overwrite(inner.as_ref(), key, &original);
        assert!(!is_refused(&sealed, key, bytes, "mended"));
    }
}

#[test]
fn a_file_in_anothers_place_does_not_open() {
    let (inner, sealed) = in_memory();
    let keys = ["refs/areas/one", "refs/areas/two", "refs/tags/one", "entries/a", "entries/b", "notes/a", "index/a", "saving/a", "policy"];
    for (number, key) in keys.iter().enumerate() {
        sealed.swap(key, None, Some(format!("content {number}").as_bytes())).unwrap();
    }
    let stored = |key: &str| {
        let (dir, name) = key.rsplit_once('/').unwrap_or(("", key));
        if !key.starts_with("refs/") {
            return key.to_owned();
        }
        // The only one that is not shown under another name.
        let at = sealed.list(dir).unwrap().iter().position(|listed| listed.name == name).unwrap();
        format!("{dir}/{}", inner.list(dir).unwrap()[at].name)
    };
    for (number, key) in keys.iter().enumerate() {
        for other in keys.iter().filter(|other| *other != key) {
            let original = read(inner.as_ref(), &stored(key));
            overwrite(inner.as_ref(), &stored(key), &read(inner.as_ref(), &stored(other)));
            let what = format!("{other} in the place of {key}");
            assert!(is_refused(&sealed, key, format!("content {number}").as_bytes(), &what), "{what}");
            assert!(sealed.swap(key, Some(b"content 0"), Some(b"x")).is_err(), "{what}");
            overwrite(inner.as_ref(), &stored(key), &original);
        }
    }
    // What is in the clear is not taken, whatever it says.
    overwrite(inner.as_ref(), &stored("refs/areas/one"), b"content 0");
    assert!(is_refused(&sealed, "refs/areas/one", b"content 0", "in the clear"));
    // A name that nobody with a key gave is shown as none that a ref can have.
    inner.put("refs/tags/chosen", b"x").unwrap();
    assert!(sealed.list("refs/tags").unwrap().iter().any(|listed| listed.name == "~chosen"));
}

fn sealed_store(backend: &SealedBackend) -> StoreOptions {
    StoreOptions { ids: backend.secrets().ids(), ..options() }
}

#[test]
fn a_store_names_chunks_by_the_key_and_gives_them_back() {
    let (inner, sealed) = in_memory();
    let all = chunks(1, 60);
    let options = sealed_store(&sealed);
    let ids = options.ids.clone();
    let backend: Arc<dyn Backend> = Arc::new(sealed);
    let (store, _) = ChunkStore::open(Arc::clone(&backend), options.clone()).unwrap();
    let first = save(&store, PackKind::Data, &all[..40]).unwrap();
    assert_eq!(first.new_chunks, 40);
    save(&store, PackKind::Meta, &all[40..]).unwrap();
    // Another process finds them, and stores none again.
    let (other, _) = ChunkStore::open(Arc::new(open(Arc::clone(&inner)).unwrap()), options.clone()).unwrap();
    assert_eq!(save(&other, PackKind::Data, &all).unwrap().new_chunks, 0);
    for chunk in &all {
        assert!(other.get(&ids.id(chunk)).unwrap()[..] == chunk[..]);
        assert!(!other.contains(&vml_chunk::ChunkId::of(chunk)), "an id that everybody could compute");
    }
    // The index is made again from the packs.
    for key in keys(inner.as_ref(), "index") {
        inner.delete(&key).unwrap();
    }
    let (again, report) = ChunkStore::open(Arc::new(open(Arc::clone(&inner)).unwrap()), options).unwrap();
    assert_eq!(report.indexed_packs, 2);
    assert!(all.iter().all(|chunk| again.get(&ids.id(chunk)).is_ok_and(|bytes| bytes[..] == chunk[..])));
}

#[test]
fn a_damaged_block_of_the_index_hides_its_chunks_until_it_is_looked_at_again() {
    let (inner, sealed) = in_memory();
    let all: Vec<Vec<u8>> = (0..1500_u64).map(|number| number.to_le_bytes().repeat(4)).collect();
    let options = sealed_store(&sealed);
    let ids = options.ids.clone();
    save(&ChunkStore::open(Arc::new(sealed), options.clone()).unwrap().0, PackKind::Data, &all).unwrap();
    let key = keys(inner.as_ref(), "index").pop().unwrap();
    let block = INDEX_BLOCK_LEN + 16;
    let blocks = (read(inner.as_ref(), &key).len() - HEADER_LEN - 32).div_ceil(block);
    assert!(blocks > 15);
    for number in (1..blocks).step_by(4) {
        let copy = memory();
        copy_files(inner.as_ref(), copy.as_ref(), &["config", "keys", "data", "index"]);
        let backend: Arc<dyn Backend> = Arc::new(open(Arc::clone(&copy)).unwrap());
        // It opens: nothing was read but its head.
        flip(copy.as_ref(), &key, (HEADER_LEN + number * block + 10) * 8);
        let (store, report) = ChunkStore::open(Arc::clone(&backend), options.clone()).unwrap();
        assert!(report.bad_segments.is_empty());
        let hidden = all.iter().filter(|chunk| !store.contains(&ids.id(chunk))).count();
        // Of 97 records those in two blocks, and those whose search begins in one.
        assert!((1..200).contains(&hidden), "block {number}: {hidden}");
        // A collection to which all is needed takes nothing away.
        let mut collector = Collector::begin(&store).unwrap();
        let mut marks = Marks::new(Arc::clone(collector.view()));
        assert!(all.iter().all(|chunk| marks.mark(&ids.id(chunk))), "block {number}");
        collector.quarantine(&plan(collector.measure(&marks), PlanOptions::default())).unwrap();
        assert_eq!(collector.sweep(&marks, &mut |_| {}).unwrap().deleted_packs_count, 0);
        // So does whoever misses a chunk.
        flip(copy.as_ref(), keys(copy.as_ref(), "index").last().unwrap(), (HEADER_LEN + number * block + 10) * 8);
        let (store, _) = ChunkStore::open(backend, options.clone()).unwrap();
        assert!(all.iter().all(|chunk| store.get(&ids.id(chunk)).is_ok_and(|bytes| bytes[..] == chunk[..])), "block {number}");
    }
}

#[test]
fn packs_in_each_others_places_give_no_wrong_bytes() {
    let (inner, sealed) = in_memory();
    let all = chunks(2, 60);
    let options = sealed_store(&sealed);
    let ids = options.ids.clone();
    let (store, _) = ChunkStore::open(Arc::new(sealed), options.clone()).unwrap();
    save(&store, PackKind::Data, &all[..30]).unwrap();
    save(&store, PackKind::Data, &all[30..]).unwrap();
    let packs = keys(inner.as_ref(), "data");
    let [one, two] = &packs[..] else { panic!("two packs") };
    let (first, second) = (read(inner.as_ref(), one), read(inner.as_ref(), two));
    overwrite(inner.as_ref(), one, &second);
    overwrite(inner.as_ref(), two, &first);
    let (store, _) = ChunkStore::open(Arc::new(open(Arc::clone(&inner)).unwrap()), options).unwrap();
    for chunk in &all {
        match store.get(&ids.id(chunk)) {
            Ok(bytes) => assert!(bytes[..] == chunk[..]),
            Err(error) => assert!(matches!(error.kind(), ErrorKind::Corrupt | ErrorKind::NotFound), "{error:?}"),
        }
    }
}

#[test]
fn a_repository_opens_with_its_keys_and_with_nothing_else() {
    let (inner, sealed) = in_memory();
    sealed.put("entries/x", b"what was said").unwrap();
    let text = key_file_text("host7").unwrap();
    let file = Unlock::key_file(text.as_bytes()).unwrap();
    let mut key = cheap_key("unused", "host7", Rights::Full);
    key.unlock = file.clone();
    sealed.add_key(&key).unwrap();
    sealed.add_key(&cheap_key("another passphrase", "laptop", Rights::Full)).unwrap();
    let open_by = |unlock: Option<&Unlock>| SealedBackend::open(Arc::clone(&inner), CONFIG, unlock);
    for good in [unlock(), file, Unlock::passphrase("another passphrase").unwrap()] {
        assert_eq!(open_by(Some(&good)).unwrap().read("entries/x", 100).unwrap(), b"what was said");
    }
    let none = open_by(None).unwrap_err();
    assert_eq!(none.kind(), ErrorKind::NeedsKey);
    for label in ["first", "host7", "laptop"] {
        assert!(none.to_string().contains(label), "{none}");
    }
    let other_file = Unlock::key_file(key_file_text("x").unwrap().as_bytes()).unwrap();
    for bad in [Unlock::passphrase("correct horse battery stapl").unwrap(), Unlock::passphrase("Another passphrase").unwrap(), other_file] {
        let error = open_by(Some(&bad)).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::WrongKey, "{error}");
    }
    for bad in ["", "vml-key-1", "hello", &text.replace("vml-key-1", "vml-key-2")] {
        assert_eq!(Unlock::key_file(bad.as_bytes()).unwrap_err().kind(), ErrorKind::InvalidInput);
    }
    // A digit that was read wrongly.
    let at = text.rfind("vml-key-1").unwrap() + 12;
    let mut typo = text.to_string();
    typo.replace_range(at..=at, if &text[at..=at] == "0" { "1" } else { "0" });
    assert_eq!(Unlock::key_file(typo.as_bytes()).unwrap_err().kind(), ErrorKind::InvalidInput);
    assert!(Unlock::passphrase("").is_err());
    // Names and openers are of one key each.
    for (passphrase, label) in [("new", "laptop"), ("another passphrase", "new"), (PASSPHRASE, "new")] {
        let error = sealed.add_key(&cheap_key(passphrase, label, Rights::Full)).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::AlreadyExists, "{error}");
    }
    for label in ["", " ", "a\nb", &"x".repeat(101)] {
        assert_eq!(sealed.add_key(&cheap_key("new", label, Rights::Full)).unwrap_err().kind(), ErrorKind::InvalidInput);
    }
}

#[test]
fn a_key_that_can_save_but_not_read_does_just_that() {
    let (inner, sealed) = in_memory();
    sealed.put("entries/old", b"the past").unwrap();
    staged(&sealed, "data/old", b"old data", 8);
    sealed.add_key(&cheap_key("nightly", "host7", Rights::PutOnly)).unwrap();
    let unlock = Unlock::passphrase("nightly").unwrap();
    let putting = SealedBackend::open(Arc::clone(&inner), CONFIG, Some(&unlock)).unwrap();
    assert_eq!(putting.secrets().rights(), Rights::PutOnly);
    let cannot = |result: vml_chunk::Result<()>| {
        let error = result.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::NeedsKey, "{error:?}");
        assert!(error.to_string().contains("can save but not read"), "{error}");
    };
    cannot(putting.read("entries/old", 100).map(drop));
    cannot(putting.read_at("data/old", 0, &mut [0; 3]));
    cannot(putting.map("data/old").map(drop));
    assert_eq!(putting.len("data/old").unwrap(), 8, "what it must know to commit");
    putting.swap("refs/areas/web", None, Some(b"points")).unwrap();
    putting.put("entries/new", b"the present").unwrap();
    staged(&putting, "data/new", b"new data", 3);
    assert_eq!(putting.read("entries/new", 100).unwrap(), b"the present", "its own, in the process that wrote it");
    let later = SealedBackend::open(Arc::clone(&inner), CONFIG, Some(&unlock)).unwrap();
    cannot(later.read("entries/new", 100).map(drop));
    assert_eq!(later.read("refs/areas/web", 100).unwrap(), b"points");
    for full in [&sealed, &open(Arc::clone(&inner)).unwrap()] {
        assert_eq!(full.read("entries/new", 100).unwrap(), b"the present");
        assert_eq!(full.map("data/new").unwrap().as_ref(), b"new data");
        assert_eq!(full.read("refs/areas/web", 100).unwrap(), b"points");
    }
    cannot(later.add_key(&cheap_key("more", "more", Rights::Full)).map(drop));
    cannot(later.remove_key("first").map(drop));
    cannot(later.rotate_keys().map(drop));
}

#[test]
fn a_put_only_session_finds_what_is_stored_and_stores_the_rest() {
    let (inner, sealed) = in_memory();
    sealed.add_key(&cheap_key("nightly", "host7", Rights::PutOnly)).unwrap();
    let all = chunks(3, 80);
    let options = sealed_store(&sealed);
    let ids = options.ids.clone();
    let (store, _) = ChunkStore::open(Arc::new(sealed), options.clone()).unwrap();
    save(&store, PackKind::Data, &all[..40]).unwrap();
    let unlock = Unlock::passphrase("nightly").unwrap();
    let putting = |options: StoreOptions| {
        ChunkStore::open(Arc::new(SealedBackend::open(Arc::clone(&inner), CONFIG, Some(&unlock)).unwrap()), options).unwrap()
    };
    let (put_store, _) = putting(options.clone());
    let stats = save(&put_store, PackKind::Data, &all).unwrap();
    assert_eq!(stats.new_chunks, 40);
    assert_eq!(put_store.get(&ids.id(&all[0])).map(drop).unwrap_err().kind(), ErrorKind::NeedsKey);
    // Killed before it wrote its index: the next one stores the same pack again, under the same name.
    let last = keys(inner.as_ref(), "data");
    for key in keys(inner.as_ref(), "index") {
        inner.delete(&key).unwrap();
    }
    let (put_store, report) = putting(options.clone());
    assert!(report.unreadable_packs.is_empty() && report.missing_packs.is_empty(), "{report:?}");
    assert_eq!(save(&put_store, PackKind::Data, &all[..40]).unwrap().new_chunks, 40);
    assert_eq!(keys(inner.as_ref(), "data"), last);
    let (full, _) = ChunkStore::open(Arc::new(open(Arc::clone(&inner)).unwrap()), options).unwrap();
    assert!(all.iter().all(|chunk| full.get(&ids.id(chunk)).is_ok_and(|bytes| bytes[..] == chunk[..])));
}

#[test]
fn rotation_shuts_out_who_was_taken_away_and_nobody_else() {
    let (inner, sealed) = in_memory();
    let keys = [("kept", Rights::Full), ("gone", Rights::Full), ("host7", Rights::PutOnly), ("host8", Rights::PutOnly)];
    for (label, rights) in keys {
        sealed.add_key(&cheap_key(label, label, rights)).unwrap();
    }
    let by = |label: &str| SealedBackend::open(Arc::clone(&inner), CONFIG, Some(&Unlock::passphrase(label).unwrap()));
    sealed.put("entries/1", b"before").unwrap();
    let sessions = ["kept", "gone", "host7", "host8"].map(|label| by(label).unwrap());
    assert_eq!(sealed.rotate_keys().unwrap(), 2);
    assert_eq!(sealed.remove_key("gone").unwrap().label, "gone");
    let id = sealed.keys().unwrap().iter().find(|slot| slot.label == "host8").unwrap().id();
    assert_eq!(sealed.remove_key(&id[..6]).unwrap().label, "host8");
    assert_eq!(sealed.secrets().epochs_count(), 4);
    sealed.put("entries/2", b"after").unwrap();
    sealed.swap("refs/areas/web", None, Some(b"after")).unwrap();
    // Who had it open goes on, if he still has a key.
    let [kept, gone, putting, put_gone] = sessions;
    assert_eq!(kept.read("entries/2", 100).unwrap(), b"after");
    assert_eq!(putting.read("refs/areas/web", 100).unwrap(), b"after");
    for shut in [&gone, &put_gone] {
        let error = shut.read("refs/areas/web", 100).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::WrongKey, "{error:?}");
    }
    assert_eq!(gone.read("entries/1", 100).unwrap(), b"before", "what it could have copied");
    assert_eq!(gone.read("entries/2", 100).unwrap_err().kind(), ErrorKind::WrongKey);
    assert_eq!(by("gone").unwrap_err().kind(), ErrorKind::WrongKey);
    for label in ["kept", PASSPHRASE] {
        let full = by(label).unwrap();
        assert_eq!((full.read("entries/1", 9).unwrap(), full.read("entries/2", 9).unwrap()), (b"before".to_vec(), b"after".to_vec()));
    }
    // What the put-only key wrote before it knew of the rotation is read, too.
    by("host7").unwrap().put("entries/3", b"put").unwrap();
    assert_eq!(by("kept").unwrap().read("entries/3", 9).unwrap(), b"put");
    assert_eq!(sealed.remove_key("nobody").unwrap_err().kind(), ErrorKind::NotFound);
    sealed.remove_key("kept").unwrap();
    assert_eq!(sealed.remove_key("first").unwrap_err().kind(), ErrorKind::InvalidInput, "the last one that can read");
}

#[test]
fn who_can_read_a_file_is_decided_when_it_is_begun() {
    let (inner, sealed) = in_memory();
    sealed.add_key(&cheap_key("nightly", "host7", Rights::PutOnly)).unwrap();
    let mut staged = sealed.stage_in("index").unwrap();
    staged.append(b"merged").unwrap();
    assert_eq!(staged.publish("data/x").unwrap_err().kind(), ErrorKind::InvalidInput);
    assert_eq!(staged.publish("index/x").unwrap(), PutOutcome::Stored);
    let mut staged = sealed.stage().unwrap();
    assert_eq!(staged.publish("index/y").unwrap_err().kind(), ErrorKind::InvalidInput);
    assert_eq!(staged.publish("data/y").unwrap(), PutOutcome::Stored);
    let putting = SealedBackend::open(Arc::clone(&inner), CONFIG, Some(&Unlock::passphrase("nightly").unwrap())).unwrap();
    assert_eq!(putting.map("index/x").unwrap().as_ref(), b"merged");
    assert_eq!(putting.map("data/y").map(drop).unwrap_err().kind(), ErrorKind::NeedsKey);
    // What was sealed for all is not taken for what full keys wrote.
    let shared = read(inner.as_ref(), "index/x");
    overwrite(inner.as_ref(), "data/y", &shared);
    assert!(is_refused(&open(inner).unwrap(), "data/y", b"merged", "a shared file in a protected place"));
}

#[test]
fn changes_of_keys_at_once_lose_none() {
    let (inner, sealed) = in_memory();
    std::thread::scope(|scope| {
        for number in 0..6 {
            let inner = Arc::clone(&inner);
            scope.spawn(move || {
                let own = open(inner).unwrap();
                own.add_key(&cheap_key(&format!("{number}"), &format!("key {number}"), Rights::Full)).unwrap();
            });
        }
    });
    assert_eq!(sealed.keys().unwrap().len(), 7);
    for number in 0..6 {
        SealedBackend::open(Arc::clone(&inner), CONFIG, Some(&Unlock::passphrase(format!("{number}")).unwrap())).unwrap();
    }
}

#[test]
fn a_keyring_that_was_touched_does_not_open() {
    use vml_chunk::codec::{ENVELOPE_LEN, RECORD_MAGIC};
    let (inner, sealed) = in_memory();
    sealed.add_key(&cheap_key("two", "second", Rights::PutOnly)).unwrap();
    let original = read(inner.as_ref(), SLOTS_KEY);
    // With the checksum that anybody can make.
    let resum = |bytes: &mut Vec<u8>| {
        assert_eq!(bytes[..4], RECORD_MAGIC);
        let sum = blake3::hash(&[&bytes[..12], &bytes[ENVELOPE_LEN..]].concat());
        bytes[12..28].copy_from_slice(&sum.as_bytes()[..16]);
    };
    let mut by_kind = std::collections::BTreeMap::new();
    for bit in 0..(original.len() - ENVELOPE_LEN) * 8 {
        let mut touched = original.clone();
        touched[ENVELOPE_LEN + bit / 8] ^= 1 << (bit % 8);
        resum(&mut touched);
        overwrite(inner.as_ref(), SLOTS_KEY, &touched);
        let mut opened = 0;
        for passphrase in [PASSPHRASE, "two"] {
            match SealedBackend::open(Arc::clone(&inner), CONFIG, Some(&Unlock::passphrase(passphrase).unwrap())) {
                // The box of the other one is nothing to it.
                Ok(_) => opened += 1,
                Err(error) => {
                    assert!(matches!(error.kind(), ErrorKind::Corrupt | ErrorKind::WrongKey), "bit {bit}: {error:?}");
                    *by_kind.entry(format!("{:?}", error.kind())).or_insert(0) += 1;
                }
            }
        }
        assert!(opened <= 1, "bit {bit} is noticed by nobody");
    }
    assert!(by_kind.len() == 2, "{by_kind:?}");
    overwrite(inner.as_ref(), SLOTS_KEY, &original);
    // A configuration that nobody with a key wrote.
    let error = SealedBackend::open(Arc::clone(&inner), [4; 32], Some(&unlock())).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Corrupt, "{error}");
    sealed.confirm_keys().unwrap();
    open(Arc::clone(&inner)).unwrap();
    // Somebody who makes another one here at the same moment: the first learns of it.
    let put_only = SealedBackend::create_with(Arc::clone(&inner), CONFIG, &cheap_key("x", "x", Rights::PutOnly), steady_random());
    assert_eq!(put_only.unwrap_err().kind(), ErrorKind::InvalidInput);
    SealedBackend::create_with(inner, CONFIG, &cheap_key("x", "x", Rights::Full), steady_random()).unwrap();
    assert_eq!(sealed.confirm_keys().unwrap_err().kind(), ErrorKind::Locked);
}

#[test]
fn a_scrub_needs_no_key_and_finds_every_flip() {
    let (inner, sealed) = in_memory();
    let bytes = noise::text(9, 5000);
    sealed.put("data/x", &bytes).unwrap();
    scrub(inner.as_ref(), "data/x").unwrap();
    let original = read(inner.as_ref(), "data/x");
    for at in 0..original.len() {
        let mut spoilt = original.clone();
        spoilt[at] ^= 0x10;
        overwrite(inner.as_ref(), "data/x", &spoilt);
        assert_eq!(scrub(inner.as_ref(), "data/x").unwrap_err().kind(), ErrorKind::Corrupt, "byte {at}");
    }
    assert_eq!(scrub(inner.as_ref(), "data/missing").unwrap_err().kind(), ErrorKind::NotFound);
    assert_eq!(scrub(inner.as_ref(), SLOTS_KEY).unwrap_err().kind(), ErrorKind::Corrupt);
}

#[test]
fn no_two_files_have_one_key_even_if_randomness_repeats() {
    let (inner, sealed) = in_memory();
    let salt = |key: &str| read(inner.as_ref(), key)[24..56].to_vec();
    let mut salts = Vec::new();
    for (number, content) in ["", "a", "b", "ab"].iter().enumerate() {
        for dir in ["entries", "notes", "index"] {
            let key = format!("{dir}/{number}");
            sealed.put(&key, content.as_bytes()).unwrap();
            salts.push(salt(&key));
        }
        let key = format!("data/{number}");
        staged(&sealed, &key, content.as_bytes(), 1);
        salts.push(salt(&key));
    }
    salts.sort_unstable();
    let count = salts.len();
    salts.dedup();
    assert_eq!(salts.len(), count);
}
