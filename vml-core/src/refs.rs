//! Refs: named pointers to entries, replaced by compare-and-swap; what they name is never collected.
//!
//! `areas/NAME` is the newest entry of an area, `tags/NAME` a user's name for an entry, `bases/NAME@VERSION` a base.

pub use crate::name::check_name;

use crate::entry::EntryId;
use bincode::{Decode, Encode};
use std::sync::Arc;
use vml_chunk::codec::{RecordKind, decode_record, encode_record};
use vml_chunk::{Backend, Error, ErrorKind, Result};

const REF_RECORD: RecordKind = RecordKind { number: 3, version: 1, name: "ref" };
/// Where entries are.
pub(crate) const ENTRIES_DIR: &str = "entries";
/// A ref's record is far below this.
const REF_MAX_LEN: u64 = 4096;

/// What a ref is for: its directory.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Encode, Decode)]
pub enum RefKind {
    /// The newest entry of an area.
    Area,
    /// A user's name for an entry.
    Tag,
    /// A base, by `name@version`.
    Base,
}

impl RefKind {
    /// All kinds.
    pub const ALL: [Self; 3] = [Self::Area, Self::Tag, Self::Base];

    fn dir(self) -> &'static str {
        match self {
            Self::Area => "refs/areas",
            Self::Tag => "refs/tags",
            Self::Base => "refs/bases",
        }
    }

    fn name(self) -> &'static str {
        match self {
            Self::Area => "area",
            Self::Tag => "tag",
            Self::Base => "base",
        }
    }
}

#[derive(Encode, Decode)]
struct RefRecord {
    target: EntryId,
}

/// The refs of a repository.
#[derive(Debug, Clone)]
pub struct Refs {
    backend: Arc<dyn Backend>,
}

impl Refs {
    pub(crate) fn new(backend: Arc<dyn Backend>) -> Self {
        Self { backend }
    }

    /// Where a ref points; `None` when there is none of that name.
    ///
    /// # Errors
    /// `InvalidInput` for a name that cannot be one, `Corrupt` for a damaged ref.
    pub fn get(&self, kind: RefKind, name: &str) -> Result<Option<EntryId>> {
        let key = key(kind, name)?;
        target(kind, name, &key, self.backend.read(&key, REF_MAX_LEN))
    }

    /// Points a ref to `new` (`None` deletes it) if it points to `expected` now. The entry is durable before, whoever published it.
    ///
    /// # Errors
    /// `Locked` when it points elsewhere: somebody else was faster.
    pub fn set(&self, kind: RefKind, name: &str, expected: Option<EntryId>, new: Option<EntryId>) -> Result<()> {
        let bytes = |target: Option<EntryId>| target.map(|target| encode_record(REF_RECORD, &RefRecord { target }));
        if new.is_some() {
            self.backend.settle(ENTRIES_DIR)?;
        }
        if self.backend.swap(&key(kind, name)?, bytes(expected).as_deref(), bytes(new).as_deref())? {
            return Ok(());
        }
        Err(Error::new(ErrorKind::Locked, format!("the {} {name:?} was changed by somebody else at the same time", kind.name())))
    }

    /// Makes what others did to refs of a kind durable: whoever moved one may have been killed before he came to do it.
    ///
    /// # Errors
    /// What the backend says.
    pub fn settle(&self, kind: RefKind) -> Result<()> {
        self.backend.settle(kind.dir())
    }

    /// All refs of a kind, sorted by name; damaged ones carry their error.
    ///
    /// # Errors
    /// What the backend says.
    pub fn list(&self, kind: RefKind) -> Result<Vec<(String, Result<EntryId>)>> {
        let mut names: Vec<String> = self.backend.list(kind.dir())?.into_iter().map(|listed| listed.name).collect();
        names.sort_unstable();
        let mut refs = Vec::new();
        // A name that cannot be one has no key, and tells so.
        let keys: Vec<Result<String>> = names.iter().map(|name| key(kind, name)).collect();
        let good: Vec<String> = keys.iter().flatten().cloned().collect();
        let mut read = self.backend.read_many(&good, REF_MAX_LEN).into_iter();
        for (name, key) in names.into_iter().zip(keys) {
            let found = key.and_then(|key| {
                let bytes = read.next().unwrap_or_else(|| Err(Error::not_found(format!("{key} was not read"))));
                target(kind, &name, &key, bytes)
            });
            match found {
                Ok(Some(target)) => refs.push((name, Ok(target))),
                // Deleted since it was listed.
                Ok(None) => {}
                Err(error) => refs.push((name, Err(error))),
            }
        }
        Ok(refs)
    }
}

/// Where a ref points by what was read of it; `None` when it is not there.
fn target(kind: RefKind, name: &str, key: &str, read: Result<Vec<u8>>) -> Result<Option<EntryId>> {
    match read {
        Ok(bytes) => decode_record::<RefRecord>(REF_RECORD, &bytes)
            .map(|record| Some(record.target))
            .map_err(|error| error.context(format!("cannot read the {} {name:?} at {key}", kind.name()))),
        Err(error) if error.kind() == ErrorKind::NotFound => Ok(None),
        Err(error) => Err(error),
    }
}

/// The key of a ref.
pub(crate) fn key(kind: RefKind, name: &str) -> Result<String> {
    match kind {
        RefKind::Base => {
            let (base, version) = split_base(name)?;
            Ok(format!("{}/{base}@{version}", kind.dir()))
        }
        RefKind::Area | RefKind::Tag => {
            check_name(kind.name(), name)?;
            Ok(format!("{}/{name}", kind.dir()))
        }
    }
}

/// The record of a ref.
pub(crate) fn record(target: EntryId) -> Vec<u8> {
    encode_record(REF_RECORD, &RefRecord { target })
}

/// Splits `name@version`.
///
/// # Errors
/// `InvalidInput`.
pub fn split_base(text: &str) -> Result<(&str, &str)> {
    let (name, version) = text
        .split_once('@')
        .ok_or_else(|| Error::invalid(format!("{text:?} is no base: a base is named NAME@VERSION, like debian@12.5")))?;
    check_name("base", name)?;
    check_name("base's version", version)?;
    Ok((name, version))
}
