//! Which guest it is.

use super::GuestRoot;
use vml_core::entry::Fact;

/// Longest value that is kept.
const VALUE_MAX_LEN: usize = 200;

/// What a guest says about itself: `guest.os`, `guest.id`, `guest.version`, `guest.name`, `guest.kernel`, `guest.cernvm`, as far as it does.
pub fn facts(root: &GuestRoot) -> Vec<Fact> {
    // Kernels are named so that the newest of one series sorts last; good enough to be shown.
    facts_in(&|path| root.read(path), root.names("lib/modules").pop())
}

/// The same of a guest whose files `read` brings, by their paths from its root.
pub fn facts_in(read: &dyn Fn(&str) -> Option<Vec<u8>>, kernel: Option<String>) -> Vec<Fact> {
    let line = |path: &str| read(path).map(|bytes| String::from_utf8_lossy(&bytes).trim().to_owned());
    let release = read("etc/os-release").or_else(|| read("usr/lib/os-release")).unwrap_or_default();
    let mut facts = release_facts(&release, line("etc/hostname"), kernel);
    facts.extend(fact("guest.cernvm", line("etc/cernvm-release")));
    facts
}

/// The same from the bytes of `os-release` and what else is known.
pub fn release_facts(release: &[u8], hostname: Option<String>, kernel: Option<String>) -> Vec<Fact> {
    let release = String::from_utf8_lossy(release);
    let said = [
        ("guest.os", variable(&release, "PRETTY_NAME")),
        ("guest.id", variable(&release, "ID")),
        ("guest.version", variable(&release, "VERSION_ID")),
        ("guest.name", hostname),
        ("guest.kernel", kernel),
    ];
    said.into_iter().filter_map(|(name, value)| fact(name, value)).collect()
}

/// A value without what a terminal would take for more than text, if there is one.
fn fact(name: &str, value: Option<String>) -> Option<Fact> {
    let value = value.filter(|value| !value.is_empty())?;
    Some(Fact { name: name.to_owned(), value: value.chars().filter(|c| !c.is_control()).take(VALUE_MAX_LEN).collect() })
}

/// The value of a shell-like assignment, without its quotes.
fn variable(text: &str, name: &str) -> Option<String> {
    let line = text.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix('='))?;
    Some(line.trim().trim_matches(['"', '\'']).to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_guest_is_known_by_its_files() {
        let read = |path: &str| match path {
            "usr/lib/os-release" => Some(b"ID=cernvm\n".to_vec()),
            "etc/cernvm-release" => Some(b"CernVM release 4\x1b[1m.5\n".to_vec()),
            _ => None,
        };
        let facts: Vec<_> = facts_in(&read, None).into_iter().map(|fact| (fact.name, fact.value)).collect();
        let fact = |name: &str, value: &str| (name.to_owned(), value.to_owned());
        assert_eq!(facts, [fact("guest.id", "cernvm"), fact("guest.cernvm", "CernVM release 4[1m.5")]);
    }

    #[test]
    fn values_lose_their_quotes_and_names_match_whole() {
        let text = "PRETTY_NAME=\"Debian GNU/Linux 12\"\nVERSION_ID='12'\nID=debian\n";
        assert_eq!(variable(text, "PRETTY_NAME").as_deref(), Some("Debian GNU/Linux 12"));
        assert_eq!(variable(text, "ID").as_deref(), Some("debian"));
        assert_eq!(variable(text, "VERSION"), None);
    }
}
