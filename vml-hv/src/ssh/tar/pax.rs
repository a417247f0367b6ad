//! PAX records: `LEN KEY=VALUE\n`.

use vml_core::{Error, Result};

/// Splits records; keys and values are bytes.
pub(super) fn records(mut bytes: &[u8]) -> Result<Vec<(&[u8], &[u8])>> {
    let bad = || Error::corrupt("a tar stream has an impossible PAX record");
    let mut records = Vec::new();
    while !bytes.is_empty() {
        let space = bytes.iter().take(20).position(|byte| *byte == b' ').ok_or_else(bad)?;
        let len: usize = decimal(&bytes[..space]).and_then(|len| usize::try_from(len).ok()).ok_or_else(bad)?;
        // The shortest record has a key of one byte, an equals sign and the newline.
        if len < space + 4 || len > bytes.len() || bytes[len - 1] != b'\n' {
            return Err(bad());
        }
        let record = &bytes[space + 1..len - 1];
        let equals = record.iter().position(|byte| *byte == b'=').filter(|at| *at > 0).ok_or_else(bad)?;
        records.push((&record[..equals], &record[equals + 1..]));
        bytes = &bytes[len..];
    }
    Ok(records)
}

/// Appends a record.
pub(super) fn push(out: &mut Vec<u8>, key: &[u8], value: &[u8]) {
    // The length counts its own digits.
    let rest = key.len() + value.len() + 3;
    let mut len = rest + 1;
    while len != rest + len.to_string().len() {
        len = rest + len.to_string().len();
    }
    out.extend_from_slice(format!("{len} ").as_bytes());
    out.extend_from_slice(key);
    out.push(b'=');
    out.extend_from_slice(value);
    out.push(b'\n');
}

/// A number without sign.
pub(super) fn decimal(text: &[u8]) -> Option<u64> {
    if text.is_empty() || !text.iter().all(u8::is_ascii_digit) {
        return None;
    }
    std::str::from_utf8(text).ok()?.parse().ok()
}

/// The name of an attribute in a key: `=` would end the key.
pub(super) fn encode_name(name: &[u8]) -> Vec<u8> {
    let mut out = Vec::with_capacity(name.len());
    for byte in name {
        match byte {
            b'%' => out.extend_from_slice(b"%25"),
            b'=' => out.extend_from_slice(b"%3D"),
            other => out.push(*other),
        }
    }
    out
}

/// The way back.
pub(super) fn decode_name(text: &[u8]) -> Vec<u8> {
    let mut out = Vec::with_capacity(text.len());
    let mut rest = text;
    while let Some((first, tail)) = rest.split_first() {
        let (byte, tail) = match rest {
            [b'%', b'2', b'5', tail @ ..] => (b'%', tail),
            [b'%', b'3', b'D', tail @ ..] => (b'=', tail),
            _ => (*first, tail),
        };
        out.push(byte);
        rest = tail;
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn what_is_written_is_read(pairs in proptest::collection::vec(("[a-zA-Z.]{1,120}", proptest::collection::vec(any::<u8>(), 0..200)), 0..6)) {
            let mut bytes = Vec::new();
            pairs.iter().for_each(|(key, value)| push(&mut bytes, key.as_bytes(), value));
            let read = records(&bytes).unwrap();
            prop_assert_eq!(read.len(), pairs.len());
            for ((key, value), (known, bytes)) in read.iter().zip(&pairs) {
                prop_assert!(*key == known.as_bytes() && value == bytes);
            }
        }

        #[test]
        fn names_of_attributes_come_back(name in proptest::collection::vec(any::<u8>(), 0..40)) {
            let encoded = encode_name(&name);
            prop_assert!(!encoded.contains(&b'='));
            prop_assert_eq!(decode_name(&encoded), name);
        }
    }
}
