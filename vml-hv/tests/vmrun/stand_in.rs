//! Takes the place of VMware's `vmrun` in tests, and drives QEMU: `vmrun-stand-in GUEST DIR -T ws COMMAND [VMX] [ARGUMENTS]`.
//!
//! GUEST is a folder of `testdata/make-guest`; DIR is where the one machine lies that it knows. It does with files what VMware does:
//! snapshots freeze images and write to new ones that stand on them, suspended machines are named in the `.vmx`, and a snapshot's memory in the
//! `.vmsd`. QEMU saves no memory while it has a vmdk image open, so it is given the bytes of a flat one, and what stands on it is a qcow2 beside
//! the `.vmdk` that is named. What it cannot show is what VMware itself would do where the two differ.
#![allow(clippy::unwrap_used, missing_docs)]

use serde_json::{Value, json};
use std::path::{Path, PathBuf};
use std::process::{Command, exit};
use std::time::{Duration, Instant};
use std::{fs, thread};
use vml_hv::qemu::Qmp;
use vml_hv::vmware::Vmx;

const LIMIT: Duration = Duration::from_secs(30);
const STATE: &str = "checkpoint.vmState";
const DISK: &str = "scsi0:0.fileName";
const UPPER: &str = "system-000001.qcow2";

struct Vm {
    guest: PathBuf,
    dir: PathBuf,
    vmx: PathBuf,
}

fn main() {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let [guest, dir, flag, host, command, rest @ ..] = &arguments[..] else { fail("usage: vmrun-stand-in GUEST DIR -T ws COMMAND") };
    if flag != "-T" || host != "ws" {
        fail("only -T ws is known");
    }
    let vmx = rest.first().map_or_else(|| Path::new(dir).join("system.vmx"), PathBuf::from);
    let vm = Vm { guest: guest.into(), dir: dir.into(), vmx };
    if !vm.vmx.exists() {
        fail(&format!("Cannot open VM: {}", vm.vmx.display()));
    }
    let words: Vec<&str> = rest.iter().skip(1).map(String::as_str).collect();
    match (command.as_str(), &words[..]) {
        ("list", _) => {
            let running = vm.qmp().is_some();
            println!("Total running VMs: {}", u8::from(running));
            if running {
                println!("{}", vm.vmx.display());
            }
        }
        ("start", ["nogui"]) => vm.start(),
        ("stop", ["hard"]) => vm.quit(vm.running()),
        ("stop", ["soft"]) => _ = vm.running().run("system_powerdown", &json!({})).unwrap(),
        ("suspend", ["hard"]) => {
            let mut qmp = vm.running();
            vm.write_memory(&mut qmp, "system.vmss");
            vm.set(STATE, "system.vmss");
            vm.quit(qmp);
        }
        ("listSnapshots", []) => {
            let names: Vec<String> = vm.snapshot().into_iter().collect();
            println!("Total snapshots: {}", names.len());
            names.iter().for_each(|name| println!("{name}"));
        }
        ("snapshot", [name]) => vm.make_snapshot(name),
        ("deleteSnapshot", [name]) => vm.delete_snapshot(name),
        ("getGuestIPAddress", []) => fail("The VMware Tools are not running in the virtual machine"),
        _ => fail(&format!("Unrecognized command: {command}")),
    }
}

fn fail(message: &str) -> ! {
    println!("Error: {message}");
    exit(255)
}

impl Vm {
    fn get(&self, key: &str) -> String {
        Vmx::parse(&fs::read(&self.vmx).unwrap()).unwrap().get(key).unwrap_or_default().to_owned()
    }

    fn set(&self, key: &str, value: &str) {
        let mut vmx = Vmx::parse(&fs::read(&self.vmx).unwrap()).unwrap();
        vmx.set(key, value).unwrap();
        fs::write(&self.vmx, vmx.to_bytes()).unwrap();
    }

    fn qmp(&self) -> Option<Qmp> {
        Qmp::connect(&self.dir.join("qmp.sock"), LIMIT).ok()
    }

    fn running(&self) -> Qmp {
        self.qmp().unwrap_or_else(|| fail("The virtual machine is not powered on"))
    }

    fn quit(&self, mut qmp: Qmp) {
        _ = qmp.run("quit", &json!({}));
        _ = qmp.wait_end(LIMIT);
        let pid = fs::read_to_string(self.dir.join("pid")).unwrap_or_default();
        let process = PathBuf::from(format!("/proc/{}", pid.trim()));
        until(|| pid.trim().is_empty() || !process.exists());
    }

    fn start(&self) {
        if self.qmp().is_some() {
            fail("The virtual machine is already powered on");
        }
        let state = self.get(STATE);
        let mut qemu = Command::new("qemu-system-x86_64");
        qemu.args([
            "-nodefaults",
            "-no-user-config",
            "-display",
            "none",
            "-daemonize",
            "-pidfile",
            "pid",
            "-machine",
            "q35",
            "-accel",
            "tcg",
        ]);
        qemu.args(["-m", &self.get("memsize"), "-qmp", "unix:qmp.sock,server=on,wait=off", "-serial", "file:serial.log"]);
        let (flat, upper) = (self.dir.join("system-flat.vmdk"), self.dir.join(UPPER));
        let (driver, file) = if upper.exists() { ("qcow2", upper) } else { ("raw", flat) };
        let disk = json!({ "driver": driver, "node-name": "disk", "file": { "driver": "file", "filename": file } });
        qemu.args(["-blockdev", &disk.to_string(), "-device", "virtio-blk-pci,drive=disk,id=device"]);
        let net = format!("user,id=net,hostfwd=tcp:127.0.0.1:{}-:22", self.get("standIn.port"));
        qemu.args(["-netdev", &net, "-device", "virtio-net-pci,netdev=net"]);
        qemu.arg("-kernel").arg(self.guest.join("vmlinuz")).arg("-initrd").arg(self.guest.join("initrd"));
        qemu.args(["-append", "root=/dev/vda rw console=ttyS0 net.ifnames=0 panic=-1 quiet"]);
        if !state.is_empty() {
            qemu.args(["-incoming", "defer"]);
        }
        let output = qemu.current_dir(&self.dir).output().unwrap();
        if !output.status.success() {
            fail(&String::from_utf8_lossy(&output.stderr));
        }
        if !state.is_empty() {
            let mut qmp = self.running();
            mapped(&mut qmp);
            qmp.run("migrate-incoming", &json!({ "channels": channels(&self.dir.join(&state)) })).unwrap();
            migrated(&mut qmp);
            qmp.run("cont", &json!({})).unwrap();
            self.set(STATE, "");
            fs::remove_file(self.dir.join(state)).unwrap();
        }
    }

    fn write_memory(&self, qmp: &mut Qmp, name: &str) {
        qmp.run("stop", &json!({})).unwrap();
        mapped(qmp);
        fs::File::create(self.dir.join(name)).unwrap();
        qmp.run("migrate", &json!({ "channels": channels(&self.dir.join(name)) })).unwrap();
        migrated(qmp);
    }

    fn snapshot(&self) -> Option<String> {
        let text = fs::read(self.dir.join("system.vmsd")).ok()?;
        Vmx::parse(&text).unwrap().get("snapshot0.displayName").map(str::to_owned)
    }

    fn make_snapshot(&self, name: &str) {
        let mut qmp = self.running();
        self.write_memory(&mut qmp, "system-Snapshot1.vmsn");
        qmp.run("blockdev-set-active", &json!({ "active": true })).unwrap();
        let file = self.dir.join(UPPER);
        let snapshot = json!({ "node-name": "disk", "snapshot-file": file, "snapshot-node-name": "upper", "format": "qcow2" });
        qmp.run("blockdev-snapshot-sync", &snapshot).unwrap();
        let list =
            format!("snapshot0.filename = \"system-Snapshot1.vmsn\"\nsnapshot0.displayName = \"{name}\"\nlower = \"{}\"\n", self.get(DISK));
        fs::write(self.dir.join("system.vmsd"), list).unwrap();
        fs::write(self.dir.join("system-000001.vmdk"), "# Disk DescriptorFile\n").unwrap();
        self.set(DISK, "system-000001.vmdk");
        qmp.run("cont", &json!({})).unwrap();
    }

    fn delete_snapshot(&self, name: &str) {
        if self.snapshot().as_deref() != Some(name) {
            fail("The snapshot does not exist: not found");
        }
        let list = Vmx::parse(&fs::read(self.dir.join("system.vmsd")).unwrap()).unwrap();
        let upper = self.dir.join(UPPER);
        if let Some(mut qmp) = self.qmp() {
            qmp.run("block-commit", &json!({ "job-id": "merge", "device": "upper", "base-node": "disk" })).unwrap();
            until(|| job(&mut qmp).is_none_or(|job| job["ready"] == true));
            qmp.run("block-job-complete", &json!({ "device": "merge" })).unwrap();
            until(|| job(&mut qmp).is_none());
        } else {
            let output = Command::new("qemu-img").args(["commit", "-q", "-f", "qcow2"]).arg(&upper).output().unwrap();
            if !output.status.success() {
                fail(&String::from_utf8_lossy(&output.stderr));
            }
        }
        self.set(DISK, list.get("lower").unwrap());
        for file in [upper, self.dir.join("system-000001.vmdk"), self.dir.join("system-Snapshot1.vmsn"), self.dir.join("system.vmsd")] {
            fs::remove_file(file).unwrap();
        }
    }
}

fn job(qmp: &mut Qmp) -> Option<Value> {
    qmp.run("query-block-jobs", &json!({})).unwrap().as_array().unwrap().first().cloned()
}

fn until(mut done: impl FnMut() -> bool) {
    let deadline = Instant::now() + LIMIT * 4;
    while !done() {
        assert!(Instant::now() < deadline, "QEMU does not come to an end");
        thread::sleep(Duration::from_millis(20));
    }
}

fn channels(path: &Path) -> Value {
    json!([{ "channel-type": "main", "addr": { "transport": "file", "filename": path, "offset": 0 } }])
}

fn mapped(qmp: &mut Qmp) {
    qmp.run("migrate-set-capabilities", &json!({ "capabilities": [{ "capability": "mapped-ram", "state": true }] })).unwrap();
    qmp.run("migrate-set-parameters", &json!({ "max-bandwidth": 1_u64 << 40 })).unwrap();
}

fn migrated(qmp: &mut Qmp) {
    until(|| {
        let answer = qmp.run("query-migrate", &json!({})).unwrap();
        assert_ne!(answer["status"], "failed", "{answer}");
        answer["status"] == "completed"
    });
}
