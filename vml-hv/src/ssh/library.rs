//! libssh2: keys of the host are checked against files of known hosts, and one logs in by key.

use super::pump::{Connection, Parked, Pump};
use super::transport::{Limits, Process, SshAddress, Traffic, Transport};
use ssh2::{CheckResult, HashType, KnownHostFileKind, MethodType, Session};
use std::net::{TcpStream, ToSocketAddrs};
use std::path::{Path, PathBuf};
use std::sync::{Arc, PoisonError};
use vml_core::{Error, ErrorKind, IoResultExt as _, Result};

/// What is needed to log in.
#[derive(Debug, Clone)]
pub struct LibraryOptions {
    /// Where the guest is; a name to log in with is needed.
    pub address: SshAddress,
    /// The name under which its host key is known, where that is not its address: a forwarded port is another one at each start.
    pub host_key_alias: Option<String>,
    /// Files with known hosts; those that are not there are passed over.
    pub known_hosts: Vec<PathBuf>,
    /// Files with private keys, tried in this order after the agent's.
    pub identities: Vec<PathBuf>,
    /// The socket of an agent.
    pub agent: Option<PathBuf>,
    /// How long things may take.
    pub limits: Limits,
}

/// Commands over libssh2, one after the other over one connection.
pub struct LibraryTransport {
    options: LibraryOptions,
    parked: Parked,
    traffic: Arc<Traffic>,
}

/// Kinds of host keys that are asked for by themselves when the one that a server prefers is not known.
const KEY_KINDS: [&str; 3] =
    ["ssh-ed25519", "ecdsa-sha2-nistp256,ecdsa-sha2-nistp384,ecdsa-sha2-nistp521", "rsa-sha2-512,rsa-sha2-256,ssh-rsa"];

impl LibraryTransport {
    /// Nothing is connected yet.
    pub fn new(options: LibraryOptions) -> Self {
        Self { options, parked: Arc::default(), traffic: Arc::default() }
    }

    fn port(&self) -> u16 {
        self.options.address.port.unwrap_or(22)
    }

    fn connect(&self) -> Result<Connection> {
        let mut refused = match self.greet(None)? {
            Ok(connection) => return self.log_in(connection),
            Err(refused) => refused,
        };
        // The server may have a key that is known besides the one it would rather show.
        for kind in KEY_KINDS {
            match self.greet(Some(kind)) {
                Ok(Ok(connection)) => return self.log_in(connection),
                Ok(Err(Refused::Changed(fingerprint, file))) => refused = Refused::Changed(fingerprint, file),
                // It has no such key.
                Ok(Err(Refused::Unknown(_))) | Err(_) => {}
            }
        }
        Err(self.refuse(refused))
    }

    /// Connects and looks whether the host is known.
    fn greet(&self, kind: Option<&str>) -> Result<std::result::Result<Connection, Refused>> {
        let place = self.place();
        let limit = self.options.limits.connect;
        let host = self.options.address.host.as_str();
        let addresses = (host, self.port()).to_socket_addrs().at(|| format!("cannot find the guest {host}"))?;
        let mut failure = None;
        let socket = addresses
            .into_iter()
            .take(8)
            .find_map(|address| TcpStream::connect_timeout(&address, limit).map_err(|error| failure = Some(error)).ok());
        let Some(socket) = socket else {
            let error = failure.unwrap_or_else(|| std::io::Error::from(std::io::ErrorKind::AddrNotAvailable));
            return Err(error).at(|| format!("cannot reach {place}"));
        };
        _ = socket.set_nodelay(true);
        let failed = |what: &str, error: ssh2::Error| Error::new(ErrorKind::Io, format!("cannot {what} {place}")).because(error);
        let mut session = Session::new().map_err(|error| failed("begin a session with", error))?;
        session.set_timeout(u32::try_from(limit.as_millis()).unwrap_or(u32::MAX));
        session.set_tcp_stream(socket.try_clone().at(|| "cannot use a socket twice")?);
        if let Some(kind) = kind {
            session.method_pref(MethodType::HostKey, kind).map_err(|error| failed("agree on host keys with", error))?;
        }
        session.handshake().map_err(|error| failed("begin a session with", error))?;
        session.set_keepalive(true, 15);
        Ok(match self.check_host(&session)? {
            None => Ok(Connection { session, socket }),
            Some(refused) => Err(refused),
        })
    }

    fn check_host(&self, session: &Session) -> Result<Option<Refused>> {
        let place = self.place();
        let (key, _) = session.host_key().ok_or_else(|| Error::new(ErrorKind::Io, format!("{place} shows no host key")))?;
        let fingerprint = session.host_key_hash(HashType::Sha256).map(fingerprint).unwrap_or_default();
        let mut refused = Refused::Unknown(fingerprint.clone());
        for file in self.options.known_hosts.iter().filter(|file| file.exists()) {
            let unreadable = |error| Error::new(ErrorKind::Io, format!("cannot read the known hosts in {}", file.display())).because(error);
            let mut known = session.known_hosts().map_err(unreadable)?;
            known.read_file(file, KnownHostFileKind::OpenSSH).map_err(unreadable)?;
            let result = match &self.options.host_key_alias {
                Some(alias) => known.check(alias, key),
                None => known.check_port(&self.options.address.host, self.port(), key),
            };
            match result {
                CheckResult::Match => return Ok(None),
                CheckResult::Mismatch => refused = Refused::Changed(fingerprint.clone(), file.clone()),
                CheckResult::NotFound | CheckResult::Failure => {}
            }
        }
        Ok(Some(refused))
    }

    fn refuse(&self, refused: Refused) -> Error {
        let place = self.place();
        let message = match refused {
            Refused::Unknown(fingerprint) => {
                let files: Vec<String> = self.options.known_hosts.iter().map(|file| file.display().to_string()).collect();
                let files = if files.is_empty() { "no file of known hosts".to_owned() } else { files.join(" nor in ") };
                format!(
                    "the host key of {place} is not in {files}; its fingerprint is {fingerprint}: compare it with the guest's own \
                     (ssh-keygen -lf /etc/ssh/ssh_host_ed25519_key.pub) and accept it by logging in once with ssh"
                )
            }
            Refused::Changed(fingerprint, file) => format!(
                "the host key of {place} is not the one in {}: now its fingerprint is {fingerprint}; somebody may be in between. If the \
                 guest was made anew, remove the old key with ssh-keygen -R",
                file.display()
            ),
        };
        Error::new(ErrorKind::PermissionDenied, message)
    }

    fn log_in(&self, connection: Connection) -> Result<Connection> {
        let place = self.place();
        let user = self.options.address.user.as_deref();
        let user = user.ok_or_else(|| Error::invalid(format!("with which name to log in at {place}? write USER@HOST")))?;
        let session = &connection.session;
        let mut tried = Vec::new();
        if let Some(socket) = &self.options.agent {
            match by_agent(session, user, socket) {
                Ok(true) => return Ok(connection),
                Ok(false) => tried.push("no key of the agent is accepted".to_owned()),
                Err(error) => tried.push(format!("the agent cannot be used: {error}")),
            }
        }
        for file in self.options.identities.iter().filter(|file| file.exists()) {
            match session.userauth_pubkey_file(user, None, file, None) {
                Ok(()) => return Ok(connection),
                Err(error) => tried.push(format!("{} is not accepted: {}", file.display(), error.message())),
            }
        }
        let tried = if tried.is_empty() { "there is no agent and no key to try".to_owned() } else { tried.join("; ") };
        let message =
            format!("{place} does not let us in: {tried}. A key with a passphrase must be in the agent; passwords are never tried");
        Err(Error::new(ErrorKind::PermissionDenied, message))
    }
}

enum Refused {
    Unknown(String),
    Changed(String, PathBuf),
}

fn by_agent(session: &Session, user: &str, socket: &Path) -> std::result::Result<bool, ssh2::Error> {
    let mut agent = session.agent()?;
    agent.set_identity_path(socket)?;
    agent.connect()?;
    agent.list_identities()?;
    Ok(agent.identities()?.iter().take(20).any(|identity| agent.userauth(user, identity).is_ok()))
}

/// As OpenSSH writes it.
fn fingerprint(hash: &[u8]) -> String {
    const LETTERS: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    let mut text = String::from("SHA256:");
    for three in hash.chunks(3) {
        let bits = three.iter().fold(0_u32, |bits, byte| bits << 8 | u32::from(*byte)) << (8 * (3 - three.len()));
        for letter in 0..=three.len() {
            text.push(char::from(LETTERS[(bits >> (18 - 6 * letter) & 63) as usize]));
        }
    }
    text
}

impl Transport for LibraryTransport {
    fn run(&self, command: &str) -> Result<Process> {
        let failed = |error: ssh2::Error| Error::new(ErrorKind::Io, format!("cannot start a command at {}", self.place())).because(error);
        let parked = self.parked.lock().unwrap_or_else(PoisonError::into_inner).take();
        let start = |connection: &Connection| {
            let mut channel = connection.session.channel_session()?;
            channel.exec(command).map(|()| channel)
        };
        // A connection that waited may have died meanwhile.
        let reused = parked.and_then(|connection| start(&connection).ok().map(|channel| (connection, channel)));
        let (connection, channel) = match reused {
            Some(reused) => reused,
            None => {
                let connection = self.connect()?;
                let channel = start(&connection).map_err(failed)?;
                (connection, channel)
            }
        };
        let pipe = || std::io::pipe().at(|| "cannot make a pipe");
        let ((stdin_here, stdin), (stdout, stdout_here)) = (pipe()?, pipe()?);
        let file = |fd: std::os::fd::OwnedFd| std::fs::File::from(fd);
        let (stdin_here, stdout_here) = (file(stdin_here.into()), file(stdout_here.into()));
        for end in [&stdin_here, &stdout_here] {
            rustix::io::ioctl_fionbio(end, true).at(|| "cannot prepare a pipe")?;
        }
        let pump = Pump::start(connection, channel, stdin_here, stdout_here, Arc::clone(&self.parked));
        Process::new(file(stdin.into()), file(stdout.into()), Box::new(pump), self.options.limits, &self.traffic)
    }

    fn place(&self) -> String {
        self.options.address.to_string()
    }

    fn traffic(&self) -> &Traffic {
        &self.traffic
    }
}

#[cfg(test)]
mod tests {
    #[test]
    fn a_fingerprint_is_written_as_openssh_does() {
        assert_eq!(super::fingerprint(&[0; 32]), format!("SHA256:{}", "A".repeat(43)));
        assert_eq!(super::fingerprint(b"Ma"), "SHA256:TWE");
        assert_eq!(super::fingerprint(b"Man"), "SHA256:TWFu");
    }
}
