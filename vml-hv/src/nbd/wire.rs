//! Numbers of the protocol, and reading them. All are big-endian.

use std::io::{self, Read};
use vml_core::{Error, ErrorKind, Result};

/// What a server begins with, and what stands before every option.
pub(super) const GREETING: u64 = u64::from_be_bytes(*b"NBDMAGIC");
pub(super) const OPTION: u64 = u64::from_be_bytes(*b"IHAVEOPT");
/// The second word of servers from before options.
pub(super) const OLD_STYLE: u64 = 0x0000_4202_8186_1253;
pub(super) const OPTION_REPLY: u64 = 0x0003_E889_0455_65A9;
pub(super) const REQUEST: u32 = 0x2560_9513;
pub(super) const SIMPLE_REPLY: u32 = 0x6744_6698;
pub(super) const STRUCTURED_REPLY: u32 = 0x668E_33EF;

/// Flags of the handshake: options are answered one by one; no zeros behind the export's flags.
pub(super) const FIXED_NEWSTYLE: u16 = 1;
pub(super) const NO_ZEROES: u16 = 2;

pub(super) const OPT_GO: u32 = 7;
pub(super) const OPT_STRUCTURED_REPLY: u32 = 8;
pub(super) const OPT_SET_META_CONTEXT: u32 = 10;

pub(super) const REP_ACK: u32 = 1;
pub(super) const REP_INFO: u32 = 3;
pub(super) const REP_META_CONTEXT: u32 = 4;
/// Replies from here on are refusals.
pub(super) const REP_ERROR: u32 = 1 << 31;

pub(super) const INFO_EXPORT: u16 = 0;
pub(super) const INFO_BLOCK_SIZE: u16 = 3;
/// Flag of an export: what one connection reads is what every other reads.
pub(super) const CAN_MULTI_CONN: u16 = 1 << 8;

pub(super) const CMD_READ: u16 = 0;
pub(super) const CMD_DISC: u16 = 2;
pub(super) const CMD_BLOCK_STATUS: u16 = 7;

pub(super) const CHUNK_NONE: u16 = 0;
pub(super) const CHUNK_DATA: u16 = 1;
pub(super) const CHUNK_HOLE: u16 = 2;
pub(super) const CHUNK_STATUS: u16 = 5;
/// Chunks from here on tell of an error; the second has a place behind its message.
pub(super) const CHUNK_ERROR: u16 = 1 << 15 | 1;
pub(super) const CHUNK_ERROR_AT: u16 = 1 << 15 | 2;
/// Flag of the last chunk of a reply.
pub(super) const CHUNK_DONE: u16 = 1;

/// Flags of `base:allocation`.
pub(super) const STATE_HOLE: u32 = 1;
pub(super) const STATE_ZERO: u32 = 2;
/// Flag of a dirty bitmap.
pub(super) const STATE_DIRTY: u32 = 1;

/// Most bytes of a name or message.
pub(super) const TEXT_MAX: usize = 4096;

/// `Corrupt` about what the server said.
pub(super) fn lie(what: impl std::fmt::Display) -> Error {
    Error::corrupt(format!("the NBD server breaks the protocol: {what}"))
}

/// An error of a connection.
pub(super) fn lost(error: io::Error) -> Error {
    let (kind, what) = match error.kind() {
        io::ErrorKind::WouldBlock | io::ErrorKind::TimedOut => (ErrorKind::Interrupted, "did not answer in time"),
        io::ErrorKind::UnexpectedEof => (ErrorKind::Interrupted, "ended the connection"),
        _ => (ErrorKind::Io, "cannot be reached any more"),
    };
    Error::new(kind, format!("the NBD server {what}")).because(error)
}

/// Fills `bytes`.
pub(super) fn fill(from: &mut impl Read, bytes: &mut [u8]) -> Result<()> {
    from.read_exact(bytes).map_err(lost)
}

fn array<const N: usize>(from: &mut impl Read) -> Result<[u8; N]> {
    let mut bytes = [0; N];
    fill(from, &mut bytes)?;
    Ok(bytes)
}

pub(super) fn u16_of(from: &mut impl Read) -> Result<u16> {
    array(from).map(u16::from_be_bytes)
}

pub(super) fn u32_of(from: &mut impl Read) -> Result<u32> {
    array(from).map(u32::from_be_bytes)
}

pub(super) fn u64_of(from: &mut impl Read) -> Result<u64> {
    array(from).map(u64::from_be_bytes)
}

/// A server's words as they may be shown: short, and without what steers a terminal.
pub(super) fn words(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).chars().filter(|c| !c.is_control()).take(200).collect()
}
