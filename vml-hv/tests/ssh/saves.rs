//! Whole saves, and saves of what changed.

use crate::server::Server;
use crate::support::{Guest, assert_equal, let_files_age, noise, overwrite_unseen};
use std::fs;
use vml_core::CollectMonitor;

#[test]
fn everything_that_a_guest_has_comes_back() {
    let Some(server) = Server::start("everything_that_a_guest_has_comes_back") else { return };
    for way in server.ways() {
        let guest = Guest::new();
        guest.furnish();
        let saved = guest.save(way.transport());
        assert_equal(guest.dir.path(), guest.build(&saved.id).path());
        let stats = saved.entry.tree().unwrap().stats;
        // Three names of one file are three files of which one was read.
        assert_eq!((stats.files_count, stats.read_files_count), (9, 7), "{}", way.name());
    }
}

#[test]
fn chosen_directories_are_saved_with_those_above_and_nothing_else() {
    let Some(server) = Server::start("chosen_directories_are_saved") else { return };
    let guest = Guest::new();
    guest.furnish();
    guest.write("usr/share/doc", b"not asked for");
    fs::remove_file(guest.path("usr/local/third-name")).unwrap();
    let way = server.by_library();
    let monitor = CollectMonitor::default();
    let saved = guest.try_save(way.transport(), &["usr/local", "etc", "opt"], None, &monitor).unwrap();
    let subjects: Vec<String> = monitor.problems().into_iter().map(|problem| problem.subject).collect();
    assert_eq!(subjects, ["opt"]);
    let built = guest.build(&saved.id);
    let names = |dir: &str| {
        let mut names: Vec<_> =
            fs::read_dir(built.path().join(dir)).unwrap().map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect();
        names.sort();
        names
    };
    assert_eq!((names("."), names("usr")), (vec!["etc".to_owned(), "usr".to_owned()], vec!["local".to_owned()]));
    assert_equal(&guest.path("usr/local"), &built.path().join("usr/local"));
}

#[test]
fn a_second_save_brings_what_changed_and_little_more() {
    let Some(server) = Server::start("a_second_save_brings_what_changed") else { return };
    for way in server.ways() {
        let guest = Guest::new();
        for number in 0..2000_u64 {
            let len = 2000 + usize::try_from(number % 37).unwrap() * 500;
            guest.write(&format!("home/dev/d{}/f{number}", number % 40), &noise(number, len));
        }
        let_files_age();
        guest.save(way.transport());
        let traffic = || way.transport().traffic().sent() + way.transport().traffic().received();
        let before = traffic();
        let same = guest.save(way.transport());
        let listing = traffic() - before;
        assert_eq!(same.entry.tree().unwrap().stats.read_files_count, 0);

        let mut changed = 0;
        for number in (0..2000_u64).step_by(100) {
            let path = guest.path(&format!("home/dev/d{}/f{number}", number % 40));
            overwrite_unseen(&path, 9000 + number);
            changed += fs::metadata(path).unwrap().len();
        }
        let_files_age();
        let before = traffic();
        let second = guest.save(way.transport());
        let wire = traffic() - before;
        // Only their ctime shows that they changed.
        assert_eq!(second.entry.tree().unwrap().stats.read_files_count, 20);
        let most = changed * 13 / 10 + listing;
        println!("{}: {wire} bytes over the wire, of a listing {listing}, changed {changed}", way.name());
        assert!(wire <= most, "{}: {wire} bytes went over the wire, at most {most} should", way.name());
        assert_equal(guest.dir.path(), guest.build(&second.id).path());
    }
}

#[test]
fn a_base_saved_elsewhere_spares_what_agrees_with_it() {
    let Some(server) = Server::start("a_base_saved_elsewhere_spares") else { return };
    let guest = Guest::new();
    guest.furnish();
    let_files_age();
    let base = guest.save_base();
    let_files_age();
    overwrite_unseen(&guest.path("usr/local/bin/tool"), 77);
    guest.write("etc/new", b"new");
    let way = server.by_library();
    let monitor = CollectMonitor::default();
    let saved = guest.try_save(way.transport(), &[], Some(base), &monitor).unwrap();
    assert_eq!((monitor.problems(), saved.entry.tree().unwrap().stats.read_files_count), (Vec::new(), 2));
    assert_equal(guest.dir.path(), guest.build(&saved.id).path());
}
