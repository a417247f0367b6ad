//! Where the files of a disk lie, as a hint for where to cut it.
//!
//! A file in a disk that is cut where the file begins and ends has the chunks that the same file has in a tree. The hint
//! need not be right: what is saved does not depend on it, so what cannot be read is passed over.

use super::ext4::{Ext4, InodeKind};
use super::partition::Volume;
use crate::disk::{Disk, FileRun};
use vml_chunk::Result;

/// Inodes below are the file system's own: its journal, room for its tables to grow.
const FIRST_FILE: u32 = 11;

/// The runs of all files of all volumes that are understood, sorted and apart, at most `runs_max` of them.
///
/// # Errors
/// None for damage; kept for a disk whose reading fails.
///
/// # Cost
/// Reads the inode tables as far as they are in use, and the mappings of files in more than four pieces.
pub fn file_runs(disk: &dyn Disk, volumes: &[Volume], runs_max: usize) -> Result<Vec<FileRun>> {
    let mut runs = Vec::new();
    for volume in volumes.iter().filter(|volume| volume.kind.is_readable()) {
        let Ok(ext4) = Ext4::open(disk, volume) else { continue };
        ext4.for_inodes(&mut |inode| {
            if inode.kind == InodeKind::File
                && inode.number >= FIRST_FILE
                && let Ok(found) = ext4.home_runs(&inode)
            {
                let room = runs_max - runs.len();
                runs.extend(found.iter().take(room).map(|run| FileRun { start: run.disk_offset, end: run.disk_offset + run.len }));
            }
            runs.len() < runs_max
        });
    }
    runs.sort_unstable_by_key(|run| (run.start, run.end));
    let mut end = 0;
    // Two files cannot lie upon each other; where they say so, the first one counts.
    runs.retain(|run| {
        let apart = run.start >= end && run.start < run.end;
        if apart {
            end = run.end;
        }
        apart
    });
    Ok(runs)
}
