//! Files on their way into an object store.

use super::explain::explain;
use super::put::{Put, is_gone};
use super::run::Begun;
use super::swap::refuse_length;
use super::{ObjectBackend, Shared, TMP, nonce};
use crate::backend::{PutOutcome, Staged};
use crate::error::{Error, ErrorKind, Result};
use object_store::path::Path;
use object_store::{Error as StoreError, MultipartUpload, ObjectStoreExt, PutMode, PutPayload};
use std::collections::VecDeque;
use std::sync::Arc;
use std::time::Duration;

/// Parts on their way, of 8 MiB; another one fills.
const PARTS_AT_ONCE: usize = 4;
/// Times that a name is tried for, when others take it and give it up again.
const TRIES: u32 = 5;

pub(super) struct StagedObject {
    backend: ObjectBackend,
    body: Body,
}

enum Body {
    /// What was appended.
    Short(Vec<u8>),
    /// The whole file, once it was asked to be published.
    Whole(PutPayload),
    /// An upload that goes on.
    Upload(Upload),
    /// A whole object in `tmp/`.
    Uploaded { key: String, path: Path },
    /// After an error.
    Failed,
}

struct Upload {
    key: String,
    path: Path,
    multipart: Box<dyn MultipartUpload>,
    part: Vec<u8>,
    on_their_way: VecDeque<Begun<object_store::Result<()>>>,
}

impl Upload {
    fn begin(shared: &Shared) -> Result<Self> {
        let key = format!("{TMP}/{}", nonce()?);
        let path = shared.raw_path(&key)?;
        let (store, asked, what) = (Arc::clone(&shared.store), path.clone(), shared.what(&key));
        let multipart = shared.runner.wait(async move { store.put_multipart(&asked).await.map_err(|error| explain(&error, &what)) })??;
        Ok(Self { key, path, multipart, part: Vec::new(), on_their_way: VecDeque::new() })
    }

    fn append(&mut self, shared: &Shared, mut bytes: &[u8]) -> Result<()> {
        while !bytes.is_empty() {
            let room = shared.part - self.part.len();
            let (now, rest) = bytes.split_at(bytes.len().min(room));
            self.part.reserve_exact(room);
            self.part.extend_from_slice(now);
            bytes = rest;
            if self.part.len() == shared.part {
                self.send(shared)?;
            }
        }
        Ok(())
    }

    fn send(&mut self, shared: &Shared) -> Result<()> {
        while self.on_their_way.len() >= PARTS_AT_ONCE {
            self.wait_for_one(shared)?;
        }
        let part = PutPayload::from(std::mem::take(&mut self.part));
        let sent = self.multipart.put_part(part);
        self.on_their_way.push_back(shared.runner.begin(sent));
        Ok(())
    }

    fn wait_for_one(&mut self, shared: &Shared) -> Result<()> {
        match self.on_their_way.pop_front() {
            Some(part) => part.end()?.map_err(|error| explain(&error, &shared.what(&self.key))),
            None => Ok(()),
        }
    }

    /// Sends what is left and makes the object, still without its name.
    fn complete(mut self, shared: &Shared) -> Result<Body> {
        let result = self.try_complete(shared);
        if result.is_err() {
            self.abort(shared);
        }
        result.map(|()| Body::Uploaded { key: self.key, path: self.path })
    }

    fn try_complete(&mut self, shared: &Shared) -> Result<()> {
        if !self.part.is_empty() {
            self.send(shared)?;
        }
        while !self.on_their_way.is_empty() {
            self.wait_for_one(shared)?;
        }
        let mut multipart = std::mem::replace(&mut self.multipart, Box::new(Nothing));
        let (multipart, result) = shared.runner.wait(async move {
            let result = multipart.complete().await;
            (multipart, result)
        })?;
        self.multipart = multipart;
        result.map(|_| ()).map_err(|error| explain(&error, &shared.what(&self.key)))
    }

    /// As far as it can be done: a rule of the bucket takes what is left.
    fn abort(&mut self, shared: &Shared) {
        let mut multipart = std::mem::replace(&mut self.multipart, Box::new(Nothing));
        let on_their_way = std::mem::take(&mut self.on_their_way);
        // A part that comes after the end would stay.
        on_their_way.into_iter().for_each(|part| _ = part.end());
        _ = shared.runner.wait(async move { multipart.abort().await });
    }
}

/// Stands where an upload was.
#[derive(Debug)]
struct Nothing;

#[async_trait::async_trait]
impl MultipartUpload for Nothing {
    fn put_part(&mut self, _: PutPayload) -> object_store::UploadPart {
        Box::pin(async { Ok(()) })
    }
    async fn complete(&mut self) -> object_store::Result<object_store::PutResult> {
        Err(StoreError::Generic { store: "upload", source: "it has ended".into() })
    }
    async fn abort(&mut self) -> object_store::Result<()> {
        Ok(())
    }
}

impl StagedObject {
    pub(super) fn new(backend: ObjectBackend) -> Self {
        Self { backend, body: Body::Short(Vec::new()) }
    }

    fn put(&self, key: &str, payload: &PutPayload) -> Result<PutOutcome> {
        let shared = &self.backend.shared;
        refuse_length(key, payload.content_length() as u64)?;
        let path = shared.path(key)?;
        let mut mode = PutMode::Create;
        for _ in 0..TRIES {
            match shared.put_if(key, path.clone(), payload.clone(), mode)? {
                Put::Done => return Ok(PutOutcome::Stored),
                // A name that a swap has freed.
                Put::Refused(Some(found)) if is_gone(&found) => mode = PutMode::Update(found.1),
                Put::Refused(Some(_)) => return Ok(PutOutcome::AlreadyThere),
                Put::Refused(None) => mode = PutMode::Create,
            }
        }
        Err(Error::new(ErrorKind::Locked, format!("{} is changed by others all the time", shared.what(key))))
    }

    /// Gives a whole object in `tmp/` its name.
    fn name(&self, key: &str, tmp: &str, from: &Path) -> Result<PutOutcome> {
        let shared = &self.backend.shared;
        let to = shared.path(key)?;
        for attempt in 0..TRIES {
            let (store, from, to) = (Arc::clone(&shared.store), from.clone(), to.clone());
            let copied = shared.runner.wait(async move {
                if attempt > 0 {
                    tokio::time::sleep(Duration::from_millis(200) * 2_u32.pow(attempt)).await;
                }
                store.copy_if_not_exists(&from, &to).await
            })?;
            match copied {
                Ok(()) => return Ok(PutOutcome::Stored),
                Err(StoreError::AlreadyExists { .. } | StoreError::Precondition { .. }) => match shared.len(key) {
                    Ok(_) => return Ok(PutOutcome::AlreadyThere),
                    // A conflict with somebody who gave up, or has deleted it.
                    Err(error) if error.kind() == ErrorKind::NotFound => {}
                    Err(error) => return Err(error),
                },
                Err(StoreError::NotFound { .. }) => {
                    let text = format!("{} has gone before it became {key}: it was taken for a dead writer's", shared.what(tmp));
                    return Err(Error::new(ErrorKind::Interrupted, text));
                }
                Err(error) => return Err(explain(&error, &shared.what(key))),
            }
        }
        Err(Error::new(ErrorKind::Locked, format!("{} is changed by others all the time", shared.what(key))))
    }

    fn discard(&mut self) {
        match std::mem::replace(&mut self.body, Body::Failed) {
            Body::Upload(mut upload) => upload.abort(&self.backend.shared),
            // What cannot be removed is left to a sweep.
            Body::Uploaded { path, .. } => {
                let store = Arc::clone(&self.backend.shared.store);
                _ = self.backend.shared.runner.wait(async move { store.delete(&path).await });
            }
            Body::Short(_) | Body::Whole(_) | Body::Failed => {}
        }
    }
}

fn over() -> Error {
    Error::new(ErrorKind::Interrupted, "the file cannot be continued after an error or after it was published")
}

impl Staged for StagedObject {
    fn append(&mut self, bytes: &[u8]) -> Result<()> {
        let shared = Arc::clone(&self.backend.shared);
        if let Body::Short(short) = &mut self.body
            && short.len() + bytes.len() > shared.long
            && self.backend.abilities()?.copy_if_absent
        {
            let short = std::mem::take(short);
            let mut upload = Upload::begin(&shared)?;
            let sent = upload.append(&shared, &short);
            self.body = Body::Upload(upload);
            sent.inspect_err(|_| self.discard())?;
        }
        match &mut self.body {
            Body::Short(short) => {
                short.extend_from_slice(bytes);
                Ok(())
            }
            Body::Upload(upload) => upload.append(&shared, bytes).inspect_err(|_| self.discard()),
            Body::Whole(_) | Body::Uploaded { .. } | Body::Failed => Err(over()),
        }
    }

    fn publish(&mut self, key: &str) -> Result<PutOutcome> {
        let shared = Arc::clone(&self.backend.shared);
        shared.path(key)?;
        self.body = match std::mem::replace(&mut self.body, Body::Failed) {
            Body::Short(short) => Body::Whole(PutPayload::from(short)),
            Body::Upload(upload) => upload.complete(&shared)?,
            Body::Failed => return Err(over()),
            whole => whole,
        };
        let outcome = match &self.body {
            Body::Whole(payload) => self.put(key, payload)?,
            Body::Uploaded { key: tmp, path } => self.name(key, tmp, path)?,
            _ => return Err(over()),
        };
        if outcome == PutOutcome::Stored {
            self.discard();
        }
        Ok(outcome)
    }
}

impl Drop for StagedObject {
    fn drop(&mut self) {
        self.discard();
    }
}

/// Removes staged files that nobody has named for a week, by the store's own clock. A living writer whose file is taken all the same is told so when it
/// publishes, and nothing is lost but its work; so no clock has to be right. Uploads that were not completed cannot be listed here: a rule of the bucket takes them.
pub(super) fn sweep(shared: &Shared) -> Result<usize> {
    let (store, dir, what) = (Arc::clone(&shared.store), shared.raw_path(TMP)?, shared.what(TMP));
    let there =
        shared.runner.wait(async move { store.list_with_delimiter(Some(&dir)).await.map_err(|error| explain(&error, &what)) })??;
    if there.objects.is_empty() {
        return Ok(0);
    }
    let clock = format!("{TMP}/{}", nonce()?);
    let (store, path, what) = (Arc::clone(&shared.store), shared.raw_path(&clock)?, shared.what(&clock));
    let limit = shared.abandoned_after;
    let removed = shared.runner.wait(async move {
        store.put(&path, PutPayload::from_static(b"now")).await?;
        let now = store.head(&path).await?.last_modified;
        store.delete(&path).await?;
        let mut removed = 0;
        for object in there.objects {
            if (now - object.last_modified).to_std().is_ok_and(|age| age >= limit) {
                match store.delete(&object.location).await {
                    Ok(()) => removed += 1,
                    Err(StoreError::NotFound { .. }) => {}
                    Err(error) => return Err(error),
                }
            }
        }
        Ok(removed)
    })?;
    removed.map_err(|error: StoreError| explain(&error, &what))
}
