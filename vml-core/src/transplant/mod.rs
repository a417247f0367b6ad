//! Carries entries into a repository whose chunks are cut or named otherwise.
//!
//! ```text
//! source entry ── parts, known ones beside them ──► read ──► cut and named by the target's writer ──► parts of the new entry
//!    │ parents, base                                                                                      │
//!    └───────► counterparts: by notes of either repository ──────────────────────► their counterparts ──► commit ──► note, refs
//! ```
//! Between repositories that cut alike, [`transfer`](crate::remote::transfer) carries compressed frames as they are. Where they do not, the same bytes have other names on
//! each side, and an entry has to be written anew: with the same author, time, message, tags, facts and cost, the same tree, disks and memory, and with the counterparts of
//! what it continues and is relative to. What an entry shares with its parents, with its base, and with itself is read once, and not at all where an earlier run carried it.
//!
//! A note says which entry became which; it stays in its repository, so nobody else can say so. The same entry carried twice upon the same parents becomes the same entry,
//! so a run that was killed goes on: entries that are there are passed over, chunks that are there are not stored again.

mod counterparts;
mod parts;
mod plan;
mod receive;
mod run;
mod share;
mod verify;

pub use plan::{TransplantPlan, plan_transplant};
pub use receive::receive_through;
pub use run::{Transplant, Transplanted, transplant};
pub use share::share_through;
pub use verify::verify_equal;

use crate::entry::EntryId;
use crate::remote::TransferRequest;

/// What to carry, and what the library cannot know.
#[derive(Debug, Clone, Copy)]
pub struct TransplantRequest<'a> {
    /// The entries, and what comes along.
    pub what: TransferRequest<'a>,
    /// From where they come.
    pub from: Bringer<'a>,
    /// The time now: milliseconds since 1970-01-01 00:00 UTC.
    pub time_ms: i64,
    /// Whether every entry is read again at both ends and compared before it is committed.
    pub verify: bool,
    /// What the last entry is said to continue beyond what the source has, the newest first.
    pub lineage: &'a [EntryId],
}

/// From where carried entries are said to come.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Bringer<'a> {
    /// Another repository.
    Remote {
        /// What it is called.
        name: &'a str,
        /// Whether the target's owner trusts it as himself.
        trusted: bool,
    },
    /// What the source says of each entry: it is a place where they were received into only to be carried on.
    AsReceived,
}

impl Bringer<'_> {
    fn is_trusted(&self) -> bool {
        matches!(self, Self::Remote { trusted: true, .. })
    }
}
