//! What must hold in every state that a crash or a fault leaves.
//!
//! - There is a repository, if one was ever told of; else there is one, or one can be made.
//! - Every entry that was told of is there, and every entry that is there is whole: all of its tree is read and compared bit for bit.
//! - Refs and notes that were told of are there; a ref that is being set points to the old or the new entry.
//! - A check that reads every byte tells of no problem, and of no notice but that packs were not in the index.
//! - What an entry needs is in the index as it stands, but for packs that a collection has listed.
//! - The next save succeeds, and so does a collection, in every fourth state two, and all entries, refs and notes are whole after them; in every fourth state
//!   a check finds nothing then.

use crate::ledger::Expected;
use crate::scenarios::digests;
use crate::world::{ROOT, collect, config, digest, open, world};
use std::collections::{HashMap, HashSet};
use std::sync::Arc;
use vml_chunk::codec::decode_record;
use vml_chunk::index::Segment;
use vml_chunk::store::{QUARANTINE_RECORD, Quarantine};
use vml_chunk::{ChunkId, LocalBackend, PackId};
use vml_core::refs::RefKind;
use vml_core::repository::CheckOptions;
use vml_core::{Backend, CollectMonitor, EntryId, ErrorKind, Problem, Repository};
use vml_testkit::crash::{Disk, Handle, Image, Objects};

/// What kind of store a state is of.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    Local,
    Objects,
}

/// A state, and what must hold in it.
pub struct Job {
    pub image: Image,
    pub kind: Kind,
    pub expected: Arc<Expected>,
    /// Whether nothing failed. Else a ref may have moved though that was told to have failed.
    pub smooth: bool,
    /// Whether the index must have what entries need. It is made again from the packs where it has not: where it could not be written, or was seen by others
    /// before it was durable.
    pub indexed: bool,
    pub what: String,
}

type Digests = HashMap<EntryId, ChunkId>;
type Verdict = Result<(), String>;

fn files_of(image: &Image, kind: Kind) -> Arc<dyn Backend> {
    match kind {
        Kind::Local => Arc::new(LocalBackend::create_on(Handle::new(&Disk::holding(image)), ROOT).unwrap()),
        Kind::Objects => Arc::new(Objects::holding(image)),
    }
}

fn say<T>(what: &str) -> impl Fn(vml_core::Error) -> Result<T, String> + '_ {
    move |error| Err(format!("{what}: {error:?}"))
}

impl Job {
    /// Looks whether everything holds, and goes on from there.
    pub fn sound(&self, known: &Digests) -> Verdict {
        self.try_sound(known).map_err(|error| format!("{}: {error}{}", self.what, self.image.describe()))
    }

    fn try_sound(&self, known: &Digests) -> Verdict {
        let files = files_of(&self.image, self.kind);
        match open(&files) {
            Ok(_) => {}
            Err(error) if error.kind() == ErrorKind::NotFound && !self.expected.made => {
                let made = Repository::init(Arc::clone(&files), config(), crate::world::OPTIONS);
                made.map(|_| ()).or_else(say("it cannot be made"))?;
            }
            Err(error) => return say("it cannot be opened")(error),
        }
        let mut expected = (*self.expected).clone();
        let rebuilt = look(&files, &expected, known, self.smooth, Some(CheckOptions { data: true, ..CheckOptions::default() }))?;
        if rebuilt && self.indexed {
            self.look_without_unindexed()?;
        }
        let repository = open(&files).or_else(say("it cannot be opened again"))?;
        let id = world().save(&repository, "work", &world().next, &[]).or_else(say("the next save fails"))?;
        expected.saved.insert(id);
        expected.refs.insert((0, "work".to_owned()), [Some(id)].into());
        // The second ends what was left by saves that died; it is tried in every fourth state, and so is a check after it.
        let twice = self.image.digest().as_bytes()[0].is_multiple_of(4);
        for which in if twice { &["first", "second"][..] } else { &["first"] } {
            collect(&repository).or_else(say(&format!("the {which} collection fails")))?;
        }
        look(&files, &expected, known, self.smooth, twice.then_some(CheckOptions::default()))
            .map_err(|error| format!("after a save and a collection: {error}"))?;
        Ok(())
    }

    /// Takes the packs away that are in no segment and on no list of a collection.
    fn look_without_unindexed(&self) -> Verdict {
        if self.image.files.keys().any(|path| path.ends_with(vml_chunk::seal::SLOTS_KEY)) {
            // What is in an encrypted repository's index cannot be told from here.
            return Ok(());
        }
        let mut named: HashSet<PackId> = HashSet::new();
        for (path, content) in &self.image.files {
            if path.contains("index/") {
                let segment = Segment::from_data(content.clone()).map_err(|error| format!("{path}: {error:?}"))?;
                let count = u32::try_from(segment.pack_count()).unwrap();
                named.extend((0..count).filter_map(|number| segment.pack(number)).map(|pack| pack.id));
            }
            if path.ends_with("gc/quarantine") {
                let list: Quarantine = decode_record(QUARANTINE_RECORD, content.bytes()).map_err(|error| format!("{error:?}"))?;
                named.extend([&list.packs, &list.abandoned].into_iter().flat_map(vml_chunk::store::PackNames::iter).map(|(_, id)| id));
            }
        }
        let mut image = self.image.clone();
        image.files.retain(|path, _| {
            let is_pack = path.contains("data/") || path.contains("meta/");
            !is_pack || path.rsplit('/').next().and_then(|name| name.parse::<PackId>().ok()).is_none_or(|id| named.contains(&id))
        });
        let repository = open(&files_of(&image, self.kind)).or_else(say("it cannot be opened"))?;
        for id in repository.entry_ids().or_else(say("entries cannot be listed"))? {
            digest(&repository, &id).map(|_| ()).or_else(say(&format!("entry {} needs what the index does not have", id.short())))?;
        }
        Ok(())
    }
}

/// Looks whether everything is there; tells whether the index had to be mended.
fn look(files: &Arc<dyn Backend>, expected: &Expected, known: &Digests, smooth: bool, check: Option<CheckOptions>) -> Result<bool, String> {
    let repository = open(files).or_else(say("it cannot be opened"))?;
    let ids = repository.entry_ids().or_else(say("entries cannot be listed"))?;
    if let Some(lost) = expected.saved.iter().find(|id| !ids.contains(id)) {
        return Err(format!("entry {} is gone", lost.short()));
    }
    for id in &ids {
        let found = digest(&repository, id).or_else(say(&format!("entry {} is not whole", id.short())))?;
        if known.get(id).is_some_and(|known| *known != found) {
            return Err(format!("entry {} is another", id.short()));
        }
    }
    let rebuilt = repository.open_report().is_some_and(|report| report.indexed_packs > 0);
    let monitor = CollectMonitor::default();
    if let Some(check) = check {
        repository.check(check, &monitor).map(|_| ()).or_else(say("it cannot be checked"))?;
    }
    let is_flaw = |problem: &Problem| expected.flawed && problem.subject.starts_with("pack ");
    if let Some(problem) = monitor.problems().iter().find(|problem| !is_flaw(problem)) {
        return Err(format!("a check finds: {problem}"));
    }
    if let Some(notice) =
        monitor.notices().iter().find(|notice| !notice.contains("not in the index: it was rebuilt") && !notice.contains("without parity"))
    {
        return Err(format!("a check tells: {notice}"));
    }
    for ((kind, name), values) in &expected.refs {
        let found = repository.refs().get(RefKind::ALL[*kind], name).or_else(say("a ref cannot be read"))?;
        // One that names what is being forgotten moves.
        let moved = expected.moving.contains(&(*kind, name.clone())) || values.iter().flatten().any(|id| !expected.saved.contains(id));
        let is_another = !smooth && found.is_some_and(|id| ids.contains(&id));
        if !values.contains(&found) && !moved && !is_another {
            return Err(format!("{:?} {name} points to {found:?}, and not to one of {values:?}", RefKind::ALL[*kind]));
        }
    }
    for (id, text) in &expected.notes {
        let notes = repository.notes_of(id).or_else(say("notes cannot be read"))?;
        if !notes.iter().any(|note| note.text == *text) {
            return Err(format!("the note {text:?} is gone"));
        }
    }
    Ok(rebuilt)
}

/// The digests of what is there at the end of a run, beside those that are known.
pub fn learn(known: &Digests, files: &Arc<dyn Backend>, what: &str) -> Digests {
    let mut all = digests(files, what);
    all.extend(known);
    all
}
