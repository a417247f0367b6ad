//! Whether a running machine has an image open for writing.
//!
//! QEMU tells others by locks on single bytes of the image: byte 101 stands for "somebody writes here". The kernel lists all
//! locks in `/proc/locks`. Other hypervisors, and QEMU with `file.locking=off`, are not seen; nor is a process in another
//! container whose locks that list leaves out.

use rustix::fs::{major, minor};
use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::Path;
use vml_core::{IoResultExt as _, Result};

/// The byte that QEMU locks while it may write: 100 and the number of the permission to write.
const WRITE_BYTE: u64 = 101;

/// Who has the image open for writing, as far as QEMU's locks tell: a process, if the kernel names it.
///
/// # Errors
/// When the image or the list of locks cannot be read.
pub fn writer_of(path: &Path) -> Result<Option<String>> {
    let meta = fs::metadata(path).at(|| format!("cannot find the image {}", path.display()))?;
    let locks = fs::read_to_string("/proc/locks").at(|| "cannot read the kernel's list of locks")?;
    let file = format!("{:02x}:{:02x}:{}", major(meta.dev()), minor(meta.dev()), meta.ino());
    Ok(writer_in(&locks, &file))
}

fn writer_in(locks: &str, file: &str) -> Option<String> {
    locks.lines().find_map(|line| {
        // 1: OFDLCK ADVISORY  READ -1 fd:01:1234 101 101
        let words: Vec<&str> = line.split_whitespace().filter(|word| *word != "->").collect();
        let at = words.iter().position(|word| *word == file)?;
        let first: u64 = words.get(at + 1)?.parse().ok()?;
        let last: u64 = words.get(at + 2).map_or(Some(u64::MAX), |last| if *last == "EOF" { Some(u64::MAX) } else { last.parse().ok() })?;
        let pid = words.get(at - 1)?;
        let held = matches!(*words.get(1)?, "OFDLCK" | "POSIX") && (first..=last).contains(&WRITE_BYTE);
        held.then(|| if *pid == "-1" { "another process".to_owned() } else { format!("process {pid}") })
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_byte_for_writing_counts() {
        let locks = "1: OFDLCK ADVISORY  READ -1 fd:01:77 100 101\n2: OFDLCK ADVISORY  READ -1 fd:01:78 100 100\n3: FLOCK  ADVISORY  WRITE 9 fd:01:79 0 EOF\n\
                     4: POSIX  ADVISORY  WRITE 12 fd:01:80 0 EOF\n";
        assert_eq!(writer_in(locks, "fd:01:77").as_deref(), Some("another process"));
        assert_eq!(writer_in(locks, "fd:01:80").as_deref(), Some("process 12"));
        assert_eq!(writer_in(locks, "fd:01:78"), None);
        assert_eq!(writer_in(locks, "fd:01:79"), None);
        assert_eq!(writer_in("", "fd:01:77"), None);
    }
}
