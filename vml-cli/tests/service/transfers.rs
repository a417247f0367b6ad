//! Pushes and pulls through the service: whole, killed in their midst, and onto a full disk.

use crate::access::token;
use crate::client::Client;
use crate::server::Server;
use crate::support::{Host, make_guest};
use std::fs;
use std::process::Command;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use vml_chunk::{ChunkId, PackKind};
use vml_core::entry::EntryId;
use vml_core::remote::{
    Commit, Committed, FrameAt, HistoryItem, Needs, NoteId, OpenRemote, Parcel, Remote, RemoteInfo, RemoteRef, Stowed, TransferRequest,
    Transferred, plan_transfer,
};
use vml_core::{ErrorKind, LocalBackend, NoMonitor, Repository, RepositoryOptions, Result};

fn open(host: &Host) -> Repository {
    Repository::open(Arc::new(LocalBackend::open(host.repository()).unwrap()), RepositoryOptions::default()).unwrap()
}

/// A guest with so much that pushing it takes several parcels.
pub fn big_host(megabytes: usize) -> Host {
    let host = Host::new();
    make_guest(&host.path("guest"));
    let mut state = 1_u64;
    for number in 0..megabytes {
        // Nothing that compresses.
        let mut bytes = Vec::with_capacity(1 << 20);
        while bytes.len() < 1 << 20 {
            state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
            bytes.extend_from_slice(&(state >> 16).to_le_bytes()[..6]);
        }
        fs::write(host.path("guest").join(format!("big{number}")), bytes).unwrap();
    }
    host.ok(["area", "add", "work", "--tree", "guest"]);
    host.ok(["save", "work", "-m", "first"]);
    host
}

/// Forwards calls, and does something before the N-th `store`.
struct Disturbed<'a> {
    inner: &'a dyn Remote,
    stores: AtomicUsize,
    at: usize,
    disturb: &'a (dyn Fn() + Sync),
}

impl Remote for Disturbed<'_> {
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
        self.inner.needs(entries, known, each)
    }
    fn has(&self, chunks: &[ChunkId]) -> Result<Vec<bool>> {
        self.inner.has(chunks)
    }
    fn fetch(&self, frames: &[FrameAt]) -> Result<Parcel> {
        self.inner.fetch(frames)
    }
    fn compose(&self, kind: PackKind, chunks: &[ChunkId]) -> Result<Parcel> {
        self.inner.compose(kind, chunks)
    }
    fn store(&self, parcel: Parcel) -> Result<Stowed> {
        if self.stores.fetch_add(1, Ordering::SeqCst) + 1 == self.at {
            (self.disturb)();
            return Err(vml_core::Error::new(ErrorKind::Interrupted, "the line is dead"));
        }
        self.inner.store(parcel)
    }
    fn commit(&self, commit: &Commit) -> Result<Committed> {
        self.inner.commit(commit)
    }
    fn forget(&self, entries: &[EntryId], force: bool) -> Result<()> {
        self.inner.forget(entries, force)
    }
}

fn latest(repository: &Repository) -> EntryId {
    repository.resolve("work@latest").unwrap()
}

fn transfer(source: &dyn Remote, sink: &dyn Remote, request: &TransferRequest<'_>, monitor: &NoMonitor) -> vml_core::Result<Transferred> {
    vml_core::remote::transfer(source, sink, &plan_transfer(source, sink, request)?, request, monitor)
}

#[test]
fn what_is_pushed_is_pulled_elsewhere_and_built_equal() {
    let (ours, server_host, theirs) = (Host::with_entry(), Host::new(), Host::new());
    ours.ok(["save", "work", "-m", "second", "--tag", "good"]);
    ours.ok(["note", "good", "a note"]);
    let token = token(&server_host, "eva", "append");
    let server = Server::start(&server_host, &[]);
    let client = Client { server: &server, token };
    let repository = open(&ours);
    let ids = [latest(&repository)];
    let request = TransferRequest { entries: &ids, history: true, marks: true };
    let source = OpenRemote::new(&repository, "here", true, 0);
    let sent = transfer(&source, &client, &request, &NoMonitor).unwrap();
    assert!(sent.entries.len() == 2 && sent.sent_chunks_count > 0 && sent.notes_count == 1, "{sent:?}");
    // Again, nothing crosses.
    let again = transfer(&source, &client, &request, &NoMonitor).unwrap();
    assert_eq!((again.entries.len(), again.sent_chunks_count, again.notes_count), (0, 0, 0));
    assert!(server_host.ok(["show", "good"]).contains("eva, by a push"));
    let repository = open(&theirs);
    let sink = OpenRemote::new(&repository, "the service", false, 0);
    transfer(&client, &sink, &request, &NoMonitor).unwrap();
    theirs.ok(["build", "good", "copy"]);
    theirs.ok(["check", "--data"]);
    let different = Command::new("diff").arg("-r").arg(ours.path("guest")).arg(theirs.path("copy")).output().unwrap();
    assert!(different.status.code() != Some(1) || different.stdout.is_empty(), "{}", String::from_utf8_lossy(&different.stdout));
}

#[test]
fn a_push_goes_on_after_the_service_was_killed_in_its_midst() {
    let (ours, server_host) = (big_host(64), Host::new());
    let token = token(&server_host, "eva", "append");
    let server = Server::start(&server_host, &[]);
    let repository = open(&ours);
    let ids = [latest(&repository)];
    let request = TransferRequest { entries: &ids, history: true, marks: true };
    let source = OpenRemote::new(&repository, "here", true, 0);
    {
        let client = Client { server: &server, token: token.clone() };
        let kill = || server.signal(rustix::process::Signal::KILL);
        let dying = Disturbed { inner: &client, stores: AtomicUsize::new(0), at: 6, disturb: &kill };
        // Four parcels are on their way at once: when the sixth goes, some were stored.
        assert_eq!(transfer(&source, &dying, &request, &NoMonitor).unwrap_err().kind(), ErrorKind::Interrupted);
    }
    server.kill();
    // Nothing of it can be seen, and what was stored is whole.
    assert!(server_host.ok(["log"]).contains("nothing saved yet"));
    let checked = server_host.run(["check", "--data"]);
    assert!(checked.code == 0 && checked.out.contains("no problems"), "{} {}", checked.out, checked.err);
    let server = Server::start(&server_host, &[]);
    let client = Client { server: &server, token };
    let sent = transfer(&source, &client, &request, &NoMonitor).unwrap();
    assert!(sent.sent_chunks_count < sent.needed_chunks_count, "nothing of the first push serves: {sent:?}");
    server_host.ok(["check", "--data"]);
    assert_eq!(latest(&open(&server_host)), ids[0]);
}

#[test]
fn entries_whose_chunks_are_not_there_are_not_made_known() {
    let (ours, server_host) = (Host::with_entry(), Host::new());
    let token = token(&server_host, "eva", "append");
    let server = Server::start(&server_host, &[]);
    let client = Client { server: &server, token };
    let entry = open(&ours).entry(&latest(&open(&ours))).unwrap();
    let commit = Commit { entries: vec![entry.encode().1], ..Commit::default() };
    let refused = client.commit(&commit).unwrap_err();
    assert_eq!(refused.kind(), ErrorKind::NotFound);
    assert!(refused.to_string().contains("are not in the repository"), "{refused}");
    let damaged = Commit { entries: vec![vec![1, 2, 3]], ..Commit::default() };
    assert_eq!(client.commit(&damaged).unwrap_err().kind(), ErrorKind::Corrupt);
    assert!(client.refs().unwrap().is_empty());
}

#[test]
fn a_full_disk_is_told_and_the_push_goes_on_when_there_is_room() {
    if !rustix::process::geteuid().is_root() {
        println!("skipped: a full disk needs root, for a file system of its own");
        return;
    }
    let (ours, server_host) = (big_host(40), Host::bare());
    let place = server_host.path("small");
    fs::create_dir(&place).unwrap();
    let mounted = Command::new("mount").args(["-t", "tmpfs", "-o", "size=24m", "tmpfs"]).arg(&place).status();
    if !mounted.is_ok_and(|status| status.success()) {
        println!("skipped: a full disk needs a tmpfs, which cannot be mounted here");
        return;
    }
    let _unmount = Unmount(place.clone());
    let small = place.join("repository");
    server_host.ok(["--repo", small.to_str().unwrap(), "init"]);
    let token = token(&server_host, "eva", "append");
    let server = Server::start(&server_host, &["--repo", small.to_str().unwrap()]);
    let client = Client { server: &server, token };
    let repository = open(&ours);
    let ids = [latest(&repository)];
    let request = TransferRequest { entries: &ids, history: true, marks: false };
    let source = OpenRemote::new(&repository, "here", true, 0);
    let full = transfer(&source, &client, &request, &NoMonitor).unwrap_err();
    assert_eq!(full.kind(), ErrorKind::NoSpace, "{full:?}");
    assert!(!full.to_string().contains("/small"), "{full}");
    assert!(client.refs().unwrap().is_empty());
    let more = Command::new("mount").args(["-o", "remount,size=200m"]).arg(&place).status().unwrap();
    assert!(more.success());
    transfer(&source, &client, &request, &NoMonitor).unwrap();
    server_host.ok(["--repo", small.to_str().unwrap(), "check", "--data"]);
}

struct Unmount(std::path::PathBuf);

impl Drop for Unmount {
    fn drop(&mut self) {
        _ = Command::new("umount").arg("-l").arg(&self.0).status();
    }
}
