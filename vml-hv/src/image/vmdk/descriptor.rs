//! The descriptor of a vmdk image: a few lines of text that say which files make up the disk.
//!
//! It stands in a file of its own, or inside the one file that holds everything. Its lines are those of VMware's *Virtual Disk
//! Format 1.1*. Names in it are only read here; whether they may be opened is decided by who opens them.

use vml_core::{Error, Result};

/// Longest descriptor, in bytes: some ten thousand files, which is a disk of 20 TB in pieces of 2 GB.
pub(super) const DESCRIPTOR_MAX: usize = 1 << 20;
/// Bytes of a sector.
pub(super) const SECTOR_LEN: u64 = 512;
/// Largest disk that is read, in sectors: 64 TiB.
const SECTORS_MAX: u64 = (64 << 40) / SECTOR_LEN;
/// What a descriptor names where there is no image below.
const NO_PARENT: &str = "ffffffff";

/// What a descriptor says.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Descriptor {
    /// The kind of image, as VMware calls it.
    pub create_type: String,
    /// The image below, where it is a snapshot's.
    pub parent: Option<String>,
    /// What the image's content is known by, and what the one below had when the snapshot was made.
    pub content_id: String,
    /// See `content_id`.
    pub parent_id: String,
    /// The parts of the disk in their order.
    pub extents: Vec<ExtentLine>,
}

/// One part of the disk.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ExtentLine {
    /// Its length.
    pub sectors: u64,
    /// Where its bytes are.
    pub place: Place,
}

/// Where the bytes of a part are.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Place {
    /// In a file as they are, from this sector on.
    Flat {
        /// The file's name.
        file: String,
        /// First sector in it.
        start: u64,
    },
    /// In a file with tables of its own.
    Sparse {
        /// The file's name.
        file: String,
    },
    /// Nowhere: zeros.
    Zero,
}

/// Whether the bytes begin like a descriptor.
pub(super) fn has_mark(head: &[u8]) -> bool {
    let head = head.get(..head.len().min(64)).unwrap_or_default();
    head.windows(21).any(|part| part.eq_ignore_ascii_case(b"# Disk DescriptorFile"))
}

/// Reads a descriptor; what stands behind its first NUL byte does not belong to it.
///
/// # Errors
/// `Corrupt` for what is no descriptor, or describes a disk that cannot be.
pub fn decode(bytes: &[u8]) -> Result<Descriptor> {
    let bad = |what: String| Err(Error::corrupt(format!("its vmdk descriptor {what}")));
    let bytes = bytes.split(|byte| *byte == 0).next().unwrap_or_default();
    if bytes.len() > DESCRIPTOR_MAX {
        return bad(format!("is longer than {DESCRIPTOR_MAX} bytes"));
    }
    let Ok(text) = std::str::from_utf8(bytes) else {
        return bad("is not UTF-8".to_owned());
    };
    let mut descriptor = Descriptor {
        create_type: String::new(),
        parent: None,
        content_id: String::new(),
        parent_id: NO_PARENT.to_owned(),
        extents: Vec::new(),
    };
    let (mut parent_hint, mut sectors) = (None, 0_u64);
    for line in text.lines().map(str::trim).filter(|line| !line.is_empty() && !line.starts_with('#')) {
        match line.split_once('=').map(|(key, value)| (key.trim(), value.trim().trim_matches('"'))) {
            Some(("createType", value)) => value.clone_into(&mut descriptor.create_type),
            Some(("CID", value)) => value.clone_into(&mut descriptor.content_id),
            Some(("parentCID", value)) => value.clone_into(&mut descriptor.parent_id),
            Some(("parentFileNameHint", value)) => parent_hint = Some(value.to_owned()),
            // Everything else: identifiers, and facts about the virtual hardware.
            Some((key, _)) if !key.contains(char::is_whitespace) => {}
            _ => {
                let extent = extent_line(line)?;
                sectors = sectors.saturating_add(extent.sectors);
                descriptor.extents.push(extent);
            }
        }
    }
    if descriptor.create_type.is_empty() {
        return bad("does not name its kind (createType)".to_owned());
    }
    if sectors > SECTORS_MAX {
        return bad(format!("says that the disk has {sectors} sectors; {SECTORS_MAX} are the most that is read"));
    }
    if !descriptor.parent_id.eq_ignore_ascii_case(NO_PARENT) {
        let Some(hint) = parent_hint.filter(|hint| !hint.is_empty()) else {
            return bad("says that there is an image below, and not which".to_owned());
        };
        descriptor.parent = Some(hint);
    }
    Ok(descriptor)
}

/// Reads `RW 4194304 SPARSE "name.vmdk"` and its like.
fn extent_line(line: &str) -> Result<ExtentLine> {
    let bad = |what: &str| Error::corrupt(format!("its vmdk descriptor has the line {line:?}, {what}"));
    let shown = || bad("which describes no part of a disk");
    let (access, rest) = word(line).ok_or_else(shown)?;
    let (sectors, rest) = word(rest).ok_or_else(shown)?;
    let (kind, rest) = word(rest).ok_or_else(shown)?;
    if !matches!(access, "RW" | "RDONLY" | "NOACCESS") {
        return Err(shown());
    }
    let sectors = sectors.parse().map_err(|_| bad("whose length is no number of sectors"))?;
    if kind == "ZERO" || access == "NOACCESS" {
        return Ok(ExtentLine { sectors, place: Place::Zero });
    }
    let (file, rest) = match rest.strip_prefix('"') {
        Some(quoted) => quoted.split_once('"').ok_or_else(|| bad("whose quotation mark is not closed"))?,
        None => word(rest).ok_or_else(|| bad("which names no file"))?,
    };
    if file.is_empty() || file.chars().any(char::is_control) {
        return Err(bad("whose file's name cannot be one"));
    }
    let file = file.to_owned();
    let place = match kind {
        "FLAT" | "VMFS" => {
            let start = match rest.trim() {
                "" => 0,
                start => start.parse().ok().filter(|start| *start <= SECTORS_MAX).ok_or_else(|| bad("which begins nowhere"))?,
            };
            Place::Flat { file, start }
        }
        "SPARSE" | "VMFSSPARSE" | "SESPARSE" => Place::Sparse { file },
        _ => return Err(bad("of a kind that is not known here")),
    };
    Ok(ExtentLine { sectors, place })
}

/// The first word, and what is behind it.
fn word(text: &str) -> Option<(&str, &str)> {
    let text = text.trim_start();
    let end = text.find(char::is_whitespace).unwrap_or(text.len());
    (end > 0).then(|| (&text[..end], text[end..].trim_start()))
}

#[cfg(test)]
mod tests {
    use super::*;

    const HEAD: &str = "# Disk DescriptorFile\nversion=1\nCID=13d79b56\nparentCID=ffffffff\ncreateType=\"custom\"\n";

    #[test]
    fn the_parts_of_a_disk_are_read_in_order() {
        let text = format!(
            "{HEAD}\n# Extent description\nRW 4 FLAT \"a disk-f001.vmdk\" 63\nRDONLY 8 SPARSE b.vmdk\nRW 2 ZERO\nNOACCESS 1 FLAT \"x\" 0\nRW 9 VMFS \"c\"\n\
             ddb.adapterType = \"ide\"\nddb.comment = \"RW 4 FLAT\"\n\0\0rubbish"
        );
        let flat = |file: &str, start| Place::Flat { file: file.to_owned(), start };
        let expected = [
            (4, flat("a disk-f001.vmdk", 63)),
            (8, Place::Sparse { file: "b.vmdk".to_owned() }),
            (2, Place::Zero),
            (1, Place::Zero),
            (9, flat("c", 0)),
        ];
        let found = decode(text.as_bytes()).unwrap();
        assert_eq!((found.create_type.as_str(), found.parent), ("custom", None));
        assert_eq!(found.extents, expected.map(|(sectors, place)| ExtentLine { sectors, place }));
        assert!(has_mark(text.as_bytes()) && !has_mark(b"# a shell script"));
    }

    #[test]
    fn an_image_of_a_snapshot_names_the_one_below() {
        let text = HEAD.replace("ffffffff", "4a4a4a4a") + "parentFileNameHint=\"base.vmdk\"\nRW 4 SPARSE \"a\"\n";
        assert_eq!(decode(text.as_bytes()).unwrap().parent.as_deref(), Some("base.vmdk"));
    }

    #[test]
    fn lines_that_make_no_disk_are_refused_with_a_reason() {
        let cases = [
            ("RW 4 FLAT", "names no file"),
            ("RW four FLAT \"a\" 0", "no number"),
            ("RW -4 FLAT \"a\" 0", "no number"),
            ("RW 4 FLAT \"a", "not closed"),
            ("RW 4 FLAT \"a\" -1", "begins nowhere"),
            ("RW 4 FLAT \"a\" 18446744073709551615", "begins nowhere"),
            ("RW 4 FLAT \"\" 0", "cannot be one"),
            ("RW 4 WARPED \"a\" 0", "not known"),
            ("WO 4 FLAT \"a\" 0", "no part"),
            ("RW 18446744073709551615 ZERO\nRW 18446744073709551615 ZERO", "most that is read"),
            ("lonely", "no part"),
            ("parentCID=00000000", "not which"),
        ];
        for (line, reason) in cases {
            let error = decode(format!("{HEAD}{line}\n").as_bytes()).unwrap_err();
            assert!(error.to_string().contains(reason), "{line}: {error}");
        }
        for text in [&b"\xff\xfe"[..], b"", b"# Disk DescriptorFile\nRW 4 ZERO\n"] {
            assert!(decode(text).is_err());
        }
    }
}
