//! Saving machines that run, are suspended, or off.

use crate::lab::Lab;
use vml_testkit::guest::{ssh, tool};

fn read_bytes(saved: &serde_json::Value) -> u64 {
    saved["disks"][0]["read_bytes"].as_u64().unwrap()
}

#[test]
#[ignore = "needs VML_GUEST; scripts/test-machines.sh runs it"]
fn a_running_machine_is_saved_and_the_next_save_reads_what_changed() {
    let lab = Lab::new();
    let dir = lab.add("work");
    let port = lab.start("work");
    ssh(port, "sync");
    let first = lab.host.json(["save", "work", "-m", "first"]);
    assert!(read_bytes(&first) > 100 << 20, "nothing is known yet: {first}");
    ssh(port, "head -c 20000000 /dev/urandom > /home/dev/data; sync");
    let second = lab.host.json(["save", "work", "-m", "second"]);
    let read = read_bytes(&second);
    assert!((20_000_000..24_000_000).contains(&read), "{read} bytes read of 20 MB that changed");
    assert_eq!(lab.state("work"), "running");
    assert_eq!(lab.host.ok(["cat", "work@latest:home/dev/data"]).len(), lab.host.ok(["cat", "work@latest:home/dev/data"]).len());
    let sum = ssh(port, "sha256sum < /home/dev/data");
    lab.host.ok(["restore", "work@latest:home/dev/data", "out"]);
    assert_eq!(tool("sh", &["-c", "sha256sum < data"], &lab.host.path("out")).trim(), sum);
    // A trial leaves nothing, neither an entry nor a checkpoint.
    let trial = lab.host.json(["save", "work", "-m", "trial", "--dry-run"]);
    assert!(read_bytes(&trial) < 5_000_000 && trial["entry"].is_null());
    let third = lab.host.json(["save", "work", "-m", "third"]);
    assert!(read_bytes(&third) < 5_000_000, "{third}");
    assert_eq!(lab.entries_count("work"), 3);
    lab.host.ok(["area", "stop", "work", "--now"]);
    tool("qemu-img", &["check", "-q", "system.qcow2"], &dir);

    // Off, its images are saved, and the description with them.
    lab.host.ok(["save", "work", "-m", "off"]);
    let shown = lab.host.json(["show", "work@latest"]);
    assert_eq!(shown["facts"]["machine.adapter"], "qemu", "{shown}");
    let refused = lab.host.run(["save", "work", "-m", "none", "--mode", "full"]);
    refused.fails(2, &["work is off", "--mode disk"]);
    lab.host.assert_whole();
}

#[test]
#[ignore = "needs VML_GUEST; scripts/test-machines.sh runs it"]
fn two_memories_of_an_idle_guest_share_their_pages() {
    let lab = Lab::new();
    lab.add("work");
    let port = lab.start("work");
    ssh(port, "sync");
    let first = lab.host.json(["save", "work", "-m", "first", "--mode", "full"]);
    assert!(first["memory_bytes"].as_u64().unwrap() > 10 << 20, "{first}");
    std::thread::sleep(std::time::Duration::from_secs(10));
    let second = lab.host.json(["save", "work", "-m", "second", "--mode", "full"]);
    let stored = |saved: &serde_json::Value| saved["stored_bytes"].as_u64().unwrap();
    assert!(stored(&second) * 5 <= stored(&first), "{} after {}", stored(&second), stored(&first));
    assert_eq!(lab.state("work"), "running");
    lab.host.assert_whole();
}
