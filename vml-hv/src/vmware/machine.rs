//! A machine that VMware runs.

use super::vmrun::Vmrun;
use super::{files, memory, session};
use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Mutex;
use std::thread;
use std::time::{Duration, Instant};
use vml_core::entry::Fact;
use vml_core::machine::{
    Capabilities, Description, DiskSession, GuestAddress, LiveDisks, LiveMemory, Machine, MachineState, SavedMemory, Stop,
};
use vml_core::{Error, ErrorKind, IoResultExt as _, Result};

/// What the adapter can do.
pub const CAPABILITIES: Capabilities = Capabilities {
    adapter: "vmware",
    drives: "VMware Workstation and Fusion, through vmrun",
    live_disks: true,
    changed_ranges: false,
    memory: true,
    suspend: true,
    quiesce: false,
    address: true,
};

/// How a machine is driven.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct VmwareOptions {
    /// The program `vmrun`: a name or a path.
    pub program: String,
    /// Whose machines: `ws` for Workstation, `fusion` for Fusion.
    pub host: String,
    /// Where the guest is reached; without it VMware's tools in the guest are asked.
    pub address: Option<GuestAddress>,
    /// The port of its SSH server, where VMware tells the host.
    pub ssh_port: u16,
    /// Where images may lie, besides the machine's folder.
    pub allowed_dirs: Vec<PathBuf>,
    /// How long VMware may take to answer.
    pub answer_limit: Duration,
    /// How long writing or reading memory, and merging a snapshot may take.
    pub memory_limit: Duration,
}

impl Default for VmwareOptions {
    fn default() -> Self {
        Self {
            program: "vmrun".to_owned(),
            host: if cfg!(target_os = "macos") { "fusion" } else { "ws" }.to_owned(),
            address: None,
            ssh_port: 22,
            allowed_dirs: Vec::new(),
            answer_limit: Duration::from_secs(60),
            memory_limit: Duration::from_secs(900),
        }
    }
}

/// A machine, by its description.
#[derive(Debug)]
pub struct VmwareMachine {
    pub(super) vmx: PathBuf,
    pub(super) dir: PathBuf,
    pub(super) options: VmwareOptions,
    pub(super) vmrun: Vmrun,
    /// The disks as they were at the snapshot that a save of memory has made, for the session that begins meanwhile.
    pub(super) moment: Mutex<Option<Vec<vml_core::machine::MachineDisk>>>,
}

impl VmwareMachine {
    /// The machine that the file `vmx` describes.
    ///
    /// # Errors
    /// `InvalidInput` for what describes none, and what the file system says.
    pub fn open(vmx: &Path, options: VmwareOptions) -> Result<Self> {
        let vmx = fs::canonicalize(vmx).at(|| format!("cannot find {}", vmx.display()))?;
        files::read(&vmx)?;
        let dir = vmx.parent().map(Path::to_owned).unwrap_or_default();
        let vmrun = Vmrun { program: options.program.clone(), host: options.host.clone() };
        Ok(Self { vmx, dir, options, vmrun, moment: Mutex::new(None) })
    }

    pub(super) fn run(&self, command: &str, arguments: &[&str], limit: Duration) -> Result<String> {
        self.vmrun.run(command, Some(&self.vmx), arguments, limit)
    }

    fn is_running(&self) -> Result<bool> {
        let same = |path: &PathBuf| *path == self.vmx || fs::canonicalize(path).is_ok_and(|path| path == self.vmx);
        Ok(self.vmrun.running(self.options.answer_limit)?.iter().any(same))
    }

    fn wait_off(&self, limit: Duration) -> Result<()> {
        let deadline = Instant::now() + limit;
        while self.is_running()? {
            if Instant::now() >= deadline {
                let message = format!("the guest has not shut down after {} s; it runs on, and can be stopped at once", limit.as_secs());
                return Err(Error::new(ErrorKind::Interrupted, message));
            }
            thread::sleep(Duration::from_millis(200));
        }
        Ok(())
    }
}

impl Machine for VmwareMachine {
    fn capabilities(&self) -> Capabilities {
        CAPABILITIES
    }

    fn describe(&self) -> Result<Description> {
        let vmx = files::read(&self.vmx)?;
        let disks = files::disks(&self.dir, &vmx)?;
        let memory_mib = vmx.get("memsize").and_then(|text| text.parse::<u64>().ok());
        let memory_bytes = memory_mib.and_then(|mib| mib.checked_mul(1 << 20));
        let mut facts = vec![Fact::new("machine.adapter", CAPABILITIES.adapter)];
        facts.extend(vmx.get("virtualHW.version").map(|version| Fact::new("machine.type", version)));
        facts.extend(vmx.get("guestOS").map(|system| Fact::new("machine.guest", system)));
        let name = self.vmx.file_name().unwrap_or_default().to_string_lossy().into_owned();
        Ok(Description {
            file_name: if name.is_empty() { "machine.vmx".to_owned() } else { name },
            bytes: vmx.to_bytes(),
            disks,
            allowed_dirs: self.options.allowed_dirs.clone(),
            memory_bytes: memory_bytes
                .ok_or_else(|| Error::invalid(format!("{} does not say how much memory the machine has", self.vmx.display())))?,
            facts,
        })
    }

    fn state(&self) -> Result<MachineState> {
        if self.is_running()? {
            return Ok(MachineState::Running);
        }
        Ok(if memory::file(self)?.is_some() { MachineState::Suspended } else { MachineState::Off })
    }

    fn start(&self) -> Result<()> {
        self.state()?.check_start()?;
        self.run("start", &["nogui"], self.options.answer_limit).map(|_| ())
    }

    fn stop(&self, how: Stop) -> Result<()> {
        match (self.state()?, how) {
            (MachineState::Off, _) => Ok(()),
            (MachineState::Suspended, _) => memory::give_up(self),
            (_, Stop::Shutdown(limit)) => {
                // The program itself waits for the guest, too.
                match self.run("stop", &["soft"], limit.max(Duration::from_secs(1))) {
                    Err(error) if error.kind() != ErrorKind::Interrupted => return Err(error),
                    _ => {}
                }
                self.wait_off(limit)
            }
            (_, Stop::Kill) => {
                self.run("stop", &["hard"], self.options.answer_limit)?;
                self.wait_off(self.options.answer_limit)
            }
        }
    }

    fn suspend(&self) -> Result<()> {
        match self.state()? {
            // Without the help of the guest, which a soft suspend waits for.
            MachineState::Running => self.run("suspend", &["hard"], self.options.memory_limit).map(|_| ()),
            state => Err(Error::invalid(format!("the machine is {}: only one that runs is suspended", state.name()))),
        }
    }

    fn resume(&self) -> Result<()> {
        match self.state()? {
            MachineState::Suspended => self.run("start", &["nogui"], self.options.memory_limit).map(|_| ()),
            state => Err(Error::invalid(format!("the machine is {}: there is nothing to resume", state.name()))),
        }
    }

    fn address(&self) -> Result<Option<GuestAddress>> {
        if !self.is_running()? {
            return Ok(None);
        }
        if let Some(address) = &self.options.address {
            return Ok(Some(address.clone()));
        }
        // Without VMware's tools in the guest nobody knows.
        let said = self.run("getGuestIPAddress", &[], self.options.answer_limit).unwrap_or_default();
        let host = said.trim().parse::<std::net::IpAddr>().ok().filter(|address| !address.is_unspecified());
        Ok(host.map(|host| GuestAddress { host: host.to_string(), ssh_port: self.options.ssh_port }))
    }

    fn clean(&self) -> Result<Vec<String>> {
        session::clean(self)
    }

    fn live_disks(&self) -> Option<&dyn LiveDisks> {
        Some(self)
    }

    fn live_memory(&self) -> Option<&dyn LiveMemory> {
        Some(self)
    }
}

impl LiveDisks for VmwareMachine {
    fn begin(&self, _since: Option<&str>) -> Result<Box<dyn DiskSession + '_>> {
        Ok(Box::new(session::Session::begin(self)?))
    }
}

impl LiveMemory for VmwareMachine {
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
