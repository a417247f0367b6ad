//! Two processes, one repository.

use crate::support::{Host, Ran, write};
use std::fs;
use std::process::Stdio;
use vml_testkit::noise::mixed;

#[test]
fn two_areas_can_be_saved_at_the_same_time() {
    let host = Host::new();
    for area in ["one", "two"] {
        for n in 0..12 {
            // Half of it is in both.
            let seed = if n % 2 == 0 { n } else { n + if area == "one" { 100 } else { 200 } };
            write(&host.path(&format!("{area}/{n}")), &mixed(seed, 2 << 20));
        }
        host.ok(["area", "add", area, "--tree", area]);
    }
    for round in 0..3 {
        let saves = ["one", "two"]
            .map(|area| host.command(["save", area, "-m", "at once"]).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap());
        for save in saves {
            let ran = Ran::of(&save.wait_with_output().unwrap());
            // The one may meet packs of the other before they are in the index.
            ran.succeeds_beside_others(&format!("round {round}"));
        }
        host.assert_whole();
        for area in ["one", "two"] {
            host.assert_builds(&format!("{area}@latest"), &host.path(area));
            assert_eq!(host.json_lines(["log", area]).len(), round + 1);
            fs::write(host.path(area).join("changes"), mixed(round as u64, 300_000)).unwrap();
        }
    }
}

#[test]
fn saves_of_one_area_at_the_same_time_lose_nothing() {
    let host = Host::with_entry();
    let mut done = 1;
    for round in 0..5 {
        fs::write(host.path("guest/home/dev/notes"), format!("round {round}\n")).unwrap();
        write(&host.path("guest/large"), &mixed(round, 1 << 20));
        let saves = [(); 3]
            .map(|()| host.command(["save", "work", "-m", "at once"]).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap());
        let ran: Vec<Ran> = saves.into_iter().map(|save| Ran::of(&save.wait_with_output().unwrap())).collect();
        assert!(ran.iter().any(|ran| ran.code == 0), "somebody is first");
        for ran in ran {
            match ran.code {
                0 => done += 1,
                _ => _ = ran.fails(3, &["was changed by somebody else at the same time", "does not point to it", "try again"]),
            }
        }
        host.assert_whole();
        let log = host.json_lines(["log", "work"]);
        assert_eq!(log.len(), done, "every save that succeeded is in the log");
        assert_eq!(log.iter().filter(|entry| entry["parents"] == serde_json::json!([])).count(), 1, "it is one chain");
        host.assert_builds("work@latest", &host.path("guest"));
    }
    // Entries that lost the race are whole too.
    for entry in host.json_lines(["log"]) {
        let out = host.path(entry["entry"].as_str().unwrap());
        host.ok(["build", entry["entry"].as_str().unwrap(), out.to_str().unwrap()]);
        assert!(out.join("etc/hosts").exists());
    }
}

#[test]
fn readers_and_a_writer_do_not_disturb_each_other() {
    let host = Host::with_entry();
    for n in 0..20 {
        write(&host.path(&format!("guest/more/{n}")), &mixed(n, 1 << 20));
    }
    let mut save = host.command(["save", "work", "-m", "meanwhile"]).stdout(Stdio::null()).spawn().unwrap();
    let first = host.json_lines(["log"]).last().unwrap()["entry"].as_str().unwrap().to_owned();
    let mut rounds = 0;
    while save.try_wait().unwrap().is_none() || rounds == 0 {
        for args in [&["ls", "-R", &first][..], &["show", &first], &["check", "-q"], &["cat", &format!("{first}:etc/hosts")]] {
            let ran = host.run(args);
            assert_eq!(ran.code, 0, "{args:?}: {}", ran.err);
        }
        rounds += 1;
    }
    assert!(save.wait().unwrap().success());
    host.assert_whole();
    host.assert_builds("work@latest", &host.path("guest"));
}
