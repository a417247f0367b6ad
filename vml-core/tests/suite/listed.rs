//! Trees that are elsewhere: what a source may say, and what is made of it.

use crate::support::{build_new, config, init, memory, now, open};
use std::cell::{Cell, RefCell};
use std::collections::BTreeMap;
use vml_core::entry::EntryKind;
use vml_core::repository::{SaveRequest, SaveTree, Saved, TreePlace};
use vml_core::tree::{Exclude, Fetched, FetchedWhat, Fetching, Listed, ListedKind, Timestamp, Told, TreeSource};
use vml_core::{CollectMonitor, Error, ErrorKind, Repository, Result};

/// A source that says what a test wants.
#[derive(Default)]
struct Said {
    listed: Vec<Listed>,
    bytes: BTreeMap<Vec<u8>, Vec<u8>>,
    fetched: RefCell<Vec<Vec<u8>>>,
    /// Members that change each time they are looked at.
    restless: Option<Vec<u8>>,
    looks: Cell<u32>,
    cut_short: bool,
}

const TIME: Timestamp = Timestamp { seconds: 1_700_000_000, nanoseconds: 1 };

fn listed(path: &str, kind: ListedKind) -> Listed {
    let inode = path.bytes().fold(7_u64, |sum, byte| sum.wrapping_mul(31).wrapping_add(u64::from(byte)));
    Listed {
        path: path.as_bytes().to_vec(),
        kind,
        mode: if kind == ListedKind::Directory { 0o755 } else { 0o644 },
        uid: rustix::process::geteuid().as_raw(),
        gid: rustix::process::getegid().as_raw(),
        size: 0,
        inode,
        links: 1,
        device: 1,
        mtime: TIME,
        ctime: TIME,
        target: Vec::new(),
    }
}

impl Said {
    fn with(paths: &[&str]) -> Self {
        let mut said = Self::default();
        for path in paths {
            match path.split_once('=') {
                Some((path, bytes)) => said.file(path, bytes.as_bytes()),
                None => said.listed.push(listed(path, ListedKind::Directory)),
            }
        }
        said
    }

    fn file(&mut self, path: &str, bytes: &[u8]) {
        self.listed.push(Listed { size: bytes.len() as u64, ..listed(path, ListedKind::File) });
        self.bytes.insert(path.as_bytes().to_vec(), bytes.to_vec());
    }

    fn find(&self, path: &[u8]) -> Option<Listed> {
        self.listed.iter().find(|listed| listed.path == path).cloned()
    }
}

impl TreeSource for Said {
    fn list(&self, each: &mut dyn FnMut(Told) -> Result<()>) -> Result<Timestamp> {
        self.listed.iter().try_for_each(|listed| each(Told::Member(listed.clone())))?;
        if self.cut_short { Err(Error::new(ErrorKind::Interrupted, "cut short")) } else { Ok(now()) }
    }

    fn fetch(&self, paths: &[&[u8]], each: &mut dyn FnMut(Fetching<'_>) -> Result<()>) -> Result<()> {
        // In the other order, and with one that nobody asked for.
        for path in paths.iter().rev().copied().chain([&b"not/asked/for"[..]]) {
            self.fetched.borrow_mut().push(path.to_vec());
            let bytes = self.bytes.get(path).cloned();
            let mut data = bytes.as_deref().unwrap_or_default();
            let what = match &bytes {
                Some(bytes) => FetchedWhat::File { size: bytes.len() as u64, runs: None, data: &mut data },
                None => FetchedWhat::Directory,
            };
            each(Fetching::Member(Fetched { path, xattrs: Vec::new(), what }))?;
        }
        Ok(())
    }

    fn look_again(&self, paths: &[&[u8]], each: &mut dyn FnMut(Listed) -> Result<()>) -> Result<()> {
        self.looks.set(self.looks.get() + 1);
        for path in paths {
            if let Some(mut listed) = self.find(path) {
                if self.restless.as_deref() == Some(*path) {
                    listed.ctime.nanoseconds += self.looks.get();
                }
                each(listed)?;
            }
        }
        Ok(())
    }
}

fn save(repository: &Repository, source: &Said, monitor: &CollectMonitor) -> Result<Saved> {
    let spool = std::env::temp_dir();
    let request = SaveRequest {
        kind: EntryKind::State { area: "guest".to_owned() },
        tree: Some(SaveTree {
            place: TreePlace::Source { source, spool: &spool },
            exclude: &Exclude::new(&["/skip", "*.o"]).unwrap(),
            one_file_system: false,
            users: &[],
            groups: &[],
        }),
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
    };
    repository.save(request, monitor)
}

#[test]
fn a_listing_in_any_order_of_names_becomes_a_tree() {
    let backend = memory();
    let repository = init(&backend);
    let source = Said::with(&[
        "",
        "b",
        "b/z=1",
        "a-b",
        "a",
        "b/a=2",
        "a/deep",
        "a/deep/x.o=3",
        "a/deep/y=4",
        "skip",
        "skip/in=5",
        "a-b/c=6",
        "b/a=7",
    ]);
    let monitor = CollectMonitor::default();
    let saved = save(&repository, &source, &monitor).unwrap();
    assert_eq!(monitor.problems(), []);
    let built = build_new(&repository, &saved.id);
    let read = |path: &str| std::fs::read_to_string(built.path().join(path)).ok();
    assert_eq!([read("b/z"), read("a/deep/y"), read("a-b/c")].map(Option::unwrap), ["1", "4", "6"]);
    assert_eq!((read("a/deep/x.o"), read("skip/in")), (None, None));
    // The next save fetches nothing but the root, which nothing above it vouches for.
    source.fetched.borrow_mut().clear();
    let again = save(&open(&backend), &source, &monitor).unwrap();
    assert_eq!(
        source.fetched.borrow().iter().filter(|path| !path.is_empty() && path.as_slice() != b"not/asked/for").count(),
        0,
        "{:?}",
        source.fetched
    );
    assert_eq!(again.entry.tree().unwrap().root, saved.entry.tree().unwrap().root);
}

#[test]
fn nonsense_is_refused_or_told() {
    let repository = init(&memory());
    let monitor = CollectMonitor::default();
    let try_save = |paths: &[&str]| save(&repository, &Said::with(paths), &monitor).map(|saved| saved.problems_count);
    assert_eq!(try_save(&["a=1"]).unwrap_err().kind(), ErrorKind::Corrupt);
    assert_eq!(try_save(&["", "x/../../etc=1", "x", "x/.."]).unwrap_err().kind(), ErrorKind::Corrupt);
    // A member of a directory that is not there is told and left out.
    assert_eq!(try_save(&["", "a", "a/f=1", "gone/g=2", "z/y/x=3"]).unwrap(), 2);
    let cut = Said { cut_short: true, ..Said::with(&["", "a=1"]) };
    assert_eq!(save(&repository, &cut, &monitor).unwrap_err().kind(), ErrorKind::Interrupted);
}

#[test]
fn what_changes_at_every_look_is_read_three_times_and_told() {
    let repository = init(&memory());
    let monitor = CollectMonitor::default();
    let source = Said { restless: Some(b"busy".to_vec()), ..Said::with(&["", "busy=bytes", "calm=bytes"]) };
    let saved = save(&repository, &source, &monitor).unwrap();
    let count = |path: &[u8]| source.fetched.borrow().iter().filter(|fetched| fetched.as_slice() == path).count();
    assert_eq!((count(b"busy"), count(b"calm"), saved.problems_count), (3, 1, 1));
    assert!(monitor.problems()[0].to_string().contains("busy: it changed 3 times"), "{:?}", monitor.problems());
    assert_eq!(config().inline_max, 512, "the bytes stand in the node");
}

#[test]
fn a_hundred_thousand_members_are_saved_and_known_again() {
    let repository = init(&memory());
    let monitor = CollectMonitor::default();
    let mut source = Said::with(&[""]);
    for dir in 0..100 {
        source.listed.push(listed(&format!("d{dir}"), ListedKind::Directory));
        for file in 0..1000 {
            source.file(&format!("d{dir}/f{file}"), format!("{dir} {file}").as_bytes());
        }
    }
    // Looking one up in a list would take long.
    struct Quick(Said, BTreeMap<Vec<u8>, Listed>);
    impl TreeSource for Quick {
        fn list(&self, each: &mut dyn FnMut(Told) -> Result<()>) -> Result<Timestamp> {
            self.0.list(each)
        }
        fn fetch(&self, paths: &[&[u8]], each: &mut dyn FnMut(Fetching<'_>) -> Result<()>) -> Result<()> {
            assert!(paths.len() <= 16 << 10, "a batch is bounded");
            self.0.fetch(paths, each)
        }
        fn look_again(&self, paths: &[&[u8]], each: &mut dyn FnMut(Listed) -> Result<()>) -> Result<()> {
            paths.iter().filter_map(|path| self.1.get(*path).cloned()).try_for_each(each)
        }
    }
    let map = source.listed.iter().map(|listed| (listed.path.clone(), listed.clone())).collect();
    let quick = Quick(source, map);
    let spool = std::env::temp_dir();
    let exclude = Exclude::default();
    let once = |quick: &Quick| {
        let tree = SaveTree {
            place: TreePlace::Source { source: quick, spool: &spool },
            exclude: &exclude,
            one_file_system: false,
            users: &[],
            groups: &[],
        };
        let request = SaveRequest {
            kind: EntryKind::State { area: "large".to_owned() },
            tree: Some(tree),
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
        };
        repository.save(request, &monitor).unwrap()
    };
    let first = once(&quick);
    let stats = first.entry.tree().unwrap().stats;
    assert_eq!((stats.files_count, stats.directories_count, stats.read_files_count, first.problems_count), (100_000, 101, 100_000, 0));
    assert_eq!(once(&quick).entry.tree().unwrap().stats.read_files_count, 0);
}
