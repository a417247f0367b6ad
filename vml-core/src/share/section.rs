//! The sections a share file is made of: written one after the other, read one after the other.
//!
//! Each section carries the digest of itself, its place in the file included, so that damage, a cut or another order is noticed at that
//! section, before what is in it is used. The table at the end repeats all digests; the signature is over the table.

use super::solid::SOLID_MAX_LEN;
use std::io::{self, Read, Write};
use vml_chunk::format::FRAME_MAX_STORED_LEN;
use vml_chunk::{Error, ErrorKind, IoResultExt as _, Result};

/// The first bytes of a share file.
pub const SHARE_MAGIC: [u8; 8] = *b"VMLSHARE";
/// The last bytes of a share file.
pub const SHARE_END_MAGIC: [u8; 8] = *b"VMLSEND\0";
/// The version of the format.
pub const SHARE_VERSION: u16 = 1;
/// Bytes before the first section.
pub const SHARE_HEADER_LEN: usize = 16;
/// Bytes after the last section.
pub const SHARE_TRAILER_LEN: usize = 32;
/// Bytes of a section before its payload.
pub const SECTION_HEADER_LEN: usize = 48;
/// Bytes of a row of the table.
pub const TABLE_ROW_LEN: usize = 48;
/// Most sections of a file: with frames of 8 MiB far more than a disk holds.
pub const SECTIONS_MAX: u32 = 1 << 22;

const SECTION_MAGIC: [u8; 4] = *b"VMLs";
/// Bytes that are read at once: a length that lies costs no more memory than bytes that are there.
const READ_LEN: usize = 64 << 10;

/// What a section holds.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum SectionKind {
    /// What the file is: [`Head`](super::Head).
    Head,
    /// The record of an entry that is shared.
    Entry,
    /// The record of an entry that the receiver must have.
    Needed,
    /// A frame of listings and recipes.
    Meta,
    /// A frame of content.
    Data,
    /// A part of the content in one stream, where a file has that instead of frames.
    Solid,
    /// The table of all sections before it.
    Table,
    /// A signature over the table.
    Signature,
}

impl SectionKind {
    const ALL: [Self; 8] = [Self::Head, Self::Entry, Self::Needed, Self::Meta, Self::Data, Self::Table, Self::Signature, Self::Solid];

    fn number(self) -> u8 {
        Self::ALL.iter().position(|kind| *kind == self).map_or(0, |at| at as u8 + 1)
    }

    fn from_number(number: u8) -> Option<Self> {
        Self::ALL.get(usize::from(number).checked_sub(1)?).copied()
    }

    /// Longest payload.
    fn max_len(self) -> usize {
        match self {
            Self::Head => 1 << 20,
            Self::Entry | Self::Needed => 16 << 20,
            Self::Meta | Self::Data => FRAME_MAX_STORED_LEN,
            Self::Solid => SOLID_MAX_LEN,
            Self::Table => SECTIONS_MAX as usize * TABLE_ROW_LEN,
            Self::Signature => 8 << 10,
        }
    }
}

/// The head of a section.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct SectionHeader {
    /// What it holds.
    pub kind: SectionKind,
    /// Bytes of its payload.
    pub payload_len: u32,
    /// Its place among the sections, from 0.
    pub number: u32,
    /// BLAKE3-256 of what stands before it in the header and of the payload.
    pub digest: [u8; 32],
}

impl SectionHeader {
    fn fixed(kind: SectionKind, payload_len: u32, number: u32) -> [u8; 16] {
        let mut bytes = [0; 16];
        bytes[..4].copy_from_slice(&SECTION_MAGIC);
        bytes[4] = kind.number();
        bytes[8..12].copy_from_slice(&payload_len.to_le_bytes());
        bytes[12..].copy_from_slice(&number.to_le_bytes());
        bytes
    }

    /// Reads a header and checks what it says against its limits.
    ///
    /// # Errors
    /// `Corrupt`.
    pub fn decode(bytes: &[u8; SECTION_HEADER_LEN], number: u32) -> Result<Self> {
        let bad = |why: &str| Error::corrupt(format!("section {number} of the share file {why}"));
        if bytes[..4] != SECTION_MAGIC || bytes[5..8] != [0; 3] {
            return Err(bad("does not begin as a section does"));
        }
        let kind = SectionKind::from_number(bytes[4]).ok_or_else(|| bad("is of an unknown kind"))?;
        let field = |at: usize| u32::from_le_bytes([bytes[at], bytes[at + 1], bytes[at + 2], bytes[at + 3]]);
        if field(12) != number || number > SECTIONS_MAX {
            return Err(bad("stands in the wrong place"));
        }
        let payload_len = field(8);
        if payload_len as usize > kind.max_len() {
            return Err(bad("is longer than it may be"));
        }
        let mut digest = [0; 32];
        digest.copy_from_slice(&bytes[16..]);
        Ok(Self { kind, payload_len, number, digest })
    }

    /// Begins the digest of a section.
    fn hasher(&self) -> blake3::Hasher {
        let mut hasher = blake3::Hasher::new();
        hasher.update(&Self::fixed(self.kind, self.payload_len, self.number));
        hasher
    }

    fn mismatch(&self) -> Error {
        Error::corrupt(format!("section {} of the share file does not match its digest", self.number))
    }

    /// Reads the payload of this section and checks it.
    ///
    /// # Errors
    /// `Corrupt` when it is cut or changed; what `reader` says.
    pub fn payload(&self, reader: &mut dyn Read) -> Result<Vec<u8>> {
        let len = self.payload_len as usize;
        let mut payload = Vec::with_capacity(len.min(READ_LEN));
        reader.take(u64::from(self.payload_len)).read_to_end(&mut payload).map_err(unreadable)?;
        if payload.len() != len {
            return Err(cut_short());
        }
        let mut hasher = self.hasher();
        hasher.update(&payload);
        if hasher.finalize().as_bytes() != &self.digest { Err(self.mismatch()) } else { Ok(payload) }
    }
}

/// What a reader says, in its own words where it has some.
pub(super) fn unreadable(error: io::Error) -> Error {
    if error.kind() == io::ErrorKind::UnexpectedEof {
        return cut_short();
    }
    let kind = match error.get_ref().and_then(|inner| inner.downcast_ref::<Error>()) {
        Some(inner) => inner.kind(),
        None => vml_chunk::error::kind_of_io(&error),
    };
    Error::new(kind, "cannot read the share file").because(error)
}

fn cut_short() -> Error {
    Error::corrupt("the share file is cut short: what came until there is kept, get the rest and receive it again")
}

/// A row of the table.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct TableRow {
    /// Where the section begins in the file.
    pub offset: u64,
    /// Its head.
    pub header: SectionHeader,
}

impl TableRow {
    /// The bytes of the row.
    pub fn encode(&self) -> [u8; TABLE_ROW_LEN] {
        let mut bytes = [0; TABLE_ROW_LEN];
        bytes[0] = self.header.kind.number();
        bytes[4..8].copy_from_slice(&self.header.payload_len.to_le_bytes());
        bytes[8..16].copy_from_slice(&self.offset.to_le_bytes());
        bytes[16..].copy_from_slice(&self.header.digest);
        bytes
    }

    /// Reads row `number`.
    ///
    /// # Errors
    /// `Corrupt`.
    pub fn decode(bytes: &[u8], number: u32) -> Result<Self> {
        let bad = || Error::corrupt("the share file's table is damaged");
        let bytes: &[u8; TABLE_ROW_LEN] = bytes.try_into().map_err(|_| bad())?;
        let kind = SectionKind::from_number(bytes[0]).ok_or_else(bad)?;
        let payload_len = u32::from_le_bytes([bytes[4], bytes[5], bytes[6], bytes[7]]);
        if bytes[1..4] != [0; 3] || payload_len as usize > kind.max_len() || kind >= SectionKind::Table {
            return Err(bad());
        }
        let offset = u64::from_le_bytes(bytes[8..16].try_into().map_err(|_| bad())?);
        let mut digest = [0; 32];
        digest.copy_from_slice(&bytes[16..]);
        Ok(Self { offset, header: SectionHeader { kind, payload_len, number, digest } })
    }
}

/// The first bytes of the file.
pub fn encode_file_header() -> [u8; SHARE_HEADER_LEN] {
    let mut bytes = [0; SHARE_HEADER_LEN];
    bytes[..8].copy_from_slice(&SHARE_MAGIC);
    bytes[8..10].copy_from_slice(&SHARE_VERSION.to_le_bytes());
    bytes
}

/// Checks the first bytes of a file.
///
/// # Errors
/// `InvalidInput` for what is no share file, `UnsupportedFormat` for a newer one, `Corrupt`.
pub fn check_file_header(bytes: &[u8; SHARE_HEADER_LEN]) -> Result<()> {
    if bytes[..8] != SHARE_MAGIC {
        return Err(Error::invalid("this is no share file: it does not begin with VMLSHARE"));
    }
    let version = u16::from_le_bytes([bytes[8], bytes[9]]);
    if version > SHARE_VERSION {
        let message = format!("the share file has format version {version}, this program knows up to {SHARE_VERSION}");
        return Err(Error::new(ErrorKind::UnsupportedFormat, message));
    }
    if *bytes == encode_file_header() { Ok(()) } else { Err(Error::corrupt("the share file's first bytes are damaged")) }
}

/// The last bytes of a file of `file_len` bytes whose table begins at `table_offset`.
pub fn encode_trailer(table_offset: u64, file_len: u64) -> [u8; SHARE_TRAILER_LEN] {
    let mut bytes = [0; SHARE_TRAILER_LEN];
    bytes[..8].copy_from_slice(&SHARE_END_MAGIC);
    bytes[8..16].copy_from_slice(&table_offset.to_le_bytes());
    bytes[16..24].copy_from_slice(&file_len.to_le_bytes());
    let sum = blake3::hash(&bytes[..24]);
    bytes[24..].copy_from_slice(&sum.as_bytes()[..8]);
    bytes
}

/// Where the table begins, from the last bytes of a file of `file_len` bytes.
///
/// # Errors
/// `Corrupt`.
pub fn decode_trailer(bytes: &[u8; SHARE_TRAILER_LEN], file_len: u64) -> Result<u64> {
    let mut field = [0; 8];
    field.copy_from_slice(&bytes[8..16]);
    let offset = u64::from_le_bytes(field);
    if *bytes != encode_trailer(offset, file_len) || offset > file_len { Err(cut_short()) } else { Ok(offset) }
}

/// Writes sections and, at the end, their table.
pub(super) struct SectionWriter<'a> {
    out: &'a mut dyn Write,
    offset: u64,
    table: Vec<u8>,
    number: u32,
}

impl<'a> SectionWriter<'a> {
    pub(super) fn new(out: &'a mut dyn Write) -> Result<Self> {
        let mut writer = Self { out, offset: 0, table: Vec::new(), number: 0 };
        writer.put(&encode_file_header())?;
        Ok(writer)
    }

    fn put(&mut self, bytes: &[u8]) -> Result<()> {
        self.out.write_all(bytes).at(|| "cannot write the share file".to_owned())?;
        self.offset += bytes.len() as u64;
        Ok(())
    }

    /// Appends a section.
    pub(super) fn section(&mut self, kind: SectionKind, payload: &[u8]) -> Result<()> {
        if payload.len() > kind.max_len() || self.number >= SECTIONS_MAX {
            return Err(Error::invalid("there is more to share than one file can hold: share fewer entries at once"));
        }
        let payload_len = u32::try_from(payload.len()).map_err(|_| Error::invalid("a section is too long"))?;
        let fixed = SectionHeader::fixed(kind, payload_len, self.number);
        let mut hasher = blake3::Hasher::new();
        hasher.update(&fixed).update(payload);
        let digest = *hasher.finalize().as_bytes();
        if kind < SectionKind::Table {
            let header = SectionHeader { kind, payload_len, number: self.number, digest };
            self.table.extend_from_slice(&TableRow { offset: self.offset, header }.encode());
        }
        self.number += 1;
        self.put(&fixed)?;
        self.put(&digest)?;
        self.put(payload)
    }

    /// Ends the file: the table, what `sign` says to its digest, the trailer. Returns the length of the file.
    pub(super) fn finish(mut self, sign: &mut dyn FnMut(&[u8; 32]) -> Result<Option<String>>) -> Result<u64> {
        let table_offset = self.offset;
        let table = std::mem::take(&mut self.table);
        let digest = *blake3::hash(&table).as_bytes();
        self.section(SectionKind::Table, &table)?;
        if let Some(signature) = sign(&digest)? {
            self.section(SectionKind::Signature, signature.as_bytes())?;
        }
        let file_len = self.offset + SHARE_TRAILER_LEN as u64;
        self.put(&encode_trailer(table_offset, file_len))?;
        self.out.flush().at(|| "cannot write the share file".to_owned())?;
        Ok(file_len)
    }
}

/// Reads sections from a stream, each checked before it is given out.
pub(super) struct SectionReader<'a> {
    reader: &'a mut dyn Read,
    offset: u64,
    number: u32,
    /// Over the rows of the table as they should be.
    table: blake3::Hasher,
    table_offset: u64,
}

impl<'a> SectionReader<'a> {
    pub(super) fn new(reader: &'a mut dyn Read) -> Result<Self> {
        let mut this = Self { reader, offset: 0, number: 0, table: blake3::Hasher::new(), table_offset: 0 };
        let mut header = [0; SHARE_HEADER_LEN];
        this.exact(&mut header)?;
        check_file_header(&header)?;
        Ok(this)
    }

    fn exact(&mut self, buffer: &mut [u8]) -> Result<()> {
        match self.reader.read_exact(buffer) {
            Ok(()) => {
                self.offset += buffer.len() as u64;
                Ok(())
            }
            Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => Err(cut_short()),
            Err(error) => Err(unreadable(error)),
        }
    }

    /// How far the file has been read.
    pub(super) fn offset(&self) -> u64 {
        self.offset
    }

    /// The next section's kind and payload; of the table, which was compared with what came, nothing.
    pub(super) fn next(&mut self) -> Result<(SectionKind, Vec<u8>)> {
        let start = self.offset;
        let mut bytes = [0; SECTION_HEADER_LEN];
        self.exact(&mut bytes)?;
        let header = SectionHeader::decode(&bytes, self.number)?;
        self.number += 1;
        if header.kind == SectionKind::Table {
            self.table_offset = start;
            self.compare_table(&header)?;
            return Ok((header.kind, Vec::new()));
        }
        let payload = header.payload(self.reader)?;
        self.offset += payload.len() as u64;
        self.table.update(&TableRow { offset: start, header }.encode());
        Ok((header.kind, payload))
    }

    fn compare_table(&mut self, header: &SectionHeader) -> Result<()> {
        let rows = u64::from(header.number) * TABLE_ROW_LEN as u64;
        if u64::from(header.payload_len) != rows {
            return Err(Error::corrupt("the share file's table lists other sections than there are"));
        }
        let (mut own, mut listed) = (header.hasher(), blake3::Hasher::new());
        let mut buffer = vec![0; READ_LEN];
        let mut left = header.payload_len as usize;
        while left > 0 {
            let part = left.min(buffer.len());
            self.exact(&mut buffer[..part])?;
            own.update(&buffer[..part]);
            listed.update(&buffer[..part]);
            left -= part;
        }
        if own.finalize().as_bytes() != &header.digest {
            return Err(header.mismatch());
        }
        if listed.finalize() != self.table.finalize() {
            return Err(Error::corrupt("the share file's table lists other sections than there are"));
        }
        Ok(())
    }

    /// The digest that a signature is over, once the table was read.
    pub(super) fn table_digest(&self) -> [u8; 32] {
        *self.table.finalize().as_bytes()
    }

    /// Reads what follows the table: a signature, if there is one, and the end.
    pub(super) fn end(&mut self) -> Result<Option<Vec<u8>>> {
        // A trailer is shorter than a section's head and begins otherwise.
        let mut head = [0; SHARE_TRAILER_LEN];
        self.exact(&mut head)?;
        let mut signature = None;
        if head[..4] == SECTION_MAGIC {
            let mut bytes = [0; SECTION_HEADER_LEN];
            bytes[..SHARE_TRAILER_LEN].copy_from_slice(&head);
            self.exact(&mut bytes[SHARE_TRAILER_LEN..])?;
            let header = SectionHeader::decode(&bytes, self.number)?;
            if header.kind != SectionKind::Signature {
                return Err(Error::corrupt("the share file goes on after its table"));
            }
            let payload = header.payload(self.reader)?;
            self.offset += payload.len() as u64;
            signature = Some(payload);
            self.exact(&mut head)?;
        }
        if decode_trailer(&head, self.offset)? != self.table_offset {
            return Err(Error::corrupt("the share file's end does not fit its table"));
        }
        match self.reader.read(&mut [0]) {
            Ok(0) => Ok(signature),
            Ok(_) => Err(Error::corrupt("the share file goes on after its end")),
            Err(error) => Err(unreadable(error)),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_trailer_notices_every_flip_and_another_length() {
        let trailer = encode_trailer(40, 100);
        assert_ne!(trailer[..4], SECTION_MAGIC);
        assert_eq!(decode_trailer(&trailer, 100).unwrap(), 40);
        for bit in 0..trailer.len() * 8 {
            let mut damaged = trailer;
            damaged[bit / 8] ^= 1 << (bit % 8);
            assert!(decode_trailer(&damaged, 100).is_err(), "bit {bit}");
        }
        assert!(decode_trailer(&trailer, 101).is_err());
    }
}
