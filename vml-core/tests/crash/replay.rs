//! From logs to states, and through them.

use crate::ledger::Ledger;
use crate::sound::{Job, Kind};
use std::collections::HashMap;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use vml_chunk::ChunkId;
use vml_core::EntryId;
use vml_testkit::crash::{Image, Op, Survivors, Tally};
use vml_testkit::noise::Rng;

/// Most states that are tried at one place of a log.
pub const LIMIT: usize = 64;

/// Rounds of the sampled parts.
pub fn rounds() -> u64 {
    number("VML_CRASH_ROUNDS").unwrap_or(1)
}

/// The seed of the samples.
pub fn seed() -> u64 {
    number("VML_TEST_SEED").unwrap_or(0)
}

fn number(name: &str) -> Option<u64> {
    std::env::var(name).ok().and_then(|text| text.parse().ok())
}

/// The states that a loss of power may leave on a local disk, from place `from` of the log on, but those that were tried before.
pub fn local(name: &str, base: &Image, log: &[Op], from: usize, ledger: &Ledger, tally: &Tally) -> Vec<Job> {
    let mut survivors = Survivors::of(base);
    let mut rng = Rng::new(seed() ^ log.len() as u64);
    let places = ledger.places();
    let mut jobs = Vec::new();
    for place in 0..=log.len() {
        let changed = place == 0 || survivors.apply(&log[place - 1]);
        if place < from || !(changed || place == from || places.contains(&place)) {
            continue;
        }
        let expected = Arc::new(ledger.expected_at(place));
        let key = ChunkId::of(format!("{expected:?}").as_bytes());
        tally.prefixes.fetch_add(1, Ordering::Relaxed);
        let complete = survivors.states(LIMIT, &mut rng, &mut |image| {
            if tally.visit(image.digest(), key) {
                let what = format!("{name}, the power goes after {place} operations");
                jobs.push(Job { image, kind: Kind::Local, expected: Arc::clone(&expected), smooth: true, indexed: true, what });
            }
        });
        tally.sampled.fetch_add(u64::from(!complete), Ordering::Relaxed);
    }
    jobs
}

/// The first failure, if there is one.
pub fn failure(jobs: &[Job], known: &HashMap<EntryId, ChunkId>) -> Option<String> {
    // Threads of our own: a pool's would take up another state while they wait for a pool of the repository's, and another in that, without end.
    let (next, found) = (AtomicUsize::new(0), Mutex::new(None));
    let work = || {
        while let Some(job) = jobs.get(next.fetch_add(1, Ordering::Relaxed)) {
            if let Err(failure) = job.sound(known) {
                found.lock().unwrap().get_or_insert(failure);
                next.store(jobs.len(), Ordering::Relaxed);
            }
        }
    };
    std::thread::scope(|scope| {
        let threads = std::thread::available_parallelism().map_or(1, std::num::NonZero::get).min(jobs.len());
        (0..threads).for_each(|_| _ = scope.spawn(work));
    });
    found.into_inner().unwrap()
}

#[track_caller]
pub fn assert_sound(jobs: &[Job], known: &HashMap<EntryId, ChunkId>) {
    if let Some(failure) = failure(jobs, known) {
        panic!("{failure}");
    }
}
