//! Refs that cannot be read, or that point to what is gone.
//!
//! An area is pointed to its newest entry that can be read, a base to the newest of its name and version, a tag to the newest entry that was given it when it was
//! saved. Where there is none it is taken away. A ref to an entry whose record is damaged stays, but for that of an area: the record may be fetched, and
//! nobody can save on from it.

use super::super::Repository;
use super::records::{RecordFix, RecordPlan};
use crate::entry::{EntryId, EntryKind};
use crate::refs::{RefKind, key as ref_key, record as ref_record};
use std::collections::HashMap;
use vml_chunk::{ErrorKind, Result};

/// The newest entries by what they are of.
#[derive(Default)]
struct Newest {
    by_name: HashMap<(RefKind, String), (i64, EntryId)>,
}

impl Newest {
    fn offer(&mut self, kind: RefKind, name: String, time_ms: i64, id: EntryId) {
        let newest = self.by_name.entry((kind, name)).or_insert((time_ms, id));
        *newest = (*newest).max((time_ms, id));
    }
}

impl Repository {
    /// What becomes of refs that lead nowhere.
    pub(super) fn plan_refs(&self) -> Result<Vec<RecordPlan>> {
        let mut broken = Vec::new();
        for kind in RefKind::ALL {
            for (name, target) in self.refs().list(kind)? {
                let reason = match target {
                    Ok(id) => match self.why_unreadable(&id, kind)? {
                        Some(reason) => reason,
                        None => continue,
                    },
                    Err(error) if error.kind() == ErrorKind::Corrupt => super::describe(&error),
                    // A newer program's, or a name that can be none.
                    Err(_) => continue,
                };
                broken.push((kind, name, reason));
            }
        }
        if broken.is_empty() {
            return Ok(Vec::new());
        }
        let mut newest = Newest::default();
        for (id, entry) in self.entries(&self.entry_ids()?) {
            let Ok(entry) = entry else { continue };
            for tag in entry.tags {
                newest.offer(RefKind::Tag, tag, entry.time_ms, id);
            }
            match entry.kind {
                EntryKind::State { area } => newest.offer(RefKind::Area, area, entry.time_ms, id),
                EntryKind::Base { name, version } => newest.offer(RefKind::Base, format!("{name}@{version}"), entry.time_ms, id),
            }
        }
        let mut plans = Vec::new();
        for (kind, name, reason) in broken {
            let key = ref_key(kind, &name)?;
            let found = match self.backend.map(&key) {
                Ok(mapped) => mapped.as_ref().to_vec(),
                Err(error) if error.kind() == ErrorKind::NotFound => continue,
                Err(error) => return Err(error),
            };
            let fix = match newest.by_name.get(&(kind, name)) {
                Some((_, id)) => RecordFix::Set(ref_record(*id), format!("it points to entry {}, the newest that can be read", id.short())),
                None => RecordFix::TakeAway("no entry that can be read is of this name".to_owned()),
            };
            plans.push(RecordPlan { key, found, reason, fix });
        }
        Ok(plans)
    }

    /// Why a ref cannot stay where it points to.
    fn why_unreadable(&self, id: &EntryId, kind: RefKind) -> Result<Option<String>> {
        if self.is_forgotten(id).unwrap_or(false) {
            return Ok(Some(format!("it points to entry {}, which was forgotten", id.short())));
        }
        match self.entry(id) {
            Err(error) if error.kind() == ErrorKind::NotFound => Ok(Some(format!("it points to entry {}, which is missing", id.short()))),
            Err(error) if error.kind() == ErrorKind::Corrupt && kind == RefKind::Area => {
                Ok(Some(format!("it points to entry {}, whose record is damaged", id.short())))
            }
            Err(error) if matches!(error.kind(), ErrorKind::Io | ErrorKind::PermissionDenied) => Err(error),
            _ => Ok(None),
        }
    }
}
