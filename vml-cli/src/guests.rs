//! Guests that are reached over SSH: how an area's description says where, and what is made of that.

use crate::settings;
use anyhow::Result;
use serde::{Deserialize, Serialize};
use std::path::PathBuf;
use vml_core::entry::{Entry, EntryKind};
use vml_core::machine::GuestAddress;
use vml_core::refs::RefKind;
use vml_core::tree::{CaptureOptions, Exclude, ListedOptions, Node, Timestamp, capture_listed};
use vml_core::{Error, Monitor, Repository};
use vml_hv::guest::DEFAULT_EXCLUDE;
use vml_hv::ssh::{
    DEFAULT_DIRS, GuestFacts, LibraryOptions, LibraryTransport, Limits, PatchOptions, PatchPlan, Patched, ProgramOptions, ProgramTransport,
    SshAddress, SshTree, SshTreeOptions, Transport,
};

/// What `vml.toml` says of a guest.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct SshConfig {
    /// `USER@HOST` or `USER@HOST:PORT`.
    pub address: String,
    /// Directories to save; none for the usual ones.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub path: Vec<String>,
    /// Whether everything is saved.
    #[serde(default)]
    pub all: bool,
    /// Whether the user's own `ssh` command is used.
    #[serde(default)]
    pub command: bool,
    /// The name under which its host key is known, where that is not its address.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub host_key_alias: Option<String>,
    /// Files with keys, instead of those in the user's `.ssh`.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub identity: Vec<PathBuf>,
    /// Files with known hosts, instead of the user's and the system's.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub known_hosts: Vec<PathBuf>,
}

impl SshConfig {
    /// The same where a hypervisor says that the guest is: the host of the address is only the name that its key is known by.
    pub fn at(&self, place: &GuestAddress) -> Result<Self> {
        let named: SshAddress = self.address.parse()?;
        let alias = self.host_key_alias.clone().unwrap_or_else(|| named.host.clone());
        let address = SshAddress { user: named.user, host: place.host.clone(), port: Some(place.ssh_port) };
        Ok(Self { address: address.to_string(), host_key_alias: Some(alias), ..self.clone() })
    }
}

/// A guest that can be asked.
pub struct Guest {
    /// Carries commands to it.
    pub transport: Box<dyn Transport>,
    /// What of it belongs to the area.
    pub scope: SshTreeOptions,
}

/// The guest that a description means; nothing is connected yet.
pub fn source(config: &SshConfig, default_exclude: bool, one_file_system: bool) -> Result<Guest> {
    let mut address: SshAddress = config.address.parse()?;
    let limits = Limits::default();
    let transport: Box<dyn Transport> = if config.command {
        Box::new(ProgramTransport::new(ProgramOptions {
            program: PathBuf::from("ssh"),
            address,
            host_key_alias: config.host_key_alias.clone(),
            identities: config.identity.clone(),
            known_hosts: config.known_hosts.clone(),
            limits,
        }))
    } else {
        address.user = Some(address.user.unwrap_or_else(settings::user));
        let folder = settings::ssh_folder();
        let own = |names: &[&str]| names.iter().filter_map(|name| Some(folder.as_ref()?.join(name))).collect::<Vec<_>>();
        let or = |given: &[PathBuf], usual: Vec<PathBuf>| if given.is_empty() { usual } else { given.to_vec() };
        let known: Vec<PathBuf> =
            own(&["known_hosts", "known_hosts2"]).into_iter().chain([PathBuf::from("/etc/ssh/ssh_known_hosts")]).collect();
        Box::new(LibraryTransport::new(LibraryOptions {
            address,
            host_key_alias: config.host_key_alias.clone(),
            known_hosts: or(&config.known_hosts, known),
            identities: or(&config.identity, own(&["id_ed25519", "id_ecdsa", "id_rsa"])),
            // A key that was named is the one that is meant.
            agent: if config.identity.is_empty() { settings::ssh_agent() } else { None },
            limits,
        }))
    };
    let usual = || DEFAULT_DIRS.iter().map(ToString::to_string).collect();
    let scope = SshTreeOptions {
        root: "/".to_owned(),
        dirs: if config.all {
            Vec::new()
        } else if config.path.is_empty() {
            usual()
        } else {
            config.path.clone()
        },
        dirs_must_exist: !config.path.is_empty(),
        default_exclude,
        one_file_system,
    };
    scope.check()?;
    Ok(Guest { transport, scope })
}

impl Guest {
    /// What it says about itself.
    pub fn identify(&self) -> Result<GuestFacts> {
        Ok(vml_hv::ssh::identify(self.transport.as_ref(), &self.scope.root)?)
    }

    /// Its directories, to be captured.
    pub fn tree(&self) -> Result<SshTree<'_>> {
        Ok(SshTree::new(self.transport.as_ref(), self.scope.clone())?)
    }

    /// For people: what of it is saved.
    pub fn dirs(&self) -> String {
        if self.scope.dirs.is_empty() { "/".to_owned() } else { self.scope.dirs.join(" ") }
    }

    /// The patterns of what is left out of it.
    pub fn exclude(&self, own: &[String]) -> Result<Exclude> {
        let usual = DEFAULT_EXCLUDE.iter().filter(|_| self.scope.default_exclude).map(ToString::to_string);
        Ok(Exclude::new(&own.iter().cloned().chain(usual).collect::<Vec<_>>())?)
    }
}

/// What brings a guest to an entry's state.
pub struct Patch<'a> {
    /// The guest.
    pub guest: &'a Guest,
    /// What is left as it is.
    pub exclude: &'a Exclude,
    /// The entry.
    pub entry: &'a Entry,
    /// The area whose latest entry spares reading.
    pub area: &'a str,
}

impl Patch<'_> {
    /// Looks what the guest has now. It is kept in the store until unused chunks are collected; no entry names it.
    pub fn look(&self, repository: &Repository, monitor: &dyn Monitor) -> Result<Node> {
        let read = |id| repository.entry(&id).ok();
        let latest = repository.refs().get(RefKind::Area, self.area)?.and_then(read);
        let base = match (&self.entry.base, &self.entry.kind) {
            (Some(base), _) => read(base.entry),
            (None, EntryKind::Base { .. }) => Some(self.entry.clone()),
            (None, EntryKind::State { .. }) => None,
        };
        let store = repository.store(monitor)?;
        let writer = store.writer()?;
        let chunker = repository.config().chunker.build()?;
        let capture = CaptureOptions {
            exclude: self.exclude,
            one_file_system: self.guest.scope.one_file_system,
            parent: latest.as_ref().and_then(Entry::tree).map(|tree| (&tree.root, &tree.witness)),
            distrust_parent: false,
            now: None,
            inline_max: repository.config().inline_max as usize,
            // One stream comes over the wire.
            threads: 1,
        };
        let base = base.as_ref().and_then(|entry| {
            let since = Timestamp { seconds: entry.time_ms.div_euclid(1000), nanoseconds: 0 };
            Some((&entry.tree()?.root, since))
        });
        let spool = settings::spool();
        let options = ListedOptions { capture: &capture, base, spool: &spool };
        let captured = capture_listed(&writer, chunker.as_ref(), &self.guest.tree()?, &options, monitor)?;
        writer.finish()?;
        Ok(captured.root)
    }

    fn options<'p>(&'p self, from: &'p Node) -> Result<PatchOptions<'p>> {
        let tree = self.entry.tree().ok_or_else(|| Error::not_found("the entry has no tree"))?;
        Ok(PatchOptions { scope: &self.guest.scope, exclude: self.exclude, from, to: &tree.root })
    }

    /// What would be done to a guest that has `from`.
    pub fn plan(&self, repository: &Repository, from: &Node, monitor: &dyn Monitor) -> Result<PatchPlan> {
        Ok(vml_hv::ssh::plan(repository.store(monitor)?, &self.options(from)?)?)
    }

    /// Does it.
    pub fn apply(&self, repository: &Repository, from: &Node, monitor: &dyn Monitor) -> Result<Patched> {
        Ok(vml_hv::ssh::apply(repository.store(monitor)?, self.guest.transport.as_ref(), &self.options(from)?, monitor)?)
    }
}
