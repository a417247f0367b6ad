//! Areas of guests that are reached over SSH.

use crate::support::{Host, assert_equal, make_guest};
use std::fs;
use vml_testkit::sshd::Sshd;

/// A host whose area `lab` is the directory `guest`, reached over SSH; nothing where there is no `sshd`.
fn lab(test: &str, more: &[&str]) -> Option<(Host, Sshd)> {
    let server = Sshd::start(test)?;
    let host = Host::new();
    make_guest(&host.path("guest"));
    let (address, dir) = (format!("root@127.0.0.1:{}", server.port()), host.path("guest").to_str().unwrap().to_owned());
    let (user, known) = (server.path("user"), server.path("known"));
    let words = ["area", "add", "lab", "--ssh", &address, "--path", &dir, "--no-default-exclude"];
    let keys = ["--identity", user.to_str().unwrap(), "--known-hosts", known.to_str().unwrap()];
    host.ok(words.iter().chain(&keys).chain(more));
    Some((host, server))
}

#[test]
fn a_guest_is_saved_built_and_brought_back() {
    for more in [&[][..], &["--ssh-command"]] {
        let Some((host, _server)) = lab("a_guest_is_saved_built_and_brought_back", more) else { return };
        let shown = host.ok(["area", "show", "lab"]);
        assert!(shown.contains("guest    root@127.0.0.1:") && shown.contains(host.path("guest").to_str().unwrap()), "{shown}");
        assert!(host.json(["area", "show", "lab"])["ssh"]["address"].as_str().unwrap().starts_with("root@127.0.0.1:"));
        let first = host.json(["save", "lab", "-m", "first"]);
        assert_eq!(first["problems"].as_array().unwrap().len(), 0);
        let facts = host.json(["show", "lab@latest"]);
        assert!(facts["facts"]["guest.kernel"].is_string() && facts["facts"]["guest.ssh"].is_string(), "{facts}");
        assert_eq!(host.json(["save", "lab", "-m", "again"])["read_files"], 0);

        host.ok(["build", "lab@latest", "built"]);
        let inside = host.path("built").join(host.path("guest").strip_prefix("/").unwrap());
        assert_equal(&host.path("guest"), &inside);

        // Spoil the guest, and bring it back.
        fs::write(host.path("guest/new"), "not saved").unwrap();
        let any = fs::read_dir(host.path("guest/etc")).unwrap().flatten().find(|entry| entry.file_type().unwrap().is_file()).unwrap();
        fs::write(any.path(), "spoilt").unwrap();
        let planned = host.json(["area", "patch", "lab", "lab@latest", "--dry-run"]);
        assert_eq!((planned["removed"].as_u64(), planned["dry_run"].as_bool()), (Some(1), Some(true)), "{planned}");
        assert!(host.path("guest/new").exists());
        host.ok(["area", "patch", "lab", "lab@latest", "--yes"]);
        assert_equal(&host.path("guest"), &inside);
    }
}

#[test]
fn what_cannot_be_reached_or_trusted_is_refused() {
    let Some((host, server)) = lab("what_cannot_be_reached_or_trusted", &[]) else { return };
    host.run(["area", "add", "bad", "--ssh", "root@-oProxyCommand=x"]).fails(2, &["no address of a guest"]);
    host.run(["area", "add", "bad", "--ssh", "root@host", "--path", "home"]).fails(2, &["no directory of a guest"]);
    server.know(server.other_key());
    host.run(["save", "lab", "-m", "x"]).fails(3, &["is not the one in", "SHA256:"]);
    assert_eq!(host.json_lines(["log", "lab"]).len(), 0);
}
