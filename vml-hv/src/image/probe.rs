//! Which format an image has: told, or decided by its name and its content together.
//!
//! The first bytes of a raw image are its guest's: a guest that writes a qcow2 header there, with a backing file of its choice, could
//! have any file of the host read. So content alone never decides; it must agree with the name.

use super::{qcow2_header, vmdk};
use std::path::Path;
use std::str::FromStr;
use vml_core::{Error, ErrorKind, Result};

/// The format of an image.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Format {
    /// The file is the disk.
    Raw,
    /// QEMU's.
    Qcow2,
    /// VMware's, in any of its forms.
    Vmdk,
}

impl Format {
    /// Its name.
    pub fn name(self) -> &'static str {
        match self {
            Self::Raw => "raw",
            Self::Qcow2 => "qcow2",
            Self::Vmdk => "vmdk",
        }
    }
}

impl FromStr for Format {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self> {
        match text {
            "raw" => Ok(Self::Raw),
            "qcow2" => Ok(Self::Qcow2),
            "vmdk" => Ok(Self::Vmdk),
            _ => {
                Err(Error::new(ErrorKind::UnsupportedFormat, format!("{text:?} is no format of images that can be read: raw, qcow2, vmdk")))
            }
        }
    }
}

/// The format that the first bytes look like.
fn by_content(head: &[u8]) -> Format {
    match () {
        () if qcow2_header::has_magic(head) => Format::Qcow2,
        () if vmdk::has_mark(head) => Format::Vmdk,
        () => Format::Raw,
    }
}

/// The format that the name says; none for one that says nothing.
fn by_name(path: &Path) -> Option<Format> {
    let name = path.file_name()?.to_str()?.to_ascii_lowercase();
    let endings: Vec<&str> = name.split('.').skip(1).collect();
    if endings.iter().any(|ending| *ending == "qcow2" || *ending == "qcow") {
        return Some(Format::Qcow2);
    }
    match *endings.last()? {
        "vmdk" => Some(Format::Vmdk),
        "raw" | "img" | "iso" | "hdd" | "dd" | "bin" => Some(Format::Raw),
        _ => None,
    }
}

/// The format of the file at `path`, which begins with `head`.
///
/// # Errors
/// `InvalidInput` when name and content say different things.
pub(super) fn probe(path: &Path, head: &[u8]) -> Result<Format> {
    let (name, content) = (by_name(path), by_content(head));
    let shown = path.display();
    match (name, content) {
        (Some(name), content) if name == content => Ok(content),
        (None, Format::Raw) => Ok(Format::Raw),
        (Some(Format::Raw) | None, content) => Err(Error::invalid(format!(
            "{shown} begins like a {} image, but its name does not say so, and a guest could have written that: tell the format, as in {shown},format={} \
             or format=raw",
            content.name(),
            content.name()
        ))),
        (Some(name), content) => Err(Error::invalid(format!(
            "{shown} is named like a {} image and begins like a {} one: it is damaged, or tell the format, as in {shown},format={}",
            name.name(),
            content.name(),
            content.name()
        ))),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn name_and_content_must_agree() {
        let probe = |name: &str, head: &[u8]| probe(Path::new(name), head).map_err(|error| error.to_string());
        assert_eq!(probe("a.qcow2", b"QFI\xfb..."), Ok(Format::Qcow2));
        assert_eq!(probe("a.qcow2.snap1", b"QFI\xfb"), Ok(Format::Qcow2));
        assert_eq!(probe("a.vmdk", b"KDMV"), Ok(Format::Vmdk));
        assert_eq!(probe("a.vmdk", b"# Disk DescriptorFile\n"), Ok(Format::Vmdk));
        assert_eq!(probe("a.raw", b"\xeb\x63"), Ok(Format::Raw));
        assert_eq!(probe("disk", b""), Ok(Format::Raw));
        assert!(probe("a.raw", b"QFI\xfb").unwrap_err().contains("a guest could have written that"));
        assert!(probe("disk", b"KDMV").unwrap_err().contains("format=vmdk"));
        assert!(probe("a.qcow2", b"\0\0\0\0").unwrap_err().contains("is damaged"));
        assert!("qed".parse::<Format>().is_err());
    }
}
