//! Threads that read, cut, hash, compress and write side by side.
//!
//! Each worker takes a job and carries it through alone, from reading to the compressed frame, so bytes stay in one
//! core's cache and threads meet only to claim ids and to append to the pack. A single long stream would leave the other
//! workers idle; then its worker hands full frames to them. No worker ever blocks on another: a frame that nobody
//! takes is compressed where it is, so there is no deadlock and memory is bounded by a few frames a thread.

use super::write::{ChunkWriter, Helpers, StoreWriter};
use crate::error::{Error, ErrorKind, Result};
use crate::pack::PackKind;
use crossbeam_channel::{Receiver, Sender, bounded, select};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

/// Where the producer of [`run_pool`] puts its jobs.
pub struct JobSink<J>(Sender<J>);

impl<J> JobSink<J> {
    /// Hands over a job; waits while the queue is full.
    ///
    /// # Errors
    /// `Interrupted` when all workers have given up; the worker's error is what [`run_pool`] returns.
    pub fn send(&self, job: J) -> Result<()> {
        self.0.send(job).map_err(|_| Error::new(ErrorKind::Interrupted, "the workers have stopped"))
    }
}

/// Runs `produce` here and `work` for each of its jobs on `threads` threads, each with a writer into packs of `kind`.
///
/// # Errors
/// The first error of a worker, else that of the producer.
pub fn run_pool<J: Send, T>(
    writer: &StoreWriter<'_>,
    kind: PackKind,
    threads: usize,
    work: impl Fn(&mut ChunkWriter<'_>, J) -> Result<()> + Sync,
    produce: impl FnOnce(&JobSink<J>) -> Result<T>,
) -> Result<T> {
    let threads = threads.max(1);
    let (jobs, queue) = bounded::<J>(threads * 2);
    let (frames, handed) = bounded(threads);
    let idle = Arc::new(AtomicUsize::new(0));
    let failure = Mutex::new(None);
    let produced = std::thread::scope(|scope| {
        for _ in 0..threads {
            let (queue, handed, frames, idle) = (queue.clone(), handed.clone(), frames.clone(), Arc::clone(&idle));
            let (work, failure) = (&work, &failure);
            scope.spawn(move || {
                let result = writer.chunks(kind).and_then(|mut chunks| {
                    chunks.helpers = Some(Helpers { frames, idle: Arc::clone(&idle) });
                    serve(writer, chunks, &queue, &handed, &idle, work)
                });
                if let Err(error) = result {
                    writer.fail();
                    let mut first = failure.lock().unwrap_or_else(PoisonError::into_inner);
                    // The others only hear that the session has failed; the cause is worth keeping.
                    if first.as_ref().is_none_or(|known: &Error| known.kind() == ErrorKind::Interrupted) {
                        *first = Some(error);
                    }
                }
            });
        }
        drop((queue, handed, frames));
        let sink = JobSink(jobs);
        produce(&sink).inspect_err(|_| writer.fail())
    });
    match failure.into_inner().unwrap_or_else(PoisonError::into_inner) {
        Some(error) if error.kind() != ErrorKind::Interrupted || produced.is_ok() => Err(error),
        _ => produced,
    }
}

fn serve<J>(
    writer: &StoreWriter<'_>,
    mut chunks: ChunkWriter<'_>,
    queue: &Receiver<J>,
    handed: &Receiver<crate::frame::FrameBuilder>,
    idle: &AtomicUsize,
    work: &(impl Fn(&mut ChunkWriter<'_>, J) -> Result<()> + Sync),
) -> Result<()> {
    loop {
        writer.check()?;
        idle.fetch_add(1, Ordering::Relaxed);
        let next = select! {
            recv(handed) -> frame => Next::Frame(frame.ok()),
            recv(queue) -> job => Next::Job(job.ok()),
        };
        idle.fetch_sub(1, Ordering::Relaxed);
        match next {
            Next::Frame(Some(frame)) => chunks.encode(frame)?,
            Next::Job(Some(job)) => work(&mut chunks, job)?,
            // No more jobs; `handed` cannot close while this worker still holds a sender.
            Next::Job(None) | Next::Frame(None) => break,
        }
    }
    // Without its sender this worker only helps, and the last one to let go ends it for all.
    chunks.helpers = None;
    idle.fetch_add(1, Ordering::Relaxed);
    for frame in handed {
        chunks.encode(frame)?;
    }
    chunks.finish()
}

enum Next<J> {
    Frame(Option<crate::frame::FrameBuilder>),
    Job(Option<J>),
}
