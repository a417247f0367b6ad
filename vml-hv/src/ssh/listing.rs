//! A guest's listing: what `find` says of every member, in records that end with NUL.
//!
//! ```text
//! vml-listing 1 · find's version · tar's version · the guest's time       (each ends with NUL)
//! f 644 0 0 1234 131 1 65024 1700000000.1234567890 1700000000.1234567890 · ./etc/hosts · target of a link
//! ...                                                    vml-missing · path        vml-end · status of find
//! ```
//! Without its end a listing is not whole, so a lost connection is never taken for deleted files.

use super::script::shell;
use std::io::BufRead;
use vml_core::tree::{Listed, ListedKind, Timestamp, display_path};
use vml_core::{Error, ErrorKind, Result};

/// What `find` prints of a member.
const FORMAT: &str = r"%y %m %U %G %s %i %n %D %T@ %C@\0%p\0%l\0";
/// Longest field: a path of many long names.
const FIELD_MAX: usize = 48 << 10;
/// Seconds that a time may be from 1970, so that no sum of it overflows.
const SECONDS_MAX: i64 = 1 << 50;

/// One thing in a listing.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Entry {
    /// A member.
    Member(Listed),
    /// Something that was asked for and is not there.
    Missing(Vec<u8>),
    /// It is whole; what `find` ended with.
    End(i32),
}

/// Reads a listing record by record.
pub struct ListingParser<R> {
    from: R,
}

impl<R: BufRead> ListingParser<R> {
    /// Begins at a header, or at records.
    pub fn new(from: R) -> Self {
        Self { from }
    }

    /// The header; tells whether find and tar are GNU's, and the guest's time.
    ///
    /// # Errors
    /// `UnsupportedFormat` naming what the guest lacks, `Interrupted` when it ends early, `Corrupt`.
    pub fn header(&mut self) -> Result<Timestamp> {
        if self.field()? != b"vml-listing 1" {
            return Err(Error::corrupt("the guest's answer is no listing: does its shell print something at every login?"));
        }
        let [find, tar, now] = [self.field()?, self.field()?, self.field()?];
        let lacks = |what: &str, said: &[u8]| {
            let said = if said.is_empty() { "none, or BusyBox's".to_owned() } else { display_path(&said[..said.len().min(80)]) };
            Error::new(
                ErrorKind::UnsupportedFormat,
                format!("the guest needs {what}; it has {said}. Install it there, or save its disk instead"),
            )
        };
        if !contains(&find, b"GNU findutils") {
            return Err(lacks("GNU find (package findutils)", &find));
        }
        if !contains(&tar, b"GNU tar") || tar_version(&tar).is_none_or(|version| version < (1, 27)) {
            return Err(lacks("GNU tar 1.27 or newer (package tar)", &tar));
        }
        time(&now).ok_or_else(|| Error::corrupt("the guest does not tell its time"))
    }

    /// The next record.
    ///
    /// # Errors
    /// `Interrupted` when it ends without its end, `Corrupt` for what `find` would not say.
    #[expect(clippy::should_implement_trait, reason = "an iterator would go on after an error")]
    pub fn next(&mut self) -> Result<Entry> {
        let fields = self.field()?;
        match fields.as_slice() {
            b"vml-missing" => return self.field().map(Entry::Missing),
            b"vml-end" => {
                let status = self.field()?;
                let status = std::str::from_utf8(&status).ok().and_then(|status| status.parse().ok());
                return status.map(Entry::End).ok_or_else(|| Error::corrupt("the listing has an impossible end"));
            }
            _ => {}
        }
        let (path, target) = (self.field()?, self.field()?);
        let bad = || Error::corrupt(format!("the listing has an impossible record of {}", display_path(&path)));
        member(&fields, &path, target).map(Entry::Member).ok_or_else(bad)
    }

    /// The bytes before the next NUL.
    fn field(&mut self) -> Result<Vec<u8>> {
        let mut field = Vec::new();
        loop {
            let part = match self.from.fill_buf() {
                Err(error) if error.kind() == std::io::ErrorKind::Interrupted => continue,
                other => other.map_err(|error| Error::new(ErrorKind::Interrupted, "the guest stopped listing").because(error))?,
            };
            if part.is_empty() {
                return Err(Error::new(ErrorKind::Interrupted, "the guest's listing ended before it was whole"));
            }
            let end = part.iter().position(|byte| *byte == 0);
            let len = end.unwrap_or(part.len());
            if field.len() + len > FIELD_MAX {
                return Err(Error::corrupt("the listing has a field longer than any path"));
            }
            field.extend_from_slice(&part[..len]);
            self.from.consume(len + usize::from(end.is_some()));
            if end.is_some() {
                return Ok(field);
            }
        }
    }
}

fn contains(text: &[u8], word: &[u8]) -> bool {
    text.windows(word.len()).any(|part| part == word)
}

/// The version that stands last, as in `tar (GNU tar) 1.34`.
fn tar_version(text: &[u8]) -> Option<(u32, u32)> {
    let text = std::str::from_utf8(text).ok()?;
    let (major, rest) = text.split_whitespace().last()?.split_once('.')?;
    let minor: String = rest.chars().take_while(char::is_ascii_digit).collect();
    Some((major.parse().ok()?, minor.parse().ok()?))
}

fn member(fields: &[u8], path: &[u8], target: Vec<u8>) -> Option<Listed> {
    let fields = std::str::from_utf8(fields).ok()?;
    let fields: Vec<&str> = fields.split(' ').collect();
    let [kind, mode, uid, gid, size, inode, links, device, mtime, ctime] = fields.try_into().ok()?;
    let kind = match kind {
        "f" => ListedKind::File,
        "d" => ListedKind::Directory,
        "l" => ListedKind::Symlink,
        "c" => ListedKind::CharDevice,
        "b" => ListedKind::BlockDevice,
        "p" => ListedKind::Fifo,
        "s" => ListedKind::Socket,
        _ => return None,
    };
    if target.len() > 4096 || (kind == ListedKind::Symlink) == target.is_empty() {
        return None;
    }
    Some(Listed {
        path: relative(path)?.to_vec(),
        kind,
        mode: u16::from_str_radix(mode, 8).ok().filter(|mode| *mode <= 0o7777)?,
        uid: uid.parse().ok()?,
        gid: gid.parse().ok()?,
        size: size.parse::<u64>().ok().filter(|size| i64::try_from(*size).is_ok())?,
        inode: inode.parse().ok()?,
        links: links.parse().ok()?,
        device: device.parse().ok()?,
        mtime: time(mtime.as_bytes())?,
        ctime: time(ctime.as_bytes())?,
        target,
    })
}

/// The path from the root of the tree of what find and tar call `.` or `./...`; nothing for what leads elsewhere.
pub(super) fn relative(path: &[u8]) -> Option<&[u8]> {
    if path == b"." || path == b"./" {
        return Some(b"");
    }
    let path = path.strip_prefix(b"./")?;
    let plain = path.split(|byte| *byte == b'/').all(|part| !part.is_empty() && part != b"." && part != b".." && part.len() <= 255);
    (plain && !path.contains(&0)).then_some(path)
}

/// `seconds.fraction`, where the fraction is counted upward for negative seconds too.
pub(super) fn time(text: &[u8]) -> Option<Timestamp> {
    let text = std::str::from_utf8(text).ok()?.trim();
    let (seconds, fraction) = text.split_once('.').unwrap_or((text, ""));
    let digits: String = fraction.chars().chain(std::iter::repeat('0')).take(9).collect();
    // A `date` that does not know nanoseconds prints the letter.
    let nanoseconds = if fraction.starts_with(['N', '%']) { 0 } else { digits.parse::<u32>().ok()? };
    let seconds = seconds.parse::<i64>().ok().filter(|seconds| seconds.abs() <= SECONDS_MAX)?;
    (nanoseconds < 1_000_000_000).then_some(Timestamp { seconds, nanoseconds })
}

/// What to list.
pub(super) struct Scope<'a> {
    /// The directory that is the root of the tree.
    pub(super) root: &'a str,
    /// Directories from the root, without `/` in front; empty for the whole tree.
    pub(super) dirs: &'a [String],
    /// Patterns of find's `-path`, without `./`.
    pub(super) prune: &'a [&'a str],
    pub(super) one_file_system: bool,
}

/// The command that lists a tree.
pub(super) fn list_command(scope: &Scope<'_>) -> String {
    let script = r#"
        LC_ALL=C; export LC_ALL; F=$1; cd -- "$2" || exit 97; X=$3; shift 3;
        printf "vml-listing 1\0%s\0%s\0%s\0" "$(find --version 2>/dev/null | head -n 1)" "$(tar --version 2>/dev/null | head -n 1)" "$(date +%s.%N)";
        find --version 2>/dev/null | grep -q GNU || exit 96; tar --version 2>/dev/null | grep -q GNU || exit 96;
        find -P . -maxdepth 0 -printf "$F";
        until [ "$1" = -- ]; do if [ -d "$1" ]; then find -P "$1" -maxdepth 0 -printf "$F"; fi; shift; done; shift;
        for d in "$@"; do shift; if [ -e "$d" ] || [ -h "$d" ]; then set -- "$@" "$d"; else printf "vml-missing\0%s\0" "$d"; fi; done;
        s=0; if [ $# -gt 0 ]; then if [ -n "$X" ]; then find -P "$@" $X -mindepth $M PRUNE -printf "$F"; else find -P "$@" -mindepth $M PRUNE -printf "$F"; fi; s=$?; fi;
        printf "vml-end\0%s\0" "$s";
    "#;
    let prune: Vec<String> =
        scope.prune.iter().map(|pattern| format!("-path {}", super::script::quoted(&format!("./{pattern}")))).collect();
    let prune = if prune.is_empty() { String::new() } else { format!("\\( {} \\) -prune -o", prune.join(" -o ")) };
    let whole = scope.dirs.is_empty();
    // The root was told already; a chosen directory was not.
    let script = script.replace("PRUNE", &prune).replace("-mindepth $M ", if whole { "-mindepth 1 " } else { "" });
    let mut above: Vec<String> = Vec::new();
    for dir in scope.dirs {
        for (at, _) in dir.match_indices('/') {
            let dir = format!("./{}", &dir[..at]);
            if !above.contains(&dir) {
                above.push(dir);
            }
        }
    }
    let dirs: Vec<String> = if whole { vec![".".to_owned()] } else { scope.dirs.iter().map(|dir| format!("./{dir}")).collect() };
    let fixed = [FORMAT, scope.root, if scope.one_file_system { "-xdev" } else { "" }];
    let arguments = fixed.into_iter().chain(above.iter().map(String::as_str)).chain(std::iter::once("--"));
    shell(&script, arguments.chain(dirs.iter().map(String::as_str)))
}

/// The command that lists the members whose paths it is given, each ending with NUL.
pub(super) fn look_again_command(root: &str) -> String {
    let script = r#"
        LC_ALL=C; export LC_ALL; F=$1; export F; cd -- "$2" || exit 97;
        xargs -0 -r sh -c 'exec find -P "$@" -maxdepth 0 -printf "$F"' sh;
        printf "vml-end\0%s\0" "$?";
    "#;
    shell(script, [FORMAT, root])
}

#[cfg(test)]
mod tests {
    use super::super::script::said;
    use super::*;
    use proptest::prelude::*;

    fn parse(bytes: &[u8]) -> Result<Entry> {
        ListingParser::new(bytes).next()
    }

    #[test]
    fn records_are_read_strictly() {
        let record = b"l 777 0 5 3 42 1 65024 -1.5000000000 1700000000.1234567890\0./a/b c\0x\ny\0";
        let Entry::Member(listed) = parse(record).unwrap() else { panic!("no member") };
        assert_eq!((listed.path.as_slice(), listed.target.as_slice(), listed.gid), (&b"a/b c"[..], &b"x\ny"[..], 5));
        assert_eq!(listed.mtime, Timestamp { seconds: -1, nanoseconds: 500_000_000 });
        assert_eq!(listed.ctime.nanoseconds, 123_456_789);
        for (from, to) in [("./a", "/a"), ("./a", "../a"), ("777", "17777"), ("l 7", "q 7"), ("0 5", "-1 5"), (" 42", ""), ("x\ny", "")] {
            let text = String::from_utf8(record.to_vec()).unwrap().replacen(from, to, 1);
            assert_eq!(parse(text.as_bytes()).unwrap_err().kind(), ErrorKind::Corrupt, "{to}");
        }
        assert_eq!(parse(b"vml-end\x000\0").unwrap(), Entry::End(0));
        assert_eq!(parse(&record[..record.len() - 1]).unwrap_err().kind(), ErrorKind::Interrupted);
        assert_eq!(parse(&vec![b'x'; FIELD_MAX + 1]).unwrap_err().kind(), ErrorKind::Corrupt);
    }

    #[test]
    fn a_guest_without_gnu_tools_is_told_what_it_lacks() {
        let header = |find: &str, tar: &str| {
            let bytes = format!("vml-listing 1\0{find}\0{tar}\x001700000000.5\0");
            ListingParser::new(bytes.as_bytes()).header()
        };
        assert_eq!(header("find (GNU findutils) 4.9.0", "tar (GNU tar) 1.34").unwrap().seconds, 1_700_000_000);
        let error = header("", "tar (busybox) 1.35.0").unwrap_err();
        assert!(error.to_string().contains("GNU find") && error.kind() == ErrorKind::UnsupportedFormat, "{error}");
        assert!(header("find (GNU findutils) 4.9.0", "bsdtar 3.6").unwrap_err().to_string().contains("bsdtar 3.6"));
        assert!(header("find (GNU findutils) 4.9.0", "tar (GNU tar) 1.26").is_err());
    }

    #[test]
    fn the_command_lists_a_directory_here() {
        let dir = tempfile::tempdir().unwrap();
        std::fs::create_dir_all(dir.path().join("usr/local/it's")).unwrap();
        std::fs::create_dir_all(dir.path().join("proc/1")).unwrap();
        std::fs::create_dir_all(dir.path().join("usr/share")).unwrap();
        let listed = |dirs: &[&str]| {
            let dirs: Vec<String> = dirs.iter().map(ToString::to_string).collect();
            let scope = Scope { root: dir.path().to_str().unwrap(), dirs: &dirs, prune: &["proc/*"], one_file_system: true };
            let out = std::process::Command::new("sh").args(["-c", &list_command(&scope)]).output().unwrap();
            let mut parser = ListingParser::new(out.stdout.as_slice());
            parser.header().unwrap();
            let mut paths = Vec::new();
            loop {
                match parser.next().unwrap() {
                    Entry::Member(listed) => paths.push(String::from_utf8(listed.path).unwrap()),
                    Entry::Missing(path) => paths.push(format!("no {}", display_path(&path))),
                    Entry::End(status) => {
                        assert_eq!((status, said(&String::from_utf8(out.stderr).unwrap())), (0, String::new()));
                        paths.sort();
                        return paths;
                    }
                }
            }
        };
        assert_eq!(listed(&["usr/local", "opt"]), ["", "no ./opt", "usr", "usr/local", "usr/local/it's"]);
        assert_eq!(listed(&[]), ["", "proc", "usr", "usr/local", "usr/local/it's", "usr/share"]);
    }

    proptest! {
        #[test]
        fn any_bytes_are_parsed_or_refused(bytes in proptest::collection::vec(any::<u8>(), 0..400)) {
            let mut parser = ListingParser::new(bytes.as_slice());
            _ = parser.header();
            while let Ok(entry) = parser.next() {
                if let Entry::Member(listed) = entry {
                    prop_assert!(!listed.path.starts_with(b"/") && !listed.path.split(|b| *b == b'/').any(|part| part == b".."));
                }
            }
        }
    }
}
