//! A line that is far away: a proxy on loopback that counts bytes and delivers them later. It has no bound but the delay.

use anyhow::{Context as _, Result};
use std::io::{Read, Write};
use std::net::{Shutdown, SocketAddr, TcpListener, TcpStream};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, mpsc};
use std::thread;
use std::time::{Duration, Instant};

/// Read at a time.
const PIECE: usize = 64 << 10;
/// Pieces on their way in one direction of one connection: more than the delay needs.
const PIECES: usize = 1024;

/// Counts what clients sent over it.
#[derive(Debug, Default)]
pub struct Counts(AtomicU64);

impl Counts {
    /// Bytes from clients to the service.
    pub fn sent(&self) -> u64 {
        self.0.load(Ordering::Relaxed)
    }
}

/// Listens on loopback and leads to `target`; each byte arrives `delay` after it was sent. It lives as long as this process.
///
/// # Errors
/// When it cannot listen.
pub fn open(target: SocketAddr, delay: Duration) -> Result<(SocketAddr, Arc<Counts>)> {
    let listener = TcpListener::bind("127.0.0.1:0").context("cannot listen on loopback")?;
    let address = listener.local_addr()?;
    let counts = Arc::new(Counts::default());
    let shared = Arc::clone(&counts);
    thread::spawn(move || {
        for client in listener.incoming().flatten() {
            let counts = Arc::clone(&shared);
            thread::spawn(move || {
                if let Ok(server) = TcpStream::connect(target) {
                    _ = join(&client, &server, delay, &counts);
                }
            });
        }
    });
    Ok((address, counts))
}

fn join(client: &TcpStream, server: &TcpStream, delay: Duration, counts: &Counts) -> std::io::Result<()> {
    client.set_nodelay(true)?;
    server.set_nodelay(true)?;
    thread::scope(|scope| {
        scope.spawn(|| carry(client, server, delay, &|len| _ = counts.0.fetch_add(len, Ordering::Relaxed)));
        carry(server, client, delay, &|_| {});
    });
    Ok(())
}

/// One direction: one thread reads, the other delivers.
fn carry(mut from: &TcpStream, mut to: &TcpStream, delay: Duration, count: &dyn Fn(u64)) {
    let (send, receive) = mpsc::sync_channel::<(Instant, Vec<u8>)>(PIECES);
    thread::scope(|scope| {
        scope.spawn(move || {
            for (due, piece) in receive {
                thread::sleep(due.saturating_duration_since(Instant::now()));
                if to.write_all(&piece).is_err() {
                    break;
                }
            }
            _ = to.shutdown(Shutdown::Write);
        });
        let mut buffer = vec![0; PIECE];
        while let Ok(len @ 1..) = from.read(&mut buffer) {
            count(len as u64);
            if send.send((Instant::now() + delay, buffer[..len].to_vec())).is_err() {
                break;
            }
        }
        drop(send);
    });
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bytes_arrive_later_whole_and_counted() {
        let echo = TcpListener::bind("127.0.0.1:0").unwrap();
        let target = echo.local_addr().unwrap();
        thread::spawn(move || {
            let (mut client, _) = echo.accept().unwrap();
            let mut other = client.try_clone().unwrap();
            _ = std::io::copy(&mut client, &mut other);
            _ = client.shutdown(Shutdown::Write);
        });
        let (address, counts) = open(target, Duration::from_millis(20)).unwrap();
        let mut line = TcpStream::connect(address).unwrap();
        let started = Instant::now();
        let sent: Vec<u8> = (0..200_000_u32).map(|number| number as u8).collect();
        line.write_all(&sent).unwrap();
        line.shutdown(Shutdown::Write).unwrap();
        let mut got = Vec::new();
        line.read_to_end(&mut got).unwrap();
        assert_eq!(got, sent);
        assert!(started.elapsed() >= Duration::from_millis(40));
        assert_eq!(counts.sent(), 200_000);
    }
}
