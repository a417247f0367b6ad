//! Connections that end in the middle, and guests that lack what is needed.

use crate::server::Server;
use crate::support::{Guest, assert_equal, noise};
use std::time::{Duration, Instant};
use vml_core::refs::RefKind;
use vml_core::{CollectMonitor, ErrorKind};

#[test]
fn a_server_that_is_killed_in_the_middle_leaves_no_entry() {
    let Some(server) = Server::start("a_server_that_is_killed_in_the_middle") else { return };
    for way in server.ways() {
        let guest = Guest::new();
        for number in 0..24 {
            guest.write(&format!("home/dev/{number}"), &noise(number, 4 << 20));
        }
        let error = std::thread::scope(|scope| {
            scope.spawn(|| {
                let deadline = Instant::now() + Duration::from_secs(60);
                while way.transport().traffic().received() < 8 << 20 && Instant::now() < deadline {
                    std::thread::sleep(Duration::from_millis(1));
                }
                server.kill_sessions();
            });
            guest.try_save(way.transport(), &[], None, &CollectMonitor::default()).unwrap_err()
        });
        assert_eq!(error.kind(), ErrorKind::Interrupted, "{}: {error:?}", way.name());
        assert!(error.to_string().contains("lost root@127.0.0.1"), "{}: {error:?}", way.name());
        assert_eq!(guest.repository.refs().get(RefKind::Area, "guest").unwrap(), None);
        // The next one connects anew and saves everything.
        let saved = guest.save(way.transport());
        assert_equal(guest.dir.path(), guest.build(&saved.id).path());
    }
}

#[test]
fn a_guest_that_is_not_there_is_an_error() {
    let Some(server) = Server::start("a_guest_that_is_not_there") else { return };
    let (library, program) = (server.by_library(), server.by_program());
    drop(server);
    let guest = Guest::new();
    for way in [library, program] {
        let error = guest.try_save(way.transport(), &[], None, &CollectMonitor::default()).unwrap_err();
        assert!(matches!(error.kind(), ErrorKind::Io | ErrorKind::Interrupted), "{error:?}");
    }
}

#[test]
fn a_root_that_is_not_there_is_an_error() {
    let Some(server) = Server::start("a_root_that_is_not_there") else { return };
    let guest = Guest::new();
    std::fs::remove_dir(guest.dir.path()).unwrap();
    let error = guest.try_save(server.by_library().transport(), &[], None, &CollectMonitor::default()).unwrap_err();
    assert!(error.kind() == ErrorKind::Interrupted && error.to_string().contains("cd: "), "{error:?}");
    std::fs::create_dir(guest.dir.path()).unwrap();
}
