//! What the suite does in a guest, whatever the guest is.

use vml_core::machine::GuestAddress;
use vml_testkit::guest;
pub use vml_testkit::guest::{folder, tool};

/// Runs a command in a real guest, again until it succeeds.
#[track_caller]
pub fn ssh(address: &GuestAddress, command: &str) -> String {
    guest::ssh(address.ssh_port, command)
}

/// The same once.
#[cfg(feature = "libvirt")]
pub fn try_ssh(address: &GuestAddress, command: &str) -> Option<String> {
    guest::try_ssh(address.ssh_port, command)
}

/// A guest that the suite can give work.
pub trait Guest {
    /// Writes a file of so many random bytes, onto the disk.
    fn write(&self, name: &str, len: u64);
    /// Removes a file.
    fn remove(&self, name: &str);
    /// A file's length.
    fn len(&self, name: &str) -> u64;
    /// Waits until all that was written is on the disk.
    fn sync(&self);
    /// Keeps a word in memory only.
    fn keep(&self, word: &str);
    /// The word that it keeps.
    fn kept(&self) -> String;
    /// Starts a program that counts, in memory only.
    fn start_counter(&self);
    /// How far it is.
    fn counted(&self) -> u64;
}

/// How a machine's guest is reached.
pub type Reach<'r> = &'r dyn Fn(&GuestAddress) -> Box<dyn Guest>;

/// A real guest, over SSH.
pub struct SshGuest(u16);

impl SshGuest {
    /// The guest at an address of this host.
    pub fn reach(address: &GuestAddress) -> Box<dyn Guest> {
        Box::new(Self(address.ssh_port))
    }

    fn run(&self, command: &str) -> String {
        guest::ssh(self.0, command)
    }
}

impl Guest for SshGuest {
    fn write(&self, name: &str, len: u64) {
        self.run(&format!("head -c {len} /dev/urandom > /home/{name}; sync"));
    }

    fn remove(&self, name: &str) {
        self.run(&format!("rm /home/{name}; sync"));
    }

    fn len(&self, name: &str) -> u64 {
        self.run(&format!("stat -c %s /home/{name}")).parse().unwrap()
    }

    fn sync(&self) {
        self.run("sync");
    }

    fn keep(&self, word: &str) {
        self.run(&format!("echo {word} > /run/kept"));
    }

    fn kept(&self) -> String {
        self.run("cat /run/kept")
    }

    fn start_counter(&self) {
        self.run("echo counted > /run/counter; (while sleep 0.1; do echo >> /run/counter; done) >/dev/null 2>&1 &");
    }

    fn counted(&self) -> u64 {
        self.run("wc -l < /run/counter").parse().unwrap()
    }
}
