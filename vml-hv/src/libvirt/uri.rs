//! Where a domain is: `URI/DOMAIN`.

use vml_core::{Error, Result};

/// A domain of a libvirt.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DomainUri {
    /// libvirt's own URI, such as `qemu:///system`.
    pub uri: String,
    /// The domain's name or UUID.
    pub domain: String,
}

impl std::fmt::Display for DomainUri {
    /// As [`parse`](DomainUri::parse) reads it.
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let (path, parameters) = self.uri.split_once('?').map_or((self.uri.as_str(), None), |(path, rest)| (path, Some(rest)));
        // Where the URI is the root of a host, its slash is that before the domain.
        let separator = if path.ends_with('/') { "" } else { "/" };
        write!(f, "{path}{separator}{}", self.domain)?;
        parameters.map_or(Ok(()), |parameters| write!(f, "?{parameters}"))
    }
}

impl DomainUri {
    /// Reads `qemu:///system/NAME`; parameters of the URI stand at the end, as in `qemu+unix:///system/NAME?socket=PATH`.
    ///
    /// # Errors
    /// `InvalidInput` for what is none.
    pub fn parse(text: &str) -> Result<Self> {
        let bad = |why: &str| Error::invalid(format!("{text:?} is no libvirt URI with a domain, such as qemu:///system/NAME: {why}"));
        let (path, parameters) = text.split_once('?').map_or((text, None), |(path, parameters)| (path, Some(parameters)));
        let (scheme, rest) = path.split_once("://").ok_or_else(|| bad("it has no scheme"))?;
        if scheme.is_empty() || !scheme.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"+-.".contains(&byte)) {
            return Err(bad("it has no scheme"));
        }
        let (before, domain) = rest.rsplit_once('/').ok_or_else(|| bad("it names no domain"))?;
        if domain.is_empty() || text.chars().any(char::is_control) {
            return Err(bad("it names no domain"));
        }
        // `xen://host/DOMAIN` is good: Xen has one system only. The others name theirs.
        if matches!(scheme.split('+').next(), Some("qemu" | "test")) && !before.contains('/') {
            return Err(bad("it names no domain"));
        }
        let separator = if before.contains('/') { "" } else { "/" };
        let parameters = parameters.map(|parameters| format!("?{parameters}")).unwrap_or_default();
        Ok(Self { uri: format!("{scheme}://{before}{separator}{parameters}"), domain: domain.to_owned() })
    }

    /// The driver that the URI names, such as `qemu`.
    pub fn driver(&self) -> &str {
        let scheme = self.uri.split("://").next().unwrap_or_default();
        scheme.split('+').next().unwrap_or_default()
    }

    /// Whether the machine runs on another host, whose files are not here.
    pub fn is_remote(&self) -> bool {
        let (scheme, rest) = self.uri.split_once("://").unwrap_or_default();
        let transport = scheme.split_once('+').map(|(_, transport)| transport);
        let host = rest.split('/').next().unwrap_or_default();
        !host.is_empty() || matches!(transport, Some("ssh" | "tls" | "tcp" | "libssh" | "libssh2" | "ext"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_uri_has_a_domain_behind_it() {
        let parse = |text: &str| DomainUri::parse(text).map(|found| (found.uri.clone(), found.domain.clone(), found.is_remote()));
        let found = |uri: &str, domain: &str, remote| (uri.to_owned(), domain.to_owned(), remote);
        for text in ["qemu:///system/web", "qemu+unix:///system/w?socket=/run/x", "xen:///system/a", "xen://host/a"] {
            assert_eq!(DomainUri::parse(text).unwrap().to_string(), text);
        }
        assert_eq!(parse("qemu:///system/web").unwrap(), found("qemu:///system", "web", false));
        assert_eq!(parse("qemu+ssh://me@host:22/system/web 2").unwrap(), found("qemu+ssh://me@host:22/system", "web 2", true));
        assert_eq!(parse("qemu+unix:///system/w?socket=/run/x").unwrap(), found("qemu+unix:///system?socket=/run/x", "w", false));
        assert_eq!(parse("test:///default/test").unwrap(), found("test:///default", "test", false));
        assert_eq!(parse("xen:///system/a").unwrap(), found("xen:///system", "a", false));
        assert_eq!(parse("xen+ssh://host/a").unwrap(), found("xen+ssh://host/", "a", true));
        for text in ["", "web", "qemu:///system", "qemu:///system/", "://a/b", "q e://a/b", "qemu:///system/a\nb"] {
            assert!(parse(text).is_err(), "{text:?}");
        }
        assert_eq!(DomainUri::parse("qemu+tcp://h/system/a").unwrap().driver(), "qemu");
    }
}
