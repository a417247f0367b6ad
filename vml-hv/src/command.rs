//! Runs a program of somebody else's to its end, or to a time limit; what it says is bounded.

use std::io::{ErrorKind as IoKind, Read};
use std::process::{Command, ExitStatus, Stdio};
use std::thread;
use std::time::{Duration, Instant};
use vml_core::{Error, ErrorKind, Result};

/// Bytes that are kept of each of its outputs.
const OUTPUT_MAX: u64 = 1 << 20;

/// What a program did.
pub(crate) struct Ran {
    pub(crate) status: ExitStatus,
    pub(crate) stdout: String,
    pub(crate) stderr: String,
}

impl Ran {
    /// Its own words about what went wrong.
    pub(crate) fn words(&self) -> String {
        let said = if self.stderr.trim().is_empty() { &self.stdout } else { &self.stderr };
        let end: Vec<&str> = said.trim().lines().rev().take(5).collect();
        let words = end.into_iter().rev().collect::<Vec<_>>().join("; ");
        if words.is_empty() { format!("it says nothing ({})", self.status) } else { words }
    }
}

/// Runs `command`; one that takes longer than `limit` is killed.
///
/// # Errors
/// `UnsupportedFormat` when the program is not installed, `Interrupted` when it takes too long.
pub(crate) fn run(mut command: Command, limit: Duration) -> Result<Ran> {
    let name = command.get_program().to_string_lossy().into_owned();
    command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut child = command.spawn().map_err(|error| {
        if error.kind() == IoKind::NotFound {
            return Error::new(ErrorKind::UnsupportedFormat, format!("{name} is not installed")).because(error);
        }
        Error::new(vml_core_kind(&error), format!("cannot start {name}")).because(error)
    })?;
    let keep = |stream: Option<Box<dyn Read + Send>>| {
        thread::spawn(move || {
            let mut bytes = Vec::new();
            if let Some(mut stream) = stream {
                _ = stream.by_ref().take(OUTPUT_MAX).read_to_end(&mut bytes);
                // What is beyond is taken, so that the program can go on.
                _ = std::io::copy(&mut stream, &mut std::io::sink());
            }
            String::from_utf8_lossy(&bytes).into_owned()
        })
    };
    let stdout = keep(child.stdout.take().map(|stream| Box::new(stream) as _));
    let stderr = keep(child.stderr.take().map(|stream| Box::new(stream) as _));
    let deadline = Instant::now() + limit;
    let mut pause = Duration::from_millis(1);
    let status = loop {
        match child.try_wait() {
            Ok(Some(status)) => break status,
            Ok(None) if Instant::now() < deadline => thread::sleep(pause),
            result => {
                _ = child.kill();
                _ = child.wait();
                let error = Error::new(ErrorKind::Interrupted, format!("{name} has not ended after {} s and was killed", limit.as_secs()));
                return Err(match result {
                    Err(cause) => error.because(cause),
                    Ok(_) => error,
                });
            }
        }
        pause = (pause * 2).min(Duration::from_millis(50));
    };
    Ok(Ran { status, stdout: stdout.join().unwrap_or_default(), stderr: stderr.join().unwrap_or_default() })
}

fn vml_core_kind(error: &std::io::Error) -> ErrorKind {
    if error.kind() == IoKind::PermissionDenied { ErrorKind::PermissionDenied } else { ErrorKind::Io }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn shell(script: &str, limit_ms: u64) -> Result<Ran> {
        let mut command = Command::new("sh");
        command.args(["-c", script]);
        run(command, Duration::from_millis(limit_ms))
    }

    #[test]
    fn outputs_are_kept_and_time_is_limited() {
        let ran = shell("echo out; echo err >&2; exit 3", 5000).unwrap();
        assert_eq!((ran.status.code(), ran.stdout.as_str(), ran.words().as_str()), (Some(3), "out\n", "err"));
        let ran = shell("head -c 3000000 /dev/zero", 5000).unwrap();
        assert_eq!(ran.stdout.len(), 1 << 20);
        assert_eq!(shell("exec sleep 60", 50).err().unwrap().kind(), ErrorKind::Interrupted);
        let error = run(Command::new("/no/such/program"), Duration::from_secs(1)).err().unwrap();
        assert_eq!(error.kind(), ErrorKind::UnsupportedFormat);
    }
}
