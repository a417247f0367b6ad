//! Receives a share file of a repository that cuts otherwise.
//!
//! ```text
//! file ──► received into a scratch repository that cuts like its source ──► carried over into this one
//!              ▲ what the file needs, carried there from this one
//! ```
//! A thin file leaves out chunks by the names they have where it was made, so what it needs is cut once more as it is cut there. All that a file is checked for is checked
//! before anything of it comes here.

use super::counterparts::origin_of;
use super::{Bringer, TransplantRequest, plan_transplant, transplant};
use crate::entry::{EntryId, EntryKind};
use crate::monitor::Monitor;
use crate::refs::RefKind;
use crate::remote::TransferRequest;
use crate::repository::Repository;
use crate::share::{Need, Preface, ReceiveOptions, Received, ReceivedEntry, receive};
use std::io::Read;
use vml_chunk::Result;

/// Receives the share file that `reader` reads from its beginning and whose preface is known. `scratch` is an empty repository whose
/// [`Config`](crate::Config) has the chunker and the `inline_max` of the file's head; nobody needs it afterwards.
///
/// # Errors
/// As [`receive`], and as [`transplant`].
///
/// # Cost
/// The scratch repository gets what is in the file and what the file needs.
pub fn receive_through(
    scratch: &Repository,
    repository: &Repository,
    preface: &Preface,
    reader: &mut dyn Read,
    options: &ReceiveOptions<'_>,
    monitor: &dyn Monitor,
) -> Result<Received> {
    let mut known = Vec::new();
    for need in &preface.head.needs {
        let Some(own) = own_of(repository, need, monitor)? else { continue };
        let from = Bringer::Remote { name: "here", trusted: true };
        let entries = [own];
        let request = TransplantRequest { what: what(&entries), from, time_ms: options.time_ms, verify: false, lineage: &[] };
        transplant(&mut plan_transplant(repository, scratch, &request.what, monitor)?, &request, monitor)?;
        known.push((need.entry, own));
    }
    let require_signed = options.require_signed || repository.policy()?.require_signed;
    let received = receive(scratch, reader, &ReceiveOptions { require_signed, ..*options }, monitor)?;
    let ids: Vec<EntryId> = received.entries.iter().map(|got| got.id).collect();
    let lineage = &preface.head.lineage;
    let request = TransplantRequest { what: what(&ids), from: Bringer::AsReceived, time_ms: options.time_ms, verify: false, lineage };
    let mut plan = plan_transplant(scratch, repository, &request.what, monitor)?;
    for (there, here) in known {
        plan.counterparts.set(there, here);
    }
    let done = transplant(&mut plan, &request, monitor)?;
    let mut entries: Vec<ReceivedEntry> = Vec::new();
    for got in &received.entries {
        entries.push(match done.entries.iter().find(|carried| carried.from == got.id) {
            Some(carried) => {
                let (arrived, entry) = (&carried.arrived, carried.entry.clone());
                ReceivedEntry { id: arrived.id, entry, new: arrived.new, placed: arrived.placed.clone() }
            }
            // It was here already.
            None => {
                let here = plan.counterparts.of(&got.id)?.map_or(got.id, |here| here.id);
                ReceivedEntry { id: here, entry: repository.entry(&here)?, new: false, placed: None }
            }
        });
    }
    Ok(Received { entries, new_chunks_count: done.stats.new_chunks, stored_bytes: done.stats.stored_bytes, ..received })
}

fn what(entries: &[EntryId]) -> TransferRequest<'_> {
    TransferRequest { entries, history: false, marks: false }
}

/// What this repository has of what a file needs: an entry that was carried here, or the base of that name.
fn own_of(repository: &Repository, need: &Need, monitor: &dyn Monitor) -> Result<Option<EntryId>> {
    let notes = repository.notes(monitor)?;
    if let Some(note) = notes.into_values().flatten().find(|note| origin_of(note) == Some(need.entry)) {
        return Ok(Some(note.entry));
    }
    match &need.kind {
        EntryKind::Base { .. } => repository.refs().get(RefKind::Base, &need.origin()),
        EntryKind::State { .. } => Ok(None),
    }
}
