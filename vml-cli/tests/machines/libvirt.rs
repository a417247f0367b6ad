//! Machines of libvirt, with a daemon of the test's own: `scripts/with-libvirtd.sh` starts it.

use crate::lab::Lab;
use std::fs;
use vml_testkit::guest::{APPEND, folder, ssh, tool};

const URI: &str = "qemu:///system";

/// Ends the machines also when a test fails.
struct Ends(&'static [&'static str]);

impl Drop for Ends {
    fn drop(&mut self) {
        let virsh = |arguments: &[&str]| _ = std::process::Command::new("virsh").args(["-q", "-c", URI]).args(arguments).output();
        for name in self.0 {
            virsh(&["destroy", name]);
            virsh(&["undefine", "--managed-save", "--checkpoints-metadata", name]);
        }
    }
}

#[test]
#[ignore = "needs VML_GUEST and a libvirtd; scripts/with-libvirtd.sh runs it"]
fn libvirt_machines_are_saved_and_built() {
    if std::env::var_os("VML_LIBVIRTD_DIR").is_none() {
        println!("skipped: libvirt_machines_are_saved_and_built needs a libvirtd of its own (scripts/with-libvirtd.sh)");
        return;
    }
    let lab = Lab::new();
    let _ends = Ends(&["vml-first", "vml-second"]);
    let dir = lab.host.path("machine");
    fs::create_dir_all(&dir).unwrap();
    let guest = folder();
    tool("qemu-img", &["create", "-q", "-f", "qcow2", "-b", guest.join("disk.raw").to_str().unwrap(), "-F", "raw", "vda.qcow2"], &dir);
    let port = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
    let xml = format!(
        "<domain type='qemu' xmlns:qemu='http://libvirt.org/schemas/domain/qemu/1.0'><name>vml-first</name><memory unit='MiB'>256</memory>
  <os><type arch='x86_64' machine='q35'>hvm</type><kernel>{guest}/vmlinuz</kernel><initrd>{guest}/initrd</initrd><cmdline>{APPEND}</cmdline></os>
  <features><acpi/></features>
  <devices><disk type='file'><driver name='qemu' type='qcow2'/><source file='{dir}/vda.qcow2'/><target dev='vda' bus='virtio'/></disk>
    <controller type='usb' model='none'/><memballoon model='none'/></devices>
  <qemu:commandline><qemu:arg value='-netdev'/><qemu:arg value='user,id=net,hostfwd=tcp:127.0.0.1:{port}-:22'/>
    <qemu:arg value='-device'/><qemu:arg value='virtio-net-pci,netdev=net,bus=pcie.0,addr=0x10'/></qemu:commandline></domain>",
        guest = guest.display(),
        dir = dir.display()
    );
    fs::write(dir.join("domain.xml"), xml).unwrap();
    tool("virsh", &["-q", "-c", URI, "define", "domain.xml"], &dir);

    let allowed = guest.to_str().unwrap();
    lab.host.ok(["area", "add", "work", "--libvirt", "qemu:///system/vml-first", "--allow-dir", allowed]);
    let shown = lab.host.json(["area", "show", "work"]);
    assert_eq!(shown["hypervisor"]["adapter"], "libvirt-qemu", "{shown}");
    lab.host.ok(["area", "start", "work"]);
    ssh(port, "sync");
    let read = |saved: &serde_json::Value| saved["disks"][0]["read_bytes"].as_u64().unwrap();
    let first = lab.host.json(["save", "work", "-m", "first"]);
    ssh(port, "head -c 5000000 /dev/urandom > /home/dev/data; echo kept > /run/mark; sync");
    let second = lab.host.json(["save", "work", "-m", "second", "--mode", "full", "--tag", "whole"]);
    assert!(read(&first) > 100 << 20 && read(&second) < 15_000_000, "{} then {}", read(&first), read(&second));
    assert_eq!(lab.state("work"), "running");
    let sum = ssh(port, "sha256sum < /home/dev/data");
    lab.host.ok(["area", "suspend", "work"]);
    assert_eq!(lab.state("work"), "suspended");
    lab.host.ok(["area", "start", "work"]);
    assert_eq!(ssh(port, "cat /run/mark"), "kept");
    lab.host.ok(["area", "stop", "work", "--now"]);
    tool("qemu-img", &["check", "-q", "vda.qcow2"], &dir);

    // Another machine of libvirt, which goes on where the first one was saved; what it uses of this host is asked about.
    let build = ["build", "whole", "--area", "vml-second", "--libvirt", URI, "--start"];
    lab.host.run(build).fails(2, &["uses of this host", "--yes"]);
    assert!(!lab.host.path("home/areas/vml-second").exists(), "nothing is left");
    let built = lab.host.json(build.iter().chain(&["--yes"]));
    assert_eq!((built["state"].as_str(), built["memory"].as_bool()), (Some("running"), Some(true)), "{built}");
    assert_eq!(ssh(port, "cat /run/mark; sha256sum < /home/dev/data"), format!("kept\n{sum}"));
    lab.host.ok(["area", "stop", "vml-second", "--now"]);
    lab.host.assert_whole();
}
