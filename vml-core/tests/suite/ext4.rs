//! The files in ext2, ext3 and ext4 file systems that real tools make are those that were put in; nothing damaged panics.

use super::support::is_root;
use super::volume::{Bytes, tool};
use proptest::prelude::*;
use rustix::fs::XattrFlags;
use std::collections::BTreeMap;
use std::fs;
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::os::unix::fs::{MetadataExt, symlink};
use std::path::Path;
use vml_core::disk::Disk;
use vml_core::volume::ext4::{Ext4, Inode, InodeKind};
use vml_core::volume::find;
use vml_core::{ErrorKind, Result};
use vml_testkit::noise::incompressible;

pub type Attributes = Vec<(Vec<u8>, Vec<u8>)>;

/// A file as it is seen from outside.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Seen {
    pub kind: InodeKind,
    pub mode: u16,
    pub owner: (u32, u32),
    pub links_count: u64,
    pub seconds: i64,
    pub device: (u32, u32),
    /// A file's bytes or a link's target.
    pub content: Vec<u8>,
    pub attributes: Attributes,
}

/// All files by their paths, without the root.
pub type Tree = BTreeMap<Vec<u8>, Seen>;

/// A file's bytes, by its runs or from its inode; at most `max` of them.
pub fn content(disk: &dyn Disk, ext4: &Ext4<'_>, inode: &Inode, max: u64) -> Result<Vec<u8>> {
    let mut bytes = vec![0; usize::try_from(inode.len.min(max)).unwrap()];
    if let Some(inline) = ext4.inline_data(inode)? {
        let len = inline.len().min(bytes.len());
        bytes[..len].copy_from_slice(&inline[..len]);
    }
    for run in ext4.runs(inode)? {
        let rest = bytes.get_mut(usize::try_from(run.file_offset).unwrap()..).unwrap_or_default();
        let len = rest.len().min(usize::try_from(run.len).unwrap());
        disk.read_at(&mut rest[..len], run.disk_offset)?;
    }
    Ok(bytes)
}

fn seen(disk: &dyn Disk, ext4: &Ext4<'_>, inode: &Inode) -> Result<Seen> {
    Ok(Seen {
        kind: inode.kind,
        mode: inode.mode,
        owner: (inode.uid, inode.gid),
        // Directories are counted in ways that differ.
        links_count: if inode.kind == InodeKind::Directory { 0 } else { inode.links_count.into() },
        seconds: inode.mtime.seconds,
        device: if matches!(inode.kind, InodeKind::CharDevice | InodeKind::BlockDevice) { inode.device } else { (0, 0) },
        content: match inode.kind {
            InodeKind::File => content(disk, ext4, inode, u64::MAX)?,
            InodeKind::Symlink => ext4.symlink_target(inode)?,
            _ => Vec::new(),
        },
        attributes: ext4.attributes(inode)?,
    })
}

/// Everything in an image but `lost+found`.
pub fn tree_of_image(image: &[u8]) -> Tree {
    let disk = Bytes(image.to_vec());
    let ext4 = Ext4::open(&disk, &find(&disk).unwrap()[0]).unwrap();
    let mut tree = Tree::new();
    let mut directories = vec![(Vec::new(), 2)];
    while let Some((path, number)) = directories.pop() {
        let mut names = Vec::new();
        let directory = ext4.inode(number).unwrap();
        ext4.for_names(&directory, &mut |name| {
            names.push((name.name.to_vec(), name.inode));
            Ok(())
        })
        .unwrap();
        for (name, number) in names {
            let path = if path.is_empty() { name } else { [&path, &b"/"[..], &name].concat() };
            if path == b"lost+found" {
                continue;
            }
            let inode = ext4.inode(number).unwrap();
            if inode.kind == InodeKind::Directory {
                directories.push((path.clone(), number));
            }
            assert!(tree.insert(path, seen(&disk, &ext4, &inode).unwrap()).is_none());
        }
    }
    tree
}

/// The attributes of a file on this machine that its maker copies.
fn attributes_of_file(path: &Path) -> Attributes {
    let mut list = vec![0; 64 << 10];
    let len = rustix::fs::llistxattr(path, &mut list).unwrap_or(0);
    let mut attributes = Attributes::new();
    for name in list[..len].split(|byte| *byte == 0).filter(|name| !name.is_empty()) {
        let mut value = vec![0; 64 << 10];
        let len = rustix::fs::lgetxattr(path, name, &mut value).unwrap();
        attributes.push((name.to_vec(), value[..len].to_vec()));
    }
    attributes.sort_unstable();
    attributes
}

/// The same by the running system.
fn tree_of_directory(root: &Path, below: &Path, tree: &mut Tree) {
    for entry in fs::read_dir(below).unwrap() {
        let path = entry.unwrap().path();
        let meta = fs::symlink_metadata(&path).unwrap();
        let kind = match meta.mode() >> 12 {
            0x8 => InodeKind::File,
            0x4 => InodeKind::Directory,
            0xA => InodeKind::Symlink,
            0x1 => InodeKind::Fifo,
            other => panic!("{} has kind {other:#x}", path.display()),
        };
        let seen = Seen {
            kind,
            mode: u16::try_from(meta.mode() & 0o7777).unwrap(),
            owner: (meta.uid(), meta.gid()),
            links_count: if kind == InodeKind::Directory { 0 } else { meta.nlink() },
            seconds: meta.mtime(),
            device: (0, 0),
            content: match kind {
                InodeKind::File => fs::read(&path).unwrap(),
                InodeKind::Symlink => fs::read_link(&path).unwrap().into_os_string().into_vec(),
                _ => Vec::new(),
            },
            attributes: attributes_of_file(&path),
        };
        tree.insert(path.strip_prefix(root).unwrap().as_os_str().as_bytes().to_vec(), seen);
        if kind == InodeKind::Directory {
            tree_of_directory(root, &path, tree);
        }
    }
}

/// A tree with something of everything; whether this machine's file system lets files have attributes and lists.
pub fn plant(root: &Path) -> (bool, bool) {
    fs::create_dir_all(root.join("deep/deeper/deepest")).unwrap();
    fs::create_dir(root.join("many")).unwrap();
    fs::create_dir(root.join("few")).unwrap();
    for i in 0..3000 {
        fs::write(root.join(format!("many/{i:04}-{}", "n".repeat(i % 50))), []).unwrap();
    }
    for len in [0, 1, 59, 60, 61, 100, 150, 1023, 1024, 5000, 300_000] {
        fs::write(root.join(format!("deep/deeper/deepest/{len}")), incompressible(9, len)).unwrap();
    }
    for len in [1, 10, 59, 60, 61, 100, 150, 1000] {
        symlink("t".repeat(len), root.join(format!("few/link-{len}"))).unwrap();
    }
    fs::write(root.join("l".repeat(255)), b"long").unwrap();
    fs::write(root.join(std::ffi::OsStr::from_bytes(b"\xFF\x01 not text")), b"bytes").unwrap();
    fs::write(root.join("sparse"), [&vec![0; 200_000], &b"end"[..]].concat()).unwrap();
    fs::hard_link(root.join("sparse"), root.join("few/again")).unwrap();
    rustix::fs::mknodat(rustix::fs::CWD, root.join("few/fifo"), rustix::fs::FileType::Fifo, 0o640.into(), 0).unwrap();
    let set = |path: &str, name: &str, value: &[u8]| rustix::fs::lsetxattr(root.join(path), name, value, XattrFlags::empty()).is_ok();
    let mut attributes = set("sparse", "user.short", b"in the inode");
    attributes &= set("few", "user.empty", b"");
    attributes &= set("deep/deeper/deepest/100", "user.long", &incompressible(3, 700));
    attributes &= set("deep/deeper/deepest/100", "user.short", b"both");
    // The owner, user 1000, group 7, the mask and the others.
    let none = u32::MAX;
    let entries = [(1_u16, 6_u16, none), (2, 4, 1000), (4, 4, none), (8, 5, 7), (0x10, 7, none), (0x20, 0, none)];
    let mut list = 2_u32.to_le_bytes().to_vec();
    for (tag, permissions, id) in entries {
        list.extend([&tag.to_le_bytes()[..], &permissions.to_le_bytes(), &id.to_le_bytes()].concat());
    }
    let lists = set("few", "system.posix_acl_default", &list) & set("deep/deeper/deepest/5000", "system.posix_acl_access", &list);
    (attributes, lists)
}

/// Makes an image of a tree by the options of `mke2fs`.
pub fn make(dir: &Path, tree: &Path, options: &[&str]) -> std::path::PathBuf {
    let image = dir.join("image");
    _ = fs::remove_file(&image);
    tool("mke2fs", &[&["-q", "-F", "-d", tree.to_str().unwrap()], options, &[image.to_str().unwrap(), "24M"]].concat());
    image
}

/// Repairs an image, which must leave it clean.
pub fn repair(image: &Path, options: &str) {
    tool("sh", &["-c", &format!("e2fsck {options} {0} > {0}.log 2>&1; test $? -le 1", image.display())]);
}

/// Lets `debugfs` change an image by commands, one a line; what it complains about goes to its standard error only.
pub fn debugfs(image: &Path, commands: &str) {
    let file = image.with_extension("commands");
    fs::write(&file, commands).unwrap();
    tool(
        "sh",
        &[
            "-c",
            &format!(
                "out=$(debugfs -w -f {} {} 2>&1 >/dev/null | grep -v '^debugfs ') && echo $out >&2 && exit 1; true",
                file.display(),
                image.display()
            ),
        ],
    );
}

pub fn assert_same(found: &Tree, wanted: &Tree, what: &str) {
    assert_eq!(found.keys().collect::<Vec<_>>(), wanted.keys().collect::<Vec<_>>(), "{what}");
    for (path, wanted) in wanted {
        assert!(&found[path] == wanted, "{what}: {}\n{:?}\n{wanted:?}", String::from_utf8_lossy(path), found[path]);
    }
}

/// Small file systems have short blocks otherwise.
const EXT4: &[&str] = &["-t", "ext4", "-b", "4096"];

#[test]
fn an_image_has_the_files_that_were_put_in() {
    let dir = tempfile::tempdir().unwrap();
    let root = dir.path().join("tree");
    let (attributes, lists) = plant(&root);
    if !(attributes && lists) {
        eprintln!("without extended attributes or access control lists: this file system has none");
    }
    let mut wanted = Tree::new();
    tree_of_directory(&root, &root, &mut wanted);
    assert!(wanted.len() > 3000);
    for options in [
        EXT4,
        &["-t", "ext4", "-b", "4096", "-O", "inline_data"],
        &["-t", "ext4", "-b", "1024", "-O", "inline_data,^64bit", "-I", "1024"],
        &["-t", "ext4", "-b", "65536", "-N", "8192"],
        &["-t", "ext4", "-O", "bigalloc,meta_bg,^resize_inode", "-N", "8192"],
        &["-t", "ext3", "-b", "4096"],
        &["-t", "ext2", "-b", "1024", "-I", "128"],
        &["-t", "ext2", "-r", "1", "-O", "^filetype"],
    ] {
        let image = make(dir.path(), &root, options);
        assert_same(&tree_of_image(&fs::read(&image).unwrap()), &wanted, &format!("{options:?}"));
        // The same with indices.
        repair(&image, "-fyD");
        assert_same(&tree_of_image(&fs::read(&image).unwrap()), &wanted, &format!("{options:?} with indices"));
    }
}

#[test]
fn devices_and_attributes_of_the_system_are_read() {
    let dir = tempfile::tempdir().unwrap();
    let (root, value) = (dir.path().join("tree"), dir.path().join("value"));
    fs::create_dir(&root).unwrap();
    fs::write(root.join("file"), b"file").unwrap();
    // As long as a block, so that it needs an inode of its own.
    let long = incompressible(5, 4096);
    fs::write(&value, &long).unwrap();
    let image = make(dir.path(), &root, &["-t", "ext4", "-b", "4096", "-O", "ea_inode,inline_data"]);
    let commands = [
        "mknod old c 5 1",
        "mknod new b 300 40000",
        "mknod pipe p",
        "ea_set file security.label of_the_system",
        "ea_set file trusted.administrator yes",
        &format!("ea_set -f {} file user.long", value.display()),
        "ea_set old user.on_a_device 1",
    ];
    debugfs(&image, &commands.join("\n"));
    let tree = tree_of_image(&fs::read(&image).unwrap());
    let look = |name: &str| &tree[name.as_bytes()];
    assert_eq!((look("old").kind, look("old").device), (InodeKind::CharDevice, (5, 1)));
    assert_eq!((look("new").kind, look("new").device), (InodeKind::BlockDevice, (300, 40_000)));
    assert_eq!(look("pipe").kind, InodeKind::Fifo);
    assert_eq!(look("old").attributes, [(b"user.on_a_device".to_vec(), b"1".to_vec())]);
    let own: Attributes = look("file").attributes.iter().filter(|(name, _)| !name.starts_with(b"system.")).cloned().collect();
    let wanted: [(&[u8], &[u8]); 3] = [(b"security.label", b"of_the_system"), (b"trusted.administrator", b"yes"), (b"user.long", &long)];
    assert!(own.iter().map(|(name, value)| (name.as_slice(), value.as_slice())).eq(wanted));
    assert_eq!(look("file").content, b"file");
}

#[test]
fn what_is_encrypted_is_refused() {
    let dir = tempfile::tempdir().unwrap();
    let root = dir.path().join("tree");
    fs::create_dir_all(root.join("below")).unwrap();
    fs::write(root.join("file"), b"file").unwrap();
    symlink("target", root.join("link")).unwrap();
    let image = make(dir.path(), &root, &["-t", "ext4", "-O", "encrypt"]);
    debugfs(&image, "set_inode_field file flags 0x80800\nset_inode_field below flags 0x80800\nset_inode_field link flags 0x800");
    let disk = Bytes(fs::read(&image).unwrap());
    let ext4 = Ext4::open(&disk, &find(&disk).unwrap()[0]).unwrap();
    let mut refused = 0;
    let mut names = Vec::new();
    ext4.for_names(&ext4.inode(2).unwrap(), &mut |name| {
        names.push((name.name.to_vec(), name.inode));
        Ok(())
    })
    .unwrap();
    for (name, number) in names.iter().filter(|(name, _)| name != b"lost+found") {
        let inode = ext4.inode(*number).unwrap();
        let error = match inode.kind {
            InodeKind::Directory => ext4.for_names(&inode, &mut |_| Ok(())).unwrap_err(),
            InodeKind::Symlink => ext4.symlink_target(&inode).unwrap_err(),
            _ => ext4.runs(&inode).unwrap_err(),
        };
        assert_eq!(error.kind(), ErrorKind::UnsupportedFormat, "{name:?}: {error:?}");
        assert!(error.to_string().contains("encrypted"));
        refused += 1;
    }
    assert_eq!(refused, 3);
}

/// Walks what there is from the root, with bounds, and asks for everything.
fn walk_damaged(bytes: Vec<u8>) -> usize {
    let disk = Bytes(bytes);
    let mut count = 0;
    for volume in find(&disk).unwrap() {
        let Ok(ext4) = Ext4::open(&disk, &volume) else { continue };
        let mut directories = vec![2];
        let mut walked = 0;
        while let Some(number) = directories.pop().filter(|_| walked < 200) {
            walked += 1;
            let Ok(directory) = ext4.inode(number) else { continue };
            let mut numbers = Vec::new();
            _ = ext4.for_names(&directory, &mut |name| {
                assert!(!name.name.is_empty() && !name.name.contains(&0) && !name.name.contains(&b'/'));
                numbers.push(name.inode);
                if numbers.len() < 1000 { Ok(()) } else { Err(vml_core::Error::invalid("enough")) }
            });
            for number in numbers {
                let Ok(inode) = ext4.inode(number) else { continue };
                _ = (ext4.attributes(&inode), ext4.symlink_target(&inode), content(&disk, &ext4, &inode, 1 << 20));
                count += 1;
                if inode.kind == InodeKind::Directory {
                    directories.push(number);
                }
            }
        }
    }
    count
}

fn small_images() -> &'static [Vec<u8>] {
    static IMAGES: std::sync::OnceLock<Vec<Vec<u8>>> = std::sync::OnceLock::new();
    IMAGES.get_or_init(|| {
        let dir = tempfile::tempdir().unwrap();
        let root = dir.path().join("tree");
        plant(&root);
        fs::remove_dir_all(root.join("many")).unwrap();
        let mut images = Vec::new();
        for options in [EXT4, &["-t", "ext4", "-b", "1024", "-O", "inline_data"], &["-t", "ext3", "-b", "1024"]] {
            let image = make(dir.path(), &root, options);
            super::ext4_journal::dirty(dir.path(), &image, "jo -c", "write /dev/null new\nunlink sparse\n");
            images.push(fs::read(&image).unwrap());
        }
        images
    })
}

#[test]
fn small_images_are_worth_damaging() {
    for image in small_images() {
        let count = walk_damaged(image.clone());
        assert!(count > 25, "{count}");
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(256))]

    #[test]
    fn damage_never_panics(which in 0_usize..3, changes in proptest::collection::vec((any::<prop::sample::Index>(), any::<u8>(), 0_u8..4), 1..40)) {
        let mut bytes = small_images()[which].clone();
        // Most of an image is empty: what is damaged is what is not.
        static USED: std::sync::OnceLock<Vec<Vec<usize>>> = std::sync::OnceLock::new();
        let used = USED.get_or_init(|| {
            // Nor is what has hardly a zero: the files' content.
            let is_structure = |image: &[u8], at: usize| {
                let piece = &image[at & !1023..][..1024];
                image[at] != 0 && piece.iter().filter(|byte| **byte != 0).count() < 900
            };
            small_images().iter().map(|image| (0..image.len()).filter(|at| is_structure(image, *at)).collect()).collect()
        });
        for (at, value, kind) in changes {
            let at = if kind == 0 { 1024 + at.index(300) } else { *at.get(&used[which]) };
            bytes[at] = value;
        }
        walk_damaged(bytes);
    }
}

/// Whether this process may mount; said where a test then has nothing to do.
pub fn may_mount() -> bool {
    let may = is_root();
    if !may {
        eprintln!("passed over: only root may mount");
    }
    may
}
