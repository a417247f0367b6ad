//! The user's own `ssh` command: it knows the user's configuration, jump hosts and certificates.

use super::transport::{Ended, Limits, Process, Running, STDERR_MAX, SshAddress, Traffic, Transport};
use std::io::Read;
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::thread::JoinHandle;
use std::time::{Duration, Instant};
use vml_core::{Error, ErrorKind, Result};

/// How the command is called.
#[derive(Debug, Clone)]
pub struct ProgramOptions {
    /// The command.
    pub program: PathBuf,
    /// Where the guest is.
    pub address: SshAddress,
    /// The name under which its host key is known, where that is not its address.
    pub host_key_alias: Option<String>,
    /// Files with keys, besides those of its own configuration.
    pub identities: Vec<PathBuf>,
    /// Files with known hosts, instead of those of its own configuration.
    pub known_hosts: Vec<PathBuf>,
    /// How long things may take.
    pub limits: Limits,
}

/// Commands over the `ssh` command, one connection each.
pub struct ProgramTransport {
    options: ProgramOptions,
    traffic: Arc<Traffic>,
}

impl ProgramTransport {
    /// Nothing is connected yet.
    pub fn new(options: ProgramOptions) -> Self {
        Self { options, traffic: Arc::default() }
    }
}

impl Transport for ProgramTransport {
    fn run(&self, command: &str) -> Result<Process> {
        let options = &self.options;
        let mut ssh = Command::new(&options.program);
        // Never a question, nothing forwarded, no terminal; a connection that dies is noticed.
        ssh.args(["-T", "-x", "-a", "-o", "BatchMode=yes", "-o", "ClearAllForwardings=yes"]);
        ssh.args(["-o", "ServerAliveInterval=15", "-o", "ServerAliveCountMax=4"]);
        ssh.arg("-o").arg(format!("ConnectTimeout={}", options.limits.connect.as_secs().max(1)));
        if let Some(alias) = &options.host_key_alias {
            ssh.arg("-o").arg(format!("HostKeyAlias={alias}"));
        }
        for identity in &options.identities {
            ssh.arg("-i").arg(identity);
        }
        if !options.known_hosts.is_empty() {
            let files: Vec<String> = options.known_hosts.iter().map(|file| format!("\"{}\"", file.display())).collect();
            ssh.arg("-o").arg(format!("UserKnownHostsFile={}", files.join(" ")));
        }
        if let Some(port) = options.address.port {
            ssh.args(["-p", &port.to_string()]);
        }
        if let Some(user) = &options.address.user {
            ssh.args(["-l", user]);
        }
        ssh.arg("--").arg(&options.address.host).arg(command);
        ssh.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
        let mut child = ssh.spawn().map_err(|error| {
            let (kind, why) = match error.kind() {
                std::io::ErrorKind::NotFound => (ErrorKind::UnsupportedFormat, "it is not installed"),
                _ => (ErrorKind::Io, "it does not start"),
            };
            Error::new(kind, format!("cannot use {}: {why}", options.program.display())).because(error)
        })?;
        let (Some(stdin), Some(stdout), Some(mut stderr)) = (child.stdin.take(), child.stdout.take(), child.stderr.take()) else {
            unreachable!("the three streams were asked for");
        };
        let words = std::thread::spawn(move || {
            let mut bytes = Vec::new();
            _ = stderr.by_ref().take(STDERR_MAX as u64).read_to_end(&mut bytes);
            _ = std::io::copy(&mut stderr, &mut std::io::sink());
            String::from_utf8_lossy(&bytes).into_owned()
        });
        let running = Box::new(RunningChild { child, words: Some(words) });
        let stdin = std::fs::File::from(std::os::fd::OwnedFd::from(stdin));
        let stdout = std::fs::File::from(std::os::fd::OwnedFd::from(stdout));
        Process::new(stdin, stdout, running, options.limits, &self.traffic)
    }

    fn place(&self) -> String {
        self.options.address.to_string()
    }

    fn traffic(&self) -> &Traffic {
        &self.traffic
    }
}

struct RunningChild {
    child: Child,
    words: Option<JoinHandle<String>>,
}

impl RunningChild {
    fn words(&mut self) -> String {
        self.words.take().and_then(|words| words.join().ok()).unwrap_or_default()
    }
}

impl Running for RunningChild {
    fn wait(&mut self, limit: Duration) -> Result<Ended> {
        let deadline = Instant::now() + limit;
        let mut pause = Duration::from_millis(1);
        loop {
            match self.child.try_wait() {
                // 255 is the command's own: no session, or a session that ended early.
                Ok(Some(status)) => {
                    return Ok(Ended { status: status.code().filter(|code| *code != 255), stderr: self.words() });
                }
                Ok(None) if Instant::now() < deadline => std::thread::sleep(pause),
                result => {
                    self.kill();
                    let error = Error::new(ErrorKind::Interrupted, format!("ssh has not ended after {} s and was killed", limit.as_secs()));
                    return Err(match result {
                        Err(cause) => error.because(cause),
                        Ok(_) => error,
                    });
                }
            }
            pause = (pause * 2).min(Duration::from_millis(50));
        }
    }

    fn kill(&mut self) {
        _ = self.child.kill();
        _ = self.child.wait();
        // Not joined: a jump host's process may keep the stream open for a moment.
        self.words = None;
    }
}
