//! Who asks, and what they may do.

use super::errors::Failure;
use crate::tokens::{self, PREFIX, Scope, Token};
use anyhow::Result;
use axum::http::{HeaderMap, HeaderValue, StatusCode, header};
use std::collections::HashMap;
use std::fs;
use std::net::{IpAddr, Ipv6Addr};
use std::os::unix::fs::MetadataExt;
use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

/// After so long one more is.
const WRONG_EVERY: Duration = Duration::from_secs(6);
/// Addresses that are remembered.
const ADDRESSES_MAX: usize = 4096;

/// Whoever asks.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Who {
    /// The name of the token; none without one.
    pub name: Option<String>,
    pub scopes: Vec<Scope>,
}

impl Who {
    pub fn may(&self, wanted: Scope) -> bool {
        self.scopes.iter().any(|scope| scope.covers(wanted))
    }
}

/// Tells who asks.
pub struct Auth {
    /// Without a file of tokens everybody is the same.
    file: Option<PathBuf>,
    /// What those may do who have no token.
    others: Vec<Scope>,
    /// Whether nobody needs a token, because there never was one: on a loopback address only.
    open: AtomicBool,
    known: Mutex<Known>,
    wrong: Mutex<HashMap<IpAddr, Wrong>>,
    /// Wrong tokens from one address that are answered in a row.
    wrong_max: u32,
}

/// What tells a change of the file.
type Stamp = (u64, u64, i64, i64);

#[derive(Default)]
struct Known {
    stamp: Option<Stamp>,
    tokens: Vec<Token>,
}

struct Wrong {
    count: u32,
    since: Instant,
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Auth {
    /// Everybody may do this: for somebody who was let in elsewhere.
    pub fn everybody(scopes: &[Scope]) -> Self {
        Self {
            file: None,
            others: scopes.to_vec(),
            open: AtomicBool::new(false),
            known: Mutex::default(),
            wrong: Mutex::default(),
            wrong_max: 0,
        }
    }

    /// By the tokens of a file, which may change. With `open` nobody needs one for as long as there is none.
    pub fn by_tokens(file: PathBuf, public_read: bool, open: bool, wrong_max: u32) -> Result<Self> {
        let tokens = tokens::list(&file)?;
        let others = if public_read { vec![Scope::Read] } else { Vec::new() };
        let open = AtomicBool::new(open && tokens.is_empty());
        Ok(Self { file: Some(file), others, open, known: Mutex::default(), wrong: Mutex::default(), wrong_max })
    }

    /// Whether nobody needs a token now.
    pub fn is_open(&self) -> bool {
        self.open.load(Ordering::Relaxed)
    }

    /// Who sends these headers from this address.
    pub fn identify(&self, headers: &HeaderMap, address: Option<IpAddr>) -> Result<Who, Failure> {
        let Some(file) = &self.file else { return Ok(Who { name: None, scopes: self.others.clone() }) };
        let stamp = fs::metadata(file).ok().map(|meta| (meta.ino(), meta.len(), meta.mtime(), meta.mtime_nsec()));
        let mut known = lock(&self.known);
        if known.stamp != stamp || stamp.is_none() {
            // A file that cannot be read lets nobody in.
            known.tokens = tokens::list(file).unwrap_or_default();
            known.stamp = stamp;
        }
        if !known.tokens.is_empty() {
            self.open.store(false, Ordering::Relaxed);
        }
        let Some(given) = headers.get(header::AUTHORIZATION) else {
            let scopes = if self.is_open() { vec![Scope::Append] } else { self.others.clone() };
            return Ok(Who { name: None, scopes });
        };
        let text = given.to_str().ok().and_then(|text| text.split_once(' ')).filter(|(scheme, _)| scheme.eq_ignore_ascii_case("bearer"));
        let digest = text.map(|(_, token)| blake3::hash(token.trim().as_bytes()));
        // Digests are compared in constant time, and all of them.
        let mut found = None;
        for token in &known.tokens {
            if digest.is_some_and(|digest| digest == token.digest) {
                found = Some(Who { name: Some(token.name.clone()), scopes: token.scopes.clone() });
            }
        }
        drop(known);
        found.ok_or_else(|| self.wrong(address))
    }

    /// A wrong token. A right one always is: who shares an address with somebody who errs is not kept out.
    fn wrong(&self, address: Option<IpAddr>) -> Failure {
        let now = Instant::now();
        let mut wrong = lock(&self.wrong);
        if wrong.len() >= ADDRESSES_MAX {
            wrong.retain(|_, row| now.duration_since(row.since) < WRONG_EVERY.saturating_mul(self.wrong_max));
            if wrong.len() >= ADDRESSES_MAX {
                wrong.clear();
            }
        }
        let key = address.map_or(IpAddr::V6(Ipv6Addr::UNSPECIFIED), network);
        let row = wrong.entry(key).or_insert(Wrong { count: 0, since: now });
        let passed = u32::try_from(now.duration_since(row.since).as_millis() / WRONG_EVERY.as_millis()).unwrap_or(u32::MAX);
        row.count = row.count.saturating_sub(passed);
        row.since += WRONG_EVERY * passed;
        if row.count >= self.wrong_max {
            let message = "too many wrong tokens came from this address";
            return Failure::new(StatusCode::TOO_MANY_REQUESTS, "permission_denied", message)
                .retry_after(u32::try_from(WRONG_EVERY.as_secs()).unwrap_or(6));
        }
        row.count += 1;
        unauthorized("this token is not, or not any more, good here")
    }
}

/// No token, or a wrong one.
pub fn unauthorized(message: &str) -> Failure {
    Failure::new(StatusCode::UNAUTHORIZED, "permission_denied", message)
        .with(header::WWW_AUTHENTICATE, HeaderValue::from_static("Bearer realm=\"vml\""))
}

/// An address, or the network that one who has IPv6 has.
fn network(address: IpAddr) -> IpAddr {
    match address {
        IpAddr::V6(six) => match six.to_ipv4_mapped() {
            Some(four) => IpAddr::V4(four),
            None => IpAddr::V6(Ipv6Addr::from_bits(six.to_bits() & !u128::from(u64::MAX))),
        },
        four => four,
    }
}

/// A text in which no token is left.
pub fn redact(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    let mut rest = text;
    while let Some(at) = rest.find(PREFIX) {
        let end = at + PREFIX.len();
        let len = rest[end..].find(|c: char| !c.is_ascii_alphanumeric()).unwrap_or(rest.len() - end);
        out.push_str(&rest[..end]);
        out.push_str(if len >= 16 { "***" } else { &rest[end..end + len] });
        rest = &rest[end + len..];
    }
    out.push_str(rest);
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    fn headers(value: &str) -> HeaderMap {
        HeaderMap::from_iter([(header::AUTHORIZATION, HeaderValue::from_str(value).unwrap())])
    }

    #[test]
    fn a_token_is_good_until_it_is_revoked() {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("tokens.toml");
        let auth = Auth::by_tokens(file.clone(), false, true, 10).unwrap();
        assert!(auth.is_open() && auth.identify(&HeaderMap::new(), None).unwrap().may(Scope::Append));
        let token = tokens::create(&file, "eva", &[Scope::Read], 0).unwrap();
        assert_eq!(auth.identify(&HeaderMap::new(), None).unwrap(), Who::default());
        let eva = auth.identify(&headers(&format!("Bearer {token}")), None).unwrap();
        assert!(eva.may(Scope::Read) && !eva.may(Scope::Append));
        assert_eq!(auth.identify(&headers(&format!("Basic {token}")), None).unwrap_err().status(), StatusCode::UNAUTHORIZED);
        tokens::revoke(&file, "eva").unwrap();
        assert_eq!(auth.identify(&headers(&format!("bearer {token}")), None).unwrap_err().status(), StatusCode::UNAUTHORIZED);
        // That the last one went opens nothing.
        assert!(!auth.is_open() && auth.identify(&HeaderMap::new(), None).unwrap() == Who::default());
    }

    #[test]
    fn wrong_tokens_are_slowed_down_for_their_address() {
        let dir = tempfile::tempdir().unwrap();
        let auth = Auth::by_tokens(dir.path().join("tokens.toml"), true, false, 10).unwrap();
        let ask = |last| auth.identify(&headers("Bearer vml_0"), Some(IpAddr::from([192, 0, 2, last]))).unwrap_err().status();
        for _ in 0..10 {
            assert_eq!(ask(1), StatusCode::UNAUTHORIZED);
        }
        assert_eq!(ask(1), StatusCode::TOO_MANY_REQUESTS);
        assert_eq!(ask(2), StatusCode::UNAUTHORIZED);
        let six = |text: &str| network(text.parse().unwrap());
        assert_eq!(six("2001:db8::1"), six("2001:db8::2:1"));
        assert_ne!(six("2001:db8:0:1::1"), six("2001:db8:0:2::1"));
    }

    #[test]
    fn a_token_in_a_text_is_not_told() {
        assert_eq!(redact("/e/vml_0123456789abcdef0/x?vml_a"), "/e/vml_***/x?vml_a");
    }
}
