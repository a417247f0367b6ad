//! The structure, held by a test: imports go one way only, and no file grows without being noticed.

#![allow(clippy::unwrap_used, missing_docs)]

use std::fs;
use std::path::{Path, PathBuf};

/// A crate's modules in lines, upper ones first; a module imports from its own line or from those below it.
const LAYERS: [(&str, &[&[&str]]); 4] = [
    (
        "vml-chunk",
        &[
            &["gc", "repair"],
            &["store"],
            &["pack", "parity", "frame", "index"],
            &["chunker", "codec", "backend", "mmap"],
            &["id", "error", "format", "stats"],
        ],
    ),
    (
        "vml-core",
        &[
            &["transplant"],
            &["remote", "tune", "catalogue"],
            &["share"],
            &["repository"],
            &["refs", "machine"],
            &["entry"],
            &["volume"],
            &["tree", "disk"],
            &["recipe", "monitor", "name"],
        ],
    ),
    ("vml-hv", &[&["qemu", "libvirt", "vmware", "ssh"], &["guest", "image"], &["nbd"], &["command"]]),
    (
        "vml-cli",
        &[
            &["commands"],
            &["service"],
            &["output", "progress", "failure", "places", "remotes"],
            &["machines"],
            &["args", "areas", "bases", "catalogues", "checks", "keys", "tokens"],
            &["images", "guests", "online", "credentials"],
            &["net"],
            &["settings", "files"],
        ],
    ),
];

/// Crates that a crate may name.
const CRATES: [(&str, &[&str]); 4] = [
    ("vml-chunk", &[]),
    ("vml-core", &["vml_chunk"]),
    ("vml-hv", &["vml_core", "vml_chunk"]),
    ("vml-cli", &["vml_hv", "vml_core", "vml_chunk"]),
];

/// Lines at which a source file is split, tests included.
const FILE_MAX_LINES: usize = 600;

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap().to_path_buf()
}

fn sources(dir: &Path) -> Vec<PathBuf> {
    let mut files = Vec::new();
    for entry in fs::read_dir(dir).unwrap().flatten() {
        let path = entry.path();
        if path.is_dir() {
            files.extend(sources(&path));
        } else if path.extension().is_some_and(|ending| ending == "rs") {
            files.push(path);
        }
    }
    files
}

/// The words that follow `prefix` in code lines; `use crate::{a, b}` is written as two lines in this project or listed here.
fn words_after<'a>(text: &'a str, prefix: &'a str) -> impl Iterator<Item = &'a str> {
    text.lines().filter(|line| !line.trim_start().starts_with("//")).flat_map(move |line| {
        line.match_indices(prefix).map(move |(at, _)| {
            let rest = &line[at + prefix.len()..];
            &rest[..rest.find(|c: char| !c.is_alphanumeric() && c != '_').unwrap_or(rest.len())]
        })
    })
}

#[test]
fn modules_import_downward_only() {
    let mut seen = 0;
    for (name, layers) in LAYERS {
        let src = root().join(name).join("src");
        let line_of = |module: &str| layers.iter().position(|line| line.contains(&module));
        for path in sources(&src) {
            let inside = path.strip_prefix(&src).unwrap();
            let module = inside.components().next().unwrap().as_os_str().to_str().unwrap().trim_end_matches(".rs").to_owned();
            if module == "lib" || module == "main" {
                continue;
            }
            let own = line_of(&module).unwrap_or_else(|| panic!("{name}: module {module} stands in no line of tests/tidy.rs"));
            let text = fs::read_to_string(&path).unwrap();
            for word in words_after(&text, "crate::").filter(|word| line_of(word).is_some()) {
                seen += 1;
                assert!(line_of(word).unwrap() >= own, "{} imports {word}, which stands above it", path.display());
            }
        }
    }
    assert!(seen > 100, "the test no longer sees the imports: {seen}");
}

#[test]
fn crates_import_downward_only() {
    for (name, allowed) in CRATES {
        for path in sources(&root().join(name).join("src")) {
            let text = fs::read_to_string(&path).unwrap();
            for other in ["vml_chunk", "vml_core", "vml_hv", "vml_cli", "vml_testkit"] {
                let own = name.replace('-', "_");
                let named =
                    text.lines().filter(|line| !line.trim_start().starts_with("//")).any(|line| line.contains(&format!("{other}::")));
                assert!(!named || other == own || allowed.contains(&other), "{} names {other}", path.display());
            }
        }
    }
}

#[test]
fn no_source_file_grows_unnoticed() {
    for (name, _) in LAYERS {
        for path in sources(&root().join(name).join("src")) {
            let lines = fs::read_to_string(&path).unwrap().lines().count();
            assert!(lines < FILE_MAX_LINES, "{} has {lines} lines: look for a seam", path.display());
        }
    }
}

#[test]
fn unsafe_code_stands_in_named_modules_only() {
    for (name, _) in LAYERS {
        for path in sources(&root().join(name).join("src")) {
            let text = fs::read_to_string(&path).unwrap();
            let has = text.lines().filter(|line| !line.trim_start().starts_with("//")).any(|line| line.contains("unsafe {"));
            let named = ["vml-chunk/src/mmap.rs", "vml-hv/src/libvirt/raw.rs"].iter().any(|named| path.ends_with(named));
            assert!(!has || named, "{} has unsafe code", path.display());
        }
    }
}
