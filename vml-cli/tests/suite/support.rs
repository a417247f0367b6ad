//! A host for one test: a home, trees, and `vml` run in them.

use rustix::fs::{AtFlags, CWD, Timespec, Timestamps, utimensat};
use serde_json::Value;
use std::cell::Cell;
use std::ffi::OsStr;
use std::fs::{self, File, Permissions};
use std::os::unix::fs::{PermissionsExt, symlink};
use std::path::{Path, PathBuf};
use std::process::{Command, Output};
use std::time::{Duration, SystemTime};
use tempfile::TempDir;
use vml_core::tree::compare::{CompareOptions, compare_directories};

/// 2033-05-18 03:33:20 UTC: later than any file that a test makes, so that none of them counts as changed just now.
const START_MS: i64 = 2_000_000_000_000;

/// What a command did.
pub struct Ran {
    pub code: i32,
    pub out: String,
    pub err: String,
}

impl Ran {
    pub fn of(output: &Output) -> Self {
        Self {
            code: output.status.code().unwrap_or(-1),
            out: String::from_utf8_lossy(&output.stdout).into_owned(),
            err: String::from_utf8_lossy(&output.stderr).into_owned(),
        }
    }

    /// It succeeded. That packs of others, who run or were killed, were not in the index yet may be told.
    #[track_caller]
    pub fn succeeds_beside_others(&self, what: &str) {
        let only_notices = self.err.lines().all(|line| line.contains("not in the index"));
        assert!(self.code == 0 && only_notices, "{what}: {} {}", self.code, self.err);
    }

    /// It failed with `code` and said every one of `parts` on standard error, and nothing panicked.
    #[track_caller]
    pub fn fails(self, code: i32, parts: &[&str]) -> Self {
        assert_eq!(self.code, code, "stdout: {}\nstderr: {}", self.out, self.err);
        for part in parts {
            assert!(self.err.contains(part), "{part:?} is not in: {}", self.err);
        }
        assert!(!self.err.contains("panicked"), "{}", self.err);
        self
    }
}

pub struct Host {
    dir: TempDir,
    minute: Cell<i64>,
    variables: Vec<(String, String)>,
}

impl Host {
    /// A host without a repository.
    pub fn bare() -> Self {
        let dir = tempfile::tempdir().unwrap();
        // For the tests that run as somebody else.
        fs::set_permissions(dir.path(), Permissions::from_mode(0o755)).unwrap();
        Self { dir, minute: Cell::new(0), variables: Vec::new() }
    }

    /// Sets a variable for every command.
    pub fn set(&mut self, name: &str, value: impl Into<String>) {
        self.variables.push((name.to_owned(), value.into()));
    }

    /// A host with a repository.
    pub fn new() -> Self {
        let host = Self::bare();
        host.ok(["init"]);
        host
    }

    /// A host with a repository, the tree of [`make_guest`] in `guest`, and an area `work` over it.
    pub fn with_area() -> Self {
        let host = Self::new();
        make_guest(&host.path("guest"));
        host.ok(["area", "add", "work", "--tree", "guest"]);
        host
    }

    /// As [`with_area`](Self::with_area), saved once.
    pub fn with_entry() -> Self {
        let host = Self::with_area();
        host.ok(["save", "work", "-m", "first"]);
        host
    }

    /// A host with the base `debian@12` and the area `work` upon it, saved twice: once with the files of `more`, then with changed notes.
    pub fn with_base(more: impl FnOnce(&Path)) -> Self {
        let host = Self::new();
        make_guest(&host.path("base"));
        make_guest(&host.path("guest"));
        host.ok(["base", "add", "debian@12", "--tree", "base"]);
        more(&host.path("guest/home/dev"));
        host.ok(["area", "add", "work", "--tree", "guest", "--base", "debian@12"]);
        host.ok(["save", "work", "-m", "first"]);
        write(&host.path("guest/home/dev/notes"), b"two\n");
        host.ok(["save", "work", "-m", "second"]);
        host
    }

    pub fn path(&self, below: &str) -> PathBuf {
        self.dir.path().join(below)
    }

    pub fn repository(&self) -> PathBuf {
        self.path("home/repository")
    }

    /// `program` in this host's surroundings and nothing of the machine's own.
    pub fn program(&self, program: impl AsRef<OsStr>) -> Command {
        let mut command = Command::new(program);
        let now = START_MS + self.minute.get() * 60_000;
        self.minute.set(self.minute.get() + 1);
        command.env_clear().current_dir(self.dir.path());
        command.env("PATH", std::env::var_os("PATH").unwrap_or_default());
        command.env("HOME", self.path("user")).env("LOGNAME", "tester").env("TZ", "UTC").env("LC_ALL", "C");
        command.env("VML_HOME", self.path("home")).env("VML_TIME_MS", now.to_string());
        command.envs(self.variables.iter().map(|(name, value)| (name, value)));
        command
    }

    pub fn command<A: AsRef<OsStr>>(&self, args: impl IntoIterator<Item = A>) -> Command {
        let mut command = self.program(env!("CARGO_BIN_EXE_vml"));
        command.args(args);
        command
    }

    pub fn run<A: AsRef<OsStr>>(&self, args: impl IntoIterator<Item = A>) -> Ran {
        Ran::of(&self.command(args).output().unwrap())
    }

    /// Runs it, and it succeeds without a word on standard error; returns its output.
    #[track_caller]
    pub fn ok<A: AsRef<OsStr>>(&self, args: impl IntoIterator<Item = A>) -> String {
        let ran = self.run(args);
        assert_eq!((ran.code, ran.err.as_str()), (0, ""), "stdout: {}", ran.out);
        ran.out
    }

    /// Runs it with `--json`, and it succeeds; returns one value a line.
    #[track_caller]
    pub fn json_lines<A: AsRef<OsStr>>(&self, args: impl IntoIterator<Item = A>) -> Vec<Value> {
        let mut command = self.command(args);
        let ran = Ran::of(&command.arg("--json").output().unwrap());
        assert_eq!((ran.code, ran.err.as_str()), (0, ""), "stdout: {}", ran.out);
        ran.out.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
    }

    /// Runs it with `--json`, and it prints one object.
    #[track_caller]
    pub fn json<A: AsRef<OsStr>>(&self, args: impl IntoIterator<Item = A>) -> Value {
        let mut lines = self.json_lines(args);
        assert_eq!(lines.len(), 1, "one object: {lines:?}");
        lines.remove(0)
    }

    /// Builds `entry` in a new directory and compares it with `tree`.
    #[track_caller]
    pub fn assert_builds(&self, entry: &str, tree: &Path) {
        let built = tempfile::tempdir_in(self.dir.path()).unwrap();
        self.ok([OsStr::new("build"), OsStr::new(entry), built.path().as_os_str()]);
        assert_equal(tree, built.path());
    }

    /// As [`assert_builds`](Self::assert_builds), in a repository where something else is damaged, which may be told.
    #[track_caller]
    pub fn assert_still_builds(&self, entry: &str, tree: &Path) {
        let built = tempfile::tempdir_in(self.dir.path()).unwrap();
        let ran = self.run([OsStr::new("build"), OsStr::new(entry), built.path().as_os_str()]);
        assert_eq!(ran.code, 0, "{}", ran.err);
        assert_equal(tree, built.path());
    }

    /// `check --data` finds nothing.
    #[track_caller]
    pub fn assert_whole(&self) {
        let report = self.json(["check", "--data"]);
        assert_eq!(report["problems"], serde_json::json!([]));
    }
}

/// A small tree that is the same on every machine but for its owners.
pub fn make_guest(dir: &Path) {
    for (name, text) in [("etc/hosts", "127.0.0.1 localhost\n"), ("home/dev/plot.py", "print('plot')\n"), ("home/dev/notes", "one\n")] {
        write(&dir.join(name), text.as_bytes());
    }
    write(&dir.join("home/dev/run.dat"), &vml_testkit::noise::text(1, 300_000));
    symlink("dev/plot.py", dir.join("home/plot")).unwrap();
    settle(dir);
}

/// Writes a file and the directories above it.
pub fn write(path: &Path, bytes: &[u8]) {
    fs::create_dir_all(path.parent().unwrap()).unwrap();
    fs::write(path, bytes).unwrap();
}

/// Gives a tree modes and times that do not depend on the machine.
pub fn settle(dir: &Path) {
    for entry in fs::read_dir(dir).unwrap() {
        let entry = entry.unwrap();
        let kind = entry.file_type().unwrap();
        if kind.is_dir() {
            settle(&entry.path());
        } else if kind.is_symlink() {
            let time = Timespec { tv_sec: 1_700_000_000, tv_nsec: 0 };
            let times = Timestamps { last_access: time, last_modification: time };
            utimensat(CWD, entry.path(), &times, AtFlags::SYMLINK_NOFOLLOW).unwrap();
        } else {
            fs::set_permissions(entry.path(), Permissions::from_mode(0o644)).unwrap();
            set_time(&entry.path());
        }
    }
    fs::set_permissions(dir, Permissions::from_mode(0o755)).unwrap();
    set_time(dir);
}

fn set_time(path: &Path) {
    File::open(path).unwrap().set_modified(SystemTime::UNIX_EPOCH + Duration::from_secs(1_700_000_000)).unwrap();
}

#[track_caller]
pub fn assert_equal(one: &Path, other: &Path) {
    let comparison = compare_directories(one, other, CompareOptions { owners: is_root(), holes: true }).unwrap();
    assert!(comparison.differences.is_empty(), "{:?}", comparison.differences);
    assert!(comparison.members_count > 0, "an empty tree proves nothing");
}

pub fn is_root() -> bool {
    rustix::process::geteuid().is_root()
}

/// The files of one directory of a repository, the longest first.
pub fn files(dir: &Path) -> Vec<PathBuf> {
    let Ok(entries) = fs::read_dir(dir) else { return Vec::new() };
    let mut files: Vec<(u64, PathBuf)> = entries.map(|entry| entry.unwrap()).map(|e| (e.metadata().unwrap().len(), e.path())).collect();
    files.sort_by_key(|(len, path)| (std::cmp::Reverse(*len), path.clone()));
    files.into_iter().map(|(_, path)| path).collect()
}

/// Every file below `dir` with its bytes.
pub fn content(dir: &Path) -> Vec<(PathBuf, Vec<u8>)> {
    let mut found = Vec::new();
    let mut stack = vec![dir.to_path_buf()];
    while let Some(dir) = stack.pop() {
        for entry in fs::read_dir(dir).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() { stack.push(path) } else { found.push((path.clone(), fs::read(&path).unwrap())) }
        }
    }
    found.sort();
    found
}

/// Says that a part could not run here; a summary can count these lines.
pub fn skip(test: &str, reason: &str) {
    eprintln!("skipped: {test}: {reason}");
}
