//! From names to entries, and what a repository is opened as.

use crate::support::{OPTIONS, config, init, memory, open, overwrite, read, save, subdir, temp};
use std::sync::Arc;
use vml_chunk::codec::{RecordKind, encode_record};
use vml_core::entry::EntryKind;
use vml_core::monitor::NoMonitor;
use vml_core::refs::{RefKind, check_name, split_base};
use vml_core::repository::{CONFIG_RECORD, Features, SaveRequest};
use vml_core::tree::Exclude;
use vml_core::{Backend, Config, Entry, EntryId, ErrorKind, Repository};

struct Named {
    backend: Arc<dyn Backend>,
    repository: Repository,
    ids: Vec<EntryId>,
}

/// An area of three entries and a base.
fn named() -> Named {
    let dir = temp();
    let tree = subdir(&dir, "tree");
    let backend = memory();
    let repository = init(&backend);
    let mut ids = Vec::new();
    for number in 0..3 {
        std::fs::write(tree.join("file"), format!("{number}")).unwrap();
        ids.push(save(&repository, "work", &tree).id);
    }
    let exclude = Exclude::default();
    let kind = EntryKind::Base { name: "debian".to_owned(), version: "12.5".to_owned() };
    ids.push(repository.save(SaveRequest { kind, ..crate::support::request("", &tree, &exclude) }, &NoMonitor).unwrap().id);
    Named { backend, repository, ids }
}

#[test]
fn an_entry_is_found_by_every_kind_of_name() {
    let Named { repository, ids, .. } = named();
    repository.refs().set(RefKind::Tag, "golden", None, Some(ids[1])).unwrap();
    for (name, id) in [
        ("work@latest", ids[2]),
        ("work@~0", ids[2]),
        ("work@~", ids[1]),
        ("work@~1", ids[1]),
        ("work@~2", ids[0]),
        ("BASE:debian@12.5", ids[3]),
        ("base:debian@12.5", ids[3]),
        ("golden", ids[1]),
        (&ids[0].to_string(), ids[0]),
        (&ids[0].short(), ids[0]),
        (&ids[0].to_string()[..40], ids[0]),
    ] {
        assert_eq!(repository.resolve(name).unwrap(), id, "{name}");
    }
}

#[test]
fn a_name_that_means_nothing_is_not_found_and_one_that_cannot_be_is_refused() {
    let Named { repository, ids, .. } = named();
    let (upper, mut wrong) = (ids[0].to_string().to_uppercase(), ids[0].to_string());
    wrong.replace_range(60.., "zzzz");
    for name in ["work@~3", "work@~99999999999", "play@latest", "BASE:debian@13", "silver", "abc", "", "0000000000", &upper, &wrong] {
        assert_eq!(repository.resolve(name).unwrap_err().kind(), ErrorKind::NotFound, "{name}");
    }
    for name in ["work@first", "work@~x", "work@~-1", "work@", "../x@latest", "@latest", "BASE:debian", "BASE:../../x@1", "BASE:a@b@c"] {
        assert_eq!(repository.resolve(name).unwrap_err().kind(), ErrorKind::InvalidInput, "{name}");
    }
}

#[test]
fn a_prefix_of_several_entries_is_refused_and_names_them() {
    let Named { repository, ids, .. } = named();
    // A tag that is the beginning of another entry's id is as ambiguous as two ids.
    let prefix = ids[0].to_string()[..6].to_owned();
    repository.refs().set(RefKind::Tag, &prefix, None, Some(ids[1])).unwrap();
    let error = repository.resolve(&prefix).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::InvalidInput);
    assert!(error.to_string().contains("could be 2 entries") && error.to_string().contains(&ids[0].short()), "{error}");
    assert_eq!(repository.resolve(&ids[0].to_string()[..7]).unwrap(), ids[0]);
    // Two names of one entry are not.
    let own = ids[2].to_string()[..6].to_owned();
    repository.refs().set(RefKind::Tag, &own, None, Some(ids[2])).unwrap();
    assert_eq!(repository.resolve(&own).unwrap(), ids[2]);
}

#[test]
fn ids_that_begin_alike_are_told_apart_by_more_digits() {
    // Names of files only: an ambiguous prefix is refused before any record is read.
    let Named { backend, repository, ids } = named();
    let mut twin = ids[0].to_string();
    let last = if twin.ends_with('0') { "1" } else { "0" };
    twin.replace_range(63.., last);
    backend.put(&format!("entries/{twin}"), b"no entry").unwrap();
    let error = repository.resolve(&ids[0].short()).unwrap_err();
    assert!(error.to_string().contains("could be 2 entries"), "{error}");
    assert_eq!(repository.resolve(&ids[0].to_string()).unwrap(), ids[0]);
}

#[test]
fn names_that_cannot_be_are_refused_everywhere() {
    let Named { repository, ids, .. } = named();
    let long = "x".repeat(100);
    for name in ["", ".", "..", "a/b", "-x", ".x", "a b", "a@b", "a\n", "\u{e4}", "a~b", &long] {
        assert_eq!(check_name("tag", name).unwrap_err().kind(), ErrorKind::InvalidInput, "{name:?}");
        for kind in [RefKind::Area, RefKind::Tag] {
            assert_eq!(repository.refs().get(kind, name).unwrap_err().kind(), ErrorKind::InvalidInput, "{name:?}");
            assert_eq!(repository.refs().set(kind, name, None, Some(ids[0])).unwrap_err().kind(), ErrorKind::InvalidInput, "{name:?}");
        }
    }
    for name in ["a", "A-1_b.c+d", &long[1..]] {
        check_name("tag", name).unwrap();
    }
    assert_eq!(split_base("debian@12.5").unwrap(), ("debian", "12.5"));
    for name in ["debian", "@1", "debian@", "a@b@c", "a/b@1"] {
        assert_eq!(split_base(name).unwrap_err().kind(), ErrorKind::InvalidInput, "{name:?}");
    }
}

#[test]
fn a_ref_changes_only_from_what_it_was_thought_to_be() {
    let Named { repository, ids, .. } = named();
    let refs = repository.refs();
    refs.set(RefKind::Tag, "t", None, Some(ids[0])).unwrap();
    for (expected, new) in [(None, Some(ids[1])), (Some(ids[1]), Some(ids[2])), (Some(ids[1]), None)] {
        assert_eq!(refs.set(RefKind::Tag, "t", expected, new).unwrap_err().kind(), ErrorKind::Locked);
    }
    refs.set(RefKind::Tag, "t", Some(ids[0]), Some(ids[1])).unwrap();
    refs.set(RefKind::Tag, "s", None, Some(ids[0])).unwrap();
    let listed: Vec<(String, EntryId)> = refs.list(RefKind::Tag).unwrap().into_iter().map(|(name, id)| (name, id.unwrap())).collect();
    assert_eq!(listed, [("s".to_owned(), ids[0]), ("t".to_owned(), ids[1])]);
    refs.set(RefKind::Tag, "t", Some(ids[1]), None).unwrap();
    assert_eq!(refs.get(RefKind::Tag, "t").unwrap(), None);
}

#[test]
fn a_second_init_is_refused_and_changes_nothing() {
    let Named { backend, ids, .. } = named();
    let before = read(backend.as_ref(), "config");
    let other = Config::new([9; 16], 0);
    assert_eq!(Repository::init(Arc::clone(&backend), other, OPTIONS).map(|_| ()).unwrap_err().kind(), ErrorKind::AlreadyExists);
    assert_eq!(read(backend.as_ref(), "config"), before);
    assert_eq!(open(&backend).resolve("work@latest").unwrap(), ids[2]);
}

#[test]
fn where_there_is_no_repository_none_is_opened() {
    let error = Repository::open(memory(), OPTIONS).map(|_| ()).unwrap_err();
    assert_eq!((error.kind(), error.to_string().as_str()), (ErrorKind::NotFound, "there is no repository here"));
}

fn opened_as(config: &Config, version: u16) -> vml_core::Error {
    let backend = memory();
    init(&backend);
    overwrite(backend.as_ref(), "config", &encode_record(RecordKind { version, ..CONFIG_RECORD }, config));
    Repository::open(backend, OPTIONS).map(|_| ()).unwrap_err()
}

#[test]
fn unknown_features_and_newer_versions_are_refused_by_name() {
    let list = || vec!["time-travel".to_owned()];
    let none = Features::default;
    for features in [
        Features { read: list(), ..none() },
        Features { write: list(), ..none() },
        Features { delete: list(), ..none() },
        Features { check: list(), ..none() },
    ] {
        let config = Config { features, ..config() };
        assert_eq!(Repository::init(memory(), config.clone(), OPTIONS).map(|_| ()).unwrap_err().kind(), ErrorKind::UnsupportedFormat);
        let error = opened_as(&config, 1);
        assert_eq!(error.kind(), ErrorKind::UnsupportedFormat);
        assert!(error.to_string().contains("time-travel"), "{error}");
    }
    let error = opened_as(&config(), 2);
    assert_eq!(error.kind(), ErrorKind::UnsupportedFormat);
    assert!(error.to_string().contains("version 2"), "{error}");
    for config in [
        Config { level: 0, ..config() },
        Config { level: 20, ..config() },
        Config { frame_len: 1000, ..config() },
        Config { inline_max: 1 << 20, ..config() },
    ] {
        assert_eq!(Repository::init(memory(), config, OPTIONS).map(|_| ()).unwrap_err().kind(), ErrorKind::InvalidInput);
    }
}

#[test]
fn an_entry_of_a_newer_version_is_refused_and_the_others_are_read() {
    let Named { backend, repository, ids } = named();
    let record = encode_record(RecordKind { version: 9, ..vml_core::entry::ENTRY_RECORD }, &"what only the future knows".to_owned());
    let id = EntryId::of(&record);
    backend.put(&format!("entries/{id}"), &record).unwrap();
    assert_eq!(repository.entry(&id).unwrap_err().kind(), ErrorKind::UnsupportedFormat);
    assert_eq!(repository.entry_ids().unwrap().len(), 5);
    let entries: Vec<Entry> = ids.iter().map(|id| repository.entry(id).unwrap()).collect();
    assert!(entries[0].parents.is_empty() && entries[2].parents == [ids[1]]);
}
