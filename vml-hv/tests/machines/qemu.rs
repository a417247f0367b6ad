//! QEMU, driven directly.

use crate::guest::{SshGuest, folder, tool};
use crate::suite::{disks_of_one_moment, lives, memory_put_back, memory_with_disks};
use std::path::Path;
use std::time::Duration;
use vml_core::machine::{Machine, MachineState, Stop};
use vml_core::{ErrorKind, Result};
use vml_hv::qemu::{Accelerator, DiskConfig, Kernel, MachineConfig, QemuMachine, QemuOptions};

/// A machine with an overlay on the guest's disk.
fn machine(dir: &Path) -> QemuMachine {
    let guest = folder();
    tool("qemu-img", &["create", "-q", "-f", "qcow2", "-b", guest.join("disk.raw").to_str().unwrap(), "-F", "raw", "system.qcow2"], dir);
    let config = MachineConfig {
        memory_mib: 256,
        accelerator: Accelerator::Tcg,
        allow_dir: vec![guest.clone()],
        kernel: Some(Kernel {
            file: guest.join("vmlinuz"),
            blake3: None,
            initrd: Some(guest.join("initrd")),
            initrd_blake3: None,
            append: vml_testkit::guest::APPEND.to_owned(),
        }),
        ..MachineConfig::new(vec![DiskConfig { name: "system".to_owned(), file: "system.qcow2".into(), format: "qcow2".to_owned() }])
    };
    config.write(dir).unwrap();
    QemuMachine::open(dir, QemuOptions::default()).unwrap()
}

/// Ends the machine also when a test fails.
struct Ends<'m>(&'m QemuMachine);

impl Drop for Ends<'_> {
    fn drop(&mut self) {
        _ = self.0.stop(Stop::Kill);
    }
}

fn with_machine(test: impl FnOnce(&QemuMachine, &Path)) {
    let dir = tempfile::tempdir().unwrap();
    let machine = machine(dir.path());
    {
        let _ends = Ends(&machine);
        test(&machine, dir.path());
    }
    // Whatever was done, the disk is whole.
    tool("qemu-img", &["check", "-q", "system.qcow2"], dir.path());
}

#[test]
#[ignore = "needs VML_GUEST; scripts/test-machines.sh runs it"]
fn qemu_lives() {
    with_machine(|machine, _| lives(machine, &SshGuest::reach));
}

#[test]
#[ignore = "needs VML_GUEST; scripts/test-machines.sh runs it"]
fn qemu_shows_disks_of_one_moment() {
    with_machine(|machine, _| disks_of_one_moment(machine, &SshGuest::reach));
}

#[test]
#[ignore = "needs VML_GUEST; scripts/test-machines.sh runs it"]
fn qemu_saves_memory_with_disks() {
    with_machine(|machine, dir| {
        memory_with_disks(machine, &SshGuest::reach, dir);
        memory_put_back(machine, &SshGuest::reach, dir);
    });
}

#[test]
#[ignore = "needs VML_GUEST; scripts/test-machines.sh runs it"]
fn a_qemu_that_is_killed_or_hangs_is_an_error_and_its_checkpoint_survives_a_stop_only() {
    with_machine(|machine, dir| {
        machine.start().unwrap();
        SshGuest::reach(&machine.address().unwrap().unwrap()).sync();
        let live = machine.live_disks().unwrap();
        live.begin(None).unwrap().commit("one").unwrap();
        machine.stop(Stop::Kill).unwrap();
        // Stopped in order, QEMU has kept what changed.
        machine.start().unwrap();
        SshGuest::reach(&machine.address().unwrap().unwrap()).sync();
        let session = live.begin(Some("one")).unwrap();
        assert!(session.disks()[0].changed.is_some());
        let pid = std::fs::read_to_string(dir.join("run/pid")).unwrap().trim().to_owned();
        // Hanging: every wait has an end.
        tool("kill", &["-STOP", &pid], dir);
        let hasty = QemuMachine::open(dir, QemuOptions { answer_limit: Duration::from_millis(500), ..QemuOptions::default() }).unwrap();
        assert_eq!(hasty.state().unwrap_err().kind(), ErrorKind::Interrupted);
        tool("kill", &["-KILL", &pid], dir);
        std::thread::sleep(Duration::from_millis(200));
        let mut buffer = vec![0; 1 << 20];
        let read = |buffer: &mut [u8]| -> Result<()> { (0..200).try_for_each(|i| session.disks()[0].disk.read_at(buffer, i << 20)) };
        assert!(read(&mut buffer).is_err());
        assert!(session.commit("two").is_err());
        assert_eq!(machine.state().unwrap(), MachineState::Off);
        machine.clean().unwrap();
        tool("qemu-img", &["check", "-q", "-r", "leaks", "system.qcow2"], dir);
        machine.start().unwrap();
        let session = live.begin(Some("one")).unwrap();
        assert!(session.disks()[0].changed.is_none(), "what a killed QEMU knew is not trusted");
        session.commit("three").unwrap();
    });
}
