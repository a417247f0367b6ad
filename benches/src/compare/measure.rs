//! Runs one command and takes its wall time, CPU time, peak memory, and the bytes it read and wrote.
//!
//! ```text
//! spawn ─► waitid, leaving it a zombie ─► /proc/PID/io: what its read and write calls moved ─► wait4: CPU time, peak memory
//! ```

use anyhow::{Context as _, Result, bail};
use rustix::process::{Pid, WaitId, WaitIdOptions, waitid};
use serde_json::{Value, json};
use std::fs;
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::Instant;

/// What one command took.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub struct Measured {
    /// Seconds from start to end.
    pub wall_s: f64,
    /// Seconds of user and system time, of all its threads and children.
    pub cpu_s: f64,
    /// Peak resident memory in bytes; pages of mapped files count.
    pub peak_bytes: u64,
    /// Bytes that it and the children it waited for got from `read` and its like (`rchar` of `/proc/PID/io`), from files in memory as well. What is
    /// read through a mapping is not counted. 0 where the kernel does not count.
    pub read_bytes: u64,
    /// Bytes that they gave to `write` and its like (`wchar`).
    pub written_bytes: u64,
}

impl Measured {
    /// Every number.
    pub fn to_json(&self) -> Value {
        json!({
            "wall_s": self.wall_s, "cpu_s": self.cpu_s, "peak_bytes": self.peak_bytes,
            "read_bytes": self.read_bytes, "written_bytes": self.written_bytes,
        })
    }
}

/// Runs `command` to its end, without its output.
///
/// # Errors
/// When it cannot be started or fails; the end of what it wrote to its standard error is in the message.
pub fn measure(mut command: Command, scratch: &Path) -> Result<Measured> {
    let shown = format!("{command:?}");
    let errors = scratch.join("stderr");
    let file = fs::File::create(&errors).with_context(|| format!("cannot write {}", errors.display()))?;
    command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(file);
    let started = Instant::now();
    let child = command.spawn().with_context(|| format!("cannot start {shown}"))?;
    let waiting = || format!("cannot wait for {shown}");
    // Ended and not yet taken off: its counters can be read still.
    let pid = i32::try_from(child.id()).ok().and_then(Pid::from_raw).with_context(waiting)?;
    let ended = || waitid(WaitId::Pid(pid), WaitIdOptions::EXITED | WaitIdOptions::NOWAIT);
    while ended().is_err_and(|error| error == rustix::io::Errno::INTR) {}
    let wall_s = started.elapsed().as_secs_f64();
    let io = fs::read_to_string(format!("/proc/{}/io", child.id())).unwrap_or_default();
    let (status, usage) = wait::wait4(child.id()).with_context(waiting)?;
    if status != 0 {
        let text = String::from_utf8_lossy(&fs::read(&errors).unwrap_or_default()).trim().to_owned();
        let end: String = text.chars().rev().take(600).collect::<Vec<_>>().into_iter().rev().collect();
        bail!("{shown} failed with wait status {status}: {end}");
    }
    let (read_bytes, written_bytes) = (counter(&io, "rchar"), counter(&io, "wchar"));
    Ok(Measured { wall_s, cpu_s: usage.cpu_s, peak_bytes: usage.peak_bytes, read_bytes, written_bytes })
}

/// One line of `/proc/PID/io`.
fn counter(io: &str, name: &str) -> u64 {
    let line = io.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(':'));
    line.and_then(|number| number.trim().parse().ok()).unwrap_or(0)
}

/// The one place with a system call of its own: the standard library waits without telling what a child used.
#[allow(unsafe_code)]
pub(super) mod wait {
    use std::io;

    pub(in crate::compare) struct Usage {
        pub(in crate::compare) cpu_s: f64,
        pub(in crate::compare) peak_bytes: u64,
    }

    pub(in crate::compare) fn wait4(pid: u32) -> io::Result<(i32, Usage)> {
        let pid = libc::pid_t::try_from(pid).map_err(io::Error::other)?;
        let mut status = 0;
        // SAFETY: rusage is a plain struct of integers, for which zero bytes are a value.
        let mut usage: libc::rusage = unsafe { std::mem::zeroed() };
        loop {
            // SAFETY: both pointers are to live variables of the types that wait4 writes.
            let waited = unsafe { libc::wait4(pid, &raw mut status, 0, &raw mut usage) };
            if waited == pid {
                break;
            }
            let error = io::Error::last_os_error();
            if error.kind() != io::ErrorKind::Interrupted {
                return Err(error);
            }
        }
        let seconds = |time: libc::timeval| time.tv_sec as f64 + time.tv_usec as f64 / 1e6;
        let cpu_s = seconds(usage.ru_utime) + seconds(usage.ru_stime);
        // Linux counts in KiB.
        Ok((status, Usage { cpu_s, peak_bytes: u64::try_from(usage.ru_maxrss).unwrap_or(0) * 1024 }))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn shell(script: &str) -> Result<Measured> {
        let mut command = Command::new("sh");
        command.args(["-c", script]);
        measure(command, tempfile::tempdir().unwrap().path())
    }

    #[test]
    fn time_and_memory_are_taken_and_a_failure_says_why() {
        let measured = shell("sleep 0.05").unwrap();
        assert!(measured.wall_s >= 0.05 && measured.cpu_s < measured.wall_s && measured.peak_bytes > 100_000, "{measured:?}");
        assert_eq!((counter("rchar: 7\nwchar: 12\n", "wchar"), counter("", "rchar")), (12, 0));
        // Where the kernel counts, a grandchild's bytes are in it.
        let copied = shell("head -c 3000000 /dev/zero | cat >/dev/null; true").unwrap();
        assert!(copied.read_bytes == 0 || copied.read_bytes > 5_999_999 && copied.written_bytes > 5_999_999, "{copied:?}");
        let error = shell("echo no such luck >&2; exit 3").unwrap_err().to_string();
        assert!(error.contains("no such luck"), "{error}");
    }
}
