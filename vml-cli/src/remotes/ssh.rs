//! A service at the other end of `ssh`: `vml serve --stdio` there, HTTP over its standard input and output.
//!
//! Each connection is a process of its own, whose input and output are one socket. It is ended with the connection.

use super::service::{Answer, Line};
use std::fmt;
use std::io::{self, Read, Write};
use std::os::fd::OwnedFd;
use std::os::unix::net::UnixStream;
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};
use ureq::unversioned::resolver::DefaultResolver;
use ureq::unversioned::transport::{Buffers, ConnectionDetails, Connector, LazyBuffers, NextTimeout, Transport};
use ureq::{Agent, http};
use vml_core::{Error, ErrorKind, Result};

/// Without a byte for so long the other side is taken for lost.
const IDLE: Duration = Duration::from_secs(120);
/// What a process has to end after its input has ended.
const FAREWELL: Duration = Duration::from_secs(2);

/// `ssh://[USER@]HOST[:PORT]/PATH`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SshAddress {
    /// `HOST` or `USER@HOST`.
    pub host: String,
    pub port: Option<u16>,
    /// The repository there; one that begins with `/~/` is in the user's home.
    pub path: String,
}

impl SshAddress {
    /// # Errors
    /// `InvalidInput` for what is none.
    pub fn parse(url: &str) -> Result<Self> {
        let bad = |why: &str| Error::invalid(format!("{url:?} {why}: write ssh://USER@HOST/PATH"));
        let rest = url.strip_prefix("ssh://").ok_or_else(|| bad("does not begin with ssh://"))?;
        let (authority, path) = rest.split_once('/').ok_or_else(|| bad("names no repository"))?;
        let at = authority.rfind('@').map_or(0, |at| at + 1);
        let colon = authority[at..].rfind(':').filter(|colon| !authority[at + colon..].contains(']')).map(|colon| at + colon);
        let (host, port) = match colon {
            Some(colon) => (&authority[..colon], Some(authority[colon + 1..].parse::<u16>().map_err(|_| bad("has a port that is none"))?)),
            None => (authority, None),
        };
        let named = host.rsplit('@').next().unwrap_or_default();
        // A name that begins with a dash would be an option of ssh.
        if named.is_empty() || host.starts_with('-') || host.chars().any(|letter| letter.is_whitespace() || letter.is_control()) {
            return Err(bad("names no host"));
        }
        if path.is_empty() || path.contains('\0') {
            return Err(bad("names no repository"));
        }
        Ok(Self { host: host.replace(['[', ']'], ""), port, path: format!("/{path}") })
    }

    /// What the other side's shell is to run.
    fn remote_command(&self, program: &str) -> String {
        let repository = match self.path.strip_prefix("/~/") {
            Some(path) => format!("./{path}"),
            None => self.path.clone(),
        };
        format!("{} --repo {} serve --stdio", quoted(program), quoted(&repository))
    }
}

/// As one word of a shell.
fn quoted(text: &str) -> String {
    format!("'{}'", text.replace('\'', "'\\''"))
}

/// The line to a repository over `ssh`.
pub struct SshLine {
    agent: Agent,
    name: String,
    history: Arc<History>,
}

/// What became of the connections so far.
#[derive(Debug, Default)]
struct History {
    answered: AtomicBool,
    /// How the last one ended that never answered.
    ending: Mutex<Option<String>>,
}

impl SshLine {
    /// `ssh` is the program with its arguments, `program` how `vml` is called on the other side.
    pub fn new(address: &SshAddress, ssh: &[String], program: &str) -> Self {
        let mut command: Vec<String> = ssh.to_vec();
        if let Some(port) = address.port {
            command.extend(["-p".to_owned(), port.to_string()]);
        }
        command.extend(["-T".to_owned(), "--".to_owned(), address.host.clone(), address.remote_command(program)]);
        let config =
            Agent::config_builder().http_status_as_error(false).max_idle_connections_per_host(8).max_redirects(0).proxy(None).build();
        let history = Arc::new(History::default());
        let agent = Agent::with_parts(config, SshConnector { command, history: Arc::clone(&history) }, DefaultResolver::default());
        Self { agent, history, name: format!("ssh://{}{}", address.host, address.path) }
    }
}

impl SshLine {
    /// How `ssh` ended, if it has never led anywhere.
    fn ending(&self) -> Option<String> {
        let ending = self.history.ending.lock().unwrap_or_else(PoisonError::into_inner).take();
        ending.filter(|_| !self.history.answered.load(Ordering::Relaxed))
    }
}

impl Line for SshLine {
    fn post(&self, path: &str, body: &[u8]) -> Result<Answer<'_>> {
        // The address is never looked up: there is one place to which this leads.
        let request = http::Request::post(format!("http://127.0.0.1{path}")).header("content-type", "application/octet-stream").body(body);
        let request = request.map_err(|error| Error::invalid("cannot make a request").because(error))?;
        let answer = self.agent.run(request).map_err(|error| match self.ending() {
            // It has said why on standard error; to ask again would only say it again.
            Some(ending) => Error::not_found(format!("no answer over ssh, which ended with {ending}")),
            None => Error::new(ErrorKind::Io, format!("no answer over ssh: {error}")),
        })?;
        let (parts, body) = answer.into_parts();
        Ok(Answer {
            status: parts.status.as_u16(),
            retry_after: parts.headers.get("retry-after").and_then(|value| value.to_str().ok()?.parse().ok()),
            body: Box::new(body.into_with_config().limit(u64::MAX).reader()),
        })
    }

    fn name(&self) -> &str {
        &self.name
    }
}

#[derive(Debug)]
struct SshConnector {
    command: Vec<String>,
    history: Arc<History>,
}

impl Connector<()> for SshConnector {
    type Out = Session;

    fn connect(&self, details: &ConnectionDetails<'_>, _: Option<()>) -> Result<Option<Self::Out>, ureq::Error> {
        let config = details.config;
        Ok(Some(Session::start(
            &self.command,
            LazyBuffers::new(config.input_buffer_size(), config.output_buffer_size()),
            Arc::clone(&self.history),
        )?))
    }
}

/// A running `ssh`.
struct Session {
    stream: UnixStream,
    child: Child,
    buffers: LazyBuffers,
    ended: bool,
    history: Arc<History>,
}

impl Session {
    fn start(command: &[String], buffers: LazyBuffers, history: Arc<History>) -> io::Result<Self> {
        let (stream, other) = UnixStream::pair()?;
        stream.set_read_timeout(Some(IDLE))?;
        stream.set_write_timeout(Some(IDLE))?;
        let output: OwnedFd = other.try_clone()?.into();
        let input: OwnedFd = other.into();
        let (program, arguments) = command.split_first().ok_or_else(|| io::Error::other("no program for ssh is named"))?;
        let child = Command::new(program).args(arguments).stdin(Stdio::from(input)).stdout(Stdio::from(output)).spawn();
        let child = child.map_err(|error| io::Error::new(error.kind(), format!("cannot start {program}: {error}")))?;
        Ok(Self { stream, child, buffers, ended: false, history })
    }
}

impl fmt::Debug for Session {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Session").field("process", &self.child.id()).finish_non_exhaustive()
    }
}

impl Transport for Session {
    fn buffers(&mut self) -> &mut dyn Buffers {
        &mut self.buffers
    }

    fn transmit_output(&mut self, amount: usize, _: NextTimeout) -> Result<(), ureq::Error> {
        let written = self.stream.write_all(&self.buffers.output()[..amount]);
        if written.is_err() {
            self.note_ending();
        }
        Ok(written?)
    }

    fn await_input(&mut self, _: NextTimeout) -> Result<bool, ureq::Error> {
        let count = loop {
            match self.stream.read(self.buffers.input_append_buf()) {
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                // It ended before it had read what was sent.
                Err(error) if error.kind() == io::ErrorKind::ConnectionReset => break 0,
                other => break other?,
            }
        };
        self.buffers.input_appended(count);
        self.ended = count == 0;
        if self.ended {
            self.note_ending();
        } else {
            self.history.answered.store(true, Ordering::Relaxed);
        }
        Ok(count > 0)
    }

    fn is_open(&mut self) -> bool {
        !self.ended && matches!(self.child.try_wait(), Ok(None))
    }
}

impl Session {
    /// How it ends, if it does in time.
    fn farewell(&mut self) -> Option<ExitStatus> {
        let started = Instant::now();
        while started.elapsed() < FAREWELL {
            match self.child.try_wait() {
                Ok(None) => std::thread::sleep(Duration::from_millis(5)),
                other => return other.ok().flatten(),
            }
        }
        None
    }

    fn note_ending(&mut self) {
        if let Some(status) = self.farewell() {
            *self.history.ending.lock().unwrap_or_else(PoisonError::into_inner) = Some(status.to_string());
        }
    }
}

impl Drop for Session {
    fn drop(&mut self) {
        _ = self.stream.shutdown(std::net::Shutdown::Both);
        if self.farewell().is_some() {
            return;
        }
        _ = self.child.kill();
        _ = self.child.wait();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_are_taken_apart_and_options_are_no_hosts() {
        let address = SshAddress::parse("ssh://eva@host.example:2222/srv/it's here").unwrap();
        assert_eq!((address.host.as_str(), address.port, address.path.as_str()), ("eva@host.example", Some(2222), "/srv/it's here"));
        assert_eq!(address.remote_command("vml"), r"'vml' --repo '/srv/it'\''s here' serve --stdio");
        let home = SshAddress::parse("ssh://host/~/logbook").unwrap();
        assert_eq!((home.port, home.remote_command("/opt/vml").as_str()), (None, "'/opt/vml' --repo './logbook' serve --stdio"));
        assert_eq!(SshAddress::parse("ssh://[2001:db8::1]:22/r").unwrap().host, "2001:db8::1");
        for bad in
            ["host:/r", "ssh://host", "ssh:///r", "ssh://host/", "ssh://-oProxyCommand=x/r", "ssh://a b/r", "ssh://host:x/r", "ssh://u@/r"]
        {
            assert!(SshAddress::parse(bad).is_err(), "{bad}");
        }
    }
}
