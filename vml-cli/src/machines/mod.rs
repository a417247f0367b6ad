//! The machine of an area, whatever runs it.

pub mod libvirt;

use crate::areas::Area;
use crate::guests::SshConfig;
use crate::images::DiskImage;
use anyhow::{Context as _, Result, bail};
use std::path::{Path, PathBuf};
use vml_core::entry::MachinePart;
use vml_core::machine::{Capabilities, Description, GuestAddress, Machine, MachineState};
use vml_core::{Error, ErrorKind, IoResultExt as _};
use vml_hv::qemu::{CONFIG_FILE, DiskConfig, MachineConfig, QemuMachine, QemuOptions};
use vml_hv::vmware::{VmwareMachine, VmwareOptions};

/// Opens the machine of an area; none where the area is a tree or disks.
pub fn open(area: &Area) -> Result<Option<Box<dyn Machine>>> {
    if let Some(dir) = &area.qemu {
        return Ok(Some(Box::new(QemuMachine::open(dir, QemuOptions::default())?)));
    }
    if let Some(uri) = &area.libvirt {
        return Ok(Some(libvirt::open(uri, area)?));
    }
    if let Some(vmx) = &area.vmware {
        let options = VmwareOptions { allowed_dirs: area.allow_dir.clone(), ..VmwareOptions::default() };
        return Ok(Some(Box::new(VmwareMachine::open(vmx, options)?)));
    }
    Ok(None)
}

/// The same where there must be one.
pub fn need(area: &Area) -> Result<Box<dyn Machine>> {
    match open(area)? {
        Some(machine) => Ok(machine),
        None => bail!(Error::invalid(format!("the area {} is no machine that can be run: it is {}", area.name, area.place()))),
    }
}

/// The folder of a machine that is to be an area: one with a description, or a new one for these disks.
pub fn add(dir: &Path, disks: &[DiskImage], allow_dir: &[PathBuf]) -> Result<PathBuf> {
    let is_described = dir.join(CONFIG_FILE).is_file();
    match (is_described, disks.is_empty()) {
        (true, false) => {
            bail!(Error::new(ErrorKind::AlreadyExists, format!("{} describes a machine already: leave --disk out", dir.display())))
        }
        (false, true) => bail!(Error::not_found(format!("{} has no {CONFIG_FILE}: --disk FILE makes one", dir.display()))),
        _ => {}
    }
    std::fs::create_dir_all(dir).at(|| format!("cannot make {}", dir.display()))?;
    if !is_described {
        describe_new(dir, disks, allow_dir)?;
    }
    Ok(std::fs::canonicalize(dir).at(|| format!("cannot find {}", dir.display()))?)
}

/// Sees that a machine can be saved later: that it is there, and its disks can be read.
pub fn check(area: &Area) -> Result<()> {
    let description = need(area)?.describe()?;
    for image in images(&description) {
        image.open(&description.allowed_dirs).with_context(|| format!("cannot use the disk {}", image.name))?;
    }
    Ok(())
}

/// Describes a new machine with these disks in `dir`.
fn describe_new(dir: &Path, disks: &[DiskImage], allow_dir: &[PathBuf]) -> Result<()> {
    let mut configured = Vec::new();
    for disk in disks {
        let opened = disk.open(allow_dir)?;
        let format = disk.format.clone().unwrap_or_else(|| opened.layers().first().map_or("raw", |layer| layer.format.as_str()).to_owned());
        configured.push(DiskConfig { name: disk.name.clone(), file: disk.file.clone(), format });
    }
    let config = MachineConfig { allow_dir: allow_dir.to_vec(), ..MachineConfig::new(configured) };
    MachineConfig::parse(&config.to_text()?)?;
    Ok(config.write(dir)?)
}

/// A machine's disks as images of this host.
pub fn images(description: &Description) -> Vec<DiskImage> {
    let image = |disk: &vml_core::machine::MachineDisk| DiskImage {
        name: disk.name.clone(),
        file: disk.file.clone(),
        format: Some(disk.format.clone()),
    };
    description.disks.iter().map(image).collect()
}

/// Describes the machine that is built of an entry in `dir` with these images: as it was saved where it is one of VML's own, which needs the
/// same kernel on this host where it is started by one, else a plain one. Says what is not as it was.
pub fn describe_from(saved: Option<&MachinePart>, dir: &Path, images: &[DiskImage], allowed: &[PathBuf]) -> Result<Option<String>> {
    let configured = |image: &DiskImage| DiskConfig {
        name: image.name.clone(),
        file: image.file.clone(),
        format: image.format.clone().unwrap_or_else(|| "raw".to_owned()),
    };
    let disks: Vec<DiskConfig> = images.iter().map(configured).collect();
    let (config, notice) = if let Some(machine) = saved.filter(|machine| machine.name == CONFIG_FILE) {
        let text = std::str::from_utf8(&machine.bytes).map_err(|_| Error::corrupt("the saved machine's description is no text"))?;
        let saved = MachineConfig::parse(text).context("the saved machine's description cannot be used")?;
        saved.check_kernel(dir)?;
        // In the order in which the machine had them; the port may be another machine's by now.
        let position = |disk: &DiskConfig| saved.disks.iter().position(|other| other.name == disk.name).unwrap_or(usize::MAX);
        let mut disks = disks;
        disks.sort_by_key(position);
        (MachineConfig { disks, allow_dir: allowed.to_vec(), ssh_port: None, ..saved }, None)
    } else {
        let what = saved.map_or("without a machine".to_owned(), |machine| format!("with {}, which QEMU is not given", machine.name));
        let config = MachineConfig { allow_dir: allowed.to_vec(), ..MachineConfig::new(disks) };
        let notice = format!("the entry was saved {what}: it becomes one with {} MiB of memory, see {CONFIG_FILE}", config.memory_mib);
        (config, Some(notice))
    };
    MachineConfig::parse(&config.to_text()?)?;
    config.write(dir)?;
    Ok(notice)
}

/// Its description as an entry has it.
pub fn part(description: &Description) -> MachinePart {
    MachinePart { name: description.file_name.clone(), bytes: description.bytes.clone() }
}

/// How to log in to the guest of a machine that runs: as its area says, where its hypervisor says that it is.
pub fn login(area: &Area, machine: &dyn Machine) -> Result<SshConfig> {
    let Some(ssh) = &area.ssh else {
        let message =
            format!("{} does not say how to log in to its guest: its description needs a table ssh, see `vml area add --ssh`", area.name);
        bail!(Error::invalid(message));
    };
    let state = machine.state()?;
    if state != MachineState::Running {
        bail!(Error::invalid(format!("the guest of {} cannot be reached: its machine is {}", area.name, state.name())));
    }
    // A hypervisor that does not know leaves it to what was written down.
    machine.address()?.map_or_else(|| Ok((**ssh).clone()), |address| ssh.at(&address))
}

/// Where its guest is reached, in words.
pub fn reached(address: Option<&GuestAddress>) -> String {
    address.map(|address| format!(", its SSH server is at {} port {}", address.host, address.ssh_port)).unwrap_or_default()
}

/// What can be done with a machine, in words.
pub fn abilities(capabilities: &Capabilities) -> Vec<&'static str> {
    let all = [
        (capabilities.live_disks, "disks while it runs"),
        (capabilities.changed_ranges, "only what changed"),
        (capabilities.memory, "memory"),
        (capabilities.suspend, "suspend"),
        (capabilities.quiesce, "quiet file systems"),
        (capabilities.address, "address"),
    ];
    all.into_iter().filter_map(|(can, word)| can.then_some(word)).collect()
}

/// Starts a machine that is off, and lets one go on that is held or suspended.
pub fn bring_up(machine: &dyn Machine) -> Result<&'static str> {
    Ok(match machine.state()? {
        MachineState::Off => {
            machine.start()?;
            "started"
        }
        MachineState::Paused | MachineState::Suspended => {
            machine.resume()?;
            "resumed"
        }
        MachineState::Running => "running already",
    })
}
