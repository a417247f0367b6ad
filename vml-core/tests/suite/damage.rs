//! Every kind of file of a repository deleted, cut, or with a bit flipped, against everything that is done with a repository:
//! a clear error or a named problem, never a panic, never wrong bytes, and what is not damaged is not affected.

use crate::support::{
    assert_equal, assert_whole, build, copy_of, init, keys, memory, open, overwrite, problems_of_check, read, restoring, save,
};
use crate::support::{let_files_age, subdir, temp, try_save};
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use tempfile::TempDir;
use vml_core::entry::Note;
use vml_core::monitor::{CollectMonitor, NoMonitor};
use vml_core::refs::RefKind;
use vml_core::repository::CompactOptions;
use vml_core::{Backend, EntryId, Error, ErrorKind, Repository, RepositoryOptions};
use vml_testkit::noise::{Rng, incompressible, text};
use vml_testkit::trees::{Seen, look_at};

struct Sample {
    _dir: TempDir,
    files: Arc<dyn Backend>,
    trees: [PathBuf; 2],
    seen: [BTreeMap<PathBuf, Seen>; 2],
    ids: [EntryId; 2],
    /// The keys that belong to the first entry alone, by what they are.
    keys: Vec<(&'static str, String)>,
}

/// A small tree with inline files, files of one chunk and of several, and directories.
fn tree(dir: &TempDir, name: &str, seed: u64) -> PathBuf {
    let tree = subdir(dir, name);
    for number in 0..4 {
        let directory = tree.join(format!("directory {number}"));
        std::fs::create_dir(&directory).unwrap();
        std::fs::write(directory.join("tiny"), format!("{name} {number}")).unwrap();
        std::fs::write(directory.join("text"), text(seed + number, 5000)).unwrap();
    }
    std::fs::write(tree.join("large"), incompressible(seed, 200_000)).unwrap();
    tree
}

fn sample() -> Sample {
    sample_as(false)
}

/// The first entry's content compacted, or as it was saved.
fn sample_as(compacted: bool) -> Sample {
    let dir = temp();
    let trees = [tree(&dir, "first", 10), tree(&dir, "second", 20)];
    let_files_age();
    let files = memory();
    let repository = init(&files);
    let before = |dir: &str| keys(files.as_ref(), dir);
    let first = save(&repository, "first", &trees[0]);
    if compacted {
        let done = repository.compact(CompactOptions { level: 3, ..CompactOptions::default() }, &mut |_| {}, &NoMonitor).unwrap();
        assert_eq!(done.collected.swept.deleted_packs_count, 1);
    }
    let mut named: Vec<(&'static str, String)> = Vec::new();
    for (what, dir) in [("data pack", "data"), ("meta pack", "meta"), ("segment", "index"), ("entry", "entries"), ("area", "refs/areas")] {
        named.push((what, before(dir)[0].clone()));
    }
    let second = save(&repository, "second", &trees[1]);
    repository.refs().set(RefKind::Tag, "golden", None, Some(first.id)).unwrap();
    let note = Note { entry: first.id, time_ms: 5, author: "me".to_owned(), text: "a remark".to_owned() };
    repository.add_note(&note).unwrap();
    named.push(("tag", "refs/tags/golden".to_owned()));
    named.push(("note", before("notes")[0].clone()));
    named.push(("config", "config".to_owned()));
    // The segments of two sessions of one size are merged or not; one that is there is needed.
    named.retain_mut(|(what, key)| {
        if *what == "segment" {
            *key = before("index")[0].clone();
        }
        true
    });
    let seen = [0, 1].map(|i| look_at(&trees[i]));
    Sample { _dir: dir, files, trees, seen, ids: [first.id, second.id], keys: named }
}

#[derive(Debug, Clone, Copy)]
enum Damage {
    Delete,
    Cut(usize),
    Flip(usize),
}

fn damages(rng: &mut Rng, len: usize) -> Vec<Damage> {
    let mut all = vec![Damage::Delete];
    all.extend([0, 1, 27, 28, len / 2, len - 1].map(Damage::Cut));
    all.extend([0, 6, 9].map(|byte| Damage::Flip(byte * 8)));
    all.extend((0..6).map(|_| Damage::Flip(rng.below(len * 8))));
    all.extend((0..3).map(|_| Damage::Flip((len - 1 - rng.below(64.min(len))) * 8)));
    all
}

fn apply(files: &dyn Backend, key: &str, damage: Damage) {
    let mut bytes = read(files, key);
    match damage {
        Damage::Delete => return files.delete(key).unwrap(),
        Damage::Cut(len) => bytes.truncate(len),
        Damage::Flip(bit) => bytes[bit / 8] ^= 1 << (bit % 8),
    }
    overwrite(files, key, &bytes);
}

fn is_clear(error: &Error) -> bool {
    matches!(error.kind(), ErrorKind::Corrupt | ErrorKind::NotFound) && !error.to_string().is_empty()
}

/// Builds an entry: everything right and nothing told, or told and no file with wrong bytes.
fn builds(repository: &Repository, id: &EntryId, seen: &BTreeMap<PathBuf, Seen>, what: &str) -> bool {
    let target = temp();
    match build(repository, id, target.path(), &restoring()) {
        Ok((_, problems)) if problems.iter().all(|problem| problem.subject.contains("/") && problem.subject.len() > 60) => {
            // What is told of packs only has cost this entry nothing.
            assert!(look_at(target.path()) == *seen, "{what}: not what was saved, and nothing is told");
            return true;
        }
        Ok(_) => {}
        Err(error) => assert!(is_clear(&error), "{what}: {error:?}"),
    }
    for (path, built) in look_at(target.path()) {
        assert!(built.content == seen[&path].content, "{what}: {} has wrong bytes", path.display());
    }
    false
}

fn try_everything(sample: &Sample, files: &Arc<dyn Backend>, kind: &str, damage: Damage) {
    let what = format!("{kind}, {damage:?}");
    let repository = match Repository::open(Arc::clone(files), RepositoryOptions::default()) {
        Ok(repository) => repository,
        Err(error) => {
            assert!(kind == "config" && is_clear(&error), "{what}: {error:?}");
            return;
        }
    };
    assert_ne!(kind, "config", "{what}: opens all the same");
    let [first, second] = sample.ids;
    let ids = repository.entry_ids().unwrap();
    assert!(ids.contains(&second) && repository.entry(&second).is_ok(), "{what}");
    match repository.entry(&first) {
        Ok(_) => assert_ne!(kind, "entry", "{what}"),
        Err(error) => assert!(kind == "entry" && is_clear(&error), "{what}: {error:?}"),
    }
    assert_eq!(repository.resolve("second@latest").unwrap(), second, "{what}");
    for name in ["first@latest", "golden", &first.to_string()[..12]] {
        match repository.resolve(name) {
            Ok(id) => assert_eq!(id, first, "{what}"),
            Err(error) => assert!(is_clear(&error) && ["area", "tag", "entry"].contains(&kind), "{what}: {name}: {error:?}"),
        }
    }
    assert!(builds(&repository, &second, &sample.seen[1], &what), "{what}: an undamaged entry is affected");
    if kind != "entry" {
        let whole = builds(&repository, &first, &sample.seen[0], &what);
        assert!(whole || ["data pack", "meta pack"].contains(&kind), "{what}: an entry is lost that was not damaged");
    }
    let monitor = CollectMonitor::default();
    repository.notes(&monitor).unwrap();
    assert_eq!(monitor.problems().len(), usize::from(kind == "note" && !matches!(damage, Damage::Delete)), "{what}");
    check(files, kind, damage, &what);
    // Saving goes on, but for the area whose pointer cannot be read.
    for (area, tree) in [("second", &sample.trees[1]), ("first", &sample.trees[0])] {
        match try_save(&open(files), area, tree, &NoMonitor) {
            Ok(saved) => {
                let seen = &sample.seen[usize::from(area == "second")];
                // A pack of the right length is taken to be whole: a check finds what is not, a save does not look.
                let unseen = kind.ends_with("pack") && matches!(damage, Damage::Flip(_));
                assert!(builds(&open(files), &saved.id, seen, &what) || unseen, "{what}: a new entry cannot be built");
            }
            Err(error) => assert!(kind == "area" && area == "first" && is_clear(&error), "{what}: {error:?}"),
        }
    }
}

fn check(files: &Arc<dyn Backend>, kind: &str, damage: Damage, what: &str) {
    let found = problems_of_check(&open(&copy_of(files.as_ref())), false);
    let thorough = problems_of_check(&open(&copy_of(files.as_ref())), true);
    let unnoticed = match (kind, damage) {
        // Rebuilt, or deleted as a user would, or only to be found by reading every byte.
        ("segment", _) | ("area" | "tag" | "note", Damage::Delete) => true,
        ("data pack", Damage::Flip(_)) => found.is_empty(),
        ("meta pack", Damage::Flip(_)) => found.is_empty(),
        _ => false,
    };
    assert_eq!(found.is_empty(), unnoticed, "{what}: {found:?}");
    let undetectable = kind == "segment" || matches!((kind, damage), ("area" | "tag" | "note", Damage::Delete));
    assert_eq!(thorough.is_empty(), undetectable, "{what}: {thorough:?}");
    for (number, line) in thorough.iter().enumerate() {
        assert!(!thorough[..number].contains(line), "{what}: told twice: {line}");
    }
}

fn damage_everything(sample: &Sample) {
    let mut rng = Rng::new(3);
    assert_eq!(sample.keys.len(), 8);
    for (kind, key) in &sample.keys {
        let len = read(sample.files.as_ref(), key).len();
        for damage in damages(&mut rng, len) {
            let files = copy_of(sample.files.as_ref());
            apply(files.as_ref(), key, damage);
            try_everything(sample, &files, kind, damage);
        }
    }
}

#[test]
fn damage_to_any_file_is_told_and_spoils_nothing_else() {
    damage_everything(&sample());
}

#[test]
fn damage_to_what_was_compacted_is_told_and_spoils_nothing_else() {
    damage_everything(&sample_as(true));
}

#[test]
fn without_its_index_a_repository_is_indexed_again_and_says_so() {
    let sample = sample();
    for key in keys(sample.files.as_ref(), "index") {
        sample.files.delete(&key).unwrap();
    }
    let repository = open(&sample.files);
    let monitor = CollectMonitor::default();
    repository.store(&monitor).unwrap();
    assert_eq!(monitor.notices().len(), 1, "{:?}", monitor.notices());
    assert!(monitor.notices()[0].contains("4 packs were not in the index"), "{:?}", monitor.notices());
    assert!(!keys(sample.files.as_ref(), "index").is_empty());
    assert_whole(&sample.files);
    for (id, seen) in sample.ids.iter().zip(&sample.seen) {
        assert!(builds(&repository, id, seen, "without an index"));
    }
}

#[test]
fn a_check_of_a_repository_without_its_index_says_that_it_was_rebuilt() {
    let sample = sample();
    for key in keys(sample.files.as_ref(), "index") {
        sample.files.delete(&key).unwrap();
    }
    let monitor = CollectMonitor::default();
    let checked = open(&sample.files).check(vml_core::repository::CheckOptions { data: true, ..Default::default() }, &monitor).unwrap();
    assert_eq!((checked.problems_count, monitor.notices().len()), (0, 1));
}

#[test]
fn saving_the_same_tree_again_heals_a_missing_pack_though_no_file_has_changed() {
    let sample = sample();
    for what in ["data pack", "meta pack"] {
        let files = copy_of(sample.files.as_ref());
        let key = &sample.keys.iter().find(|(kind, _)| *kind == what).unwrap().1;
        files.delete(key).unwrap();
        assert!(!builds(&open(&files), &sample.ids[0], &sample.seen[0], what), "{what}: nothing is missing");
        let monitor = CollectMonitor::default();
        let saved = try_save(&open(&files), "first", &sample.trees[0], &monitor).unwrap();
        assert_eq!(monitor.problems().len(), 1, "{:?}", monitor.problems());
        assert!(monitor.problems()[0].message.contains("missing"));
        assert!(saved.stats.new_chunks > 0);
        for (id, seen) in [(saved.id, &sample.seen[0]), (sample.ids[0], &sample.seen[0]), (sample.ids[1], &sample.seen[1])] {
            let target = temp();
            build(&open(&files), &id, target.path(), &restoring()).unwrap();
            assert!(look_at(target.path()) == *seen, "{what}: {}", id.short());
        }
        assert_equal_after(&files, &sample.trees[0], &saved.id);
        assert_whole(&files);
    }
}

#[test]
fn a_check_is_content_when_what_a_missing_pack_held_was_saved_again_in_another() {
    let sample = sample();
    let key = &sample.keys.iter().find(|(kind, _)| *kind == "data pack").unwrap().1;
    sample.files.delete(key).unwrap();
    std::fs::write(sample.trees[0].join("an addition"), incompressible(99, 10_000)).unwrap();
    assert!(!problems_of_check(&open(&sample.files), false).is_empty());
    try_save(&open(&sample.files), "first", &sample.trees[0], &NoMonitor).unwrap();
    assert!(sample.files.len(key).is_err(), "it is another pack");
    assert!(builds(&open(&sample.files), &sample.ids[0], &sample.seen[0], "the entry that had lost it"));
    assert_whole(&sample.files);
}

fn assert_equal_after(files: &Arc<dyn Backend>, tree: &Path, id: &EntryId) {
    let target = temp();
    build(&open(files), id, target.path(), &restoring()).unwrap();
    assert_equal(tree, target.path());
}

#[test]
fn a_damaged_listing_costs_its_directory_and_no_other() {
    // A meta pack of several frames, one of which is damaged.
    let dir = temp();
    let tree = subdir(&dir, "tree");
    for number in 0..40 {
        let directory = tree.join(format!("{number:02}"));
        std::fs::create_dir(&directory).unwrap();
        for member in 0..30 {
            std::fs::write(directory.join(format!("{member}")), incompressible(number * 100 + member, 200)).unwrap();
        }
    }
    let files = memory();
    let saved = save(&init(&files), "work", &tree);
    let key = &keys(files.as_ref(), "meta")[0];
    let bytes = read(files.as_ref(), key);
    // In several places, because not all that is stored is needed to build.
    for quarter in 1..4 {
        apply(files.as_ref(), key, Damage::Flip(bytes.len() / 4 * quarter * 8));
    }
    let target = temp();
    let (restored, problems) = build(&open(&files), &saved.id, target.path(), &restoring()).unwrap();
    assert!(!problems.is_empty() && problems.len() < 30, "{problems:?}");
    assert!(restored.files_count >= 300, "{restored:?}: what is not damaged is restored");
    let seen = look_at(&tree);
    for (path, built) in look_at(target.path()) {
        assert!(built.content == seen[&path].content, "{}", path.display());
    }
    // Nothing is deleted for not being in a listing that cannot be read.
    let (_, problems) = build(&open(&files), &saved.id, &tree, &crate::support::deleting()).unwrap();
    assert!(!problems.is_empty());
    assert_eq!(look_at(&tree).len(), seen.len());
}
