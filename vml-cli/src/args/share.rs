//! Arguments of what goes to others and comes from them: `share`, `receive`, `key`.

use clap::{Args as ClapArgs, Subcommand};
use std::path::PathBuf;

#[derive(Debug, ClapArgs)]
#[command(after_help = "\
The file has what the receiver lacks, who is expected to have the entry's base; with --full it needs nothing. It is signed with your key, if you have one.
Before anything is written it is looked through for secrets: docs/sharing.md has the rules.

Examples:
  vml share analysis@latest
  vml share analysis@latest -o - | ssh colleague vml receive -
  vml share analysis@latest --since analysis@~3 -o week.vml
  vml share analysis@latest --full --scrub
  vml share analysis@latest --to eva --to age1...")]
pub struct ShareArgs {
    /// The entry, or several
    #[arg(required = true)]
    pub entry: Vec<String>,
    /// The file to write, - for standard output [default: named after the entry, in this directory]
    #[arg(long, short, value_name = "FILE")]
    pub output: Option<PathBuf>,
    /// Replace a file that is there already
    #[arg(long)]
    pub replace: bool,
    /// Put the base into the file, so that the receiver need not have it
    #[arg(long)]
    pub full: bool,
    /// Leave out what this entry has: the receiver has it (repeatable)
    #[arg(long, value_name = "ENTRY")]
    pub since: Vec<String>,
    /// Seal the file to somebody's key: age1…, ssh-ed25519 …, a .pub file, or a name of `vml key list` (repeatable)
    #[arg(long, value_name = "KEY")]
    pub to: Vec<String>,
    /// Sign with this key: a name of `vml key list`, or a file of an SSH ed25519 key
    #[arg(long, value_name = "KEY")]
    pub key: Option<String>,
    /// Do not sign
    #[arg(long, conflicts_with = "key")]
    pub no_sign: bool,
    /// Share the secrets that were found
    #[arg(long, conflicts_with = "scrub")]
    pub allow_secrets: bool,
    /// Leave out the files in which secrets were found, and the memory, in a new entry derived from this one
    #[arg(long)]
    pub scrub: bool,
    /// Share the memory of a machine, with whatever its programs knew
    #[arg(long)]
    pub with_memory: bool,
    /// How hard to compress: zstd level, 1 to 19 [default: 12, with --small 19]
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(i32).range(1..=19))]
    pub level: Option<i32>,
    /// The smallest file: content in one stream, in which what repeats is found 128 MiB back; takes minutes for a guest
    #[arg(long)]
    pub small: bool,
}

#[derive(Debug, ClapArgs)]
#[command(after_help = "\
Nothing is visible before all of it was checked. A file that was cut short is kept as far as it came: get the rest and receive it again.

Examples:
  vml receive analysis-3f9a27c1de.vml
  vml receive https://vml.example.org/e/analysis@latest
  ssh colleague vml share analysis@latest -o - | vml receive -
  vml receive --require-signed analysis-3f9a27c1de.vml")]
pub struct ReceiveArgs {
    /// The file, a link to one, or - for standard input
    pub file: PathBuf,
    /// Take it only if a key of `vml key list` signed it
    #[arg(long)]
    pub require_signed: bool,
    /// Do not fetch a base that is missing here
    #[arg(long)]
    pub no_fetch: bool,
    #[command(flatten)]
    pub opening: OpeningArgs,
}

/// With what a sealed file is opened.
#[derive(Debug, Default, ClapArgs)]
pub struct OpeningArgs {
    /// Open a sealed file with the keys in this file, of SSH or age, instead of those of `vml key list` (repeatable)
    #[arg(long, value_name = "FILE")]
    pub identity: Vec<PathBuf>,
}

#[derive(Debug, Subcommand)]
pub enum KeyCommand {
    /// Make a key to sign with
    New(KeyNewArgs),
    /// List your keys and those you trust
    List,
    /// Trust somebody's key, or no longer
    Trust(KeyTrustArgs),
    /// Print the public half of a key, for others to trust
    Export(KeyExportArgs),
    /// What the repository demands of entries from elsewhere
    Policy(KeyPolicyArgs),
}

#[derive(Debug, ClapArgs)]
#[command(after_help = "\
The only key, or the one called default, signs what you share.

Examples:
  vml key new
  vml key new work")]
pub struct KeyNewArgs {
    /// A name for it
    #[arg(default_value = "default")]
    pub name: String,
}

#[derive(Debug, ClapArgs)]
#[command(after_help = "\
Examples:
  vml key trust eva eva.pub
  vml key trust eva 'ssh-ed25519 AAAA... eva@example.org'
  vml key trust --remove eva")]
pub struct KeyTrustArgs {
    /// A name for whose key it is
    #[arg(required_unless_present = "remove", requires = "key")]
    pub name: Option<String>,
    /// The public key, a file that has it, or - for standard input
    pub key: Option<String>,
    /// Trust this key no longer
    #[arg(long, value_name = "NAME", conflicts_with_all = ["name", "key"])]
    pub remove: Option<String>,
}

#[derive(Debug, ClapArgs)]
#[command(after_help = "\
Example:
  vml key export > my-key.pub")]
pub struct KeyExportArgs {
    /// The key
    #[arg(default_value = "default")]
    pub name: String,
}

#[derive(Debug, ClapArgs)]
#[command(after_help = "\
The policy belongs to the repository: it holds for everybody who uses it. Without an option it is printed.

Examples:
  vml key policy
  vml key policy --require-signed")]
pub struct KeyPolicyArgs {
    /// Take entries only from files that a trusted key has signed, and from remotes that are one's own
    #[arg(long, conflicts_with = "allow_unsigned")]
    pub require_signed: bool,
    /// Take unsigned entries too
    #[arg(long)]
    pub allow_unsigned: bool,
}
