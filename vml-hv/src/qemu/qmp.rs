//! QEMU's machine protocol: one JSON object a line over a unix socket; blocking, with a time limit for every answer.
//!
//! QEMU talks to one client at a time: a second one waits for its greeting until that limit. Events that come between answers are kept, up to a
//! number, for whoever waits for one.

use rustix::fs::{Mode, OFlags};
use serde_json::{Value, json};
use std::collections::VecDeque;
use std::io::{BufRead, BufReader, ErrorKind as IoKind, Write};
use std::os::fd::AsRawFd;
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::time::{Duration, Instant};
use vml_core::{Error, ErrorKind, IoResultExt as _, Result};

/// Longest answer: a list of all block nodes has some kilobytes.
const LINE_MAX: usize = 16 << 20;
/// Events that are kept.
const EVENTS_MAX: usize = 256;

/// A connection.
pub struct Qmp {
    stream: BufReader<UnixStream>,
    events: VecDeque<Value>,
    limit: Duration,
    number: u64,
    version: (u64, u64, u64),
}

impl Qmp {
    /// Connects to the socket at `path`, where QEMU must answer within `limit`, as to each command later.
    ///
    /// # Errors
    /// `NotFound` when nobody listens there; `Interrupted` when whoever does says nothing; `Corrupt` when that is not QEMU.
    pub fn connect(path: &Path, limit: Duration) -> Result<Self> {
        let stream = connect(path)?;
        stream.set_write_timeout(Some(limit)).at(|| format!("cannot use the socket {}", path.display()))?;
        let mut qmp = Self { stream: BufReader::new(stream), events: VecDeque::new(), limit, number: 0, version: (0, 0, 0) };
        let greeting = qmp.line(Instant::now() + limit).map_err(|error| {
            if error.kind() == ErrorKind::Interrupted {
                let message = format!("QEMU does not greet at {}: it hangs, or another program talks to it", path.display());
                return Error::new(ErrorKind::Interrupted, message).because(error);
            }
            error
        })?;
        let number = |name: &str| greeting["QMP"]["version"]["qemu"][name].as_u64();
        match (number("major"), number("minor"), number("micro")) {
            (Some(major), Some(minor), Some(micro)) => qmp.version = (major, minor, micro),
            _ => return Err(Error::corrupt(format!("what listens at {} is not QEMU", path.display()))),
        }
        qmp.run("qmp_capabilities", &json!({}))?;
        Ok(qmp)
    }

    /// QEMU's version.
    pub fn version(&self) -> (u64, u64, u64) {
        self.version
    }

    /// Runs a command, and returns what it says.
    ///
    /// # Errors
    /// `UnsupportedFormat` for a command that this QEMU does not know, `Io` with QEMU's own words for one that fails, `Interrupted` when it does not
    /// answer in time or ends.
    pub fn run(&mut self, command: &str, arguments: &Value) -> Result<Value> {
        self.number += 1;
        let number = self.number;
        let mut text = json!({ "execute": command, "arguments": arguments, "id": number }).to_string();
        text.push('\n');
        self.stream.get_mut().write_all(text.as_bytes()).map_err(|error| ended(command).because(error))?;
        let deadline = Instant::now() + self.limit;
        loop {
            let mut answer = self.line(deadline).map_err(|error| error.context(format!("QEMU does not answer to {command}")))?;
            if answer.get("event").is_some() {
                self.keep(answer);
                continue;
            }
            // An answer to a command that was given up belongs to nobody.
            if answer["id"].as_u64().is_some_and(|id| id != number) {
                continue;
            }
            if let Some(error) = answer.get("error") {
                let kind = if error["class"] == "CommandNotFound" { ErrorKind::UnsupportedFormat } else { ErrorKind::Io };
                let words = error["desc"].as_str().unwrap_or("it does not say why");
                return Err(Error::new(kind, format!("QEMU refuses {command}: {}", words.chars().take(500).collect::<String>())));
            }
            return Ok(answer["return"].take());
        }
    }

    /// Waits up to `limit` for an event that `wanted` takes; earlier ones count.
    ///
    /// # Errors
    /// `Interrupted` when none comes.
    pub fn wait(&mut self, limit: Duration, wanted: impl Fn(&Value) -> bool) -> Result<Value> {
        if let Some(at) = self.events.iter().position(&wanted) {
            return Ok(self.events.remove(at).unwrap_or_default());
        }
        let deadline = Instant::now() + limit;
        loop {
            let event = self.line(deadline)?;
            if wanted(&event) {
                return Ok(event);
            }
            self.keep(event);
        }
    }

    /// Waits until QEMU has ended and closed the connection.
    ///
    /// # Errors
    /// `Interrupted` when it does not within `limit`.
    pub fn wait_end(&mut self, limit: Duration) -> Result<()> {
        let deadline = Instant::now() + limit;
        loop {
            match self.line(deadline) {
                Ok(_) => {}
                Err(error) if Instant::now() >= deadline => return Err(error.context("QEMU does not end")),
                Err(_) => return Ok(()),
            }
        }
    }

    fn keep(&mut self, event: Value) {
        self.events.push_back(event);
        if self.events.len() > EVENTS_MAX {
            self.events.pop_front();
        }
    }

    /// The next line, as JSON.
    fn line(&mut self, deadline: Instant) -> Result<Value> {
        let mut line = Vec::new();
        loop {
            let left = deadline.saturating_duration_since(Instant::now());
            if left.is_zero() {
                return Err(Error::new(ErrorKind::Interrupted, "nothing came in time"));
            }
            self.stream.get_ref().set_read_timeout(Some(left)).at(|| "cannot limit the time to wait for QEMU")?;
            let buffer = match self.stream.fill_buf() {
                Ok([]) => return Err(ended("a command")),
                Ok(buffer) => buffer,
                Err(error) if matches!(error.kind(), IoKind::WouldBlock | IoKind::TimedOut | IoKind::Interrupted) => continue,
                Err(error) => return Err(ended("a command").because(error)),
            };
            let end = buffer.iter().position(|byte| *byte == b'\n');
            let taken = end.map_or(buffer.len(), |end| end + 1);
            line.extend_from_slice(&buffer[..taken]);
            self.stream.consume(taken);
            if line.len() > LINE_MAX {
                return Err(Error::corrupt(format!("QEMU's answer is longer than {LINE_MAX} bytes")));
            }
            if end.is_some() {
                return serde_json::from_slice(&line).map_err(|error| Error::corrupt("QEMU's answer is no JSON").because(error));
            }
        }
    }
}

fn ended(command: &str) -> Error {
    Error::new(ErrorKind::Interrupted, format!("QEMU has ended, or was killed, during {command}"))
}

/// Connects to a socket by way of its folder, because the path of a socket has at most 107 bytes.
fn connect(path: &Path) -> Result<UnixStream> {
    let failed = || format!("cannot connect to {}", path.display());
    let (Some(dir), Some(name)) = (path.parent(), path.file_name()) else { return Err(Error::invalid(failed())) };
    let dir = if dir.as_os_str().is_empty() { Path::new(".") } else { dir };
    let dir = rustix::fs::open(dir, OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC, Mode::empty()).at(failed)?;
    let short = Path::new("/proc/self/fd").join(dir.as_raw_fd().to_string()).join(name);
    UnixStream::connect(short).map_err(|error| {
        let kind = match error.kind() {
            IoKind::NotFound | IoKind::ConnectionRefused => ErrorKind::NotFound,
            IoKind::PermissionDenied => ErrorKind::PermissionDenied,
            _ => ErrorKind::Io,
        };
        Error::new(kind, failed()).because(error)
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::net::UnixListener;
    use std::thread;

    const GREETING: &str = "{\"QMP\": {\"version\": {\"qemu\": {\"micro\": 2, \"minor\": 0, \"major\": 10}}, \"capabilities\": []}}\n";

    /// Somebody who says `lines`, one after each line that comes, beginning with one before any; then holds the connection.
    fn speaker(lines: Vec<String>) -> (tempfile::TempDir, std::path::PathBuf) {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("a".repeat(60)).join("b".repeat(60)).join("socket");
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        let place = rustix::fs::open(path.parent().unwrap(), OFlags::PATH, Mode::empty()).unwrap();
        let listener = UnixListener::bind(format!("/proc/self/fd/{}/socket", place.as_raw_fd())).unwrap();
        thread::spawn(move || {
            let Ok((stream, _)) = listener.accept() else { return };
            let mut reader = BufReader::new(stream.try_clone().unwrap());
            let mut writer = stream;
            for (i, line) in lines.iter().enumerate() {
                let mut heard = String::new();
                if i > 0 && reader.read_line(&mut heard).unwrap_or(0) == 0 {
                    return;
                }
                if line.is_empty() || writer.write_all(line.as_bytes()).is_err() {
                    return;
                }
            }
            _ = reader.read_line(&mut String::new());
            thread::sleep(Duration::from_secs(2));
        });
        (dir, path)
    }

    fn open(lines: &[&str]) -> (tempfile::TempDir, Result<Qmp>) {
        let (dir, path) = speaker(lines.iter().map(ToString::to_string).collect());
        let qmp = Qmp::connect(&path, Duration::from_millis(300));
        (dir, qmp)
    }

    #[test]
    fn commands_are_answered_and_events_are_kept() {
        let answer = "{\"event\": \"STOP\", \"data\": {\"a\": 1}}\n{\"return\": {\"status\": \"running\"}, \"id\": 2}\n";
        let (_dir, qmp) = open(&[GREETING, "{\"return\": {}, \"id\": 1}\n", answer]);
        let mut qmp = qmp.unwrap();
        assert_eq!(qmp.version(), (10, 0, 2));
        assert_eq!(qmp.run("query-status", &json!({})).unwrap()["status"], "running");
        assert_eq!(qmp.wait(Duration::from_millis(1), |event| event["event"] == "STOP").unwrap()["data"]["a"], 1);
        let error = qmp.wait(Duration::from_millis(50), |event| event["event"] == "STOP").unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Interrupted);
    }

    #[test]
    fn what_is_not_qemu_or_says_nothing_or_nonsense_is_an_error() {
        let refused = "{\"error\": {\"class\": \"CommandNotFound\", \"desc\": \"no such thing\"}, \"id\": 2}\n";
        let cases: [(&[&str], ErrorKind); 6] = [
            (&["{\"hello\": 1}\n"], ErrorKind::Corrupt),
            (&["nonsense\n"], ErrorKind::Corrupt),
            (&[" "], ErrorKind::Interrupted),
            (&[""], ErrorKind::Interrupted),
            (&[GREETING, "{\"return\": {}, \"id\": 1}\n", refused], ErrorKind::UnsupportedFormat),
            (&[GREETING, "{\"return\": {}, \"id\": 1}\n", "{\"return\": {}, \"id\": 77}\n"], ErrorKind::Interrupted),
        ];
        for (lines, kind) in cases {
            let (_dir, qmp) = open(lines);
            let error = match qmp {
                Ok(mut qmp) => qmp.run("query-status", &json!({})).unwrap_err(),
                Err(error) => error,
            };
            assert_eq!(error.kind(), kind, "{lines:?}: {error}");
        }
        let error = Qmp::connect(Path::new("/nowhere/at/all"), Duration::from_millis(10)).err().unwrap();
        assert_eq!(error.kind(), ErrorKind::NotFound);
    }
}
