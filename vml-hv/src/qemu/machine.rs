//! A machine that VML runs with QEMU.

use super::config::{CONFIG_FILE, MachineConfig};
use super::process::{self, connect, image_path, run_dir};
use super::qmp::Qmp;
use super::{memory, session};
use serde_json::{Value, json};
use std::fs;
use std::path::{Path, PathBuf};
use std::time::Duration;
use vml_core::entry::Fact;
use vml_core::machine::{
    Capabilities, Description, DiskSession, GuestAddress, LiveDisks, LiveMemory, Machine, MachineDisk, MachineState, SavedMemory, Stop,
    unfit,
};
use vml_core::{Error, ErrorKind, IoResultExt as _, Result};

/// What the adapter can do.
pub const CAPABILITIES: Capabilities = Capabilities {
    adapter: "qemu",
    drives: "QEMU processes that VML starts",
    live_disks: true,
    changed_ranges: true,
    memory: true,
    suspend: true,
    quiesce: false,
    address: true,
};

/// How a machine is driven.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct QemuOptions {
    /// The emulator: a name or a path.
    pub program: String,
    /// How long QEMU may take to answer a command.
    pub answer_limit: Duration,
    /// How long writing or reading memory may take.
    pub memory_limit: Duration,
}

impl Default for QemuOptions {
    fn default() -> Self {
        Self {
            program: format!("qemu-system-{}", std::env::consts::ARCH),
            answer_limit: Duration::from_secs(30),
            memory_limit: Duration::from_secs(600),
        }
    }
}

/// A machine, by its folder.
#[derive(Debug)]
pub struct QemuMachine {
    pub(super) dir: PathBuf,
    pub(super) config: MachineConfig,
    pub(super) options: QemuOptions,
}

impl QemuMachine {
    /// The machine whose `machine.toml` is in `dir`, an absolute path.
    ///
    /// # Errors
    /// As [`MachineConfig::read`].
    pub fn open(dir: &Path, options: QemuOptions) -> Result<Self> {
        let dir = fs::canonicalize(dir).at(|| format!("cannot find the machine's folder {}", dir.display()))?;
        let config = MachineConfig::read(&dir)?;
        Ok(Self { dir, config, options })
    }

    /// What it is.
    pub fn config(&self) -> &MachineConfig {
        &self.config
    }

    pub(super) fn connect(&self) -> Result<Option<Qmp>> {
        connect(&self.dir, self.options.answer_limit)
    }

    pub(super) fn connected(&self) -> Result<Qmp> {
        self.connect()?.ok_or_else(|| Error::invalid("the machine is not running"))
    }

    /// The state of a suspended machine.
    pub(super) fn memory_path(&self) -> PathBuf {
        run_dir(&self.dir).join("memory")
    }

    /// Is there while the machine is held to write its memory; whoever finds it later lets the machine go on.
    pub(super) fn held_path(&self) -> PathBuf {
        run_dir(&self.dir).join("held")
    }
}

/// Says on disk that the machine is held, for as long as it lives.
struct Held(PathBuf);

impl Held {
    fn begin(machine: &QemuMachine) -> Result<Self> {
        let path = machine.held_path();
        fs::write(&path, "").at(|| format!("cannot write {}", path.display()))?;
        Ok(Self(path))
    }
}

impl Drop for Held {
    fn drop(&mut self) {
        _ = fs::remove_file(&self.0);
    }
}

/// What QEMU says that the machine does.
pub(super) fn status(qmp: &mut Qmp) -> Result<String> {
    Ok(qmp.run("query-status", &json!({}))?["status"].as_str().unwrap_or_default().to_owned())
}

impl Machine for QemuMachine {
    fn capabilities(&self) -> Capabilities {
        CAPABILITIES
    }

    fn describe(&self) -> Result<Description> {
        let saved = self.config.with_hashes(&self.dir)?;
        let disk = |disk: &super::DiskConfig| MachineDisk {
            name: disk.name.clone(),
            file: image_path(&self.dir, disk),
            format: disk.format.clone(),
        };
        Ok(Description {
            file_name: CONFIG_FILE.to_owned(),
            bytes: saved.to_text()?.into_bytes(),
            disks: self.config.disks.iter().map(disk).collect(),
            allowed_dirs: self.config.allow_dir.clone(),
            memory_bytes: self.config.memory_mib << 20,
            facts: vec![Fact::new("machine.adapter", CAPABILITIES.adapter), Fact::new("machine.type", &self.config.machine)],
        })
    }

    fn state(&self) -> Result<MachineState> {
        let Some(mut qmp) = self.connect()? else {
            return Ok(if self.memory_path().exists() { MachineState::Suspended } else { MachineState::Off });
        };
        Ok(match status(&mut qmp)?.as_str() {
            "running" => MachineState::Running,
            "shutdown" => MachineState::Off,
            _ => MachineState::Paused,
        })
    }

    fn start(&self) -> Result<()> {
        self.state()?.check_start()?;
        process::start(&self.options.program, &self.dir, &self.config, false)
    }

    fn stop(&self, how: Stop) -> Result<()> {
        let Some(mut qmp) = self.connect()? else {
            // The memory of a suspended machine is given up.
            return self.forget_memory();
        };
        match how {
            Stop::Shutdown(limit) => {
                if status(&mut qmp)? != "running" {
                    return Err(Error::invalid("a machine that is held cannot shut down: resume it first"));
                }
                qmp.run("system_powerdown", &json!({}))?;
                qmp.wait_end(limit).map_err(|error| {
                    let message =
                        format!("the guest has not shut down after {} s; it runs on, and can be stopped at once", limit.as_secs());
                    Error::new(ErrorKind::Interrupted, message).because(error)
                })?;
            }
            Stop::Kill => {
                // It may end before it answers.
                _ = qmp.run("quit", &json!({}));
                qmp.wait_end(self.options.answer_limit)?;
            }
        }
        process::wait_gone(&self.dir, self.options.answer_limit)
    }

    fn suspend(&self) -> Result<()> {
        let mut qmp = self.connected()?;
        let path = self.memory_path();
        let part = path.with_extension("part");
        let _held = Held::begin(self)?;
        memory::write(&mut qmp, &part, self.options.memory_limit)?;
        let ended = self
            .memory_facts(&mut qmp)
            .and_then(|facts| memory::write_facts(&path, &facts))
            .and_then(|()| fs::rename(&part, &path).at(|| format!("cannot write {}", path.display())));
        if let Err(error) = ended {
            _ = fs::remove_file(part);
            memory::go_on(&mut qmp)?;
            return Err(error);
        }
        _ = qmp.run("quit", &json!({}));
        qmp.wait_end(self.options.answer_limit)?;
        process::wait_gone(&self.dir, self.options.answer_limit)
    }

    fn resume(&self) -> Result<()> {
        match self.state()? {
            MachineState::Paused => self.go_on(),
            MachineState::Suspended => self.resume_suspended(),
            state => Err(Error::invalid(format!("the machine is {}: there is nothing to resume", state.name()))),
        }
    }

    fn address(&self) -> Result<Option<GuestAddress>> {
        if self.connect()?.is_none() {
            return Ok(None);
        }
        Ok(process::ssh_port(&self.dir).map(|ssh_port| GuestAddress { host: "127.0.0.1".to_owned(), ssh_port }))
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

impl LiveDisks for QemuMachine {
    fn begin(&self, since: Option<&str>) -> Result<Box<dyn DiskSession + '_>> {
        Ok(Box::new(session::Session::begin(self, since)?))
    }
}

impl LiveMemory for QemuMachine {
    fn save(&self, to: &Path, held: &mut dyn FnMut() -> Result<()>) -> Result<SavedMemory> {
        let (facts, was_running, _held) = {
            let mut qmp = self.connected()?;
            let was_running = status(&mut qmp)? == "running";
            let mark = was_running.then(|| Held::begin(self)).transpose()?;
            memory::write(&mut qmp, to, self.options.memory_limit)?;
            // The disks are let go by writing the memory.
            let facts = memory::activate(&mut qmp).and_then(|()| self.memory_facts(&mut qmp));
            let facts = facts.inspect_err(|_| _ = if was_running { memory::go_on(&mut qmp) } else { Ok(()) })?;
            // The connection ends here: a session makes its own.
            (facts, was_running, mark)
        };
        let result = held();
        if was_running {
            self.go_on()?;
        }
        result.map(|()| SavedMemory { format: memory::FORMAT.to_owned(), facts })
    }

    fn suspended(&self) -> Result<(PathBuf, SavedMemory)> {
        if self.state()? != MachineState::Suspended {
            return Err(Error::invalid("the machine is not suspended"));
        }
        let path = self.memory_path();
        let facts = memory::read_facts(&path)?;
        Ok((path, SavedMemory { format: memory::FORMAT.to_owned(), facts }))
    }

    fn put(&self, facts: &[Fact], write: &mut dyn FnMut(&Path) -> Result<()>) -> Result<()> {
        self.check_put(self.state()?, facts)?;
        let path = self.memory_path();
        process::make_run_dir(&self.dir)?;
        let part = path.with_extension("part");
        write(&part).inspect_err(|_| _ = fs::remove_file(&part))?;
        memory::write_facts(&path, facts)?;
        fs::rename(&part, &path).at(|| format!("cannot write {}", path.display()))
    }

    fn refusal(&self, facts: &[Fact]) -> Result<Option<String>> {
        memory::refusal(&self.options.program, facts)
    }
}

impl QemuMachine {
    /// Lets a machine that is held go on. A memory that it was resumed from fits its disks no more.
    pub(super) fn go_on(&self) -> Result<()> {
        let mut qmp = self.connected()?;
        self.forget_memory()?;
        memory::go_on(&mut qmp)
    }

    fn forget_memory(&self) -> Result<()> {
        match fs::remove_file(self.memory_path()) {
            Err(error) if error.kind() != std::io::ErrorKind::NotFound => Err(error).at(|| "cannot give up the suspended machine's memory"),
            _ => Ok(()),
        }
    }

    fn resume_suspended(&self) -> Result<()> {
        let path = self.memory_path();
        let facts = memory::read_facts(&path)?;
        // Asked only when it fails: to ask QEMU takes as long as to start it.
        let explain = |error: Error| match self.refusal(&facts) {
            Ok(Some(reason)) => unfit(&reason).because(error),
            _ => error,
        };
        let mut config = self.config.clone();
        // The same machine as it was then, not what its name means to this QEMU.
        if let Some(machine) = Fact::find(&facts, memory::FACT_MACHINE) {
            machine.clone_into(&mut config.machine);
        }
        process::start(&self.options.program, &self.dir, &config, true).map_err(explain)?;
        let mut qmp = self.connected()?;
        let read = memory::read(&mut qmp, &path, self.options.memory_limit);
        // Once it goes on its disks change, and the memory fits no more.
        let used = path.with_extension("used");
        let result = read.and_then(|()| fs::rename(&path, &used).at(|| format!("cannot rename {}", path.display())));
        if let Err(error) = result {
            _ = qmp.run("quit", &json!({}));
            _ = qmp.wait_end(self.options.answer_limit);
            return Err(explain(error));
        }
        memory::go_on(&mut qmp)?;
        _ = fs::remove_file(used);
        Ok(())
    }

    fn memory_facts(&self, qmp: &mut Qmp) -> Result<Vec<Fact>> {
        let (major, minor, micro) = qmp.version();
        let machine = qmp.run("qom-get", &json!({ "path": "/machine", "property": "type" }))?;
        let machine = machine.as_str().unwrap_or_default().trim_end_matches("-machine").to_owned();
        let cpu = qmp.run("query-cpus-fast", &json!({}))?;
        let cpu = cpu.as_array().and_then(|cpus| cpus.first()).and_then(|cpu| cpu["qom-type"].as_str()).unwrap_or_default().to_owned();
        let devices: Vec<Value> = self.config.disks.iter().map(|disk| json!(disk.name)).collect();
        Ok(vec![
            Fact::new(memory::FACT_QEMU, format!("{major}.{minor}.{micro}")),
            Fact::new(memory::FACT_MACHINE, machine),
            Fact::new(memory::FACT_CPU, cpu),
            Fact::new(memory::FACT_MIB, self.config.memory_mib.to_string()),
            Fact::new(memory::FACT_CPUS, self.config.cpus.to_string()),
            Fact::new(memory::FACT_DISKS, Value::from(devices).to_string()),
        ])
    }
}
