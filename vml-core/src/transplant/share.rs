//! Writes a share file of a repository that names its chunks by a key.
//!
//! ```text
//! entries, what the receiver has ──► carried into a scratch repository with plain names ──► share file
//! ```
//! What the receiver is said to have is carried as well: a thin file leaves out chunks by their plain names, and those are known from nothing but the content.

use super::{Bringer, TransplantRequest, plan_transplant, transplant};
use crate::entry::EntryId;
use crate::monitor::Monitor;
use crate::refs::RefKind;
use crate::remote::TransferRequest;
use crate::repository::Repository;
use crate::share::{ShareRequest, Shared, share};
use std::collections::BTreeSet;
use std::io::Write;
use vml_chunk::{Error, ErrorKind, Result};

/// Writes the entries of `request` to `out`. `scratch` is an empty repository without encryption; nobody needs it afterwards.
///
/// Entries get other ids on the way, the same ones each time: they follow from what an entry holds, its base, and those of its parents that are carried with it.
///
/// # Errors
/// As [`share`], and as [`transplant`].
///
/// # Cost
/// The scratch repository gets the entries and all that the file leaves out.
pub fn share_through(
    scratch: &Repository,
    repository: &Repository,
    request: &ShareRequest<'_>,
    out: &mut dyn Write,
    monitor: &dyn Monitor,
) -> Result<Shared> {
    let mut ids: BTreeSet<EntryId> = request.entries.iter().chain(request.since).copied().collect();
    for id in request.entries.iter().chain(request.since) {
        let Some(base) = repository.entry(id)?.base else { continue };
        match repository.entry(&base.entry) {
            Ok(_) => _ = ids.insert(base.entry),
            // It was received upon an equal base of that name, which stands for it.
            Err(error) if error.kind() == ErrorKind::NotFound => {
                ids.extend(repository.refs().get(RefKind::Base, &format!("{}@{}", base.name, base.version))?);
            }
            Err(error) => return Err(error),
        }
    }
    let ids: Vec<EntryId> = ids.into_iter().collect();
    let what = TransferRequest { entries: &ids, history: false, marks: false };
    let from = Bringer::Remote { name: "here", trusted: true };
    let carrying = TransplantRequest { what, from, time_ms: request.time_ms, verify: false, lineage: &[] };
    let mut plan = plan_transplant(repository, scratch, &what, monitor)?;
    transplant(&mut plan, &carrying, monitor)?;
    let mut carried = |ids: &[EntryId]| -> Result<Vec<EntryId>> {
        let mut found = Vec::new();
        for id in ids {
            let there = plan.counterparts.of(id)?;
            found.push(there.ok_or_else(|| Error::not_found(format!("entry {} was not carried over", id.short())))?.id);
        }
        Ok(found)
    };
    let (entries, since) = (carried(request.entries)?, carried(request.since)?);
    share(scratch, &ShareRequest { entries: &entries, since: &since, ..*request }, out, monitor)
}
