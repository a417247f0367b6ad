//! libvirt's errors, and what it does without any hypervisor: its driver `test` has one machine that is always running.
#![allow(clippy::unwrap_used, missing_docs)]

use std::os::unix::net::UnixListener;
use std::time::{Duration, Instant};
use vml_core::ErrorKind;
use vml_core::machine::{Machine, MachineState, Stop};
use vml_hv::libvirt::{LibvirtMachine, LibvirtOptions, OTHER, xml};

fn open(uri: &str) -> vml_core::Result<LibvirtMachine> {
    LibvirtMachine::open(uri, LibvirtOptions { answer_limit: Duration::from_secs(20), ..LibvirtOptions::default() })
}

#[test]
fn a_machine_of_another_driver_has_what_that_offers() {
    let machine = open("test:///default/test").unwrap();
    assert_eq!(machine.capabilities(), OTHER);
    assert_eq!(machine.state().unwrap(), MachineState::Running);
    let description = machine.describe().unwrap();
    assert_eq!((description.memory_bytes, description.file_name.as_str()), (8 << 30, "domain.xml"));
    assert!(String::from_utf8(description.bytes).unwrap().contains("<name>test</name>"));
    assert!(machine.live_disks().is_none() && machine.live_memory().is_none());
    assert_eq!(machine.clean().unwrap(), [""; 0]);
    assert_eq!(machine.start().unwrap_err().kind(), ErrorKind::InvalidInput);
    assert_eq!(machine.resume().unwrap_err().kind(), ErrorKind::InvalidInput);
}

#[test]
fn a_machine_is_found_by_its_uuid_and_told_apart_from_one_that_is_not_there() {
    let xml = String::from_utf8(open("test:///default/test").unwrap().describe().unwrap().bytes).unwrap();
    let uuid = xml::read(&xml).unwrap().uuid.unwrap();
    assert_eq!(open(&format!("test:///default/{uuid}")).unwrap().state().unwrap(), MachineState::Running);
    let error = open("test:///default/nobody").unwrap_err();
    assert_eq!(error.kind(), ErrorKind::NotFound);
    assert!(error.to_string().contains("nobody"), "{error}");
    assert!(open("nonsense:///x/nobody").is_err());
    assert_eq!(open("test:///default").unwrap_err().kind(), ErrorKind::InvalidInput);
    assert_eq!(open("test:////no/such/file.xml/test").unwrap_err().kind(), ErrorKind::InvalidInput);
}

#[test]
fn a_machine_of_ones_own_is_held_stopped_and_defined() {
    // The driver reads its machines from a file, which is a new world for every connection.
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("node.xml");
    let domain = "<domain type='test'><name>own</name><memory>65536</memory><os><type>hvm</type></os></domain>";
    std::fs::write(&file, format!("<node>{domain}</node>")).unwrap();
    let uri = format!("test://{}", file.display());
    let hasty = LibvirtOptions { answer_limit: Duration::from_secs(2), ..LibvirtOptions::default() };
    let machine = LibvirtMachine::open(&format!("{uri}/own"), hasty).unwrap();
    machine.stop(Stop::Kill).unwrap_or_else(|error| assert_eq!(error.kind(), ErrorKind::Interrupted, "{error}"));
    let same = LibvirtMachine::define(&uri, domain, LibvirtOptions::default()).unwrap_err();
    assert_eq!(same.kind(), ErrorKind::AlreadyExists);
    let other = LibvirtMachine::define(&uri, &domain.replace("own", "other"), LibvirtOptions::default()).unwrap();
    assert_eq!((other.uri().uri.as_str(), other.uri().domain.as_str()), (uri.as_str(), "other"));
    assert!(LibvirtMachine::define(&uri, "<domain/>", LibvirtOptions::default()).is_err());
}

#[test]
fn a_daemon_that_says_nothing_is_waited_for_only_so_long() {
    let dir = tempfile::tempdir().unwrap();
    let socket = dir.path().join("socket");
    let _listener = UnixListener::bind(&socket).unwrap();
    let began = Instant::now();
    let options = LibvirtOptions { answer_limit: Duration::from_millis(300), ..LibvirtOptions::default() };
    let error = LibvirtMachine::open(&format!("qemu+unix:///system/x?socket={}", socket.display()), options).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Interrupted, "{error}");
    assert!(began.elapsed() < Duration::from_secs(5));
}

#[test]
fn a_daemon_that_is_not_there_is_an_error_that_names_it() {
    let error = open("qemu+unix:///system/x?socket=/no/such/socket").unwrap_err();
    assert!(error.to_string().contains("/no/such/socket") || format!("{error:?}").contains("/no/such/socket"), "{error:?}");
}
