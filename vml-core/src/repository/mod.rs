//! A repository: configuration, entries, refs, notes, and the chunk store below them.
//!
//! ```text
//! config                     what it is: format, features, chunker, frames       written once
//! keys/slots                 who can open it, if it is encrypted                  compare-and-swap
//! policy                     what it demands of entries from elsewhere           compare-and-swap
//! data/ meta/                packs                                               immutable
//! index/                     segments, a cache over the packs                    rebuilt from them
//! entries/ENTRY              one record each, named by its hash                  immutable, written last
//! notes/ENTRY-NOTE           remarks on entries                                  immutable
//! refs/{areas,tags,bases}/   named pointers to entries                           compare-and-swap
//! forgotten/ENTRY            what an entry that was forgotten continued          compare-and-swap
//! saving/ENTRY  leases/  gc/ what writers and collections agree by               compare-and-swap
//! ```
//! Opening reads the configuration only; the store, with its index, is opened when chunks are first needed, so listing
//! the log costs the same whatever the repository holds.

mod check;
mod collect;
mod commit;
mod compact;
mod config;
mod encrypt;
mod forget;
mod forgotten;
mod policy;
pub(crate) mod reach;
mod repair;
mod resolve;
mod save;
mod save_disk;
mod usage;

pub use check::{CheckLog, CheckOptions, Checked, NoLog, Sample, Touched};
pub use collect::{CollectOptions, Collected};
pub use commit::{INTENT_RECORD, SAVING_DIR};
pub use compact::{CompactOptions, Compacted};
pub(crate) use config::INLINE_LIMIT;
pub use config::{CONFIG_RECORD, Config, Features};
pub use encrypt::{FEATURE_SEALED, keys_of};
pub use forget::{Calendar, Candidate, Decision, ForgetOptions, Forgetting, KeepPolicy, LocalTime, Reason, Row, Within, decide};
pub use forgotten::{FORGOTTEN_DIR, FORGOTTEN_RECORD};
pub use policy::{POLICY_RECORD, Policy};
pub use repair::{PackPlan, RecordFix, RecordPlan, RepairOptions, RepairPlan, RepairSource, Repaired, WantedChunk};
pub use save::{Learn, SaveDisk, SaveMemory, SaveRequest, SaveTree, Saved, ShownDisk, TreePlace};
pub(crate) use save_disk::{FILE_RUNS_MAX, MEMORY_CHUNKER};
pub use usage::{Amount, EntryUsage, Kinds, Usage};
pub use vml_chunk::ChunkerParams;
pub use vml_chunk::gc::{COMPACTION_LEVEL, CompactionPlan, PackUse};

use crate::entry::{Entry, EntryId, NOTE_RECORD, Note};
use crate::monitor::Monitor;
use crate::refs::{ENTRIES_DIR, Refs};
use std::collections::{HashMap, HashSet};
use std::sync::{Arc, OnceLock};
use vml_chunk::codec::{decode_record, encode_record};
use vml_chunk::{Backend, ChunkStore, Error, ErrorKind, IdKey, OpenReport, PutOutcome, Result, SealedBackend, StoreOptions};

/// The author of notes that say where an entry came from.
pub const RECEIVED_AUTHOR: &str = "vml receive";
/// The author of notes that say as which entry of another repository this one was known, which cuts or names chunks otherwise.
pub const TRANSPLANT_AUTHOR: &str = "vml transplant";

/// Whether notes by this author are a repository's own: whom it trusts and what it knows; nobody else says so, and nobody else is told.
pub(crate) fn is_own_author(author: &str) -> bool {
    [RECEIVED_AUTHOR, TRANSPLANT_AUTHOR].contains(&author)
}

/// Largest record of an entry or a note.
const RECORD_MAX_LEN: u64 = 16 << 20;
/// Records that are read together.
const ENTRIES_AT_ONCE: usize = 64;
const CONFIG_KEY: &str = "config";
const NOTES_DIR: &str = "notes";

/// How a repository is used by this process; nothing of it is stored.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct RepositoryOptions {
    /// Threads that read, hash, compress and write.
    pub threads: usize,
    /// Plain bytes of frames kept in memory for readers.
    pub cache_len: usize,
}

impl Default for RepositoryOptions {
    /// A thread a core and 64 MiB of cache.
    fn default() -> Self {
        let store = StoreOptions::default();
        Self { threads: store.threads, cache_len: store.cache_len }
    }
}

/// An open repository.
pub struct Repository {
    backend: Arc<dyn Backend>,
    config: Config,
    options: RepositoryOptions,
    /// How chunks are named.
    ids: IdKey,
    /// The backend, or what is below a dry run, if it is encrypted.
    sealed: Option<Arc<SealedBackend>>,
    store: OnceLock<(ChunkStore, OpenReport)>,
}

impl Repository {
    /// Makes a repository on an empty backend.
    ///
    /// # Errors
    /// `AlreadyExists` when there is one, `InvalidInput` when the configuration is not usable.
    pub fn init(backend: Arc<dyn Backend>, config: Config, options: RepositoryOptions) -> Result<Self> {
        config.check()?;
        if config.is_encrypted() {
            return Err(Error::invalid("an encrypted repository is made with a key"));
        }
        match backend.put(CONFIG_KEY, &encode_record(CONFIG_RECORD, &config))? {
            PutOutcome::Stored => Ok(Self { backend, config, options, ids: IdKey::PLAIN, sealed: None, store: OnceLock::new() }),
            PutOutcome::AlreadyThere => Err(encrypt::there_is_one()),
        }
    }

    /// Opens a repository that is not encrypted.
    ///
    /// # Errors
    /// `NotFound` when there is none, `UnsupportedFormat` when it is of a newer format or needs a feature that this
    /// program does not know, `Corrupt` when its configuration is damaged, `NeedsKey` when it is encrypted: see [`open_with`](Self::open_with).
    pub fn open(backend: Arc<dyn Backend>, options: RepositoryOptions) -> Result<Self> {
        Self::open_with(backend, options, None)
    }

    /// How it stores.
    pub fn config(&self) -> &Config {
        &self.config
    }

    /// Threads that read, hash, compress and write.
    pub(crate) fn threads(&self) -> usize {
        self.options.threads
    }

    /// Where its files are.
    pub fn backend(&self) -> &Arc<dyn Backend> {
        &self.backend
    }

    /// Its named pointers.
    pub fn refs(&self) -> Refs {
        Refs::new(Arc::clone(&self.backend))
    }

    /// Its chunks; opened at the first call, with what was found and mended told to `monitor`.
    ///
    /// # Errors
    /// As [`ChunkStore::open`].
    pub fn store(&self, monitor: &dyn Monitor) -> Result<&ChunkStore> {
        if self.store.get().is_none() {
            let options = StoreOptions {
                frame_len: self.config.frame_len as usize,
                level: i32::from(self.config.level),
                threads: self.options.threads,
                cache_len: self.options.cache_len,
                parity_percent: self.parity_percent(monitor),
                ids: self.ids.clone(),
            };
            let (store, report) = ChunkStore::open(Arc::clone(&self.backend), options)?;
            tell(&report, monitor);
            // Another thread may have been faster; then its store serves.
            _ = self.store.set((store, report));
        }
        Ok(&self.store.get().expect("set above").0)
    }

    /// Tells of packs that were read through their parity because they are damaged.
    pub fn tell_mended(&self, monitor: &dyn Monitor) {
        for key in self.store.get().iter().flat_map(|(store, _)| store.mended_packs()) {
            monitor.notice(&format!("{key} is damaged and was read through its parity: `vml repair` mends it"));
        }
    }

    /// What opening the store found, once it is open.
    pub fn open_report(&self) -> Option<&OpenReport> {
        self.store.get().map(|(_, report)| report)
    }

    /// Reads an entry; its record is checked against its id.
    ///
    /// # Errors
    /// `NotFound`, `Corrupt` or `UnsupportedFormat`, naming the entry.
    pub fn entry(&self, id: &EntryId) -> Result<Entry> {
        let key = format!("{ENTRIES_DIR}/{id}");
        let entry = self.backend.read(&key, RECORD_MAX_LEN).and_then(|bytes| decode_entry(id, &bytes));
        entry.map_err(|error| error.context(format!("cannot read entry {}", id.short())))
    }

    /// Reads many entries, each as [`entry`](Self::entry) does: side by side where the backend is far away. One at a time is in memory beside
    /// some dozens of records.
    pub fn entries<'a>(&'a self, ids: &'a [EntryId]) -> impl Iterator<Item = (EntryId, Result<Entry>)> + 'a {
        ids.chunks(ENTRIES_AT_ONCE).flat_map(|ids| {
            let keys: Vec<String> = ids.iter().map(|id| format!("{ENTRIES_DIR}/{id}")).collect();
            let records = self.backend.read_many(&keys, RECORD_MAX_LEN);
            ids.iter().copied().zip(records).map(|(id, record)| {
                let entry = record.and_then(|bytes| decode_entry(&id, &bytes));
                (id, entry.map_err(|error| error.context(format!("cannot read entry {}", id.short()))))
            })
        })
    }

    /// A hint that many entries will be read one after another.
    pub fn expect_entries(&self) {
        self.backend.prefetch_dir(ENTRIES_DIR);
    }

    /// The ids of all entries, in no order. One that was forgotten is none, even if its file is there.
    ///
    /// # Errors
    /// What the backend says.
    pub fn entry_ids(&self) -> Result<Vec<EntryId>> {
        let ids_in = |dir: &str| -> Result<Vec<EntryId>> {
            Ok(self.backend.list(dir)?.into_iter().filter_map(|listed| listed.name.parse().ok()).collect())
        };
        let mut ids = ids_in(ENTRIES_DIR)?;
        let forgotten: HashSet<EntryId> = ids_in(FORGOTTEN_DIR)?.into_iter().collect();
        // A record that cannot be read says nothing.
        ids.retain(|id| !forgotten.contains(id) || !self.is_forgotten(id).unwrap_or(false));
        Ok(ids)
    }

    /// Makes entries durable that others published: whoever did may have been killed before he came to do it. Before anybody is told that one is there.
    pub(crate) fn settle_entries(&self) -> Result<()> {
        self.backend.settle(ENTRIES_DIR)
    }

    /// Adds a note to an entry.
    ///
    /// # Errors
    /// What the backend says.
    pub fn add_note(&self, note: &Note) -> Result<()> {
        let bytes = encode_record(NOTE_RECORD, note);
        // A short note could be guessed by its digest.
        let name = self.ids.id(&bytes);
        self.backend.put(&format!("{NOTES_DIR}/{}-{name}", note.entry), &bytes).map(|_| ())
    }

    /// The notes of one entry, in the order of their times.
    ///
    /// # Errors
    /// What the backend says; `Corrupt` when one of them is damaged.
    pub fn notes_of(&self, id: &EntryId) -> Result<Vec<Note>> {
        let prefix = format!("{id}-");
        let mut notes = Vec::new();
        for (key, note) in self.read_notes(|name| name.starts_with(&prefix))? {
            notes.push(note.map_err(|error| error.context(format!("cannot read the note {key}")))?);
        }
        notes.sort_by_key(|note| note.time_ms);
        Ok(notes)
    }

    /// Whether an entry came in a share file: then what it continues may have stayed elsewhere.
    pub fn was_received(&self, id: &EntryId) -> bool {
        self.notes_of(id).is_ok_and(|notes| notes.iter().any(|note| note.author == RECEIVED_AUTHOR))
    }

    /// All notes by entry, each entry's in the order of their times; damaged ones are told to `monitor`.
    ///
    /// # Errors
    /// What the backend says.
    pub fn notes(&self, monitor: &dyn Monitor) -> Result<HashMap<EntryId, Vec<Note>>> {
        let mut notes: HashMap<EntryId, Vec<Note>> = HashMap::new();
        for (key, note) in self.read_notes(|_| true)? {
            match note {
                Ok(note) => notes.entry(note.entry).or_default().push(note),
                Err(error) => monitor.problem(crate::monitor::Problem { subject: key, message: error.to_string() }),
            }
        }
        for list in notes.values_mut() {
            list.sort_by_key(|note| note.time_ms);
        }
        Ok(notes)
    }

    fn read_notes(&self, wanted: impl Fn(&str) -> bool) -> Result<Vec<(String, Result<Note>)>> {
        let listed = self.backend.list(NOTES_DIR)?;
        let keys: Vec<String> =
            listed.iter().filter(|listed| wanted(&listed.name)).map(|listed| format!("{NOTES_DIR}/{}", listed.name)).collect();
        let records = self.backend.read_many(&keys, RECORD_MAX_LEN);
        let decode = |bytes: Vec<u8>| decode_record::<Note>(NOTE_RECORD, &bytes);
        Ok(keys.into_iter().zip(records.into_iter().map(|bytes| bytes.and_then(decode))).collect())
    }
}

fn decode_entry(id: &EntryId, bytes: &[u8]) -> Result<Entry> {
    if EntryId::of(bytes) != *id {
        // A newer format is told as such, but only if the record says so itself.
        return match Entry::decode(bytes) {
            Err(error) if error.kind() == ErrorKind::UnsupportedFormat => Err(error),
            _ => Err(Error::corrupt("its record does not match its name: the bytes have changed since it was written")),
        };
    }
    Entry::decode(bytes)
}

const MISSING_PACK: &str = "the pack is missing or cut short: its chunks are lost unless they are saved again";

fn tell(report: &OpenReport, monitor: &dyn Monitor) {
    use crate::monitor::Problem;
    for name in &report.bad_segments {
        monitor.notice(&format!("index segment {} is damaged: it is rebuilt from the packs", name.get(..8).unwrap_or(name)));
    }
    match report.indexed_packs {
        0 => {}
        1 => monitor.notice("1 pack was not in the index: it was rebuilt from its footer"),
        packs => monitor.notice(&format!("{packs} packs were not in the index: it was rebuilt from their footers")),
    }
    for pack in &report.missing_packs {
        monitor.problem(Problem { subject: format!("pack {}", pack.kind.key(&pack.id)), message: MISSING_PACK.to_owned() });
    }
    for (key, error) in &report.unreadable_packs {
        monitor.problem(Problem { subject: format!("pack {key}"), message: describe(error) });
    }
}

/// The entry that a note is of, by the note's file name.
fn entry_of_note(name: &str) -> Option<EntryId> {
    name.split('-').next()?.parse().ok()
}

/// An error with its causes, in one line.
pub(crate) fn describe(error: &Error) -> String {
    let mut text = error.to_string();
    let mut cause = std::error::Error::source(error);
    while let Some(error) = cause {
        text.push_str(": ");
        text.push_str(&error.to_string());
        cause = error.source();
    }
    text
}
