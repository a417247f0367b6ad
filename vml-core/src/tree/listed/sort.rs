//! Sorts a listing into the order of the walk, on disk where it is long.
//!
//! The key is the directory's path with `/` as 0, then two 0, then the name: so a directory comes before what is in it, all
//! its members stand together, and subdirectories follow in the order of their names.
//!
//! ```text
//! members ──► 32 MiB in memory ──full: sort, write──► run (a nameless file) ─┐
//!                                                     run ───────────────────┴─ merge ──► members in order
//! ```

use super::Listed;
use std::cmp::Reverse;
use std::collections::BinaryHeap;
use std::fs::File;
use std::io::{BufReader, BufWriter, Read, Seek, SeekFrom, Write};
use std::path::{Path, PathBuf};
use vml_chunk::{Error, IoResultExt, Result, codec};

/// Bytes of records that are sorted in memory.
const RUN_LEN: usize = 32 << 20;
/// Longest listing that is taken: a few hundred million members.
const TOTAL_MAX_LEN: u64 = 64 << 30;
/// Longest record; a path and a link's target have bounds of their own.
const RECORD_MAX_LEN: usize = 64 << 10;

/// The place of a member in the order of the walk.
pub(super) fn key(path: &[u8]) -> Vec<u8> {
    let cut = path.iter().rposition(|byte| *byte == b'/');
    let (dir, name) = cut.map_or((&[][..], path), |cut| (&path[..cut], &path[cut + 1..]));
    let mut key = Vec::with_capacity(path.len() + 2);
    key.extend(dir.iter().map(|byte| if *byte == b'/' { 0 } else { *byte }));
    // The root itself is the member without a name of the directory without a name.
    key.extend_from_slice(&[0, 0]);
    key.extend_from_slice(name);
    key
}

pub(super) struct Sorter<'a> {
    spool: &'a Path,
    run_len: usize,
    bytes: Vec<u8>,
    /// Where in `bytes` each record begins, how long its key is and how long the rest.
    records: Vec<(usize, usize, usize)>,
    runs: Vec<File>,
    total: u64,
}

impl<'a> Sorter<'a> {
    pub(super) fn new(spool: &'a Path) -> Self {
        Self { spool, run_len: RUN_LEN, bytes: Vec::new(), records: Vec::new(), runs: Vec::new(), total: 0 }
    }

    pub(super) fn push(&mut self, listed: &Listed) -> Result<()> {
        let (key, payload) = (key(&listed.path), codec::encode_payload(listed));
        if key.len() > RECORD_MAX_LEN || payload.len() > RECORD_MAX_LEN {
            return Err(Error::corrupt("a listing has a member with an impossible name"));
        }
        self.records.push((self.bytes.len(), key.len(), payload.len()));
        self.bytes.extend_from_slice(&key);
        self.bytes.extend_from_slice(&payload);
        if self.bytes.len() + self.records.len() * 24 >= self.run_len {
            self.write_run()?;
        }
        Ok(())
    }

    fn sort(&mut self) {
        let bytes = &self.bytes;
        // Stable, so that of two that are told twice the first counts.
        self.records.sort_by(|a, b| bytes[a.0..a.0 + a.1].cmp(&bytes[b.0..b.0 + b.1]));
    }

    fn write_run(&mut self) -> Result<()> {
        self.sort();
        self.total += self.bytes.len() as u64;
        if self.total > TOTAL_MAX_LEN {
            return Err(Error::invalid("the listing is longer than any tree's"));
        }
        let message = || format!("cannot sort the listing in {}", self.spool.display());
        let mut out = BufWriter::with_capacity(1 << 20, nameless(self.spool)?);
        for (start, key_len, len) in &self.records {
            for len in [*key_len, *len] {
                out.write_all(&u32::try_from(len).expect("bounded above").to_le_bytes()).at(message)?;
            }
            out.write_all(&self.bytes[*start..start + key_len + len]).at(message)?;
        }
        let mut file = out.into_inner().map_err(std::io::IntoInnerError::into_error).at(message)?;
        file.seek(SeekFrom::Start(0)).at(message)?;
        self.runs.push(file);
        self.bytes.clear();
        self.records.clear();
        Ok(())
    }

    /// The members in order.
    pub(super) fn finish(mut self) -> Result<Sorted> {
        self.sort();
        let memory = Memory { bytes: self.bytes, records: self.records.into_iter() };
        let mut sorted = Sorted {
            memory,
            runs: self.runs.into_iter().map(|run| BufReader::with_capacity(128 << 10, run)).collect(),
            heads: BinaryHeap::new(),
        };
        for run in 0..=sorted.runs.len() {
            sorted.fill(run)?;
        }
        Ok(sorted)
    }
}

struct Memory {
    bytes: Vec<u8>,
    records: std::vec::IntoIter<(usize, usize, usize)>,
}

/// Key, number of the run, and the rest.
type Head = (Vec<u8>, usize, Vec<u8>);

/// Iterates over the members in the order of their keys.
pub(super) struct Sorted {
    memory: Memory,
    runs: Vec<BufReader<File>>,
    /// The next record of each run.
    heads: BinaryHeap<Reverse<Head>>,
}

impl Sorted {
    fn fill(&mut self, run: usize) -> Result<()> {
        let record = match self.runs.get_mut(run) {
            Some(file) => read_record(file)?,
            // The last ones were never written.
            None => self.memory.records.next().map(|(start, key_len, len)| {
                let key_end = start + key_len;
                (self.memory.bytes[start..key_end].to_vec(), self.memory.bytes[key_end..key_end + len].to_vec())
            }),
        };
        if let Some((key, payload)) = record {
            self.heads.push(Reverse((key, run, payload)));
        }
        Ok(())
    }

    pub(super) fn next(&mut self) -> Result<Option<Listed>> {
        let Some(Reverse((_, run, payload))) = self.heads.pop() else { return Ok(None) };
        self.fill(run)?;
        codec::decode_payload("listed member", &payload).map(Some)
    }
}

fn read_record(file: &mut BufReader<File>) -> Result<Option<(Vec<u8>, Vec<u8>)>> {
    let message = || "cannot read the sorted listing";
    let mut lens = [0; 8];
    match file.read_exact(&mut lens) {
        Err(error) if error.kind() == std::io::ErrorKind::UnexpectedEof => return Ok(None),
        other => other.at(message)?,
    }
    let [key_len, len] = [0, 4].map(|at| u32::from_le_bytes(lens[at..at + 4].try_into().expect("four bytes")) as usize);
    if key_len > RECORD_MAX_LEN || len > RECORD_MAX_LEN {
        return Err(Error::corrupt("the sorted listing was damaged"));
    }
    let (mut key, mut payload) = (vec![0; key_len], vec![0; len]);
    file.read_exact(&mut key).and_then(|()| file.read_exact(&mut payload)).at(message)?;
    Ok(Some((key, payload)))
}

/// A file in `dir` that has no name, or none any more, so that nothing is left of it.
fn nameless(dir: &Path) -> Result<File> {
    use rustix::fs::{Mode, OFlags};
    if let Ok(fd) = rustix::fs::open(dir, OFlags::TMPFILE | OFlags::RDWR | OFlags::CLOEXEC, Mode::RUSR | Mode::WUSR) {
        return Ok(File::from(fd));
    }
    let path: PathBuf = (0..1000)
        .map(|number| dir.join(format!(".vml-listing-{}-{number}", std::process::id())))
        .find(|path| path.symlink_metadata().is_err())
        .ok_or_else(|| Error::invalid(format!("{} is full of old listings", dir.display())))?;
    let file = File::options().read(true).write(true).create_new(true).open(&path);
    let file = file.at(|| format!("cannot make a file in {}", dir.display()))?;
    std::fs::remove_file(&path).at(|| format!("cannot remove {}", path.display()))?;
    Ok(file)
}

#[cfg(test)]
mod tests {
    use super::super::ListedKind;
    use super::*;
    use crate::tree::Timestamp;

    fn listed(path: &str) -> Listed {
        let time = Timestamp { seconds: 1, nanoseconds: 2 };
        Listed {
            path: path.as_bytes().to_vec(),
            kind: ListedKind::File,
            mode: 0o644,
            uid: 0,
            gid: 0,
            size: 0,
            inode: 1,
            links: 1,
            device: 1,
            mtime: time,
            ctime: time,
            target: Vec::new(),
        }
    }

    fn sorted(run_len: usize, paths: &[&str]) -> Vec<String> {
        let dir = tempfile::tempdir().unwrap();
        let mut sorter = Sorter { run_len, ..Sorter::new(dir.path()) };
        paths.iter().for_each(|path| sorter.push(&listed(path)).unwrap());
        let mut sorted = sorter.finish().unwrap();
        let mut found = Vec::new();
        while let Some(next) = sorted.next().unwrap() {
            found.push(String::from_utf8(next.path).unwrap());
        }
        assert_eq!(std::fs::read_dir(dir.path()).unwrap().count(), 0, "nothing is left in the spool");
        found
    }

    #[test]
    fn members_of_a_directory_stand_together_and_come_before_what_is_below() {
        let paths = ["b/x/1", "a-b/y", "a/z", "", "b", "a", "a-b", "b/x", "b/w", "a/q/r", "a/q"];
        let expected = ["", "a", "a-b", "b", "a/q", "a/z", "a/q/r", "a-b/y", "b/w", "b/x", "b/x/1"];
        // All in memory, every record a run of its own, and in between.
        for run_len in [1 << 20, 1, 300] {
            assert_eq!(sorted(run_len, &paths), expected);
        }
    }
}
