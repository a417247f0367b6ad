//! Files that change, vanish or cannot be read while they are saved: the save goes on, names them and ends with 1.

use crate::places::unprivileged;
use crate::support::{Host, Ran, skip, write};
use rustix::process::{Pid, Signal, kill_process};
use std::fs::{self, File, Permissions};
use std::io::Write;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::process::{Child, Stdio};

/// Waits until `child` reads `path`, and stops it there. False when it ended before.
fn stop_while_reading(child: &mut Child, path: &Path) -> bool {
    let fds = format!("/proc/{}/fd", child.id());
    let pid = Pid::from_child(child);
    while child.try_wait().unwrap().is_none() {
        let is_open = fs::read_dir(&fds).is_ok_and(|fds| fds.flatten().any(|fd| fs::read_link(fd.path()).is_ok_and(|to| to == path)));
        if is_open {
            kill_process(pid, Signal::STOP).unwrap();
            let still = fs::read_dir(&fds).unwrap().flatten().any(|fd| fs::read_link(fd.path()).is_ok_and(|to| to == path));
            if still {
                return true;
            }
            kill_process(pid, Signal::CONT).unwrap();
        }
    }
    false
}

/// Saves a tree whose first file takes long, and does something while that is read.
fn save_and_meanwhile(host: &Host, meanwhile: impl Fn()) -> Ran {
    let big = host.path("live/a-big");
    write(&big, &vml_testkit::noise::incompressible(1, 48 << 20));
    for name in ["b-gone", "c-stays", "d/gone-too", "d/stays"] {
        write(&host.path("live").join(name), name.as_bytes());
    }
    host.ok(["area", "add", "live", "--tree", "live"]);
    let mut command = host.command(["save", "live", "-m", "live", "--threads", "1"]);
    let mut child = command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    assert!(stop_while_reading(&mut child, &fs::canonicalize(&big).unwrap()), "the save ended before it was seen reading");
    meanwhile();
    kill_process(Pid::from_child(&child), Signal::CONT).unwrap();
    Ran::of(&child.wait_with_output().unwrap())
}

#[test]
fn a_file_that_vanishes_is_named_and_the_rest_is_saved() {
    let host = Host::new();
    let ran = save_and_meanwhile(&host, || {
        fs::remove_file(host.path("live/b-gone")).unwrap();
        fs::remove_file(host.path("live/d/gone-too")).unwrap();
    });
    let ran = ran.fails(1, &["b-gone: left out: it vanished while the tree was saved"]);
    assert!(ran.out.contains("saved live as") && ran.out.contains("named above"), "{}", ran.out);
    assert!(ran.out.contains("left out /b-gone (unreadable)"), "{}", ran.out);
    host.ok(["build", "live@latest", "out"]);
    for name in ["a-big", "c-stays", "d/stays"] {
        assert_eq!(fs::read(host.path("out").join(name)).unwrap(), fs::read(host.path("live").join(name)).unwrap(), "{name}");
    }
    assert!(!host.path("out/b-gone").exists());
    host.assert_whole();
    assert!(host.ok(["show", "live@latest"]).contains("/b-gone (unreadable)"));
}

#[test]
fn a_file_that_grows_while_it_is_read_is_saved_as_it_is_in_the_end() {
    let host = Host::new();
    let ran = save_and_meanwhile(&host, || {
        let mut file = File::options().append(true).open(host.path("live/a-big")).unwrap();
        file.write_all(b"one more line").unwrap();
    });
    assert_eq!((ran.code, ran.err.as_str()), (0, ""));
    host.assert_builds("live@latest", &host.path("live"));
}

#[test]
fn a_file_that_cannot_be_read_is_named_and_the_rest_is_saved() {
    let host = Host::with_area();
    write(&host.path("guest/secret"), b"for root only");
    write(&host.path("guest/closed/file"), b"for root only");
    fs::set_permissions(host.path("guest/secret"), Permissions::from_mode(0o000)).unwrap();
    fs::set_permissions(host.path("guest/closed"), Permissions::from_mode(0o000)).unwrap();
    fs::create_dir(host.path("own")).unwrap();
    fs::set_permissions(host.path("own"), Permissions::from_mode(0o777)).unwrap();
    let run = |args: &[&str]| {
        let mut command = unprivileged(&host, args)?;
        Some(Ran::of(&command.env("VML_REPO", host.path("own/repository")).output().unwrap()))
    };
    let Some(made) = run(&["init"]) else {
        return skip("a_file_that_cannot_be_read_is_named_and_the_rest_is_saved", "setpriv does not work here");
    };
    assert_eq!(made.code, 0, "{}", made.err);
    let ran = run(&["save", "work", "-m", "as nobody"]).unwrap();
    let ran = ran.fails(1, &["secret: left out: cannot read it: Permission denied", "closed: left out: cannot read the directory"]);
    assert!(ran.out.contains("with 2 problems, named above"), "{}", ran.out);
    let json = run(&["save", "work", "-m", "again", "--json"]).unwrap();
    assert_eq!((json.code, json.err.as_str()), (1, ""));
    let json: serde_json::Value = serde_json::from_str(&json.out).unwrap();
    assert_eq!(json["problems"].as_array().unwrap().len(), 2, "{json}");
    let built = run(&["build", "work@latest", "own/out"]).unwrap();
    assert_eq!(built.code, 0, "{}", built.err);
    assert!(host.path("own/out/etc/hosts").exists() && !host.path("own/out/secret").exists());
    fs::set_permissions(host.path("guest/closed"), Permissions::from_mode(0o755)).unwrap();
}
