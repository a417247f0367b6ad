//! Every kind of file of a repository, flipped, cut or gone: what it touches is named, everything else goes on.

use crate::support::{Host, content, files, write};
use std::fs;
use std::path::{Path, PathBuf};

#[derive(Debug, Clone, Copy)]
enum Damage {
    Flip,
    Cut,
    Remove,
}

const ALL: [Damage; 3] = [Damage::Flip, Damage::Cut, Damage::Remove];

impl Damage {
    fn apply(self, path: &Path) {
        let mut bytes = fs::read(path).unwrap();
        let middle = bytes.len() / 2;
        match self {
            Self::Flip => bytes[middle] ^= 4,
            Self::Cut => bytes.truncate(middle),
            Self::Remove => return fs::remove_file(path).unwrap(),
        }
        fs::write(path, bytes).unwrap();
    }
}

/// Two areas with nothing in common, the first one saved first; the trees are in `guest` and `other`.
fn two_areas() -> Host {
    let host = Host::with_entry();
    write(&host.path("other/data"), &vml_testkit::noise::incompressible(9, 200_000));
    write(&host.path("other/more/small"), &[1; 3000]);
    host.ok(["area", "add", "other", "--tree", "other"]);
    host
}

/// The file that a save adds to a directory of the repository.
fn added_by_save(host: &Host, dir: &str) -> PathBuf {
    let before = files(&host.repository().join(dir));
    host.ok(["save", "other", "-m", "other"]);
    files(&host.repository().join(dir)).into_iter().find(|path| !before.contains(path)).unwrap()
}

#[test]
fn a_damaged_data_pack_is_found_and_harms_nothing_else() {
    for damage in ALL {
        let host = two_areas();
        let pack = added_by_save(&host, "data");
        damage.apply(&pack);
        let name = pack.file_name().unwrap().to_str().unwrap();
        host.run(["check", "--data"]).fails(1, &["data/", &name[..8]]);
        host.assert_still_builds("work@latest", &host.path("guest"));
        let ran = host.run(["build", "other@latest", "out"]).fails(1, &["data"]);
        assert!(ran.err.contains("not restored: its data is damaged"), "{damage:?}: {}", ran.err);
        // What is whole is there, and half a file is not taken for one.
        assert!(!host.path("out/data").exists(), "{damage:?}");
        host.run(["cat", "other@latest:data"]).fails(3, &["`vml check"]);
    }
}

#[test]
fn what_a_lost_pack_had_is_stored_again_by_the_next_save_of_the_same_tree() {
    for damage in [Damage::Cut, Damage::Remove] {
        let host = two_areas();
        damage.apply(&added_by_save(&host, "data"));
        let ran = host.run(["save", "other", "-m", "again"]);
        assert!(ran.code == 0 && ran.err.contains("the pack is missing or cut short"), "{damage:?}: {}", ran.err);
        host.assert_still_builds("other@latest", &host.path("other"));
        // The first entry has its chunks again too.
        host.assert_still_builds("other@~1", &host.path("other"));
    }
}

#[test]
fn a_damaged_metadata_pack_is_found_and_harms_nothing_else() {
    for damage in ALL {
        let host = two_areas();
        damage.apply(&added_by_save(&host, "meta"));
        host.run(["check", "--data"]).fails(1, &["meta/"]);
        host.assert_still_builds("work@latest", &host.path("guest"));
        let ran = host.run(["build", "other@latest", "out"]);
        assert!(ran.code == 1 || ran.code == 3, "{damage:?}: {} {}", ran.code, ran.err);
        assert!(!ran.err.is_empty() && !ran.err.contains("panicked"), "{}", ran.err);
        assert!(host.ok(["log"]).contains("other"));
    }
}

#[test]
fn a_damaged_index_segment_is_rebuilt_and_nothing_is_wrong_then() {
    for damage in ALL {
        let host = two_areas();
        host.ok(["save", "other", "-m", "other"]);
        for segment in files(&host.repository().join("index")) {
            damage.apply(&segment);
        }
        let ran = host.run(["check"]);
        assert_eq!(ran.code, 0, "{damage:?}: {}", ran.err);
        assert!(ran.err.contains("rebuilt"), "{damage:?}: {}", ran.err);
        host.assert_whole();
        host.assert_builds("work@latest", &host.path("guest"));
        host.assert_builds("other@latest", &host.path("other"));
    }
}

#[test]
fn with_every_index_file_deleted_the_next_command_rebuilds_it_and_says_so() {
    for args in [&["check"][..], &["ls", "work@latest"], &["build", "work@latest", "out"], &["save", "work", "-m", "again"]] {
        let host = two_areas();
        host.ok(["save", "other", "-m", "other"]);
        fs::remove_dir_all(host.repository().join("index")).unwrap();
        let ran = host.run(args);
        assert_eq!(ran.code, 0, "{args:?}: {}", ran.err);
        assert!(ran.err.contains("were not in the index: it was rebuilt from their footers"), "{args:?}: {}", ran.err);
        assert!(!files(&host.repository().join("index")).is_empty(), "{args:?}");
        // Once is enough.
        assert_eq!(host.ok(["check"]).lines().count(), 1);
        host.assert_whole();
        host.assert_builds("work@latest", &host.path("guest"));
    }
    let host = two_areas();
    fs::remove_dir_all(host.repository().join("index")).unwrap();
    let notices = &host.json(["check"])["notices"];
    assert!(notices[0].as_str().unwrap().contains("rebuilt"), "{notices}");
}

#[test]
fn a_damaged_entry_is_named_and_the_others_go_on() {
    for damage in ALL {
        let host = two_areas();
        let entry = added_by_save(&host, "entries");
        let short = entry.file_name().unwrap().to_str().unwrap()[..10].to_owned();
        damage.apply(&entry);
        host.run(["check"]).fails(1, &[&short]);
        host.run(["show", "other@latest"]).fails(3, &["cannot read entry", &short]);
        host.run(["build", "other@latest", "out"]).fails(3, &[&short]);
        assert!(!host.path("out").exists(), "nothing is begun");
        let log = host.run(["log"]);
        assert!(log.out.contains("first"), "{}", log.out);
        host.assert_builds("work@latest", &host.path("guest"));
        // The area goes on; its log has a gap, which is told.
        let saved = host.run(["save", "other", "-m", "after"]);
        assert_eq!(saved.code, 0, "{}", saved.err);
        assert!(saved.err.contains("the latest entry cannot be read, so every file is"), "{}", saved.err);
        host.assert_builds("other@latest", &host.path("other"));
        host.run(["log", "other"]).fails(1, &[&short]);
    }
}

#[test]
fn a_damaged_ref_is_named_and_the_entry_is_still_there() {
    for damage in ALL {
        let host = two_areas();
        let entry = added_by_save(&host, "entries");
        let short = entry.file_name().unwrap().to_str().unwrap()[..10].to_owned();
        host.ok(["tag", &short, "keep"]);
        damage.apply(&host.repository().join("refs/tags/keep"));
        damage.apply(&host.repository().join("refs/areas/other"));
        if !matches!(damage, Damage::Remove) {
            host.run(["check"]).fails(1, &["area other", "tag keep"]);
            host.run(["tag"]).fails(1, &["tag keep"]);
            host.run(["show", "keep"]).fails(3, &["cannot read the tag \"keep\""]);
            host.run(["save", "other", "-m", "x"]).fails(3, &["cannot read the area \"other\""]);
        } else {
            host.run(["show", "keep"]).fails(3, &["neither a tag nor"]);
        }
        assert!(host.run(["log"]).out.contains(&short), "{damage:?}");
        host.assert_builds(&short, &host.path("other"));
        host.assert_builds("work@latest", &host.path("guest"));
    }
}

#[test]
fn a_damaged_configuration_is_named_and_nothing_is_changed() {
    for damage in ALL {
        let host = Host::with_entry();
        let good = fs::read(host.repository().join("config")).unwrap();
        damage.apply(&host.repository().join("config"));
        let before = content(&host.repository());
        let words = if matches!(damage, Damage::Remove) { "no repository here" } else { "configuration" };
        host.run(["log"]).fails(3, &["cannot open the repository", words]);
        host.run(["save", "work", "-m", "x"]).fails(3, &[words]);
        assert_eq!(content(&host.repository()), before);
        fs::write(host.repository().join("config"), good).unwrap();
        host.assert_whole();
    }
}

#[test]
fn a_damaged_note_is_named_and_the_entry_is_shown() {
    let host = Host::with_entry();
    host.ok(["note", "work@latest", "a remark"]);
    Damage::Flip.apply(&files(&host.repository().join("notes"))[0]);
    host.run(["check"]).fails(1, &["notes/"]);
    let log = host.run(["log"]).fails(1, &["notes/"]);
    assert!(log.out.contains("first"), "{}", log.out);
}
