//! Exports of QEMU's own server.

use std::fs;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::thread;
use std::time::{Duration, Instant};
use vml_core::ErrorKind;
use vml_core::disk::{Disk, ExtentKind};
use vml_hv::nbd::{NbdAddress, NbdDisk, NbdOptions};
use vml_testkit::noise::incompressible;

pub fn tool(program: &str, args: &[&str], dir: &Path) {
    let output = Command::new(program).args(args).current_dir(dir).output().expect("scripts/setup.sh installs QEMU's tools");
    let error = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success() && !error.contains("failed"), "{program} {args:?}: {error}");
}

/// Whether QEMU's server is installed; without it the test says so.
pub fn has_server(test: &str) -> bool {
    let found = Command::new("qemu-nbd").arg("--version").stdout(Stdio::null()).status().is_ok();
    if !found {
        eprintln!("skipped: {test}: qemu-nbd is not installed");
    }
    found
}

struct Server(Child);

impl Server {
    fn start(args: &[&str], dir: &Path) -> Self {
        let mut command = Command::new("qemu-nbd");
        command.args(["--persistent", "--shared=6"]);
        if !args.contains(&"-p") {
            command.arg("-k").arg(dir.join("nbd"));
        }
        Self(command.args(args).current_dir(dir).spawn().unwrap())
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        _ = self.0.kill();
        _ = self.0.wait();
    }
}

/// Opens as soon as the server is there.
fn open(address: &NbdAddress, options: &NbdOptions) -> NbdDisk {
    let begun = Instant::now();
    loop {
        match NbdDisk::open(address, options) {
            Ok(disk) => return disk,
            Err(error) if begun.elapsed() > Duration::from_secs(30) => panic!("{error:?}"),
            Err(_) => thread::sleep(Duration::from_millis(20)),
        }
    }
}

fn unix(dir: &Path) -> NbdAddress {
    NbdAddress::Unix(dir.join("nbd"))
}

fn read(disk: &dyn Disk, offset: u64, len: usize) -> Vec<u8> {
    let mut buffer = vec![0xAA; len];
    disk.read_at(&mut buffer, offset).unwrap();
    buffer
}

/// Data, a hole, data, and zeros up to an end that is a multiple of nothing.
fn content() -> Vec<u8> {
    let mut bytes = vec![0; 9_000_001];
    bytes[..3_000_000].copy_from_slice(&incompressible(1, 3_000_000));
    bytes[6 << 20..(6 << 20) + 100_000].copy_from_slice(&incompressible(2, 100_000));
    bytes
}

#[test]
fn images_read_as_what_they_are() {
    if !has_server("images_read_as_what_they_are") {
        return;
    }
    let dir = tempfile::tempdir().unwrap();
    let dir = dir.path();
    let bytes = content();
    fs::write(dir.join("dense.raw"), &bytes).unwrap();
    tool("qemu-img", &["convert", "-f", "raw", "-O", "raw", "-S", "4k", "dense.raw", "a.raw"], dir);
    tool("qemu-img", &["convert", "-f", "raw", "-O", "qcow2", "dense.raw", "a.qcow2"], dir);
    for format in ["raw", "qcow2"] {
        let _server = Server::start(&["-r", "-f", format, "-x", "the disk", &format!("a.{format}")], dir);
        let options = NbdOptions { export: "the disk".to_owned(), ..NbdOptions::default() };
        let disk = open(&unix(dir), &options);
        // QEMU rounds a length up to whole sectors.
        assert_eq!(disk.len(), 9_000_448, "{format}");
        for (offset, len) in [(0, 1), (1, 511), (511, 2), (2_999_999, 70_000), ((6 << 20) - 5, 100_010), (0, 9_000_001), (8_999_999, 2)] {
            let start = usize::try_from(offset).unwrap();
            assert!(read(&disk, offset, len) == bytes[start..start + len], "{format}: {len} at {offset}");
        }
        let (mut at, mut data) = (0, 0);
        while at < disk.len() {
            let extent = disk.extent_at(at).unwrap();
            assert!(extent.len > 0 && at + extent.len <= disk.len());
            let range = usize::try_from(at).unwrap()..bytes.len().min(usize::try_from(at + extent.len).unwrap());
            match extent.kind {
                ExtentKind::Data => data += extent.len,
                _ => assert!(bytes[range].iter().all(|byte| *byte == 0), "{format}: no zeros at {at}"),
            }
            at += extent.len;
        }
        assert!((3_100_000..3_400_000).contains(&data), "{format}: {data} bytes are said to be data");
        let missing = NbdOptions { export: "another".to_owned(), ..NbdOptions::default() };
        assert_eq!(NbdDisk::open(&unix(dir), &missing).err().unwrap().kind(), ErrorKind::NotFound);
        fs::remove_file(dir.join("nbd")).unwrap();
    }
}

#[test]
fn threads_read_side_by_side_over_tcp() {
    if !has_server("threads_read_side_by_side_over_tcp") {
        return;
    }
    let dir = tempfile::tempdir().unwrap();
    let bytes = content();
    fs::write(dir.path().join("a.raw"), &bytes).unwrap();
    // Somebody else may take the port in between; then another is tried.
    let (_server, disk) = (0..10)
        .find_map(|_| {
            let port = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
            let mut server = Server::start(&["-r", "-f", "raw", "-b", "127.0.0.1", "-p", &port.to_string(), "a.raw"], dir.path());
            let address = NbdAddress::Tcp { host: "localhost".to_owned(), port };
            loop {
                match NbdDisk::open(&address, &NbdOptions::default()) {
                    Ok(disk) => return Some((server, disk)),
                    Err(_) if server.0.try_wait().unwrap().is_none() => thread::sleep(Duration::from_millis(20)),
                    Err(_) => return None,
                }
            }
        })
        .expect("a free port");
    thread::scope(|scope| {
        for number in 0..8_usize {
            let (disk, bytes) = (&disk, &bytes);
            scope.spawn(move || {
                for step in 0..40 {
                    let start = (number * 977_777 + step * 211_111) % 8_500_000;
                    assert!(read(disk, start as u64, 300_001) == bytes[start..start + 300_001], "{start}");
                    assert!(disk.extent_at(start as u64).unwrap().len > 0);
                }
            });
        }
    });
}

#[test]
fn a_dirty_bitmap_tells_what_was_written() {
    if !has_server("a_dirty_bitmap_tells_what_was_written") {
        return;
    }
    let dir = tempfile::tempdir().unwrap();
    let dir = dir.path();
    tool("qemu-img", &["create", "-q", "-f", "qcow2", "a.qcow2", "3G"], dir);
    tool("qemu-io", &["-f", "qcow2", "-c", "write -P 1 0 8M", "a.qcow2"], dir);
    tool("qemu-img", &["bitmap", "--add", "--enable", "-g", "64k", "a.qcow2", "since"], dir);
    let writes = ["write -P 2 100k 1", "write -P 2 1M 128k", "write -z 1200M 64k", "write -P 3 3145727k 1k", "discard 2047M 2M"];
    let args: Vec<&str> = writes.iter().flat_map(|write| ["-c", write]).chain(["a.qcow2"]).collect();
    tool("qemu-io", &[&["-f", "qcow2"], args.as_slice()].concat(), dir);
    let _server = Server::start(&["-r", "-f", "qcow2", "-B", "since", "a.qcow2"], dir);
    let disk = open(&unix(dir), &NbdOptions { bitmaps: vec!["since".to_owned()], ..NbdOptions::default() });
    let (k, m) = (1_u64 << 10, 1_u64 << 20);
    let expected = [64 * k..128 * k, m..m + 128 * k, 1200 * m..1200 * m + 64 * k, 2047 * m..2049 * m, 3072 * m - 64 * k..3072 * m];
    assert_eq!(disk.dirty_ranges("since").unwrap(), expected);
    assert_eq!(disk.dirty_ranges("another").unwrap_err().kind(), ErrorKind::InvalidInput);
    assert_eq!(disk.extent_at(0).unwrap().kind, ExtentKind::Data);
    assert_eq!(read(&disk, 102_399, 3), [1, 2, 1]);
    let missing = NbdOptions { bitmaps: vec!["never".to_owned()], ..NbdOptions::default() };
    assert_eq!(NbdDisk::open(&unix(dir), &missing).err().unwrap().kind(), ErrorKind::NotFound);
}

#[test]
fn a_server_that_dies_is_noticed_by_all_threads() {
    if !has_server("a_server_that_dies_is_noticed_by_all_threads") {
        return;
    }
    let dir = tempfile::tempdir().unwrap();
    fs::write(dir.path().join("a.raw"), content()).unwrap();
    let mut server = Server::start(&["-r", "-f", "raw", "a.raw"], dir.path());
    let disk = open(&unix(dir.path()), &NbdOptions::default());
    let kinds: Vec<ErrorKind> = thread::scope(|scope| {
        let readers: Vec<_> = (0..6)
            .map(|_| {
                scope.spawn(|| {
                    let mut buffer = vec![0; 1 << 20];
                    loop {
                        if let Err(error) = disk.read_at(&mut buffer, 77) {
                            return error.kind();
                        }
                    }
                })
            })
            .collect();
        thread::sleep(Duration::from_millis(100));
        server.0.kill().unwrap();
        readers.into_iter().map(|reader| reader.join().unwrap()).collect()
    });
    assert!(kinds.iter().all(|kind| matches!(kind, ErrorKind::Interrupted | ErrorKind::Io)), "{kinds:?}");
    assert!(disk.extent_at(0).is_err());
}

#[test]
fn a_server_for_one_client_serves_many_threads() {
    if !has_server("a_server_for_one_client_serves_many_threads") {
        return;
    }
    let dir = tempfile::tempdir().unwrap();
    let bytes = content();
    fs::write(dir.path().join("a.raw"), &bytes).unwrap();
    // It says that connections read the same, and accepts no second one.
    let _server = Server::start(&["--shared=1", "-r", "-f", "raw", "a.raw"], dir.path());
    let disk = open(&unix(dir.path()), &NbdOptions { limit: Duration::from_secs(2), ..NbdOptions::default() });
    thread::scope(|scope| {
        for number in 0..4_usize {
            let (disk, bytes) = (&disk, &bytes);
            scope.spawn(move || assert!(read(disk, number as u64, 2_000_000) == bytes[number..number + 2_000_000]));
        }
    });
}
