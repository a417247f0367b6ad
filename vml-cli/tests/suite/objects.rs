//! Repositories in object storage, whole: the program against a server of its own for each test, which `scripts/test-objects.sh` installs.
//! `VML_TEST_MOTO` is `scripts/serve-moto.py`; `VML_TEST_S3_CARELESS` the address of a store that does not keep conditions.

use crate::support::{Host, Ran, assert_equal, make_guest, write};
use std::fs::{self, File};
use std::io::{Read as _, Write as _};
use std::net::{TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};
use vml_testkit::noise;

/// A server that is gone when it is dropped.
struct Server {
    child: Child,
    port: u16,
    log: PathBuf,
    _dir: tempfile::TempDir,
}

impl Server {
    fn start() -> Self {
        let program = std::env::var_os("VML_TEST_MOTO").expect("scripts/test-objects.sh sets it");
        let dir = tempfile::tempdir().unwrap();
        let log = dir.path().join("log");
        let port = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
        let file = File::create(&log).unwrap();
        let mut command = Command::new(program);
        command.args(["-p", &port.to_string()]).env("PYTHONUNBUFFERED", "1");
        let child = command.stdin(Stdio::null()).stdout(file.try_clone().unwrap()).stderr(file).spawn().unwrap();
        let server = Self { child, port, log, _dir: dir };
        let deadline = Instant::now() + Duration::from_secs(60);
        while !server.make_bucket() {
            assert!(Instant::now() < deadline, "{}", fs::read_to_string(&server.log).unwrap());
            std::thread::sleep(Duration::from_millis(100));
        }
        server
    }

    fn make_bucket(&self) -> bool {
        let Ok(mut stream) = TcpStream::connect(("127.0.0.1", self.port)) else { return false };
        stream.set_read_timeout(Some(Duration::from_secs(30))).unwrap();
        let request = format!("PUT /bucket HTTP/1.1\r\nHost: 127.0.0.1:{}\r\nContent-Length: 0\r\nConnection: close\r\n\r\n", self.port);
        let mut answer = String::new();
        stream.write_all(request.as_bytes()).is_ok() && stream.read_to_string(&mut answer).is_ok() && answer.contains(" 200 ")
    }

    /// The requests so far, as method and path.
    fn requests(&self) -> Vec<String> {
        let log = fs::read_to_string(&self.log).unwrap();
        let request = |line: &str| Some(line.split_once('"')?.1.split_once(" HTTP/")?.0.to_owned());
        log.lines().filter_map(request).collect()
    }
    /// A host whose repository is there.
    fn host(&self) -> Host {
        let mut host = Host::bare();
        for (name, value) in settings(&format!("http://127.0.0.1:{}", self.port)) {
            host.set(name, value);
        }
        host.set("VML_REPO", "s3://bucket/some/place");
        host.set("VML_CACHE", host.path("cache").to_str().unwrap());
        host
    }

    fn host_with_entry(&self) -> Host {
        let host = self.host();
        host.ok(["init"]);
        make_guest(&host.path("guest"));
        host.ok(["area", "add", "work", "--tree", "guest"]);
        host.ok(["save", "work", "-m", "first"]);
        host
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        _ = self.child.kill();
        _ = self.child.wait();
    }
}

fn settings(endpoint: &str) -> [(&'static str, String); 4] {
    [
        ("AWS_ENDPOINT_URL", endpoint.to_owned()),
        ("AWS_ACCESS_KEY_ID", "testing-key".to_owned()),
        ("AWS_SECRET_ACCESS_KEY", "testing-secret".to_owned()),
        ("AWS_REGION", "us-east-1".to_owned()),
    ]
}

fn make_large(dir: &Path, from: u64) {
    (0..12).for_each(|n| write(&dir.join(n.to_string()), &noise::incompressible(from + n, 4 << 20)));
}

#[test]
#[ignore = "needs a server, see scripts/test-objects.sh"]
fn a_repository_in_object_storage_does_all_that_one_in_a_directory_does() {
    let server = Server::start();
    let host = server.host_with_entry();
    assert_eq!(host.json(["stats"])["repository"], "s3://bucket/some/place");
    fs::write(host.path("guest/home/dev/notes"), "two\n").unwrap();
    make_large(&host.path("guest/large"), 0);
    host.ok(["save", "work", "-m", "second", "--tag", "kept"]);
    host.ok(["note", "kept", "a remark"]);
    let saved = host.json(["save", "work", "-m", "nothing new"]);
    assert_eq!(saved["new_bytes"], 0, "{saved}");
    let log = host.json_lines(["log", "work"]);
    assert_eq!(log.iter().map(|entry| entry["message"].as_str().unwrap()).collect::<Vec<_>>(), ["nothing new", "second", "first"]);
    assert_eq!((&log[1]["tags"][0], &log[1]["notes"][0]["text"]), (&"kept".into(), &"a remark".into()));
    assert_eq!(host.ok(["cat", "work@~2:home/dev/notes"]), "one\n");
    assert!(host.ok(["diff", "work@~2", "kept"]).contains("M home/dev/notes"));
    host.assert_builds("kept", &host.path("guest"));
    host.assert_whole();
    // Another host with another cache sees the same.
    let other = server.host();
    assert_eq!(other.json_lines(["log"]).len(), 3);
    other.assert_builds("kept", &host.path("guest"));
    other.run(["init"]).fails(3, &["a repository here already"]);
    // What only the second had goes.
    host.ok(["tag", "--remove", "kept"]);
    fs::remove_dir_all(host.path("guest/large")).unwrap();
    host.ok(["save", "work", "-m", "small again"]);
    let entries = host.json_lines(["log", "work"]);
    for entry in &entries[1..3] {
        host.ok(["forget", &entry["entry"].as_str().unwrap()[..16], "--yes"]);
    }
    let before = host.json(["stats"])["stored_bytes"].as_u64().unwrap();
    host.ok(["gc"]);
    let after = host.json(["stats"])["stored_bytes"].as_u64().unwrap();
    assert!(before > 48 << 20 && after < 1 << 20, "{before} became {after}");
    host.assert_whole();
    host.assert_builds("work@latest", &host.path("guest"));
    other.assert_whole();
    other.run(["show", &entries[1]["entry"].as_str().unwrap()[..16]]).fails(3, &["neither a tag nor"]);
    assert_eq!(other.json_lines(["log"]).len(), 2);
    // Deleted refs stay as tombstones and are not seen.
    assert_eq!(other.json_lines(["tag"]).len(), 0);
}

#[test]
#[ignore = "needs a server, see scripts/test-objects.sh"]
fn two_hosts_save_at_the_same_time() {
    let server = Server::start();
    let one = server.host_with_entry();
    let two = server.host();
    make_guest(&two.path("guest"));
    two.ok(["area", "add", "other", "--tree", "guest"]);
    for round in 0..3 {
        for (host, from) in [(&one, 100 * round), (&two, 1000 + 100 * round)] {
            make_large(&host.path("guest/own"), from);
            make_large(&host.path("guest/same"), 10_000 + 100 * round);
        }
        let start = |host: &Host, area| {
            host.command(["save", area, "-m", "at once"]).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap()
        };
        let saves = [start(&one, "work"), start(&two, "other"), start(&one, "work")];
        let ran = saves.map(|save| Ran::of(&save.wait_with_output().unwrap()));
        assert!(ran[1].code == 0 && (ran[0].code == 0 || ran[2].code == 0), "{} {} {}", ran[0].err, ran[1].err, ran[2].err);
        for ran in ran.into_iter().filter(|ran| ran.code != 0) {
            ran.fails(3, &["was changed by somebody else at the same time"]);
        }
        two.assert_whole();
        two.assert_builds("work@latest", &one.path("guest"));
        one.assert_builds("other@latest", &two.path("guest"));
    }
}

#[test]
#[ignore = "needs a server, see scripts/test-objects.sh"]
fn a_killed_save_serves_the_next_one() {
    let server = Server::start();
    let host = server.host_with_entry();
    make_large(&host.path("guest/large"), 0);
    make_large(&host.path("guest/more"), 100);
    let first = server.requests().iter().filter(|request| request.starts_with("PUT /bucket/some/place/data/")).count();
    let mut save = host.command(["save", "work", "-m", "killed"]).stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap();
    let deadline = Instant::now() + Duration::from_secs(60);
    while server.requests().iter().filter(|request| request.starts_with("PUT /bucket/some/place/data/")).count() == first {
        assert!(Instant::now() < deadline && save.try_wait().unwrap().is_none(), "it was not killed in the middle");
        std::thread::sleep(Duration::from_millis(2));
    }
    save.kill().unwrap();
    save.wait().unwrap();
    assert_eq!(host.json_lines(["log"]).len(), 1);
    let saved = host.run(["save", "work", "-m", "again", "--json"]);
    assert_eq!(saved.code, 0, "{}", saved.err);
    let saved: serde_json::Value = serde_json::from_str(&saved.out).unwrap();
    assert!(saved["new_bytes"].as_u64().unwrap() < 90 << 20, "what was stored is used: {saved}");
    host.assert_whole();
    host.assert_builds("work@latest", &host.path("guest"));
}

#[test]
#[ignore = "needs a server, see scripts/test-objects.sh"]
fn a_server_that_stops_is_an_error_in_bounded_time() {
    let mut server = Server::start();
    let host = server.host_with_entry();
    make_large(&host.path("guest/large"), 0);
    make_large(&host.path("guest/more"), 100);
    let requests = server.requests().len();
    let save = host.command(["save", "work", "-m", "cut"]).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    while server.requests().len() < requests + 8 {
        std::thread::sleep(Duration::from_millis(2));
    }
    server.child.kill().unwrap();
    server.child.wait().unwrap();
    let started = Instant::now();
    let ran = Ran::of(&save.wait_with_output().unwrap());
    ran.fails(3, &["s3://bucket/some/place/", "cannot be reached", "hint: "]);
    assert!(started.elapsed() < Duration::from_secs(240), "{:?}", started.elapsed());
    let started = Instant::now();
    host.run(["log"]).fails(3, &["cannot open the repository s3://bucket/some/place", "cannot be reached", "AWS_ENDPOINT_URL"]);
    assert!(started.elapsed() < Duration::from_secs(60), "{:?}", started.elapsed());
}

#[test]
#[ignore = "needs a server, see scripts/test-objects.sh"]
fn a_cache_that_is_damaged_deleted_or_unwritable_changes_no_answer() {
    let server = Server::start();
    let mut host = server.host_with_entry();
    let guest = host.path("guest");
    fs::write(guest.join("home/dev/notes"), "two\n").unwrap();
    host.ok(["save", "work", "-m", "second"]);
    let whole = |host: &Host, entries: usize| {
        assert_eq!(host.json_lines(["log", "work"]).len(), entries);
        assert_eq!(host.ok(["cat", "work@~1:home/dev/run.dat"]).len(), 300_000);
        host.assert_builds("work@latest", &guest);
        host.assert_whole();
    };
    whole(&host, 2);
    let copies = || fs::read_dir(host.path("cache/copies")).unwrap().map(|copy| copy.unwrap().path()).collect::<Vec<_>>();
    assert!(copies().len() >= 5, "{:?}", copies());
    for copy in copies() {
        let mut bytes = fs::read(&copy).unwrap();
        bytes.iter_mut().step_by(7).for_each(|byte| *byte ^= 0x55);
        fs::write(&copy, bytes).unwrap();
    }
    whole(&host, 2);
    for copy in copies() {
        File::options().write(true).open(&copy).unwrap().set_len(1).unwrap();
    }
    whole(&host, 2);
    host.ok(["save", "work", "-m", "third"]);
    fs::remove_dir_all(host.path("cache")).unwrap();
    host.ok(["save", "work", "-m", "fourth"]);
    whole(&host, 4);
    fs::write(host.path("file"), "no folder").unwrap();
    host.set("VML_CACHE", host.path("file/cache").to_str().unwrap());
    whole(&host, 4);
    host.ok(["save", "work", "-m", "fifth"]);
    whole(&host, 5);
}

#[test]
#[ignore = "needs a server, see scripts/test-objects.sh"]
fn commands_make_few_requests() {
    let server = Server::start();
    let host = server.host_with_entry();
    let latest = host.json_lines(["log"]).remove(0)["entry"].as_str().unwrap().to_owned();
    for n in 0..30 {
        host.ok(["save", "work", "-m", "again"]);
        host.ok(["note", &latest[..16], &format!("remark {n}")]);
    }
    let count = |args: &[&str]| {
        let before = server.requests().len();
        host.ok(args);
        server.requests()[before..].to_vec()
    };
    for (args, most) in [(&["log", "work"][..], 12), (&["log"], 12), (&["show", "work@latest"], 10), (&["ls", "work@latest:home"], 20)] {
        let requests = count(args);
        assert!(requests.len() <= most, "{args:?}: {} requests: {requests:#?}", requests.len());
    }
    let requests = count(&["save", "work", "-m", "nothing new"]);
    assert!(requests.len() <= 45, "{} requests: {requests:#?}", requests.len());
    println!("saving what did not change: {} requests", requests.len());
    fs::remove_dir_all(host.path("cache")).unwrap();
    let started = Instant::now();
    let requests = count(&["log", "work"]);
    println!("the log without a cache: {} requests in {:?}", requests.len(), started.elapsed());
}

#[test]
#[ignore = "needs a server, see scripts/test-objects.sh"]
fn what_is_wrong_is_said() {
    let server = Server::start();
    let mut host = server.host();
    host.run(["log"]).fails(3, &["cannot open the repository s3://bucket/some/place", "no repository here", "vml init"]);
    host.run(["init", "--repo", "s3://missing/x"]).fails(3, &["no such bucket"]);
    host.run(["log", "--repo", "s3://missing/x"]).fails(3, &["no such bucket"]);
    host.run(["log", "--repo", "s3:///x"]).fails(2, &["names no bucket"]);
    host.run(["log", "--repo", "s3://b/../x"]).fails(2, &["odd prefix"]);
    host.run(["log", "--repo", "ftp://b/x"]).fails(2, &["is no repository"]);
    let json = host.run(["log", "--repo", "s3://missing/x", "--json"]).fails(3, &["\"kind\":\"Io\""]);
    assert!(serde_json::from_str::<serde_json::Value>(&json.err).unwrap()["causes"].is_array());
    host.set("AWS_PROFILE", "missing");
    host.run(["log"]).fails(2, &["no profile \"missing\""]);

    let mut careless = Host::bare();
    for (name, value) in settings(&std::env::var("VML_TEST_S3_CARELESS").expect("scripts/test-objects.sh sets it")) {
        careless.set(name, value);
    }
    careless.set("VML_REPO", "s3://vml/some/place");
    careless.run(["init"]).fails(2, &["cannot hold a repository", "Use a store", "docs/object-storage.md"]);
    careless.run(["log"]).fails(3, &["no repository here"]);
}

#[test]
#[ignore = "needs a server, see scripts/test-objects.sh"]
fn profiles_are_read() {
    let server = Server::start();
    let mut host = Host::bare();
    write(&host.path("user/.aws/credentials"), b"[lab]\naws_access_key_id = K\naws_secret_access_key = S\n");
    let config = format!("[profile lab]\nregion = us-east-1\nendpoint_url = http://127.0.0.1:{}\n", server.port);
    write(&host.path("user/.aws/config"), config.as_bytes());
    host.set("AWS_PROFILE", "lab");
    assert_eq!(host.ok(["init", "--repo", "s3://bucket"]), "made a repository in s3://bucket\n");
    make_guest(&host.path("guest"));
    host.ok(["area", "add", "work", "--tree", "guest", "--repo", "s3://bucket"]);
    host.ok(["save", "work", "-m", "first", "--repo", "s3://bucket"]);
    host.ok(["build", "work@latest", "built", "--repo", "s3://bucket"]);
    assert_equal(&host.path("guest"), &host.path("built"));
    assert!(host.path("user/.cache/vml/copies").is_dir(), "the cache is in the user's cache folder");
}
