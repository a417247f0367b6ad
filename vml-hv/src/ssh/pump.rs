//! Moves bytes between a channel of libssh2 and two pipes, in a thread of its own.
//!
//! ```text
//! Process::take_stdin ─pipe─► pump ─► channel      neither side ever blocks the other: what a full pipe
//! Process::stdout     ◄─pipe─ pump ◄─ channel      does not take waits in one small buffer each
//! ```
//! The session is the pump's alone while a command runs, because libssh2 allows one caller at a time.

use super::transport::{Ended, Running, STDERR_MAX};
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use ssh2::{Channel, Session};
use std::fs::File;
use std::io::{self, Read, Write};
use std::net::{Shutdown, TcpStream};
use std::os::fd::AsFd;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};
use vml_core::{Error, ErrorKind, Result};

/// Bytes that wait for either side.
const BUFFER_LEN: usize = 64 << 10;
/// How long to wait for anything to move before looking whether to stop.
const PAUSE: Duration = Duration::from_millis(100);
/// Between two signs of life.
const KEEPALIVE: Duration = Duration::from_secs(15);

/// A session with its socket.
pub(super) struct Connection {
    pub(super) session: Session,
    pub(super) socket: TcpStream,
}

/// Where a session waits for its next command.
pub(super) type Parked = Arc<Mutex<Option<Connection>>>;

pub(super) struct Pump {
    stop: Arc<AtomicBool>,
    socket: Option<TcpStream>,
    thread: Option<JoinHandle<Ended>>,
}

impl Pump {
    /// Begins to pump for a command that has been started on `channel`; the session is parked again at its end.
    pub(super) fn start(connection: Connection, channel: Channel, stdin: File, stdout: File, parked: Parked) -> Self {
        let stop = Arc::new(AtomicBool::new(false));
        let socket = connection.socket.try_clone().ok();
        let flag = Arc::clone(&stop);
        let thread = std::thread::spawn(move || {
            let mut flow =
                Flow { channel, stdin: Some(stdin), stdout, to_guest: Buffer::default(), to_here: Buffer::default(), words: Vec::new() };
            connection.session.set_blocking(false);
            let outcome = flow.run(&connection, &flag);
            let stderr = |words: Vec<u8>| String::from_utf8_lossy(&words).into_owned();
            let words = std::mem::take(&mut flow.words);
            match outcome {
                Ok(status) => {
                    drop(flow);
                    connection.session.set_blocking(true);
                    *parked.lock().unwrap_or_else(PoisonError::into_inner) = Some(connection);
                    Ended { status: Some(status), stderr: stderr(words) }
                }
                Err(error) => {
                    // Nobody waits for a polite end of what is broken.
                    _ = connection.socket.shutdown(Shutdown::Both);
                    let mut stderr = stderr(words);
                    stderr.push_str(&format!("\nthe connection ended: {error}"));
                    Ended { status: None, stderr }
                }
            }
        });
        Self { stop, socket, thread: Some(thread) }
    }
}

impl Running for Pump {
    fn wait(&mut self, limit: Duration) -> Result<Ended> {
        let deadline = Instant::now() + limit;
        while self.thread.as_ref().is_some_and(|thread| !thread.is_finished()) {
            if Instant::now() >= deadline {
                self.kill();
                return Err(Error::new(ErrorKind::Interrupted, format!("the guest has not ended a command after {} s", limit.as_secs())));
            }
            std::thread::sleep(Duration::from_millis(2));
        }
        let ended = self.thread.take().and_then(|thread| thread.join().ok());
        ended.ok_or_else(|| Error::new(ErrorKind::Interrupted, "the connection to the guest was lost"))
    }

    fn kill(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
        if let Some(socket) = &self.socket {
            _ = socket.shutdown(Shutdown::Both);
        }
        _ = self.thread.take().map(JoinHandle::join);
    }
}

/// Bytes on their way.
#[derive(Default)]
struct Buffer {
    bytes: Vec<u8>,
    start: usize,
}

impl Buffer {
    fn is_empty(&self) -> bool {
        self.start == self.bytes.len()
    }

    /// Takes from `from` into the empty buffer; whether it has ended, or nothing when it has nothing now.
    fn fill(&mut self, from: &mut dyn Read) -> io::Result<Option<usize>> {
        self.bytes.resize(BUFFER_LEN, 0);
        self.start = 0;
        let read = from.read(&mut self.bytes);
        self.bytes.truncate(*read.as_ref().unwrap_or(&0));
        now(read)
    }

    /// Gives to `to` what it takes; whether it took anything.
    fn drain(&mut self, to: &mut dyn Write) -> io::Result<bool> {
        let written = now(to.write(&self.bytes[self.start..]))?.unwrap_or(0);
        self.start += written;
        Ok(written > 0)
    }
}

/// `None` for what cannot be done now.
fn now<T>(result: io::Result<T>) -> io::Result<Option<T>> {
    match result {
        Err(error) if matches!(error.kind(), io::ErrorKind::WouldBlock | io::ErrorKind::Interrupted) => Ok(None),
        other => other.map(Some),
    }
}

struct Flow {
    channel: Channel,
    stdin: Option<File>,
    stdout: File,
    to_guest: Buffer,
    to_here: Buffer,
    words: Vec<u8>,
}

impl Flow {
    /// Until the command has ended and everything it said was handed over; its exit status.
    fn run(&mut self, connection: &Connection, stop: &AtomicBool) -> io::Result<i32> {
        let mut said_eof = false;
        let mut alive = Instant::now();
        loop {
            if stop.load(Ordering::Relaxed) {
                return Err(io::Error::new(io::ErrorKind::Interrupted, "it was stopped"));
            }
            let mut moved = false;
            if self.to_guest.is_empty()
                && let Some(stdin) = &mut self.stdin
                && let Some(len) = self.to_guest.fill(stdin)?
            {
                moved = true;
                if len == 0 {
                    self.stdin = None;
                }
            }
            if !self.to_guest.is_empty() {
                match self.to_guest.drain(&mut self.channel) {
                    Ok(any) => moved |= any,
                    // A command that reads no more has ended, or will; what it says then counts.
                    Err(_) if self.channel.eof() => {
                        self.to_guest = Buffer::default();
                        self.stdin = None;
                    }
                    Err(error) => return Err(error),
                }
            }
            if self.stdin.is_none() && self.to_guest.is_empty() && !said_eof {
                said_eof = now(self.channel.send_eof().map_err(io::Error::from))?.is_some();
                moved |= said_eof;
            }
            if self.to_here.is_empty() && self.to_here.fill(&mut self.channel)?.is_some_and(|len| len > 0) {
                moved = true;
            }
            if !self.to_here.is_empty() {
                moved |= self.to_here.drain(&mut self.stdout)?;
            }
            moved |= self.take_words()?;
            if !moved && self.channel.eof() && self.to_here.is_empty() {
                return self.end(connection, stop);
            }
            if !moved {
                self.pause(connection);
            }
            if alive.elapsed() >= KEEPALIVE {
                alive = Instant::now();
                _ = connection.session.keepalive_send();
            }
        }
    }

    fn take_words(&mut self) -> io::Result<bool> {
        let mut part = [0; 4096];
        let len = now(self.channel.stderr().read(&mut part))?.unwrap_or(0);
        let room = STDERR_MAX - self.words.len().min(STDERR_MAX);
        self.words.extend_from_slice(&part[..len.min(room)]);
        Ok(len > 0)
    }

    /// Waits until something may move.
    fn pause(&self, connection: &Connection) {
        let mut fds = Vec::with_capacity(3);
        // While what has arrived is not taken, the guest has to wait.
        if self.to_here.is_empty() {
            let mut flags = PollFlags::IN;
            if matches!(connection.session.block_directions(), ssh2::BlockDirections::Outbound | ssh2::BlockDirections::Both) {
                flags |= PollFlags::OUT;
            }
            fds.push(PollFd::from_borrowed_fd(connection.socket.as_fd(), flags));
        } else {
            fds.push(PollFd::from_borrowed_fd(self.stdout.as_fd(), PollFlags::OUT));
        }
        if let Some(stdin) = self.stdin.as_ref().filter(|_| self.to_guest.is_empty()) {
            fds.push(PollFd::from_borrowed_fd(stdin.as_fd(), PollFlags::IN));
        }
        let timeout = Timespec { tv_sec: 0, tv_nsec: i64::from(PAUSE.subsec_nanos()) };
        _ = poll(&mut fds, Some(&timeout));
    }

    /// Takes leave of the channel, for a while at most.
    fn end(&mut self, connection: &Connection, stop: &AtomicBool) -> io::Result<i32> {
        let deadline = Instant::now() + Duration::from_secs(30);
        for step in [Channel::close, Channel::wait_close] {
            while now(step(&mut self.channel).map_err(io::Error::from))?.is_none() {
                if stop.load(Ordering::Relaxed) || Instant::now() >= deadline {
                    return Err(io::Error::new(io::ErrorKind::TimedOut, "the guest does not close the channel"));
                }
                let mut fds = [PollFd::from_borrowed_fd(connection.socket.as_fd(), PollFlags::IN)];
                _ = poll(&mut fds, Some(&Timespec { tv_sec: 0, tv_nsec: i64::from(PAUSE.subsec_nanos()) }));
            }
        }
        self.channel.exit_status().map_err(io::Error::from)
    }
}
