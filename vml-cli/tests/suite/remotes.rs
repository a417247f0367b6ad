//! Remotes that are directories: what users type. What goes over a wire is tried in `tests/service`.

use crate::support::{Host, write};
use serde_json::json;
use std::fs;
use std::os::unix::fs::PermissionsExt;
use vml_testkit::noise;

/// A host with a base and an area upon it, saved twice, and a remote `origin` that is an empty repository.
fn sender() -> Host {
    let host = Host::with_base(|dir| write(&dir.join("results"), &noise::text(5, 200_000)));
    host.ok(["--repo", "store", "init"]);
    host.ok(["remote", "add", "origin", "store"]);
    host
}

#[test]
fn everything_is_pushed_and_another_host_clones_it() {
    let eva = sender();
    eva.ok(["tag", "work@~1", "start"]);
    eva.ok(["note", "work@latest", "it works"]);
    let plan = eva.json_lines(["push", "--dry-run"]);
    assert_eq!(plan.len(), 3);
    assert_eq!(eva.json_lines(["--repo", "store", "log"]), Vec::<serde_json::Value>::new());
    let said = eva.ok(["push"]);
    assert!(said.contains("work is new there") && said.contains("3 entries to origin"), "{said}");
    let again = eva.json(["push"]);
    assert_eq!((&again["entries"], &again["frames_bytes"], &again["present"]), (&json!([]), &json!(0), &json!(3)));
    assert_eq!(eva.ok(["push", "origin", "work"]), "nothing new to origin\n");

    let tom = Host::bare();
    let url = eva.path("store").display().to_string();
    let said = tom.ok(["clone", &url]);
    assert!(said.contains("made a repository") && said.contains("3 entries from origin"), "{said}");
    tom.assert_whole();
    tom.assert_builds("work@latest", &eva.path("guest"));
    assert_eq!(tom.json(["show", "start"])["message"], "first");
    assert!(tom.ok(["show", "work@latest"]).contains("it works"));
    assert_eq!(tom.json_lines(["remote", "list"])[0]["name"], "origin");
    assert_eq!(tom.ok(["pull"]), "nothing new from origin\n");
}

#[test]
fn only_what_is_named_crosses() {
    let eva = sender();
    eva.ok(["push", "work@~1"]);
    assert_eq!(eva.json_lines(["--repo", "store", "log"]).len(), 2);
    let rest = eva.json(["push", "origin", "work@latest"]);
    assert_eq!(rest["entries"].as_array().unwrap().len(), 1);
    assert!(rest["frames_bytes"].as_u64().unwrap() < 5000, "{rest}");
    // Names of the other side.
    let tom = Host::new();
    tom.ok(["remote", "add", "eva", &eva.path("store").display().to_string()]);
    let shown = tom.json_lines(["remote", "show"]);
    assert_eq!(shown.iter().map(|at| at["name"].as_str().unwrap()).collect::<Vec<_>>(), ["work", "debian@12"]);
    let id = shown[0]["entry"].as_str().unwrap();
    tom.ok(["pull", "eva", "BASE:debian@12"]);
    assert_eq!(tom.json(["pull", &id[..8], "--no-history"])["entries"].as_array().unwrap().len(), 1);
    tom.assert_builds("work@latest", &eva.path("guest"));
    assert_eq!(tom.json(["pull", "work"])["entries"].as_array().unwrap().len(), 0);
    tom.run(["pull", "eva", "nothing"]).fails(3, &["no area, tag, base or entry \"nothing\"", "remote show"]);
    tom.run(["pull", "eva", "abcdef01"]).fails(3, &["no area, tag, base or entry"]);
    tom.run(["pull", "nobody", "work"]).fails(3, &["there is no remote \"nobody\""]);
}

#[test]
fn areas_that_went_two_ways_are_both_kept() {
    let (eva, tom) = (sender(), Host::new());
    eva.ok(["push"]);
    tom.ok(["remote", "add", "origin", &eva.path("store").display().to_string()]);
    tom.ok(["pull"]);
    tom.ok(["build", "work@latest", "mine"]);
    tom.ok(["area", "add", "work", "--tree", "mine", "--base", "debian@12"]);
    write(&tom.path("mine/home/dev/notes"), b"tom's\n");
    tom.ok(["save", "work", "-m", "tom's"]);
    let said = tom.ok(["push"]);
    assert!(said.contains("the log of work goes on with it"), "{said}");
    write(&eva.path("guest/home/dev/notes"), b"eva's\n");
    eva.ok(["save", "work", "-m", "eva's"]);
    let said = eva.ok(["push"]);
    assert!(said.contains("work there is another, so it has the tag work-received-"), "{said}");
    let said = eva.ok(["pull"]);
    assert!(said.contains("work here is another"), "{said}");
    eva.assert_whole();
    tom.assert_whole();
}

#[test]
fn a_shared_remote_gets_no_secrets_unless_it_is_said() {
    let host = sender();
    write(&host.path("guest/home/dev/.ssh/id_ed25519"), b"a key\n");
    host.ok(["save", "work", "-m", "with a key"]);
    host.ok(["remote", "add", "team", "store", "--shared"]);
    host.run(["push", "team"]).fails(3, &["found what may be secret", ".ssh/id_ed25519", "--allow-secrets"]);
    assert_eq!(host.json_lines(["--repo", "store", "log"]).len(), 0);
    let ran = host.run(["push", "team", "--allow-secrets"]);
    assert_eq!(ran.code, 0, "{}", ran.err);
    assert_eq!(host.json_lines(["--repo", "store", "log"]).len(), 4);
    // Devices and set-user-id programs of somebody else's are not made from it.
    let tom = Host::new();
    tom.ok(["remote", "add", "team", &host.path("store").display().to_string(), "--shared"]);
    tom.ok(["pull"]);
    let notes = tom.json(["show", "work@latest"])["notes"].to_string();
    assert!(notes.contains("not signed"), "{notes}");
}

#[test]
fn remotes_are_listed_kept_private_and_forgotten() {
    let host = Host::new();
    fs::write(host.path("token"), "vml_secret\n").unwrap();
    assert_eq!(host.ok(["remote", "list"]), "no remotes yet; `vml remote add NAME URL` adds one\n");
    host.ok(["remote", "add", "web", "https://vml.example.org/", "--token-file", "token"]);
    host.ok(["remote", "add", "desk", "ssh://eva@desk/srv/vml", "--program", "/opt/vml"]);
    host.run(["remote", "add", "desk", "elsewhere"]).fails(3, &["there is a remote \"desk\" already"]);
    host.run(["remote", "add", "x", "ftp://host/vml"]).fails(2, &["remotes of the kind ftp://"]);
    host.run(["remote", "add", "x", "ssh://-oProxyCommand=id/vml"]).fails(2, &["names no host"]);
    host.run(["remote", "add", "x", "dir", "--token-file", "token"]).fails(2, &["a token is for http"]);
    let file = host.path("home/remotes.toml");
    assert_eq!(fs::metadata(&file).unwrap().permissions().mode() & 0o777, 0o600);
    let listed = host.json_lines(["remote", "list"]);
    assert_eq!(listed[0], json!({ "name": "desk", "url": "ssh://eva@desk/srv/vml", "own": true, "token": false }));
    assert_eq!(listed[1], json!({ "name": "web", "url": "https://vml.example.org", "own": false, "token": true }));
    assert!(!host.ok(["remote", "list"]).contains("secret"));
    host.run(["push"]).fails(2, &["there are several remotes"]);
    host.ok(["remote", "rm", "web"]);
    host.run(["remote", "rm", "web"]).fails(3, &["there is no remote \"web\""]);
    host.ok(["remote", "rm", "desk"]);
    host.run(["push"]).fails(3, &["there is no remote", "remote add"]);
    host.ok(["remote", "add", "gone", "nowhere"]);
    host.run(["push"]).fails(3, &["there is no repository in"]);
    fs::write(&file, "[remote.x]\nurl = 3\n").unwrap();
    host.run(["remote", "list"]).fails(3, &["is not a list of remotes", "remotes.toml"]);
}

#[test]
fn a_clone_never_touches_what_is_there() {
    let eva = sender();
    let tom = Host::new();
    let url = eva.path("store").display().to_string();
    tom.run(["clone", &url]).fails(3, &["there is something in", "--repo"]);
    tom.run(["--repo", "copy", "clone", "nowhere"]).fails(3, &["there is no repository in"]);
    assert!(!tom.path("copy").exists());
}

#[test]
fn what_a_remote_cuts_otherwise_is_carried_over() {
    let eva = Host::with_base(|dir| write(&dir.join("results"), &noise::text(5, 200_000)));
    eva.ok(["--repo", "store", "init", "--chunker", "fastcdc:1K/4K/32K"]);
    eva.ok(["remote", "add", "origin", "store"]);
    eva.ok(["note", "work@latest", "it works"]);
    assert_eq!(eva.json_lines(["push", "--dry-run"]).len(), 3);
    let done = eva.json(["push", "--verify"]);
    assert_eq!((&done["carried_over"], done["entries"].as_array().unwrap().len()), (&json!(true), 3));
    assert_ne!(done["entries"][2]["id"], done["entries"][2]["carried_from"]);
    assert_eq!(eva.ok(["push"]), "nothing new to origin\n");
    let shown = eva.ok(["--repo", "store", "show", "work@latest"]);
    assert!(shown.contains("it works") && shown.contains("this is entry"), "{shown}");
    // A clone cuts like the remote, and what is saved there goes back to where it came from.
    let tom = Host::bare();
    tom.ok(["clone", &eva.path("store").display().to_string()]);
    tom.ok(["build", "work@latest", "mine"]);
    tom.ok(["area", "add", "work", "--tree", "mine", "--base", "debian@12"]);
    write(&tom.path("mine/home/dev/notes"), b"tom's\n");
    tom.ok(["save", "work", "-m", "tom's"]);
    tom.ok(["push"]);
    let said = eva.ok(["pull"]);
    assert!(said.contains("the log of work goes on with it") && said.contains("1 entry from origin, carried over"), "{said}");
    assert_eq!(eva.json_lines(["log", "work"]).len(), 3);
    eva.assert_builds("work@latest", &tom.path("mine"));
    eva.assert_whole();
    tom.assert_whole();
    // A file that was made there is taken here.
    tom.ok(["share", "work@latest", "-o", "work.vml"]);
    fs::copy(tom.path("work.vml"), eva.path("work.vml")).unwrap();
    let received = eva.run(["receive", "work.vml"]);
    assert!(received.code == 0 && received.out.contains("there already"), "{}", received.out);
    assert!(received.err.contains("its entries are carried over"), "{}", received.err);
}
