//! What is written is read, by this reader and by GNU tar, and the other way round.

use super::*;
use proptest::prelude::*;
use std::io::{Read, Write};
use std::ops::Range;
use vml_core::ErrorKind;
use vml_core::tree::Timestamp;

const TIME: Timestamp = Timestamp { seconds: 1_700_000_000, nanoseconds: 5 };

fn member<'a>(path: &'a [u8], data: MemberData<'a>, xattrs: &'a [(Vec<u8>, Vec<u8>)]) -> Member<'a> {
    Member { path, data, mode: 0o640, uid: 4_000_000_000, gid: 7, mtime: TIME, xattrs }
}

fn read_all(bytes: &[u8]) -> vml_core::Result<Vec<(Header, Vec<u8>)>> {
    let mut tar = TarReader::new(bytes);
    let mut members = Vec::new();
    while let Some(header) = tar.next()? {
        let mut data = Vec::new();
        // A member may announce more than there is; only what arrives is kept.
        tar.read_to_end(&mut data).map_err(|error| vml_core::Error::new(ErrorKind::Interrupted, "cut").because(error))?;
        members.push((header, data));
    }
    Ok(members)
}

fn sample() -> Vec<u8> {
    let xattrs = [(b"user.a=b%".to_vec(), b"x\n=y\0".to_vec())];
    let runs: [Range<u64>; 2] = [512..1024, 5000..5003];
    let long = [b"./".as_slice(), &[b'n'; 300]].concat();
    let mut tar = TarWriter::new(Vec::new());
    tar.member(&member(&long, MemberData::File { size: 3, runs: None }, &xattrs)).unwrap();
    tar.data(b"abc").unwrap();
    tar.member(&member(b"./s", MemberData::File { size: 9000, runs: Some(&runs) }, &[])).unwrap();
    tar.data(&[7; 515]).unwrap();
    tar.member(&member(b"./l", MemberData::Symlink(b"bad\xff\nname"), &[])).unwrap();
    tar.member(&member(b"./h", MemberData::HardLink(b"./s"), &[])).unwrap();
    tar.member(&member(b"./d", MemberData::Directory, &[])).unwrap();
    tar.member(&member(b"./c", MemberData::Device { char: true, major: 5, minor: 300 }, &[])).unwrap();
    tar.member(&member(b"./p", MemberData::Fifo, &[])).unwrap();
    tar.finish().unwrap()
}

#[test]
fn what_is_written_is_read() {
    let members = read_all(&sample()).unwrap();
    let kinds: Vec<&Kind> = members.iter().map(|(header, _)| &header.kind).collect();
    let link = Kind::Symlink(b"bad\xff\nname".to_vec());
    let device = Kind::Device { char: true, major: 5, minor: 300 };
    assert_eq!(kinds, [&Kind::File, &Kind::File, &link, &Kind::HardLink(b"./s".to_vec()), &Kind::Directory, &device, &Kind::Fifo]);
    assert_eq!((members[0].0.path.len(), members[0].1.as_slice()), (302, &b"abc"[..]));
    assert_eq!(members[0].0.xattrs, [(b"user.a=b%".to_vec(), b"x\n=y\0".to_vec())]);
    let sparse = &members[1];
    assert_eq!((sparse.0.size, sparse.0.runs.as_deref(), sparse.1.len()), (9000, Some(&[512..1024, 5000..5003][..]), 515));
}

#[test]
fn every_cut_is_noticed_and_no_flip_panics() {
    let whole = sample();
    // The end is one block of zeros; the second one may be missing.
    for len in (0..whole.len() - 2 * BLOCK + 1).step_by(7) {
        assert_eq!(read_all(&whole[..len]).unwrap_err().kind(), ErrorKind::Interrupted, "{len}");
    }
    for at in 0..whole.len() {
        for bit in [1, 0x80] {
            let mut damaged = whole.clone();
            damaged[at] ^= bit;
            _ = read_all(&damaged);
        }
    }
}

fn gnu(arguments: &[&str], dir: &std::path::Path, input: &[u8]) -> Vec<u8> {
    let mut command = std::process::Command::new("tar");
    command.args(arguments).current_dir(dir).stdin(std::process::Stdio::piped()).stdout(std::process::Stdio::piped());
    let mut child = command.spawn().unwrap();
    let mut stdin = child.stdin.take().unwrap();
    let input = input.to_vec();
    let writer = std::thread::spawn(move || _ = stdin.write_all(&input));
    let out = child.wait_with_output().unwrap();
    writer.join().unwrap();
    assert!(out.status.success(), "{arguments:?}");
    out.stdout
}

#[test]
fn gnu_tar_writes_every_sparse_version_for_this_reader() {
    let dir = tempfile::tempdir().unwrap();
    let file = std::fs::File::create(dir.path().join("s")).unwrap();
    file.set_len(4 << 20).unwrap();
    std::os::unix::fs::FileExt::write_all_at(&file, b"middle", 2 << 20).unwrap();
    for version in ["0.0", "0.1", "1.0"] {
        let version = format!("--sparse-version={version}");
        let stream = gnu(&["--create", "--file=-", "--format=posix", "--sparse", &version, "./s"], dir.path(), b"");
        let members = read_all(&stream).unwrap();
        let (header, data) = &members[0];
        assert_eq!((header.path.as_slice(), header.size, members.len()), (&b"./s"[..], 4 << 20, 1));
        let run = header.runs.as_ref().unwrap().iter().find(|run| run.contains(&(2 << 20))).unwrap();
        let before: u64 = header.runs.iter().flatten().take_while(|other| other.start < run.start).map(|run| run.end - run.start).sum();
        let at = usize::try_from(before + (2 << 20) - run.start).unwrap();
        assert_eq!(&data[at..at + 6], b"middle", "{version}");
    }
}

#[test]
fn gnu_tar_reads_what_is_written() {
    let runs: [Range<u64>; 2] = [1 << 20..(1 << 20) + 512, 2 << 20..(2 << 20) + 1];
    let long = [b"./".as_slice(), &[b'n'; 200], b"/", &[b'm'; 200]].concat();
    let mut tar = TarWriter::new(Vec::new());
    let owned = |path, data| Member {
        uid: rustix::process::geteuid().as_raw(),
        gid: rustix::process::getegid().as_raw(),
        ..member(path, data, &[])
    };
    tar.member(&owned(&long, MemberData::File { size: 3, runs: None })).unwrap();
    tar.data(b"abc").unwrap();
    tar.member(&owned(b"./s", MemberData::File { size: 3 << 20, runs: Some(&runs) })).unwrap();
    tar.data(&[&b"here"[..], &[0; 508], b"X"].concat()).unwrap();
    tar.member(&owned(b"./h", MemberData::HardLink(b"./s"))).unwrap();
    let old = Timestamp { seconds: -2, nanoseconds: 250_000_000 };
    tar.member(&Member { mtime: old, ..owned(b"./old", MemberData::Directory) }).unwrap();
    let dir = tempfile::tempdir().unwrap();
    gnu(&["--extract", "--file=-", "--preserve-permissions"], dir.path(), &tar.finish().unwrap());
    use std::os::unix::fs::MetadataExt as _;
    let meta = |name: &str| std::fs::symlink_metadata(dir.path().join(name)).unwrap();
    assert_eq!(std::fs::read(dir.path().join(std::str::from_utf8(&long).unwrap())).unwrap(), b"abc");
    let sparse = meta("s");
    assert_eq!((sparse.len(), sparse.nlink(), sparse.mode() & 0o7777), (3 << 20, 2, 0o640));
    assert_eq!((sparse.mtime(), sparse.mtime_nsec()), (TIME.seconds, 5));
    assert_eq!((meta("old").mtime(), meta("old").mtime_nsec()), (-2, 250_000_000));
    assert_eq!(&std::fs::read(dir.path().join("s")).unwrap()[1 << 20..][..5], b"here\0");
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]
    #[test]
    fn any_bytes_are_read_or_refused(bytes in proptest::collection::vec(any::<u8>(), 0..3000)) {
        _ = read_all(&bytes);
    }

    #[test]
    fn any_members_come_back(
        names in proptest::collection::vec(proptest::collection::vec(1_u8..=255, 1..300), 1..8),
        value in proptest::collection::vec(any::<u8>(), 0..2000),
    ) {
        let xattrs = [(b"user.v".to_vec(), value.clone())];
        let names: Vec<Vec<u8>> = names.into_iter().map(|name| [b"./", name.as_slice(), b"x"].concat()).collect();
        let mut tar = TarWriter::new(Vec::new());
        for name in &names {
            tar.member(&member(name, MemberData::File { size: value.len() as u64, runs: None }, &xattrs)).unwrap();
            tar.data(&value).unwrap();
        }
        let members = read_all(&tar.finish().unwrap()).unwrap();
        prop_assert_eq!(members.len(), names.len());
        for ((header, data), name) in members.iter().zip(&names) {
            prop_assert!(header.path == *name && *data == value && header.xattrs == xattrs);
        }
    }
}
