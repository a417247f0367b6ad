//! Small records that cannot be read: what is done with each.
//!
//! | record | what it becomes |
//! |---|---|
//! | entry | fetched from a source; else it stays, listed and unreadable |
//! | note | fetched from a source; else taken away |
//! | policy | the strict one: nothing is taken that no trusted key has signed |
//! | quarantine | an empty list of a generation that none has seen |
//! | intent | taken away: nobody can commit it, and its writer begins anew |
//! | lease | taken away: it is a favour |
//! | forgotten entry | that it was forgotten, if its file is gone; else that it came back |
//! | what is damaged | that anything may be, until a check finds what is |
//!
//! Each is swapped against the bytes that were found, so that whoever changed it meanwhile wins.

use super::super::commit::SAVING_DIR;
use super::super::forgotten::FORGOTTEN_DIR;
use super::super::policy::POLICY_KEY;
use super::super::{NOTES_DIR, POLICY_RECORD, Policy, RECORD_MAX_LEN, Repository, describe};
use super::{RepairSource, Repaired};
use crate::entry::{EntryId, NOTE_RECORD, Note};
use crate::monitor::{Monitor, Problem};
use crate::refs::ENTRIES_DIR;
use vml_chunk::codec::{RecordKind, decode_record, encode_record};
use vml_chunk::store::{
    DAMAGE_KEY, DAMAGE_RECORD, Damage, LEASE_RECORD, LEASES_DIR, LeaseRecord, QUARANTINE_KEY, QUARANTINE_RECORD, Quarantine,
};
use vml_chunk::{Error, ErrorKind, Result};

/// So much higher is the generation of a list of what goes that was lost.
const GENERATIONS: u64 = 1 << 32;

/// What becomes of a record.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum RecordFix {
    /// It is set to these bytes, which say this.
    Set(Vec<u8>, String),
    /// It is taken away, because of this.
    TakeAway(String),
    /// An entry's: fetched, or it stays.
    FetchEntry(EntryId),
    /// A note's: fetched, or taken away.
    FetchNote(EntryId, [u8; 32]),
}

impl RecordFix {
    /// Whether something may be taken away.
    pub fn takes_away(&self) -> bool {
        matches!(self, Self::TakeAway(_) | Self::FetchNote(..))
    }
}

/// A small record that is going to be changed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RecordPlan {
    /// Its key.
    pub key: String,
    /// Its bytes as they were found.
    pub found: Vec<u8>,
    /// What is wrong with it.
    pub reason: String,
    /// What becomes of it.
    pub fix: RecordFix,
}

impl Repository {
    /// What becomes of records that cannot be read; refs come later.
    pub(super) fn plan_records(&self) -> Result<Vec<RecordPlan>> {
        let mut plans = Vec::new();
        let entries = self.backend.list(ENTRIES_DIR)?.into_iter().filter_map(|listed| listed.name.parse::<EntryId>().ok());
        for id in entries {
            let check = |bytes: &[u8]| super::super::decode_entry(&id, bytes).map(|_| ());
            self.plan_one(&format!("{ENTRIES_DIR}/{id}"), &check, &mut plans, &mut |_| RecordFix::FetchEntry(id))?;
        }
        for listed in self.backend.list(NOTES_DIR)? {
            let parts = listed
                .name
                .split_once('-')
                .and_then(|(entry, digest)| Some((entry.parse::<EntryId>().ok()?, vml_chunk::id::parse_hex(digest).ok()?)));
            let Some((entry, digest)) = parts else { continue };
            let check = |bytes: &[u8]| check_note(&entry, &digest, bytes);
            self.plan_one(&format!("{NOTES_DIR}/{}", listed.name), &check, &mut plans, &mut |_| RecordFix::FetchNote(entry, digest))?;
        }
        let strict = Policy { require_signed: true, ..Policy::default() };
        let policy = encode_record(POLICY_RECORD, &strict);
        self.plan_one(POLICY_KEY, &decodes::<Policy>(POLICY_RECORD), &mut plans, &mut |_| {
            RecordFix::Set(
                policy.clone(),
                "only what a trusted key has signed is taken, and packs get no parity; set it as it was".to_owned(),
            )
        })?;
        let unknown = encode_record(DAMAGE_RECORD, &Damage { unknown: true, ..Damage::default() });
        self.plan_one(DAMAGE_KEY, &decodes::<Damage>(DAMAGE_RECORD), &mut plans, &mut |_| {
            RecordFix::Set(unknown.clone(), "anything may be damaged, until a check has looked".to_owned())
        })?;
        let mut generation = 0;
        for listed in self.backend.list(LEASES_DIR)? {
            let key = format!("{LEASES_DIR}/{}", listed.name);
            let mut check = |bytes: &[u8]| {
                generation = generation.max(decode_record::<LeaseRecord>(LEASE_RECORD, bytes)?.generation);
                Ok(())
            };
            self.plan_with(&key, &mut check, &mut plans, &mut |_| RecordFix::TakeAway("its writer goes on without it".to_owned()))?;
        }
        for listed in self.backend.list(SAVING_DIR)? {
            let Ok(id) = listed.name.parse::<EntryId>() else { continue };
            let mut check = |bytes: &[u8]| {
                generation = generation.max(super::super::commit::check_intent(&id, bytes)?);
                Ok(())
            };
            let fix = &mut |_: &[u8]| RecordFix::TakeAway("nobody can commit it, and its writer begins anew".to_owned());
            self.plan_with(&format!("{SAVING_DIR}/{id}"), &mut check, &mut plans, fix)?;
        }
        let list = Quarantine { generation: generation.saturating_add(GENERATIONS), ..Quarantine::default() };
        let list = encode_record(QUARANTINE_RECORD, &list);
        self.plan_one(QUARANTINE_KEY, &decodes::<Quarantine>(QUARANTINE_RECORD), &mut plans, &mut |_| {
            RecordFix::Set(list.clone(), "no pack is being taken away; no collection may be running".to_owned())
        })?;
        for listed in self.backend.list(FORGOTTEN_DIR)? {
            let Ok(id) = listed.name.parse::<EntryId>() else { continue };
            let is_there = self.backend.len(&format!("{ENTRIES_DIR}/{id}")).is_ok();
            let (bytes, says) = super::super::forgotten::mended_record(is_there);
            let check = |bytes: &[u8]| super::super::forgotten::check_forgotten(bytes);
            self.plan_one(&format!("{FORGOTTEN_DIR}/{id}"), &check, &mut plans, &mut |_| RecordFix::Set(bytes.clone(), says.to_owned()))?;
        }
        Ok(plans)
    }

    fn plan_one(
        &self,
        key: &str,
        check: &dyn Fn(&[u8]) -> Result<()>,
        plans: &mut Vec<RecordPlan>,
        fix: &mut dyn FnMut(&[u8]) -> RecordFix,
    ) -> Result<()> {
        self.plan_with(key, &mut |bytes| check(bytes), plans, fix)
    }

    fn plan_with(
        &self,
        key: &str,
        check: &mut dyn FnMut(&[u8]) -> Result<()>,
        plans: &mut Vec<RecordPlan>,
        fix: &mut dyn FnMut(&[u8]) -> RecordFix,
    ) -> Result<()> {
        // In one piece, because it is swapped.
        let mapped = match self.backend.map(key) {
            Ok(mapped) => mapped,
            Err(error) if error.kind() == ErrorKind::NotFound => return Ok(()),
            Err(error) => return Err(error),
        };
        let bytes = mapped.as_ref();
        let checked = if bytes.len() as u64 > 2 * RECORD_MAX_LEN { Err(Error::corrupt("it is too long")) } else { check(bytes) };
        match checked {
            Ok(()) => {}
            // What a newer program wrote is not touched; a check tells of it.
            Err(error) if error.kind() == ErrorKind::UnsupportedFormat => {}
            Err(error) => {
                plans.push(RecordPlan { key: key.to_owned(), found: bytes.to_vec(), reason: describe(&error), fix: fix(bytes) });
            }
        }
        Ok(())
    }

    /// Does what was planned, unless somebody else changed the record meanwhile.
    pub(super) fn fix_records(
        &self,
        plans: &[RecordPlan],
        sources: &[&dyn RepairSource],
        repaired: &mut Repaired,
        monitor: &dyn Monitor,
    ) -> Result<()> {
        for plan in plans {
            let (new, what) = match &plan.fix {
                RecordFix::Set(bytes, says) => (Some(bytes.clone()), says.clone()),
                RecordFix::TakeAway(why) => (None, format!("taken away: {why}")),
                RecordFix::FetchEntry(id) => {
                    match self.fetch(sources, monitor, &|source| source.entry(id), &|bytes| EntryId::of(bytes) == *id) {
                        Some((bytes, name)) => {
                            repaired.fetched_entries_count += 1;
                            (Some(bytes), format!("fetched from {name}"))
                        }
                        // The check tells that it cannot be read.
                        None => continue,
                    }
                }
                RecordFix::FetchNote(entry, digest) => {
                    let is_it = |bytes: &[u8]| check_note(entry, digest, bytes).is_ok();
                    match self.fetch(sources, monitor, &|source| source.note(entry, digest), &is_it) {
                        Some((bytes, name)) => (Some(bytes), format!("fetched from {name}")),
                        None => (None, "taken away: what it said is lost".to_owned()),
                    }
                }
            };
            if self.backend.swap(&plan.key, Some(&plan.found), new.as_deref())? {
                repaired.records.push((plan.key.clone(), what));
            } else {
                monitor.notice(&format!("{} was changed by somebody else meanwhile", plan.key));
            }
        }
        Ok(())
    }

    fn fetch(
        &self,
        sources: &[&dyn RepairSource],
        monitor: &dyn Monitor,
        ask: Ask<'_>,
        is_it: &dyn Fn(&[u8]) -> bool,
    ) -> Option<(Vec<u8>, String)> {
        sources.iter().find_map(|source| match ask(*source) {
            Ok(bytes) => bytes.filter(|bytes| is_it(bytes)).map(|bytes| (bytes, source.name())),
            Err(error) => {
                monitor.problem(Problem { subject: source.name(), message: describe(&error) });
                None
            }
        })
    }
}

/// Asks a source for a record.
type Ask<'a> = &'a dyn Fn(&dyn RepairSource) -> Result<Option<Vec<u8>>>;

fn decodes<T: bincode::Encode + bincode::Decode<()>>(kind: RecordKind) -> impl Fn(&[u8]) -> Result<()> {
    move |bytes| decode_record::<T>(kind, bytes).map(|_| ())
}

/// The name of a note's file is the entry and the digest of the record.
fn check_note(entry: &EntryId, digest: &[u8; 32], bytes: &[u8]) -> Result<()> {
    let note = decode_record::<Note>(NOTE_RECORD, bytes)?;
    if note.entry == *entry && blake3::hash(bytes).as_bytes() == digest {
        return Ok(());
    }
    Err(Error::corrupt("the note does not match its name: its bytes have changed since it was written"))
}
