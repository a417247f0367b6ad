//! Replies to requests, simple or in chunks, checked against what was asked for.

use super::wire::*;
use std::collections::BTreeMap;
use std::io::Read;
use std::ops::Range;
use vml_core::{Error, ErrorKind, Result};

/// Chunks of one reply; servers send one for each extent of what is read.
const CHUNKS_MAX: usize = 64 << 10;
/// Extents in a chunk: what the protocol lets a client expect at most.
const EXTENTS_MAX: usize = 1 << 20;

/// A length and what stands there.
pub(super) type Extents = Vec<(u32, u32)>;

/// What a reply is to bring.
pub(super) enum Awaited<'a> {
    /// Bytes.
    Data(&'a mut [u8]),
    /// Extents of `len` bytes, of every context that has a number.
    Status { len: u32, ids: &'a [Option<u32>], found: Vec<Extents> },
}

/// The request that a reply must belong to.
pub(super) struct Asked {
    pub(super) cookie: u64,
    pub(super) offset: u64,
    pub(super) structured: bool,
}

/// Reads one reply, whole. An error inside is the server's own about the request: the connection can be used further. An
/// error outside ends it.
pub(super) fn read_reply(from: &mut impl Read, asked: &Asked, awaited: &mut Awaited<'_>) -> Result<Result<()>> {
    let mut refusal = None;
    let mut covered = Covered::default();
    for _ in 0..CHUNKS_MAX {
        let flags = match u32_of(from)? {
            SIMPLE_REPLY => {
                if covered.len > 0 || refusal.is_some() {
                    return Err(lie("it answers in two ways"));
                }
                return simple(from, asked, awaited);
            }
            STRUCTURED_REPLY if asked.structured => u16_of(from)?,
            magic => return Err(lie(format_args!("its answer begins with {magic:#x}"))),
        };
        let (kind, cookie, len) = (u16_of(from)?, u64_of(from)?, u32_of(from)?);
        check_cookie(cookie, asked)?;
        match (kind, &mut *awaited) {
            (CHUNK_NONE, _) if len == 0 && flags & CHUNK_DONE != 0 => {}
            (CHUNK_DATA, Awaited::Data(buffer)) if len > 8 => {
                let place = covered.add(u64_of(from)?, u64::from(len) - 8, asked, buffer.len())?;
                fill(from, &mut buffer[place])?;
            }
            (CHUNK_HOLE, Awaited::Data(buffer)) if len == 12 => {
                let place = covered.add(u64_of(from)?, u64::from(u32_of(from)?), asked, buffer.len())?;
                buffer[place].fill(0);
            }
            (CHUNK_STATUS, Awaited::Status { len: wanted, ids, found }) => {
                let id = u32_of(from)?;
                let known = ids.iter().position(|known| *known == Some(id)).filter(|place| found[*place].is_empty());
                let place = known.ok_or_else(|| lie("it sends extents that were not asked for, or sends them twice"))?;
                found[place] = extents(from, len, *wanted)?;
            }
            (CHUNK_ERROR.., _) => {
                let error = error(from, kind, len, asked)?;
                refusal.get_or_insert(error);
            }
            _ => return Err(lie(format_args!("its answer has a chunk of kind {kind} and {len} bytes"))),
        }
        if flags & CHUNK_DONE != 0 {
            if let Some(refusal) = refusal {
                return Ok(Err(refusal));
            }
            let complete = match awaited {
                Awaited::Data(buffer) => covered.len == buffer.len(),
                Awaited::Status { ids, found, .. } => ids.iter().zip(found).all(|(id, extents)| id.is_none() || !extents.is_empty()),
            };
            return if complete { Ok(Ok(())) } else { Err(lie("its answer ends before it is complete")) };
        }
    }
    Err(lie(format_args!("its answer has no end, or more than {CHUNKS_MAX} chunks")))
}

fn check_cookie(cookie: u64, asked: &Asked) -> Result<()> {
    if cookie == asked.cookie { Ok(()) } else { Err(lie("it answers something that was not asked")) }
}

fn simple(from: &mut impl Read, asked: &Asked, awaited: &mut Awaited<'_>) -> Result<Result<()>> {
    let number = u32_of(from)?;
    check_cookie(u64_of(from)?, asked)?;
    match awaited {
        _ if number != 0 => Ok(Err(refused(number, "", asked))),
        Awaited::Data(buffer) if !asked.structured => fill(from, buffer).map(Ok),
        _ => Err(lie("it says yes where it should send chunks")),
    }
}

/// The extents in a chunk of `len` bytes, cut to the `wanted` bytes that were asked for.
fn extents(from: &mut impl Read, len: u32, wanted: u32) -> Result<Extents> {
    let count = (len as usize).saturating_sub(4) / 8;
    if count == 0 || count > EXTENTS_MAX || len as usize != 4 + count * 8 {
        return Err(lie(format_args!("it sends extents in {len} bytes")));
    }
    let mut extents = Extents::new();
    let mut left = wanted;
    for _ in 0..count {
        let (len, state) = (u32_of(from)?, u32_of(from)?);
        // The last may go beyond the request, but none may begin there.
        if len == 0 || left == 0 {
            return Err(lie("it sends an extent that is empty, or beyond the request"));
        }
        let len = len.min(left);
        left -= len;
        match extents.last_mut() {
            Some((last_len, last)) if *last == state => *last_len += len,
            _ => extents.push((len, state)),
        }
    }
    Ok(extents)
}

/// A chunk of `len` bytes that tells of an error.
fn error(from: &mut impl Read, kind: u16, len: u32, asked: &Asked) -> Result<Error> {
    let bad = || lie(format_args!("it tells of an error in {len} bytes"));
    if !(6..=6 + 8 + TEXT_MAX).contains(&(len as usize)) {
        return Err(bad());
    }
    let (number, words_len) = (u32_of(from)?, usize::from(u16_of(from)?));
    let mut rest = vec![0; len as usize - 6];
    fill(from, &mut rest)?;
    let behind = rest.len().checked_sub(words_len).ok_or_else(bad)?;
    match kind {
        CHUNK_ERROR if behind != 0 => return Err(bad()),
        CHUNK_ERROR_AT if behind != 8 => return Err(bad()),
        _ if number == 0 => return Err(lie("it tells of an error that is none")),
        _ => {}
    }
    Ok(refused(number, &words(&rest[..words_len]), asked))
}

/// The server's error about a request; its numbers are Linux's.
fn refused(number: u32, words: &str, asked: &Asked) -> Error {
    let (kind, name) = match number {
        1 => (ErrorKind::PermissionDenied, "not permitted"),
        5 => (ErrorKind::Io, "input/output error"),
        12 => (ErrorKind::Io, "out of memory"),
        22 => (ErrorKind::InvalidInput, "invalid argument"),
        28 => (ErrorKind::NoSpace, "no space left"),
        95 => (ErrorKind::UnsupportedFormat, "not supported"),
        108 => (ErrorKind::Interrupted, "shutting down"),
        _ => (ErrorKind::Io, "an error of its own"),
    };
    let behind = if words.is_empty() { String::new() } else { format!(": {words}") };
    Error::new(kind, format!("the NBD server cannot tell what is at {}: {name} ({number}){behind}", asked.offset))
}

/// Which of the wanted bytes have come: where ranges begin and end. Chunks may come in any order.
#[derive(Default)]
struct Covered {
    ranges: BTreeMap<usize, usize>,
    len: usize,
}

impl Covered {
    /// Adds `len` bytes at `offset` of the export, and tells where in the `wanted` bytes they belong.
    fn add(&mut self, offset: u64, len: u64, asked: &Asked, wanted: usize) -> Result<Range<usize>> {
        let bad = || lie(format_args!("it sends {len} bytes at {offset}, which were not asked for"));
        let start = offset.checked_sub(asked.offset).and_then(|start| usize::try_from(start).ok()).ok_or_else(bad)?;
        let end = usize::try_from(len).ok().and_then(|len| start.checked_add(len)).filter(|end| *end <= wanted && len > 0);
        let place = start..end.ok_or_else(bad)?;
        let before = self.ranges.range_mut(..place.end).next_back();
        match before {
            Some((_, end)) if *end > place.start => return Err(lie(format_args!("it sends {len} bytes at {offset} twice"))),
            Some((_, end)) if *end == place.start => *end = place.end,
            _ => _ = self.ranges.insert(place.start, place.end),
        }
        self.len += place.len();
        Ok(place)
    }
}
