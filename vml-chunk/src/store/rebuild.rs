//! Replaces the whole index, and takes away parity of packs that are gone.

use super::ChunkStore;
use super::damage::Damage;
use super::open::{SEGMENT_BATCH, put_segment};
use super::quarantine::Seen;
use crate::error::{Error, ErrorKind, Result};
use crate::id::PackId;
use crate::index::INDEX_DIR;
use crate::pack::{Footer, PackKind, read_footer};
use crate::parity::PARITY_DIR;
use rayon::prelude::*;
use std::collections::HashSet;

/// Footers that are in memory together.
const FOOTERS: usize = 64;

impl ChunkStore {
    /// Makes segments over all packs and deletes the old ones; tells of packs, segments, and packs whose footers cannot be read.
    pub(crate) fn index_anew(&self) -> Result<(u64, u64, Vec<String>)> {
        let changing = self.change_view();
        self.reload_holding(true, &changing)?;
        let view = self.view();
        let old: HashSet<String> = view.segments().map(|(name, _)| name.to_owned()).collect();
        // After the segments: whatever they name and is there is listed now.
        self.settle_packs()?;
        let mut packs: Vec<(PackKind, PackId)> = Vec::new();
        for kind in PackKind::ALL {
            let listed = self.backend.list(kind.dir())?;
            packs.extend(listed.into_iter().filter_map(|listed| Some((kind, listed.name.parse().ok()?))));
        }
        packs.sort_unstable();
        // As at opening: what goes and what is damaged must not hide what stays and is whole.
        let list = Seen::read(self.backend.as_ref())?.sound()?.list;
        let damage = Damage::read(self.backend.as_ref())?;
        let (damaged, packs): (Vec<_>, Vec<_>) = packs.into_iter().partition(|(kind, id)| damage.packs.contains(*kind, id));
        let (going, staying): (Vec<_>, Vec<_>) = packs.into_iter().partition(|(kind, id)| list.forbids(*kind, id));
        let pool = rayon::ThreadPoolBuilder::new()
            .num_threads(self.options.threads.max(1))
            .build()
            .map_err(|error| Error::new(ErrorKind::Io, "cannot start threads to read pack footers").because(error))?;
        let (mut count, mut unreadable, mut written) = (0, Vec::new(), HashSet::new());
        // What cannot be read now keeps the segments that have it.
        let mut kept: HashSet<(PackKind, PackId)> = HashSet::new();
        for (group, alone) in [(staying, false), (going, false), (damaged, true)] {
            let mut batch: Vec<(PackId, u64, Footer)> = Vec::new();
            let mut chunks = 0;
            for part in group.chunks(FOOTERS) {
                let read = |(kind, id): &(PackKind, PackId)| (*kind, *id, read_footer(self.backend.as_ref(), *kind, id));
                let footers: Vec<_> = pool.install(|| part.par_iter().map(read).collect());
                for (kind, id, footer) in footers {
                    match footer {
                        Ok((footer, len)) => {
                            if !batch.is_empty() && (alone || chunks + footer.chunks.len() > SEGMENT_BATCH) {
                                written.insert(put_segment(self.backend.as_ref(), &std::mem::take(&mut batch))?);
                                chunks = 0;
                            }
                            count += 1;
                            chunks += footer.chunks.len();
                            batch.push((id, len, footer));
                        }
                        // Taken away by a collection since it was listed.
                        Err(error) if error.kind() == ErrorKind::NotFound => {}
                        Err(error) if error.kind() == ErrorKind::Corrupt => unreadable.push(kind.key(&id)),
                        Err(error) if matches!(error.kind(), ErrorKind::Io | ErrorKind::PermissionDenied) => {
                            kept.insert((kind, id));
                            unreadable.push(kind.key(&id));
                        }
                        Err(error) => return Err(error),
                    }
                }
            }
            if !batch.is_empty() {
                written.insert(put_segment(self.backend.as_ref(), &batch)?);
            }
        }
        for (number, (name, _)) in view.segments().enumerate() {
            if !written.contains(name) && !view.packs_named_in(number).any(|pack| kept.contains(&pack)) {
                self.backend.delete(&format!("{INDEX_DIR}/{name}"))?;
            }
        }
        self.reload_holding(false, &changing)?;
        let new = written.difference(&old).count() as u64;
        Ok((count, new, unreadable))
    }

    /// Deletes parity of packs that are not there; tells how many files.
    ///
    /// # Errors
    /// What the backend says.
    pub fn drop_orphaned_parity(&self) -> Result<u64> {
        // Parity first: each is put after its pack.
        let parity = self.backend.list(PARITY_DIR)?;
        if parity.is_empty() {
            return Ok(0);
        }
        let mut there = HashSet::new();
        for kind in PackKind::ALL {
            there.extend(self.backend.list(kind.dir())?.into_iter().map(|listed| listed.name));
        }
        let mut dropped = 0;
        for listed in parity {
            if listed.name.parse::<PackId>().is_ok() && !there.contains(&listed.name) {
                self.backend.delete(&format!("{PARITY_DIR}/{}", listed.name))?;
                dropped += 1;
            }
        }
        Ok(dropped)
    }
}
