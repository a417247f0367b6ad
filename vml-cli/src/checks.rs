//! What checks of this host have proven of a repository, and how many samples they took: kept in the cache folder, because a repository may be on a
//! medium that cannot be written.
//!
//! ```text
//! checks/REPOSITORY          one line a pack: its key, and when it was proven; gone when a check came to its end
//! checks/REPOSITORY.samples  how many samples were taken
//! ```
//! Whoever loses these files reads packs again.

use crate::{files, settings};
use std::collections::HashMap;
use std::fs::{self, File, OpenOptions};
use std::io::Write as _;
use std::path::PathBuf;
use std::sync::{Mutex, PoisonError};
use vml_core::repository::CheckLog;
use vml_core::{PackId, PackKind};

/// Longest file that is read.
const LOG_MAX_LEN: u64 = 256 << 20;

/// Packs that a run which was cut short has proven, and those that this one proves.
#[derive(Debug, Default)]
pub struct Log {
    path: Option<PathBuf>,
    proven: HashMap<String, i64>,
    file: Mutex<Option<File>>,
}

fn folder() -> Option<PathBuf> {
    Some(settings::cache()?.join("checks"))
}

fn name(repository: &[u8; 16]) -> String {
    repository.iter().map(|byte| format!("{byte:02x}")).collect()
}

impl Log {
    /// Opens that of a repository; with `restart` nothing is taken for proven. Without a place to keep it nothing is kept.
    pub fn open(repository: &[u8; 16], restart: bool) -> Self {
        let Some(path) = folder().map(|folder| folder.join(name(repository))) else { return Self::default() };
        if restart {
            _ = fs::remove_file(&path);
        }
        let is_short = fs::metadata(&path).is_ok_and(|meta| meta.len() <= LOG_MAX_LEN);
        let text = is_short.then(|| fs::read_to_string(&path).ok()).flatten().unwrap_or_default();
        let line = |line: &str| line.split_once(' ').and_then(|(key, time)| Some((key.to_owned(), time.parse::<i64>().ok()?)));
        let proven = text.lines().filter_map(line).collect();
        Self { path: Some(path), proven, file: Mutex::default() }
    }

    /// When the first of the packs that count as proven was read.
    pub fn since_ms(&self) -> Option<i64> {
        self.proven.values().min().copied()
    }

    /// The check came to its end: the next one begins from the start.
    pub fn finish(self) {
        if let Some(path) = self.path {
            _ = fs::remove_file(path);
        }
    }
}

impl CheckLog for Log {
    fn is_proven(&self, kind: PackKind, id: &PackId) -> bool {
        self.proven.contains_key(&kind.key(id))
    }

    fn proven(&self, kind: PackKind, id: &PackId) {
        let Some(path) = &self.path else { return };
        let mut file = self.file.lock().unwrap_or_else(PoisonError::into_inner);
        if file.is_none() {
            _ = path.parent().map(fs::create_dir_all);
            *file = OpenOptions::new().create(true).append(true).open(path).ok();
        }
        if let Some(file) = &mut *file {
            // In one write, so that two checks beside each other leave whole lines.
            _ = file.write_all(format!("{} {}\n", kind.key(id), settings::now_ms()).as_bytes());
        }
    }
}

/// How many samples were taken of a repository.
pub fn samples(repository: &[u8; 16]) -> u64 {
    let text = folder().and_then(|folder| fs::read_to_string(folder.join(format!("{}.samples", name(repository)))).ok());
    text.and_then(|text| text.trim().parse().ok()).unwrap_or(0)
}

/// One more was taken.
pub fn count_sample(repository: &[u8; 16], samples: u64) {
    if let Some(folder) = folder() {
        _ = files::replace(&folder.join(format!("{}.samples", name(repository))), &format!("{}\n", samples.wrapping_add(1)), files::PUBLIC);
    }
}
