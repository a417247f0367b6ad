//! Every backend passes the one suite; what only the local one can do is tested beside it.

use std::fs;
use std::sync::Arc;
use vml_chunk::{Backend, LocalBackend, MemoryBackend};
use vml_testkit::backend_suite;
use vml_testkit::faulty::FaultyBackend;

/// Fresh directories below one that outlives them.
fn in_fresh_dirs(open: impl Fn(std::path::PathBuf) -> LocalBackend) {
    let dir = tempfile::tempdir().unwrap();
    let count = std::cell::Cell::new(0);
    backend_suite::run(&|| {
        count.set(count.get() + 1);
        // Two levels: `create` makes what is missing.
        Arc::new(open(dir.path().join(format!("{}/repository", count.get()))))
    });
}

#[test]
fn the_memory_backend_conforms() {
    backend_suite::run(&|| Arc::new(MemoryBackend::new()));
}

#[test]
fn the_local_backend_conforms() {
    in_fresh_dirs(|path| LocalBackend::create(path).unwrap());
}

#[test]
fn the_local_backend_with_named_staging_conforms() {
    in_fresh_dirs(|path| LocalBackend::create(path).unwrap().with_named_staging());
}

#[test]
fn the_local_backend_on_a_disk_in_memory_conforms() {
    use vml_testkit::crash::{Disk, Handle, Objects};
    let open = |handle: Handle| LocalBackend::create_on(handle, "r/repository").unwrap();
    backend_suite::run(&|| Arc::new(open(Handle::new(&Disk::default()))));
    backend_suite::run(&|| Arc::new(open(Handle::new(&Disk::default())).with_named_staging()));
    // Every operation is interrupted once, and every write is short.
    backend_suite::run(&|| Arc::new(open(Handle::nervous(&Disk::default()))));
    backend_suite::run(&|| Arc::new(Objects::default()));
}

#[test]
fn the_faulty_backend_conforms_while_it_is_not_told_to_fail() {
    backend_suite::run(&|| Arc::new(FaultyBackend::new(Arc::new(MemoryBackend::new()))));
}

#[test]
fn a_sweep_removes_a_dead_writers_file_and_no_live_ones() {
    let dir = tempfile::tempdir().unwrap();
    let backend = LocalBackend::create(dir.path()).unwrap().with_named_staging();
    let mut live = backend.stage().unwrap();
    live.append(b"live").unwrap();
    let tmp = dir.path().join("tmp");
    // What a killed writer leaves: a file of that form that nobody has locked.
    fs::write(tmp.join("4000000-7"), b"dead").unwrap();
    fs::write(tmp.join("swap.lock"), b"").unwrap();
    assert_eq!(fs::read_dir(&tmp).unwrap().count(), 3);
    assert_eq!(backend.sweep().unwrap(), 1);
    assert!(!tmp.join("4000000-7").exists() && tmp.join("swap.lock").exists());
    live.publish("data/x").unwrap();
    drop(live);
    assert_eq!(backend.read("data/x", 10).unwrap(), b"live");
    assert_eq!(fs::read_dir(&tmp).unwrap().count(), 1, "only the lock is left");
}

#[test]
fn opening_what_is_no_directory_is_refused() {
    let dir = tempfile::tempdir().unwrap();
    let kind = |path: &str| LocalBackend::open(dir.path().join(path)).unwrap_err().kind();
    assert_eq!(kind("missing"), vml_chunk::ErrorKind::NotFound);
    fs::write(dir.path().join("file"), b"").unwrap();
    assert_eq!(kind("file"), vml_chunk::ErrorKind::InvalidInput);
}
