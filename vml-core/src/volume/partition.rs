//! Partition tables: MBR with its chain of logical partitions, and GPT with its second copy.

use super::bytes::Fields;
use super::kind::{FileSystem, look};
use crate::disk::Disk;
use std::collections::HashSet;
use vml_chunk::Result;

/// Logical partitions that are followed.
const LOGICAL_MAX: usize = 128;
/// Entries of a GPT that are read, and bytes of each.
const GPT_ENTRIES_MAX: u32 = 1024;
const GPT_ENTRY_MAX: u32 = 4096;

/// A run of a disk with a file system of its own.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Volume {
    /// The partition's number; 0 where the whole disk is one volume.
    pub number: u32,
    /// Where it begins, in bytes.
    pub offset: u64,
    /// Its length in bytes.
    pub len: u64,
    /// What it holds.
    pub kind: FileSystem,
    /// Its label, often empty.
    pub label: String,
    /// Its identity, often empty.
    pub uuid: String,
}

/// The volumes of a disk, by where they begin: its partitions, or the disk itself where it has a file system and no table.
/// What lies outside the disk, or upon an earlier one, is left out.
///
/// # Errors
/// When the disk cannot be read.
pub fn find(disk: &dyn Disk) -> Result<Vec<Volume>> {
    let len = disk.len();
    let (kind, label, uuid) = look(disk, 0, len)?;
    // A file system's own first sector may end with the mark of a partition table.
    if kind != FileSystem::Unknown {
        return Ok(vec![Volume { number: 0, offset: 0, len, kind, label, uuid }]);
    }
    let mut rows = gpt(disk)?;
    if rows.is_empty() {
        rows = mbr(disk)?;
    }
    rows.retain(|(_, offset, size)| *size > 0 && offset.checked_add(*size).is_some_and(|end| end <= len));
    rows.sort_unstable_by_key(|(number, offset, _)| (*offset, *number));
    let mut volumes: Vec<Volume> = Vec::new();
    for (number, offset, len) in rows {
        if volumes.last().is_none_or(|last| last.offset + last.len <= offset) {
            let (kind, label, uuid) = look(disk, offset, len)?;
            volumes.push(Volume { number, offset, len, kind, label, uuid });
        }
    }
    Ok(volumes)
}

/// Number, offset and length of a partition, in bytes.
type Row = (u32, u64, u64);

fn sector(disk: &dyn Disk, offset: u64, len: u64) -> Result<Option<Vec<u8>>> {
    if offset.checked_add(len).is_none_or(|end| end > disk.len()) {
        return Ok(None);
    }
    let mut bytes = vec![0; usize::try_from(len).expect("a few kilobytes")];
    disk.read_at(&mut bytes, offset)?;
    Ok(Some(bytes))
}

/// The partitions of one MBR or of a link of its chain: type, first sector, sectors.
fn mbr_entries(bytes: &[u8]) -> Option<[(u8, u64, u64); 4]> {
    let fields = Fields(bytes);
    if bytes.len() < 512 || fields.u16(510) != 0xAA55 {
        return None;
    }
    let entry = |i: usize| {
        let at = 446 + 16 * i;
        (fields.u8(at + 4), u64::from(fields.u32(at + 8)), u64::from(fields.u32(at + 12)))
    };
    // A boot sector of something else ends with the same mark, but its active bytes are code.
    let plausible = (0..4).all(|i| matches!(fields.u8(446 + 16 * i), 0 | 0x80));
    plausible.then(|| [entry(0), entry(1), entry(2), entry(3)])
}

fn is_extended(kind: u8) -> bool {
    matches!(kind, 0x05 | 0x0F | 0x85)
}

fn mbr(disk: &dyn Disk) -> Result<Vec<Row>> {
    let Some(entries) = sector(disk, 0, 512)?.as_deref().and_then(mbr_entries) else { return Ok(Vec::new()) };
    let mut rows = Vec::new();
    for (i, (kind, first, count)) in (1..).zip(entries) {
        if is_extended(kind) {
            logical(disk, first, &mut rows)?;
        } else if kind != 0 {
            rows.push((i, first * 512, count * 512));
        }
    }
    Ok(rows)
}

/// The chain of logical partitions; a link that was seen before ends it.
fn logical(disk: &dyn Disk, start: u64, rows: &mut Vec<Row>) -> Result<()> {
    let mut seen = HashSet::new();
    let mut at = start;
    let mut number = 5;
    while seen.len() < LOGICAL_MAX && seen.insert(at) {
        let Some(entries) = sector(disk, at * 512, 512)?.as_deref().and_then(mbr_entries) else { return Ok(()) };
        let (kind, first, count) = entries[0];
        if kind != 0 && !is_extended(kind) {
            rows.push((number, (at + first) * 512, count * 512));
            number += 1;
        }
        match entries[1] {
            (kind, next, _) if is_extended(kind) => at = start + next,
            _ => return Ok(()),
        }
    }
    Ok(())
}

fn gpt(disk: &dyn Disk) -> Result<Vec<Row>> {
    for sector_len in [512, 4096] {
        let last = (disk.len() / sector_len).saturating_sub(1) * sector_len;
        for at in [sector_len, last] {
            if let Some(rows) = gpt_at(disk, at, sector_len)? {
                return Ok(rows);
            }
        }
    }
    Ok(Vec::new())
}

/// The partitions of the GPT whose header stands at `at`; `None` when there is none, or it is damaged.
fn gpt_at(disk: &dyn Disk, at: u64, sector_len: u64) -> Result<Option<Vec<Row>>> {
    let Some(header) = sector(disk, at, sector_len)? else { return Ok(None) };
    let fields = Fields(&header);
    let header_len = fields.u32(12) as usize;
    if fields.bytes(0, 8) != b"EFI PART" || !(92..=header.len()).contains(&header_len) {
        return Ok(None);
    }
    let mut zeroed = header[..header_len].to_vec();
    zeroed[16..20].fill(0);
    let (table_sector, count, entry_len) = (fields.u64(72), fields.u32(80), fields.u32(84));
    if crc32(&zeroed) != fields.u32(16) || count > GPT_ENTRIES_MAX || !(128..=GPT_ENTRY_MAX).contains(&entry_len) {
        return Ok(None);
    }
    let Some(table_at) = table_sector.checked_mul(sector_len) else { return Ok(None) };
    let Some(table) = sector(disk, table_at, u64::from(count) * u64::from(entry_len))? else { return Ok(None) };
    if crc32(&table) != fields.u32(88) {
        return Ok(None);
    }
    let mut rows = Vec::new();
    for (number, entry) in (1..).zip(table.chunks_exact(entry_len as usize)) {
        let entry = Fields(entry);
        let (first, last) = (entry.u64(32), entry.u64(40));
        if entry.bytes(0, 16) == [0; 16] || last < first {
            continue;
        }
        let sectors = (last - first).checked_add(1).and_then(|count| count.checked_mul(sector_len));
        if let Some((offset, len)) = first.checked_mul(sector_len).zip(sectors) {
            rows.push((number, offset, len));
        }
    }
    Ok(Some(rows))
}

/// CRC-32 as GPT uses it: the reflected polynomial 0xEDB88320. Tables are small, so bit by bit will do.
fn crc32(bytes: &[u8]) -> u32 {
    let mut crc = u32::MAX;
    for byte in bytes {
        crc ^= u32::from(*byte);
        for _ in 0..8 {
            crc = if crc & 1 == 1 { crc >> 1 ^ 0xEDB8_8320 } else { crc >> 1 };
        }
    }
    !crc
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_check_sum_is_the_known_one() {
        assert_eq!(crc32(b"123456789"), 0xCBF4_3926);
    }
}
