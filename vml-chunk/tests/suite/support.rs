//! What the modules share: small stores, sessions, and ways to spoil a file.

use std::path::PathBuf;
use std::sync::Arc;
use vml_chunk::{Backend, ChunkId, ChunkStore, MemoryBackend, OpenReport, PackKind, Result, StoreOptions, WriteStats};
use vml_testkit::faulty::copy_files;
pub use vml_testkit::files::{keys, overwrite, read};
use vml_testkit::noise::{self, Rng};

/// The directories of a store.
pub const DIRS: [&str; 3] = ["data", "meta", "index"];

/// Small frames, so that little data makes several.
pub fn options() -> StoreOptions {
    StoreOptions { frame_len: 64 << 10, level: 3, threads: 2, cache_len: 8 << 20, ..StoreOptions::default() }
}

pub fn open(backend: &Arc<dyn Backend>) -> (ChunkStore, OpenReport) {
    ChunkStore::open(Arc::clone(backend), options()).unwrap()
}

pub fn memory() -> Arc<dyn Backend> {
    Arc::new(MemoryBackend::new())
}

/// A store's files in memory, so that the original stays as it is.
pub fn copy_of(backend: &dyn Backend) -> Arc<dyn Backend> {
    let copy = memory();
    copy_files(backend, copy.as_ref(), &DIRS);
    copy
}

/// Chunks of many lengths, text and noise by turns; different seeds give different chunks.
pub fn chunks(seed: u64, count: usize) -> Vec<Vec<u8>> {
    let mut rng = Rng::new(seed);
    (0..count)
        .map(|number| {
            let len = 64 + rng.below(12_000);
            let seed = rng.next_u64();
            if number % 3 == 0 { noise::incompressible(seed, len) } else { noise::text(seed, len) }
        })
        .collect()
}

/// One whole session: every chunk into packs of `kind`.
pub fn save(store: &ChunkStore, kind: PackKind, chunks: &[Vec<u8>]) -> Result<WriteStats> {
    save_both(store, &[(kind, chunks)])
}

/// One whole session with chunks of both kinds, by one thread, so that operations come in a fixed order.
pub fn save_both(store: &ChunkStore, parts: &[(PackKind, &[Vec<u8>])]) -> Result<WriteStats> {
    let writer = store.writer()?;
    for (kind, chunks) in parts {
        let mut out = writer.chunks(*kind)?;
        for chunk in *chunks {
            assert_eq!(out.put(chunk)?.id, store.ids().id(chunk));
        }
        out.finish()?;
    }
    writer.finish()
}

pub fn assert_all(store: &ChunkStore, chunks: &[Vec<u8>], what: &str) {
    for chunk in chunks {
        let id = ChunkId::of(chunk);
        match store.get(&id) {
            Ok(bytes) => assert!(bytes[..] == chunk[..], "{what}: wrong bytes"),
            Err(error) => panic!("{what}: {error:?}"),
        }
        assert!(store.contains(&id), "{what}: got but not contained");
    }
}

pub fn flip(backend: &dyn Backend, key: &str, bit: usize) {
    let mut bytes = read(backend, key);
    bytes[bit / 8] ^= 1 << (bit % 8);
    overwrite(backend, key, &bytes);
}

pub fn delete_index(backend: &dyn Backend) {
    for key in keys(backend, "index") {
        backend.delete(&key).unwrap();
    }
}

/// A file of golden data, at the top of the workspace.
pub fn golden_path(name: &str) -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../testdata/golden").join(name)
}

/// The golden file's bytes; with `UPDATE_GOLDEN` set it is written with `bytes` first.
pub fn golden(name: &str, bytes: impl FnOnce() -> Vec<u8>) -> Vec<u8> {
    let path = golden_path(name);
    if std::env::var_os("UPDATE_GOLDEN").is_some() {
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(&path, bytes()).unwrap();
    }
    std::fs::read(&path).unwrap_or_else(|error| panic!("{}: {error}; UPDATE_GOLDEN=1 writes it", path.display()))
}
