//! What a server at the other end of a wire says.

use std::io::{self, Read, Write};
use std::time::Duration;
use vml_hv::nbd::{Link, Session, Wanted};
use vml_hv::ssh::tar::{Kind, TarReader};
use vml_hv::ssh::{ListingEntry, ListingParser};

/// A server that has said everything beforehand, and listens to nothing.
struct Said<'a>(&'a [u8]);

impl Read for Said<'_> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        self.0.read(buffer)
    }
}

impl Write for Said<'_> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl Link for Said<'_> {}

/// Requests of one session, one after the other, while the server says something that can be understood.
const REQUESTS: u32 = 16;
/// Bytes of a request.
const REQUEST_LEN: u32 = 512;

/// A handshake with an NBD server, then reads and questions about extents in turn.
pub fn nbd_server(bytes: &[u8]) {
    let contexts = ["base:allocation".to_owned(), "qemu:allocation-depth".to_owned()];
    let Ok(mut session) = Session::open(Said(bytes), &Wanted { export: "", contexts: &contexts }, Duration::ZERO) else { return };
    let export = session.export();
    assert!(export.block_len.is_power_of_two() && export.block_len <= 64 << 10, "impossible blocks");
    assert!((export.block_len..=4 << 20).contains(&export.read_max), "impossible requests");
    assert!(export.read_max.is_multiple_of(export.block_len) && i64::try_from(export.len).is_ok(), "an impossible export");
    let known: Vec<bool> = session.contexts().collect();
    for number in 0..REQUESTS {
        let offset = u64::from(number) * 512;
        let understood = if number % 2 == 0 {
            session.read(&mut vec![0; REQUEST_LEN as usize], offset).is_ok()
        } else {
            let answer = session.block_status(offset, REQUEST_LEN);
            for (extents, known) in answer.iter().flatten().zip(&known) {
                assert_eq!(!extents.is_empty(), *known, "extents of what is not known, or none of what is");
                assert!(extents.iter().all(|(len, _)| *len > 0), "an empty extent");
                assert!(extents.windows(2).all(|pair| pair[0].1 != pair[1].1), "neighbours that are alike");
                assert!(extents.iter().map(|(len, _)| u64::from(*len)).sum::<u64>() <= u64::from(REQUEST_LEN), "more than was asked");
            }
            answer.is_ok()
        };
        assert!(!(understood && session.is_lost()), "an answer from a connection that is lost");
        if session.is_lost() {
            assert!(session.read(&mut [0; 512], 0).is_err(), "a connection that was lost says something");
            return;
        }
    }
}

/// Bytes that are read of one member; what one announces may be any length.
const MEMBER_MAX: u64 = 1 << 16;

/// A tar stream from a guest, as it is and with the sums of its headers made right.
pub fn tar_stream(bytes: &[u8]) {
    for stream in [bytes.to_vec(), crate::seal::tar_headers(bytes)] {
        let mut tar = TarReader::new(stream.as_slice());
        while let Ok(Some(header)) = tar.next() {
            assert!(!header.path.is_empty() && !header.path.contains(&0), "an impossible path");
            assert!(header.kind == Kind::File || header.size == 0, "bytes of what has none");
            assert!(header.xattrs.is_sorted_by(|a, b| a.0 < b.0), "attributes are not sorted");
            let mut end = 0;
            for run in header.runs.iter().flatten() {
                assert!(run.start >= end && run.start < run.end && run.end <= header.size, "a run leaves its file");
                end = run.end;
            }
            let mut member = Vec::new();
            _ = (&mut tar).take(MEMBER_MAX).read_to_end(&mut member);
            assert!(member.len() as u64 <= header.size, "more bytes than the member has");
        }
    }
}

/// A listing from a guest: no path leads out of its tree.
pub fn ssh_listing(bytes: &[u8]) {
    let mut parser = ListingParser::new(bytes);
    _ = parser.header();
    while let Ok(entry) = parser.next() {
        if let ListingEntry::Member(listed) = entry {
            let parts = listed.path.split(|byte| *byte == b'/');
            let plain = listed.path.is_empty() || parts.into_iter().all(|part| !part.is_empty() && part != b"." && part != b"..");
            assert!(plain && !listed.path.contains(&0), "a path leads out of its tree");
            assert!(listed.mode <= 0o7777 && listed.mtime.nanoseconds < 1_000_000_000, "an impossible mode or time");
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Damage is worth trying only to what is understood while it is whole.
    #[test]
    fn the_seeds_are_understood() {
        let contexts = ["base:allocation".to_owned(), "qemu:allocation-depth".to_owned()];
        let wanted = Wanted { export: "", contexts: &contexts };
        let seeds = crate::seeds::nbd_server();
        let open = |name: &str| {
            let (_, bytes) = seeds.iter().find(|(seed, _)| *seed == name).expect(name);
            Session::open(Said(bytes), &wanted, Duration::ZERO).expect("an honest handshake")
        };
        let mut session = open("chunks");
        let mut buffer = [9; 512];
        session.read(&mut buffer, 0).expect("data and a hole");
        assert!(buffer[..508] == [0; 508] && buffer[508..] == [1, 2, 3, 4]);
        assert_eq!(session.block_status(512, 512).expect("extents"), [vec![(256, 0), (256, 3)], vec![(128, 1), (384, 0)]]);
        assert!(session.read(&mut buffer, 1024).is_err() && session.block_status(1536, 512).is_err() && !session.is_lost());
        let mut session = open("simple");
        session.read(&mut buffer, 0).expect("bytes");
        assert_eq!(buffer, [7; 512]);
        assert!(session.block_status(512, 512).is_err() && session.read(&mut buffer, 1024).is_err() && !session.is_lost());
    }
}
