//! What is killed in the middle of a save leaves no half entry, an undamaged machine, and no snapshot after the next command.

use crate::lab::Lab;
use crate::support::Ran;
use std::fs;
use std::path::Path;
use std::process::{Child, Stdio};
use std::thread::sleep;
use std::time::{Duration, Instant};
use vml_testkit::guest::{ssh, tool};

/// Starts a save in the background; it has its snapshot when this returns.
fn begin_save(lab: &Lab, dir: &Path, mode: &str) -> Child {
    let mut command = lab.host.command(["save", "work", "-m", "killed", "--mode", mode]);
    let child = command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    let sign = if mode == "full" { "run/held" } else { "run/nbd.sock" };
    let deadline = Instant::now() + Duration::from_secs(60);
    while !dir.join(sign).exists() {
        assert!(Instant::now() < deadline, "no {sign}");
        sleep(Duration::from_millis(2));
    }
    child
}

fn leftovers(dir: &Path) -> Vec<String> {
    let names = fs::read_dir(dir.join("run")).unwrap().map(|file| file.unwrap().file_name().into_string().unwrap());
    names.filter(|name| name.starts_with("fleece") || name.ends_with(".part") || name == "held").collect()
}

#[test]
#[ignore = "needs VML_GUEST; scripts/test-machines.sh runs it"]
fn vml_killed_in_a_save_leaves_the_machine_as_it_was() {
    let lab = Lab::new();
    let dir = lab.add("work");
    let port = lab.start("work");
    ssh(port, "sync");
    for (mode, wait_ms) in [("disk", 0), ("disk", 300), ("full", 0), ("full", 150), ("full", 1500)] {
        let mut child = begin_save(&lab, &dir, mode);
        sleep(Duration::from_millis(wait_ms));
        child.kill().unwrap();
        child.wait().unwrap();
        // The next command tells what it found.
        let cleaned = lab.host.run(["area", "start", "work"]);
        assert_eq!(cleaned.code, 0, "{mode} after {wait_ms} ms: {}", cleaned.err);
        assert_eq!(lab.state("work"), "running", "{mode} after {wait_ms} ms");
        assert_eq!(leftovers(&dir), [""; 0], "{mode} after {wait_ms} ms");
        assert_eq!(lab.entries_count("work"), 0);
        ssh(port, "true");
    }
    lab.host.run(["save", "work", "-m", "whole"]).succeeds_beside_others("a save after those that were killed");
    lab.host.ok(["area", "stop", "work", "--now"]);
    tool("qemu-img", &["check", "-q", "system.qcow2"], &dir);
    lab.host.assert_whole();
}

#[test]
#[ignore = "needs VML_GUEST; scripts/test-machines.sh runs it"]
fn qemu_killed_in_a_save_is_a_clear_error_and_no_entry() {
    let lab = Lab::new();
    let dir = lab.add("work");
    for mode in ["disk", "full"] {
        let port = lab.start("work");
        ssh(port, "sync");
        let child = begin_save(&lab, &dir, mode);
        let pid = fs::read_to_string(dir.join("run/pid")).unwrap().trim().to_owned();
        tool("kill", &["-KILL", &pid], &dir);
        let ran = Ran::of(&child.wait_with_output().unwrap());
        assert_ne!(ran.code, 0, "{}", ran.out);
        assert!(ran.err.contains("QEMU") || ran.err.contains("NBD") || ran.err.contains("machine"), "{mode}: {}", ran.err);
        assert!(!ran.err.contains("panicked"), "{}", ran.err);
        assert_eq!(lab.entries_count("work"), 0);
        lab.host.run(["area", "stop", "work", "--now"]);
        assert_eq!(lab.state("work"), "off");
        assert_eq!(leftovers(&dir), [""; 0]);
        // A killed QEMU leaks clusters at most, as after a power cut.
        tool("qemu-img", &["check", "-q", "-r", "leaks", "system.qcow2"], &dir);
    }
    lab.host.assert_whole();
}
