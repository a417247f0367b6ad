//! Merges the files of accounts of a saved state into those of a guest: `passwd`, `group`, `shadow`, `gshadow`.
//!
//! An account is known by its name. Of one that both have, the saved one counts; one that only the guest has stays. Two names
//! for one number would make one of them own what is the other's, so that is told.

use std::collections::{BTreeMap, BTreeSet};

/// Which file it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum AccountFile {
    /// `/etc/passwd`: `name:password:uid:gid:comment:home:shell`.
    Passwd,
    /// `/etc/group`: `name:password:gid:members`.
    Group,
    /// `/etc/shadow`: `name:password:...`.
    Shadow,
    /// `/etc/gshadow`: `name:password:administrators:members`.
    Gshadow,
}

impl AccountFile {
    /// The file at `path`, from the root of a guest without `/` in front.
    pub fn at(path: &[u8]) -> Option<Self> {
        match path {
            b"etc/passwd" => Some(Self::Passwd),
            b"etc/group" => Some(Self::Group),
            b"etc/shadow" => Some(Self::Shadow),
            b"etc/gshadow" => Some(Self::Gshadow),
            _ => None,
        }
    }
}

/// A number that two names would have.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Clash {
    /// The number.
    pub id: u32,
    /// The name that the saved state gives it.
    pub saved: String,
    /// The name that the guest gives it.
    pub guest: String,
}

/// What came of a merge.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Merged {
    /// The file.
    pub bytes: Vec<u8>,
    /// Names that only the guest has, which stay.
    pub kept: Vec<String>,
    /// Numbers with two names.
    pub clashes: Vec<Clash>,
}

/// Merges `saved` into `guest`: the lines of the saved file in their order, then what only the guest has.
///
/// Lines that are no accounts, such as comments and those of NIS, are the saved file's. A group keeps the members that either has
/// of those accounts that stay.
pub fn merge(file: AccountFile, guest: &[u8], saved: &[u8]) -> Merged {
    let (guest_lines, saved_lines) = (lines(guest), lines(saved));
    let guest_by_name: BTreeMap<&[u8], &[u8]> = guest_lines.iter().rev().filter_map(|line| Some((name(line)?, *line))).collect();
    let saved_names: BTreeSet<&[u8]> = saved_lines.iter().filter_map(|line| name(line)).collect();
    let mut saved_ids: BTreeMap<u32, &[u8]> = BTreeMap::new();
    saved_lines.iter().rev().filter_map(|line| Some((id(file, line)?, name(line)?))).for_each(|(id, name)| _ = saved_ids.insert(id, name));

    let has_members = matches!(file, AccountFile::Group | AccountFile::Gshadow);
    let mut bytes = Vec::with_capacity(guest.len() + saved.len());
    let mut merged = BTreeSet::new();
    for line in &saved_lines {
        // Of two lines for one name the first one counts.
        let name = name(line).filter(|name| has_members && merged.insert(*name));
        match name.and_then(|name| guest_by_name.get(name)) {
            Some(other) => bytes.extend_from_slice(&with_members(line, other)),
            None => bytes.extend_from_slice(line),
        }
        bytes.push(b'\n');
    }
    let (mut kept, mut clashes, mut seen) = (Vec::new(), Vec::new(), BTreeSet::new());
    // Lines of NIS end a file: what follows them would not be found.
    let nis = saved_lines.iter().position(|line| line.starts_with(b"+") || line.starts_with(b"-"));
    let mut own = Vec::new();
    for line in &guest_lines {
        let Some(name) = name(line).filter(|name| !saved_names.contains(name) && seen.insert(*name)) else { continue };
        let shown = |name: &[u8]| vml_core::tree::display_path(name);
        if let Some((id, saved)) = id(file, line).and_then(|id| Some((id, saved_ids.get(&id)?))) {
            clashes.push(Clash { id, saved: shown(saved), guest: shown(name) });
        }
        kept.push(shown(name));
        own.extend_from_slice(line);
        own.push(b'\n');
    }
    let place = nis.map_or(bytes.len(), |nis| bytes.split_inclusive(|byte| *byte == b'\n').take(nis).map(<[u8]>::len).sum());
    bytes.splice(place..place, own);
    Merged { bytes, kept, clashes }
}

fn lines(bytes: &[u8]) -> Vec<&[u8]> {
    bytes.split(|byte| *byte == b'\n').filter(|line| !line.is_empty()).collect()
}

/// The account's name; nothing for a comment or a line of NIS.
fn name(line: &[u8]) -> Option<&[u8]> {
    let end = line.iter().position(|byte| *byte == b':')?;
    (end > 0 && !matches!(line[0], b'#' | b'+' | b'-')).then_some(&line[..end])
}

fn id(file: AccountFile, line: &[u8]) -> Option<u32> {
    match file {
        AccountFile::Passwd | AccountFile::Group => std::str::from_utf8(line.split(|byte| *byte == b':').nth(2)?).ok()?.parse().ok(),
        AccountFile::Shadow | AccountFile::Gshadow => None,
    }
}

/// A group's line with the members of another one added.
fn with_members(line: &[u8], other: &[u8]) -> Vec<u8> {
    let fields: Vec<&[u8]> = line.split(|byte| *byte == b':').collect();
    let more = other.split(|byte| *byte == b':').nth(3);
    let ([first @ .., members], Some(more), 4) = (fields.as_slice(), more, fields.len()) else { return line.to_vec() };
    let mut all: Vec<&[u8]> = members.split(|byte| *byte == b',').filter(|member| !member.is_empty()).collect();
    for member in more.split(|byte| *byte == b',').filter(|member| !member.is_empty()) {
        if !all.contains(&member) {
            all.push(member);
        }
    }
    let all = all.join(&b","[..]);
    let mut fields = first.to_vec();
    fields.push(&all);
    fields.join(&b":"[..])
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn merged(file: AccountFile, guest: &str, saved: &str) -> (String, Merged) {
        let merged = merge(file, guest.as_bytes(), saved.as_bytes());
        (String::from_utf8(merged.bytes.clone()).unwrap(), merged)
    }

    #[test]
    fn saved_accounts_win_by_name_and_others_of_the_guest_stay() {
        let guest = "root:x:0:0::/root:/bin/sh\nbob:x:1001:1001::/home/bob:/bin/sh\nsshd:x:105:65534::/run/sshd:/bin/false\n";
        let saved = "root:x:0:0:root:/root:/bin/bash\nann:x:1001:1001::/home/ann:/bin/sh\n# a remark\n";
        let (text, merged) = merged(AccountFile::Passwd, guest, saved);
        let expected = "root:x:0:0:root:/root:/bin/bash\nann:x:1001:1001::/home/ann:/bin/sh\n# a remark\n\
            bob:x:1001:1001::/home/bob:/bin/sh\nsshd:x:105:65534::/run/sshd:/bin/false\n";
        assert_eq!(text, expected);
        assert_eq!(merged.kept, ["bob", "sshd"]);
        assert_eq!(merged.clashes, [Clash { id: 1001, saved: "ann".to_owned(), guest: "bob".to_owned() }]);
    }

    #[test]
    fn members_of_a_group_are_those_of_both() {
        let (text, merged) = merged(AccountFile::Group, "sudo:x:27:bob,ann\nlocal:x:50:\n", "sudo:x:27:ann,eve\n");
        assert_eq!(text, "sudo:x:27:ann,eve,bob\nlocal:x:50:\n");
        assert_eq!((merged.kept, merged.clashes), (vec!["local".to_owned()], Vec::new()));
        assert_eq!(self::merged(AccountFile::Gshadow, "sudo:*::bob\n", "sudo:!::\n").0, "sudo:!::bob\n");
    }

    #[test]
    fn passwords_are_the_saved_ones_and_nis_stays_last() {
        let (text, _) = merged(AccountFile::Shadow, "root:new:1::::::\nbob:b:1::::::\n", "root:old:1::::::\n+::::::::\n");
        assert_eq!(text, "root:old:1::::::\nbob:b:1::::::\n+::::::::\n");
    }

    proptest! {
        #[test]
        fn every_account_of_either_is_there_once(guest in "([a-e]:x:[0-9]{1,3}:[a-c]?\n|\n|#z\n){0,12}", saved in "([c-h]:x:[0-9]{1,3}:[a-c]?\n|:::\n|\\+\n){0,12}") {
            for file in [AccountFile::Passwd, AccountFile::Group, AccountFile::Shadow, AccountFile::Gshadow] {
                let merged = merge(file, guest.as_bytes(), saved.as_bytes());
                let names = |text: &[u8]| lines(text).iter().filter_map(|line| name(line)).map(<[u8]>::to_vec).collect::<BTreeSet<_>>();
                let expected: BTreeSet<Vec<u8>> = names(guest.as_bytes()).union(&names(saved.as_bytes())).cloned().collect();
                prop_assert_eq!(names(&merged.bytes), expected);
                // Merging again what was merged changes nothing.
                prop_assert_eq!(merge(file, &merged.bytes, saved.as_bytes()).bytes, merged.bytes);
            }
        }

        #[test]
        fn any_bytes_can_be_merged(guest in proptest::collection::vec(any::<u8>(), 0..200), saved in proptest::collection::vec(any::<u8>(), 0..200)) {
            let merged = merge(AccountFile::Group, &guest, &saved);
            prop_assert!(merged.bytes.len() <= guest.len() * 2 + saved.len() * 2 + 2);
        }
    }
}
