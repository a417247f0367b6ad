//! A backend's files, looked at and spoilt by tests.

use vml_chunk::Backend;

/// The keys of all files in `dir`, sorted.
pub fn keys(backend: &dyn Backend, dir: &str) -> Vec<String> {
    let mut keys: Vec<String> = backend.list(dir).unwrap().into_iter().map(|listed| format!("{dir}/{}", listed.name)).collect();
    keys.sort_unstable();
    keys
}

/// The whole of a file.
pub fn read(backend: &dyn Backend, key: &str) -> Vec<u8> {
    backend.read(key, u64::MAX).unwrap()
}

/// Puts other bytes under a key, as only a faulty disk does.
pub fn overwrite(backend: &dyn Backend, key: &str, bytes: &[u8]) {
    let old = read(backend, key);
    assert!(backend.swap(key, Some(&old), Some(bytes)).unwrap());
}
