//! Which entries are to be carried.

use super::counterparts::Counterparts;
use crate::entry::EntryId;
use crate::monitor::Monitor;
use crate::remote::{OpenRemote, TransferPlan, TransferRequest, plan_transfer_to};
use crate::repository::Repository;
use std::collections::HashSet;
use vml_chunk::Result;

/// What a transplant would bring.
pub struct TransplantPlan<'a> {
    pub(super) source: &'a Repository,
    pub(super) target: &'a Repository,
    pub(super) counterparts: Counterparts<'a>,
    /// The entries that the target lacks, each after those that it continues, and those of the request that it has.
    pub plan: TransferPlan,
}

impl TransplantPlan<'_> {
    /// Entries of the source that the target has as its own and that those of the plan continue or are relative to.
    ///
    /// # Errors
    /// What the target says.
    pub fn known(&mut self) -> Result<Vec<EntryId>> {
        let before =
            self.plan.entries.iter().flat_map(|(_, entry)| entry.parents.iter().copied().chain(entry.base.iter().map(|base| base.entry)));
        let before: HashSet<EntryId> = before.collect();
        let mut known = Vec::new();
        for id in before {
            if self.counterparts.of(&id)?.is_some() {
                known.push(id);
            }
        }
        known.sort_unstable();
        Ok(known)
    }
}

/// Looks which entries the target lacks, under whatever id.
///
/// # Errors
/// `NotFound` for an entry that the source does not have, else what either repository says.
pub fn plan_transplant<'a>(
    source: &'a Repository,
    target: &'a Repository,
    request: &TransferRequest<'_>,
    monitor: &dyn Monitor,
) -> Result<TransplantPlan<'a>> {
    let mut counterparts = Counterparts::new(source, target, monitor)?;
    let from = OpenRemote::new(source, "", false, 0).telling(monitor);
    let mut there = |ids: &[EntryId]| -> Result<HashSet<EntryId>> {
        let mut found = HashSet::new();
        for id in ids {
            if counterparts.of(id)?.is_some() {
                found.insert(*id);
            }
        }
        Ok(found)
    };
    let plan = plan_transfer_to(&from, &mut there, request)?;
    Ok(TransplantPlan { source, target, counterparts, plan })
}
