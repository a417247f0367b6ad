//! VMware, with a program in the place of `vmrun` that drives QEMU.

use crate::guest::{SshGuest, folder, ssh, tool};
use crate::suite::{disks_of_one_moment, lives, memory_put_back, memory_with_disks};
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::time::{Duration, Instant};
use vml_core::ErrorKind;
use vml_core::machine::{GuestAddress, Machine, MachineState, Stop};
use vml_hv::image::{self, OpenOptions};
use vml_hv::vmware::{VmwareMachine, VmwareOptions};

/// Writes a program that stands where `vmrun` does.
fn program(dir: &Path, text: &str) -> String {
    let path = dir.join("vmrun");
    // Written by a program that has ended: no other test's child may have it open while it is started.
    tool("sh", &["-c", "printf '%s' \"$1\" > vmrun && chmod 755 vmrun", "-", text], dir);
    assert!(std::fs::metadata(&path).unwrap().permissions().mode() & 0o100 != 0);
    path.to_str().unwrap().to_owned()
}

fn machine(dir: &Path) -> VmwareMachine {
    let guest = folder();
    let raw = guest.join("disk.raw");
    tool("qemu-img", &["convert", "-f", "raw", "-O", "vmdk", "-o", "subformat=monolithicFlat", raw.to_str().unwrap(), "system.vmdk"], dir);
    let port = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
    let vmx = format!(
        ".encoding = \"UTF-8\"\nvirtualHW.version = \"19\"\nmemsize = \"256\"\nscsi0:0.present = \"TRUE\"\nscsi0:0.fileName = \"system.vmdk\"\nstandIn.port = \"{port}\"\n"
    );
    std::fs::write(dir.join("system.vmx"), vmx).unwrap();
    let text = format!("#!/bin/sh\nexec '{}' '{}' '{}' \"$@\"\n", env!("CARGO_BIN_EXE_vmrun-stand-in"), guest.display(), dir.display());
    let address = GuestAddress { host: "127.0.0.1".to_owned(), ssh_port: port };
    let options = VmwareOptions { program: program(dir, &text), host: "ws".to_owned(), address: Some(address), ..VmwareOptions::default() };
    VmwareMachine::open(&dir.join("system.vmx"), options).unwrap()
}

/// Ends the machine also when a test fails.
struct Ends<'m>(&'m VmwareMachine);

impl Drop for Ends<'_> {
    fn drop(&mut self) {
        _ = self.0.stop(Stop::Kill);
    }
}

fn with_machine(test: impl FnOnce(&VmwareMachine, &Path)) {
    let dir = tempfile::tempdir().unwrap();
    let machine = machine(dir.path());
    {
        let _ends = Ends(&machine);
        test(&machine, dir.path());
    }
    // Whatever was done, no snapshot is left.
    for file in ["system-000001.vmdk", "system-000001.qcow2", "system.vmsd"] {
        assert!(!dir.path().join(file).exists(), "{file}");
    }
}

#[test]
#[ignore = "needs VML_GUEST; scripts/test-machines.sh runs it"]
fn vmware_stand_in_lives() {
    with_machine(|machine, _| lives(machine, &SshGuest::reach));
}

#[test]
#[ignore = "needs VML_GUEST; scripts/test-machines.sh runs it"]
fn vmware_stand_in_shows_disks_of_one_moment() {
    with_machine(|machine, _| disks_of_one_moment(machine, &SshGuest::reach));
}

#[test]
#[ignore = "needs VML_GUEST; scripts/test-machines.sh runs it"]
fn vmware_stand_in_saves_memory_with_disks() {
    with_machine(|machine, dir| {
        memory_with_disks(machine, &SshGuest::reach, dir);
        memory_put_back(machine, &SshGuest::reach, dir);
    });
}

#[test]
#[ignore = "needs VML_GUEST; scripts/test-machines.sh runs it"]
fn vmware_stand_in_that_is_killed_in_a_save_leaves_a_snapshot_that_is_cleaned_up() {
    with_machine(|machine, dir| {
        machine.start().unwrap();
        let address = machine.address().unwrap().unwrap();
        ssh(&address, "sync");
        let session = machine.live_disks().unwrap().begin(None).unwrap();
        let pid = std::fs::read_to_string(dir.join("pid")).unwrap();
        tool("kill", &["-KILL", pid.trim()], dir);
        std::thread::sleep(Duration::from_millis(300));
        std::mem::forget(session);
        assert_eq!(machine.state().unwrap(), MachineState::Off);
        assert_eq!(machine.clean().unwrap().len(), 1);
        assert_eq!(machine.clean().unwrap(), [""; 0]);
        machine.start().unwrap();
        ssh(&address, "true");
    });
}

#[test]
fn a_vmrun_that_hangs_fails_or_is_not_there_is_an_error() {
    let dir = tempfile::tempdir().unwrap();
    let vmx = dir.path().join("system.vmx");
    std::fs::write(&vmx, "memsize = \"256\"\n").unwrap();
    let open = |program: String| {
        let options = VmwareOptions { program, answer_limit: Duration::from_millis(300), ..VmwareOptions::default() };
        VmwareMachine::open(&vmx, options).unwrap()
    };
    let began = Instant::now();
    let hanging = open(program(dir.path(), "#!/bin/sh\nexec sleep 60\n"));
    assert_eq!(hanging.state().unwrap_err().kind(), ErrorKind::Interrupted);
    assert!(began.elapsed() < Duration::from_secs(10));
    let failing = VmwareOptions {
        program: program(dir.path(), "#!/bin/sh\necho 'Error: Insufficient permissions'; exit 255\n"),
        ..VmwareOptions::default()
    };
    let failing = VmwareMachine::open(&vmx, failing).unwrap();
    let error = failing.state().unwrap_err();
    assert_eq!((error.kind(), error.to_string().as_str()), (ErrorKind::PermissionDenied, "vmrun list: Insufficient permissions"));
    assert_eq!(open("/no/such/vmrun".to_owned()).state().unwrap_err().kind(), ErrorKind::UnsupportedFormat);
}

#[test]
fn a_chain_of_vmdk_snapshots_is_read_as_qemu_reads_it() {
    let dir = tempfile::tempdir().unwrap();
    let here = |program: &str, args: &[&str]| tool(program, args, dir.path());
    let write =
        |image: &str, pattern: &str, at: &str| here("qemu-io", &["-f", "vmdk", "-c", &format!("write -P {pattern} {at} 100k"), image]);
    here("qemu-img", &["create", "-q", "-f", "vmdk", "base.vmdk", "8M"]);
    write("base.vmdk", "1", "0");
    write("base.vmdk", "2", "3M");
    for (lower, upper) in [("base.vmdk", "one.vmdk"), ("one.vmdk", "two.vmdk")] {
        here("qemu-img", &["create", "-q", "-f", "vmdk", "-b", lower, "-F", "vmdk", upper]);
    }
    write("two.vmdk", "3", "64k");
    write("two.vmdk", "0", "3M");
    here("qemu-img", &["convert", "-f", "vmdk", "-O", "raw", "two.vmdk", "whole.raw"]);
    let open = || image::open(&dir.path().join("two.vmdk"), &OpenOptions::default());
    let disk = open().unwrap();
    let mut bytes = vec![0; 8 << 20];
    disk.read_at(&mut bytes, 0).unwrap();
    assert!(bytes == std::fs::read(dir.path().join("whole.raw")).unwrap());
    assert_eq!(disk.layers().len(), 3);
    // Written to, the image below is not what the snapshot was made of.
    write("base.vmdk", "5", "7M");
    assert_eq!(open().err().unwrap().kind(), ErrorKind::Corrupt);
}
