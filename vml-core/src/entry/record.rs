//! What an entry's record holds; its encoding is that of all records, see `docs/format.md`.

use super::EntryId;
use crate::recipe::Recipe;
use crate::tree::{LeftOut, Node, NodeKind, TreeStats};
use bincode::{Decode, Encode};
use vml_chunk::codec::{RecordKind, decode_record, encode_record};
use vml_chunk::{Error, Result};

/// The record of an entry.
pub const ENTRY_RECORD: RecordKind = RecordKind { number: 2, version: 1, name: "entry" };
/// The record of a note.
pub const NOTE_RECORD: RecordKind = RecordKind { number: 4, version: 1, name: "note" };

/// Whether an entry is a state of somebody's work or a base.
#[derive(Debug, Clone, PartialEq, Eq, Encode, Decode)]
pub enum EntryKind {
    /// A saved state of a working area.
    State {
        /// The area's name.
        area: String,
    },
    /// A base with name and version.
    Base {
        /// For example `debian`.
        name: String,
        /// For example `12.5`.
        version: String,
    },
}

/// The base an entry is relative to.
#[derive(Debug, Clone, PartialEq, Eq, Encode, Decode)]
pub struct BaseRef {
    /// Its name.
    pub name: String,
    /// Its version.
    pub version: String,
    /// Its entry: its identity.
    pub entry: EntryId,
}

/// What saving an entry cost.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Encode, Decode)]
pub struct Cost {
    /// Chunks that were not in the repository before.
    pub new_chunks_count: u64,
    /// Their plain bytes.
    pub new_bytes: u64,
    /// Bytes of the packs written for them.
    pub stored_bytes: u64,
    /// How long it took.
    pub elapsed_ms: u64,
}

/// Something known about host or guest, by name.
#[derive(Debug, Clone, PartialEq, Eq, Encode, Decode)]
pub struct Fact {
    /// For example `host.name` or `guest.os`.
    pub name: String,
    /// Its value.
    pub value: String,
}

/// A name for a numeric owner or group.
#[derive(Debug, Clone, PartialEq, Eq, Encode, Decode)]
pub struct Owner {
    /// The number.
    pub id: u32,
    /// The name in the guest.
    pub name: String,
}

/// A saved directory tree.
#[derive(Debug, Clone, PartialEq, Eq, Encode, Decode)]
pub struct TreePart {
    /// Its root: a directory without a name.
    pub root: Node,
    /// By what its files are known at the next save.
    pub witness: Recipe,
    /// Names of the owners in it, by number.
    pub users: Vec<Owner>,
    /// Names of the groups in it.
    pub groups: Vec<Owner>,
    /// Numbers.
    pub stats: TreeStats,
    /// The patterns that left something out.
    pub exclude: Vec<String>,
    /// What is not in it.
    pub left_out: Vec<LeftOut>,
    /// How many more things are not in it.
    pub left_out_more_count: u64,
}

/// One part of a saved machine.
#[derive(Debug, Clone, PartialEq, Eq, Encode, Decode)]
pub enum Part {
    /// A directory tree.
    Tree(Box<TreePart>),
}

/// One saved state.
#[derive(Debug, Clone, PartialEq, Eq, Encode, Decode)]
pub struct Entry {
    /// What it is a state of.
    pub kind: EntryKind,
    /// The entries it continues; none for the first of an area.
    pub parents: Vec<EntryId>,
    /// The base it is relative to.
    pub base: Option<BaseRef>,
    /// When it was saved: milliseconds since 1970-01-01 00:00 UTC.
    pub time_ms: i64,
    /// Who saved it.
    pub author: String,
    /// Why.
    pub message: String,
    /// Tags it was given at birth; tags as they are now are refs.
    pub tags: Vec<String>,
    /// What was saved.
    pub parts: Vec<Part>,
    /// What it cost.
    pub cost: Cost,
    /// What is known of host and guest.
    pub facts: Vec<Fact>,
}

impl Entry {
    /// The bytes of its record, and its id.
    pub fn encode(&self) -> (EntryId, Vec<u8>) {
        let bytes = encode_record(ENTRY_RECORD, self);
        (EntryId::of(&bytes), bytes)
    }

    /// Reads a record.
    ///
    /// # Errors
    /// `UnsupportedFormat` or `Corrupt`.
    pub fn decode(bytes: &[u8]) -> Result<Self> {
        let entry: Self = decode_record(ENTRY_RECORD, bytes)?;
        for part in &entry.parts {
            let Part::Tree(tree) = part;
            tree.root.check_attributes()?;
            tree.witness.check()?;
            if !tree.root.name.is_empty() || !matches!(tree.root.kind, NodeKind::Directory(_)) {
                return Err(Error::corrupt("the entry's tree has no directory as its root"));
            }
        }
        Ok(entry)
    }

    /// Its tree, if it has one.
    pub fn tree(&self) -> Option<&TreePart> {
        self.parts.iter().map(|Part::Tree(tree)| tree.as_ref()).next()
    }

    /// The area's name, or the base's `name@version`.
    pub fn origin(&self) -> String {
        match &self.kind {
            EntryKind::State { area } => area.clone(),
            EntryKind::Base { name, version } => format!("{name}@{version}"),
        }
    }
}

/// A remark on an entry, written later; notes lie beside entries and never change them.
#[derive(Debug, Clone, PartialEq, Eq, Encode, Decode)]
pub struct Note {
    /// The entry.
    pub entry: EntryId,
    /// When it was written: milliseconds since 1970-01-01 00:00 UTC.
    pub time_ms: i64,
    /// Who wrote it.
    pub author: String,
    /// What.
    pub text: String,
}
