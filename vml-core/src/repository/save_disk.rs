//! Saves one disk of a machine: finds out what cannot have changed, then captures the rest.
//!
//! A qcow2 overlay tells which parts of a disk it holds; all others are as the images below it show them. So when those
//! images are the very files that the latest entry or the base was saved from, unchanged since, that entry's recipe
//! stands for them. Files are known by device, inode, length and times; one that changed just before it was saved is not
//! relied on.

use super::{Repository, SaveDisk, SaveMemory};
use crate::disk::{DiskCaptureOptions, KnownDisk, Layer, capture_disk, changed_above};
use crate::entry::{DiskPart, Entry, EntryId, MemoryPart, VolumePart};
use crate::monitor::Monitor;
use crate::tree::{Timestamp, is_young};
use crate::volume;
use std::borrow::Cow;
use std::ops::Range;
use vml_chunk::{ChunkerParams, Error, ErrorKind, Result, StoreWriter};

/// How memory is cut: by its pages.
pub(crate) const MEMORY_CHUNKER: ChunkerParams = ChunkerParams::Fixed { len: 4096 };

/// Most file runs that guide where a disk is cut: 64 MiB of memory.
pub(crate) const FILE_RUNS_MAX: usize = 4 << 20;

/// Entries whose disks may be a help.
pub(super) struct KnownStates<'a> {
    pub(super) latest: Option<&'a (EntryId, Entry)>,
    pub(super) base: Option<&'a (EntryId, Entry)>,
    /// Whether all chunks of earlier entries are there, as far as is known.
    pub(super) trusted: bool,
}

impl Repository {
    pub(super) fn save_disk(
        &self,
        writer: &StoreWriter<'_>,
        request: &SaveDisk<'_>,
        known: &KnownStates<'_>,
        now: Timestamp,
        monitor: &dyn Monitor,
    ) -> Result<DiskPart> {
        let disk = request.disk;
        let volumes = volume::find(disk)?;
        let runs = volume::file_runs(disk, &volumes, FILE_RUNS_MAX)?;
        let state = known.of(request)?;
        let options = DiskCaptureOptions {
            known: state.as_ref().map(|(part, changed)| KnownDisk { recipe: &part.recipe, data_bytes: part.stats.data_bytes, changed }),
            runs: &runs,
            threads: self.options.threads,
        };
        let chunker = self.config().chunker.build()?;
        let captured = capture_disk(writer, chunker.as_ref(), disk, &options, monitor)?;
        if disk.layers_now()? != disk.layers() {
            return Err(Error::new(ErrorKind::Locked, "its image changed while it was read: stop what writes to it, then save again"));
        }
        let racy = disk.layers().iter().flat_map(|layer| &layer.files).any(|file| is_young(file.ctime_ns, now));
        Ok(DiskPart {
            name: request.name.to_owned(),
            format: request.format.to_owned(),
            recipe: captured.recipe,
            stats: captured.stats,
            layers: if racy { Vec::new() } else { disk.layers().to_vec() },
            volumes: volumes.iter().map(volume_part).collect(),
        })
    }
}

impl Repository {
    /// Memory is chunked by page: pages stay where they are while what is in them comes and goes.
    pub(super) fn save_memory(&self, writer: &StoreWriter<'_>, request: &SaveMemory<'_>, monitor: &dyn Monitor) -> Result<MemoryPart> {
        let options = DiskCaptureOptions { known: None, runs: &[], threads: self.options.threads };
        let chunker = MEMORY_CHUNKER.build()?;
        let captured = capture_disk(writer, chunker.as_ref(), request.file, &options, monitor)?;
        Ok(MemoryPart { format: request.format.to_owned(), recipe: captured.recipe, stats: captured.stats, facts: request.facts.to_vec() })
    }
}

type Ranges<'r> = Cow<'r, [Range<u64>]>;

impl<'a> KnownStates<'a> {
    /// The saved disk that tells most about the one to be saved, and where that may differ from it.
    fn of<'r>(&self, request: &SaveDisk<'r>) -> Result<Option<(&'a DiskPart, Ranges<'r>)>> {
        if !self.trusted {
            return Ok(None);
        }
        let states = || self.latest.into_iter().chain(self.base);
        if let Some((id, changed)) = request.changed {
            let part =
                states().filter(|(known, _)| *known == id).find_map(|(_, entry)| entry.disks().find(|disk| disk.name == request.name));
            return Ok(part.map(|part| (part, Cow::Borrowed(changed))));
        }
        let layers = request.disk.layers();
        let mut best: Option<(&DiskPart, usize)> = None;
        for (id, entry) in states() {
            for part in entry.disks() {
                let shown = request.shown.iter().filter(|shown| shown.entry == *id && shown.disk == part.name).map(|shown| &shown.layers);
                let above = std::iter::once(&part.layers).chain(shown).filter_map(|known| layers_above(layers, known)).min();
                if let Some(above) = above
                    && best.is_none_or(|(_, known)| above < known)
                {
                    best = Some((part, above));
                }
            }
        }
        let Some((part, above)) = best else { return Ok(None) };
        Ok(Some((part, Cow::Owned(changed_above(request.disk, above)?))))
    }
}

/// How many layers stand above `known` in `layers`, if those are the same files as they were.
fn layers_above(layers: &[Layer], known: &[Layer]) -> Option<usize> {
    let above = layers.len().checked_sub(known.len())?;
    (!known.is_empty() && layers[above..] == *known).then_some(above)
}

fn volume_part(volume: &volume::Volume) -> VolumePart {
    VolumePart {
        number: volume.number,
        offset: volume.offset,
        len: volume.len,
        file_system: volume.kind.name().to_owned(),
        label: volume.label.clone(),
    }
}
