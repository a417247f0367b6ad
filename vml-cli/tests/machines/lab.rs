//! A host with a base, and machines that stand on it.

use crate::support::Host;
use serde_json::Value;
use std::fs;
use std::path::PathBuf;
use vml_testkit::guest::{APPEND, folder, tool};

pub struct Lab {
    pub host: Host,
}

impl Lab {
    /// A host whose repository has the guest's disk as the base `guest@1`.
    pub fn new() -> Self {
        let host = Host::new();
        let disk = folder().join("disk.raw");
        host.ok(["base", "add", "guest@1", "--disk", &format!("system={}", disk.display())]);
        Self { host }
    }

    /// An area with a machine whose disk is an overlay on the base's.
    pub fn add(&self, name: &str) -> PathBuf {
        let dir = self.host.path(&format!("machines/{name}"));
        fs::create_dir_all(&dir).unwrap();
        let guest = folder();
        let disk = guest.join("disk.raw");
        tool("qemu-img", &["create", "-q", "-f", "qcow2", "-b", disk.to_str().unwrap(), "-F", "raw", "system.qcow2"], &dir);
        let (guest, append) = (guest.display(), APPEND);
        let text = format!(
            "memory_mib = 256\naccelerator = \"tcg\"\nallow_dir = [\"{guest}\"]\n\n\
             [kernel]\nfile = \"{guest}/vmlinuz\"\ninitrd = \"{guest}/initrd\"\nappend = \"{append}\"\n\n\
             [[disk]]\nname = \"system\"\nfile = \"system.qcow2\"\nformat = \"qcow2\"\n"
        );
        fs::write(dir.join("machine.toml"), text).unwrap();
        let mut add = vec!["area".to_owned(), "add".to_owned(), name.to_owned(), "--qemu".to_owned(), dir.to_str().unwrap().to_owned()];
        add.extend(["--base".to_owned(), "guest@1".to_owned()]);
        add.extend(self.login());
        self.host.ok(add);
        dir
    }

    /// Who logs in to the guest, by which key.
    #[allow(clippy::unused_self)]
    pub fn login(&self) -> Vec<String> {
        let file = |name: &str| folder().join(name).to_str().unwrap().to_owned();
        let words = ["--ssh", "root@guest", "--identity", &file("key"), "--known-hosts", &file("known_hosts")];
        words.map(str::to_owned).to_vec()
    }

    /// Starts an area's machine; the port of its SSH server.
    pub fn start(&self, name: &str) -> u16 {
        self.host.ok(["area", "start", name]);
        self.port(name)
    }

    pub fn status(&self, name: &str) -> Value {
        self.host.json(["area", "status", name])
    }

    pub fn state(&self, name: &str) -> String {
        self.status(name)["state"].as_str().unwrap().to_owned()
    }

    pub fn port(&self, name: &str) -> u16 {
        u16::try_from(self.status(name)["address"]["ssh_port"].as_u64().unwrap()).unwrap()
    }

    pub fn entries_count(&self, name: &str) -> usize {
        self.host.json_lines(["log", name]).len()
    }
}

impl Drop for Lab {
    /// No machine outlives its test.
    fn drop(&mut self) {
        for area in fs::read_dir(self.host.path("home/areas")).into_iter().flatten().flatten() {
            let name = area.file_name().into_string().unwrap();
            self.host.run(["area", "stop", &name, "--now"]);
        }
    }
}
