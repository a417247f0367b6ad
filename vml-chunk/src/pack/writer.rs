//! Writes one pack: frames in, a published file out.

use super::{Footer, FooterChunk, FooterFrame, PackKind};
use crate::backend::{Backend, PutOutcome, Staged};
use crate::error::{Error, ErrorKind, Result};
use crate::frame::{FrameBuilder, FrameEncoder, SealedFrame};
use crate::id::{IdKey, PackId};
use crate::parity::ParityWriter;

/// A pack that is published, and what is in it.
#[derive(Debug, Clone)]
pub struct PackInfo {
    /// The digest of its bytes.
    pub id: PackId,
    /// Its length in bytes.
    pub len: u64,
    /// Its tables.
    pub footer: Footer,
}

/// A pack being written; nothing of it is visible before [`finish`](Self::finish).
pub struct PackWriter {
    staged: Box<dyn Staged>,
    hasher: blake3::Hasher,
    len: u64,
    footer: Footer,
    parity: Option<ParityWriter>,
    failed: bool,
    ids: IdKey,
}

impl PackWriter {
    /// Begins a pack.
    ///
    /// # Errors
    /// Whatever the backend says.
    pub fn create(backend: &dyn Backend, kind: PackKind) -> Result<Self> {
        Self::create_with(backend, kind, 0, IdKey::PLAIN, None)
    }

    /// Begins a pack of chunks that are named by `ids`, which gets parity of so many percent beside it. Only one that is compacted, at a level other than
    /// 0, takes frames that are in groups.
    ///
    /// # Errors
    /// Whatever the backend says, `InvalidInput` for a percentage that cannot be.
    pub fn create_with(backend: &dyn Backend, kind: PackKind, compaction: u8, ids: IdKey, parity_percent: Option<u8>) -> Result<Self> {
        let footer = Footer { kind, compaction, frames: Vec::new(), chunks: Vec::new() };
        let parity = parity_percent.map(|percent| ParityWriter::create(backend, percent)).transpose()?;
        let staged = backend.stage_in(kind.dir())?;
        let mut pack = Self { staged, hasher: blake3::Hasher::new(), len: 0, footer, parity, failed: false, ids };
        pack.write(&kind.header(compaction))?;
        Ok(pack)
    }

    /// What it holds.
    pub fn kind(&self) -> PackKind {
        self.footer.kind
    }

    /// Bytes written so far.
    pub fn len(&self) -> u64 {
        self.len
    }

    /// Whether it has no frame yet.
    pub fn is_empty(&self) -> bool {
        self.footer.frames.is_empty()
    }

    /// Appends a frame.
    ///
    /// # Errors
    /// Whatever the backend says; afterwards the writer refuses everything.
    pub fn append(&mut self, frame: &SealedFrame) -> Result<()> {
        let offset = u32::try_from(self.len).map_err(|_| Error::invalid("a pack cannot grow beyond 4 GiB"))?;
        self.write(&frame.bytes)?;
        self.footer.frames.push(FooterFrame {
            offset,
            stored_len: u32::try_from(frame.bytes.len()).expect("a frame is below 16 MiB and its head small"),
            plain_len: frame.plain_len,
            chunk_count: u32::try_from(frame.chunks.len()).expect("limited by the frame builder"),
        });
        self.footer.chunks.extend(frame.chunks.iter().map(|(id, len)| FooterChunk { id: *id, len: *len }));
        Ok(())
    }

    /// Writes the footer and publishes the pack under its name, durably.
    ///
    /// A pack of that name can be there already, when the same data was saved in the same order before; its bytes are
    /// then compared by their digest, and a damaged one is replaced.
    ///
    /// # Errors
    /// Whatever the backend says; nothing is visible then.
    pub fn finish(self, backend: &dyn Backend) -> Result<PackInfo> {
        self.finish_named(backend, &mut |_| Ok(true))
    }

    /// As [`finish`](Self::finish); asks `name` before the pack gets its name. One that is refused gets another: a frame is
    /// added with a chunk that nobody needs, the refused name.
    ///
    /// # Errors
    /// As [`finish`](Self::finish), and what `name` says.
    pub fn finish_named(mut self, backend: &dyn Backend, name: &mut dyn FnMut(&PackId) -> Result<bool>) -> Result<PackInfo> {
        let (id, tail) = loop {
            let tail = self.footer.encode(self.len);
            let id = PackId::from_bytes(*self.hasher.clone().update(&tail).finalize().as_bytes());
            if name(&id)? {
                break (id, tail);
            }
            let mut frame = FrameBuilder::default();
            frame.push(self.ids.id(id.as_bytes()), id.as_bytes());
            self.append(&FrameEncoder::keyed(1, self.ids.clone())?.seal(frame)?)?;
        };
        self.write(&tail)?;
        let key = self.footer.kind.key(&id);
        if self.staged.publish(&key)? == PutOutcome::AlreadyThere {
            match super::verify_pack_keyed(backend, &self.ids, self.footer.kind, &id, |_, _| {}) {
                Ok(_) => {}
                // Who can save but not read takes it by its name and length, as he takes what the index says.
                Err(error) if error.kind() == ErrorKind::NeedsKey && backend.len(&key).is_ok_and(|len| len == self.len) => {}
                Err(error)
                    if matches!(
                        error.kind(),
                        ErrorKind::Corrupt | ErrorKind::UnsupportedFormat | ErrorKind::NotFound | ErrorKind::NeedsKey
                    ) =>
                {
                    backend.delete(&key)?;
                    self.staged.publish(&key)?;
                }
                // It could not be read, which does not make it bad; others rely on it.
                Err(error) => return Err(error),
            }
        }
        // After its pack, so that none is ever of a pack that was not there; before anybody is told of the pack.
        if let Some(parity) = self.parity.take() {
            parity.finish(backend, &id)?;
        }
        Ok(PackInfo { id, len: self.len, footer: self.footer })
    }

    fn write(&mut self, bytes: &[u8]) -> Result<()> {
        if self.failed {
            return Err(Error::new(ErrorKind::Interrupted, "the pack cannot be continued after an error"));
        }
        let parity = self.parity.as_mut();
        let written = self.staged.append(bytes).and_then(|()| parity.map_or(Ok(()), |parity| parity.push(bytes)));
        written.inspect_err(|_| self.failed = true)?;
        self.hasher.update(bytes);
        self.len += bytes.len() as u64;
        Ok(())
    }
}
