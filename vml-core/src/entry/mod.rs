//! Entries: one saved state each, immutable, named by the hash of its record.
//!
//! An entry says what was saved (its parts), relative to which base, after which parent, by whom, when and why, and what
//! it cost. Its record is written last, after everything it names is durable, so an entry that can be read is whole.

mod id;
mod record;

pub use id::EntryId;
pub use record::{
    BaseRef, Cost, DiskPart, ENTRY_RECORD, Entry, EntryKind, Fact, MACHINE_MAX_LEN, MachinePart, MemoryPart, NOTE_RECORD, Note, Owner,
    Part, TreePart, VolumePart,
};
