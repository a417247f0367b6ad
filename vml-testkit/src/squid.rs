//! A real Squid of a test's own, on a port of its own.

use std::fs;
use std::net::{TcpListener, TcpStream};
use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};
use tempfile::TempDir;

/// A proxy that runs until it is dropped.
pub struct Squid {
    dir: TempDir,
    port: u16,
    child: Child,
}

impl Squid {
    /// Starts one; nothing, with a word about it, where there is none.
    ///
    /// # Panics
    /// When it does not start.
    pub fn start(test: &str) -> Option<Self> {
        let found = ["/usr/sbin/squid", "/usr/bin/squid", "/usr/local/sbin/squid"].into_iter().find(|path| Path::new(path).exists());
        let Some(squid) = found else {
            println!("skipped: {test}: there is no squid here (apt-get install squid)");
            return None;
        };
        // Another program may take a port before the server does.
        for _ in 0..5 {
            let dir = tempfile::tempdir().unwrap();
            // Started by root it becomes another user.
            fs::set_permissions(dir.path(), fs::Permissions::from_mode(0o777)).unwrap();
            let port = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
            let path = |name: &str| dir.path().join(name).display().to_string();
            let config = format!(
                "http_port 127.0.0.1:{port}\nhttp_access allow all\ncache deny all\npinger_enable off\nnetdb_filename none\nvisible_hostname localhost\n\
                 shutdown_lifetime 0 seconds\npid_filename {}\naccess_log stdio:{}\ncache_log {}\ncoredump_dir {}\n",
                path("pid"),
                path("access.log"),
                path("cache.log"),
                dir.path().display()
            );
            fs::write(path("squid.conf"), config).unwrap();
            let mut child = Command::new(squid)
                .args(["-N", "-f", &path("squid.conf")])
                .current_dir(dir.path())
                .stdin(Stdio::null())
                .stdout(Stdio::null())
                .stderr(fs::File::create(path("stderr")).unwrap())
                .spawn()
                .unwrap();
            let deadline = Instant::now() + Duration::from_secs(30);
            while Instant::now() < deadline && child.try_wait().unwrap().is_none() {
                if TcpStream::connect(("127.0.0.1", port)).is_ok() {
                    return Some(Self { dir, port, child });
                }
                std::thread::sleep(Duration::from_millis(20));
            }
            _ = child.kill();
            _ = child.wait();
            let told = |name: &str| fs::read_to_string(path(name)).unwrap_or_default();
            println!("squid did not start: {}{}", told("stderr"), told("cache.log"));
        }
        panic!("squid does not start");
    }

    /// As it stands in a list of proxies.
    pub fn url(&self) -> String {
        format!("http://127.0.0.1:{}", self.port)
    }

    /// What it noted of requests.
    pub fn log(&self) -> String {
        fs::read_to_string(self.dir.path().join("access.log")).unwrap_or_default()
    }

    /// Kills it, as a power cut would.
    ///
    /// # Panics
    /// When it cannot.
    pub fn kill(&mut self) {
        self.child.kill().unwrap();
        self.child.wait().unwrap();
    }
}

impl Drop for Squid {
    fn drop(&mut self) {
        _ = self.child.kill();
        _ = self.child.wait();
    }
}
