//! Looks into a share file without a repository.
//!
//! Frames of metadata are decoded first, those of content only when a chunk is in none of them; from then on each chunk's place is known. A chunk that the file leaves
//! out is looked for in `behind`, a repository that may have the base.

use super::read::{Preface, PrefaceBuilder};
use super::seal::{Identity, SEALED_MAGIC, Unsealed, is_sealed};
use super::section::{
    SECTION_HEADER_LEN, SECTIONS_MAX, SHARE_HEADER_LEN, SHARE_TRAILER_LEN, SectionHeader, SectionKind, TABLE_ROW_LEN, TableRow,
    check_file_header, decode_trailer,
};
use super::sign::{self, PublicKey};
use super::solid::SolidReader;
use crate::recipe::GetChunk;
use std::collections::HashMap;
use std::fs::File;
use std::io::{BufReader, Cursor, Read as _, Seek as _, SeekFrom};
use std::os::unix::fs::FileExt;
use std::path::Path;
use std::sync::{Arc, Mutex, PoisonError};
use vml_chunk::frame::FrameDecoder;
use vml_chunk::{Chunk, ChunkId, Error, IoResultExt as _, Result};

/// Decoded frames that are kept.
const KEPT_MAX: usize = 8;
/// Most chunks whose places are remembered.
const PLACES_MAX: usize = 1 << 24;

/// An open share file. Its table was checked against its signature, and each section is checked against the table when it is read.
pub struct ShareFile<'a> {
    file: Source,
    preface: Preface,
    signer: Option<PublicKey>,
    signature: Option<String>,
    table_digest: [u8; 32],
    len: u64,
    /// Frames: those of metadata before those of content.
    frames: Vec<TableRow>,
    behind: Option<&'a dyn GetChunk>,
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    /// Frames whose chunks are in `places`.
    looked_at: usize,
    places: HashMap<ChunkId, Place>,
    kept: Vec<(usize, Arc<Vec<u8>>)>,
    decoder: FrameDecoder,
    /// Where content is one stream: its reader, and the frame that it reads next.
    solid: Option<(SolidReader, usize)>,
}

#[derive(Clone, Copy)]
struct Place {
    frame: u32,
    start: u32,
    len: u32,
}

impl<'a> ShareFile<'a> {
    /// Opens a file.
    ///
    /// # Errors
    /// `NotFound`, `InvalidInput` for what is no share file, `UnsupportedFormat`, `Corrupt`.
    pub fn open(path: &Path) -> Result<Self> {
        Self::open_with(path, &mut || Ok(Vec::new()))
    }

    /// The same for a file that may be sealed; `identities` is asked for keys if it is.
    ///
    /// # Errors
    /// As [`open`](Self::open); `PermissionDenied` when it is sealed to other keys.
    pub fn open_with(path: &Path, identities: &mut dyn FnMut() -> Result<Vec<Identity>>) -> Result<Self> {
        let mut open = || {
            let file = File::open(path).at(|| "cannot open it".to_owned())?;
            let (source, len) = Source::open(file, identities)?;
            Self::from_source(source, len)
        };
        open().map_err(|error: Error| error.context(format!("cannot read the share file {}", path.display())))
    }

    fn from_source(file: Source, len: u64) -> Result<Self> {
        let mut header = [0; SHARE_HEADER_LEN];
        if len < (SHARE_HEADER_LEN + SHARE_TRAILER_LEN) as u64 {
            return Err(Error::invalid("it is too short for a share file"));
        }
        read_at(&file, &mut header, 0)?;
        check_file_header(&header)?;
        let mut trailer = [0; SHARE_TRAILER_LEN];
        read_at(&file, &mut trailer, len - SHARE_TRAILER_LEN as u64)?;
        let table_offset = decode_trailer(&trailer, len)?;
        let (rows, table_digest, table_end) = read_table(&file, table_offset, len)?;
        let (signature, signer) = read_signature(&file, table_end, len, rows.len(), &table_digest)?;
        let mut builder = PrefaceBuilder::default();
        let mut frames = Vec::new();
        for row in rows {
            match row.header.kind {
                SectionKind::Meta | SectionKind::Data | SectionKind::Solid => frames.push(row),
                kind => {
                    if !frames.is_empty() || !builder.push(kind, &payload(&file, &row)?)? {
                        return Err(Error::corrupt("the sections of the share file are not in their order"));
                    }
                }
            }
        }
        let preface = builder.finish()?;
        if preface.head.signer.map(PublicKey::from_bytes) != signer || preface.entries.len() != preface.head.entries.len() {
            return Err(Error::corrupt("the share file is not what its head says"));
        }
        frames.sort_by_key(|row| (row.header.kind, row.offset));
        Ok(Self { file, preface, signer, signature, table_digest, len, frames, behind: None, state: Mutex::default() })
    }

    /// The same, with a place to look for what the file leaves out.
    #[must_use]
    pub fn with_behind<'b>(self, behind: Option<&'b dyn GetChunk>) -> ShareFile<'b> {
        let Self { file, preface, signer, signature, table_digest, len, frames, state, .. } = self;
        ShareFile { file, preface, signer, signature, table_digest, len, frames, behind, state }
    }

    /// What it is, and its entries.
    pub fn preface(&self) -> &Preface {
        &self.preface
    }

    /// By which key it is signed.
    pub fn signer(&self) -> Option<PublicKey> {
        self.signer
    }

    /// The signature in SSH's armour.
    pub fn signature(&self) -> Option<&str> {
        self.signature.as_deref()
    }

    /// What the signature is over.
    pub fn statement(&self) -> String {
        String::from_utf8_lossy(&sign::statement(&self.table_digest)).into_owned()
    }

    /// Its length in bytes.
    pub fn len(&self) -> u64 {
        self.len
    }

    /// Whether it is sealed to keys.
    pub fn is_sealed(&self) -> bool {
        matches!(self.file, Source::Sealed(_))
    }

    /// Whether it has no frame: all that its entries need is elsewhere.
    pub fn is_empty(&self) -> bool {
        self.frames.is_empty()
    }

    fn frame(&self, state: &mut State, number: usize) -> Result<Arc<Vec<u8>>> {
        if let Some((_, kept)) = state.kept.iter().find(|(kept, _)| *kept == number) {
            return Ok(Arc::clone(kept));
        }
        let (chunk_lens, plain) = self.decode(state, number)?;
        if number >= state.looked_at {
            let mut start = 0;
            for len in chunk_lens {
                let end = start + len as usize;
                let frame = u32::try_from(number).map_err(|_| Error::corrupt("the share file has too many frames"))?;
                if state.places.len() >= PLACES_MAX {
                    return Err(Error::invalid("the share file has more chunks than can be looked at without a repository: receive it"));
                }
                state.places.entry(ChunkId::of(&plain[start..end])).or_insert(Place {
                    frame,
                    start: u32::try_from(start).unwrap_or(0),
                    len,
                });
                start = end;
            }
            state.looked_at = number + 1;
        }
        let plain = Arc::new(plain);
        if state.kept.len() >= KEPT_MAX {
            state.kept.remove(0);
        }
        state.kept.push((number, Arc::clone(&plain)));
        Ok(plain)
    }

    /// The chunks of a frame, or of a part of one stream: then everything before it is decoded as well, unless that was just done.
    fn decode(&self, state: &mut State, number: usize) -> Result<(Vec<u32>, Vec<u8>)> {
        let row = &self.frames[number];
        if row.header.kind != SectionKind::Solid {
            let mut plain = Vec::new();
            let header = state.decoder.decode(&payload(&self.file, row)?, &mut plain)?;
            return Ok((header.chunk_lens, plain));
        }
        let (mut reader, next) = match state.solid.take() {
            Some((reader, next)) if next <= number => (reader, next),
            _ => (SolidReader::new()?, self.frames.partition_point(|row| row.header.kind < SectionKind::Solid)),
        };
        for row in &self.frames[next..number] {
            reader.section(&payload(&self.file, row)?)?;
        }
        let decoded = reader.section(&payload(&self.file, row)?)?;
        state.solid = Some((reader, number + 1));
        Ok(decoded)
    }

    fn own_chunk(&self, id: &ChunkId, kinds: SectionKind) -> Result<Option<Chunk>> {
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        loop {
            if let Some(place) = state.places.get(id).copied() {
                let frame = self.frame(&mut state, place.frame as usize)?;
                let start = place.start as usize;
                let bytes = frame.get(start..start + place.len as usize).filter(|bytes| ChunkId::of(bytes) == *id);
                return bytes.map(|bytes| Some(Chunk::from(bytes.to_vec()))).ok_or_else(|| Error::corrupt("the share file has changed"));
            }
            let next = state.looked_at;
            if self.frames.get(next).is_none_or(|row| row.header.kind > kinds) {
                return Ok(None);
            }
            self.frame(&mut state, next)?;
        }
    }
}

impl GetChunk for ShareFile<'_> {
    fn get_chunk(&self, id: &ChunkId) -> Result<Chunk> {
        if let Some(chunk) = self.own_chunk(id, SectionKind::Meta)? {
            return Ok(chunk);
        }
        if let Some(chunk) = self.behind.and_then(|behind| behind.get_chunk(id).ok()) {
            return Ok(chunk);
        }
        let absent = || Error::not_found("the share file leaves it out: it is as in what the file needs, see `vml show`");
        self.own_chunk(id, SectionKind::Solid)?.ok_or_else(absent)
    }
}

fn read_at(file: &Source, buffer: &mut [u8], offset: u64) -> Result<()> {
    let read = match file {
        Source::Plain(file) => file.read_exact_at(buffer, offset),
        Source::Sealed(file) => {
            let mut file = file.lock().unwrap_or_else(PoisonError::into_inner);
            file.seek(SeekFrom::Start(offset)).and_then(|_| file.read_exact(buffer))
        }
    };
    read.map_err(super::section::unreadable).map_err(|error| error.context(format!("cannot read {} bytes at {offset}", buffer.len())))
}

/// Where the bytes of a share file are.
enum Source {
    Plain(File),
    Sealed(Box<Mutex<Unsealed<BufReader<File>>>>),
}

impl Source {
    /// Also tells how long the share file is.
    fn open(file: File, identities: &mut dyn FnMut() -> Result<Vec<Identity>>) -> Result<(Self, u64)> {
        let meta = file.metadata().at(|| "cannot look at it".to_owned())?;
        if !meta.is_file() {
            return Err(Error::invalid("it is no regular file"));
        }
        let mut start = [0; SEALED_MAGIC.len()];
        if meta.len() < start.len() as u64 || file.read_exact_at(&mut start, 0).is_err() || !is_sealed(&start) {
            return Ok((Self::Plain(file), meta.len()));
        }
        let mut unsealed = Unsealed::new(BufReader::new(file), &identities()?)?;
        // Its last part says that this is the end.
        let len = unsealed.seek(SeekFrom::End(0)).map_err(super::section::unreadable)?;
        Ok((Self::Sealed(Box::new(Mutex::new(unsealed))), len))
    }
}

fn header_at(file: &Source, offset: u64, number: u32) -> Result<SectionHeader> {
    let mut header = [0; SECTION_HEADER_LEN];
    read_at(file, &mut header, offset)?;
    SectionHeader::decode(&header, number)
}

/// The payload of a section, which is as the table says.
fn payload(file: &Source, row: &TableRow) -> Result<Vec<u8>> {
    let header = header_at(file, row.offset, row.header.number)?;
    if header != row.header {
        return Err(Error::corrupt("a section of the share file is not what its table says"));
    }
    payload_at(file, row.offset, &header)
}

/// The payload of the section at `offset`. The length was checked, and is not believed: nothing is read beyond the file.
fn payload_at(file: &Source, offset: u64, header: &SectionHeader) -> Result<Vec<u8>> {
    let mut at = offset.saturating_add(SECTION_HEADER_LEN as u64);
    let mut left = u64::from(header.payload_len);
    let mut bytes = Vec::new();
    while left > 0 {
        let part = left.min(1 << 20);
        let start = bytes.len();
        bytes.resize(start + usize::try_from(part).unwrap_or(0), 0);
        read_at(file, &mut bytes[start..], at)?;
        at += part;
        left -= part;
    }
    header.payload(&mut Cursor::new(bytes))
}

/// The rows of the table, their digest, and where the table ends.
fn read_table(file: &Source, offset: u64, len: u64) -> Result<(Vec<TableRow>, [u8; 32], u64)> {
    let bad = || Error::corrupt("the share file's table is not what its end says");
    // The number stands in the header itself; the digest covers it.
    let mut bytes = [0; SECTION_HEADER_LEN];
    read_at(file, &mut bytes, offset)?;
    let number = u32::from_le_bytes([bytes[12], bytes[13], bytes[14], bytes[15]]);
    let header = SectionHeader::decode(&bytes, number)?;
    let end = offset.checked_add(SECTION_HEADER_LEN as u64 + u64::from(header.payload_len)).filter(|end| *end <= len).ok_or_else(bad)?;
    if header.kind != SectionKind::Table || number > SECTIONS_MAX || header.payload_len as usize != number as usize * TABLE_ROW_LEN {
        return Err(bad());
    }
    let table = payload_at(file, offset, &header)?;
    let mut rows = Vec::new();
    let mut next = SHARE_HEADER_LEN as u64;
    for (number, row) in (0..).zip(table.chunks_exact(TABLE_ROW_LEN)) {
        let row = TableRow::decode(row, number)?;
        if row.offset != next {
            return Err(bad());
        }
        next += SECTION_HEADER_LEN as u64 + u64::from(row.header.payload_len);
        rows.push(row);
    }
    if next != offset {
        return Err(bad());
    }
    Ok((rows, *blake3::hash(&table).as_bytes(), end))
}

/// The signature behind the table, and by whom it is.
fn read_signature(file: &Source, offset: u64, len: u64, sections: usize, digest: &[u8; 32]) -> Result<(Option<String>, Option<PublicKey>)> {
    if offset + SHARE_TRAILER_LEN as u64 == len {
        return Ok((None, None));
    }
    let number = u32::try_from(sections + 1).map_err(|_| Error::corrupt("the share file has too many sections"))?;
    let header = header_at(file, offset, number)?;
    let end = offset + SECTION_HEADER_LEN as u64 + u64::from(header.payload_len) + SHARE_TRAILER_LEN as u64;
    if header.kind != SectionKind::Signature || end != len {
        return Err(Error::corrupt("the share file goes on after its table"));
    }
    let armoured = payload_at(file, offset, &header)?;
    let signer = sign::verify(&sign::statement(digest), &armoured)?;
    Ok((Some(String::from_utf8_lossy(&armoured).into_owned()), Some(signer)))
}
