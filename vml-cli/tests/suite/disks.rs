//! Disks from the command line, with images that QEMU's own tool makes and judges.

use crate::support::{Host, write};
use std::fs;
use std::path::Path;
use std::process::Command;
use vml_testkit::noise::{incompressible, mixed};

fn qemu_img(args: &[&str], dir: &Path) {
    let output = Command::new("qemu-img").args(args).current_dir(dir).output().expect("qemu-img is installed by scripts/setup.sh");
    assert!(output.status.success(), "qemu-img {args:?}: {}", String::from_utf8_lossy(&output.stderr));
}

/// A raw image with data, zeros and an end that is a multiple of nothing.
fn make_raw(path: &Path) {
    let mut bytes = vec![0; 5_000_001];
    bytes[..700_000].copy_from_slice(&mixed(1, 700_000));
    bytes[2_000_000..3_100_000].copy_from_slice(&incompressible(2, 1_100_000));
    bytes[5_000_000] = 1;
    fs::write(path, bytes).unwrap();
}

#[test]
fn one_guest_in_other_formats_adds_nothing_and_is_built_back() {
    let host = Host::bare();
    let dir = host.path("");
    make_raw(&host.path("a.raw"));
    qemu_img(&["convert", "-f", "raw", "-O", "qcow2", "a.raw", "b.qcow2"], &dir);
    qemu_img(&["convert", "-f", "raw", "-c", "-O", "qcow2", "-o", "cluster_size=4k", "a.raw", "c.qcow2"], &dir);
    qemu_img(&["create", "-f", "qcow2", "-b", "a.raw", "-F", "raw", "d.qcow2"], &dir);
    host.ok(["init"]);
    for (name, file) in [("a", "a.raw"), ("b", "b.qcow2"), ("c", "c.qcow2"), ("d", "d.qcow2")] {
        host.ok(["area", "add", name, "--disk", &format!("system={file}")]);
        let saved = host.json(["save", name, "-m", "a state"]);
        // A qcow2 disk is rounded up to a sector, so its last zeros differ; chunks do not.
        assert_eq!(saved["new_bytes"].as_u64().unwrap() < 20_000, name != "a", "{name}: {saved}");
        let built = host.json(["build", &format!("{name}@latest"), &format!("out-{name}"), "--verify"]);
        assert_eq!(built["verified"], true);
        qemu_img(&["compare", "-f", "raw", "a.raw", &format!("out-{name}/system.raw")], &dir);
    }
    assert_eq!(fs::read(host.path("a.raw")).unwrap(), fs::read(host.path("out-a/system.raw")).unwrap());
    assert_eq!(host.json(["check", "--data"])["problems"].as_array().unwrap().len(), 0);
    assert!(host.ok(["show", "a@latest"]).contains("disk         system:"));
    host.run(["build", "a@latest", "out-a"]).fails(3, &["not empty"]);
    host.ok(["build", "a@latest", "out-a", "--replace"]);
}

#[test]
fn an_overlay_is_saved_by_its_own_clusters() {
    let host = Host::bare();
    let dir = host.path("");
    fs::write(host.path("base.raw"), incompressible(3, 40 << 20)).unwrap();
    host.ok(["init"]);
    host.ok(["base", "add", "guest@1", "--disk", "system=base.raw"]);
    qemu_img(&["create", "-f", "qcow2", "-b", "base.raw", "-F", "raw", "top.qcow2"], &dir);
    let write = Command::new("qemu-io").args(["-f", "qcow2", "-c", "write -P 7 20M 64k", "top.qcow2"]).current_dir(&dir).output().unwrap();
    assert!(write.status.success());
    host.ok(["area", "add", "work", "--disk", "system=top.qcow2", "--base", "guest@1"]);
    let saved = host.json(["save", "work", "-m", "one cluster"]);
    let read = saved["disks"][0]["read_bytes"].as_u64().unwrap();
    assert!((65536..1 << 20).contains(&read), "{read} bytes were read for one cluster");
    host.ok(["build", "work@latest", "out"]);
    qemu_img(&["compare", "-f", "qcow2", "-F", "raw", "top.qcow2", "out/system.raw"], &dir);
    let again = host.json(["save", "work", "-m", "nothing"]);
    assert_eq!((&again["disks"][0]["read_bytes"], &again["new_chunks"]), (&0.into(), &0.into()));
}

#[test]
fn images_that_cannot_be_trusted_are_refused() {
    let host = Host::bare();
    let dir = host.path("");
    fs::create_dir(host.path("elsewhere")).unwrap();
    make_raw(&host.path("a.raw"));
    make_raw(&host.path("elsewhere/secret.raw"));
    host.ok(["init"]);
    let refused = |disk: &str, parts: &[&str]| {
        let ran = host.run(["area", "add", "work", "--disk", disk]);
        assert!(matches!(ran.code, 2 | 3), "{disk}: {}", ran.code);
        let code = ran.code;
        ran.fails(code, parts);
    };
    qemu_img(&["create", "-f", "qcow2", "-b", "elsewhere/secret.raw", "-F", "raw", "deep.qcow2"], &dir);
    qemu_img(&["create", "-f", "qcow2", "-b", "../secret.raw", "-F", "raw", "-u", "elsewhere/up.qcow2", "1M"], &dir);
    fs::copy(host.path("deep.qcow2"), host.path("guest-wrote-this.raw")).unwrap();
    refused("guest-wrote-this.raw", &["a guest could have written that", "format=qcow2"]);
    refused("elsewhere/up.qcow2", &["cannot find"]);
    fs::rename(host.path("a.raw"), host.path("secret.raw")).unwrap();
    refused("elsewhere/up.qcow2", &["in another folder", "--allow-dir"]);
    qemu_img(&["create", "-f", "qcow2", "-b", "loop.qcow2", "-F", "qcow2", "-u", "turn.qcow2", "1M"], &dir);
    qemu_img(&["create", "-f", "qcow2", "-b", "turn.qcow2", "-F", "qcow2", "-u", "loop.qcow2", "1M"], &dir);
    refused("loop.qcow2", &["leads back to itself"]);
    qemu_img(&["create", "-f", "qcow2", "-b", "secret.raw", "-F", "raw", "open.qcow2"], &dir);
    let mut image = fs::read(host.path("open.qcow2")).unwrap();
    image[24] = 0xFF;
    write(&host.path("huge.qcow2"), &image);
    refused("huge.qcow2", &["says that the disk has"]);
    qemu_img(&["convert", "-f", "raw", "-O", "qcow2", "secret.raw", "whole.qcow2"], &dir);
    let image = fs::read(host.path("whole.qcow2")).unwrap();
    write(&host.path("cut.qcow2"), &image[..image.len() / 2]);
    refused("cut.qcow2", &["is cut short or damaged"]);
    write(&host.path("empty.qcow2"), b"");
    refused("empty.qcow2", &["begins like a raw one"]);
    qemu_img(&["convert", "-f", "raw", "-O", "vmdk", "secret.raw", "x.vmdk"], &dir);
    refused("x.vmdk", &["cannot be read yet", "qemu-img convert"]);
    host.run(["area", "add", "work"]).fails(2, &["--tree DIR or --disk FILE"]);
    host.run(["area", "add", "work", "--disk", "nowhere.raw"]).fails(3, &["cannot find the image nowhere.raw"]);
}

#[test]
fn settings_are_tried_on_images_and_trees() {
    let host = Host::bare();
    make_raw(&host.path("a.raw"));
    let lines = host.json_lines([
        "tune",
        "--disk",
        "a.raw",
        "--chunker",
        "fixed:4K",
        "--frame",
        "1M",
        "--level",
        "1",
        "--svg",
        "plot.svg",
        "--work",
        ".",
    ]);
    assert_eq!(lines.len(), 5, "{lines:?}");
    assert!(
        lines[..4].iter().all(|line| line["stored_bytes"].as_u64().unwrap() > 1_100_000 && line["peak_bytes"].as_u64().unwrap() > 1 << 20)
    );
    assert!(lines[4]["recommended"]["chunker"].is_string());
    assert!(fs::read_to_string(host.path("plot.svg")).unwrap().starts_with("<svg"));
    assert!(fs::read_dir(host.path("")).unwrap().flatten().all(|file| !file.file_name().to_string_lossy().starts_with("vml-tune")));
}
