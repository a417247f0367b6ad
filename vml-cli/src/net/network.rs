//! The ways out of this host, who failed on them, and requests that take the first way that leads there.

use super::agent::{Agents, Body, Failure, Options, Request, Response};
use super::health::Health;
use super::proxies::{Hop, Rules};
use super::url::Url;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};
use vml_core::{Error, ErrorKind};

/// What everything that uses the network shares.
pub struct Network {
    agents: Agents,
    rules: Rules,
    health: Mutex<Health>,
    started: Instant,
    /// Which one of a group is first: another one for everybody who asks.
    turn: usize,
}

impl Network {
    /// With `rules` for the ways; `random` are bytes that nobody else knows.
    pub fn new(options: Options, rules: Rules, random: [u8; 16]) -> Self {
        let turn = usize::from(random[0]) << 8 | usize::from(random[1]);
        Self { agents: Agents::new(options, random), rules, health: Mutex::default(), started: Instant::now(), turn }
    }

    /// The same with the proxies of each group in the order of their distance, and not by turns.
    pub fn nearest_first(self, geo: Option<&Url>) -> Self {
        let rules = self.rules.clone().each(|list| {
            let groups = list.groups().iter().map(|group| {
                let proxies = super::order::proxies_of(group);
                let nearest = super::order::nearest_proxies(&self, &proxies, geo).into_iter().map(|(proxy, _)| Hop::Proxy(proxy));
                nearest.chain(group.iter().filter(|hop| **hop == Hop::Direct).cloned()).collect::<Vec<_>>()
            });
            // Each by itself, as one group would be taken by turns.
            super::proxies::ProxyList::in_order(groups.flatten().collect::<Vec<_>>())
        });
        Self { rules, ..self }
    }

    fn health(&self) -> MutexGuard<'_, Health> {
        self.health.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn now(&self) -> Duration {
        self.started.elapsed()
    }

    /// The ways to an address in the order in which to try them; at least one.
    pub fn hops(&self, url: &Url) -> Vec<Hop> {
        self.health().order(self.rules.ways(url), self.now(), self.turn)
    }

    /// A way failed: it is passed over for a while. The way without a proxy never is, as it is many ways.
    pub fn failed(&self, hop: &Hop) {
        if *hop != Hop::Direct {
            self.health().failed(hop, self.now());
        }
    }

    /// Asks by one way, and keeps in mind whether that led anywhere.
    ///
    /// # Errors
    /// When there is no answer.
    pub fn send_by(&self, hop: &Hop, request: &Request<'_>, body: Body<'_>) -> Result<Response, Failure> {
        let result = self.agents.send(hop, request, body);
        match &result {
            Ok(_) => self.health().worked(hop),
            Err(failure) if failure.is_of_the_way() => self.failed(hop),
            Err(_) => {}
        }
        result
    }

    /// Asks by the first way that leads to an answer. A proxy that says that it reaches nobody (502, 503, 504) or wants another login (407) is none that does, as long as there is another way.
    ///
    /// # Errors
    /// What the last way said, when none led there; a streamed body that was begun cannot be sent by another.
    pub fn send(&self, request: &Request<'_>, mut body: Body<'_>) -> vml_core::Result<Response> {
        let hops = self.hops(request.url);
        let mut told: Vec<String> = Vec::new();
        for (at, hop) in hops.iter().enumerate() {
            let again = match &mut body {
                Body::None => Body::None,
                Body::Bytes(bytes) => Body::Bytes(bytes),
                Body::Stream(reader, len) => Body::Stream(&mut **reader, *len),
            };
            let is_last = at + 1 == hops.len();
            match self.send_by(hop, request, again) {
                Ok(response)
                    if !is_last
                        && *hop != Hop::Direct
                        && matches!(response.status, 407 | 502..=504)
                        && !matches!(body, Body::Stream(..)) =>
                {
                    told.push(format!("{} by the proxy {hop}: status {}", request.url, response.status));
                    self.failed(hop);
                }
                Ok(response) => return Ok(response),
                Err(failure) if failure.body_used || !failure.is_of_the_way() => return Err(failure.into()),
                Err(failure) => told.push(failure.message),
            }
        }
        Err(Error::new(ErrorKind::Io, told.join("; ")))
    }

    /// Asks for a small thing and reads it whole.
    ///
    /// # Errors
    /// As [`send`](Self::send); `NotFound`, `PermissionDenied` or `Io` for an answer that is none, `InvalidInput` for one of more than `max` bytes.
    pub fn get_bytes(&self, url: &Url, max: u64) -> vml_core::Result<Vec<u8>> {
        let mut response = self.send(&Request::get(url), Body::None)?;
        check_status(&response)?;
        response.bytes(max).map_err(|error| {
            let kind = if error.kind() == std::io::ErrorKind::InvalidData { ErrorKind::InvalidInput } else { ErrorKind::Io };
            Error::new(kind, format!("cannot read {url}")).because(error)
        })
    }
}

/// An answer that has what was asked for, or an error that says what the server said.
///
/// # Errors
/// `NotFound` for 404 and 410, `PermissionDenied` for 401 and 403, `Io` for others.
pub fn check_status(response: &Response) -> vml_core::Result<()> {
    let kind = match response.status {
        200..=299 => return Ok(()),
        404 | 410 => ErrorKind::NotFound,
        401 | 403 | 407 => ErrorKind::PermissionDenied,
        _ => ErrorKind::Io,
    };
    Err(Error::new(kind, format!("{} answers with status {}", response.url, response.status)))
}
