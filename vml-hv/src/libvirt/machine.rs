//! A machine that libvirt runs.

use super::call::{on_connection, on_domain};
use super::uri::DomainUri;
use super::xml::{self, DomainXml};
use super::{OTHER, QEMU, XEN, error, memory, session};
use std::path::{Path, PathBuf};
use std::thread;
use std::time::{Duration, Instant};
use virt::domain::Domain;
use virt::sys;
use vml_core::entry::Fact;
use vml_core::machine::{
    Capabilities, Description, DiskSession, GuestAddress, LiveDisks, LiveMemory, Machine, MachineDisk, MachineState, SavedMemory, Stop,
};
use vml_core::{Error, ErrorKind, Result};

/// How a machine is driven.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LibvirtOptions {
    /// Where the guest is reached; without it libvirt is asked.
    pub address: Option<GuestAddress>,
    /// The port of its SSH server, where libvirt tells the host.
    pub ssh_port: u16,
    /// Where images that images name may lie, besides their own folders.
    pub allowed_dirs: Vec<PathBuf>,
    /// Where QEMU makes a socket for a save; without it QEMU's own folder, or one beside the first disk.
    pub run_dir: Option<PathBuf>,
    /// Where libvirt keeps the memory of suspended machines.
    pub save_dir: PathBuf,
    /// Whether the guest's agent makes file systems quiet, where there is one.
    pub quiesce: bool,
    /// How long libvirt may take to answer.
    pub answer_limit: Duration,
    /// How long the guest's agent may take.
    pub agent_limit: Duration,
    /// How long writing or reading memory may take.
    pub memory_limit: Duration,
}

impl Default for LibvirtOptions {
    fn default() -> Self {
        Self {
            address: None,
            ssh_port: 22,
            allowed_dirs: Vec::new(),
            run_dir: None,
            save_dir: PathBuf::from("/var/lib/libvirt/qemu/save"),
            quiesce: true,
            answer_limit: Duration::from_secs(30),
            agent_limit: Duration::from_secs(10),
            memory_limit: Duration::from_secs(600),
        }
    }
}

/// A machine, by URI and name.
#[derive(Debug)]
pub struct LibvirtMachine {
    pub(super) uri: DomainUri,
    pub(super) options: LibvirtOptions,
}

impl LibvirtMachine {
    /// The machine at `uri_domain`, such as `qemu:///system/NAME`.
    ///
    /// # Errors
    /// `InvalidInput` for what names no domain, `NotFound` when it is not there, `Interrupted` when libvirt does not answer.
    pub fn open(uri_domain: &str, options: LibvirtOptions) -> Result<Self> {
        let machine = Self { uri: DomainUri::parse(uri_domain)?, options };
        machine.state()?;
        Ok(machine)
    }

    /// Makes a new machine of an adapted description, at the same libvirt as `uri`: a URI without a domain.
    ///
    /// # Errors
    /// `AlreadyExists` when there is one of its name; else what libvirt says.
    pub fn define(uri: &str, description: &str, options: LibvirtOptions) -> Result<Self> {
        let name = xml::read(description)?.name;
        let (path, parameters) = uri.split_once('?').map_or((uri, String::new()), |(path, rest)| (path, format!("?{rest}")));
        let machine = Self { uri: DomainUri::parse(&format!("{}/{name}{parameters}", path.trim_end_matches('/')))?, options };
        let text = description.to_owned();
        on_connection(&machine.uri, machine.options.answer_limit, move |connection| {
            if Domain::lookup_by_name(connection, &name).is_ok() {
                return Err(Error::new(ErrorKind::AlreadyExists, format!("libvirt has a machine {name} already")));
            }
            Domain::define_xml(connection, &text).map(|_| ()).map_err(|cause| error::from_virt(&cause))
        })?;
        Ok(machine)
    }

    /// Makes libvirt forget it, with its checkpoints and its suspended memory; its disks stay.
    ///
    /// # Errors
    /// What libvirt says.
    pub fn undefine(&self) -> Result<()> {
        let flags = sys::VIR_DOMAIN_UNDEFINE_MANAGED_SAVE | sys::VIR_DOMAIN_UNDEFINE_CHECKPOINTS_METADATA | sys::VIR_DOMAIN_UNDEFINE_NVRAM;
        self.simple(move |domain| domain.undefine_flags(flags))
    }

    /// Where it is.
    pub fn uri(&self) -> &DomainUri {
        &self.uri
    }

    /// Runs a call within the usual time.
    pub(super) fn call<T: Send + 'static>(&self, call: impl FnOnce(&Domain) -> Result<T> + Send + 'static) -> Result<T> {
        on_domain(&self.uri, self.options.answer_limit, call)
    }

    /// The same for one of the crate's own calls.
    fn simple<T: Send + 'static>(
        &self,
        call: impl FnOnce(&Domain) -> std::result::Result<T, virt::error::Error> + Send + 'static,
    ) -> Result<T> {
        self.call(|domain| call(domain).map_err(|cause| error::from_virt(&cause)))
    }

    /// Its description: as it runs, or as it will be started.
    pub(super) fn xml(&self, inactive: bool) -> Result<String> {
        let flags = if inactive { sys::VIR_DOMAIN_XML_INACTIVE } else { 0 };
        self.simple(move |domain| domain.get_xml_desc(flags))
    }

    pub(super) fn domain(&self, inactive: bool) -> Result<DomainXml> {
        xml::read(&self.xml(inactive)?)
    }

    fn wait_off(&self, limit: Duration) -> Result<()> {
        let deadline = Instant::now() + limit;
        while !matches!(self.state()?, MachineState::Off | MachineState::Suspended) {
            if Instant::now() >= deadline {
                let message = format!("the guest has not shut down after {} s; it runs on, and can be stopped at once", limit.as_secs());
                return Err(Error::new(ErrorKind::Interrupted, message));
            }
            thread::sleep(Duration::from_millis(100));
        }
        Ok(())
    }

    /// What libvirt knows of the guest's addresses: from its agent, then from the network's leases.
    fn known_address(&self) -> Option<String> {
        for source in [sys::VIR_DOMAIN_INTERFACE_ADDRESSES_SRC_AGENT, sys::VIR_DOMAIN_INTERFACE_ADDRESSES_SRC_LEASE] {
            let limit = self.options.agent_limit.min(self.options.answer_limit);
            let found = on_domain(&self.uri, limit, move |domain| {
                let cards = domain.interface_addresses(source, 0).map_err(|cause| error::from_virt(&cause))?;
                Ok(cards.into_iter().filter(|card| card.name != "lo").flat_map(|card| card.addrs).map(|one| one.addr).collect::<Vec<_>>())
            });
            let addresses: Vec<std::net::IpAddr> = found.unwrap_or_default().iter().filter_map(|text| text.parse().ok()).collect();
            let useful = |address: &&std::net::IpAddr| match address {
                std::net::IpAddr::V4(v4) => !v4.is_loopback() && !v4.is_link_local(),
                std::net::IpAddr::V6(v6) => !v6.is_loopback() && (v6.segments()[0] & 0xffc0) != 0xfe80,
            };
            // What people know by heart is of the fourth version.
            let best = addresses.iter().filter(useful).min_by_key(|address| address.is_ipv6());
            if let Some(address) = best {
                return Some(address.to_string());
            }
        }
        None
    }
}

impl Machine for LibvirtMachine {
    fn capabilities(&self) -> Capabilities {
        match self.uri.driver() {
            "qemu" if !self.uri.is_remote() => QEMU,
            "xen" => XEN,
            _ => OTHER,
        }
    }

    fn describe(&self) -> Result<Description> {
        let text = self.xml(true)?;
        let domain = xml::read(&text)?;
        let disk = |disk: &xml::XmlDisk| {
            let missing = || {
                let message = format!("the disk {} of {} is neither a file nor a device of this host", disk.target, domain.name);
                Error::new(ErrorKind::UnsupportedFormat, message)
            };
            Ok(MachineDisk { name: disk.target.clone(), file: disk.file.clone().ok_or_else(missing)?, format: disk.format.clone() })
        };
        let mut facts = vec![Fact::new("machine.adapter", self.capabilities().adapter), Fact::new("machine.kind", &domain.kind)];
        facts.extend(domain.machine.as_ref().map(|machine| Fact::new("machine.type", machine)));
        Ok(Description {
            file_name: "domain.xml".to_owned(),
            disks: domain.disks.iter().filter(|disk| !disk.read_only).map(disk).collect::<Result<_>>()?,
            allowed_dirs: self.options.allowed_dirs.iter().chain(&domain.backing_dirs).cloned().collect(),
            memory_bytes: domain.memory_bytes,
            facts,
            bytes: text.into_bytes(),
        })
    }

    fn state(&self) -> Result<MachineState> {
        self.simple(|domain| {
            Ok(match domain.get_state()?.0 {
                sys::VIR_DOMAIN_PAUSED | sys::VIR_DOMAIN_PMSUSPENDED => MachineState::Paused,
                sys::VIR_DOMAIN_SHUTOFF | sys::VIR_DOMAIN_CRASHED => {
                    if domain.has_managed_save(0)? {
                        MachineState::Suspended
                    } else {
                        MachineState::Off
                    }
                }
                _ => MachineState::Running,
            })
        })
    }

    fn start(&self) -> Result<()> {
        self.state()?.check_start()?;
        self.simple(|domain| domain.create().map(|_| ()))
    }

    fn stop(&self, how: Stop) -> Result<()> {
        match (self.state()?, how) {
            (MachineState::Off, _) => Ok(()),
            (MachineState::Suspended, _) => self.simple(|domain| domain.managed_save_remove(0).map(|_| ())),
            (MachineState::Paused, Stop::Shutdown(_)) => Err(Error::invalid("a machine that is held cannot shut down: resume it first")),
            (_, Stop::Shutdown(limit)) => {
                self.simple(|domain| domain.shutdown().map(|_| ()))?;
                self.wait_off(limit)
            }
            (_, Stop::Kill) => {
                self.simple(Domain::destroy)?;
                self.wait_off(self.options.answer_limit)
            }
        }
    }

    fn suspend(&self) -> Result<()> {
        match self.state()? {
            MachineState::Running => memory::suspend(self),
            state => Err(Error::invalid(format!("the machine is {}: only one that runs is suspended", state.name()))),
        }
    }

    fn resume(&self) -> Result<()> {
        match self.state()? {
            MachineState::Paused => self.simple(|domain| domain.resume().map(|_| ())),
            MachineState::Suspended => memory::resume(self),
            state => Err(Error::invalid(format!("the machine is {}: there is nothing to resume", state.name()))),
        }
    }

    fn address(&self) -> Result<Option<GuestAddress>> {
        if !matches!(self.state()?, MachineState::Running | MachineState::Paused) {
            return Ok(None);
        }
        if let Some(address) = &self.options.address {
            return Ok(Some(address.clone()));
        }
        Ok(self.known_address().map(|host| GuestAddress { host, ssh_port: self.options.ssh_port }))
    }

    fn clean(&self) -> Result<Vec<String>> {
        if !self.capabilities().live_disks {
            return Ok(Vec::new());
        }
        session::clean(self)
    }

    fn live_disks(&self) -> Option<&dyn LiveDisks> {
        self.capabilities().live_disks.then_some(self)
    }

    fn live_memory(&self) -> Option<&dyn LiveMemory> {
        self.capabilities().memory.then_some(self)
    }
}

impl LiveDisks for LibvirtMachine {
    fn begin(&self, since: Option<&str>) -> Result<Box<dyn DiskSession + '_>> {
        Ok(Box::new(session::Session::begin(self, since)?))
    }
}

impl LiveMemory for LibvirtMachine {
    fn save(&self, to: &Path, held: &mut dyn FnMut() -> Result<()>) -> Result<SavedMemory> {
        memory::save(self, to, held)
    }

    fn suspended(&self) -> Result<(PathBuf, SavedMemory)> {
        memory::suspended(self)
    }

    fn put(&self, facts: &[Fact], write: &mut dyn FnMut(&Path) -> Result<()>) -> Result<()> {
        memory::put(self, facts, write)
    }

    fn refusal(&self, facts: &[Fact]) -> Result<Option<String>> {
        memory::refusal(self, facts)
    }
}
