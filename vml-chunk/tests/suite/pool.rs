//! Many threads: the same result as one, no hang after an error, and bounded memory.

use crate::support::{memory, options};
use std::collections::{BTreeMap, HashSet};
use std::io::Read;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use vml_chunk::{ChunkId, ChunkStore, ChunkWriter, Chunker, ChunkerParams, Error, ErrorKind, PackKind, Result, run_pool};
use vml_testkit::faulty::{Effect, FaultyBackend, Repeat};
use vml_testkit::noise::{self, Rng};

fn store() -> ChunkStore {
    ChunkStore::open(memory(), options()).unwrap().0
}

fn chunker() -> Box<dyn Chunker> {
    ChunkerParams::default().build().unwrap()
}

/// Streams of very different lengths, some of them the same.
fn inputs() -> Vec<Vec<u8>> {
    let mut rng = Rng::new(1);
    (0..150)
        .map(|number| {
            noise::mixed(if number % 10 == 9 { 7 } else { rng.next_u64() }, rng.below(if number % 20 == 0 { 900_000 } else { 40_000 }))
        })
        .collect()
}

fn put(out: &mut ChunkWriter<'_>, chunker: &dyn Chunker, data: &[u8]) -> Result<Vec<ChunkId>> {
    let mut ids = Vec::new();
    out.put_stream(chunker, &mut &data[..], u64::MAX, &mut |chunk| ids.push(chunk.id))?.unwrap();
    Ok(ids)
}

#[test]
fn many_threads_give_the_same_ids_and_store_the_same_chunks_as_one() {
    let inputs = inputs();
    let chunker = chunker();
    let mut results: Vec<(BTreeMap<usize, Vec<ChunkId>>, u64, u64)> = Vec::new();
    for threads in [1, 2, 5] {
        let store = store();
        let writer = store.writer().unwrap();
        let recipes = Mutex::new(BTreeMap::new());
        let work = |out: &mut ChunkWriter<'_>, job: usize| {
            let ids = put(out, chunker.as_ref(), &inputs[job])?;
            recipes.lock().unwrap().insert(job, ids);
            Ok(())
        };
        let told = run_pool(&writer, PackKind::Data, threads, work, |sink| {
            (0..inputs.len()).try_for_each(|job| sink.send(job))?;
            Ok("what the producer says")
        });
        assert_eq!(told.unwrap(), "what the producer says");
        let stats = writer.finish().unwrap();
        let recipes = recipes.into_inner().unwrap();
        for (job, ids) in &recipes {
            let back: Vec<u8> = ids.iter().flat_map(|id| store.get(id).unwrap().to_vec()).collect();
            assert!(back == inputs[*job], "job {job} on {threads} threads");
        }
        results.push((recipes, stats.new_chunks, stats.new_bytes));
    }
    assert_eq!(results[0], results[1]);
    assert_eq!(results[0], results[2]);
    let distinct: HashSet<&ChunkId> = results[0].0.values().flatten().collect();
    assert_eq!(distinct.len() as u64, results[0].1, "each chunk is stored once");
}

/// A long stream that is made as it is read.
struct Stream<'a> {
    rng: Rng,
    left: usize,
    read: &'a AtomicUsize,
}

impl Read for Stream<'_> {
    fn read(&mut self, buf: &mut [u8]) -> std::io::Result<usize> {
        let len = buf.len().min(self.left).min(32 << 10);
        self.rng.fill(&mut buf[..len]);
        self.left -= len;
        self.read.fetch_add(len, Ordering::SeqCst);
        Ok(len)
    }
}

#[test]
fn one_long_stream_is_spread_over_the_workers_and_few_frames_are_in_flight() {
    const LEN: usize = 24 << 20;
    const THREADS: usize = 4;
    let read = Arc::new(AtomicUsize::new(0));
    let (written, most) = (AtomicUsize::new(0), Arc::new(AtomicUsize::new(0)));
    let appenders = Arc::new(Mutex::new(HashSet::new()));
    let observer = {
        let (read, most, appenders) = (Arc::clone(&read), Arc::clone(&most), Arc::clone(&appenders));
        move |operation: &vml_testkit::faulty::Operation| {
            if operation.name == "append" {
                appenders.lock().unwrap().insert(std::thread::current().id());
                // Noise is stored raw, so what is read and not yet appended is in memory.
                let in_flight = read.load(Ordering::SeqCst).saturating_sub(written.load(Ordering::SeqCst));
                most.fetch_max(in_flight, Ordering::SeqCst);
                // A slow disk: frames pile up as far as they can.
                std::thread::sleep(std::time::Duration::from_micros(500));
                written.fetch_add(usize::try_from(operation.len).unwrap(), Ordering::SeqCst);
            }
        }
    };
    let faulty = FaultyBackend::observed(memory(), observer);
    let (store, _) = ChunkStore::open(Arc::new(faulty), options()).unwrap();
    let writer = store.writer().unwrap();
    let chunker = chunker();
    let work = |out: &mut ChunkWriter<'_>, seed: u64| {
        let mut stream = Stream { rng: Rng::new(seed), left: LEN, read: &read };
        let total = out.put_stream(chunker.as_ref(), &mut stream, u64::MAX, &mut |_| {})?.unwrap();
        assert_eq!(total, LEN as u64);
        Ok(())
    };
    run_pool(&writer, PackKind::Data, THREADS, work, |sink| sink.send(1)).unwrap();
    let stats = writer.finish().unwrap();
    assert_eq!(stats.new_bytes, LEN as u64);
    assert!(appenders.lock().unwrap().len() > 1, "other workers took frames");
    // A read buffer, a frame being filled, one in each worker's hands and one waiting for each.
    let limit = (1 << 20) + (64 << 10) + (1 + 2 * THREADS) * (64 << 10) + (64 << 10);
    let most = most.load(Ordering::SeqCst);
    assert!(most <= limit, "{most} bytes were in flight, {limit} is the limit");
}

#[test]
fn an_error_of_a_worker_comes_back_and_nothing_hangs() {
    for threads in [1, 3] {
        let store = store();
        let writer = store.writer().unwrap();
        let done = AtomicUsize::new(0);
        let work = |out: &mut ChunkWriter<'_>, job: u64| {
            if job == 7 {
                return Err(Error::new(ErrorKind::PermissionDenied, "job 7 may not"));
            }
            done.fetch_add(1, Ordering::Relaxed);
            out.put(&noise::text(job, 5000)).map(|_| ())
        };
        // The producer would go on for ever.
        let error = run_pool(&writer, PackKind::Data, threads, work, |sink| -> Result<()> {
            for job in 0.. {
                sink.send(job)?;
            }
            Ok(())
        });
        assert_eq!(error.unwrap_err().kind(), ErrorKind::PermissionDenied);
        assert!(done.load(Ordering::Relaxed) < 7 + 8 * threads, "the others stop soon");
        assert_eq!(writer.finish().unwrap_err().kind(), ErrorKind::Interrupted);
    }
}

#[test]
fn an_error_of_the_producer_comes_back_and_nothing_hangs() {
    let store = store();
    let writer = store.writer().unwrap();
    let work = |out: &mut ChunkWriter<'_>, job: u64| out.put(&noise::text(job, 50_000)).map(|_| ());
    let error = run_pool(&writer, PackKind::Data, 3, work, |sink| -> Result<()> {
        (0..20).try_for_each(|job| sink.send(job))?;
        Err(Error::not_found("the directory to save"))
    });
    assert_eq!(error.unwrap_err().kind(), ErrorKind::NotFound);
    assert_eq!(writer.finish().unwrap_err().kind(), ErrorKind::Interrupted);
}

#[test]
fn a_producers_own_error_wins_over_being_interrupted() {
    let store = store();
    let writer = store.writer().unwrap();
    let work = |_: &mut ChunkWriter<'_>, (): ()| Ok(());
    let error = run_pool(&writer, PackKind::Data, 2, work, |_| -> Result<()> { Err(Error::invalid("nothing to do")) });
    assert_eq!(error.unwrap_err().kind(), ErrorKind::InvalidInput);
    let again = run_pool(&writer, PackKind::Data, 2, work, |sink| sink.send(()));
    assert_eq!(again.unwrap_err().kind(), ErrorKind::Interrupted, "the session stays failed");
}

#[test]
fn a_disk_that_fills_up_under_many_threads_is_told_as_such() {
    for at in [3, 10, 40] {
        let faulty = FaultyBackend::new(memory());
        let (store, _) = ChunkStore::open(Arc::new(faulty.clone()), options()).unwrap();
        faulty.reset();
        faulty.fail_at(at, ErrorKind::NoSpace, Repeat::Forever, Effect::Nothing);
        let writer = store.writer().unwrap();
        let work = |out: &mut ChunkWriter<'_>, job: u64| out.put(&noise::incompressible(job, 60_000)).map(|_| ());
        let result = run_pool(&writer, PackKind::Data, 4, work, |sink| (0..500).try_for_each(|job| sink.send(job)));
        assert_eq!(result.unwrap_err().kind(), ErrorKind::NoSpace, "operation {at}");
        assert_eq!(writer.finish().unwrap_err().kind(), ErrorKind::Interrupted);
    }
}

#[test]
fn no_jobs_are_no_error() {
    let store = store();
    let writer = store.writer().unwrap();
    run_pool(&writer, PackKind::Data, 0, |_, (): ()| Ok(()), |_| Ok(())).unwrap();
    assert_eq!(writer.finish().unwrap().packs_count, 0);
}
