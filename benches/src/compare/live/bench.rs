//! A host with machines under QEMU.

use crate::compare::tools::Vml;
use anyhow::{Context as _, Result, bail};
use serde_json::Value;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};
use vml_testkit::guest::APPEND;

/// How long a guest may take until it answers.
const BOOT_LIMIT: Duration = Duration::from_secs(180);

/// Its home, repository and machines in a folder that vanishes with it.
pub struct Bench<'a> {
    vml: &'a Vml,
    guest: &'a Path,
    data: &'a Path,
    dir: tempfile::TempDir,
}

impl<'a> Bench<'a> {
    /// A host with a repository that has the guest's disk as the base `guest@1`.
    pub fn new(vml: &'a Vml, guest: &'a Path, data: &'a Path, work: &Path) -> Result<Self> {
        let dir = tempfile::Builder::new().prefix("live-").tempdir_in(work).context("cannot make a folder")?;
        let bench = Self { vml, guest, data, dir };
        bench.run(&["init"])?;
        bench.run(&["base", "add", "guest@1", "--disk", &format!("system={}", guest.join("disk.raw").display())])?;
        Ok(bench)
    }

    /// The folder of an area's machine.
    pub fn machine(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    /// An area with a machine: an overlay on the guest's disk, and one on the further disk.
    pub fn add(&self, name: &str) -> Result<()> {
        let dir = self.machine(name);
        fs::create_dir_all(&dir)?;
        for (disk, below) in [("system", &self.guest.join("disk.raw")), ("data", &self.data.to_path_buf())] {
            let mut create = Command::new("qemu-img");
            create.args(["create", "-q", "-f", "qcow2", "-F", "raw", "-b"]).arg(below).arg(dir.join(format!("{disk}.qcow2")));
            if !create.status().context("cannot start qemu-img")?.success() {
                bail!("qemu-img makes no overlay on {}", below.display());
            }
        }
        let guest = self.guest.display();
        let data = self.data.parent().unwrap_or(self.data).display();
        let text = format!(
            "memory_mib = 512\naccelerator = \"tcg\"\nallow_dir = [\"{guest}\", \"{data}\"]\n\n\
             [kernel]\nfile = \"{guest}/vmlinuz\"\ninitrd = \"{guest}/initrd\"\nappend = \"{APPEND}\"\n\n\
             [[disk]]\nname = \"system\"\nfile = \"system.qcow2\"\nformat = \"qcow2\"\n\n\
             [[disk]]\nname = \"data\"\nfile = \"data.qcow2\"\nformat = \"qcow2\"\n"
        );
        fs::write(dir.join("machine.toml"), text)?;
        let (key, hosts) = (self.guest.join("key"), self.guest.join("known_hosts"));
        let login =
            ["--ssh", "root@guest", "--identity", &key.to_string_lossy(), "--known-hosts", &hosts.to_string_lossy()].map(str::to_owned);
        let mut add = vec!["area", "add", name, "--qemu"];
        let dir = dir.to_string_lossy();
        add.extend([&*dir, "--base", "guest@1"]);
        add.extend(login.iter().map(String::as_str));
        self.run(&add).map(drop)
    }

    /// Seconds that a tar of the directories takes that are saved over SSH, to nowhere.
    pub fn tar(&self, name: &str) -> Result<f64> {
        let started = Instant::now();
        // Not everything can be read while it changes.
        self.ssh(
            name,
            "cd / && tar --create --file=- --xattrs --acls --numeric-owner home root etc usr/local opt srv var 2>/dev/null; true",
        )?;
        Ok(started.elapsed().as_secs_f64())
    }

    pub fn start(&self, name: &str) -> Result<()> {
        self.run(&["area", "start", name]).map(drop)
    }

    pub fn suspend(&self, name: &str) -> Result<()> {
        self.run(&["area", "suspend", name]).map(drop)
    }

    pub fn stop(&self, names: &[&str]) -> Result<()> {
        names.iter().try_for_each(|name| self.run(&["area", "stop", name, "--now"]).map(drop))
    }

    pub fn save(&self, name: &str, mode: &str) -> Result<Value> {
        self.run(&["save", name, "-m", mode, "--mode", mode])
    }

    pub fn switch(&self, name: &str) -> Result<Value> {
        self.run(&["switch", name, "--no-save"])
    }

    /// Runs a command in the guest, once it answers.
    pub fn in_guest(&self, name: &str, command: &str) -> Result<()> {
        let deadline = Instant::now() + BOOT_LIMIT;
        while !self.ssh(name, "true")? {
            if Instant::now() >= deadline {
                bail!("the guest of {name} does not answer");
            }
            std::thread::sleep(Duration::from_millis(300));
        }
        if self.ssh(name, command)? { Ok(()) } else { bail!("the guest of {name} does not do {command:?}") }
    }

    /// Whether a command in the guest succeeds; what it prints crosses the wire and goes nowhere.
    fn ssh(&self, name: &str, command: &str) -> Result<bool> {
        let status = self.run(&["area", "status", name])?;
        let port = status["address"]["ssh_port"].as_u64().context("the machine has no address")?;
        let mut ssh = Command::new("ssh");
        ssh.args(["-F", "none", "-i"]).arg(self.guest.join("key")).args(["-p", &port.to_string()]);
        ssh.arg("-o").arg(format!("UserKnownHostsFile={}", self.guest.join("known_hosts").display()));
        for option in ["HostKeyAlias=guest", "BatchMode=yes", "IdentitiesOnly=yes", "ConnectTimeout=5", "LogLevel=ERROR"] {
            ssh.args(["-o", option]);
        }
        let status = ssh.arg("root@127.0.0.1").arg(command).stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null()).status();
        Ok(status.context("cannot start ssh")?.success())
    }

    /// Runs `vml --json`; the object that it prints.
    fn run(&self, args: &[&str]) -> Result<Value> {
        let mut command = self.vml.command(self.dir.path());
        command.args(args).arg("--json").stdin(Stdio::null());
        let output = command.output().context("cannot start vml")?;
        if !output.status.success() {
            bail!("vml {} failed: {}", args.join(" "), String::from_utf8_lossy(&output.stderr).trim());
        }
        serde_json::from_slice(&output.stdout).with_context(|| format!("vml {} printed what is no JSON", args.join(" ")))
    }
}

impl Drop for Bench<'_> {
    /// No machine outlives a run that failed.
    fn drop(&mut self) {
        for name in ["one", "two"] {
            if self.machine(name).exists() {
                _ = self.run(&["area", "stop", name, "--now"]);
            }
        }
    }
}
