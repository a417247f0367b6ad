//! The remotes of this host, by name: `remotes.toml` in the home folder, which only its owner can read, because it may hold tokens.

use crate::{files, settings};
use anyhow::{Context as _, Result, bail};
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::fs;
use std::path::PathBuf;
use vml_core::refs::check_name;
use vml_core::{Error, ErrorKind};

/// The remote that is meant where none is named.
pub const DEFAULT: &str = "origin";
const FILE: &str = "remotes.toml";
const HEAD: &str = "# Remotes of VML on this host, for `vml push` and `vml pull`. It may be edited by hand.\n\n";

/// What is known of a remote.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Entry {
    /// A directory, or `http://`, `https://`, `ssh://`, `s3://` …
    pub url: String,
    /// Whether it is this user's alone: what comes from it is as if saved here, what goes to it is not looked through for secrets.
    pub own: bool,
    /// What it asks for, if it does.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub token: Option<String>,
    /// How `vml` is called on the other side of `ssh`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub program: Option<String>,
}

#[derive(Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct File {
    #[serde(default, rename = "remote")]
    remotes: BTreeMap<String, Entry>,
}

fn path() -> Result<PathBuf> {
    Ok(settings::home()?.join(FILE))
}

/// All remotes by name.
pub fn all() -> Result<BTreeMap<String, Entry>> {
    let path = path()?;
    let text = match fs::read_to_string(&path) {
        Ok(text) => text,
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(BTreeMap::new()),
        Err(error) => return Err(error).with_context(|| format!("cannot read {}", path.display())),
    };
    let file: File = toml::from_str(&text).with_context(|| format!("{} is not a list of remotes", path.display()))?;
    Ok(file.remotes)
}

fn write(remotes: BTreeMap<String, Entry>) -> Result<()> {
    let text = format!("{HEAD}{}", toml::to_string_pretty(&File { remotes })?);
    Ok(files::replace(&path()?, &text, files::PRIVATE)?)
}

/// Adds one.
pub fn add(name: &str, entry: Entry) -> Result<()> {
    check_name("remote", name)?;
    let mut remotes = all()?;
    if remotes.contains_key(name) {
        bail!(Error::new(ErrorKind::AlreadyExists, format!("there is a remote {name:?} already: `vml remote rm` removes it")));
    }
    remotes.insert(name.to_owned(), entry);
    write(remotes)
}

/// Removes one.
pub fn remove(name: &str) -> Result<()> {
    let mut remotes = all()?;
    if remotes.remove(name).is_none() {
        bail!(Error::not_found(format!("there is no remote {name:?}")));
    }
    write(remotes)
}

/// The one that is named, else the only one, else the one called `origin`.
pub fn find(name: Option<&str>) -> Result<(String, Entry)> {
    find_in(all()?, name)
}

/// As [`find`], among remotes that were read before.
pub fn find_in(mut remotes: BTreeMap<String, Entry>, name: Option<&str>) -> Result<(String, Entry)> {
    let name = match name {
        Some(name) => name.to_owned(),
        None if remotes.len() == 1 => remotes.keys().next().cloned().unwrap_or_default(),
        None if remotes.contains_key(DEFAULT) => DEFAULT.to_owned(),
        None if remotes.is_empty() => bail!(Error::not_found("there is no remote: `vml remote add NAME URL` adds one")),
        None => bail!(Error::invalid("there are several remotes: name one of `vml remote list`")),
    };
    let entry = remotes.remove(&name).ok_or_else(|| Error::not_found(format!("there is no remote {name:?}")))?;
    Ok((name, entry))
}
