//! Waits for asynchronous requests from ordinary threads.

use crate::error::{Error, ErrorKind, IoResultExt, Result};
use std::future::Future;
use std::sync::mpsc;
use std::time::Duration;
use tokio::runtime::Runtime;

/// Threads that serve requests; they wait for the network and sign, which is little work.
const THREADS: usize = 2;
/// Most that any operation may take, retries and all: a page of a listing, a part of an upload, a range.
const LIMIT: Duration = Duration::from_secs(600);

/// A private runtime. Whoever waits may itself be a thread of some other runtime: nothing is entered, the work is done elsewhere.
#[derive(Debug)]
pub(super) struct Runner(Option<Runtime>);

impl Runner {
    pub(super) fn start() -> Result<Self> {
        let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(THREADS).thread_name("vml-objects").enable_all().build();
        Ok(Self(Some(runtime.at(|| "cannot start threads for an object store")?)))
    }

    /// Begins `work` and returns at once; its result comes through the channel.
    pub(super) fn begin<T: Send + 'static>(&self, work: impl Future<Output = T> + Send + 'static) -> Begun<T> {
        let (sender, receiver) = mpsc::sync_channel(1);
        if let Some(runtime) = &self.0 {
            runtime.spawn(async move {
                if let Ok(result) = tokio::time::timeout(LIMIT, work).await {
                    _ = sender.send(result);
                }
            });
        }
        Begun(receiver)
    }

    /// Does one piece of work for each of `items`, at most `at_once` at a time; the results come in their order.
    pub(super) fn each<I, T, F>(&self, items: Vec<I>, at_once: usize, work: impl Fn(I) -> F) -> Vec<Result<T>>
    where
        T: Send + 'static,
        F: Future<Output = T> + Send + 'static,
    {
        let mut begun = std::collections::VecDeque::new();
        let mut results = Vec::with_capacity(items.len());
        for item in items {
            if begun.len() == at_once {
                results.extend(begun.pop_front().map(Begun::end));
            }
            begun.push_back(self.begin(work(item)));
        }
        results.extend(begun.into_iter().map(Begun::end));
        results
    }

    /// Does `work` to its end.
    pub(super) fn wait<T: Send + 'static>(&self, work: impl Future<Output = T> + Send + 'static) -> Result<T> {
        self.begin(work).end()
    }
}

impl Drop for Runner {
    fn drop(&mut self) {
        // Waiting for its threads is not allowed to whoever is itself a thread of a runtime.
        if let Some(runtime) = self.0.take() {
            runtime.shutdown_background();
        }
    }
}

/// Work that goes on.
pub(super) struct Begun<T>(mpsc::Receiver<T>);

impl<T> Begun<T> {
    /// Waits for it.
    pub(super) fn end(self) -> Result<T> {
        // The sender is gone without a result when its time was over, or when the work panicked.
        self.0.recv().map_err(|_| Error::new(ErrorKind::Interrupted, format!("the object store did not answer in {} s", LIMIT.as_secs())))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn waits_from_many_threads_and_from_inside_another_runtime() {
        let runner = Runner::start().unwrap();
        std::thread::scope(|scope| {
            let sums: Vec<_> = (0..8)
                .map(|i| {
                    scope.spawn({
                        let runner = &runner;
                        move || runner.wait(async move { i + 1 }).unwrap()
                    })
                })
                .collect();
            assert_eq!(sums.into_iter().map(|sum| sum.join().unwrap()).sum::<i32>(), 36);
        });
        let other = tokio::runtime::Builder::new_current_thread().build().unwrap();
        assert_eq!(other.block_on(async { Runner::start().unwrap().wait(async { 7 }).unwrap() }), 7);
        assert!(runner.wait(async { panic!("as told") }).is_err_and(|error: Error| error.kind() == ErrorKind::Interrupted));
    }
}
