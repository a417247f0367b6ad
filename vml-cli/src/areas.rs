//! Working areas: folders of this host with a readable description, `areas/NAME/vml.toml` in the home folder.
//!
//! They say where a tree is on this host, so they are no part of a repository that others share.

use crate::guests::SshConfig;
use crate::images::DiskImage;
use crate::settings;
use anyhow::{Context as _, Result, bail};
use serde::{Deserialize, Serialize};
use std::fs;
use std::io::Write;
use std::path::{Path, PathBuf};
use vml_core::IoResultExt as _;
use vml_core::refs::check_name;

const FILE: &str = "vml.toml";
const HEAD: &str = "# A working area of VML on this host. It may be edited by hand; `vml area show` tells how it is understood.\n\n";

/// What `vml.toml` says.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Area {
    /// Also the name of its folder and of its log in the repository.
    pub name: String,
    /// The directory tree on this host.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub tree: Option<PathBuf>,
    /// The base its entries are relative to, `name@version`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub base: Option<String>,
    /// Patterns of what is left out.
    #[serde(default)]
    pub exclude: Vec<String>,
    /// Whether a guest's /proc, /sys, /dev, /run, /tmp and /cvmfs stay empty in the entry.
    #[serde(default = "yes")]
    pub default_exclude: bool,
    /// Whether what is mounted inside the tree is left out.
    #[serde(default)]
    pub one_file_system: bool,
    /// A file that describes the machine.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub machine: Option<PathBuf>,
    /// Further folders in which files that an image names may lie.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub allow_dir: Vec<PathBuf>,
    /// The folder of a machine that VML runs with QEMU; its disks are described there.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub qemu: Option<PathBuf>,
    /// A machine of libvirt, `URI/DOMAIN`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub libvirt: Option<String>,
    /// The description of a machine of VMware, `FILE.vmx`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub vmware: Option<PathBuf>,
    /// A guest whose directories are saved over SSH.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ssh: Option<Box<SshConfig>>,
    /// Its disks.
    #[serde(default, rename = "disk", skip_serializing_if = "Vec::is_empty")]
    pub disks: Vec<DiskImage>,
}

impl Area {
    /// An area that names nothing yet.
    pub fn new(name: &str) -> Self {
        Self {
            name: name.to_owned(),
            tree: None,
            base: None,
            exclude: Vec::new(),
            default_exclude: true,
            one_file_system: false,
            machine: None,
            allow_dir: Vec::new(),
            qemu: None,
            libvirt: None,
            vmware: None,
            ssh: None,
            disks: Vec::new(),
        }
    }

    /// Whether it is a machine that a hypervisor runs.
    pub fn is_machine(&self) -> bool {
        self.qemu.is_some() || self.libvirt.is_some() || self.vmware.is_some()
    }

    /// Where it is on this host, for people.
    pub fn place(&self) -> String {
        let files = self.tree.iter().chain(&self.qemu).chain(&self.vmware).chain(self.disks.iter().map(|disk| &disk.file));
        let guest = self.ssh.iter().map(|ssh| format!("ssh://{}", ssh.address));
        files.map(|path| path.display().to_string()).chain(self.libvirt.clone()).chain(guest).collect::<Vec<_>>().join(", ")
    }
}

fn yes() -> bool {
    true
}

/// The folder of an area, for what belongs to it on this host.
pub fn folder(name: &str) -> Result<PathBuf> {
    check_name("area", name)?;
    Ok(settings::home()?.join("areas").join(name))
}

/// Writes the description of a new area.
pub fn add(area: &Area) -> Result<PathBuf> {
    let folder = folder(&area.name)?;
    let path = folder.join(FILE);
    fs::create_dir_all(&folder).at(|| format!("cannot make {}", folder.display()))?;
    let text = format!("{HEAD}{}", toml::to_string_pretty(area)?);
    let mut file = match fs::File::create_new(&path) {
        Err(error) if error.kind() == std::io::ErrorKind::AlreadyExists => {
            bail!(vml_core::Error::new(
                vml_core::ErrorKind::AlreadyExists,
                format!("the area {:?} exists already: {}", area.name, path.display())
            ))
        }
        other => other.at(|| format!("cannot write {}", path.display()))?,
    };
    let written = file.write_all(text.as_bytes()).and_then(|()| file.sync_all());
    // Half a description would be in the way of the next try.
    written.inspect_err(|_| _ = fs::remove_file(&path)).at(|| format!("cannot write {}", path.display()))?;
    Ok(path)
}

/// Reads an area.
pub fn get(name: &str) -> Result<Area> {
    let path = folder(name)?.join(FILE);
    match fs::read_to_string(&path) {
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => {
            bail!(vml_core::Error::not_found(format!("there is no area {name:?} on this host")))
        }
        other => parse(&path, &other.at(|| format!("cannot read {}", path.display()))?, name),
    }
}

fn parse(path: &Path, text: &str, name: &str) -> Result<Area> {
    let area: Area = toml::from_str(text).with_context(|| format!("{} is not the description of an area", path.display()))?;
    if area.tree.is_none() && area.disks.is_empty() && !area.is_machine() && area.ssh.is_none() {
        bail!(vml_core::Error::invalid(format!("{} names neither a tree nor a disk nor a machine nor a guest", path.display())));
    }
    if area.is_machine() && !area.disks.is_empty() {
        bail!(vml_core::Error::invalid(format!("{} names disks, and a machine that has its own", path.display())));
    }
    if usize::from(area.qemu.is_some()) + usize::from(area.libvirt.is_some()) + usize::from(area.vmware.is_some()) > 1 {
        bail!(vml_core::Error::invalid(format!("{} names several machines", path.display())));
    }
    if area.name != name {
        bail!(vml_core::Error::invalid(format!("{} describes the area {:?}, but its folder says {name:?}", path.display(), area.name)));
    }
    Ok(area)
}

/// All areas of this host by name; one that cannot be read carries its error.
pub fn list() -> Result<Vec<(String, Result<Area>)>> {
    let folder = settings::home()?.join("areas");
    let entries = match fs::read_dir(&folder) {
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(Vec::new()),
        other => other.at(|| format!("cannot list {}", folder.display()))?,
    };
    let mut names: Vec<String> = entries.flatten().filter_map(|entry| entry.file_name().into_string().ok()).collect();
    names.sort_unstable();
    Ok(names.into_iter().map(|name| (name.clone(), get(&name))).collect())
}

/// Keeps other commands away from an area's machine for as long as the file lives.
pub fn lock(name: &str) -> Result<fs::File> {
    let path = folder(name)?.join("lock");
    let file =
        fs::OpenOptions::new().create(true).truncate(false).write(true).open(&path).at(|| format!("cannot write {}", path.display()))?;
    match file.try_lock() {
        Ok(()) => Ok(file),
        Err(fs::TryLockError::WouldBlock) => {
            bail!(vml_core::Error::new(vml_core::ErrorKind::Locked, format!("another command is at work on the area {name:?}")))
        }
        Err(fs::TryLockError::Error(error)) => Err(error).at(|| format!("cannot lock {}", path.display())).map_err(Into::into),
    }
}

/// Where an area's description is.
pub fn path(name: &str) -> Result<PathBuf> {
    Ok(folder(name)?.join(FILE))
}

/// Removes an area's description, and its folder if nothing else is in it.
pub fn remove(name: &str) -> Result<()> {
    let folder = folder(name)?;
    let path = folder.join(FILE);
    let removed = fs::remove_file(&path).at(|| format!("cannot remove {}", path.display()));
    _ = fs::remove_file(folder.join("lock"));
    // Whatever a user keeps beside the description is the user's.
    _ = fs::remove_dir(&folder);
    Ok(removed?)
}
