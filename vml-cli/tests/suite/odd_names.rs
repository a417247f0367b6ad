//! Paths that are not UTF-8, or that a terminal should not see as they are.

use crate::support::{Host, assert_equal, write};
use std::ffi::{OsStr, OsString};
use std::fs;
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::path::Path;

fn target(entry: &str, path: &[u8]) -> OsString {
    OsString::from_vec([entry.as_bytes(), b":", path].concat())
}

#[test]
fn a_path_that_is_not_utf8_is_saved_listed_compared_and_built() {
    let host = Host::with_area();
    let name = OsStr::from_bytes(b"data \xff\xfe");
    write(&host.path("guest").join(name).join("inside"), b"inside");
    write(&host.path("guest").join(name).join(OsStr::from_bytes(b"\xe4")), &[7; 5000]);
    host.ok(["save", "work", "-m", "first"]);
    let text = host.ok(["ls", "-R", "work@latest"]);
    assert!(text.lines().any(|line| line == "data \\xff\\xfe/\\xe4"), "{text}");
    let nodes = host.json_lines(["ls", "-R", "work@latest"]);
    let bytes: Vec<u8> = b"data \xff\xfe/\xe4".to_vec();
    assert!(nodes.iter().any(|node| node["path"]["bytes"] == serde_json::json!(bytes)), "{nodes:?}");

    fs::write(host.path("guest").join(name).join(OsStr::from_bytes(b"\xe4")), [8; 6000]).unwrap();
    host.ok(["save", "work", "-m", "second"]);
    let diff = host.ok(["diff", "work@~1", "work@latest"]);
    assert!(diff.contains("M data \\xff\\xfe/\\xe4  (content, time)"), "{diff}");
    let change = &host.json_lines(["diff", "work@~1", "work@latest"])[0];
    assert_eq!(change["path"]["bytes"], serde_json::json!(bytes));
    let only = [OsStr::new("diff"), "work@~1".as_ref(), "work@latest".as_ref(), "--path".as_ref(), name];
    assert!(host.ok(only).contains("1 modified"));

    assert_eq!(host.ok([OsStr::new("cat"), &target("work@~1", &bytes)]).as_bytes(), [7; 5000]);
    assert!(host.ok([OsStr::new("ls"), &target("work@latest", name.as_bytes())]).contains("\\xe4"));
    host.assert_builds("work@latest", &host.path("guest"));
    let out = host.path("").join(OsStr::from_bytes(b"out \xff"));
    host.ok([OsStr::new("restore"), &target("work@latest", name.as_bytes()), out.as_os_str()]);
    assert_equal(&host.path("guest").join(name), &out);
    let built = host.json([OsStr::new("build"), "work@latest".as_ref(), host.path("").join(OsStr::from_bytes(b"\xff")).as_os_str()]);
    assert!(built["directory"]["bytes"].is_array(), "{built}");
    host.run([OsStr::new("cat"), &target("work@latest", b"no\xff")]).fails(3, &["\\\\xff", "is not in the entry"]);
    host.run([OsStr::new("cat"), OsStr::from_bytes(b"\xff:a")]).fails(2, &["names no entry"]);
}

#[test]
fn an_area_over_a_path_that_is_not_utf8_is_refused_in_words() {
    let host = Host::new();
    let tree = host.path("").join(OsStr::from_bytes(b"tree\xff"));
    write(&tree.join("file"), b"x");
    let args = [OsStr::new("area"), "add".as_ref(), "odd".as_ref(), "--tree".as_ref(), tree.as_os_str()];
    host.run(args).fails(2, &["is not UTF-8"]);
    assert_eq!(host.json_lines(["area", "list"]).len(), 0);
    // A base needs no description.
    host.ok([OsStr::new("base"), "add".as_ref(), "odd@1".as_ref(), "--tree".as_ref(), tree.as_os_str()]);
    host.assert_builds("BASE:odd@1", &tree);
}

#[test]
fn a_repository_may_lie_at_a_path_that_is_not_utf8() {
    let host = Host::bare();
    let repository = host.path("").join(OsStr::from_bytes(b"repository\xff"));
    let run = |args: &[&str]| {
        let mut command = host.command(args);
        let output = command.env("VML_REPO", &repository).arg("--json").output().unwrap();
        assert!(output.status.success(), "{args:?}: {}", String::from_utf8_lossy(&output.stderr));
        serde_json::from_slice::<serde_json::Value>(&output.stdout).unwrap()
    };
    assert!(run(&["init"])["repository"]["bytes"].is_array());
    assert!(run(&["stats"])["repository"]["bytes"].is_array());
}

#[test]
fn names_and_messages_cannot_move_the_cursor() {
    let host = Host::with_area();
    write(&host.path("guest/\x1b[2Jclear\nline"), b"x");
    host.ok(["save", "work", "-m", "mess\x1b[2Jage\r"]);
    host.ok(["note", "work@latest", "\x1b]0;title\x07"]);
    for args in [&["ls", "-lR", "work@latest"][..], &["log"], &["show", "work@latest"], &["area", "show", "work"]] {
        let text = host.ok(args);
        assert!(!text.contains(['\x1b', '\x07', '\r']), "{args:?}: {text:?}");
    }
    assert!(host.ok(["ls", "work@latest"]).contains("\\u{1b}[2Jclear\\nline"));
    host.assert_builds("work@latest", Path::new(&host.path("guest")));
}
