//! Saves a state: chunks, then the index, then the entry, then the refs.

use super::Repository;
use crate::entry::{BaseRef, Cost, Entry, EntryId, EntryKind, Fact, Owner, Part, TreePart};
use crate::monitor::Monitor;
use crate::refs::{RefKind, check_name};
use crate::tree::{CaptureOptions, Captured, Exclude, Timestamp, capture_tree};
use std::collections::BTreeSet;
use std::path::Path;
use vml_chunk::{Error, ErrorKind, Result, WriteStats};

/// A tree to save.
pub struct SaveTree<'a> {
    /// Its directory.
    pub path: &'a Path,
    /// What to leave out.
    pub exclude: &'a Exclude,
    /// Whether to leave out what is mounted inside.
    pub one_file_system: bool,
    /// Names of owners, as far as they are known.
    pub users: &'a [Owner],
    /// Names of groups.
    pub groups: &'a [Owner],
}

/// What to save, and what the library cannot know: who, when, why.
pub struct SaveRequest<'a> {
    /// An area's state or a base.
    pub kind: EntryKind,
    /// The tree.
    pub tree: SaveTree<'a>,
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
    /// The time now.
    pub now: Timestamp,
    /// Milliseconds since the save began; asked when it is about to end.
    pub elapsed_ms: &'a dyn Fn() -> u64,
}

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
    pub fn save(&self, request: SaveRequest<'_>, monitor: &dyn Monitor) -> Result<Saved> {
        let refs = self.refs();
        let (ref_kind, ref_name) = match &request.kind {
            EntryKind::State { area } => (RefKind::Area, area.clone()),
            EntryKind::Base { name, version } => (RefKind::Base, format!("{name}@{version}")),
        };
        let latest = refs.get(ref_kind, &ref_name)?;
        if let (RefKind::Base, Some(taken)) = (ref_kind, latest) {
            return Err(Error::new(ErrorKind::AlreadyExists, format!("the base {ref_name} exists already: it is entry {}", taken.short())));
        }
        self.check_tags(request.tags)?;
        let store = self.store(monitor)?;
        let parent = latest.and_then(|id| match self.entry(&id) {
            Ok(entry) => Some(entry),
            Err(error) => {
                monitor.notice(&format!("the latest entry cannot be read, so every file is: {error}"));
                None
            }
        });
        let chunker = self.config().chunker.build()?;
        let report = self.open_report();
        let options = CaptureOptions {
            exclude: request.tree.exclude,
            one_file_system: request.tree.one_file_system,
            parent: parent.as_ref().and_then(Entry::tree).map(|tree| (&tree.root, &tree.witness)),
            distrust_parent: report.is_some_and(|report| !report.missing_packs.is_empty() || !report.unreadable_packs.is_empty()),
            now: Some(request.now),
            inline_max: self.config().inline_max as usize,
            threads: self.options.threads,
        };
        let writer = store.writer()?;
        let captured = capture_tree(&writer, chunker.as_ref(), request.tree.path, &options, monitor)?;
        let stats = writer.finish()?;
        let problems_count = captured.problems_count;
        let entry = Entry {
            kind: request.kind,
            parents: latest.into_iter().collect(),
            base: request.base,
            time_ms: request.now.seconds * 1000 + i64::from(request.now.nanoseconds / 1_000_000),
            author: request.author.to_owned(),
            message: request.message.to_owned(),
            tags: request.tags.to_vec(),
            parts: vec![Part::Tree(Box::new(tree_part(captured, &request.tree)))],
            cost: Cost {
                new_chunks_count: stats.new_chunks,
                new_bytes: stats.new_bytes,
                stored_bytes: stats.stored_bytes,
                elapsed_ms: (request.elapsed_ms)(),
            },
            facts: request.facts,
        };
        let id = self.put_entry(&entry)?;
        refs.set(ref_kind, &ref_name, latest, Some(id))
            .map_err(|error| error.context(format!("entry {} is saved, but {ref_name} does not point to it", id.short())))?;
        for tag in request.tags {
            refs.set(RefKind::Tag, tag, None, Some(id))
                .map_err(|error| error.context(format!("entry {} is saved, but without the tag {tag}", id.short())))?;
        }
        Ok(Saved { id, entry, stats, problems_count })
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
