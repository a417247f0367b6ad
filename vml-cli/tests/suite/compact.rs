//! `vml compact`: what it says before, what it leaves, and that all is there afterwards.

use crate::support::{Host, content, files, write};
use vml_testkit::noise::text;

fn bytes(host: &Host) -> u64 {
    files(&host.repository().join("data")).iter().map(|path| path.metadata().unwrap().len()).sum()
}

#[test]
fn a_dry_run_says_what_is_expected_and_a_run_leaves_less_and_all_of_it() {
    let host = Host::with_entry();
    for state in [b'a', b'b'] {
        let mut large = text(1, 400_000);
        // Every chunk is another one.
        (0..large.len()).step_by(1000).for_each(|at| large[at] = state);
        write(&host.path("guest/large"), &large);
        host.ok(["save", "work", "-m", "with a large file"]);
    }
    let before = bytes(&host);
    let repository = content(&host.repository());
    let dry = host.json(["compact", "--dry-run"]);
    let told = host.ok(["compact", "--dry-run"]);
    assert!(told.contains("less are expected") && told.contains("nothing was changed"), "{told}");
    assert!(content(&host.repository()) == repository, "a dry run changes no file");
    assert_eq!((&dry["level"], &dry["packs_bytes"]), (&19.into(), &before.into()));
    assert!(dry["expected_gain_bytes"].as_u64().unwrap() > 0);
    let done = host.json(["compact", "--level", "5"]);
    assert_eq!((&done["packs"], &done["deleted_packs"]), (&dry["packs"], &dry["packs"]));
    assert!(bytes(&host) * 4 < before * 3, "{before} {}", bytes(&host));
    host.assert_builds("work@latest", &host.path("guest"));
    host.assert_whole();
    assert!(host.ok(["compact", "--level", "5"]).contains("replaced 0 packs"));
    let stats = host.json(["stats"]);
    assert_eq!((&stats["compacted_packs"], &stats["compacted_bytes"]), (&1.into(), &bytes(&host).into()));
    assert!(host.ok(["stats"]).contains("of it in 1 pack"));
    assert_eq!(host.run(["compact", "--level", "20"]).code, 2);
}
