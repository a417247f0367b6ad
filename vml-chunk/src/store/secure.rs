//! Makes sure, before a writer commits, that every chunk it relied on is there and stays.
//!
//! ```text
//! writer      session begins ──► relies on chunks, stores new ones ──► [intent] ──► secure ──────────► commits
//!                │ reads the quarantine                                     │          │ reads it again
//! collector      │           marks what is needed ──► quarantine ───────────┼──────────┼─► marks again ──► copies, deletes
//!                │                                        │                 │          │
//!                └── was not yet on the list ─────────────┘     seen by ◄───┘          └─► same list: nobody can have seen less
//! ```
//! The writer says what it is about to commit (the caller's *intent*) and then looks at the list; a collector puts its packs on the list and
//! then looks for intents. Whoever is second sees the other. If the list is the one that the session began with, no collection
//! can miss the intent. If it is not, chunks in packs that are listed or gone are looked for elsewhere, and else stored again from
//! what is left; when nothing is left the caller begins anew.
//!
//! That a pack can be seen does not say that it survives a loss of power: its writer may have been killed between naming it and syncing the name. So the
//! names are made durable before anything is committed that relies on them.

use super::ChunkStore;
use super::damage::Damage;
use super::lease::Lease;
use super::quarantine::Seen;
use crate::backend::Backend;
use crate::error::{ErrorKind, Result};
use crate::id::{ChunkId, PackId};
use crate::index::{IndexView, Record, RowBits};
use crate::pack::PackKind;
use std::collections::HashSet;
use std::sync::Arc;

/// Collections may begin one after the other; each look costs as much as opening the store.
const LOOKS_MAX: usize = 8;

/// What became of what a session relied on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Security {
    /// All of it is there, in packs that nobody takes away.
    Sound,
    /// A chunk is gone: the streams must be put again.
    Lost,
}

/// What can be relied on at one moment: the list of packs that go, and the index as it was after that was read.
pub struct Standing {
    seen: Seen,
    damage: Damage,
    view: Arc<IndexView>,
}

impl Standing {
    /// The generation of collections then.
    pub fn generation(&self) -> u64 {
        self.seen.list.generation
    }

    /// Whether a chunk is in a pack that nobody takes away and that is not known to be damaged.
    pub fn has(&self, id: &ChunkId) -> bool {
        let stands = |kind: PackKind, pack: &PackId| !self.seen.list.forbids(kind, pack) && !self.damage.packs.contains(kind, pack);
        self.view.position_in(id, &stands).is_some()
    }
}

/// What one session relied on and stored.
pub(super) struct Part {
    /// The index when it began, and a bit for each row relied on.
    pub(super) base: Arc<IndexView>,
    pub(super) relied: RowBits,
    /// Its packs, and an index that has them.
    pub(super) own: HashSet<(PackKind, PackId)>,
    pub(super) end: Arc<IndexView>,
}

/// What a session of writing relies on: a bit for each chunk that was stored before it, and the names of its packs.
pub struct Reliance {
    parts: Vec<Part>,
    /// The quarantine's file against which all of it was looked at last.
    seen: Option<Vec<u8>>,
    leases: Vec<Lease>,
    backend: Arc<dyn Backend>,
}

impl std::fmt::Debug for Reliance {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Reliance").field("parts", &self.parts.len()).finish_non_exhaustive()
    }
}

impl Reliance {
    pub(super) fn new(part: Part, seen: Option<Vec<u8>>, lease: Lease, backend: Arc<dyn Backend>) -> Self {
        Self { parts: vec![part], seen, leases: vec![lease], backend }
    }

    fn absorb(&mut self, mut other: Self) {
        self.parts.append(&mut other.parts);
        self.leases.append(&mut other.leases);
    }
}

impl Drop for Reliance {
    fn drop(&mut self) {
        for lease in &mut self.leases {
            lease.release(self.backend.as_ref());
        }
    }
}

impl Part {
    /// Calls `each` with what the part relies on in packs that are not `usable`.
    fn for_each_in(
        &self,
        usable: &dyn Fn(PackKind, &PackId) -> bool,
        each: &mut dyn FnMut(PackKind, &ChunkId) -> Result<()>,
    ) -> Result<()> {
        for_each_record(&self.base, &|kind, id| !usable(kind, id), Some(&self.relied), each)?;
        let lost = |kind: PackKind, id: &PackId| self.own.contains(&(kind, *id)) && !usable(kind, id);
        for_each_record(&self.end, &lost, None, each)
    }
}

/// Calls `each` with the chunks of the packs that are `wanted`, in these rows or all.
fn for_each_record(
    view: &IndexView,
    wanted: &dyn Fn(PackKind, &PackId) -> bool,
    rows: Option<&RowBits>,
    each: &mut dyn FnMut(PackKind, &ChunkId) -> Result<()>,
) -> Result<()> {
    for number in 0..view.segments().count() {
        let kinds: Vec<Option<PackKind>> = view.packs_named_in(number).map(|(kind, id)| wanted(kind, &id).then_some(kind)).collect();
        if kinds.iter().all(Option::is_none) {
            continue;
        }
        let segment = view.segment(number);
        let mut one = |record: Record| {
            let pack = segment.frame(record.frame).map(|frame| frame.pack as usize);
            pack.and_then(|pack| *kinds.get(pack)?).map_or(Ok(()), |kind| each(kind, &record.id))
        };
        match rows {
            Some(rows) => segment.scan_rows(rows.rows(number), rows.is_dense(number)).try_for_each(&mut one)?,
            None => segment.scan().try_for_each(&mut one)?,
        }
    }
    Ok(())
}

impl ChunkStore {
    /// Makes sure that what a session relied on is there and stays, once its intent is known to collections. Chunks that a
    /// collection is taking away are stored again.
    ///
    /// # Errors
    /// What the backend says.
    ///
    /// # Cost
    /// Two syncs and one small read, unless a collection began since the session did; then as much as opening the store, and a look at each chunk relied on in
    /// packs that it takes away.
    pub fn secure(&self, reliance: &mut Reliance) -> Result<Security> {
        for _ in 0..LOOKS_MAX {
            self.settle_packs()?;
            // The list first, the packs then: a pack that left the list before we looked is not there either.
            let seen = Seen::read(self.backend.as_ref())?.sound()?;
            if seen.bytes == reliance.seen {
                return Ok(Security::Sound);
            }
            let mut there = HashSet::new();
            for kind in PackKind::ALL {
                let listed = self.backend.list(kind.dir())?;
                there.extend(listed.into_iter().filter_map(|listed| Some((kind, listed.name.parse::<PackId>().ok()?))));
            }
            let usable = |kind: PackKind, id: &PackId| there.contains(&(kind, *id)) && !seen.list.forbids(kind, id);
            self.reload(false)?;
            let writer = self.writer()?;
            let mut chunks = [writer.chunks(PackKind::Data)?, writer.chunks(PackKind::Meta)?];
            let mut lost = false;
            for part in &reliance.parts {
                part.for_each_in(&usable, &mut |kind, id| {
                    if lost || writer.rely_on(id) || !writer.claim_anew(id) {
                        return Ok(());
                    }
                    match self.get(id) {
                        Ok(bytes) => chunks[usize::from(kind.number())].put_claimed(*id, &bytes),
                        Err(error) if matches!(error.kind(), ErrorKind::NotFound | ErrorKind::Corrupt | ErrorKind::NeedsKey) => {
                            lost = true;
                            Ok(())
                        }
                        Err(error) => Err(error),
                    }
                })?;
            }
            let unchanged = writer.seen_bytes() == seen.bytes.as_deref();
            for chunks in chunks {
                chunks.finish()?;
            }
            if lost {
                return Ok(Security::Lost);
            }
            reliance.absorb(writer.finish_relying()?.1);
            if unchanged {
                reliance.seen = seen.bytes;
            }
        }
        Ok(Security::Lost)
    }

    /// Makes the names of all packs durable: whoever published them may have been killed before he came to do it.
    pub(crate) fn settle_packs(&self) -> Result<()> {
        PackKind::ALL.iter().try_for_each(|kind| self.backend.settle(kind.dir()))
    }

    /// Looks at what can be relied on now.
    ///
    /// # Errors
    /// What the backend says.
    pub fn standing(&self) -> Result<Standing> {
        let seen = Seen::read(self.backend.as_ref())?.sound()?;
        self.reload(false)?;
        self.settle_packs()?;
        Ok(Standing { seen, damage: self.damage()?, view: self.view() })
    }

    /// As [`standing`](Self::standing), but packs that others published since this store looked last may count as not there: as cheap as one small read.
    ///
    /// # Errors
    /// What the backend says.
    pub fn standing_as_known(&self) -> Result<Standing> {
        Ok(Standing { seen: self.seen_since_view()?, damage: self.damage()?, view: self.view() })
    }

    /// Whether a collection takes a pack away, or took it.
    pub fn is_collected(&self, kind: PackKind, id: &PackId) -> bool {
        Seen::read(self.backend.as_ref()).is_ok_and(|seen| seen.list.forbids(kind, id))
    }

    /// The generation of collections now.
    ///
    /// # Errors
    /// What the backend says.
    pub fn generation(&self) -> Result<u64> {
        Ok(Seen::read(self.backend.as_ref())?.list.generation)
    }
}
