//! Who may do what.

use crate::server::Server;
use crate::support::Host;
use std::fs;
use std::os::unix::fs::PermissionsExt;
use vml_core::remote::wire::{encode_message, encode_parcel};

pub fn token(host: &Host, name: &str, scopes: &str) -> String {
    let ran = host.run(["token", "new", "--name", name, "--scopes", scopes]);
    assert!(ran.code == 0 && ran.err.contains("the only time"), "{}", ran.err);
    ran.out.trim().to_owned()
}

fn forget_nothing() -> Vec<u8> {
    encode_message(&(Vec::<vml_core::EntryId>::new(), false))
}

#[test]
fn without_a_token_one_sees_that_the_service_lives_and_no_more() {
    let host = Host::with_entry();
    token(&host, "eva", "read");
    let server = Server::start(&host, &[]);
    assert_eq!(server.get("/healthz").text(), "ok\n");
    let about = server.get("/v1").json();
    assert_eq!((&about["name"], &about["scopes"]), (&"vml".into(), &serde_json::json!([])));
    for path in ["/", "/v1/entries", "/v1/refs", "/metrics", "/e/work@latest", "/e/work@latest.vml", "/v1/entries/work@latest"] {
        let answer = server.get(path);
        answer.refused(401, "permission_denied", "needs a token");
        assert_eq!(answer.header("www-authenticate"), Some("Bearer realm=\"vml\""));
    }
    for call in ["info", "refs", "notes", "store", "commit", "forget"] {
        server.post(call, &[]).refused(401, "permission_denied", "needs a token");
    }
}

#[test]
fn a_token_is_good_for_its_scopes() {
    let host = Host::with_entry();
    let (read, append, remove) = (token(&host, "r", "read"), token(&host, "a", "append"), token(&host, "x", "remove"));
    let server = Server::start(&host, &[]);
    let nothing = encode_parcel(&Vec::new());
    assert_eq!(server.get_as(&read, "/v1").json()["scopes"], serde_json::json!(["read"]));
    assert_eq!(server.post_as(&read, "info", &[]).status, 200);
    server.post_as(&read, "store", &nothing).refused(403, "permission_denied", "lacks \"append\"");
    server.post_as(&read, "forget", &forget_nothing()).refused(403, "permission_denied", "lacks \"remove\"");
    assert_eq!((server.post_as(&append, "store", &nothing).status, server.post_as(&append, "info", &[]).status), (200, 200));
    server.post_as(&append, "forget", &forget_nothing()).refused(403, "permission_denied", "lacks \"remove\"");
    assert_eq!(server.post_as(&remove, "forget", &forget_nothing()).status, 200);
    server.post_as(&remove, "info", &[]).refused(403, "permission_denied", "lacks \"read\"");
    let id = server.get_as(&read, "/v1/entries/work@latest").json()["entry"].as_str().unwrap().to_owned();
    let delete = |token: &str, path: &str| server.ask("DELETE", path, &[("Authorization", &format!("Bearer {token}"))], &[]);
    delete(&append, &format!("/v1/entries/{id}")).refused(403, "permission_denied", "remove");
    delete(&remove, "/v1/entries/work@latest").refused(400, "invalid_input", "whole id");
    assert_eq!(delete(&remove, &format!("/v1/entries/{id}")).status, 204);
    delete(&remove, &format!("/v1/entries/{id}")).refused(404, "not_found", "entry");
}

#[test]
fn an_append_only_service_forgets_nothing_whoever_asks() {
    let host = Host::with_entry();
    let admin = token(&host, "root", "admin");
    let server = Server::start(&host, &["--append-only"]);
    server.post_as(&admin, "forget", &forget_nothing()).refused(403, "permission_denied", "append-only");
    assert_eq!(server.get_as(&admin, "/v1").json()["scopes"], serde_json::json!(["read", "append", "admin"]));
}

#[test]
fn a_revoked_token_is_good_for_nothing_at_once() {
    let host = Host::with_entry();
    let (eva, adam) = (token(&host, "eva", "read,append"), token(&host, "adam", "read"));
    let server = Server::start(&host, &[]);
    assert_eq!((server.get_as(&eva, "/v1/refs").status, server.get_as(&adam, "/v1/refs").status), (200, 200));
    host.ok(["token", "revoke", "eva"]);
    server.get_as(&eva, "/v1/refs").refused(401, "permission_denied", "not any more");
    assert_eq!(server.get_as(&adam, "/v1/refs").status, 200);
    let late = token(&host, "late", "read");
    assert_eq!(server.get_as(&late, "/v1/refs").status, 200);
    host.run(["token", "revoke", "eva"]).fails(3, &["there is no token \"eva\""]);
    let list = host.ok(["token", "list"]);
    assert!(list.contains("adam") && list.contains("late") && !list.contains("eva"), "{list}");
    let file = host.path("home/tokens.toml");
    assert_eq!(fs::metadata(&file).unwrap().permissions().mode() & 0o777, 0o600);
    // Nowhere is one written.
    let told = fs::read_to_string(&file).unwrap() + &server.errors() + &list;
    assert!(!told.contains(&eva[4..]) && !told.contains(&adam[4..]) && !told.contains("Bearer"), "{told}");
    assert!(server.errors().lines().any(|line| line.contains(" 127.0.0.1 adam GET /v1/refs 200 ")), "{}", server.errors());
}

#[test]
fn wrong_tokens_are_slowed_down_and_a_right_one_is_not() {
    let host = Host::with_entry();
    let eva = token(&host, "eva", "read");
    let server = Server::start(&host, &[]);
    for _ in 0..10 {
        server.get_as("vml_00", "/v1/refs").refused(401, "permission_denied", "not, or not any more");
    }
    let answer = server.get_as(&format!("vml_{}", "0".repeat(64)), "/v1/refs");
    answer.refused(429, "permission_denied", "too many wrong tokens");
    assert!(answer.header("retry-after").unwrap().parse::<u32>().unwrap() > 0);
    assert_eq!(server.get_as(&eva, "/v1/refs").status, 200);
    assert_eq!(server.get("/healthz").status, 200);
}

#[test]
fn the_public_reads_where_it_may_and_does_no_more() {
    let host = Host::with_entry();
    let server = Server::start(&host, &["--public-read"]);
    assert_eq!(server.get("/v1/entries").json()["count"], 1);
    server.post("store", &encode_parcel(&Vec::new())).refused(401, "permission_denied", "needs a token");
    server.get_as("vml_1", "/v1/entries").refused(401, "permission_denied", "not, or not any more");
}

#[test]
fn without_tokens_only_this_host_is_served_and_no_other_sites_pages() {
    let host = Host::with_entry();
    let started = host.run(["serve", "--listen", "0.0.0.0:0"]);
    started.fails(2, &["there is no token yet", "vml token new"]);
    let server = Server::start(&host, &[]);
    assert!(server.errors().contains("everybody on this host may read and add"));
    assert_eq!(server.post("store", &encode_parcel(&Vec::new())).status, 200);
    server.post("forget", &forget_nothing()).refused(401, "permission_denied", "needs a token");
    let evil = server.ask("POST", "/v1/remote/info", &[("Origin", "http://evil.example")], &[]);
    evil.refused(403, "permission_denied", "other sites");
    let mut stream = server.connect();
    std::io::Write::write_all(&mut stream, b"GET /v1/refs HTTP/1.1\r\nHost: evil.example\r\nConnection: close\r\n\r\n").unwrap();
    let rebound = crate::server::Answer::read(&mut std::io::BufReader::new(stream), false).unwrap();
    rebound.refused(403, "permission_denied", "other names");
    // From the first token on, tokens count; that it goes away opens nothing.
    token(&host, "eva", "read");
    server.get("/v1/refs").refused(401, "permission_denied", "needs a token");
    host.ok(["token", "revoke", "eva"]);
    server.get("/v1/refs").refused(401, "permission_denied", "needs a token");
}
