//! The nearest first, as measured or as a geo service says.

use crate::net::{Hop, Limits, Network, Options, ProxyList, Rules, Url, nearest_mirrors, nearest_proxies, proxies_of};
use std::time::Duration;
use vml_testkit::web::{Manner, WebServer};

fn network() -> Network {
    Network::new(Options { limits: Limits::default(), ca_file: None }, Rules::of(ProxyList::direct()), [0; 16])
}

#[test]
fn mirrors_are_in_the_order_of_distance_or_of_their_answers() {
    let (slow, quick, geo) = (WebServer::start(), WebServer::start(), WebServer::start());
    let urls: Vec<Url> =
        [slow.serve("/x", "", Manner::Status(500)), quick.put("/x", "abc")].iter().map(|url| url.parse().unwrap()).collect();
    assert_eq!(nearest_mirrors(&network(), &urls, None), [urls[1].clone(), urls[0].clone()], "who has it before who has not");
    let service: Url = geo.url("/cvmfs/repo.example.org").parse().unwrap();
    let question = "/cvmfs/repo.example.org/api/v1.0/geo/vml/127.0.0.1,127.0.0.1";
    geo.put(question, "1,2\n");
    assert_eq!(nearest_mirrors(&network(), &urls, Some(&service)), urls);
    geo.put(question, "no answer");
    assert_eq!(nearest_mirrors(&network(), &urls, Some(&service))[0], urls[1], "measured where the service says nothing of use");
}

#[test]
fn proxies_that_cannot_be_reached_are_last() {
    let (server, geo) = (WebServer::start(), WebServer::start());
    let dead = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    let list = ProxyList::parse(&format!("http://{dead}|http://127.0.0.1:{};DIRECT", server.port())).unwrap();
    let proxies = proxies_of(list.groups().iter().flatten());
    assert_eq!(proxies.len(), 2);
    geo.put("/cvmfs/r/api/v1.0/geo/vml/127.0.0.1,127.0.0.1", "1,2");
    for geo in [None, Some(geo.url("/cvmfs/r").parse::<Url>().unwrap())] {
        let nearest = nearest_proxies(&network(), &proxies, geo.as_ref());
        assert_eq!(Hop::Proxy(nearest[0].0.clone()).to_string(), format!("http://127.0.0.1:{}", server.port()));
        assert!(nearest[0].1.is_some_and(|time| time < Duration::from_secs(3)) && nearest[1].1.is_none());
    }
}
