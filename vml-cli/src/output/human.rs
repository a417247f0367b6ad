//! Sizes, times and lists for people.

use indicatif::{BinaryBytes, HumanCount};
use jiff::Timestamp;
use jiff::tz::TimeZone;
use vml_core::Entry;
use vml_core::tree::{LeftOut, LeftOutReason, Node, NodeKind, display_path};

/// How much an entry holds: its tree's bytes and files, its disks' data.
pub fn extent_of(entry: &Entry) -> String {
    let tree = entry.tree().map(|tree| format!("{} in {}", size(tree.stats.bytes), counted(tree.stats.files_count, "file")));
    let disks = entry.disks().count() as u64;
    let data = entry.disks().map(|disk| disk.stats.data_bytes).sum();
    let disks = (disks > 0).then(|| format!("{} on {}", size(data), counted(disks, "disk")));
    tree.into_iter().chain(disks).collect::<Vec<_>>().join(", ")
}

/// `1.21 MiB`.
pub fn size(bytes: u64) -> String {
    BinaryBytes(bytes).to_string()
}

/// `12,345`.
pub fn count(number: u64) -> String {
    HumanCount(number).to_string()
}

/// `1 file`, `2,345 files`.
pub fn counted(number: u64, what: &str) -> String {
    let ending = match (number, what) {
        (1, _) => return format!("1 {what}"),
        (_, "directory" | "entry") => return format!("{} {}ies", count(number), &what[..what.len() - 1]),
        _ => "s",
    };
    format!("{} {what}{ending}", count(number))
}

/// Local time, to the minute.
pub fn time(ms: i64) -> String {
    local(ms, "%Y-%m-%d %H:%M")
}

/// Local time with seconds and zone.
pub fn time_exact(ms: i64) -> String {
    local(ms, "%Y-%m-%d %H:%M:%S %z")
}

fn local(ms: i64, format: &str) -> String {
    match Timestamp::from_millisecond(ms) {
        Ok(time) => time.to_zoned(TimeZone::system()).strftime(format).to_string(),
        Err(_) => format!("{ms} ms"),
    }
}

/// UTC in RFC 3339, for JSON.
pub fn time_utc(ms: i64) -> String {
    Timestamp::from_millisecond(ms).map_or_else(|_| String::new(), |time| time.to_string())
}

/// `0.42 s`, `3 min 5 s`.
pub fn elapsed(ms: u64) -> String {
    match ms {
        0..=59_999 => format!("{}.{:02} s", ms / 1000, ms % 1000 / 10),
        _ => format!("{} min {} s", ms / 60_000, ms % 60_000 / 1000),
    }
}

/// The first line of a text, and a mark if there is more.
pub fn first_line(text: &str) -> String {
    let mut lines = text.lines();
    let first = lines.next().unwrap_or_default();
    let more = if lines.next().is_some() { " ..." } else { "" };
    printable(&format!("{first}{more}"))
}

/// Text without what could move a terminal's cursor.
pub fn printable(text: &str) -> String {
    text.chars().map(|c| if c.is_control() && c != '\n' && c != '\t' { '\u{fffd}' } else { c }).collect()
}

/// `rwxr-sr-x`, as `ls` writes it, with the kind's letter.
pub fn mode(node: &Node) -> String {
    let bit = |mask: u16, letter: char| if node.mode & mask != 0 { letter } else { '-' };
    let run = |run: u16, special: u16, both: char, only: char| match (node.mode & run != 0, node.mode & special != 0) {
        (true, true) => both,
        (false, true) => only,
        (true, false) => 'x',
        (false, false) => '-',
    };
    [
        node.kind.letter(),
        bit(0o400, 'r'),
        bit(0o200, 'w'),
        run(0o100, 0o4000, 's', 'S'),
        bit(0o040, 'r'),
        bit(0o020, 'w'),
        run(0o010, 0o2000, 's', 'S'),
        bit(0o004, 'r'),
        bit(0o002, 'w'),
        run(0o001, 0o1000, 't', 'T'),
        if node.xattrs.is_empty() { ' ' } else { '+' },
    ]
    .iter()
    .collect()
}

/// What a member is, in words.
pub fn kind(node: &Node) -> &'static str {
    match node.kind {
        NodeKind::File(_) => "file",
        NodeKind::Directory(_) => "directory",
        NodeKind::Symlink(_) => "symbolic link",
        NodeKind::CharDevice { .. } => "character device",
        NodeKind::BlockDevice { .. } => "block device",
        NodeKind::Fifo => "FIFO",
    }
}

/// A member's name, with its target when it is a link.
pub fn named(path: &[u8], node: &Node) -> String {
    match &node.kind {
        NodeKind::Symlink(target) => format!("{} -> {}", display_path(path), display_path(target)),
        NodeKind::Directory(_) => format!("{}/", display_path(path)),
        _ => display_path(path),
    }
}

/// A line for something that is not in an entry.
pub fn left_out(row: &LeftOut) -> String {
    let why = match row.reason {
        LeftOutReason::Excluded => "excluded",
        LeftOutReason::OtherFileSystem => "on another file system",
        LeftOutReason::Socket => "a socket",
        LeftOutReason::Unreadable => "unreadable",
    };
    let path = display_path(&row.path);
    match (row.members_count, row.reason) {
        (0, _) => format!("/{path} ({why})"),
        (n, LeftOutReason::Socket) => format!("/{path}: {n} sockets"),
        (n, _) => format!("/{path}: {n} members ({why})"),
    }
}
