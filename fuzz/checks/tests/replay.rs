//! Replays every saved input of every fuzz target: what a fuzzer found once is tried for ever.
#![allow(missing_docs, clippy::unwrap_used)]

use fuzz_checks::TARGETS;
use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};

fn inputs_dir() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../../testdata/fuzz")
}

fn names_in(dir: &Path) -> BTreeSet<String> {
    let entries = fs::read_dir(dir).unwrap_or_else(|error| panic!("cannot list {}: {error}", dir.display()));
    entries.map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect()
}

#[test]
fn saved_inputs_pass_their_checks() {
    for target in TARGETS {
        let dir = inputs_dir().join(target.name);
        let names = names_in(&dir);
        assert!(!names.is_empty(), "{} has no input", target.name);
        for name in names {
            let bytes = fs::read(dir.join(&name)).unwrap();
            let outcome = std::panic::catch_unwind(|| (target.check)(&bytes));
            assert!(outcome.is_ok(), "testdata/fuzz/{}/{name} fails its check", target.name);
        }
    }
}

#[test]
fn every_flip_and_cut_of_a_seed_passes_its_check() {
    for target in TARGETS {
        for (_, bytes) in (target.seeds)() {
            for bit in 0..bytes.len() * 8 {
                let mut damaged = bytes.clone();
                damaged[bit / 8] ^= 1 << (bit % 8);
                (target.check)(&damaged);
            }
            for len in 0..bytes.len() {
                (target.check)(&bytes[..len]);
            }
        }
    }
}

#[test]
fn the_saved_seeds_are_what_the_encoders_write() {
    for target in TARGETS {
        for (name, bytes) in (target.seeds)() {
            let path = inputs_dir().join(target.name).join(format!("seed-{name}"));
            assert!(
                fs::read(&path).unwrap() == bytes,
                "{} differs: write it with `cargo run -p fuzz-checks --example seeds`",
                path.display()
            );
        }
    }
}

#[test]
fn targets_and_directories_are_the_same() {
    let listed: BTreeSet<String> = TARGETS.iter().map(|target| target.name.to_owned()).collect();
    assert_eq!(names_in(&inputs_dir()), listed);
    let binaries = names_in(&Path::new(env!("CARGO_MANIFEST_DIR")).join("../fuzz_targets"));
    assert_eq!(binaries, listed.iter().map(|name| format!("{name}.rs")).collect());
}
