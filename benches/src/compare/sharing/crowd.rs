//! Many clients that pull at once: each asks for what an entry needs and fetches its frames, and keeps nothing of it.

use anyhow::{Context as _, Result, bail};
use std::io::{BufRead, BufReader, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::thread;
use std::time::Duration;
use vml_core::EntryId;
use vml_core::remote::wire::{BlockReader, CALLS, FRAME_BLOCK_MAX_LEN, NEEDS_MAX_LEN, decode_message, encode_message};
use vml_core::remote::{FrameAt, Needs, PARCEL_TARGET};

/// Nothing comes for so long.
const PATIENCE: Duration = Duration::from_secs(300);
/// A service that is busy is asked again so often.
const TRIES: usize = 50;

/// Has `count` clients pull an entry at once; returns how many bytes of frames came in all.
///
/// # Errors
/// When one of them does not get everything.
pub fn pull(address: SocketAddr, entry: EntryId, count: usize) -> Result<u64> {
    let results: Vec<Result<u64>> = thread::scope(|scope| {
        let clients: Vec<_> = (0..count).map(|_| scope.spawn(move || one(address, entry))).collect();
        clients.into_iter().map(|client| client.join().unwrap_or_else(|_| bail!("a client has died"))).collect()
    });
    let mut sum = 0;
    for result in results {
        sum += result?;
    }
    Ok(sum)
}

fn one(address: SocketAddr, entry: EntryId) -> Result<u64> {
    let mut places: Vec<FrameAt> = Vec::new();
    let body = encode_message(&(vec![entry], Vec::<EntryId>::new()));
    ask(address, "needs", &body, &mut |answer| {
        let mut blocks = BlockReader::new(answer, NEEDS_MAX_LEN);
        while let Some(block) = blocks.next_block()? {
            places.extend(decode_message::<Needs>("needs", &block)?.frames);
        }
        Ok(())
    })?;
    places.sort_unstable_by_key(|frame| (frame.kind, frame.pack, frame.offset));
    places.dedup();
    let (mut sum, mut group, mut len) = (0, Vec::new(), 0);
    let mut fetch = |group: &[FrameAt]| -> Result<()> {
        let mut count = 0;
        ask(address, "fetch", &encode_message(&group), &mut |answer| {
            let mut blocks = BlockReader::new(answer, FRAME_BLOCK_MAX_LEN);
            while let Some(block) = blocks.next_block()? {
                (sum, count) = (sum + block.len() as u64, count + 1);
            }
            Ok(())
        })?;
        if count == group.len() { Ok(()) } else { bail!("{count} frames came where {} were asked for", group.len()) }
    };
    for frame in places {
        len += frame.stored_len as usize;
        group.push(frame);
        if len >= PARCEL_TARGET {
            fetch(&group)?;
            group.clear();
            len = 0;
        }
    }
    if !group.is_empty() {
        fetch(&group)?;
    }
    Ok(sum)
}

/// A request of its own connection.
fn ask(address: SocketAddr, call: &str, body: &[u8], read: &mut dyn FnMut(&mut dyn Read) -> Result<()>) -> Result<()> {
    for _ in 0..TRIES {
        let mut line = TcpStream::connect(address).context("cannot connect")?;
        line.set_read_timeout(Some(PATIENCE))?;
        let head = format!(
            "POST /{CALLS}/{call} HTTP/1.1\r\nHost: {address}\r\nConnection: close\r\nContent-Type: application/octet-stream\r\nContent-Length: {}\r\n\r\n",
            body.len()
        );
        line.write_all(head.as_bytes())?;
        line.write_all(body)?;
        let mut answer = BufReader::with_capacity(16 << 10, line);
        let mut status = String::new();
        answer.read_line(&mut status)?;
        let mut chunked = false;
        loop {
            let mut header = String::new();
            if answer.read_line(&mut header)? == 0 || header == "\r\n" {
                break;
            }
            chunked |= header.to_ascii_lowercase().starts_with("transfer-encoding: chunked");
        }
        match status.split(' ').nth(1) {
            Some("200") if chunked => return read(&mut Chunked { input: answer, left: 0, ended: false }),
            Some("200") => return read(&mut answer),
            Some("503" | "429") => thread::sleep(Duration::from_secs(1)),
            _ => bail!("{call} is answered with {}", status.trim()),
        }
    }
    bail!("{call} is answered with nothing but 503")
}

/// A body in HTTP's chunks.
struct Chunked<R> {
    input: R,
    left: u64,
    ended: bool,
}

impl<R: BufRead> Read for Chunked<R> {
    fn read(&mut self, buffer: &mut [u8]) -> std::io::Result<usize> {
        while self.left == 0 && !self.ended {
            let mut line = String::new();
            if self.input.read_line(&mut line)? == 0 {
                return Err(std::io::ErrorKind::UnexpectedEof.into());
            }
            if line.trim().is_empty() {
                continue;
            }
            self.left = u64::from_str_radix(line.trim(), 16).map_err(std::io::Error::other)?;
            self.ended = self.left == 0;
        }
        if self.ended || buffer.is_empty() {
            return Ok(0);
        }
        let len = buffer.len().min(usize::try_from(self.left).unwrap_or(usize::MAX));
        let read = self.input.read(&mut buffer[..len])?;
        self.left -= read as u64;
        if read == 0 { Err(std::io::ErrorKind::UnexpectedEof.into()) } else { Ok(read) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn chunks_of_http_are_put_together_and_a_cut_is_an_error() {
        let read = |text: &str| {
            let mut out = String::new();
            Chunked { input: text.as_bytes(), left: 0, ended: false }.read_to_string(&mut out).map(|_| out)
        };
        assert_eq!(read("5\r\nhello\r\n1\r\n!\r\n0\r\n\r\n").unwrap(), "hello!");
        assert!(read("5\r\nhel").is_err());
        assert!(read("5\r\nhello\r\n").is_err());
    }
}
