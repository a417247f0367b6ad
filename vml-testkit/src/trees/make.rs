//! Makes a tree from a seed.

use super::{Able, AclTag, file_capabilities, name, posix_acl, set_mtime, set_xattr};
use crate::noise::{Rng, incompressible, text};
use rustix::fs::{CWD, FileType, Mode};
use std::ffi::OsString;
use std::fs::{self, File, Permissions};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{FileExt, MetadataExt, PermissionsExt, lchown, symlink};
use std::path::{Path, PathBuf};

/// What a member is made as.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// A regular file: empty, tiny, around the inline limit, or of several chunks.
    File,
    /// A regular file with holes, where there can be any.
    Sparse,
    /// A directory.
    Directory,
    /// A symbolic link, to something or to nothing.
    Symlink,
    /// One more name of something that is there.
    HardLink,
    /// A named pipe.
    Fifo,
    /// A character or block device, where this process may.
    Device,
    /// A socket, which no save takes.
    Socket,
}

const KINDS: [(Kind, usize); 8] = [
    (Kind::File, 9),
    (Kind::Sparse, 2),
    (Kind::Directory, 5),
    (Kind::Symlink, 3),
    (Kind::HardLink, 3),
    (Kind::Fifo, 1),
    (Kind::Device, 1),
    (Kind::Socket, 1),
];

/// Makes about `count` members below the existing directory `root`, with attributes of every kind, its own included.
pub fn make_tree(root: &Path, rng: &mut Rng, count: usize, able: &Able) {
    let mut maker = Maker { rng, able, directories: vec![root.to_path_buf()], others: Vec::new() };
    for _ in 0..count {
        maker.add();
    }
    let Maker { directories, others, .. } = maker;
    // A directory's time and mode last, and what is in it before: making members changes the one and may be refused by the other.
    for path in others.iter().chain(directories.iter().rev()) {
        dress(path, rng, able);
    }
}

struct Maker<'a> {
    rng: &'a mut Rng,
    able: &'a Able,
    directories: Vec<PathBuf>,
    others: Vec<PathBuf>,
}

impl Maker<'_> {
    fn add(&mut self) {
        let directory = self.directories[self.rng.below(self.directories.len())].clone();
        let path = directory.join(any_name(self.rng, self.able));
        // Paths longer than the system's calls take need other means, and names may meet.
        if path.as_os_str().len() > 3000 || path.symlink_metadata().is_ok() {
            return;
        }
        let kind = any_kind(self.rng);
        if kind == Kind::HardLink {
            if let Some(new) = link_to_any(&path, self.rng, &self.others, self.able) {
                self.others.push(new);
            }
            return;
        }
        make_member(&path, kind, self.rng, self.able);
        if kind == Kind::Directory { self.directories.push(path) } else { self.others.push(path) }
    }
}

pub(super) fn any_kind(rng: &mut Rng) -> Kind {
    let mut draw = rng.below(KINDS.iter().map(|(_, weight)| weight).sum());
    for (kind, weight) in KINDS {
        match draw.checked_sub(weight) {
            Some(rest) => draw = rest,
            None => return kind,
        }
    }
    unreachable!("the draw is below the sum")
}

fn link_to_any(path: &Path, rng: &mut Rng, others: &[PathBuf], able: &Able) -> Option<PathBuf> {
    if others.is_empty() {
        return None;
    }
    let target = &others[rng.below(others.len())];
    let is_link = fs::symlink_metadata(target).unwrap().is_symlink();
    (able.linked_links || !is_link).then(|| fs::hard_link(target, path).unwrap()).map(|()| path.to_path_buf())
}

/// Makes one member without particular attributes; a device becomes a FIFO where it cannot be made.
pub(super) fn make_member(path: &Path, kind: Kind, rng: &mut Rng, able: &Able) {
    let node = |kind, device| rustix::fs::mknodat(CWD, path, kind, Mode::RUSR | Mode::WUSR, device).unwrap();
    match kind {
        Kind::File | Kind::HardLink => fs::write(path, any_content(rng)).unwrap(),
        Kind::Sparse => make_sparse(path, rng),
        Kind::Directory => fs::create_dir(path).unwrap(),
        Kind::Symlink => symlink(any_target(rng), path).unwrap(),
        Kind::Socket => node(FileType::Socket, 0),
        Kind::Device if able.devices => {
            let kind = if rng.below(2) == 0 { FileType::CharacterDevice } else { FileType::BlockDevice };
            node(kind, rustix::fs::makedev(u32::try_from(rng.below(4000)).unwrap(), u32::try_from(rng.below(1 << 20)).unwrap()));
        }
        Kind::Fifo | Kind::Device => node(FileType::Fifo, 0),
    }
}

/// Bytes around every limit that matters: nothing, little, the inline limit, the smallest chunk, several chunks.
pub(super) fn any_content(rng: &mut Rng) -> Vec<u8> {
    let len = match rng.below(8) {
        0 => 0,
        1 => 1 + rng.below(20),
        2 => 511 + rng.below(3),
        3 => 2000 + rng.below(100),
        4 | 5 => rng.below(9000),
        6 => 20_000 + rng.below(100_000),
        _ => 65_536 + rng.below(3),
    };
    // Few seeds for the text, so that some files are equal.
    if rng.below(4) == 0 { incompressible(rng.next_u64(), len) } else { text(rng.below(5) as u64, len) }
}

/// A file with holes at its start, in the middle, at its end, or nothing else; not always of whole blocks.
fn make_sparse(path: &Path, rng: &mut Rng) {
    let file = File::create(path).unwrap();
    let block = 4096 * (1 + rng.below(40)) as u64;
    let odd = rng.below(4096) as u64;
    let data = incompressible(rng.next_u64(), 1 + rng.below(30_000));
    match rng.below(5) {
        0 => file.set_len(1 + odd).unwrap(),
        1 => file.set_len(block * 8 + odd).unwrap(),
        2 => file.write_all_at(&data, block).unwrap(),
        3 => {
            file.write_all_at(&data, 0).unwrap();
            file.set_len(data.len() as u64 + block + odd).unwrap();
        }
        _ => {
            for turn in 1..4 {
                file.write_all_at(&data[..data.len() / turn], block * turn as u64 * 3 + odd).unwrap();
            }
            file.set_len(block * 16 + odd).unwrap();
        }
    }
}

fn any_target(rng: &mut Rng) -> OsString {
    match rng.below(5) {
        0 => name(*b"."),
        1 => name(*b"../../../../etc/passwd"),
        2 => name(*b"/nowhere/at all"),
        3 => name(*b"not\xffutf8\n"),
        _ => name(vec![b'x'; 1 + rng.below(4000)]),
    }
}

pub(super) fn any_name(rng: &mut Rng, able: &Able) -> OsString {
    let number = rng.below(100_000);
    let text = match rng.below(12) {
        0 => format!(" {number} "),
        1 => format!("-rf {number}"),
        2 => format!("line\nbreak\t{number}"),
        3 => format!("\u{e4}\u{f6}\u{1f980}{number}"),
        4 => format!(".hidden{number}"),
        5 => format!("{number:0>255}"),
        6 => format!("*?[{number}]\\'\""),
        // Sorts differently with and without the slash that follows a directory.
        7 => format!("a{}{number}", ["-", ".", "0"][rng.below(3)]),
        _ => format!("file{number}.txt"),
    };
    let mut bytes = text.into_bytes();
    if able.any_names && rng.below(10) == 0 {
        bytes.truncate(250);
        bytes.extend_from_slice(b"\xc3\x28\xff");
    }
    name(bytes)
}

/// Gives a member an owner, a mode, attributes and a time, in the order that keeps each. Some are left plain.
pub(super) fn dress(path: &Path, rng: &mut Rng, able: &Able) {
    let meta = fs::symlink_metadata(path).unwrap();
    if able.owners && rng.below(3) == 0 {
        let ids = [0, 1000, 65_534, 4_000_000_000_u32];
        lchown(path, Some(ids[rng.below(4)]), Some(ids[rng.below(4)])).unwrap();
    }
    if !meta.is_symlink() {
        fs::set_permissions(path, Permissions::from_mode(any_mode(rng, able, meta.is_dir()))).unwrap();
    }
    if rng.below(3) == 0 {
        add_xattrs(path, rng, able);
    }
    let (seconds, nanoseconds) = any_time(rng, able);
    set_mtime(path, seconds, nanoseconds).unwrap();
}

fn any_mode(rng: &mut Rng, able: &Able, is_dir: bool) -> u32 {
    let common = if is_dir { [0o755, 0o700, 0o2775, 0o1777] } else { [0o644, 0o600, 0o755, 0o4755] };
    let mode = match rng.below(4) {
        0 => u32::try_from(rng.below(0o10000)).unwrap(),
        1 if able.root => 0,
        _ => common[rng.below(4)],
    };
    // Without root's rights a tree that shuts its owner out could not be read.
    if able.root { mode } else { mode | if is_dir { 0o500 } else { 0o400 } }
}

pub(super) fn any_time(rng: &mut Rng, able: &Able) -> (i64, u32) {
    let seconds = match rng.below(6) {
        0 => able.seconds.0,
        1 => able.seconds.1,
        2 => -i64::try_from(rng.below(2_000_000_000)).unwrap() * i64::from(able.seconds.0 < 0),
        _ => 1_500_000_000 + i64::try_from(rng.below(200_000_000)).unwrap(),
    };
    // The very first and last second that a file system keeps may have no fractions.
    let whole = seconds == able.seconds.0 || seconds == able.seconds.1;
    (seconds, if whole { 0 } else { [0, 1, 999_999_999, 123_456_789][rng.below(4)] })
}

pub(super) fn add_xattrs(path: &Path, rng: &mut Rng, able: &Able) {
    let meta = fs::symlink_metadata(path).unwrap();
    let kind = meta.file_type();
    // The kernel keeps user attributes for files and directories only, and asks for the right to write.
    let writable = able.root || meta.mode() & 0o200 != 0;
    if able.user_xattrs && writable && (kind.is_file() || kind.is_dir()) {
        for _ in 0..rng.below(3) {
            let len = [0, 5, 300, 1500][rng.below(4)];
            _ = set_xattr(path, &format!("user.note{}", rng.below(50)), &incompressible(rng.next_u64(), len));
        }
    }
    if able.trusted_xattrs && rng.below(3) == 0 {
        // May be too much for one file together with the others.
        _ = set_xattr(path, "trusted.vml", path.file_name().map_or(b"root".as_slice(), OsStrExt::as_bytes));
    }
    if able.acls && !kind.is_symlink() && rng.below(2) == 0 {
        let id = u32::try_from(rng.below(70_000)).unwrap();
        let bits = |rng: &mut Rng| u16::try_from(rng.below(8)).unwrap();
        let acl = posix_acl(&[
            (AclTag::Owner, 7),
            (AclTag::User(id), bits(rng)),
            (AclTag::OwningGroup, bits(rng)),
            (AclTag::Group(id + 1), bits(rng)),
            (AclTag::Mask, bits(rng)),
            (AclTag::Other, bits(rng)),
        ]);
        _ = set_xattr(path, "system.posix_acl_access", &acl);
        if kind.is_dir() {
            _ = set_xattr(path, "system.posix_acl_default", &acl);
        }
    }
    if able.capabilities && kind.is_file() && rng.below(4) == 0 {
        _ = set_xattr(path, "security.capability", &file_capabilities(1 << rng.below(20)));
    }
}
