//! How much is done at once, so that memory is bounded whatever is asked for.
//!
//! | work | memory of one | at once |
//! |---|---|---|
//! | a walk over entries | bits over the index, a block of what was found | as many as fit into [`WALKS_LEN`] |
//! | a commit | the same | [`COMMITS`] |
//! | storing frames | a frame and a pack being written | [`STORES`] |
//! | a share file | frames being filled and compressed | [`SHARES`] |
//! | a body that is held whole | the body, and what is made of it | [`HELD_LEN`] together |
//! | frames on their way out | what is read at once | [`SENDS`] |
//!
//! Whoever comes when there is no room waits in a queue, and is told to come again after [`QUEUE_TIME`].

use super::errors::Failure;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use vml_core::remote::PARCEL_MAX;

/// Memory of walks together.
const WALKS_LEN: usize = 64 << 20;
/// What a walk needs beside its bits: a block of needs, as values and as bytes.
const WALK_LEN: usize = 2 << 20;
/// Bits that a walk keeps for each chunk of the index, in bytes for two chunks.
const CHUNKS_PER_BYTE: usize = 2;
const WALKS_MIN: usize = 4;
const WALKS_MAX: usize = 64;
const COMMITS: usize = 2;
const STORES: usize = 4;
const SHARES: usize = 2;
const SENDS: usize = 256;
const CALLS: usize = 8;
/// Memory of bodies that are held whole.
pub const HELD_LEN: usize = PARCEL_MAX + (16 << 20);
const HELD_UNIT: usize = 64 << 10;

/// How long somebody waits for room.
const QUEUE_TIME: Duration = Duration::from_secs(60);
/// Threads for work that blocks: every walk may wait for its reader while pieces are read for others.
pub const BLOCKING_THREADS: usize = WALKS_MAX + STORES + COMMITS + SHARES + CALLS + 16;

/// Longest body of a message.
pub const MESSAGE_MAX: usize = 4 << 20;
/// Longest body of a commit.
pub const COMMIT_MAX: usize = 32 << 20;
/// Bytes that are read at once to be sent: a backend may be far away.
pub const READ_LEN: usize = 256 << 10;
/// Bytes of an answer that are on their way at once.
pub const PIECE_LEN: usize = 64 << 10;
/// Slowest body: what comes slower for longer than the patience is not waited for. Bytes a second.
pub const BODY_RATE_MIN: u64 = 2 << 10;

/// What is rationed.
#[derive(Debug, Clone, Copy)]
pub enum Work {
    /// Looks at little and answers at once.
    Call,
    /// Walks entries.
    Walk,
    /// Stores frames.
    Store,
    /// Publishes entries.
    Commit,
    /// Compresses a share file.
    Share,
    /// Sends stored bytes as they are.
    Send,
}

/// Room for work; held for as long as it goes on.
pub type Room = OwnedSemaphorePermit;

/// The room there is.
pub struct Limits {
    calls: Arc<Semaphore>,
    walks: Arc<Semaphore>,
    stores: Arc<Semaphore>,
    commits: Arc<Semaphore>,
    shares: Arc<Semaphore>,
    sends: Arc<Semaphore>,
    held: Arc<Semaphore>,
}

impl Limits {
    /// For a repository with so many chunks.
    pub fn new(chunks_count: usize) -> Self {
        let walks = (WALKS_LEN / (WALK_LEN + chunks_count / CHUNKS_PER_BYTE)).clamp(WALKS_MIN, WALKS_MAX);
        let semaphore = |count| Arc::new(Semaphore::new(count));
        Self {
            calls: semaphore(CALLS),
            walks: semaphore(walks),
            stores: semaphore(STORES),
            commits: semaphore(COMMITS),
            shares: semaphore(SHARES),
            sends: semaphore(SENDS),
            held: semaphore(HELD_LEN / HELD_UNIT),
        }
    }

    /// Waits for room for a piece of work.
    pub async fn enter(&self, work: Work) -> Result<Room, Failure> {
        let semaphore = match work {
            Work::Call => &self.calls,
            Work::Walk => &self.walks,
            Work::Store => &self.stores,
            Work::Commit => &self.commits,
            Work::Share => &self.shares,
            Work::Send => &self.sends,
        };
        wait(semaphore, 1).await
    }

    /// Waits for memory for `len` bytes, which are at most [`HELD_LEN`].
    pub async fn hold(&self, len: usize) -> Result<Room, Failure> {
        let units = len.div_ceil(HELD_UNIT).clamp(1, HELD_LEN / HELD_UNIT);
        wait(&self.held, u32::try_from(units).unwrap_or(u32::MAX)).await
    }
}

/// Gives back what `len` bytes do not need.
pub fn shrink(room: &mut Room, len: usize) {
    let needed = len.div_ceil(HELD_UNIT).max(1);
    drop(room.split(room.num_permits().saturating_sub(needed)));
}

async fn wait(semaphore: &Arc<Semaphore>, count: u32) -> Result<Room, Failure> {
    match tokio::time::timeout(QUEUE_TIME, Arc::clone(semaphore).acquire_many_owned(count)).await {
        Ok(Ok(room)) => Ok(room),
        _ => Err(Failure::busy()),
    }
}
