//! Names of things by their content: [`ChunkId`] and [`PackId`] are BLAKE3-256 digests and distinct types.

use std::fmt;
use std::str::FromStr;
use std::sync::Arc;
use zeroize::Zeroizing;

/// Bytes in an id.
pub const ID_LEN: usize = 32;

macro_rules! id_type {
    ($(#[$doc:meta])* $name:ident) => {
        $(#[$doc])*
        #[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, bincode::Encode, bincode::Decode)]
        pub struct $name([u8; ID_LEN]);

        impl $name {
            /// The id of `bytes`: their BLAKE3-256 digest.
            pub fn of(bytes: &[u8]) -> Self {
                Self(*blake3::hash(bytes).as_bytes())
            }

            /// Wraps a digest that was computed or read elsewhere.
            pub const fn from_bytes(bytes: [u8; ID_LEN]) -> Self {
                Self(bytes)
            }

            /// The digest itself.
            pub const fn as_bytes(&self) -> &[u8; ID_LEN] {
                &self.0
            }

            /// The first eight hexadecimal digits, enough for a person to tell two apart.
            pub fn short(&self) -> String {
                hex(&self.0[..4])
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(&hex(&self.0))
            }
        }

        impl fmt::Debug for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                write!(f, concat!(stringify!($name), "({})"), self.short())
            }
        }

        impl FromStr for $name {
            type Err = ParseIdError;

            fn from_str(text: &str) -> Result<Self, ParseIdError> {
                parse_hex(text).map(Self)
            }
        }
    };
}

id_type! {
    /// Names a chunk: the digest of its plain bytes, which [`IdKey`] computes.
    ChunkId
}
id_type! {
    /// Names a pack: the digest of its stored bytes, so that any store can scrub it without understanding it.
    PackId
}

/// How chunks are named in a repository: by their digest, or, where it is encrypted, by a digest under a key, so that a name tells nobody else what a
/// chunk is.
#[derive(Clone, Default)]
pub struct IdKey(Option<Arc<Zeroizing<[u8; ID_LEN]>>>);

impl IdKey {
    /// No key: an id is the BLAKE3-256 digest of the chunk's bytes.
    pub const PLAIN: Self = Self(None);

    /// A key: an id is the keyed BLAKE3-256 digest.
    pub fn keyed(key: [u8; ID_LEN]) -> Self {
        Self(Some(Arc::new(Zeroizing::new(key))))
    }

    /// The id of a chunk.
    pub fn id(&self, bytes: &[u8]) -> ChunkId {
        match &self.0 {
            None => ChunkId::of(bytes),
            Some(key) => ChunkId::from_bytes(*blake3::keyed_hash(key, bytes).as_bytes()),
        }
    }

    /// Whether ids have no key.
    pub fn is_plain(&self) -> bool {
        self.0.is_none()
    }

    /// Tells repositories apart that name chunks differently; zeros where there is no key. It says nothing about the key.
    pub fn check(&self) -> [u8; 16] {
        let mut check = [0; 16];
        if let Some(key) = &self.0 {
            let digest = blake3::Hasher::new_derive_key("vml 2026 chunk ids").update(&key[..]).finalize();
            check.copy_from_slice(&digest.as_bytes()[..16]);
        }
        check
    }
}

impl PartialEq for IdKey {
    fn eq(&self, other: &Self) -> bool {
        self.check() == other.check()
    }
}

impl Eq for IdKey {}

impl fmt::Debug for IdKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(if self.is_plain() { "IdKey(none)" } else { "IdKey(secret)" })
    }
}

/// Text that is not 64 lower-case hexadecimal digits.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ParseIdError;

impl fmt::Display for ParseIdError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an id has 64 hexadecimal digits, in lower case")
    }
}

impl std::error::Error for ParseIdError {}

/// Prints bytes as lower-case hexadecimal digits.
pub fn hex(bytes: &[u8]) -> String {
    const DIGITS: &[u8; 16] = b"0123456789abcdef";
    let mut text = String::with_capacity(bytes.len() * 2);
    for byte in bytes {
        text.push(char::from(DIGITS[usize::from(byte >> 4)]));
        text.push(char::from(DIGITS[usize::from(byte & 15)]));
    }
    text
}

/// Parses 64 lower-case hexadecimal digits; one spelling only, because ids are file names.
pub fn parse_hex(text: &str) -> Result<[u8; ID_LEN], ParseIdError> {
    let digits = text.as_bytes();
    if digits.len() != ID_LEN * 2 {
        return Err(ParseIdError);
    }
    let value = |digit: u8| match digit {
        b'0'..=b'9' => Ok(digit - b'0'),
        b'a'..=b'f' => Ok(digit - b'a' + 10),
        _ => Err(ParseIdError),
    };
    let mut bytes = [0; ID_LEN];
    for (byte, pair) in bytes.iter_mut().zip(digits.chunks_exact(2)) {
        *byte = value(pair[0])? << 4 | value(pair[1])?;
    }
    Ok(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn hex_round_trips_and_has_one_spelling() {
        let id = ChunkId::of(b"abc");
        assert_eq!(id.to_string().parse::<ChunkId>(), Ok(id));
        assert_eq!(id.short(), "6437b3ac");
        assert!(id.to_string().to_uppercase().parse::<ChunkId>().is_err());
        assert!("6437b3ac".parse::<ChunkId>().is_err());
    }
}
