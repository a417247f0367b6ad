//! The service over standard input and output, as SSH runs it.

use crate::server::Answer;
use crate::support::Host;
use std::io::{BufReader, Read, Write};
use std::process::{Child, ChildStdin, ChildStdout, Stdio};
use vml_core::remote::wire::{decode_message, encode_message, encode_parcel};
use vml_core::remote::{RemoteInfo, RemoteRef};

struct Line {
    child: Child,
    input: ChildStdin,
    output: BufReader<ChildStdout>,
}

fn start(host: &Host, args: &[&str]) -> Line {
    let mut command = host.command(["serve", "--stdio"]);
    let mut child = command.args(args).stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    Line { input: child.stdin.take().unwrap(), output: BufReader::new(child.stdout.take().unwrap()), child }
}

impl Line {
    fn send(&mut self, call: &str, body: &[u8]) {
        let head = format!("POST /v1/remote/{call} HTTP/1.1\r\nHost: stdio\r\nContent-Length: {}\r\n\r\n", body.len());
        self.input.write_all(&[head.as_bytes(), body].concat()).unwrap();
        self.input.flush().unwrap();
    }

    fn ask(&mut self, call: &str, body: &[u8]) -> Answer {
        self.send(call, body);
        Answer::read(&mut self.output, false).unwrap()
    }

    /// Ends the input; everything that is still said, and the exit code.
    fn end(mut self) -> (Vec<u8>, String, Option<i32>) {
        drop(self.input);
        let (mut rest, mut errors) = (Vec::new(), String::new());
        self.output.read_to_end(&mut rest).unwrap();
        self.child.stderr.take().unwrap().read_to_string(&mut errors).unwrap();
        (rest, errors, self.child.wait().unwrap().code())
    }
}

#[test]
fn one_connection_does_everything_and_ends_with_its_input() {
    let host = Host::with_entry();
    let mut line = start(&host, &[]);
    let info: RemoteInfo = decode_message("info", &line.ask("info", &[]).body).unwrap();
    let refs: Vec<RemoteRef> = decode_message("refs", &line.ask("refs", &[]).body).unwrap();
    assert!(info.id != [0; 16] && refs.len() == 1);
    assert_eq!(line.ask("store", &encode_parcel(&Vec::new())).status, 200);
    // Several requests on their way at once are answered in their order.
    for _ in 0..3 {
        line.send("info", &[]);
        line.send("entries-there", &encode_message(&vec![refs[0].entry]));
    }
    for _ in 0..3 {
        assert_eq!(decode_message::<RemoteInfo>("info", &Answer::read(&mut line.output, false).unwrap().body).unwrap(), info);
        let there: Vec<bool> = decode_message("there", &Answer::read(&mut line.output, false).unwrap().body).unwrap();
        assert_eq!(there, [true]);
    }
    assert_eq!(line.ask("forget", &encode_message(&(vec![refs[0].entry], false))).status, 200);
    assert_eq!(line.end(), (Vec::new(), String::new(), Some(0)));
    assert!(host.ok(["log"]).contains("nothing saved yet"));
}

#[test]
fn a_reader_adds_and_forgets_nothing() {
    let host = Host::with_entry();
    let mut line = start(&host, &["--read-only"]);
    assert_eq!(line.ask("info", &[]).status, 200);
    line.ask("store", &encode_parcel(&Vec::new())).refused(403, "permission_denied", "lacks \"append\"");
    assert_eq!(line.end().2, Some(0));
}

#[test]
fn what_is_no_http_ends_it() {
    let host = Host::with_entry();
    let mut line = start(&host, &[]);
    line.input.write_all(b"\0\0\0\0nonsense\r\n\r\n").unwrap();
    let (_, errors, code) = line.end();
    assert!(code == Some(3) && errors.contains("standard input"), "{code:?} {errors}");
    let without = Host::bare();
    let line = start(&without, &[]);
    let (said, errors, code) = line.end();
    assert!(said.is_empty() && errors.contains("no repository here") || errors.contains("cannot open the repository"), "{errors}");
    assert_eq!(code, Some(3));
}
