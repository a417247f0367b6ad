//! Bytes to measure with: those of this machine's files where there are enough, else made up.

use std::fs;
use std::io::Read;
use std::path::{Path, PathBuf};
use vml_testkit::noise;

/// No single file fills the sample.
const FILE_MAX: u64 = 2 << 20;

/// Bytes and what they are.
pub struct Sample {
    /// As many as were asked for.
    pub bytes: Vec<u8>,
    /// For the report: real or made up.
    pub source: &'static str,
}

/// `len` bytes, half of programs and libraries, half of data and text. Printed is which they are, since numbers on made-up
/// bytes say little about real ones.
pub fn sample(len: usize) -> Sample {
    let mut bytes = Vec::with_capacity(len);
    for (dir, upto) in [("/usr/lib", len / 2), ("/usr/share", len)] {
        fill(Path::new(dir), upto, &mut bytes);
    }
    let sample = if bytes.len() == len {
        Sample { bytes, source: "files of /usr/lib and /usr/share" }
    } else {
        Sample { bytes: noise::mixed(1, len), source: "made up (too few files in /usr/lib and /usr/share)" }
    };
    eprintln!("measured on {} MiB: {}", len >> 20, sample.source);
    sample
}

/// Appends files below `dir` until `bytes` has `upto`; in the order of names, so that two runs see the same.
fn fill(dir: &Path, upto: usize, bytes: &mut Vec<u8>) {
    let mut stack = vec![dir.to_path_buf()];
    while let Some(path) = stack.pop() {
        let room = upto.saturating_sub(bytes.len());
        let Ok(metadata) = path.symlink_metadata() else { continue };
        if room == 0 {
            return;
        } else if metadata.is_dir() {
            stack.extend(members(&path).into_iter().rev());
        } else if metadata.is_file()
            && let Ok(file) = fs::File::open(&path)
        {
            // A file that cannot be read to its end gives what it has.
            _ = file.take(FILE_MAX.min(room as u64)).read_to_end(bytes);
        }
    }
}

fn members(dir: &Path) -> Vec<PathBuf> {
    let mut paths: Vec<PathBuf> =
        fs::read_dir(dir).map(|entries| entries.flatten().map(|entry| entry.path()).collect()).unwrap_or_default();
    paths.sort_unstable();
    paths
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_sample_has_its_length_and_is_the_same_again() {
        let first = sample(1 << 20);
        assert_eq!(first.bytes.len(), 1 << 20);
        assert!(sample(1 << 20).bytes == first.bytes);
    }
}
