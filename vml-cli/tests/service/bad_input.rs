//! What clients send that is wrong, too long or too slow.

use crate::client::Client;
use crate::server::{Answer, Server};
use crate::support::Host;
use std::io::{BufReader, Read, Write};
use std::time::{Duration, Instant};
use vml_chunk::{ChunkId, PackKind};
use vml_core::entry::EntryId;
use vml_core::remote::wire::{encode_message, encode_parcel, push_block};
use vml_core::remote::{CHUNKS_MAX, FrameAt, Remote};

fn served(args: &[&str]) -> (Host, Server) {
    let host = Host::with_entry();
    let server = Server::start(&host, args);
    (host, server)
}

/// The frames of an entry, where they stand.
pub fn frames(client: &Client<'_>) -> Vec<FrameAt> {
    let entry = client.refs().unwrap()[0].entry;
    let mut frames = Vec::new();
    client
        .needs(&[entry], &[], &mut |needs| {
            frames.extend(needs.frames);
            Ok(())
        })
        .unwrap();
    frames
}

#[test]
fn a_body_that_is_too_long_is_refused_announced_or_not() {
    let (_host, server) = served(&[]);
    let long = vec![0; 5 << 20];
    server.post("has", &long).refused(413, "invalid_input", "which is the limit");
    server.post("info", b"x").refused(413, "invalid_input", "more than 0 bytes");
    // Nobody reads 1 TB to say so.
    let mut stream = server.connect();
    stream
        .write_all(
            format!("POST /v1/remote/store HTTP/1.1\r\nHost: {}\r\nContent-Length: 1099511627776\r\n\r\n", server.address).as_bytes(),
        )
        .unwrap();
    stream.shutdown(std::net::Shutdown::Write).unwrap();
    let mut said = String::new();
    _ = stream.read_to_string(&mut said);
    assert!(said.is_empty() || said.starts_with("HTTP/1.1 413"), "{said}");
    let mut stream = server.connect();
    stream
        .write_all(
            format!("POST /v1/remote/has HTTP/1.1\r\nHost: {}\r\nTransfer-Encoding: chunked\r\nConnection: close\r\n\r\n", server.address)
                .as_bytes(),
        )
        .unwrap();
    let chunk = [b"10000\r\n".to_vec(), vec![0; 0x10000], b"\r\n".to_vec()].concat();
    for _ in 0..80 {
        if stream.write_all(&chunk).is_err() {
            break;
        }
    }
    let mut answer = BufReader::new(stream);
    if let Ok(answer) = Answer::read(&mut answer, false) {
        answer.refused(413, "invalid_input", "which is the limit");
    }
    assert_eq!(server.get("/healthz").status, 200);
    assert!(server.errors().contains("/v1/remote/has 413"), "{}", server.errors());
}

#[test]
fn a_slow_body_and_a_slow_head_are_not_waited_for() {
    let (_host, server) = served(&["--patience", "1"]);
    let mut slow = server.connect();
    slow.write_all(format!("POST /v1/remote/has HTTP/1.1\r\nHost: {}\r\nContent-Length: 100\r\n\r\nabc", server.address).as_bytes())
        .unwrap();
    Answer::read(&mut BufReader::new(slow), false).unwrap().refused(408, "interrupted", "too slowly");
    // Byte for byte, never pausing for long.
    let mut dripping = server.connect();
    let started = Instant::now();
    dripping
        .write_all(format!("POST /v1/remote/has HTTP/1.1\r\nHost: {}\r\nContent-Length: 1000000\r\n\r\n", server.address).as_bytes())
        .unwrap();
    while started.elapsed() < Duration::from_secs(20) && dripping.write_all(b"x").is_ok() {
        std::thread::sleep(Duration::from_millis(100));
    }
    assert!(started.elapsed() < Duration::from_secs(15), "dripping goes on for ever");
    let mut head = server.connect();
    head.write_all(b"GET /v1 HTTP/1.1\r\nHo").unwrap();
    let started = Instant::now();
    let mut said = Vec::new();
    _ = head.read_to_end(&mut said);
    assert!(started.elapsed() < Duration::from_secs(10) && !said.starts_with(b"HTTP/1.1 200"));
    assert_eq!(server.get("/healthz").status, 200);
}

#[test]
fn whoever_takes_nothing_is_let_go() {
    let (_host, server) = served(&["--patience", "1"]);
    let refs = Client::new(&server, String::new()).refs().unwrap();
    let mut stream = server.connect();
    let (method, path) = ("GET", format!("/v1/entries/{}/share", refs[0].entry));
    // The same again and again on one connection, until nothing more fits anywhere.
    let request = format!("{method} {path} HTTP/1.1\r\nHost: {}\r\n\r\n", server.address);
    stream.set_write_timeout(Some(Duration::from_secs(20))).unwrap();
    let started = Instant::now();
    while started.elapsed() < Duration::from_secs(30) && stream.write_all(request.repeat(100).as_bytes()).is_ok() {}
    assert!(started.elapsed() < Duration::from_secs(30), "the service waits for ever");
}

#[test]
fn names_lead_nowhere_else() {
    let (_host, server) = served(&[]);
    for name in [
        "..",
        "%2e%2e",
        "..%2f..%2fconfig",
        "%2fetc%2fpasswd",
        "a%00b",
        "work@latest%2f..",
        "BASE:..%2f..@1",
        "%ff",
        "work@~99999999999999999999",
    ] {
        for path in [format!("/v1/entries/{name}"), format!("/v1/entries/{name}/share"), format!("/e/{name}"), format!("/e/{name}.vml")] {
            let answer = server.get(&path);
            assert!(matches!(answer.status, 400 | 404), "{path}: {}", answer.status);
            answer.refused(answer.status, if answer.status == 404 { "not_found" } else { "invalid_input" }, "");
        }
    }
    let id = "0".repeat(64);
    for pack in [
        format!("data/{id}"),
        "data/..%2f..%2fconfig".to_owned(),
        format!("..%2fentries/{id}"),
        "entries/x".to_owned(),
        format!("data/{}", "A".repeat(64)),
    ] {
        server.get(&format!("/v1/packs/{pack}")).refused(404, "not_found", "no such pack");
    }
    server.get("/v1/../../etc/passwd").refused(404, "not_found", "nothing at this address");
    server.get("/v1/entries?limit=0").refused(400, "invalid_input", "from 1 to 1000");
    server.get("/v1/entries/work@latest/share?full=perhaps").refused(400, "invalid_input", "true or false");
    server.get("/v1/entries/work@latest/share?since=nobody").refused(404, "not_found", "nobody");
    let answer = server.ask("PUT", "/v1/entries", &[], &[]);
    answer.refused(405, "invalid_input", "method");
    assert!(answer.header("allow").is_some_and(|allow| allow.contains("GET")), "{answer:?}");
}

#[test]
fn wrong_bytes_are_told_from_damage() {
    let (_host, server) = served(&[]);
    for call in ["history", "entries-there", "records", "note-records", "needs", "has", "fetch", "compose", "commit"] {
        for bytes in [&b"\xff"[..], b"\xff\xff\xff\xff\xff\xff\xff\xff\xff", b"nonsense"] {
            server.post(call, bytes).refused(400, "invalid_input", "not what it should be");
        }
    }
    let many = |count: usize| encode_message(&vec![EntryId::of(b"x"); count]);
    server.post("entries-there", &many(4097)).refused(400, "invalid_input", "are the limit");
    let many = encode_message(&vec![ChunkId::of(b"x"); CHUNKS_MAX + 1]);
    server.post("has", &many).refused(400, "invalid_input", "are the limit");
    let gone =
        FrameAt { kind: PackKind::Data, pack: vml_chunk::PackId::of(b"none"), offset: 16, stored_len: 100, plain_len: 100, alone: true };
    server.post("fetch", &encode_message(&vec![gone])).refused(404, "not_found", "cannot find");
    let huge = vec![FrameAt { stored_len: u32::MAX, ..gone }; 3];
    server.post("fetch", &encode_message(&huge)).refused(400, "invalid_input", "are the limit");
    let missing = server.post("compose", &encode_message(&(PackKind::Data, vec![ChunkId::of(b"none")])));
    missing.refused(404, "not_found", "is not in the repository");
    let wrong = server.ask("POST", "/v1/remote/has", &[("Content-Type", "text/plain")], &encode_message(&Vec::<ChunkId>::new()));
    wrong.refused(415, "invalid_input", "application/octet-stream");
    // Frames: damaged, of an unknown kind, without an end, endless.
    server.post("store", &encode_parcel(&vec![(PackKind::Data, vec![7; 100])])).refused(422, "corrupt", "damaged");
    let mut unknown = Vec::new();
    push_block(&mut unknown, &[9, 1, 2]);
    server.post("store", &unknown).refused(422, "corrupt", "kind 9");
    server.post("store", &unknown[..3]).refused(422, "corrupt", "end mark");
    server.post("store", &[0xff; 100]).refused(422, "corrupt", "block of");
    assert_eq!(server.get("/healthz").status, 200);
}

#[test]
fn an_upload_that_is_cut_leaves_nothing_and_the_same_twice_is_stored_once() {
    let host = Host::with_entry();
    let token = crate::access::token(&host, "eva", "append");
    let server = Server::start(&host, &[]);
    let client = Client::new(&server, token.clone());
    let parcel = client.fetch(&frames(&client)[..1]).unwrap();
    let other = Host::new();
    let other_token = crate::access::token(&other, "eva", "append");
    let sink = Server::start(&other, &["--patience", "2"]);
    let body = encode_parcel(&parcel);
    let mut stream = sink.connect();
    let head = format!(
        "POST /v1/remote/store HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer {other_token}\r\nContent-Length: {}\r\n\r\n",
        body.len()
    );
    stream.write_all(head.as_bytes()).unwrap();
    stream.write_all(&body[..body.len() / 2]).unwrap();
    drop(stream);
    let to = Client::new(&sink, other_token);
    let first = to.store(parcel.clone()).unwrap();
    assert!(first.chunks_count > 0 && first.new_chunks_count == first.chunks_count, "{first:?}");
    let second = to.store(parcel).unwrap();
    assert_eq!((second.chunks_count, second.new_chunks_count), (first.chunks_count, 0));
}
