//! `vml` at both ends: push, pull and clone to a service and over `ssh`.

use crate::server::Server;
use crate::support::{Host, write};
use std::fs;
use std::io::{Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::os::unix::fs::PermissionsExt;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::thread;
use std::time::{Duration, Instant};
use vml_testkit::noise;

/// A host with a base and an area upon it, saved twice; some megabytes.
fn eva() -> Host {
    Host::with_base(|dir| {
        for number in 0..12 {
            write(&dir.join(format!("data/{number}")), &noise::incompressible(number, 2_000_000));
        }
    })
}

/// A host with an empty repository, a token for it, and the service.
fn site(scopes: &str) -> (Host, String, Server) {
    let host = Host::new();
    let token = host.json(["token", "new", "--name", "eva", "--scopes", scopes])["token"].as_str().unwrap().to_owned();
    let server = Server::start(&host, &[]);
    (host, token, server)
}

fn add_remote(host: &Host, address: SocketAddr, token: &str) {
    fs::write(host.path("token"), token).unwrap();
    host.ok(["remote", "add", "origin", &format!("http://{address}"), "--token-file", "token", "--own"]);
}

/// A proxy of TCP that a test can break: `broken` is asked for each piece of what clients send.
fn line(target: SocketAddr, broken: impl Fn(usize) -> bool + Send + Sync + 'static) -> (SocketAddr, Arc<AtomicUsize>) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    let (sent, broken) = (Arc::new(AtomicUsize::new(0)), Arc::new(broken));
    let counted = Arc::clone(&sent);
    thread::spawn(move || {
        for client in listener.incoming().flatten() {
            let Ok(server) = TcpStream::connect(target) else { continue };
            let (mut from, mut to) = (client.try_clone().unwrap(), server.try_clone().unwrap());
            let (counted, broken) = (Arc::clone(&counted), Arc::clone(&broken));
            thread::spawn(move || {
                let mut buffer = [0; 16 << 10];
                while let Ok(len @ 1..) = from.read(&mut buffer) {
                    if broken(counted.fetch_add(len, Ordering::SeqCst) + len) || to.write_all(&buffer[..len]).is_err() {
                        break;
                    }
                }
                _ = from.shutdown(std::net::Shutdown::Both);
                _ = to.shutdown(std::net::Shutdown::Both);
            });
            thread::spawn(move || {
                let (mut server, mut client) = (server, client);
                _ = std::io::copy(&mut server, &mut client);
                _ = client.shutdown(std::net::Shutdown::Both);
            });
        }
    });
    (address, sent)
}

#[test]
fn two_users_meet_at_a_service() {
    let (eva, tom) = (eva(), Host::bare());
    let (site, token, server) = site("read,append");
    add_remote(&eva, server.address, &token);
    let said = eva.ok(["push"]);
    assert!(said.contains("3 entries to origin"), "{said}");
    assert_eq!(eva.ok(["push"]), "nothing new to origin\n");
    site.assert_whole();
    fs::write(tom.path("token"), &token).unwrap();
    tom.run(["clone", &format!("http://{}", server.address)]).fails(3, &["token", "docs/service.md"]);
    assert!(!tom.repository().exists());
    tom.ok(["clone", &format!("http://{}", server.address), "--token-file", "token"]);
    tom.assert_builds("work@latest", &eva.path("guest"));
    tom.assert_whole();
    // What tom does comes back to eva.
    tom.ok(["build", "work@latest", "mine"]);
    tom.ok(["area", "add", "work", "--tree", "mine", "--base", "debian@12"]);
    write(&tom.path("mine/home/dev/notes"), b"three\n");
    tom.ok(["save", "work", "-m", "third"]);
    tom.ok(["push"]);
    let said = eva.ok(["pull"]);
    assert!(said.contains("the log of work goes on with it"), "{said}");
    eva.assert_builds("work@latest", &tom.path("mine"));
}

#[test]
fn what_a_token_does_not_allow_is_said_as_it_is() {
    let (eva, (site, token, server)) = (eva(), site("read"));
    add_remote(&eva, server.address, &token);
    eva.run(["push"]).fails(3, &["cannot push to origin", "append"]);
    assert_eq!(site.json_lines(["log"]).len(), 0);
    assert_eq!(eva.ok(["pull"]), "nothing new from origin\n");
    site.ok(["token", "revoke", "eva"]);
    eva.run(["pull"]).fails(3, &["cannot pull from origin", "token"]);
    let mut command = eva.command(["pull"]);
    let output = command.env("VML_TOKEN", "vml_nonsense").output().unwrap();
    assert_eq!(output.status.code(), Some(3));
}

#[test]
fn a_line_that_is_cut_again_and_again_only_takes_longer() {
    let (eva, (site, token, server)) = (eva(), site("read,append"));
    // Again and again the connection is lost.
    let next = Mutex::new(3_000_000);
    let (address, sent) = line(server.address, move |sent| {
        let mut next = next.lock().unwrap();
        let cut = sent > *next;
        if cut {
            *next += 9_000_000;
        }
        cut
    });
    add_remote(&eva, address, &token);
    eva.ok(["push"]);
    site.assert_whole();
    assert_eq!(site.json_lines(["log"]).len(), 3);
    let sent = sent.load(Ordering::SeqCst);
    assert!(sent > 24_000_000, "{sent}");
}

#[test]
fn a_push_goes_on_where_a_dead_service_left_it() {
    let (eva, (site, token, server)) = (eva(), site("read,append"));
    let target = server.address;
    let (address, sent) = line(target, |sent| sent > 20_000_000);
    add_remote(&eva, address, &token);
    // The client does not wait for ever for a service that is gone; here it is killed while it waits.
    let mut command = eva.command(["push"]);
    let mut child = command.stderr(std::process::Stdio::null()).spawn().unwrap();
    let started = Instant::now();
    while sent.load(Ordering::SeqCst) < 20_000_000 && started.elapsed() < Duration::from_secs(60) {
        thread::sleep(Duration::from_millis(10));
    }
    // What has arrived is stored by then.
    thread::sleep(Duration::from_secs(2));
    server.kill();
    child.kill().unwrap();
    child.wait().unwrap();
    assert_eq!(site.json_lines(["log"]).len(), 0, "nothing half-pushed is visible");
    let server = Server::start(&site, &[]);
    let (address, sent) = line(server.address, |_| false);
    eva.ok(["remote", "rm", "origin"]);
    add_remote(&eva, address, &token);
    let pushed = eva.json(["push"]);
    assert!(pushed["sent_chunks"].as_u64() < pushed["needed_chunks"].as_u64(), "{pushed}");
    assert!(sent.load(Ordering::SeqCst) < 23_000_000, "{}", sent.load(Ordering::SeqCst));
    site.assert_whole();
    assert_eq!(site.json_lines(["log"]).len(), 3);
}

/// A server that lies: it answers every request with `answer`.
fn liar(answer: Vec<u8>) -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    thread::spawn(move || {
        for mut client in listener.incoming().flatten() {
            let answer = answer.clone();
            thread::spawn(move || {
                let mut buffer = [0; 4096];
                _ = client.read(&mut buffer);
                _ = client.write_all(&answer);
                // One that does not end goes on as long as anybody listens.
                while answer.ends_with(b"endless") && client.write_all(&[b'x'; 4096]).is_ok() {}
            });
        }
    });
    address
}

#[test]
fn servers_that_lie_are_found_out() {
    let told = "{\"error\":{\"kind\":\"permission_denied\",\"message\":\"no\\u001b[31m such luck\"}}";
    let forbidden = format!("HTTP/1.1 403 Forbidden\r\nContent-Length: {}\r\nConnection: close\r\n\r\n{told}", told.len());
    let answers: [(&str, &str); 6] = [
        ("HTTP/1.1 200 OK\r\nContent-Length: 5\r\nConnection: close\r\n\r\nhello", "answer"),
        ("HTTP/1.1 404 Not Found\r\nContent-Length: 2\r\nConnection: close\r\n\r\nno", "is there a `vml serve` at this address?"),
        ("HTTP/1.1 302 Found\r\nLocation: http://127.0.0.1:9/\r\nContent-Length: 0\r\nConnection: close\r\n\r\n", "redirects to elsewhere"),
        (&forbidden, "no[31m such luck"),
        ("HTTP/1.1 200 OK\r\nContent-Length: 80000000\r\nConnection: close\r\n\r\nendless", "longer than any can be"),
        ("HTTP/1.1 200 OK\r\nContent-Length: 1\r\nConnection: close\r\n\r\n\u{1}", "answer"),
    ];
    let host = Host::new();
    for (number, (answer, part)) in answers.into_iter().enumerate() {
        let name = format!("liar{number}");
        host.ok(["remote", "add", &name, &format!("http://{}", liar(answer.as_bytes().to_vec()))]);
        let ran = host.run(["pull", &name, "work"]).fails(3, &["cannot pull from", part]);
        assert!(!ran.err.contains('\u{1b}'), "{}", ran.err);
    }
    assert_eq!(host.json_lines(["log"]).len(), 0);
}

/// Something that is called like `ssh` and leads to this host.
fn stand_in(host: &Host, other: &Host) -> String {
    let script = format!(
        "#!/bin/sh\n# -T -- HOST COMMAND\nwhile [ \"$1\" != -- ]; do shift; done\necho \"$2\" >> '{0}/hosts'\ncd '{0}'\nVML_HOME='{0}/home' exec sh -c \"$3\"\n",
        other.path("").display()
    );
    let path = host.path("fake-ssh");
    fs::write(&path, script).unwrap();
    fs::set_permissions(&path, fs::Permissions::from_mode(0o755)).unwrap();
    path.display().to_string()
}

#[test]
fn a_repository_is_reached_over_ssh() {
    let (eva, far, tom) = (eva(), Host::new(), Host::bare());
    let ssh = stand_in(&eva, &far);
    let url = format!("ssh://eva@far.example{}", far.repository().display());
    let program = env!("CARGO_BIN_EXE_vml");
    eva.ok(["remote", "add", "origin", &url, "--program", program]);
    let run = |host: &Host, args: &[&str]| {
        let output = host.command(args).env("VML_SSH", &ssh).output().unwrap();
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        String::from_utf8(output.stdout).unwrap()
    };
    assert!(run(&eva, &["push"]).contains("3 entries to origin"));
    assert_eq!(run(&eva, &["push"]), "nothing new to origin\n");
    far.assert_whole();
    assert!(fs::read_to_string(far.path("hosts")).unwrap().lines().all(|line| line == "eva@far.example"));
    run(&tom, &["clone", &url, "--program", program]);
    tom.assert_builds("work@latest", &eva.path("guest"));
    // A path with everything that a shell would take for its own.
    let odd = far.path("o'dd $(touch x) dir");
    far.ok(["--repo", odd.to_str().unwrap(), "init"]);
    eva.ok(["remote", "add", "odd", &format!("ssh://far{}", odd.display()), "--program", program]);
    run(&eva, &["push", "odd", "work@~1"]);
    assert_eq!(far.json_lines(["--repo", odd.to_str().unwrap(), "log"]).len(), 2);
    assert!(!far.path("x").exists());
    let ran = eva.command(["remote", "show", "origin"]).env("VML_SSH", "false").output().unwrap();
    let said = String::from_utf8_lossy(&ran.stderr).into_owned();
    assert_eq!(ran.status.code(), Some(3), "{said}");
    assert!(said.contains("no answer over ssh, which ended with exit status: 1"), "{said}");
}

#[test]
fn the_page_of_an_entry_is_a_link_to_receive() {
    let (eva, tom) = (eva(), Host::new());
    let (_site, token, server) = site("read,append");
    add_remote(&eva, server.address, &token);
    eva.ok(["push"]);
    let link = format!("http://{}/e/work@latest", server.address);
    tom.run(["receive", &link]).fails(3, &["cannot get", "VML_TOKEN"]);
    fs::write(tom.path("token"), &token).unwrap();
    tom.ok(["remote", "add", "site", &format!("http://{}", server.address), "--token-file", "token"]);
    tom.run(["receive", &link]).fails(3, &["needs the base debian@12"]);
    tom.ok(["pull", "BASE:debian@12"]);
    let said = tom.ok(["receive", &link]);
    assert!(said.contains("work is new here") && said.contains("NOT signed"), "{said}");
    tom.assert_builds("work@latest", &eva.path("guest"));
    tom.run(["receive", &format!("http://{}/e/nothing", server.address)]).fails(3, &["404"]);
}

/// A web server with one file that sends at most `most` bytes an answer.
fn stingy(file: Vec<u8>, most: usize, ranges: bool) -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    thread::spawn(move || {
        for mut client in listener.incoming().flatten() {
            let mut request = Vec::new();
            let mut buffer = [0; 4096];
            while !request.windows(4).any(|end| end == b"\r\n\r\n") {
                match client.read(&mut buffer) {
                    Ok(len @ 1..) => request.extend_from_slice(&buffer[..len]),
                    _ => break,
                }
            }
            let request = String::from_utf8_lossy(&request).to_lowercase();
            let from = request.lines().find_map(|line| line.strip_prefix("range: bytes=")?.trim_end_matches('-').parse::<usize>().ok());
            let start = from.filter(|_| ranges).unwrap_or(0);
            let rest = &file[start.min(file.len())..];
            let status = if from.is_some() && ranges { "206 Partial Content" } else { "200 OK" };
            let extra = if ranges { "Accept-Ranges: bytes\r\nETag: \"one\"\r\n" } else { "" };
            let range = format!("Content-Range: bytes {start}-{}/{}\r\n", file.len().saturating_sub(1), file.len());
            let range = if status.starts_with("206") { range } else { String::new() };
            let head = format!("HTTP/1.1 {status}\r\n{extra}{range}Content-Length: {}\r\nConnection: close\r\n\r\n", rest.len());
            _ = client.write_all(head.as_bytes()).and_then(|()| client.write_all(&rest[..rest.len().min(most)]));
        }
    });
    address
}

#[test]
fn a_link_that_is_cut_is_continued_where_the_server_can() {
    let eva = eva();
    eva.ok(["share", "work@latest", "--full", "--no-sign", "-o", "work.vml"]);
    let file = fs::read(eva.path("work.vml")).unwrap();
    let tom = Host::new();
    let link = format!("http://{}/work.vml", stingy(file.clone(), 5_000_000, true));
    tom.ok(["receive", &link]);
    tom.assert_builds("work@latest", &eva.path("guest"));
    let other = Host::new();
    let link = format!("http://{}/work.vml", stingy(file, 5_000_000, false));
    other.run(["receive", &link]).fails(3, &["cannot receive"]);
    assert_eq!(other.json_lines(["log"]).len(), 0);
    other.assert_whole();
}
