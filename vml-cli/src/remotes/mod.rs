//! Remotes as the user names them: a list by name, and the way to each by its address.
//!
//! ```text
//! list       remotes.toml               service    a Remote over a line, repeated where that helps
//! ssh http   lines                      link       a share file on the web
//! ```

mod http;
pub mod link;
pub mod list;
mod service;
mod ssh;

use crate::net::Limit;
use crate::places::Place;
use crate::settings;
use crate::unlock::Keys;
use anyhow::{Context as _, Result, bail};
use list::Entry;
use service::ServiceRemote;
use ssh::{SshAddress, SshLine};
use std::path::Path;
use std::sync::Arc;
use vml_core::remote::{OpenRemote, Remote};
use vml_core::{Backend as _, Error, ErrorKind, LocalBackend, Monitor, Repository, RepositoryOptions};

/// What kind of place an address is of.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    Directory,
    Http,
    Ssh,
    /// Object storage.
    Objects,
}

/// What kind of place an address is of.
///
/// # Errors
/// `InvalidInput` for a scheme that is unknown.
pub fn kind_of(url: &str) -> Result<Kind> {
    let scheme = url.split_once("://").map(|(scheme, _)| scheme);
    Ok(match scheme {
        None | Some("file") => Kind::Directory,
        Some("http" | "https") => Kind::Http,
        Some("ssh") => Kind::Ssh,
        Some("s3" | "gs" | "az") => Kind::Objects,
        Some(other) => {
            bail!(Error::invalid(format!("remotes of the kind {other}:// are unknown: a directory, http, https, ssh, s3, gs or az")))
        }
    })
}

/// An address as it is kept: the path of a directory from the root.
pub fn normal(url: &str) -> Result<String> {
    match kind_of(url)? {
        Kind::Directory => {
            let path = std::path::absolute(url.strip_prefix("file://").unwrap_or(url)).with_context(|| format!("cannot use {url}"))?;
            path.into_os_string().into_string().map_err(|_| Error::invalid("the path is not UTF-8").into())
        }
        Kind::Http => {
            url.parse::<crate::net::Url>()?;
            Ok(url.trim_end_matches('/').to_owned())
        }
        Kind::Ssh => SshAddress::parse(url).map(|_| url.to_owned()).map_err(Into::into),
        Kind::Objects => Place::find(Some(Path::new(url))).map(|place| place.to_string()),
    }
}

/// The other end, open.
pub enum Opened {
    Repository(Box<Repository>),
    Service(Box<ServiceRemote>),
}

impl Opened {
    /// Opens what is at an address.
    pub fn open(entry: &Entry, limit: Limit, options: RepositoryOptions, keys: &Keys) -> Result<Self> {
        let url = &entry.url;
        match kind_of(url)? {
            Kind::Directory => {
                let backend = LocalBackend::open(Path::new(url)).and_then(|backend| backend.len("config").map(|_| backend));
                let backend = backend.map_err(|error| match error.kind() {
                    ErrorKind::NotFound => Error::not_found(format!("there is no repository in {url}")).because(error),
                    _ => error.context(format!("cannot open the repository {url}")),
                })?;
                let open = keys.open_other(Arc::new(backend), options).with_context(|| format!("cannot open the repository {url}"));
                Ok(Self::Repository(Box::new(open?)))
            }
            Kind::Objects => {
                let open = Place::find(Some(Path::new(url)))?.open(true)?;
                let open = keys.open_other(open, options).with_context(|| format!("cannot open the repository {url}"));
                Ok(Self::Repository(Box::new(open?)))
            }
            Kind::Http => Ok(Self::Service(Box::new(ServiceRemote::new(Box::new(http::HttpLine::new(entry)?), limit)))),
            Kind::Ssh => {
                let address = SshAddress::parse(url)?;
                let line = SshLine::new(&address, &settings::ssh_program(), entry.program.as_deref().unwrap_or("vml"));
                Ok(Self::Service(Box::new(ServiceRemote::new(Box::new(line), limit))))
            }
        }
    }

    /// Calls `run` with it; what comes to a repository that is open here is noted as coming from `author`.
    pub fn with<T>(&self, author: &str, monitor: &dyn Monitor, run: impl FnOnce(&dyn Remote) -> Result<T>) -> Result<T> {
        match self {
            Self::Repository(repository) => run(&OpenRemote::new(repository, author, true, settings::now_ms()).telling(monitor)),
            Self::Service(service) => run(service.as_ref()),
        }
    }
}
