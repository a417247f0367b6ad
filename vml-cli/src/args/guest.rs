//! Arguments of guests over SSH.

use clap::Args as ClapArgs;
use std::path::PathBuf;

/// A guest, and what of it is saved.
#[derive(Debug, Default, ClapArgs)]
pub struct SshArgs {
    /// A guest whose directories are saved over SSH; its host key must be known. Of a machine, HOST is the name that its key is known by
    #[arg(long, value_name = "USER@HOST[:PORT]")]
    pub ssh: Option<String>,
    /// A directory of the guest to save (repeatable) [default: /home /root /etc /usr/local /opt /srv /var]
    #[arg(long, value_name = "DIR", requires = "ssh", conflicts_with = "all")]
    pub path: Vec<String>,
    /// Save everything of the guest, but what lives only while it runs
    #[arg(long, requires = "ssh")]
    pub all: bool,
    /// Use the ssh command with its configuration: jump hosts, certificates
    #[arg(long, requires = "ssh")]
    pub ssh_command: bool,
    /// A file with a private key (repeatable) [default: the agent, and the keys in ~/.ssh]
    #[arg(long, value_name = "FILE", requires = "ssh")]
    pub identity: Vec<PathBuf>,
    /// A file with known hosts (repeatable) [default: the user's and the system's]
    #[arg(long, value_name = "FILE", requires = "ssh")]
    pub known_hosts: Vec<PathBuf>,
    /// The name under which its host key is known, if not by its address
    #[arg(long, value_name = "NAME", requires = "ssh")]
    pub host_key_alias: Option<String>,
}

#[derive(Debug, ClapArgs)]
#[command(after_help = "\
Only the area's directories are touched, and nothing that it leaves out. Accounts are merged: those of the entry win by name, others
of the guest stay.

Examples:
  vml area patch lab lab@latest
  vml area patch lab lab@~3 --dry-run")]
pub struct AreaPatchArgs {
    /// The area
    pub name: String,
    /// The entry
    pub entry: String,
    /// Tell what would be sent and removed, and do nothing
    #[arg(long)]
    pub dry_run: bool,
    /// Do not ask
    #[arg(long, short)]
    pub yes: bool,
}

impl SshArgs {
    /// What is written down of it.
    pub fn config(&self) -> anyhow::Result<Option<crate::guests::SshConfig>> {
        let Some(address) = &self.ssh else { return Ok(None) };
        let written = |files: &[PathBuf]| -> anyhow::Result<Vec<PathBuf>> {
            files
                .iter()
                .map(|file| {
                    use vml_core::IoResultExt as _;
                    Ok(std::fs::canonicalize(file).at(|| format!("cannot find {}", file.display()))?)
                })
                .collect()
        };
        let config = crate::guests::SshConfig {
            address: address.clone(),
            path: self.path.clone(),
            all: self.all,
            command: self.ssh_command,
            host_key_alias: self.host_key_alias.clone(),
            identity: written(&self.identity)?,
            known_hosts: written(&self.known_hosts)?,
        };
        // What is no address or no directory is told now.
        crate::guests::source(&config, true, false)?;
        Ok(Some(config))
    }
}
