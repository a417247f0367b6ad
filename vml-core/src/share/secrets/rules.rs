//! Rules by which secrets are known.

use super::content::ContentRules;
use globset::{GlobBuilder, GlobSet, GlobSetBuilder};
use serde::Deserialize;
use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt;
use std::path::Path;
use vml_chunk::{Error, Result};

const BUILT_IN: &str = include_str!("rules.toml");

#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
struct RulesFile {
    #[serde(default)]
    ignore_file_systems: Vec<String>,
    #[serde(default)]
    path: Vec<PathRule>,
    #[serde(default)]
    content: Vec<ContentRule>,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct PathRule {
    name: String,
    patterns: Vec<String>,
    #[serde(default)]
    not: Vec<String>,
}

/// A text that a secret begins with, and what follows it.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct ContentRule {
    pub(super) name: String,
    pub(super) begins: Vec<String>,
    #[serde(default)]
    pub(super) then_at_least: usize,
    #[serde(default)]
    pub(super) then: String,
}

/// Rules by which secrets are known.
pub struct SecretRules {
    ignore_file_systems: Vec<String>,
    paths: GlobSet,
    /// The rule of each glob of `paths`.
    path_names: Vec<String>,
    harmless: GlobSet,
    pub(super) content: ContentRules,
}

impl SecretRules {
    /// The built-in rules.
    ///
    /// # Errors
    /// None, as a test shows.
    pub fn built_in() -> Result<Self> {
        Self::with("")
    }

    /// The built-in rules with those of `extra`, a file of the same form: rules of a name that it has too are replaced.
    ///
    /// # Errors
    /// `InvalidInput` for what is no file of rules.
    pub fn with(extra: &str) -> Result<Self> {
        let parse = |text: &str| {
            toml::from_str::<RulesFile>(text).map_err(|error| Error::invalid("the rules for secrets cannot be read").because(error))
        };
        let (mut rules, extra) = (parse(BUILT_IN)?, parse(extra)?);
        rules.path.retain(|rule| extra.path.iter().all(|other| other.name != rule.name));
        rules.content.retain(|rule| extra.content.iter().all(|other| other.name != rule.name));
        rules.path.extend(extra.path);
        rules.content.extend(extra.content);
        rules.ignore_file_systems.extend(extra.ignore_file_systems);
        let (mut paths, mut harmless) = (GlobSetBuilder::new(), GlobSetBuilder::new());
        let mut path_names = Vec::new();
        for rule in rules.path {
            for pattern in &rule.patterns {
                paths.add(glob(pattern)?);
                path_names.push(rule.name.clone());
            }
            for pattern in &rule.not {
                harmless.add(glob(pattern)?);
            }
        }
        let build =
            |set: GlobSetBuilder| set.build().map_err(|error| Error::invalid("the rules for secrets cannot be read").because(error));
        Ok(Self {
            ignore_file_systems: rules.ignore_file_systems,
            paths: build(paths)?,
            path_names,
            harmless: build(harmless)?,
            content: ContentRules::new(rules.content)?,
        })
    }

    /// The rule that a path falls under.
    pub(super) fn path_rule(&self, path: &[u8]) -> Option<&str> {
        let path = Path::new(OsStr::from_bytes(path));
        let first = self.paths.matches(path).first().copied()?;
        if self.harmless.is_match(path) { None } else { self.path_names.get(first).map(String::as_str) }
    }

    pub(super) fn ignores(&self, file_system: &str) -> bool {
        self.ignore_file_systems.iter().any(|name| name.eq_ignore_ascii_case(file_system))
    }
}

fn glob(pattern: &str) -> Result<globset::Glob> {
    let glob = GlobBuilder::new(pattern).literal_separator(true).build();
    glob.map_err(|error| Error::invalid(format!("{pattern:?} is no pattern for paths")).because(error))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn paths_fall_under_the_built_in_rules() {
        let rules = SecretRules::built_in().unwrap();
        let cases: [(&str, Option<&str>); 14] = [
            ("home/dev/.ssh/id_ed25519", Some("SSH key")),
            ("home/dev/.ssh/id_ed25519.pub", None),
            ("root/.ssh/known_hosts", Some("SSH key")),
            ("etc/ssh/ssh_host_rsa_key", Some("SSH host key")),
            ("etc/ssh/ssh_host_rsa_key.pub", None),
            ("home/dev/.globus/userkey.pem", Some("grid credential")),
            ("tmp/x509up_u1000", Some("grid credential")),
            ("tmp/krb5cc_1000", Some("Kerberos credential")),
            ("etc/krb5.keytab", Some("Kerberos credential")),
            ("tmp/bt_u1000", Some("token")),
            ("home/dev/.bash_history", Some("history")),
            ("etc/machine-id", Some("machine identity")),
            ("home/dev/machine-id", None),
            ("usr/share/doc/ssh/README", None),
        ];
        for (path, rule) in cases {
            assert_eq!(rules.path_rule(path.as_bytes()), rule, "{path}");
        }
    }

    #[test]
    fn rules_of_ones_own_replace_those_of_their_name() {
        let own = "[[path]]\nname = \"history\"\npatterns = [\"secret/*\"]\n";
        let rules = SecretRules::with(own).unwrap();
        assert_eq!(rules.path_rule(b"secret/plans"), Some("history"));
        assert_eq!(rules.path_rule(b"home/dev/.bash_history"), None);
        assert_eq!(rules.path_rule(b"etc/machine-id"), Some("machine identity"));
        for bad in ["nonsense", "[[path]]\nname = \"x\"\n", "[[path]]\nname = \"x\"\npatterns = [\"[\"]\n", "[[other]]\n"] {
            assert!(SecretRules::with(bad).is_err(), "{bad}");
        }
    }
}
