//! What an entry's record holds; its encoding is that of all records, see `docs/format.md`.

use super::EntryId;
use crate::disk::{DiskStats, Layer};
use crate::name::check_name;
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

impl Fact {
    /// What is known under `name`.
    pub fn new(name: impl Into<String>, value: impl Into<String>) -> Self {
        Self { name: name.into(), value: value.into() }
    }

    /// What is known under `name` among `facts`.
    pub fn find<'f>(facts: &'f [Self], name: &str) -> Option<&'f str> {
        facts.iter().find(|fact| fact.name == name).map(|fact| fact.value.as_str())
    }
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

/// A run of a disk with a file system of its own.
#[derive(Debug, Clone, PartialEq, Eq, Encode, Decode)]
pub struct VolumePart {
    /// The partition's number; 0 where the whole disk is one volume.
    pub number: u32,
    /// Where it begins, in bytes.
    pub offset: u64,
    /// Its length in bytes.
    pub len: u64,
    /// For example `ext4`.
    pub file_system: String,
    /// Its label, often empty.
    pub label: String,
}

/// A saved disk: what the guest sees of it.
#[derive(Debug, Clone, PartialEq, Eq, Encode, Decode)]
pub struct DiskPart {
    /// By what the machine's disks are told apart.
    pub name: String,
    /// The format of the image it was read from, for example `qcow2`.
    pub format: String,
    /// What rebuilds it.
    pub recipe: Recipe,
    /// Numbers.
    pub stats: DiskStats,
    /// The images it was read from, topmost first, by what they are known at the next save; none when they may have
    /// changed unnoticed.
    pub layers: Vec<Layer>,
    /// What is on it, as far as it was recognised.
    pub volumes: Vec<VolumePart>,
}

/// A description of the machine, as its hypervisor understands it.
#[derive(Debug, Clone, PartialEq, Eq, Encode, Decode)]
pub struct MachinePart {
    /// The name of its file.
    pub name: String,
    /// The file.
    pub bytes: Vec<u8>,
}

/// The memory of a machine that was running, at the moment of its disks.
#[derive(Debug, Clone, PartialEq, Eq, Encode, Decode)]
pub struct MemoryPart {
    /// The layout of its file, for example `qemu-mapped-ram`.
    pub format: String,
    /// What rebuilds the file.
    pub recipe: Recipe,
    /// Numbers.
    pub stats: DiskStats,
    /// What is needed to resume it.
    pub facts: Vec<Fact>,
}

/// Longest description of a machine, in bytes.
pub const MACHINE_MAX_LEN: usize = 1 << 20;

/// One part of a saved machine.
#[derive(Debug, Clone, PartialEq, Eq, Encode, Decode)]
pub enum Part {
    /// A directory tree.
    Tree(Box<TreePart>),
    /// A disk.
    Disk(Box<DiskPart>),
    /// A description of the machine.
    Machine(MachinePart),
    /// Its memory.
    Memory(Box<MemoryPart>),
}

impl Part {
    fn check(&self) -> Result<()> {
        match self {
            Self::Tree(tree) => {
                tree.root.check_attributes()?;
                tree.witness.check()?;
                if !tree.root.name.is_empty() || !matches!(tree.root.kind, NodeKind::Directory(_)) {
                    return Err(Error::corrupt("the entry's tree has no directory as its root"));
                }
                Ok(())
            }
            Self::Disk(disk) => disk.recipe.check().and_then(|()| check_part_name(&disk.name)),
            // A file of this name is written when the entry is built.
            Self::Machine(machine) => check_part_name(&machine.name),
            Self::Memory(memory) => memory.recipe.check(),
        }
    }
}

fn check_part_name(name: &str) -> Result<()> {
    check_name("disk", name).map_err(|_| Error::corrupt(format!("a part of the entry has the name {name:?}, which no file may have")))
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
        for (i, part) in entry.parts.iter().enumerate() {
            part.check()?;
            let same = |other: &Part| match (part, other) {
                (Part::Disk(disk), Part::Disk(other)) => disk.name == other.name,
                _ => std::mem::discriminant(part) == std::mem::discriminant(other),
            };
            if entry.parts[..i].iter().any(same) {
                return Err(Error::corrupt("the entry has a part twice"));
            }
        }
        Ok(entry)
    }

    /// Its tree, if it has one.
    pub fn tree(&self) -> Option<&TreePart> {
        self.parts.iter().find_map(|part| if let Part::Tree(tree) = part { Some(tree.as_ref()) } else { None })
    }

    /// Its disks.
    pub fn disks(&self) -> impl Iterator<Item = &DiskPart> {
        self.parts.iter().filter_map(|part| if let Part::Disk(disk) = part { Some(disk.as_ref()) } else { None })
    }

    /// The description of its machine, if it has one.
    pub fn machine(&self) -> Option<&MachinePart> {
        self.parts.iter().find_map(|part| if let Part::Machine(machine) = part { Some(machine) } else { None })
    }

    /// Its memory, if it has one.
    pub fn memory(&self) -> Option<&MemoryPart> {
        self.parts.iter().find_map(|part| if let Part::Memory(memory) = part { Some(memory.as_ref()) } else { None })
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
