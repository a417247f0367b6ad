//! Edits a tree in place as a day's work does: here and there, with bytes like those that are there.
//!
//! ```text
//! a place drawn among all bytes of all files ─► a run of 4 to 64 KiB from there on, woven of pieces of one other file ─► written over, or put in between
//! ```
//! A piece has 100 to 1000 bytes, so that what is written compresses as real content does and no chunk of it is stored already. The same seed makes
//! the same edits of the same tree.

use super::corpus::walk;
use anyhow::{Context as _, Result, bail};
use std::fmt;
use std::fs::{File, OpenOptions};
use std::io::{Read as _, Seek as _, SeekFrom, Write as _};
use std::os::unix::fs::{FileExt as _, MetadataExt as _};
use std::path::{Path, PathBuf};
use vml_testkit::noise::Rng;

/// How much is changed by a round: of all bytes.
pub const SHARE: f64 = 0.01;
const RUN_LENS: [usize; 2] = [4 << 10, 64 << 10];
const PIECE_LENS: [usize; 2] = [100, 1000];
/// Every so many edits bytes are put in between, in files of at most so many bytes, which are rewritten from there on.
const INSERT_EVERY: u64 = 4;
const INSERT_MAX_LEN: u64 = 4 << 20;

/// What one round did.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Edited {
    /// Files of the tree, each once however many names it has.
    pub files: usize,
    /// Their bytes.
    pub bytes: u64,
    /// Files that were changed.
    pub edited_files: usize,
    /// Bytes that were written over or put in between.
    pub edited_bytes: u64,
}

impl fmt::Display for Edited {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { files, bytes, edited_files, edited_bytes } = self;
        let share = *edited_bytes as f64 / *bytes as f64 * 100.0;
        write!(f, "{edited_bytes} bytes ({share:.2} %) in {edited_files} of {files} files were written over or put in")
    }
}

/// Edits `share` of the bytes of the tree at `dir`.
///
/// # Errors
/// When a file cannot be read or written, or there is nothing to edit.
pub fn edit_tree(dir: &Path, seed: u64, share: f64) -> Result<Edited> {
    let files = files(dir)?;
    let ends: Vec<u64> = files
        .iter()
        .scan(0, |end, (_, len)| {
            *end += len;
            Some(*end)
        })
        .collect();
    let bytes = ends.last().copied().unwrap_or(0);
    if bytes == 0 {
        bail!("there is no byte to edit in {}", dir.display());
    }
    let mut rng = Rng::new(seed);
    let mut changed = std::collections::BTreeSet::new();
    let mut edited_bytes = 0;
    let wanted = (bytes as f64 * share) as u64;
    for number in 0.. {
        if edited_bytes >= wanted {
            break;
        }
        let place = rng.next_u64() % bytes;
        let file = ends.partition_point(|end| *end <= place);
        let (path, len) = &files[file];
        let from = place - (ends[file] - len);
        let source = &files[rng.below(files.len())].0;
        let failed = || format!("cannot edit {}", path.display());
        let run = woven(source, between(&mut rng, RUN_LENS), &mut rng)?;
        edited_bytes += write_run(path, *len, from, &run, number % INSERT_EVERY == 0).with_context(failed)?;
        changed.insert(file);
    }
    Ok(Edited { files: files.len(), bytes, edited_files: changed.len(), edited_bytes })
}

/// The files with bytes in them, by name, with their lengths; of several names of one file the first.
fn files(dir: &Path) -> Result<Vec<(PathBuf, u64)>> {
    let mut found = Vec::new();
    walk(dir, &mut |path, metadata| {
        if metadata.len() > 0 {
            found.push((path.to_path_buf(), metadata.len(), metadata.ino()));
        }
        Ok(())
    })?;
    found.sort_unstable();
    let mut known = std::collections::HashSet::new();
    Ok(found.into_iter().filter(|(_, _, inode)| known.insert(*inode)).map(|(path, len, _)| (path, len)).collect())
}

fn between(rng: &mut Rng, [least, most]: [usize; 2]) -> usize {
    least + rng.below(most - least + 1)
}

/// `len` bytes of pieces of a file.
fn woven(source: &Path, len: usize, rng: &mut Rng) -> Result<Vec<u8>> {
    let failed = || format!("cannot read {}", source.display());
    let file = File::open(source).with_context(failed)?;
    let source_len = file.metadata().with_context(failed)?.len();
    let mut run = Vec::with_capacity(len + PIECE_LENS[1]);
    let mut piece = [0; PIECE_LENS[1]];
    while run.len() < len {
        let wanted = between(rng, PIECE_LENS);
        let read = file.read_at(&mut piece[..wanted], rng.next_u64() % source_len.max(1)).with_context(failed)?;
        // A byte that counts on, so that a file of few bytes does not repeat itself.
        run.extend_from_slice(&piece[..read]);
        run.extend_from_slice(&rng.next_u64().to_le_bytes()[..4]);
    }
    run.truncate(len);
    Ok(run)
}

/// Writes `run` over what is at `from`, at most to the file's end, or puts it in between; tells how many bytes those are.
fn write_run(path: &Path, len: u64, from: u64, run: &[u8], insert: bool) -> std::io::Result<u64> {
    let mut file = OpenOptions::new().read(true).write(true).open(path)?;
    let mut written = run.len();
    if insert && len <= INSERT_MAX_LEN {
        file.seek(SeekFrom::Start(from))?;
        let mut rest = Vec::new();
        file.read_to_end(&mut rest)?;
        file.seek(SeekFrom::Start(from))?;
        file.write_all(run)?;
        file.write_all(&rest)?;
    } else {
        written = written.min(usize::try_from(file.metadata()?.len().saturating_sub(from)).unwrap_or(usize::MAX));
        file.write_all_at(&run[..written], from)?;
    }
    Ok(written as u64)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs;
    use vml_testkit::noise;

    fn tree() -> tempfile::TempDir {
        let dir = tempfile::tempdir().unwrap();
        fs::create_dir(dir.path().join("sub")).unwrap();
        for number in 0..40_u64 {
            let name = if number % 2 == 0 { format!("file-{number}") } else { format!("sub/file-{number}") };
            fs::write(dir.path().join(name), noise::text(number, 50_000)).unwrap();
        }
        fs::write(dir.path().join("empty"), "").unwrap();
        fs::hard_link(dir.path().join("file-0"), dir.path().join("linked")).unwrap();
        dir
    }

    fn read(dir: &Path) -> Vec<(PathBuf, Vec<u8>)> {
        let mut all = Vec::new();
        walk(dir, &mut |path, _| {
            all.push((path.strip_prefix(dir).unwrap().to_path_buf(), fs::read(path)?));
            Ok(())
        })
        .unwrap();
        all.sort();
        all
    }

    #[test]
    fn a_seed_makes_the_same_edits_and_about_the_share_is_changed() {
        let (one, other, third) = (tree(), tree(), tree());
        let before = read(one.path());
        let edited = edit_tree(one.path(), 1, 0.05).unwrap();
        assert_eq!((edited.files, edited.bytes), (40, 2_000_000), "a file of two names counts once, an empty one not");
        assert!((100_000..170_000).contains(&edited.edited_bytes), "{edited}");
        assert_eq!(edit_tree(other.path(), 1, 0.05).unwrap(), edited);
        assert!(read(one.path()) == read(other.path()));
        edit_tree(third.path(), 2, 0.05).unwrap();
        let after = read(one.path());
        assert!(after != read(third.path()) && after.len() == before.len());
        let differing = after.iter().zip(&before).filter(|(new, old)| new.1 != old.1).count();
        assert!(differing >= edited.edited_files && differing <= edited.edited_files + 1, "{differing} files differ: {edited}");
        assert!(edit_tree(tempfile::tempdir().unwrap().path(), 1, 0.5).is_err());
    }
}
