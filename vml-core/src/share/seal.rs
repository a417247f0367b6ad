//! Seals share files to the keys of those who may open them, in the format of `age`.
//!
//! ```text
//! age-encryption.org/v1 │ the file's key, wrapped for each recipient │ MAC │ nonce │ 64 KiB │ 64 KiB │ … │ the last
//!                         age1…  ssh-ed25519 …                                  └── a share file as it is otherwise, signed inside
//! ```
//! Sealing hides what is in a file and says nothing of who made it; the signature inside does. Any program that knows `age` opens it. It is written and read as a stream, with
//! a part of 64 KiB in memory; a part that was changed, moved or left out is noticed when it is read, and so is a cut.

use super::{PublicKey, SecretKey};
use age::ssh::Identity as SshIdentity;
use std::fmt;
use std::io::{self, BufRead, Read, Seek, SeekFrom, Write};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use vml_chunk::{Error, ErrorKind, Result};

/// The first bytes of a sealed file.
pub const SEALED_MAGIC: &[u8] = b"age-encryption.org/v1\n";
/// Most recipients of a file.
pub const RECIPIENTS_MAX: usize = 256;
/// Longest head of a sealed file that is read: of a stranger's, whose lines have no limit of their own.
const HEAD_MAX_LEN: u64 = 64 << 10;
/// What stands for no limit.
const NO_LIMIT: u64 = u64::MAX;
/// Longest text of keys that is looked at.
const TEXT_MAX_LEN: usize = 64 << 10;

/// Whether a file that begins like this is sealed.
pub fn is_sealed(start: &[u8]) -> bool {
    start.starts_with(SEALED_MAGIC)
}

/// A key that files are sealed to.
pub struct Recipient {
    key: Box<dyn age::Recipient + Send + Sync>,
    text: String,
}

impl Recipient {
    /// Reads `age1…` or `ssh-ed25519 …`, with or without a comment.
    ///
    /// # Errors
    /// `InvalidInput` for everything else.
    pub fn parse(text: &str) -> Result<Self> {
        let text = text.trim();
        let bad = |why: &str| {
            let shown: String = text.chars().filter(|letter| !letter.is_control()).take(40).collect();
            Error::invalid(format!("{shown:?} {why}: files are sealed to keys like age1… and ssh-ed25519 …"))
        };
        if text.len() > TEXT_MAX_LEN || text.lines().count() != 1 {
            return Err(bad("is not one public key"));
        }
        if text.starts_with("ssh-ed25519 ") {
            let (key, comment) = PublicKey::from_openssh(text)?;
            let text = key.to_openssh(&comment);
            let key: age::ssh::Recipient = text.parse().map_err(|_| bad("is a key that nothing can be sealed to"))?;
            return Ok(Self { key: Box::new(key), text });
        }
        if !text.starts_with("age1") {
            return Err(bad("is no key of a kind that files can be sealed to"));
        }
        let key: age::x25519::Recipient = text.parse().map_err(|why: &str| bad("is no key of age").because(why))?;
        Ok(Self { text: key.to_string(), key: Box::new(key) })
    }
}

/// The public key as text.
impl fmt::Display for Recipient {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}

impl fmt::Debug for Recipient {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}

/// A key that opens what was sealed to its public half.
pub struct Identity(Box<dyn age::Identity + Send + Sync>);

impl fmt::Debug for Identity {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Identity")
    }
}

impl Identity {
    /// Reads what a file of keys has: one private ed25519 key of OpenSSH, or lines `AGE-SECRET-KEY-…` among comments.
    ///
    /// # Errors
    /// `PermissionDenied` when the key is locked with a passphrase, `InvalidInput` for what is none.
    pub fn parse(text: &str) -> Result<Vec<Self>> {
        let bad = || Error::invalid("this is neither a private ed25519 key of OpenSSH nor a file of keys of age");
        if text.len() > TEXT_MAX_LEN {
            return Err(bad());
        }
        if text.contains("-----BEGIN") {
            // Of those that age can use only ed25519 keys are: what opens with others can be told from how long it takes.
            if SecretKey::from_openssh(text).map_err(|error| bad().because(error))?.is_none() {
                let message = "the key is locked with a passphrase: open the file with a copy of it that is not, made by `ssh-keygen -p`";
                return Err(Error::new(ErrorKind::PermissionDenied, message));
            }
            return match SshIdentity::from_buffer(text.as_bytes(), None).map_err(|error| bad().because(error))? {
                key @ SshIdentity::Unencrypted(_) => Ok(vec![Self(Box::new(key))]),
                _ => Err(bad()),
            };
        }
        let lines = text.lines().map(str::trim).filter(|line| !line.is_empty() && !line.starts_with('#'));
        let keys = lines.map(|line| line.parse::<age::x25519::Identity>().map(|key| Self(Box::new(key))).map_err(|_| bad()));
        let keys = keys.collect::<Result<Vec<_>>>()?;
        if keys.is_empty() { Err(bad()) } else { Ok(keys) }
    }
}

/// Seals what is written to it. It is whole only after [`finish`](Self::finish).
pub struct Sealer<W: Write>(age::stream::StreamWriter<W>);

impl<W: Write> Sealer<W> {
    /// Begins a file that each of `recipients` can open.
    ///
    /// # Errors
    /// `InvalidInput` for no recipient or more than [`RECIPIENTS_MAX`]; what `out` says.
    pub fn new(recipients: &[Recipient], out: W) -> Result<Self> {
        if recipients.is_empty() || recipients.len() > RECIPIENTS_MAX {
            return Err(Error::invalid(format!("a file is sealed to 1 to {RECIPIENTS_MAX} keys")));
        }
        let keys = recipients.iter().map(|recipient| recipient.key.as_ref() as &dyn age::Recipient);
        let sealing = age::Encryptor::with_recipients(keys).map_err(|error| Error::invalid("cannot seal to these keys").because(error))?;
        let out = sealing.wrap_output(out).map_err(|error| Error::new(ErrorKind::Io, "cannot write the sealed file").because(error))?;
        Ok(Self(out))
    }

    /// Writes the last part; gives back what was written to.
    ///
    /// # Errors
    /// What that says.
    pub fn finish(self) -> Result<W> {
        self.0.finish().map_err(|error| Error::new(ErrorKind::Io, "cannot write the sealed file").because(error))
    }
}

impl<W: Write> Write for Sealer<W> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0.write(bytes)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.0.flush()
    }
}

/// Reads what is in a sealed file, by stream or from any place where the file can be read so.
pub struct Unsealed<R>(age::stream::StreamReader<Bounded<R>>);

impl<R: BufRead> Unsealed<R> {
    /// Opens a sealed file with the first of `identities` that can.
    ///
    /// # Errors
    /// `PermissionDenied` when it is sealed to others, `UnsupportedFormat` for one that is sealed otherwise, `Corrupt`, what `reader` says.
    pub fn new(reader: R, identities: &[Identity]) -> Result<Self> {
        let left = Arc::new(AtomicU64::new(HEAD_MAX_LEN));
        let opened = age::Decryptor::new_buffered(Bounded { inner: reader, left: Arc::clone(&left) });
        left.store(NO_LIMIT, Ordering::Relaxed);
        let opened = opened.map_err(told)?;
        if opened.is_scrypt() {
            return Err(Error::new(
                ErrorKind::UnsupportedFormat,
                "the file is sealed with a passphrase and not to a key: open it with age",
            ));
        }
        opened.decrypt(identities.iter().map(|identity| identity.0.as_ref() as &dyn age::Identity)).map(Self).map_err(told)
    }
}

fn told(error: age::DecryptError) -> Error {
    use age::DecryptError;
    match error {
        DecryptError::NoMatchingKeys => {
            Error::new(ErrorKind::PermissionDenied, "the file is sealed to other keys than those that are here")
        }
        DecryptError::UnknownFormat => {
            Error::new(ErrorKind::UnsupportedFormat, "the file is sealed in a way that this program does not know")
        }
        DecryptError::Io(error) if error.kind() == io::ErrorKind::UnexpectedEof => {
            Error::corrupt("the sealed file is cut short in its head")
        }
        DecryptError::Io(error) => Error::new(ErrorKind::Io, "cannot read the sealed file").because(error),
        error => Error::corrupt("the head of the sealed file is damaged").because(error.to_string()),
    }
}

impl<R: Read> Read for Unsealed<R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        self.0.read(buffer).map_err(changed)
    }
}

impl<R: Read + Seek> Seek for Unsealed<R> {
    fn seek(&mut self, to: SeekFrom) -> io::Result<u64> {
        self.0.seek(to).map_err(changed)
    }
}

/// What age says of a part that does not open.
fn changed(error: io::Error) -> io::Error {
    match error.kind() {
        io::ErrorKind::InvalidData => {
            io::Error::new(error.kind(), Error::corrupt("the sealed file was changed or cut: what came until there is kept").because(error))
        }
        _ => error,
    }
}

/// Reads no further than so many bytes, while there is a limit.
struct Bounded<R> {
    inner: R,
    left: Arc<AtomicU64>,
}

fn too_long() -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, "the head of the sealed file is longer than any that this program makes")
}

impl<R> Bounded<R> {
    /// How much may be read.
    fn room(&self, wanted: usize) -> usize {
        usize::try_from(self.left.load(Ordering::Relaxed)).unwrap_or(usize::MAX).min(wanted)
    }

    fn count(&self, read: usize) {
        let left = self.left.load(Ordering::Relaxed);
        if left != NO_LIMIT {
            self.left.store(left.saturating_sub(read as u64), Ordering::Relaxed);
        }
    }
}

impl<R: Read> Read for Bounded<R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let room = self.room(buffer.len());
        if room == 0 && !buffer.is_empty() {
            return Err(too_long());
        }
        let read = self.inner.read(&mut buffer[..room])?;
        self.count(read);
        Ok(read)
    }
}

impl<R: BufRead> BufRead for Bounded<R> {
    fn fill_buf(&mut self) -> io::Result<&[u8]> {
        let room = self.room(usize::MAX);
        let bytes = self.inner.fill_buf()?;
        if room == 0 && !bytes.is_empty() {
            return Err(too_long());
        }
        Ok(&bytes[..bytes.len().min(room)])
    }

    fn consume(&mut self, count: usize) {
        self.count(count);
        self.inner.consume(count);
    }
}

impl<R: Seek> Seek for Bounded<R> {
    fn seek(&mut self, to: SeekFrom) -> io::Result<u64> {
        self.inner.seek(to)
    }
}
