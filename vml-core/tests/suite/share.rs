//! Share files: what goes in comes out, elsewhere; and what is no share file stays out.

use crate::support::{assert_equal, build_new, copy_of, init, memory, open, request, restoring, save, subdir, temp};
use proptest::prelude::*;
use std::collections::BTreeSet;
use std::io::{self, Read};
use std::path::Path;
use std::sync::Arc;
use vml_core::entry::{BaseRef, EntryKind};
use vml_core::recipe::read_stream;
use vml_core::repository::{CheckOptions, Policy, SaveRequest};
use vml_core::share::scrub::scrub;
use vml_core::share::secrets::{Found, SecretRules, scan};
use vml_core::share::{
    Placed, PublicKey, ReceiveOptions, Received, SecretKey, ShareFile, ShareRequest, Shared, Signer, provenance, read_preface, receive,
    share,
};
use vml_core::tree::{Content, Exclude, NodeKind, find_path, restore_tree};
use vml_core::{Backend, CollectMonitor, EntryId, Error, ErrorKind, NoMonitor, Repository, Result};
use vml_testkit::noise;
use vml_testkit::trees::look_at;

fn sharing<'a>(entries: &'a [EntryId]) -> ShareRequest<'a> {
    ShareRequest {
        entries,
        since: &[],
        full: false,
        level: 3,
        solid: false,
        threads: 2,
        author: "eva@example.org",
        time_ms: 1_700_000_000_000,
        signer: None,
    }
}

fn write(repository: &Repository, request: &ShareRequest<'_>) -> (Vec<u8>, Shared) {
    let mut bytes = Vec::new();
    let shared = share(repository, request, &mut bytes, &NoMonitor).unwrap();
    assert_eq!(shared.bytes, bytes.len() as u64);
    (bytes, shared)
}

fn nobody(_: &PublicKey) -> Option<String> {
    None
}

fn take(repository: &Repository, mut bytes: &[u8]) -> Result<Received> {
    let options = ReceiveOptions { trusted: &nobody, require_signed: false, time_ms: 5 };
    receive(repository, &mut bytes, &options, &NoMonitor)
}

fn take_signed(repository: &Repository, mut bytes: &[u8], trusted: PublicKey) -> Result<Received> {
    let name = |key: &PublicKey| (*key == trusted).then(|| "eva".to_owned());
    receive(repository, &mut bytes, &ReceiveOptions { trusted: &name, require_signed: true, time_ms: 5 }, &NoMonitor)
}

#[track_caller]
fn assert_whole(repository: &Repository) {
    let monitor = CollectMonitor::default();
    let checked = repository.check(CheckOptions { data: true, ..CheckOptions::default() }, &monitor).unwrap();
    assert_eq!((checked.problems_count, monitor.problems()), (0, vec![]));
}

fn files(dir: &Path, names: &[(&str, &[u8])]) {
    for (name, bytes) in names {
        let path = dir.join(name);
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(path, bytes).unwrap();
    }
}

/// A repository with a base and two entries upon it, and their trees.
struct Lab {
    base_tree: tempfile::TempDir,
    tree: tempfile::TempDir,
    backend: Arc<dyn Backend>,
    base: EntryId,
    first: EntryId,
    second: EntryId,
}

fn base_request<'a>(tree: &'a Path, exclude: &'a Exclude) -> SaveRequest<'a> {
    SaveRequest { kind: EntryKind::Base { name: "debian".to_owned(), version: "12".to_owned() }, ..request("", tree, exclude) }
}

fn lab() -> Lab {
    let (base_tree, tree, backend) = (temp(), temp(), memory());
    let repository = init(&backend);
    for dir in [base_tree.path(), tree.path()] {
        files(
            dir,
            &[
                ("etc/hosts", b"127.0.0.1"),
                ("usr/lib/big", &noise::incompressible(1, 400_000)),
                ("usr/share/text", &noise::text(2, 300_000)),
            ],
        );
    }
    let exclude = Exclude::default();
    let base = repository.save(base_request(base_tree.path(), &exclude), &NoMonitor).unwrap().id;
    let of = |message| SaveRequest {
        base: Some(BaseRef { name: "debian".to_owned(), version: "12".to_owned(), entry: base }),
        message,
        ..request("work", tree.path(), &exclude)
    };
    files(tree.path(), &[("home/data", &noise::incompressible(3, 200_000)), ("home/notes", b"one")]);
    let first = repository.save(of("first"), &NoMonitor).unwrap().id;
    files(tree.path(), &[("home/notes", b"two"), ("home/more", &noise::text(4, 50_000))]);
    let second = repository.save(of("second"), &NoMonitor).unwrap().id;
    Lab { base_tree, tree, backend, base, first, second }
}

#[test]
fn a_full_file_rebuilds_the_entry_in_an_empty_repository() {
    let lab = lab();
    let (bytes, shared) = write(&open(&lab.backend), &ShareRequest { full: true, ..sharing(&[lab.second]) });
    assert_eq!(shared.head.entries, [lab.base, lab.second]);
    let other = init(&memory());
    let received = take(&other, &bytes).unwrap();
    assert_eq!(
        received.entries.iter().map(|entry| entry.placed.clone()).collect::<Vec<_>>(),
        [Some(Placed::Made("debian@12".to_owned())), Some(Placed::Made("work".to_owned()))]
    );
    assert_eq!((received.chunks_count, received.new_chunks_count), (shared.chunks_count, shared.chunks_count));
    assert_equal(lab.tree.path(), build_new(&other, &lab.second).path());
    assert_equal(lab.base_tree.path(), build_new(&other, &lab.base).path());
    assert_eq!(provenance(&other, &lab.second).unwrap().unwrap().signers, [""; 0]);
    assert_eq!(provenance(&open(&lab.backend), &lab.second).unwrap(), None);
    assert_whole(&other);
    let again = take(&other, &bytes).unwrap();
    assert!(again.entries.iter().all(|entry| !entry.new && matches!(entry.placed, Some(Placed::Present(_)))));
    assert_eq!((again.new_chunks_count, again.stored_bytes), (0, 0));
    assert_eq!(other.notes_of(&lab.second).unwrap().len(), 1);
}

#[test]
fn a_thin_file_needs_its_base_and_says_which() {
    let lab = lab();
    let own = open(&lab.backend);
    let (thin, _) = write(&own, &sharing(&[lab.second]));
    let (full, _) = write(&own, &ShareRequest { full: true, ..sharing(&[lab.second]) });
    assert!(thin.len() * 2 < full.len(), "{} of {}", thin.len(), full.len());
    let backend = memory();
    let other = init(&backend);
    let error = take(&other, &thin).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::NotFound);
    assert!(error.to_string().contains("debian@12") && error.to_string().contains(&lab.base.short().to_string()), "{error}");
    assert!(other.entry_ids().unwrap().is_empty() && backend.list("data").unwrap().is_empty());
    // Another base of that name.
    let wrong = temp();
    files(wrong.path(), &[("etc/hosts", b"another")]);
    other.save(base_request(wrong.path(), &Exclude::default()), &NoMonitor).unwrap();
    let error = take(&other, &thin).unwrap_err();
    assert!(error.to_string().contains("has other content"), "{error}");
    // The base itself.
    let third = init(&memory());
    take(&third, &write(&own, &sharing(&[lab.base])).0).unwrap();
    take(&third, &thin).unwrap();
    assert_equal(lab.tree.path(), build_new(&third, &lab.second).path());
    assert_whole(&third);
}

#[test]
fn an_equal_base_that_somebody_else_saved_serves() {
    let lab = lab();
    let (thin, _) = write(&open(&lab.backend), &sharing(&[lab.second]));
    let other = init(&memory());
    let own = other.save(base_request(lab.base_tree.path(), &Exclude::default()), &NoMonitor).unwrap().id;
    assert_ne!(own, lab.base);
    take(&other, &thin).unwrap();
    assert_equal(lab.tree.path(), build_new(&other, &lab.second).path());
    assert_whole(&other);
    // And it can be handed on to somebody who has the base from the first.
    let (again, shared) = write(&other, &sharing(&[lab.second]));
    assert_eq!(shared.head.needs[0].entry, lab.base);
    let third = init(&memory());
    take(&third, &write(&open(&lab.backend), &sharing(&[lab.base])).0).unwrap();
    take(&third, &again).unwrap();
    assert_equal(lab.tree.path(), build_new(&third, &lab.second).path());
}

#[test]
fn since_leaves_out_what_the_receiver_has_and_the_log_goes_on() {
    let lab = lab();
    let own = open(&lab.backend);
    let other = init(&memory());
    take(&other, &write(&own, &ShareRequest { full: true, ..sharing(&[lab.first]) }).0).unwrap();
    let (thin, _) = write(&own, &sharing(&[lab.second]));
    let (since, shared) = write(&own, &ShareRequest { since: &[lab.first], ..sharing(&[lab.second]) });
    assert!(since.len() * 4 < thin.len(), "{} of {}", since.len(), thin.len());
    assert_eq!(shared.head.needs.len(), 2);
    let error = take(&init(&memory()), &since).unwrap_err();
    assert!(error.kind() == ErrorKind::NotFound && error.to_string().contains(&lab.first.short().to_string()), "{error}");
    let received = take(&other, &since).unwrap();
    assert_eq!(received.entries[0].placed, Some(Placed::Advanced("work".to_owned())));
    assert_equal(lab.tree.path(), build_new(&other, &lab.second).path());
    // An older entry than the area has changes nothing.
    let older = take(&other, &write(&own, &sharing(&[lab.first])).0).unwrap();
    assert_eq!(older.entries[0].placed, Some(Placed::Present("work".to_owned())));
    assert_eq!(other.resolve("work@latest").unwrap(), lab.second);
    assert_whole(&other);
}

#[test]
fn an_area_of_the_same_name_is_not_touched() {
    let lab = lab();
    let other = init(&memory());
    let mine = temp();
    files(mine.path(), &[("plans", b"mine")]);
    let saved = save(&other, "work", mine.path());
    let (full, _) = write(&open(&lab.backend), &ShareRequest { full: true, ..sharing(&[lab.second]) });
    let received = take(&other, &full).unwrap();
    let Some(Placed::Tagged(tag)) = &received.entries[1].placed else { panic!("{received:?}") };
    assert_eq!(other.resolve("work@latest").unwrap(), saved.id);
    assert_eq!(other.resolve(tag).unwrap(), lab.second);
}

#[test]
fn who_signed_is_known_and_can_be_required() {
    let lab = lab();
    let own = open(&lab.backend);
    let (eva, mallory) = (SecretKey::from_seed([1; 32]), SecretKey::from_seed([2; 32]));
    let entries = [lab.second];
    let full = ShareRequest { full: true, ..sharing(&entries) };
    let (signed, _) = write(&own, &ShareRequest { signer: Some(&eva), ..full });
    let (unsigned, _) = write(&own, &full);
    let (by_other, _) = write(&own, &ShareRequest { signer: Some(&mallory), ..full });
    for (bytes, why) in [(&unsigned, "is not signed"), (&by_other, "no trusted key")] {
        let backend = memory();
        let error = take_signed(&init(&backend), bytes, eva.public_key()).unwrap_err();
        assert!(error.kind() == ErrorKind::PermissionDenied && error.to_string().contains(why), "{error}");
        assert!(backend.list("data").unwrap().is_empty(), "refused before anything was stored");
    }
    let other = init(&memory());
    assert_eq!(take(&other, &by_other).unwrap().signer, Some(mallory.public_key()));
    let received = take_signed(&other, &signed, eva.public_key()).unwrap();
    assert_eq!((received.signer, received.known_as.as_deref()), (Some(eva.public_key()), Some("eva")));
    let told: BTreeSet<String> = provenance(&other, &lab.second).unwrap().unwrap().signers.into_iter().collect();
    assert_eq!(told, BTreeSet::from([mallory, eva].map(|key| key.public_key().fingerprint())));
    let (eva, mallory) = (SecretKey::from_seed([1; 32]), SecretKey::from_seed([2; 32]));

    // Somebody who says that Eva signs, and signs himself; and one who puts her signature below another file.
    struct Liar<'a>(&'a SecretKey, PublicKey);
    impl Signer for Liar<'_> {
        fn public_key(&self) -> PublicKey {
            self.1
        }
        fn sign(&self, statement: &[u8]) -> Result<String> {
            self.0.sign(statement)
        }
    }
    struct Replay(PublicKey, String);
    impl Signer for Replay {
        fn public_key(&self) -> PublicKey {
            self.0
        }
        fn sign(&self, _: &[u8]) -> Result<String> {
            Ok(self.1.clone())
        }
    }
    let old = eva.sign(b"vml share file 1\ntable of another\n").unwrap();
    let signers: [&dyn Signer; 2] = [&Liar(&mallory, eva.public_key()), &Replay(eva.public_key(), old)];
    for signer in signers {
        let (bytes, _) = write(&own, &ShareRequest { signer: Some(signer), ..full });
        let other = init(&memory());
        let error = take_signed(&other, &bytes, eva.public_key()).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Corrupt, "{error}");
        assert!(other.entry_ids().unwrap().is_empty());
    }
}

/// Whatever is done to a file: an error that tells, and no entry and no ref.
#[track_caller]
fn refused(bytes: &[u8], what: &str) -> Error {
    let backend = memory();
    let other = init(&backend);
    let error = match take(&other, bytes) {
        Err(error) => error,
        Ok(received) => panic!("{what}: taken as {received:?}"),
    };
    assert!(other.entry_ids().unwrap().is_empty(), "{what}");
    for dir in ["refs/areas", "refs/tags", "refs/bases", "notes"] {
        assert!(backend.list(dir).unwrap().is_empty(), "{what}: {dir}");
    }
    assert!(matches!(error.kind(), ErrorKind::Corrupt | ErrorKind::InvalidInput | ErrorKind::UnsupportedFormat), "{what}: {error}");
    error
}

/// Kinds and payloads of sections.
type Parts = Vec<(u8, Vec<u8>)>;

/// The sections of a file, each with its head, and the rest.
fn sections(bytes: &[u8]) -> (Vec<Vec<u8>>, Vec<u8>) {
    let mut found = Vec::new();
    let mut at = 16;
    while &bytes[at..at + 4] == b"VMLs" {
        let len = 48 + u32::from_le_bytes(bytes[at + 8..at + 12].try_into().unwrap()) as usize;
        found.push(bytes[at..at + len].to_vec());
        at += len;
    }
    (found, bytes[at..].to_vec())
}

/// Sections with their places and digests made right, and a table and an end that fit them.
fn rebuild(parts: &[(u8, Vec<u8>)]) -> Vec<u8> {
    let mut bytes = b"VMLSHARE\x01\0\0\0\0\0\0\0".to_vec();
    let mut table = Vec::new();
    let mut number = 0_u32;
    let mut push = |bytes: &mut Vec<u8>, table: &mut Vec<u8>, kind: u8, payload: &[u8]| {
        let len = u32::try_from(payload.len()).unwrap().to_le_bytes();
        let head = [b"VMLs", &[kind, 0, 0, 0][..], &len, &number.to_le_bytes()].concat();
        number += 1;
        let digest = *blake3::hash(&[&head[..], payload].concat()).as_bytes();
        table.extend([&[kind, 0, 0, 0][..], &len, &(bytes.len() as u64).to_le_bytes(), &digest].concat());
        bytes.extend([&head[..], &digest, payload].concat());
    };
    for (kind, payload) in parts {
        push(&mut bytes, &mut table, *kind, payload);
    }
    let offset = bytes.len() as u64;
    let rows = table.clone();
    push(&mut bytes, &mut table, 6, &rows);
    let len = bytes.len() as u64 + 32;
    let end = [b"VMLSEND\0", &offset.to_le_bytes()[..], &len.to_le_bytes()].concat();
    bytes.extend([&end[..], &blake3::hash(&end).as_bytes()[..8]].concat());
    bytes
}

fn parts_of(bytes: &[u8]) -> Parts {
    let (found, _) = sections(bytes);
    found.iter().filter(|section| section[4] < 6).map(|section| (section[4], section[48..].to_vec())).collect()
}

#[test]
fn a_damaged_file_is_refused_wherever_it_is_damaged() {
    let lab = lab();
    let own = open(&lab.backend);
    let key = SecretKey::from_seed([1; 32]);
    let (bytes, _) = write(&own, &ShareRequest { full: true, signer: Some(&key), ..sharing(&[lab.second]) });
    take(&init(&memory()), &bytes).unwrap();
    for cut in (0..64).map(|part| bytes.len() * part / 64).chain([bytes.len() - 1, bytes.len() - 31, bytes.len() - 33]) {
        refused(&bytes[..cut], &format!("cut at {cut}"));
    }
    for at in (0..bytes.len()).step_by(bytes.len() / 97).chain([0, 8, 20, 24, 28, 40, bytes.len() - 1, bytes.len() - 20]) {
        let mut damaged = bytes.clone();
        damaged[at] ^= 1 << (at % 8);
        refused(&damaged, &format!("flipped at {at}"));
    }
    refused(&[&bytes[..], b"x"].concat(), "longer");
    refused(&[&bytes[..], &bytes].concat(), "twice");
    let (found, rest) = sections(&bytes);
    for (a, b) in [(0, 1), (1, 2), (2, 3), (3, 4), (found.len() - 3, found.len() - 4), (found.len() - 1, found.len() - 2)] {
        let mut other = found.clone();
        other.swap(a, b);
        refused(&[&bytes[..16], &other.concat(), &rest].concat(), &format!("{a} and {b} in another order"));
    }
    for gone in 0..found.len() {
        let mut other = found.clone();
        other.remove(gone);
        refused(&[&bytes[..16], &other.concat(), &rest].concat(), &format!("without section {gone}"));
    }
}

#[test]
fn a_file_that_was_made_to_lie_is_refused() {
    let lab = lab();
    let own = open(&lab.backend);
    let (bytes, _) = write(&own, &ShareRequest { full: true, ..sharing(&[lab.second]) });
    let parts = parts_of(&bytes);
    assert!(rebuild(&parts) == bytes, "the test's own writer is right");
    let first_frame = parts.iter().position(|(kind, _)| *kind >= 4).unwrap();
    let with = |change: &dyn Fn(&mut Parts)| {
        let mut parts = parts.clone();
        change(&mut parts);
        rebuild(&parts)
    };
    // Frames left out: entries would not be whole.
    for gone in first_frame..parts.len() {
        let error = refused(&with(&|parts| _ = parts.remove(gone)), "a frame is left out");
        assert!(error.to_string().contains("chunks of entry"), "{error}");
    }
    refused(&with(&|parts| parts.swap(1, 2)), "entries in another order");
    refused(&with(&|parts| _ = parts.remove(1)), "an entry is left out");
    refused(&with(&|parts| parts.push(parts[1].clone())), "an entry after the frames");
    refused(&with(&|parts| parts.insert(1, parts[0].clone())), "two heads");
    refused(&with(&|parts| parts.insert(0, parts[first_frame].clone())), "a frame before the head");
    refused(&with(&|parts| parts[first_frame].1.truncate(30)), "a frame that is cut");
    refused(&with(&|parts| parts.insert(first_frame, (3, parts[1].1.clone()))), "a needed entry that is not named");
    refused(&rebuild(&[]), "nothing");
    // A frame that says it is small and is not: what a header says bounds what is decoded.
    let zeros = vec![0; 1 << 24];
    let bomb = zstd::bulk::compress(&zeros, 19).unwrap();
    for plain_len in [1_u32 << 20, (1 << 24) - 1] {
        let lens = plain_len.to_le_bytes()[..3].to_vec();
        let head = [b"VMLf", &[1, 0, 1, 0][..], &plain_len.to_le_bytes(), &u32::try_from(bomb.len()).unwrap().to_le_bytes()].concat();
        let sum = blake3::hash(&[&head[..], &lens].concat());
        let frame = [&head[..], &sum.as_bytes()[..8], &lens, &bomb].concat();
        refused(&with(&|parts| parts.insert(first_frame, (4, frame.clone()))), "a bomb");
    }
    // Lengths beyond what there is, or may be.
    for len in [1 << 20, u32::MAX] {
        let mut damaged = bytes.clone();
        damaged[24..28].copy_from_slice(&u32::to_le_bytes(len));
        refused(&damaged, "a length that lies");
    }
}

/// Gives a few bytes at a time, as a pipe does, and an error in the end if it is told to.
struct Pipe<'a> {
    bytes: &'a [u8],
    fails: bool,
}

impl Read for Pipe<'_> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        if self.bytes.is_empty() && self.fails {
            return Err(io::Error::from(io::ErrorKind::ConnectionReset));
        }
        let part = buffer.len().min(1009);
        self.bytes.read(&mut buffer[..part])
    }
}

#[test]
fn what_came_before_a_cut_need_not_be_stored_again() {
    let lab = lab();
    let (bytes, shared) = write(&open(&lab.backend), &ShareRequest { full: true, ..sharing(&[lab.second]) });
    let options = ReceiveOptions { trusted: &nobody, require_signed: false, time_ms: 5 };
    for fails in [true, false] {
        let other = init(&memory());
        // The last frame is the content: cut behind it.
        let (found, _) = sections(&bytes);
        let cut = 16 + found[..found.len() - 1].iter().map(Vec::len).sum::<usize>();
        let error = receive(&other, &mut Pipe { bytes: &bytes[..cut], fails }, &options, &NoMonitor).unwrap_err();
        assert_eq!(error.kind(), if fails { ErrorKind::Io } else { ErrorKind::Corrupt }, "{error}");
        assert!(other.entry_ids().unwrap().is_empty());
        let received = receive(&other, &mut Pipe { bytes: &bytes, fails: false }, &options, &NoMonitor).unwrap();
        assert_eq!((received.chunks_count, received.new_chunks_count), (shared.chunks_count, 0));
        assert_equal(lab.tree.path(), build_new(&other, &lab.second).path());
        assert_whole(&other);
    }
}

#[test]
fn a_file_can_be_looked_into_without_a_repository() {
    let lab = lab();
    let dir = temp();
    let path = dir.path().join("work.vml");
    let key = SecretKey::from_seed([1; 32]);
    let own = open(&lab.backend);
    let (bytes, _) = write(&own, &ShareRequest { signer: Some(&key), ..sharing(&[lab.second]) });
    std::fs::write(&path, &bytes).unwrap();
    let preface = read_preface(&mut &bytes[..]).unwrap();
    let file = ShareFile::open(&path).unwrap();
    assert_eq!((file.preface(), file.signer()), (&preface, Some(key.public_key())));
    let root = &preface.entries[0].1.tree().unwrap().root;
    assert_eq!(find_path(&file, root, b"home/more").unwrap().len(), 50_000);
    let read = |file: &ShareFile<'_>| {
        let NodeKind::File(Content::Recipe(recipe)) = find_path(file, root, b"usr/lib/big")?.kind else { panic!("it is long") };
        let mut bytes = Vec::new();
        read_stream(file, &recipe, &mut |part| {
            bytes.extend_from_slice(part);
            Ok(())
        })?;
        Ok::<_, Error>(bytes)
    };
    assert_eq!(read(&file).unwrap_err().kind(), ErrorKind::NotFound);
    let file = file.with_behind(Some(own.store(&NoMonitor).unwrap()));
    assert!(read(&file).unwrap() == noise::incompressible(1, 400_000));
    for cut in (0..64).map(|part| bytes.len() * part / 64) {
        std::fs::write(&path, &bytes[..cut]).unwrap();
        assert!(ShareFile::open(&path).is_err(), "cut at {cut}");
    }
    for at in (0..bytes.len()).step_by(bytes.len() / 97) {
        let mut damaged = bytes.clone();
        damaged[at] ^= 1 << (at % 8);
        std::fs::write(&path, &damaged).unwrap();
        // In a frame it is noticed when that is looked into.
        if let Ok(file) = ShareFile::open(&path) {
            assert_eq!(file.preface(), &preface, "flipped at {at}");
        }
    }
}

#[test]
fn secrets_are_found_and_left_out() {
    let backend = memory();
    let own = init(&backend);
    let tree = temp();
    let letters = "QUJD".repeat(20);
    let key = format!("-----BEGIN OPENSSH PRIVATE KEY-----\n{letters}\n");
    files(
        tree.path(),
        &[
            ("home/dev/.ssh/id_rsa", b"a key"),
            ("home/dev/.ssh/id_rsa.pub", b"a public key"),
            ("home/dev/deep/below/backup.txt", key.as_bytes()),
            ("home/dev/.bash_history", b""),
            ("home/dev/plot.py", b"print()"),
            ("etc/hosts", b"127.0.0.1"),
        ],
    );
    std::fs::hard_link(tree.path().join("home/dev/deep/below/backup.txt"), tree.path().join("etc/copy")).unwrap();
    let id = save(&own, "work", tree.path()).id;
    let rules = SecretRules::built_in().unwrap();
    let found = scan(&own, &sharing(&[id]), &rules, &NoMonitor).unwrap();
    let found: Vec<(String, Found)> = found.into_iter().map(|f| (String::from_utf8(f.path).unwrap(), f.found)).collect();
    let secret = |path: &str, rule: &str| (path.to_owned(), Found::Secret(rule.to_owned()));
    assert_eq!(
        found,
        [
            secret("etc/copy", "private key"),
            secret("home/dev/.ssh/id_rsa", "SSH key"),
            secret("home/dev/deep/below/backup.txt", "private key")
        ]
    );
    let paths: BTreeSet<Vec<u8>> = found.into_iter().map(|(path, _)| path.into_bytes()).collect();
    let (new, entry) = scrub(&own, &id, &paths, false, 9, &NoMonitor).unwrap();
    assert_eq!((entry.parents.as_slice(), entry.tree().unwrap().stats.files_count), (&[id][..], 4));
    assert_eq!(scan(&own, &sharing(&[new]), &rules, &NoMonitor).unwrap(), []);
    for path in &paths {
        std::fs::remove_file(tree.path().join(std::str::from_utf8(path).unwrap())).unwrap();
    }
    let other = init(&memory());
    let (bytes, _) = write(&own, &sharing(&[new]));
    take(&other, &bytes).unwrap();
    let built = build_new(&other, &new);
    assert!(!built.path().join("etc/copy").exists() && !built.path().join("home/dev/.ssh/id_rsa").exists());
    assert_eq!(std::fs::read(built.path().join("home/dev/plot.py")).unwrap(), b"print()");
    // Against a base that has the file already, it is no news.
    let again = copy_of(backend.as_ref());
    let again = open(&again);
    let since = [id];
    let later = save(&again, "work", tree.path()).id;
    assert_eq!(scan(&again, &ShareRequest { since: &since, ..sharing(&[later]) }, &rules, &NoMonitor).unwrap(), []);
    assert_whole(&other);
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 24, ..ProptestConfig::default() })]

    /// Whatever states there are, and whichever of them the receiver has: he gets the one he is sent.
    #[test]
    fn any_states_arrive(steps in prop::collection::vec(prop::collection::vec((0_u8..12, 0_usize..60_000, 0_u64..6), 1..5), 1..4), have in 0_usize..4) {
        let tree = temp();
        let own = init(&memory());
        let mut ids = Vec::new();
        for step in &steps {
            for (name, len, seed) in step {
                files(tree.path(), &[(&format!("d{}/f{name}", name % 3), &noise::text(*seed, *len))]);
            }
            ids.push(save(&own, "work", tree.path()).id);
        }
        let last = *ids.last().unwrap();
        let other = init(&memory());
        let since: Vec<EntryId> = ids[..ids.len() - 1].iter().copied().take(have).collect();
        for id in &since {
            take(&other, &write(&own, &sharing(&[*id])).0).unwrap();
        }
        take(&other, &write(&own, &ShareRequest { since: &since, ..sharing(&[last]) }).0).unwrap();
        assert_equal(tree.path(), build_new(&other, &last).path());
        prop_assert_eq!(other.resolve("work@latest").unwrap(), last);
        assert_whole(&other);
    }

    /// Bytes that begin as a share file does are refused, and nothing panics.
    #[test]
    fn noise_is_refused(noise in prop::collection::vec(any::<u8>(), 0..400)) {
        refused(&[&b"VMLSHARE\x01\0\0\0\0\0\0\0"[..], &noise].concat(), "noise");
        refused(&noise, "noise");
    }
}

#[test]
fn a_repository_that_demands_signatures_takes_nothing_else() {
    let dir = temp();
    std::fs::write(dir.path().join("file"), "content").unwrap();
    let from = init(&memory());
    let id = save(&from, "work", dir.path()).id;
    let (unsigned, _) = write(&from, &sharing(&[id]));
    let key = SecretKey::from_seed([9; 32]);
    let (signed, _) = write(&from, &ShareRequest { signer: Some(&key), ..sharing(&[id]) });
    let to = init(&memory());
    assert_eq!(to.policy().unwrap(), Policy::default());
    to.set_policy(&Policy { require_signed: true, ..Policy::default() }).unwrap();
    assert_eq!(take(&to, &unsigned).unwrap_err().kind(), ErrorKind::PermissionDenied);
    assert_eq!(take(&to, &signed).unwrap_err().kind(), ErrorKind::PermissionDenied);
    assert_eq!(to.entry_ids().unwrap(), []);
    let name = |_: &PublicKey| Some("eva".to_owned());
    let options = ReceiveOptions { trusted: &name, require_signed: false, time_ms: 5 };
    assert_eq!(receive(&to, &mut &signed[..], &options, &NoMonitor).unwrap().known_as.as_deref(), Some("eva"));
    // A policy that cannot be read is none that allows.
    let backend = memory();
    let damaged = init(&backend);
    backend.put("policy", b"nonsense").unwrap();
    assert_eq!(take(&damaged, &unsigned).unwrap_err().kind(), ErrorKind::Corrupt);
}

#[test]
fn content_in_one_stream_arrives_is_looked_into_and_is_refused_when_it_is_damaged() {
    let lab = lab();
    let own = open(&lab.backend);
    let entries = [lab.second];
    let solid = ShareRequest { full: true, solid: true, ..sharing(&entries) };
    let (bytes, shared) = write(&own, &solid);
    let framed = write(&own, &ShareRequest { solid: false, ..solid }).1;
    assert_eq!((shared.chunks_count, shared.plain_bytes), (framed.chunks_count, framed.plain_bytes));
    let other = init(&memory());
    let received = take(&other, &bytes).unwrap();
    assert_eq!(received.chunks_count, shared.chunks_count);
    assert_whole(&other);
    let built = |repository: &Repository| look_at(build_new(repository, &lab.second).path());
    assert_eq!(built(&other), built(&own));
    // Without a repository, each file by itself, in any order.
    let dir = temp();
    std::fs::write(dir.path().join("file.vml"), &bytes).unwrap();
    let file = ShareFile::open(&dir.path().join("file.vml")).unwrap();
    let root = &file.preface().entries.last().unwrap().1.tree().unwrap().root;
    let target = subdir(&dir, "target");
    restore_tree(&file, root, &target, &restoring(), &NoMonitor).unwrap();
    assert_eq!(look_at(&target), built(&own));
    // Whatever is flipped, nothing of it shows.
    for at in (0..bytes.len()).step_by(bytes.len() / 60 + 1) {
        let mut damaged = bytes.clone();
        damaged[at] ^= 4;
        let other = init(&memory());
        take(&other, &damaged).map(|_| ()).unwrap_err();
        assert_eq!(other.entry_ids().unwrap(), []);
    }
}
