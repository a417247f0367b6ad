//! A booted guest that takes commands over SSH.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, Instant};
use vml_core::machine::GuestAddress;

/// The folder with a guest, made by `testdata/make-guest`.
pub fn folder() -> PathBuf {
    PathBuf::from(std::env::var_os("VML_GUEST").expect("VML_GUEST names a folder made by testdata/make-guest"))
}

/// Runs a command in the guest; none when it is not reached.
pub fn try_ssh(address: &GuestAddress, command: &str) -> Option<String> {
    let guest = folder();
    let mut ssh = Command::new("ssh");
    ssh.args(["-F", "none", "-i"]).arg(guest.join("key")).args(["-p", &address.ssh_port.to_string()]);
    ssh.arg("-o").arg(format!("UserKnownHostsFile={}", guest.join("known_hosts").display()));
    for option in
        ["HostKeyAlias=guest", "StrictHostKeyChecking=yes", "BatchMode=yes", "IdentitiesOnly=yes", "ConnectTimeout=5", "LogLevel=ERROR"]
    {
        ssh.args(["-o", option]);
    }
    let output = ssh.arg(format!("root@{}", address.host)).arg(command).output().unwrap();
    output.status.success().then(|| String::from_utf8_lossy(&output.stdout).trim().to_owned())
}

/// The same, until the guest answers.
pub fn ssh(address: &GuestAddress, command: &str) -> String {
    let deadline = Instant::now() + Duration::from_secs(120);
    loop {
        if let Some(said) = try_ssh(address, command) {
            return said;
        }
        assert!(Instant::now() < deadline, "the guest does not run {command:?}");
        std::thread::sleep(Duration::from_millis(300));
    }
}

/// Runs a program, which must succeed.
pub fn tool(program: &str, args: &[&str], dir: &Path) -> String {
    let output = Command::new(program).args(args).current_dir(dir).output().expect("scripts/setup.sh installs it");
    assert!(output.status.success(), "{program} {args:?}: {}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8_lossy(&output.stdout).into_owned()
}
