//! Patterns of what is left out of a tree.

use globset::{GlobBuilder, GlobSet, GlobSetBuilder};
use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt;
use vml_chunk::{Error, Result};

/// Compiled patterns. A pattern with a `/` other than at its end is matched against the path from the root of the tree,
/// one without against the name of every member; `*` does not cross a `/`, `**` does. `dir/*` leaves out what is in a
/// directory and keeps the directory.
#[derive(Debug, Clone, Default)]
pub struct Exclude {
    patterns: Vec<String>,
    paths: GlobSet,
    names: GlobSet,
}

impl Exclude {
    /// Compiles `patterns`.
    ///
    /// # Errors
    /// `InvalidInput` naming the pattern that is none.
    pub fn new<S: AsRef<str>>(patterns: &[S]) -> Result<Self> {
        let (mut paths, mut names) = (GlobSetBuilder::new(), GlobSetBuilder::new());
        for pattern in patterns {
            let pattern = pattern.as_ref();
            let trimmed = pattern.strip_suffix('/').unwrap_or(pattern);
            let anchored = trimmed.contains('/');
            let text = trimmed.trim_start_matches('/');
            if text.is_empty() {
                return Err(Error::invalid(format!("the pattern {pattern:?} would leave out everything")));
            }
            let glob = GlobBuilder::new(text).literal_separator(true).backslash_escape(true).build();
            let glob = glob.map_err(|error| Error::invalid(format!("{pattern:?} is not a pattern")).because(error))?;
            if anchored {
                paths.add(glob)
            } else {
                names.add(glob)
            };
        }
        let build =
            |set: &GlobSetBuilder| set.build().map_err(|error| Error::invalid("the patterns are too many or too long").because(error));
        Ok(Self {
            patterns: patterns.iter().map(|pattern| pattern.as_ref().to_owned()).collect(),
            paths: build(&paths)?,
            names: build(&names)?,
        })
    }

    /// The patterns as they were given.
    pub fn patterns(&self) -> &[String] {
        &self.patterns
    }

    /// Whether the member `name` at `path` is left out.
    pub fn matches(&self, path: &[u8], name: &[u8]) -> bool {
        (!self.names.is_empty() && self.names.is_match(OsStr::from_bytes(name)))
            || (!self.paths.is_empty() && self.paths.is_match(OsStr::from_bytes(path)))
    }

    /// Whether there is no pattern.
    pub(super) fn is_empty(&self) -> bool {
        self.patterns.is_empty()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_match_everywhere_and_paths_from_the_root() {
        let exclude = Exclude::new(&["*.o", "/proc/*", "home/*/cache", "build/"]).unwrap();
        let matches = |path: &str| exclude.matches(path.as_bytes(), path.rsplit('/').next().unwrap().as_bytes());
        assert!(matches("src/deep/a.o") && matches("proc/1") && matches("home/dev/cache") && matches("x/build"));
        assert!(!matches("proc") && !matches("home/dev/x/cache") && !matches("src/a.c") && !matches("x/proc/1"));
        assert!(exclude.matches(b"bad\xff/x.o", b"x.o"));
        assert!(Exclude::new(&["a[", "b"]).is_err() && Exclude::new(&["/"]).is_err());
    }
}
