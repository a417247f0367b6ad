//! A small HTTP server of a test's own that can lie: wrong bytes, bodies without end, lengths that are not true, cuts in the middle.
//!
//! It answers as a proxy as well: a request with a whole address gets the page at its path.

use std::collections::HashMap;
use std::io::{self, BufRead, BufReader, Read, Write};
use std::net::{Shutdown, TcpListener, TcpStream};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::Duration;

/// How a page is served.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Manner {
    /// As it is, with ranges and an `ETag`.
    Honest,
    /// Always as a whole, whatever range is asked for.
    NoRanges,
    /// With one byte changed.
    WrongByte(usize),
    /// Bytes without end, and no word about a length.
    Endless,
    /// With a `Content-Length` that is so much more than what comes, or less.
    WrongLength(i64),
    /// With a range that begins elsewhere than was asked for.
    WrongRange,
    /// With another `ETag` for every answer, so that nothing of it can be continued.
    ChangingEtag,
    /// Cut after so many bytes of each answer.
    CutAfter(usize),
    /// Cut after so many bytes of the first answer; then as it is.
    CutOnce(usize),
    /// So many bytes at a time, with a pause after each.
    Slow(usize, Duration),
    /// A redirect to there.
    Redirect(String),
    /// This status, and a word as the body.
    Status(u16),
    /// The request is taken, and nothing comes.
    Silent,
}

/// A request as it came.
#[derive(Debug, Clone)]
pub struct Asked {
    /// Its first line.
    pub line: String,
    /// Its headers, names in lower case.
    pub headers: HashMap<String, String>,
    /// Bytes of its body.
    pub body: Vec<u8>,
}

impl Asked {
    /// A header's value, or nothing.
    pub fn header(&self, name: &str) -> &str {
        self.headers.get(name).map_or("", String::as_str)
    }
}

struct Page {
    bytes: Arc<Vec<u8>>,
    manner: Manner,
    answers: u64,
}

#[derive(Default)]
struct Shared {
    pages: Mutex<HashMap<String, Page>>,
    asked: Mutex<Vec<Asked>>,
    sent: AtomicU64,
    open: Mutex<Vec<TcpStream>>,
    stopped: AtomicBool,
}

/// A server that runs until it is dropped.
pub struct WebServer {
    port: u16,
    shared: Arc<Shared>,
}

fn locked<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(std::sync::PoisonError::into_inner)
}

impl Default for WebServer {
    fn default() -> Self {
        Self::start()
    }
}

impl WebServer {
    /// Starts one on a port that was free, on 127.0.0.1.
    ///
    /// # Panics
    /// When it cannot listen.
    pub fn start() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let port = listener.local_addr().unwrap().port();
        let shared = Arc::new(Shared::default());
        let serving = Arc::clone(&shared);
        std::thread::spawn(move || {
            for stream in listener.incoming() {
                if serving.stopped.load(Ordering::SeqCst) {
                    return;
                }
                let Ok(stream) = stream else { continue };
                let serving = Arc::clone(&serving);
                std::thread::spawn(move || _ = serve(&serving, stream));
            }
        });
        Self { port, shared }
    }

    /// The address of a path.
    pub fn url(&self, path: &str) -> String {
        format!("http://127.0.0.1:{}{path}", self.port)
    }

    /// The port at 127.0.0.1.
    pub fn port(&self) -> u16 {
        self.port
    }

    /// Serves bytes at a path; tells the address.
    pub fn put(&self, path: &str, bytes: impl Into<Vec<u8>>) -> String {
        self.serve(path, bytes, Manner::Honest)
    }

    /// The same in a manner.
    pub fn serve(&self, path: &str, bytes: impl Into<Vec<u8>>, manner: Manner) -> String {
        locked(&self.shared.pages).insert(path.to_owned(), Page { bytes: Arc::new(bytes.into()), manner, answers: 0 });
        self.url(path)
    }

    /// Serves what is there in another manner from now on.
    ///
    /// # Panics
    /// When there is nothing.
    pub fn behave(&self, path: &str, manner: Manner) {
        locked(&self.shared.pages).get_mut(path).unwrap().manner = manner;
    }

    /// What was asked so far.
    pub fn asked(&self) -> Vec<Asked> {
        locked(&self.shared.asked).clone()
    }

    /// Bytes of bodies that were sent so far.
    pub fn sent(&self) -> u64 {
        self.shared.sent.load(Ordering::SeqCst)
    }

    /// Cuts every connection and answers no more.
    pub fn stop(&self) {
        self.shared.stopped.store(true, Ordering::SeqCst);
        for stream in locked(&self.shared.open).drain(..) {
            _ = stream.shutdown(Shutdown::Both);
        }
        // Wakes who accepts, so that the port is free.
        _ = TcpStream::connect(("127.0.0.1", self.port));
    }
}

impl Drop for WebServer {
    fn drop(&mut self) {
        self.stop();
    }
}

fn serve(shared: &Shared, stream: TcpStream) -> io::Result<()> {
    stream.set_read_timeout(Some(Duration::from_secs(60)))?;
    stream.set_write_timeout(Some(Duration::from_secs(60)))?;
    locked(&shared.open).push(stream.try_clone()?);
    let mut reader = BufReader::new(stream.try_clone()?);
    let mut writer = stream;
    while let Some(asked) = read_request(&mut reader)? {
        let (line, range) = (asked.line.clone(), asked.header("range").to_owned());
        let if_range = asked.header("if-range").to_owned();
        locked(&shared.asked).push(asked);
        if !answer(shared, &line, &range, &if_range, &mut writer)? {
            break;
        }
    }
    writer.shutdown(Shutdown::Both)
}

fn read_request(reader: &mut impl BufRead) -> io::Result<Option<Asked>> {
    let mut line = String::new();
    if reader.read_line(&mut line)? == 0 {
        return Ok(None);
    }
    let mut headers = HashMap::new();
    loop {
        let mut header = String::new();
        if reader.read_line(&mut header)? == 0 || header.trim().is_empty() {
            break;
        }
        if let Some((name, value)) = header.split_once(':') {
            headers.insert(name.to_ascii_lowercase(), value.trim().to_owned());
        }
    }
    let mut body = Vec::new();
    if let Some(len) = headers.get("content-length").and_then(|len| len.parse::<u64>().ok()) {
        reader.take(len).read_to_end(&mut body)?;
    } else if headers.get("transfer-encoding").is_some_and(|how| how == "chunked") {
        loop {
            let mut len = String::new();
            reader.read_line(&mut len)?;
            let len = u64::from_str_radix(len.trim(), 16).unwrap_or(0);
            reader.take(len).read_to_end(&mut body)?;
            reader.read_line(&mut String::new())?;
            if len == 0 {
                break;
            }
        }
    }
    Ok(Some(Asked { line: line.trim().to_owned(), headers, body }))
}

/// The path of a request, which may have a whole address.
fn path_of(line: &str) -> &str {
    let target = line.split(' ').nth(1).unwrap_or("/");
    match target.strip_prefix("http://") {
        Some(rest) => rest.find('/').map_or("/", |at| &rest[at..]),
        None => target,
    }
}

/// Answers; tells whether the connection can go on.
fn answer(shared: &Shared, line: &str, range: &str, if_range: &str, writer: &mut TcpStream) -> io::Result<bool> {
    let (bytes, manner, answers) = {
        let mut pages = locked(&shared.pages);
        let Some(page) = pages.get_mut(path_of(line)) else {
            drop(pages);
            return plain(writer, 404);
        };
        page.answers += 1;
        (Arc::clone(&page.bytes), page.manner.clone(), page.answers)
    };
    match &manner {
        Manner::Status(status) => return plain(writer, *status),
        Manner::Redirect(to) => {
            write!(writer, "HTTP/1.1 302 Found\r\nLocation: {to}\r\nContent-Length: 0\r\n\r\n")?;
            return Ok(true);
        }
        Manner::Silent => {
            while !shared.stopped.load(Ordering::SeqCst) {
                std::thread::sleep(Duration::from_millis(20));
            }
            return Ok(false);
        }
        Manner::Endless => {
            write!(writer, "HTTP/1.1 200 OK\r\nConnection: close\r\n\r\n")?;
            let block = vec![b'x'; 64 << 10];
            loop {
                writer.write_all(&block)?;
                shared.sent.fetch_add(block.len() as u64, Ordering::SeqCst);
            }
        }
        _ => {}
    }
    let etag = if manner == Manner::ChangingEtag { format!("\"{answers}\"") } else { format!("\"{}-v1\"", bytes.len()) };
    let start = range.strip_prefix("bytes=").and_then(|range| range.trim_end_matches('-').parse::<usize>().ok());
    let start = start.filter(|_| manner != Manner::NoRanges && (if_range.is_empty() || if_range == etag));
    let total = bytes.len();
    if start.is_some_and(|start| start >= total) {
        write!(writer, "HTTP/1.1 416 Range Not Satisfiable\r\nContent-Range: bytes */{total}\r\nContent-Length: 0\r\n\r\n")?;
        return Ok(true);
    }
    let from = start.unwrap_or(0);
    let mut body = bytes[from..].to_vec();
    if let Manner::WrongByte(at) = manner
        && let Some(byte) = at.checked_sub(from).and_then(|at| body.get_mut(at))
    {
        *byte ^= 1;
    }
    let more = if let Manner::WrongLength(more) = manner { more } else { 0 };
    let said = (body.len() as i64 + more).max(0);
    match start {
        Some(start) => {
            let told = if manner == Manner::WrongRange { start + 1 } else { start };
            write!(writer, "HTTP/1.1 206 Partial Content\r\nContent-Range: bytes {told}-{}/{total}\r\n", total - 1)?;
        }
        None => write!(writer, "HTTP/1.1 200 OK\r\n")?,
    }
    write!(writer, "ETag: {etag}\r\nAccept-Ranges: bytes\r\nContent-Length: {said}\r\n\r\n")?;
    if line.starts_with("HEAD ") {
        return Ok(true);
    }
    let cut = match manner {
        Manner::CutAfter(len) => Some(len),
        Manner::CutOnce(len) if answers == 1 => Some(len),
        _ => None,
    };
    body.truncate(cut.unwrap_or(usize::MAX));
    let (block, pause) = if let Manner::Slow(block, pause) = manner { (block.max(1), pause) } else { (64 << 10, Duration::ZERO) };
    for piece in body.chunks(block) {
        writer.write_all(piece)?;
        shared.sent.fetch_add(piece.len() as u64, Ordering::SeqCst);
        std::thread::sleep(pause);
    }
    Ok(cut.is_none() && more == 0)
}

fn plain(writer: &mut TcpStream, status: u16) -> io::Result<bool> {
    write!(writer, "HTTP/1.1 {status} Told\r\nContent-Length: 5\r\n\r\ntold\n")?;
    Ok(true)
}
