//! What came of a file so far: `FILE.part`, and beside it in `FILE.part.toml` what it is a part of.

use super::url::Url;
use serde::{Deserialize, Serialize};
use sha2::{Digest as _, Sha256, Sha512};
use std::collections::BTreeMap;
use std::fs::{self, File, OpenOptions};
use std::io::{self, Read, Seek, SeekFrom, Write};
use std::path::{Path, PathBuf};
use vml_core::catalogue::Digest;
use vml_core::{Error, IoResultExt as _, Result};

/// Longest `ETag` that is kept.
const ETAG_MAX_LEN: usize = 512;

#[derive(Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
struct Note {
    /// As it was said beforehand, or by the first one who sent it.
    size: Option<u64>,
    /// Whether it was said beforehand.
    is_sure: bool,
    digest: String,
    /// By address.
    #[serde(default)]
    etags: BTreeMap<String, String>,
}

/// A file that is not whole yet.
pub struct Part {
    target: PathBuf,
    path: PathBuf,
    file: File,
    len: u64,
    wanted: Digest,
    note: Note,
}

fn beside(path: &Path, ending: &str) -> PathBuf {
    let name = path.file_name().unwrap_or_default().to_string_lossy();
    path.with_file_name(format!("{name}.{ending}"))
}

impl Part {
    /// What is there of the file `target`, if it is a part of the one that is wanted; else a new one.
    ///
    /// # Errors
    /// When it cannot be written.
    pub fn open(target: &Path, size: Option<u64>, wanted: Digest) -> Result<Self> {
        let path = beside(target, "part");
        let fresh = Note { size, is_sure: size.is_some(), digest: wanted.to_string(), etags: BTreeMap::new() };
        let note = fs::read_to_string(beside(&path, "toml")).ok().and_then(|text| toml::from_str::<Note>(&text).ok());
        let note =
            note.filter(|note| note.digest == fresh.digest && note.is_sure == fresh.is_sure && (size.is_none() || note.size == size));
        let is_known = note.is_some();
        let failed = || format!("cannot write {}", path.display());
        let file = OpenOptions::new().create(true).truncate(false).read(true).write(true).open(&path).at(failed)?;
        let len = file.metadata().at(failed)?.len();
        let mut part = Self { target: target.to_owned(), path, file, len, wanted, note: note.unwrap_or(fresh) };
        let most = if is_known { part.note.size.unwrap_or(0) } else { 0 };
        part.truncate(len.min(most))?;
        part.write_note()?;
        Ok(part)
    }

    /// Bytes that are there.
    pub fn len(&self) -> u64 {
        self.len
    }

    /// Bytes that the file has, as far as that is known.
    pub fn size(&self) -> Option<u64> {
        self.note.size
    }

    /// Whether that was said beforehand, and not by somebody who may lie.
    pub fn is_sure(&self) -> bool {
        self.note.is_sure
    }

    /// Takes somebody's word for it.
    ///
    /// # Errors
    /// When it cannot be written.
    pub fn set_size(&mut self, size: u64) -> Result<()> {
        self.note.size = Some(size);
        self.write_note()
    }

    /// The part's own file.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Keeps the first `len` bytes only.
    ///
    /// # Errors
    /// When it cannot be written.
    pub fn truncate(&mut self, len: u64) -> Result<()> {
        let cut = self.file.set_len(len).and_then(|()| self.file.seek(SeekFrom::Start(len)));
        self.len = cut.at(|| format!("cannot write {}", self.path.display()))?;
        Ok(())
    }

    /// What an address called its version of the file.
    pub fn etag(&self, url: &Url) -> Option<&str> {
        self.note.etags.get(&url.to_string()).map(String::as_str)
    }

    /// Keeps that in mind. One that is weak does not tell whether bytes are the same.
    ///
    /// # Errors
    /// When it cannot be written.
    pub fn set_etag(&mut self, url: &Url, etag: Option<&str>) -> Result<()> {
        let strong = etag.filter(|etag| etag.starts_with('"') && etag.len() <= ETAG_MAX_LEN);
        let before = match strong {
            Some(etag) => self.note.etags.insert(url.to_string(), etag.to_owned()),
            None => self.note.etags.remove(&url.to_string()),
        };
        if before.as_deref() == strong { Ok(()) } else { self.write_note() }
    }

    fn write_note(&self) -> Result<()> {
        let path = beside(&self.path, "toml");
        let text = toml::to_string(&self.note).map_err(|error| Error::invalid("cannot note what a part is of").because(error))?;
        let new = beside(&path, "new");
        fs::write(&new, text).and_then(|()| fs::rename(&new, &path)).at(|| format!("cannot write {}", path.display()))
    }

    /// The digest of what is there, by the algorithm of the one that is wanted.
    ///
    /// # Errors
    /// When it cannot be read.
    pub fn digest(&mut self) -> Result<Digest> {
        digest(&mut self.file, &self.wanted).at(|| format!("cannot read {}", self.path.display()))
    }

    /// Gives the whole file its name.
    ///
    /// # Errors
    /// When it cannot be written.
    pub fn finish(self) -> Result<()> {
        let named = self.file.sync_all().and_then(|()| fs::rename(&self.path, &self.target));
        named.at(|| format!("cannot write {}", self.target.display()))?;
        _ = fs::remove_file(beside(&self.path, "toml"));
        Ok(())
    }

    /// Removes it.
    ///
    /// # Errors
    /// When it cannot be removed.
    pub fn remove(self) -> Result<()> {
        fs::remove_file(&self.path).at(|| format!("cannot remove {}", self.path.display()))?;
        _ = fs::remove_file(beside(&self.path, "toml"));
        Ok(())
    }
}

impl Write for Part {
    fn write(&mut self, buf: &[u8]) -> io::Result<usize> {
        let len = self.file.write(buf)?;
        self.len += len as u64;
        Ok(len)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.file.flush()
    }
}

/// The digest of a file from its beginning, by the algorithm of `like`.
pub fn digest(file: &mut File, like: &Digest) -> io::Result<Digest> {
    file.seek(SeekFrom::Start(0))?;
    let mut block = vec![0; 1 << 20];
    let mut feed = |take: &mut dyn FnMut(&[u8])| loop {
        match file.read(&mut block) {
            Ok(0) => return Ok(()),
            Ok(len) => take(&block[..len]),
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    };
    Ok(match like {
        Digest::Sha256(_) => {
            let mut hasher = Sha256::new();
            feed(&mut |bytes| hasher.update(bytes))?;
            Digest::Sha256(hasher.finalize().into())
        }
        Digest::Sha512(_) => {
            let mut hasher = Sha512::new();
            feed(&mut |bytes| hasher.update(bytes))?;
            Digest::Sha512(hasher.finalize().into())
        }
        Digest::Blake3(_) => {
            let mut hasher = blake3::Hasher::new();
            feed(&mut |bytes| _ = hasher.update(bytes))?;
            Digest::Blake3(*hasher.finalize().as_bytes())
        }
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_part_is_continued_if_it_is_of_the_same_file() {
        let dir = tempfile::tempdir().unwrap();
        let target = dir.path().join("image.raw");
        let digest = |byte| Digest::Blake3([byte; 32]);
        let url: Url = "http://h/x".parse().unwrap();
        let mut part = Part::open(&target, Some(10), digest(1)).unwrap();
        part.write_all(b"12345").unwrap();
        part.set_etag(&url, Some("\"v1\"")).unwrap();
        drop(part);
        let part = Part::open(&target, Some(10), digest(1)).unwrap();
        assert_eq!((part.len(), part.etag(&url)), (5, Some("\"v1\"")));
        for (size, wanted) in [(Some(11), digest(1)), (None, digest(2)), (Some(10), digest(2))] {
            let mut part = Part::open(&target, size, wanted).unwrap();
            assert_eq!((part.len(), part.etag(&url)), (0, None), "a part of another file");
            part.write_all(b"12345").unwrap();
        }
        let mut part = Part::open(&target, Some(10), digest(2)).unwrap();
        part.set_etag(&url, Some("W/\"weak\"")).unwrap();
        assert_eq!(part.etag(&url), None);
        part.truncate(3).unwrap();
        part.write_all(b"x").unwrap();
        let by = |like| super::digest(&mut File::open(beside(&target, "part")).unwrap(), &like).unwrap();
        assert_eq!(part.digest().unwrap(), Digest::Blake3(*blake3::hash(b"123x").as_bytes()));
        assert_eq!(by(Digest::Sha256([0; 32])).to_string(), "sha256:c4511aa2ecd0e59b791a58503bc9748cdacb6b6973d69cc12495576958cda29b");
        assert!(by(Digest::Sha512([0; 64])).to_string().starts_with("sha512:"));
        part.finish().unwrap();
        assert_eq!(fs::read(&target).unwrap(), b"123x");
        assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 1, "nothing is left beside it");
    }
}
