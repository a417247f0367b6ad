//! The states that are saved, and walks over directories.

use super::extents;
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
/// Of so many states, from the first one on, there are images as well.
pub const IMAGES: usize = 4;

/// What the states are.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// Directory trees.
    Trees,
    /// Raw images of one disk; there is none of the last state.
    Images,
}

/// Where the states are.
#[derive(Debug, Clone)]
pub struct Corpus {
    dir: PathBuf,
    kind: Kind,
    states: &'static [&'static str],
}

impl Corpus {
    /// Checks that every state is there.
    ///
    /// # Errors
    /// When one is missing.
    pub fn open(dir: &Path, kind: Kind) -> Result<Self> {
        let states = if kind == Kind::Trees { &STATES[..] } else { &STATES[..IMAGES] };
        let dir = dir.canonicalize().with_context(|| format!("cannot find {}", dir.display()))?;
        let corpus = Self { dir, kind, states };
        for state in states {
            let path = corpus.state(state);
            if !(if kind == Kind::Trees { path.is_dir() } else { path.is_file() }) {
                let (name, dir) = (path.strip_prefix(&corpus.dir).unwrap_or(&path).display(), corpus.dir.display());
                bail!("{dir} is no corpus: {name} is missing; testdata/make-corpus {dir} full makes one");
            }
        }
        Ok(corpus)
    }

    /// The trees of the states of which there are images.
    ///
    /// # Errors
    /// When one is missing.
    pub fn imaged_trees(&self) -> Result<Self> {
        Ok(Self { states: &STATES[..IMAGES], ..Self::open(&self.dir, Kind::Trees)? })
    }

    /// What the states are.
    pub fn kind(&self) -> Kind {
        self.kind
    }

    /// The names of the states in the order in which they are saved.
    pub fn states(&self) -> &'static [&'static str] {
        self.states
    }

    /// The directory or image of a state.
    pub fn state(&self, name: &str) -> PathBuf {
        match self.kind {
            Kind::Trees => self.dir.join("trees").join(name),
            Kind::Images => self.dir.join("images").join(name).with_extension("raw"),
        }
    }

    /// What a state holds.
    ///
    /// # Errors
    /// When something in it cannot be read.
    pub fn contents(&self, name: &str) -> Result<Contents> {
        match self.kind {
            Kind::Trees => contents(&self.state(name)),
            Kind::Images => Ok(Contents { files: 1, bytes: extents::data_bytes(&self.state(name))? }),
        }
    }

    /// Reads the state that is shown at `path` once, so that all tools find the same warm cache.
    ///
    /// # Errors
    /// When something in it cannot be read.
    pub fn warm(&self, path: &Path) -> Result<()> {
        match self.kind {
            Kind::Trees => warm(path),
            Kind::Images => extents::warm(path),
        }
    }
}

/// What is in a directory.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Contents {
    /// Regular files.
    pub files: u64,
    /// Their bytes; those of an image without its holes.
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

fn warm(dir: &Path) -> Result<()> {
    let mut buffer = vec![0; 1 << 20];
    walk(dir, &mut |path, _| {
        let mut file = fs::File::open(path)?;
        while file.read(&mut buffer)? > 0 {}
        Ok(())
    })
}

/// Calls `each` for every regular file below `dir`.
///
/// # Errors
/// When something in it cannot be read.
pub fn walk(dir: &Path, each: &mut dyn FnMut(&Path, &fs::Metadata) -> std::io::Result<()>) -> Result<()> {
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
        assert!(Corpus::open(dir.path(), Kind::Trees).unwrap_err().to_string().contains("trees/v1 is missing"));
    }

    #[test]
    fn images_are_counted_by_their_data() {
        let dir = tempfile::tempdir().unwrap();
        fs::create_dir_all(dir.path().join("images")).unwrap();
        for state in &STATES[..IMAGES] {
            fs::create_dir_all(dir.path().join("trees").join(state)).unwrap();
        }
        assert!(Corpus::open(dir.path(), Kind::Images).unwrap_err().to_string().contains("images/base.raw is missing"));
        for state in &STATES[..IMAGES] {
            let file = fs::File::create(dir.path().join("images").join(state).with_extension("raw")).unwrap();
            file.set_len(1 << 30).unwrap();
        }
        let corpus = Corpus::open(dir.path(), Kind::Images).unwrap();
        assert_eq!(corpus.contents("w3").unwrap(), Contents { files: 1, bytes: 0 });
        corpus.warm(&corpus.state("w3")).unwrap();
        assert!(corpus.imaged_trees().unwrap_err().to_string().contains("trees/v1 is missing"));
        fs::create_dir_all(dir.path().join("trees/v1")).unwrap();
        assert_eq!(corpus.imaged_trees().unwrap().states(), ["base", "w1", "w2", "w3"]);
    }
}
