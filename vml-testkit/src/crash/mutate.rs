//! The log of a program that syncs less, or does things in another order: what a crash test must find.
//!
//! Logs keep their length, so that what was acknowledged at some place of one was acknowledged at that place of the other.

use super::disk::Op;
use super::image::parent;
use std::collections::{BTreeSet, HashMap};

/// Picks names.
pub type Names<'a> = &'a dyn Fn(&str) -> bool;

/// The operations that belong to giving or taking away the names that `names` picks: making the file, writing and syncing it, naming it, syncing the directory.
fn group(log: &[Op], names: Names<'_>) -> BTreeSet<usize> {
    let mut made: HashMap<&str, u64> = HashMap::new();
    let mut group = BTreeSet::new();
    for (at, op) in log.iter().enumerate() {
        if let Op::Create(number, Some(path)) = op {
            made.insert(path, *number);
        }
        let Some(name) = op.name().filter(|name| names(name)) else { continue };
        let number = match op {
            Op::Link(number, _) | Op::Create(number, _) => Some(*number),
            Op::Rename(from, _) => made.get(from.as_str()).copied(),
            _ => None,
        };
        group.insert(at);
        let of_file = |op: &Op| match op {
            Op::Create(other, _) | Op::Write(other, _) | Op::Sync(other) => Some(*other) == number,
            _ => false,
        };
        group.extend((0..at).filter(|at| of_file(&log[*at])));
        let synced = (at + 1..log.len()).find(|at| matches!(&log[*at], Op::SyncDir(dir) if dir == parent(name)));
        group.extend(synced);
    }
    group
}

fn nothing() -> Op {
    Op::SyncDir("nowhere".to_owned())
}

/// Files that get such names are not synced.
pub fn files_not_synced(log: &[Op], names: Names<'_>) -> Vec<Op> {
    let group = group(log, names);
    let drop = |(at, op): (usize, &Op)| if group.contains(&at) && matches!(op, Op::Sync(_)) { nothing() } else { op.clone() };
    log.iter().enumerate().map(drop).collect()
}

/// Directories of these names are not synced.
pub fn dirs_not_synced(log: &[Op], names: Names<'_>) -> Vec<Op> {
    let drop = |op: &Op| match op {
        Op::SyncDir(dir) if names(dir) => nothing(),
        other => other.clone(),
    };
    log.iter().map(drop).collect()
}

/// The first names that `late` picks up to `end` are given only after all that `early` picks.
pub fn moved_behind(log: &[Op], late: Names<'_>, early: Names<'_>) -> Vec<Op> {
    let (late, early) = (group(log, late), group(log, early));
    let place = early.last().copied().expect("the log has what is to be early");
    let late: BTreeSet<usize> = late.into_iter().filter(|at| *at < place && !early.contains(at)).collect();
    assert!(!late.is_empty(), "nothing is moved");
    let mut ops: Vec<Op> = (0..=place).filter(|at| !late.contains(at)).map(|at| log[at].clone()).collect();
    ops.extend(late.iter().map(|at| log[*at].clone()));
    ops.extend_from_slice(&log[place + 1..]);
    ops
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::Arc;

    #[test]
    fn a_group_is_what_belongs_to_a_name() {
        let write = |number| Op::Write(number, Arc::new(vec![0]));
        let publish = |number: u64, name: &str| {
            vec![
                Op::Create(number, None),
                write(number),
                Op::Sync(number),
                Op::Link(number, name.to_owned()),
                Op::SyncDir(parent(name).to_owned()),
            ]
        };
        let log = [publish(1, "r/a/1"), publish(2, "r/b/2")].concat();
        assert_eq!(
            moved_behind(&log, &|name| name == "r/a/1", &|name| name == "r/b/2"),
            [publish(2, "r/b/2"), publish(1, "r/a/1")].concat()
        );
        let unsynced = files_not_synced(&log, &|name| name.starts_with("r/b"));
        assert_eq!((unsynced.len(), &unsynced[7]), (log.len(), &nothing()));
        assert_eq!(unsynced[..7], log[..7]);
        assert_eq!(dirs_not_synced(&log, &|dir| dir == "r/a")[4], nothing());
    }
}
