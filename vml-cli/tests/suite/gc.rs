//! `vml gc`: what it frees, and that saves in other processes do not mind.

use crate::support::{Host, assert_equal, content, files, write};
use std::process::Stdio;
use std::time::{Duration, Instant};
use vml_testkit::noise::{incompressible, mixed};

fn bytes(host: &Host) -> u64 {
    ["data", "meta"].iter().flat_map(|dir| files(&host.repository().join(dir))).map(|path| path.metadata().unwrap().len()).sum()
}

#[test]
fn what_was_forgotten_is_freed_and_a_dry_run_tells_so_before() {
    let host = Host::with_entry();
    write(&host.path("guest/large"), &incompressible(1, 1_000_000));
    host.ok(["save", "work", "-m", "with a large file"]);
    std::fs::remove_file(host.path("guest/large")).unwrap();
    host.ok(["save", "work", "-m", "without it"]);
    host.ok(["forget", "work@~1", "--yes"]);
    let before = bytes(&host);
    let repository = content(&host.repository());
    let dry = host.json(["gc", "--dry-run"]);
    assert!(host.ok(["gc", "--dry-run"]).contains("nothing was changed"));
    assert!(content(&host.repository()) == repository, "a dry run changes no file");
    let done = host.json(["gc"]);
    assert_eq!((&done["dead_packs"], &done["repacked_packs"]), (&dry["dead_packs"], &dry["repacked_packs"]));
    assert!(before - bytes(&host) > 900_000, "{before} {}", bytes(&host));
    assert_eq!(done["deleted_packs"].as_u64().unwrap(), done["dead_packs"].as_u64().unwrap() + done["repacked_packs"].as_u64().unwrap());
    host.assert_builds("work@latest", &host.path("guest"));
    host.assert_whole();
    assert!(host.ok(["gc", "--max-repack", "1G"]).contains("deleted 0 packs"));
}

#[test]
fn collections_beside_saves_of_other_processes_take_nothing_from_them() {
    let host = Host::with_entry();
    for number in 0..6 {
        write(&host.path(&format!("large/{number}")), &mixed(number, 8 << 20));
    }
    let large = host.path("large");
    host.ok(["area", "add", "large", "--tree", large.to_str().unwrap()]);
    let quiet = |args: &[&str]| host.command(args).stdout(Stdio::null()).stderr(Stdio::piped()).spawn().unwrap();
    let mut collections = 0;
    for round in 0..3 {
        // What is saved now was saved and forgotten before, so that it is garbage when the save begins to rely on it.
        host.ok(["save", "large", "-m", "to be forgotten", "-q"]);
        host.ok(["forget", "large@latest", "--yes", "-q"]);
        let mut saving = quiet(&["save", "large", "-m", "beside"]);
        let started = Instant::now();
        loop {
            let began = Instant::now();
            let collecting = quiet(&["gc"]).wait_with_output().unwrap();
            assert!(collecting.status.success(), "{}", String::from_utf8_lossy(&collecting.stderr));
            collections += 1;
            // Without an end they would take away again and again what is being saved, and it would give up.
            std::thread::sleep(began.elapsed() * 10);
            if saving.try_wait().unwrap().is_some() || started.elapsed() > Duration::from_secs(120) {
                break;
            }
        }
        let saved = saving.wait_with_output().unwrap();
        assert!(saved.status.success(), "round {round}: {}", String::from_utf8_lossy(&saved.stderr));
        host.ok(["build", "large@latest", "out", "--delete", "--yes", "-q"]);
        assert_equal(&large, &host.path("out"));
        let check = host.run(["check", "--data"]);
        assert_eq!((check.code, check.err.as_str()), (0, ""), "round {round}");
        write(&host.path("large/0"), &mixed(100 + round, 8 << 20));
    }
    println!("{collections} collections beside 3 saves");
    host.assert_builds("work@latest", &host.path("guest"));
}

#[test]
fn a_killed_collection_is_ended_by_the_next() {
    let host = Host::with_entry();
    for round in 0..8_u64 {
        write(&host.path("guest/large"), &incompressible(round, 3_000_000));
        write(&host.path("guest/stays"), &incompressible(99, 400_000));
        host.ok(["save", "work", "-m", "more", "-q"]);
        host.ok(["forget", "--keep-last", "1", "--yes", "-q"]);
        let mut child = host.command(["gc"]).stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap();
        std::thread::sleep(Duration::from_millis(3 * round));
        child.kill().unwrap();
        child.wait().unwrap();
        let check = host.run(["check", "--data"]);
        // Killed between a pack and the index that names it: said, and no damage.
        check.succeeds_beside_others(&format!("round {round}"));
        host.assert_builds("work@latest", &host.path("guest"));
    }
    host.ok(["gc"]);
    assert!(bytes(&host) < 5_000_000, "{}", bytes(&host));
    host.assert_whole();
}
