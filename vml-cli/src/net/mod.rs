//! HTTP for everything that leaves this host: one client with proxies, time limits, and a policy on redirects.
//!
//! ```text
//! Network ── which way? ──► Rules (HTTP_PROXY …, a list as CVMFS has it) + Health (who failed a moment ago)
//!    └────── go there ────► Agents: one a way, straight or by a proxy ──► Response: a status, headers, a body to read
//! ```
//! [`Network::send`] takes the ways in their order until one leads to an answer; an answer with an error's status is one. Whoever wants to
//! choose asks [`Network::hops`] and uses [`Network::send_by`], as [`download()`] does, which gets a file of known digest from whoever has it.

mod agent;
mod download;
mod forward;
mod health;
mod network;
mod order;
mod pace;
mod part;
mod proxies;
mod url;

pub use agent::{Agents, Body, Failure, FailureKind, Limits, Method, Options, Request, Response};
pub use download::{Got, Patience, Wanted, download};
pub use health::Health;
pub use network::{Network, check_status};
pub use order::{by_time, geo_answer, geo_url, nearest_mirrors, nearest_proxies, proxies_of};
pub use pace::Limit;
pub use part::digest;
pub use proxies::{Hop, Proxy, ProxyList, Rules, Variables};
pub use url::Url;
