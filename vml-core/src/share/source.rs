//! A share file as a source for repairs.

use super::ShareFile;
use crate::entry::EntryId;
use crate::recipe::GetChunk;
use crate::repository::{RepairSource, WantedChunk};
use vml_chunk::{ErrorKind, PackKind, Result};

/// A share file that may have what is lost.
pub struct ShareSource<'a> {
    file: &'a ShareFile<'a>,
    name: String,
}

impl<'a> ShareSource<'a> {
    /// Wraps an open file, known to people as `name`.
    pub fn new(file: &'a ShareFile<'a>, name: String) -> Self {
        Self { file, name }
    }
}

impl RepairSource for ShareSource<'_> {
    fn name(&self) -> String {
        self.name.clone()
    }

    fn chunks(&self, _kind: PackKind, wanted: &[WantedChunk], each: &mut dyn FnMut(&[u8]) -> Result<()>) -> Result<()> {
        for chunk in wanted {
            match self.file.get_chunk(&chunk.id) {
                Ok(bytes) => each(&bytes)?,
                Err(error) if matches!(error.kind(), ErrorKind::NotFound | ErrorKind::Corrupt) => {}
                Err(error) => return Err(error),
            }
        }
        Ok(())
    }

    fn entry(&self, id: &EntryId) -> Result<Option<Vec<u8>>> {
        let preface = self.file.preface();
        let mut entries = preface.entries.iter().chain(&preface.needed);
        Ok(entries.find(|(other, _)| other == id).map(|(_, entry)| entry.encode().1))
    }

    fn note(&self, _entry: &EntryId, _digest: &[u8; 32]) -> Result<Option<Vec<u8>>> {
        Ok(None)
    }
}
