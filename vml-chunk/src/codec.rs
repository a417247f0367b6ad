//! Small records: an envelope written by hand around a payload that is decoded with a limit.
//!
//! ```text
//! magic "VML\0" | kind u16 | version u16 | payload length u32 | BLAKE3(everything else)[..16] | payload
//! ```
//! All integers are little-endian. The payload is bincode 2 `standard()` (variable-length integers); it is decoded
//! with a limit on what it may allocate, then encoded again and compared, so that one value has one encoding and no
//! trailing or non-canonical byte is accepted. Types must not be recursive and must have no zero-sized elements.
//! The format is written down in `docs/format.md`, "Records".

use crate::error::{Error, ErrorKind, Result};
use bincode::{Decode, Encode, config};

/// First bytes of every record file.
pub const RECORD_MAGIC: [u8; 4] = *b"VML\0";
/// Bytes before the payload.
pub const ENVELOPE_LEN: usize = 28;
/// Most bytes that decoding one record may allocate.
pub const DECODE_LIMIT: usize = 64 << 20;

/// What a record is: its number, its newest version and the name that errors use.
#[derive(Debug, Clone, Copy)]
pub struct RecordKind {
    /// The number in the envelope.
    pub number: u16,
    /// The newest version that this program reads and the one it writes.
    pub version: u16,
    /// For errors: "entry", "configuration".
    pub name: &'static str,
}

/// Encodes a payload without an envelope: for chunks, whose id is their checksum.
pub fn encode_payload<T: Encode>(value: &T) -> Vec<u8> {
    bincode::encode_to_vec(value, config::standard()).expect("encoding to memory fails only for types that are never records")
}

/// Decodes a payload without an envelope; see [`encode_payload`].
///
/// # Errors
/// [`ErrorKind::Corrupt`] when it does not decode, asks for more than [`DECODE_LIMIT`], or is not canonical.
pub fn decode_payload<T: Encode + Decode<()>>(name: &str, bytes: &[u8]) -> Result<T> {
    let limited = config::standard().with_limit::<DECODE_LIMIT>();
    let (value, used): (T, usize) =
        bincode::decode_from_slice(bytes, limited).map_err(|error| Error::corrupt(format!("the {name} does not decode")).because(error))?;
    if used != bytes.len() || encode_payload(&value) != bytes {
        return Err(Error::corrupt(format!("the {name} is not in its one canonical encoding")));
    }
    Ok(value)
}

/// Encodes `value` with its envelope.
pub fn encode_record<T: Encode>(kind: RecordKind, value: &T) -> Vec<u8> {
    let payload = encode_payload(value);
    let payload_len = u32::try_from(payload.len()).expect("a record is far smaller than 4 GiB");
    let mut bytes = Vec::with_capacity(ENVELOPE_LEN + payload.len());
    bytes.extend_from_slice(&RECORD_MAGIC);
    bytes.extend_from_slice(&kind.number.to_le_bytes());
    bytes.extend_from_slice(&kind.version.to_le_bytes());
    bytes.extend_from_slice(&payload_len.to_le_bytes());
    let checksum = checksum(&bytes, &payload);
    bytes.extend_from_slice(&checksum);
    bytes.extend_from_slice(&payload);
    bytes
}

/// Decodes a record with its envelope.
///
/// # Errors
/// [`ErrorKind::UnsupportedFormat`] for a newer version, else [`ErrorKind::Corrupt`].
pub fn decode_record<T: Encode + Decode<()>>(kind: RecordKind, bytes: &[u8]) -> Result<T> {
    let name = kind.name;
    let Some((envelope, payload)) = bytes.split_at_checked(ENVELOPE_LEN) else {
        return Err(Error::corrupt(format!("the {name} is cut short: {} bytes, fewer than its envelope's {ENVELOPE_LEN}", bytes.len())));
    };
    if envelope[..4] != RECORD_MAGIC {
        return Err(Error::corrupt(format!("the {name} does not begin with the magic bytes of a record")));
    }
    let number = u16::from_le_bytes([envelope[4], envelope[5]]);
    let version = u16::from_le_bytes([envelope[6], envelope[7]]);
    let payload_len = u32::from_le_bytes([envelope[8], envelope[9], envelope[10], envelope[11]]);
    if payload_len as usize != payload.len() {
        return Err(Error::corrupt(format!("the {name} has {} bytes of payload where its envelope says {payload_len}", payload.len())));
    }
    // Every version has this envelope, so that a flipped bit is no newer version.
    if envelope[12..] != checksum(&envelope[..12], payload) {
        return Err(Error::corrupt(format!("the {name} does not match its checksum")));
    }
    if number == kind.number && version > kind.version {
        return Err(Error::new(
            ErrorKind::UnsupportedFormat,
            format!("the {name} has format version {version}, this program knows up to {}", kind.version),
        ));
    }
    if number != kind.number || version != kind.version {
        return Err(Error::corrupt(format!("this is a record of kind {number} version {version}, not the {name} it should be")));
    }
    decode_payload(name, payload)
}

fn checksum(head: &[u8], payload: &[u8]) -> [u8; 16] {
    let mut hasher = blake3::Hasher::new();
    hasher.update(head).update(payload);
    let mut sum = [0; 16];
    sum.copy_from_slice(&hasher.finalize().as_bytes()[..16]);
    sum
}

#[cfg(test)]
mod tests {
    use super::*;

    const KIND: RecordKind = RecordKind { number: 7, version: 1, name: "sample" };

    #[test]
    fn every_flipped_bit_and_every_cut_is_noticed() {
        let bytes = encode_record(KIND, &(300_u32, "abc".to_owned()));
        assert_eq!(decode_record::<(u32, String)>(KIND, &bytes).unwrap(), (300, "abc".to_owned()));
        for bit in 0..bytes.len() * 8 {
            let mut damaged = bytes.clone();
            damaged[bit / 8] ^= 1 << (bit % 8);
            assert!(decode_record::<(u32, String)>(KIND, &damaged).is_err(), "bit {bit}");
        }
        for len in 0..bytes.len() {
            let error = decode_record::<(u32, String)>(KIND, &bytes[..len]).unwrap_err();
            assert_eq!(error.kind(), ErrorKind::Corrupt, "cut at {len}");
        }
    }

    #[test]
    fn a_newer_version_is_a_refusal_not_damage() {
        let newer = encode_record(RecordKind { version: 2, ..KIND }, &1_u8);
        assert_eq!(decode_record::<u8>(KIND, &newer).unwrap_err().kind(), ErrorKind::UnsupportedFormat);
    }

    #[test]
    fn non_canonical_and_greedy_payloads_are_refused() {
        // 5 spelt as a two-byte integer, and a length of 2^60.
        assert!(decode_payload::<u32>("number", &[0xfb, 5, 0]).is_err());
        let mut greedy = vec![0xfd];
        greedy.extend_from_slice(&(1_u64 << 60).to_le_bytes());
        assert!(decode_payload::<Vec<u64>>("list", &greedy).is_err());
    }
}
