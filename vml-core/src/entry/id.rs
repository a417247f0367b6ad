//! The name of an entry.

use bincode::{Decode, Encode};
use std::fmt;
use std::str::FromStr;
use vml_chunk::id::{ID_LEN, ParseIdError, hex, parse_hex};

/// Names an entry: the BLAKE3-256 of its record's bytes.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Encode, Decode)]
pub struct EntryId([u8; ID_LEN]);

impl EntryId {
    /// The id of an entry's record.
    pub fn of(record: &[u8]) -> Self {
        Self(*blake3::hash(record).as_bytes())
    }

    /// The first ten hexadecimal digits, which name an entry among a million.
    pub fn short(&self) -> String {
        hex(&self.0[..5])
    }
}

impl fmt::Display for EntryId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&hex(&self.0))
    }
}

impl fmt::Debug for EntryId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "EntryId({})", self.short())
    }
}

impl FromStr for EntryId {
    type Err = ParseIdError;

    fn from_str(text: &str) -> Result<Self, ParseIdError> {
        parse_hex(text).map(Self)
    }
}
