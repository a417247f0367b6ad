//! Encrypted repositories from the command line: keys in files, commands and descriptors, keys that save but do not read, clones.

use crate::support::{Host, make_guest, write};
use serde_json::Value;
use std::fs;
use std::process::Stdio;
use vml_testkit::noise;

/// A host with an encrypted repository, and the passphrase in a file that a variable names.
fn encrypted() -> Host {
    let mut host = Host::bare();
    write(&host.path("passphrase"), b"correct horse\n");
    host.set("VML_PASSPHRASE_FILE", host.path("passphrase").display().to_string());
    assert!(host.ok(["init", "--encrypt", "--label", "laptop"]).starts_with("made an encrypted repository in "));
    host
}

/// The same with the area `work`.
fn with_area() -> Host {
    let host = encrypted();
    make_guest(&host.path("guest"));
    host.ok(["area", "add", "work", "--tree", "guest"]);
    host
}

fn without_key(host: &Host, args: &[&str]) -> crate::support::Ran {
    crate::support::Ran::of(&host.command(args).env_remove("VML_PASSPHRASE_FILE").stdin(Stdio::null()).output().unwrap())
}

#[test]
fn it_is_used_like_any_other() {
    let host = with_area();
    host.ok(["save", "work", "-m", "first"]);
    write(&host.path("guest/home/dev/notes"), b"two\n");
    host.ok(["save", "work", "-m", "second", "--tag", "good"]);
    host.ok(["note", "good", "a remark"]);
    assert_eq!(host.ok(["cat", "good:home/dev/notes"]), "two\n");
    assert!(host.ok(["diff", "work@~1", "good"]).contains("home/dev/notes"));
    host.ok(["build", "good", "built"]);
    host.ok(["build", "work@~1", "built", "--delete", "--yes"]);
    host.ok(["save", "work", "-m", "tried", "--dry-run"]);
    host.ok(["check", "--data"]);
    host.ok(["forget", "work@~1", "--yes"]);
    host.ok(["gc"]);
    host.ok(["check", "--data"]);
    assert!(host.ok(["stats"]).contains("entries"));
    let stored = fs::read_dir(host.repository().join("refs/tags")).unwrap().next().unwrap().unwrap().file_name();
    assert!(!stored.to_string_lossy().contains("good"));
}

#[test]
fn without_its_key_it_tells_which_there_are_and_nothing_else() {
    let host = with_area();
    host.ok(["save", "work", "-m", "first"]);
    for args in
        [&["log"][..], &["save", "work", "-m", "x"], &["stats"], &["gc"], &["check"], &["build", "work@latest", "x"], &["access", "rotate"]]
    {
        without_key(&host, args).fails(3, &["encrypted", "\"laptop\" (passphrase)", "--passphrase-file"]);
    }
    let listed = without_key(&host, &["access", "list", "--json"]);
    let listed: Value = serde_json::from_str(&listed.out).unwrap();
    assert_eq!((&listed["label"], &listed["rights"], &listed["kind"]), (&"laptop".into(), &"full".into(), &"passphrase".into()));
    without_key(&host, &["log", "--passphrase-command", "echo wrong"]).fails(3, &["opens none of", "vml access list"]);
    for given in [["--passphrase-command", "cat passphrase"], ["--passphrase-file", "passphrase"], ["--passphrase-fd", "0"]] {
        let mut command = host.command(["log", given[0], given[1]]);
        command.env_remove("VML_PASSPHRASE_FILE").stdin(fs::File::open(host.path("passphrase")).unwrap());
        let ran = crate::support::Ran::of(&command.output().unwrap());
        assert!(ran.code == 0 && ran.out.contains("first"), "{}", ran.err);
    }
    without_key(&host, &["log", "--passphrase-file", "missing"]).fails(3, &["cannot read the passphrase"]);
    without_key(&host, &["log", "--passphrase-file", "a", "--key-file", "b"]).fails(2, &["cannot be used with"]);
}

#[test]
fn keys_are_given_and_taken_away() {
    let host = with_area();
    host.ok(["save", "work", "-m", "first"]);
    let made = host.ok(["access", "add", "--label", "host7", "--new-key-file", "host7.key"]);
    assert!(made.starts_with("gave the key host7 ("), "{made}");
    host.ok(["access", "add", "--label", "nightly", "--put-only", "--new-passphrase-command", "echo put"]);
    host.run(["access", "add", "--label", "nightly", "--new-passphrase-command", "echo x"]).fails(3, &["already"]);
    assert_eq!(host.ok(["access", "list"]).lines().count(), 3);
    assert!(without_key(&host, &["log", "--key-file", "host7.key"]).out.contains("first"));
    // It saves, and reads nothing.
    write(&host.path("guest/home/dev/notes"), b"by night\n");
    let putting = ["--passphrase-command", "echo put"];
    let saved = without_key(&host, &[&["save", "work", "-m", "nightly"], &putting[..]].concat());
    assert!(saved.code == 0 && saved.err.contains("can save but not read"), "{}{}", saved.out, saved.err);
    for args in [
        &["log"][..],
        &["show", "work@latest"],
        &["build", "work@latest", "x"],
        &["gc"],
        &["access", "rotate"],
        &["diff", "work@~1", "work@latest"],
    ] {
        without_key(&host, &[args, &putting[..]].concat()).fails(3, &["can save but not read"]);
    }
    assert_eq!(host.ok(["cat", "work@latest:home/dev/notes"]), "by night\n");
    host.ok(["access", "remove", "host7", "--yes"]);
    without_key(&host, &["log", "--key-file", "host7.key"]).fails(3, &["opens none of"]);
    assert!(host.ok(["access", "rotate"]).contains("laptop, nightly"));
    host.ok(["save", "work", "-m", "after"]);
    host.run(["access", "remove", "laptop", "--yes"]).fails(2, &["only key that can read"]);
    host.run(["access", "remove", "nobody", "--yes"]).fails(3, &["no key \"nobody\""]);
    host.ok(["check", "--data"]);
}

#[test]
fn a_key_for_what_is_not_encrypted_is_an_error() {
    let mut host = Host::new();
    without_key(&host, &["access", "rotate"]).fails(2, &["is not encrypted"]);
    assert_eq!(host.ok(["access", "list"]), "this repository is not encrypted\n");
    write(&host.path("passphrase"), b"x\n");
    host.set("VML_PASSPHRASE_FILE", host.path("passphrase").display().to_string());
    host.run(["log"]).fails(2, &["is not encrypted"]);
    host.run(["--repo", "other", "init"]).fails(2, &["--encrypt"]);
    host.set("VML_KEY_FILE", "another");
    host.run(["log"]).fails(2, &["more than one"]);
    without_key(&Host::bare(), &["init", "--encrypt"]).fails(3, &["no terminal"]);
}

#[test]
fn entries_cross_to_a_clone_as_they_are_and_are_written_anew_elsewhere() {
    let host = with_area();
    host.ok(["save", "work", "-m", "first"]);
    host.ok(["--repo", "copy", "clone", "home/repository"]);
    assert!(host.ok(["--repo", "copy", "log"]).contains("first"));
    host.ok(["save", "work", "-m", "second"]);
    host.ok(["--repo", "copy", "pull", "origin"]);
    assert!(host.ok(["--repo", "copy", "log"]).contains("second"));
    host.ok(["--repo", "copy", "check", "--data"]);
    without_key(&host, &["--repo", "plain", "init"]);
    host.ok(["remote", "add", "plain", "plain"]);
    // Where chunks are named otherwise entries are written anew.
    let pushed = host.run(["push", "plain"]);
    assert_eq!(pushed.code, 0, "{}", pushed.err);
    assert!(without_key(&host, &["--repo", "plain", "log"]).out.contains("second"));
    without_key(&host, &["--repo", "plain", "save", "work", "-m", "in the clear"]);
    let pulled = host.run(["pull", "plain"]);
    assert_eq!(pulled.code, 0, "{}", pulled.err);
    assert!(host.ok(["log"]).contains("in the clear"));
    host.ok(["check", "--data"]);
}

#[test]
fn what_it_holds_is_shared_with_who_has_none_of_its_keys() {
    let (eva, tom, ida) = (encrypted(), Host::new(), encrypted());
    for dir in ["base", "guest"] {
        make_guest(&eva.path(dir));
    }
    make_guest(&tom.path("base"));
    tom.ok(["base", "add", "debian@12", "--tree", "base"]);
    eva.ok(["base", "add", "debian@12", "--tree", "base"]);
    eva.ok(["area", "add", "work", "--tree", "guest", "--base", "debian@12"]);
    write(&eva.path("guest/home/dev/results"), &noise::text(5, 200_000));
    eva.ok(["save", "work", "-m", "first"]);
    write(&eva.path("guest/home/dev/notes"), b"two\n");
    eva.ok(["save", "work", "-m", "second"]);
    let first = eva.json(["share", "work@~1", "-o", "first.vml"]);
    assert_eq!(first["needs"][0]["name"], "debian@12");
    let second = eva.json(["share", "work@latest", "--since", "work@~1", "-o", "second.vml"]);
    assert!(second["bytes"].as_u64() < Some(10_000), "{second}");
    assert_eq!(second["needs"][0]["entry"], first["entries"][0], "an entry gets the same id each time");
    assert_eq!(fs::read_dir(eva.path("tmp")).map_or(0, Iterator::count), 0, "nothing in the clear stays behind");
    for name in ["first.vml", "second.vml"] {
        fs::copy(eva.path(name), tom.path(name)).unwrap();
        tom.ok(["receive", name]);
    }
    tom.assert_builds("work@latest", &eva.path("guest"));
    assert_eq!(tom.json_lines(["log", "work"]).len(), 2);
    tom.assert_whole();
    // Sealed on the way from one encrypted repository to another.
    ida.ok(["key", "new"]);
    write(&eva.path("ida.pub"), ida.ok(["key", "export"]).as_bytes());
    let carried_over = |host: &Host, args: &[&str]| {
        let ran = host.run(args);
        assert!(ran.code == 0 && ran.err.contains("its entries are carried over"), "{args:?}: {}", ran.err);
    };
    carried_over(&eva, &["share", "work@latest", "--full", "--to", "ida.pub", "-o", "sealed.vml"]);
    fs::copy(eva.path("sealed.vml"), ida.path("sealed.vml")).unwrap();
    assert!(!fs::read(eva.path("sealed.vml")).unwrap().windows(6).any(|six| six == b"debian"));
    carried_over(&ida, &["receive", "sealed.vml"]);
    ida.assert_builds("work@latest", &eva.path("guest"));
    ida.assert_whole();
}
