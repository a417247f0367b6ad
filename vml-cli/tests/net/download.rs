//! Files from servers that lie, stop and come back.

use crate::net::{Got, Limits, Network, Options, Patience, ProxyList, Rules, Url, Wanted, download};
use std::path::Path;
use std::time::{Duration, Instant};
use tempfile::TempDir;
use vml_core::catalogue::Digest;
use vml_core::{CollectMonitor, ErrorKind, Result};
use vml_testkit::noise;
use vml_testkit::web::{Manner, WebServer};

const LEN: usize = 700_000;

struct Bench {
    dir: TempDir,
    bytes: Vec<u8>,
    monitor: CollectMonitor,
    /// As it is said beforehand.
    size: Option<u64>,
}

impl Bench {
    fn new() -> Self {
        Self {
            dir: tempfile::tempdir().unwrap(),
            bytes: noise::incompressible(1, LEN),
            monitor: CollectMonitor::default(),
            size: Some(LEN as u64),
        }
    }

    fn digest(&self) -> Digest {
        Digest::Blake3(*blake3::hash(&self.bytes).as_bytes())
    }

    fn get(&self, urls: &[String]) -> Result<Got> {
        self.get_by("DIRECT", urls, None)
    }

    fn get_by(&self, list: &str, urls: &[String], limit: Option<u64>) -> Result<Got> {
        let wait = Duration::from_secs(3);
        let limits = Limits { resolve: wait, connect: wait, response: wait, idle: wait };
        let network = Network::new(Options { limits, ca_file: None }, Rules::of(ProxyList::parse(list).unwrap()), [0; 16]);
        let urls: Vec<Url> = urls.iter().map(|url| url.parse().unwrap()).collect();
        let wanted = Wanted { urls: &urls, size: self.size, digest: self.digest(), limit };
        let patience = Patience { rounds: 2, pause: Duration::from_millis(10), window: Duration::from_millis(500), window_bytes: 2000 };
        download(&network, &wanted, &self.path(), patience, &self.monitor)
    }

    fn path(&self) -> std::path::PathBuf {
        self.dir.path().join("image.raw")
    }

    fn part(&self) -> std::path::PathBuf {
        self.dir.path().join("image.raw.part")
    }

    #[track_caller]
    fn is_here(&self) {
        assert!(std::fs::read(self.path()).unwrap() == self.bytes);
        assert_eq!(self.names(), ["image.raw"]);
    }

    fn names(&self) -> Vec<String> {
        let mut names: Vec<String> =
            std::fs::read_dir(self.dir.path()).unwrap().map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect();
        names.sort();
        names
    }

    fn len(&self, path: &Path) -> u64 {
        std::fs::metadata(path).map_or(0, |meta| meta.len())
    }
}

#[test]
fn a_file_comes_whole_and_once() {
    let (server, bench) = (WebServer::start(), Bench::new());
    let url = server.put("/x", bench.bytes.clone());
    let got = bench.get(std::slice::from_ref(&url)).unwrap();
    assert_eq!(got, Got { continued_at: 0, received: LEN as u64, from: vec![url] });
    bench.is_here();
    assert_eq!(server.sent(), LEN as u64);
}

#[test]
fn a_cut_is_continued_in_the_middle_by_the_same_or_by_another() {
    let (one, other, bench) = (WebServer::start(), WebServer::start(), Bench::new());
    let urls = [one.serve("/x", bench.bytes.clone(), Manner::CutAfter(200_000)), other.put("/y", bench.bytes.clone())];
    let got = bench.get(&urls).unwrap();
    assert_eq!((got.received, got.from.len()), (LEN as u64, 2));
    bench.is_here();
    assert_eq!((one.sent(), other.sent()), (200_000, 500_000));
    assert_eq!(other.asked()[0].header("range"), "bytes=200000-");
    assert_eq!(other.asked()[0].header("if-range"), "", "the other's tag says nothing here");

    let (alone, bench) = (WebServer::start(), Bench::new());
    let url = alone.serve("/x", bench.bytes.clone(), Manner::CutAfter(200_000));
    bench.get(&[url]).unwrap();
    bench.is_here();
    assert_eq!((alone.sent(), alone.asked().len()), (LEN as u64, 4));
    assert_eq!(alone.asked()[1].header("if-range"), "\"700000-v1\"");
}

#[test]
fn the_next_run_continues_what_one_left() {
    let (server, bench) = (WebServer::start(), Bench::new());
    let url = [server.serve("/x", bench.bytes.clone(), Manner::CutOnce(300_000))];
    server.behave("/x", Manner::CutAfter(1000));
    let error = bench.get(&url).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Io);
    assert!(error.to_string().contains("of 700000 bytes are here"), "{error}");
    let here = bench.len(&bench.part());
    assert!(here >= 1000 && !bench.path().exists());
    server.behave("/x", Manner::Honest);
    let got = bench.get(&url).unwrap();
    assert_eq!((got.continued_at, got.received), (here, LEN as u64 - here));
    bench.is_here();
}

#[test]
fn a_proxy_that_dies_in_the_middle_is_passed_by() {
    let (server, proxy, bench) = (WebServer::start(), WebServer::start(), Bench::new());
    let url = [server.put("/x", bench.bytes.clone())];
    proxy.serve("/x", bench.bytes.clone(), Manner::CutAfter(100_000));
    let got = bench.get_by(&format!("http://127.0.0.1:{};DIRECT", proxy.port()), &url, None).unwrap();
    bench.is_here();
    assert_eq!((proxy.sent(), server.sent()), (100_000, 600_000));
    assert!(got.from[0].contains("by the proxy"), "{:?}", got.from);
    assert_eq!(proxy.asked().len(), 1, "it rests");
}

#[test]
fn whoever_lies_is_left_and_the_next_one_asked() {
    for manner in [
        Manner::Endless,
        Manner::WrongLength(5),
        Manner::WrongLength(-5),
        Manner::WrongByte(123_456),
        Manner::Status(404),
        Manner::Status(403),
        Manner::Status(503),
        Manner::Silent,
        Manner::Slow(100, Duration::from_millis(50)),
        Manner::Redirect("/x".to_owned()),
        Manner::Redirect("file:///etc/passwd".to_owned()),
    ] {
        let (liar, honest, bench) = (WebServer::start(), WebServer::start(), Bench::new());
        let urls = [liar.serve("/x", bench.bytes.clone(), manner.clone()), honest.put("/y", bench.bytes.clone())];
        let got = bench.get(&urls).unwrap_or_else(|error| panic!("{manner:?}: {error}"));
        bench.is_here();
        assert!(got.from.iter().any(|from| from.starts_with(&honest.url("/y"))), "{manner:?}: {got:?}");
    }
}

#[test]
fn where_all_lie_nothing_is_left_that_could_be_used() {
    for (manner, kind, word) in [
        (Manner::WrongByte(5), ErrorKind::Corrupt, "is not what the catalogue says"),
        (Manner::Endless, ErrorKind::NotFound, "more than the 700000 bytes"),
        (Manner::WrongLength(5), ErrorKind::NotFound, "its file has 700005 bytes"),
        (Manner::Status(404), ErrorKind::NotFound, "status 404"),
        (Manner::Status(500), ErrorKind::Io, "status 500"),
        (Manner::Silent, ErrorKind::Io, "nobody sends"),
    ] {
        let (server, bench) = (WebServer::start(), Bench::new());
        let url = server.serve("/x", bench.bytes.clone(), manner.clone());
        let error = bench.get(&[url]).unwrap_err();
        assert_eq!(error.kind(), kind, "{manner:?}: {error}");
        assert!(error.to_string().contains(word), "{manner:?}: {error}");
        assert!(!bench.path().exists(), "{manner:?}");
        if kind == ErrorKind::Corrupt {
            assert_eq!(bench.names(), [""; 0], "the bad file is gone");
        }
    }
}

#[test]
fn what_cannot_be_continued_is_begun_anew() {
    for manner in [Manner::NoRanges, Manner::Honest] {
        let (server, bench) = (WebServer::start(), Bench::new());
        let url = [server.serve("/x", bench.bytes.clone(), Manner::CutAfter(1000))];
        bench.get(&url).unwrap_err();
        if manner == Manner::Honest {
            // The server has another version of it now, with other bytes and another tag: what is here is of no use.
            server.serve("/x", bench.bytes.clone(), Manner::ChangingEtag);
        } else {
            server.behave("/x", manner);
        }
        let before = server.sent();
        let got = bench.get(&url).unwrap();
        assert!(got.continued_at > 0);
        bench.is_here();
        assert_eq!(server.sent() - before, LEN as u64);
    }
    let (server, bench) = (WebServer::start(), Bench::new());
    let url = server.serve("/x", bench.bytes.clone(), Manner::WrongRange);
    bench.get(&[server.serve("/z", bench.bytes.clone(), Manner::CutAfter(1000))]).unwrap_err();
    let error = bench.get(&[url]).unwrap_err();
    assert!(error.to_string().contains("another part"), "{error}");
}

#[test]
fn a_part_that_was_damaged_is_fetched_anew() {
    let (server, bench) = (WebServer::start(), Bench::new());
    let url = [server.serve("/x", bench.bytes.clone(), Manner::CutAfter(1000))];
    bench.get(&url).unwrap_err();
    let mut part = std::fs::read(bench.part()).unwrap();
    part[10] ^= 1;
    std::fs::write(bench.part(), part).unwrap();
    server.behave("/x", Manner::Honest);
    bench.get(&url).unwrap();
    bench.is_here();
}

#[test]
fn a_limit_holds() {
    let (server, bench) = (WebServer::start(), Bench::new());
    let url = [server.put("/x", bench.bytes.clone())];
    let started = Instant::now();
    bench.get_by("DIRECT", &url, Some(1_000_000)).unwrap();
    assert!(started.elapsed() >= Duration::from_millis(600), "{:?}", started.elapsed());
    bench.is_here();
}

#[test]
fn a_size_that_nobody_said_is_learned_and_not_believed() {
    let unsaid = || Bench { size: None, ..Bench::new() };
    let (one, other, bench) = (WebServer::start(), WebServer::start(), unsaid());
    let urls = [one.serve("/x", bench.bytes.clone(), Manner::CutAfter(1000)), other.put("/y", bench.bytes.clone())];
    let got = bench.get(&urls).unwrap();
    assert_eq!((got.received, got.from.len()), (LEN as u64, 2));
    bench.is_here();
    // Whoever tells another length first is found out by the digest.
    let (liar, bench) = (WebServer::start(), unsaid());
    let urls = [liar.put("/short", bench.bytes[..1000].to_vec()), other.url("/y")];
    bench.get(&urls).unwrap();
    bench.is_here();
    // A body without an end needs a length.
    let bench = unsaid();
    let error = bench.get(&[liar.serve("/endless", "", Manner::Endless)]).unwrap_err();
    assert!(error.to_string().contains("does not say how long"), "{error}");
    // The next run knows what the first one learned.
    let (server, bench) = (WebServer::start(), unsaid());
    let url = [server.serve("/x", bench.bytes.clone(), Manner::CutAfter(1000))];
    bench.get(&url).unwrap_err();
    server.behave("/x", Manner::Honest);
    assert!(bench.get(&url).unwrap().continued_at > 0);
    bench.is_here();
}

#[test]
fn a_proxy_that_lies_is_not_the_mirrors_fault() {
    for manner in [Manner::Status(404), Manner::WrongLength(5), Manner::Endless, Manner::Status(407)] {
        let (server, proxy, bench) = (WebServer::start(), WebServer::start(), Bench::new());
        let url = [server.put("/x", bench.bytes.clone())];
        proxy.serve("/x", bench.bytes.clone(), manner);
        bench.get_by(&format!("http://127.0.0.1:{};DIRECT", proxy.port()), &url, None).unwrap();
        bench.is_here();
    }
}
