//! A file as a reader with a position of its own: small reads are served from one page that is kept.
//!
//! The tables of a sparse image are read a few bytes at a time, and a disk of a terabyte has millions of them.

use std::fs::File;
use std::io::{Error, ErrorKind, Read, Result, Seek, SeekFrom};
use std::os::unix::fs::FileExt;
use std::sync::Arc;

const PAGE_LEN: usize = 8 << 10;

/// The reader.
pub(super) struct PagedFile {
    file: Arc<File>,
    len: u64,
    position: u64,
    page: Vec<u8>,
    page_start: u64,
}

impl PagedFile {
    pub(super) fn new(file: Arc<File>, len: u64) -> Self {
        Self { file, len, position: 0, page: Vec::new(), page_start: 0 }
    }

    /// What the page has from the position on.
    fn paged(&self) -> &[u8] {
        let into = self.position.checked_sub(self.page_start).and_then(|into| usize::try_from(into).ok());
        into.and_then(|into| self.page.get(into..)).unwrap_or_default()
    }

    fn fill_page(&mut self) -> Result<()> {
        self.page_start = self.position - self.position % PAGE_LEN as u64;
        self.page.resize(PAGE_LEN, 0);
        let mut read = 0;
        while read < PAGE_LEN {
            match self.file.read_at(&mut self.page[read..], self.page_start + read as u64) {
                Ok(0) => break,
                Ok(count) => read += count,
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                Err(error) => {
                    self.page.clear();
                    return Err(error);
                }
            }
        }
        self.page.truncate(read);
        Ok(())
    }
}

impl Read for PagedFile {
    fn read(&mut self, buffer: &mut [u8]) -> Result<usize> {
        if self.position >= self.len {
            return Ok(0);
        }
        let count = if buffer.len() >= PAGE_LEN {
            self.file.read_at(buffer, self.position)?
        } else {
            if self.paged().is_empty() {
                self.fill_page()?;
            }
            let there = self.paged();
            let count = there.len().min(buffer.len());
            buffer[..count].copy_from_slice(&there[..count]);
            count
        };
        self.position += count as u64;
        Ok(count)
    }
}

impl Seek for PagedFile {
    fn seek(&mut self, to: SeekFrom) -> Result<u64> {
        let position = match to {
            SeekFrom::Start(position) => Some(position),
            SeekFrom::Current(by) => self.position.checked_add_signed(by),
            SeekFrom::End(by) => self.len.checked_add_signed(by),
        };
        self.position = position.ok_or_else(|| Error::new(ErrorKind::InvalidInput, "a position before the beginning of the file"))?;
        Ok(self.position)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::Write;

    #[test]
    fn reads_of_any_length_anywhere_are_the_file_s() {
        let bytes: Vec<u8> = (0..50_000_u32).map(|i| u8::try_from(i % 251).unwrap()).collect();
        let mut file = tempfile::tempfile().unwrap();
        file.write_all(&bytes).unwrap();
        let mut paged = PagedFile::new(Arc::new(file), bytes.len() as u64);
        for (start, len) in [(0, 4), (8190, 4), (16, 20_000), (49_990, 10), (3, 8191), (0, 50_000), (40_000, 1)] {
            paged.seek(SeekFrom::Start(start as u64)).unwrap();
            let mut read = vec![0; len];
            paged.read_exact(&mut read).unwrap();
            assert_eq!(read, bytes[start..start + len]);
        }
        assert_eq!(paged.seek(SeekFrom::End(-4)).unwrap(), 49_996);
        assert_eq!(paged.read(&mut [0; 9]).unwrap(), 4);
        assert_eq!(paged.read(&mut [0; 9]).unwrap(), 0);
        paged.seek(SeekFrom::Start(u64::MAX)).unwrap();
        assert_eq!(paged.read(&mut [0; 9]).unwrap(), 0);
        assert!(paged.seek(SeekFrom::End(-50_001)).is_err());
    }
}
