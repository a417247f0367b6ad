//! Packs in ranges, share files, pages, and numbers.

use crate::client::Client;
use crate::server::Server;
use crate::support::{Host, make_guest};
use std::fs;
use vml_core::remote::Remote;

#[test]
fn packs_are_given_whole_and_in_ranges() {
    let host = Host::with_entry();
    let server = Server::start(&host, &[]);
    let dir = host.repository().join("meta");
    let name = fs::read_dir(&dir).unwrap().next().unwrap().unwrap().file_name().into_string().unwrap();
    let bytes = fs::read(dir.join(&name)).unwrap();
    let path = format!("/v1/packs/meta/{name}");
    let tag = format!("\"{name}\"");
    let whole = server.get(&path);
    assert_eq!((whole.status, whole.header("etag"), whole.header("accept-ranges")), (200, Some(tag.as_str()), Some("bytes")));
    assert!(whole.body == bytes);
    let head = server.ask("HEAD", &path, &[], &[]);
    assert_eq!((head.status, head.header("content-length")), (200, Some(bytes.len().to_string().as_str())));
    let part = |range: &str| server.ask("GET", &path, &[("Range", range)], &[]);
    let middle = part("bytes=16-99");
    assert_eq!((middle.status, middle.header("content-range")), (206, Some(format!("bytes 16-99/{}", bytes.len()).as_str())));
    assert!(middle.body == bytes[16..100]);
    assert!(part("bytes=-64").body == bytes[bytes.len() - 64..]);
    let beyond = part(&format!("bytes={}-", bytes.len()));
    beyond.refused(416, "invalid_input", "bytes");
    assert_eq!(beyond.header("content-range"), Some(format!("bytes */{}", bytes.len()).as_str()));
    assert_eq!((part("bytes=0-0,5-6").status, part("bytes=x").status), (200, 200));
    assert_eq!(server.ask("GET", &path, &[("If-None-Match", &tag)], &[]).status, 304);
    let other = server.ask("GET", &path, &[("Range", "bytes=1-2"), ("If-Range", "\"other\"")], &[]);
    assert!(other.status == 200 && other.body == bytes);
}

#[test]
fn a_link_is_a_page_and_a_file() {
    let host = Host::new();
    make_guest(&host.path("base"));
    make_guest(&host.path("guest"));
    fs::write(host.path("guest/etc/new"), "new").unwrap();
    host.ok(["base", "add", "debian@12", "--tree", "base"]);
    host.ok(["area", "add", "work", "--tree", "guest", "--base", "debian@12"]);
    host.ok(["save", "work", "-m", "first"]);
    let server = Server::start(&host, &[]);
    let page = server.get("/e/work@latest");
    let id = server.get("/v1/entries/work@latest").json()["entry"].as_str().unwrap().to_owned();
    assert_eq!(page.header("content-type"), Some("text/html; charset=utf-8"));
    assert!(page.text().contains(&format!("vml receive http://{}/e/{id}", server.address)), "{}", page.text());
    let file = server.get(&format!("/e/{id}.vml"));
    assert_eq!((file.status, file.header("content-type")), (200, Some("application/vnd.vml.share")));
    assert!(file.header("content-disposition").unwrap().contains(&format!("work-{}.vml", &id[..10])), "{:?}", file.headers);
    assert_eq!(file.header("etag"), Some(format!("\"{id}\"").as_str()));
    // The same entry gives the same bytes, at the page's address too.
    let accepted = server.ask("GET", &format!("/e/{id}"), &[("Accept", "application/vnd.vml.share, */*;q=0.1")], &[]);
    assert!(accepted.body == file.body && accepted.header("vary") == Some("accept"));
    assert!(server.get(&format!("/v1/entries/{id}/share")).body == file.body);
    let known = server.ask("GET", &format!("/e/{id}.vml"), &[("If-None-Match", &format!("\"{id}\""))], &[]);
    assert_eq!((known.status, known.body.len()), (304, 0));
    let full = server.get(&format!("/e/{id}.vml?full=true"));
    assert!(full.body.len() > file.body.len() && full.header("etag") != file.header("etag"));
    let head = server.ask("HEAD", &format!("/e/{id}.vml"), &[], &[]);
    assert_eq!((head.status, head.header("etag")), (200, file.header("etag")));
    let other = Host::new();
    fs::write(other.path("thin.vml"), &file.body).unwrap();
    other.run(["receive", "thin.vml"]).fails(3, &["debian@12"]);
    fs::write(other.path("full.vml"), &full.body).unwrap();
    other.ok(["receive", "full.vml"]);
    other.ok(["receive", "thin.vml"]);
    other.ok(["build", "work@latest", "copy"]);
    assert_eq!(fs::read_to_string(other.path("copy/etc/new")).unwrap(), "new");
    let since = server.get(&format!("/v1/entries/{id}/share?since=BASE:debian@12"));
    assert_eq!(since.status, 200);
}

#[test]
fn what_an_entry_says_runs_nowhere() {
    let host = Host::with_area();
    let hostile = "</pre><script>alert(1)</script>\"'&\u{202e}<img src=x onerror=alert(2)>";
    host.ok(["save", "work", "-m", hostile]);
    host.ok(["note", "work@latest", "<svg onload=alert(3)>"]);
    let server = Server::start(&host, &[]);
    for path in ["/", "/e/work@latest"] {
        let page = server.get(path);
        let text = page.text().to_lowercase();
        assert!(!text.contains("<script") && !text.contains("<img") && !text.contains("<svg") && !text.contains('\u{202e}'), "{text}");
        assert!(text.contains("&lt;script&gt;"), "{text}");
        let policy = page.header("content-security-policy").unwrap();
        assert!(policy.contains("default-src 'none'") && !policy.contains("unsafe"), "{policy}");
        assert_eq!(page.header("x-content-type-options"), Some("nosniff"));
    }
    // What the client says about our name is not believed.
    let mut stream = server.connect();
    std::io::Write::write_all(&mut stream, b"GET /e/work@latest HTTP/1.1\r\nHost: localhost\"><b>\r\nConnection: close\r\n\r\n").unwrap();
    let odd = crate::server::Answer::read(&mut std::io::BufReader::new(stream), false).unwrap();
    assert!(!odd.text().contains("<b>"), "{}", odd.text());
    assert_eq!(server.get("/style.css").header("content-type"), Some("text/css; charset=utf-8"));
}

#[test]
fn the_numbers_are_what_prometheus_reads() {
    let host = Host::with_entry();
    let server = Server::start(&host, &[]);
    server.get("/v1/refs");
    server.get("/nowhere");
    let answer = server.get("/metrics");
    assert!(answer.header("content-type").unwrap().starts_with("text/plain; version=0.0.4"));
    let text = answer.text();
    let mut typed = std::collections::HashSet::new();
    let mut values = std::collections::HashMap::new();
    for line in text.lines() {
        if let Some(rest) = line.strip_prefix("# TYPE ") {
            let (name, kind) = rest.split_once(' ').unwrap();
            assert!(["counter", "gauge"].contains(&kind), "{line}");
            typed.insert(name.to_owned());
        } else if !line.starts_with("# HELP ") {
            let (name, value) = line.rsplit_once(' ').unwrap();
            assert!(typed.contains(name.split('{').next().unwrap()), "{line}");
            values.insert(name.to_owned(), value.parse::<f64>().unwrap());
        }
    }
    let is = |name: &str| values.get(name).copied();
    assert_eq!(is("vml_requests_total{route=\"/v1/refs\",status=\"200\"}"), Some(1.0), "{text}");
    assert_eq!(is("vml_requests_total{route=\"none\",status=\"404\"}"), Some(1.0), "{text}");
    assert_eq!((is("vml_repository_entries"), is("vml_requests_running")), (Some(1.0), Some(1.0)), "{text}");
    assert!(is("vml_received_bytes_total").unwrap() > 0.0 && is("vml_repository_chunks").unwrap() > 0.0);
}

#[test]
fn entries_and_refs_are_as_the_command_line_prints_them() {
    let host = Host::with_entry();
    host.ok(["save", "work", "-m", "second", "--tag", "good"]);
    let server = Server::start(&host, &[]);
    let shown: serde_json::Value = serde_json::from_str(&host.ok(["show", "work@latest", "--json"])).unwrap();
    assert_eq!(server.get("/v1/entries/work@latest").json(), shown);
    assert_eq!(server.get("/v1/entries/good").json(), shown);
    let list = server.get("/v1/entries?limit=1").json();
    assert_eq!((&list["entries"][0], &list["count"], &list["unreadable"]), (&shown, &2.into(), &0.into()));
    assert_eq!(server.get("/v1/entries?limit=1&offset=1").json()["entries"][0]["message"], "first");
    assert_eq!(server.get("/v1/entries?area=other").json()["count"], 0);
    let refs = server.get("/v1/refs").json();
    assert_eq!((&refs["areas"][0]["name"], &refs["tags"][0]["name"]), (&"work".into(), &"good".into()));
    assert_eq!(refs["areas"][0]["entry"], shown["entry"]);
}

#[test]
fn a_forgotten_entry_is_not_there() {
    let host = Host::with_entry();
    let admin = crate::access::token(&host, "root", "admin");
    let server = Server::start(&host, &[]);
    let client = Client::new(&server, admin);
    let entry = client.refs().unwrap()[0].entry;
    assert_eq!(client.entries_there(&[entry]).unwrap(), [true]);
    client.forget(&[entry], false).unwrap();
    assert_eq!(client.entries_there(&[entry]).unwrap(), [false]);
    assert_eq!(client.history(&[entry]).unwrap()[0].forgotten, Some(Vec::new()));
}
