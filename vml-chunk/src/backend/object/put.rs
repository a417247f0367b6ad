//! Puts an object under a condition, and finds out whether it was this writer's when an answer got lost.

use super::explain::{explain, may_pass};
use super::{Shared, TOMBSTONE, nonce_attribute};
use crate::error::{Error, ErrorKind, Result};
use object_store::path::Path;
use object_store::{Attributes, Error as StoreError, GetOptions, ObjectStore, PutMode, PutOptions, PutPayload, UpdateVersion};
use std::sync::Arc;
use std::time::Duration;

/// Times that a request is made whose fate is unknown; the crate has made it again by itself before that, where it is allowed to.
const TRIES: u32 = 5;
/// After this time nothing is tried again.
const GIVE_UP: Duration = Duration::from_secs(60);
/// Waited before the second try, and twice as long before each later one.
const PAUSE: Duration = Duration::from_millis(50);

/// What became of a put under a condition.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Put {
    /// It is there, and was not before.
    Done,
    /// The condition does not hold. What is there, if anything: its length and version.
    Refused(Option<(u64, UpdateVersion)>),
}

impl Shared {
    /// Puts `payload` if `mode` allows it.
    ///
    /// # Errors
    /// `Interrupted` when it can never be told whether it was put.
    pub(super) fn put_if(&self, key: &str, path: Path, payload: PutPayload, mode: PutMode) -> Result<Put> {
        let (store, what, nonce) = (Arc::clone(&self.store), self.what(key), super::nonce()?);
        self.runner.wait(async move { put_if(store.as_ref(), &path, payload, mode, nonce, &what).await })?
    }
}

pub(super) async fn put_if(
    store: &dyn ObjectStore,
    path: &Path,
    payload: PutPayload,
    mode: PutMode,
    nonce: String,
    what: &str,
) -> Result<Put> {
    let mut lost: Option<StoreError> = None;
    let started = tokio::time::Instant::now();
    for attempt in 0..TRIES {
        if attempt > 0 {
            // A store that takes minutes to fail will not do better.
            if started.elapsed() > GIVE_UP {
                break;
            }
            tokio::time::sleep(PAUSE * 2_u32.pow(attempt - 1)).await;
        }
        let mut attributes = Attributes::new();
        attributes.insert(nonce_attribute(), nonce.clone().into());
        let options = PutOptions { mode: mode.clone(), attributes, ..PutOptions::default() };
        let refused = match store.put_opts(path, payload.clone(), options).await {
            Ok(_) => return Ok(Put::Done),
            Err(StoreError::AlreadyExists { .. } | StoreError::Precondition { .. } | StoreError::NotModified { .. }) => true,
            // Where there is nothing, nothing can be replaced.
            Err(StoreError::NotFound { .. }) if matches!(mode, PutMode::Update(_)) => true,
            Err(error) if may_pass(&error) => {
                lost = Some(error);
                false
            }
            Err(error) => return Err(explain(&error, what)),
        };
        match there(store, path).await {
            // An earlier request of this one arrived, though its answer did not.
            Ok(Some((_, _, Some(own)))) if own == nonce => return Ok(Put::Done),
            Ok(found) if refused => {
                let found = found.map(|(len, version, _)| (len, version));
                match (&lost, &mode, &found) {
                    // A conflict with somebody who then gave up, or whose object has gone since.
                    (None, PutMode::Create, None) => {}
                    (None, _, _) | (Some(_), PutMode::Create, Some(_)) => return Ok(Put::Refused(found)),
                    (Some(error), _, _) => {
                        let text = format!("an answer about {what} got lost, and it has been changed since: it cannot be told by whom");
                        return Err(Error::new(ErrorKind::Interrupted, text).because(explain(error, what)));
                    }
                }
            }
            Ok(_) => {}
            Err(error) if may_pass(&error) => lost = lost.or(Some(error)),
            Err(error) => return Err(explain(&error, what)),
        }
    }
    Err(lost
        .map_or_else(|| Error::new(ErrorKind::Locked, format!("{what} is changed by others all the time")), |error| explain(&error, what)))
}

/// Length, version and nonce of what is there.
async fn there(store: &dyn ObjectStore, path: &Path) -> object_store::Result<Option<(u64, UpdateVersion, Option<String>)>> {
    match store.get_opts(path, GetOptions { head: true, ..GetOptions::default() }).await {
        Ok(found) => {
            let nonce = found.attributes.get(&nonce_attribute()).map(|nonce| nonce.as_ref().to_owned());
            Ok(Some((found.meta.size, UpdateVersion { e_tag: found.meta.e_tag, version: found.meta.version }, nonce)))
        }
        Err(StoreError::NotFound { .. }) => Ok(None),
        Err(error) => Err(error),
    }
}

/// Whether what is there is a file that was deleted by a swap.
pub(super) fn is_gone(found: &(u64, UpdateVersion)) -> bool {
    found.0 == TOMBSTONE.len() as u64
}
