//! The cache in front of a backend that is far away: fewer reads, and never another answer.

use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use vml_chunk::{Backend, CachedBackend, ErrorKind, MemoryBackend, PutOutcome};
use vml_testkit::backend_suite;
use vml_testkit::faulty::FaultyBackend;
use vml_testkit::noise;

const LIMIT: u64 = 64 << 20;

fn digest(bytes: &[u8]) -> String {
    blake3::hash(bytes).to_hex().to_string()
}

/// A backend that is far away, and a way to a cache of it as another process would open it.
struct Far {
    inner: FaultyBackend,
    dir: tempfile::TempDir,
}

impl Far {
    fn new() -> Self {
        Self { inner: FaultyBackend::new(Arc::new(MemoryBackend::new())), dir: tempfile::tempdir().unwrap() }
    }

    fn folder(&self) -> PathBuf {
        self.dir.path().join("cache")
    }

    fn open(&self) -> CachedBackend {
        CachedBackend::new(Arc::new(self.inner.clone()), self.folder(), LIMIT)
    }

    /// Puts bytes under their digest and tells the key.
    fn put(&self, dir: &str, bytes: &[u8]) -> String {
        let key = format!("{dir}/{}", digest(bytes));
        self.inner.put(&key, bytes).unwrap();
        self.inner.reset();
        key
    }

    fn reads(&self) -> usize {
        ["read_at", "map"].iter().map(|name| self.inner.count_of(name)).sum()
    }

    fn copies(&self) -> Vec<PathBuf> {
        fs::read_dir(self.folder()).map(|members| members.map(|member| member.unwrap().path()).collect()).unwrap_or_default()
    }
}

fn read_all(backend: &dyn Backend, key: &str, len: usize) -> Vec<u8> {
    let mut bytes = vec![0; len];
    backend.read_at(key, 0, &mut bytes).unwrap();
    bytes
}

#[test]
fn a_cached_backend_conforms() {
    let dir = tempfile::tempdir().unwrap();
    backend_suite::run(&|| Arc::new(CachedBackend::new(Arc::new(MemoryBackend::new()), dir.path().join("cache"), LIMIT)));
    let file = dir.path().join("file");
    fs::write(&file, b"").unwrap();
    backend_suite::run(&|| Arc::new(CachedBackend::new(Arc::new(MemoryBackend::new()), file.join("cache"), LIMIT)));
}

#[test]
fn long_files_are_got_once_by_all_processes() {
    let far = Far::new();
    let bytes = noise::incompressible(1, 12 << 20);
    let (index, meta) = (far.put("index", &bytes), far.put("meta", &bytes[1..]));
    for _ in 0..3 {
        let cache = far.open();
        assert!(cache.map(&index).unwrap().as_ref() == bytes);
        let mut part = [0; 1000];
        cache.read_at(&meta, 12_345_678, &mut part).unwrap();
        assert_eq!(part, bytes[12_345_679..12_346_679]);
        let error = cache.read_at(&meta, bytes.len() as u64 - 10, &mut [0; 11]).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Corrupt);
    }
    assert_eq!(far.reads(), 4, "two pieces of each");
    assert_eq!(far.copies().len(), 2);
}

#[test]
fn a_damaged_copy_is_got_again() {
    let far = Far::new();
    let bytes = noise::incompressible(2, 3 << 20);
    let keys = [far.put("meta", &bytes), far.put("entries", &bytes[..100]), far.put("index", &bytes[7..])];
    let check = |reads: usize| {
        far.inner.reset();
        let cache = far.open();
        cache.list("entries").unwrap();
        assert!(read_all(&cache, &keys[0], bytes.len()) == bytes);
        assert_eq!(cache.read(&keys[1], 1000).unwrap(), bytes[..100]);
        assert!(cache.map(&keys[2]).unwrap().as_ref() == &bytes[7..]);
        assert_eq!(far.reads(), reads);
    };
    check(3);
    check(0);
    let damage: [&dyn Fn(&Path); 6] = [
        &|path| {
            let mut bytes = fs::read(path).unwrap();
            bytes[50] ^= 1;
            fs::write(path, bytes).unwrap();
        },
        &|path| fs::File::options().write(true).open(path).unwrap().set_len(40).unwrap(),
        &|path| fs::write(path, b"").unwrap(),
        &|path| fs::remove_file(path).unwrap(),
        &|path| {
            fs::remove_file(path).unwrap();
            fs::create_dir(path).unwrap();
            fs::remove_dir(path).unwrap();
        },
        &|path| {
            fs::remove_file(path).unwrap();
            std::os::unix::fs::symlink("/etc/passwd", path).unwrap();
        },
    ];
    for damage in damage {
        far.copies().iter().for_each(|path| damage(path));
        check(3);
        check(0);
    }
    fs::remove_dir_all(far.folder()).unwrap();
    check(3);
}

#[test]
fn a_file_that_is_not_what_its_name_says_is_passed_on_and_not_kept() {
    let far = Far::new();
    let key = format!("meta/{}", digest(b"good"));
    far.inner.put(&key, b"evil").unwrap();
    let cache = far.open();
    assert_eq!(read_all(&cache, &key, 4), b"evil");
    assert!(far.copies().is_empty());
    // It is mended elsewhere.
    far.inner.delete(&key).unwrap();
    far.inner.put(&key, b"good").unwrap();
    assert_eq!(read_all(&cache, &key, 4), b"good");
    assert_eq!(read_all(&far.open(), &key, 4), b"good");
}

#[test]
fn a_forgotten_entry_is_gone_and_what_changes_is_never_kept() {
    let far = Far::new();
    let key = far.put("entries", b"an entry");
    let cache = far.open();
    assert_eq!(cache.list("entries").unwrap().len(), 1);
    assert_eq!(cache.read(&key, 99).unwrap(), b"an entry");
    far.inner.delete(&key).unwrap();
    assert!(cache.len(&key).is_err());
    let other = far.open();
    assert_eq!(other.read(&key, 99).unwrap_err().kind(), ErrorKind::NotFound, "a copy is no entry");
    assert_eq!(cache.list("entries").unwrap(), []);
    assert_eq!(cache.read(&key, 99).unwrap_err().kind(), ErrorKind::NotFound);
    assert!(far.inner.swap("gc/quarantine", None, Some(b"one")).unwrap());
    assert_eq!(cache.map("gc/quarantine").unwrap().as_ref(), b"one");
    assert!(far.inner.swap("gc/quarantine", Some(b"one"), Some(b"two")).unwrap());
    assert_eq!(cache.map("gc/quarantine").unwrap().as_ref(), b"two");
}

#[test]
fn whoever_meets_its_own_file_sees_the_backends() {
    let far = Far::new();
    let bytes = noise::incompressible(3, 1000);
    let key = far.put("meta", &bytes);
    let cache = far.open();
    assert_eq!(read_all(&cache, &key, 1000), bytes);
    far.inner.delete(&key).unwrap();
    far.inner.put(&key, &[0; 1000]).unwrap();
    assert_eq!(read_all(&cache, &key, 1000), bytes, "a good copy serves");
    assert_eq!(cache.put(&key, &bytes).unwrap(), PutOutcome::AlreadyThere);
    assert_eq!(read_all(&cache, &key, 1000), [0; 1000]);
    cache.delete(&key).unwrap();
    assert_eq!(cache.put(&key, &bytes).unwrap(), PutOutcome::Stored);
    far.inner.reset();
    assert_eq!(read_all(&cache, &key, 1000), bytes);
    assert_eq!(read_all(&far.open(), &key, 1000), bytes);
    assert_eq!(far.reads(), 0, "what was written is kept");
}

#[test]
fn the_least_recently_used_go_first() {
    let far = Far::new();
    let open = || CachedBackend::new(Arc::new(far.inner.clone()), far.folder(), 1 << 20);
    let keys: Vec<String> = (0..20).map(|i| far.put("meta", &noise::incompressible(i, 100 << 10))).collect();
    for key in &keys {
        let cache = open();
        read_all(&cache, key, 100 << 10);
        // The first is used again and again.
        read_all(&cache, &keys[0], 100 << 10);
        std::thread::sleep(std::time::Duration::from_millis(5));
        let total: u64 = far.copies().iter().map(|path| path.metadata().unwrap().len()).sum();
        assert!(total <= (1 << 20) + (1 << 20) / 16 + (100 << 10), "{total}");
    }
    let kept = |key: &str| far.folder().join(key.replace('/', "-")).exists();
    assert!(kept(&keys[0]) && kept(&keys[19]) && !kept(&keys[1]) && !kept(&keys[5]));
    far.put("meta", &noise::incompressible(99, 300 << 10));
    let long = format!("meta/{}", digest(&noise::incompressible(99, 300 << 10)));
    assert_eq!(read_all(&open(), &long, 10), noise::incompressible(99, 300 << 10)[..10]);
    assert!(!kept(&long), "more than its share of the limit");
    // Of the index more is kept: without a copy each process gets all of it.
    let segment = far.put("index", &noise::incompressible(98, 300 << 10));
    assert_eq!(read_all(&open(), &segment, 10), noise::incompressible(98, 300 << 10)[..10]);
    assert!(kept(&segment));
}

#[test]
fn two_processes_fill_one_folder_side_by_side() {
    let far = Far::new();
    let keys: Vec<(String, Vec<u8>)> =
        (0..30).map(|i| noise::incompressible(i, 50_000)).map(|bytes| (far.put("meta", &bytes), bytes)).collect();
    std::thread::scope(|scope| {
        for _ in 0..6 {
            scope.spawn(|| {
                let cache = far.open();
                keys.iter().for_each(|(key, bytes)| assert!(read_all(&cache, key, 50_000) == *bytes));
            });
        }
    });
    assert_eq!(far.copies().len(), 30, "no half copies stay");
}

#[test]
fn data_that_is_read_in_order_comes_in_few_reads() {
    let far = Far::new();
    let bytes = noise::incompressible(5, 30 << 20);
    let key = far.put("data", &bytes);
    let cache = far.open();
    cache.list("data").unwrap();
    let mut back = Vec::new();
    for start in (0..bytes.len()).step_by(1 << 20) {
        let mut part = vec![0; 1 << 20];
        cache.read_at(&key, start as u64, &mut part).unwrap();
        back.extend(part);
    }
    assert!(back == bytes);
    assert!(far.reads() <= 6, "{}", far.reads());
    assert!(far.copies().is_empty());
    // Here and there: no more than what is asked for.
    far.inner.reset();
    for start in [20 << 20, 3 << 20, 11 << 20, 5] {
        let mut part = [0; 10];
        cache.read_at(&key, start, &mut part).unwrap();
    }
    assert!(far.inner.operations().iter().all(|operation| operation.len == 10));
}

#[test]
fn small_files_are_got_together_and_without_a_folder_kept_in_memory() {
    for usable in [true, false] {
        let far = Far::new();
        if !usable {
            fs::write(far.folder(), b"a file where the folder would be").unwrap();
        }
        let keys: Vec<String> = (0..50_u8).map(|i| far.put("entries", &[i; 100])).collect();
        far.inner.reset();
        let cache = far.open();
        cache.prefetch_dir("entries");
        assert_eq!(far.reads(), 50);
        assert!(keys.iter().all(|key| cache.read(key, 100).unwrap().len() == 100));
        assert!(cache.read_many(&keys, 100).into_iter().all(|bytes| bytes.is_ok()));
        assert!(cache.read_many(&keys, 99).into_iter().all(|bytes| bytes.is_err_and(|error| error.kind() == ErrorKind::Corrupt)));
        assert_eq!(far.reads(), 50);
        far.open().prefetch_dir("entries");
        assert_eq!(far.reads(), if usable { 50 } else { 100 });
    }
}
