//! Reads ranges of a disk, leaving out what needs no reading.

use super::{Disk, ExtentKind};
use vml_chunk::{Error, Result};

/// Fewest bytes without data between two reads; a shorter gap is read along.
const GAP_MIN: u64 = 64 << 10;

/// Fills `buffer` with the bytes from `offset` on and tells how many were read; what has no data is zeroed.
pub(super) fn read_extents(disk: &dyn Disk, buffer: &mut [u8], offset: u64) -> Result<u64> {
    let end = offset + buffer.len() as u64;
    let place = |position: u64| usize::try_from(position - offset).expect("within the buffer");
    let (mut at, mut read) = (offset, 0);
    // Where data that has not been read yet begins and ends.
    let mut pending: Option<(u64, u64)> = None;
    while at < end {
        let extent = checked_extent(disk, at)?;
        let stop = at.saturating_add(extent.len).min(end);
        match (extent.kind, &mut pending) {
            (ExtentKind::Data, Some((_, reach))) if at - *reach < GAP_MIN => *reach = stop,
            (ExtentKind::Data, _) => {
                if let Some((start, reach)) = pending.replace((at, stop)) {
                    disk.read_at(&mut buffer[place(start)..place(reach)], start)?;
                    buffer[place(reach)..place(at)].fill(0);
                    read += reach - start;
                } else {
                    buffer[..place(at)].fill(0);
                }
            }
            _ => {}
        }
        at = stop;
    }
    match pending {
        Some((start, reach)) => {
            disk.read_at(&mut buffer[place(start)..place(reach)], start)?;
            buffer[place(reach)..].fill(0);
            Ok(read + reach - start)
        }
        None => {
            buffer.fill(0);
            Ok(read)
        }
    }
}

/// The extent at `offset`, which a disk must not say to be empty: a caller would wait for ever.
pub(super) fn checked_extent(disk: &dyn Disk, offset: u64) -> Result<super::Extent> {
    let extent = disk.extent_at(offset)?;
    if extent.len == 0 {
        return Err(Error::corrupt(format!("the disk says that nothing stands at {offset}, not even a hole")));
    }
    Ok(extent)
}
