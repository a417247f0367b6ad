//! Saves a state: chunks, then the index, then the entry, then the refs.

use super::Repository;
use super::save_disk::KnownStates;
use crate::disk::{Disk, Layer};
use crate::entry::{BaseRef, Cost, Entry, EntryId, EntryKind, Fact, MACHINE_MAX_LEN, MachinePart, Owner, Part, TreePart};
use crate::monitor::Monitor;
use crate::recipe::GetChunk;
use crate::refs::{RefKind, check_name};
use crate::tree::{CaptureOptions, Captured, Exclude, ListedOptions, Timestamp, TreeSource, capture_listed, capture_tree};
use std::collections::BTreeSet;
use std::ops::Range;
use std::path::Path;
use vml_chunk::{Error, ErrorKind, Result, StoreWriter, WriteStats};

/// Times that a save begins anew when collections take away what it relied on.
const ATTEMPTS: usize = 5;

/// Where a tree to save is.
pub enum TreePlace<'a> {
    /// In a directory of this host.
    Local(&'a Path),
    /// Elsewhere.
    Source {
        /// What lists and brings it.
        source: &'a dyn TreeSource,
        /// A directory of this host for a listing that is too long for memory.
        spool: &'a Path,
    },
}

/// A tree to save.
pub struct SaveTree<'a> {
    /// Where it is.
    pub place: TreePlace<'a>,
    /// What to leave out.
    pub exclude: &'a Exclude,
    /// Whether to leave out what is mounted inside.
    pub one_file_system: bool,
    /// Names of owners, as far as they are known.
    pub users: &'a [Owner],
    /// Names of groups.
    pub groups: &'a [Owner],
}

/// A disk to save.
pub struct SaveDisk<'a> {
    /// By what it is told apart from the machine's other disks; a name like an area's.
    pub name: &'a str,
    /// The format of its image, for `vml show`.
    pub format: &'a str,
    /// The disk.
    pub disk: &'a dyn Disk,
    /// The entry whose disk of this name it can differ from in these ranges only, sorted and apart: what a hypervisor's
    /// dirty bitmap tells. Without it the images themselves are asked.
    pub changed: Option<(EntryId, &'a [Range<u64>])>,
    /// Images of this host that show disks of entries, besides those that the entries were saved from.
    pub shown: &'a [ShownDisk],
}

/// A machine's memory to save.
pub struct SaveMemory<'a> {
    /// The layout of its file.
    pub format: &'a str,
    /// The file.
    pub file: &'a dyn Disk,
    /// What is needed to resume it.
    pub facts: &'a [Fact],
}

/// An image, with those below it, that shows a saved disk.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ShownDisk {
    /// The entry.
    pub entry: EntryId,
    /// The name of the disk in it.
    pub disk: String,
    /// The images, topmost first.
    pub layers: Vec<Layer>,
}

/// What to save, and what the library cannot know: who, when, why.
pub struct SaveRequest<'a> {
    /// An area's state or a base.
    pub kind: EntryKind,
    /// The tree, if there is one.
    pub tree: Option<SaveTree<'a>>,
    /// The disks.
    pub disks: &'a [SaveDisk<'a>],
    /// A description of the machine, if there is one.
    pub machine: Option<MachinePart>,
    /// Its memory, at the moment of its disks, if it was running.
    pub memory: Option<SaveMemory<'a>>,
    /// Whether a base that exists is given the parts that it does not have yet; without it, it is taken.
    pub add_parts: bool,
    /// The base it is relative to.
    pub base: Option<BaseRef>,
    /// Who saves.
    pub author: &'a str,
    /// Why.
    pub message: &'a str,
    /// Tags to give to the entry.
    pub tags: &'a [String],
    /// What is known of host and guest.
    pub facts: Vec<Fact>,
    /// What tells more of a guest once it is stored.
    pub learn: Option<Learn<'a>>,
    /// The time now.
    pub now: Timestamp,
    /// Milliseconds since the save began; asked when it is about to end.
    pub elapsed_ms: &'a dyn Fn() -> u64,
}

/// Looks into the parts of an entry before it is written, for what they say about the guest.
pub type Learn<'a> = &'a dyn Fn(&dyn GetChunk, &[Part]) -> Vec<Fact>;

/// A saved entry.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Saved {
    /// Its id.
    pub id: EntryId,
    /// Itself.
    pub entry: Entry,
    /// What the store took and stored.
    pub stats: WriteStats,
    /// Members that could not be saved, or not as they should be.
    pub problems_count: u64,
}

impl Repository {
    /// Saves a state and points the area, or the base, and the tags to it.
    ///
    /// Files known from the area's latest entry are not read. Killed at any moment, it leaves the repository as it was
    /// but for packs that no entry names yet, which the next save uses.
    ///
    /// # Errors
    /// `AlreadyExists` for a base or tag that is taken, `Locked` when somebody else saved the same area meanwhile, `InvalidInput` for
    /// names that cannot be, else what the tree's root or the store says.
    // A request is made for one save, though that may begin anew.
    #[allow(clippy::needless_pass_by_value)]
    pub fn save(&self, request: SaveRequest<'_>, monitor: &dyn Monitor) -> Result<Saved> {
        for _ in 0..ATTEMPTS {
            if let Some(saved) = self.try_save(&request, monitor)? {
                return Ok(saved);
            }
            monitor.notice("a collection took away what this save relied on: it begins anew");
        }
        Err(Error::new(ErrorKind::Locked, "collections took away what this save relied on, again and again: save when none runs"))
    }

    /// `None` when a collection took away what it relied on.
    fn try_save(&self, request: &SaveRequest<'_>, monitor: &dyn Monitor) -> Result<Option<Saved>> {
        let refs = self.refs();
        let (ref_kind, ref_name) = match &request.kind {
            EntryKind::State { area } => (RefKind::Area, area.clone()),
            EntryKind::Base { name, version } => (RefKind::Base, format!("{name}@{version}")),
        };
        let latest = refs.get(ref_kind, &ref_name)?;
        if let (RefKind::Base, Some(taken), false) = (ref_kind, latest, request.add_parts) {
            return Err(Error::new(ErrorKind::AlreadyExists, format!("the base {ref_name} exists already: it is entry {}", taken.short())));
        }
        self.check_tags(request.tags)?;
        check_parts(request)?;
        let store = self.store(monitor)?;
        let read = |id: EntryId, consequence: &str| match self.entry(&id) {
            // Its chunks may be gone.
            Ok(_) if self.is_forgotten(&id).unwrap_or(false) => {
                monitor.notice(&format!("{consequence}: it was forgotten"));
                None
            }
            Ok(entry) => Some((id, entry)),
            Err(error) => {
                monitor.notice(&format!("{consequence}: {error}"));
                None
            }
        };
        let parent = latest.and_then(|id| read(id, "the latest entry cannot be read, so every file is"));
        let mut kept = Vec::new();
        if ref_kind == RefKind::Base && latest.is_some() {
            let Some((_, base)) = &parent else { return Err(Error::corrupt(format!("the base {ref_name} cannot be read"))) };
            kept = parts_to_keep(base, request, &ref_name)?;
        }
        // Its disks' images may lie below those of the area.
        let base = request.base.as_ref().and_then(|base| read(base.entry, "the base cannot be read, so its disks are no help"));
        let known =
            KnownStates { latest: parent.as_ref(), base: base.as_ref(), trusted: !self.has_lost_packs() && !store.has_known_damage()? };
        let needed: Vec<EntryId> = parent.iter().chain(&base).map(|(id, _)| *id).collect();
        let captured = store.writer().and_then(|writer| {
            let (parts, problems_count) = self.capture_parts(&writer, request, &known, monitor)?;
            Ok((parts, problems_count, writer.finish_relying()?))
        });
        let (mut parts, problems_count, (stats, mut reliance)) = match captured {
            Ok(captured) => captured,
            // They were forgotten and collected while we relied on them.
            Err(error) if matches!(error.kind(), ErrorKind::NotFound | ErrorKind::Corrupt) && !self.are_there(&needed)? => return Ok(None),
            Err(error) => return Err(error),
        };
        parts.extend(kept);
        let mut facts = request.facts.clone();
        if let Some(learn) = request.learn {
            facts.extend(learn(store, &parts));
        }
        let entry = Entry {
            kind: request.kind.clone(),
            parents: latest.into_iter().collect(),
            base: request.base.clone(),
            time_ms: request.now.seconds * 1000 + i64::from(request.now.nanoseconds / 1_000_000),
            author: request.author.to_owned(),
            message: request.message.to_owned(),
            tags: request.tags.to_vec(),
            parts,
            cost: Cost {
                new_chunks_count: stats.new_chunks,
                new_bytes: stats.new_bytes,
                stored_bytes: stats.stored_bytes,
                elapsed_ms: (request.elapsed_ms)(),
            },
            facts,
        };
        let Some(id) = self.commit(store, &mut reliance, &entry, &needed)? else { return Ok(None) };
        refs.set(ref_kind, &ref_name, latest, Some(id))
            .map_err(|error| error.context(format!("entry {} is saved, but {ref_name} does not point to it", id.short())))?;
        for tag in request.tags {
            refs.set(RefKind::Tag, tag, None, Some(id))
                .map_err(|error| error.context(format!("entry {} is saved, but without the tag {tag}", id.short())))?;
        }
        Ok(Some(Saved { id, entry, stats, problems_count }))
    }

    /// Captures what `request` asks for; also tells how many members could not be saved as they should.
    fn capture_parts(
        &self,
        writer: &StoreWriter<'_>,
        request: &SaveRequest<'_>,
        known: &KnownStates<'_>,
        monitor: &dyn Monitor,
    ) -> Result<(Vec<Part>, u64)> {
        let mut parts = Vec::new();
        let mut problems_count = 0;
        if let Some(tree) = &request.tree {
            let chunker = self.config().chunker.build()?;
            let options = CaptureOptions {
                exclude: tree.exclude,
                one_file_system: tree.one_file_system,
                parent: known.latest.and_then(|(_, entry)| entry.tree()).map(|tree| (&tree.root, &tree.witness)),
                distrust_parent: !known.trusted,
                now: Some(request.now),
                inline_max: self.config().inline_max as usize,
                threads: self.options.threads,
            };
            let captured = match &tree.place {
                TreePlace::Local(path) => capture_tree(writer, chunker.as_ref(), path, &options, monitor)?,
                TreePlace::Source { source, spool } => {
                    let base = known.base.and_then(|(_, entry)| Some((&entry.tree()?.root, saved_at(entry))));
                    let options = ListedOptions { capture: &options, base, spool };
                    capture_listed(writer, chunker.as_ref(), *source, &options, monitor)?
                }
            };
            problems_count = captured.problems_count;
            parts.push(Part::Tree(Box::new(tree_part(captured, tree))));
        }
        for disk in request.disks {
            let part = self.save_disk(writer, disk, known, request.now, monitor);
            parts.push(Part::Disk(Box::new(part.map_err(|error| error.context(format!("cannot save the disk {}", disk.name)))?)));
        }
        parts.extend(request.machine.clone().map(Part::Machine));
        if let Some(memory) = &request.memory {
            let part = self.save_memory(writer, memory, monitor);
            parts.push(Part::Memory(Box::new(part.map_err(|error| error.context("cannot save the memory"))?)));
        }
        Ok((parts, problems_count))
    }

    pub(crate) fn has_lost_packs(&self) -> bool {
        self.open_report().is_some_and(|report| !report.missing_packs.is_empty() || !report.unreadable_packs.is_empty())
    }

    /// Checks that new tags have possible names that are free.
    fn check_tags(&self, tags: &[String]) -> Result<()> {
        for (i, tag) in tags.iter().enumerate() {
            check_name("tag", tag)?;
            let taken = self.refs().get(RefKind::Tag, tag)?;
            if taken.is_some() || tags[..i].contains(tag) {
                return Err(Error::new(ErrorKind::AlreadyExists, format!("the tag {tag:?} is taken")));
            }
        }
        Ok(())
    }
}

fn saved_at(entry: &Entry) -> Timestamp {
    let nanoseconds = u32::try_from(entry.time_ms.rem_euclid(1000)).expect("below a thousand") * 1_000_000;
    Timestamp { seconds: entry.time_ms.div_euclid(1000), nanoseconds }
}

fn check_parts(request: &SaveRequest<'_>) -> Result<()> {
    if request.tree.is_none() && request.disks.is_empty() && request.machine.is_none() {
        return Err(Error::invalid("there is nothing to save: neither a tree nor a disk"));
    }
    for (i, disk) in request.disks.iter().enumerate() {
        check_name("disk", disk.name)?;
        if request.disks[..i].iter().any(|other| other.name == disk.name) {
            return Err(Error::invalid(format!("two disks have the name {:?}", disk.name)));
        }
    }
    if let Some(machine) = &request.machine {
        check_name("machine's file", &machine.name)?;
        if machine.bytes.len() > MACHINE_MAX_LEN {
            return Err(Error::invalid(format!("the machine's description is longer than {MACHINE_MAX_LEN} bytes")));
        }
    }
    Ok(())
}

/// The parts of a base that stay when `request` adds others.
fn parts_to_keep(base: &Entry, request: &SaveRequest<'_>, name: &str) -> Result<Vec<Part>> {
    for part in &base.parts {
        let what = match part {
            Part::Tree(_) if request.tree.is_some() => "a tree".to_owned(),
            Part::Disk(disk) if request.disks.iter().any(|new| new.name == disk.name) => format!("a disk {}", disk.name),
            Part::Memory(_) if request.memory.is_some() => "a memory".to_owned(),
            Part::Machine(_) if request.machine.is_some() => "a machine's description".to_owned(),
            _ => continue,
        };
        return Err(Error::new(ErrorKind::AlreadyExists, format!("the base {name} has {what} already")));
    }
    Ok(base.parts.clone())
}

fn tree_part(captured: Captured, tree: &SaveTree<'_>) -> TreePart {
    let named = |ids: &BTreeSet<u32>, names: &[Owner]| {
        let mut owners: Vec<Owner> = names.iter().filter(|owner| ids.contains(&owner.id)).cloned().collect();
        owners.sort_by_key(|owner| owner.id);
        // Two names for one number: the first one is the one that tools print.
        owners.dedup_by_key(|owner| owner.id);
        owners
    };
    TreePart {
        users: named(&captured.uids, tree.users),
        groups: named(&captured.gids, tree.groups),
        root: captured.root,
        witness: captured.witness,
        stats: captured.stats,
        exclude: tree.exclude.patterns().to_vec(),
        left_out: captured.left_out,
        left_out_more_count: captured.left_out_more_count,
    }
}
