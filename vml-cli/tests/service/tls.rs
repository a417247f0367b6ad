//! HTTPS by a certificate that is given, and given anew.

use crate::server::Server;
use crate::support::Host;
use rustix::process::Signal;
use std::fs;
use std::path::Path;
use std::process::Command;
use std::time::{Duration, Instant};

fn certify(host: &Host, name: &str) -> bool {
    let make = Command::new("openssl")
        .args(["req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes", "-days", "2"])
        .args(["-subj", &format!("/CN={name}"), "-addext", "subjectAltName=IP:127.0.0.1"])
        .arg("-keyout")
        .arg(host.path("key.pem"))
        .arg("-out")
        .arg(host.path("cert.pem"))
        .output();
    make.is_ok_and(|made| made.status.success())
}

/// What curl says of the service, trusting only this certificate.
fn curl(certificate: &Path, url: &str) -> (Option<i32>, String) {
    let ran =
        Command::new("curl").args(["-sS", "--max-time", "20", "--noproxy", "*", "--cacert"]).arg(certificate).arg(url).output().unwrap();
    (ran.status.code(), String::from_utf8_lossy(&ran.stdout).into_owned())
}

#[test]
fn a_certificate_is_used_and_read_again() {
    let host = Host::with_entry();
    if !certify(&host, "first") || Command::new("curl").arg("--version").output().is_err() {
        println!("skipped: TLS needs openssl and curl");
        return;
    }
    let old = host.path("old.pem");
    fs::copy(host.path("cert.pem"), &old).unwrap();
    host.run(["serve", "--listen", "127.0.0.1:0", "--tls-cert", "cert.pem", "--tls-key", "vml.toml"]).fails(3, &["cannot use vml.toml"]);
    let server = Server::start(&host, &["--tls-cert", "cert.pem", "--tls-key", "key.pem"]);
    let url = format!("https://{}/healthz", server.address);
    assert_eq!(curl(&old, &url), (Some(0), "ok\n".to_owned()));
    let page = curl(&old, &format!("https://{}/e/work@latest", server.address)).1;
    assert!(page.contains("vml receive https://"), "{page}");
    // Plain HTTP is no TLS.
    let mut stream = server.connect();
    std::io::Write::write_all(&mut stream, b"GET /healthz HTTP/1.1\r\nHost: x\r\n\r\n").unwrap();
    let mut said = Vec::new();
    _ = std::io::Read::read_to_end(&mut stream, &mut said);
    assert!(!said.starts_with(b"HTTP/"));
    assert!(certify(&host, "second"));
    server.signal(Signal::HUP);
    let started = Instant::now();
    while curl(&host.path("cert.pem"), &url).0 != Some(0) {
        assert!(started.elapsed() < Duration::from_secs(20), "{}", server.errors());
        std::thread::sleep(Duration::from_millis(100));
    }
    assert_ne!(curl(&old, &url).0, Some(0));
    // A broken one changes nothing.
    fs::write(host.path("cert.pem.new"), "nothing").unwrap();
    let good = fs::read(host.path("cert.pem")).unwrap();
    fs::write(host.path("cert.pem"), "nothing").unwrap();
    server.signal(Signal::HUP);
    let started = Instant::now();
    while !server.errors().contains("the certificate stays as it was") {
        assert!(started.elapsed() < Duration::from_secs(20), "{}", server.errors());
        std::thread::sleep(Duration::from_millis(100));
    }
    fs::write(host.path("cert.pem"), good).unwrap();
    assert_eq!(curl(&host.path("cert.pem"), &url).0, Some(0));
}
