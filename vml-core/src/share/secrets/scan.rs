//! Looks through what a share file would carry.

use super::SecretRules;
use super::content::ContentSearch;
use crate::disk::SavedDisk;
use crate::entry::{DiskPart, Entry, EntryId};
use crate::monitor::{Monitor, Task};
use crate::recipe::{GetChunk, differing_ranges, read_stream};
use crate::repository::Repository;
use crate::share::write::{ShareRequest, select};
use crate::tree::{Change, Content, Node, NodeKind, diff_trees};
use crate::volume::{self, GuestTree, TreePair, Volume};
use std::collections::BTreeMap;
use vml_chunk::{Error, ErrorKind, Result};

/// Most findings that are kept; who has more has seen enough.
const FINDINGS_MAX: usize = 10_000;

/// What was found.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub enum Found {
    /// A file that a rule of this name is about, by its path or its content.
    Secret(String),
    /// A volume of a disk whose files cannot be looked at; by its file system.
    Unseen(String),
    /// The memory of a machine, which holds whatever its programs knew.
    Memory,
}

/// Something that should not be shared unnoticed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Finding {
    /// The entry.
    pub entry: EntryId,
    /// The disk and partition that it is on; none for an entry's tree.
    pub disk: Option<(String, u32)>,
    /// Its path.
    pub path: Vec<u8>,
    /// What it is.
    pub found: Found,
}

/// Looks through what sharing by `request` would carry; the receiver has the bases of a thin file.
///
/// # Errors
/// As [`share`](crate::share::share) and the store.
///
/// # Cost
/// Reads the content of files that are new or differ.
pub fn scan(repository: &Repository, request: &ShareRequest<'_>, rules: &SecretRules, monitor: &dyn Monitor) -> Result<Vec<Finding>> {
    let selection = select(repository, request)?;
    let store = repository.store(monitor)?;
    let mut findings = Vec::new();
    for (id, entry) in &selection.entries {
        // The newest that the receiver has of the same area, else the base: what differs from that is in the file.
        let known = selection.known.iter().max_by_key(|known| (known.origin() == entry.origin(), known.time_ms));
        let mut scan = Scan { store, rules, monitor, entry: *id, findings: &mut findings };
        scan.entry(entry, known)?;
    }
    findings.truncate(FINDINGS_MAX);
    Ok(findings)
}

struct Scan<'a> {
    store: &'a dyn GetChunk,
    rules: &'a SecretRules,
    monitor: &'a dyn Monitor,
    entry: EntryId,
    findings: &'a mut Vec<Finding>,
}

impl Scan<'_> {
    fn entry(&mut self, entry: &Entry, known: Option<&Entry>) -> Result<()> {
        if let Some(tree) = entry.tree() {
            let old = known.and_then(Entry::tree).map(|tree| tree.root.clone());
            self.tree(self.store, old.as_ref(), &tree.root, None)?;
        }
        for disk in entry.disks() {
            let old = known.and_then(|known| known.disks().find(|old| old.name == disk.name));
            self.disk(disk, old)?;
        }
        if entry.memory().is_some() {
            self.findings.push(Finding { entry: self.entry, disk: None, path: Vec::new(), found: Found::Memory });
        }
        Ok(())
    }

    fn tree(&mut self, store: &dyn GetChunk, old: Option<&Node>, new: &Node, disk: Option<&(String, u32)>) -> Result<()> {
        let nothing = Node { kind: NodeKind::Directory(crate::recipe::Recipe::empty()), ..new.clone() };
        // Names of one file are found together: what is in one is in all.
        let mut links: BTreeMap<Vec<u8>, Vec<Vec<u8>>> = BTreeMap::new();
        let mut secret_links: BTreeMap<Vec<u8>, String> = BTreeMap::new();
        let mut failed = None;
        let mut found = Vec::new();
        diff_trees(store, old.unwrap_or(&nothing), new, b"", &mut |change: Change| {
            let Some(node) = &change.new else { return true };
            let NodeKind::File(content) = &node.kind else { return true };
            let same = change.old.as_ref().is_some_and(|old| old.kind == node.kind);
            if same {
                return true;
            }
            if let Some(link) = &node.link {
                links.entry(link.clone()).or_default().push(change.path.clone());
            }
            match self.file(store, &change.path, content) {
                Ok(Some(rule)) => {
                    if let Some(link) = &node.link {
                        secret_links.insert(link.clone(), rule.clone());
                    }
                    found.push((change.path, rule));
                }
                Ok(None) => {}
                Err(error) => failed = Some(error),
            }
            failed.is_none() && self.findings.len() + found.len() < FINDINGS_MAX
        })?;
        if let Some(error) = failed {
            return Err(error);
        }
        for (link, rule) in secret_links {
            for path in links.remove(&link).unwrap_or_default() {
                if found.iter().all(|(other, _)| *other != path) {
                    found.push((path, rule.clone()));
                }
            }
        }
        found.sort();
        let finding = |(path, rule)| Finding { entry: self.entry, disk: disk.cloned(), path, found: Found::Secret(rule) };
        self.findings.extend(found.into_iter().map(finding));
        Ok(())
    }

    /// The rule that a file falls under. An empty file holds no secret.
    fn file(&self, store: &dyn GetChunk, path: &[u8], content: &Content) -> Result<Option<String>> {
        self.monitor.advance(Task::Scan, 1, content.len());
        if content.is_empty() {
            return Ok(None);
        }
        if let Some(rule) = self.rules.path_rule(path) {
            return Ok(Some(rule.to_owned()));
        }
        let mut search = ContentSearch::new(&self.rules.content);
        match content {
            Content::Inline(bytes) => _ = search.push(bytes),
            Content::Recipe(recipe) => {
                // Enough is known; the rest of the file need not be read.
                let mut enough = false;
                let read = read_stream(store, recipe, &mut |bytes| {
                    enough = !search.push(bytes);
                    if enough { Err(Error::new(ErrorKind::Interrupted, "enough")) } else { Ok(()) }
                });
                if !enough {
                    read?;
                }
            }
        }
        Ok(search.finish().map(str::to_owned))
    }

    fn disk(&mut self, disk: &DiskPart, old: Option<&DiskPart>) -> Result<()> {
        if old.is_some_and(|old| old.recipe == disk.recipe) {
            return Ok(());
        }
        let saved = SavedDisk::new(self.store, &disk.recipe);
        let old_disk = old.map(|old| SavedDisk::new(self.store, &old.recipe));
        let old_volumes = old_disk.as_ref().map(|old| volume::find(old)).transpose()?.unwrap_or_default();
        for volume in volume::find(&saved)? {
            if let Some(old) = old
                && !differs(self.store, old, disk, &volume)?
            {
                continue;
            }
            let place = (disk.name.clone(), volume.number);
            let unseen = Finding {
                entry: self.entry,
                disk: Some(place.clone()),
                path: Vec::new(),
                found: Found::Unseen(volume.kind.name().to_owned()),
            };
            if self.rules.ignores(volume.kind.name()) {
                continue;
            }
            let opened = GuestTree::open(self.store, &saved, &volume).and_then(|tree| tree.root().map(|root| (tree, root)));
            let Ok((tree, root)) = opened else {
                self.findings.push(unseen);
                continue;
            };
            let before = old_volumes.iter().find(|old| old.offset == volume.offset && old.number == volume.number);
            let before = before.zip(old_disk.as_ref()).and_then(|(volume, disk)| {
                let tree = GuestTree::open(self.store, disk, volume).ok()?;
                let root = tree.root().ok()?;
                Some((tree, root))
            });
            let looked = match &before {
                Some((old, old_root)) => self.tree(&TreePair { old, new: &tree }, Some(old_root), &root, Some(&place)),
                None => self.tree(&tree, None, &root, Some(&place)),
            };
            // A file system that is damaged, or that the guest was writing to, is one that cannot be looked at.
            match looked {
                Ok(()) => {}
                Err(error) if matches!(error.kind(), ErrorKind::Corrupt | ErrorKind::UnsupportedFormat) => self.findings.push(unseen),
                Err(error) => return Err(error),
            }
        }
        Ok(())
    }
}

/// Whether a volume differs from what the receiver has of that disk.
fn differs(store: &dyn GetChunk, old: &DiskPart, new: &DiskPart, volume: &Volume) -> Result<bool> {
    let mut differs = false;
    let end = volume.offset.saturating_add(volume.len);
    differing_ranges(store, &old.recipe, &new.recipe, &mut |range| {
        differs = range.start < end && volume.offset < range.end;
        !differs && range.start < end
    })?;
    Ok(differs)
}
