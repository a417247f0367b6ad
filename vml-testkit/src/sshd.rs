//! An `sshd` of a test's own: on a port of its own, with keys of its own, serving this host's directories.

use std::fs;
use std::net::{TcpListener, TcpStream};
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};
use tempfile::TempDir;

/// A server that runs until it is dropped.
pub struct Sshd {
    dir: TempDir,
    port: u16,
    child: Child,
}

fn find(program: &str) -> Option<PathBuf> {
    let dirs = ["/usr/sbin", "/usr/bin", "/sbin", "/bin"];
    dirs.iter().map(|dir| Path::new(dir).join(program)).find(|path| path.exists())
}

fn keygen(path: &Path) {
    let out = Command::new("ssh-keygen").args(["-q", "-t", "ed25519", "-N", "", "-f"]).arg(path).output().unwrap();
    assert!(out.status.success(), "{}", String::from_utf8_lossy(&out.stderr));
}

impl Sshd {
    /// Starts one; nothing, with a word about it, where none can.
    ///
    /// # Panics
    /// When it does not start.
    pub fn start(test: &str) -> Option<Self> {
        let Some(sshd) = find("sshd").filter(|_| find("ssh").is_some() && find("ssh-keygen").is_some()) else {
            println!("skipped: {test}: there is no sshd here");
            return None;
        };
        if !rustix::process::geteuid().is_root() {
            println!("skipped: {test}: only root can keep owners");
            return None;
        }
        // Where sshd locks itself in; a package's start makes it.
        _ = fs::create_dir_all("/run/sshd");
        let dir = tempfile::tempdir().unwrap();
        let path = |name: &str| dir.path().join(name);
        keygen(&path("host"));
        keygen(&path("user"));
        fs::copy(path("user.pub"), path("authorized")).unwrap();
        fs::set_permissions(path("authorized"), fs::Permissions::from_mode(0o600)).unwrap();
        // Whoever logs in has a home of the test's, not this host's, and a shell that says something first, as many do.
        fs::create_dir(path("home")).unwrap();
        fs::write(path("home").join(".bashrc"), "echo 'a word at every login' >&2\n").unwrap();
        // Another program may take a port before the server does.
        for _ in 0..5 {
            let port = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
            let config = format!(
                "Port {port}\nListenAddress 127.0.0.1\nHostKey {}\nAuthorizedKeysFile {}\nStrictModes no\nUsePAM no\nPidFile none\n\
                 PermitRootLogin yes\nPasswordAuthentication no\nMaxStartups 100\nPrintMotd no\nSetEnv HOME={}\n",
                path("host").display(),
                path("authorized").display(),
                path("home").display()
            );
            fs::write(path("config"), config).unwrap();
            let log = fs::File::create(path("log")).unwrap();
            let mut child = Command::new(&sshd)
                .args(["-D", "-e", "-f"])
                .arg(path("config"))
                .stdin(Stdio::null())
                .stdout(Stdio::null())
                .stderr(log)
                .spawn()
                .unwrap();
            let deadline = Instant::now() + Duration::from_secs(20);
            while Instant::now() < deadline && child.try_wait().unwrap().is_none() {
                if TcpStream::connect(("127.0.0.1", port)).is_ok() {
                    let server = Self { dir, port, child };
                    server.know("host.pub");
                    return Some(server);
                }
                std::thread::sleep(Duration::from_millis(20));
            }
            _ = child.kill();
            _ = child.wait();
        }
        panic!("sshd does not start: {}", fs::read_to_string(path("log")).unwrap_or_default());
    }

    /// A file of the server's: `user` is a key that it accepts, `known` are hosts that are known, `authorized` the keys it accepts.
    pub fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    /// Writes the known hosts: this server with the key in `public`.
    ///
    /// # Panics
    /// When it cannot.
    pub fn know(&self, public: &str) {
        let key = fs::read_to_string(self.path(public)).unwrap();
        let key: Vec<&str> = key.split_whitespace().take(2).collect();
        fs::write(self.path("known"), format!("[127.0.0.1]:{} {}\n", self.port, key.join(" "))).unwrap();
    }

    /// Makes a key that the server does not have.
    ///
    /// # Panics
    /// When it cannot.
    pub fn other_key(&self) -> &'static str {
        keygen(&self.path("other"));
        "other.pub"
    }

    /// The port at 127.0.0.1.
    pub fn port(&self) -> u16 {
        self.port
    }

    /// Kills what serves the sessions of now.
    ///
    /// # Panics
    /// Without `/proc`.
    pub fn kill_sessions(&self) {
        let mut parents = vec![self.child.id()];
        while let Some(parent) = parents.pop() {
            for entry in fs::read_dir("/proc").unwrap().flatten() {
                let Some(pid) = entry.file_name().to_str().and_then(|name| name.parse::<u32>().ok()) else { continue };
                let stat = fs::read_to_string(entry.path().join("stat")).unwrap_or_default();
                let above = stat.rsplit(')').next().and_then(|rest| rest.split_whitespace().nth(1)?.parse::<u32>().ok());
                if above == Some(parent) {
                    parents.push(pid);
                    let pid = rustix::process::Pid::from_raw(i32::try_from(pid).unwrap()).unwrap();
                    _ = rustix::process::kill_process(pid, rustix::process::Signal::KILL);
                }
            }
        }
    }
}

impl Drop for Sshd {
    fn drop(&mut self) {
        _ = self.child.kill();
        _ = self.child.wait();
    }
}
