//! Where the file system shares blocks between files, a built raw image is a clone of its base's image.

use crate::support::{Host, is_root, skip};
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use vml_testkit::noise::incompressible;

/// A file system in a file, mounted as long as this lives.
struct Mounted(PathBuf);

impl Mounted {
    fn xfs(image: &Path, at: PathBuf) -> Option<Self> {
        fs::File::create(image).unwrap().set_len(400 << 20).unwrap();
        fs::create_dir(&at).unwrap();
        let ran = |program: &str, args: &[&str]| Command::new(program).args(args).output().is_ok_and(|output| output.status.success());
        let (image, dir) = (image.to_str().unwrap(), at.to_str().unwrap());
        let made = ran("mkfs.xfs", &["-q", "-m", "reflink=1", image]) || ran("/usr/sbin/mkfs.xfs", &["-q", "-m", "reflink=1", image]);
        (made && ran("mount", &["-o", "loop", image, dir])).then_some(Self(at))
    }

    /// Bytes in use, once everything is written.
    fn used(&self) -> u64 {
        assert!(Command::new("sync").arg("-f").arg(&self.0).status().unwrap().success());
        let output = Command::new("df").args(["--output=used", "--block-size=1"]).arg(&self.0).output().unwrap();
        String::from_utf8(output.stdout).unwrap().lines().nth(1).unwrap().trim().parse().unwrap()
    }
}

impl Drop for Mounted {
    fn drop(&mut self) {
        _ = Command::new("umount").arg(&self.0).status();
    }
}

#[test]
fn a_raw_disk_is_cloned_from_its_base_s_image() {
    let test = "a_raw_disk_is_cloned_from_its_base_s_image";
    if !is_root() {
        return skip(test, "only root mounts file systems");
    }
    let host = Host::bare();
    let Some(xfs) = Mounted::xfs(&host.path("xfs.img"), host.path("xfs")) else {
        return skip(test, "xfs cannot be made or mounted here");
    };
    let len = 100 << 20;
    fs::write(host.path("xfs/base.raw"), incompressible(1, len)).unwrap();
    host.ok(["init"]);
    host.ok(["base", "add", "guest@1", "--disk", "system=xfs/base.raw"]);
    let mut bytes = fs::read(host.path("xfs/base.raw")).unwrap();
    bytes[30 << 20..31 << 20].copy_from_slice(&incompressible(2, 1 << 20));
    bytes[60 << 20..62 << 20].fill(0);
    fs::write(host.path("changed.raw"), &bytes).unwrap();
    host.ok(["area", "add", "work", "--base", "guest@1", "--disk", "system=changed.raw"]);
    host.ok(["save", "work", "-m", "a megabyte changed"]);
    let before = xfs.used();
    let built = host.json(["build", "work@latest", "xfs/out", "--format", "raw", "--verify"]);
    let grown = xfs.used() - before;
    assert!(fs::read(host.path("xfs/out/system.raw")).unwrap() == bytes, "the built disk differs");
    assert!(grown < 8 << 20, "{grown} bytes more are in use for one that changed a megabyte: {built}");
    // The base's image is as it was.
    assert!(fs::read(host.path("xfs/base.raw")).unwrap() == incompressible(1, len));
}
