//! Addresses of things on the web: `http://` and `https://`, without names and passwords.

use std::fmt;
use std::str::FromStr;
use ureq::http::Uri;
use vml_core::{Error, Result};

/// Longest address that is taken.
const MAX_LEN: usize = 4096;

/// An address with a scheme and a host.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Url(Uri);

impl FromStr for Url {
    type Err = Error;

    /// # Errors
    /// `InvalidInput` for what is no `http://` or `https://` address, or has a user's name in it.
    fn from_str(text: &str) -> Result<Self> {
        let bad = |why: &str| Error::invalid(format!("{:?} {why}", shortened(text)));
        if text.len() > MAX_LEN {
            return Err(bad("is too long for an address"));
        }
        let uri: Uri = text.parse().map_err(|_| bad("is no address"))?;
        if !matches!(uri.scheme_str(), Some("http" | "https")) {
            return Err(bad("is no address that begins with http:// or https://"));
        }
        let authority = uri.authority().ok_or_else(|| bad("names no host"))?;
        if authority.as_str().contains('@') {
            return Err(bad("has a user's name in it, which an address must not have"));
        }
        let port = authority.as_str().strip_prefix(authority.host()).unwrap_or_default();
        if authority.host().is_empty() || !(port.is_empty() || authority.port_u16().is_some()) {
            return Err(bad("names no host"));
        }
        Ok(Self(uri))
    }
}

impl Url {
    /// Whether it is `https://`.
    pub fn is_https(&self) -> bool {
        self.0.scheme_str() == Some("https")
    }

    /// The host; an address of IPv6 is in brackets.
    pub fn host(&self) -> &str {
        self.0.host().unwrap_or_default()
    }

    /// The port, where it is said or not.
    pub fn port(&self) -> u16 {
        self.0.port_u16().unwrap_or(if self.is_https() { 443 } else { 80 })
    }

    /// Host and port as the header `Host` has them.
    pub fn authority(&self) -> &str {
        self.0.authority().map_or("", |authority| authority.as_str())
    }

    /// Path and query.
    pub fn path(&self) -> &str {
        match self.0.path_and_query().map(ureq::http::uri::PathAndQuery::as_str) {
            None | Some("") => "/",
            Some(path) => path,
        }
    }

    /// The last part of the path, for people.
    pub fn file_name(&self) -> &str {
        self.0.path().rsplit('/').next().unwrap_or_default()
    }

    /// The same scheme, host and port: what may see the same secrets.
    pub fn same_origin(&self, other: &Self) -> bool {
        self.is_https() == other.is_https() && self.host().eq_ignore_ascii_case(other.host()) && self.port() == other.port()
    }

    /// Where a `Location` leads from here.
    ///
    /// # Errors
    /// `InvalidInput` as for [`from_str`](Self::from_str).
    pub fn join(&self, location: &str) -> Result<Self> {
        let scheme = if self.is_https() { "https" } else { "http" };
        let location = location.split('#').next().unwrap_or_default();
        if location.starts_with("//") {
            return format!("{scheme}:{location}").parse();
        }
        if location.starts_with('/') {
            return format!("{scheme}://{}{location}", self.authority()).parse();
        }
        let has_scheme = location.split_once(':').is_some_and(|(scheme, _)| !scheme.contains(['/', '?']));
        if has_scheme {
            return location.parse();
        }
        let path = self.0.path();
        let (path, folder) = (path.trim_start_matches('/'), path.rfind('/').unwrap_or(0));
        if location.starts_with('?') {
            return format!("{scheme}://{}/{path}{location}", self.authority()).parse();
        }
        let mut parts: Vec<&str> = self.0.path()[..folder].split('/').filter(|part| !part.is_empty()).collect();
        let (relative, query) = location.split_once('?').map_or((location, None), |(path, query)| (path, Some(query)));
        for part in relative.split('/') {
            match part {
                "." => {}
                ".." => _ = parts.pop(),
                part => parts.push(part),
            }
        }
        let query = query.map(|query| format!("?{query}")).unwrap_or_default();
        format!("{scheme}://{}/{}{query}", self.authority(), parts.join("/")).parse()
    }

    pub(super) fn uri(&self) -> &Uri {
        &self.0
    }
}

impl fmt::Display for Url {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}://{}{}", self.0.scheme_str().unwrap_or_default(), self.authority(), self.path())
    }
}

fn shortened(text: &str) -> String {
    text.chars().take(120).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn only_addresses_of_the_web_are_taken() {
        for bad in ["", "/etc/passwd", "file:///etc/passwd", "ftp://a/b", "http://", "http:///x", "http://u:p@h/", "http://h:99999/", "h/x"]
        {
            assert!(bad.parse::<Url>().is_err(), "{bad}");
        }
        let url: Url = "https://H.example:8443/a/b?c=d".parse().unwrap();
        assert_eq!((url.is_https(), url.host(), url.port(), url.path()), (true, "H.example", 8443, "/a/b?c=d"));
        assert_eq!("http://h".parse::<Url>().unwrap().to_string(), "http://h/");
        assert!(format!("http://h/{}", "a".repeat(5000)).parse::<Url>().is_err());
    }

    #[test]
    fn locations_lead_where_a_browser_would_go() {
        let base: Url = "http://h:81/a/b/c.img?x=1".parse().unwrap();
        for (location, to) in [
            ("https://other/x", "https://other/x"),
            ("//other/x", "http://other/x"),
            ("/x?y", "http://h:81/x?y"),
            ("d.img", "http://h:81/a/b/d.img"),
            ("../d.img?q=a/../b", "http://h:81/a/d.img?q=a/../b"),
            ("../../../../d", "http://h:81/d"),
            ("./d#part", "http://h:81/a/b/d"),
            ("?y=2", "http://h:81/a/b/c.img?y=2"),
        ] {
            assert_eq!(base.join(location).unwrap().to_string(), to, "{location}");
        }
        assert!(base.join("file:///etc/passwd").is_err() && base.join("http://u@h/").is_err());
    }

    #[test]
    fn an_origin_has_scheme_host_and_port() {
        let url = |text: &str| text.parse::<Url>().unwrap();
        assert!(url("http://h/a").same_origin(&url("http://H:80/b")));
        assert!(!url("http://h/a").same_origin(&url("https://h/a")));
        assert!(!url("http://h/a").same_origin(&url("http://h:8080/a")));
    }

    proptest! {
        #[test]
        fn any_text_is_read_or_refused(text in ".{0,60}", location in ".{0,60}") {
            if let Ok(url) = text.parse::<Url>() {
                prop_assert_eq!(&url.to_string().parse::<Url>().unwrap(), &url.to_string().parse::<Url>().unwrap());
            }
            let base: Url = "http://h/a/b".parse().unwrap();
            if let Ok(joined) = base.join(&location) {
                prop_assert!(joined.to_string().parse::<Url>().is_ok());
            }
        }
    }
}
