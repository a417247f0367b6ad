//! Reads a tar stream member by member; every length in it is bounded before anything is kept for it.

use super::BLOCK;
use super::acl::{RECORDS, from_text};
use super::pax::{decimal, decode_name, records};
use std::io::{self, Read};
use std::ops::Range;
use vml_core::{Error, ErrorKind, Result};

/// Longest PAX header or long name: the attributes of one file, and a path.
const EXTENSION_MAX: u64 = 4 << 20;
/// Most runs of one sparse file.
const RUNS_MAX: usize = 1 << 20;
/// Headers that may belong to one member.
const EXTENSIONS_MAX: usize = 16;

/// What a member is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Kind {
    /// A regular file.
    File,
    /// Another name of a member before, by its path.
    HardLink(Vec<u8>),
    /// A symbolic link and its target.
    Symlink(Vec<u8>),
    /// A device and its numbers.
    Device {
        /// Whether it is a character device.
        char: bool,
        /// Major number.
        major: u32,
        /// Minor number.
        minor: u32,
    },
    /// A directory.
    Directory,
    /// A named pipe.
    Fifo,
}

/// What stands before a member's bytes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Header {
    /// As the stream has it, without a `/` at its end.
    pub path: Vec<u8>,
    /// What it is.
    pub kind: Kind,
    /// Its length, holes included; 0 for what has no bytes.
    pub size: u64,
    /// Where it has data, if it is sparse: in order and apart.
    pub runs: Option<Vec<Range<u64>>>,
    /// Extended attributes sorted by name.
    pub xattrs: Vec<(Vec<u8>, Vec<u8>)>,
}

/// Reads members from a stream; [`Read`] gives the bytes of the latest member's runs.
pub struct TarReader<R> {
    from: R,
    /// Bytes of the member that are still to come.
    left: u64,
    /// Zeros after them.
    padding: u64,
    ended: bool,
}

fn bad(what: &str) -> Error {
    Error::corrupt(format!("a tar stream has an impossible {what}"))
}

fn cut_short(error: impl Into<Box<dyn std::error::Error + Send + Sync>>) -> Error {
    Error::new(ErrorKind::Interrupted, "a tar stream ended before it was whole").because(error)
}

impl<R: Read> TarReader<R> {
    /// Begins with the first member.
    pub fn new(from: R) -> Self {
        Self { from, left: 0, padding: 0, ended: false }
    }

    /// The next member, `None` at the end of the archive; what was not read of the last one is passed over.
    ///
    /// # Errors
    /// `Interrupted` when the stream ends without the archive's end, `Corrupt` or `UnsupportedFormat`.
    #[expect(clippy::should_implement_trait, reason = "an iterator would go on after an error")]
    pub fn next(&mut self) -> Result<Option<Header>> {
        if self.ended {
            return Ok(None);
        }
        let mut pax = Pax::default();
        for _ in 0..EXTENSIONS_MAX {
            self.skip()?;
            let Some(block) = self.block()? else { return Ok(None) };
            let size = number(&block[124..136]).ok_or_else(|| bad("size"))?;
            match block[156] {
                b'x' => {
                    let bytes = self.extension(size)?;
                    pax = Pax::read(&bytes)?;
                }
                // For the whole archive: comments.
                b'g' => drop(self.extension(size)?),
                b'L' => pax.path = Some(until_nul(&self.extension(size)?).to_vec()),
                b'K' => pax.target = Some(until_nul(&self.extension(size)?).to_vec()),
                _ => return self.member(&block, size, pax).map(Some),
            }
        }
        Err(bad("row of headers"))
    }

    fn member(&mut self, block: &[u8; BLOCK], size: u64, pax: Pax) -> Result<Header> {
        let mut path = pax.path.unwrap_or_else(|| {
            let (prefix, name) = (until_nul(&block[345..500]), until_nul(&block[..100]));
            let has_prefix = &block[257..263] == b"ustar\0" && !prefix.is_empty();
            if has_prefix { [prefix, b"/", name].concat() } else { name.to_vec() }
        });
        while path.len() > 1 && path.ends_with(b"/") {
            path.pop();
        }
        let target = pax.target.unwrap_or_else(|| until_nul(&block[157..257]).to_vec());
        let numbers = || {
            let read = |field: &[u8]| number(field).and_then(|value| u32::try_from(value).ok());
            read(&block[329..337]).zip(read(&block[337..345])).ok_or_else(|| bad("device"))
        };
        let kind = match block[156] {
            b'0' | 0 | b'7' => Kind::File,
            b'1' => Kind::HardLink(target),
            b'2' => Kind::Symlink(target),
            letter @ (b'3' | b'4') => {
                let (major, minor) = numbers()?;
                Kind::Device { char: letter == b'3', major, minor }
            }
            b'5' => Kind::Directory,
            b'6' => Kind::Fifo,
            letter => {
                let message = format!("a tar stream has a member of the unknown type {:?}", char::from(letter));
                return Err(Error::new(ErrorKind::UnsupportedFormat, message));
            }
        };
        if path.is_empty() || path.contains(&0) || matches!(&kind, Kind::Symlink(target) | Kind::HardLink(target) if target.is_empty()) {
            return Err(bad("name"));
        }
        let stored = if kind == Kind::File { pax.size.unwrap_or(size) } else { 0 };
        if stored > i64::MAX as u64 {
            return Err(bad("size"));
        }
        self.left = stored;
        self.padding = padding(stored);
        let mut header = Header { path, kind, size: stored, runs: None, xattrs: pax.xattrs };
        if header.kind == Kind::File && pax.sparse.is_some() {
            let real = pax.real_size.ok_or_else(|| bad("sparse file"))?;
            let runs = match pax.sparse {
                Some(Sparse::InData) => self.runs_in_data()?,
                Some(Sparse::Map(runs)) => runs,
                None => Vec::new(),
            };
            header.runs = Some(checked(runs, real, self.left)?);
            header.size = real;
        }
        Ok(header)
    }

    /// The map that stands before the data of a sparse file of version 1.0.
    fn runs_in_data(&mut self) -> Result<Vec<(u64, u64)>> {
        let mut block = [0; BLOCK];
        let mut at = BLOCK;
        let mut line = |this: &mut Self| -> Result<u64> {
            let mut digits = Vec::new();
            loop {
                if at == BLOCK {
                    if this.left < BLOCK as u64 {
                        return Err(bad("sparse map"));
                    }
                    this.from.read_exact(&mut block).map_err(cut_short)?;
                    this.left -= BLOCK as u64;
                    at = 0;
                }
                let byte = block[at];
                at += 1;
                match byte {
                    b'\n' => return decimal(&digits).ok_or_else(|| bad("sparse map")),
                    _ if digits.len() >= 20 => return Err(bad("sparse map")),
                    digit => digits.push(digit),
                }
            }
        };
        let count = usize::try_from(line(self)?).ok().filter(|count| *count <= RUNS_MAX);
        let count = count.ok_or_else(|| Error::new(ErrorKind::UnsupportedFormat, "a sparse file has more than a million runs"))?;
        // What is kept grows with what arrives, not with what is announced.
        let mut runs = Vec::new();
        for _ in 0..count {
            runs.push((line(self)?, line(self)?));
        }
        Ok(runs)
    }

    /// A header; `None` for the archive's end.
    fn block(&mut self) -> Result<Option<[u8; BLOCK]>> {
        let mut block = [0; BLOCK];
        self.from.read_exact(&mut block).map_err(cut_short)?;
        if block.iter().all(|byte| *byte == 0) {
            self.ended = true;
            // The second one, and what fills the last record.
            _ = io::copy(&mut (&mut self.from).take(1 << 20), &mut io::sink());
            return Ok(None);
        }
        let sum = |from: usize, to: usize| block[from..to].iter().map(|byte| u64::from(*byte)).sum::<u64>();
        if number(&block[148..156]) != Some(sum(0, 148) + 8 * u64::from(b' ') + sum(156, BLOCK)) {
            return Err(bad("checksum"));
        }
        Ok(Some(block))
    }

    fn extension(&mut self, size: u64) -> Result<Vec<u8>> {
        if size > EXTENSION_MAX {
            return Err(bad("header: it is too long"));
        }
        (self.left, self.padding) = (size, padding(size));
        let mut bytes = Vec::new();
        let read = self.read_to_end(&mut bytes).map_err(cut_short)?;
        if read as u64 == size { Ok(bytes) } else { Err(bad("header")) }
    }

    fn skip(&mut self) -> Result<()> {
        let len = self.left.checked_add(self.padding).ok_or_else(|| bad("size"))?;
        let passed = io::copy(&mut (&mut self.from).take(len), &mut io::sink()).map_err(cut_short)?;
        if passed != len {
            return Err(cut_short(io::Error::from(io::ErrorKind::UnexpectedEof)));
        }
        (self.left, self.padding) = (0, 0);
        Ok(())
    }
}

impl<R: Read> Read for TarReader<R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let len = usize::try_from(self.left).unwrap_or(usize::MAX).min(buffer.len());
        if len == 0 {
            return Ok(0);
        }
        let read = self.from.read(&mut buffer[..len])?;
        if read == 0 {
            return Err(io::Error::new(io::ErrorKind::UnexpectedEof, "the stream ended inside a member"));
        }
        self.left -= read as u64;
        Ok(read)
    }
}

fn padding(len: u64) -> u64 {
    len.wrapping_neg() % BLOCK as u64
}

fn until_nul(field: &[u8]) -> &[u8] {
    &field[..field.iter().position(|byte| *byte == 0).unwrap_or(field.len())]
}

/// Octal digits, or for what is larger a number of 63 bits behind a mark.
fn number(field: &[u8]) -> Option<u64> {
    if field[0] & 0x80 != 0 {
        // 0xff would be negative.
        let mut value = u64::from(field[0] & 0x7f);
        for byte in &field[1..] {
            value = value.checked_mul(256)?.checked_add(u64::from(*byte))?;
        }
        return Some(value);
    }
    let text = std::str::from_utf8(until_nul(field)).ok()?.trim_matches(' ');
    if text.is_empty() { Some(0) } else { u64::from_str_radix(text, 8).ok() }
}

/// The runs of a sparse file, if they are in order, inside it, and have `stored` bytes together.
fn checked(runs: Vec<(u64, u64)>, size: u64, stored: u64) -> Result<Vec<Range<u64>>> {
    if size > i64::MAX as u64 {
        return Err(bad("sparse file"));
    }
    let (mut at, mut sum) = (0, 0_u64);
    let mut checked = Vec::with_capacity(runs.len());
    for (start, len) in runs {
        let end = start.checked_add(len).filter(|end| start >= at && *end <= size).ok_or_else(|| bad("sparse map"))?;
        // The last one is often empty and says how long the file is.
        if len > 0 {
            checked.push(start..end);
        }
        at = end;
        sum += len;
    }
    if sum != stored { Err(bad("sparse map")) } else { Ok(checked) }
}

enum Sparse {
    /// Version 1.0.
    InData,
    /// Versions 0.0 and 0.1.
    Map(Vec<(u64, u64)>),
}

/// What PAX records say of the member that follows.
#[derive(Default)]
struct Pax {
    path: Option<Vec<u8>>,
    target: Option<Vec<u8>>,
    size: Option<u64>,
    real_size: Option<u64>,
    sparse: Option<Sparse>,
    xattrs: Vec<(Vec<u8>, Vec<u8>)>,
}

impl Pax {
    fn read(bytes: &[u8]) -> Result<Self> {
        let mut pax = Self::default();
        let (mut major, mut real_name, mut starts) = (None, None, Vec::new());
        let (mut map, mut acls) = (None, Vec::new());
        for (key, value) in records(bytes)? {
            let int = || decimal(value).ok_or_else(|| bad("PAX number"));
            match key {
                b"path" => pax.path = Some(value.to_vec()),
                b"linkpath" => pax.target = Some(value.to_vec()),
                b"size" => pax.size = Some(int()?),
                b"GNU.sparse.major" => major = Some(int()?),
                b"GNU.sparse.name" => real_name = Some(value.to_vec()),
                b"GNU.sparse.realsize" | b"GNU.sparse.size" => pax.real_size = Some(int()?),
                b"GNU.sparse.map" => map = Some(numbers(value)?),
                b"GNU.sparse.offset" => starts.push((int()?, None)),
                b"GNU.sparse.numbytes" => {
                    let len = int()?;
                    starts.last_mut().filter(|(_, known)| known.is_none()).ok_or_else(|| bad("sparse map"))?.1 = Some(len);
                }
                _ => {
                    if let Some(name) = key.strip_prefix(b"SCHILY.xattr.") {
                        pax.xattrs.push((decode_name(name), value.to_vec()));
                    } else if let Some((name, _)) = RECORDS.iter().find(|(_, record)| *record == key) {
                        acls.extend(from_text(value).map(|acl| (name.to_vec(), acl)));
                    }
                }
            }
        }
        pax.sparse = match (major, map) {
            (Some(1), _) => Some(Sparse::InData),
            (Some(_), _) => return Err(Error::new(ErrorKind::UnsupportedFormat, "a tar stream has sparse files of an unknown version")),
            (None, Some(map)) => Some(Sparse::Map(map)),
            (None, None) if !starts.is_empty() => {
                let runs = starts.into_iter().map(|(start, len)| Some((start, len?))).collect::<Option<_>>();
                Some(Sparse::Map(runs.ok_or_else(|| bad("sparse map"))?))
            }
            (None, None) => None,
        };
        // The plain path of a sparse file is one that other programs cannot mistake for it.
        pax.path = real_name.or(pax.path);
        if pax.path.as_ref().is_some_and(|path| path.contains(&0)) || pax.target.as_ref().is_some_and(|target| target.contains(&0)) {
            return Err(bad("name"));
        }
        // The kernel's own form is the better one.
        acls.retain(|(name, _)| !pax.xattrs.iter().any(|(known, _)| known == name));
        pax.xattrs.extend(acls);
        pax.xattrs.sort_unstable();
        pax.xattrs.dedup_by(|a, b| a.0 == b.0);
        Ok(pax)
    }
}

/// `start,len,start,len`.
fn numbers(text: &[u8]) -> Result<Vec<(u64, u64)>> {
    let mut runs = Vec::new();
    if text.is_empty() {
        return Ok(runs);
    }
    let mut parts = text.split(|byte| *byte == b',');
    while let Some(start) = parts.next() {
        let pair = decimal(start).zip(parts.next().and_then(decimal));
        runs.push(pair.ok_or_else(|| bad("sparse map"))?);
    }
    Ok(runs)
}
