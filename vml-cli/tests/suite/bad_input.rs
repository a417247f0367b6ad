//! What is not a repository, not an area, not an entry: a clear word, and nothing lost.

use crate::support::{Host, content, files, make_guest, write};
use std::fs;
use vml_core::{Config, EntryId, LocalBackend, Repository, RepositoryOptions};

#[test]
fn a_directory_that_is_no_repository_is_not_touched() {
    let host = Host::bare();
    write(&host.path("photos/one.jpg"), b"a photo");
    let before = content(&host.path("photos"));
    for args in [&["log"][..], &["stats"], &["check"], &["show", "abcd"], &["tag"]] {
        let mut command = host.command(["--repo", "photos"]);
        let ran = crate::support::Ran::of(&command.args(args).output().unwrap());
        ran.fails(3, &["cannot open the repository", "there is no repository here", "vml init"]);
    }
    host.run(["--repo", "photos/one.jpg", "log"]).fails(2, &["is not a directory"]);
    host.run(["--repo", "photos/one.jpg", "init"]).fails(2, &["is a file"]);
    assert_eq!(content(&host.path("photos")), before);
}

#[test]
fn a_second_init_changes_nothing() {
    let host = Host::with_entry();
    let before = content(&host.repository());
    host.run(["init"]).fails(3, &["there is a repository here already", "nothing in it was changed"]);
    host.run(["init", "--level", "9"]).fails(3, &["there is a repository here already"]);
    assert_eq!(content(&host.repository()), before);
}

#[test]
fn a_repository_of_a_newer_format_is_refused_and_not_touched() {
    let host = Host::with_entry();
    let path = host.repository().join("config");
    let old = fs::read(&path).unwrap();
    // The envelope of docs/format.md, "Records": the version at 6, the checksum at 12 over the rest.
    let mut newer = old.clone();
    newer[6..8].copy_from_slice(&2_u16.to_le_bytes());
    let mut hasher = blake3::Hasher::new();
    hasher.update(&newer[..12]).update(&newer[28..]);
    newer[12..28].copy_from_slice(&hasher.finalize().as_bytes()[..16]);
    fs::write(&path, &newer).unwrap();
    let before = content(&host.repository());
    for args in [&["log"][..], &["save", "work", "-m", "x"], &["build", "work@latest", "out"], &["check", "--data"], &["stats"]] {
        host.run(args).fails(3, &["format version 2", "this program knows up to 1", "newer version"]);
    }
    assert_eq!(content(&host.repository()), before);
    assert!(!host.path("out").exists());
    fs::write(&path, old).unwrap();
    host.assert_builds("work@latest", &host.path("guest"));
}

#[test]
fn a_repository_with_an_unknown_feature_is_refused_by_its_name() {
    let host = Host::bare();
    let mut config = Config::new([7; 16], 0);
    config.features.read.push("sealed".to_owned());
    // The library refuses to make it, so the record is written as another program would.
    let plain = Config::new([7; 16], 0);
    let backend = std::sync::Arc::new(LocalBackend::create(host.repository()).unwrap());
    Repository::init(backend.clone(), plain, RepositoryOptions::default()).unwrap();
    let mut bytes = fs::read(host.repository().join("config")).unwrap();
    // Four empty lists of features end the record; the first one gets one name.
    let head = bytes.len() - 4;
    bytes.splice(head..=head, [&[1, 6][..], b"sealed"].concat());
    let len = u32::try_from(bytes.len() - 28).unwrap();
    bytes[8..12].copy_from_slice(&len.to_le_bytes());
    let mut hasher = blake3::Hasher::new();
    hasher.update(&bytes[..12]).update(&bytes[28..]);
    let sum = hasher.finalize();
    bytes[12..28].copy_from_slice(&sum.as_bytes()[..16]);
    fs::write(host.repository().join("config"), bytes).unwrap();
    host.run(["log"]).fails(3, &["the feature \"sealed\"", "newer"]);
}

#[test]
fn an_ambiguous_prefix_lists_the_candidates() {
    let host = Host::with_entry();
    let backend = std::sync::Arc::new(LocalBackend::open(host.repository()).unwrap());
    let repository = Repository::open(backend, RepositoryOptions::default()).unwrap();
    let first = repository.entry_ids().unwrap()[0];
    let mut entry = repository.entry(&first).unwrap();
    let prefix = first.to_string()[..4].to_owned();
    let mut found: Option<(EntryId, Vec<u8>)> = None;
    for n in 0.. {
        entry.message = format!("try {n}");
        let (id, bytes) = entry.encode();
        if id.to_string().starts_with(&prefix) {
            found = Some((id, bytes));
            break;
        }
    }
    let (second, bytes) = found.unwrap();
    fs::write(host.repository().join("entries").join(second.to_string()), bytes).unwrap();
    let shown = |id: &EntryId| id.to_string()[..10].to_owned();
    host.run(["show", &prefix]).fails(2, &["could be 2 entries", &shown(&first), &shown(&second), "more digits"]);
    // A tag that reads like a prefix is a candidate too.
    host.ok(["tag", &shown(&second), &shown(&first)[..6]]);
    host.run(["show", &shown(&first)[..6]]).fails(2, &["could be 2 entries"]);
    assert!(host.ok(["show", &shown(&first)]).contains(&first.to_string()));
    host.assert_whole();
}

#[test]
fn a_damaged_description_of_an_area_is_named_and_can_be_removed() {
    let host = Host::with_entry();
    let path = host.path("home/areas/work/vml.toml");
    let good = fs::read_to_string(&path).unwrap();
    let shown = path.display().to_string();
    for (bad, word) in [
        (format!("{good}colour = \"red\"\n"), "colour"),
        (good.replace("tree = ", "tree = ["), "TOML parse error"),
        (good.replace("name = \"work\"", "name = \"other\""), "its folder says \"work\""),
        (good.replace("name = \"work\"", ""), "missing field `name`"),
    ] {
        fs::write(&path, bad).unwrap();
        for args in [&["save", "work", "-m", "x"][..], &["area", "show", "work"]] {
            let ran = host.run(args);
            assert!(ran.code == 2 || ran.code == 3, "{}", ran.err);
            assert!(ran.err.contains(&shown) && ran.err.contains(word), "{}", ran.err);
        }
        // It hides no other area.
        host.run(["area", "list"]).fails(1, &["area work"]);
        assert!(host.run(["area", "list"]).err.contains(word));
    }
    fs::write(&path, b"\xff\xfe").unwrap();
    host.run(["save", "work", "-m", "x"]).fails(3, &[&shown]);
    host.ok(["area", "rm", "work", "--yes"]);
    host.run(["area", "show", "work"]).fails(3, &["there is no area \"work\" on this host"]);
    host.assert_builds("work@latest", &host.path("guest"));
}

#[test]
fn a_description_edited_by_hand_counts() {
    let host = Host::with_area();
    let path = host.path("home/areas/work/vml.toml");
    let text = fs::read_to_string(&path).unwrap();
    assert!(text.starts_with("# ") && text.contains("exclude = []"), "{text}");
    fs::write(&path, text.replace("exclude = []", "exclude = [\"*.dat\"]")).unwrap();
    let saved = host.ok(["save", "work", "-m", "x"]);
    assert!(saved.contains("left out /home/dev/run.dat (excluded)"), "{saved}");
    // Only the name and the tree must be there.
    fs::write(&path, "name = \"work\"\ntree = \"/\"\n").unwrap();
    assert_eq!(host.json(["area", "show", "work"])["default_exclude"], true);
}

#[test]
fn a_tree_that_is_gone_or_a_file_cannot_be_saved_and_the_log_stays() {
    let host = Host::with_entry();
    fs::rename(host.path("guest"), host.path("moved")).unwrap();
    host.run(["save", "work", "-m", "x"]).fails(3, &["guest", "No such file or directory"]);
    write(&host.path("guest"), b"now a file");
    host.run(["save", "work", "-m", "x"]).fails(3, &["guest", "Not a directory"]);
    assert_eq!(host.json_lines(["log", "work"]).len(), 1);
    host.assert_builds("work@latest", &host.path("moved"));
}

#[test]
fn a_relative_tree_is_kept_as_an_absolute_one() {
    let host = Host::new();
    make_guest(&host.path("guest"));
    fs::create_dir(host.path("below")).unwrap();
    let mut command = host.command(["area", "add", "work", "--tree", "../guest"]);
    assert!(command.current_dir(host.path("below")).output().unwrap().status.success());
    let tree = fs::canonicalize(host.path("guest")).unwrap();
    assert_eq!(host.json(["area", "show", "work"])["tree"], tree.to_str().unwrap());
    host.ok(["save", "work", "-m", "from elsewhere"]);
    host.assert_builds("work@latest", &tree);
}

#[test]
fn a_build_into_a_directory_that_is_not_empty_is_refused_unless_it_is_to_be_made_equal() {
    let host = Host::with_entry();
    write(&host.path("out/mine"), b"mine");
    host.run(["build", "work@latest", "out"]).fails(3, &["is not empty", "--delete"]);
    host.run(["build", "work@latest", "out", "--delete"]).fails(2, &["no terminal to ask on", "--yes"]);
    assert_eq!(content(&host.path("out")).len(), 1);
    host.run(["restore", "work@latest:etc", "out", "--delete"]).fails(2, &["--yes"]);
    // A restore without --delete leaves what is there.
    host.ok(["restore", "work@latest:etc", "out"]);
    assert!(host.path("out/mine").exists() && host.path("out/hosts").exists());
    host.ok(["build", "work@latest", "out", "--delete", "--yes"]);
    crate::support::assert_equal(&host.path("guest"), &host.path("out"));
    write(&host.path("file"), b"a file");
    host.run(["build", "work@latest", "file"]).fails(2, &["file is not a directory"]);
    assert_eq!(fs::read(host.path("file")).unwrap(), b"a file");
}

#[test]
fn a_tag_that_is_taken_stops_a_save_before_it_begins() {
    let host = Host::with_entry();
    host.ok(["tag", "work@latest", "v1"]);
    let before = content(&host.repository());
    host.run(["save", "work", "-m", "x", "--tag", "v1"]).fails(3, &["the tag \"v1\" is taken"]);
    host.run(["save", "work", "-m", "x", "--tag", "a/b"]).fails(2, &["cannot be the name of a tag"]);
    assert_eq!(content(&host.repository()), before);
    assert_eq!(files(&host.repository().join("entries")).len(), 1);
}

#[test]
fn a_repository_inside_the_tree_is_not_saved_into_itself() {
    let host = Host::with_entry();
    let name = "odd [name] {1,2} *?!";
    fs::rename(host.path("home"), host.path(&format!("guest/{name}"))).unwrap();
    let home = host.path(&format!("guest/{name}"));
    let save = || {
        let output = host.command(["save", "work", "-m", "inside", "--json"]).env("VML_HOME", &home).output().unwrap();
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        serde_json::from_slice::<serde_json::Value>(&output.stdout).unwrap()
    };
    let saved = save();
    let left_out: Vec<&str> = saved["left_out"].as_array().unwrap().iter().map(|row| row["path"].as_str().unwrap()).collect();
    assert_eq!(left_out, [format!("{name}/repository")]);
    assert_eq!(save()["bytes"], saved["bytes"], "it does not grow by being saved");
    // A repository that is the tree cannot be left out of it.
    let mut command = host.command(["area", "add", "self", "--tree"]);
    assert!(command.arg(home.join("repository")).env("VML_HOME", &home).output().unwrap().status.success());
    let ran = crate::support::Ran::of(&host.command(["save", "self", "-m", "x"]).env("VML_HOME", &home).output().unwrap());
    ran.fails(2, &["would be saved into itself"]);
}
