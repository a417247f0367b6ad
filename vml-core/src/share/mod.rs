//! Share files: entries in one file, for somebody else's repository.
//!
//! ```text
//! header | head | entry … | needed entry … | frame … (metadata and data as they come) | table | signature? | trailer
//!          what it is: entries, what the receiver must have, who signs                  digests of all sections
//! ```
//! A file is *thin*: it has the chunks that the receiver does not have already, who is expected to have the entries' bases ([`Need`]). It is written to and read from
//! any stream, without seeking, and a reader takes nothing on trust: every section is checked when it comes, entries by their ids, chunks by theirs, and the table
//! with all digests by a signature. An id covers everything below it, so whoever signed the entries' ids signed every byte of them. [`seal`] hides a whole file from all but those it is for.
//!
//! Receiving stores chunks as they come and makes entries and refs last ([`receive`]). Killed at any moment, it leaves chunks that no entry
//! names, which the next try finds. The bytes are described in `docs/format.md`.
//!
//! [`secrets`] looks for what should not leave the house, [`scrub`] leaves it out.

mod open;
pub(crate) mod publish;
mod read;
mod receive;
pub mod scrub;
pub mod seal;
pub mod secrets;
pub mod section;
pub mod sign;
mod solid;
mod source;
mod write;

pub use open::ShareFile;
pub use publish::{Placed, Provenance, ReceivedEntry, provenance};
pub use read::{Preface, SHARE_HEAD_RECORD, read_preface};
pub use receive::{ReceiveOptions, Received, receive};
pub use sign::{PublicKey, SecretKey, Signer};
pub use source::ShareSource;
pub use write::{ShareRequest, Shared, share};

use crate::entry::{Entry, EntryId, EntryKind};
use crate::refs::check_name;
use crate::repository::INLINE_LIMIT;
use bincode::{Decode, Encode};
use vml_chunk::{ChunkerParams, Error, Result};

/// Most entries of one file.
const ENTRIES_MAX: usize = 1024;
/// Most entries that a file tells of as what its entries continue.
pub(crate) const LINEAGE_MAX: usize = 256;

/// An entry that the receiver must have.
#[derive(Debug, Clone, PartialEq, Eq, Encode, Decode)]
pub struct Need {
    /// The base's name and version, or the area of an entry that the receiver was said to have.
    pub kind: EntryKind,
    /// The entry.
    pub entry: EntryId,
    /// When it was saved: milliseconds since 1970-01-01 00:00 UTC.
    pub time_ms: i64,
}

impl Need {
    /// The base's `name@version`, or the area's name.
    pub fn origin(&self) -> String {
        match &self.kind {
            EntryKind::State { area } => area.clone(),
            EntryKind::Base { name, version } => format!("{name}@{version}"),
        }
    }
}

/// What a share file is.
#[derive(Debug, Clone, PartialEq, Eq, Encode, Decode)]
pub struct Head {
    /// Its entries, each after those that it continues or is relative to.
    pub entries: Vec<EntryId>,
    /// What the receiver must have.
    pub needs: Vec<Need>,
    /// What the last entry continues, the newest first, as far back as is told.
    pub lineage: Vec<EntryId>,
    /// Who made the file.
    pub author: String,
    /// When: milliseconds since 1970-01-01 00:00 UTC.
    pub time_ms: i64,
    /// The ed25519 key by which it is signed at its end.
    pub signer: Option<[u8; 32]>,
    /// How the repository it was made of cuts streams: whoever cuts otherwise carries the entries over.
    pub chunker: ChunkerParams,
    /// Files of at most this many bytes stand in their node there.
    pub inline_max: u32,
}

impl Head {
    fn check(&self) -> Result<()> {
        let twice = |ids: &mut dyn Iterator<Item = &EntryId>| {
            let mut ids: Vec<&EntryId> = ids.collect();
            ids.sort_unstable();
            ids.windows(2).any(|pair| pair[0] == pair[1])
        };
        if self.entries.is_empty() || self.entries.len() > ENTRIES_MAX || self.needs.len() > ENTRIES_MAX || self.lineage.len() > LINEAGE_MAX
        {
            return Err(Error::corrupt("the share file has no entry, or more than it may"));
        }
        if twice(&mut self.entries.iter().chain(self.needs.iter().map(|need| &need.entry))) {
            return Err(Error::corrupt("the share file names an entry twice"));
        }
        if self.chunker.build().is_err() || self.inline_max > INLINE_LIMIT {
            return Err(Error::corrupt("the share file is of a repository that cannot be"));
        }
        self.needs.iter().try_for_each(|need| check_kind(&need.kind))
    }
}

/// Names in a file from elsewhere become names of refs here.
pub(crate) fn check_kind(kind: &EntryKind) -> Result<()> {
    let checked = match kind {
        EntryKind::State { area } => check_name("area", area),
        EntryKind::Base { name, version } => check_name("base", name).and_then(|()| check_name("base's version", version)),
    };
    checked.map_err(|error| Error::corrupt("an entry of the share file has an impossible name").because(error))
}

pub(crate) fn check_entry(entry: &Entry) -> Result<()> {
    check_kind(&entry.kind)?;
    entry.base.as_ref().map_or(Ok(()), |base| check_kind(&EntryKind::Base { name: base.name.clone(), version: base.version.clone() }))
}
