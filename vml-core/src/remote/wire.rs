//! How the calls of a [`Remote`](super::Remote) look in the body of a request or an answer; `docs/service.md` says which call has which.
//!
//! ```text
//! message    one value in the canonical encoding of records, without an envelope
//! blocks     length u32 | bytes, again and again; a length of 0 is the end, so that a cut answer is known as such
//! frames     blocks of: kind u8 | frame
//! ```
//! All integers are little-endian. An error is told by the [name](kind_name) of its kind and its message.

use super::{PARCEL_MAX, Parcel};
use std::io::{ErrorKind as IoKind, Read};
pub use vml_chunk::codec::{decode_payload as decode_message, encode_payload as encode_message};
use vml_chunk::format::FRAME_MAX_STORED_LEN;
use vml_chunk::{Error, ErrorKind, IoResultExt, PackKind, Result};

/// A value that can be a message.
pub trait Message: bincode::Encode + bincode::Decode<()> {}

impl<T: bincode::Encode + bincode::Decode<()>> Message for T {}

/// Where the calls are below the address of a service.
pub const CALLS: &str = "v1/remote";

/// The kinds of errors by their names on a wire.
const KINDS: [(ErrorKind, &str); 9] = [
    (ErrorKind::NotFound, "not_found"),
    (ErrorKind::AlreadyExists, "already_exists"),
    (ErrorKind::Corrupt, "corrupt"),
    (ErrorKind::UnsupportedFormat, "unsupported_format"),
    (ErrorKind::Locked, "locked"),
    (ErrorKind::InvalidInput, "invalid_input"),
    (ErrorKind::PermissionDenied, "permission_denied"),
    (ErrorKind::NoSpace, "no_space"),
    (ErrorKind::Interrupted, "interrupted"),
];

/// The name of a kind of errors.
pub fn kind_name(kind: ErrorKind) -> &'static str {
    KINDS.iter().find(|(known, _)| *known == kind).map_or("io", |(_, name)| name)
}

/// The kind of a name; an unknown one is `Io`.
pub fn kind_of(name: &str) -> ErrorKind {
    KINDS.iter().find(|(_, known)| *known == name).map_or(ErrorKind::Io, |(kind, _)| *kind)
}

/// Longest block of [`Needs`](super::Needs).
pub const NEEDS_MAX_LEN: usize = 8 << 20;
/// Longest block of a frame.
pub const FRAME_BLOCK_MAX_LEN: usize = FRAME_MAX_STORED_LEN + 1;
/// The block that ends blocks.
pub const END: [u8; 4] = [0; 4];

/// What stands before a block's bytes.
pub fn block_head(len: usize) -> [u8; 4] {
    u32::try_from(len).expect("a block is far smaller than 4 GiB").to_le_bytes()
}

/// What stands before a frame in its block, with the block's length.
pub fn frame_head(kind: PackKind, frame_len: usize) -> [u8; 5] {
    let [a, b, c, d] = block_head(frame_len + 1);
    [a, b, c, d, kind.number()]
}

/// Appends a block.
pub fn push_block(out: &mut Vec<u8>, bytes: &[u8]) {
    out.extend_from_slice(&block_head(bytes.len()));
    out.extend_from_slice(bytes);
}

/// Reads blocks.
pub struct BlockReader<R> {
    input: R,
    max_len: usize,
    ended: bool,
}

impl<R: Read> BlockReader<R> {
    /// Blocks of at most `max_len` bytes.
    pub fn new(input: R, max_len: usize) -> Self {
        Self { input, max_len, ended: false }
    }

    /// The next block; `None` after the last.
    ///
    /// # Errors
    /// `Corrupt` when the stream is cut or names a length beyond the limit, else what reading says.
    pub fn next_block(&mut self) -> Result<Option<Vec<u8>>> {
        Ok(self.next_behind::<0>()?.map(|([], bytes)| bytes))
    }

    /// The next block, its first bytes apart from the others.
    fn next_behind<const N: usize>(&mut self) -> Result<Option<([u8; N], Vec<u8>)>> {
        if self.ended {
            return Ok(None);
        }
        let mut head = [0; 4];
        self.fill(&mut head)?;
        let len = u32::from_le_bytes(head) as usize;
        if len == 0 {
            self.ended = true;
            return Ok(None);
        }
        if len > self.max_len {
            return Err(Error::corrupt(format!("a block of {len} bytes came where at most {} are possible", self.max_len)));
        }
        let Some(len) = len.checked_sub(N) else {
            return Err(Error::corrupt(format!("a block of {len} bytes came where at least {N} are needed")));
        };
        let mut first = [0; N];
        self.fill(&mut first)?;
        // Room is only named here: pages of it are taken when something comes.
        let mut bytes = Vec::with_capacity(len);
        let read = (&mut self.input).take(len as u64).read_to_end(&mut bytes).at(|| "cannot read what comes")?;
        if read < len { Err(cut()) } else { Ok(Some((first, bytes))) }
    }

    fn fill(&mut self, buffer: &mut [u8]) -> Result<()> {
        match self.input.read_exact(buffer) {
            Err(error) if error.kind() == IoKind::UnexpectedEof => Err(cut()),
            other => other.at(|| "cannot read what comes"),
        }
    }
}

fn cut() -> Error {
    Error::corrupt("what comes ends before its end mark: the connection was cut")
}

/// The frames of a parcel as blocks.
pub fn encode_parcel(parcel: &Parcel) -> Vec<u8> {
    let len: usize = parcel.iter().map(|(_, frame)| frame.len() + 5).sum();
    let mut out = Vec::with_capacity(len + END.len());
    for (kind, frame) in parcel {
        out.extend_from_slice(&frame_head(*kind, frame.len()));
        out.extend_from_slice(frame);
    }
    out.extend_from_slice(&END);
    out
}

/// Reads the frames of a parcel.
///
/// # Errors
/// As [`BlockReader::next_block`]; `Corrupt` beyond [`PARCEL_MAX`] or for a kind that is none.
pub fn decode_parcel(input: impl Read) -> Result<Parcel> {
    let mut blocks = BlockReader::new(input, FRAME_BLOCK_MAX_LEN);
    let mut parcel = Parcel::new();
    let mut len = 0;
    while let Some(([number], frame)) = blocks.next_behind()? {
        len += frame.len();
        if len > PARCEL_MAX {
            return Err(Error::corrupt(format!("more than {PARCEL_MAX} bytes of frames came at once")));
        }
        let kind = PackKind::from_number(number);
        parcel.push((kind.ok_or_else(|| Error::corrupt(format!("a frame of kind {number} came, which is unknown")))?, frame));
    }
    Ok(parcel)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parcels_come_back_and_whatever_is_cut_or_too_long_is_known() {
        let parcel = vec![(PackKind::Data, vec![1; 1000]), (PackKind::Meta, vec![2; 3])];
        let bytes = encode_parcel(&parcel);
        assert_eq!(decode_parcel(&bytes[..]).unwrap(), parcel);
        for len in 0..bytes.len() {
            assert_eq!(decode_parcel(&bytes[..len]).unwrap_err().kind(), ErrorKind::Corrupt);
        }
        let mut wrong = bytes;
        wrong[4] = 9;
        assert_eq!(decode_parcel(&wrong[..]).unwrap_err().kind(), ErrorKind::Corrupt);
        assert_eq!(decode_parcel(&[0xff; 100][..]).unwrap_err().kind(), ErrorKind::Corrupt);
    }

    #[test]
    fn an_endless_parcel_ends_at_the_limit() {
        struct Endless(u64);
        impl Read for Endless {
            fn read(&mut self, buffer: &mut [u8]) -> std::io::Result<usize> {
                // Blocks of 65,536 bytes of kind 0.
                for byte in buffer.iter_mut() {
                    *byte = if self.0 % 65_540 == 2 { 1 } else { 0 };
                    self.0 += 1;
                }
                Ok(buffer.len())
            }
        }
        let mut endless = Endless(0);
        assert!(decode_parcel(&mut endless).unwrap_err().to_string().contains("at once"));
        assert!(endless.0 < 2 * PARCEL_MAX as u64);
    }
}
