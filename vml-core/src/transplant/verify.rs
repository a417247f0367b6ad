//! Compares two entries in two repositories by what they hold, whatever their chunks are called.

use crate::entry::{Entry, Part};
use crate::monitor::{Monitor, Task};
use crate::recipe::{GetChunk, Piece, Recipe, RecipeReader};
use crate::tree::{Content, ListingReader, Node, NodeKind, display_path, join_path, same_bytes};
use vml_chunk::{Error, Result};

/// Members that any tree may have.
const MEMBERS_MIN: u64 = 100_000;

/// A side: its chunks.
type Store<'a> = &'a dyn GetChunk;

/// Reads two entries and compares them: trees member by member with all attributes, bytes and holes; disks and memory by what a reader sees; everything else but ids, parents
/// and what each stored.
///
/// # Errors
/// `Corrupt` naming the first difference; else what either store says.
///
/// # Cost
/// Everything is read on both sides.
pub fn verify_equal(a: (Store<'_>, &Entry), b: (Store<'_>, &Entry), monitor: &dyn Monitor) -> Result<()> {
    let plain = |entry: &Entry| Entry {
        parents: Vec::new(),
        base: entry.base.as_ref().map(|base| crate::entry::BaseRef { entry: crate::entry::EntryId::of(&[]), ..base.clone() }),
        parts: Vec::new(),
        cost: crate::entry::Cost::default(),
        ..entry.clone()
    };
    if plain(a.1) != plain(b.1) || a.1.parts.len() != b.1.parts.len() {
        return Err(differs("what the entry says of itself"));
    }
    a.1.parts.iter().zip(&b.1.parts).try_for_each(|(x, y)| parts((a.0, x), (b.0, y), monitor))
}

fn differs(what: &str) -> Error {
    Error::corrupt(format!("what was carried is not what it was: {what} differs"))
}

fn parts(a: (Store<'_>, &Part), b: (Store<'_>, &Part), monitor: &dyn Monitor) -> Result<()> {
    match (a.1, b.1) {
        (Part::Tree(x), Part::Tree(y)) => {
            if (&x.users, &x.groups, &x.stats, &x.left_out) != (&y.users, &y.groups, &y.stats, &y.left_out) {
                return Err(differs("what is said of the tree"));
            }
            // Members that the tree does not say to have: it contains itself many times.
            let limit = x.stats.limit().members_count.saturating_mul(2).max(MEMBERS_MIN);
            trees((a.0, &x.root), (b.0, &y.root), limit, monitor)
        }
        (Part::Disk(x), Part::Disk(y)) => {
            if (&x.name, &x.format, &x.layers, &x.volumes) != (&y.name, &y.format, &y.layers, &y.volumes) {
                return Err(differs(&format!("what is said of the disk {}", x.name)));
            }
            streams((a.0, &x.recipe), (b.0, &y.recipe), &format!("the disk {}", x.name), monitor)
        }
        (Part::Machine(x), Part::Machine(y)) if x == y => Ok(()),
        (Part::Memory(x), Part::Memory(y)) if (&x.format, &x.facts) == (&y.format, &y.facts) => {
            streams((a.0, &x.recipe), (b.0, &y.recipe), "the memory", monitor)
        }
        _ => Err(differs("a part of the entry")),
    }
}

fn streams(a: (Store<'_>, &Recipe), b: (Store<'_>, &Recipe), what: &str, monitor: &dyn Monitor) -> Result<()> {
    let (x, y) = (Content::Recipe(a.1.clone()), Content::Recipe(b.1.clone()));
    let same = same_bytes((a.0, &x), (b.0, &y))?;
    monitor.advance(Task::Verify, 0, a.1.len);
    if same { Ok(()) } else { Err(differs(what)) }
}

/// A directory of both trees that is still to be compared.
struct Both {
    path: Vec<u8>,
    listings: (Recipe, Recipe),
}

fn trees(a: (Store<'_>, &Node), b: (Store<'_>, &Node), mut limit: u64, monitor: &dyn Monitor) -> Result<()> {
    let mut stack = Vec::new();
    members((a.0, a.1), (b.0, b.1), b"", &mut stack, monitor)?;
    while let Some(Both { path, listings }) = stack.pop() {
        let (mut left, mut right) = (ListingReader::new(a.0, &listings.0), ListingReader::new(b.0, &listings.1));
        loop {
            match (left.next().transpose()?, right.next().transpose()?) {
                (None, None) => break,
                (Some(x), Some(y)) if x.name == y.name => {
                    limit = limit.checked_sub(1).ok_or_else(|| Error::corrupt("the tree has more members than it says"))?;
                    members((a.0, &x), (b.0, &y), &join_path(&path, &x.name), &mut stack, monitor)?;
                }
                _ => return Err(differs(&format!("the directory /{}", display_path(&path)))),
            }
        }
    }
    Ok(())
}

/// Compares two members; directories are left on the stack.
fn members(a: (Store<'_>, &Node), b: (Store<'_>, &Node), path: &[u8], stack: &mut Vec<Both>, monitor: &dyn Monitor) -> Result<()> {
    let (x, y) = (a.1, b.1);
    let attributes = |node: &Node| Node { kind: NodeKind::Fifo, ..node.clone() };
    let same = attributes(x) == attributes(y)
        && match (&x.kind, &y.kind) {
            (NodeKind::File(left), NodeKind::File(right)) => {
                same_bytes((a.0, left), (b.0, right))? && holes(a.0, left)? == holes(b.0, right)?
            }
            (NodeKind::Directory(left), NodeKind::Directory(right)) => {
                stack.push(Both { path: path.to_vec(), listings: (left.clone(), right.clone()) });
                true
            }
            (left, right) => left == right,
        };
    monitor.advance(Task::Verify, 1, x.len());
    if same { Ok(()) } else { Err(differs(&format!("/{}", display_path(path)))) }
}

/// Where a file has holes and zeros, digested; equal for equal layouts.
fn holes(store: Store<'_>, content: &Content) -> Result<[u8; 32]> {
    let mut hasher = blake3::Hasher::new();
    if let Content::Recipe(recipe) = content {
        let mut at = 0_u64;
        for piece in RecipeReader::new(store, recipe) {
            let piece = piece?;
            let kind = match piece {
                Piece::Data { .. } => None,
                Piece::Zero { .. } => Some(1_u64),
                Piece::Hole { .. } => Some(2),
            };
            if let Some(kind) = kind {
                [kind, at, piece.len()].iter().for_each(|number| _ = hasher.update(&number.to_le_bytes()));
            }
            at += piece.len();
        }
    }
    Ok(*hasher.finalize().as_bytes())
}
