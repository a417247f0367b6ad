//! What is done in a guest is in the machine that is built of an entry, and nothing else is.

use crate::lab::Lab;
use std::collections::BTreeSet;
use std::fs;
use vml_testkit::guest::{feed, folder, ssh, tool};

/// A tar stream with a file that has an access control list, and one with a capability.
fn attributed(lab: &Lab) -> Vec<u8> {
    let dir = lab.host.path("attributed");
    fs::create_dir_all(&dir).unwrap();
    fs::write(dir.join("shared"), "for two\n").unwrap();
    fs::write(dir.join("able"), "#!/bin/sh\n").unwrap();
    tool("setfacl", &["-m", "u:1:rw", "shared"], &dir);
    tool("setcap", &["cap_net_raw+ep", "able"], &dir);
    tool("tar", &["--create", "--acls", "--xattrs", "--xattrs-include=*", "--file=../attributed.tar", "shared", "able"], &dir);
    fs::read(lab.host.path("attributed.tar")).unwrap()
}

/// A package with one file.
fn package(lab: &Lab) -> Vec<u8> {
    let dir = lab.host.path("package");
    fs::create_dir_all(dir.join("DEBIAN")).unwrap();
    fs::create_dir_all(dir.join("usr/local/bin")).unwrap();
    let control = "Package: hello-vml\nVersion: 1\nArchitecture: all\nMaintainer: none <none@example.org>\nDescription: a test\n";
    fs::write(dir.join("DEBIAN/control"), control).unwrap();
    fs::write(dir.join("usr/local/bin/hello-vml"), "#!/bin/sh\necho hello\n").unwrap();
    tool("chmod", &["755", "usr/local/bin/hello-vml"], &dir);
    tool("dpkg-deb", &["--build", "--root-owner-group", ".", "../hello.deb"], &dir);
    fs::read(lab.host.path("hello.deb")).unwrap()
}

/// Changes of every kind.
fn change(lab: &Lab, port: u16) {
    ssh(
        port,
        "echo changed > /etc/motd; echo new > /home/dev/new; rm /etc/issue.net; cd /home/dev && truncate -s 1G sparse && echo end >> sparse",
    );
    feed(port, "tar --extract --acls --xattrs --xattrs-include='*' --directory=/srv", &attributed(lab));
    feed(port, "cat > /var/tmp/hello.deb && dpkg --install /var/tmp/hello.deb > /dev/null 2>&1 && rm /var/tmp/hello.deb", &package(lab));
    ssh(port, "useradd --create-home guestuser && sync");
}

/// The same in another machine.
fn assert_changed(port: u16) {
    assert_eq!(ssh(port, "cat /etc/motd /home/dev/new"), "changed\nnew");
    assert_eq!(ssh(port, "test -e /etc/issue.net || echo gone"), "gone");
    assert_eq!(
        ssh(port, "stat -c %s /home/dev/sparse; test $(stat -c %b /home/dev/sparse) -lt 100 && tail -c 4 /home/dev/sparse"),
        "1073741828\nend"
    );
    assert_eq!(ssh(port, "hello-vml; dpkg-query -W hello-vml; id -un guestuser"), "hello\nhello-vml\t1\nguestuser");
    let headers = "tar --create --format=posix --acls --xattrs --xattrs-include='*' -C /srv shared able";
    let has = |what: &str| ssh(port, &format!("{headers} | grep -a -q -e {what} && echo yes"));
    assert_eq!((has("'user:\\(daemon\\|1\\):rw-'").as_str(), has("security.capability").as_str()), ("yes", "yes"));
}

/// The names that differ between two entries, but for what every running guest writes.
fn differing(lab: &Lab, one: &str, other: &str) -> BTreeSet<String> {
    let rows = lab.host.json_lines(["diff", one, other]);
    let paths = rows.iter().filter_map(|row| row["path"].as_str().map(str::to_owned));
    paths.filter(|path| !["var/log/", "var/lib/dpkg/", "var/cache/", "root/"].iter().any(|noise| path.starts_with(noise))).collect()
}

#[test]
#[ignore = "needs VML_GUEST; scripts/test-machines.sh runs it"]
fn files_that_came_over_ssh_are_in_the_machine_that_is_built() {
    let lab = Lab::new();
    lab.add("work");
    let port = lab.start("work");
    change(&lab, port);
    let saved = lab.host.json(["save", "work", "-m", "files", "--mode", "tree", "--tag", "by-tree"]);
    assert!(saved["files"].as_u64().unwrap() > 500, "{saved}");
    let shown = lab.host.json(["show", "by-tree"]);
    assert!(shown["facts"]["guest.os"].as_str().unwrap().contains("Debian"), "{shown}");
    lab.host.ok(["area", "stop", "work", "--now"]);
    lab.host.run(["save", "work", "-m", "none", "--mode", "tree"]).fails(2, &["cannot be reached", "off"]);

    // The base's disk, and the files in it: once started, once to be resumed.
    let mut build = vec!["build", "by-tree", "--area", "second", "--start"];
    let login = lab.login();
    build.extend(login.iter().map(String::as_str));
    let built = lab.host.json(&build);
    assert_eq!(built["state"], "running", "{built}");
    assert_changed(lab.port("second"));
    lab.host.ok(["save", "second", "-m", "again", "--mode", "tree"]);
    let other: Vec<_> = differing(&lab, "by-tree", "second@latest").into_iter().filter(|path| !path.starts_with("var/")).collect();
    assert!(other.is_empty(), "{other:?} differ in what was built");
    lab.host.ok(["area", "stop", "second", "--now"]);

    build.retain(|word| *word != "--start");
    build[3] = "third";
    assert_eq!(lab.host.json(&build)["state"], "suspended");
    lab.host.ok(["area", "start", "third"]);
    assert_changed(lab.port("third"));
    // Without a way in, nothing is made.
    lab.host.run(["build", "by-tree", "--area", "fourth"]).fails(2, &["--ssh"]);
    assert!(!lab.host.path("home/areas/fourth").exists());
}

#[test]
#[ignore = "needs VML_GUEST; scripts/test-machines.sh runs it"]
fn changes_in_a_guest_are_in_the_machine_that_is_built_and_a_program_goes_on() {
    let lab = Lab::new();
    lab.add("work");
    let port = lab.start("work");
    change(&lab, port);
    lab.host.ok(["save", "work", "-m", "disk", "--mode", "disk", "--tag", "by-disk"]);
    // A program that is in memory only.
    ssh(port, "(while sleep 0.1; do echo >> /run/counter; done) > /dev/null 2>&1 & sleep 1");
    lab.host.ok(["save", "work", "-m", "full", "--mode", "full", "--tag", "by-full"]);
    let counted: u64 = ssh(port, "wc -l < /run/counter").parse().unwrap();
    lab.host.ok(["area", "stop", "work", "--now"]);

    let changed = differing(&lab, "BASE:guest@1", "by-disk");
    for path in
        ["etc/motd", "etc/issue.net", "home/dev/new", "home/dev/sparse", "srv/able", "srv/shared", "usr/local/bin/hello-vml", "etc/passwd"]
    {
        assert!(changed.contains(path), "{path} is not in {changed:?}");
    }
    let known = ["etc", "home/dev", "home/guestuser", "srv", "usr/local/bin/hello-vml", "usr/local/bin", "home", "var/"];
    let other: Vec<_> = changed.iter().filter(|path| !known.iter().any(|known| path.starts_with(known))).collect();
    assert!(other.is_empty(), "nobody changed {other:?}");

    // Another machine from the base and the entry; the first one is off, and not touched.
    let built = lab.host.json(["build", "by-disk", "--area", "second", "--start"]);
    assert_eq!((built["state"].as_str(), built["memory"].as_bool()), (Some("running"), Some(false)), "{built}");
    let base = folder().join("disk.raw").canonicalize().unwrap();
    assert_eq!(built["disks"][0]["base_image"], base.to_str().unwrap());
    assert_changed(lab.port("second"));
    lab.host.ok(["area", "stop", "second", "--now"]);

    // With its memory it goes on where it was.
    let resumed = lab.host.json(["build", "by-full", "--area", "third", "--start"]);
    assert_eq!((resumed["state"].as_str(), resumed["memory"].as_bool()), (Some("running"), Some(true)), "{resumed}");
    let port = lab.port("third");
    let first: u64 = ssh(port, "wc -l < /run/counter").parse().unwrap();
    assert!(first > 3 && first <= counted + 100, "{first} after {counted}: it was not started anew");
    std::thread::sleep(std::time::Duration::from_secs(1));
    assert!(ssh(port, "wc -l < /run/counter").parse::<u64>().unwrap() > first, "the program goes on");
    assert_changed(port);
    // Its log goes on from the entry that it was built from.
    lab.host.ok(["save", "third", "-m", "on"]);
    let parent = lab.host.json(["show", "third@~1"]);
    assert_eq!(parent["message"], "full");
    lab.host.ok(["area", "stop", "third", "--now"]);
    // Without it, it starts from its disks.
    lab.host.ok(["build", "by-full", "--area", "fourth", "--no-memory"]);
    assert_eq!(lab.state("fourth"), "off");
    lab.host.run(["build", "by-full", "--area", "fourth"]).fails(3, &["\"fourth\"", "already"]);
    lab.host.assert_whole();
}
