//! Removes what stands in the way, or what a tree does not have.

use super::walk::open_closed;
use crate::tree::at;
use rustix::fs::AtFlags;
use rustix::io::Errno;
use std::os::fd::{AsFd, OwnedFd};

/// Removes a member and, when it is a directory, what is in it; never through a link. Returns how many.
pub(super) fn remove(dir: impl AsFd, name: &[u8]) -> rustix::io::Result<u64> {
    let mut count = 0;
    // Directories on the way down; emptied, then removed from the one above.
    let mut stack: Vec<(OwnedFd, Vec<u8>, std::vec::IntoIter<Vec<u8>>)> = Vec::new();
    let mut next = Some(name.to_vec());
    loop {
        if let Some(name) = next.take() {
            let above = stack.last().map_or(dir.as_fd(), |(fd, _, _)| fd.as_fd());
            match rustix::fs::unlinkat(above, name.as_slice(), AtFlags::empty()) {
                Ok(()) => count += 1,
                Err(Errno::ISDIR | Errno::PERM) => {
                    let fd = open_closed(above, &name)?;
                    let names = at::names(&fd)?;
                    stack.push((fd, name, names.into_iter()));
                }
                Err(error) => return Err(error),
            }
        }
        let Some((_, _, names)) = stack.last_mut() else { return Ok(count) };
        next = names.next();
        if next.is_none()
            && let Some((fd, name, _)) = stack.pop()
        {
            drop(fd);
            let above = stack.last().map_or(dir.as_fd(), |(fd, _, _)| fd.as_fd());
            rustix::fs::unlinkat(above, name.as_slice(), AtFlags::REMOVEDIR)?;
            count += 1;
            if stack.is_empty() {
                return Ok(count);
            }
        }
    }
}
