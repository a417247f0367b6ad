//! Where a repository is: in a directory or in object storage.

use crate::settings;
use anyhow::{Context as _, Result};
use std::fmt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
#[cfg(feature = "object")]
use vml_core::CachedBackend;
#[cfg(feature = "object")]
use vml_core::object::{ObjectBackend, ObjectPlace};
use vml_core::{Backend, Error, ErrorKind, LocalBackend};

/// Bytes of copies that are kept in the cache folder.
#[cfg(feature = "object")]
const CACHE_LIMIT: u64 = 8 << 30;

/// A repository's place.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Place {
    /// A directory of this host.
    Directory(PathBuf),
    /// A prefix in a bucket.
    #[cfg(feature = "object")]
    Objects(ObjectPlace),
}

impl Place {
    /// The place that `--repo` or `VML_REPO` names, or the one in the home folder.
    pub fn find(chosen: Option<&Path>) -> Result<Self> {
        let text = chosen.and_then(Path::to_str).unwrap_or_default();
        #[cfg(feature = "object")]
        if let Some(place) = ObjectPlace::parse(text)? {
            return Ok(Self::Objects(place));
        }
        let scheme = text.split_once("://").map(|(scheme, _)| scheme);
        if let Some(scheme) = scheme.filter(|scheme| !scheme.is_empty() && scheme.bytes().all(|byte| byte.is_ascii_alphanumeric())) {
            let text = format!(
                "{text:?} is no repository: this program knows directories, and s3://, gs:// and az:// where it is built with object storage"
            );
            return Err(Error::invalid(format!("{text} ({scheme}:// is none of them)")).into());
        }
        settings::repository(chosen).map(Self::Directory)
    }

    /// Whether there is something, so that no repository can be made.
    pub fn is_taken(&self) -> bool {
        match self {
            Self::Directory(path) => std::fs::read_dir(path).is_ok_and(|mut members| members.next().is_some()),
            #[cfg(feature = "object")]
            Self::Objects(place) => connect(place).is_ok_and(|backend| backend.len("config").is_ok()),
        }
    }

    /// The files of a repository that is there; with `copies` what never changes is kept in the cache folder.
    pub fn open(&self, copies: bool) -> Result<Arc<dyn Backend>> {
        match self {
            Self::Directory(path) => {
                _ = copies;
                let backend = LocalBackend::open(path).map_err(|error| match error.kind() {
                    ErrorKind::NotFound => Error::not_found("there is no repository here").because(error),
                    _ => error,
                });
                Ok(Arc::new(backend?))
            }
            #[cfg(feature = "object")]
            Self::Objects(place) => {
                let backend = Arc::new(connect(place)?);
                Ok(Arc::new(match settings::cache().filter(|_| copies) {
                    Some(cache) => CachedBackend::new(backend, cache.join("copies"), CACHE_LIMIT),
                    None => CachedBackend::without_copies(backend),
                }))
            }
        }
    }

    /// A place for a new repository; object storage is tried out.
    pub fn create(&self) -> Result<Arc<dyn Backend>> {
        match self {
            Self::Directory(path) if path.is_file() => Err(Error::invalid(format!("{} is a file", path.display())).into()),
            Self::Directory(path) => Ok(Arc::new(LocalBackend::create(path)?)),
            #[cfg(feature = "object")]
            Self::Objects(place) => {
                let backend = connect(place)?;
                // One that is there has been tried.
                if backend.len("config").is_err() {
                    backend.probe()?;
                }
                Ok(Arc::new(backend))
            }
        }
    }
}

impl fmt::Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Directory(path) => path.display().fmt(f),
            #[cfg(feature = "object")]
            Self::Objects(place) => place.fmt(f),
        }
    }
}

#[cfg(feature = "object")]
fn connect(place: &ObjectPlace) -> Result<ObjectBackend> {
    let options = crate::credentials::options(place.service).with_context(|| format!("cannot find credentials for {place}"))?;
    Ok(vml_core::object::connect(place, &options)?)
}
