//! How this host goes online: `network.toml` in the home folder, and the variables that name proxies.

use crate::net::{Network, Options, ProxyList, Rules, Url, Variables};
use crate::settings;
use anyhow::{Context as _, Result};
use serde::Deserialize;
use std::fs;
use std::io::Read as _;
use std::path::PathBuf;
use vml_core::{Error, IoResultExt as _};

/// A file of settings is far shorter.
const FILE_MAX_LEN: u64 = 1 << 20;

/// What `network.toml` says.
#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Settings {
    /// Proxies as CVMFS lists them; they count before the variables, and `NO_PROXY` excepts hosts from them.
    proxies: Option<String>,
    /// A file with certificates that are trusted besides those of the system.
    ca_file: Option<PathBuf>,
    /// Bytes a second at most, `10M`.
    limit: Option<String>,
    /// A geo service of CVMFS, `http://STRATUM-ONE/cvmfs/REPOSITORY`.
    geo: Option<String>,
    /// Whether proxies of one group are taken in the order of their distance, and not by turns.
    #[serde(default)]
    nearest: bool,
}

impl Settings {
    /// Reads them; without the file everything is as by default.
    pub fn read() -> Result<Self> {
        let path = settings::home()?.join("network.toml");
        let mut text = String::new();
        match fs::File::open(&path) {
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(Self::default()),
            other => {
                other.and_then(|file| file.take(FILE_MAX_LEN).read_to_string(&mut text)).at(|| format!("cannot read {}", path.display()))?
            }
        };
        let read: Self = toml::from_str(&text).map_err(|error| Error::invalid(format!("{}: {error}", path.display())))?;
        read.geo()?;
        read.limit()?;
        Ok(read)
    }

    /// The geo service.
    pub fn geo(&self) -> Result<Option<Url>> {
        self.geo.as_deref().map(|geo| geo.parse::<Url>().context("geo in network.toml")).transpose()
    }

    /// Bytes a second at most.
    pub fn limit(&self) -> Result<Option<u64>> {
        self.limit
            .as_deref()
            .map(|limit| settings::parse_rate(limit).ok_or_else(|| Error::invalid("limit in network.toml is no size such as 10M").into()))
            .transpose()
    }

    /// The way to the network; `proxies` are those of the command line, which count for every address.
    pub fn network(&self, proxies: Option<&str>) -> Result<Network> {
        let rules = match (proxies, &self.proxies) {
            (Some(list), _) => Rules::of(ProxyList::parse(list)?),
            (None, Some(list)) => {
                Rules::from_variables(&variables())?.with_list(ProxyList::parse(list).context("proxies in network.toml")?)
            }
            (None, None) => Rules::from_variables(&variables())?,
        };
        let random = settings::random_id()?;
        let options = Options { ca_file: self.ca_file.clone(), ..Options::default() };
        let network = Network::new(options, rules, random);
        Ok(if self.nearest { network.nearest_first(self.geo()?.as_ref()) } else { network })
    }

    /// The list of proxies that is set here, or that the variables name.
    pub fn proxies(&self) -> Result<Option<ProxyList>> {
        if let Some(list) = &self.proxies {
            return Ok(Some(ProxyList::parse(list).context("proxies in network.toml")?));
        }
        variables().http_proxy.as_deref().map(|list| ProxyList::parse(list).context("HTTP_PROXY")).transpose()
    }
}

fn variables() -> Variables {
    let [http_proxy, https_proxy, all_proxy, no_proxy] = settings::proxy_variables();
    Variables { http_proxy, https_proxy, all_proxy, no_proxy }
}
