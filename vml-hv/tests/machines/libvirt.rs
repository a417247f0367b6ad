//! libvirt, with a daemon of the test's own: `scripts/with-libvirtd.sh` starts it.

use crate::guest::{SshGuest, folder, ssh, tool, try_ssh};
use crate::suite::{content, disks_of_one_moment, lives, memory_put_back, memory_with_disks};
use std::path::{Path, PathBuf};
use std::time::Duration;
use vml_core::ErrorKind;
use vml_core::machine::{GuestAddress, Machine, MachineState, Stop};
use vml_hv::libvirt::xml::{Adaptation, NewDisk, adapt};
use vml_hv::libvirt::{LibvirtMachine, LibvirtOptions};

const URI: &str = "qemu:///system";

/// The folder of the test's own libvirtd; none where it has none.
fn daemon(test: &str) -> Option<PathBuf> {
    let found = std::env::var_os("VML_LIBVIRTD_DIR").map(PathBuf::from);
    if found.is_none() {
        println!("skipped: {test} needs a libvirtd of its own (scripts/with-libvirtd.sh)");
    }
    found
}

fn options(port: u16) -> LibvirtOptions {
    let address = GuestAddress { host: "127.0.0.1".to_owned(), ssh_port: port };
    LibvirtOptions { address: Some(address), allowed_dirs: vec![folder()], ..LibvirtOptions::default() }
}

/// A machine with an overlay on the guest's disk, and a second disk that keeps no checkpoints.
fn machine(name: &str, dir: &Path) -> LibvirtMachine {
    let guest = folder();
    let base = guest.join("disk.raw");
    tool("qemu-img", &["create", "-q", "-f", "qcow2", "-b", base.to_str().unwrap(), "-F", "raw", "system.qcow2"], dir);
    tool("qemu-img", &["create", "-q", "-f", "raw", "data.raw", "16M"], dir);
    let port = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
    let (guest, dir) = (guest.display(), dir.display());
    let xml = format!(
        "<domain type='qemu' xmlns:qemu='http://libvirt.org/schemas/domain/qemu/1.0'>
  <name>{name}</name>
  <memory unit='MiB'>256</memory>
  <os>
    <type arch='x86_64' machine='q35'>hvm</type>
    <kernel>{guest}/vmlinuz</kernel><initrd>{guest}/initrd</initrd>
    <cmdline>root=/dev/vda rw console=ttyS0 net.ifnames=0 panic=-1 quiet</cmdline>
  </os>
  <features><acpi/></features>
  <devices>
    <disk type='file'><driver name='qemu' type='qcow2'/><source file='{dir}/system.qcow2'/><target dev='vda' bus='virtio'/></disk>
    <disk type='file'><driver name='qemu' type='raw'/><source file='{dir}/data.raw'/><target dev='vdb' bus='virtio'/></disk>
    <controller type='usb' model='none'/>
    <serial type='file'><source path='{dir}/serial.log'/></serial>
    <memballoon model='none'/>
  </devices>
  <qemu:commandline>
    <qemu:arg value='-netdev'/><qemu:arg value='user,id=net,hostfwd=tcp:127.0.0.1:{port}-:22'/>
    <qemu:arg value='-device'/><qemu:arg value='virtio-net-pci,netdev=net,bus=pcie.0,addr=0x10'/>
  </qemu:commandline>
</domain>"
    );
    LibvirtMachine::define(URI, &xml, options(port)).unwrap()
}

/// Ends the machine also when a test fails.
struct Ends<'m>(&'m LibvirtMachine);

impl Drop for Ends<'_> {
    fn drop(&mut self) {
        _ = self.0.stop(Stop::Kill);
        let arguments = ["-q", "-c", URI, "undefine", "--managed-save", "--checkpoints-metadata", &self.0.uri().domain];
        _ = std::process::Command::new("virsh").args(arguments).status();
    }
}

fn with_machine(test: &str, run: impl FnOnce(&LibvirtMachine, &Path, &Path)) {
    let Some(daemon) = daemon(test) else { return };
    let dir = tempfile::tempdir().unwrap();
    let machine = machine(test, dir.path());
    {
        let _ends = Ends(&machine);
        run(&machine, dir.path(), &daemon);
    }
    // Whatever was done, the disk is whole.
    tool("qemu-img", &["check", "-q", "system.qcow2"], dir.path());
}

fn signal(signal: &str, pid_file: &Path) {
    let pid = std::fs::read_to_string(pid_file).unwrap().trim().to_owned();
    tool("kill", &[signal, &pid], Path::new("/"));
}

#[test]
#[ignore = "needs VML_GUEST and a libvirtd; scripts/with-libvirtd.sh runs it"]
fn libvirt_lives() {
    with_machine("libvirt_lives", |machine, _, _| lives(machine, &SshGuest::reach));
}

#[test]
#[ignore = "needs VML_GUEST and a libvirtd; scripts/with-libvirtd.sh runs it"]
fn libvirt_shows_disks_of_one_moment() {
    with_machine("libvirt_shows_disks_of_one_moment", |machine, _, _| disks_of_one_moment(machine, &SshGuest::reach));
}

#[test]
#[ignore = "needs VML_GUEST and a libvirtd; scripts/with-libvirtd.sh runs it"]
fn libvirt_saves_memory_with_disks() {
    with_machine("libvirt_saves_memory_with_disks", |machine, dir, _| {
        memory_with_disks(machine, &SshGuest::reach, dir);
        memory_put_back(machine, &SshGuest::reach, dir);
    });
}

#[test]
#[ignore = "needs VML_GUEST and a libvirtd; scripts/with-libvirtd.sh runs it"]
fn a_disk_that_keeps_no_checkpoints_is_read_whole_beside_one_that_does() {
    with_machine("a_disk_that_keeps_no_checkpoints", |machine, _, _| {
        machine.start().unwrap();
        let address = machine.address().unwrap().unwrap();
        ssh(&address, "sync; echo mark | dd of=/dev/vdb bs=512 seek=9 conv=fsync 2>/dev/null");
        let live = machine.live_disks().unwrap();
        let session = live.begin(None).unwrap();
        assert_eq!(session.disks().iter().map(|disk| disk.name.as_str()).collect::<Vec<_>>(), ["vda", "vdb"]);
        let mut mark = [0; 5];
        session.disks()[1].disk.read_at(&mut mark, 9 * 512).unwrap();
        assert_eq!(&mark, b"mark\n");
        let before = content(session.disks()[1].disk.as_ref());
        ssh(&address, "echo other | dd of=/dev/vdb bs=512 seek=9 conv=fsync 2>/dev/null");
        assert_eq!(content(session.disks()[1].disk.as_ref()), before);
        session.commit("one").unwrap();
        let session = live.begin(Some("one")).unwrap();
        assert!(session.disks()[0].changed.is_some() && session.disks()[1].changed.is_none());
        assert_ne!(content(session.disks()[1].disk.as_ref()), before);
        session.abort().unwrap();
    });
}

#[test]
#[ignore = "needs VML_GUEST and a libvirtd; scripts/with-libvirtd.sh runs it"]
fn a_libvirtd_or_qemu_that_is_killed_in_a_save_leaves_the_machine_whole() {
    with_machine("a_libvirtd_that_is_killed", |machine, dir, daemon| {
        machine.start().unwrap();
        let address = machine.address().unwrap().unwrap();
        ssh(&address, "sync");
        let live = machine.live_disks().unwrap();
        live.begin(None).unwrap().commit("one").unwrap();
        let session = live.begin(Some("one")).unwrap();
        // Hanging: every wait has an end.
        let pid = daemon.join("libvirtd.pid");
        signal("-STOP", &pid);
        let hasty = LibvirtOptions { answer_limit: Duration::from_millis(500), ..options(address.ssh_port) };
        let uri = format!("{URI}/{}", machine.uri().domain);
        assert_eq!(LibvirtMachine::open(&uri, hasty).unwrap_err().kind(), ErrorKind::Interrupted);
        signal("-KILL", &pid);
        let mut buffer = [0; 4096];
        session.disks()[0].disk.read_at(&mut buffer, 0).unwrap();
        assert!(session.commit("two").is_err());
        assert!(try_ssh(&address, "true").is_some(), "the guest does not need libvirtd");
        tool(daemon.join("start").to_str().unwrap(), &[], Path::new("/"));
        assert_eq!(machine.state().unwrap(), MachineState::Running);
        assert_eq!(live.begin(None).err().unwrap().kind(), ErrorKind::Locked);
        assert_eq!(machine.clean().unwrap().len(), 1);
        assert_eq!(machine.clean().unwrap(), [""; 0]);
        let session = live.begin(Some("one")).unwrap();
        assert!(session.disks()[0].changed.is_some());
        // QEMU itself is killed.
        signal("-KILL", &Path::new("/run/libvirt/qemu").join(format!("{}.pid", machine.uri().domain)));
        std::thread::sleep(Duration::from_millis(500));
        let mut large = vec![0; 1 << 20];
        assert!((0..200).try_for_each(|i| session.disks()[0].disk.read_at(&mut large, i << 20)).is_err());
        assert!(session.commit("three").is_err());
        assert_eq!(machine.state().unwrap(), MachineState::Off);
        machine.clean().unwrap();
        tool("qemu-img", &["check", "-q", "-r", "leaks", "system.qcow2"], dir);
        machine.start().unwrap();
        machine.clean().unwrap();
        let session = live.begin(Some("one")).unwrap();
        assert!(session.disks()[0].changed.is_none(), "what a killed QEMU knew is not trusted");
        session.commit("four").unwrap();
        let session = live.begin(Some("four")).unwrap();
        assert!(session.disks()[0].changed.is_some());
        drop(session);
        let leftovers: Vec<_> = std::fs::read_dir(dir).unwrap().map(|entry| entry.unwrap().file_name()).collect();
        assert_eq!(leftovers.len(), 3, "{leftovers:?}");
    });
}

#[test]
#[ignore = "needs VML_GUEST and a libvirtd; scripts/with-libvirtd.sh runs it"]
fn an_adapted_description_makes_a_second_machine() {
    with_machine("an_adapted_description", |machine, dir, _| {
        let description = String::from_utf8(machine.describe().unwrap().bytes).unwrap();
        tool("qemu-img", &["create", "-q", "-f", "raw", "second.raw", "16M"], dir);
        tool("qemu-img", &["create", "-q", "-f", "qcow2", "second.qcow2", "16M"], dir);
        let disk =
            |target: &str, file: &str, format: &str| NewDisk { target: target.to_owned(), file: dir.join(file), format: format.to_owned() };
        let new = Adaptation {
            name: "a second one".to_owned(),
            uuid: "12345678-1234-4234-8234-123456789abc".to_owned(),
            disks: vec![disk("vda", "second.raw", "raw"), disk("vdb", "second.qcow2", "qcow2")],
        };
        let second = LibvirtMachine::define(URI, &adapt(&description, &new).unwrap(), LibvirtOptions::default()).unwrap();
        let _ends = Ends(&second);
        let found = second.describe().unwrap();
        let disks: Vec<_> = found.disks.iter().map(|disk| (disk.file.clone(), disk.format.as_str())).collect();
        assert_eq!(disks, [(dir.join("second.raw"), "raw"), (dir.join("second.qcow2"), "qcow2")]);
        let same = LibvirtMachine::define(URI, &adapt(&description, &new).unwrap(), LibvirtOptions::default());
        assert_eq!(same.unwrap_err().kind(), ErrorKind::AlreadyExists);
    });
}
