//! A real guest's five states, saved and built back. `make test` makes the guest; by hand: `testdata/make-corpus DIR small`.

use super::support::{init, open, subdir, temp};
use std::path::Path;
use std::process::Command;
use std::sync::Arc;
use vml_core::entry::EntryKind;
use vml_core::repository::{CheckOptions, SaveRequest, SaveTree, TreePlace};
use vml_core::tree::compare::{CompareOptions, compare_directories};
use vml_core::tree::{Exclude, RestoreOptions, Timestamp, restore_tree};
use vml_core::{Backend, CollectMonitor, LocalBackend};

#[test]
#[ignore = "needs root and VML_CORPUS=DIR with the states of testdata/make-corpus; `make test` runs it"]
fn corpus_states_are_built_back_equal_in_everything() {
    let corpus = std::env::var("VML_CORPUS").expect("VML_CORPUS names the corpus");
    let place = temp();
    let backend: Arc<dyn Backend> = Arc::new(LocalBackend::create(place.path().join("repository")).unwrap());
    init(&backend);
    let mut saved = Vec::new();
    for (number, state) in ["base", "w1", "w2", "w3", "v1"].into_iter().enumerate() {
        let tree = Path::new(&corpus).join("trees").join(state);
        let monitor = CollectMonitor::default();
        let repository = open(&backend);
        let request = SaveRequest {
            kind: EntryKind::State { area: "corpus".to_owned() },
            tree: Some(SaveTree {
                place: TreePlace::Local(&tree),
                exclude: &Exclude::default(),
                one_file_system: false,
                users: &[],
                groups: &[],
            }),
            disks: &[],
            machine: None,
            memory: None,
            add_parts: false,
            base: None,
            author: "test",
            message: state,
            tags: &[],
            facts: Vec::new(),
            now: Timestamp { seconds: 1_700_000_000 + i64::try_from(number).unwrap(), nanoseconds: 0 },
            learn: None,
            elapsed_ms: &|| 0,
        };
        let entry = repository.save(request, &monitor).unwrap();
        assert_eq!((entry.problems_count, monitor.problems()), (0, Vec::new()), "saving {state}");
        saved.push((state, tree, entry.id));
    }
    for (state, tree, id) in &saved {
        let built = subdir(&place, state);
        let monitor = CollectMonitor::default();
        let repository = open(&backend);
        let entry = repository.entry(id).unwrap();
        let options = RestoreOptions { delete: false, owners: true, special: true, limit: None, threads: 2, open_max: 384 };
        let root = &entry.tree().unwrap().root;
        let restored = restore_tree(repository.store(&monitor).unwrap(), root, &built, &options, &monitor).unwrap();
        assert_eq!((restored.problems_count, monitor.problems()), (0, Vec::new()), "building {state}");
        let compared = compare_directories(tree, &built, CompareOptions { owners: true, holes: true }).unwrap();
        assert_eq!(compared.differences, Vec::<String>::new(), "{state}");
        assert!(compared.members_count > 5000, "{state} is a whole guest: {}", compared.members_count);
        println!("{state}: {} members and {} bytes are equal", compared.members_count, compared.bytes);
        assert_eq!(differences_by_rsync(tree, &built), "", "{state}");
        std::fs::remove_dir_all(&built).unwrap();
    }
    let monitor = CollectMonitor::default();
    let checked = open(&backend).check(CheckOptions { data: true, ..CheckOptions::default() }, &monitor).unwrap();
    assert_eq!((checked.problems_count, checked.entries_count), (0, 5));
}

/// A second opinion that shares no code with ours; sockets are passed over as they are not captured.
fn differences_by_rsync(left: &Path, right: &Path) -> String {
    let run = Command::new("rsync")
        .args(["-aHAXn", "--delete", "--checksum", "--itemize-changes", "--no-specials"])
        .arg(format!("{}/", left.display()))
        .arg(format!("{}/", right.display()))
        .output()
        .expect("rsync is installed by scripts/setup.sh test");
    assert!(run.status.success(), "{}", String::from_utf8_lossy(&run.stderr));
    String::from_utf8(run.stdout).unwrap().lines().filter(|line| !line.starts_with("skipping")).collect::<Vec<_>>().join("\n")
}
