//! New qcow2 images, of their own or upon another image.
//!
//! ```text
//! header │ refcount table │ refcount blocks │ L1 table │ L2 tables │ clusters with bytes, in the disk's order
//! ```
//! What every cluster will be is known beforehand, so all tables are written first and a cluster's place follows from the
//! clusters before it: threads write without asking each other. Nothing is shared, so every refcount is 1. The layout is
//! that of QEMU's specification, version 3.

use super::part::PartFile;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::FileExt;
use std::path::Path;
use vml_core::disk::{ClusterMap, ClusterState, DiskTarget};
use vml_core::{Error, IoResultExt as _, Result};

/// Length of a cluster: what QEMU makes by default.
pub const CLUSTER_LEN: u64 = 1 << 16;
/// Entries of an L2 table, of 8 bytes each.
const L2_ENTRIES: u64 = CLUSTER_LEN / 8;
/// Refcounts in a block, of 2 bytes each.
const BLOCK_REFCOUNTS: u64 = CLUSTER_LEN / 2;
/// Longest name of a backing file.
const BACKING_NAME_MAX: usize = 1023;
/// A table's entry is the only one that names its cluster.
const COPIED: u64 = 1 << 63;
/// An L2 entry that reads as zeros.
const ZERO: u64 = 1;
/// Length of the header in version 3 without later fields.
const HEADER_LEN: u32 = 104;
const BACKING_FORMAT_EXTENSION: u32 = 0xE279_2ACA;

/// The image that a new one stands upon.
#[derive(Debug, Clone, Copy)]
pub struct BackingImage<'a> {
    /// As it is written down: best from the root.
    pub path: &'a Path,
    /// For example `raw`.
    pub format: &'a str,
}

/// A qcow2 image being written.
pub struct Qcow2Target<'m> {
    part: PartFile,
    map: &'m ClusterMap,
    data_at: u64,
}

/// Where things are, in clusters.
struct Layout {
    refcount_table: u64,
    refcount_blocks: u64,
    l1: u64,
    l2: u64,
    data: u64,
    end: u64,
}

impl Layout {
    fn new(l1_count: u64, l2_count: u64, data_count: u64) -> Self {
        let l1_clusters = (l1_count * 8).div_ceil(CLUSTER_LEN).max(1);
        let (mut tables, mut blocks) = (1, 1);
        loop {
            let end = 1 + tables + blocks + l1_clusters + l2_count + data_count;
            let needed_blocks = end.div_ceil(BLOCK_REFCOUNTS);
            let needed_tables = (needed_blocks * 8).div_ceil(CLUSTER_LEN);
            if (needed_tables, needed_blocks) == (tables, blocks) {
                let l1 = 1 + tables + blocks;
                let l2 = l1 + l1_clusters;
                return Self { refcount_table: 1, refcount_blocks: 1 + tables, l1, l2, data: l2 + l2_count, end };
            }
            // Both only grow, so this ends.
            (tables, blocks) = (needed_tables.max(tables), needed_blocks.max(blocks));
        }
    }
}

impl<'m> Qcow2Target<'m> {
    /// Begins an image with the clusters of `map`, which are of [`CLUSTER_LEN`], upon `backing` if it is an overlay; `replace` says whether
    /// a file at `path` may be replaced at the end.
    ///
    /// # Errors
    /// `AlreadyExists`, `InvalidInput` for other clusters or a backing file's name that is too long, or what the file system says.
    pub fn create(path: &Path, map: &'m ClusterMap, backing: Option<&BackingImage<'_>>, replace: bool) -> Result<Self> {
        if map.cluster_len() != CLUSTER_LEN {
            return Err(Error::invalid(format!("a qcow2 image is written in clusters of {CLUSTER_LEN} bytes, not {}", map.cluster_len())));
        }
        let l1_count = map.clusters_count().div_ceil(L2_ENTRIES);
        let has_table =
            |index: &u64| (index * L2_ENTRIES..(index + 1) * L2_ENTRIES).any(|cluster| map.state(cluster) != ClusterState::Absent);
        let tables: Vec<u64> = (0..l1_count).filter(has_table).collect();
        let layout = Layout::new(l1_count, tables.len() as u64, map.data_count());
        let header = header(map.disk_len(), l1_count, &layout, backing)?;
        let part = PartFile::create(path, replace)?;
        let write = |bytes: &[u8], cluster: u64| {
            part.file.write_all_at(bytes, cluster * CLUSTER_LEN).at(|| format!("cannot write the tables of {}", path.display()))
        };
        part.file.set_len(layout.end * CLUSTER_LEN).at(|| format!("cannot make {} as long as it must be", path.display()))?;
        write(&header, 0)?;
        let blocks = layout.refcount_blocks..layout.l1;
        write(&words(blocks.clone().map(|block| block * CLUSTER_LEN)), layout.refcount_table)?;
        for (block, first) in blocks.zip((0..).step_by(usize::try_from(BLOCK_REFCOUNTS).expect("a small number"))) {
            let count = BLOCK_REFCOUNTS.min(layout.end - first);
            let ones: Vec<u8> = (0..count).flat_map(|_| 1_u16.to_be_bytes()).collect();
            write(&ones, block)?;
        }
        let mut l1 = vec![0; usize::try_from(l1_count).expect("bounded by the map")];
        for (table, at) in tables.iter().zip(layout.l2..) {
            l1[usize::try_from(*table).expect("below the table's length")] = (at * CLUSTER_LEN) | COPIED;
            let first = table * L2_ENTRIES;
            let mut place = layout.data + map.data_before(first);
            let entries = (first..first + L2_ENTRIES).map(|cluster| match map.state(cluster) {
                ClusterState::Absent => 0,
                ClusterState::Zero => ZERO,
                ClusterState::Data => {
                    place += 1;
                    ((place - 1) * CLUSTER_LEN) | COPIED
                }
            });
            write(&words(entries), at)?;
        }
        write(&words(l1.into_iter()), layout.l1)?;
        Ok(Self { part, map, data_at: layout.data * CLUSTER_LEN })
    }

    /// Makes the image durable and gives it its name.
    ///
    /// # Errors
    /// `AlreadyExists` when somebody took the name meanwhile, or what the file system says.
    pub fn finish(self) -> Result<()> {
        self.part.finish()
    }
}

impl DiskTarget for Qcow2Target<'_> {
    fn write_at(&self, mut bytes: &[u8], mut offset: u64) -> Result<()> {
        let bad = |what: &str| Err(Error::invalid(format!("{what} of {}", self.part.path.display())));
        if offset.checked_add(bytes.len() as u64).is_none_or(|end| end > self.map.disk_len()) {
            return bad("bytes beyond the end");
        }
        while !bytes.is_empty() {
            let cluster = offset / CLUSTER_LEN;
            let end = offset + bytes.len() as u64;
            // Clusters that follow each other on the disk do so in the file, up to one without bytes.
            let run = (cluster..end.div_ceil(CLUSTER_LEN)).take_while(|cluster| self.map.state(*cluster) == ClusterState::Data).count();
            let run_end = ((cluster + run as u64) * CLUSTER_LEN).min(end);
            if run == 0 {
                return bad("bytes where none were expected");
            }
            let (part, rest) = bytes.split_at(usize::try_from(run_end - offset).expect("at most the bytes"));
            let at = self.data_at + self.map.data_before(cluster) * CLUSTER_LEN + offset % CLUSTER_LEN;
            self.part.file.write_all_at(part, at).at(|| format!("cannot write {} at {at}", self.part.path.display()))?;
            (bytes, offset) = (rest, run_end);
        }
        Ok(())
    }
}

/// Big-endian words.
fn words(values: impl Iterator<Item = u64>) -> Vec<u8> {
    values.flat_map(u64::to_be_bytes).collect()
}

fn header(disk_len: u64, l1_count: u64, layout: &Layout, backing: Option<&BackingImage<'_>>) -> Result<Vec<u8>> {
    let mut extensions = Vec::new();
    if let Some(backing) = backing {
        extensions.extend(BACKING_FORMAT_EXTENSION.to_be_bytes());
        extensions.extend(u32::try_from(backing.format.len()).unwrap_or(u32::MAX).to_be_bytes());
        extensions.extend(backing.format.as_bytes());
        extensions.resize(extensions.len().next_multiple_of(8), 0);
    }
    extensions.extend([0; 8]);
    let name = backing.map_or(&b""[..], |backing| backing.path.as_os_str().as_bytes());
    if name.len() > BACKING_NAME_MAX {
        return Err(Error::invalid(format!("the path of the base's image is longer than the {BACKING_NAME_MAX} bytes that qcow2 allows")));
    }
    let name_at = if name.is_empty() { 0 } else { u64::from(HEADER_LEN) + extensions.len() as u64 };
    let narrow = |value: u64| u32::try_from(value).map_err(|_| Error::invalid("the disk is too long for a qcow2 image"));
    let mut header = b"QFI\xfb".to_vec();
    header.extend(3_u32.to_be_bytes());
    header.extend(name_at.to_be_bytes());
    header.extend(narrow(name.len() as u64)?.to_be_bytes());
    header.extend(CLUSTER_LEN.trailing_zeros().to_be_bytes());
    // QEMU counts in sectors and would cut what is less than one.
    header.extend(disk_len.next_multiple_of(512).to_be_bytes());
    header.extend(0_u32.to_be_bytes()); // not encrypted
    header.extend(narrow(l1_count)?.to_be_bytes());
    header.extend((layout.l1 * CLUSTER_LEN).to_be_bytes());
    header.extend((layout.refcount_table * CLUSTER_LEN).to_be_bytes());
    header.extend(narrow(layout.refcount_blocks - layout.refcount_table)?.to_be_bytes());
    header.extend([0; 12]); // no snapshots
    header.extend([0; 24]); // no features
    header.extend(4_u32.to_be_bytes()); // refcounts of 2 to the 4th bits
    header.extend(HEADER_LEN.to_be_bytes());
    header.extend(extensions);
    header.extend(name);
    Ok(header)
}
