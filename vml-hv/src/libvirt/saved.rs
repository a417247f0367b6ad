//! The file in which libvirt keeps a suspended machine.
//!
//! ```text
//! "LibvirtQemudSave"  version  data_len  was_running  format  cookie_offset  14 spare     u32 each, in the host's order
//! data_len bytes:     the domain's XML, NUL, (at cookie_offset) a second text, padding
//! the rest:           QEMU's stream, as `format` says
//! ```
//! The XML says which emulator is started and with which files, so that of somebody else's memory is never used: it is replaced by this
//! machine's own.

use std::fs::File;
use std::io::{Read, Seek, SeekFrom, copy};
use std::os::unix::fs::FileExt;
use std::path::Path;
use vml_core::{Error, ErrorKind, IoResultExt as _, Result};

const MAGIC: &[u8; 16] = b"LibvirtQemudSave";
const HEADER_LEN: usize = 92;
const VERSION: u32 = 2;
/// Longest XML.
const DATA_MAX: u32 = 16 << 20;
/// Streams that may begin anywhere in the file; the others have places in it.
const STREAMS: [&str; 6] = ["raw", "gzip", "bzip2", "xz", "lzop", "zstd"];

/// The head of such a file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Head {
    version: u32,
    was_running: u32,
    format: u32,
    data: Vec<u8>,
    cookie: usize,
}

fn word(bytes: &[u8], at: usize) -> u32 {
    u32::from_ne_bytes([bytes[at], bytes[at + 1], bytes[at + 2], bytes[at + 3]])
}

impl Head {
    /// Reads it.
    pub(super) fn read(mut from: impl Read) -> Result<Self> {
        let cut = || "the saved memory is cut short";
        let bad = |what: &str| Error::corrupt(format!("it is no memory that libvirt saved: {what}"));
        let mut head = [0; HEADER_LEN];
        from.read_exact(&mut head).at(cut)?;
        if &head[..16] != MAGIC {
            return Err(bad("it begins otherwise"));
        }
        let (version, data_len, cookie) = (word(&head, 16), word(&head, 20), word(&head, 32) as usize);
        if version > VERSION {
            return Err(Error::new(
                ErrorKind::UnsupportedFormat,
                format!("the saved memory has libvirt's version {version}; {VERSION} is known"),
            ));
        }
        if data_len > DATA_MAX || cookie > data_len as usize {
            return Err(bad("its lengths contradict each other"));
        }
        let mut data = Vec::new();
        from.take(u64::from(data_len)).read_to_end(&mut data).at(cut)?;
        if data.len() != data_len as usize || !data.contains(&0) {
            return Err(bad("its description is cut short"));
        }
        Ok(Self { version, was_running: word(&head, 24), format: word(&head, 28), data, cookie })
    }

    /// How QEMU's stream is kept.
    pub(super) fn format(&self) -> &'static str {
        STREAMS.get(self.format as usize).copied().unwrap_or("sparse")
    }

    /// The place of QEMU's stream.
    fn stream(&self) -> u64 {
        (HEADER_LEN + self.data.len()) as u64
    }

    /// What comes after the XML.
    fn second(&self) -> &[u8] {
        if self.cookie == 0 { &[] } else { self.data[self.cookie..].split(|byte| *byte == 0).next().unwrap_or_default() }
    }

    /// The same with another XML, as long as it was where that is possible, of a machine that is to go on.
    fn with_xml(&self, xml: &str) -> Self {
        let mut data = xml.as_bytes().to_vec();
        data.push(0);
        let mut cookie = 0;
        if !self.second().is_empty() {
            cookie = data.len();
            data.extend_from_slice(self.second());
            data.push(0);
        }
        data.resize(data.len().max(self.data.len()), 0);
        Self { data, cookie, was_running: 1, ..self.clone() }
    }

    fn encode(&self) -> Vec<u8> {
        let mut bytes = MAGIC.to_vec();
        let len = |len: usize| u32::try_from(len).unwrap_or(u32::MAX);
        for word in [self.version, len(self.data.len()), self.was_running, self.format, len(self.cookie)] {
            bytes.extend_from_slice(&word.to_ne_bytes());
        }
        bytes.resize(HEADER_LEN, 0);
        bytes.extend_from_slice(&self.data);
        bytes
    }
}

/// Puts another XML into the file at `path`; `spare` is a name for a new file beside it, which may be needed.
pub(super) fn set_xml(path: &Path, spare: &Path, xml: &str) -> Result<()> {
    let failed = || format!("cannot write {}", path.display());
    let mut file = File::options().read(true).write(true).open(path).at(failed)?;
    let old = Head::read(&mut file)?;
    let mut new = old.with_xml(xml);
    if new.data.len() > old.data.len() {
        new = old.with_xml(&dense(xml));
    }
    if new.data.len() == old.data.len() {
        return file.write_all_at(&new.encode(), 0).at(failed);
    }
    if old.format() == "sparse" || new.data.len() > DATA_MAX as usize {
        return Err(Error::new(ErrorKind::UnsupportedFormat, "the machine's description is longer than the saved memory has place for"));
    }
    let moved = (|| {
        let mut out = File::create(spare)?;
        rustix::fs::fchmod(&out, rustix::fs::Mode::RUSR | rustix::fs::Mode::WUSR)?;
        out.write_all_at(&new.encode(), 0)?;
        out.seek(SeekFrom::Start(new.stream()))?;
        file.seek(SeekFrom::Start(old.stream()))?;
        copy(&mut file, &mut out)?;
        std::fs::rename(spare, path)
    })();
    moved.inspect_err(|_: &std::io::Error| _ = std::fs::remove_file(spare)).at(failed)
}

/// XML without the space at the beginnings of lines.
fn dense(xml: &str) -> String {
    xml.lines().map(|line| if line.trim_start().starts_with('<') { line.trim_start() } else { line }).collect::<Vec<_>>().join("\n")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn file(xml: &str, cookie: &str, padding: usize) -> Vec<u8> {
        let mut data = xml.as_bytes().to_vec();
        data.push(0);
        let at = if cookie.is_empty() { 0 } else { data.len() };
        data.extend_from_slice(cookie.as_bytes());
        data.resize(data.len() + 1 + padding, 0);
        let mut bytes = Head { version: 2, was_running: 1, format: 0, data, cookie: at }.encode();
        bytes.extend_from_slice(b"QEVM stream");
        bytes
    }

    #[test]
    fn the_xml_is_replaced_and_the_stream_stays() {
        let dir = tempfile::tempdir().unwrap();
        let (path, spare) = (dir.path().join("a.save"), dir.path().join("spare"));
        for (cookie, padding) in [("", 0), ("<cookie/>", 0), ("<cookie/>", 500)] {
            for xml in ["<x/>", "<domain>  <much longer='than before, which was short'/></domain>"] {
                std::fs::write(&path, file("<domain>old</domain>", cookie, padding)).unwrap();
                set_xml(&path, &spare, xml).unwrap();
                let bytes = std::fs::read(&path).unwrap();
                let head = Head::read(&bytes[..]).unwrap();
                assert!(head.data.starts_with(format!("{xml}\0").as_bytes()));
                assert_eq!((head.second(), head.format(), head.was_running), (cookie.as_bytes(), "raw", 1));
                assert_eq!(&bytes[usize::try_from(head.stream()).unwrap()..], b"QEVM stream");
                assert!(!spare.exists());
            }
        }
    }

    #[test]
    fn what_is_no_such_file_is_an_error() {
        let good = file("<domain/>", "", 10);
        for cut in 0..HEADER_LEN + 10 {
            assert!(Head::read(&good[..cut]).is_err(), "{cut}");
        }
        for (at, value) in [(0, 0xff_u8), (16, 9), (23, 0xff), (35, 0xff)] {
            let mut bad = good.clone();
            bad[at] = value;
            assert!(Head::read(&bad[..]).is_err(), "{at}");
        }
    }
}
