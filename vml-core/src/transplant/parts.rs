//! Carries the parts of one entry into a session of the target.

use crate::disk::{DiskCaptureOptions, DiskStats, KnownDisk, SavedDisk, capture_disk};
use crate::entry::{DiskPart, Entry, MemoryPart, Part, TreePart};
use crate::monitor::Monitor;
use crate::recipe::{ByteStream, GetChunk, Recipe, differing_ranges, read_stream};
use crate::repository::{FILE_RUNS_MAX, MEMORY_CHUNKER};
use crate::tree::{CarryOptions, KnownTree, Memo, carry_tree};
use crate::volume;
use std::ops::Range;
use std::sync::Arc;
use vml_chunk::{Chunker, PackKind, Result, StoreWriter};

/// Changes of a disk that are nearer to each other are one.
const CHANGES_GAP: u64 = 64 << 10;
/// Changes that are told at most; if there are more, the disk is read whole.
const CHANGES_MAX: usize = 1 << 20;

/// An entry that both repositories have.
#[derive(Clone)]
pub(super) struct KnownEntry {
    /// As it is at the source.
    pub(super) there: Entry,
    /// As it is at the target.
    pub(super) here: Entry,
}

/// Carries parts.
pub(super) struct Carrier<'a> {
    pub(super) source: &'a dyn GetChunk,
    pub(super) chunker: &'a dyn Chunker,
    pub(super) inline_max: usize,
    pub(super) threads: usize,
    pub(super) memo: &'a Arc<Memo>,
    pub(super) monitor: &'a dyn Monitor,
}

impl Carrier<'_> {
    /// Carries the parts of `entry`; of what it shares with one of `known` nothing is read.
    pub(super) fn carry(&self, writer: &StoreWriter<'_>, entry: &Entry, known: &[KnownEntry]) -> Result<Vec<Part>> {
        entry.parts.iter().map(|part| self.part(writer, part, known)).collect()
    }

    fn part(&self, writer: &StoreWriter<'_>, part: &Part, known: &[KnownEntry]) -> Result<Part> {
        Ok(match part {
            Part::Tree(tree) => Part::Tree(Box::new(self.tree(writer, tree, known)?)),
            Part::Disk(disk) => {
                let carried = self.disk(writer, disk, known);
                Part::Disk(Box::new(carried.map_err(|error| error.context(format!("cannot carry the disk {}", disk.name)))?))
            }
            Part::Machine(machine) => Part::Machine(machine.clone()),
            Part::Memory(memory) => {
                Part::Memory(Box::new(self.memory(writer, memory, known).map_err(|error| error.context("cannot carry the memory"))?))
            }
        })
    }

    fn tree(&self, writer: &StoreWriter<'_>, tree: &TreePart, known: &[KnownEntry]) -> Result<TreePart> {
        let both = |known: &'_ KnownEntry| known.there.tree().is_some() && known.here.tree().is_some();
        let trees: Vec<KnownTree<'_>> = known
            .iter()
            .filter(|known| both(known))
            .filter_map(|known| Some(KnownTree { there: &known.there.tree()?.root, here: &known.here.tree()?.root }))
            .collect();
        let options = CarryOptions {
            source: self.source,
            chunker: self.chunker,
            inline_max: self.inline_max,
            threads: self.threads,
            known: &trees,
            memo: self.memo,
        };
        let root = carry_tree(writer, &tree.root, &options, self.monitor)?;
        Ok(TreePart { root, witness: self.witness(writer, &tree.witness)?, ..tree.clone() })
    }

    /// The witness is a help for whoever saves next: one that cannot be read is left out.
    fn witness(&self, writer: &StoreWriter<'_>, witness: &Recipe) -> Result<Recipe> {
        let mut meta = writer.chunks(PackKind::Meta)?;
        let mut stream = ByteStream::new(self.chunker);
        let mut failed = Ok(());
        let read = read_stream(self.source, witness, &mut |bytes| {
            failed = stream.push(bytes, &mut |bytes| meta.put(bytes));
            match &failed {
                Ok(()) => Ok(()),
                Err(error) => Err(vml_chunk::Error::new(error.kind(), "the target does not take it")),
            }
        });
        let made = match read {
            Ok(()) => stream.finish(&mut |bytes| meta.put(bytes)),
            Err(error) => {
                failed?;
                self.monitor.notice(&format!("by what unchanged files are known cannot be read, the next save reads all: {error}"));
                Ok(Recipe::empty())
            }
        };
        meta.finish()?;
        made
    }

    fn disk(&self, writer: &StoreWriter<'_>, part: &DiskPart, known: &[KnownEntry]) -> Result<DiskPart> {
        let of_name = |entry: &Entry| entry.disks().find(|disk| disk.name == part.name).cloned();
        let both: Vec<(DiskPart, DiskPart)> = known.iter().filter_map(|known| of_name(&known.there).zip(of_name(&known.here))).collect();
        if let Some((_, here)) = both.iter().find(|(there, _)| there.recipe == part.recipe) {
            return Ok(DiskPart { recipe: here.recipe.clone(), ..part.clone() });
        }
        let mut near: Option<(&DiskPart, Vec<Range<u64>>)> = None;
        for (there, here) in &both {
            let Some(changed) = changes(self.source, &there.recipe, &part.recipe)? else { continue };
            let len = |changed: &[Range<u64>]| changed.iter().map(|range| range.end - range.start).sum::<u64>();
            if near.as_ref().is_none_or(|(_, other)| len(&changed) < len(other)) {
                near = Some((here, changed));
            }
        }
        let disk = SavedDisk::new(self.source, &part.recipe);
        let runs = volume::file_runs(&disk, &volume::find(&disk)?, FILE_RUNS_MAX)?;
        let known = near.as_ref().map(|(here, changed)| KnownDisk { recipe: &here.recipe, data_bytes: here.stats.data_bytes, changed });
        let options = DiskCaptureOptions { known, runs: &runs, threads: self.threads };
        let captured = capture_disk(writer, self.chunker, &disk, &options, self.monitor)?;
        let stats = DiskStats { data_bytes: captured.stats.data_bytes, ..part.stats };
        Ok(DiskPart { recipe: captured.recipe, stats, ..part.clone() })
    }

    fn memory(&self, writer: &StoreWriter<'_>, part: &MemoryPart, known: &[KnownEntry]) -> Result<MemoryPart> {
        let same = known.iter().find(|known| known.there.memory().is_some_and(|there| there.recipe == part.recipe));
        if let Some(here) = same.and_then(|known| known.here.memory()) {
            return Ok(MemoryPart { recipe: here.recipe.clone(), ..part.clone() });
        }
        let file = SavedDisk::new(self.source, &part.recipe);
        let options = DiskCaptureOptions { known: None, runs: &[], threads: self.threads };
        let captured = capture_disk(writer, MEMORY_CHUNKER.build()?.as_ref(), &file, &options, self.monitor)?;
        Ok(MemoryPart { recipe: captured.recipe, ..part.clone() })
    }
}

/// Where a disk differs from an earlier one at the source; `None` when in too many places to be a help.
fn changes(source: &dyn GetChunk, old: &Recipe, new: &Recipe) -> Result<Option<Vec<Range<u64>>>> {
    let mut changes: Vec<Range<u64>> = Vec::new();
    differing_ranges(source, old, new, &mut |range| {
        let range = range.start.min(new.len)..range.end.min(new.len);
        match changes.last_mut() {
            Some(last) if range.start < last.end + CHANGES_GAP => last.end = range.end,
            _ if range.is_empty() => {}
            _ => changes.push(range),
        }
        changes.len() <= CHANGES_MAX
    })?;
    Ok((changes.len() <= CHANGES_MAX).then_some(changes))
}
