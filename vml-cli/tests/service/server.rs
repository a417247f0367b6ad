//! A running service, and HTTP as bytes over a connection, which can be misused.

use crate::support::Host;
use std::fs::{self, File};
use std::io::{BufRead, BufReader, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::path::PathBuf;
use std::process::{Child, Stdio};
use std::time::{Duration, Instant};

/// Nothing in a test takes longer.
const TIME_MAX: Duration = Duration::from_secs(60);

pub struct Server {
    child: Child,
    pub address: SocketAddr,
    errors: PathBuf,
}

impl Server {
    /// `vml serve` with these arguments, on a port of its own.
    pub fn start(host: &Host, args: &[&str]) -> Self {
        let errors = host.path("errors");
        let mut command = host.command(["serve", "--listen", "127.0.0.1:0"]);
        let mut child =
            command.args(args).stdin(Stdio::null()).stdout(Stdio::piped()).stderr(File::create(&errors).unwrap()).spawn().unwrap();
        let mut line = String::new();
        BufReader::new(child.stdout.take().unwrap()).read_line(&mut line).unwrap();
        let said = || format!("{line} {}", fs::read_to_string(&errors).unwrap());
        let address = line.trim().rsplit_once("://").unwrap_or_else(|| panic!("{}", said())).1.parse().unwrap();
        Self { child, address, errors }
    }

    pub fn signal(&self, signal: rustix::process::Signal) {
        let id = rustix::process::Pid::from_raw(i32::try_from(self.child.id()).unwrap()).unwrap();
        rustix::process::kill_process(id, signal).unwrap();
    }

    /// Kills it at once.
    pub fn kill(mut self) {
        self.child.kill().unwrap();
        self.child.wait().unwrap();
    }

    /// Waits for its end; its exit code.
    pub fn wait(mut self) -> Option<i32> {
        let started = Instant::now();
        while started.elapsed() < TIME_MAX {
            if let Some(status) = self.child.try_wait().unwrap() {
                return status.code();
            }
            std::thread::sleep(Duration::from_millis(20));
        }
        panic!("the service does not end: {}", self.errors());
    }

    /// What it said on standard error, the access log included.
    pub fn errors(&self) -> String {
        fs::read_to_string(&self.errors).unwrap()
    }

    /// Most memory that it had so far, in bytes.
    pub fn peak_memory(&self) -> u64 {
        let status = fs::read_to_string(format!("/proc/{}/status", self.child.id())).unwrap();
        let row = status.lines().find_map(|line| line.strip_prefix("VmHWM:")).unwrap();
        row.split_whitespace().next().unwrap().parse::<u64>().unwrap() << 10
    }

    pub fn connect(&self) -> TcpStream {
        let stream = TcpStream::connect(self.address).unwrap();
        stream.set_read_timeout(Some(TIME_MAX)).unwrap();
        stream.set_write_timeout(Some(TIME_MAX)).unwrap();
        stream
    }

    /// One request on a connection of its own.
    #[track_caller]
    pub fn ask(&self, method: &str, path: &str, headers: &[(&str, &str)], body: &[u8]) -> Answer {
        self.try_ask(method, path, headers, body).unwrap()
    }

    /// The same, where the service may die.
    pub fn try_ask(&self, method: &str, path: &str, headers: &[(&str, &str)], body: &[u8]) -> std::io::Result<Answer> {
        let mut stream = TcpStream::connect(self.address)?;
        stream.set_read_timeout(Some(TIME_MAX))?;
        stream.set_write_timeout(Some(TIME_MAX))?;
        let mut head =
            format!("{method} {path} HTTP/1.1\r\nHost: {}\r\nConnection: close\r\nContent-Length: {}\r\n", self.address, body.len());
        for (name, value) in headers {
            head += &format!("{name}: {value}\r\n");
        }
        // A service that refuses may not wait for the body.
        _ = stream.write_all(format!("{head}\r\n").as_bytes()).and_then(|()| stream.write_all(body));
        Answer::read(&mut BufReader::new(stream), method == "HEAD")
    }

    pub fn get(&self, path: &str) -> Answer {
        self.ask("GET", path, &[], &[])
    }

    pub fn get_as(&self, token: &str, path: &str) -> Answer {
        self.ask("GET", path, &[("Authorization", &format!("Bearer {token}"))], &[])
    }

    pub fn post_as(&self, token: &str, call: &str, body: &[u8]) -> Answer {
        self.ask("POST", &format!("/v1/remote/{call}"), &[("Authorization", &format!("Bearer {token}"))], body)
    }

    pub fn post(&self, call: &str, body: &[u8]) -> Answer {
        self.ask("POST", &format!("/v1/remote/{call}"), &[], body)
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        _ = self.child.kill();
        _ = self.child.wait();
    }
}

#[derive(Debug)]
pub struct Answer {
    pub status: u16,
    pub headers: Vec<(String, String)>,
    pub body: Vec<u8>,
}

impl Answer {
    /// Reads an answer; an error if it is cut.
    pub fn read(input: &mut impl BufRead, is_head: bool) -> std::io::Result<Self> {
        let cut = || std::io::Error::from(std::io::ErrorKind::UnexpectedEof);
        let mut line = String::new();
        input.read_line(&mut line)?;
        let status = line.split(' ').nth(1).and_then(|code| code.parse().ok()).ok_or_else(cut)?;
        let mut headers = Vec::new();
        loop {
            let mut line = String::new();
            if input.read_line(&mut line)? == 0 {
                return Err(cut());
            }
            let Some((name, value)) = line.trim_end().split_once(':') else { break };
            headers.push((name.to_lowercase(), value.trim().to_owned()));
        }
        let mut answer = Self { status, headers, body: Vec::new() };
        if is_head || status == 204 || status == 304 {
            return Ok(answer);
        }
        if answer.header("transfer-encoding") == Some("chunked") {
            loop {
                let mut line = String::new();
                input.read_line(&mut line)?;
                let len = u64::from_str_radix(line.trim_end(), 16).map_err(|_| cut())?;
                let read = input.by_ref().take(len).read_to_end(&mut answer.body)?;
                let mut end = [0; 2];
                input.read_exact(&mut end)?;
                if read as u64 != len {
                    return Err(cut());
                }
                if len == 0 {
                    return Ok(answer);
                }
            }
        }
        let len: usize = answer.header("content-length").map_or(0, |len| len.parse().unwrap());
        answer.body.resize(len, 0);
        input.read_exact(&mut answer.body)?;
        Ok(answer)
    }

    pub fn header(&self, name: &str) -> Option<&str> {
        self.headers.iter().find(|(known, _)| known == name).map(|(_, value)| value.as_str())
    }

    pub fn text(&self) -> String {
        String::from_utf8_lossy(&self.body).into_owned()
    }

    pub fn json(&self) -> serde_json::Value {
        serde_json::from_slice(&self.body).unwrap_or_else(|error| panic!("{error}: {}", self.text()))
    }

    /// It is refused so, with a message that has `part`, and tells nothing of the host's disk.
    #[track_caller]
    pub fn refused(&self, status: u16, kind: &str, part: &str) {
        assert_eq!(self.status, status, "{}", self.text());
        let value = self.json();
        assert_eq!(value["error"]["kind"], kind, "{value}");
        let message = value["error"]["message"].as_str().unwrap();
        assert!(message.contains(part), "{part:?} is not in {message:?}");
        assert!(!message.contains("/tmp/") && !message.contains("home"), "{message}");
        assert_eq!(self.header("content-type"), Some("application/json"));
    }
}
