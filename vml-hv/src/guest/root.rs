//! The root directory of a guest.

use rustix::fs::{FileType, Mode, OFlags, ResolveFlags};
use std::fs::File;
use std::io::Read;
use std::os::fd::OwnedFd;
use std::path::Path;
use vml_core::Result;

/// What of a guest's root lives only while it runs, or elsewhere: kernel and device file systems, scratch space, and CVMFS,
/// which brings its software from its own servers.
pub const DEFAULT_EXCLUDE: [&str; 6] = ["/proc/*", "/sys/*", "/dev/*", "/run/*", "/tmp/*", "/cvmfs/*"];

/// Largest file that is read to learn about a guest.
const FILE_MAX_LEN: u64 = 4 << 20;

/// An open directory that may be the root of a guest.
#[derive(Debug)]
pub struct GuestRoot {
    fd: OwnedFd,
}

impl GuestRoot {
    /// Opens a directory.
    ///
    /// # Errors
    /// When it cannot be opened.
    pub fn open(path: &Path) -> Result<Self> {
        use vml_core::IoResultExt as _;
        let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
        let fd = rustix::fs::open(path, flags, Mode::empty()).at(|| format!("cannot open directory {}", path.display()))?;
        Ok(Self { fd })
    }

    /// Whether it is the root of a Linux guest: it says which system it is, and has the directories every one has.
    pub fn is_guest(&self) -> bool {
        let is_dir = |name: &str| {
            rustix::fs::statx(&self.fd, name, rustix::fs::AtFlags::empty(), rustix::fs::StatxFlags::TYPE)
                .is_ok_and(|stat| FileType::from_raw_mode(u32::from(stat.stx_mode)) == FileType::Directory)
        };
        let named = self.read("etc/os-release").is_some() || self.read("usr/lib/os-release").is_some();
        named && is_dir("etc") && is_dir("usr") && ["proc", "dev", "run"].iter().filter(|name| is_dir(name)).count() >= 2
    }

    /// A file's bytes, found as the guest would find it; `None` when there is no such regular file or it is too large.
    pub fn read(&self, path: &str) -> Option<Vec<u8>> {
        let flags = OFlags::RDONLY | OFlags::NONBLOCK | OFlags::CLOEXEC;
        let file = File::from(
            rustix::fs::openat2(&self.fd, path, flags, Mode::empty(), ResolveFlags::IN_ROOT | ResolveFlags::NO_MAGICLINKS).ok()?,
        );
        let meta = file.metadata().ok()?;
        if !meta.is_file() || meta.len() > FILE_MAX_LEN {
            return None;
        }
        let mut bytes = Vec::new();
        file.take(FILE_MAX_LEN).read_to_end(&mut bytes).ok()?;
        Some(bytes)
    }

    /// The names in a directory, found as the guest would find it, sorted.
    pub fn names(&self, path: &str) -> Vec<String> {
        let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
        let opened = rustix::fs::openat2(&self.fd, path, flags, Mode::empty(), ResolveFlags::IN_ROOT | ResolveFlags::NO_MAGICLINKS);
        let Ok(dir) = opened.and_then(rustix::fs::Dir::new) else { return Vec::new() };
        let mut names: Vec<String> = dir.flatten().filter_map(|entry| entry.file_name().to_str().ok().map(str::to_owned)).collect();
        names.retain(|name| name != "." && name != "..");
        names.sort_unstable();
        names
    }
}
