//! The states that are saved, and walks over directories.

use anyhow::{Context as _, Result, bail};
use std::fs;
use std::io::Read;
use std::path::{Path, PathBuf};

/// The states in the order in which they are saved.
pub const STATES: [&str; 5] = ["base", "w1", "w2", "w3", "v1"];
/// The state that is saved a second time without a change.
pub const AGAIN: &str = "w1";
/// The state that is built back.
pub const BUILT: &str = "w3";

/// Where the states are.
#[derive(Debug, Clone)]
pub struct Corpus {
    trees: PathBuf,
}

impl Corpus {
    /// Checks that every state is there.
    ///
    /// # Errors
    /// When one is missing.
    pub fn open(dir: &Path) -> Result<Self> {
        let trees = dir.join("trees");
        for state in STATES {
            if !trees.join(state).is_dir() {
                bail!("{} is no corpus: trees/{state} is missing; it has the directory trees {}", dir.display(), STATES.join(", "));
            }
        }
        let trees = trees.canonicalize().with_context(|| format!("cannot find {}", trees.display()))?;
        Ok(Self { trees })
    }

    /// The directory of a state.
    pub fn state(&self, name: &str) -> PathBuf {
        self.trees.join(name)
    }
}

/// What is in a directory.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Contents {
    /// Regular files.
    pub files: u64,
    /// Their bytes.
    pub bytes: u64,
}

/// Counts the regular files below `dir`, by their names.
///
/// # Errors
/// When something in it cannot be read.
pub fn contents(dir: &Path) -> Result<Contents> {
    let mut contents = Contents::default();
    walk(dir, &mut |_, metadata| {
        contents.files += 1;
        contents.bytes += metadata.len();
        Ok(())
    })?;
    Ok(contents)
}

/// Reads every file below `dir` once, so that all tools find the same warm cache.
///
/// # Errors
/// When something in it cannot be read.
pub fn warm(dir: &Path) -> Result<()> {
    let mut buffer = vec![0; 1 << 20];
    walk(dir, &mut |path, _| {
        let mut file = fs::File::open(path)?;
        while file.read(&mut buffer)? > 0 {}
        Ok(())
    })
}

fn walk(dir: &Path, each: &mut dyn FnMut(&Path, &fs::Metadata) -> std::io::Result<()>) -> Result<()> {
    let mut stack = vec![dir.to_path_buf()];
    while let Some(dir) = stack.pop() {
        let failed = || format!("cannot read {}", dir.display());
        for entry in fs::read_dir(&dir).with_context(failed)? {
            let entry = entry.with_context(failed)?;
            let metadata = entry.metadata().with_context(failed)?;
            let path = entry.path();
            if metadata.is_dir() {
                stack.push(path);
            } else if metadata.is_file() {
                each(&path, &metadata).with_context(|| format!("cannot read {}", path.display()))?;
            }
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn files_are_counted_and_a_missing_state_is_named() {
        let dir = tempfile::tempdir().unwrap();
        for state in &STATES[..4] {
            fs::create_dir_all(dir.path().join("trees").join(state).join("a/b")).unwrap();
        }
        fs::write(dir.path().join("trees/w1/a/b/file"), b"12345").unwrap();
        std::os::unix::fs::symlink("nowhere", dir.path().join("trees/w1/link")).unwrap();
        assert_eq!(contents(dir.path()).unwrap(), Contents { files: 1, bytes: 5 });
        warm(dir.path()).unwrap();
        assert!(Corpus::open(dir.path()).unwrap_err().to_string().contains("trees/v1 is missing"));
    }
}
