//! Both ways to reach a guest, which is this host itself.

use std::path::PathBuf;
use std::time::Duration;
use vml_hv::ssh::{LibraryOptions, LibraryTransport, Limits, ProgramOptions, ProgramTransport, SshAddress, Transport};
use vml_testkit::sshd::Sshd;

pub struct Server(Sshd);

impl std::ops::Deref for Server {
    type Target = Sshd;

    fn deref(&self) -> &Sshd {
        &self.0
    }
}

/// Both ways to reach a guest.
pub enum Way {
    Library(LibraryTransport),
    Program(ProgramTransport),
}

impl Way {
    pub fn transport(&self) -> &(dyn Transport + Sync) {
        match self {
            Self::Library(transport) => transport,
            Self::Program(transport) => transport,
        }
    }

    pub fn name(&self) -> &'static str {
        match self {
            Self::Library(_) => "library",
            Self::Program(_) => "program",
        }
    }
}

const LIMITS: Limits = Limits { connect: Duration::from_secs(20), idle: Duration::from_secs(60) };

impl Server {
    pub fn start(test: &str) -> Option<Self> {
        Sshd::start(test).map(Self)
    }

    fn address(&self) -> SshAddress {
        SshAddress { user: Some("root".to_owned()), host: "127.0.0.1".to_owned(), port: Some(self.port()) }
    }

    pub fn by_library(&self) -> Way {
        self.by_library_as(None)
    }

    /// Known by another name.
    pub fn by_library_as(&self, host_key_alias: Option<&str>) -> Way {
        Way::Library(LibraryTransport::new(LibraryOptions {
            address: self.address(),
            host_key_alias: host_key_alias.map(str::to_owned),
            known_hosts: vec![self.path("known")],
            identities: vec![self.path("user")],
            agent: None,
            limits: LIMITS,
        }))
    }

    pub fn by_program(&self) -> Way {
        self.by_program_as(None)
    }

    pub fn by_program_as(&self, host_key_alias: Option<&str>) -> Way {
        Way::Program(ProgramTransport::new(ProgramOptions {
            program: PathBuf::from("ssh"),
            address: self.address(),
            host_key_alias: host_key_alias.map(str::to_owned),
            identities: vec![self.path("user")],
            known_hosts: vec![self.path("known")],
            limits: LIMITS,
        }))
    }

    pub fn ways(&self) -> [Way; 2] {
        [self.by_library(), self.by_program()]
    }
}
