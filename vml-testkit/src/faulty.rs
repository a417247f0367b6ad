//! A backend that counts and records what is done to it, and fails when told to.

use std::fmt;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use vml_chunk::{Backend, Error, ErrorKind, Listed, Mapped, PutOutcome, Result, Staged};

/// One operation, as it was asked for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Operation {
    /// The method: `read_at`, `len`, `list`, `stage`, `append`, `publish`, `swap`, `delete`, `settle`, `map` or `sweep`.
    pub name: &'static str,
    /// The key or directory; empty where there is none.
    pub key: String,
    /// Bytes asked for or appended.
    pub len: u64,
}

impl fmt::Display for Operation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {}", self.name, self.key)
    }
}

/// How often a fault happens.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Repeat {
    /// At that one operation.
    Once,
    /// At that operation and every later one.
    Forever,
}

/// What a failing operation leaves behind.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Effect {
    /// It fails before anything is done.
    Nothing,
    /// It is done and the caller hears of a failure all the same, as when a sync fails after a link.
    Done,
}

#[derive(Debug, Clone, Copy)]
struct Plan {
    at: usize,
    kind: ErrorKind,
    repeat: Repeat,
    effect: Effect,
}

type Observer = Box<dyn Fn(&Operation) + Send + Sync>;

#[derive(Default)]
struct State {
    plan: Mutex<Option<Plan>>,
    operations: Mutex<Vec<Operation>>,
    fired: Mutex<usize>,
    observer: Option<Observer>,
}

/// Wraps a backend; clones share count, plan and record.
#[derive(Clone)]
pub struct FaultyBackend {
    inner: Arc<dyn Backend>,
    state: Arc<State>,
}

impl fmt::Debug for FaultyBackend {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("FaultyBackend").field(&self.inner).finish()
    }
}

impl FaultyBackend {
    /// Passes everything on to `inner` until told otherwise.
    pub fn new(inner: Arc<dyn Backend>) -> Self {
        Self { inner, state: Arc::default() }
    }

    /// As [`new`](Self::new), and calls `observer` before each operation, on the thread that asks for it.
    pub fn observed(inner: Arc<dyn Backend>, observer: impl Fn(&Operation) + Send + Sync + 'static) -> Self {
        Self { inner, state: Arc::new(State { observer: Some(Box::new(observer)), ..State::default() }) }
    }

    /// Fails operation number `at`, counted from 0 since the last [`reset`](Self::reset), with `kind`.
    pub fn fail_at(&self, at: usize, kind: ErrorKind, repeat: Repeat, effect: Effect) {
        *lock(&self.state.plan) = Some(Plan { at, kind, repeat, effect });
    }

    /// Fails nothing any more.
    pub fn heal(&self) {
        *lock(&self.state.plan) = None;
    }

    /// Heals and forgets the record.
    pub fn reset(&self) {
        self.heal();
        lock(&self.state.operations).clear();
        *lock(&self.state.fired) = 0;
    }

    /// Operations so far, the failed ones too.
    pub fn count(&self) -> usize {
        lock(&self.state.operations).len()
    }

    /// How many operations were made to fail.
    pub fn fired(&self) -> usize {
        *lock(&self.state.fired)
    }

    /// The record, in order.
    pub fn operations(&self) -> Vec<Operation> {
        lock(&self.state.operations).clone()
    }

    /// How many operations of this name were asked for.
    pub fn count_of(&self, name: &str) -> usize {
        lock(&self.state.operations).iter().filter(|operation| operation.name == name).count()
    }

    /// The keys below `dir` that somebody asked to publish, in order.
    pub fn published(&self, dir: &str) -> Vec<String> {
        let operations = lock(&self.state.operations);
        let inside = |key: &str| key.strip_prefix(dir).is_some_and(|rest| rest.starts_with('/'));
        operations.iter().filter(|operation| operation.name == "publish" && inside(&operation.key)).map(|o| o.key.clone()).collect()
    }

    fn run<T>(&self, name: &'static str, key: &str, len: u64, run: impl FnOnce() -> Result<T>) -> Result<T> {
        let operation = Operation { name, key: key.to_owned(), len };
        if let Some(observer) = &self.state.observer {
            observer(&operation);
        }
        let number = {
            let mut operations = lock(&self.state.operations);
            operations.push(operation);
            operations.len() - 1
        };
        let plan = *lock(&self.state.plan);
        let hit = |plan: &Plan| number == plan.at || (plan.repeat == Repeat::Forever && number > plan.at);
        let Some(plan) = plan.filter(hit) else { return run() };
        *lock(&self.state.fired) += 1;
        if plan.effect == Effect::Done {
            run()?;
        }
        Err(Error::new(plan.kind, format!("made to fail: operation {number}, {name} {key}")))
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Backend for FaultyBackend {
    fn read_at(&self, key: &str, offset: u64, buf: &mut [u8]) -> Result<()> {
        self.run("read_at", key, buf.len() as u64, || self.inner.read_at(key, offset, buf))
    }

    fn len(&self, key: &str) -> Result<u64> {
        self.run("len", key, 0, || self.inner.len(key))
    }

    fn list(&self, dir: &str) -> Result<Vec<Listed>> {
        self.run("list", dir, 0, || self.inner.list(dir))
    }

    fn stage(&self) -> Result<Box<dyn Staged>> {
        let inner = self.run("stage", "", 0, || self.inner.stage())?;
        Ok(Box::new(FaultyStaged { inner, backend: self.clone() }))
    }

    fn swap(&self, key: &str, expected: Option<&[u8]>, new: Option<&[u8]>) -> Result<bool> {
        let len = new.map_or(0, |new| new.len() as u64);
        self.run("swap", key, len, || self.inner.swap(key, expected, new))
    }

    fn delete(&self, key: &str) -> Result<()> {
        self.run("delete", key, 0, || self.inner.delete(key))
    }

    fn settle(&self, dir: &str) -> Result<()> {
        self.run("settle", dir, 0, || self.inner.settle(dir))
    }

    fn map(&self, key: &str) -> Result<Mapped> {
        self.run("map", key, 0, || self.inner.map(key))
    }

    fn sweep(&self) -> Result<usize> {
        self.run("sweep", "", 0, || self.inner.sweep())
    }
}

struct FaultyStaged {
    inner: Box<dyn Staged>,
    backend: FaultyBackend,
}

impl Staged for FaultyStaged {
    fn append(&mut self, bytes: &[u8]) -> Result<()> {
        self.backend.run("append", "", bytes.len() as u64, || self.inner.append(bytes))
    }

    fn publish(&mut self, key: &str) -> Result<PutOutcome> {
        self.backend.run("publish", key, 0, || self.inner.publish(key))
    }
}

/// Copies every file of `dirs` that is in `from` to `to`.
pub fn copy_files(from: &dyn Backend, to: &dyn Backend, dirs: &[&str]) {
    for dir in dirs {
        for listed in from.list(dir).unwrap() {
            let key = format!("{dir}/{}", listed.name);
            to.put(&key, &from.read(&key, u64::MAX).unwrap()).unwrap();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use vml_chunk::MemoryBackend;

    #[test]
    fn fails_when_told_and_records_what_was_asked() {
        let faulty = FaultyBackend::new(Arc::new(MemoryBackend::new()));
        faulty.fail_at(2, ErrorKind::NoSpace, Repeat::Once, Effect::Done);
        assert_eq!(faulty.put("a/b", b"x").unwrap_err().kind(), ErrorKind::NoSpace);
        assert_eq!(faulty.read("a/b", 9).unwrap(), b"x", "the effect was there");
        let names: Vec<String> = faulty.operations().iter().map(ToString::to_string).collect();
        assert_eq!(names, ["stage ", "append ", "publish a/b", "len a/b", "read_at a/b"]);
        assert_eq!((faulty.fired(), faulty.published("a").len()), (1, 1));
        faulty.reset();
        faulty.fail_at(0, ErrorKind::Io, Repeat::Forever, Effect::Nothing);
        assert!(faulty.list("a").is_err() && faulty.delete("a/b").is_err());
        faulty.heal();
        assert_eq!(faulty.list("a").unwrap().len(), 1);
    }
}
