//! Finds secrets in a stream of bytes by what they begin with and what follows.

use super::rules::ContentRule;
use aho_corasick::{AhoCorasick, MatchKind};
use vml_chunk::{Error, Result};

/// Bytes behind a beginning that are looked at.
const LOOK_AHEAD: usize = 4096;

/// Content rules, ready to search.
pub(super) struct ContentRules {
    rules: Vec<ContentRule>,
    /// The rule of each text that is searched for.
    owners: Vec<usize>,
    searcher: AhoCorasick,
    longest: usize,
}

impl ContentRules {
    pub(super) fn new(rules: Vec<ContentRule>) -> Result<Self> {
        let mut owners = Vec::new();
        let mut texts: Vec<&str> = Vec::new();
        for (at, rule) in rules.iter().enumerate() {
            if rule.begins.iter().any(String::is_empty) || rule.then_at_least + rule.then.len() > LOOK_AHEAD {
                return Err(Error::invalid(format!("the rule {:?} for secrets has an impossible beginning or length", rule.name)));
            }
            texts.extend(rule.begins.iter().map(String::as_str));
            owners.resize(texts.len(), at);
        }
        let longest = texts.iter().map(|text| text.len()).max().unwrap_or(0);
        let searcher = AhoCorasick::builder().match_kind(MatchKind::Standard).build(&texts);
        let searcher = searcher.map_err(|error| Error::invalid("the rules for secrets cannot be used").because(error))?;
        Ok(Self { rules, owners, searcher, longest })
    }

    /// The rule of the first secret in `bytes`; `at_end` says that nothing follows.
    fn find(&self, bytes: &[u8], at_end: bool) -> Option<&str> {
        let mut matches = self.searcher.find_overlapping_iter(bytes);
        let found = matches.find(|found| {
            // A beginning so near to the end is looked at again with what follows.
            (at_end || found.end() + LOOK_AHEAD <= bytes.len())
                && follows(&self.rules[self.owners[found.pattern().as_usize()]], &bytes[found.end()..])
        })?;
        Some(&self.rules[self.owners[found.pattern().as_usize()]].name)
    }
}

fn is_letter(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || b"+/=_-".contains(&byte)
}

fn follows(rule: &ContentRule, rest: &[u8]) -> bool {
    let rest = rest.strip_prefix(b"\r").unwrap_or(rest);
    let rest = rest.strip_prefix(b"\n").unwrap_or(rest);
    let rest = &rest[..rest.len().min(LOOK_AHEAD)];
    let letters = rest.iter().take_while(|byte| is_letter(**byte)).count();
    letters >= rule.then_at_least && (rule.then.is_empty() || rest[letters..].starts_with(rule.then.as_bytes()))
}

/// One stream that is searched.
pub(super) struct ContentSearch<'a> {
    rules: &'a ContentRules,
    window: Vec<u8>,
    found: Option<&'a str>,
}

impl<'a> ContentSearch<'a> {
    pub(super) fn new(rules: &'a ContentRules) -> Self {
        Self { rules, window: Vec::new(), found: None }
    }

    /// Takes the next bytes; false when a secret was found and the rest need not come.
    pub(super) fn push(&mut self, bytes: &[u8]) -> bool {
        self.window.extend_from_slice(bytes);
        let keep = LOOK_AHEAD + self.rules.longest;
        if self.found.is_none() && self.window.len() >= 16 * keep {
            self.found = self.rules.find(&self.window, false);
            self.window.drain(..self.window.len() - keep);
        }
        self.found.is_none()
    }

    /// The rule of the secret that was found.
    pub(super) fn finish(self) -> Option<&'a str> {
        self.found.or_else(|| self.rules.find(&self.window, true))
    }
}

#[cfg(test)]
mod tests {
    use super::super::SecretRules;
    use super::*;

    fn search(bytes: &[u8], step: usize) -> Option<String> {
        let rules = SecretRules::built_in().unwrap();
        let mut search = ContentSearch::new(&rules.content);
        for part in bytes.chunks(step) {
            if !search.push(part) {
                break;
            }
        }
        search.finish().map(str::to_owned)
    }

    #[test]
    fn secrets_are_found_wherever_the_stream_is_cut() {
        let letters = "QUJD".repeat(20);
        let cases = [
            (format!("-----BEGIN OPENSSH PRIVATE KEY-----\n{letters}\n"), Some("private key")),
            (format!("-----BEGIN RSA PRIVATE KEY-----\r\n{letters}\n"), Some("private key")),
            ("-----BEGIN RSA PRIVATE KEY-----\nProc-Type: 4,ENCRYPTED\n".to_owned(), Some("private key")),
            ("a program that looks for -----BEGIN RSA PRIVATE KEY----- in a file".to_owned(), None),
            ("token: ghp_0123456789abcdefghij0123456789abcdefghij".to_owned(), Some("token")),
            ("a ghp_ of nothing".to_owned(), None),
            (format!("Bearer eyJ{letters}.eyJ{letters}.{letters}"), Some("token")),
            (format!("eyJ{letters}"), None),
        ];
        for (text, rule) in cases {
            for before in [0, 1, 5000, 70_000, 200_001] {
                let bytes = [vec![b'.'; before], text.clone().into_bytes(), vec![b'.'; before / 2]].concat();
                for step in [977, 8192, 1 << 20] {
                    assert_eq!(search(&bytes, step).as_deref(), rule, "{text} after {before} in steps of {step}");
                }
            }
        }
    }
}
