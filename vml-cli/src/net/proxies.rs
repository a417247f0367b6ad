//! Which ways lead out: lists of proxies as CVMFS writes them, and the variables that every program knows.
//!
//! ```text
//! http://a:3128|http://b:3128;http://c:3128;DIRECT
//! └──── a group, by turns ───┘└ the next ──┘└ none
//! ```

use super::url::Url;
use std::fmt;
use std::net::IpAddr;
use vml_core::{Error, Result};

/// Most proxies of one list.
const PROXIES_MAX: usize = 256;
/// Longest list.
const TEXT_MAX_LEN: usize = 64 << 10;

/// One way: straight to the server, or by a proxy.
#[derive(Clone, PartialEq, Eq, Hash)]
pub enum Hop {
    /// Straight.
    Direct,
    /// By a proxy of HTTP.
    Proxy(Proxy),
}

/// A proxy, with a login where it wants one.
#[derive(Clone, PartialEq, Eq, Hash)]
pub struct Proxy {
    /// Its address without the login.
    pub url: Url,
    /// `user:password` as it stands in the list, percent-encoded.
    pub login: Option<String>,
}

impl fmt::Display for Hop {
    /// As it stands in a list, without the login.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Direct => f.write_str("DIRECT"),
            Self::Proxy(proxy) => f.write_str(proxy.url.to_string().trim_end_matches('/')),
        }
    }
}

impl fmt::Debug for Hop {
    // A password must not get into a log.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl Hop {
    /// Reads `DIRECT` or a proxy; one without a scheme is of HTTP.
    ///
    /// # Errors
    /// `InvalidInput` for anything else.
    pub fn parse(text: &str) -> Result<Self> {
        if text.eq_ignore_ascii_case("DIRECT") {
            return Ok(Self::Direct);
        }
        let bad = || Error::invalid("a proxy is written as http://HOST:PORT, with USER:PASSWORD@ before the host where it wants a login");
        let (scheme, rest) = text.split_once("://").unwrap_or(("http", text));
        if !matches!(scheme, "http" | "https") {
            return Err(Error::invalid(format!(
                "proxies of the kind {:?} are not known, only http and https",
                scheme.get(..20).unwrap_or(scheme)
            )));
        }
        let (login, host) = match rest.rsplit_once('@') {
            Some((login, host)) => (Some(login), host),
            None => (None, rest),
        };
        let url: Url = format!("{scheme}://{host}").parse().map_err(|error: Error| bad().because(error))?;
        if url.path() != "/" || login.is_some_and(|login| login.is_empty() || login.contains(['/', ' ']) || !login.is_ascii()) {
            return Err(bad());
        }
        Ok(Self::Proxy(Proxy { url, login: login.map(str::to_owned) }))
    }
}

/// Ways in groups: those of one group by turns, the next group when all of one have failed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ProxyList {
    groups: Vec<Vec<Hop>>,
}

impl ProxyList {
    /// Straight to the server only.
    pub fn direct() -> Self {
        Self { groups: vec![vec![Hop::Direct]] }
    }

    /// Reads a list as CVMFS has it in `CVMFS_HTTP_PROXY`; quotes around it are passed over.
    ///
    /// # Errors
    /// `InvalidInput` for an empty list, one that is too long, and what is no proxy.
    pub fn parse(text: &str) -> Result<Self> {
        if text.len() > TEXT_MAX_LEN {
            return Err(Error::invalid("the list of proxies is too long"));
        }
        let text = text.trim();
        let text = text.strip_prefix('"').and_then(|text| text.strip_suffix('"')).unwrap_or(text);
        let mut groups = Vec::new();
        for group in text.split(';') {
            let mut hops = Vec::new();
            for hop in group.split('|').map(str::trim).filter(|hop| !hop.is_empty()) {
                let hop = Hop::parse(hop)?;
                if !hops.contains(&hop) {
                    hops.push(hop);
                }
            }
            if !hops.is_empty() {
                groups.push(hops);
            }
        }
        if groups.is_empty() {
            return Err(Error::invalid("the list of proxies is empty: write DIRECT for none"));
        }
        if groups.iter().map(Vec::len).sum::<usize>() > PROXIES_MAX {
            return Err(Error::invalid(format!("the list has more than {PROXIES_MAX} proxies")));
        }
        Ok(Self { groups })
    }

    /// One proxy after the other, in this order. Empty for none.
    pub fn in_order(hops: impl IntoIterator<Item = Hop>) -> Self {
        Self { groups: hops.into_iter().map(|hop| vec![hop]).collect() }
    }

    /// As CVMFS reads it, logins and all.
    pub fn with_logins(&self) -> String {
        let hop = |hop: &Hop| match hop {
            Hop::Proxy(Proxy { login: Some(login), .. }) => hop.to_string().replacen("://", &format!("://{login}@"), 1),
            other => other.to_string(),
        };
        let group = |group: &Vec<Hop>| group.iter().map(hop).collect::<Vec<_>>().join("|");
        self.groups.iter().map(group).collect::<Vec<_>>().join(";")
    }

    /// Its groups, none of them empty.
    pub fn groups(&self) -> &[Vec<Hop>] {
        &self.groups
    }
}

impl fmt::Display for ProxyList {
    /// As [`parse`](Self::parse) reads it, without logins.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let group = |group: &Vec<Hop>| group.iter().map(ToString::to_string).collect::<Vec<_>>().join("|");
        f.write_str(&self.groups.iter().map(group).collect::<Vec<_>>().join(";"))
    }
}

/// The variables of the environment that name proxies, as they are; lower case counts before upper case.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Variables {
    pub http_proxy: Option<String>,
    pub https_proxy: Option<String>,
    pub all_proxy: Option<String>,
    pub no_proxy: Option<String>,
}

/// Which list is for which address.
#[derive(Debug, Clone)]
pub struct Rules {
    http: ProxyList,
    https: ProxyList,
    no_proxy: Vec<Exception>,
    direct: ProxyList,
}

impl Rules {
    /// Straight to every server.
    pub fn direct() -> Self {
        Self::of(ProxyList::direct())
    }

    /// One list for every address but those of this host.
    pub fn of(list: ProxyList) -> Self {
        Self { http: list.clone(), https: list, no_proxy: Vec::new(), direct: ProxyList::direct() }
    }

    /// Reads the variables.
    ///
    /// # Errors
    /// `InvalidInput` naming the variable that is no proxy.
    pub fn from_variables(variables: &Variables) -> Result<Self> {
        let list = |name: &str, text: &Option<String>| match text.as_deref().map(str::trim).filter(|text| !text.is_empty()) {
            None => Ok(None),
            Some(text) => ProxyList::parse(text).map(Some).map_err(|error| error.context(format!("{name} names no proxy"))),
        };
        let all = list("ALL_PROXY", &variables.all_proxy)?.unwrap_or_else(ProxyList::direct);
        Ok(Self {
            http: list("HTTP_PROXY", &variables.http_proxy)?.unwrap_or_else(|| all.clone()),
            https: list("HTTPS_PROXY", &variables.https_proxy)?.unwrap_or(all),
            no_proxy: exceptions(variables.no_proxy.as_deref().unwrap_or_default()),
            direct: ProxyList::direct(),
        })
    }

    /// The same with other lists, and the exceptions that it has.
    pub fn with_list(self, list: ProxyList) -> Self {
        Self { http: list.clone(), https: list, ..self }
    }

    /// The same with every list of proxies changed.
    pub fn each(self, change: impl Fn(&ProxyList) -> ProxyList) -> Self {
        let same = self.http == self.https;
        let http = change(&self.http);
        let https = if same { http.clone() } else { change(&self.https) };
        Self { http, https, ..self }
    }

    /// The ways to an address.
    pub fn ways(&self, url: &Url) -> &ProxyList {
        match url {
            url if self.no_proxy.iter().any(|exception| exception.fits(url)) => &self.direct,
            url if url.is_https() => &self.https,
            _ => &self.http,
        }
    }
}

/// An item of `NO_PROXY`.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Exception {
    All,
    /// A host and everything below it, with a port or any.
    Host(String, Option<u16>),
    /// Addresses whose first bits are these.
    Net(IpAddr, u8),
}

fn exceptions(text: &str) -> Vec<Exception> {
    let text = text.get(..TEXT_MAX_LEN).unwrap_or(text);
    text.split([',', ' ']).map(str::trim).filter(|item| !item.is_empty()).filter_map(exception).collect()
}

fn exception(item: &str) -> Option<Exception> {
    if item == "*" {
        return Some(Exception::All);
    }
    let bare = |item: &str| item.trim_start_matches('[').trim_end_matches(']').parse::<IpAddr>().ok();
    if let Some((net, bits)) = item.split_once('/') {
        let (net, bits) = (bare(net)?, bits.parse::<u8>().ok()?);
        return (bits <= if net.is_ipv4() { 32 } else { 128 }).then_some(Exception::Net(net, bits));
    }
    if let Some(address) = bare(item) {
        return Some(Exception::Net(address, if address.is_ipv4() { 32 } else { 128 }));
    }
    let (host, port) = match item.rsplit_once(':') {
        Some((host, port)) => (host, Some(port.parse().ok()?)),
        None => (item, None),
    };
    let host = host.trim_start_matches('*').trim_start_matches('.').trim_end_matches('.').to_ascii_lowercase();
    (!host.is_empty()).then_some(Exception::Host(host, port))
}

impl Exception {
    fn fits(&self, url: &Url) -> bool {
        let host = url.host().trim_start_matches('[').trim_end_matches(']').trim_end_matches('.').to_ascii_lowercase();
        match self {
            Self::All => true,
            Self::Host(name, port) => {
                let below = host.strip_suffix(name.as_str()).is_some_and(|front| front.is_empty() || front.ends_with('.'));
                below && port.is_none_or(|port| port == url.port())
            }
            Self::Net(net, bits) => match (host.parse::<IpAddr>(), net) {
                (Ok(IpAddr::V4(host)), IpAddr::V4(net)) => (host.to_bits() ^ net.to_bits()).leading_zeros() >= u32::from(*bits),
                (Ok(IpAddr::V6(host)), IpAddr::V6(net)) => (host.to_bits() ^ net.to_bits()).leading_zeros() >= u32::from(*bits),
                _ => false,
            },
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn a_list_of_cvmfs_is_read_and_written() {
        let text = "http://a:3128|http://b:3128;http://c:3128;DIRECT";
        let list = ProxyList::parse(text).unwrap();
        assert_eq!(list.groups().iter().map(Vec::len).collect::<Vec<_>>(), [2, 1, 1]);
        assert_eq!(list.groups()[2], [Hop::Direct]);
        assert_eq!(list.to_string(), text);
        assert_eq!(ProxyList::parse(&format!("  \"{text}\" ")).unwrap(), list, "quotes of a shell");
        assert_eq!(ProxyList::parse("direct").unwrap(), ProxyList::direct());
        assert_eq!(ProxyList::parse("a:3128||a:3128;;").unwrap().to_string(), "http://a:3128", "nobody twice, no empty group");
        for bad in ["", ";;", "\"\"", "socks5://a:1", "http://", "http://a/path", "http://a:x", "http://a b:1", "auto"] {
            assert!(ProxyList::parse(bad).is_err() || bad == "auto", "{bad:?}");
        }
        assert!(ProxyList::parse(&vec!["http://a:1"; 10_000].join(";")).is_err());
    }

    #[test]
    fn a_login_is_kept_and_never_shown() {
        let list = ProxyList::parse("http://eva:s3cr%40t@a:3128").unwrap();
        let Hop::Proxy(proxy) = &list.groups()[0][0] else { panic!("a proxy") };
        assert_eq!(proxy.login.as_deref(), Some("eva:s3cr%40t"));
        assert!(!format!("{list} {list:?}").contains("s3cr"));
        assert_eq!(ProxyList::parse(&list.with_logins()).unwrap(), list);
    }

    #[test]
    fn variables_choose_by_scheme_and_except_hosts() {
        let some = |text: &str| Some(text.to_owned());
        let variables = Variables {
            http_proxy: some("http://web:3128"),
            https_proxy: some("tls:3129"),
            all_proxy: some("http://all:1"),
            no_proxy: some("localhost, .inside.org,*.lab,host.org:8080,10.0.0.0/8,[::1],nonsense/x"),
        };
        let rules = Rules::from_variables(&variables).unwrap();
        let ways = |url: &str| rules.ways(&url.parse().unwrap()).to_string();
        assert_eq!(ways("http://example.org/x"), "http://web:3128");
        assert_eq!(ways("https://example.org/x"), "http://tls:3129");
        for direct in [
            "http://localhost:8000/",
            "http://a.inside.org/",
            "http://inside.org/",
            "http://x.lab",
            "https://host.org:8080",
            "http://10.1.2.3/",
            "http://[::1]:80/",
        ] {
            assert_eq!(ways(direct), "DIRECT", "{direct}");
        }
        for by in ["http://host.org/", "http://notinside.org/", "http://11.0.0.1/", "http://[::2]/"] {
            assert_eq!(ways(by), "http://web:3128", "{by}");
        }
        let all = Rules::from_variables(&Variables { all_proxy: some("http://all:1"), ..Variables::default() }).unwrap();
        assert_eq!(all.ways(&"https://h/".parse().unwrap()).to_string(), "http://all:1");
        assert_eq!(Rules::from_variables(&Variables::default()).unwrap().ways(&"http://h/".parse().unwrap()), &ProxyList::direct());
        let star = Variables { http_proxy: some("http://web:1"), no_proxy: some("*"), ..Variables::default() };
        assert_eq!(Rules::from_variables(&star).unwrap().ways(&"http://h/".parse().unwrap()), &ProxyList::direct());
        let bad = Rules::from_variables(&Variables { http_proxy: some("gopher://x"), ..Variables::default() }).unwrap_err();
        assert!(bad.to_string().contains("HTTP_PROXY"), "{bad}");
    }

    proptest! {
        #[test]
        fn any_text_is_read_or_refused(text in "(http://|[a-c:@|;,/ \"\\[\\]0-9.]|DIRECT|https://|\\PC){0,30}", host in "[a-z0-9.:\\[\\]]{1,20}") {
            if let Ok(list) = ProxyList::parse(&text) {
                prop_assert!(!list.groups().is_empty() && list.groups().iter().all(|group| !group.is_empty()));
                // What is written without logins is read again.
                prop_assert_eq!(ProxyList::parse(&list.to_string()).unwrap().to_string(), list.to_string());
            }
            let rules = Rules::from_variables(&Variables { no_proxy: Some(text), ..Variables::default() }).unwrap();
            if let Ok(url) = format!("http://{host}/").parse::<Url>() {
                rules.ways(&url);
            }
        }
    }
}
