//! Which states a crash may leave in an object store: whole files, each put, swapped or deleted at once, durable when it is acknowledged.
//!
//! There are no directories and nothing is torn or reordered. What is on its way when the power goes may have happened or not; with
//! several on their way, each for itself.

use super::image::{Content, Image};
use crate::noise::Rng;
use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use vml_chunk::{Backend, Listed, Mapped, MemoryBackend, PutOutcome, Result, Staged};

/// What happens to a store.
#[derive(Debug, Clone)]
pub enum Event {
    /// A change is asked for: number, key, and the new content; `None` deletes.
    Asked(usize, String, Option<Content>),
    /// It is acknowledged, or nothing was done.
    Answered(usize, bool),
}

/// A store that writes down what is done to it; clones are the same one.
#[derive(Clone, Default)]
pub struct Objects {
    inner: MemoryBackend,
    log: Arc<Mutex<Log>>,
}

#[derive(Default)]
struct Log {
    events: Vec<Event>,
    next: usize,
}

impl fmt::Debug for Objects {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("objects in memory")
    }
}

impl Objects {
    /// A store with the files of `image`; its log begins here.
    pub fn holding(image: &Image) -> Self {
        let this = Self::default();
        for (key, content) in &image.files {
            this.inner.put(key, content.bytes()).unwrap();
        }
        this
    }

    fn log(&self) -> MutexGuard<'_, Log> {
        self.log.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// How much happened.
    pub fn position(&self) -> usize {
        self.log().events.len()
    }

    /// What happened so far.
    pub fn events(&self) -> Vec<Event> {
        self.log().events.clone()
    }

    fn change<T>(&self, key: &str, new: Option<&[u8]>, run: impl FnOnce() -> Result<T>, done: impl Fn(&T) -> bool) -> Result<T> {
        let number = {
            let mut log = self.log();
            let number = log.next;
            log.next += 1;
            log.events.push(Event::Asked(number, key.to_owned(), new.map(|new| Content::new(new.to_vec()))));
            number
        };
        let result = run();
        self.log().events.push(Event::Answered(number, result.as_ref().is_ok_and(done)));
        result
    }
}

impl Backend for Objects {
    fn read_at(&self, key: &str, offset: u64, buf: &mut [u8]) -> Result<()> {
        self.inner.read_at(key, offset, buf)
    }

    fn len(&self, key: &str) -> Result<u64> {
        self.inner.len(key)
    }

    fn list(&self, dir: &str) -> Result<Vec<Listed>> {
        self.inner.list(dir)
    }

    fn stage(&self) -> Result<Box<dyn Staged>> {
        Ok(Box::new(StagedObject { objects: self.clone(), bytes: Vec::new() }))
    }

    fn swap(&self, key: &str, expected: Option<&[u8]>, new: Option<&[u8]>) -> Result<bool> {
        self.change(key, new, || self.inner.swap(key, expected, new), |swapped| *swapped)
    }

    fn delete(&self, key: &str) -> Result<()> {
        self.change(key, None, || self.inner.delete(key), |()| true)
    }

    fn map(&self, key: &str) -> Result<Mapped> {
        self.inner.map(key)
    }

    fn sweep(&self) -> Result<usize> {
        Ok(0)
    }
}

struct StagedObject {
    objects: Objects,
    bytes: Vec<u8>,
}

impl Staged for StagedObject {
    fn append(&mut self, bytes: &[u8]) -> Result<()> {
        self.bytes.extend_from_slice(bytes);
        Ok(())
    }

    fn publish(&mut self, key: &str) -> Result<PutOutcome> {
        let put = || self.objects.inner.put(key, &self.bytes);
        self.objects.change(key, Some(&self.bytes), put, |outcome| *outcome == PutOutcome::Stored)
    }
}

/// Calls `each` with every state that a crash may leave, and the place in the log; at most `limit` at one place, then so many that a seed draws. Some may
/// be equal.
pub fn states(base: &Image, events: &[Event], limit: usize, each: &mut dyn FnMut(usize, Image)) {
    let void: BTreeSet<usize> =
        events.iter().filter_map(|event| if let Event::Answered(number, false) = event { Some(*number) } else { None }).collect();
    let mut durable = base.clone();
    let mut on_their_way: BTreeMap<usize, (String, Option<Content>)> = BTreeMap::new();
    let mut rng = Rng::new(events.len() as u64);
    for place in 0..=events.len() {
        let ways = 1_usize.checked_shl(u32::try_from(on_their_way.len()).unwrap_or(u32::MAX)).unwrap_or(usize::MAX);
        for number in 0..ways.min(limit) {
            let chosen = if ways <= limit { number } else { rng.below(ways) };
            let mut image = durable.clone();
            for (bit, change) in on_their_way.values().enumerate() {
                if chosen >> bit & 1 == 1 {
                    apply(&mut image, change);
                }
            }
            each(place, image);
        }
        match events.get(place) {
            Some(Event::Asked(number, key, new)) if !void.contains(number) => _ = on_their_way.insert(*number, (key.clone(), new.clone())),
            Some(Event::Answered(number, true)) => {
                let change = on_their_way.remove(number).expect("it was asked for");
                apply(&mut durable, &change);
            }
            _ => {}
        }
    }
}

fn apply(image: &mut Image, (key, new): &(String, Option<Content>)) {
    match new {
        Some(content) => _ = image.files.insert(key.clone(), content.clone()),
        None => _ = image.files.remove(key),
    }
}
