//! The tree that a command looks into: an entry's own, or that in a volume of one of its disks.

use crate::args::InsideArgs;
use anyhow::{Context as _, Result, bail};
use vml_core::disk::SavedDisk;
use vml_core::entry::{DiskPart, Fact, Owner, Part};
use vml_core::recipe::GetChunk;
use vml_core::tree::{Content, Node, NodeKind, find_path};
use vml_core::volume::{self, GuestTree, Volume};
use vml_core::{Entry, Error, ErrorKind};
use vml_hv::guest;

/// A tree, and what is known of it.
pub struct Inside<'a> {
    /// Where its chunks are.
    pub store: &'a dyn GetChunk,
    /// Its root.
    pub root: Node,
    /// Names of owners.
    pub users: Vec<Owner>,
    /// Names of groups.
    pub groups: Vec<Owner>,
}

/// Hands the tree that `which` means to `look`.
pub fn with_tree<T>(store: &dyn GetChunk, entry: &Entry, which: &InsideArgs, look: impl FnOnce(&Inside<'_>) -> Result<T>) -> Result<T> {
    if let (None, None, Some(tree)) = (&which.disk, which.partition, entry.tree()) {
        return look(&Inside { store, root: tree.root.clone(), users: tree.users.clone(), groups: tree.groups.clone() });
    }
    with_disk_tree(store, disk(entry, which.disk.as_deref())?, which.partition, look)
}

/// The same of a disk.
fn with_disk_tree<T>(
    store: &dyn GetChunk,
    disk: &DiskPart,
    partition: Option<u32>,
    look: impl FnOnce(&Inside<'_>) -> Result<T>,
) -> Result<T> {
    let saved = SavedDisk::new(store, &disk.recipe);
    let volume = choose(store, &saved, &disk.name, partition)?;
    let tree = GuestTree::open(store, &saved, &volume).with_context(|| format!("cannot look into {}", shown(&disk.name, &volume)))?;
    let root = tree.root().with_context(|| format!("cannot read {}", shown(&disk.name, &volume)))?;
    let read = |path: &[u8]| small_file(&tree, &root, path);
    let owners = guest::owners_in(read(b"etc/passwd").as_deref(), read(b"etc/group").as_deref());
    look(&Inside { store: &tree, root: root.clone(), users: owners.users, groups: owners.groups })
}

/// What the first disk that has a guest on it says about that; nothing where there is none that can be read.
pub fn learn(store: &dyn GetChunk, parts: &[Part]) -> Vec<Fact> {
    let disks = parts.iter().filter_map(|part| if let Part::Disk(disk) = part { Some(disk) } else { None });
    let facts = disks.map(|disk| with_disk_tree(store, disk, None, |inside| Ok(identify(inside))).unwrap_or_default());
    facts.into_iter().find(|facts| !facts.is_empty()).unwrap_or_default()
}

fn identify(inside: &Inside<'_>) -> Vec<Fact> {
    guest::facts_in(&|path| small_file(inside.store, &inside.root, path.as_bytes()), None)
}

/// The disk that is meant.
pub fn disk<'e>(entry: &'e Entry, name: Option<&str>) -> Result<&'e DiskPart> {
    let names = || entry.disks().map(|disk| disk.name.as_str()).collect::<Vec<_>>().join(", ");
    let mut disks = entry.disks().filter(|disk| name.is_none_or(|name| disk.name == name));
    match (disks.next(), disks.next(), name) {
        (Some(disk), None, _) => Ok(disk),
        (Some(_), Some(_), _) => bail!(Error::invalid(format!("the entry has several disks: say --disk with one of {}", names()))),
        (None, _, Some(name)) if entry.disks().next().is_some() => {
            bail!(Error::not_found(format!("the entry has no disk {name:?}; it has {}", names())))
        }
        (None, ..) => bail!(Error::not_found("the entry has no tree and no disk")),
    }
}

fn shown(disk: &str, volume: &Volume) -> String {
    let what = volume.kind.name();
    if volume.number == 0 {
        format!("the {what} on disk {disk}")
    } else {
        format!("the {what} in partition {} of disk {disk}", volume.number)
    }
}

/// The volume that is meant: the one that was named, the only one that can be read, or the one with a guest's root.
fn choose(store: &dyn GetChunk, disk: &SavedDisk<'_>, name: &str, partition: Option<u32>) -> Result<Volume> {
    let volumes = volume::find(disk)?;
    let list = || {
        let row = |volume: &Volume| format!("{} ({})", volume.number, volume.kind.name());
        if volumes.is_empty() { "none".to_owned() } else { volumes.iter().map(row).collect::<Vec<_>>().join(", ") }
    };
    if let Some(number) = partition {
        let found = volumes.iter().find(|volume| volume.number == number);
        return found.cloned().ok_or_else(|| Error::not_found(format!("disk {name} has no partition {number}; it has {}", list())).into());
    }
    let readable: Vec<&Volume> = volumes.iter().filter(|volume| volume.kind.is_readable()).collect();
    let has_root = |volume: &&&Volume| {
        let tree = GuestTree::open(store, disk, volume).ok();
        tree.is_some_and(|tree| tree.root().is_ok_and(|root| find_path(&tree, &root, b"etc/passwd").is_ok()))
    };
    let roots = || readable.iter().filter(has_root).collect::<Vec<_>>();
    match readable.as_slice() {
        [] => {
            let message =
                format!("disk {name} has no file system that can be read yet, only ext2, ext3 and ext4 can; its partitions: {}", list());
            bail!(Error::new(ErrorKind::UnsupportedFormat, message))
        }
        [only] => Ok((*only).clone()),
        _ => match roots().as_slice() {
            [root] => Ok((**root).clone()),
            _ => bail!(Error::invalid(format!("disk {name} has several file systems: say --partition with one of {}", list()))),
        },
    }
}

/// A small file's bytes, if it is there.
fn small_file(store: &dyn GetChunk, root: &Node, path: &[u8]) -> Option<Vec<u8>> {
    let node = find_path(store, root, path).ok().filter(|node| node.len() <= 1 << 20)?;
    let mut bytes = Vec::new();
    match &node.kind {
        NodeKind::File(Content::Inline(inline)) => bytes.extend_from_slice(inline),
        NodeKind::File(Content::Recipe(recipe)) => vml_core::recipe::read_stream(store, recipe, &mut |part| {
            bytes.extend_from_slice(part);
            Ok(())
        })
        .ok()?,
        _ => return None,
    }
    Some(bytes)
}
