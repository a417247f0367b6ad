//! A guest's directories, repositories in memory, and saves.

use std::fs;
use std::os::unix::fs::{MetadataExt as _, PermissionsExt as _, symlink};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Arc;
use std::time::{SystemTime, UNIX_EPOCH};
use tempfile::TempDir;
use vml_core::entry::{BaseRef, EntryKind};
use vml_core::monitor::Monitor;
use vml_core::repository::{SaveRequest, SaveTree, Saved, TreePlace};
use vml_core::tree::compare::{CompareOptions, compare_directories};
use vml_core::tree::{Exclude, RestoreOptions, Timestamp, restore_tree};
use vml_core::{Backend, CollectMonitor, Config, EntryId, MemoryBackend, Repository, RepositoryOptions, Result};
use vml_hv::ssh::{SshTree, SshTreeOptions, Transport};

pub struct Guest {
    pub dir: TempDir,
    pub repository: Repository,
    spool: TempDir,
}

pub fn now() -> Timestamp {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap();
    Timestamp { seconds: i64::try_from(since.as_secs()).unwrap(), nanoseconds: since.subsec_nanos() }
}

/// Bytes that do not compress and are never the same.
pub fn noise(seed: u64, len: usize) -> Vec<u8> {
    let mut state = seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1;
    let mut next = || {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        state.to_le_bytes()
    };
    std::iter::repeat_with(&mut next).flatten().take(len).collect()
}

pub fn run(program: &str, arguments: &[&str]) -> bool {
    Command::new(program).args(arguments).status().is_ok_and(|status| status.success())
}

/// Until files made so far are old enough to be known by their times.
pub fn let_files_age() {
    std::thread::sleep(std::time::Duration::from_millis(80));
}

impl Guest {
    pub fn new() -> Self {
        let backend: Arc<dyn Backend> = Arc::new(MemoryBackend::new());
        let config = Config { level: 1, ..Config::new([7; 16], 1_700_000_000_000) };
        let repository = Repository::init(backend, config, RepositoryOptions { threads: 2, cache_len: 8 << 20 }).unwrap();
        Self { dir: tempfile::tempdir().unwrap(), repository, spool: tempfile::tempdir().unwrap() }
    }

    pub fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    pub fn write(&self, name: &str, bytes: &[u8]) {
        let path = self.path(name);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, bytes).unwrap();
    }

    /// One of everything that a guest can have.
    pub fn furnish(&self) {
        self.write("etc/hosts", b"127.0.0.1 localhost\n");
        self.write("home/dev/large", &noise(1, 700_000));
        self.write("home/dev/empty", b"");
        self.write("home/dev/odd\nname\\ \x7f*'", b"odd");
        self.write("usr/local/bin/tool", &noise(2, 20_000));
        fs::set_permissions(self.path("usr/local/bin/tool"), fs::Permissions::from_mode(0o4755)).unwrap();
        let long = format!("home/{}/{}/file", "d".repeat(200), "e".repeat(200));
        self.write(&long, b"deep");
        symlink("large", self.path("home/dev/link")).unwrap();
        fs::hard_link(self.path("home/dev/large"), self.path("home/dev/zz-other-name")).unwrap();
        fs::hard_link(self.path("home/dev/large"), self.path("usr/local/third-name")).unwrap();
        let sparse = fs::File::create(self.path("home/dev/sparse")).unwrap();
        sparse.set_len(40 << 20).unwrap();
        std::os::unix::fs::FileExt::write_all_at(&sparse, &noise(3, 9000), 20 << 20).unwrap();
        std::os::unix::fs::chown(self.path("home/dev"), Some(1000), Some(100)).unwrap();
        std::os::unix::fs::lchown(self.path("home/dev/link"), Some(3_000_000_000), Some(1000)).unwrap();
        let text = |name: &str| self.path(name).to_str().unwrap().to_owned();
        assert!(run("mkfifo", &[&text("home/dev/pipe")]) && run("mknod", &[&text("home/dev/null"), "c", "1", "3"]));
        if !run("setfacl", &["-m", "u:1000:rw,g:50:r", &text("etc/hosts")])
            || !run("setfacl", &["-d", "-m", "u:1001:rwx", &text("home/dev")])
        {
            println!("skipped: ACLs: there is no setfacl here");
        }
        if !run("setcap", &["cap_net_raw+ep", &text("home/dev/empty")]) {
            println!("skipped: capabilities: there is no setcap here");
        }
        if !run("setfattr", &["-n", "user.note", "-v", "a b\n=", &text("home/dev/large")]) {
            println!("skipped: attributes: there is no setfattr here");
        }
    }

    pub fn scope(&self, dirs: &[&str]) -> SshTreeOptions {
        SshTreeOptions {
            root: self.dir.path().to_str().unwrap().to_owned(),
            dirs: dirs.iter().map(|dir| format!("/{dir}")).collect(),
            dirs_must_exist: true,
            default_exclude: true,
            one_file_system: true,
        }
    }

    pub fn try_save(&self, transport: &dyn Transport, dirs: &[&str], base: Option<BaseRef>, monitor: &dyn Monitor) -> Result<Saved> {
        let source = SshTree::new(transport, self.scope(dirs))?;
        let place = TreePlace::Source { source: &source, spool: self.spool.path() };
        self.repository.save(self.request("guest", place, &Exclude::default(), base), monitor)
    }

    fn request<'a>(&self, area: &str, place: TreePlace<'a>, exclude: &'a Exclude, base: Option<BaseRef>) -> SaveRequest<'a> {
        SaveRequest {
            kind: EntryKind::State { area: area.to_owned() },
            tree: Some(SaveTree { place, exclude, one_file_system: true, users: &[], groups: &[] }),
            disks: &[],
            machine: None,
            memory: None,
            add_parts: false,
            base,
            author: "tester",
            message: "a test",
            tags: &[],
            facts: Vec::new(),
            now: now(),
            learn: None,
            elapsed_ms: &|| 1,
        }
    }

    /// Saves everything and expects no problem.
    pub fn save(&self, transport: &dyn Transport) -> Saved {
        let monitor = CollectMonitor::default();
        let saved = self.try_save(transport, &[], None, &monitor).unwrap();
        assert_eq!((monitor.problems(), saved.problems_count), (Vec::new(), 0));
        saved
    }

    /// Saves the directory from here as a base.
    pub fn save_base(&self) -> BaseRef {
        let exclude = Exclude::default();
        let mut request = self.request("", TreePlace::Local(self.dir.path()), &exclude, None);
        request.kind = EntryKind::Base { name: "base".to_owned(), version: "1".to_owned() };
        let saved = self.repository.save(request, &CollectMonitor::default()).unwrap();
        BaseRef { name: "base".to_owned(), version: "1".to_owned(), entry: saved.id }
    }

    pub fn build(&self, id: &EntryId) -> TempDir {
        let target = tempfile::tempdir().unwrap();
        let monitor = CollectMonitor::default();
        let entry = self.repository.entry(id).unwrap();
        let options = RestoreOptions { delete: false, owners: true, special: true, limit: None, threads: 2, open_max: 384 };
        restore_tree(self.repository.store(&monitor).unwrap(), &entry.tree().unwrap().root, target.path(), &options, &monitor).unwrap();
        assert_eq!(monitor.problems(), []);
        target
    }
}

#[track_caller]
pub fn assert_equal(left: &Path, right: &Path) {
    let compared = compare_directories(left, right, CompareOptions { owners: true, holes: true }).unwrap();
    assert_eq!(compared.differences, [""; 0]);
}

/// Writes other bytes of the same length and puts the time of modification back.
pub fn overwrite_unseen(path: &Path, seed: u64) {
    let meta = fs::metadata(path).unwrap();
    fs::write(path, noise(seed, usize::try_from(meta.len()).unwrap())).unwrap();
    let times = fs::FileTimes::new().set_modified(meta.modified().unwrap());
    fs::File::options().write(true).open(path).unwrap().set_times(times).unwrap();
    assert_eq!(fs::metadata(path).unwrap().mtime_nsec(), meta.mtime_nsec());
}
