//! What the modules share: repositories in memory, saves with the real clock, restores, and ways to spoil a file.

use std::path::{Path, PathBuf};
use std::sync::{Arc, OnceLock};
use std::time::{Duration, SystemTime, UNIX_EPOCH};
use tempfile::TempDir;
use vml_core::entry::EntryKind;
use vml_core::monitor::Monitor;
use vml_core::repository::{SaveRequest, SaveTree, Saved, TreePlace};
use vml_core::tree::compare::{CompareOptions, compare_directories};
use vml_core::tree::{Exclude, RestoreOptions, Restored, Timestamp, restore_tree};
use vml_core::{Backend, CollectMonitor, Config, EntryId, MemoryBackend, Problem, Repository, RepositoryOptions, Result};
use vml_testkit::faulty::copy_files;
pub use vml_testkit::files::{keys, overwrite, read};
use vml_testkit::trees::Able;

/// The directories of a repository.
pub const DIRS: [&str; 13] =
    ["data", "meta", "index", "entries", "notes", "refs/areas", "refs/tags", "refs/bases", "forgotten", "saving", "leases", "gc", "parity"];

pub const OPTIONS: RepositoryOptions = RepositoryOptions { threads: 3, cache_len: 8 << 20 };

/// Restores everything this process may restore, and nothing that it finds is deleted.
pub fn restoring() -> RestoreOptions {
    RestoreOptions { delete: false, owners: is_root(), special: true, limit: None, threads: 3, open_max: 12 }
}

/// As [`restoring`], and what the tree does not have is deleted.
pub fn deleting() -> RestoreOptions {
    RestoreOptions { delete: true, ..restoring() }
}

pub fn is_root() -> bool {
    rustix::process::geteuid().is_root()
}

pub fn temp() -> TempDir {
    tempfile::tempdir().unwrap()
}

/// A new directory in `dir`.
pub fn subdir(dir: &TempDir, name: &str) -> PathBuf {
    let path = dir.path().join(name);
    std::fs::create_dir(&path).unwrap();
    path
}

/// What can be made in temporary directories; found out once.
pub fn able() -> &'static Able {
    static ABLE: OnceLock<Able> = OnceLock::new();
    ABLE.get_or_init(|| Able::find_out(temp().path()))
}

pub fn memory() -> Arc<dyn Backend> {
    Arc::new(MemoryBackend::new())
}

/// Settings of the tests' own, so that better defaults change no test. Small frames, so that little data makes several.
pub fn config() -> Config {
    Config { frame_len: 64 << 10, level: 1, inline_max: 512, ..Config::new([7; 16], 1_700_000_000_000) }
}

pub fn init(backend: &Arc<dyn Backend>) -> Repository {
    Repository::init(Arc::clone(backend), config(), OPTIONS).unwrap()
}

pub fn open(backend: &Arc<dyn Backend>) -> Repository {
    Repository::open(Arc::clone(backend), OPTIONS).unwrap()
}

/// A repository's files in memory, so that the original stays as it is.
pub fn copy_of(backend: &dyn Backend) -> Arc<dyn Backend> {
    let copy = memory();
    copy_files(backend, copy.as_ref(), &DIRS);
    if let Ok(config) = backend.read("config", u64::MAX) {
        copy.put("config", &config).unwrap();
    }
    copy
}

pub fn now() -> Timestamp {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap();
    Timestamp { seconds: i64::try_from(since.as_secs()).unwrap(), nanoseconds: since.subsec_nanos() }
}

/// Waits until no file made so far counts as too young to be known by its times.
pub fn let_files_age() {
    std::thread::sleep(Duration::from_millis(70));
}

/// A request to save `tree` in `area`.
pub fn request<'a>(area: &str, tree: &'a Path, exclude: &'a Exclude) -> SaveRequest<'a> {
    SaveRequest {
        kind: EntryKind::State { area: area.to_owned() },
        tree: Some(SaveTree { place: TreePlace::Local(tree), exclude, one_file_system: false, users: &[], groups: &[] }),
        disks: &[],
        machine: None,
        memory: None,
        add_parts: false,
        base: None,
        author: "tester",
        message: "a test",
        tags: &[],
        facts: Vec::new(),
        now: now(),
        learn: None,
        elapsed_ms: &|| 1,
    }
}

pub fn try_save(repository: &Repository, area: &str, tree: &Path, monitor: &dyn Monitor) -> Result<Saved> {
    repository.save(request(area, tree, &Exclude::default()), monitor)
}

/// Saves and expects no problem.
pub fn save(repository: &Repository, area: &str, tree: &Path) -> Saved {
    let monitor = CollectMonitor::default();
    let saved = try_save(repository, area, tree, &monitor).unwrap();
    assert_eq!((saved.problems_count, monitor.problems()), (0, Vec::<Problem>::new()));
    saved
}

/// Restores an entry's whole tree; gives the problems with the numbers.
pub fn build(repository: &Repository, id: &EntryId, target: &Path, options: &RestoreOptions) -> Result<(Restored, Vec<Problem>)> {
    let monitor = CollectMonitor::default();
    let entry = repository.entry(id)?;
    let restored = restore_tree(repository.store(&monitor)?, &entry.tree().unwrap().root, target, options, &monitor)?;
    assert_eq!(restored.problems_count, monitor.problems().iter().filter(|problem| is_restores(problem)).count() as u64);
    Ok((restored, monitor.problems()))
}

/// Whether a problem is one of a member; those of opening the store name packs.
fn is_restores(problem: &Problem) -> bool {
    !["pack data/", "pack meta/"].iter().any(|dir| problem.subject.starts_with(dir))
}

/// As [`build`], into a new directory, expecting no problem.
pub fn build_new(repository: &Repository, id: &EntryId) -> TempDir {
    let target = temp();
    let (_, problems) = build(repository, id, target.path(), &restoring()).unwrap();
    assert_eq!(problems, []);
    target
}

/// Fails unless both directories are equal in everything.
#[track_caller]
pub fn assert_equal(left: &Path, right: &Path) {
    let compared = compare_directories(left, right, CompareOptions { owners: is_root(), holes: true }).unwrap();
    assert_eq!(compared.differences, [""; 0]);
}

/// What a check tells; every problem as a line.
pub fn problems_of_check(repository: &Repository, data: bool) -> Vec<String> {
    let monitor = CollectMonitor::default();
    let checked = repository.check(vml_core::repository::CheckOptions { data, ..Default::default() }, &monitor).unwrap();
    let problems = monitor.problems();
    assert_eq!(checked.problems_count, problems.len() as u64, "{problems:?}");
    problems.iter().map(ToString::to_string).collect()
}

/// Fails unless a thorough check finds nothing.
#[track_caller]
pub fn assert_whole(backend: &Arc<dyn Backend>) {
    assert_eq!(problems_of_check(&open(backend), true), [""; 0]);
}
