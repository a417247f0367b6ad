//! Remotes: what one repository has arrives at another, whole, once, and whatever happens on the way.

use crate::support::{assert_equal, build_new, init, memory, open, request, save, temp, try_save};
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use vml_chunk::{ChunkId, PackKind};
use vml_core::entry::{BaseRef, EntryKind, Note};
use vml_core::refs::RefKind;
use vml_core::remote::wire::{decode_message, encode_message};
use vml_core::remote::{
    Commit, Committed, FrameAt, HistoryItem, Needs, NoteId, OpenRemote, Parcel, Placed, Remote, RemoteInfo, RemoteRef, Stowed,
    TransferRequest, Transferred, plan_transfer, transfer,
};
use vml_core::repository::{CheckOptions, CollectOptions, Policy, RECEIVED_AUTHOR, SaveRequest};
use vml_core::share::provenance;
use vml_core::tree::Exclude;
use vml_core::{Backend, CollectMonitor, EntryId, Error, ErrorKind, NoMonitor, Repository, Result};
use vml_testkit::noise::incompressible as noise;

const ALL: TransferRequest<'_> = TransferRequest { entries: &[], history: true, marks: true };

fn end(repository: &Repository) -> OpenRemote<'_> {
    OpenRemote::new(repository, "eva", true, 5)
}

fn bring(source: &dyn Remote, sink: &dyn Remote, request: &TransferRequest<'_>, _: &NoMonitor) -> Result<Transferred> {
    transfer(source, sink, &plan_transfer(source, sink, request)?, request, &NoMonitor)
}

pub fn send(from: &Repository, to: &Repository, entries: &[EntryId]) -> Result<Transferred> {
    bring(&end(from), &end(to), &TransferRequest { entries, ..ALL }, &NoMonitor)
}

#[track_caller]
fn assert_whole(repository: &Repository) {
    let monitor = CollectMonitor::default();
    let checked = repository.check(CheckOptions { data: true, ..CheckOptions::default() }, &monitor).unwrap();
    assert_eq!((checked.problems_count, monitor.problems()), (0, vec![]));
}

fn stored_len(backend: &Arc<dyn Backend>) -> u64 {
    ["data", "meta"].iter().flat_map(|dir| backend.list(dir).unwrap()).map(|file| file.len).sum()
}

/// A tree with several frames in it.
fn write_tree(dir: &Path, seed: u64) {
    std::fs::create_dir_all(dir.join("lib")).unwrap();
    for number in 0..40_u64 {
        std::fs::write(dir.join(format!("lib/{number}")), noise(seed * 1000 + number, 20_000)).unwrap();
    }
    std::fs::write(dir.join("small"), format!("small {seed}")).unwrap();
}

/// A base, and two entries upon it.
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
    let tree = dir.path().join("tree");
    write_tree(&tree, 1);
    let backend = memory();
    let repository = init(&backend);
    let exclude = Exclude::default();
    let kind = EntryKind::Base { name: "debian".to_owned(), version: "12".to_owned() };
    let base = repository.save(SaveRequest { kind, ..request("", &tree, &exclude) }, &NoMonitor).unwrap().id;
    let mut entries = Vec::new();
    for number in 0..2 {
        std::fs::write(tree.join("work"), noise(70 + number, 300_000)).unwrap();
        let on = Some(BaseRef { name: "debian".to_owned(), version: "12".to_owned(), entry: base });
        entries.push(repository.save(SaveRequest { base: on, ..request("work", &tree, &exclude) }, &NoMonitor).unwrap().id);
    }
    Scene { _dir: dir, tree, repository, backend, base, entries }
}

#[test]
fn a_push_brings_history_base_notes_and_tags_and_a_second_one_nothing() {
    let scene = scene();
    let (from, latest) = (&scene.repository, scene.entries[1]);
    from.refs().set(RefKind::Tag, "good", None, Some(scene.entries[0])).unwrap();
    from.add_note(&Note { entry: latest, time_ms: 3, author: "eva".to_owned(), text: "see the log".to_owned() }).unwrap();
    from.add_note(&Note { entry: latest, time_ms: 3, author: RECEIVED_AUTHOR.to_owned(), text: "x\ntrusted remote".to_owned() }).unwrap();
    let backend = memory();
    let to = init(&backend);
    let sent = send(from, &to, &[latest]).unwrap();
    let ids: Vec<EntryId> = sent.entries.iter().map(|(_, got)| got.id).collect();
    assert_eq!(ids, [scene.base, scene.entries[0], latest]);
    assert_eq!((sent.notes_count, sent.sent_chunks_count), (1, sent.needed_chunks_count));
    assert_eq!(sent.entries[2].1.placed, Some(Placed::Made("work".to_owned())));
    assert_eq!(to.refs().get(RefKind::Base, "debian@12").unwrap(), Some(scene.base));
    assert_eq!(to.refs().get(RefKind::Tag, "good").unwrap(), Some(scene.entries[0]));
    let told: Vec<String> = to.notes_of(&latest).unwrap().into_iter().map(|note| note.text).collect();
    assert_eq!(told, ["see the log", "from eva\ntrusted remote"]);
    assert!(provenance(&to, &latest).unwrap().unwrap().trusted_remote);
    assert_whole(&to);
    assert_equal(&scene.tree, build_new(&to, &latest).path());
    // Frames cross as they are.
    assert!(stored_len(&backend) < stored_len(&scene.backend) + 2000, "{} and {}", stored_len(&backend), stored_len(&scene.backend));
    let again = send(from, &to, &[latest]).unwrap();
    assert_eq!(again, Transferred { present_count: 1, ..Transferred::default() });
}

#[test]
fn only_what_is_new_crosses_and_an_area_that_went_another_way_stays() {
    let scene = scene();
    let backend = memory();
    let to = init(&backend);
    send(&scene.repository, &to, &scene.entries[..1]).unwrap();
    std::fs::write(scene.tree.join("more"), noise(5, 100_000)).unwrap();
    let third = save(&scene.repository, "work", &scene.tree).id;
    let before = stored_len(&backend);
    let sent = send(&scene.repository, &to, &[third]).unwrap();
    assert_eq!(sent.entries.len(), 2);
    assert_eq!(sent.entries[1].1.placed, Some(Placed::Advanced("work".to_owned())));
    let grown = stored_len(&backend) - before;
    assert!(grown < 480_000 && sent.frames_bytes < 480_000, "{grown} {}", sent.frames_bytes);
    assert_equal(&scene.tree, build_new(&to, &third).path());
    // Both go on by themselves.
    let there = temp();
    write_tree(there.path(), 2);
    let theirs = save(&to, "work", there.path()).id;
    std::fs::write(scene.tree.join("more"), "mine").unwrap();
    let mine = save(&scene.repository, "work", &scene.tree).id;
    let sent = send(&scene.repository, &to, &[mine]).unwrap();
    let tag = format!("work-received-{}", mine.short());
    assert_eq!(sent.entries[0].1.placed, Some(Placed::Tagged(tag.clone())));
    assert_eq!(to.refs().get(RefKind::Area, "work").unwrap(), Some(theirs));
    assert_eq!(to.refs().get(RefKind::Tag, &tag).unwrap(), Some(mine));
    assert_whole(&to);
}

#[test]
fn without_history_the_entry_and_its_base_come() {
    let scene = scene();
    let to = init(&memory());
    let request = TransferRequest { entries: &scene.entries[1..], history: false, marks: false };
    let sent = bring(&end(&scene.repository), &end(&to), &request, &NoMonitor).unwrap();
    assert_eq!(sent.entries.iter().map(|(_, got)| got.id).collect::<Vec<_>>(), [scene.base, scene.entries[1]]);
    assert_whole(&to);
    assert_eq!(to.previous(&to.entry(&scene.entries[1]).unwrap()).unwrap(), None);
    let unknown = EntryId::of(b"nobody");
    let error = send(&scene.repository, &to, &[unknown]).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::NotFound);
}

#[test]
fn what_was_forgotten_at_the_source_leaves_no_gap() {
    let scene = scene();
    std::fs::write(scene.tree.join("work"), "third").unwrap();
    let third = save(&scene.repository, "work", &scene.tree).id;
    scene.repository.forget(&scene.entries[1..], false, &NoMonitor).unwrap();
    scene.repository.collect(CollectOptions::default(), &NoMonitor).unwrap();
    let to = init(&memory());
    let sent = send(&scene.repository, &to, &[third]).unwrap();
    assert_eq!(sent.entries.iter().map(|(_, got)| got.id).collect::<Vec<_>>(), [scene.base, scene.entries[0], third]);
    assert_eq!(to.previous(&to.entry(&third).unwrap()).unwrap(), Some(scene.entries[0]));
    assert_whole(&to);
}

/// A way to the sink that goes wrong.
struct Wrong<'a> {
    inner: &'a dyn Remote,
    calls: AtomicUsize,
    /// What happens at a call of `store`, or of `commit`, by number.
    at_store: &'a (dyn Fn(usize, &mut Parcel) -> Result<()> + Sync),
    at_commit: &'a (dyn Fn(&mut Commit) + Sync),
    at_fetch: &'a (dyn Fn() -> Result<()> + Sync),
}

impl<'a> Wrong<'a> {
    fn not(inner: &'a dyn Remote) -> Self {
        Self { inner, calls: AtomicUsize::new(0), at_store: &|_, _| Ok(()), at_commit: &|_| {}, at_fetch: &|| Ok(()) }
    }
}

impl Remote for Wrong<'_> {
    fn info(&self) -> Result<RemoteInfo> {
        self.inner.info()
    }
    fn refs(&self) -> Result<Vec<RemoteRef>> {
        self.inner.refs()
    }
    fn history(&self, entries: &[EntryId]) -> Result<Vec<HistoryItem>> {
        self.inner.history(entries)
    }
    fn entries_there(&self, entries: &[EntryId]) -> Result<Vec<bool>> {
        self.inner.entries_there(entries)
    }
    fn records(&self, entries: &[EntryId]) -> Result<Vec<Vec<u8>>> {
        self.inner.records(entries)
    }
    fn notes(&self) -> Result<Vec<NoteId>> {
        self.inner.notes()
    }
    fn note_records(&self, notes: &[NoteId]) -> Result<Vec<Vec<u8>>> {
        self.inner.note_records(notes)
    }
    fn needs(&self, entries: &[EntryId], known: &[EntryId], each: &mut dyn FnMut(Needs) -> Result<()>) -> Result<()> {
        // As it looks on a wire.
        self.inner.needs(entries, known, &mut |needs| each(decode_message("needs", &encode_message(&needs))?))
    }
    fn has(&self, chunks: &[ChunkId]) -> Result<Vec<bool>> {
        self.inner.has(chunks)
    }
    fn fetch(&self, frames: &[FrameAt]) -> Result<Parcel> {
        (self.at_fetch)()?;
        self.inner.fetch(frames)
    }
    fn compose(&self, kind: PackKind, chunks: &[ChunkId]) -> Result<Parcel> {
        self.inner.compose(kind, chunks)
    }
    fn store(&self, mut parcel: Parcel) -> Result<Stowed> {
        (self.at_store)(self.calls.fetch_add(1, Ordering::Relaxed), &mut parcel)?;
        self.inner.store(parcel)
    }
    fn commit(&self, commit: &Commit) -> Result<Committed> {
        let mut commit = commit.clone();
        (self.at_commit)(&mut commit);
        self.inner.commit(&commit)
    }
    fn forget(&self, entries: &[EntryId], force: bool) -> Result<()> {
        self.inner.forget(entries, force)
    }
}

#[test]
fn a_cut_push_leaves_nothing_visible_and_the_next_one_sends_the_rest() {
    let scene = scene();
    let backend = memory();
    let to = init(&backend);
    let sink = end(&to).durable();
    // Half of what is on its way arrives.
    let cut = |_: usize, parcel: &mut Parcel| {
        sink.store(parcel.drain(..parcel.len() / 2).collect())?;
        Err(Error::new(ErrorKind::Io, "the line is cut"))
    };
    let wrong = Wrong { at_store: &cut, ..Wrong::not(&sink) };
    let request = TransferRequest { entries: &scene.entries[1..], ..ALL };
    let error = bring(&end(&scene.repository), &wrong, &request, &NoMonitor).unwrap_err();
    assert_eq!(error.to_string(), "the line is cut");
    assert_eq!((to.entry_ids().unwrap().len(), to.refs().list(RefKind::Area).unwrap().len()), (0, 0));
    assert!(stored_len(&backend) > 0);
    let kept = stored_len(&backend);
    let sent = bring(&end(&scene.repository), &end(&open(&backend)).durable(), &request, &NoMonitor).unwrap();
    assert!(sent.sent_chunks_count < sent.needed_chunks_count);
    assert!(sent.frames_bytes + kept < stored_len(&scene.backend) + 5000);
    assert_whole(&open(&backend));
}

#[test]
fn damaged_frames_and_entries_that_lack_something_are_refused() {
    let scene = scene();
    let request = TransferRequest { entries: &scene.entries[1..], ..ALL };
    let to = init(&memory());
    let flip = |_: usize, parcel: &mut Parcel| {
        let frame = &mut parcel[0].1;
        let middle = frame.len() / 2;
        frame[middle] ^= 1;
        Ok(())
    };
    let drop_one = |_: usize, parcel: &mut Parcel| {
        parcel.pop();
        Ok(())
    };
    for (spoil, kinds) in [
        (&flip as &(dyn Fn(usize, &mut Parcel) -> Result<()> + Sync), [ErrorKind::Corrupt, ErrorKind::NotFound]),
        (&drop_one, [ErrorKind::NotFound, ErrorKind::NotFound]),
    ] {
        let sink = end(&to);
        let wrong = Wrong { at_store: spoil, ..Wrong::not(&sink) };
        let error = bring(&end(&scene.repository), &wrong, &request, &NoMonitor).unwrap_err();
        assert!(kinds.contains(&error.kind()), "{error:?}");
        assert_eq!(to.entry_ids().unwrap(), []);
    }
    assert_whole(&to);
    // A record that is no entry, one with an impossible name.
    let sink = end(&to);
    let mut entry = scene.repository.entry(&scene.entries[0]).unwrap();
    for record in [b"nothing".to_vec(), {
        entry.kind = EntryKind::State { area: "../../etc".to_owned() };
        entry.encode().1
    }] {
        let error = sink.commit(&Commit { entries: vec![record], ..Commit::default() }).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Corrupt);
    }
    assert_eq!(to.entry_ids().unwrap(), []);
}

#[test]
fn a_collection_in_the_middle_costs_a_repetition_only() {
    let scene = scene();
    let backend = memory();
    let to = init(&backend);
    let sink = end(&to).durable();
    let once = AtomicUsize::new(0);
    // Twice, so that no lease counts; before the entries are committed.
    let collect = |_: &mut Commit| {
        if once.fetch_add(1, Ordering::Relaxed) == 0 {
            for _ in 0..3 {
                open(&backend).collect(CollectOptions::default(), &NoMonitor).unwrap();
            }
        }
    };
    let wrong = Wrong { at_commit: &collect, ..Wrong::not(&sink) };
    let sent = bring(&end(&scene.repository), &wrong, &TransferRequest { entries: &scene.entries[1..], ..ALL }, &NoMonitor).unwrap();
    assert_eq!(sent.entries.len(), 3);
    assert!(once.load(Ordering::Relaxed) >= 2);
    assert!(sent.sent_chunks_count > sent.needed_chunks_count / 2);
    assert_whole(&open(&backend));
}

#[test]
fn a_pack_that_was_rewritten_meanwhile_is_read_chunk_by_chunk() {
    let scene = scene();
    let to = init(&memory());
    let source = end(&scene.repository);
    // Every place is wrong by the time it is asked for.
    let moved = Wrong { at_fetch: &|| Err(Error::not_found("the pack has gone")), ..Wrong::not(&source) };
    bring(&moved, &end(&to), &TransferRequest { entries: &scene.entries[1..], ..ALL }, &NoMonitor).unwrap();
    assert_whole(&to);
}

#[test]
fn a_trusted_remote_is_noted_and_an_untrusted_one_too() {
    let scene = scene();
    let to = init(&memory());
    let sink = OpenRemote::new(&to, "http://far\naway", false, 5);
    let request = TransferRequest { entries: &scene.entries[1..], history: false, marks: false };
    bring(&end(&scene.repository), &sink, &request, &NoMonitor).unwrap();
    assert!(!provenance(&to, &scene.entries[1]).unwrap().unwrap().trusted_remote);
    // The same from somebody who is trusted: known as such from then on.
    let sink = end(&to);
    let record = scene.repository.entry(&scene.entries[1]).unwrap().encode().1;
    sink.commit(&Commit { entries: vec![record], ..Commit::default() }).unwrap();
    assert!(provenance(&to, &scene.entries[1]).unwrap().unwrap().trusted_remote);
    // What was saved here stays ours.
    let own = try_save(&to, "own", &scene.tree, &NoMonitor).unwrap().id;
    let record = to.entry(&own).unwrap().encode().1;
    OpenRemote::new(&to, "far", false, 5).commit(&Commit { entries: vec![record], ..Commit::default() }).unwrap();
    assert_eq!(provenance(&to, &own).unwrap(), None);
}

#[test]
fn a_repository_that_demands_signatures_takes_from_trusted_remotes_only() {
    let scene = scene();
    let to = init(&memory());
    to.set_policy(&Policy { require_signed: true, ..Policy::default() }).unwrap();
    let request = TransferRequest { entries: &scene.entries[1..], ..ALL };
    let sink = OpenRemote::new(&to, "far", false, 5);
    let error = bring(&end(&scene.repository), &sink, &request, &NoMonitor).unwrap_err();
    assert_eq!((error.kind(), to.entry_ids().unwrap().len()), (ErrorKind::PermissionDenied, 0));
    assert_eq!(bring(&end(&scene.repository), &end(&to), &request, &NoMonitor).unwrap().entries.len(), 3);
}

/// A push that was cut when its entries were there and no ref pointed to them.
#[test]
fn a_push_that_was_cut_before_its_last_step_points_the_area_when_it_is_done_again() {
    let scene = scene();
    let backend = memory();
    let to = init(&backend);
    let latest = scene.entries[1];
    send(&scene.repository, &to, &[latest]).unwrap();
    to.refs().set(RefKind::Area, "work", Some(latest), None).unwrap();
    let again = send(&scene.repository, &to, &[latest]).unwrap();
    assert_eq!(again.entries.len(), 1);
    assert_eq!((again.entries[0].1.new, again.entries[0].1.placed.clone()), (false, Some(Placed::Made("work".to_owned()))));
    assert_eq!(to.refs().get(RefKind::Area, "work").unwrap(), Some(latest));
    // What an entry at the head continues is in its place.
    assert_eq!(send(&scene.repository, &to, &scene.entries[..1]).unwrap(), Transferred { present_count: 1, ..Transferred::default() });
}
