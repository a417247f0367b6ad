//! A guest is brought to a saved state.

use crate::server::Server;
use crate::support::{Guest, assert_equal, let_files_age, noise, run};
use std::fs;
use std::os::unix::fs::symlink;
use vml_core::CollectMonitor;
use vml_core::tree::Exclude;
use vml_hv::ssh::{PatchOptions, apply, plan};

#[test]
fn a_guest_becomes_what_was_saved() {
    let Some(server) = Server::start("a_guest_becomes_what_was_saved") else { return };
    for way in server.ways() {
        let guest = Guest::new();
        guest.furnish();
        guest.write("tmp/scratch", b"never touched");
        let_files_age();
        let then = guest.save(way.transport());

        // Everything else than it was.
        guest.write("home/dev/large", &noise(50, 100));
        guest.write("home/dev/more/and/more", b"not saved");
        fs::remove_file(guest.path("home/dev/sparse")).unwrap();
        fs::remove_file(guest.path("home/dev/pipe")).unwrap();
        guest.write("home/dev/pipe/is/a/directory", b"x");
        fs::remove_dir_all(guest.path("usr/local/bin")).unwrap();
        symlink("/etc", guest.path("usr/local/bin")).unwrap();
        let text = |name: &str| guest.path(name).to_str().unwrap().to_owned();
        _ = run("setfacl", &["-b", &text("etc/hosts")]);
        _ = run("setcap", &["-r", &text("home/dev/empty")]);
        // What a directory has too much is taken away.
        _ = run("setfacl", &["-m", "u:7:rwx,d:u:8:rwx", &text("usr/local")]);
        _ = run("setfattr", &["-n", "user.extra", "-v", "x", &text("etc")]);
        std::os::unix::fs::chown(guest.path("etc"), Some(77), Some(78)).unwrap();
        let_files_age();
        let now = guest.save(way.transport());

        let tree = |entry: &vml_core::Entry| entry.tree().unwrap().root.clone();
        let (from, to) = (tree(&now.entry), tree(&then.entry));
        let (scope, exclude) = (guest.scope(&[]), Exclude::new(&["/tmp/*"]).unwrap());
        let options = PatchOptions { scope: &scope, exclude: &exclude, from: &from, to: &to };
        let monitor = CollectMonitor::default();
        let store = guest.repository.store(&monitor).unwrap();
        let planned = plan(store, &options).unwrap();
        let patched = apply(store, way.transport(), &options, &monitor).unwrap();
        assert_eq!((monitor.problems(), patched.problems_count), (Vec::new(), 0), "{}", way.name());
        assert_eq!(patched.plan, planned);
        assert!(planned.remove_count >= 5 && planned.send_bytes > 700_000, "{planned:?}");
        let built = guest.build(&then.id);
        // The root itself is no chosen directory; its times are the guest's own.
        assert_eq!(fs::read(guest.path("tmp/scratch")).unwrap(), b"never touched");
        for dir in ["etc", "home", "usr"] {
            assert_equal(&guest.path(dir), &built.path().join(dir));
        }
    }
}

#[test]
fn accounts_are_merged_and_what_nobody_chose_stays() {
    let Some(server) = Server::start("accounts_are_merged") else { return };
    let way = server.by_library();
    let guest = Guest::new();
    guest.write("etc/passwd", b"root:x:0:0::/root:/bin/sh\nann:x:1000:1000::/home/ann:/bin/sh\n");
    guest.write("etc/shadow", b"root:saved:1::::::\nann:ann:1::::::\n");
    guest.write("etc/gone", b"x");
    guest.write("srv/other", b"not chosen");
    let_files_age();
    let monitor = CollectMonitor::default();
    let then = guest.try_save(way.transport(), &["etc"], None, &monitor).unwrap();

    guest.write("etc/passwd", b"root:x:0:0::/root:/bin/sh\nbob:x:1000:1000::/home/bob:/bin/sh\n");
    fs::remove_file(guest.path("etc/shadow")).unwrap();
    guest.write("etc/shadow", b"root:guest:1::::::\nbob:bob:1::::::\n");
    fs::remove_file(guest.path("etc/gone")).unwrap();
    guest.write("etc/kept/by-pattern.keep", b"y");
    guest.write("srv/other", b"changed, and not chosen");
    let_files_age();
    let now = guest.save(way.transport());
    let tree = |entry: &vml_core::Entry| entry.tree().unwrap().root.clone();
    let (from, to) = (tree(&now.entry), tree(&then.entry));
    let (scope, exclude) = (guest.scope(&["etc"]), Exclude::new(&["*.keep"]).unwrap());
    let options = PatchOptions { scope: &scope, exclude: &exclude, from: &from, to: &to };
    let store = guest.repository.store(&monitor).unwrap();
    let patched = apply(store, way.transport(), &options, &monitor).unwrap();

    let read = |name: &str| fs::read_to_string(guest.path(name)).unwrap();
    assert_eq!(read("etc/passwd"), "root:x:0:0::/root:/bin/sh\nann:x:1000:1000::/home/ann:/bin/sh\nbob:x:1000:1000::/home/bob:/bin/sh\n");
    assert_eq!(read("etc/shadow"), "root:saved:1::::::\nann:ann:1::::::\nbob:bob:1::::::\n");
    assert_eq!((read("etc/gone"), read("srv/other")), ("x".to_owned(), "changed, and not chosen".to_owned()));
    // The directory is not empty, so it stays, and that is told beside the number that two names have.
    assert_eq!(read("etc/kept/by-pattern.keep"), "y");
    let problems: Vec<String> = monitor.problems().iter().map(ToString::to_string).collect();
    assert_eq!((problems.len(), patched.problems_count), (2, 2), "{problems:?}");
    assert!(problems.iter().any(|text| text.contains("1000") && text.contains("ann") && text.contains("bob")), "{problems:?}");
    assert!(problems.iter().any(|text| text.starts_with("rmdir") && text.contains("kept")), "{problems:?}");
}
