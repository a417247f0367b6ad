//! How a service ends.

use crate::bad_input::frames;
use crate::client::Client;
use crate::server::{Answer, Server};
use crate::transfers::big_host;
use rustix::process::Signal;
use std::io::{BufReader, Read, Write};
use std::net::TcpStream;
use std::time::Duration;
use vml_core::remote::wire::{decode_parcel, encode_message};

fn begin_fetch(server: &Server) -> (BufReader<TcpStream>, Vec<u8>) {
    let client = Client::new(server, String::new());
    let body = encode_message(&frames(&client));
    let mut stream = server.connect();
    let head = format!("POST /v1/remote/fetch HTTP/1.1\r\nHost: {}\r\nContent-Length: {}\r\n\r\n", server.address, body.len());
    stream.write_all(&[head.as_bytes(), &body].concat()).unwrap();
    let mut first = vec![0; 1000];
    stream.read_exact(&mut first).unwrap();
    (BufReader::new(stream), first)
}

#[test]
fn a_download_ends_before_the_service_does() {
    let host = big_host(24);
    let server = Server::start(&host, &[]);
    let (rest, first) = begin_fetch(&server);
    let idle = server.connect();
    server.signal(Signal::TERM);
    std::thread::sleep(Duration::from_millis(500));
    assert!(TcpStream::connect(server.address).is_err(), "a service that ends takes new connections");
    let answer = Answer::read(&mut BufReader::new(first.as_slice().chain(rest)), false).unwrap();
    assert_eq!(answer.status, 200);
    assert!(!decode_parcel(&answer.body[..]).unwrap().is_empty());
    drop(idle);
    assert!(server.errors().contains("/v1/remote/fetch 200"), "{}", server.errors());
    assert_eq!(server.wait(), Some(0));
}

#[test]
fn who_takes_too_long_is_cut_when_the_time_is_over() {
    let host = big_host(24);
    let server = Server::start(&host, &["--grace", "1"]);
    let (mut rest, _) = begin_fetch(&server);
    server.signal(Signal::INT);
    std::thread::sleep(Duration::from_millis(1500));
    let mut got = Vec::new();
    _ = rest.read_to_end(&mut got);
    assert!(got.len() < 24 << 20, "{}", got.len());
    assert_eq!(server.wait(), Some(0));
}
