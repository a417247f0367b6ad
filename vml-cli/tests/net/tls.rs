//! TLS with a server of openssl's, straight and through a real Squid.

use crate::net::{Body, FailureKind, Hop, Limits, Network, Options, ProxyList, Request, Rules, Url};
use std::fs;
use std::net::{TcpListener, TcpStream};
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};
use tempfile::TempDir;
use vml_testkit::squid::Squid;

struct Tls {
    dir: TempDir,
    port: u16,
    child: Child,
}

impl Tls {
    /// A server for whose certificate `ca.pem` stands; its files are whole answers.
    fn start(test: &str) -> Option<Self> {
        let dir = tempfile::tempdir().unwrap();
        let openssl = |args: &str| {
            let ran = Command::new("openssl").args(args.split(' ')).current_dir(dir.path()).output();
            ran.is_ok_and(|output| output.status.success())
        };
        fs::write(dir.path().join("ext"), "subjectAltName=IP:127.0.0.1,DNS:localhost\n").unwrap();
        let key = "-newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes";
        let made = openssl(&format!("req -x509 {key} -keyout ca.key -out ca.pem -days 2 -subj /CN=ca-of-a-test"))
            && openssl(&format!("req {key} -keyout leaf.key -out leaf.csr -subj /CN=localhost"))
            && openssl("x509 -req -in leaf.csr -CA ca.pem -CAkey ca.key -CAcreateserial -days 2 -out leaf.pem -extfile ext");
        if !made {
            println!("skipped: {test}: there is no openssl here that makes certificates");
            return None;
        }
        fs::write(dir.path().join("hello"), "HTTP/1.1 200 OK\r\nContent-Length: 5\r\nConnection: close\r\n\r\nhello").unwrap();
        for _ in 0..5 {
            let port = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
            let mut command = Command::new("openssl");
            command.args(["s_server", "-quiet", "-HTTP", "-cert", "leaf.pem", "-key", "leaf.key", "-accept", &format!("127.0.0.1:{port}")]);
            let command = command.current_dir(dir.path()).stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
            let mut child = command.spawn().unwrap();
            let deadline = Instant::now() + Duration::from_secs(20);
            while Instant::now() < deadline && child.try_wait().unwrap().is_none() {
                if TcpStream::connect(("127.0.0.1", port)).is_ok() {
                    return Some(Self { dir, port, child });
                }
                std::thread::sleep(Duration::from_millis(20));
            }
            _ = child.kill();
            _ = child.wait();
        }
        panic!("openssl s_server does not start");
    }

    fn url(&self, path: &str) -> Url {
        format!("https://127.0.0.1:{}/{path}", self.port).parse().unwrap()
    }

    fn network(&self, list: &str, ca_file: Option<PathBuf>) -> Network {
        Network::new(Options { limits: Limits::default(), ca_file }, Rules::of(ProxyList::parse(list).unwrap()), [0; 16])
    }

    fn ca(&self) -> Option<PathBuf> {
        Some(self.dir.path().join("ca.pem"))
    }
}

impl Drop for Tls {
    fn drop(&mut self) {
        _ = self.child.kill();
        _ = self.child.wait();
    }
}

#[test]
fn a_server_is_known_by_its_certificate() {
    let Some(server) = Tls::start("a_server_is_known_by_its_certificate") else { return };
    assert_eq!(server.network("DIRECT", server.ca()).get_bytes(&server.url("hello"), 100).unwrap(), b"hello");
    let failure = server.network("DIRECT", None).send_by(&Hop::Direct, &Request::get(&server.url("hello")), Body::None).unwrap_err();
    assert_eq!(failure.kind, FailureKind::Tls, "{failure}");
    let missing = server.network("DIRECT", Some("/no/such/file".into())).get_bytes(&server.url("hello"), 100).unwrap_err();
    assert!(missing.to_string().contains("/no/such/file"), "{missing}");
    let empty = server.network("DIRECT", Some(server.dir.path().join("ext"))).get_bytes(&server.url("hello"), 100).unwrap_err();
    assert!(empty.to_string().contains("no certificate"), "{empty}");
}

#[test]
fn what_is_encrypted_stays_so() {
    let Some(server) = Tls::start("what_is_encrypted_stays_so") else { return };
    let plain = vml_testkit::web::WebServer::start();
    let to = plain.put("/x", "plain");
    for (name, to) in [("away", to.as_str()), ("here", "hello")] {
        let answer = format!("HTTP/1.1 302 Found\r\nLocation: {to}\r\nContent-Length: 0\r\nConnection: close\r\n\r\n");
        fs::write(server.dir.path().join(name), answer).unwrap();
    }
    let network = server.network("DIRECT", server.ca());
    let failure = network.send_by(&Hop::Direct, &Request::get(&server.url("away")), Body::None).unwrap_err();
    assert_eq!(failure.kind, FailureKind::Redirect, "{failure}");
    assert!(plain.asked().is_empty());
    assert_eq!(network.get_bytes(&server.url("here"), 100).unwrap(), b"hello");
}

#[test]
fn a_proxy_sees_a_tunnel_only() {
    let Some(server) = Tls::start("a_proxy_sees_a_tunnel_only") else { return };
    let Some(squid) = Squid::start("a_proxy_sees_a_tunnel_only") else { return };
    let network = server.network(&squid.url(), server.ca());
    assert_eq!(network.get_bytes(&server.url("hello"), 100).unwrap(), b"hello");
    let deadline = Instant::now() + Duration::from_secs(10);
    while !squid.log().contains("CONNECT") && Instant::now() < deadline {
        std::thread::sleep(Duration::from_millis(20));
    }
    let log = squid.log();
    assert!(log.contains(&format!("CONNECT 127.0.0.1:{}", server.port)) && !log.contains("hello"), "{log}");
}
