//! What trees may have where they are made: found out by trying each thing once.

use super::{AclTag, file_capabilities, name, posix_acl, set_mtime, set_xattr};
use rustix::fs::{CWD, FileType, Mode};
use std::fs;
use std::io::{Seek, SeekFrom, Write};
use std::os::unix::fs::{MetadataExt, PermissionsExt, lchown};
use std::path::Path;

/// What can be made in a directory by this process.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Able {
    /// Whether this process is root: modes may shut everybody else out.
    pub root: bool,
    /// Other owners and groups.
    pub owners: bool,
    /// Character and block devices.
    pub devices: bool,
    /// Holes in files.
    pub holes: bool,
    /// Attributes `user.*`.
    pub user_xattrs: bool,
    /// Attributes `trusted.*`, on links too.
    pub trusted_xattrs: bool,
    /// POSIX ACLs.
    pub acls: bool,
    /// `security.capability`.
    pub capabilities: bool,
    /// The earliest and the latest second that a file's time can be.
    pub seconds: (i64, i64),
    /// Names that are no UTF-8.
    pub any_names: bool,
    /// Hard links to symbolic links.
    pub linked_links: bool,
}

impl Able {
    /// Tries everything in `dir` and leaves nothing behind; prints what cannot be made.
    pub fn find_out(dir: &Path) -> Self {
        let at = dir.join("able");
        fs::create_dir(&at).unwrap();
        let (file, link) = (at.join("file"), at.join("link"));
        fs::write(&file, b"x").unwrap();
        std::os::unix::fs::symlink("nowhere", &link).unwrap();
        let acl = posix_acl(&[(AclTag::Owner, 6), (AclTag::User(7), 4), (AclTag::OwningGroup, 4), (AclTag::Mask, 4), (AclTag::Other, 0)]);
        let device = rustix::fs::mknodat(CWD, at.join("device"), FileType::CharacterDevice, Mode::RUSR, rustix::fs::makedev(1, 3));
        let keeps = |seconds: &i64| set_mtime(&file, *seconds, 5).is_ok() && fs::metadata(&file).unwrap().mtime() == *seconds;
        let able = Self {
            root: rustix::process::geteuid().is_root(),
            owners: lchown(&file, Some(12345), Some(54321)).is_ok(),
            devices: device.is_ok(),
            holes: has_holes(&at.join("holes")),
            user_xattrs: set_xattr(&file, "user.able", b"1").is_ok(),
            trusted_xattrs: set_xattr(&file, "trusted.able", b"1").is_ok() && set_xattr(&link, "trusted.able", b"1").is_ok(),
            acls: set_xattr(&file, "system.posix_acl_access", &acl).is_ok(),
            capabilities: set_xattr(&file, "security.capability", &file_capabilities(1 << 10)).is_ok(),
            // From the farthest that any file system keeps down to what all do.
            seconds: (
                [-60_000_000_000, -2_147_483_648].into_iter().find(keeps).unwrap_or(0),
                [250_000_000_000, 15_032_385_535, 4_294_967_295].into_iter().find(keeps).unwrap_or(2_147_483_647),
            ),
            any_names: fs::write(at.join(name(*b"\xff\xfe")), b"").is_ok(),
            linked_links: fs::hard_link(&link, at.join("link2")).is_ok(),
        };
        fs::remove_dir_all(&at).unwrap();
        let told = able.missing();
        if !told.is_empty() {
            eprintln!("not made here, because the file system or the rights do not allow it: {}", told.join(", "));
        }
        able
    }

    /// What trees made here will not have.
    pub fn missing(&self) -> Vec<&'static str> {
        let all = [
            (self.root, "modes that shut their owner out"),
            (self.owners, "other owners"),
            (self.devices, "devices"),
            (self.holes, "holes"),
            (self.user_xattrs, "user attributes"),
            (self.trusted_xattrs, "trusted attributes"),
            (self.acls, "ACLs"),
            (self.capabilities, "capabilities"),
            (self.seconds.0 < 0, "times before 1970"),
            (self.seconds.1 > 4_294_967_295, "times after 2106"),
            (self.any_names, "names that are no UTF-8"),
            (self.linked_links, "hard links to symbolic links"),
        ];
        all.into_iter().filter(|(able, _)| !able).map(|(_, what)| what).collect()
    }
}

fn has_holes(path: &Path) -> bool {
    let mut file = fs::File::create(path).unwrap();
    file.seek(SeekFrom::Start(1 << 20)).unwrap();
    file.write_all(b"end").unwrap();
    file.set_permissions(fs::Permissions::from_mode(0o600)).unwrap();
    rustix::fs::seek(&file, rustix::fs::SeekFrom::Data(0)).is_ok_and(|data| data > 0)
}
