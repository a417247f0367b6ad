//! Arguments of encrypted repositories: how a key is given, and `access`.

use super::GLOBAL;
use clap::{Args as ClapArgs, Subcommand};
use std::path::PathBuf;

/// How the key of an encrypted repository is given. Never as itself: whoever lists processes sees what was typed.
#[derive(Debug, Clone, Default, ClapArgs)]
pub struct UnlockArgs {
    /// The passphrase of an encrypted repository is the first line of this file
    #[arg(long, global = true, value_name = "FILE", conflicts_with_all = ["passphrase_command", "passphrase_fd", "key_file"], help_heading = GLOBAL)]
    pub passphrase_file: Option<PathBuf>,
    /// It is the first line that this command prints; a shell runs it
    #[arg(long, global = true, value_name = "COMMAND", conflicts_with_all = ["passphrase_fd", "key_file"], help_heading = GLOBAL)]
    pub passphrase_command: Option<String>,
    /// It is the first line that can be read from this file descriptor
    #[arg(long, global = true, value_name = "N", conflicts_with = "key_file", help_heading = GLOBAL)]
    pub passphrase_fd: Option<u32>,
    /// The key file of an encrypted repository
    #[arg(long, global = true, value_name = "FILE", help_heading = GLOBAL)]
    pub key_file: Option<PathBuf>,
}

#[derive(Debug, Subcommand)]
pub enum AccessCommand {
    /// List the keys of the repository; needs none
    List,
    /// Give another key
    Add(AccessAddArgs),
    /// Take a key away, and write with new secrets from now on
    Remove(AccessRemoveArgs),
    /// Write with new secrets from now on
    #[command(after_help = "\
What is stored stays readable by whoever could read it. Taking a key away rotates by itself.

Example:
  vml access rotate")]
    Rotate,
}

#[derive(Debug, ClapArgs)]
#[command(after_help = "\
Without an option a passphrase is asked for, twice. A key that can save but not read is for a machine that backs itself up: taken over,
it tells nothing of what was saved before.

Examples:
  vml access add --label laptop
  vml access add --label host7 --put-only --new-key-file /etc/vml/host7.key")]
pub struct AccessAddArgs {
    /// By what it is told from others; everybody who sees the repository's files can read it
    #[arg(long, value_name = "TEXT")]
    pub label: String,
    /// It can save, and read nothing
    #[arg(long)]
    pub put_only: bool,
    #[command(flatten)]
    pub new: NewKeyArgs,
}

/// What will open it.
#[derive(Debug, Clone, Default, ClapArgs)]
pub struct NewKeyArgs {
    /// Its passphrase is the first line of this file
    #[arg(long, value_name = "FILE", conflicts_with_all = ["new_passphrase_command", "new_passphrase_fd", "new_key_file"])]
    pub new_passphrase_file: Option<PathBuf>,
    /// It is the first line that this command prints
    #[arg(long, value_name = "COMMAND", conflicts_with_all = ["new_passphrase_fd", "new_key_file"])]
    pub new_passphrase_command: Option<String>,
    /// It is the first line that can be read from this file descriptor
    #[arg(long, value_name = "N", conflicts_with = "new_key_file")]
    pub new_passphrase_fd: Option<u32>,
    /// Its key is in this file, which is made if it is not there
    #[arg(long, value_name = "FILE")]
    pub new_key_file: Option<PathBuf>,
}

#[derive(Debug, ClapArgs)]
#[command(after_help = "\
Who has it can read what he has copied, and what was written before; nothing of what is written from now on.

Examples:
  vml access remove host7
  vml access remove 3f9a27c1 --yes")]
pub struct AccessRemoveArgs {
    /// The key: its label, or the first digits of its id
    pub key: String,
    /// Do not ask
    #[arg(long, short)]
    pub yes: bool,
}
