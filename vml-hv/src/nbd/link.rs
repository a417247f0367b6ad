//! Connections: sockets on which nothing waits for ever.

use rustix::net::sockopt::{Timeout, set_socket_timeout};
use rustix::net::{AddressFamily, SocketAddrUnix, SocketFlags, SocketType, connect, socket_with};
use std::fmt;
use std::io::{self, Read, Write};
use std::net::{TcpStream, ToSocketAddrs};
use std::os::unix::net::UnixStream;
use std::path::PathBuf;
use std::time::{Duration, Instant};
use vml_core::{Error, ErrorKind, IoResultExt as _, Result};

/// Where a server listens.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum NbdAddress {
    /// A socket in the file system.
    Unix(PathBuf),
    /// A port of a host.
    Tcp {
        /// Its name or address.
        host: String,
        /// Its port; 10809 is usual.
        port: u16,
    },
}

impl fmt::Display for NbdAddress {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Unix(path) => write!(f, "{}", path.display()),
            Self::Tcp { host, port } => write!(f, "{host}:{port}"),
        }
    }
}

/// Both directions of a connection.
pub trait Link: Read + Write {
    /// What is read and written from now on must be done within `time`.
    fn allow(&mut self, time: Duration) {
        _ = time;
    }
}

/// A connection to a server.
pub(super) struct Socket {
    stream: Stream,
    until: Instant,
}

enum Stream {
    Unix(UnixStream),
    Tcp(TcpStream),
}

impl Socket {
    pub(super) fn connect(address: &NbdAddress, limit: Duration) -> Result<Self> {
        let failed = |error: io::Error| {
            let message = format!("cannot connect to the NBD server at {address}");
            match error.kind() {
                io::ErrorKind::WouldBlock | io::ErrorKind::TimedOut => Error::new(ErrorKind::Interrupted, message).because(error),
                _ => Err::<(), _>(error).at(|| message).expect_err("it is one"),
            }
        };
        let errno = |error: rustix::io::Errno| failed(error.into());
        // Zero would mean to wait for ever.
        let limit = limit.max(Duration::from_millis(1));
        let stream = match address {
            NbdAddress::Unix(path) => {
                // The standard library's own connect waits for ever while nobody accepts.
                let socket = socket_with(AddressFamily::UNIX, SocketType::STREAM, SocketFlags::CLOEXEC, None).map_err(errno)?;
                set_socket_timeout(&socket, Timeout::Send, Some(limit)).map_err(errno)?;
                connect(&socket, &SocketAddrUnix::new(path).map_err(errno)?).map_err(errno)?;
                Stream::Unix(UnixStream::from(socket))
            }
            NbdAddress::Tcp { host, port } => {
                let mut last = Error::not_found(format!("the host {host} has no address"));
                let mut connected = None;
                for address in (host.as_str(), *port).to_socket_addrs().map_err(failed)? {
                    match TcpStream::connect_timeout(&address, limit).map_err(failed) {
                        Ok(stream) => {
                            connected = Some(stream);
                            break;
                        }
                        Err(error) => last = error,
                    }
                }
                let stream = connected.ok_or(last)?;
                stream.set_nodelay(true).map_err(failed)?;
                stream.set_write_timeout(Some(limit)).map_err(failed)?;
                Stream::Tcp(stream)
            }
        };
        Ok(Self { stream, until: Instant::now() + limit })
    }
}

impl Link for Socket {
    fn allow(&mut self, time: Duration) {
        self.until = Instant::now() + time;
    }
}

impl Read for Socket {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let left = self.until.saturating_duration_since(Instant::now());
        if left.is_zero() {
            return Err(io::ErrorKind::TimedOut.into());
        }
        match &mut self.stream {
            Stream::Unix(stream) => stream.set_read_timeout(Some(left)).and_then(|()| stream.read(buffer)),
            Stream::Tcp(stream) => stream.set_read_timeout(Some(left)).and_then(|()| stream.read(buffer)),
        }
    }
}

impl Write for Socket {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        match &mut self.stream {
            Stream::Unix(stream) => stream.write(bytes),
            Stream::Tcp(stream) => stream.write(bytes),
        }
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}
