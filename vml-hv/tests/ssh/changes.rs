//! What is changed, removed and replaced between saves, and during one.

use crate::server::Server;
use crate::support::{Guest, assert_equal, let_files_age, noise, run};
use std::fs;
use std::io::Write as _;
use std::os::unix::fs::{PermissionsExt as _, symlink};
use std::sync::atomic::{AtomicBool, Ordering};
use vml_core::CollectMonitor;

#[test]
fn deletions_replacements_and_attributes_are_kept() {
    let Some(server) = Server::start("deletions_replacements_and_attributes") else { return };
    for way in server.ways() {
        let guest = Guest::new();
        guest.furnish();
        let_files_age();
        guest.save(way.transport());
        fs::remove_file(guest.path("home/dev/zz-other-name")).unwrap();
        fs::remove_dir_all(guest.path("usr/local/bin")).unwrap();
        symlink("nowhere", guest.path("usr/local/bin")).unwrap();
        fs::remove_file(guest.path("home/dev/pipe")).unwrap();
        guest.write("home/dev/pipe/now-a-directory", b"x");
        fs::set_permissions(guest.path("home/dev/odd\nname\\ \x7f*'"), fs::Permissions::from_mode(0o600)).unwrap();
        // Of a directory only its attributes.
        let dir = guest.path("home/dev");
        assert!(run("setfattr", &["-n", "user.dir", "-v", "changed", dir.to_str().unwrap()]));
        fs::write(guest.path("etc/hosts"), b"::1 localhost\n").unwrap();
        let_files_age();
        let saved = guest.save(way.transport());
        assert_equal(guest.dir.path(), guest.build(&saved.id).path());
        // A file whose names changed has another ctime: it is read once more, and nothing of it stored.
        assert!(saved.entry.cost.new_bytes < 30_000, "{}", saved.entry.cost.new_bytes);
    }
}

#[test]
fn a_file_that_changes_while_it_is_read_is_read_again_and_then_told() {
    let Some(server) = Server::start("a_file_that_changes_while_it_is_read") else { return };
    let guest = Guest::new();
    guest.furnish();
    guest.write("var/log/busy", &noise(5, 3_000_000));
    let stop = AtomicBool::new(false);
    let monitor = CollectMonitor::default();
    let saved = std::thread::scope(|scope| {
        scope.spawn(|| {
            let mut log = fs::File::options().append(true).open(guest.path("var/log/busy")).unwrap();
            while !stop.load(Ordering::Relaxed) {
                log.write_all(b"one more line\n").unwrap();
                std::thread::sleep(std::time::Duration::from_millis(1));
            }
        });
        let way = server.by_library();
        let saved = guest.try_save(way.transport(), &[], None, &monitor);
        stop.store(true, Ordering::Relaxed);
        saved.unwrap()
    });
    let problems = monitor.problems();
    assert_eq!((problems.len(), saved.problems_count), (1, 1), "{problems:?}");
    assert!(problems[0].subject.ends_with("var/log/busy") && problems[0].message.contains("changed 3 times"), "{problems:?}");
    // What was seen last is there, and begins as the file does.
    let built = fs::read(guest.build(&saved.id).path().join("var/log/busy")).unwrap();
    assert!(built.len() > 3_000_000 && built[..3_000_000] == noise(5, 3_000_000));
    // The next save reads it again.
    let_files_age();
    let saved = guest.save(server.by_library().transport());
    assert_equal(guest.dir.path(), guest.build(&saved.id).path());
}
