//! Frames that are in groups: decoding one decodes those before it, so groups are kept where they stand.
//!
//! A reader that goes through a pack in its order decodes each group once; what it comes back to is still there. There are few places for groups, and a thread
//! that needs another waits for one: memory is theirs, however many threads read.

use crate::backend::Backend;
use crate::error::{Error, Result};
use crate::format::{FRAME_BACK_LEN, FRAME_CHUNK_LEN, FRAME_HEADER_LEN, FRAME_MAX_CHUNKS, GROUP_MAX_LEN, PACK_HEADER_LEN};
use crate::frame::{Codec, FrameHeader, GroupDecoder};
use crate::id::PackId;
use std::sync::{Mutex, MutexGuard, PoisonError};

/// Read at a time, or a whole frame.
const READ_LEN: usize = 2 << 20;
/// Longest head of a frame.
const HEAD_MAX_LEN: usize = FRAME_HEADER_LEN + FRAME_MAX_CHUNKS * FRAME_CHUNK_LEN + FRAME_BACK_LEN;

/// Which group: its pack, where it begins there, and whether it is read through the pack's parity.
type GroupKey = (PackId, u64, bool);

pub(super) struct Groups {
    order: Mutex<Order>,
    places: Vec<Mutex<Place>>,
}

/// What is, or is about to be, in each place, and when it was last asked for.
struct Order {
    keys: Vec<(Option<GroupKey>, u64)>,
    clock: u64,
}

#[derive(Default)]
struct Place {
    key: Option<GroupKey>,
    group: Option<GroupDecoder>,
}

/// Where the frames of a group are read.
pub(super) struct GroupSource<'a> {
    pub(super) backend: &'a dyn Backend,
    pub(super) key: &'a str,
    pub(super) pack: PackId,
    /// Whether the backend mends what it reads.
    pub(super) mended: bool,
}

impl Groups {
    /// One place, and one more for each group's worth of what a reader may keep.
    pub(super) fn new(cache_len: usize) -> Self {
        let count = 1 + cache_len / GROUP_MAX_LEN;
        Self { order: Mutex::new(Order { keys: vec![(None, 0); count], clock: 0 }), places: (0..count).map(|_| Mutex::default()).collect() }
    }

    /// The plain bytes of the frame at `offset`, which is in a group; `payload` is its own.
    pub(super) fn frame(&self, source: &GroupSource<'_>, offset: u32, header: &FrameHeader, payload: &[u8]) -> Result<Vec<u8>> {
        let offset = u64::from(offset);
        let first = offset.checked_sub(u64::from(header.back)).filter(|first| *first >= PACK_HEADER_LEN as u64);
        let first = first.filter(|_| header.back as usize <= 2 * GROUP_MAX_LEN);
        let first = first.ok_or_else(|| Error::corrupt("a frame names a group that cannot be"))?;
        let mut place = self.place((source.pack, first, source.mended));
        let group = place.group.get_or_insert_default();
        let mut plain = Vec::new();
        if group.plain_of(offset, &mut plain) {
            return Ok(plain);
        }
        let decoded = read_up_to(source, group, first, offset).and_then(|()| group.push(offset, header, payload));
        if decoded.is_err() {
            group.forget();
        }
        decoded?;
        group.plain_of(offset, &mut plain);
        Ok(plain)
    }

    /// Lets go of what was decoded of a pack: it is not what it should be.
    pub(super) fn forget(&self, pack: &PackId) {
        for place in &self.places {
            let mut place = place.lock().unwrap_or_else(PoisonError::into_inner);
            if place.key.is_some_and(|(of, ..)| of == *pack) {
                place.key = None;
                place.group.iter_mut().for_each(GroupDecoder::forget);
            }
        }
    }

    fn place(&self, key: GroupKey) -> MutexGuard<'_, Place> {
        let mut order = self.order.lock().unwrap_or_else(PoisonError::into_inner);
        order.clock += 1;
        let oldest = || order.keys.iter().enumerate().min_by_key(|(_, (_, used))| *used).map_or(0, |(number, _)| number);
        let number = order.keys.iter().position(|(kept, _)| *kept == Some(key)).unwrap_or_else(oldest);
        order.keys[number] = (Some(key), order.clock);
        drop(order);
        let mut place = self.places[number].lock().unwrap_or_else(PoisonError::into_inner);
        // Or somebody was quicker and took the place for another; then that one is decoded again.
        if place.key != Some(key) {
            place.key = Some(key);
            place.group.iter_mut().for_each(GroupDecoder::forget);
        }
        place
    }
}

/// Decodes the frames of a group that stand before `offset` and were not decoded yet.
fn read_up_to(source: &GroupSource<'_>, group: &mut GroupDecoder, first: u64, offset: u64) -> Result<()> {
    let mut at = group.next_of(first).unwrap_or(first);
    let mut stored = Vec::new();
    while at < offset {
        fill(source, at, offset, HEAD_MAX_LEN, &mut stored)?;
        let header = FrameHeader::decode(&stored)?;
        let frame_len = header.frame_len();
        if frame_len as u64 > offset - at {
            return Err(Error::corrupt("a frame of a group is longer than the place it has"));
        }
        if header.codec == Codec::Grouped {
            fill(source, at, offset, frame_len, &mut stored)?;
            group.push(at, &header, &stored[header.head_len()..frame_len])?;
        } else {
            group.pass_over(at, frame_len as u64);
        }
        stored.drain(..frame_len.min(stored.len()));
        at += frame_len as u64;
    }
    Ok(())
}

/// Makes `stored`, which was read from `at` on, at least `len` bytes long, or as long as it is to `end`.
fn fill(source: &GroupSource<'_>, at: u64, end: u64, len: usize, stored: &mut Vec<u8>) -> Result<()> {
    let left = usize::try_from(end - at).unwrap_or(usize::MAX);
    let there = stored.len();
    if there >= len.min(left) {
        return Ok(());
    }
    stored.resize(len.max(READ_LEN).min(left), 0);
    source.backend.read_at(source.key, at + there as u64, &mut stored[there..])
}
