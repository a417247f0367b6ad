//! From what a user types to an entry.

use super::Repository;
use crate::entry::EntryId;
use crate::refs::{RefKind, check_name};
use vml_chunk::{Error, ErrorKind, Result};

/// Shortest prefix of an id that is taken for one.
const PREFIX_MIN: usize = 4;

impl Repository {
    /// Finds the entry that `name` means: `AREA@latest`, `AREA@~N` (N entries before the latest), `BASE:NAME@VERSION`, a
    /// tag, or a unique prefix of an id.
    ///
    /// # Errors
    /// `NotFound`, or `InvalidInput` when several entries match, naming them.
    pub fn resolve(&self, name: &str) -> Result<EntryId> {
        if let Some(base) = name.strip_prefix("BASE:").or_else(|| name.strip_prefix("base:")) {
            let target = self.refs().get(RefKind::Base, base)?;
            return target.ok_or_else(|| Error::not_found(format!("there is no base {base:?}")));
        }
        if let Some((area, which)) = name.split_once('@') {
            return self.resolve_in_area(area, which);
        }
        let tag = if check_name("tag", name).is_ok() { self.refs().get(RefKind::Tag, name)? } else { None };
        let is_prefix = name.len() >= PREFIX_MIN && name.len() <= 64 && name.bytes().all(|byte| matches!(byte, b'0'..=b'9' | b'a'..=b'f'));
        let mut matches = Vec::new();
        if is_prefix {
            matches = self.entry_ids()?;
            matches.retain(|id| id.to_string().starts_with(name));
        }
        if let Some(tagged) = tag
            && !matches.contains(&tagged)
        {
            matches.push(tagged);
        }
        matches.sort_unstable();
        match matches.as_slice() {
            [one] => Ok(*one),
            [] if name.len() < PREFIX_MIN => {
                Err(Error::not_found(format!("there is no tag {name:?}, and a prefix of an id has at least {PREFIX_MIN} digits")))
            }
            [] => Err(Error::not_found(format!("{name:?} is neither a tag nor the beginning of an entry's id"))),
            several => {
                let shown: Vec<String> =
                    several.iter().take(5).map(|id| id.to_string()[..(name.len() + 4).clamp(10, 64)].to_owned()).collect();
                let more = if several.len() > 5 { ", ..." } else { "" };
                Err(Error::invalid(format!("{name:?} could be {} entries: {}{more}", several.len(), shown.join(", "))))
            }
        }
    }

    fn resolve_in_area(&self, area: &str, which: &str) -> Result<EntryId> {
        let steps = match which.strip_prefix('~') {
            None if which == "latest" => Some(0),
            None => None,
            Some("") => Some(1),
            Some(steps) => steps.parse::<usize>().ok(),
        };
        let steps = steps.ok_or_else(|| {
            Error::invalid(format!("{which:?} after {area}@ is neither \"latest\" nor \"~N\"; a base is written BASE:{area}@{which}"))
        })?;
        let latest = self.refs().get(RefKind::Area, area)?;
        let mut id = latest.ok_or_else(|| Error::not_found(format!("the area {area:?} has no entry in this repository")))?;
        for step in 0..steps {
            let parent = self.previous(&self.entry(&id)?)?;
            id = parent.ok_or_else(|| {
                let count = if step == 0 { "1 entry".to_owned() } else { format!("{} entries", step + 1) };
                Error::new(ErrorKind::NotFound, format!("the area {area:?} has {count} only"))
            })?;
        }
        Ok(id)
    }
}
