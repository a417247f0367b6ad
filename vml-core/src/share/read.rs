//! Reads what stands before the frames of a share file: what it is, its entries, what it needs.

use super::section::{SectionKind, SectionReader};
use super::{Head, check_entry};
use crate::entry::{Entry, EntryId};
use std::io::Read;
use vml_chunk::codec::{RecordKind, decode_record};
use vml_chunk::{Error, Result};

/// The record of a share file's head.
pub const SHARE_HEAD_RECORD: RecordKind = RecordKind { number: 16, version: 1, name: "share file's head" };

/// What a share file says before its frames. Its sections were checked; who signed it is known at its end only.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Preface {
    /// What it is.
    pub head: Head,
    /// Its entries, in the order of the head.
    pub entries: Vec<(EntryId, Entry)>,
    /// Records of what it needs, as far as it has them.
    pub needed: Vec<(EntryId, Entry)>,
}

/// Puts a preface together from sections in their order.
#[derive(Default)]
pub(super) struct PrefaceBuilder {
    head: Option<Head>,
    entries: Vec<(EntryId, Entry)>,
    needed: Vec<(EntryId, Entry)>,
}

impl PrefaceBuilder {
    /// Takes a section; false when it belongs to what follows the preface.
    pub(super) fn push(&mut self, kind: SectionKind, payload: &[u8]) -> Result<bool> {
        let misplaced = || Error::corrupt("the sections of the share file are not in their order");
        let Some(head) = &self.head else {
            if kind != SectionKind::Head {
                return Err(misplaced());
            }
            let head: Head = decode_record(SHARE_HEAD_RECORD, payload)?;
            head.check()?;
            self.head = Some(head);
            return Ok(true);
        };
        let missing = self.entries.len() < head.entries.len();
        match kind {
            SectionKind::Entry if missing => {
                let id = EntryId::of(payload);
                if head.entries.get(self.entries.len()) != Some(&id) {
                    return Err(Error::corrupt("the share file has another entry than it says"));
                }
                let entry = Entry::decode(payload)?;
                check_entry(&entry)?;
                self.entries.push((id, entry));
                Ok(true)
            }
            SectionKind::Needed if !missing => {
                let id = EntryId::of(payload);
                let named = head.needs.iter().any(|need| need.entry == id);
                if !named || self.needed.iter().any(|(other, _)| *other == id) {
                    return Err(Error::corrupt("the share file has the record of an entry that it does not name"));
                }
                let entry = Entry::decode(payload)?;
                check_entry(&entry)?;
                self.needed.push((id, entry));
                Ok(true)
            }
            SectionKind::Meta | SectionKind::Data | SectionKind::Solid | SectionKind::Table if !missing => Ok(false),
            _ => Err(misplaced()),
        }
    }

    pub(super) fn finish(self) -> Result<Preface> {
        let head = self.head.ok_or_else(|| Error::corrupt("the share file has no head"))?;
        Ok(Preface { head, entries: self.entries, needed: self.needed })
    }
}

/// A section that was read.
pub(super) type SectionRead = (SectionKind, Vec<u8>);

/// Reads a preface, and the first section behind it.
pub(super) fn read_preface_from(sections: &mut SectionReader<'_>) -> Result<(Preface, SectionRead)> {
    let mut builder = PrefaceBuilder::default();
    loop {
        let (kind, payload) = sections.next()?;
        if !builder.push(kind, &payload)? {
            return Ok((builder.finish()?, (kind, payload)));
        }
    }
}

/// Reads what stands before the frames, from any stream.
///
/// # Errors
/// `InvalidInput` for what is no share file, `UnsupportedFormat` for a newer one, else `Corrupt` and what `reader` says.
pub fn read_preface(reader: &mut dyn Read) -> Result<Preface> {
    Ok(read_preface_from(&mut SectionReader::new(reader)?)?.0)
}
