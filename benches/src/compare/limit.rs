//! The machine's own limit of a save: all bytes of a tree cut, hashed and compressed, over all cores, and nothing else.
//!
//! ```text
//! files in memory ─► cut (FastCDC) ─► BLAKE3 ─► seen before? ─► frames ─► zstd
//! ```
//! With the defaults of a repository, by the same libraries. No walking, no reading, no proof of what was compressed, no packs, no index. It runs in
//! a process of its own: a child begins with its parent's peak memory, and the one that starts the tools must stay small.

use super::corpus::walk;
use super::measure::{Measured, measure};
use anyhow::{Context as _, Result};
use std::collections::HashSet;
use std::fs;
use std::os::unix::fs::MetadataExt as _;
use std::path::Path;
use std::process::Command;
use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Instant;
use std::{env, thread};
use vml_chunk::ChunkId;
use vml_core::Config;

/// Enough that threads seldom meet.
const SHARDS: usize = 64;

/// Measures the limit for the tree at `dir` in another process; its wall time is that of the kernel alone, without reading the files.
///
/// # Errors
/// When that process fails.
pub fn measure_limit(dir: &Path, work: &Path) -> Result<Measured> {
    let result = work.join("limit");
    let mut command = Command::new(env::current_exe().context("cannot find this program's own file")?);
    command.arg("--measure-limit").arg(dir).arg(&result);
    let measured = measure(command, work)?;
    let text = fs::read_to_string(&result).context("the limit was not told")?;
    let wall_s = text.trim().parse().context("the limit is no number")?;
    eprintln!("limit: {wall_s:.2} s");
    // CPU time and memory of loading the files say nothing.
    Ok(Measured { wall_s, cpu_s: 0.0, peak_bytes: 0, ..measured })
}

/// What that process does: writes the seconds to `result`.
///
/// # Errors
/// When a file cannot be read.
pub fn tell_limit(dir: &Path, result: &Path) -> Result<()> {
    let files = load(dir)?;
    let threads = thread::available_parallelism().map_or(1, std::num::NonZero::get);
    let (seconds, _) = kernel(&files, &Config::new([0; 16], 0), threads)?;
    fs::write(result, format!("{seconds}\n")).with_context(|| format!("cannot write {}", result.display()))
}

/// The bytes of every file, the largest first, so that no thread is left with one at the end; of several names of one file once.
fn load(dir: &Path) -> Result<Vec<Vec<u8>>> {
    let (mut files, mut known) = (Vec::new(), HashSet::new());
    walk(dir, &mut |path, metadata| {
        if known.insert(metadata.ino()) {
            files.push(fs::read(path)?);
        }
        Ok(())
    })?;
    files.sort_by_key(|file| std::cmp::Reverse(file.len()));
    Ok(files)
}

/// Seconds, and bytes that came out.
fn kernel(files: &[Vec<u8>], config: &Config, threads: usize) -> Result<(f64, usize)> {
    let chunker = config.chunker.build()?;
    let seen: Vec<Mutex<HashSet<ChunkId>>> = (0..SHARDS).map(|_| Mutex::default()).collect();
    let (next, stored) = (AtomicUsize::new(0), AtomicUsize::new(0));
    let frame_len = config.frame_len as usize;
    let work = || -> Result<()> {
        let mut compressor = zstd::bulk::Compressor::new(config.level.into()).context("zstd refuses the level")?;
        let mut frame = Vec::with_capacity(frame_len);
        let mut compressed = vec![0; zstd::zstd_safe::compress_bound(frame_len)];
        let mut seal = |frame: &mut Vec<u8>| -> Result<()> {
            let len = compressor.compress_to_buffer(frame, &mut compressed[..]).context("zstd cannot compress")?;
            stored.fetch_add(len, Ordering::Relaxed);
            frame.clear();
            Ok(())
        };
        while let Some(file) = files.get(next.fetch_add(1, Ordering::Relaxed)) {
            let mut rest = &file[..];
            while !rest.is_empty() {
                let (chunk, after) = rest.split_at(chunker.cut(rest));
                rest = after;
                let id = ChunkId::of(chunk);
                let shard = &seen[usize::from(id.as_bytes()[0]) % SHARDS];
                if shard.lock().expect("nobody panics with it").insert(id) {
                    if frame.len() + chunk.len() > frame_len {
                        seal(&mut frame)?;
                    }
                    frame.extend_from_slice(chunk);
                }
            }
        }
        if frame.is_empty() { Ok(()) } else { seal(&mut frame) }
    };
    let started = Instant::now();
    thread::scope(|scope| {
        let workers: Vec<_> = (0..threads).map(|_| scope.spawn(work)).collect();
        workers.into_iter().try_for_each(|worker| worker.join().expect("a worker does not panic"))
    })?;
    Ok((started.elapsed().as_secs_f64(), stored.into_inner()))
}

#[cfg(test)]
mod tests {
    use super::*;
    use vml_testkit::noise;

    #[test]
    fn equal_files_are_compressed_once_by_any_number_of_threads() {
        let dir = tempfile::tempdir().unwrap();
        fs::write(dir.path().join("noise"), noise::incompressible(1, 300_000)).unwrap();
        fs::write(dir.path().join("same"), noise::incompressible(1, 300_000)).unwrap();
        fs::write(dir.path().join("empty"), "").unwrap();
        let files = load(dir.path()).unwrap();
        assert_eq!(files.iter().map(Vec::len).collect::<Vec<_>>(), [300_000, 300_000, 0]);
        for threads in [1, 3] {
            let (_, stored) = kernel(&files, &Config::new([0; 16], 0), threads).unwrap();
            assert!((300_000..302_000).contains(&stored), "{stored}");
        }
        tell_limit(dir.path(), &dir.path().join("result")).unwrap();
        let seconds: f64 = fs::read_to_string(dir.path().join("result")).unwrap().trim().parse().unwrap();
        assert!(seconds > 0.0 && seconds < 60.0);
    }
}
