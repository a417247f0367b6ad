//! Which guest it is.

use super::GuestRoot;
use vml_core::entry::Fact;

/// Longest value that is kept.
const VALUE_MAX_LEN: usize = 200;

/// What a guest says about itself: `guest.os`, `guest.id`, `guest.version`, `guest.name`, `guest.kernel`, as far as it does.
pub fn facts(root: &GuestRoot) -> Vec<Fact> {
    let release = root.read("etc/os-release").or_else(|| root.read("usr/lib/os-release")).unwrap_or_default();
    let hostname = root.read("etc/hostname").map(|bytes| String::from_utf8_lossy(&bytes).trim().to_owned());
    // Kernels are named so that the newest of one series sorts last; good enough to be shown.
    release_facts(&release, hostname, root.names("lib/modules").pop())
}

/// The same from the bytes of `os-release` and what else is known.
pub fn release_facts(release: &[u8], hostname: Option<String>, kernel: Option<String>) -> Vec<Fact> {
    let mut facts = Vec::new();
    let mut add = |name: &str, value: Option<String>| {
        if let Some(value) = value.filter(|value| !value.is_empty()) {
            facts.push(Fact { name: name.to_owned(), value: value.chars().filter(|c| !c.is_control()).take(VALUE_MAX_LEN).collect() });
        }
    };
    let release = String::from_utf8_lossy(release);
    add("guest.os", variable(&release, "PRETTY_NAME"));
    add("guest.id", variable(&release, "ID"));
    add("guest.version", variable(&release, "VERSION_ID"));
    add("guest.name", hostname);
    add("guest.kernel", kernel);
    facts
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
    fn values_lose_their_quotes_and_names_match_whole() {
        let text = "PRETTY_NAME=\"Debian GNU/Linux 12\"\nVERSION_ID='12'\nID=debian\n";
        assert_eq!(variable(text, "PRETTY_NAME").as_deref(), Some("Debian GNU/Linux 12"));
        assert_eq!(variable(text, "ID").as_deref(), Some("debian"));
        assert_eq!(variable(text, "VERSION"), None);
    }
}
