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
        let checked = repository.check(CheckOptions::default(), &monitor).expect("it can be read");
        assert_eq!(checked.problems_count, 0, "what was taken is whole: {:?}", monitor.problems());
    }
}

/// Reading a catalogue: what is taken keeps the limits that its users rely on.
pub fn catalogue(bytes: &[u8]) {
    let Ok(catalogue) = std::str::from_utf8(bytes).map_err(|_| ()).and_then(|text| vml_core::catalogue::read(text).map_err(|_| ())) else {
        return;
    };
    for offer in &catalogue.offers {
        let base = offer.base();
        let (name, version) = vml_core::refs::split_base(&base).expect("it is the name of a base");
        assert!(!name.contains('/') && !version.contains('/') && !base.starts_with('.'), "names become names of files");
        vml_core::refs::check_name("disk", &offer.disk).expect("it is the name of a disk");
        assert!(!offer.urls.is_empty() && offer.urls.iter().all(|url| url.starts_with("http") && !url.contains(char::is_whitespace)));
        assert!(offer.size != Some(0) && offer.unpacked_size != Some(0));
        assert_eq!(offer.digest.to_string().parse::<vml_core::catalogue::Digest>().expect("it was written"), offer.digest);
        assert!(catalogue.find(&base) == Some(offer), "no base stands in it twice");
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
