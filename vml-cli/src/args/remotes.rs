//! Arguments of what has to do with other repositories: `remote`, `push`, `pull`, `clone`.

use clap::{Args as ClapArgs, Subcommand};
use std::path::PathBuf;

#[derive(Debug, Subcommand)]
pub enum RemoteCommand {
    /// Give another repository a name
    Add(RemoteAddArgs),
    /// List the remotes
    List,
    /// List the areas, bases and tags of a remote
    Show(RemoteShowArgs),
    /// Forget a remote; nothing of it is deleted
    Rm(RemoteRmArgs),
}

#[derive(Debug, ClapArgs)]
#[command(after_help = "\
What comes from a remote that is your own is as if you had saved it here, and what goes there is not looked through for secrets. Directories
and ssh:// are taken for your own, buckets, http:// and https:// for shared with others.

Examples:
  vml remote add backup /mnt/backup/vml
  vml remote add origin https://vml.example.org --token-file token
  vml remote add desk ssh://eva@desk.example.org/srv/vml")]
pub struct RemoteAddArgs {
    /// A name for it; origin is used where no other is named
    pub name: String,
    #[command(flatten)]
    pub place: PlaceArgs,
}

/// Where a remote is and what it is.
#[derive(Debug, ClapArgs)]
pub struct PlaceArgs {
    /// A directory, http://HOST, https://HOST, ssh://USER@HOST:PORT/PATH or s3://BUCKET/PREFIX
    pub url: String,
    /// A file with the token that the service gave, - for standard input
    #[arg(long, value_name = "FILE")]
    pub token_file: Option<PathBuf>,
    /// It is yours alone
    #[arg(long, conflicts_with = "shared")]
    pub own: bool,
    /// Others write to it or read it
    #[arg(long)]
    pub shared: bool,
    /// How vml is called on the other side of ssh [default: vml]
    #[arg(long, value_name = "PATH")]
    pub program: Option<String>,
}

#[derive(Debug, ClapArgs)]
#[command(after_help = "\
Example:
  vml remote show origin")]
pub struct RemoteShowArgs {
    /// The remote [default: origin, or the only one]
    pub name: Option<String>,
}

#[derive(Debug, ClapArgs)]
#[command(after_help = "\
Example:
  vml remote rm backup")]
pub struct RemoteRmArgs {
    /// The remote
    pub name: String,
}

/// How fast, and how much.
#[derive(Debug, ClapArgs)]
pub struct LineArgs {
    /// Bytes a second at most: 500K, 2M
    #[arg(long, value_name = "RATE", value_parser = parse_rate)]
    pub limit: Option<u64>,
    /// Leave out what the entries continue; their bases always come along
    #[arg(long)]
    pub no_history: bool,
    /// Tell which entries would be brought over and do nothing
    #[arg(long, short = 'n')]
    pub dry_run: bool,
    /// Where the other repository cuts streams otherwise: read every entry again on both sides and compare
    #[arg(long)]
    pub verify: bool,
}

#[derive(Debug, ClapArgs)]
#[command(after_help = "\
An entry comes with what it continues and with its base; the remote gets what it does not have. A push that was cut goes on where it was.
Nothing is visible there before all of it is there. If an area there went another way, the entry gets a tag there instead.

Examples:
  vml push
  vml push origin analysis
  vml push origin analysis@~3 --no-history --limit 2M")]
pub struct PushArgs {
    /// The remote [default: origin, or the only one]
    pub remote: Option<String>,
    /// Areas or entries [default: all areas, tags and bases]
    pub entry: Vec<String>,
    #[command(flatten)]
    pub line: LineArgs,
    /// Send the secrets that were found to a remote that is shared
    #[arg(long)]
    pub allow_secrets: bool,
    /// Send the memory of machines to a remote that is shared
    #[arg(long)]
    pub with_memory: bool,
}

#[derive(Debug, ClapArgs)]
#[command(after_help = "\
Examples:
  vml pull
  vml pull origin analysis
  vml pull origin BASE:debian@12")]
pub struct PullArgs {
    /// The remote [default: origin, or the only one]
    pub remote: Option<String>,
    /// Areas, tags, BASE:NAME@VERSION or ids [default: all areas, tags and bases]
    pub entry: Vec<String>,
    #[command(flatten)]
    pub line: LineArgs,
}

#[derive(Debug, ClapArgs)]
#[command(after_help = "\
The new repository is the one of --repo or VML_REPO, else that of your data folder; it cuts streams as the other one does. The other one becomes the remote origin.

Examples:
  vml clone https://vml.example.org
  vml --repo /srv/vml clone ssh://eva@desk.example.org/srv/vml")]
pub struct CloneArgs {
    #[command(flatten)]
    pub place: PlaceArgs,
    /// Bytes a second at most: 500K, 2M
    #[arg(long, value_name = "RATE", value_parser = parse_rate)]
    pub limit: Option<u64>,
}

fn parse_rate(text: &str) -> Result<u64, String> {
    crate::settings::parse_rate(text.strip_suffix("/s").unwrap_or(text)).ok_or_else(|| "write bytes a second, like 500K or 2M".to_owned())
}
