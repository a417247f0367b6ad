//! What a user has: a passphrase, or a file with a key.

use super::Random;
use super::derive::{Key, Use, derive, random_key};
use super::keyring::Rights;
use super::secrets::Own;
use crate::error::{Error, ErrorKind, Result};
use crate::id::{hex, parse_hex};
use argon2::{Algorithm, Argon2, Params, Version};
use bincode::{Decode, Encode};
use zeroize::Zeroizing;

/// First word of a key file.
const KEY_FILE_WORD: &str = "vml-key-1";
/// Longest key file.
pub const KEY_FILE_LEN: usize = 4096;
/// Longest passphrase, in bytes.
const PASSPHRASE_MAX: usize = 4096;
/// Most memory for a passphrase, in KiB: a keyring of an enemy shall not take more.
const MEMORY_MAX: u32 = 64 << 10;
/// Most passes over it.
const PASSES_MAX: u32 = 16;
/// Most lanes.
const LANES_MAX: u32 = 8;

/// How a passphrase is made expensive to guess: argon2id, version 0x13.
#[derive(Debug, Clone, PartialEq, Eq, Encode, Decode)]
pub struct Stretch {
    /// Chosen at random for each slot.
    pub salt: [u8; 16],
    /// Memory in KiB: 8 for each lane, to 65 536.
    pub memory_kib: u32,
    /// Passes over it: 1 to 16.
    pub passes: u32,
    /// Lanes: 1 to 8.
    pub lanes: u32,
}

impl Stretch {
    /// The second recommendation of RFC 9106: 64 MiB, three passes, four lanes. A fifth of a second on a machine of today.
    pub fn new(random: &Random) -> Result<Self> {
        Self::with_cost(random, MEMORY_MAX, 3, 4)
    }

    fn with_cost(random: &Random, memory_kib: u32, passes: u32, lanes: u32) -> Result<Self> {
        let mut salt = [0; 16];
        random(&mut salt)?;
        Ok(Self { salt, memory_kib, passes, lanes })
    }

    /// Whether it stays within the limits.
    pub(super) fn check(&self) -> Result<()> {
        let fits = (1..=LANES_MAX).contains(&self.lanes)
            && (1..=PASSES_MAX).contains(&self.passes)
            && (8 * self.lanes..=MEMORY_MAX).contains(&self.memory_kib);
        if fits { Ok(()) } else { Err(Error::corrupt("the keyring asks for more work or memory than any passphrase may need")) }
    }

    fn stretch(&self, passphrase: &[u8]) -> Result<Key> {
        self.check()?;
        let bad = |error: argon2::Error| Error::new(ErrorKind::InvalidInput, format!("the passphrase cannot be used: {error}"));
        let params = Params::new(self.memory_kib, self.passes, self.lanes, Some(32)).map_err(bad)?;
        let mut key = Key::default();
        Argon2::new(Algorithm::Argon2id, Version::V0x13, params).hash_password_into(passphrase, &self.salt, &mut key[..]).map_err(bad)?;
        Ok(key)
    }
}

/// What opens a slot.
#[derive(Debug, Clone, PartialEq, Eq, Encode, Decode)]
pub enum SlotKind {
    /// A passphrase.
    Passphrase(Stretch),
    /// The key in a file.
    KeyFile,
}

/// What a user gives to open a repository. Wiped when dropped.
#[derive(Clone)]
pub enum Unlock {
    /// A passphrase; any bytes.
    Passphrase(Zeroizing<Vec<u8>>),
    /// The key of a key file.
    KeyFile(Zeroizing<[u8; 32]>),
}

impl std::fmt::Debug for Unlock {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Self::Passphrase(_) => "Passphrase",
            Self::KeyFile(_) => "KeyFile",
        })
    }
}

impl Unlock {
    /// A passphrase, as it was typed.
    ///
    /// # Errors
    /// `InvalidInput` for one that is empty or longer than 4096 bytes.
    pub fn passphrase(bytes: impl Into<Vec<u8>>) -> Result<Self> {
        let bytes = Zeroizing::new(bytes.into());
        match bytes.len() {
            0 => Err(Error::invalid("the passphrase is empty")),
            len if len > PASSPHRASE_MAX => Err(Error::invalid(format!("the passphrase has {len} bytes, {PASSPHRASE_MAX} are the limit"))),
            _ => Ok(Self::Passphrase(bytes)),
        }
    }

    /// The key in the text of a key file.
    ///
    /// # Errors
    /// `InvalidInput` when it is no key file, or a digit of it was changed.
    pub fn key_file(text: &[u8]) -> Result<Self> {
        let bad = || Error::invalid("this is no key file of VML, or a part of it was changed");
        let text = std::str::from_utf8(text).ok().filter(|text| text.len() <= KEY_FILE_LEN).ok_or_else(bad)?;
        let line = text.lines().map(str::trim).find(|line| !line.is_empty() && !line.starts_with('#')).ok_or_else(bad)?;
        let words: Vec<&str> = line.split_ascii_whitespace().collect();
        let [KEY_FILE_WORD, key, sum] = words[..] else { return Err(bad()) };
        let key = Zeroizing::new(parse_hex(key).map_err(|_| bad())?);
        if sum != checksum(&key) {
            return Err(bad());
        }
        Ok(Self::KeyFile(key))
    }

    /// What it gives for a slot; `None` when the slot takes something else.
    pub(super) fn own(&self, kind: &SlotKind) -> Result<Option<Own>> {
        let secret = match (self, kind) {
            (Self::Passphrase(passphrase), SlotKind::Passphrase(stretch)) => stretch.stretch(passphrase)?,
            (Self::KeyFile(key), SlotKind::KeyFile) => key.clone(),
            _ => return Ok(None),
        };
        Ok(Some(Own { private: derive(Use::SlotPrivate, &[&secret[..]]), proof: derive(Use::SlotProof, &[&secret[..]]) }))
    }

    /// What it is called in messages.
    pub fn what(&self) -> &'static str {
        match self {
            Self::Passphrase(_) => "passphrase",
            Self::KeyFile(_) => "key file",
        }
    }
}

fn checksum(key: &[u8; 32]) -> String {
    hex(&blake3::hash(key).as_bytes()[..4])
}

/// The text of a new key file.
///
/// # Errors
/// When there are no random bytes.
pub fn key_file_text(label: &str) -> Result<Zeroizing<String>> {
    let key = random_key(&super::derive::system_random())?;
    let label: String = label.chars().filter(|c| !c.is_control()).collect();
    Ok(Zeroizing::new(format!(
        "# A key of a VML repository: {label}. Whoever has it can use it.\n{KEY_FILE_WORD} {} {}\n",
        hex(&key[..]),
        checksum(&key)
    )))
}

/// A key to be given.
#[derive(Debug, Clone)]
pub struct NewKey {
    /// What will open it.
    pub unlock: Unlock,
    /// By what people tell it from others; in the clear.
    pub label: String,
    /// What it may do.
    pub rights: Rights,
    /// When: milliseconds since 1970-01-01 00:00 UTC; in the clear.
    pub created_ms: i64,
    /// Whether a passphrase costs next to nothing to try: for tests.
    pub cheap: bool,
}

impl NewKey {
    /// A full key.
    pub fn new(unlock: Unlock, label: impl Into<String>, created_ms: i64) -> Self {
        Self { unlock, label: label.into(), rights: Rights::Full, created_ms, cheap: false }
    }

    pub(super) fn kind(&self, random: &Random) -> Result<SlotKind> {
        Ok(match self.unlock {
            Unlock::Passphrase(_) if self.cheap => SlotKind::Passphrase(Stretch::with_cost(random, 8, 1, 1)?),
            Unlock::Passphrase(_) => SlotKind::Passphrase(Stretch::new(random)?),
            Unlock::KeyFile(_) => SlotKind::KeyFile,
        })
    }
}
