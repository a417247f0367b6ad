//! Tokens: what lets a program use the service, kept by name in `tokens.toml` of the home folder.
//!
//! A token is 256 random bits, told once. Only its BLAKE3 digest is kept: with so many random bits a fast digest is as good as a slow one, because there is
//! nothing to guess. The file is replaced as a whole and readable by its owner only; a running service sees the change.

use crate::{files, settings};
use anyhow::{Context as _, Result, bail};
use serde::{Deserialize, Serialize};
use std::fs::{self, File, OpenOptions};
use std::io::{ErrorKind as IoErrorKind, Read};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use vml_core::refs::check_name;
use vml_core::{Error, ErrorKind, IoResultExt as _};

/// What every token begins with, so that it is recognised where it should not be.
pub const PREFIX: &str = "vml_";
const FILE_MAX_LEN: u64 = 4 << 20;
const HEAD: &str = "# Tokens of `vml serve`, by the digests of their bytes. `vml token` changes this file.\n\n";

/// What a token is good for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize, clap::ValueEnum)]
#[serde(rename_all = "lowercase")]
pub enum Scope {
    /// Sees and fetches everything.
    Read,
    /// Adds entries, and reads.
    Append,
    /// Forgets entries.
    Remove,
    /// Everything.
    Admin,
}

impl Scope {
    pub fn name(self) -> &'static str {
        match self {
            Self::Read => "read",
            Self::Append => "append",
            Self::Remove => "remove",
            Self::Admin => "admin",
        }
    }

    /// Whether whoever has this one has `wanted` too.
    pub fn covers(self, wanted: Self) -> bool {
        self == Self::Admin || self == wanted || (self, wanted) == (Self::Append, Self::Read)
    }
}

/// A token, without its secret.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Token {
    pub name: String,
    pub scopes: Vec<Scope>,
    /// When it was made: milliseconds since 1970-01-01 00:00 UTC.
    pub made_ms: i64,
    /// The digest of its text.
    #[serde(with = "digest_text")]
    pub digest: blake3::Hash,
}

#[derive(Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Rows {
    #[serde(default, rename = "token")]
    tokens: Vec<Token>,
}

mod digest_text {
    use serde::{Deserialize, Deserializer, Serializer, de::Error};

    pub fn serialize<S: Serializer>(digest: &blake3::Hash, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(&digest.to_hex())
    }

    pub fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<blake3::Hash, D::Error> {
        blake3::Hash::from_hex(String::deserialize(deserializer)?).map_err(D::Error::custom)
    }
}

/// Where the tokens are: the file that is named, else that of the home folder.
pub fn path(named: Option<&Path>) -> Result<PathBuf> {
    match named {
        Some(path) => std::path::absolute(path).with_context(|| format!("cannot use {}", path.display())),
        None => Ok(settings::home()?.join("tokens.toml")),
    }
}

/// The tokens of a file; none where there is no file.
pub fn list(path: &Path) -> Result<Vec<Token>> {
    let file = match File::open(path) {
        Err(error) if error.kind() == IoErrorKind::NotFound => return Ok(Vec::new()),
        other => other.at(|| format!("cannot open {}", path.display()))?,
    };
    let mut text = String::new();
    file.take(FILE_MAX_LEN).read_to_string(&mut text).at(|| format!("cannot read {}", path.display()))?;
    let rows: Rows = toml::from_str(&text).with_context(|| format!("{} is no file of tokens", path.display()))?;
    Ok(rows.tokens)
}

/// Makes a token; returns its text, which is kept nowhere.
pub fn create(path: &Path, name: &str, scopes: &[Scope], made_ms: i64) -> Result<String> {
    check_name("a token", name)?;
    let mut scopes = scopes.to_vec();
    scopes.sort_unstable();
    scopes.dedup();
    let mut text = PREFIX.to_owned();
    for half in [settings::random_id()?, settings::random_id()?] {
        text.extend(half.iter().map(|byte| format!("{byte:02x}")));
    }
    let digest = blake3::hash(text.as_bytes());
    change(path, |tokens| {
        if tokens.iter().any(|token| token.name == name) {
            bail!(Error::new(ErrorKind::AlreadyExists, format!("there is a token {name:?} already")));
        }
        tokens.push(Token { name: name.to_owned(), scopes, made_ms, digest });
        Ok(())
    })?;
    Ok(text)
}

/// Makes a token good for nothing.
pub fn revoke(path: &Path, name: &str) -> Result<()> {
    change(path, |tokens| {
        let before = tokens.len();
        tokens.retain(|token| token.name != name);
        if tokens.len() == before {
            bail!(Error::not_found(format!("there is no token {name:?}; `vml token list` shows them")));
        }
        Ok(())
    })
}

/// Changes the file as a whole; who changes it at the same time comes after.
fn change(path: &Path, edit: impl FnOnce(&mut Vec<Token>) -> Result<()>) -> Result<()> {
    let folder = path.parent().unwrap_or(Path::new("/"));
    fs::create_dir_all(folder).at(|| format!("cannot make the folder {}", folder.display()))?;
    let lock_path = path.with_extension("lock");
    let lock = OpenOptions::new().create(true).truncate(false).write(true).mode(0o600).open(&lock_path);
    let lock = lock.at(|| format!("cannot open {}", lock_path.display()))?;
    lock.lock().at(|| format!("cannot lock {}", lock_path.display()))?;
    let mut tokens = list(path)?;
    edit(&mut tokens)?;
    let text = format!("{HEAD}{}", toml::to_string_pretty(&Rows { tokens })?);
    Ok(files::replace(path, &text, files::PRIVATE)?)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::PermissionsExt;

    #[test]
    fn tokens_are_kept_by_their_digests_for_their_owner_only() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("deep/tokens.toml");
        assert_eq!(list(&path).unwrap(), []);
        let text = create(&path, "eva", &[Scope::Append, Scope::Read, Scope::Append], 7).unwrap();
        assert!(text.len() == PREFIX.len() + 64 && text.starts_with(PREFIX));
        assert!(create(&path, "eva", &[Scope::Read], 8).is_err() && create(&path, "../x", &[Scope::Read], 8).is_err());
        let other = create(&path, "adam", &[Scope::Admin], 8).unwrap();
        assert_ne!(text, other);
        let kept = fs::read_to_string(&path).unwrap();
        assert!(!kept.contains(&text[8..]) && fs::metadata(&path).unwrap().permissions().mode() & 0o777 == 0o600);
        let tokens = list(&path).unwrap();
        assert_eq!((tokens[0].digest, tokens[0].scopes.as_slice()), (blake3::hash(text.as_bytes()), &[Scope::Read, Scope::Append][..]));
        revoke(&path, "eva").unwrap();
        assert!(revoke(&path, "eva").is_err());
        assert_eq!(list(&path).unwrap().len(), 1);
    }

    #[test]
    fn who_appends_may_read_and_who_removes_may_not() {
        assert!(Scope::Append.covers(Scope::Read) && Scope::Admin.covers(Scope::Remove) && Scope::Remove.covers(Scope::Remove));
        assert!(!Scope::Read.covers(Scope::Append) && !Scope::Append.covers(Scope::Remove) && !Scope::Remove.covers(Scope::Read));
    }
}
