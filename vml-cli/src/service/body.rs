//! Bodies: those that come are read within limits of length and time, those that go are made piece by piece, as fast as they are taken.

use super::errors::Failure;
use super::limits::{BODY_RATE_MIN, PIECE_LEN, Room};
use axum::body::{Body, Bytes, HttpBody};
use axum::http::{HeaderMap, header};
use hyper::body::{Frame, SizeHint};
use std::collections::VecDeque;
use std::future::{Future, poll_fn};
use std::io::{self, Read, Write};
use std::pin::Pin;
use std::task::{Context, Poll, ready};
use std::time::{Duration, Instant};
use tokio::sync::mpsc;
use tokio::task::JoinHandle;
use vml_core::Error;

/// The length that a request names.
pub fn content_length(headers: &HeaderMap) -> Option<usize> {
    headers.get(header::CONTENT_LENGTH)?.to_str().ok()?.parse().ok()
}

/// A body that has come, given back as it is read.
#[derive(Default)]
pub struct Received {
    pieces: VecDeque<Bytes>,
    pub len: usize,
}

impl Received {
    pub fn into_vec(mut self) -> Vec<u8> {
        let mut bytes = Vec::with_capacity(self.len);
        while let Some(piece) = self.pieces.pop_front() {
            bytes.extend_from_slice(&piece);
        }
        bytes
    }
}

impl Read for Received {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let Some(piece) = self.pieces.front_mut() else { return Ok(0) };
        let len = piece.len().min(buffer.len());
        buffer[..len].copy_from_slice(&piece.split_to(len));
        if piece.is_empty() {
            self.pieces.pop_front();
        }
        Ok(len)
    }
}

/// Reads a body of at most `max` bytes. It may pause for as long as `patience`, and must not be slower than the slowest rate after that.
pub async fn receive(mut body: Body, max: usize, patience: Duration) -> Result<Received, Failure> {
    let started = Instant::now();
    let mut received = Received::default();
    loop {
        let next = poll_fn(|cx| Pin::new(&mut body).poll_frame(cx));
        let slow = || Failure::too_slow("the body of the request came too slowly");
        let frame = match tokio::time::timeout(patience, next).await.map_err(|_| slow())? {
            None => return Ok(received),
            Some(Err(error)) => return Err(Failure::bad_request(format!("the body of the request is cut: {error}"))),
            Some(Ok(frame)) => frame,
        };
        let Ok(piece) = frame.into_data() else { continue };
        received.len += piece.len();
        if received.len > max {
            drop(received);
            discard(body).await;
            return Err(Failure::too_large(max));
        }
        if started.elapsed() > patience + Duration::from_secs(received.len as u64 / BODY_RATE_MIN) {
            return Err(slow());
        }
        if !piece.is_empty() {
            received.pieces.push_back(piece);
        }
    }
}

/// Lets what is left of a refused body pass, up to a limit, so that the client sees the answer and not a broken connection.
pub async fn discard(mut body: Body) {
    const MOST: usize = 64 << 20;
    let run = async {
        let mut len = 0;
        while let Some(Ok(frame)) = poll_fn(|cx| Pin::new(&mut body).poll_frame(cx)).await {
            len += frame.data_ref().map_or(0, Bytes::len);
            if len > MOST {
                break;
            }
        }
    };
    _ = tokio::time::timeout(Duration::from_secs(5), run).await;
}

/// Bytes that are there already, handed over in pieces; room for them is held until they are gone.
pub struct Held {
    pieces: VecDeque<Bytes>,
    left: u64,
    _room: Option<Room>,
}

impl Held {
    pub fn body(pieces: impl IntoIterator<Item = Bytes>, room: Option<Room>) -> Body {
        let pieces: VecDeque<Bytes> = pieces.into_iter().filter(|piece| !piece.is_empty()).collect();
        Body::new(Self { left: pieces.iter().map(|piece| piece.len() as u64).sum(), pieces, _room: room })
    }
}

impl HttpBody for Held {
    type Data = Bytes;
    type Error = io::Error;

    fn poll_frame(mut self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<Option<io::Result<Frame<Bytes>>>> {
        let Some(first) = self.pieces.front_mut() else { return Poll::Ready(None) };
        let piece = first.split_to(first.len().min(PIECE_LEN));
        if first.is_empty() {
            self.pieces.pop_front();
        }
        self.left -= piece.len() as u64;
        Poll::Ready(Some(Ok(Frame::data(piece))))
    }

    fn size_hint(&self) -> SizeHint {
        SizeHint::with_exact(self.left)
    }
}

/// Makes the next piece of an answer; it blocks.
pub trait Source: Send + 'static {
    /// `None` at the end; else some bytes.
    fn next_piece(&mut self) -> Result<Option<Bytes>, Error>;
}

type Made<S> = (Box<S>, Result<Option<Bytes>, Error>);

/// A body whose pieces are made when they are wanted: a client that is slow costs one piece.
pub struct Pulled<S> {
    source: Option<Box<S>>,
    /// What was made and not sent yet.
    made: Bytes,
    running: Option<JoinHandle<Made<S>>>,
    left: Option<u64>,
    _room: Room,
}

impl<S: Source> Pulled<S> {
    pub fn body(source: S, len: Option<u64>, room: Room) -> Body {
        Body::new(Self { source: Some(Box::new(source)), made: Bytes::new(), running: None, left: len, _room: room })
    }
}

impl<S> Pulled<S> {
    fn next_made(&mut self) -> Bytes {
        let len = self.made.len().min(PIECE_LEN);
        self.left = self.left.map(|left| left.saturating_sub(len as u64));
        self.made.split_to(len)
    }
}

impl<S: Source> HttpBody for Pulled<S> {
    type Data = Bytes;
    type Error = io::Error;

    fn poll_frame(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<io::Result<Frame<Bytes>>>> {
        if !self.made.is_empty() {
            return Poll::Ready(Some(Ok(Frame::data(self.next_made()))));
        }
        if let Some(mut source) = self.source.take() {
            self.running = Some(tokio::task::spawn_blocking(move || {
                let made = source.next_piece();
                (source, made)
            }));
        }
        let Some(running) = &mut self.running else { return Poll::Ready(None) };
        let made = ready!(Pin::new(running).poll(cx));
        self.running = None;
        let (source, piece) = made.map_err(io::Error::other)?;
        let Some(piece) = piece.map_err(io::Error::other)? else { return Poll::Ready(None) };
        self.made = piece;
        self.source = Some(source);
        Poll::Ready(Some(Ok(Frame::data(self.next_made()))))
    }

    fn size_hint(&self) -> SizeHint {
        self.left.map_or_else(SizeHint::default, SizeHint::with_exact)
    }
}

/// The writing end of a body that a thread makes in one go. The thread waits while the client takes nothing.
pub struct Outlet {
    pieces: mpsc::Sender<Result<Bytes, Error>>,
    buffer: Vec<u8>,
}

impl Outlet {
    fn send(&mut self) -> io::Result<()> {
        if self.buffer.is_empty() {
            return Ok(());
        }
        let piece = Bytes::from(std::mem::take(&mut self.buffer));
        self.pieces.blocking_send(Ok(piece)).map_err(|_| io::Error::from(io::ErrorKind::BrokenPipe))
    }
}

impl Write for Outlet {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let len = bytes.len().min(PIECE_LEN - self.buffer.len());
        self.buffer.extend_from_slice(&bytes[..len]);
        if self.buffer.len() >= PIECE_LEN {
            self.send()?;
        }
        Ok(len)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.send()
    }
}

/// A body that a thread makes.
struct Streamed {
    first: Option<Bytes>,
    pieces: mpsc::Receiver<Result<Bytes, Error>>,
}

impl HttpBody for Streamed {
    type Data = Bytes;
    type Error = io::Error;

    fn poll_frame(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<io::Result<Frame<Bytes>>>> {
        if let Some(first) = self.first.take() {
            return Poll::Ready(Some(Ok(Frame::data(first))));
        }
        // An error cuts the answer, and the client sees that its end is missing.
        let piece = ready!(self.pieces.poll_recv(cx));
        Poll::Ready(piece.map(|piece| piece.map(Frame::data).map_err(io::Error::other)))
    }
}

/// No bytes, of which it is not said that they are none: the head of an answer that has some.
pub fn unsaid() -> Body {
    let (_, pieces) = mpsc::channel(1);
    Body::new(Streamed { first: None, pieces })
}

/// A body that `run` writes in a thread of its own, holding `room`. What fails before the first piece fails the request.
pub async fn streamed(room: Room, run: impl FnOnce(&mut Outlet) -> Result<(), Error> + Send + 'static) -> Result<Body, Failure> {
    let (sender, mut pieces) = mpsc::channel(2);
    tokio::task::spawn_blocking(move || {
        let _room = room;
        let mut outlet = Outlet { pieces: sender, buffer: Vec::new() };
        let made = run(&mut outlet).and_then(|()| {
            outlet.flush().map_err(|error| Error::new(vml_core::ErrorKind::Interrupted, "the client has gone").because(error))
        });
        if let Err(error) = made {
            _ = outlet.pieces.blocking_send(Err(error));
        }
    });
    let first = pieces.recv().await.transpose()?;
    Ok(Body::new(Streamed { first, pieces }))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_came_in_pieces_is_read_as_one() {
        let mut received = Received { pieces: [&b"ab"[..], b"c", b"defg"].map(Bytes::from_static).into(), len: 7 };
        let mut three = [0; 3];
        received.read_exact(&mut three).unwrap();
        assert_eq!(&three, b"abc");
        let mut rest = Vec::new();
        received.read_to_end(&mut rest).unwrap();
        assert_eq!(rest, b"defg");
        let whole = Received { pieces: [&b"ab"[..], b"c"].map(Bytes::from_static).into(), len: 3 };
        assert_eq!(whole.into_vec(), b"abc");
    }
}
