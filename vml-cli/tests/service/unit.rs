//! The unit of systemd that the manual shows.

use crate::support::Host;
use std::fs;
use std::path::Path;
use std::process::Command;

#[test]
fn the_unit_of_the_manual_is_one_that_systemd_takes() {
    let docs = Path::new(env!("CARGO_MANIFEST_DIR")).join("../docs");
    let (manual, unit) = (fs::read_to_string(docs.join("service.md")).unwrap(), fs::read_to_string(docs.join("vml.service")).unwrap());
    assert!(manual.contains(&format!("```ini\n{unit}```")), "docs/vml.service is not the unit in docs/service.md");
    // Its options are those that there are.
    let host = Host::bare();
    let help = host.ok(["serve", "--help"]);
    let start = unit.lines().find(|line| line.starts_with("ExecStart=")).unwrap();
    for option in start.split(' ').filter(|word| word.starts_with("--")) {
        assert!(help.contains(option), "{option}");
    }
    let file = host.path("vml.service");
    fs::write(&file, unit.replace("/usr/bin/vml", env!("CARGO_BIN_EXE_vml"))).unwrap();
    match Command::new("systemd-analyze").arg("verify").arg(&file).output() {
        Ok(ran) => assert!(ran.status.success() && ran.stderr.is_empty(), "{}", String::from_utf8_lossy(&ran.stderr)),
        Err(_) => println!("skipped: systemd-analyze is not here"),
    }
}
