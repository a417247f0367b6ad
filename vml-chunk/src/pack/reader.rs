//! Reads packs: the footer alone, or every byte of one to prove it.

use super::{Footer, FooterChunk, PackKind, Trailer};
use crate::backend::Backend;
use crate::error::{Error, ErrorKind, Result};
use crate::format::{PACK_HEADER_LEN, PACK_TRAILER_LEN, u64_at};
use crate::frame::FrameDecoder;
use crate::id::{ID_LEN, IdKey, PackId};

/// Reads the footer of a pack: two small reads at its end.
///
/// # Errors
/// `NotFound`, `Corrupt` or `UnsupportedFormat`, with the pack's name.
pub fn read_footer(backend: &dyn Backend, kind: PackKind, id: &PackId) -> Result<(Footer, u64)> {
    let key = kind.key(id);
    let len = backend.len(&key)?;
    let read = || {
        if len < (PACK_HEADER_LEN + PACK_TRAILER_LEN) as u64 {
            return Err(Error::corrupt(format!("the pack is cut short: it has {len} bytes")));
        }
        let mut trailer = [0; PACK_TRAILER_LEN];
        backend.read_at(&key, len - PACK_TRAILER_LEN as u64, &mut trailer)?;
        let offset = match Trailer::decode(&trailer, len) {
            Ok(trailer) => trailer.footer_offset,
            Err(error) if error.kind() == ErrorKind::UnsupportedFormat => return Err(confirm_newer(backend, &key, &trailer, len, error)?),
            Err(error) => return Err(error),
        };
        // The trailer was checked against the file's length, so this is at most the file.
        let mut bytes = vec![0; usize::try_from(len - offset).map_err(|_| Error::corrupt("the footer is too long"))?];
        backend.read_at(&key, offset, &mut bytes)?;
        let footer = Footer::decode(&bytes, len)?;
        if footer.kind != kind {
            return Err(Error::corrupt("the pack is of the other kind than its directory"));
        }
        Ok((footer, len))
    };
    read().map_err(|error: Error| error.context(format!("cannot read the footer of pack {key}")))
}

/// Whether a trailer that names a newer version is one, and not a flipped bit: in every version the trailer begins with
/// the footer's offset, and its digest is over everything from there.
fn confirm_newer(backend: &dyn Backend, key: &str, trailer: &[u8; PACK_TRAILER_LEN], len: u64, newer: Error) -> Result<Error> {
    let digest_offset = len - PACK_TRAILER_LEN as u64 + 24;
    let mut offset = u64_at(trailer, 0);
    let mut hasher = blake3::Hasher::new();
    let mut buffer = vec![0; 64 << 10];
    while offset < digest_offset {
        let part = usize::try_from(digest_offset - offset).unwrap_or(usize::MAX).min(buffer.len());
        backend.read_at(key, offset, &mut buffer[..part])?;
        hasher.update(&buffer[..part]);
        offset += part as u64;
    }
    if hasher.finalize().as_bytes()[..] == trailer[24..24 + ID_LEN] {
        return Ok(newer);
    }
    Ok(Error::corrupt("the pack's footer does not match its checksum"))
}

/// Reads every byte of a pack and checks its name, its frames and every chunk's id. Each damaged chunk is told to
/// `damage` with what is wrong; the pack's chunk count is returned.
///
/// # Errors
/// When the pack as a whole is not what its name says, cannot be read, or has no usable footer; chunks whose frames are
/// sound have been checked even then where the footer could be read.
pub fn verify_pack(backend: &dyn Backend, kind: PackKind, id: &PackId, damage: impl FnMut(&FooterChunk, &Error)) -> Result<u64> {
    verify_pack_keyed(backend, &IdKey::PLAIN, kind, id, damage)
}

/// As [`verify_pack`], for chunks that are named by `ids`.
///
/// # Errors
/// As [`verify_pack`].
pub fn verify_pack_keyed(
    backend: &dyn Backend,
    ids: &IdKey,
    kind: PackKind,
    id: &PackId,
    mut damage: impl FnMut(&FooterChunk, &Error),
) -> Result<u64> {
    let key = kind.key(id);
    let (footer, len) = read_footer(backend, kind, id)?;
    let mut hasher = blake3::Hasher::new();
    let mut header = [0; PACK_HEADER_LEN];
    backend.read_at(&key, 0, &mut header)?;
    hasher.update(&header);
    let mut decoder = FrameDecoder::default();
    let (mut stored, mut plain) = (Vec::new(), Vec::new());
    let mut chunks = &footer.chunks[..];
    for frame in &footer.frames {
        stored.resize(frame.stored_len as usize, 0);
        backend.read_at(&key, u64::from(frame.offset), &mut stored)?;
        hasher.update(&stored);
        let (own, rest) = chunks.split_at(frame.chunk_count as usize);
        chunks = rest;
        let decoded = match footer.compaction {
            // As readers do, who expect no groups there.
            0 => decoder.decode(&stored, &mut plain),
            _ => decoder.decode_next(u64::from(frame.offset), &stored, &mut plain),
        };
        match decoded {
            Ok(header) if header.chunk_lens.iter().eq(own.iter().map(|chunk| &chunk.len)) => {
                let mut offset = 0;
                for chunk in own {
                    let end = offset + chunk.len as usize;
                    if ids.id(&plain[offset..end]) != chunk.id {
                        damage(chunk, &Error::corrupt("its bytes do not match its id"));
                    }
                    offset = end;
                }
            }
            Ok(_) => own.iter().for_each(|chunk| damage(chunk, &Error::corrupt("frame and footer disagree on its place"))),
            Err(error) => own.iter().for_each(|chunk| damage(chunk, &error)),
        }
    }
    let tail_offset = footer.frames.last().map_or(PACK_HEADER_LEN as u64, |frame| u64::from(frame.offset) + u64::from(frame.stored_len));
    let mut tail = vec![0; usize::try_from(len - tail_offset).unwrap_or(0)];
    backend.read_at(&key, tail_offset, &mut tail)?;
    hasher.update(&tail);
    if header != kind.header(footer.compaction) || hasher.finalize().as_bytes() != id.as_bytes() {
        return Err(Error::corrupt(format!("pack {key} does not match its name: its bytes have changed since it was written")));
    }
    Ok(footer.chunks.len() as u64)
}
