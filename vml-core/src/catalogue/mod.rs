//! Catalogues: which bases can be had from the network, from where, and how one knows that the right thing came.
//!
//! ```text
//! catalogue.toml  ── read ──►  Catalogue ── find("debian@12") ──► Offer: addresses, size, digest, format
//! catalogue.toml.sig ─ verify_signature ─► by whose key
//! ```
//! A catalogue is a file of TOML from somewhere else. Nothing in it is believed: it has limits, names in it must be possible names of bases, and what its
//! addresses lead to is used only if size and digest are as it says. So whoever can be trusted with the catalogue need not trust the servers.

mod read;

pub use read::{CATALOGUE_MAX_LEN, read};

use crate::share::PublicKey;
use crate::share::sign;
use std::fmt;
use std::str::FromStr;
use vml_chunk::{Error, Result};

/// What SSH signatures of catalogues are for.
pub const NAMESPACE: &str = "vml-catalogue";

/// A catalogue.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Catalogue {
    /// What it is, for people.
    pub description: String,
    /// Its bases, in its order.
    pub offers: Vec<Offer>,
}

impl Catalogue {
    /// The base of that `name@version`.
    pub fn find(&self, base: &str) -> Option<&Offer> {
        self.offers.iter().find(|offer| offer.base() == base)
    }
}

/// A base that can be had.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Offer {
    /// The base's name.
    pub name: String,
    /// Its version.
    pub version: String,
    /// What it is, for people.
    pub description: String,
    /// For which processor, as `uname -m` says it; empty where it is not said.
    pub architecture: String,
    /// What the file is.
    pub format: Format,
    /// How the file is compressed as a whole.
    pub compression: Compression,
    /// Addresses that lead to the same file, each `http://` or `https://`.
    pub urls: Vec<String>,
    /// Bytes of the file, where that is said.
    pub size: Option<u64>,
    /// Its digest.
    pub digest: Digest,
    /// Most bytes that it may have when it is not compressed any more, where that is said.
    pub unpacked_size: Option<u64>,
    /// The name of the disk that an image becomes.
    pub disk: String,
    /// What machine it is for, where that is said.
    pub machine: Option<MachineDefaults>,
}

impl Offer {
    /// `name@version`.
    pub fn base(&self) -> String {
        format!("{}@{}", self.name, self.version)
    }
}

/// A machine that a base's disk is meant for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct MachineDefaults {
    /// Memory in MiB.
    pub memory_mib: u64,
    /// Processors.
    pub cpus: u32,
}

/// What the file of a base is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Format {
    /// A disk's image: the disk as it is.
    Raw,
    /// A disk's image of QEMU.
    Qcow2,
    /// A disk's image of VMware, in one file.
    Vmdk,
    /// A directory tree in a tar archive.
    Tar,
    /// A share file that has the base.
    Share,
}

impl Format {
    const ALL: [Self; 5] = [Self::Raw, Self::Qcow2, Self::Vmdk, Self::Tar, Self::Share];

    /// As a catalogue has it.
    pub fn name(self) -> &'static str {
        match self {
            Self::Raw => "raw",
            Self::Qcow2 => "qcow2",
            Self::Vmdk => "vmdk",
            Self::Tar => "tar",
            Self::Share => "vml",
        }
    }

    /// What kind of base it makes, as a catalogue has it.
    pub fn kind(self) -> &'static str {
        match self {
            Self::Raw | Self::Qcow2 | Self::Vmdk => "disk",
            Self::Tar => "tree",
            Self::Share => "entry",
        }
    }
}

/// How a file is compressed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Compression {
    /// Not.
    None,
    /// By gzip.
    Gzip,
    /// By zstd.
    Zstd,
}

impl Compression {
    const ALL: [Self; 3] = [Self::None, Self::Gzip, Self::Zstd];

    /// As a catalogue has it.
    pub fn name(self) -> &'static str {
        match self {
            Self::None => "none",
            Self::Gzip => "gz",
            Self::Zstd => "zst",
        }
    }
}

/// A digest of a file.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub enum Digest {
    /// By SHA-256.
    Sha256([u8; 32]),
    /// By SHA-512.
    Sha512([u8; 64]),
    /// By BLAKE3.
    Blake3([u8; 32]),
}

impl Digest {
    /// As a catalogue has it.
    pub fn algorithm(&self) -> &'static str {
        match self {
            Self::Sha256(_) => "sha256",
            Self::Sha512(_) => "sha512",
            Self::Blake3(_) => "blake3",
        }
    }

    fn bytes(&self) -> &[u8] {
        match self {
            Self::Sha256(bytes) | Self::Blake3(bytes) => bytes,
            Self::Sha512(bytes) => bytes,
        }
    }

    /// Reads the digits of a digest.
    ///
    /// # Errors
    /// `InvalidInput` when they are not as many as the algorithm has, or the algorithm is not known.
    pub fn parse(algorithm: &str, digits: &str) -> Result<Self> {
        let bad = || Error::invalid(format!("these are not the hexadecimal digits of a digest by {algorithm}"));
        Ok(match algorithm {
            "sha256" => Self::Sha256(unhex(digits).ok_or_else(bad)?),
            "sha512" => Self::Sha512(unhex(digits).ok_or_else(bad)?),
            "blake3" => Self::Blake3(unhex(digits).ok_or_else(bad)?),
            _ => return Err(Error::invalid("digests are by sha256, sha512 or blake3")),
        })
    }
}

fn unhex<const LEN: usize>(digits: &str) -> Option<[u8; LEN]> {
    if digits.len() != LEN * 2 || !digits.bytes().all(|digit| digit.is_ascii_hexdigit()) {
        return None;
    }
    let mut bytes = [0; LEN];
    for (at, byte) in bytes.iter_mut().enumerate() {
        *byte = u8::from_str_radix(&digits[at * 2..at * 2 + 2], 16).ok()?;
    }
    Some(bytes)
}

impl fmt::Display for Digest {
    /// `algorithm:digits`.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:", self.algorithm())?;
        self.bytes().iter().try_for_each(|byte| write!(f, "{byte:02x}"))
    }
}

impl fmt::Debug for Digest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl FromStr for Digest {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self> {
        let (algorithm, digits) = text.split_once(':').ok_or_else(|| Error::invalid("a digest is written as ALGORITHM:DIGITS"))?;
        Self::parse(algorithm, digits)
    }
}

/// Checks the signature that stands beside a catalogue, as `ssh-keygen -Y sign -n vml-catalogue` writes it; returns by which key it is. Whether that key is to
/// be trusted is the caller's question.
///
/// # Errors
/// `Corrupt` when it is none, for something else, or not by the key it names.
pub fn verify_signature(text: &[u8], armoured: &[u8]) -> Result<PublicKey> {
    sign::verify_in(NAMESPACE, "the catalogue", text, armoured)
}
