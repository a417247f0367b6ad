//! Disks from the command line, with images that QEMU's own tool makes and judges.

use crate::support::{Host, Ran, write};
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
        let built = host.json(["build", &format!("{name}@latest"), &format!("out-{name}"), "--format", "raw", "--verify"]);
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
    qemu_img(&["compare", "-f", "qcow2", "-F", "qcow2", "top.qcow2", "out/system.qcow2"], &dir);
    let again = host.json(["save", "work", "-m", "nothing"]);
    assert_eq!((&again["disks"][0]["read_bytes"], &again["new_chunks"]), (&0.into(), &0.into()));
}

#[test]
fn images_that_only_qemu_reads_are_saved_by_their_own_clusters_too() {
    let host = Host::bare();
    let dir = host.path("");
    fs::write(host.path("dense.raw"), incompressible(3, 40 << 20)).unwrap();
    qemu_img(&["convert", "-f", "raw", "-O", "qcow2", "-o", "extended_l2=on,cluster_size=128k", "dense.raw", "base.qcow2"], &dir);
    qemu_img(&["create", "-f", "qcow2", "-b", "base.qcow2", "-F", "qcow2", "-o", "compression_type=zstd", "top.qcow2"], &dir);
    let qemu_io = |command: &str| {
        let output = Command::new("qemu-io").args(["-f", "qcow2", "-c", command, "top.qcow2"]).current_dir(&dir).output().unwrap();
        assert!(output.status.success(), "{command}");
    };
    qemu_io("write -c -P 7 20M 64k");
    host.ok(["init"]);
    host.ok(["base", "add", "guest@1", "--disk", "system=base.qcow2"]);
    host.ok(["area", "add", "work", "--disk", "system=top.qcow2", "--base", "guest@1"]);
    let saved = host.json(["save", "work", "-m", "one cluster"]);
    let read = saved["disks"][0]["read_bytes"].as_u64().unwrap();
    assert!((65536..1 << 20).contains(&read), "{read} bytes were read for one cluster");
    assert!(saved["disks"][0]["known_bytes"].as_u64().unwrap() > 30 << 20, "{saved}");
    let again = host.json(["save", "work", "-m", "nothing"]);
    assert_eq!((&again["disks"][0]["read_bytes"], &again["new_chunks"]), (&0.into(), &0.into()));
    for (format, made) in [("overlay", "qcow2"), ("raw", "raw")] {
        host.ok(["build", "work@latest", format, "--format", format, "--verify"]);
        qemu_img(&["compare", "-f", "qcow2", "-F", made, "top.qcow2", &format!("{format}/system.{made}")], &dir);
    }
    // Without QEMU's server it is said what is missing; an image that does not need it is saved all the same.
    qemu_io("write -P 8 21M 64k");
    fs::create_dir(host.path("no-programs")).unwrap();
    let mut command = host.command(["save", "work", "-m", "without"]);
    let ran = Ran::of(&command.env("PATH", host.path("no-programs")).output().unwrap());
    ran.fails(3, &["compressed with zstd", "install qemu-nbd", "qemu-img convert"]);
    qemu_img(&["create", "-f", "qcow2", "plain.qcow2", "1M"], &dir);
    host.ok(["area", "add", "plain", "--disk", "system=plain.qcow2"]);
    let mut command = host.command(["save", "plain", "-m", "without"]);
    assert!(command.env("PATH", host.path("no-programs")).output().unwrap().status.success());
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
    host.run(["area", "add", "work"]).fails(2, &["--tree DIR, --disk FILE, --qemu DIR"]);
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

#[test]
fn built_images_are_clean_and_show_what_was_saved() {
    let host = Host::bare();
    let dir = host.path("");
    // A base in two layers, an overlay that changes, zeroes and adds, and a disk that has grown.
    let mut bytes = incompressible(5, 9_000_001);
    bytes[4 << 20..6 << 20].fill(0);
    fs::write(host.path("lowest.raw"), &bytes).unwrap();
    qemu_img(&["create", "-f", "qcow2", "-b", "lowest.raw", "-F", "raw", "base.qcow2"], &dir);
    host.ok(["init"]);
    host.ok(["base", "add", "guest@1", "--disk", "system=base.qcow2"]);
    qemu_img(&["create", "-f", "qcow2", "-b", "base.qcow2", "-F", "qcow2", "top.qcow2", "40M"], &dir);
    for command in ["write -P 7 1M 64k", "write -z 2M 1M", "write -P 9 4195000 700", "write -P 3 30M 100k", "discard 7M 128k"] {
        let output = Command::new("qemu-io").args(["-f", "qcow2", "-c", command, "top.qcow2"]).current_dir(&dir).output().unwrap();
        assert!(output.status.success(), "{command}");
    }
    host.ok(["area", "add", "work", "--disk", "system=top.qcow2", "--base", "guest@1"]);
    host.ok(["save", "work", "-m", "changed"]);
    for (format, made) in [("raw", "raw"), ("qcow2", "qcow2"), ("overlay", "qcow2"), ("auto", "qcow2")] {
        let out = format!("out-{format}");
        let built = host.json(["build", "work@latest", &out, "--format", format, "--verify"]);
        assert_eq!((&built["disks"][0]["format"], built["verified"].as_bool()), (&made.into(), Some(true)));
        let overlay = matches!(format, "overlay" | "auto");
        assert_eq!(built["disks"][0]["base_image"].is_null(), !overlay, "{built}");
        assert_eq!(built["disks"][0]["data_bytes"].as_u64().unwrap() < 1 << 20, overlay, "{built}");
        let image = format!("{out}/system.{made}");
        qemu_img(&["compare", "-f", "qcow2", "-F", made, "top.qcow2", &image], &dir);
        if made == "qcow2" {
            qemu_img(&["check", &image], &dir);
        }
    }
    // What was built is an area of its own, and only its own clusters are read.
    host.ok(["area", "add", "copy", "--disk", "system=out-overlay/system.qcow2", "--base", "guest@1"]);
    let saved = host.json(["save", "copy", "-m", "again"]);
    assert!(saved["disks"][0]["read_bytes"].as_u64() < saved["disks"][0]["data_bytes"].as_u64().map(|data| data / 2), "{saved}");
    // The base itself is an overlay without a byte of its own.
    let base = host.json(["build", "BASE:guest@1", "fresh"]);
    assert_eq!(base["disks"][0]["data_bytes"], 0);
    qemu_img(&["compare", "-f", "qcow2", "-F", "qcow2", "base.qcow2", "fresh/system.qcow2"], &dir);
    // Once its image has changed it shows the base no more.
    let write = Command::new("qemu-io").args(["-f", "raw", "-c", "write -P 1 0 512", "lowest.raw"]).current_dir(&dir).output().unwrap();
    assert!(write.status.success());
    host.run(["build", "work@latest", "late", "--format", "overlay"]).fails(3, &["no unchanged image", "vml base export"]);
    assert!(host.json(["build", "work@latest", "late"])["disks"][0]["base_image"].is_null());
    let exported = host.json(["base", "export", "guest@1", "images", "--format", "raw", "--verify"]);
    assert_eq!(exported["disks"][0]["format"], "raw");
    let again = host.json(["build", "work@latest", "later", "--format", "overlay"]);
    assert!(again["disks"][0]["base_image"].as_str().unwrap().ends_with("images/system.raw"));
    qemu_img(&["compare", "-f", "qcow2", "-F", "qcow2", "late/system.qcow2", "later/system.qcow2"], &dir);
    host.ok(["area", "add", "later", "--disk", "system=later/system.qcow2", "--base", "guest@1"]);
    let saved = host.json(["save", "later", "-m", "upon an exported image"]);
    assert!(saved["disks"][0]["read_bytes"].as_u64() < saved["disks"][0]["data_bytes"].as_u64().map(|data| data / 2), "{saved}");
    host.run(["build", "work@latest", "later", "--delete", "--yes"]).fails(2, &["--delete is for trees"]);
}
