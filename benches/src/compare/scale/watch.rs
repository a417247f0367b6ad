//! Runs one command and looks at its memory while it runs: what is its own apart from the mapped index.

use super::super::measure::wait;
use anyhow::{Context as _, Result, bail};
use serde_json::{Value, json};
use std::fs;
use std::process::{Command, Stdio};
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

/// Between two looks.
const INTERVAL: Duration = Duration::from_micros(500);

/// What one command took. Memory is the largest that was seen at any look.
#[derive(Debug, Clone, Default)]
pub struct Watched {
    /// Seconds from start to end.
    pub wall_s: f64,
    /// Seconds of user and system time.
    pub cpu_s: f64,
    /// Memory of the process' own, in bytes (`RssAnon`).
    pub anon_bytes: u64,
    /// That and pages of mapped files (`VmHWM`), which the system takes away when it needs them.
    pub resident_bytes: u64,
    /// What it printed.
    pub said: String,
}

impl Watched {
    /// Every number.
    pub fn to_json(&self) -> Value {
        json!({ "wall_s": self.wall_s, "cpu_s": self.cpu_s, "anon_bytes": self.anon_bytes, "resident_bytes": self.resident_bytes })
    }
}

/// A line of `/proc/PID/status`, in bytes.
pub fn status_bytes(status: &str, field: &str) -> u64 {
    let line = status.lines().find_map(|line| line.strip_prefix(field)?.strip_prefix(':'));
    line.and_then(|rest| rest.split_whitespace().next()?.parse::<u64>().ok()).unwrap_or(0) * 1024
}

/// Runs `command` to its end.
///
/// # Errors
/// When it cannot be started or fails, with what it wrote to its standard error.
pub fn watch(mut command: Command) -> Result<Watched> {
    let shown = format!("{command:?}");
    let started = Instant::now();
    let spawned = command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::inherit()).spawn();
    let mut child = spawned.with_context(|| format!("cannot start {shown}"))?;
    let path = format!("/proc/{}/status", child.id());
    let ended = AtomicBool::new(false);
    let mut watched = Watched::default();
    let (status, said) = std::thread::scope(|scope| {
        let looking = scope.spawn(|| {
            let (mut anon, mut resident) = (0, 0);
            while !ended.load(Ordering::Relaxed) {
                let status = fs::read_to_string(&path).unwrap_or_default();
                // Before it is another program, it is a copy of this one.
                if status.starts_with("Name:\tvml\n") || status.starts_with("Name:\tcompare\n") {
                    anon = status_bytes(&status, "RssAnon").max(anon);
                    resident = status_bytes(&status, "VmHWM").max(resident);
                }
                std::thread::sleep(INTERVAL);
            }
            (anon, resident)
        });
        let said = child.stdout.take().map(std::io::read_to_string);
        let waited = wait::wait4(child.id());
        watched.wall_s = started.elapsed().as_secs_f64();
        ended.store(true, Ordering::Relaxed);
        (watched.anon_bytes, watched.resident_bytes) = looking.join().expect("it only reads");
        waited.map(|(status, usage)| {
            watched.cpu_s = usage.cpu_s;
            (status, said)
        })
    })
    .with_context(|| format!("cannot wait for {shown}"))?;
    watched.said = said.transpose().with_context(|| format!("cannot read what {shown} prints"))?.unwrap_or_default();
    if status != 0 {
        bail!("{shown} failed with wait status {status}: {}", watched.said);
    }
    Ok(watched)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_are_read_as_the_kernel_writes_them() {
        let status = "Name:\tvml\nVmHWM:\t    4096 kB\nRssAnon:\t     512 kB\n";
        assert_eq!(
            (status_bytes(status, "RssAnon"), status_bytes(status, "VmHWM"), status_bytes(status, "RssFile")),
            (512 << 10, 4 << 20, 0)
        );
        let mut command = Command::new("sh");
        command.args(["-c", "echo said; exit 3"]);
        assert!(watch(command).unwrap_err().to_string().contains("said"));
    }
}
