//! Runs a part of a test without root's rights.

use rustix::process::{Gid, Uid, geteuid};
use std::os::unix::fs::lchown;
use std::path::Path;

/// The user and group that own nothing.
pub const NOBODY: u32 = 65534;

/// Runs `test` as an ordinary user: on a thread that has given up its rights, which on Linux belong to threads and pass on
/// to the threads it starts. When this process is no root, `test` simply runs. Gives `None`, with a line that says why,
/// where the rights cannot be given up.
pub fn as_nobody<T: Send>(test: impl FnOnce() -> T + Send) -> Option<T> {
    if !geteuid().is_root() {
        return Some(test());
    }
    let outcome = std::thread::scope(|scope| {
        let thread = scope.spawn(|| {
            rustix::thread::set_thread_groups(&[])?;
            let (uid, gid) = (Uid::from_raw(NOBODY), Gid::from_raw(NOBODY));
            rustix::thread::set_thread_res_gid(gid, gid, gid)?;
            rustix::thread::set_thread_res_uid(uid, uid, uid)?;
            Ok::<T, rustix::io::Errno>(test())
        });
        thread.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic))
    });
    outcome.inspect_err(|error| eprintln!("skipped: this process cannot give up its rights: {error}")).ok()
}

/// Gives `path` to the user that [`as_nobody`] runs as.
pub fn give_to_nobody(path: &Path) {
    if geteuid().is_root() {
        lchown(path, Some(NOBODY), Some(NOBODY)).unwrap();
    }
}
