//! Directory trees with everything a Linux guest has: made from a seed, changed as a day's work changes them, and looked
//! at through the standard library alone, independently of what is tested.
//!
//! What the file system or this process's rights do not allow is found out by trial and told, not assumed.

mod able;
mod change;
mod look;
mod make;

pub use able::Able;
pub use change::change_tree;
pub use look::{Seen, look_at, rsync_differences};
pub use make::{Kind, make_tree};

use rustix::fs::{AtFlags, CWD, Timespec, Timestamps, XattrFlags};
use std::ffi::OsString;
use std::os::unix::ffi::OsStringExt;
use std::path::{Path, PathBuf};

/// Every path below `root`, a directory before what is in it; links are not followed. The same for equal trees.
pub fn walk(root: &Path) -> Vec<PathBuf> {
    let mut found = Vec::new();
    let mut waiting = vec![root.to_path_buf()];
    while let Some(dir) = waiting.pop() {
        let mut members: Vec<PathBuf> = std::fs::read_dir(&dir).unwrap().map(|member| member.unwrap().path()).collect();
        members.sort_unstable();
        for member in members {
            if std::fs::symlink_metadata(&member).unwrap().is_dir() {
                waiting.push(member.clone());
            }
            found.push(member);
        }
    }
    found
}

/// A path component of any bytes.
pub fn name(bytes: impl Into<Vec<u8>>) -> OsString {
    OsString::from_vec(bytes.into())
}

/// Sets the modification time of anything, a link itself included.
pub fn set_mtime(path: &Path, seconds: i64, nanoseconds: u32) -> rustix::io::Result<()> {
    let time = Timespec { tv_sec: seconds, tv_nsec: nanoseconds.into() };
    rustix::fs::utimensat(CWD, path, &Timestamps { last_access: time, last_modification: time }, AtFlags::SYMLINK_NOFOLLOW)
}

/// Sets an extended attribute of anything, a link itself included.
pub fn set_xattr(path: &Path, name: &str, value: &[u8]) -> rustix::io::Result<()> {
    rustix::fs::lsetxattr(path, name, value, XattrFlags::empty())
}

/// A POSIX ACL as the kernel takes it: version 2, then tag, permissions and id of each entry, little-endian.
pub fn posix_acl(entries: &[(AclTag, u16)]) -> Vec<u8> {
    let mut bytes = 2_u32.to_le_bytes().to_vec();
    for (tag, permissions) in entries {
        let (tag, id) = match tag {
            AclTag::Owner => (0x01_u16, u32::MAX),
            AclTag::User(id) => (0x02, *id),
            AclTag::OwningGroup => (0x04, u32::MAX),
            AclTag::Group(id) => (0x08, *id),
            AclTag::Mask => (0x10, u32::MAX),
            AclTag::Other => (0x20, u32::MAX),
        };
        bytes.extend_from_slice(&tag.to_le_bytes());
        bytes.extend_from_slice(&permissions.to_le_bytes());
        bytes.extend_from_slice(&id.to_le_bytes());
    }
    bytes
}

/// Whom an ACL's entry is about; entries stand in this order.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum AclTag {
    /// The file's owner.
    Owner,
    /// Another user.
    User(u32),
    /// The file's group.
    OwningGroup,
    /// Another group.
    Group(u32),
    /// The most that named users and groups may.
    Mask,
    /// Everybody else.
    Other,
}

/// File capabilities as the kernel takes them: revision 2, effective, with these permitted.
pub fn file_capabilities(permitted: u32) -> Vec<u8> {
    [0x0200_0001_u32, permitted, 0, 0, 0].iter().flat_map(|word| word.to_le_bytes()).collect()
}
