//! Sparse image files: where their data is, and where two of them differ. Holes are never read.

use anyhow::{Context as _, Result, bail};
use rustix::fs::{SeekFrom, seek};
use rustix::io::Errno;
use std::fs::File;
use std::io;
use std::ops::Range;
use std::os::unix::fs::FileExt;
use std::path::Path;

const WINDOW: u64 = 1 << 20;

/// The ranges of a file that are not holes, in order.
fn extents(file: &File) -> io::Result<Vec<Range<u64>>> {
    let mut extents = Vec::new();
    let mut at = 0;
    loop {
        let start = match seek(file, SeekFrom::Data(at)) {
            // There is no more data.
            Err(Errno::NXIO) => return Ok(extents),
            found => found?,
        };
        at = seek(file, SeekFrom::Hole(start))?;
        extents.push(start..at);
    }
}

fn open(path: &Path) -> Result<(File, Vec<Range<u64>>)> {
    let file = File::open(path).with_context(|| format!("cannot open {}", path.display()))?;
    let extents = extents(&file).with_context(|| format!("cannot find the data of {}", path.display()))?;
    Ok((file, extents))
}

/// How much of a file is not holes.
///
/// # Errors
/// When it cannot be read.
pub fn data_bytes(path: &Path) -> Result<u64> {
    Ok(open(path)?.1.iter().map(|extent| extent.end - extent.start).sum())
}

/// Reads the data of a file once.
///
/// # Errors
/// When it cannot be read.
pub fn warm(path: &Path) -> Result<()> {
    let (file, extents) = open(path)?;
    let mut buffer = vec![0; WINDOW as usize];
    for window in extents.iter().flat_map(windows) {
        read(&file, path, &window, &mut buffer)?;
    }
    Ok(())
}

/// The ranges in which two files of one length differ, in whole blocks of `block_len` bytes, a power of two up to 1 MiB.
///
/// # Errors
/// When one cannot be read, or the lengths differ.
pub fn differences(one: &Path, other: &Path, block_len: u64) -> Result<Vec<Range<u64>>> {
    let ((a, mut extents), (b, more)) = (open(one)?, open(other)?);
    let len = a.metadata()?.len();
    if b.metadata()?.len() != len {
        bail!("{} and {} have different lengths", one.display(), other.display());
    }
    extents.extend(more);
    let (mut left, mut right) = (vec![0; WINDOW as usize], vec![0; WINDOW as usize]);
    let mut differences: Vec<Range<u64>> = Vec::new();
    for window in joined(extents, block_len, len).iter().flat_map(windows) {
        let blocks = read(&a, one, &window, &mut left)?.chunks(block_len as usize);
        for (block, (old, new)) in blocks.zip(read(&b, other, &window, &mut right)?.chunks(block_len as usize)).enumerate() {
            if old != new {
                let start = window.start + block as u64 * block_len;
                add(&mut differences, start..start + old.len() as u64);
            }
        }
    }
    Ok(differences)
}

/// The same ranges, grown to whole blocks, in order and without overlaps.
fn joined(mut ranges: Vec<Range<u64>>, block_len: u64, len: u64) -> Vec<Range<u64>> {
    ranges.sort_unstable_by_key(|range| range.start);
    let mut joined: Vec<Range<u64>> = Vec::new();
    for range in ranges {
        add(&mut joined, range.start / block_len * block_len..range.end.next_multiple_of(block_len).min(len));
    }
    joined
}

/// Appends a range that begins at or behind the start of the last one.
fn add(ranges: &mut Vec<Range<u64>>, range: Range<u64>) {
    match ranges.last_mut() {
        Some(last) if range.start <= last.end => last.end = last.end.max(range.end),
        _ => ranges.push(range),
    }
}

fn windows(extent: &Range<u64>) -> impl Iterator<Item = Range<u64>> + use<> {
    let end = extent.end;
    (extent.start..end).step_by(WINDOW as usize).map(move |start| start..end.min(start + WINDOW))
}

fn read<'a>(file: &File, path: &Path, range: &Range<u64>, buffer: &'a mut [u8]) -> Result<&'a [u8]> {
    let bytes = &mut buffer[..(range.end - range.start) as usize];
    file.read_exact_at(bytes, range.start).with_context(|| format!("cannot read {}", path.display()))?;
    Ok(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs;

    fn sparse(path: &Path, len: u64, pieces: &[(u64, &[u8])]) {
        let file = File::create(path).unwrap();
        file.set_len(len).unwrap();
        pieces.iter().for_each(|(at, bytes)| file.write_all_at(bytes, *at).unwrap());
    }

    #[test]
    fn data_is_found_between_holes_and_differences_are_whole_blocks() {
        let dir = tempfile::tempdir().unwrap();
        let (one, other) = (dir.path().join("one"), dir.path().join("other"));
        sparse(&one, (64 << 20) + 100, &[(8 << 20, &[1; 3 << 20]), (64 << 20, &[7; 100])]);
        sparse(&other, (64 << 20) + 100, &[(8 << 20, &[1; 3 << 20]), (64 << 20, &[8; 100])]);
        let file = fs::OpenOptions::new().write(true).open(&other).unwrap();
        file.write_all_at(&[2], (9 << 20) + 5000).unwrap();
        file.write_all_at(&[2], 32 << 20).unwrap();
        warm(&one).unwrap();
        let data = data_bytes(&one).unwrap();
        assert!((3 << 20..=4 << 20).contains(&data), "{data}");
        let first = (9 << 20) + 4096;
        let found = differences(&one, &other, 4096).unwrap();
        assert_eq!(found, [first..first + 4096, 32 << 20..(32 << 20) + 4096, 64 << 20..(64 << 20) + 100]);
        assert!(differences(&one, &one, 65536).unwrap().is_empty());
        sparse(&other, 4096, &[]);
        assert_eq!(data_bytes(&other).unwrap(), 0);
        assert!(differences(&one, &other, 4096).unwrap_err().to_string().contains("different lengths"));
    }

    #[test]
    fn ranges_are_grown_to_blocks_and_joined() {
        assert_eq!(joined(vec![9000..10_000, 20_481..20_490, 0..1, 5000..8200], 4096, 21_000), [0..12_288, 20_480..21_000]);
        assert_eq!(joined(vec![9000..9001, 1..2], 4096, 11_000), [0..4096, 8192..11_000]);
        assert_eq!(windows(&(5..WINDOW + 6)).collect::<Vec<_>>(), [5..WINDOW + 5, WINDOW + 5..WINDOW + 6]);
    }
}
