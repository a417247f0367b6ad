//! A server made by hand, which says what a test wants it to say.

use std::io::{Read, Write};
use std::os::unix::net::{UnixListener, UnixStream};
use std::thread::{self, JoinHandle};
use std::time::Duration;
use tempfile::TempDir;
use vml_core::Result;
use vml_hv::nbd::{NbdAddress, NbdDisk, NbdOptions};

pub const LEN: u64 = 1 << 20;

/// A request as it came.
#[derive(Debug, Clone, Copy)]
pub struct Request {
    pub command: u16,
    pub cookie: u64,
    pub offset: u64,
    pub len: u32,
}

/// What a server says; the parts that a test does not replace are honest.
pub struct Script {
    pub greeting: Vec<u8>,
    pub option: Box<dyn Fn(u32) -> Vec<u8> + Send>,
    pub request: Box<dyn Fn(Request) -> Vec<u8> + Send>,
    /// Whether it stays, silent, after what it said of an option or request with nothing in it; otherwise it hangs up.
    pub stays: bool,
    /// How long it waits between the bytes of an answer to a request.
    pub pause: Duration,
}

pub fn be(parts: &[&[u8]]) -> Vec<u8> {
    parts.concat()
}

pub fn greeting(flags: u16) -> Vec<u8> {
    be(&[b"NBDMAGICIHAVEOPT", &flags.to_be_bytes()])
}

pub fn option_reply(option: u32, kind: u32, data: &[u8]) -> Vec<u8> {
    let len = u32::try_from(data.len()).unwrap();
    be(&[&0x0003_E889_0455_65A9_u64.to_be_bytes(), &option.to_be_bytes(), &kind.to_be_bytes(), &len.to_be_bytes(), data])
}

pub fn export_info(len: u64) -> Vec<u8> {
    option_reply(7, 3, &be(&[&[0, 0], &len.to_be_bytes(), &[0, 3]]))
}

pub fn block_info(least: u32, most: u32) -> Vec<u8> {
    option_reply(7, 3, &be(&[&[0, 3], &least.to_be_bytes(), &4096_u32.to_be_bytes(), &most.to_be_bytes()]))
}

pub fn context(id: u32, name: &str) -> Vec<u8> {
    option_reply(10, 4, &be(&[&id.to_be_bytes(), name.as_bytes()]))
}

pub fn chunk(request: Request, flags: u16, kind: u16, data: &[u8]) -> Vec<u8> {
    let len = u32::try_from(data.len()).unwrap();
    chunk_of(request.cookie, flags, kind, len, data)
}

pub fn chunk_of(cookie: u64, flags: u16, kind: u16, len: u32, data: &[u8]) -> Vec<u8> {
    be(&[&0x668E_33EF_u32.to_be_bytes(), &flags.to_be_bytes(), &kind.to_be_bytes(), &cookie.to_be_bytes(), &len.to_be_bytes(), data])
}

pub fn simple(cookie: u64, error: u32, data: &[u8]) -> Vec<u8> {
    be(&[&0x6744_6698_u32.to_be_bytes(), &error.to_be_bytes(), &cookie.to_be_bytes(), data])
}

/// Extents as the data of a chunk.
pub fn extents(id: u32, extents: &[(u32, u32)]) -> Vec<u8> {
    let mut data = id.to_be_bytes().to_vec();
    extents.iter().for_each(|(len, state)| data.extend([len.to_be_bytes(), state.to_be_bytes()].concat()));
    data
}

/// The byte of the disk at `offset`.
pub fn byte(offset: u64) -> u8 {
    u8::try_from(offset % 251).unwrap()
}

pub fn bytes(offset: u64, len: u32) -> Vec<u8> {
    (offset..offset + u64::from(len)).map(byte).collect()
}

pub fn data(request: Request) -> Vec<u8> {
    be(&[&request.offset.to_be_bytes(), &bytes(request.offset, request.len)])
}

/// What an honest server answers to an option.
pub fn honest_option(option: u32) -> Vec<u8> {
    match option {
        7 => be(&[&export_info(LEN), &option_reply(7, 1, &[])]),
        8 => option_reply(8, 1, &[]),
        10 => be(&[&context(7, "base:allocation"), &option_reply(10, 1, &[])]),
        _ => option_reply(option, 1 << 31 | 1, &[]),
    }
}

pub fn honest_request(request: Request) -> Vec<u8> {
    match request.command {
        0 => chunk(request, 1, 1, &data(request)),
        7 => chunk(request, 1, 5, &extents(7, &[(request.len, 0)])),
        _ => Vec::new(),
    }
}

impl Default for Script {
    fn default() -> Self {
        Self {
            greeting: greeting(3),
            option: Box::new(honest_option),
            request: Box::new(honest_request),
            stays: false,
            pause: Duration::ZERO,
        }
    }
}

/// A running server, for one connection.
pub struct Server {
    dir: TempDir,
    thread: Option<JoinHandle<()>>,
}

impl Server {
    pub fn start(script: Script) -> Self {
        let dir = tempfile::tempdir().unwrap();
        let listener = UnixListener::bind(dir.path().join("nbd")).unwrap();
        let thread = thread::spawn(move || {
            let (mut stream, _) = listener.accept().unwrap();
            // What ends here was ended by the client, or by the script.
            _ = serve(&mut stream, &script);
            if script.stays {
                stream.set_read_timeout(Some(Duration::from_secs(20))).unwrap();
                _ = stream.read(&mut [0]);
            }
        });
        Self { dir, thread: Some(thread) }
    }

    pub fn address(&self) -> NbdAddress {
        NbdAddress::Unix(self.dir.path().join("nbd"))
    }

    pub fn open(&self, limit_ms: u64) -> Result<NbdDisk> {
        NbdDisk::open(&self.address(), &NbdOptions { limit: Duration::from_millis(limit_ms), ..NbdOptions::default() })
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        // One that nobody has connected to.
        _ = UnixStream::connect(self.dir.path().join("nbd"));
        if let Some(thread) = self.thread.take() {
            thread.join().unwrap();
        }
    }
}

fn serve(stream: &mut UnixStream, script: &Script) -> std::io::Result<()> {
    stream.write_all(&script.greeting)?;
    stream.read_exact(&mut [0; 4])?;
    loop {
        let mut head = [0; 16];
        stream.read_exact(&mut head)?;
        let option = u32::from_be_bytes(head[8..12].try_into().unwrap());
        let mut data = vec![0; u32::from_be_bytes(head[12..].try_into().unwrap()) as usize];
        stream.read_exact(&mut data)?;
        let answer = (script.option)(option);
        if answer.is_empty() {
            return Ok(());
        }
        stream.write_all(&answer)?;
        if option == 7 {
            break;
        }
    }
    loop {
        let mut head = [0; 28];
        stream.read_exact(&mut head)?;
        let request = Request {
            command: u16::from_be_bytes(head[6..8].try_into().unwrap()),
            cookie: u64::from_be_bytes(head[8..16].try_into().unwrap()),
            offset: u64::from_be_bytes(head[16..24].try_into().unwrap()),
            len: u32::from_be_bytes(head[24..].try_into().unwrap()),
        };
        if request.command == 2 {
            return Ok(());
        }
        let answer = (script.request)(request);
        if answer.is_empty() {
            return Ok(());
        }
        if script.pause.is_zero() {
            stream.write_all(&answer)?;
            continue;
        }
        for byte in answer {
            stream.write_all(&[byte])?;
            thread::sleep(script.pause);
        }
    }
}
