//! A real guest that takes commands over SSH, from a folder that `testdata/make-guest` made and `VML_GUEST` names.

use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

/// The kernel's command line.
pub const APPEND: &str = "root=/dev/vda rw console=ttyS0 net.ifnames=0 panic=-1 quiet";
/// How long a guest under translation may take to boot.
const BOOT_LIMIT: Duration = Duration::from_secs(120);

/// The folder.
///
/// # Panics
/// Without `VML_GUEST`.
pub fn folder() -> PathBuf {
    PathBuf::from(std::env::var_os("VML_GUEST").expect("VML_GUEST names a folder made by testdata/make-guest"))
}

/// An `ssh` that logs in to the guest whose SSH server is reached at `port` of this host.
pub fn login(port: u16) -> Command {
    let guest = folder();
    let mut ssh = Command::new("ssh");
    ssh.args(["-F", "none", "-i"]).arg(guest.join("key")).args(["-p", &port.to_string()]);
    ssh.arg("-o").arg(format!("UserKnownHostsFile={}", guest.join("known_hosts").display()));
    for option in
        ["HostKeyAlias=guest", "StrictHostKeyChecking=yes", "BatchMode=yes", "IdentitiesOnly=yes", "ConnectTimeout=5", "LogLevel=ERROR"]
    {
        ssh.args(["-o", option]);
    }
    ssh.arg("root@127.0.0.1");
    ssh
}

/// Runs a command in the guest; none when it is not reached or fails.
pub fn try_ssh(port: u16, command: &str) -> Option<String> {
    let output = login(port).arg(command).stdin(Stdio::null()).output().ok()?;
    output.status.success().then(|| String::from_utf8_lossy(&output.stdout).trim().to_owned())
}

/// The same, again until it succeeds.
///
/// # Panics
/// When it does not in the time that a guest takes to boot.
#[track_caller]
pub fn ssh(port: u16, command: &str) -> String {
    let deadline = Instant::now() + BOOT_LIMIT;
    loop {
        if let Some(said) = try_ssh(port, command) {
            return said;
        }
        assert!(Instant::now() < deadline, "the guest does not run {command:?}");
        std::thread::sleep(Duration::from_millis(300));
    }
}

/// Runs a command in the guest with `input` on its standard input.
///
/// # Panics
/// When it fails.
#[track_caller]
pub fn feed(port: u16, command: &str, input: &[u8]) {
    let mut child = login(port).arg(command).stdin(Stdio::piped()).spawn().expect("ssh is there");
    child.stdin.take().expect("piped").write_all(input).expect("the guest reads");
    assert!(child.wait().expect("it ends").success(), "{command}");
}

/// Runs a program of this host in `dir`, and tells what it printed.
///
/// # Panics
/// When it is not there, or fails.
#[track_caller]
pub fn tool(program: &str, args: &[&str], dir: &Path) -> String {
    let output = Command::new(program).args(args).current_dir(dir).output().expect("scripts/setup.sh installs it");
    assert!(output.status.success(), "{program} {args:?}: {}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8_lossy(&output.stdout).into_owned()
}
