//! One connection to an export: a request, its answer, the next request.

use super::handshake::{Agreed, shake};
use super::link::Link;
use super::reply::{Asked, Awaited, Extents, read_reply};
use super::wire::*;
use std::io::BufReader;
use std::time::Duration;
use vml_core::{Error, ErrorKind, Result};

pub use super::handshake::{Export, Wanted};

/// So many bytes may take a second more than the limit: a slow network is not a silent server.
const BYTES_PER_SECOND: u32 = 64 << 10;

/// A connection, past its handshake.
pub struct Session<L: Link> {
    link: BufReader<L>,
    limit: Duration,
    agreed: Agreed,
    cookie: u64,
    lost: bool,
}

impl<L: Link> Session<L> {
    /// Shakes hands with the server at the other end of `link`; an answer may take as long as `limit`.
    ///
    /// # Errors
    /// `NotFound` for an export that is not there, `UnsupportedFormat` for a server that speaks something else, `Corrupt` for one
    /// that contradicts itself, `Interrupted` for one that is silent.
    pub fn open(mut link: L, wanted: &Wanted<'_>, limit: Duration) -> Result<Self> {
        link.allow(limit);
        let mut link = BufReader::with_capacity(16 << 10, link);
        let agreed = shake(&mut link, wanted)?;
        Ok(Self { link, limit, agreed, cookie: 0, lost: false })
    }

    /// From now on an answer may take as long as `limit`.
    pub fn set_limit(&mut self, limit: Duration) {
        self.limit = limit;
    }

    /// What the server exports.
    pub fn export(&self) -> Export {
        self.agreed.export
    }

    /// Which of the wanted contexts there are.
    pub fn contexts(&self) -> impl ExactSizeIterator<Item = bool> + '_ {
        self.agreed.contexts.iter().map(Option::is_some)
    }

    /// Whether the connection cannot be used any more: what comes next would not be understood.
    pub fn is_lost(&self) -> bool {
        self.lost
    }

    /// Fills `buffer` with the bytes from `offset` on; both are as the export wants requests to be.
    ///
    /// # Errors
    /// What the server says; `Corrupt`, `Interrupted` or `Io`, and the connection is [lost](Self::is_lost).
    pub fn read(&mut self, buffer: &mut [u8], offset: u64) -> Result<()> {
        self.request(CMD_READ, offset, u32::try_from(buffer.len()).unwrap_or(u32::MAX), &mut Awaited::Data(buffer))
    }

    /// The extents of `len` bytes from `offset` on: of each wanted context, where it exists, lengths and what stands there. They
    /// begin at `offset` and may end before the end.
    ///
    /// # Errors
    /// As [`read`](Self::read).
    pub fn block_status(&mut self, offset: u64, len: u32) -> Result<Vec<Extents>> {
        let ids = self.agreed.contexts.clone();
        let mut awaited = Awaited::Status { len, ids: &ids, found: vec![Extents::new(); ids.len()] };
        self.request(CMD_BLOCK_STATUS, offset, len, &mut awaited)?;
        match awaited {
            Awaited::Status { found, .. } => Ok(found),
            Awaited::Data(_) => Ok(Vec::new()),
        }
    }

    fn request(&mut self, command: u16, offset: u64, len: u32, awaited: &mut Awaited<'_>) -> Result<()> {
        if self.lost {
            return Err(Error::new(ErrorKind::Interrupted, "the connection to the NBD server is lost"));
        }
        self.lost = true;
        self.cookie += 1;
        self.send(command, offset, len)?;
        let payload = if command == CMD_READ { len } else { 0 };
        self.link.get_mut().allow(self.limit + Duration::from_secs(u64::from(payload / BYTES_PER_SECOND)));
        let asked = Asked { cookie: self.cookie, offset, structured: self.agreed.structured };
        let answer = read_reply(&mut self.link, &asked, awaited)?;
        self.lost = false;
        answer
    }

    fn send(&mut self, command: u16, offset: u64, len: u32) -> Result<()> {
        let mut request = [0; 28];
        request[..4].copy_from_slice(&REQUEST.to_be_bytes());
        request[6..8].copy_from_slice(&command.to_be_bytes());
        request[8..16].copy_from_slice(&self.cookie.to_be_bytes());
        request[16..24].copy_from_slice(&offset.to_be_bytes());
        request[24..].copy_from_slice(&len.to_be_bytes());
        self.link.get_mut().write_all(&request).map_err(lost)
    }
}

impl<L: Link> Drop for Session<L> {
    fn drop(&mut self) {
        if !self.lost {
            _ = self.send(CMD_DISC, 0, 0);
        }
    }
}
