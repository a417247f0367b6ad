//! The tree of a guest in a tar archive, unpacked by GNU tar, which knows owners, ACLs, capabilities and holes.
//!
//! It makes nothing outside its directory: absolute names and `..` are not followed, and links that lead out are made last.

use crate::command;
use std::path::Path;
use std::process::Command;
use std::time::Duration;
use vml_core::{Error, ErrorKind, Result};

/// Unpacks `archive`, which is not compressed, in `dir`, which is empty and which nobody else can enter.
///
/// # Errors
/// `Corrupt` for what is no whole archive, `UnsupportedFormat` without `tar`, `Interrupted` after `limit`.
pub fn extract(archive: &Path, dir: &Path, limit: Duration) -> Result<()> {
    let mut command = Command::new("tar");
    command.env("LC_ALL", "C").args([
        "--extract",
        "--preserve-permissions",
        "--numeric-owner",
        "--same-owner",
        "--acls",
        "--selinux",
        "--xattrs",
    ]);
    command
        .args(["--xattrs-include=*", "--delay-directory-restore", "--no-ignore-command-error", "--file"])
        .arg(archive)
        .arg("--directory")
        .arg(dir);
    let ran = command::run(command, limit)?;
    if ran.status.success() {
        return Ok(());
    }
    Err(Error::new(ErrorKind::Corrupt, format!("tar cannot unpack {}: {}", archive.display(), ran.words())))
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs;

    #[test]
    fn an_archive_is_unpacked_and_nothing_else_touched() {
        let place = tempfile::tempdir().unwrap();
        let path = |name: &str| place.path().join(name);
        fs::create_dir_all(path("in/etc")).unwrap();
        fs::write(path("in/etc/hostname"), "guest\n").unwrap();
        fs::write(path("outside"), "mine").unwrap();
        let tar = |args: &[&str]| {
            let status = Command::new("tar").args(args).current_dir(place.path()).status().unwrap();
            assert!(status.success());
        };
        tar(&["-cf", "good.tar", "-C", "in", "."]);
        fs::create_dir(path("out")).unwrap();
        extract(&path("good.tar"), &path("out"), Duration::from_secs(20)).unwrap();
        assert_eq!(fs::read(path("out/etc/hostname")).unwrap(), b"guest\n");

        fs::write(path("bad.tar"), vec![b'x'; 4096]).unwrap();
        fs::create_dir(path("out2")).unwrap();
        assert_eq!(extract(&path("bad.tar"), &path("out2"), Duration::from_secs(20)).unwrap_err().kind(), ErrorKind::Corrupt);
        // A link out of the tree, and a file through it.
        std::os::unix::fs::symlink("../outside", path("in/link")).unwrap();
        tar(&["-cf", "evil.tar", "-C", "in", "./link", "--transform", "s,etc/hostname,link,", "./etc/hostname"]);
        fs::create_dir(path("out3")).unwrap();
        _ = extract(&path("evil.tar"), &path("out3"), Duration::from_secs(20));
        assert_eq!(fs::read(path("outside")).unwrap(), b"mine");
    }
}
