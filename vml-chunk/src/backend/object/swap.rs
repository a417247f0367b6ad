//! Compare-and-swap by ETag.

use super::put::Put;
use super::{Shared, TOMBSTONE, is_tombstone};
use crate::error::{Error, ErrorKind, Result};
use object_store::{PutMode, PutPayload};
use std::sync::Arc;

/// Longest file that is swapped.
const SWAPPED_MAX: u64 = 64 << 20;
/// Times that a swap is tried on a file that reads as expected and is changed at that moment, each time by somebody who got on.
const TRIES: usize = 100;

impl Shared {
    pub(super) fn swap(&self, key: &str, expected: Option<&[u8]>, new: Option<&[u8]>) -> Result<bool> {
        let path = self.path(key)?;
        refuse_length(key, new.map_or(0, |new| new.len() as u64))?;
        for _ in 0..TRIES {
            let (store, what) = (Arc::clone(&self.store), self.what(key));
            let asked = path.clone();
            let read = self.runner.wait(async move { super::fetch(store.as_ref(), &asked, None, SWAPPED_MAX, &what).await })?;
            let found = match read {
                Ok(found) => Some(found),
                Err(error) if error.kind() == ErrorKind::NotFound => None,
                Err(error) => return Err(error),
            };
            let alive = found.as_ref().filter(|found| !is_tombstone(found));
            if alive.map(|found| &found.bytes[..]) != expected {
                return Ok(false);
            }
            if alive.is_none() && new.is_none() {
                return Ok(true);
            }
            let mode = match found {
                None => PutMode::Create,
                Some(found) if found.version.e_tag.is_some() || found.version.version.is_some() => PutMode::Update(found.version),
                Some(_) => {
                    return Err(Error::invalid(format!(
                        "the store gives {} no ETag, without which nothing can be swapped",
                        self.what(key)
                    )));
                }
            };
            let payload = PutPayload::from(new.unwrap_or(TOMBSTONE).to_vec());
            if self.put_if(key, path.clone(), payload, mode)? == Put::Done {
                return Ok(true);
            }
            // Somebody was faster: does it still read as expected?
        }
        Err(Error::new(ErrorKind::Locked, format!("{} is changed by others all the time", self.what(key))))
    }
}

/// Files as long as a tombstone would be taken for one.
pub(super) fn refuse_length(key: &str, len: u64) -> Result<()> {
    if len == TOMBSTONE.len() as u64 {
        return Err(Error::invalid(format!("{key} cannot have {len} bytes in object storage, which means there that a file was deleted")));
    }
    Ok(())
}
