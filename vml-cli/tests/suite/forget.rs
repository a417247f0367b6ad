//! `vml forget`: what a policy keeps, what a name overrides, and what is printed.

use crate::support::{Host, write};

/// Six saves, a minute or so apart, each of a changed file.
fn six() -> (Host, Vec<String>) {
    let host = Host::with_area();
    let ids = (0..6)
        .map(|number| {
            write(&host.path("guest/number"), format!("{number}").as_bytes());
            let saved = host.json(["save", "work", "-m", &format!("number {number}")]);
            saved["entry"].as_str().unwrap().to_owned()
        })
        .collect();
    (host, ids)
}

fn left(host: &Host) -> Vec<String> {
    host.json_lines(["log", "work"]).iter().map(|entry| entry["entry"].as_str().unwrap().to_owned()).collect()
}

#[test]
fn a_policy_shows_what_it_would_do_and_then_does_it() {
    let (host, ids) = six();
    host.ok(["tag", &ids[0], "origin"]);
    let shown = host.ok(["forget", "--keep-last", "2", "--dry-run"]);
    assert!(shown.contains("would forget 3 entries") && shown.contains("latest, last") && shown.contains("[origin]"), "{shown}");
    assert_eq!(left(&host).len(), 6);
    host.run(["forget", "--keep-last", "2"]).fails(2, &["--yes"]);
    let done = host.json(["forget", "--keep-last", "2", "--area", "work", "--yes"]);
    assert_eq!((&done["forgotten"], &done["dry_run"]), (&3.into(), &false.into()));
    let rows = done["areas"][0]["entries"].as_array().unwrap();
    assert_eq!(rows.iter().filter(|row| row["keep"] == true).count(), 3);
    assert_eq!(left(&host), [&ids[5], &ids[4], &ids[0]].map(Clone::clone));
    assert!(host.ok(["show", "work@~2"]).contains("number 0"));
    assert!(host.ok(["forget", "--keep-last", "2"]).contains("nothing to forget"));
    host.assert_whole();
}

#[test]
fn named_entries_go_with_force_over_tags_and_bases_never() {
    let (host, ids) = six();
    host.ok(["tag", &ids[2], "stable"]);
    host.run(["forget", &ids[2], "--yes"]).fails(2, &["stable", "--force"]);
    host.ok(["forget", "stable", "work@latest", "--force", "--yes"]);
    assert_eq!(left(&host).len(), 4);
    assert_eq!(host.json(["show", "work@latest"])["message"], "number 4");
    host.ok(["base", "add", "debian@12", "--tree", "guest"]);
    host.run(["forget", "BASE:debian@12", "--force", "--yes"]).fails(2, &["is a base"]);
    host.assert_whole();
}

#[test]
fn days_are_those_of_the_time_zone() {
    let (host, _) = six();
    // 2033-05-18 03:33 UTC and some minutes after: one day there, and everywhere else.
    let rows = host.json(["forget", "--keep-daily", "7", "--dry-run"]);
    assert_eq!(rows["forgotten"], 5);
    let within = host.json(["forget", "--keep-within", "1h", "--dry-run"]);
    assert_eq!(within["forgotten"], 0);
}

#[test]
fn nonsense_is_refused_and_nothing_done() {
    let (host, ids) = six();
    host.run(["forget", "--yes"]).fails(2, &["--keep-last"]);
    host.run(["forget", &ids[0], "--keep-last", "1", "--yes"]).fails(2, &["not both"]);
    host.run(["forget", &ids[0], "--area", "work", "--yes"]).fails(2, &["--area"]);
    host.run(["forget", "--keep-last", "1", "--area", "nobody", "--yes"]).fails(3, &["nobody"]);
    host.run(["forget", "--keep-within", "5", "--yes"]).fails(2, &["no duration"]);
    host.run(["forget", "0000000000", "--yes"]).fails(3, &[]);
    assert_eq!(left(&host).len(), 6);
}
