//! Images of VMware's format in all forms that QEMU's tool makes, and what must be refused in them.

use crate::support::{Host, write};
use std::fs;
use std::path::Path;
use std::process::Command;
use vml_testkit::noise::{incompressible, mixed};

fn qemu_img(args: &[&str], dir: &Path) {
    let output = Command::new("qemu-img").args(args).current_dir(dir).output().expect("qemu-img is installed by scripts/setup.sh");
    assert!(output.status.success(), "qemu-img {args:?}: {}", String::from_utf8_lossy(&output.stderr));
}

const FORMS: [&str; 5] = ["monolithicSparse", "streamOptimized", "twoGbMaxExtentSparse", "monolithicFlat", "twoGbMaxExtentFlat"];

/// A disk of more than two pieces of 2 GB, with data at their edges and at an end that is a multiple of no grain.
fn make_raw(path: &Path, len: u64) {
    use std::os::unix::fs::FileExt;
    let file = fs::File::create(path).unwrap();
    file.set_len(len).unwrap();
    for (seed, start) in [(1, 0), (2, (2 << 30) - 300_000), (3, (4 << 30) + 70_000), (4, len - 100_000)] {
        if start < len {
            let bytes = if seed % 2 == 0 { mixed(seed, 90_000) } else { incompressible(seed, 90_000) };
            file.write_all_at(&bytes, start).unwrap();
        }
    }
    file.write_all_at(&[9], len - 1).unwrap();
}

#[test]
fn every_form_shows_the_same_disk_and_adds_nothing() {
    let host = Host::bare();
    let dir = host.path("");
    make_raw(&host.path("a.raw"), (4 << 30) + 512 * 1_001);
    host.ok(["init"]);
    host.ok(["area", "add", "raw", "--disk", "system=a.raw"]);
    let first = host.json(["save", "raw", "-m", "a state"]);
    for form in FORMS {
        let (folder, image) = (host.path(form), format!("{form}/a.vmdk"));
        fs::create_dir(folder).unwrap();
        qemu_img(&["convert", "-f", "raw", "-O", "vmdk", "-o", &format!("subformat={form}"), "a.raw", &image], &dir);
        host.ok(["area", "add", form, "--disk", &format!("system={image}")]);
        let saved = host.json(["save", form, "-m", "a state"]);
        // The recipe's nodes may be new where holes lie otherwise; no data is.
        assert!(saved["new_bytes"].as_u64().unwrap() < first["new_bytes"].as_u64().unwrap() / 100, "{form}: {saved}");
        let disk = &saved["disks"][0];
        assert_eq!((&disk["format"], &disk["bytes"]), (&"vmdk".into(), &first["disks"][0]["bytes"]));
        assert_eq!(disk["data_bytes"], first["disks"][0]["data_bytes"]);
        assert!(disk["read_bytes"].as_u64().unwrap() < 64 << 20, "{form}: holes are not read: {disk}");
        let out = format!("out-{form}");
        let built = host.json(["build", &format!("{form}@latest"), &out, "--verify"]);
        assert_eq!(built["disks"][0]["format"], "qcow2", "vmdk is read, not written");
        qemu_img(&["compare", "-q", "-f", "raw", "-F", "qcow2", "a.raw", &format!("{out}/system.qcow2")], &dir);
        let again = host.json(["save", form, "-m", "nothing new"]);
        assert_eq!((&again["disks"][0]["read_bytes"], &again["new_chunks"]), (&0.into(), &0.into()), "{form}");
    }
    assert_eq!(host.json(["check", "--data"])["problems"].as_array().unwrap().len(), 0);
}

#[test]
fn an_overlay_may_stand_on_one() {
    let host = Host::bare();
    let dir = host.path("");
    make_raw(&host.path("a.raw"), 3_000_320);
    qemu_img(&["convert", "-f", "raw", "-O", "vmdk", "a.raw", "base.vmdk"], &dir);
    qemu_img(&["create", "-q", "-f", "qcow2", "-b", "base.vmdk", "-F", "vmdk", "top.qcow2"], &dir);
    let output = Command::new("qemu-io").args(["-f", "qcow2", "-c", "write -P 7 1M 64k", "top.qcow2"]).current_dir(&dir).output().unwrap();
    assert!(output.status.success());
    host.ok(["init"]);
    host.ok(["base", "add", "guest@1", "--disk", "system=base.vmdk"]);
    host.ok(["area", "add", "work", "--disk", "system=top.qcow2", "--base", "guest@1"]);
    let saved = host.json(["save", "work", "-m", "one cluster"]);
    assert!(saved["disks"][0]["known_bytes"].as_u64().is_some_and(|bytes| bytes == 0 || bytes < 3_000_320), "{saved}");
    for format in ["raw", "overlay"] {
        host.ok(["build", "work@latest", format, "--format", format, "--verify"]);
        let made = if format == "raw" { "raw" } else { "qcow2" };
        qemu_img(&["compare", "-q", "-f", "qcow2", "-F", made, "top.qcow2", &format!("{format}/system.{made}")], &dir);
    }
}

#[test]
fn images_that_lie_or_lead_astray_are_refused() {
    let host = Host::bare();
    let dir = host.path("");
    make_raw(&host.path("a.raw"), 5_000_192);
    fs::create_dir(host.path("elsewhere")).unwrap();
    fs::write(host.path("elsewhere/secret.raw"), [1; 4096]).unwrap();
    host.ok(["init"]);
    let refused = |name: &str, parts: &[&str]| {
        let ran = host.run(["area", "add", "work", "--disk", name]);
        assert!(matches!(ran.code, 2 | 3), "{name}: {}", ran.code);
        let code = ran.code;
        ran.fails(code, parts);
    };
    let text = |name: &str, lines: &str| {
        let text = format!("# Disk DescriptorFile\nversion=1\nCID=13d79b56\nparentCID=ffffffff\ncreateType=\"custom\"\n{lines}\n");
        write(&host.path(name), text.as_bytes());
    };
    let elsewhere = host.path("elsewhere/secret.raw");
    text("up.vmdk", "RW 8 FLAT \"elsewhere/../../../../../../../../etc/passwd\" 0");
    refused("up.vmdk", &["in another folder", "--allow-dir"]);
    fs::create_dir(host.path("own")).unwrap();
    text("own/absolute.vmdk", &format!("RW 8 FLAT \"{}\" 0", elsewhere.display()));
    refused("own/absolute.vmdk", &["in another folder"]);
    std::os::unix::fs::symlink(&elsewhere, host.path("own/link.bin")).unwrap();
    text("own/linked.vmdk", "RW 8 FLAT \"link.bin\" 0");
    refused("own/linked.vmdk", &["in another folder"]);
    host.ok(["area", "add", "allowed", "--disk", "own/linked.vmdk", "--allow-dir", "elsewhere"]);
    text("own/device.vmdk", "RW 8 FLAT \"/dev/zero\" 0");
    refused("own/device.vmdk", &["in another folder"]);
    text("own/gone.vmdk", "RW 8 FLAT \"gone.bin\" 0");
    refused("own/gone.vmdk", &["cannot find"]);
    fs::write(host.path("own/short.bin"), [1; 4095]).unwrap();
    text("own/short.vmdk", "RW 8 FLAT \"short.bin\" 0");
    refused("own/short.vmdk", &["cut short or damaged"]);
    text("own/offset.vmdk", "RW 7 FLAT \"short.bin\" 36028797018963960");
    refused("own/offset.vmdk", &["begins nowhere"]);
    text("own/huge.vmdk", "RW 9223372036854775807 ZERO");
    refused("own/huge.vmdk", &["most that is read"]);
    text("own/below.vmdk", "RW 8 ZERO");
    let snapshot = |id: &str, below: &str| text("own/snapshot.vmdk", &format!("parentCID={id}\nparentFileNameHint=\"{below}\"\nRW 8 ZERO"));
    snapshot("13d79b56", "below.vmdk");
    refused("own/snapshot.vmdk", &["snapshot", "qemu-img convert"]);
    snapshot("12345678", "below.vmdk");
    refused("own/snapshot.vmdk", &["has changed since the snapshot"]);
    snapshot("13d79b56", "../elsewhere/secret.raw");
    refused("own/snapshot.vmdk", &["in another folder"]);
    write(&host.path("own/raw.vmdk"), &[5; 4096]);
    refused("own/raw.vmdk", &["named like a vmdk image"]);
    write(&host.path("own/empty.vmdk"), b"");
    refused("own/empty.vmdk", &["named like a vmdk image"]);

    qemu_img(&["convert", "-f", "raw", "-O", "vmdk", "-o", "subformat=twoGbMaxExtentSparse", "a.raw", "split.vmdk"], &dir);
    refused("split-s001.vmdk", &["one of the files", "descriptor"]);
    qemu_img(&["convert", "-f", "raw", "-O", "vmdk", "a.raw", "whole.vmdk"], &dir);
    let whole = fs::read(host.path("whole.vmdk")).unwrap();
    write(&host.path("cut.vmdk"), &whole[..300]);
    refused("cut.vmdk", &["cut short"]);
    let mut bytes = whole.clone();
    bytes[12..20].fill(0xFF);
    write(&host.path("long.vmdk"), &bytes);
    refused("long.vmdk", &["cut short, damaged"]);
    fs::copy(host.path("whole.vmdk"), host.path("guest-wrote-this.raw")).unwrap();
    refused("guest-wrote-this.raw", &["a guest could have written that", "format=vmdk"]);
    // Cut in its data it opens, and the save fails before an entry is made.
    write(&host.path("data.vmdk"), &whole[..whole.len() - 100_000]);
    host.ok(["area", "add", "work", "--disk", "system=data.vmdk"]);
    host.run(["save", "work", "-m", "cut"]).fails(3, &["cut short or damaged"]);
    assert_eq!(host.json_lines(["log"]).len(), 0);
}
