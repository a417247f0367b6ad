//! Tries with real keys whether a store decides races as repositories need it.
//!
//! A store that takes conditions and does not keep them loses saves without a word, so nothing it says of itself counts: several writers are let
//! loose on one key, and one of them must win. What was found is kept in the repository's file `objects`, so that no command has to try again.

use super::explain::{explain, may_pass};
use super::{NONCE, ObjectBackend, TMP, nonce, nonce_attribute};
use crate::backend::Backend;
use crate::codec::{RecordKind, decode_record, encode_record};
use crate::error::{Error, ErrorKind, Result};
use bincode::{Decode, Encode};
use futures_util::future::join_all;
use object_store::path::Path;
use object_store::{
    Attributes, Error as StoreError, GetOptions, ObjectStore, ObjectStoreExt, PutMode, PutOptions, PutPayload, UpdateVersion,
};
use std::sync::Arc;

/// Where it is kept what a store was found to do.
pub const ABILITIES_KEY: &str = "objects";
/// Its record.
pub const ABILITIES_RECORD: RecordKind = RecordKind { number: 24, version: 1, name: "object store's abilities" };
const ABILITIES_MAX_LEN: u64 = 4096;
/// Writers of a race.
const RACERS: usize = 8;
/// Races of each kind.
const ROUNDS: usize = 3;
/// Races that nobody won, because of conflicts or lost answers, before the store is given up.
const UNDECIDED: usize = 5;

/// What a store was found to do beyond what every repository needs.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Encode, Decode)]
pub struct Abilities {
    /// Copies an object to a name if there is none of that name.
    pub copy_if_absent: bool,
}

impl ObjectBackend {
    /// Tries whether put-if-absent and compare-and-swap hold, alone and in races, and remembers what else was found. Some sixty small requests.
    ///
    /// # Errors
    /// `InvalidInput`, with the reason and what to use instead, for a store on which writers side by side would destroy each other's work; else what
    /// the store says.
    pub fn probe(&self) -> Result<Abilities> {
        let abilities = self.try_out()?;
        let bytes = encode_record(ABILITIES_RECORD, &abilities);
        let old = match self.read(ABILITIES_KEY, ABILITIES_MAX_LEN) {
            Ok(old) => Some(old),
            Err(error) if error.kind() == ErrorKind::NotFound => None,
            Err(error) => return Err(error),
        };
        if old.as_ref() != Some(&bytes) {
            // Whoever is faster has found the same.
            self.swap(ABILITIES_KEY, old.as_deref(), Some(&bytes))?;
        }
        Ok(*self.shared.abilities.get_or_init(|| abilities))
    }

    /// What the store was found to do, once it was tried or read.
    pub(super) fn abilities(&self) -> Result<Abilities> {
        if let Some(known) = self.shared.abilities.get() {
            return Ok(*known);
        }
        let kept = self.read(ABILITIES_KEY, ABILITIES_MAX_LEN).and_then(|bytes| decode_record(ABILITIES_RECORD, &bytes));
        match kept {
            Ok(kept) => Ok(*self.shared.abilities.get_or_init(|| kept)),
            // A repository that was copied here by other means.
            Err(error) if matches!(error.kind(), ErrorKind::NotFound | ErrorKind::Corrupt | ErrorKind::UnsupportedFormat) => self.probe(),
            Err(error) => Err(error),
        }
    }

    fn try_out(&self) -> Result<Abilities> {
        let shared = &self.shared;
        let name = format!("{TMP}/probe-{}", nonce()?);
        let probe = Probe {
            store: Arc::clone(&shared.store),
            dir: shared.raw_path(TMP)?,
            start: shared.raw_path(&name)?.to_string(),
            name: shared.name.clone(),
        };
        shared.runner.wait(async move {
            let found = probe.run().await;
            probe.clean_up().await;
            found
        })?
    }
}

struct Probe {
    store: Arc<dyn ObjectStore>,
    dir: Path,
    /// How all its objects' names start; a sweep takes them if this process cannot.
    start: String,
    name: String,
}

/// How a put ended that was allowed to be refused.
#[derive(PartialEq)]
enum Answer {
    Done,
    Refused,
}

impl Probe {
    async fn run(&self) -> Result<Abilities> {
        self.one_after_another().await?;
        for round in 0..ROUNDS {
            self.race(&format!("race-{round}")).await?;
        }
        Ok(Abilities { copy_if_absent: self.copies().await? })
    }

    fn path(&self, name: &str) -> Path {
        Path::from_iter(format!("{}-{name}", self.start).split('/'))
    }

    fn refuse(&self, why: &str) -> Error {
        Error::invalid(format!(
            "{} cannot hold a repository: {why}. Saves at the same time would destroy each other's work. Use a store that keeps the conditions of \
             requests, as Amazon S3, Google Cloud Storage and Azure do, or a repository in a directory",
            self.name
        ))
    }

    async fn put(&self, path: &Path, body: &str, mode: PutMode) -> Result<Answer> {
        let mut attributes = Attributes::new();
        attributes.insert(nonce_attribute(), body.to_owned().into());
        let options = PutOptions { mode, attributes, ..PutOptions::default() };
        match self.store.put_opts(path, PutPayload::from(body.as_bytes().to_vec()), options).await {
            Ok(_) => Ok(Answer::Done),
            Err(StoreError::AlreadyExists { .. } | StoreError::Precondition { .. } | StoreError::NotModified { .. }) => Ok(Answer::Refused),
            Err(error @ StoreError::NotFound { .. }) => match self.explain(&error) {
                told if told.kind() == ErrorKind::NotFound => Ok(Answer::Refused),
                // The bucket itself is not there.
                told => Err(told),
            },
            Err(StoreError::NotImplemented { .. } | StoreError::NotSupported { .. }) => Err(self.refuse("it has no conditional requests")),
            Err(error) => Err(self.explain(&error)),
        }
    }

    fn explain(&self, error: &StoreError) -> Error {
        // 501 is how a store says that it does not know a header.
        if error.to_string().contains("501 Not Implemented") {
            return self.refuse("it has no conditional requests");
        }
        explain(error, &self.name)
    }

    async fn text(&self, path: &Path) -> Result<String> {
        let result = self.store.get_opts(path, GetOptions::default()).await.map_err(|error| self.explain(&error))?;
        if result.meta.size > 1000 {
            return Err(self.refuse("it gives back other bytes than it was given"));
        }
        let bytes = result.bytes().await.map_err(|error| self.explain(&error))?;
        Ok(String::from_utf8_lossy(&bytes).into_owned())
    }

    async fn version(&self, path: &Path, body: &str) -> Result<UpdateVersion> {
        let options = GetOptions { head: true, ..GetOptions::default() };
        let found = self.store.get_opts(path, options).await.map_err(|error| self.explain(&error))?;
        if found.meta.e_tag.is_none() {
            return Err(self.refuse("it gives objects no ETag, without which nothing can be compared and swapped"));
        }
        if found.attributes.get(&nonce_attribute()).map(AsRef::as_ref) != Some(body) {
            return Err(self.refuse(&format!("it does not keep an object's metadata ({NONCE})")));
        }
        Ok(UpdateVersion { e_tag: found.meta.e_tag, version: found.meta.version })
    }

    async fn one_after_another(&self) -> Result<()> {
        let path = self.path("one");
        if self.put(&path, "first", PutMode::Create).await? == Answer::Refused {
            return Err(self.refuse("it refuses to put an object where there is none"));
        }
        if self.put(&path, "second", PutMode::Create).await? == Answer::Done || self.text(&path).await? != "first" {
            return Err(self
                .refuse("it overwrites an object that is there, though it was asked to put it only where there is none (If-None-Match)"));
        }
        let old = self.version(&path, "first").await?;
        if self.put(&path, "third", PutMode::Update(old.clone())).await? == Answer::Refused || self.text(&path).await? != "third" {
            return Err(self.refuse("it refuses to replace an object that is as it was said to be (If-Match)"));
        }
        if self.put(&path, "fourth", PutMode::Update(old.clone())).await? == Answer::Done || self.text(&path).await? != "third" {
            return Err(self.refuse("it replaces an object that has changed, though it was asked to replace another one (If-Match)"));
        }
        if self.put(&self.path("missing"), "fifth", PutMode::Update(old)).await? == Answer::Done {
            return Err(self.refuse("it puts an object where there is none, though it was asked to replace one (If-Match)"));
        }
        let range = self.store.get_range(&path, 1..3).await.map_err(|error| self.explain(&error))?;
        if &range[..] != b"hi" {
            return Err(self.refuse("it gives other parts of objects than it was asked for"));
        }
        if !self.lists(&path).await? {
            return Err(self.refuse("it does not list an object that was just put"));
        }
        self.store.delete(&path).await.map_err(|error| self.explain(&error))?;
        if self.lists(&path).await? {
            return Err(self.refuse("it lists an object that was just deleted"));
        }
        Ok(())
    }

    async fn lists(&self, path: &Path) -> Result<bool> {
        let listed = self.store.list_with_delimiter(Some(&self.dir)).await.map_err(|error| self.explain(&error))?;
        Ok(listed.objects.iter().any(|object| object.location == *path))
    }

    async fn race(&self, name: &str) -> Result<()> {
        let won = self.race_to_create(name).await?;
        let Some((path, winner)) = won else { return Ok(()) };
        let version = self.version(&path, &winner).await?;
        let mut runs = Vec::new();
        for racer in 0..RACERS {
            let (path, version) = (&path, &version);
            runs.push(async move { self.put(path, &format!("swap {racer}"), PutMode::Update(version.clone())).await });
        }
        let winners =
            join_all(runs).await.into_iter().collect::<Result<Vec<_>>>()?.iter().filter(|answer| **answer == Answer::Done).count();
        if winners > 1 {
            return Err(self.refuse(&format!(
                "of {RACERS} writers that at the same time replaced the same object (If-Match), {winners} were told that they did"
            )));
        }
        Ok(())
    }

    /// Lets writers race for new keys until one of them wins; `None` when nobody ever did.
    async fn race_to_create(&self, name: &str) -> Result<Option<(Path, String)>> {
        let what = "at the same time put an object where there was none (If-None-Match)";
        for attempt in 0..UNDECIDED {
            let path = self.path(&format!("{name}-{attempt}"));
            let bodies: Vec<String> = (0..RACERS).map(|racer| format!("racer {racer}")).collect();
            let answers =
                join_all(bodies.iter().map(|body| self.put(&path, body, PutMode::Create))).await.into_iter().collect::<Result<Vec<_>>>()?;
            let winners: Vec<&String> =
                bodies.iter().zip(answers).filter(|(_, answer)| *answer == Answer::Done).map(|(body, _)| body).collect();
            match winners.as_slice() {
                [] => {}
                [winner] if self.text(&path).await? == **winner => return Ok(Some((path, (*winner).clone()))),
                [_] => {
                    return Err(
                        self.refuse(&format!("of {RACERS} writers that {what}, one was told that it did, and the object is another's"))
                    );
                }
                several => {
                    let text = format!("of {RACERS} writers that {what}, {} were told that they did", several.len());
                    return Err(self.refuse(&text));
                }
            }
        }
        Ok(None)
    }

    /// Whether copies are made only where there is nothing.
    async fn copies(&self) -> Result<bool> {
        let (from, taken) = (self.path("from"), self.path("taken"));
        for (path, body) in [(&from, "copied"), (&taken, "was there")] {
            self.put(path, body, PutMode::Create).await?;
        }
        if self.copy(&from, &taken).await? != Some(false) || self.text(&taken).await? != "was there" {
            return Ok(false);
        }
        let to = self.path("to");
        let made: Vec<_> = join_all((0..RACERS).map(|_| self.copy(&from, &to))).await.into_iter().collect::<Result<Vec<_>>>()?;
        let winners = made.iter().filter(|made| **made == Some(true)).count();
        Ok(winners == 1 && self.text(&to).await? == "copied")
    }

    /// Whether a copy was made; `None` where it cannot be.
    async fn copy(&self, from: &Path, to: &Path) -> Result<Option<bool>> {
        match self.store.copy_if_not_exists(from, to).await {
            Ok(()) => Ok(Some(true)),
            Err(StoreError::AlreadyExists { .. } | StoreError::Precondition { .. }) => Ok(Some(false)),
            Err(error) if may_pass(&error) && !error.to_string().contains("501") => Err(self.explain(&error)),
            Err(_) => Ok(None),
        }
    }

    /// As far as it can be done: a sweep takes what is left.
    async fn clean_up(&self) {
        if let Ok(listed) = self.store.list_with_delimiter(Some(&self.dir)).await {
            for object in listed.objects.into_iter().filter(|object| object.location.as_ref().starts_with(&self.start)) {
                _ = self.store.delete(&object.location).await;
            }
        }
    }
}
