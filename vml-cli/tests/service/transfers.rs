//! Pushes and pulls through the service: whole, killed in their midst, and onto a full disk.

use crate::access::token;
use crate::client::Client;
use crate::server::Server;
use crate::support::{Host, make_guest};
use std::fs;
use std::process::Command;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use vml_core::entry::EntryId;
use vml_core::remote::{Commit, OpenRemote, Remote, TransferRequest, Transferred, plan_transfer};
use vml_core::{Error, ErrorKind, LocalBackend, NoMonitor, Repository, RepositoryOptions};
use vml_testkit::noise;

fn open(host: &Host) -> Repository {
    Repository::open(Arc::new(LocalBackend::open(host.repository()).unwrap()), RepositoryOptions::default()).unwrap()
}

/// A guest with so much that pushing it takes several parcels.
pub fn big_host(megabytes: usize) -> Host {
    let host = Host::new();
    make_guest(&host.path("guest"));
    for number in 0..megabytes {
        fs::write(host.path("guest").join(format!("big{number}")), noise::incompressible(number as u64, 1 << 20)).unwrap();
    }
    host.ok(["area", "add", "work", "--tree", "guest"]);
    host.ok(["save", "work", "-m", "first"]);
    host
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
    let client = Client::new(&server, token);
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
        // Six parcels are on their way at once: when the tenth goes, some were stored.
        let stores = AtomicUsize::new(0);
        let kill_at_the_tenth = || {
            if stores.fetch_add(1, Ordering::SeqCst) + 1 == 10 {
                server.signal(rustix::process::Signal::KILL);
                return Err(Error::new(ErrorKind::Interrupted, "the line is dead"));
            }
            Ok(())
        };
        let dying = Client { before_store: &kill_at_the_tenth, ..Client::new(&server, token.clone()) };
        assert_eq!(transfer(&source, &dying, &request, &NoMonitor).unwrap_err().kind(), ErrorKind::Interrupted);
    }
    server.kill();
    // Nothing of it can be seen, and what was stored is whole.
    assert!(server_host.ok(["log"]).contains("nothing saved yet"));
    let checked = server_host.run(["check", "--data"]);
    assert!(checked.code == 0 && checked.out.contains("no problems"), "{} {}", checked.out, checked.err);
    let server = Server::start(&server_host, &[]);
    let client = Client::new(&server, token);
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
    let client = Client::new(&server, token);
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
    let client = Client::new(&server, token);
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
