//! Requests by proxies and straight, to servers that lie.

use crate::net::{Body, FailureKind, Hop, Limits, Method, Network, Options, ProxyList, Request, Rules, Url};
use std::time::Duration;
use vml_core::ErrorKind;
use vml_testkit::web::{Manner, WebServer};

fn network(list: &str) -> Network {
    let limit = Duration::from_secs(3);
    let limits = Limits { resolve: limit, connect: limit, response: limit, idle: limit };
    Network::new(Options { limits, ca_file: None }, Rules::of(ProxyList::parse(list).unwrap()), [0; 16])
}

fn url(text: &str) -> Url {
    text.parse().unwrap()
}

/// A port at which nobody listens.
fn dead() -> String {
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    format!("http://{}", listener.local_addr().unwrap())
}

#[test]
fn a_proxy_gets_the_whole_address_and_a_server_the_path() {
    let (server, proxy) = (WebServer::start(), WebServer::start());
    let at = url(&server.put("/a?b", "from the server"));
    proxy.put("/a?b", "from the proxy");
    assert_eq!(network("DIRECT").get_bytes(&at, 100).unwrap(), b"from the server");
    let by = network(&format!("http://eva:a%40b@127.0.0.1:{}", proxy.port()));
    for _ in 0..2 {
        assert_eq!(by.get_bytes(&at, 100).unwrap(), b"from the proxy");
    }
    assert_eq!(server.asked()[0].line, "GET /a?b HTTP/1.1");
    for asked in proxy.asked() {
        assert_eq!(asked.line, format!("GET {at} HTTP/1.1"));
        assert_eq!(asked.header("host"), at.authority());
        assert_eq!(asked.header("proxy-authorization"), "Basic ZXZhOmFAYg==");
    }
    assert_eq!((server.asked().len(), proxy.asked().len()), (1, 2));
}

#[test]
fn a_dead_proxy_is_passed_over_the_next_time() {
    let (server, proxy) = (WebServer::start(), WebServer::start());
    let at = url(&server.put("/a", "direct"));
    proxy.serve("/a", "", Manner::Status(503));
    let network = network(&format!("{};http://127.0.0.1:{};DIRECT", dead(), proxy.port()));
    assert_eq!(network.hops(&at).len(), 3);
    assert_eq!(network.get_bytes(&at, 100).unwrap(), b"direct");
    assert_eq!(network.hops(&at), [Hop::Direct], "one does not listen, the other reaches nobody");
    let only = self::network(&dead());
    let error = only.get_bytes(&at, 100).unwrap_err();
    assert!(error.to_string().contains("by the proxy http://127.0.0.1"), "{error}");
    assert_eq!(only.hops(&at).len(), 1, "the only way is tried all the same");
}

#[test]
fn redirects_are_few_and_do_not_carry_secrets_elsewhere() {
    let (one, other) = (WebServer::start(), WebServer::start());
    let network = network("DIRECT");
    other.put("/end", "here");
    one.serve("/away", "", Manner::Redirect(other.url("/end")));
    let start = url(&one.serve("/start", "", Manner::Redirect("away".to_owned())));
    let mut request = Request::get(&start);
    request.authorization = Some("Bearer secret");
    let mut response = network.send(&request, Body::None).unwrap();
    assert_eq!((response.bytes(10).unwrap(), response.url.to_string()), (b"here".to_vec(), other.url("/end")));
    assert!(one.asked().iter().all(|asked| asked.header("authorization") == "Bearer secret"), "the same server");
    assert_eq!(other.asked()[0].header("authorization"), "");
    let round = url(&one.serve("/round", "", Manner::Redirect("/round".to_owned())));
    let failure = network.send_by(&Hop::Direct, &Request::get(&round), Body::None).unwrap_err();
    assert_eq!(failure.kind, FailureKind::Redirect, "{failure}");
    assert_eq!(one.asked().iter().filter(|asked| asked.line.contains("/round")).count(), 6);
    for bad in ["file:///etc/passwd", "http://u:p@h/", "ftp://h/"] {
        let bad = url(&one.serve("/bad", "", Manner::Redirect(bad.to_owned())));
        assert_eq!(network.send_by(&Hop::Direct, &Request::get(&bad), Body::None).unwrap_err().kind, FailureKind::Redirect);
    }
}

#[test]
fn a_body_is_sent_as_bytes_or_as_a_stream() {
    let server = WebServer::start();
    let at = url(&server.put("/post", "taken"));
    let network = network(&format!("{};DIRECT", dead()));
    let ask = |body: Body<'_>| network.send(&Request::new(Method::Post, &at), body).unwrap().status;
    assert_eq!(ask(Body::Bytes(b"some bytes")), 200);
    let long = vml_testkit::noise::incompressible(1, 300_000);
    assert_eq!(ask(Body::Stream(&mut long.as_slice(), Some(long.len() as u64))), 200);
    assert_eq!(ask(Body::Stream(&mut long.as_slice(), None)), 200);
    let asked = server.asked();
    assert_eq!(asked[0].body, b"some bytes");
    assert!(asked[1].body == long && asked[1].header("content-length") == "300000");
    assert!(asked[2].body == long && asked[2].header("transfer-encoding") == "chunked");
}

#[test]
fn every_wait_has_an_end_and_every_answer_a_length() {
    let server = WebServer::start();
    let network = network("DIRECT");
    let at = |path: &str, manner| url(&server.serve(path, vec![b'a'; 1000], manner));
    let failure = network.send_by(&Hop::Direct, &Request::get(&at("/silent", Manner::Silent)), Body::None).unwrap_err();
    assert_eq!(failure.kind, FailureKind::Cut, "{failure}");
    let error = network.get_bytes(&at("/endless", Manner::Endless), 5000).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::InvalidInput, "{error}");
    let slow = at("/slow", Manner::Slow(10, Duration::from_secs(8)));
    let mut response = network.send(&Request::get(&slow), Body::None).unwrap();
    assert!(response.reader().read_to_end(&mut Vec::new()).is_err(), "silent for longer than the limit");
    assert!(network.get_bytes(&at("/cut", Manner::CutAfter(10)), 5000).is_err());
    assert_eq!(network.get_bytes(&url(&server.url("/nothing")), 10).unwrap_err().kind(), ErrorKind::NotFound);
    assert_eq!(network.get_bytes(&at("/no", Manner::Status(403)), 10).unwrap_err().kind(), ErrorKind::PermissionDenied);
    let error = network.get_bytes(&url("https://127.0.0.1:1/"), 10).unwrap_err();
    assert!(error.to_string().contains("127.0.0.1:1"), "{error}");
}
