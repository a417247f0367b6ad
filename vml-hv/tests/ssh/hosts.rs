//! Whom one talks to: hosts that are known, unknown, or not who they were.

use crate::server::Server;
use crate::support::Guest;
use std::fs;
use vml_core::{CollectMonitor, ErrorKind};

#[test]
fn a_host_whose_key_is_not_known_is_refused() {
    let Some(server) = Server::start("a_host_whose_key_is_not_known") else { return };
    fs::write(server.path("known"), "").unwrap();
    let guest = Guest::new();
    guest.write("file", b"x");
    let error = guest.try_save(server.by_library().transport(), &[], None, &CollectMonitor::default()).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::PermissionDenied);
    let text = error.to_string();
    assert!(text.contains("SHA256:") && text.contains(server.path("known").to_str().unwrap()), "{text}");
    let error = guest.try_save(server.by_program().transport(), &[], None, &CollectMonitor::default()).unwrap_err();
    assert!(error.to_string().contains("Host key verification failed"), "{error}");
    assert_eq!(guest.repository.refs().get(vml_core::refs::RefKind::Area, "guest").unwrap(), None);
}

#[test]
fn a_host_whose_key_has_changed_is_refused() {
    let Some(server) = Server::start("a_host_whose_key_has_changed") else { return };
    server.know(server.other_key());
    let guest = Guest::new();
    guest.write("file", b"x");
    let error = guest.try_save(server.by_library().transport(), &[], None, &CollectMonitor::default()).unwrap_err();
    let text = error.to_string();
    assert!(error.kind() == ErrorKind::PermissionDenied && text.contains("is not the one in") && text.contains("SHA256:"), "{text}");
    assert!(text.contains(server.path("known").to_str().unwrap()), "{text}");
    assert!(guest.try_save(server.by_program().transport(), &[], None, &CollectMonitor::default()).is_err());
}

#[test]
fn a_host_can_be_known_by_another_name() {
    let Some(server) = Server::start("a_host_can_be_known_by_another_name") else { return };
    let known = fs::read_to_string(server.path("known")).unwrap();
    let key = known.split_once(' ').unwrap().1;
    fs::write(server.path("known"), format!("machine {key}")).unwrap();
    let guest = Guest::new();
    guest.write("file", b"x");
    for way in [server.by_library_as(Some("machine")), server.by_program_as(Some("machine"))] {
        guest.save(way.transport());
    }
    let other = server.by_library_as(Some("other"));
    let error = guest.try_save(other.transport(), &[], None, &CollectMonitor::default()).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::PermissionDenied);
}

#[test]
fn a_key_that_is_not_accepted_is_named() {
    let Some(server) = Server::start("a_key_that_is_not_accepted") else { return };
    fs::write(server.path("authorized"), "").unwrap();
    let guest = Guest::new();
    let error = guest.try_save(server.by_library().transport(), &[], None, &CollectMonitor::default()).unwrap_err();
    let text = error.to_string();
    assert!(error.kind() == ErrorKind::PermissionDenied && text.contains(server.path("user").to_str().unwrap()), "{text}");
}

#[test]
fn a_guest_says_which_it_is() {
    let Some(server) = Server::start("a_guest_says_which_it_is") else { return };
    let guest = Guest::new();
    guest.write("etc/os-release", b"PRETTY_NAME=\"Scientific Linux\"\nID=scientific\nVERSION_ID=\"7.9\"\n");
    guest.write("etc/passwd", b"root:x:0:0::/root:/bin/sh\ndev:x:1000:1000::/home/dev:/bin/sh\n");
    for way in server.ways() {
        let known = vml_hv::ssh::identify(way.transport(), guest.dir.path().to_str().unwrap()).unwrap();
        let fact = |name: &str| known.facts.iter().find(|fact| fact.name == name).map(|fact| fact.value.clone());
        assert_eq!(fact("guest.os").as_deref(), Some("Scientific Linux"));
        let kernel = fs::read_to_string("/proc/sys/kernel/osrelease").unwrap();
        assert_eq!(fact("guest.kernel").as_deref(), Some(kernel.trim()));
        assert_eq!(known.owners.users.len(), 2);
    }
}
