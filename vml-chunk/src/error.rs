//! The one error type of the store: a small kind to match on, a sentence about what and where, and the cause.

use std::fmt;
use std::io;

/// What went wrong, coarsely: what a caller decides by.
#[non_exhaustive]
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum ErrorKind {
    /// Something named does not exist.
    NotFound,
    /// Something to be created is there already.
    AlreadyExists,
    /// Stored bytes are not what was written.
    Corrupt,
    /// The bytes are of a newer or unknown format.
    UnsupportedFormat,
    /// Somebody else holds it, or changed it meanwhile.
    Locked,
    /// The caller's argument or input is not usable.
    InvalidInput,
    /// It is encrypted, and no key was given, or one that does not reach so far.
    NeedsKey,
    /// The passphrase or key that was given opens nothing.
    WrongKey,
    /// The operating system refused access.
    PermissionDenied,
    /// The file system is full.
    NoSpace,
    /// The operation was cut short, or an earlier failure poisoned the writer.
    Interrupted,
    /// Any other input or output error.
    Io,
}

/// An error of the store. [`Display`](fmt::Display) prints its own sentence; the cause is [`source`](std::error::Error::source).
pub struct Error(Box<Inner>);

struct Inner {
    kind: ErrorKind,
    message: String,
    source: Option<Box<dyn std::error::Error + Send + Sync>>,
}

/// A result with the store's [`Error`].
pub type Result<T, E = Error> = std::result::Result<T, E>;

impl Error {
    /// An error of `kind`; `message` is one lower-case sentence without a full stop.
    pub fn new(kind: ErrorKind, message: impl Into<String>) -> Self {
        Self(Box::new(Inner { kind, message: message.into(), source: None }))
    }

    /// [`ErrorKind::Corrupt`] about `what`.
    pub fn corrupt(message: impl Into<String>) -> Self {
        Self::new(ErrorKind::Corrupt, message)
    }

    /// [`ErrorKind::InvalidInput`] about `what`.
    pub fn invalid(message: impl Into<String>) -> Self {
        Self::new(ErrorKind::InvalidInput, message)
    }

    /// [`ErrorKind::NotFound`] about `what`.
    pub fn not_found(message: impl Into<String>) -> Self {
        Self::new(ErrorKind::NotFound, message)
    }

    /// Adds the cause.
    #[must_use]
    pub fn because(mut self, source: impl Into<Box<dyn std::error::Error + Send + Sync>>) -> Self {
        self.0.source = Some(source.into());
        self
    }

    /// Wraps this error in a sentence of the caller's; the kind stays.
    #[must_use]
    pub fn context(self, message: impl Into<String>) -> Self {
        Self::new(self.kind(), message).because(self)
    }

    /// The coarse kind.
    pub fn kind(&self) -> ErrorKind {
        self.0.kind
    }
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0.message)
    }
}

impl fmt::Debug for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:?}: {}", self.0.kind, self.0.message)?;
        match &self.0.source {
            Some(source) => write!(f, " <- {source:?}"),
            None => Ok(()),
        }
    }
}

impl std::error::Error for Error {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        self.0.source.as_deref().map(|source| source as _)
    }
}

/// The kind that an operating system error stands for.
pub fn kind_of_io(error: &io::Error) -> ErrorKind {
    match error.kind() {
        io::ErrorKind::NotFound => ErrorKind::NotFound,
        io::ErrorKind::AlreadyExists => ErrorKind::AlreadyExists,
        io::ErrorKind::PermissionDenied | io::ErrorKind::ReadOnlyFilesystem => ErrorKind::PermissionDenied,
        io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded => ErrorKind::NoSpace,
        io::ErrorKind::Interrupted => ErrorKind::Interrupted,
        io::ErrorKind::InvalidInput | io::ErrorKind::InvalidFilename => ErrorKind::InvalidInput,
        _ => ErrorKind::Io,
    }
}

/// Gives a bare operating system error the sentence that says what was tried on what.
pub trait IoResultExt<T> {
    /// `message` is only built when there is an error.
    fn at<M: Into<String>>(self, message: impl FnOnce() -> M) -> Result<T>;
}

impl<T, E: Into<io::Error>> IoResultExt<T> for std::result::Result<T, E> {
    fn at<M: Into<String>>(self, message: impl FnOnce() -> M) -> Result<T> {
        self.map_err(|error| {
            let error = error.into();
            Error::new(kind_of_io(&error), message()).because(error)
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::error::Error as _;

    #[test]
    fn display_is_the_own_sentence_and_the_cause_is_the_source() {
        let result: std::result::Result<(), io::Error> = Err(io::Error::from_raw_os_error(28));
        let error = result.at(|| "cannot write packs/x").unwrap_err().context("cannot save");
        assert_eq!(error.kind(), ErrorKind::NoSpace);
        assert_eq!(error.to_string(), "cannot save");
        assert_eq!(error.source().map(ToString::to_string).as_deref(), Some("cannot write packs/x"));
    }
}
