//! A remote as a source for repairs: it is asked what it has, and makes frames of that.

use super::{CHUNKS_MAX, NoteId, PARCEL_MAX, Remote};
use crate::entry::EntryId;
use crate::repository::{RepairSource, WantedChunk};
use vml_chunk::frame::FrameDecoder;
use vml_chunk::{ChunkId, ErrorKind, PackKind, Result};

/// Plain bytes that are asked for at once.
const ASKED_LEN: u64 = PARCEL_MAX as u64 / 4;

/// A remote that may have what is lost.
pub struct RemoteSource<'a> {
    remote: &'a dyn Remote,
    name: String,
}

impl<'a> RemoteSource<'a> {
    /// Wraps a remote, known to people as `name`.
    pub fn new(remote: &'a dyn Remote, name: String) -> Self {
        Self { remote, name }
    }

    /// Gets these chunks, which are there. What is damaged there is left out: the others are found by asking for halves.
    fn get(&self, kind: PackKind, ids: &[ChunkId], each: &mut dyn FnMut(&[u8]) -> Result<()>) -> Result<()> {
        let mut waiting = vec![ids];
        let mut decoder = FrameDecoder::default();
        let mut plain = Vec::new();
        while let Some(ids) = waiting.pop() {
            let parcel = match self.remote.compose(kind, ids) {
                Ok(parcel) => parcel,
                Err(error) if matches!(error.kind(), ErrorKind::NotFound | ErrorKind::Corrupt) => {
                    if ids.len() > 1 {
                        let (first, second) = ids.split_at(ids.len() / 2);
                        waiting.extend([second, first]);
                    }
                    continue;
                }
                Err(error) => return Err(error),
            };
            for (_, frame) in parcel {
                let header = decoder.decode(&frame, &mut plain)?;
                let mut rest = &plain[..];
                for len in header.chunk_lens {
                    // The header was checked: its chunks fill the frame.
                    let (chunk, tail) = rest.split_at(len as usize);
                    each(chunk)?;
                    rest = tail;
                }
            }
        }
        Ok(())
    }
}

impl RepairSource for RemoteSource<'_> {
    fn name(&self) -> String {
        self.name.clone()
    }

    fn chunks(&self, kind: PackKind, wanted: &[WantedChunk], each: &mut dyn FnMut(&[u8]) -> Result<()>) -> Result<()> {
        for wanted in wanted.chunks(CHUNKS_MAX) {
            let ids: Vec<ChunkId> = wanted.iter().map(|chunk| chunk.id).collect();
            let there = self.remote.has(&ids)?;
            let mut batch = Vec::new();
            let mut len = 0;
            for chunk in wanted.iter().zip(there).filter(|(_, there)| *there).map(|(chunk, _)| chunk) {
                if len + u64::from(chunk.len) > ASKED_LEN && !batch.is_empty() {
                    self.get(kind, &std::mem::take(&mut batch), each)?;
                    len = 0;
                }
                batch.push(chunk.id);
                len += u64::from(chunk.len);
            }
            if !batch.is_empty() {
                self.get(kind, &batch, each)?;
            }
        }
        Ok(())
    }

    fn entry(&self, id: &EntryId) -> Result<Option<Vec<u8>>> {
        match self.remote.entries_there(&[*id]) {
            Ok(there) if there.first() == Some(&true) => Ok(self.remote.records(&[*id])?.into_iter().next()),
            // It is damaged there too.
            Err(error) if error.kind() == ErrorKind::Corrupt => Ok(None),
            other => other.map(|_| None),
        }
    }

    fn note(&self, entry: &EntryId, digest: &[u8; 32]) -> Result<Option<Vec<u8>>> {
        match self.remote.note_records(&[NoteId { entry: *entry, digest: *digest }]) {
            Ok(records) => Ok(records.into_iter().next()),
            Err(error) if error.kind() == ErrorKind::NotFound => Ok(None),
            Err(error) => Err(error),
        }
    }
}
