//! Transplants: between repositories that cut streams otherwise an entry becomes one that is the same for whoever reads it, and shares what it has with what is there.

use crate::support::{
    OPTIONS, able, assert_equal, assert_whole, build_new, config, copy_of, init, memory, open, request, save, subdir, temp,
};
use crate::volume::{Bytes, tool};
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};
use vml_chunk::{ChunkerParams, PackKind};
use vml_core::entry::{BaseRef, Cost, Entry, EntryKind, Fact, MachinePart, Note, Part, TreePart};
use vml_core::recipe::{Piece, Recipe, Root};
use vml_core::refs::RefKind;
use vml_core::remote::{OpenRemote, Placed, Remote as _, TransferRequest, plan_transfer, transfer};
use vml_core::repository::{CollectOptions, RECEIVED_AUTHOR, SaveDisk, SaveMemory, SaveRequest, TRANSPLANT_AUTHOR};
use vml_core::share::{PublicKey, ReceiveOptions, Received, SecretKey, ShareRequest, Signer as _, provenance, read_preface, share};
use vml_core::transplant::{Bringer, TransplantRequest, Transplanted, plan_transplant, receive_through, transplant, verify_equal};
use vml_core::tree::{Block, Content, Exclude, Node, NodeKind, Timestamp, TreeStats};
use vml_core::{Backend, Config, EntryId, ErrorKind, NoMonitor, Repository, Result};
use vml_testkit::faulty::{Effect, FaultyBackend, Repeat};
use vml_testkit::noise::{Rng, incompressible as noise};
use vml_testkit::trees::{change_tree, make_tree};

/// A chunker that agrees with the usual one nowhere.
const OTHER: ChunkerParams =
    ChunkerParams::FastCdc2020 { min_len: 1 << 10, avg_len: 4 << 10, max_len: 32 << 10, normalization: 2, seed: 77 };

/// A repository that cuts by `chunker`, with its backend.
fn cutting(chunker: ChunkerParams) -> (Arc<dyn Backend>, Repository) {
    let backend = memory();
    let config = Config { chunker, inline_max: 100, ..config() };
    let repository = Repository::init(Arc::clone(&backend), config, OPTIONS).unwrap();
    (backend, repository)
}

fn asking(entries: &[EntryId]) -> TransplantRequest<'_> {
    let what = TransferRequest { entries, history: true, marks: true };
    TransplantRequest { what, from: Bringer::Remote { name: "eva", trusted: true }, time_ms: 5, verify: true, lineage: &[] }
}

fn run(from: &Repository, to: &Repository, request: &TransplantRequest<'_>) -> Result<Transplanted> {
    transplant(&mut plan_transplant(from, to, &request.what, &NoMonitor)?, request, &NoMonitor)
}

fn carry(from: &Repository, to: &Repository, entries: &[EntryId]) -> Transplanted {
    run(from, to, &asking(entries)).unwrap()
}

#[track_caller]
fn assert_same(from: &Repository, a: &EntryId, to: &Repository, b: &EntryId) {
    let stores = (from.store(&NoMonitor).unwrap(), to.store(&NoMonitor).unwrap());
    verify_equal((stores.0, &from.entry(a).unwrap()), (stores.1, &to.entry(b).unwrap()), &NoMonitor).unwrap();
}

fn stored_len(backend: &Arc<dyn Backend>) -> u64 {
    ["data", "meta"].iter().flat_map(|dir| backend.list(dir).unwrap()).map(|file| file.len).sum()
}

fn write_tree(dir: &Path, seed: u64) {
    std::fs::create_dir_all(dir.join("lib/below")).unwrap();
    for number in 0..40_u64 {
        std::fs::write(dir.join(format!("lib/{number}")), noise(seed * 1000 + number, 20_000)).unwrap();
    }
    std::fs::write(dir.join("lib/below/small"), format!("small {seed}")).unwrap();
    std::fs::write(dir.join("lib/below/middle"), noise(seed, 300)).unwrap();
}

#[test]
fn frames_of_a_repository_that_cuts_otherwise_arrive_whole_and_share_nothing() {
    let dir = temp();
    let tree = subdir(&dir, "tree");
    write_tree(&tree, 1);
    let from = init(&memory());
    let id = save(&from, "work", &tree).id;
    let bring = |transplanted: bool| {
        let (backend, to) = cutting(OTHER);
        let own = save(&to, "own", &tree);
        let before = stored_len(&backend);
        let here = if transplanted {
            carry(&from, &to, &[id]).entries[0].arrived.id
        } else {
            let (source, sink) = (OpenRemote::new(&from, "eva", true, 5), OpenRemote::new(&to, "eva", true, 5));
            assert!(!source.info().unwrap().cuts_like(&sink.info().unwrap()));
            let asked = TransferRequest { entries: &[id], history: true, marks: true };
            transfer(&source, &sink, &plan_transfer(&source, &sink, &asked).unwrap(), &asked, &NoMonitor).unwrap();
            id
        };
        assert_equal(&tree, build_new(&to, &here).path());
        assert_whole(&backend);
        let same_root = to.entry(&here).unwrap().tree().unwrap().root == own.entry.tree().unwrap().root;
        (stored_len(&backend) - before, same_root)
    };
    // Why there are transplants: as frames everything is there twice.
    let (as_frames, same) = bring(false);
    assert!(as_frames > 800_000 && !same, "{as_frames}");
    let (carried, same) = bring(true);
    assert!(carried < 2_000 && same, "{carried}");
}

#[test]
fn a_tree_with_everything_in_it_is_the_same_and_is_what_a_save_there_would_be() {
    for seed in 0..6 {
        let dir = temp();
        let tree = subdir(&dir, "tree");
        let mut rng = Rng::new(seed);
        make_tree(&tree, &mut rng, 120, able());
        let from = init(&memory());
        let first = save(&from, "work", &tree).id;
        change_tree(&tree, &mut rng, 20, able());
        let second = save(&from, "work", &tree).id;
        for chunker in [OTHER, ChunkerParams::Fixed { len: 1000 }] {
            let (backend, to) = cutting(chunker);
            let done = carry(&from, &to, &[second]);
            let ids: Vec<EntryId> = done.entries.iter().map(|got| got.arrived.id).collect();
            assert_eq!(done.entries.iter().map(|got| got.from).collect::<Vec<_>>(), [first, second]);
            assert_eq!(to.entry(&ids[1]).unwrap().parents, [ids[0]]);
            assert_eq!(to.refs().get(RefKind::Area, "work").unwrap(), Some(ids[1]));
            assert_same(&from, &first, &to, &ids[0]);
            assert_equal(&tree, build_new(&to, &ids[1]).path());
            assert_whole(&backend);
            // An area there goes on without reading a file, and with the same root.
            let there = save(&to, "work", &tree);
            assert_eq!(there.entry.tree().unwrap().root, to.entry(&ids[1]).unwrap().tree().unwrap().root);
            assert_eq!(there.entry.parents, [ids[1]]);
        }
    }
}

/// A base, and entries upon it, with all that they can have.
struct Scene {
    _dir: tempfile::TempDir,
    tree: std::path::PathBuf,
    repository: Repository,
    backend: Arc<dyn Backend>,
    base: EntryId,
    entries: Vec<EntryId>,
}

fn scene() -> Scene {
    let dir = temp();
    let tree = subdir(&dir, "tree");
    write_tree(&tree, 1);
    let backend = memory();
    let repository = init(&backend);
    let exclude = Exclude::default();
    let kind = EntryKind::Base { name: "debian".to_owned(), version: "12".to_owned() };
    let base = repository.save(SaveRequest { kind, ..request("", &tree, &exclude) }, &NoMonitor).unwrap().id;
    let mut entries = Vec::new();
    for number in 0..3 {
        std::fs::write(tree.join("work"), noise(70 + number, 300_000)).unwrap();
        let on = Some(BaseRef { name: "debian".to_owned(), version: "12".to_owned(), entry: base });
        let facts = vec![Fact::new("host.name", "lab")];
        let tags = [format!("t{number}")];
        let machine = Some(MachinePart { name: "machine.toml".to_owned(), bytes: b"cpus = 2".to_vec() });
        let asked = SaveRequest { base: on, facts, machine, tags: &tags, message: "why", ..request("work", &tree, &exclude) };
        entries.push(repository.save(asked, &NoMonitor).unwrap().id);
    }
    Scene { _dir: dir, tree, repository, backend, base, entries }
}

#[test]
fn history_base_notes_and_tags_come_along_and_a_second_run_brings_nothing() {
    let scene = scene();
    let from = &scene.repository;
    from.add_note(&Note { entry: scene.entries[1], time_ms: 3, author: "eva".to_owned(), text: "see the log".to_owned() }).unwrap();
    let false_note = Note { entry: scene.entries[1], time_ms: 3, author: RECEIVED_AUTHOR.to_owned(), text: "x\ntrusted remote".to_owned() };
    from.add_note(&false_note).unwrap();
    let (backend, to) = cutting(OTHER);
    let done = run(from, &to, &TransplantRequest { from: Bringer::Remote { name: "eva", trusted: false }, ..asking(&[scene.entries[2]]) })
        .unwrap();
    let came: Vec<EntryId> = done.entries.iter().map(|got| got.from).collect();
    assert_eq!(came, [scene.base, scene.entries[0], scene.entries[1], scene.entries[2]]);
    let here: Vec<EntryId> = done.entries.iter().map(|got| got.arrived.id).collect();
    assert_eq!(done.entries[3].arrived.placed, Some(Placed::Made("work".to_owned())));
    let (old, new) = (from.entry(&scene.entries[1]).unwrap(), to.entry(&here[2]).unwrap());
    assert_eq!(
        (&old.author, old.time_ms, &old.message, &old.tags, &old.facts),
        (&new.author, new.time_ms, &new.message, &new.tags, &new.facts)
    );
    assert_eq!(
        (new.parents.as_slice(), new.base.as_ref().map(|base| base.entry), old.machine()),
        (&here[1..2], Some(here[0]), new.machine())
    );
    assert_eq!(to.refs().get(RefKind::Base, "debian@12").unwrap(), Some(here[0]));
    assert_eq!(to.refs().get(RefKind::Tag, "t1").unwrap(), Some(here[2]));
    let notes = to.notes_of(&here[2]).unwrap();
    let of = |author: &str| notes.iter().filter(|note| note.author == author).map(|note| note.text.clone()).collect::<Vec<_>>();
    assert_eq!((of("eva"), of(RECEIVED_AUTHOR)), (vec!["see the log".to_owned()], vec!["from eva, not signed".to_owned()]));
    assert!(of(TRANSPLANT_AUTHOR)[0].contains(&scene.entries[1].to_string()));
    assert!(!provenance(&to, &here[2]).unwrap().unwrap().trusted_remote);
    // What entries share is read once.
    assert!(done.stats.seen_bytes < 820_000 + 3 * 300_000 + 40_000, "{:?}", done.stats);
    assert_whole(&backend);
    let again = carry(from, &to, &[scene.entries[2]]);
    assert_eq!((again.entries.len(), again.present_count, again.notes_count, again.stats.seen_chunks), (0, 1, 0, 0));
    // Another process carries only what is new.
    std::fs::write(scene.tree.join("more"), noise(5, 50_000)).unwrap();
    let fourth = save(from, "work", &scene.tree).id;
    let more = carry(from, &open(&backend), &[fourth]);
    assert_eq!(more.entries[0].arrived.placed, Some(Placed::Advanced("work".to_owned())));
    assert!(more.stats.seen_bytes < 70_000, "{:?}", more.stats);
    // It stays when the source forgets, and what nobody else names goes with it.
    to.collect(CollectOptions::default(), &NoMonitor).unwrap();
    assert_whole(&backend);
    assert_equal(&scene.tree, build_new(&to, &more.entries[0].arrived.id).path());
}

#[test]
fn what_went_there_and_went_on_comes_back_to_where_it_was() {
    let scene = scene();
    let (_, to) = cutting(OTHER);
    let there = carry(&scene.repository, &to, &scene.entries[2..]).entries;
    std::fs::write(scene.tree.join("theirs"), noise(9, 60_000)).unwrap();
    let theirs = save(&to, "work", &scene.tree).id;
    for trusted in [false, true] {
        let home = open(&copy_of(scene.backend.as_ref()));
        let back = run(&to, &home, &TransplantRequest { from: Bringer::Remote { name: "lab", trusted }, ..asking(&[theirs]) }).unwrap();
        let [got] = back.entries.as_slice() else { panic!("{back:?}") };
        assert_eq!(got.entry.parents, [scene.entries[2]]);
        assert_eq!(got.arrived.placed, Some(Placed::Advanced("work".to_owned())));
        assert_equal(&scene.tree, build_new(&home, &got.arrived.id).path());
        // The word of a remote that is not one's own is no reason not to read.
        assert_eq!(back.stats.seen_bytes < 100_000, trusted, "{:?}", back.stats);
        let again = carry(&to, &home, &[theirs, there[3].arrived.id]);
        assert_eq!((again.entries.len(), again.present_count), (0, 2));
    }
}

#[test]
fn a_base_that_is_there_already_is_not_doubled() {
    let scene = scene();
    let (backend, to) = cutting(OTHER);
    std::fs::remove_file(scene.tree.join("work")).unwrap();
    // Somebody else's import: another entry, the same tree.
    let exclude = Exclude::default();
    let kind = EntryKind::Base { name: "debian".to_owned(), version: "12".to_owned() };
    let restored = build_new(&scene.repository, &scene.base);
    let own = to.save(SaveRequest { kind, author: "other", ..request("", restored.path(), &exclude) }, &NoMonitor).unwrap();
    let done = carry(&scene.repository, &to, &scene.entries[..1]);
    assert_eq!(done.entries.len(), 1, "{done:?}");
    assert_eq!(done.entries[0].entry.base.as_ref().unwrap().entry, own.id);
    assert_eq!(provenance(&to, &own.id).unwrap(), None);
    assert!(done.stats.new_bytes < 310_000, "{:?}", done.stats);
    assert_eq!(carry(&scene.repository, &to, &[scene.base]).present_count, 1);
    assert_whole(&backend);
}

#[test]
fn what_stays_behind_and_what_was_forgotten_leave_no_gap() {
    let scene = scene();
    let from = &scene.repository;
    from.forget(&scene.entries[1..2], true, &NoMonitor).unwrap();
    let (_, to) = cutting(OTHER);
    let done = carry(from, &to, &scene.entries[2..]);
    let here: Vec<EntryId> = done.entries.iter().map(|got| got.arrived.id).collect();
    assert_eq!((here.len(), to.entry(&here[2]).unwrap().parents), (3, vec![here[1]]));
    // Alone: what it continues stays behind, and its base comes along.
    let (backend, alone) = cutting(OTHER);
    let asked = asking(&scene.entries[2..]);
    let done = run(from, &alone, &TransplantRequest { what: TransferRequest { history: false, ..asked.what }, ..asked }).unwrap();
    let got: Vec<EntryId> = done.entries.iter().map(|got| got.from).collect();
    assert_eq!((got, done.entries[1].entry.parents.as_slice()), (vec![scene.base, scene.entries[2]], &[scene.entries[0]][..]));
    assert_whole(&backend);
}

/// An ext4 with files in it, and the same after a few changes.
fn disks(dir: &Path) -> [Vec<u8>; 2] {
    let (tree, image) = (dir.join("guest"), dir.join("image"));
    std::fs::create_dir_all(tree.join("below")).unwrap();
    for number in 0..30_u64 {
        std::fs::write(tree.join(format!("below/{number}")), noise(number, usize::try_from(number * 4000 + 1).unwrap())).unwrap();
    }
    tool("mke2fs", &["-q", "-t", "ext4", "-d", tree.to_str().unwrap(), image.to_str().unwrap(), "24M"]);
    let before = std::fs::read(image).unwrap();
    let mut after = before.clone();
    let within = &noise(20, 80_001)[40_000..40_064];
    let place = before.windows(64).position(|window| window == within).unwrap();
    after[place..place + 5000].copy_from_slice(&noise(900, 5000));
    [before, after]
}

#[test]
fn disks_and_memory_are_what_a_save_there_would_make_of_them() {
    let dir = temp();
    let images = disks(dir.path()).map(Bytes);
    let memories = [noise(5, 300_000), noise(6, 300_000)].map(|mut bytes| {
        bytes[40_960..200_000].fill(0);
        Bytes(bytes)
    });
    let exclude = Exclude::default();
    let save = |repository: &Repository, number: usize| {
        let disks = [SaveDisk { name: "vda", format: "raw", disk: &images[number], changed: None, shown: &[] }];
        let memory = Some(SaveMemory { format: "qemu-mapped-ram", file: &memories[number], facts: &[] });
        let asked = SaveRequest { tree: None, disks: &disks, memory, ..request("vm", dir.path(), &exclude) };
        repository.save(asked, &NoMonitor).unwrap()
    };
    let from = init(&memory());
    let (first, second) = (save(&from, 0).id, save(&from, 1).id);
    let (backend, to) = cutting(OTHER);
    let one = carry(&from, &to, &[first]);
    let two = carry(&from, &to, &[second]);
    assert!(two.stats.seen_bytes < 1_500_000, "only what changed: {:?}", two.stats);
    let (_, own) = cutting(OTHER);
    let there = save(&own, 0);
    let made = &one.entries[0].entry;
    let (disk, other) = (made.disks().next().unwrap(), there.entry.disks().next().unwrap());
    assert_eq!((&disk.recipe, disk.stats.data_bytes), (&other.recipe, other.stats.data_bytes));
    assert_eq!(made.memory().unwrap().recipe, there.entry.memory().unwrap().recipe);
    assert_same(&from, &second, &to, &two.entries[0].arrived.id);
    assert_whole(&backend);
}

#[test]
fn a_run_that_fails_at_any_operation_leaves_nothing_visible_and_the_next_one_ends_it() {
    let scene = scene();
    let trial = |at: Option<usize>| {
        let inner = memory();
        let faulty = FaultyBackend::new(Arc::clone(&inner));
        let config = Config { chunker: OTHER, ..config() };
        let to = Repository::init(Arc::new(faulty.clone()), config, OPTIONS).unwrap();
        faulty.reset();
        if let Some(at) = at {
            faulty.fail_at(at, ErrorKind::Io, Repeat::Forever, Effect::Nothing);
        }
        let done = run(&scene.repository, &to, &asking(&scene.entries[2..]));
        let count = faulty.count();
        drop(to);
        let to = open(&inner);
        if at.is_some() {
            assert!(done.is_err());
            // Whatever is there is whole, and refs point to nothing else.
            assert_whole(&inner);
            carry(&scene.repository, &to, &scene.entries[2..]);
        }
        assert_whole(&inner);
        let mut ids = to.entry_ids().unwrap();
        ids.sort_unstable();
        (count, ids, to.refs().get(RefKind::Area, "work").unwrap(), stored_len(&inner))
    };
    let (count, ids, head, len) = trial(None);
    assert_eq!(ids.len(), 4);
    for at in (0..count).step_by(count.div_ceil(14)) {
        let (_, after, head_after, len_after) = trial(Some(at));
        assert_eq!((&after, head_after), (&ids, head), "the same entries, whatever happened before, at {at}");
        assert!(len_after < len + len / 2, "{at}: {len_after}");
    }
}

#[test]
fn damage_at_the_source_is_told_and_never_carried() {
    let scene = scene();
    for pack in scene.backend.list("data").unwrap() {
        let backend = copy_of(scene.backend.as_ref());
        let key = format!("data/{}", pack.name);
        let mut bytes = vml_testkit::files::read(backend.as_ref(), &key);
        let middle = bytes.len() / 2;
        bytes[middle] ^= 1;
        vml_testkit::files::overwrite(backend.as_ref(), &key, &bytes);
        let (there, to) = cutting(OTHER);
        let error = run(&open(&backend), &to, &asking(&scene.entries[2..])).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Corrupt, "{error:?}");
        assert!(to.refs().get(RefKind::Area, "work").unwrap().is_none());
        assert_whole(&there);
    }
}

#[test]
fn directories_that_hold_each_other_twice_take_no_time() {
    let from_backend = memory();
    let from = init(&from_backend);
    let dir = temp();
    let tree = subdir(&dir, "tree");
    std::fs::write(tree.join("f"), noise(1, 50_000)).unwrap();
    let good = save(&from, "good", &tree);
    let store = from.store(&NoMonitor).unwrap();
    let writer = store.writer().unwrap();
    let mut meta = writer.chunks(PackKind::Meta).unwrap();
    let mut root = good.entry.tree().unwrap().root.clone();
    for _ in 0..60 {
        let twice = [b"a", b"b"].map(|name| Node { name: name.to_vec(), ..root.clone() });
        let block = meta.put(&Block::encode(&twice)).unwrap();
        let pieces = vec![Piece::Data { id: block.id, len: block.len }];
        root.kind = NodeKind::Directory(Recipe { len: u64::from(block.len), root: Root::Pieces(pieces) });
    }
    meta.finish().unwrap();
    writer.finish().unwrap();
    let tree = TreePart { root, stats: TreeStats::default(), ..good.entry.tree().unwrap().clone() };
    let entry = Entry { parts: vec![Part::Tree(Box::new(tree))], parents: Vec::new(), cost: Cost::default(), ..good.entry };
    let (id, record) = entry.encode();
    from_backend.put(&format!("entries/{id}"), &record).unwrap();
    let (_, to) = cutting(OTHER);
    let started = Instant::now();
    run(&from, &to, &TransplantRequest { verify: false, ..asking(&[id]) }).unwrap();
    assert!(started.elapsed() < Duration::from_secs(20), "{:?}", started.elapsed());
}

#[test]
fn verifying_finds_a_byte_an_attribute_and_a_hole_that_differ() {
    let dir = temp();
    let tree = subdir(&dir, "tree");
    std::fs::write(tree.join("f"), noise(1, 50_000)).unwrap();
    let from = init(&memory());
    // All say the same of themselves; what they hold differs.
    let saved = || {
        let mut entry = save(&from, "work", &tree).entry;
        let Part::Tree(part) = &mut entry.parts[0] else { panic!() };
        (part.stats, part.root.mtime) = (TreeStats::default(), Timestamp { seconds: 1, nanoseconds: 0 });
        Entry { time_ms: 0, ..entry }
    };
    let first = saved();
    let mtime = std::fs::metadata(tree.join("f")).unwrap().modified().unwrap();
    let mut bytes = noise(1, 50_000);
    bytes[49_000] ^= 1;
    std::fs::write(tree.join("f"), bytes).unwrap();
    std::fs::File::options().write(true).open(tree.join("f")).unwrap().set_modified(mtime).unwrap();
    let other_byte = saved();
    std::fs::write(tree.join("f"), noise(1, 50_000)).unwrap();
    let other_time = saved();
    let store = from.store(&NoMonitor).unwrap();
    verify_equal((store, &first), (store, &first), &NoMonitor).unwrap();
    for other in [&other_byte, &other_time] {
        let error = verify_equal((store, &first), (store, other), &NoMonitor).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Corrupt);
        assert!(error.to_string().contains("/f differs"), "{error}");
    }
    let content =
        |recipe: Recipe| Node { kind: NodeKind::File(Content::Recipe(recipe)), name: b"f".to_vec(), ..first.tree().unwrap().root.clone() };
    let zeros = |piece: Piece| content(Recipe { len: piece.len(), root: Root::Pieces(vec![piece]) });
    let listed = [Piece::Hole { len: 4096 }, Piece::Zero { len: 4096 }].map(|piece| {
        let writer = store.writer().unwrap();
        let mut meta = writer.chunks(PackKind::Meta).unwrap();
        let block = meta.put(&Block::encode(&[zeros(piece)])).unwrap();
        meta.finish().unwrap();
        writer.finish().unwrap();
        let mut entry = first.clone();
        let Part::Tree(part) = &mut entry.parts[0] else { panic!() };
        let pieces = vec![Piece::Data { id: block.id, len: block.len }];
        part.root.kind = NodeKind::Directory(Recipe { len: u64::from(block.len), root: Root::Pieces(pieces) });
        entry
    });
    assert!(verify_equal((store, &listed[0]), (store, &listed[1]), &NoMonitor).is_err());
}

/// Receives a file into a repository that cuts otherwise, by a scratch repository.
fn take(repository: &Repository, bytes: &[u8], trusted: Option<PublicKey>) -> Result<Received> {
    let preface = read_preface(&mut &bytes[..])?;
    assert_ne!(&preface.head.chunker, &repository.config().chunker);
    let config = Config { chunker: preface.head.chunker.clone(), inline_max: preface.head.inline_max, ..config() };
    let scratch = Repository::init(memory(), config, OPTIONS)?;
    let name = |key: &PublicKey| (Some(*key) == trusted).then(|| "eva".to_owned());
    let options = ReceiveOptions { trusted: &name, require_signed: trusted.is_some(), time_ms: 9 };
    receive_through(&scratch, repository, &preface, &mut &bytes[..], &options, &NoMonitor)
}

#[test]
fn a_share_file_is_received_where_streams_are_cut_otherwise() {
    let scene = scene();
    let key = SecretKey::from_seed([7; 32]);
    let asked = ShareRequest {
        entries: &scene.entries[..1],
        since: &[],
        full: false,
        level: 3,
        solid: false,
        threads: 2,
        author: "eva",
        time_ms: 8,
        signer: Some(&key),
    };
    let file = |request: &ShareRequest<'_>| {
        let mut bytes = Vec::new();
        share(&scene.repository, request, &mut bytes, &NoMonitor).unwrap();
        bytes
    };
    let thin = file(&asked);
    let (backend, to) = cutting(OTHER);
    let error = take(&to, &thin, None).unwrap_err();
    assert!(error.kind() == ErrorKind::NotFound && error.to_string().contains("debian@12"), "{error}");
    // The base is somebody else's import of the same.
    let restored = build_new(&scene.repository, &scene.base);
    let exclude = Exclude::default();
    let kind = EntryKind::Base { name: "debian".to_owned(), version: "12".to_owned() };
    let base = to.save(SaveRequest { kind, ..request("", restored.path(), &exclude) }, &NoMonitor).unwrap().id;
    let mut cut = thin.clone();
    cut.truncate(thin.len() - 1);
    assert_eq!(take(&to, &cut, None).unwrap_err().kind(), ErrorKind::Corrupt);
    assert_eq!(to.entry_ids().unwrap(), [base]);
    assert_eq!(take(&to, &thin, Some(SecretKey::from_seed([8; 32]).public_key())).unwrap_err().kind(), ErrorKind::PermissionDenied);
    let got = take(&to, &thin, Some(key.public_key())).unwrap();
    let first = got.entries[0].id;
    assert_eq!((got.entries[0].new, got.known_as.as_deref()), (true, Some("eva")));
    assert_eq!(got.entries[0].placed, Some(Placed::Made("work".to_owned())));
    assert_eq!(got.entries[0].entry.base.as_ref().unwrap().entry, base);
    assert_eq!(provenance(&to, &first).unwrap().unwrap().signers, [key.public_key().to_string()]);
    assert!(got.new_chunks_count > 0 && got.stored_bytes < 320_000, "{got:?}");
    assert_same(&scene.repository, &scene.entries[0], &to, &first);
    let again = take(&to, &thin, None).unwrap();
    assert_eq!((again.entries[0].id, again.entries[0].new, again.new_chunks_count), (first, false, 0));
    // Upon what came in the first file, and with an entry between that stays away.
    let third = file(&ShareRequest { entries: &scene.entries[2..], since: &scene.entries[..1], ..asked });
    let got = take(&to, &third, Some(key.public_key())).unwrap();
    assert_eq!(got.entries[0].placed, Some(Placed::Advanced("work".to_owned())));
    assert_equal(&scene.tree, build_new(&to, &got.entries[0].id).path());
    assert_whole(&backend);
    // With everything in it nothing is needed.
    let (backend, to) = cutting(ChunkerParams::Fixed { len: 3000 });
    let full = file(&ShareRequest { entries: &scene.entries[2..], full: true, ..asked });
    let got = take(&to, &full, None).unwrap();
    assert_eq!(got.entries.iter().map(|got| got.new).collect::<Vec<_>>(), [true, true]);
    assert_equal(&scene.tree, build_new(&to, &got.entries[1].id).path());
    assert_whole(&backend);
}
