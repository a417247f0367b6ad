//! Extended attributes, read and set whole.

use super::at::proc_path;
use rustix::fs::XattrFlags;
use rustix::io::Errno;
use std::os::fd::{AsFd, BorrowedFd};

/// Sorted by name.
pub(super) type Xattrs = Vec<(Vec<u8>, Vec<u8>)>;

/// Largest list and largest value that Linux knows.
const LIST_MAX: usize = 64 << 10;

/// A file whose attributes are meant: open, or named in a directory (symbolic links, devices, FIFOs).
#[derive(Clone, Copy)]
pub(super) enum Target<'a> {
    Open(BorrowedFd<'a>),
    Member(BorrowedFd<'a>, &'a [u8]),
}

/// All extended attributes that this process may see; none where the file system has none.
pub(super) fn read(target: Target<'_>) -> rustix::io::Result<Xattrs> {
    let path = match target {
        Target::Member(dir, name) => proc_path(dir, name),
        Target::Open(_) => Vec::new(),
    };
    let list = grow(|buffer| match target {
        Target::Open(file) => rustix::fs::flistxattr(file, buffer),
        Target::Member(..) => rustix::fs::llistxattr(path.as_slice(), buffer),
    });
    let list = match list {
        Ok(list) => list,
        Err(Errno::OPNOTSUPP) => return Ok(Vec::new()),
        Err(error) => return Err(error),
    };
    let mut xattrs = Xattrs::new();
    for name in list.split(|byte| *byte == 0).filter(|name| !name.is_empty()) {
        let value = grow(|buffer| match target {
            Target::Open(file) => rustix::fs::fgetxattr(file, name, buffer),
            Target::Member(..) => rustix::fs::lgetxattr(path.as_slice(), name, buffer),
        });
        match value {
            Ok(value) => xattrs.push((name.to_vec(), value)),
            // Removed since it was listed, or listed for all and readable by few.
            Err(Errno::NODATA | Errno::PERM | Errno::ACCESS) => {}
            Err(error) => return Err(error),
        }
    }
    xattrs.sort_unstable();
    Ok(xattrs)
}

/// Calls `get` with a small buffer, then with the largest there can be.
fn grow(get: impl Fn(&mut [u8]) -> rustix::io::Result<usize>) -> rustix::io::Result<Vec<u8>> {
    let mut small = [0; 1024];
    match get(&mut small) {
        Ok(len) => Ok(small[..len].to_vec()),
        Err(Errno::RANGE) => {
            let mut large = vec![0; LIST_MAX];
            let len = get(&mut large)?;
            large.truncate(len);
            Ok(large)
        }
        Err(error) => Err(error),
    }
}

/// Makes the target's attributes exactly `wanted`; gives back those that could not be set or removed, with the reason.
pub(super) fn write(target: Target<'_>, wanted: &Xattrs, fresh: bool) -> Vec<(Vec<u8>, Errno)> {
    // A file made a moment ago has none, unless the directory's default ACL or a security module gave it some.
    if fresh && wanted.is_empty() && !matches!(target, Target::Open(_)) {
        return Vec::new();
    }
    let present = match read(target) {
        Ok(present) => present,
        Err(error) if wanted.is_empty() => {
            _ = error;
            return Vec::new();
        }
        Err(_) => Vec::new(),
    };
    let mut failed = Vec::new();
    for (name, _) in present.iter().filter(|(name, _)| !wanted.iter().any(|(other, _)| other == name)) {
        // Labels of the running system's security module are its own.
        if name.starts_with(b"security.selinux") {
            continue;
        }
        let removed = match target {
            Target::Open(file) => rustix::fs::fremovexattr(file, name.as_slice()),
            Target::Member(dir, member) => rustix::fs::lremovexattr(proc_path(dir, member).as_slice(), name.as_slice()),
        };
        if let Err(error) = removed {
            failed.push((name.clone(), error));
        }
    }
    // ACLs last: they change the mode, which may then forbid the others.
    let is_acl = |name: &[u8]| name.starts_with(b"system.posix_acl_");
    let (acls, others): (Vec<_>, Vec<_>) = wanted.iter().filter(|wanted| !present.contains(wanted)).partition(|(name, _)| is_acl(name));
    for (name, value) in others.into_iter().chain(acls) {
        let set = match target {
            Target::Open(file) => rustix::fs::fsetxattr(file.as_fd(), name.as_slice(), value, XattrFlags::empty()),
            Target::Member(dir, member) => {
                rustix::fs::lsetxattr(proc_path(dir, member).as_slice(), name.as_slice(), value, XattrFlags::empty())
            }
        };
        if let Err(error) = set {
            failed.push((name.clone(), error));
        }
    }
    failed
}
