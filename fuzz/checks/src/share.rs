//! Files from strangers.

use crate::seal;
use std::sync::Arc;
use vml_core::repository::CheckOptions;
use vml_core::share::{ReceiveOptions, read_preface, receive};
use vml_core::{Backend, CollectMonitor, Config, MemoryBackend, NoMonitor, Repository, RepositoryOptions};

/// Receiving a share file into an empty repository: what is taken is whole, and what is refused leaves no entry and no ref.
pub fn share_file(bytes: &[u8]) {
    for bytes in [bytes.to_vec(), seal::share(bytes)] {
        let Ok(preface) = read_preface(&mut bytes.as_slice()) else {
            assert!(try_receive(&bytes).is_none(), "a file without a preface was taken");
            continue;
        };
        assert_eq!(preface.entries.iter().map(|(id, _)| *id).collect::<Vec<_>>(), preface.head.entries, "entries are those of the head");
        let Some(repository) = try_receive(&bytes) else { continue };
        for (id, entry) in &preface.entries {
            assert_eq!(repository.entry(id).expect("it was taken"), *entry);
        }
        let monitor = CollectMonitor::default();
        let checked = repository.check(CheckOptions { data: false }, &monitor).expect("it can be read");
        assert_eq!(checked.problems_count, 0, "what was taken is whole: {:?}", monitor.problems());
    }
}

/// The repository that took the file.
fn try_receive(mut bytes: &[u8]) -> Option<Repository> {
    let backend: Arc<dyn Backend> = Arc::new(MemoryBackend::new());
    let config = Config { level: 1, frame_len: 64 << 10, ..Config::new([7; 16], 0) };
    let options = RepositoryOptions { threads: 1, cache_len: 1 << 20 };
    let repository = Repository::init(Arc::clone(&backend), config, options).expect("memory takes everything");
    let options = ReceiveOptions { trusted: &|_| None, require_signed: false, time_ms: 0 };
    match receive(&repository, &mut bytes, &options, &NoMonitor) {
        Ok(_) => Some(repository),
        Err(_) => {
            for dir in ["entries", "notes", "refs/areas", "refs/tags", "refs/bases"] {
                assert!(backend.list(dir).expect("memory can be listed").is_empty(), "a file that was refused left something in {dir}");
            }
            None
        }
    }
}
