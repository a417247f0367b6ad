//! Many clients at once.

use crate::bad_input::frames;
use crate::client::Client;
use crate::server::{Answer, Server};
use crate::transfers::big_host;
use std::io::{BufReader, Write};
use std::sync::Barrier;
use vml_core::remote::wire::encode_message;
use vml_core::remote::{FrameAt, PARCEL_TARGET, Remote};

const CLIENTS: usize = 200;

/// Two hundred clients that all have asked for megabytes before the first of them takes any.
#[test]
fn two_hundred_clients_pull_at_once_in_little_memory() {
    let host = big_host(24);
    let server = Server::start(&host, &["--access-log", "log"]);
    let client = Client::new(&server, String::new());
    let entry = client.refs().unwrap()[0].entry;
    let mut parcels: Vec<Vec<FrameAt>> = vec![Vec::new()];
    for frame in frames(&client) {
        if parcels.last().unwrap().iter().map(|frame| frame.stored_len as usize).sum::<usize>() > PARCEL_TARGET {
            parcels.push(Vec::new());
        }
        parcels.last_mut().unwrap().push(frame);
    }
    let request = |call: &str, body: &[u8]| {
        let head = format!("POST /v1/remote/{call} HTTP/1.1\r\nHost: {}\r\nContent-Length: {}\r\n\r\n", server.address, body.len());
        [head.as_bytes(), body].concat()
    };
    let needs = request("needs", &encode_message(&(vec![entry], Vec::<vml_core::entry::EntryId>::new())));
    let fetch = request("fetch", &encode_message(&parcels[0]));
    let stored: usize = parcels[0].iter().map(|frame| frame.stored_len as usize + 5).sum::<usize>() + 4;
    let barrier = Barrier::new(CLIENTS);
    std::thread::scope(|scope| {
        for _ in 0..CLIENTS {
            scope.spawn(|| {
                let (mut walk, mut carry) = (server.connect(), server.connect());
                walk.write_all(&needs).unwrap();
                carry.write_all(&fetch).unwrap();
                barrier.wait();
                let carried = Answer::read(&mut BufReader::new(carry), false).unwrap();
                assert_eq!((carried.status, carried.body.len()), (200, stored));
                let walked = Answer::read(&mut BufReader::new(walk), false).unwrap();
                assert!(walked.status == 200 && walked.body.ends_with(&[0; 4]));
            });
        }
    });
    let peak = server.peak_memory();
    println!("{} MiB at most", peak >> 20);
    assert!(peak < 300 << 20, "{} MiB", peak >> 20);
}

#[test]
fn beyond_the_limit_connections_wait_for_their_turn() {
    let host = crate::support::Host::with_entry();
    let server = Server::start(&host, &["--connections", "2", "--patience", "2"]);
    let idle = [server.connect(), server.connect()];
    std::thread::sleep(std::time::Duration::from_millis(200));
    // Answered when one of those that say nothing is let go.
    let started = std::time::Instant::now();
    assert_eq!(server.get("/healthz").status, 200);
    assert!(started.elapsed() > std::time::Duration::from_millis(500), "there was no limit");
    drop(idle);
}
