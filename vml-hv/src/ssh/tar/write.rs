//! Writes a tar stream that GNU tar extracts.

use super::BLOCK;
use super::acl::{RECORDS, to_text};
use super::pax::{encode_name, push};
use std::io::{self, Write};
use std::ops::Range;
use vml_core::tree::Timestamp;

/// What a member has besides its attributes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum MemberData<'a> {
    /// A regular file; its bytes follow.
    File {
        /// Its length, holes included.
        size: u64,
        /// Where it has data, if it is sparse: in order and apart, in whole blocks of 512 bytes but for the last one.
        runs: Option<&'a [Range<u64>]>,
    },
    /// Another name of a member before.
    HardLink(&'a [u8]),
    /// A directory.
    Directory,
    /// A symbolic link and its target.
    Symlink(&'a [u8]),
    /// A device and its numbers.
    Device {
        /// Whether it is a character device.
        char: bool,
        /// Major number.
        major: u32,
        /// Minor number.
        minor: u32,
    },
    /// A named pipe.
    Fifo,
}

/// A member to write.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Member<'a> {
    /// Its path.
    pub path: &'a [u8],
    /// What it is.
    pub data: MemberData<'a>,
    /// The low twelve bits.
    pub mode: u16,
    /// Numeric owner.
    pub uid: u32,
    /// Numeric group.
    pub gid: u32,
    /// Last modification.
    pub mtime: Timestamp,
    /// Extended attributes.
    pub xattrs: &'a [(Vec<u8>, Vec<u8>)],
}

/// Writes members to a stream.
pub struct TarWriter<W> {
    to: W,
    /// Bytes of the member that are still to come.
    left: u64,
    padding: usize,
}

impl<W: Write> TarWriter<W> {
    /// Begins a stream.
    pub fn new(to: W) -> Self {
        Self { to, left: 0, padding: 0 }
    }

    /// Writes what stands before a member's bytes; they follow by [`data`](Self::data), those of its runs one after the other.
    ///
    /// # Errors
    /// What the stream says.
    pub fn member(&mut self, member: &Member<'_>) -> io::Result<()> {
        self.close()?;
        let mut pax = Vec::new();
        let mut map = Vec::new();
        let mut target: &[u8] = b"";
        let (letter, stored) = match &member.data {
            MemberData::File { size, runs: None } => (b'0', *size),
            MemberData::File { size, runs: Some(runs) } => {
                push(&mut pax, b"GNU.sparse.major", b"1");
                push(&mut pax, b"GNU.sparse.minor", b"0");
                push(&mut pax, b"GNU.sparse.name", member.path);
                push(&mut pax, b"GNU.sparse.realsize", size.to_string().as_bytes());
                // An empty run at the end says how long the file is.
                map = format!("{}\n", runs.len() + 1).into_bytes();
                for run in runs.iter().chain(std::iter::once(&(*size..*size))) {
                    map.extend_from_slice(format!("{}\n{}\n", run.start, run.end - run.start).as_bytes());
                }
                map.resize(map.len().next_multiple_of(BLOCK), 0);
                (b'0', map.len() as u64 + runs.iter().map(|run| run.end - run.start).sum::<u64>())
            }
            MemberData::HardLink(path) => {
                target = path;
                (b'1', 0)
            }
            MemberData::Symlink(path) => {
                target = path;
                (b'2', 0)
            }
            MemberData::Device { char, .. } => (if *char { b'3' } else { b'4' }, 0),
            MemberData::Directory => (b'5', 0),
            MemberData::Fifo => (b'6', 0),
        };
        if map.is_empty() {
            push(&mut pax, b"path", member.path);
        }
        if !target.is_empty() {
            push(&mut pax, b"linkpath", target);
        }
        push(&mut pax, b"mtime", time(member.mtime).as_bytes());
        push(&mut pax, b"uid", member.uid.to_string().as_bytes());
        push(&mut pax, b"gid", member.gid.to_string().as_bytes());
        push(&mut pax, b"size", stored.to_string().as_bytes());
        for (name, value) in member.xattrs {
            let record = RECORDS.iter().find(|(known, _)| known == name).and_then(|(_, record)| Some((record, to_text(value)?)));
            if let Some((record, text)) = record {
                push(&mut pax, record, text.as_bytes());
                continue;
            }
            push(&mut pax, &[b"SCHILY.xattr.", encode_name(name).as_slice()].concat(), value);
        }
        self.to.write_all(&block(b'x', b"vml", pax.len() as u64, 0o644, (0, 0)))?;
        pax.resize(pax.len().next_multiple_of(BLOCK), 0);
        self.to.write_all(&pax)?;
        let numbers = match member.data {
            MemberData::Device { major, minor, .. } => (major, minor),
            _ => (0, 0),
        };
        // The names in the header itself are for people; PAX has them whole.
        let shown = &member.path[..member.path.len().min(99)];
        self.to.write_all(&block(letter, shown, stored, member.mode, numbers))?;
        self.to.write_all(&map)?;
        self.left = stored - map.len() as u64;
        self.padding = (stored.wrapping_neg() % BLOCK as u64) as usize;
        Ok(())
    }

    /// Writes bytes of the latest member.
    ///
    /// # Errors
    /// `InvalidInput` when they are more than it has, or what the stream says.
    pub fn data(&mut self, bytes: &[u8]) -> io::Result<()> {
        let left = self.left.checked_sub(bytes.len() as u64);
        self.left = left.ok_or_else(|| io::Error::new(io::ErrorKind::InvalidInput, "a member has more bytes than it said"))?;
        self.to.write_all(bytes)
    }

    /// Ends the archive.
    ///
    /// # Errors
    /// As [`member`](Self::member).
    pub fn finish(mut self) -> io::Result<W> {
        self.close()?;
        self.to.write_all(&[0; 2 * BLOCK])?;
        self.to.flush()?;
        Ok(self.to)
    }

    fn close(&mut self) -> io::Result<()> {
        if self.left > 0 {
            return Err(io::Error::new(io::ErrorKind::InvalidInput, "a member has fewer bytes than it said"));
        }
        self.to.write_all(&[0; BLOCK][..std::mem::take(&mut self.padding)])
    }
}

/// Seconds, with a fraction counted toward zero as POSIX has it.
fn time(time: Timestamp) -> String {
    if time.seconds < 0 && time.nanoseconds > 0 {
        let seconds = (time.seconds + 1).unsigned_abs();
        return format!("-{seconds}.{:09}", 1_000_000_000 - time.nanoseconds);
    }
    format!("{}.{:09}", time.seconds, time.nanoseconds)
}

fn block(letter: u8, name: &[u8], size: u64, mode: u16, (major, minor): (u32, u32)) -> [u8; BLOCK] {
    let mut block = [0; BLOCK];
    block[..name.len()].copy_from_slice(name);
    let mut octal = |from: usize, len: usize, value: u64| {
        // What does not fit stands in PAX.
        let digits = format!("{value:0width$o}", width = len - 1);
        let digits = if digits.len() < len { digits } else { "7".repeat(len - 1) };
        block[from..from + len - 1].copy_from_slice(digits.as_bytes());
    };
    octal(100, 8, u64::from(mode));
    octal(108, 8, 0);
    octal(116, 8, 0);
    octal(124, 12, size);
    octal(136, 12, 0);
    octal(329, 8, u64::from(major));
    octal(337, 8, u64::from(minor));
    block[156] = letter;
    block[257..265].copy_from_slice(b"ustar\x0000");
    block[148..156].fill(b' ');
    let sum: u32 = block.iter().map(|byte| u32::from(*byte)).sum();
    block[148..156].copy_from_slice(format!("{sum:06o}\0 ").as_bytes());
    block
}
