//! Brings entries from one repository to another: what the sink lacks, several frames at once, then the entries.

use super::plan::{Job, Planner};
use super::{Arrived, CHUNKS_MAX, Commit, Committed, ENTRIES_MAX, FrameAt, HistoryItem, Needs, NoteId, Parcel, Placed, Remote, RemoteRef};
use crate::entry::{Entry, EntryId};
use crate::monitor::{Monitor, Task};
use crate::refs::RefKind;
use crossbeam_channel::{Receiver, Sender, bounded};
use std::collections::{HashMap, HashSet};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, PoisonError};
use vml_chunk::{ChunkId, Error, ErrorKind, PackKind, Result};

/// Frames and chunks are on their way in so many calls at once, which hides how far away the other end is.
const AT_ONCE: usize = 6;
/// Entries that are sent and committed together.
const GROUP_MAX: usize = 32;
/// A collection at either end may take away what was there a moment ago.
const TRIES: usize = 4;
/// What a lineage tells of at most.
const LINEAGE_MAX: usize = 256;

/// What to bring over.
#[derive(Debug, Clone, Copy)]
pub struct TransferRequest<'a> {
    /// The entries.
    pub entries: &'a [EntryId],
    /// Whether what they continue comes along. Their bases always do.
    pub history: bool,
    /// Whether notes and tags come along, of all entries that both have then.
    pub marks: bool,
}

/// What was brought over.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Transferred {
    /// Entries that the sink did not have, and what became of them.
    pub entries: Vec<(Entry, Arrived)>,
    /// Entries that it had.
    pub present_count: u64,
    /// Chunks that the entries need beyond what is known to be there.
    pub needed_chunks_count: u64,
    /// Those that the sink did not have.
    pub sent_chunks_count: u64,
    /// Frames that crossed.
    pub frames_count: u64,
    /// Their bytes.
    pub frames_bytes: u64,
    /// Notes that came along.
    pub notes_count: u64,
    /// Tags that name another entry at the sink, which they go on doing.
    pub other_tags: Vec<String>,
}

/// What a transfer would bring over.
#[derive(Debug, Clone, Default)]
pub struct TransferPlan {
    /// Entries that the sink lacks, each after those it continues.
    pub entries: Vec<(EntryId, Entry)>,
    /// Entries of the request that it has.
    pub present_count: u64,
    pub(crate) present: Vec<EntryId>,
    forgotten: Vec<(EntryId, Vec<EntryId>)>,
    /// The newest first.
    history: Vec<EntryId>,
}

/// Brings the entries of a plan from `source` to `sink`, with what they need and the sink does not have.
///
/// Nothing of an entry is visible at the sink before all of it is there. After an error what was stored is kept, and the next try sends the rest.
///
/// # Errors
/// `NotFound` for an entry that the source does not have any more, else what either end says.
///
/// # Cost
/// A few frames in memory. The source walks the metadata of what is sent and of what it continues.
pub fn transfer(
    source: &dyn Remote,
    sink: &dyn Remote,
    plan: &TransferPlan,
    request: &TransferRequest<'_>,
    monitor: &dyn Monitor,
) -> Result<Transferred> {
    let mut transferred = Transferred { present_count: plan.present_count, ..Transferred::default() };
    for group in plan.entries.chunks(GROUP_MAX) {
        let commit = plan.commit_of(group);
        let mut known = known_of(sink, group)?;
        let ids: Vec<EntryId> = group.iter().map(|(id, _)| *id).collect();
        let committed = loop_until_whole(|| {
            send_chunks(source, sink, &ids, &known, &mut transferred, monitor)?;
            // If something is missing after all, everything is asked for the next time.
            known.clear();
            sink.commit(&commit)
        })?;
        for arrived in committed.entries {
            let sent = group.iter().find(|(id, _)| *id == arrived.id);
            transferred.entries.extend(sent.map(|(_, entry)| (entry.clone(), arrived)));
        }
    }
    place_present(source, sink, plan, &mut transferred)?;
    if request.marks {
        send_marks(source, sink, &mut transferred)?;
    }
    Ok(transferred)
}

/// Entries that the sink has and that no ref of it names: a transfer was cut before it came to point one to them.
fn place_present(source: &dyn Remote, sink: &dyn Remote, plan: &TransferPlan, transferred: &mut Transferred) -> Result<()> {
    if plan.present.is_empty() {
        return Ok(());
    }
    let named: HashSet<EntryId> = sink.refs()?.into_iter().map(|at| at.entry).collect();
    let unnamed: Vec<EntryId> = plan.present.iter().copied().filter(|id| !named.contains(id)).collect();
    let mut entries = Vec::new();
    read_entries(source, &unnamed, &mut entries)?;
    for group in entries.chunks(GROUP_MAX) {
        for arrived in sink.commit(&plan.commit_of(group))?.entries {
            let sent = group.iter().find(|(id, _)| *id == arrived.id);
            let is_placed = !matches!(arrived.placed, None | Some(Placed::Present(_)));
            transferred.entries.extend(sent.filter(|_| is_placed).map(|(_, entry)| (entry.clone(), arrived)));
        }
    }
    Ok(())
}

/// What entries continue or are relative to and the sink has.
fn known_of(sink: &dyn Remote, group: &[(EntryId, Entry)]) -> Result<Vec<EntryId>> {
    let own: HashSet<EntryId> = group.iter().map(|(id, _)| *id).collect();
    let before = group.iter().flat_map(|(_, entry)| entry.parents.iter().copied().chain(entry.base.as_ref().map(|base| base.entry)));
    let mut known: Vec<EntryId> = before.filter(|id| !own.contains(id)).collect();
    known.sort_unstable();
    known.dedup();
    let there = there(sink, &known)?;
    known.retain(|id| there.contains(id));
    Ok(known)
}

fn loop_until_whole(mut run: impl FnMut() -> Result<Committed>) -> Result<Committed> {
    let mut tries = 1;
    loop {
        match run() {
            Err(error) if error.kind() == ErrorKind::NotFound && tries < TRIES => tries += 1,
            other => return other,
        }
    }
}

impl TransferPlan {
    /// Entries that the sink has and that those of the plan continue or are relative to.
    ///
    /// # Errors
    /// What the sink says.
    pub fn known_at(&self, sink: &dyn Remote) -> Result<Vec<EntryId>> {
        known_of(sink, &self.entries)
    }

    fn commit_of(&self, group: &[(EntryId, Entry)]) -> Commit {
        let last = group.last().map(|(id, _)| *id);
        let lineage = self.history.iter().copied().skip_while(|id| Some(*id) != last).skip(1).take(LINEAGE_MAX);
        Commit {
            entries: group.iter().map(|(_, entry)| entry.encode().1).collect(),
            lineage: lineage.collect(),
            forgotten: self.forgotten.clone(),
            ..Commit::default()
        }
    }
}

/// Looks which entries the sink lacks.
///
/// # Errors
/// `NotFound` for an entry that the source does not have, else what either end says.
pub fn plan_transfer(source: &dyn Remote, sink: &dyn Remote, request: &TransferRequest<'_>) -> Result<TransferPlan> {
    let (of_source, of_sink) = both(|| source.info(), || sink.info())?;
    if of_source.ids != of_sink.ids {
        let why = "an encrypted repository names what it holds by its own key: entries cross as they are stored only to and from one that has the same keys";
        return Err(Error::invalid(why));
    }
    plan_transfer_to(source, &mut |ids| there(sink, ids), request)
}

/// The same for a sink of which `at_sink` tells which of some entries it has.
pub(crate) fn plan_transfer_to(
    source: &dyn Remote,
    at_sink: &mut dyn FnMut(&[EntryId]) -> Result<HashSet<EntryId>>,
    request: &TransferRequest<'_>,
) -> Result<TransferPlan> {
    let mut plan = TransferPlan::default();
    // What an entry that is there continues is there too: it was committed first.
    let mut have = at_sink(request.entries)?;
    plan.present_count = have.len() as u64;
    let wanted: Vec<EntryId>;
    (plan.present, wanted) = request.entries.iter().partition(|id| have.contains(id));
    let mut items: Vec<HistoryItem> = Vec::new();
    if request.history {
        let mut seen = HashSet::new();
        for part in wanted.chunks(ENTRIES_MAX) {
            items.extend(source.history(part)?.into_iter().filter(|item| seen.insert(item.id)));
        }
    } else {
        items.extend(wanted.iter().map(|id| HistoryItem { id: *id, forgotten: None }));
    }
    for item in items.iter().filter(|item| item.forgotten.is_some()) {
        plan.forgotten.push((item.id, item.forgotten.clone().unwrap_or_default()));
    }
    plan.history = items.iter().map(|item| item.id).collect();
    let entries: Vec<EntryId> = items.iter().filter(|item| item.forgotten.is_none()).map(|item| item.id).collect();
    for id in &wanted {
        if !entries.contains(id) {
            return Err(Error::not_found(format!("entry {} is not there", id.short())));
        }
    }
    // Those that were asked for were asked about.
    let others: Vec<EntryId> = entries.iter().copied().filter(|id| !request.entries.contains(id)).collect();
    have.extend(at_sink(&others)?);
    let missing: Vec<EntryId> = entries.into_iter().filter(|id| !have.contains(id)).collect();
    read_entries(source, &missing, &mut plan.entries)?;
    if !request.history {
        let bases: HashSet<EntryId> = plan.entries.iter().filter_map(|(_, entry)| Some(entry.base.as_ref()?.entry)).collect();
        let bases: Vec<EntryId> = bases.into_iter().filter(|id| !missing.contains(id)).collect();
        let (have, at_source) = (at_sink(&bases)?, there(source, &bases)?);
        let needed: Vec<EntryId> = bases.into_iter().filter(|id| !have.contains(id) && at_source.contains(id)).collect();
        read_entries(source, &needed, &mut plan.entries)?;
    }
    sort(&mut plan.entries);
    Ok(plan)
}

/// Those of these entries that `remote` has.
fn there(remote: &dyn Remote, ids: &[EntryId]) -> Result<HashSet<EntryId>> {
    let mut found = HashSet::new();
    for part in ids.chunks(ENTRIES_MAX) {
        found.extend(part.iter().copied().zip(remote.entries_there(part)?).filter(|(_, there)| *there).map(|(id, _)| id));
    }
    Ok(found)
}

/// Asks for the records of `ids`, as many at a time as `read` gives, and hands each answer to `each` with what it is for.
fn in_parts<T>(
    ids: &[T],
    read: impl Fn(&[T]) -> Result<Vec<Vec<u8>>>,
    mut each: impl FnMut(&[T], Vec<Vec<u8>>) -> Result<()>,
) -> Result<()> {
    let mut rest = ids;
    while !rest.is_empty() {
        let records = read(&rest[..rest.len().min(ENTRIES_MAX)])?;
        if records.is_empty() || records.len() > rest.len() {
            return Err(Error::corrupt("the other repository does not answer with the records that it was asked for"));
        }
        let (read, unread) = rest.split_at(records.len());
        each(read, records)?;
        rest = unread;
    }
    Ok(())
}

fn read_entries(source: &dyn Remote, ids: &[EntryId], entries: &mut Vec<(EntryId, Entry)>) -> Result<()> {
    in_parts(
        ids,
        |ids| source.records(ids),
        |ids, records| {
            for (id, record) in ids.iter().zip(&records) {
                if EntryId::of(record) != *id {
                    return Err(Error::corrupt(format!("the record of entry {} that came does not match its name", id.short())));
                }
                entries.push((*id, Entry::decode(record)?));
            }
            Ok(())
        },
    )
}

/// What an entry continues or is relative to stands before it, whatever their clocks said; entries that have nothing to do with each other by time.
fn sort(entries: &mut Vec<(EntryId, Entry)>) {
    entries.sort_by_key(|(id, entry)| (std::cmp::Reverse(entry.time_ms), *id));
    let mut left: HashMap<EntryId, Entry> = entries.drain(..).collect();
    let mut order: Vec<(i64, EntryId)> = left.iter().map(|(id, entry)| (entry.time_ms, *id)).collect();
    order.sort_unstable();
    for (_, id) in order {
        let mut stack = vec![id];
        while let Some(id) = stack.last().copied() {
            let Some(entry) = left.get(&id) else {
                stack.pop();
                continue;
            };
            let before = entry.parents.iter().copied().chain(entry.base.as_ref().map(|base| base.entry));
            // Names are digests, so there is no circle.
            let open: Vec<EntryId> = before.filter(|id| left.contains_key(id)).collect();
            if open.is_empty() {
                stack.pop();
                entries.extend(left.remove(&id).map(|entry| (id, entry)));
            } else {
                stack.extend(open);
            }
        }
    }
}

/// What the threads of a transfer share.
struct Crossing<'a> {
    source: &'a dyn Remote,
    sink: &'a dyn Remote,
    monitor: &'a dyn Monitor,
    failure: Mutex<Option<Error>>,
    sent_chunks: AtomicU64,
    frames: AtomicU64,
    bytes: AtomicU64,
}

fn send_chunks(
    source: &dyn Remote,
    sink: &dyn Remote,
    ids: &[EntryId],
    known: &[EntryId],
    transferred: &mut Transferred,
    monitor: &dyn Monitor,
) -> Result<()> {
    let crossing = Crossing {
        source,
        sink,
        monitor,
        failure: Mutex::default(),
        sent_chunks: AtomicU64::new(0),
        frames: AtomicU64::new(0),
        bytes: AtomicU64::new(0),
    };
    let mut needed = 0;
    std::thread::scope(|scope| {
        let (needs_in, needs_out) = bounded::<Needs>(1);
        let (jobs_in, jobs_out) = bounded::<Job>(AT_ONCE);
        for _ in 0..AT_ONCE {
            let jobs = jobs_out.clone();
            scope.spawn(|| crossing.carry(jobs));
        }
        drop(jobs_out);
        let walk = scope.spawn(|| {
            let sent = source.needs(ids, known, &mut |needs| {
                needs_in.send(needs).map_err(|_| Error::new(ErrorKind::Interrupted, "the transfer has ended"))
            });
            drop(needs_in);
            sent
        });
        crossing.note(crossing.plan(needs_out, &jobs_in, &mut needed));
        drop(jobs_in);
        let lost = || Err(Error::new(ErrorKind::Interrupted, "a thread of the transfer has died"));
        crossing.note(walk.join().unwrap_or_else(|_| lost()));
    });
    transferred.needed_chunks_count += needed;
    transferred.sent_chunks_count += crossing.sent_chunks.into_inner();
    transferred.frames_count += crossing.frames.into_inner();
    transferred.frames_bytes += crossing.bytes.into_inner();
    crossing.failure.into_inner().unwrap_or_else(PoisonError::into_inner).map_or(Ok(()), Err)
}

impl Crossing<'_> {
    /// Keeps the first error: the others follow from it.
    fn note(&self, result: Result<()>) {
        if let Err(error) = result {
            self.failure.lock().unwrap_or_else(PoisonError::into_inner).get_or_insert(error);
        }
    }

    fn has_failed(&self) -> bool {
        self.failure.lock().unwrap_or_else(PoisonError::into_inner).is_some()
    }

    /// Asks the sink for what it has and makes jobs of the rest. Whoever sends needs is stopped when this returns.
    fn plan(&self, needs: Receiver<Needs>, jobs: &Sender<Job>, needed: &mut u64) -> Result<()> {
        let mut planner = Planner::default();
        let give = |ready: Vec<Job>| {
            for job in ready {
                if jobs.send(job).is_err() {
                    break;
                }
            }
        };
        for needs in needs {
            if self.has_failed() {
                return Ok(());
            }
            let ids: Vec<ChunkId> = needs.chunks.iter().map(|need| need.id).collect();
            *needed += ids.len() as u64;
            for (part, chunks) in ids.chunks(CHUNKS_MAX).zip(needs.chunks.chunks(CHUNKS_MAX)) {
                let has = self.sink.has(part)?;
                if has.len() != part.len() {
                    return Err(Error::corrupt("the other repository does not answer for the chunks that it was asked about"));
                }
                for need in chunks.iter().zip(has).filter(|(_, has)| !has).map(|(need, _)| need) {
                    let frame = needs.frames.get(need.frame as usize);
                    let frame = frame.ok_or_else(|| Error::corrupt("the other repository names a frame that it does not tell of"))?;
                    planner.want(*frame, need.id, need.len);
                }
            }
            give(planner.take());
        }
        give(planner.finish());
        Ok(())
    }

    /// One of the threads that fetch and store.
    fn carry(&self, jobs: Receiver<Job>) {
        for job in jobs {
            // The others are drained, so that nobody waits for room.
            if !self.has_failed() {
                self.note(self.carry_one(job));
            }
        }
    }

    fn carry_one(&self, job: Job) -> Result<()> {
        match job {
            Job::Compose(kind, chunks) => self.compose(kind, &chunks),
            Job::Fetch(frames) => {
                let places: Vec<FrameAt> = frames.iter().map(|(frame, _)| *frame).collect();
                match self.source.fetch(&places) {
                    Ok(parcel) => self.hand_over(parcel, frames.iter().map(|(_, chunks)| chunks.len()).sum()),
                    // A collection took a pack away; the chunks are in another by now.
                    Err(error) if error.kind() == ErrorKind::NotFound => {
                        frames.iter().try_for_each(|(frame, chunks)| self.compose(frame.kind, chunks))
                    }
                    Err(error) => Err(error),
                }
            }
        }
    }

    fn compose(&self, kind: PackKind, chunks: &[ChunkId]) -> Result<()> {
        let parcel = self.source.compose(kind, chunks)?;
        self.hand_over(parcel, chunks.len())
    }

    fn hand_over(&self, parcel: Parcel, chunks_count: usize) -> Result<()> {
        let frames = parcel.len() as u64;
        let bytes = parcel.iter().map(|(_, frame)| frame.len() as u64).sum();
        self.sink.store(parcel)?;
        self.sent_chunks.fetch_add(chunks_count as u64, Ordering::Relaxed);
        self.frames.fetch_add(frames, Ordering::Relaxed);
        self.bytes.fetch_add(bytes, Ordering::Relaxed);
        self.monitor.advance(Task::Transfer, frames, bytes);
        Ok(())
    }
}

/// Notes and tags that the sink lacks, of entries that it has.
fn send_marks(source: &dyn Remote, sink: &dyn Remote, transferred: &mut Transferred) -> Result<()> {
    let arrived: HashSet<EntryId> = transferred.entries.iter().map(|(_, arrived)| arrived.id).collect();
    let of_source = both(|| source.notes(), || source.refs())?;
    let is_tag = |at: &RemoteRef| at.kind == RefKind::Tag;
    let (notes, tags): (Vec<NoteId>, Vec<RemoteRef>) = (of_source.0, of_source.1.into_iter().filter(is_tag).collect());
    // Each question costs a round trip, so none is asked whose answer does not matter.
    let (have, at_sink) = both(
        || if notes.is_empty() { Ok(Vec::new()) } else { sink.notes() },
        || if tags.is_empty() { Ok(Vec::new()) } else { sink.refs() },
    )?;
    let have: HashSet<NoteId> = have.into_iter().collect();
    let notes: Vec<NoteId> = notes.into_iter().filter(|note| !have.contains(note)).collect();
    let at_sink: HashMap<String, EntryId> = at_sink.into_iter().filter(is_tag).map(|at| (at.name, at.entry)).collect();
    let tags = tags.into_iter().filter(|at| at_sink.get(&at.name) != Some(&at.entry));
    let tags: Vec<(String, EntryId)> = tags.map(|at| (at.name, at.entry)).collect();
    let marked: HashSet<EntryId> = notes.iter().map(|note| note.entry).chain(tags.iter().map(|(_, entry)| *entry)).collect();
    let unsure: Vec<EntryId> = marked.into_iter().filter(|id| !arrived.contains(id)).collect();
    let mut there = there(sink, &unsure)?;
    there.extend(arrived);
    let notes: Vec<NoteId> = notes.into_iter().filter(|note| there.contains(&note.entry)).collect();
    in_parts(
        &notes,
        |notes| source.note_records(notes),
        |_, records| {
            transferred.notes_count += records.len() as u64;
            sink.commit(&Commit { notes: records, ..Commit::default() }).map(|_| ())
        },
    )?;
    let tags: Vec<(String, EntryId)> = tags.into_iter().filter(|(_, entry)| there.contains(entry)).collect();
    for part in tags.chunks(ENTRIES_MAX) {
        transferred.other_tags.extend(sink.commit(&Commit { tags: part.to_vec(), ..Commit::default() })?.other_tags);
    }
    Ok(())
}

/// Asks two questions at once.
fn both<A: Send, B>(one: impl FnOnce() -> Result<A> + Send, other: impl FnOnce() -> Result<B>) -> Result<(A, B)> {
    std::thread::scope(|scope| {
        let one = scope.spawn(one);
        let other = other()?;
        let one = one.join().unwrap_or_else(|_| Err(Error::new(ErrorKind::Interrupted, "a thread of the transfer has died")))?;
        Ok((one, other))
    })
}
