//! What a guest or a stranger wrote to a disk: partition tables, file systems, headers of images.

use std::collections::HashSet;
use std::fs;
use std::sync::OnceLock;
use vml_core::disk::{Disk, Extent, ExtentKind};
use vml_core::volume::ext4::{Ext4, InodeKind};
use vml_core::volume::{file_runs, find};
use vml_core::{Error, Result};
use vml_hv::image::{Format, OpenOptions, VmdkPlace, decode_qcow2_header, decode_vmdk_descriptor, open};

/// An ext4 of 96 KiB with files, links, inline data and attributes, made by mke2fs; damage begins with something whole.
const TINY: &[u8] = include_bytes!("tiny-ext4.raw.zst");
const TINY_LEN: usize = 96 << 10;
/// Inodes that are looked at in one file system.
const INODES_MAX: usize = 200;

struct Bytes(Vec<u8>);

impl Disk for Bytes {
    fn len(&self) -> u64 {
        self.0.len() as u64
    }

    fn read_at(&self, buffer: &mut [u8], offset: u64) -> Result<()> {
        let start = usize::try_from(offset).unwrap_or(usize::MAX);
        let part = self.0.get(start..).and_then(|rest| rest.get(..buffer.len()));
        buffer.copy_from_slice(part.ok_or_else(|| Error::invalid("beyond the end"))?);
        Ok(())
    }

    fn extent_at(&self, offset: u64) -> Result<Extent> {
        let len = self.len().checked_sub(offset).filter(|len| *len > 0).ok_or_else(|| Error::invalid("beyond the end"))?;
        Ok(Extent { len, kind: ExtentKind::Data, layer: 0 })
    }
}

/// The whole file system with the patches that `bytes` says: three bytes of place, one of length, and what stands there.
fn patched(mut bytes: &[u8]) -> Vec<u8> {
    static WHOLE: OnceLock<Vec<u8>> = OnceLock::new();
    let mut disk = WHOLE.get_or_init(|| zstd::bulk::decompress(TINY, TINY_LEN).expect("it was compressed by zstd")).clone();
    while let Some(([a, b, c, len], rest)) = bytes.split_first_chunk() {
        let (patch, rest) = rest.split_at(usize::from(*len).min(rest.len()));
        let at = usize::from(*a) | usize::from(*b) << 8 | usize::from(*c & 1) << 16;
        if let Some(place) = disk.get_mut(at..).and_then(|place| place.get_mut(..patch.len())) {
            place.copy_from_slice(patch);
        }
        bytes = rest;
    }
    disk
}

/// Volumes and the files in them: as a disk of these bytes, and as damage to a whole file system.
pub fn volume(bytes: &[u8]) {
    for disk in [bytes.to_vec(), patched(bytes)] {
        let disk = Bytes(disk);
        let volumes = find(&disk).expect("reading memory does not fail");
        let mut end = 0;
        for volume in &volumes {
            assert!(volume.offset >= end, "volumes overlap");
            end = volume.offset + volume.len;
            assert!(end <= disk.len(), "a volume leaves its disk");
        }
        let runs = file_runs(&disk, &volumes, 1000).expect("reading memory does not fail");
        assert!(runs.len() <= 1000 && runs.windows(2).all(|pair| pair[0].end <= pair[1].start), "runs are not sorted and apart");
        assert!(runs.iter().all(|run| run.start < run.end), "a run is empty");
        for volume in volumes.iter().filter(|volume| volume.kind.is_readable()) {
            if let Ok(ext4) = Ext4::open(&disk, volume) {
                walk(&ext4, &disk);
            }
        }
    }
}

fn walk(ext4: &Ext4<'_>, disk: &Bytes) {
    let mut seen = HashSet::new();
    let mut next = vec![2];
    while let Some(number) = next.pop() {
        if seen.len() >= INODES_MAX || !seen.insert(number) {
            continue;
        }
        let Ok(inode) = ext4.inode(number) else { continue };
        if let Ok(attributes) = ext4.attributes(&inode) {
            assert!(attributes.is_sorted(), "attributes are not sorted");
        }
        match inode.kind {
            InodeKind::Directory => {
                _ = ext4.for_names(&inode, &mut |name| {
                    assert!(!name.name.is_empty() && !name.name.contains(&b'/') && !name.name.contains(&0), "an impossible name");
                    next.push(name.inode);
                    Ok(())
                });
            }
            InodeKind::Symlink => {
                if let Ok(target) = ext4.symlink_target(&inode) {
                    assert!(!target.is_empty() && !target.contains(&0), "an impossible target");
                }
            }
            InodeKind::File => {
                _ = ext4.inline_data(&inode);
                let mut end = 0;
                for run in ext4.runs(&inode).unwrap_or_default() {
                    assert!(run.file_offset >= end && run.len > 0, "runs go backward");
                    end = run.file_offset + run.len;
                    assert!(end <= inode.len, "a run leaves its file");
                    assert!(run.disk_offset + run.len <= disk.len(), "a run leaves the disk");
                }
            }
            _ => {}
        }
    }
}

/// The header of a qcow2 image: what is accepted stays within bounds that allow to read on.
pub fn qcow2_header(bytes: &[u8]) {
    for file_len in [bytes.len() as u64, 1 << 20, 1 << 40] {
        if let Ok(header) = decode_qcow2_header(bytes, file_len) {
            assert!(header.cluster_len.is_power_of_two() && (512..=2 << 20).contains(&header.cluster_len), "impossible clusters");
            assert!(u64::from(header.l1_count) * 8 <= 32 << 20, "the first table is too long");
            assert!(header.backing.is_none_or(|backing| backing.name.len() <= 1023), "the name is too long");
        }
    }
}

/// Extents that are looked at in one image.
const EXTENTS_MAX: usize = 200;

/// A vmdk image, as the text of its descriptor and as a file of its own.
pub fn vmdk(bytes: &[u8]) {
    if let Ok(descriptor) = decode_vmdk_descriptor(bytes) {
        let sectors = descriptor.extents.iter().map(|extent| extent.sectors);
        assert!(sectors.fold(0_u64, u64::saturating_add) <= (64 << 40) / 512, "a disk that is too long");
        for extent in descriptor.extents {
            if let VmdkPlace::Flat { file, .. } | VmdkPlace::Sparse { file } = extent.place {
                assert!(!file.is_empty() && !file.chars().any(char::is_control), "an impossible name");
            }
        }
    }
    thread_local! {
        static DIR: tempfile::TempDir = tempfile::tempdir().expect("a directory can be made");
    }
    let path = DIR.with(|dir| dir.path().join("a.vmdk"));
    fs::write(&path, bytes).expect("a file can be written");
    let Ok(disk) = open(&path, &OpenOptions { format: Some(Format::Vmdk), ..OpenOptions::default() }) else { return };
    let (mut at, mut buffer) = (0, vec![0; 3 * 4096]);
    for _ in 0..EXTENTS_MAX {
        if at >= disk.len() {
            break;
        }
        let Ok(extent) = disk.extent_at(at) else { break };
        assert!(extent.len > 0 && extent.len <= disk.len() - at, "an extent leaves the disk");
        let len = usize::try_from(extent.len).unwrap_or(usize::MAX).min(buffer.len());
        if disk.read_at(&mut buffer[..len], at).is_ok() && extent.kind != ExtentKind::Data {
            assert!(buffer[..len].iter().all(|byte| *byte == 0), "a hole with bytes in it");
        }
        at += extent.len;
    }
}
