//! A server is not believed: what contradicts is corrupt, what does not come is noticed, and nothing is reserved for what it only says.

use crate::server::*;
use rustix::net::{AddressFamily, SocketAddrUnix, SocketFlags, SocketType, bind, listen, socket_with};
use std::time::{Duration, Instant};
use vml_core::ErrorKind;
use vml_core::disk::{Disk, ExtentKind};
use vml_hv::nbd::{NbdAddress, NbdDisk, NbdOptions};

fn with_option(option: u32, answer: Vec<u8>) -> Script {
    Script { option: Box::new(move |asked| if asked == option { answer.clone() } else { honest_option(asked) }), ..Script::default() }
}

fn with_request(answer: impl Fn(Request) -> Vec<u8> + Send + 'static) -> Script {
    Script { request: Box::new(answer), ..Script::default() }
}

#[test]
fn what_an_honest_server_says_is_understood() {
    let server = Server::start(Script::default());
    let disk = server.open(5000).unwrap();
    let mut buffer = vec![0; 3000];
    disk.read_at(&mut buffer, 1001).unwrap();
    assert_eq!(buffer, bytes(1001, 3000));
    assert_eq!((disk.len(), disk.extent_at(5).unwrap().len), (LEN, LEN - 5));
    assert!(disk.read_at(&mut buffer, LEN - 2999).is_err());
    assert!(disk.extent_at(LEN).is_err());
    // Beyond the end nothing was asked: the connection still works.
    disk.read_at(&mut buffer, LEN - 3000).unwrap();
}

#[test]
fn servers_that_know_little_are_read_all_the_same() {
    let option = |option| match option {
        7 => be(&[&option_reply(7, 3, b"\0\x01a name"), &block_info(4096, 8192), &export_info(LEN), &option_reply(7, 1, &[])]),
        _ => option_reply(option, 1 << 31 | 1, b"unheard of"),
    };
    let request = |request: Request| {
        assert!(request.offset.is_multiple_of(4096) && request.len.is_multiple_of(4096) && request.len <= 8192, "{request:?}");
        simple(request.cookie, 0, &bytes(request.offset, request.len))
    };
    let server = Server::start(Script { greeting: greeting(1), option: Box::new(option), request: Box::new(request), ..Script::default() });
    let disk = server.open(5000).unwrap();
    for (offset, len) in [(0, 1), (4095, 2), (1, 20_000), (4096, 4096), (LEN - 1, 1), (7000, 100_000)] {
        let mut buffer = vec![0; len];
        disk.read_at(&mut buffer, offset).unwrap();
        assert_eq!(buffer, bytes(offset, u32::try_from(len).unwrap()), "{len} at {offset}");
    }
    let extent = disk.extent_at(77).unwrap();
    assert_eq!((extent.len, extent.kind), (LEN - 77, ExtentKind::Data));
}

#[test]
fn chunks_may_come_in_any_order_and_holes_are_zeros() {
    let server = Server::start(with_request(|request| {
        let (half, at) = (request.len / 2, |offset: u64| offset.to_be_bytes());
        let (middle, end) = (request.offset + u64::from(half), request.offset + u64::from(request.len) - 10);
        be(&[
            &chunk(request, 0, 1, &be(&[&at(end), &bytes(end, 10)])),
            &chunk(request, 0, 2, &be(&[&at(request.offset), &half.to_be_bytes()])),
            &chunk(request, 0, 1, &be(&[&at(middle), &bytes(middle, request.len - half - 10)])),
            &chunk(request, 1, 0, &[]),
        ])
    }));
    let disk = server.open(5000).unwrap();
    let mut buffer = vec![1; 1024];
    disk.read_at(&mut buffer, 512).unwrap();
    assert!(buffer[..512] == [0; 512] && buffer[512..] == bytes(1024, 512));
}

#[test]
fn an_error_about_a_request_is_told_and_the_connection_stays() {
    let server = Server::start(with_request(|request| match request.offset {
        0 => chunk(request, 1, 1 << 15 | 1, &be(&[&5_u32.to_be_bytes(), &[0, 9], b"bad\x1b[31m\n"])),
        512 => be(&[&chunk(request, 0, 1 << 15 | 2, &be(&[&5_u32.to_be_bytes(), &[0, 0], &[0; 8]])), &chunk(request, 1, 0, &[])]),
        1024 => simple(request.cookie, 1, &[]),
        1536 => chunk(request, 1, 1 << 15 | 99, &be(&[&108_u32.to_be_bytes(), &[0, 2], b"??and more"])),
        _ => honest_request(request),
    }));
    let disk = server.open(5000).unwrap();
    let read = |offset| disk.read_at(&mut [0; 512], offset).map_err(|error| (error.kind(), error.to_string()));
    let (kind, message) = read(0).unwrap_err();
    assert!(kind == ErrorKind::Io && message.ends_with("input/output error (5): bad[31m"), "{message:?}");
    assert_eq!(read(512).unwrap_err().0, ErrorKind::Io);
    assert_eq!(read(1024).unwrap_err().0, ErrorKind::PermissionDenied);
    assert_eq!(read(1536).unwrap_err().0, ErrorKind::Interrupted);
    read(2048).unwrap();
}

#[test]
fn refusals_of_the_handshake_have_their_kinds() {
    let refuse = |option, number: u32| with_option(option, option_reply(option, 1 << 31 | number, b"so it is"));
    let cases = [
        (refuse(7, 1), ErrorKind::UnsupportedFormat, "is too old: so it is"),
        (refuse(7, 2), ErrorKind::PermissionDenied, "does not allow it"),
        (refuse(7, 6), ErrorKind::NotFound, "has no export \"\""),
        (refuse(7, 7), ErrorKind::Interrupted, "is shutting down"),
        (refuse(7, 300), ErrorKind::Io, "error 300"),
        (refuse(8, 5), ErrorKind::UnsupportedFormat, "an encrypted connection"),
        (refuse(10, 5), ErrorKind::UnsupportedFormat, "an encrypted connection"),
        (Script { greeting: greeting(0), ..Script::default() }, ErrorKind::UnsupportedFormat, "cannot be asked"),
        (
            Script { greeting: be(&[b"NBDMAGIC", &0x0000_4202_8186_1253_u64.to_be_bytes()]), ..Script::default() },
            ErrorKind::UnsupportedFormat,
            "before 2012",
        ),
    ];
    for (script, kind, part) in cases {
        let server = Server::start(script);
        let error = server.open(5000).err().expect(part);
        let cause = std::error::Error::source(&error).expect("what the server said").to_string();
        assert!(error.kind() == kind && cause.contains(part), "{part:?}: {error:?}");
    }
}

#[test]
fn lies_of_the_handshake_are_corrupt() {
    let ack = |option| option_reply(option, 1, &[]);
    let go = |parts: &[&[u8]]| with_option(7, be(&[&be(parts), &ack(7)]));
    let cases: Vec<(&str, Script)> = vec![
        ("another greeting", Script { greeting: b"HTTP/1.1 400 Bad Request\r\n".to_vec(), ..Script::default() }),
        ("half a greeting", Script { greeting: b"NBDMAGICNBDMAGIC\0\x03".to_vec(), ..Script::default() }),
        ("another magic of replies", with_option(8, be(&[&[7; 8], &ack(8)[8..]]))),
        ("an answer to another option", with_option(8, ack(7))),
        ("a yes with data", with_option(8, option_reply(8, 1, b"yes"))),
        ("a huge reply", with_option(8, be(&[&ack(8)[..16], &[0xFF; 4]]))),
        ("something else than a yes", with_option(8, be(&[&option_reply(8, 3, &[0; 12]), &ack(8)]))),
        ("a context without a number", with_option(10, be(&[&option_reply(10, 4, b"abc"), &ack(10)]))),
        ("a context nobody wants", with_option(10, be(&[&context(1, "base:allocation2"), &ack(10)]))),
        ("a context twice", with_option(10, be(&[&context(1, "base:allocation"), &context(2, "base:allocation"), &ack(10)]))),
        ("an export for metadata", with_option(10, be(&[&option_reply(10, 3, &[0; 12]), &ack(10)]))),
        ("contexts without end", with_option(10, option_reply(10, 4, b"\0\0\0\x01x").repeat(100))),
        ("infos without end", with_option(7, export_info(LEN).repeat(100))),
        ("no export", go(&[])),
        ("a short export", go(&[&option_reply(7, 3, &[0, 0, 1])])),
        ("a long export", go(&[&option_reply(7, 3, &[0; 13])])),
        ("an info without a kind", go(&[&option_reply(7, 3, &[0])])),
        ("metadata for an export", go(&[&context(1, "base:allocation")])),
        ("a length below zero", go(&[&export_info(u64::MAX)])),
        ("blocks of nothing", go(&[&export_info(LEN), &block_info(0, 4096)])),
        ("odd blocks", go(&[&export_info(LEN), &block_info(513, 4096)])),
        ("huge blocks", go(&[&export_info(LEN), &block_info(1 << 20, 1 << 20)])),
        ("more at least than at most", go(&[&export_info(LEN), &block_info(4096, 512)])),
        ("odd requests", go(&[&export_info(LEN), &block_info(512, 1000)])),
    ];
    for (name, script) in cases {
        let server = Server::start(script);
        let error = server.open(5000).err().expect(name);
        assert_eq!(error.kind(), ErrorKind::Corrupt, "{name}: {error:?}");
    }
}

#[test]
fn lies_about_bytes_are_corrupt() {
    type Answer = fn(Request) -> Vec<u8>;
    let cases: [(&str, Answer); 21] = [
        ("another magic", |request| be(&[&[9; 4], &data(request)])),
        ("another cookie", |request| chunk_of(request.cookie + 1, 1, 1, request.len + 8, &data(request))),
        ("a simple yes", |request| simple(request.cookie, 0, &bytes(request.offset, request.len))),
        ("another cookie in a simple no", |request| simple(request.cookie + 1, 5, &[])),
        ("more than was asked", |request| chunk(request, 1, 1, &be(&[&data(request), &[1]]))),
        ("less than was asked", |request| chunk(request, 1, 1, &data(request)[..500])),
        ("huge data", |request| chunk_of(request.cookie, 1, 1, u32::MAX, &data(request))),
        ("data before the request", |request| chunk(request, 1, 1, &be(&[&(request.offset - 1).to_be_bytes(), &[1; 100]]))),
        ("data behind the request", |request| chunk(request, 1, 1, &be(&[&(request.offset + 500).to_be_bytes(), &[1; 100]]))),
        ("data at the end of all", |request| chunk(request, 1, 1, &be(&[&u64::MAX.to_be_bytes(), &[1; 100]]))),
        ("no data", |request| chunk(request, 1, 1, &request.offset.to_be_bytes())),
        ("not even a place", |request| chunk(request, 1, 1, &[1, 2, 3])),
        ("the same twice", |request| chunk(request, 0, 1, &data(request)).repeat(2)),
        ("a hole upon data", |request| {
            be(&[&chunk(request, 0, 1, &data(request)), &chunk(request, 1, 2, &be(&[&request.offset.to_be_bytes(), &[0, 0, 0, 9]]))])
        }),
        ("data around data", |request| {
            let inside = be(&[&(request.offset + 10).to_be_bytes(), &[1; 10]]);
            be(&[&chunk(request, 0, 1, &inside), &chunk(request, 1, 1, &data(request))])
        }),
        ("a huge hole", |request| chunk(request, 1, 2, &be(&[&request.offset.to_be_bytes(), &[0xFF; 4]]))),
        ("an empty hole", |request| chunk(request, 1, 2, &be(&[&request.offset.to_be_bytes(), &[0; 4]]))),
        ("extents for bytes", |request| chunk(request, 1, 5, &extents(7, &[(512, 0)]))),
        ("nothing, and no end", |request| chunk(request, 0, 0, &[])),
        ("an unknown chunk", |request| chunk(request, 1, 77, &[1; 40])),
        ("two kinds of answers", |request| {
            be(&[&chunk(request, 0, 2, &be(&[&request.offset.to_be_bytes(), &[0, 0, 0, 9]])), &simple(request.cookie, 5, &[])])
        }),
    ];
    for (name, answer) in cases {
        let server = Server::start(with_request(answer));
        let disk = server.open(5000).unwrap();
        let error = disk.read_at(&mut [0; 512], 4096).expect_err(name);
        assert_eq!(error.kind(), ErrorKind::Corrupt, "{name}: {error:?}");
        // What comes next from such a server would mean nothing.
        let again = disk.read_at(&mut [0; 512], 4096).expect_err(name);
        assert!(again.to_string().contains("was given up"), "{name}: {again:?}");
    }
}

#[test]
fn lies_about_errors_and_extents_are_corrupt() {
    type Answer = fn(Request) -> Vec<u8>;
    let cases: [(&str, Answer); 15] = [
        ("an error too short", |request| chunk(request, 1, 1 << 15 | 1, &[0, 0, 0, 5])),
        ("an error with a longer message than it has", |request| chunk(request, 1, 1 << 15 | 1, b"\0\0\0\x05\0\x09short")),
        ("an error with something behind", |request| chunk(request, 1, 1 << 15 | 1, b"\0\0\0\x05\0\x02short")),
        ("an error without its place", |request| chunk(request, 1, 1 << 15 | 2, b"\0\0\0\x05\0\0")),
        ("an error that is none", |request| chunk(request, 1, 1 << 15 | 1, &[0; 6])),
        ("a huge error", |request| chunk_of(request.cookie, 1, 1 << 15 | 1, u32::MAX, &[0; 100])),
        ("bytes for extents", |request| chunk(request, 1, 1, &be(&[&request.offset.to_be_bytes(), &[1; 100]]))),
        ("another context", |request| chunk(request, 1, 5, &extents(8, &[(request.len, 0)]))),
        ("a context twice", |request| chunk(request, 0, 5, &extents(7, &[(request.len, 0)])).repeat(2)),
        ("no extents", |request| chunk(request, 1, 5, &extents(7, &[]))),
        ("half an extent", |request| chunk(request, 1, 5, &[0, 0, 0, 7, 1, 1, 1, 1, 1])),
        ("an empty extent", |request| chunk(request, 1, 5, &extents(7, &[(512, 0), (0, 1), (512, 0)]))),
        ("an extent behind the request", |request| chunk(request, 1, 5, &extents(7, &[(u32::MAX, 0), (1, 0)]))),
        ("extents without end", |request| chunk_of(request.cookie, 1, 5, 0xFFFF_FFFC, &extents(7, &[(512, 0)]))),
        ("nothing at all", |request| chunk(request, 1, 0, &[])),
    ];
    for (name, answer) in cases {
        let server = Server::start(with_request(answer));
        let disk = server.open(5000).unwrap();
        let error = disk.extent_at(5000).expect_err(name);
        assert_eq!(error.kind(), ErrorKind::Corrupt, "{name}: {error:?}");
    }
}

#[test]
fn a_silent_server_is_given_up_in_time() {
    let silent = |script: Script| Server::start(Script { stays: true, ..script });
    let begun = Instant::now();
    for script in [Script { greeting: Vec::new(), ..Script::default() }, with_option(8, Vec::new()), with_option(7, Vec::new())] {
        let server = silent(script);
        let error = server.open(200).err().expect("it says nothing");
        assert_eq!(error.kind(), ErrorKind::Interrupted, "{error:?}");
    }
    for answer in [(|_| Vec::new()) as fn(Request) -> Vec<u8>, |request| chunk(request, 1, 1, &data(request))[..300].to_vec()] {
        let server = silent(with_request(answer));
        let disk = server.open(200).unwrap();
        assert_eq!(disk.read_at(&mut [0; 512], 0).unwrap_err().kind(), ErrorKind::Interrupted);
    }
    assert!((Duration::from_secs(1)..Duration::from_secs(15)).contains(&begun.elapsed()), "{:?}", begun.elapsed());
}

#[test]
fn one_byte_now_and_then_is_no_answer() {
    let server = Server::start(Script { pause: Duration::from_millis(20), ..Script::default() });
    let disk = server.open(300).unwrap();
    let begun = Instant::now();
    assert_eq!(disk.read_at(&mut [0; 4096], 0).unwrap_err().kind(), ErrorKind::Interrupted);
    assert!(begun.elapsed() < Duration::from_secs(20), "4096 bytes would have come in 82 s");
}

#[test]
fn nobody_there_is_an_error() {
    let dir = tempfile::tempdir().unwrap();
    let open = |address: NbdAddress| NbdDisk::open(&address, &NbdOptions::default()).err().unwrap();
    assert_eq!(open(NbdAddress::Unix(dir.path().join("nowhere"))).kind(), ErrorKind::NotFound);
    assert_eq!(open(NbdAddress::Unix(dir.path().join("x".repeat(300)))).kind(), ErrorKind::InvalidInput);
    let free = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
    assert_eq!(open(NbdAddress::Tcp { host: "127.0.0.1".to_owned(), port: free }).kind(), ErrorKind::Io);
    // Someone who listens and never accepts, with a queue that is full.
    let path = dir.path().join("full");
    let listener = socket_with(AddressFamily::UNIX, SocketType::STREAM, SocketFlags::CLOEXEC, None).unwrap();
    bind(&listener, &SocketAddrUnix::new(&path).unwrap()).unwrap();
    listen(&listener, 0).unwrap();
    let _first = std::os::unix::net::UnixStream::connect(&path).unwrap();
    let options = NbdOptions { limit: Duration::from_millis(200), ..NbdOptions::default() };
    let error = NbdDisk::open(&NbdAddress::Unix(path), &options).err().unwrap();
    assert_eq!(error.kind(), ErrorKind::Interrupted, "{error:?}");
}

#[test]
fn bitmaps_and_depths_that_a_server_does_not_have_are_missed() {
    let server = Server::start(Script::default());
    let options = NbdOptions { bitmaps: vec!["since-monday".to_owned()], ..NbdOptions::default() };
    let error = NbdDisk::open(&server.address(), &options).err().unwrap();
    assert!(error.kind() == ErrorKind::NotFound && error.to_string().contains("since-monday"), "{error:?}");
    let server = Server::start(Script::default());
    let options = NbdOptions { allocation_depth: true, ..NbdOptions::default() };
    assert_eq!(NbdDisk::open(&server.address(), &options).err().unwrap().kind(), ErrorKind::UnsupportedFormat);
    let options = NbdOptions { export: "x".repeat(5000), ..NbdOptions::default() };
    let server = Server::start(Script::default());
    assert_eq!(NbdDisk::open(&server.address(), &options).err().unwrap().kind(), ErrorKind::InvalidInput);
}
