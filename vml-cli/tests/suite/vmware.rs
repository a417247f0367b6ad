//! Machines of VMware that are off, with a `vmrun` that says so. Those that run are tested in `vml-hv`.

use crate::support::{Host, skip};
use std::fs;
use std::os::unix::fs::PermissionsExt;
use vml_testkit::guest::tool;

#[test]
fn a_machine_of_vmware_that_is_off_is_saved_by_its_images() {
    if std::process::Command::new("qemu-img").arg("--version").output().is_err() {
        return skip("a_machine_of_vmware_that_is_off_is_saved_by_its_images", "needs qemu-img");
    }
    let host = Host::new();
    let dir = host.path("vm");
    fs::create_dir_all(&dir).unwrap();
    fs::write(dir.join("disk.raw"), vml_testkit::noise::incompressible(7, 3 << 20)).unwrap();
    tool("qemu-img", &["convert", "-f", "raw", "-O", "vmdk", "disk.raw", "system.vmdk"], &dir);
    let vmx = ".encoding = \"UTF-8\"\nmemsize = \"256\"\nscsi0:0.present = \"TRUE\"\nscsi0:0.fileName = \"system.vmdk\"\n";
    fs::write(dir.join("lab.vmx"), vmx).unwrap();
    let with_vmrun = |args: &[&str]| {
        let mut command = host.command(args);
        let path = format!("{}:{}", host.path("bin").display(), std::env::var("PATH").unwrap());
        crate::support::Ran::of(&command.env("PATH", path).output().unwrap())
    };
    host.ok(["area", "add", "lab", "--vmware", "vm/lab.vmx"]);
    host.run(["save", "lab", "-m", "off"]).fails(3, &["vmrun"]);
    fs::create_dir_all(host.path("bin")).unwrap();
    fs::write(host.path("bin/vmrun"), "#!/bin/sh\necho 'Total running VMs: 0'\n").unwrap();
    fs::set_permissions(host.path("bin/vmrun"), fs::Permissions::from_mode(0o755)).unwrap();
    for args in [&["save", "lab", "-m", "off"][..], &["area", "show", "lab"]] {
        let ran = with_vmrun(args);
        assert_eq!(ran.code, 0, "{args:?}: {}", ran.err);
        assert!(args[1] != "show" || ran.out.contains("vmware") && ran.out.contains("system.vmdk"), "{}", ran.out);
    }
    let shown = host.json(["show", "lab@latest"]);
    assert!(shown["parts"].as_array().unwrap().iter().any(|part| part["name"] == "lab.vmx"), "{shown}");
    let built = host.path("built");
    host.ok(["build", "lab@latest", built.to_str().unwrap(), "--format", "raw"]);
    let name = shown["parts"][0]["name"].as_str().unwrap();
    assert!(fs::read(built.join(format!("{name}.raw"))).unwrap() == fs::read(dir.join("disk.raw")).unwrap());
}
