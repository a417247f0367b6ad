//! File systems whose last changes are in their journal alone are read as they are once it is replayed.

use super::ext4::{assert_same, debugfs, make, may_mount, plant, repair, tree_of_image};
use super::volume::{Bytes, tool};
use std::collections::BTreeMap;
use std::fs;
use std::os::unix::ffi::OsStringExt;
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};
use std::process::Command;
use vml_core::ErrorKind;
use vml_core::volume::ext4::Ext4;
use vml_core::volume::find;
use vml_testkit::noise::incompressible;

fn block_len(image: &[u8]) -> usize {
    1024 << image[1024 + 0x18]
}

/// Does to an image what the commands of `debugfs` do, in its journal only; gives back what it would be without one.
pub fn dirty(dir: &Path, image: &Path, open: &str, commands: &str) -> Vec<u8> {
    let changed = dir.join("changed");
    fs::copy(image, &changed).unwrap();
    debugfs(&changed, commands);
    let (before, after) = (fs::read(image).unwrap(), fs::read(&changed).unwrap());
    let len = block_len(&before);
    let blocks: BTreeMap<usize, &[u8]> =
        (0..).zip(after.chunks(len)).filter(|(block, bytes)| &before[block * len..][..len] != *bytes).collect();
    assert!(blocks.len() > 2);
    log(dir, image, open, &[Logged { blocks, ..Logged::default() }]);
    after
}

/// A transaction for the journal.
#[derive(Default)]
struct Logged<'a> {
    blocks: BTreeMap<usize, &'a [u8]>,
    revoked: Option<usize>,
    uncommitted: bool,
}

fn log(dir: &Path, image: &Path, open: &str, transactions: &[Logged<'_>]) {
    let mut commands = format!("{open}\n");
    for (i, transaction) in transactions.iter().enumerate() {
        let file = dir.join(format!("transaction-{i}"));
        fs::write(&file, transaction.blocks.values().copied().collect::<Vec<_>>().concat()).unwrap();
        let numbers = transaction.blocks.keys().map(ToString::to_string).collect::<Vec<_>>().join(",");
        let revoked = transaction.revoked.map(|block| format!("-r {block} ")).unwrap_or_default();
        let uncommitted = if transaction.uncommitted { "-c " } else { "" };
        commands += &format!("jw {uncommitted}{revoked}-b {numbers} {}\n", file.display());
    }
    commands += "jc\n";
    debugfs(image, &commands);
    let bytes = fs::read(image).unwrap();
    assert_eq!(bytes[1024 + 0x60] & 0x4, 0x4, "the image needs recovery");
}

/// A copy of an image that was repaired, which replays its journal.
fn repaired(dir: &Path, image: &Path) -> Vec<u8> {
    let copy = dir.join("repaired");
    fs::copy(image, &copy).unwrap();
    repair(&copy, "-fy");
    fs::read(copy).unwrap()
}

const CHANGES: &str = "mkdir added\nwrite /etc/hostname added/name\nsymlink added/link a/target\nunlink sparse\n\
    ea_set few user.later value\nwrite /bin/sh added/sh\nset_inode_field few mode 040700\n";

const OPTIONS: [(&[&str], &str); 6] = [
    (&["-t", "ext4", "-b", "4096"], "jo"),
    (&["-t", "ext4", "-b", "4096"], "jo -c"),
    (&["-t", "ext4", "-b", "4096"], "jo -c -v 2"),
    (&["-t", "ext4", "-b", "1024", "-O", "^64bit"], "jo -c -v 2"),
    (&["-t", "ext4", "-b", "1024", "-O", "^64bit,inline_data"], "jo -c"),
    (&["-t", "ext3", "-b", "1024"], "jo"),
];

#[test]
fn committed_changes_are_seen() {
    let dir = tempfile::tempdir().unwrap();
    let root = dir.path().join("tree");
    plant(&root);
    for (options, open) in OPTIONS {
        let image = make(dir.path(), &root, options);
        let before = tree_of_image(&fs::read(&image).unwrap());
        let after = dirty(dir.path(), &image, open, CHANGES);
        let found = tree_of_image(&fs::read(&image).unwrap());
        assert!(found != before && found.contains_key(&b"added/sh"[..]) && !found.contains_key(&b"sparse"[..]));
        assert_same(&found, &tree_of_image(&after), &format!("{options:?} {open}"));
        // Repair also counts a name of the removed file anew.
        let mut wanted = tree_of_image(&repaired(dir.path(), &image));
        for (path, seen) in &mut wanted {
            seen.links_count = found[path].links_count;
        }
        assert_same(&found, &wanted, &format!("{options:?} {open}, repaired"));
    }
}

#[test]
fn uncommitted_and_revoked_changes_are_not() {
    let dir = tempfile::tempdir().unwrap();
    let root = dir.path().join("tree");
    fs::create_dir(&root).unwrap();
    for name in ["revoked", "uncommitted", "changed", "escaped", "other"] {
        fs::write(root.join(name), incompressible(1, 30_000)).unwrap();
    }
    let target = [&[0xC0, 0x3B, 0x39, 0x98][..], &[b't'; 96]].concat();
    symlink(std::ffi::OsString::from_vec(target.clone()), root.join("link")).unwrap();
    // `debugfs` writes what follows a revoking transaction over the end of that, so the two are for two images.
    for ((options, open), revokes) in OPTIONS.into_iter().flat_map(|case| [(case, true), (case, false)]) {
        let image = make(dir.path(), &root, options);
        let bytes = fs::read(&image).unwrap();
        let before = tree_of_image(&bytes);
        let disk = Bytes(bytes.clone());
        let ext4 = Ext4::open(&disk, &find(&disk).unwrap()[0]).unwrap();
        let mut inodes = BTreeMap::new();
        ext4.for_names(&ext4.inode(2).unwrap(), &mut |name| {
            inodes.insert(String::from_utf8(name.name.to_vec()).unwrap(), ext4.inode(name.inode)?);
            Ok(())
        })
        .unwrap();
        let len = block_len(&bytes);
        // The second block of a file.
        let block = |name: &str| usize::try_from(ext4.runs(&inodes[name]).unwrap()[0].disk_offset).unwrap() / len + 1;
        let noise = incompressible(2, len);
        let marked = [&[0xC0, 0x3B, 0x39, 0x98][..], &noise[4..]].concat();
        // A link's target is with those blocks that the journal has in any case.
        let link = bytes.chunks(len).position(|chunk| chunk.starts_with(&target));
        let mut first = BTreeMap::from([(block("revoked"), &noise[..]), (block("changed"), &noise), (block("escaped"), &marked)]);
        first.extend(link.map(|link| (link, &bytes[link * len..][..len])));
        let other = BTreeMap::from([(block("other"), &noise[..])]);
        let mut transactions = vec![
            Logged { blocks: first, ..Logged::default() },
            Logged { blocks: other, revoked: revokes.then(|| block("revoked")), ..Logged::default() },
        ];
        if !revokes {
            let blocks = BTreeMap::from([(block("uncommitted"), &noise[..])]);
            transactions.push(Logged { blocks, uncommitted: true, ..Logged::default() });
        }
        log(dir.path(), &image, open, &transactions);
        if let Some(link) = link {
            let mut bytes = fs::read(&image).unwrap();
            bytes[link * len..][..len].fill(b'x');
            fs::write(&image, bytes).unwrap();
        }

        let disk = Bytes(fs::read(&image).unwrap());
        let ext4 = Ext4::open(&disk, &find(&disk).unwrap()[0]).unwrap();
        assert_eq!(ext4.symlink_target(&inodes["link"]).unwrap(), target, "{options:?}");
        let read = |name: &str| super::ext4::content(&disk, &ext4, &inodes[name], u64::MAX).unwrap();
        let old = &before[&b"revoked"[..]].content;
        let mut new = old.clone();
        new[len..2 * len].copy_from_slice(&noise);
        let what = format!("{options:?} {open}, revokes: {revokes}");
        assert!(read("revoked") == if revokes { old.clone() } else { new.clone() }, "{what}");
        assert!(read("uncommitted") == *old, "{what}");
        assert!(read("changed") == new && read("other") == new, "{what}");
        assert_eq!(ext4.runs(&inodes["escaped"]).unwrap_err().kind(), ErrorKind::UnsupportedFormat);
        let repaired = tree_of_image(&repaired(dir.path(), &image));
        for name in ["revoked", "uncommitted", "changed", "other"] {
            assert!(repaired[name.as_bytes()].content == read(name), "{name} {what}");
        }
        assert!(repaired[&b"escaped"[..]].content[len..].starts_with(&marked));
    }
}

#[test]
fn a_journal_that_goes_round_its_end_is_read_round_it() {
    let dir = tempfile::tempdir().unwrap();
    let root = dir.path().join("tree");
    plant(&root);
    let image = make(dir.path(), &root, &["-t", "ext4", "-b", "4096"]);
    let after = tree_of_image(&dirty(dir.path(), &image, "jo -c", CHANGES));
    let mut bytes = fs::read(&image).unwrap();
    // Where the journal's blocks are: its inode has number 8.
    let pieces: Vec<std::ops::Range<usize>> = {
        let disk = Bytes(bytes.clone());
        let ext4 = Ext4::open(&disk, &find(&disk).unwrap()[0]).unwrap();
        let runs = ext4.runs(&ext4.inode(8).unwrap()).unwrap();
        let place = |at: u64| usize::try_from(at).unwrap();
        runs.iter().map(|run| place(run.disk_offset)..place(run.disk_offset + run.len)).collect()
    };
    let journal: Vec<u8> = pieces.iter().flat_map(|piece| bytes[piece.clone()].to_vec()).collect();
    let field = |at: usize| u32::from_be_bytes(journal[at..at + 4].try_into().unwrap());
    let len = field(0x10) as usize;
    assert_eq!((field(0x14), field(0x1C), len * 4096), (1, 1, journal.len()));
    let write = |bytes: &mut [u8], mut journal: &[u8]| {
        for piece in &pieces {
            let (part, rest) = journal.split_at(piece.len());
            bytes[piece.clone()].copy_from_slice(part);
            journal = rest;
        }
    };
    for behind in [1, 2, 5] {
        let mut turned = journal.clone();
        turned[4096..].rotate_left(behind * 4096);
        turned[0x1C..0x20].copy_from_slice(&u32::try_from(len - behind).unwrap().to_be_bytes());
        write(&mut bytes, &turned);
        assert_same(&tree_of_image(&bytes), &after, &format!("{behind} blocks before the end"));
    }
    bytes[pieces[0].start] ^= 1;
    let disk = Bytes(bytes);
    let error = Ext4::open(&disk, &find(&disk).unwrap()[0]).err().unwrap();
    assert_eq!(error.kind(), ErrorKind::Corrupt, "{error:?}");
}

/// An image mounted through a loop device.
struct Mounted(PathBuf);

impl Mounted {
    /// `None` where this machine does not let root mount, as in a container.
    fn new(image: &Path, at: &Path) -> Option<Self> {
        fs::create_dir_all(at).unwrap();
        let output = Command::new("mount").args(["-o", "loop"]).args([image, at]).output().unwrap();
        output.status.success().then(|| Self(at.to_path_buf()))
    }
}

impl Drop for Mounted {
    fn drop(&mut self) {
        _ = Command::new("umount").arg(&self.0).status();
    }
}

#[test]
fn a_file_system_in_use_is_read_as_its_repair_leaves_it() {
    if !may_mount() {
        return;
    }
    let dir = tempfile::tempdir().unwrap();
    let root = dir.path().join("tree");
    plant(&root);
    for options in [&["-t", "ext4", "-b", "4096"][..], &["-t", "ext4", "-b", "1024", "-O", "inline_data"], &["-t", "ext3"]] {
        let image = make(dir.path(), &root, options);
        let Some(mounted) = Mounted::new(&image, &dir.path().join("mounted")) else {
            eprintln!("passed over: this machine does not let an image be mounted");
            return;
        };
        for i in 0..300 {
            fs::create_dir(mounted.0.join(format!("new-{i}"))).unwrap();
            fs::write(mounted.0.join(format!("new-{i}/file")), incompressible(i, usize::try_from(i * 37).unwrap())).unwrap();
        }
        tool("sync", &["-f", mounted.0.to_str().unwrap()]);
        for i in (0..300).step_by(3) {
            fs::remove_dir_all(mounted.0.join(format!("new-{i}"))).unwrap();
        }
        fs::remove_file(mounted.0.join("sparse")).unwrap();
        fs::write(mounted.0.join("last"), b"last").unwrap();
        tool("sync", &["-f", mounted.0.to_str().unwrap()]);
        let copy = dir.path().join("copy");
        fs::copy(&image, &copy).unwrap();
        drop(mounted);
        let bytes = fs::read(&copy).unwrap();
        assert_eq!(bytes[1024 + 0x60] & 0x4, 0x4, "the copy needs recovery");
        let found = tree_of_image(&bytes);
        assert!(found.contains_key(&b"last"[..]) && found.contains_key(&b"new-1/file"[..]) && !found.contains_key(&b"new-3"[..]));
        assert_same(&found, &tree_of_image(&repaired(dir.path(), &copy)), &format!("{options:?}"));
    }
}
