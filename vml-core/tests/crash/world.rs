//! What all tests here share: trees to save, a repository to bring entries from, and ways to use a repository.

use crate::ledger::{Fact, Ledger};
use std::path::{Path, PathBuf};
use std::sync::{Arc, OnceLock};
use vml_chunk::ChunkId;
use vml_core::entry::{EntryKind, Note};
use vml_core::monitor::NoMonitor;
use vml_core::recipe::{Recipe, read_stream};
use vml_core::refs::RefKind;
use vml_core::remote::{OpenRemote, TransferRequest, plan_transfer, transfer};
use vml_core::repository::{CollectOptions, CompactOptions, SaveRequest, SaveTree, TreePlace};
use vml_core::share::{ReceiveOptions, ShareRequest, receive, share};
use vml_core::tree::{Block, Content, Exclude, ListingReader, NodeKind, Timestamp};
use vml_core::{Backend, Config, EntryId, ErrorKind, MemoryBackend, Repository, RepositoryOptions, Result};
use vml_testkit::noise::{incompressible, text};

/// One thread, so that operations come in a fixed order.
pub const OPTIONS: RepositoryOptions = RepositoryOptions { threads: 1, cache_len: 1 << 20 };
/// In seconds.
const YEAR: i64 = 31_557_600;
/// Where repositories are on disks in memory.
pub const ROOT: &str = "r";

pub struct World {
    _dir: tempfile::TempDir,
    /// Small trees, each a later state of the one before.
    pub small: [PathBuf; 3],
    /// Larger ones, of which a collection copies some: the second has a quarter of the first, the third what the second added.
    pub large: [PathBuf; 3],
    /// What is saved to see that saving goes on.
    pub next: PathBuf,
    /// A repository with two entries of the area `far`.
    pub source: Repository,
    pub far: Vec<EntryId>,
    /// A share file of these.
    pub share: Vec<u8>,
}

/// The one of this process.
pub fn world() -> &'static World {
    static WORLD: OnceLock<World> = OnceLock::new();
    WORLD.get_or_init(World::new)
}

fn write(dir: &Path, name: &str, bytes: &[u8]) {
    let path = dir.join(name);
    std::fs::create_dir_all(path.parent().unwrap()).unwrap();
    std::fs::write(path, bytes).unwrap();
}

impl World {
    fn new() -> Self {
        // In memory where that is possible: trees are read thousands of times.
        let dir = tempfile::tempdir_in("/dev/shm").or_else(|_| tempfile::tempdir()).unwrap();
        let path = |name: &str| dir.path().join(name);
        let small = [path("s0"), path("s1"), path("s2")];
        for (number, tree) in (0..).zip(&small) {
            write(tree, "same", &incompressible(1, 9000));
            write(tree, "sub/changes", &text(10 + number, 4000));
            write(tree, &format!("sub/new{number}"), &incompressible(20 + number, 3000));
            write(tree, "tiny", format!("{number}").as_bytes());
        }
        let contents: [&[(&str, u64, usize)]; 3] = [
            &[("a", 1, 70_000), ("b", 2, 9_000), ("sub/x", 3, 8_000)],
            &[("b", 2, 9_000), ("c", 4, 12_000), ("sub/y", 5, 700)],
            &[("c", 4, 12_000), ("d", 6, 5_000), ("sub/deep/z", 7, 4_000)],
        ];
        let large = [path("l0"), path("l1"), path("l2")];
        for (tree, files) in large.iter().zip(contents) {
            for (name, seed, len) in files {
                write(tree, name, &incompressible(*seed, *len));
            }
        }
        let next = path("next");
        write(&next, "next", &incompressible(90, 2500));
        write(&next, "same", &incompressible(1, 9000));
        let source = Repository::init(Arc::new(MemoryBackend::new()), config(), OPTIONS).unwrap();
        let mut world = Self { _dir: dir, small, large, next, source, far: Vec::new(), share: Vec::new() };
        world.far = world.small[..2].iter().map(|tree| world.save(&world.source, "far", tree, &[]).unwrap()).collect();
        let request = ShareRequest {
            entries: &world.far,
            since: &[],
            full: true,
            level: 1,
            solid: false,
            threads: 1,
            author: "eva",
            time_ms: 1,
            signer: None,
        };
        let mut bytes = Vec::new();
        share(&world.source, &request, &mut bytes, &NoMonitor).unwrap();
        world.share = bytes;
        world
    }

    /// Saves a tree.
    pub fn save(&self, repository: &Repository, area: &str, tree: &Path, tags: &[String]) -> Result<EntryId> {
        self.save_by(0, repository, area, tree, tags)
    }

    /// As [`save`](Self::save), by a clock that is so many years off.
    fn save_by(&self, years: i64, repository: &Repository, area: &str, tree: &Path, tags: &[String]) -> Result<EntryId> {
        let exclude = Exclude::default();
        let request = SaveRequest {
            kind: EntryKind::State { area: area.to_owned() },
            tree: Some(SaveTree { place: TreePlace::Local(tree), exclude: &exclude, one_file_system: false, users: &[], groups: &[] }),
            disks: &[],
            machine: None,
            memory: None,
            add_parts: false,
            base: None,
            author: "tester",
            message: "a test",
            tags,
            facts: Vec::new(),
            // Later than every file. The same where the same is done, so that equal states are known to be equal.
            now: Timestamp { seconds: 4_000_000_000 + years * YEAR + repository.backend().list("entries")?.len() as i64, nanoseconds: 0 },
            learn: None,
            elapsed_ms: &|| 1,
        };
        repository.save(request, &NoMonitor).map(|saved| saved.id)
    }

    /// All trees.
    pub fn trees(&self) -> [&Path; 7] {
        let [s0, s1, s2] = &self.small;
        let [l0, l1, l2] = &self.large;
        [s0, s1, s2, l0, l1, l2, &self.next]
    }

    /// Receives the share file.
    pub fn receive(&self, repository: &Repository) -> Result<()> {
        let options = ReceiveOptions { trusted: &|_| None, require_signed: false, time_ms: 5 };
        receive(repository, &mut &self.share[..], &options, &NoMonitor).map(|_| ())
    }

    /// Brings the entries of the other repository.
    pub fn pull(&self, repository: &Repository, durable: bool) -> Result<()> {
        let source = OpenRemote::new(&self.source, "far", true, 5);
        let mut sink = OpenRemote::new(repository, "near", true, 5);
        if durable {
            sink = sink.durable();
        }
        let request = TransferRequest { entries: &self.far, history: true, marks: true };
        transfer(&source, &sink, &plan_transfer(&source, &sink, &request)?, &request, &NoMonitor).map(|_| ())
    }
}

/// As [`World::save`], and tells the ledger.
pub fn save(repository: &Repository, ledger: &Ledger, area: &str, tree: &Path, tag: Option<&str>) -> Result<EntryId> {
    save_by(0, repository, ledger, area, tree, tag)
}

/// As [`save`], by a clock that is so many years off.
pub fn save_by(years: i64, repository: &Repository, ledger: &Ledger, area: &str, tree: &Path, tag: Option<&str>) -> Result<EntryId> {
    let tags: Vec<String> = tag.map(str::to_owned).into_iter().collect();
    let id = world().save_by(years, repository, area, tree, &tags)?;
    ledger.note(Fact::Saved(id));
    ledger.note(Fact::Ref(RefKind::Area, area.to_owned(), Some(id)));
    for tag in tags {
        ledger.note(Fact::Ref(RefKind::Tag, tag, Some(id)));
    }
    Ok(id)
}

/// Reads all of an entry that is there. Only one that is being forgotten may turn out not to be whole.
pub fn read(repository: &Repository, ledger: &Ledger, id: &EntryId) -> Result<()> {
    if !repository.entry_ids()?.contains(id) {
        return Ok(());
    }
    match digest(repository, id) {
        Err(error) if matches!(error.kind(), ErrorKind::NotFound | ErrorKind::Corrupt) => {
            let forgotten = ledger.facts().iter().any(|fact| matches!(fact, Fact::Forgetting(other) if other == id));
            assert!(forgotten, "a reader of {}, which nobody forgot: {error:?}", id.short());
            Ok(())
        }
        other => other.map(|_| ()),
    }
}

/// Forgets an entry.
pub fn forget(repository: &Repository, ledger: &Ledger, id: EntryId) -> Result<()> {
    ledger.note(Fact::Forgetting(id));
    repository.forget(&[id], true, &NoMonitor)
}

pub fn note(repository: &Repository, ledger: &Ledger, entry: EntryId, text: &str) -> Result<()> {
    repository.add_note(&Note { entry, time_ms: 3, author: "eva".to_owned(), text: text.to_owned() })?;
    ledger.note(Fact::Noted(entry, text.to_owned()));
    Ok(())
}

pub fn set_ref(
    repository: &Repository,
    ledger: &Ledger,
    kind: RefKind,
    name: &str,
    old: Option<EntryId>,
    new: Option<EntryId>,
) -> Result<()> {
    ledger.note(Fact::Setting(kind, name.to_owned(), new));
    repository.refs().set(kind, name, old, new)?;
    ledger.note(Fact::Ref(kind, name.to_owned(), new));
    Ok(())
}

pub fn collect(repository: &Repository) -> Result<()> {
    repository.collect(CollectOptions { dry_run: false, repack_max: None }, &NoMonitor).map(|_| ())
}

pub fn compact(repository: &Repository) -> Result<()> {
    let options = CompactOptions { level: 1, ..CompactOptions::default() };
    repository.compact(options, &mut |_| {}, &NoMonitor).map(|_| ())
}

pub fn config() -> Config {
    Config { frame_len: 64 << 10, level: 1, inline_max: 512, ..Config::new([7; 16], 1_700_000_000_000) }
}

pub fn open(files: &Arc<dyn Backend>) -> Result<Repository> {
    match Repository::open(Arc::clone(files), OPTIONS) {
        Err(error) if error.kind() == ErrorKind::NeedsKey => {
            Repository::open_with(Arc::clone(files), OPTIONS, Some(&vml_testkit::sealed::unlock()))
        }
        other => other,
    }
}

/// A digest of everything in an entry's tree: names, attributes, and the chunks that make up every file, after all of them were read and compared with their ids.
pub fn digest(repository: &Repository, id: &EntryId) -> Result<ChunkId> {
    let entry = repository.entry(id)?;
    let store = repository.store(&NoMonitor)?;
    let tree = entry.tree().unwrap();
    let mut seen = Vec::new();
    let mut waiting = vec![tree.root.clone()];
    let read = |recipe: &Recipe| -> Result<()> {
        let mut len = 0;
        read_stream(store, recipe, &mut |part| {
            len += part.len() as u64;
            Ok(())
        })?;
        assert_eq!(len, recipe.len);
        Ok(())
    };
    while let Some(node) = waiting.pop() {
        match &node.kind {
            NodeKind::Directory(listing) => {
                for member in ListingReader::new(store, listing) {
                    waiting.push(member?);
                }
            }
            NodeKind::File(Content::Recipe(recipe)) => read(recipe)?,
            _ => {}
        }
        seen.extend(Block::encode(&[node]));
    }
    // Also what only the next save reads.
    read(&tree.witness)?;
    Ok(ChunkId::of(&seen))
}

/// The files of a repository in memory.
pub fn copy(files: &Arc<dyn Backend>) -> Arc<dyn Backend> {
    let copy: Arc<dyn Backend> = Arc::new(MemoryBackend::new());
    vml_testkit::faulty::copy_files(
        files.as_ref(),
        copy.as_ref(),
        &[
            "data",
            "meta",
            "index",
            "entries",
            "notes",
            "refs/areas",
            "refs/tags",
            "refs/bases",
            "forgotten",
            "saving",
            "leases",
            "gc",
            "parity",
        ],
    );
    copy.put("config", &files.read("config", 1 << 20).unwrap()).unwrap();
    copy
}
