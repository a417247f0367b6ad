//! Starts QEMU for a machine, and finds the one that runs.
//!
//! What belongs to a running machine lies in the folder `run` beside its description: `qmp.sock`, the socket; `pid`; `serial.log`, what the guest's
//! console says; `port`, where its SSH server is reached; `memory`, the state of a suspended one. QEMU's working folder is
//! `run`, so sockets have short names there.

use super::config::{Accelerator, DiskConfig, MachineConfig};
use super::qmp::Qmp;
use crate::command::run;
use crate::image::{self, Format, OpenOptions};
use serde_json::json;
use std::fs;
use std::net::{Ipv4Addr, TcpListener};
use std::os::unix::fs::DirBuilderExt as _;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::thread;
use std::time::{Duration, Instant};
use vml_core::{Error, ErrorKind, IoResultExt as _, Result};

/// How long QEMU may take to open the disks and make the machine.
const START_LIMIT: Duration = Duration::from_secs(60);
/// How long a trial of the processor's help may take.
const TRIAL_LIMIT: Duration = Duration::from_secs(3);
/// Ports that are tried; another program may take one before QEMU does.
const PORT_TRIES: usize = 5;

/// The machine's own node of a disk.
pub(super) fn node(disk: &str) -> String {
    // QEMU takes at most 31 letters.
    format!("disk-{}", &blake3::hash(disk.as_bytes()).to_hex()[..16])
}

/// The folder of what belongs to a running machine.
pub(super) fn run_dir(dir: &Path) -> PathBuf {
    dir.join("run")
}

/// Makes it; what the guest has in memory is for its owner only.
pub(super) fn make_run_dir(dir: &Path) -> Result<PathBuf> {
    let path = run_dir(dir);
    fs::DirBuilder::new().recursive(true).mode(0o700).create(&path).at(|| format!("cannot make {}", path.display()))?;
    Ok(path)
}

/// The image of a disk.
pub(super) fn image_path(dir: &Path, disk: &DiskConfig) -> PathBuf {
    dir.join(&disk.file)
}

/// The arguments that describe the machine.
fn arguments(dir: &Path, config: &MachineConfig, accelerator: &str, port: u16, incoming: bool) -> Vec<String> {
    let mut arguments: Vec<String> = Vec::new();
    let mut add = |words: &[&str]| arguments.extend(words.iter().map(ToString::to_string));
    add(&["-nodefaults", "-no-user-config", "-display", "none", "-daemonize", "-pidfile", "pid"]);
    add(&["-machine", &config.machine, "-accel", accelerator, "-m", &config.memory_mib.to_string(), "-smp", &config.cpus.to_string()]);
    if let Some(cpu) = &config.cpu {
        add(&["-cpu", cpu]);
    }
    add(&["-qmp", "unix:qmp.sock,server=on,wait=off", "-serial", "file:serial.log"]);
    for disk in &config.disks {
        let file = json!({ "driver": "file", "filename": image_path(dir, disk) });
        add(&["-blockdev", &json!({ "driver": disk.format, "node-name": node(&disk.name), "file": file }).to_string()]);
        add(&["-device", &format!("virtio-blk-pci,drive={},id=device-{}", node(&disk.name), &node(&disk.name)[5..])]);
    }
    add(&["-netdev", &format!("user,id=net,hostfwd=tcp:127.0.0.1:{port}-:22"), "-device", "virtio-net-pci,netdev=net,id=card"]);
    if let Some(kernel) = &config.kernel {
        add(&["-kernel", &dir.join(&kernel.file).to_string_lossy(), "-append", &kernel.append]);
        if let Some(initrd) = &kernel.initrd {
            add(&["-initrd", &dir.join(initrd).to_string_lossy()]);
        }
    }
    if incoming {
        add(&["-incoming", "defer"]);
    }
    arguments
}

/// Starts QEMU for the machine in `dir`; with `incoming` it waits for a saved memory.
pub(super) fn start(program: &str, dir: &Path, config: &MachineConfig, incoming: bool) -> Result<()> {
    let run_dir = make_run_dir(dir)?;
    for disk in &config.disks {
        let path = image_path(dir, disk);
        // What its image names is followed by QEMU without asking; here it is asked whether it may.
        let options =
            OpenOptions { format: Some(disk.format.parse::<Format>()?), allowed_dirs: config.allow_dir.clone(), ..OpenOptions::default() };
        image::open(&path, &options).map_err(|error| error.context(format!("cannot use the disk {}", disk.name)))?;
    }
    let accelerator = match config.accelerator {
        Accelerator::Kvm => "kvm",
        Accelerator::Tcg => "tcg",
        Accelerator::Auto if helps(program, &run_dir) => "kvm",
        Accelerator::Auto => "tcg",
    };
    let mut words = String::new();
    for _ in 0..PORT_TRIES {
        let port = config.ssh_port.map_or_else(free_port, Ok)?;
        let mut command = Command::new(program);
        command.args(arguments(dir, config, accelerator, port, incoming)).current_dir(&run_dir);
        let ran = run(command, START_LIMIT)?;
        if ran.status.success() {
            return fs::write(run_dir.join("port"), port.to_string()).at(|| format!("cannot write in {}", run_dir.display()));
        }
        words = ran.words();
        if config.ssh_port.is_some() || !words.contains("host forwarding") {
            break;
        }
    }
    let kind = if words.contains("\"write\" lock") { ErrorKind::Locked } else { ErrorKind::Io };
    Err(Error::new(kind, format!("QEMU does not start: {words}")))
}

/// A port that is free now.
fn free_port() -> Result<u16> {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).at(|| "cannot find a free port")?;
    Ok(listener.local_addr().at(|| "cannot find a free port")?.port())
}

/// The port that leads to the guest's SSH server.
pub(super) fn ssh_port(dir: &Path) -> Option<u16> {
    fs::read_to_string(run_dir(dir).join("port")).ok()?.trim().parse().ok()
}

/// Connects to the machine's QEMU; none when it does not run.
pub(super) fn connect(dir: &Path, limit: Duration) -> Result<Option<Qmp>> {
    match Qmp::connect(&run_dir(dir).join("qmp.sock"), limit) {
        Ok(qmp) => Ok(Some(qmp)),
        Err(error) if error.kind() == ErrorKind::NotFound => Ok(None),
        Err(error) => Err(error),
    }
}

/// Whether the processor runs guests here: its device may be there and still start none, so a trial decides. A boot sector of a few
/// bytes tells QEMU to end with a code of its own.
fn helps(program: &str, dir: &Path) -> bool {
    if fs::OpenOptions::new().read(true).write(true).open("/dev/kvm").is_err() {
        return false;
    }
    let trial = || -> Result<bool> {
        let path = dir.join("trial.raw");
        let mut sector = vec![0; 512];
        // mov dx, 0xf4; mov al, 0x10; out dx, al; hlt
        sector[..7].copy_from_slice(&[0xBA, 0xF4, 0x00, 0xB0, 0x10, 0xEE, 0xF4]);
        sector[510..].copy_from_slice(&[0x55, 0xAA]);
        fs::write(&path, sector).at(|| "cannot write a boot sector")?;
        let mut command = Command::new(program);
        command.args([
            "-nodefaults",
            "-no-user-config",
            "-display",
            "none",
            "-accel",
            "kvm",
            "-m",
            "16",
            "-device",
            "isa-debug-exit,iobase=0xf4",
        ]);
        command.args(["-drive", "file=trial.raw,format=raw,if=ide"]).current_dir(dir);
        let ran = run(command, TRIAL_LIMIT);
        _ = fs::remove_file(&path);
        Ok(ran?.status.code() == Some(0x21))
    };
    trial().unwrap_or(false)
}

/// Waits until the process that `pid` names has ended.
pub(super) fn wait_gone(dir: &Path, limit: Duration) -> Result<()> {
    let deadline = Instant::now() + limit;
    let Some(pid) = pid(dir) else { return Ok(()) };
    while is_qemu(pid) {
        if Instant::now() >= deadline {
            return Err(Error::new(ErrorKind::Interrupted, format!("QEMU (process {pid}) has not ended after {} s", limit.as_secs())));
        }
        thread::sleep(Duration::from_millis(10));
    }
    Ok(())
}

/// The process that runs the machine, if there is one.
pub(super) fn pid(dir: &Path) -> Option<u32> {
    fs::read_to_string(run_dir(dir).join("pid")).ok()?.trim().parse().ok()
}

/// Whether the process is there and is QEMU: its number may be another's by now.
pub(super) fn is_qemu(pid: u32) -> bool {
    fs::read(format!("/proc/{pid}/cmdline")).is_ok_and(|line| line.windows(4).any(|part| part == b"qemu"))
}
