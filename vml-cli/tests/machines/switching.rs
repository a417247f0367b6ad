//! `vml switch`.

use crate::lab::Lab;
use std::fs;
use vml_testkit::guest::ssh;

#[test]
#[ignore = "needs VML_GUEST; scripts/test-machines.sh runs it"]
fn projects_are_put_away_and_brought_up_where_they_were() {
    let lab = Lab::new();
    for name in ["one", "two"] {
        lab.add(name);
    }
    let port = lab.start("one");
    ssh(port, "echo kept > /run/mark");
    lab.host.run(["switch", "two"]).fails(2, &["--message", "--no-save"]);
    assert_eq!(lab.state("one"), "running", "nothing was done");
    let done = lab.host.json(["switch", "two", "-m", "a break"]);
    let steps: Vec<_> =
        done["steps"].as_array().unwrap().iter().map(|step| format!("{} {}", step["step"], step["area"]).replace('"', "")).collect();
    assert_eq!(steps, ["save one", "suspend one", "start two"]);
    assert_eq!((lab.state("one").as_str(), lab.state("two").as_str()), ("suspended", "running"));
    assert_eq!(lab.host.json(["show", "one@latest"])["message"], "a break");
    let port = lab.port("two");
    ssh(port, "true");
    let done = lab.host.json(["switch", "one", "--no-save"]);
    assert_eq!((&done["from"], done["steps"].as_array().unwrap().len()), (&"two".into(), 2), "{done}");
    assert_eq!(ssh(lab.port("one"), "cat /run/mark"), "kept");

    // A step that fails leaves both as they were: the other's memory is damaged.
    let memory = lab.host.path("machines/two/run/memory");
    let good = fs::read(&memory).unwrap();
    fs::write(&memory, &good[..good.len() / 2]).unwrap();
    let failed = lab.host.run(["switch", "two", "--no-save"]);
    assert_eq!(failed.code, 3, "{}", failed.err);
    assert!(failed.err.contains("cannot resume two"), "{}", failed.err);
    assert_eq!((lab.state("one").as_str(), lab.state("two").as_str()), ("running", "suspended"));
    assert_eq!(ssh(lab.port("one"), "cat /run/mark"), "kept");
    fs::write(&memory, &good).unwrap();
    lab.host.ok(["switch", "two", "--no-save"]);

    // An area that this host does not have any more is built from its log.
    lab.host.ok(["area", "stop", "one", "--now"]);
    lab.host.ok(["area", "rm", "one", "--yes"]);
    let done = lab.host.json(["switch", "one", "--no-save"]);
    assert_eq!(done["steps"][1]["step"], "build", "{done}");
    assert_eq!(ssh(lab.port("one"), "cat /run/mark"), "kept", "with its memory");
    assert_eq!(lab.state("two"), "suspended");
}
