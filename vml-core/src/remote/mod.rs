//! Remotes: other repositories that entries are pushed to and pulled from.
//!
//! ```text
//! source                                       transfer                                    sink
//! history ─────────── entries ───────────────► which of them? ◄───────────────── entries_there
//! needs ──── chunks, and the frames they ───► plan: frames that are ◄───────────────── has (in batches)
//!            are in, in stream order           wanted whole, else chunks
//! fetch, compose ───────── frames ───────────► several at once ──────────────────────► store
//!                                              last of all ──────────────────────────► commit
//! ```
//! Both ends are a [`Remote`]: a repository that this process has open ([`OpenRemote`]), or a client of a service. So pushing, pulling and cloning are one
//! [`transfer`]. Compressed frames cross as they are stored. Each call is bounded, can be repeated, and needs no state at the other end: a transfer
//! that was cut goes on where it was, because what was stored is not wanted again. The sink takes nothing on trust: chunks get the ids of their bytes, and an entry is
//! committed when everything it names is there.

mod open;
mod plan;
mod source;
mod transfer;
pub mod wire;

pub use open::OpenRemote;
pub(crate) use open::note_id;
pub use source::RemoteSource;
pub(crate) use transfer::plan_transfer_to;
pub use transfer::{TransferPlan, TransferRequest, Transferred, plan_transfer, transfer};

use crate::entry::EntryId;
use crate::refs::RefKind;
pub use crate::share::Placed;
use bincode::{Decode, Encode};
use vml_chunk::{ChunkId, ChunkerParams, PackId, PackKind, Result};

/// Most chunks of one call.
pub const CHUNKS_MAX: usize = 1 << 16;
/// Most entries of one call.
pub const ENTRIES_MAX: usize = 1 << 12;
/// Most entries that a history tells of.
pub const HISTORY_MAX: usize = 1 << 20;
/// Stored bytes of frames that one call aims at; a single frame may be longer. Little is lost with a call that is cut, and four calls on their way fill a line
/// of a gigabit a second that is 100 ms long; on the other hand a service makes a pack of each.
pub const PARCEL_TARGET: usize = 4 << 20;
/// Stored bytes that one call may have.
pub const PARCEL_MAX: usize = 48 << 20;
/// Bytes of records that one call aims at; a single record may be longer.
pub const RECORDS_TARGET: usize = 4 << 20;

/// What a remote is.
#[derive(Debug, Clone, PartialEq, Eq, Encode, Decode)]
pub struct RemoteInfo {
    /// Tells repositories apart.
    pub id: [u8; 16],
    /// How it cuts streams: repositories that cut alike share chunks.
    pub chunker: ChunkerParams,
    /// Plain bytes of its frames.
    pub frame_len: u32,
    /// zstd level of its frames.
    pub level: u8,
    /// Files of at most this many bytes stand in their node.
    pub inline_max: u32,
    /// How it names chunks: [`IdKey::check`](vml_chunk::IdKey::check). Between repositories that name them differently nothing crosses as it is stored.
    pub ids: [u8; 16],
}

impl RemoteInfo {
    /// Whether the same bytes are the same chunks in both, so that frames can cross as they are. Where they are not, entries are carried over by a
    /// [`transplant`](crate::transplant).
    pub fn cuts_like(&self, other: &Self) -> bool {
        self.chunker == other.chunker && self.ids == other.ids
    }
}

/// A named pointer of a remote.
#[derive(Debug, Clone, PartialEq, Eq, Encode, Decode)]
pub struct RemoteRef {
    /// What it is.
    pub kind: RefKind,
    /// Its name.
    pub name: String,
    /// Where it points to.
    pub entry: EntryId,
}

/// An entry of a history.
#[derive(Debug, Clone, PartialEq, Eq, Encode, Decode)]
pub struct HistoryItem {
    /// The entry.
    pub id: EntryId,
    /// What it continued, if it was forgotten; else its record says so.
    pub forgotten: Option<Vec<EntryId>>,
}

/// A note of a remote.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Encode, Decode)]
pub struct NoteId {
    /// The entry it is of.
    pub entry: EntryId,
    /// The digest of its record.
    pub digest: [u8; 32],
}

/// Where a frame stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Encode, Decode)]
pub struct FrameAt {
    /// What its pack holds.
    pub kind: PackKind,
    /// Its pack.
    pub pack: PackId,
    /// Where in the pack, in bytes.
    pub offset: u32,
    /// Bytes of it there.
    pub stored_len: u32,
    /// Bytes of its chunks together.
    pub plain_len: u32,
    /// Whether it can be read without others, and so can cross. In a pack that was compacted it may need those before it.
    pub alone: bool,
}

/// A chunk that an entry needs.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Encode, Decode)]
pub struct Need {
    /// The chunk.
    pub id: ChunkId,
    /// Its length in bytes.
    pub len: u32,
    /// Its frame: a number in [`Needs::frames`].
    pub frame: u32,
}

/// Some of the chunks that entries need, in the order in which they are read.
#[derive(Debug, Clone, Default, PartialEq, Eq, Encode, Decode)]
pub struct Needs {
    /// The frames that they are in.
    pub frames: Vec<FrameAt>,
    /// The chunks; at most [`CHUNKS_MAX`].
    pub chunks: Vec<Need>,
}

/// Frames on their way, each with what its chunks are.
pub type Parcel = Vec<(PackKind, Vec<u8>)>;

/// What became of a parcel.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Encode, Decode)]
pub struct Stowed {
    /// Chunks in it.
    pub chunks_count: u64,
    /// Those that were not there.
    pub new_chunks_count: u64,
}

/// What to make known at the sink.
#[derive(Debug, Clone, Default, PartialEq, Eq, Encode, Decode)]
pub struct Commit {
    /// Records of entries, each after those that it continues or is relative to.
    pub entries: Vec<Vec<u8>>,
    /// What the last one continues, as far as it is known, the newest first.
    pub lineage: Vec<EntryId>,
    /// Entries that were forgotten, and what they continued.
    pub forgotten: Vec<(EntryId, Vec<EntryId>)>,
    /// Records of notes.
    pub notes: Vec<Vec<u8>>,
    /// Tags, with the entries that they name.
    pub tags: Vec<(String, EntryId)>,
}

/// What became of an entry of a [`Commit`].
#[derive(Debug, Clone, PartialEq, Eq, Encode, Decode)]
pub struct Arrived {
    /// Its id.
    pub id: EntryId,
    /// Whether it was not there before.
    pub new: bool,
    /// What became of its ref; none where a later entry of the commit stands for it.
    pub placed: Option<Placed>,
}

/// What became of a [`Commit`].
#[derive(Debug, Clone, Default, PartialEq, Eq, Encode, Decode)]
pub struct Committed {
    /// The entries.
    pub entries: Vec<Arrived>,
    /// Tags of the request that name another entry at the sink, which they go on doing.
    pub other_tags: Vec<String>,
}

/// A repository that entries come from or go to.
///
/// All methods can be called from several threads at once. Errors: `NotFound` where something that the caller names is not there,
/// `PermissionDenied` where the remote forbids it, `InvalidInput` beyond a limit of this module.
pub trait Remote: Sync {
    /// What it is.
    fn info(&self) -> Result<RemoteInfo>;

    /// Its areas, tags and bases.
    fn refs(&self) -> Result<Vec<RemoteRef>>;

    /// These entries with all that they continue and are relative to, as far as it is there; the newest first.
    fn history(&self, entries: &[EntryId]) -> Result<Vec<HistoryItem>>;

    /// Which of these entries are there.
    fn entries_there(&self, entries: &[EntryId]) -> Result<Vec<bool>>;

    /// The records of the first of these entries: at least one, and as many as fit into an answer.
    fn records(&self, entries: &[EntryId]) -> Result<Vec<Vec<u8>>>;

    /// The notes of all entries, but those that say where an entry came from.
    fn notes(&self) -> Result<Vec<NoteId>>;

    /// The records of the first of these notes, as [`records`](Self::records).
    fn note_records(&self, notes: &[NoteId]) -> Result<Vec<Vec<u8>>>;

    /// Tells `each` what `entries` need and `known` do not; entries of `known` that are not there are left out.
    fn needs(&self, entries: &[EntryId], known: &[EntryId], each: &mut dyn FnMut(Needs) -> Result<()>) -> Result<()>;

    /// Which of these chunks are there, in packs that stay.
    fn has(&self, chunks: &[ChunkId]) -> Result<Vec<bool>>;

    /// Reads frames as they are stored. `NotFound` when one of their packs has gone: its chunks are elsewhere then.
    fn fetch(&self, frames: &[FrameAt]) -> Result<Parcel>;

    /// Makes frames of these chunks, all of one kind.
    fn compose(&self, kind: PackKind, chunks: &[ChunkId]) -> Result<Parcel>;

    /// Stores the chunks of frames. What was stored serves a later try, whatever happens.
    fn store(&self, parcel: Parcel) -> Result<Stowed>;

    /// Makes entries known, after everything that they need was stored.
    ///
    /// # Errors
    /// `NotFound` when some of it is not there, or not any more: what is missing is to be stored again.
    fn commit(&self, commit: &Commit) -> Result<Committed>;

    /// Forgets entries.
    fn forget(&self, entries: &[EntryId], force: bool) -> Result<()>;
}
