//! What carries commands to a guest: a process there, with its three streams, its end, and limits for every wait.

use super::script::said;
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use std::fs::File;
use std::io::{self, Read, Write};
use std::os::fd::AsFd;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;
use vml_core::{Error, ErrorKind, Result};

/// Bytes that are kept of what a process says on its standard error.
pub(super) const STDERR_MAX: usize = 64 << 10;

/// Where a guest is reached.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SshAddress {
    /// The name to log in with; without one the transport decides.
    pub user: Option<String>,
    /// A name or an address.
    pub host: String,
    /// The port; 22 where nothing says otherwise.
    pub port: Option<u16>,
}

impl std::str::FromStr for SshAddress {
    type Err = Error;

    /// `[USER@]HOST[:PORT]`; an IPv6 address with a port stands in brackets.
    fn from_str(text: &str) -> Result<Self> {
        let bad = || Error::invalid(format!("{text:?} is no address of a guest: write USER@HOST or USER@HOST:PORT"));
        let (user, place) = text.rsplit_once('@').map_or((None, text), |(user, place)| (Some(user), place));
        let (host, port) = match place.strip_prefix('[') {
            Some(rest) => {
                let (host, rest) = rest.split_once(']').ok_or_else(bad)?;
                (host, if rest.is_empty() { None } else { Some(rest.strip_prefix(':').ok_or_else(bad)?) })
            }
            None if place.matches(':').count() > 1 => (place, None),
            None => place.split_once(':').map_or((place, None), |(host, port)| (host, Some(port))),
        };
        let port = port.map(|port| port.parse().ok().filter(|port| *port > 0).ok_or_else(bad)).transpose()?;
        let plain = |word: &str| {
            // A word that begins with a dash would be an option of the ssh command.
            !word.is_empty() && !word.starts_with('-') && word.chars().all(|c| c.is_ascii_graphic() && !"'\"\\`$;|&<>()/".contains(c))
        };
        if !plain(host) || user.is_some_and(|user| !plain(user)) {
            return Err(bad());
        }
        Ok(Self { user: user.map(str::to_owned), host: host.to_owned(), port })
    }
}

impl std::fmt::Display for SshAddress {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        if let Some(user) = &self.user {
            write!(f, "{user}@")?;
        }
        let brackets = self.host.contains(':') && self.port.is_some();
        if brackets {
            write!(f, "[{}]", self.host)?;
        } else {
            f.write_str(&self.host)?;
        }
        self.port.map_or(Ok(()), |port| write!(f, ":{port}"))
    }
}

/// How long things may take.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Limits {
    /// From the first packet to a session.
    pub connect: Duration,
    /// Without a byte from a running command, or without one that it takes.
    pub idle: Duration,
}

impl Default for Limits {
    fn default() -> Self {
        Self { connect: Duration::from_secs(30), idle: Duration::from_secs(300) }
    }
}

/// Bytes that went over the streams of commands.
#[derive(Debug, Default)]
pub struct Traffic {
    sent: AtomicU64,
    received: AtomicU64,
}

impl Traffic {
    /// Bytes given to commands.
    pub fn sent(&self) -> u64 {
        self.sent.load(Ordering::Relaxed)
    }

    /// Bytes that commands gave.
    pub fn received(&self) -> u64 {
        self.received.load(Ordering::Relaxed)
    }
}

/// Runs commands in a guest.
pub trait Transport {
    /// Starts `command`, as the guest's shell understands it.
    ///
    /// # Errors
    /// `PermissionDenied` when the guest is not known or does not let us in, `Io` and `Interrupted` when it is not reached.
    fn run(&self, command: &str) -> Result<Process>;

    /// Where the guest is, for messages.
    fn place(&self) -> String;

    /// What went over the wire so far, without the protocol's own part.
    fn traffic(&self) -> &Traffic;
}

/// How a process ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Ended {
    /// Its exit status; `None` when it was killed or the connection ended first.
    pub status: Option<i32>,
    /// What it said, up to a bound.
    pub stderr: String,
}

impl Ended {
    /// Its last words, for a message.
    pub fn words(&self) -> String {
        let lines: Vec<&str> = self.stderr.lines().map(str::trim).filter(|line| !line.is_empty()).collect();
        let last = lines[lines.len().saturating_sub(4)..].join("; ");
        let plain: String = last.chars().map(|c| if c.is_control() { ' ' } else { c }).take(600).collect();
        match (plain.is_empty(), self.status) {
            (false, _) => plain,
            (true, Some(status)) => format!("it says nothing (exit status {status})"),
            (true, None) => "the connection ended".to_owned(),
        }
    }
}

/// What a transport knows of a process: how to await its end, and to end it.
pub(super) trait Running: Send {
    /// Waits for the end, for at most `limit`.
    fn wait(&mut self, limit: Duration) -> Result<Ended>;
    /// Ends it now, whatever it does.
    fn kill(&mut self);
}

/// A command that runs in a guest; dropped before its end, it is killed.
pub struct Process {
    stdin: Option<Input>,
    stdout: Output,
    running: Box<dyn Running>,
    limits: Limits,
    ended: bool,
}

impl Process {
    /// From the ends of two pipes.
    pub(super) fn new(stdin: File, stdout: File, running: Box<dyn Running>, limits: Limits, traffic: &Arc<Traffic>) -> Result<Self> {
        use vml_core::IoResultExt as _;
        for file in [&stdin, &stdout] {
            rustix::io::ioctl_fionbio(file, true).at(|| "cannot prepare a pipe")?;
        }
        Ok(Self {
            stdin: Some(Input { file: stdin, limit: limits.idle, traffic: Arc::clone(traffic) }),
            stdout: Output { file: stdout, limit: limits.idle, traffic: Arc::clone(traffic) },
            running,
            limits,
            ended: false,
        })
    }

    /// Its standard input, once; dropping that ends it.
    pub fn take_stdin(&mut self) -> Option<Input> {
        self.stdin.take()
    }

    /// Its standard output.
    pub fn stdout(&mut self) -> &mut Output {
        &mut self.stdout
    }

    /// Waits for its end; what it still says is passed over, and so is what a shell's start said before a script began.
    ///
    /// # Errors
    /// `Interrupted` when it does not end.
    pub fn finish(mut self) -> Result<Ended> {
        drop(self.stdin.take());
        // A process that still has something to say does not end before it has said it.
        let mut sink = [0; 16 << 10];
        loop {
            match self.stdout.read(&mut sink) {
                Ok(0) => break,
                Ok(_) => {}
                Err(error) => return Err(Error::new(ErrorKind::Interrupted, "a command in the guest does not end").because(error)),
            }
        }
        let mut ended = self.running.wait(self.limits.idle)?;
        ended.stderr = said(&ended.stderr);
        self.ended = true;
        Ok(ended)
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        if !self.ended {
            self.running.kill();
        }
    }
}

/// The standard input of a process.
pub struct Input {
    file: File,
    limit: Duration,
    traffic: Arc<Traffic>,
}

impl Write for Input {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        loop {
            match self.file.write(bytes) {
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => ready(&self.file, PollFlags::OUT, self.limit)?,
                Ok(len) => {
                    self.traffic.sent.fetch_add(len as u64, Ordering::Relaxed);
                    return Ok(len);
                }
                other => return other,
            }
        }
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// The standard output of a process.
pub struct Output {
    file: File,
    limit: Duration,
    traffic: Arc<Traffic>,
}

impl Read for Output {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        loop {
            match self.file.read(buffer) {
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => ready(&self.file, PollFlags::IN, self.limit)?,
                Ok(len) => {
                    self.traffic.received.fetch_add(len as u64, Ordering::Relaxed);
                    return Ok(len);
                }
                other => return other,
            }
        }
    }
}

/// Waits until a stream can go on.
fn ready(file: &File, flags: PollFlags, limit: Duration) -> io::Result<()> {
    let mut fds = [PollFd::from_borrowed_fd(file.as_fd(), flags)];
    let timeout = Timespec { tv_sec: i64::try_from(limit.as_secs()).unwrap_or(i64::MAX), tv_nsec: i64::from(limit.subsec_nanos()) };
    match poll(&mut fds, Some(&timeout)) {
        Ok(0) => Err(io::Error::new(io::ErrorKind::TimedOut, format!("nothing moved for {} s", limit.as_secs()))),
        Ok(_) | Err(rustix::io::Errno::INTR) => Ok(()),
        Err(error) => Err(error.into()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_are_read_and_written() {
        for (text, user, host, port) in [
            ("a@b:2222", Some("a"), "b", Some(2222)),
            ("b", None, "b", None),
            ("a@[::1]:22", Some("a"), "::1", Some(22)),
            ("a@fe80::1", Some("a"), "fe80::1", None),
        ] {
            let address: SshAddress = text.parse().unwrap();
            assert_eq!((address.user.as_deref(), address.host.as_str(), address.port), (user, host, port));
            assert_eq!(address.to_string(), text);
        }
        for bad in ["", "@b", "a@", "a@-oProxyCommand=x", "-a@b", "b:0", "b:x", "b:70000", "a b", "a@b;c", "[::1", "[::1]22"] {
            assert!(bad.parse::<SshAddress>().is_err(), "{bad}");
        }
    }
}
