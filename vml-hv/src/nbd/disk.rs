//! An export as a disk.

use super::link::NbdAddress;
use super::pool::Pool;
use super::ranges::Ranges;
use super::reply::Extents;
use super::runs::{NbdRun, Runs};
use super::session::{Export, Session};
use super::{Link, wire};
use std::ops::Range;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;
use vml_core::disk::{Disk, Extent, ExtentKind};
use vml_core::{Error, ErrorKind, Result};

/// Bytes whose extents are asked for at once.
const STATUS_LEN: u64 = 1 << 30;
/// Ranges of a dirty bitmap that are told apart.
const DIRTY_MAX: usize = 1 << 20;

/// How an export is opened.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NbdOptions {
    /// Its name; many servers have one without a name.
    pub export: String,
    /// How long the server may be silent.
    pub limit: Duration,
    /// Most connections, where the server allows several.
    pub connections: usize,
    /// Whether QEMU is asked which image of a chain has what.
    pub allocation_depth: bool,
    /// Names of QEMU's dirty bitmaps that will be asked for.
    pub bitmaps: Vec<String>,
}

impl Default for NbdOptions {
    fn default() -> Self {
        Self { export: String::new(), limit: Duration::from_secs(30), connections: 4, allocation_depth: false, bitmaps: Vec::new() }
    }
}

/// A disk that a server exports, opened for reading. Its holes are as the server tells them; there are no layers.
pub struct NbdDisk {
    pool: Pool,
    export: Export,
    runs: Mutex<Runs>,
    /// Where in an answer the contexts stand: allocation, its depth, and bitmaps by name.
    allocation: Option<usize>,
    depth: Option<usize>,
    bitmaps: Vec<(String, usize)>,
}

impl NbdDisk {
    /// Connects to a server.
    ///
    /// # Errors
    /// `NotFound` for an export or bitmap that is not there, `UnsupportedFormat` for a server that cannot tell what is asked for,
    /// `Corrupt` for one that contradicts itself, `Interrupted` for a silent one, and what the system says of the connection.
    pub fn open(address: &NbdAddress, options: &NbdOptions) -> Result<Self> {
        let mut contexts = vec!["base:allocation".to_owned()];
        if options.allocation_depth {
            contexts.push("qemu:allocation-depth".to_owned());
        }
        let bitmaps_at = contexts.len();
        contexts.extend(options.bitmaps.iter().map(|name| format!("qemu:dirty-bitmap:{name}")));
        let pool = Pool::open(address, options, contexts)?;
        let has = |place: usize| pool.found().get(place) == Some(&true);
        if let Some(missing) = (bitmaps_at..).zip(&options.bitmaps).find(|(place, _)| !has(*place)) {
            return Err(Error::not_found(format!("the NBD server at {address} shows no dirty bitmap {:?}", missing.1)));
        }
        if options.allocation_depth && !(has(0) && has(1)) {
            let message = format!("the NBD server at {address} does not tell which image of a chain has what");
            return Err(Error::new(ErrorKind::UnsupportedFormat, message));
        }
        Ok(Self {
            export: pool.export(),
            runs: Mutex::default(),
            allocation: has(0).then_some(0),
            depth: options.allocation_depth.then_some(1),
            bitmaps: options.bitmaps.iter().cloned().zip(bitmaps_at..).collect(),
            pool,
        })
    }

    /// Opens now all connections that there may be, after which the server's socket need not be there any more.
    pub fn connect_all(&self) {
        self.pool.open_all();
    }

    /// What the server says of the run at `offset`; without a word from it, everything is data.
    ///
    /// # Errors
    /// As [`Disk::extent_at`].
    pub fn run_at(&self, offset: u64) -> Result<NbdRun> {
        let rest = self.export.len.checked_sub(offset).filter(|rest| *rest > 0).ok_or_else(|| self.beyond(1, offset))?;
        let Some(allocation) = self.allocation else {
            return Ok(NbdRun { len: rest, is_zero: false, is_hole: false, depth: None });
        };
        // Held while the server is asked: who comes meanwhile finds the answer.
        let mut runs = self.runs.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(run) = runs.at(offset) {
            return Ok(run);
        }
        let (start, answer) = self.status(offset)?;
        runs.keep(start, &answer[allocation], self.depth.map(|depth| &answer[depth]))?;
        runs.at(offset).ok_or_else(|| wire::lie("it says too little of the bytes it was asked about"))
    }

    /// The ranges that a dirty bitmap marks, sorted and apart; of a million and more, some are told as one with what is between.
    ///
    /// # Errors
    /// `InvalidInput` for a bitmap that was not named at opening; otherwise as [`Disk::read_at`].
    pub fn dirty_ranges(&self, bitmap: &str) -> Result<Vec<Range<u64>>> {
        let known = self.bitmaps.iter().find(|(name, _)| name == bitmap);
        let (_, place) = known.ok_or_else(|| Error::invalid(format!("the dirty bitmap {bitmap:?} was not named at opening")))?;
        let mut ranges = Ranges::new(DIRTY_MAX);
        let mut at = 0;
        while at < self.export.len {
            let (start, answer) = self.status(at)?;
            let mut end = start;
            for (len, state) in &answer[*place] {
                let range = end.max(at)..end + u64::from(*len);
                end = range.end;
                if state & wire::STATE_DIRTY != 0 && !range.is_empty() {
                    ranges.push(range);
                }
            }
            if end <= at {
                return Err(wire::lie("it says too little of the bytes it was asked about"));
            }
            at = end;
        }
        Ok(ranges.into_vec())
    }

    /// The extents from a place at or before `offset` on, of every context.
    fn status(&self, offset: u64) -> Result<(u64, Vec<Extents>)> {
        let start = offset - offset % u64::from(self.export.block_len);
        let len = u32::try_from((self.export.len - start).min(STATUS_LEN)).expect("a gigabyte");
        self.pool.with(|session| session.block_status(start, len)).map(|answer| (start, answer))
    }

    fn beyond(&self, len: usize, offset: u64) -> Error {
        Error::invalid(format!("{len} bytes at {offset} lie beyond the end of an export of {} bytes", self.export.len))
    }
}

impl Disk for NbdDisk {
    fn len(&self) -> u64 {
        self.export.len
    }

    fn read_at(&self, buffer: &mut [u8], offset: u64) -> Result<()> {
        if offset.checked_add(buffer.len() as u64).is_none_or(|end| end > self.export.len) {
            return Err(self.beyond(buffer.len(), offset));
        }
        if buffer.is_empty() {
            return Ok(());
        }
        self.pool.with(|session| read(session, buffer, offset))
    }

    fn extent_at(&self, offset: u64) -> Result<Extent> {
        let run = self.run_at(offset)?;
        let kind = match (run.is_zero, run.is_hole) {
            (true, true) => ExtentKind::Hole,
            (true, false) => ExtentKind::Zero,
            // What takes no space may read as anything.
            (false, _) => ExtentKind::Data,
        };
        Ok(Extent { len: run.len, kind, layer: 0 })
    }
}

/// Reads in requests as the export wants them to be; a block of which only a part is wanted is read whole.
fn read<L: Link>(session: &mut Session<L>, mut buffer: &mut [u8], mut offset: u64) -> Result<()> {
    let Export { len, block_len, read_max, .. } = session.export();
    let block = block_len as usize;
    while !buffer.is_empty() {
        let skipped = usize::try_from(offset % u64::from(block_len)).expect("within a block");
        let taken = if skipped == 0 && buffer.len() >= block {
            let taken = (buffer.len() / block * block).min(read_max as usize);
            session.read(&mut buffer[..taken], offset)?;
            taken
        } else {
            let start = offset - skipped as u64;
            // The last block may be cut where the export ends.
            let mut whole = vec![0; block.min(usize::try_from(len - start).unwrap_or(block))];
            session.read(&mut whole, start)?;
            let taken = buffer.len().min(whole.len() - skipped);
            buffer[..taken].copy_from_slice(&whole[skipped..skipped + taken]);
            taken
        };
        offset += taken as u64;
        buffer = &mut buffer[taken..];
    }
    Ok(())
}
