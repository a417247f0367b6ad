//! Images that only QEMU reads: as exact as those that are read here.

use crate::exports::{has_server, tool};
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;
use vml_core::ErrorKind;
use vml_core::disk::{Disk, ExtentKind, changed_above};
use vml_hv::image::{OpenOptions, layers, open};
use vml_testkit::noise::incompressible;

fn read(disk: &dyn Disk) -> Vec<u8> {
    let mut bytes = vec![0xAA; usize::try_from(disk.len()).unwrap()];
    disk.read_at(&mut bytes, 0).unwrap();
    bytes
}

/// Kinds and layers with their ends, neighbours that are alike together.
fn map(disk: &dyn Disk) -> Vec<(u64, ExtentKind, usize)> {
    let mut map: Vec<(u64, ExtentKind, usize)> = Vec::new();
    let mut at = 0;
    while at < disk.len() {
        let extent = disk.extent_at(at).unwrap();
        assert!(extent.len > 0 && at + extent.len <= disk.len(), "{extent:?} at {at}");
        at += extent.len;
        match map.last_mut() {
            Some(last) if (last.1, last.2) == (extent.kind, extent.layer) => last.0 = at,
            _ => map.push((at, extent.kind, extent.layer)),
        }
    }
    map
}

fn qemu_io(image: &str, commands: &[&str], dir: &Path) {
    let args: Vec<&str> = ["-f", "qcow2"].into_iter().chain(commands.iter().flat_map(|command| ["-c", command])).chain([image]).collect();
    tool("qemu-io", &args, dir);
}

/// A chain upon `base.raw` or, without a raw one, upon `0.qcow2`; the images of each pair of options are written alike.
fn make_chain(dir: &Path, raw: bool, options: [&str; 3]) -> PathBuf {
    fs::create_dir_all(dir).unwrap();
    if raw {
        let mut bytes = incompressible(1, 20 << 20);
        bytes[4 << 20..8 << 20].fill(0);
        fs::write(dir.join("dense.raw"), bytes).unwrap();
        tool("qemu-img", &["convert", "-f", "raw", "-O", "raw", "-S", "64k", "dense.raw", "base.raw"], dir);
        tool("qemu-img", &["create", "-q", "-f", "qcow2", "-o", options[0], "-b", "base.raw", "-F", "raw", "0.qcow2", "20M"], dir);
    } else {
        tool("qemu-img", &["create", "-q", "-f", "qcow2", "-o", options[0], "0.qcow2", "20M"], dir);
    }
    qemu_io("0.qcow2", &["write -P 1 0 3M", "write -z 5M 128k", "write -P 2 12M 128k"], dir);
    // The middle one is shorter than those around it.
    tool("qemu-img", &["create", "-q", "-f", "qcow2", "-o", options[1], "-b", "0.qcow2", "-F", "qcow2", "1.qcow2", "10M"], dir);
    qemu_io("1.qcow2", &["write -P 3 1M 256k", "write -z 2M 128k", "write -c -P 4 3M 128k", "write -P 5 4M 4k"], dir);
    tool("qemu-img", &["create", "-q", "-f", "qcow2", "-o", options[2], "-b", "1.qcow2", "-F", "qcow2", "2.qcow2", "30M"], dir);
    qemu_io("2.qcow2", &["write -P 6 1152k 128k", "write -z 0 128k", "write -c -P 7 25M 128k", "write -P 8 4100k 8k"], dir);
    dir.join("2.qcow2")
}

#[test]
fn layers_are_those_of_images_that_are_read_here() {
    if !has_server("layers_are_those_of_images_that_are_read_here") {
        return;
    }
    let dir = tempfile::tempdir().unwrap();
    // Clusters of 4 KiB, and clusters of 128 KiB with 32 parts of which each may be there or not.
    let (plain, zstd, extended) = ("cluster_size=4k", "cluster_size=4k,compression_type=zstd", "cluster_size=128k,extended_l2=on");
    let both = "cluster_size=128k,extended_l2=on,compression_type=zstd";
    for raw in [true, false] {
        let here = open(&make_chain(&dir.path().join(format!("here-{raw}")), raw, [plain; 3]), &OpenOptions::default()).unwrap();
        let chains = [[zstd; 3], [extended; 3], [both, plain, plain], [plain, zstd, plain], [plain, extended, both]];
        for (number, options) in chains.into_iter().enumerate() {
            let path = make_chain(&dir.path().join(format!("{number}-{raw}")), raw, options);
            let disk = open(&path, &OpenOptions::default()).unwrap();
            assert_eq!(disk.len(), 30 << 20);
            assert_eq!(map(disk.as_ref()), map(here.as_ref()), "{options:?}");
            for above in 0..=disk.layers().len() {
                assert_eq!(changed_above(disk.as_ref(), above).unwrap(), changed_above(here.as_ref(), above).unwrap());
            }
            assert!(read(disk.as_ref()) == read(here.as_ref()), "{options:?}");
            assert_eq!(layers(&path, &OpenOptions::default()).unwrap(), disk.layers());
            assert_eq!(disk.layers_now().unwrap(), disk.layers());
            tool("qemu-img", &["convert", "-f", "qcow2", "-O", "raw", path.to_str().unwrap(), "whole.raw"], dir.path());
            assert!(read(disk.as_ref()) == fs::read(dir.path().join("whole.raw")).unwrap(), "{options:?}");
        }
    }
}

#[test]
fn names_and_formats_are_told_not_guessed() {
    if !has_server("names_and_formats_are_told_not_guessed") {
        return;
    }
    let dir = tempfile::tempdir().unwrap();
    let folder = dir.path().join("a \"strange\" folder, {x}");
    fs::create_dir(&folder).unwrap();
    // The lowest image is raw, and its guest wrote the header of an image there that names another file.
    fs::write(folder.join("secret.raw"), [7; 1 << 20]).unwrap();
    tool("qemu-img", &["create", "-q", "-f", "qcow2", "-b", "secret.raw", "-F", "raw", "trap.qcow2"], &folder);
    fs::rename(folder.join("trap.qcow2"), folder.join("base.img")).unwrap();
    tool(
        "qemu-img",
        &["create", "-q", "-f", "qcow2", "-o", "compression_type=zstd", "-b", "base.img", "-F", "raw", "top.qcow2", "2M"],
        &folder,
    );
    let disk = open(&folder.join("top.qcow2"), &OpenOptions::default()).unwrap();
    let bytes = read(disk.as_ref());
    let base = fs::read(folder.join("base.img")).unwrap();
    assert!(bytes[..base.len()] == base && bytes[base.len()..].iter().all(|byte| *byte == 0));
    // Data in another file.
    let options = "compression_type=zstd,data_file=data.raw";
    tool("qemu-img", &["create", "-q", "-f", "qcow2", "-o", options, "data.qcow2", "1M"], &folder);
    qemu_io("data.qcow2", &["write -P 9 64k 64k"], &folder);
    let disk = open(&folder.join("data.qcow2"), &OpenOptions::default()).unwrap();
    assert!(read(disk.as_ref())[65536..131_072] == [9; 65536]);
    assert_eq!(disk.layers()[0].files.len(), 2);
}

#[test]
fn an_image_in_use_is_read_and_its_server_ends() {
    if !has_server("an_image_in_use_is_read_and_its_server_ends") {
        return;
    }
    let dir = tempfile::tempdir().unwrap();
    let run = dir.path().join("run");
    fs::create_dir(&run).unwrap();
    let image = dir.path().join("a.qcow2");
    tool("qemu-img", &["create", "-q", "-f", "qcow2", "-o", "compression_type=zstd", "a.qcow2", "4M"], dir.path());
    qemu_io("a.qcow2", &["write -P 3 1M 1M"], dir.path());
    let mut writer = Command::new("qemu-io").args(["-f", "qcow2", "-c", "sleep 60000"]).arg(&image).spawn().unwrap();
    std::thread::sleep(Duration::from_millis(300));
    let opened = open(&image, &OpenOptions { run_dir: Some(run.clone()), ..OpenOptions::default() });
    writer.kill().unwrap();
    writer.wait().unwrap();
    let disk = opened.unwrap();
    assert!(read(disk.as_ref())[1 << 20..2 << 20].iter().all(|byte| *byte == 3));
    assert_eq!(fs::read_dir(&run).unwrap().count(), 0, "the socket's folder is gone once connected");
    // Its command line names the image.
    let servers = || {
        let processes = fs::read_dir("/proc").unwrap().flatten().filter_map(|process| fs::read(process.path().join("cmdline")).ok());
        let name = image.to_str().unwrap();
        processes.filter(|line| line.starts_with(b"qemu-nbd") && String::from_utf8_lossy(line).contains(name)).count()
    };
    assert_eq!(servers(), 1);
    drop(disk);
    assert_eq!(servers(), 0);
}

#[test]
fn what_qemu_cannot_help_with_is_told() {
    let dir = tempfile::tempdir().unwrap();
    let create = |options: &str, name: &str| tool("qemu-img", &["create", "-q", "-f", "qcow2", "-o", options, name, "4M"], dir.path());
    create("compression_type=zstd", "a.qcow2");
    qemu_io("a.qcow2", &["write -P 3 1M 1M"], dir.path());
    let refused = |name: &str, options: &OpenOptions| {
        let error = open(&dir.path().join(name), options).err().expect(name);
        (error.kind(), error.to_string())
    };
    let program = |program: &str| OpenOptions { qemu_nbd: Some(PathBuf::from(program)), ..OpenOptions::default() };
    let (kind, message) = refused("a.qcow2", &program("no-such-qemu-nbd"));
    assert_eq!(kind, ErrorKind::UnsupportedFormat);
    assert!(message.contains("compressed with zstd") && message.contains("install no-such-qemu-nbd"), "{message}");
    let (kind, message) = refused("a.qcow2", &program("false"));
    assert!(kind == ErrorKind::UnsupportedFormat && message.contains("cannot open the image"), "{message}");
    let nowhere = OpenOptions { run_dir: Some(dir.path().join("nowhere")), ..OpenOptions::default() };
    assert_eq!(refused("a.qcow2", &nowhere).0, ErrorKind::NotFound);
    // QEMU would take for zeros what is cut off.
    for options in ["compression_type=zstd", "extended_l2=on"] {
        create(options, "cut.qcow2");
        qemu_io("cut.qcow2", &["write -P 3 1M 1M"], dir.path());
        let file = fs::File::options().write(true).open(dir.path().join("cut.qcow2")).unwrap();
        file.set_len(file.metadata().unwrap().len() - (512 << 10)).unwrap();
        let (kind, message) = refused("cut.qcow2", &OpenOptions::default());
        assert!(kind == ErrorKind::Corrupt && message.contains("cut short"), "{message}");
    }
    let luks = ["create", "-q", "--object", "secret,id=s,data=x", "-f", "qcow2", "-o"];
    let format = "encrypt.format=luks,encrypt.key-secret=s,encrypt.iter-time=10,compression_type=zstd";
    tool("qemu-img", &[luks.as_slice(), &[format, "luks.qcow2", "4M"]].concat(), dir.path());
    let (kind, message) = refused("luks.qcow2", &OpenOptions::default());
    assert!(kind == ErrorKind::UnsupportedFormat, "{message}");
}
