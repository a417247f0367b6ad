//! Which guest it is: what it says about itself in one command.

use super::script::shell;
use super::transport::Transport;
use crate::guest::{Owners, owners_in, release_facts};
use std::collections::BTreeMap;
use std::io::Read;
use vml_core::entry::Fact;
use vml_core::{Error, ErrorKind, Result};

/// Longest answer that is read.
const ANSWER_MAX: u64 = 16 << 20;
/// Most mounted repositories that are noted.
const REPOSITORIES_MAX: usize = 50;

/// What a guest says about itself.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct GuestFacts {
    /// `guest.os`, `guest.kernel`, `guest.cernvm`, `guest.cvmfs.REPOSITORY` and so on, as far as there are such.
    pub facts: Vec<Fact>,
    /// Names of its owners.
    pub owners: Owners,
}

/// Asks a guest, whose root is `root` there.
///
/// # Errors
/// As [`Transport::run`], and `Interrupted` when the answer is not whole.
pub fn identify(transport: &dyn Transport, root: &str) -> Result<GuestFacts> {
    // A repository that hangs must not hang us; where there is no `timeout`, it is asked without.
    let script = r#"
        LC_ALL=C; export LC_ALL; R=${1%/};
        p() { printf "%s\0" "$1"; shift; "$@" 2>/dev/null | head -c 4194304 | tr -d "\000"; printf "\0"; };
        t() { if command -v timeout >/dev/null 2>&1; then timeout 10 "$@"; else "$@"; fi; };
        x() { t getfattr --absolute-names --only-values -n "user.$1" "$2" || t attr -qg "$1" "$2"; };
        if [ -r "$R/etc/os-release" ]; then p release cat "$R/etc/os-release"; else p release cat "$R/usr/lib/os-release"; fi;
        p name uname -n; p kernel uname -r; p machine uname -m;
        p passwd cat "$R/etc/passwd"; p group cat "$R/etc/group";
        p cernvm cat "$R/etc/cernvm-release"; p cernvm.boot cat /mnt/.rw/aux/ucernvm-version; p cernvm.snapshot cat /mnt/.rw/aux/cvmfs_snapshot;
        if [ -r /proc/mounts ]; then while read -r d m y o; do case "$d:$y:$m" in
        cvmfs2:*:/cvmfs/*) r=${m#/cvmfs/}; p "cvmfs.revision.$r" x revision "$m"; p "cvmfs.hash.$r" x root_hash "$m";; esac; done < /proc/mounts; fi;
        p end echo end;
    "#;
    let mut process = transport.run(&shell(script, [root]))?;
    let mut answer = Vec::new();
    let read = process.stdout().take(ANSWER_MAX).read_to_end(&mut answer);
    let place = transport.place();
    read.map_err(|error| Error::new(ErrorKind::Interrupted, format!("{place} does not say what it is")).because(error))?;
    match parse(&answer) {
        Some(facts) => process.finish().map(|_| facts),
        None => {
            let words = process.finish().map_or_else(|error| error.to_string(), |ended| ended.words());
            Err(Error::new(ErrorKind::Interrupted, format!("{place} does not say what it is: {words}")))
        }
    }
}

/// Names and values that end with NUL; `None` when the last one is missing.
fn parse(answer: &[u8]) -> Option<GuestFacts> {
    let mut said: BTreeMap<&[u8], &[u8]> = BTreeMap::new();
    let mut fields = answer.split(|byte| *byte == 0);
    while let (Some(name), Some(value)) = (fields.next(), fields.next()) {
        said.insert(name, value);
    }
    said.get(&b"end"[..]).filter(|end| end.starts_with(b"end"))?;
    let get = |name: &str| said.get(name.as_bytes()).copied().filter(|value| !value.is_empty());
    let line = |name: &str| get(name).map(|value| String::from_utf8_lossy(value).trim().to_owned());
    let mut facts = release_facts(get("release").unwrap_or_default(), line("name"), line("kernel"));
    let mut add = |name: String, value: Option<String>| {
        let plain = |text: String| text.chars().map(|c| if c.is_control() { ' ' } else { c }).take(200).collect::<String>();
        facts.extend(value.map(|value| plain(value).trim().to_owned()).filter(|value| !value.is_empty()).map(|value| Fact { name, value }));
    };
    add("guest.machine".to_owned(), line("machine"));
    for name in ["cernvm", "cernvm.boot", "cernvm.snapshot"] {
        add(format!("guest.{name}"), line(name));
    }
    let repositories = said.iter().filter_map(|(name, revision)| Some((name.strip_prefix(b"cvmfs.revision.")?, revision)));
    for (repository, revision) in repositories.take(REPOSITORIES_MAX) {
        // A repository is named like a host; anything else is not one.
        let Some(repository) = std::str::from_utf8(repository).ok().filter(|name| is_repository(name)) else { continue };
        let revision = Some(revision).filter(|revision| !revision.is_empty() && revision.iter().all(u8::is_ascii_digit));
        let hash = line(&format!("cvmfs.hash.{repository}")).filter(|hash| hash.chars().all(|c| c.is_ascii_alphanumeric() || c == '-'));
        let revision = revision.map(|revision| format!("revision {}", String::from_utf8_lossy(revision)));
        let words: Vec<String> = revision.into_iter().chain(hash.map(|hash| format!("root {hash}"))).collect();
        add(format!("guest.cvmfs.{repository}"), Some(if words.is_empty() { "mounted".to_owned() } else { words.join(" ") }));
    }
    Some(GuestFacts { facts, owners: owners_in(get("passwd"), get("group")) })
}

fn is_repository(name: &str) -> bool {
    !name.is_empty() && name.len() <= 100 && name.chars().all(|c| c.is_ascii_alphanumeric() || ".-_".contains(c))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_answer_becomes_facts_and_nonsense_does_not() {
        let answer = "release\0PRETTY_NAME=\"CernVM 4\"\nID=cernvm\n\0kernel\x004.14.1\n\0passwd\0root:x:0:0::/:/bin/sh\n\0cernvm\0\0\
            cvmfs.hash.atlas.cern.ch\0abc123\n\0cvmfs.revision.atlas.cern.ch\x00120\0cvmfs.revision.a/b\x001\0cernvm.snapshot\0aa\nHEAD\n\0end\0end\n\0";
        let known = parse(answer.as_bytes()).unwrap();
        let fact = |name: &str| known.facts.iter().find(|fact| fact.name == name).map(|fact| fact.value.as_str());
        assert_eq!(fact("guest.os"), Some("CernVM 4"));
        assert_eq!(fact("guest.kernel"), Some("4.14.1"));
        assert_eq!(fact("guest.cvmfs.atlas.cern.ch"), Some("revision 120 root abc123"));
        assert_eq!(fact("guest.cernvm.snapshot"), Some("aa HEAD"));
        assert_eq!((fact("guest.cernvm"), fact("guest.cvmfs.a/b")), (None, None));
        assert_eq!(known.owners.users[0].name, "root");
        // Without its end it is not whole.
        assert_eq!(parse(&answer.as_bytes()[..answer.len() - 9]), None);
    }
}
