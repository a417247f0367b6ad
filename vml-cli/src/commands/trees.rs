//! What commands do with trees on the way into the repository: find out whose they are, and what of them is left out.

use super::Context;
use super::save::What;
use crate::guests::Guest;
use crate::places::Place;
use crate::settings;
use anyhow::{Context as _, Result};
use std::fs;
use std::path::{Path, PathBuf};
use vml_core::Error;
use vml_core::entry::Fact;
use vml_core::repository::TreePlace;
use vml_core::tree::Exclude;
use vml_hv::guest::{self, DEFAULT_EXCLUDE, GuestRoot};
use vml_hv::ssh::SshTree;

/// Where a tree is.
#[derive(Clone, Copy)]
pub enum TreeFrom<'a> {
    /// In a directory of this host.
    Local(&'a Path),
    /// In a guest over SSH.
    Guest(&'a Guest),
}

/// A tree to save, and what is known of it beforehand.
pub struct Tree<'a> {
    source: Source<'a>,
    pub exclude: Exclude,
    pub owners: guest::Owners,
    pub facts: Vec<Fact>,
}

enum Source<'a> {
    Local(&'a Path),
    Guest { tree: SshTree<'a>, spool: PathBuf },
}

impl TreeFrom<'_> {
    /// Where it is, for people.
    pub fn shown(&self) -> String {
        match self {
            Self::Local(path) => path.display().to_string(),
            Self::Guest(guest) => guest.transport.place(),
        }
    }
}

impl<'a> Tree<'a> {
    /// Looks at the tree to save.
    pub fn open(context: &Context, what: &What<'a>, from: TreeFrom<'a>) -> Result<Self> {
        match from {
            TreeFrom::Local(path) => Self::local(context, what, path),
            TreeFrom::Guest(guest) => Self::guest(what, guest).with_context(|| format!("cannot save {}", from.shown())),
        }
    }

    fn local(context: &Context, what: &What<'_>, path: &'a Path) -> Result<Self> {
        let root = GuestRoot::open(path).context("cannot read the tree to save")?;
        let is_guest = root.is_guest();
        let mut patterns: Vec<String> = what.exclude.to_vec();
        if is_guest && what.default_exclude {
            patterns.extend(DEFAULT_EXCLUDE.map(str::to_owned));
        }
        patterns.extend(own_repository(context, path)?);
        let owners = if is_guest { guest::owners(&root) } else { guest::host_owners().unwrap_or_default() };
        let facts = if is_guest { guest::facts(&root) } else { Vec::new() };
        Ok(Self { source: Source::Local(path), exclude: Exclude::new(&patterns)?, owners, facts })
    }

    fn guest(what: &What<'_>, guest: &'a Guest) -> Result<Self> {
        let exclude = guest.exclude(what.exclude)?;
        let known = guest.identify()?;
        let mut facts = vec![Fact::new("guest.ssh", guest.transport.place()), Fact::new("guest.saved", guest.dirs())];
        facts.extend(known.facts);
        Ok(Self { source: Source::Guest { tree: guest.tree()?, spool: settings::spool() }, exclude, owners: known.owners, facts })
    }

    /// The tree as the library takes it.
    pub fn place(&self) -> TreePlace<'_> {
        match &self.source {
            Source::Local(path) => TreePlace::Local(path),
            Source::Guest { tree, spool } => TreePlace::Source { source: tree, spool },
        }
    }
}

/// A pattern for the repository, if it is inside the tree: saved into itself it would grow with every entry.
fn own_repository(context: &Context, tree: &Path) -> Result<Option<String>> {
    // There are places that are in no tree.
    #[allow(irrefutable_let_patterns)]
    let Place::Directory(repository) = context.place()? else { return Ok(None) };
    let (Ok(repository), Ok(tree)) = (fs::canonicalize(repository), fs::canonicalize(tree)) else { return Ok(None) };
    let Ok(inside) = repository.strip_prefix(&tree) else { return Ok(None) };
    let Some(inside) = inside.to_str().filter(|path| !path.is_empty()) else {
        let message = format!("the repository {} would be saved into itself: keep it outside the tree", repository.display());
        return Err(Error::invalid(message).into());
    };
    let mut pattern = String::from("/");
    for letter in inside.chars() {
        if matches!(letter, '*' | '?' | '[' | ']' | '{' | '}' | '!' | '\\') {
            pattern.push('\\');
        }
        pattern.push(letter);
    }
    pattern.push_str("/*");
    Ok(Some(pattern))
}
