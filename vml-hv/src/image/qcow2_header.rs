//! The header of a qcow2 image, read and judged before anything else sees the image.
//!
//! The layout is that of QEMU's specification of the format. All numbers are big-endian; nothing is believed: what could lead a
//! reader out of the file, or into reserving memory for what is not there, is refused here.

use vml_core::{Error, ErrorKind, Result};

/// Bytes that are enough for every header: QEMU keeps it in the first cluster, and what counts in a few kilobytes.
pub(super) const HEAD_LEN: usize = 64 << 10;
/// Largest disk: what 8 MiB of references to tables can name in usual clusters, and more than hypervisors make.
const LEN_MAX: u64 = 64 << 40;
/// QEMU's own limit for the first table, in bytes.
const L1_MAX_LEN: u64 = 32 << 20;
/// QEMU's limit for the name of a backing file.
const NAME_MAX: u32 = 1023;

/// What a header says.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Header {
    /// Length of the disk in bytes.
    pub len: u64,
    /// Bytes of a cluster.
    pub cluster_len: u64,
    /// Where the first table is, and its entries.
    pub l1_offset: u64,
    /// Entries of the first table.
    pub l1_count: u32,
    /// The image below.
    pub backing: Option<Backing>,
    /// The file that has the data, where it is another.
    pub data_file: Option<String>,
    /// Whether the tables have two words for a cluster, and so half as many entries.
    pub extended_l2: bool,
    /// What the library for qcow2 cannot read, and QEMU can.
    pub needs_qemu: Option<&'static str>,
}

/// What a header says of the image below.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Backing {
    /// Its name, often relative to the folder of the image.
    pub name: String,
    /// Its format, if that is named.
    pub format: Option<String>,
}

const MAGIC: &[u8] = b"QFI\xfb";

/// Whether the bytes begin like a qcow2 image.
pub(super) fn has_magic(head: &[u8]) -> bool {
    head.starts_with(MAGIC)
}

/// Reads the beginning of a file of `file_len` bytes.
///
/// # Errors
/// `Corrupt` for what cannot be, `UnsupportedFormat` for what cannot be read.
pub fn decode(head: &[u8], file_len: u64) -> Result<Header> {
    let bad = |what: String| Err(Error::corrupt(format!("its qcow2 header {what}")));
    let unsupported = |what: String| Err(Error::new(ErrorKind::UnsupportedFormat, format!("it is a qcow2 image {what}")));
    let u32_at = |at: usize| head.get(at..at + 4).and_then(|bytes| bytes.try_into().ok()).map_or(0, u32::from_be_bytes);
    let u64_at = |at: usize| head.get(at..at + 8).and_then(|bytes| bytes.try_into().ok()).map_or(0, u64::from_be_bytes);
    if !has_magic(head) || head.len() < 104 {
        return bad("is missing or cut short".to_owned());
    }
    let version = u32_at(4);
    if !matches!(version, 2 | 3) {
        return unsupported(format!("of version {version}; 2 and 3 can be read"));
    }
    let (cluster_bits, len, crypt) = (u32_at(20), u64_at(24), u32_at(32));
    let (l1_count, l1_offset) = (u32_at(36), u64_at(40));
    if !(9..=21).contains(&cluster_bits) {
        return bad(format!("says that clusters have 2^{cluster_bits} bytes; they have 2^9 to 2^21"));
    }
    if crypt != 0 {
        return unsupported(format!(
            "that is encrypted ({}): save it from within, or decrypt it with qemu-img",
            if crypt == 2 { "LUKS" } else { "AES" }
        ));
    }
    let cluster_len = 1_u64 << cluster_bits;
    let incompatible = if version == 3 { u64_at(72) } else { 0 };
    let extended_l2 = incompatible & 0x10 != 0;
    if incompatible & 0x2 != 0 {
        return bad("says that the image is corrupt: mend it with `qemu-img check -r all`".to_owned());
    }
    if incompatible & !0x1F != 0 {
        return unsupported(format!("with features that are not known here ({incompatible:#x})"));
    }
    if len > LEN_MAX {
        return bad(format!("says that the disk has {len} bytes; {LEN_MAX} are the most that is read"));
    }
    // Entries of a second table, each a cluster of the disk.
    let l2_span = cluster_len * (cluster_len / if extended_l2 { 16 } else { 8 });
    let l1_needed = len.div_ceil(l2_span);
    let l1_len = u64::from(l1_count) * 8;
    if u64::from(l1_count) < l1_needed || l1_len > L1_MAX_LEN {
        return bad(format!(
            "says that the first table has {l1_count} entries; a disk of {len} bytes needs {l1_needed}, and 4194304 are the most"
        ));
    }
    if l1_count > 0 && (!l1_offset.is_multiple_of(512) || l1_offset == 0 || l1_offset.checked_add(l1_len).is_none_or(|end| end > file_len))
    {
        return bad(format!("says that the first table is at {l1_offset}; the file has {file_len} bytes: it is cut short or damaged"));
    }
    let header_len = if version == 3 { u32_at(100) as usize } else { 72 };
    if version == 3 && (header_len < 104 || header_len > head.len() || !header_len.is_multiple_of(8)) {
        return bad(format!("says that it has {header_len} bytes"));
    }
    let extensions = extensions(head, header_len, cluster_len)?;
    let backing = backing_name(head, u64_at(8), u32_at(16), cluster_len)?.map(|name| Backing { name, format: extensions.backing_format });
    let data_file = match (incompatible & 0x4 != 0, extensions.data_file) {
        (false, _) => None,
        (true, Some(name)) => Some(name),
        (true, None) => return bad("says that the data is in another file, and not in which".to_owned()),
    };
    let compression = if header_len > 104 { head.get(104).copied().unwrap_or(0) } else { 0 };
    let needs_qemu = match (incompatible & 0x8 != 0, compression, extended_l2) {
        (true, 2.., _) | (false, 1.., _) => return unsupported(format!("compressed in a way that is not known here ({compression})")),
        (true, 1, _) => Some("it is compressed with zstd"),
        (_, _, true) => Some("it has extended tables (extended_l2)"),
        _ => None,
    };
    Ok(Header { len, cluster_len, l1_offset, l1_count, backing, data_file, extended_l2, needs_qemu })
}

#[derive(Default)]
struct Extensions {
    backing_format: Option<String>,
    data_file: Option<String>,
}

/// The extensions behind the header, up to their end mark.
fn extensions(head: &[u8], header_len: usize, cluster_len: u64) -> Result<Extensions> {
    let mut found = Extensions::default();
    let mut at = header_len;
    let end = head.len().min(usize::try_from(cluster_len).expect("at most 2 MiB"));
    while let Some(fields) = head.get(at..end).and_then(|rest| rest.first_chunk::<8>()) {
        let (kind, len) = (&fields[..4], u32::from_be_bytes([fields[4], fields[5], fields[6], fields[7]]) as usize);
        if kind == [0; 4] {
            break;
        }
        let Some(data) = head.get(at + 8..end).and_then(|rest| rest.get(..len)) else {
            return Err(Error::corrupt("its qcow2 header has an extension that goes beyond it"));
        };
        match kind {
            b"\xe2\x79\x2a\xca" => found.backing_format = Some(text(data)?),
            b"DATA" => found.data_file = Some(text(data)?),
            _ => {}
        }
        at += 8 + len.next_multiple_of(8);
    }
    Ok(found)
}

fn backing_name(head: &[u8], offset: u64, len: u32, cluster_len: u64) -> Result<Option<String>> {
    if offset == 0 || len == 0 {
        return Ok(None);
    }
    let bad = || Error::corrupt(format!("its qcow2 header names a backing file by {len} bytes at {offset}, which cannot be"));
    let start = usize::try_from(offset).ok().filter(|_| len <= NAME_MAX && offset < cluster_len).ok_or_else(bad)?;
    let bytes = head.get(start..).and_then(|rest| rest.get(..len as usize)).ok_or_else(bad)?;
    text(bytes).map(Some)
}

fn text(bytes: &[u8]) -> Result<String> {
    let end = bytes.iter().position(|byte| *byte == 0).unwrap_or(bytes.len());
    let text = std::str::from_utf8(&bytes[..end]).ok().filter(|text| !text.chars().any(char::is_control));
    text.map(str::to_owned).ok_or_else(|| Error::corrupt("its qcow2 header has a name with control characters"))
}
