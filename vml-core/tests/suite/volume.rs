//! Volumes: partition tables that real tools write, and where the files of a real ext4 lie; nothing that is damaged panics.

use proptest::prelude::*;
use std::fs;
use std::path::Path;
use std::process::Command;
use vml_core::Result;
use vml_core::disk::{Disk, Extent, ExtentKind};
use vml_core::volume::{FileSystem, file_runs, find};
use vml_testkit::noise::incompressible;

/// A disk in memory.
pub struct Bytes(pub Vec<u8>);

impl Disk for Bytes {
    fn len(&self) -> u64 {
        self.0.len() as u64
    }

    fn read_at(&self, buffer: &mut [u8], offset: u64) -> Result<()> {
        let start = usize::try_from(offset).unwrap();
        let part = self.0.get(start..).and_then(|rest| rest.get(..buffer.len()));
        buffer.copy_from_slice(part.ok_or_else(|| vml_core::Error::invalid("beyond the end"))?);
        Ok(())
    }

    fn extent_at(&self, offset: u64) -> Result<Extent> {
        Ok(Extent { len: self.len() - offset, kind: ExtentKind::Data, layer: 0 })
    }
}

/// Runs a tool, which must succeed.
pub fn tool(program: &str, args: &[&str]) {
    let mut command = Command::new(program);
    command.env("PATH", format!("{}:/usr/sbin:/sbin", std::env::var("PATH").unwrap_or_default()));
    let output = command.args(args).output().unwrap_or_else(|error| panic!("{program}, which scripts/setup.sh installs: {error}"));
    assert!(output.status.success(), "{program} {args:?}: {}", String::from_utf8_lossy(&output.stderr));
}

/// An image of a file system with some files, by the options of `mke2fs`.
fn make_image(dir: &Path, options: &[&str]) -> Vec<u8> {
    let (tree, image) = (dir.join("tree"), dir.join("image"));
    fs::create_dir_all(tree.join("below")).unwrap();
    for i in 0..40_u64 {
        fs::write(tree.join(format!("below/{i}")), incompressible(i, usize::try_from(i * i * 311 + 1).unwrap())).unwrap();
    }
    _ = fs::remove_file(&image);
    let (tree, image_name) = (tree.to_str().unwrap(), image.to_str().unwrap());
    tool("mke2fs", &[&["-q", "-d", tree, "-L", "guest"], options, &[image_name, "24M"]].concat());
    fs::read(image).unwrap()
}

#[test]
fn file_runs_are_where_the_files_are() {
    let dir = tempfile::tempdir().unwrap();
    for (options, kind) in [
        (&["-t", "ext4"][..], FileSystem::Ext4),
        (&["-t", "ext4", "-b", "1024", "-O", "^64bit"], FileSystem::Ext4),
        (&["-t", "ext4", "-O", "meta_bg,^resize_inode", "-I", "512"], FileSystem::Ext4),
        (&["-t", "ext3"], FileSystem::Ext3),
        (&["-t", "ext2", "-b", "1024", "-I", "128"], FileSystem::Ext2),
    ] {
        let disk = Bytes(make_image(dir.path(), options));
        let volumes = find(&disk).unwrap();
        assert_eq!((volumes.len(), volumes[0].kind, volumes[0].label.as_str()), (1, kind, "guest"), "{options:?}");
        let runs = file_runs(&disk, &volumes, 1 << 20).unwrap();
        assert!(runs.windows(2).all(|pair| pair[0].end <= pair[1].start));
        let place = |at: u64| usize::try_from(at).unwrap();
        for i in 0..40_u64 {
            let content = incompressible(i, usize::try_from(i * i * 311 + 1).unwrap());
            let found = runs.iter().any(|run| {
                let data = &disk.0[place(run.start)..place(run.end)];
                // A file in one piece, or the first piece of one.
                content.starts_with(data) && (data.len() == content.len() || data.len().is_multiple_of(1024))
            });
            assert!(found, "file {i} with {options:?}");
        }
        assert_eq!(runs.iter().map(|run| run.end - run.start).sum::<u64>(), (0..40).map(|i| i * i * 311 + 1).sum::<u64>(), "{options:?}");
        assert_eq!(file_runs(&disk, &volumes, 3).unwrap().len(), 3);
    }
}

#[test]
fn partitions_are_found_and_the_second_table_stands_in_for_the_first() {
    let dir = tempfile::tempdir().unwrap();
    let (image, script) = (dir.path().join("disk"), dir.path().join("script"));
    let tables = [
        ("label: dos\np1 : size=8M, type=83\np2 : size=16M, type=5\np5 : size=4M, type=83\np6 : size=6M, type=83\n", vec![1, 5, 6]),
        ("label: gpt\n,8M,L\n,16M,L\n", vec![1, 2]),
    ];
    for (table, numbers) in tables {
        fs::write(&script, table).unwrap();
        fs::write(&image, vec![0; 40 << 20]).unwrap();
        tool("sh", &["-c", &format!("sfdisk -q {} < {}", image.display(), script.display())]);
        let mut bytes = fs::read(&image).unwrap();
        let file_system = make_image(dir.path(), &["-t", "ext4"]);
        bytes[1 << 20..(1 << 20) + 4096].copy_from_slice(&file_system[..4096]);
        let found = |bytes: &[u8]| find(&Bytes(bytes.to_vec())).unwrap();
        let volumes = found(&bytes);
        assert_eq!(volumes.iter().map(|volume| volume.number).collect::<Vec<_>>(), numbers, "{table}");
        assert_eq!((volumes[0].offset, volumes[0].len, volumes[0].kind), (1 << 20, 8 << 20, FileSystem::Ext4));
        if table.contains("gpt") {
            bytes[512 + 80] ^= 1;
            assert_eq!(found(&bytes), volumes);
            let end = bytes.len();
            bytes[end - 512] ^= 1;
            assert_eq!(found(&bytes).iter().filter(|volume| volume.kind == FileSystem::Ext4).count(), 0);
        }
    }
    assert_eq!(find(&Bytes(vec![0; 100])).unwrap(), []);
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn damage_is_passed_over(changes in proptest::collection::vec((0_usize..1_000_000, any::<u8>()), 1..60), cut in 0_usize..24 << 20, cuts: bool) {
        static IMAGE: std::sync::OnceLock<Vec<u8>> = std::sync::OnceLock::new();
        let image = IMAGE.get_or_init(|| make_image(tempfile::tempdir().unwrap().path(), &["-t", "ext4"]));
        let mut bytes = image.clone();
        for (at, value) in changes {
            // Half of them in the superblock and the descriptors, where most depends on.
            bytes[if at % 2 == 0 { 1024 + at % 8192 } else { at }] = value;
        }
        if cuts {
            bytes.truncate(cut);
        }
        let disk = Bytes(bytes);
        let volumes = find(&disk).unwrap();
        let runs = file_runs(&disk, &volumes, 1000).unwrap();
        prop_assert!(runs.windows(2).all(|pair| pair[0].end <= pair[1].start));
        prop_assert!(runs.iter().all(|run| run.start < run.end));
    }
}
