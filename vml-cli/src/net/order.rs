//! Who is nearest: by distance, where a geo service of CVMFS answers, else by how long an answer takes.
//!
//! A geo service (`http://STRATUM-ONE/cvmfs/REPOSITORY`) is asked `…/api/v1.0/geo/vml/a.org,b.org,c.org` and answers `2,1,3`: the second is the nearest.

use super::agent::{Body, Method, Request};
use super::network::Network;
use super::proxies::{Hop, Proxy};
use super::url::Url;
use std::collections::HashSet;
use std::net::{TcpStream, ToSocketAddrs};
use std::sync::mpsc;
use std::time::{Duration, Instant};
use vml_core::{Error, Result};

/// How long one may take to answer before it counts as far away.
const ANSWER_LIMIT: Duration = Duration::from_secs(3);
/// Longest answer of a geo service.
const ANSWER_MAX_LEN: u64 = 4096;
/// Most hosts that are asked about.
const HOSTS_MAX: usize = 64;

/// The question about hosts to a geo service.
///
/// # Errors
/// `InvalidInput` when there are too many, or one is none.
pub fn geo_url(service: &Url, hosts: &[&str]) -> Result<Url> {
    let is_host = |host: &&str| !host.is_empty() && host.bytes().all(|byte| byte.is_ascii_alphanumeric() || b".-:[]".contains(&byte));
    if hosts.is_empty() || hosts.len() > HOSTS_MAX || !hosts.iter().all(is_host) {
        return Err(Error::invalid("these hosts cannot be asked about"));
    }
    format!("{}/api/v1.0/geo/vml/{}", service.to_string().trim_end_matches('/'), hosts.join(",")).parse()
}

/// Reads its answer about `count` hosts: their places in the question, from 0, the nearest first. Nothing for what is no answer.
pub fn geo_answer(text: &str, count: usize) -> Option<Vec<usize>> {
    let order: Vec<usize> = text.trim().split(',').map(|item| item.trim().parse::<usize>().ok()?.checked_sub(1)).collect::<Option<_>>()?;
    let seen: HashSet<usize> = order.iter().copied().filter(|at| *at < count).collect();
    (order.len() == count && seen.len() == count).then_some(order)
}

/// Places in the order of their times; who has none comes last, and equals stay as they are.
pub fn by_time(times: &[Option<Duration>]) -> Vec<usize> {
    let mut order: Vec<usize> = (0..times.len()).collect();
    order.sort_by_key(|at| (times[*at].is_none(), times[*at]));
    order
}

fn ask_geo(network: &Network, service: &Url, hosts: &[&str]) -> Option<Vec<usize>> {
    let url = geo_url(service, hosts).ok()?;
    let answer = network.get_bytes(&url, ANSWER_MAX_LEN).ok()?;
    geo_answer(std::str::from_utf8(&answer).ok()?, hosts.len())
}

/// Addresses of one file, the nearest first.
pub fn nearest_mirrors(network: &Network, urls: &[Url], geo: Option<&Url>) -> Vec<Url> {
    if urls.len() < 2 {
        return urls.to_vec();
    }
    let hosts: Vec<&str> = urls.iter().map(Url::host).collect();
    let order = geo.and_then(|service| ask_geo(network, service, &hosts)).unwrap_or_else(|| {
        let times: Vec<_> = std::thread::scope(|scope| {
            let asking: Vec<_> = urls.iter().map(|url| scope.spawn(move || answer_time(network, url))).collect();
            asking.into_iter().map(|asking| asking.join().ok().flatten()).collect()
        });
        by_time(&times)
    });
    order.into_iter().map(|at| urls[at].clone()).collect()
}

/// How long a mirror takes to answer by the first way to it.
fn answer_time(network: &Network, url: &Url) -> Option<Duration> {
    let hop = network.hops(url).into_iter().next()?;
    let mut request = Request::new(Method::Head, url);
    request.response_limit = Some(ANSWER_LIMIT);
    let started = Instant::now();
    let response = network.send_by(&hop, &request, Body::None).ok()?;
    (response.status < 400 || response.status == 405).then(|| started.elapsed())
}

/// Proxies, the nearest first, with the time that a connection took; who cannot be reached has none and comes last.
pub fn nearest_proxies(network: &Network, proxies: &[Proxy], geo: Option<&Url>) -> Vec<(Proxy, Option<Duration>)> {
    let (told, times) = mpsc::channel();
    for (at, proxy) in proxies.iter().enumerate() {
        let (told, host, port) = (told.clone(), proxy.url.host().trim_matches(['[', ']']).to_owned(), proxy.url.port());
        // Not in a scope: to look up a name has no limit of its own.
        std::thread::spawn(move || _ = told.send((at, connect_time(&host, port))));
    }
    drop(told);
    let mut measured = vec![None; proxies.len()];
    let deadline = Instant::now() + ANSWER_LIMIT;
    while let Ok((at, time)) = times.recv_timeout(deadline.saturating_duration_since(Instant::now())) {
        measured[at] = time;
    }
    let hosts: Vec<&str> = proxies.iter().map(|proxy| proxy.url.host()).collect();
    let order = geo.and_then(|service| ask_geo(network, service, &hosts)).map(|order| {
        // However near, who cannot be reached comes last.
        let (here, gone): (Vec<usize>, Vec<usize>) = order.into_iter().partition(|at| measured[*at].is_some());
        [here, gone].concat()
    });
    order.unwrap_or_else(|| by_time(&measured)).into_iter().map(|at| (proxies[at].clone(), measured[at])).collect()
}

/// The shorter of two connections: the first may have had to look up a name.
fn connect_time(host: &str, port: u16) -> Option<Duration> {
    let addresses: Vec<_> = (host, port).to_socket_addrs().ok()?.collect();
    let connect = || {
        addresses.iter().find_map(|address| {
            let started = Instant::now();
            TcpStream::connect_timeout(address, ANSWER_LIMIT).ok().map(|_| started.elapsed())
        })
    };
    let first = connect()?;
    Some(connect().map_or(first, |second| second.min(first)))
}

/// The proxies of ways.
pub fn proxies_of<'a>(hops: impl IntoIterator<Item = &'a Hop>) -> Vec<Proxy> {
    let mut proxies: Vec<Proxy> = Vec::new();
    for hop in hops {
        if let Hop::Proxy(proxy) = hop
            && !proxies.contains(proxy)
        {
            proxies.push(proxy.clone());
        }
    }
    proxies
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn a_geo_service_is_asked_and_understood() {
        let service: Url = "http://s1.example.org/cvmfs/sft.cern.ch/".parse().unwrap();
        let url = geo_url(&service, &["a.org", "b.org"]).unwrap();
        assert_eq!(url.to_string(), "http://s1.example.org/cvmfs/sft.cern.ch/api/v1.0/geo/vml/a.org,b.org");
        for bad in [&[][..], &[""], &["a/../b"], &["a,b"], &["x"; 65]] {
            assert!(geo_url(&service, bad).is_err(), "{bad:?}");
        }
        assert_eq!(geo_answer("2,1,3\n", 3), Some(vec![1, 0, 2]));
        assert_eq!(geo_answer("1", 1), Some(vec![0]));
        for bad in ["", "1,2", "1,1,2", "0,1,2", "1,2,4", "1,2,x", "<html>", "99999999999999999999,1,2"] {
            assert_eq!(geo_answer(bad, 3), None, "{bad}");
        }
    }

    proptest! {
        #[test]
        fn orders_are_permutations(times in prop::collection::vec(prop::option::of(0_u64..50), 0..20), text in "[0-9, x]{0,30}", count in 0_usize..9) {
            let times: Vec<_> = times.into_iter().map(|time| time.map(Duration::from_millis)).collect();
            let order = by_time(&times);
            let mut sorted = order.clone();
            sorted.sort_unstable();
            prop_assert_eq!(sorted, (0..times.len()).collect::<Vec<_>>());
            for pair in order.windows(2) {
                let (one, other) = (times[pair[0]], times[pair[1]]);
                prop_assert!(one.is_some() || other.is_none(), "who has no time is last");
                if let (Some(one), Some(other)) = (one, other) {
                    prop_assert!(one < other || one == other && pair[0] < pair[1], "the nearest first, equals as they were");
                }
            }
            if let Some(order) = geo_answer(&text, count) {
                let mut sorted = order;
                sorted.sort_unstable();
                prop_assert_eq!(sorted, (0..count).collect::<Vec<_>>());
            }
        }
    }
}
