//! What can be typed. Parsing validates and does nothing.

mod access;
mod entries;
mod guest;
mod keep;
mod network;
mod places;
mod remotes;
mod serve;
mod share;

pub use access::*;
pub use entries::*;
pub use guest::*;
pub use keep::*;
pub use network::*;
pub use places::*;
pub use remotes::*;
pub use serve::*;
pub use share::*;

use clap::{Args as ClapArgs, Parser, Subcommand};
use std::path::PathBuf;

/// Version control for virtual machines: save states, see what changed, build them back.
#[derive(Debug, Parser)]
#[command(name = "vml", version, max_term_width = 100, after_help = ENTRY_HELP)]
pub struct Args {
    #[command(flatten)]
    pub global: Global,
    #[command(subcommand)]
    pub command: Command,
}

const ENTRY_HELP: &str = "\
An ENTRY is named by the first digits of its id (at least four), AREA@latest, AREA@~N (N entries
before the latest), a tag, or BASE:NAME@VERSION.

Exit codes: 0 done, 1 done with problems found, 2 wrong usage, 3 failed.

Examples:
  vml init
  vml base add debian@12 --tree /srv/guests/debian12
  vml area add analysis --tree /srv/guests/analysis --base debian@12
  vml save analysis -m 'calibration done'
  vml log analysis
  vml build analysis@latest /srv/guests/copy";

/// The heading over what every command takes.
const GLOBAL: &str = "Options of every command";

/// Options of every command.
#[derive(Debug, Clone, ClapArgs)]
pub struct Global {
    /// The repository: a directory, or s3://BUCKET/PREFIX, gs:// or az:// [default: the user's data folder]
    #[arg(long, global = true, env = "VML_REPO", hide_env_values = true, value_name = "PLACE", help_heading = GLOBAL)]
    pub repo: Option<PathBuf>,
    /// Print JSON: one object, or one object a line
    #[arg(long, global = true, help_heading = GLOBAL)]
    pub json: bool,
    /// Print errors only
    #[arg(long, short, global = true, help_heading = GLOBAL)]
    pub quiet: bool,
    /// Threads to use [default: one a core]
    #[arg(long, global = true, value_name = "N", value_parser = clap::value_parser!(u16).range(1..=256), help_heading = GLOBAL)]
    pub threads: Option<u16>,
    #[command(flatten)]
    pub unlock: UnlockArgs,
}

#[derive(Debug, Subcommand)]
pub enum Command {
    /// Make a repository
    Init(InitArgs),
    /// Who has a key of an encrypted repository
    #[command(subcommand)]
    Access(AccessCommand),
    /// Shared starting states that entries are relative to
    #[command(subcommand)]
    Base(BaseCommand),
    /// Working areas of this host
    #[command(subcommand)]
    Area(AreaCommand),
    /// Save the state of an area as a new entry
    Save(SaveArgs),
    /// Put the running area away and bring up another one
    Switch(SwitchArgs),
    /// The logbook: entries, newest first
    Log(LogArgs),
    /// What one entry is
    Show(EntryArgs),
    /// What changed from one entry to another
    Diff(DiffArgs),
    /// Add a remark to an entry
    Note(NoteArgs),
    /// Name an entry, or list the names
    Tag(TagArgs),
    /// List a directory of an entry
    Ls(LsArgs),
    /// Print a file of an entry
    Cat(PathArgs),
    /// Build an entry's tree or disks in a directory
    Build(BuildArgs),
    /// Bring back one path of an entry
    Restore(RestoreArgs),
    /// Write an entry into one file for somebody else
    Share(ShareArgs),
    /// Take the entries of a share file into the repository
    Receive(ReceiveArgs),
    /// Keys by which share files are signed
    #[command(subcommand)]
    Key(KeyCommand),
    /// Other repositories to push to and pull from
    #[command(subcommand)]
    Remote(RemoteCommand),
    /// Bring entries to another repository
    Push(PushArgs),
    /// Get entries from another repository
    Pull(PullArgs),
    /// Make a repository with everything that another one has
    Clone(CloneArgs),
    /// Let others read the repository and add to it, over HTTP
    Serve(ServeArgs),
    /// Tokens that let clients use the service
    #[command(subcommand)]
    Token(TokenCommand),
    /// What a guest is given
    #[command(subcommand)]
    Guest(GuestCommand),
    /// What the repository holds
    Stats(StatsArgs),
    /// See whether everything is whole
    Check(CheckArgs),
    /// Save what is sound where something is damaged, and fetch what is lost
    Repair(RepairArgs),
    /// Forget entries, by name or by what to keep
    Forget(ForgetArgs),
    /// Free what no entry needs any more
    Gc(GcArgs),
    /// Recompress what was saved, smaller and in the order of a restore
    Compact(CompactArgs),
    /// Try a repository's settings on data of one's own
    Tune(TuneArgs),
    /// Print a completion script for a shell
    Completions(CompletionArgs),
    /// Show the main job on directories of this machine
    Demo(DemoArgs),
}
