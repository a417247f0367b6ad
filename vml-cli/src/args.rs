//! What can be typed. Parsing validates and does nothing.

use clap::{Args as ClapArgs, Parser, Subcommand};
use clap_complete::Shell;
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

  vml init
  vml base add debian@12 --tree /srv/guests/debian12
  vml area add analysis --tree /srv/guests/analysis --base debian@12
  vml save analysis -m 'calibration done'
  vml log analysis
  vml build analysis@latest /srv/guests/copy";

/// Options of every command.
#[derive(Debug, Clone, ClapArgs)]
pub struct Global {
    /// The repository [default: the user's data folder]
    #[arg(long, global = true, env = "VML_REPO", value_name = "DIR")]
    pub repo: Option<PathBuf>,
    /// Print JSON: one object, or one object a line
    #[arg(long, global = true)]
    pub json: bool,
    /// Print errors only
    #[arg(long, short, global = true)]
    pub quiet: bool,
    /// Threads to use [default: one a core]
    #[arg(long, global = true, value_name = "N", value_parser = clap::value_parser!(u16).range(1..=256))]
    pub threads: Option<u16>,
}

#[derive(Debug, Subcommand)]
pub enum Command {
    /// Make a repository
    Init(InitArgs),
    /// Shared starting states that entries are relative to
    #[command(subcommand)]
    Base(BaseCommand),
    /// Working areas of this host
    #[command(subcommand)]
    Area(AreaCommand),
    /// Save the state of an area as a new entry
    Save(SaveArgs),
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
    /// Build an entry's tree in a directory
    Build(BuildArgs),
    /// Bring back one path of an entry
    Restore(RestoreArgs),
    /// What the repository holds
    Stats,
    /// See whether everything is whole
    Check(CheckArgs),
    /// Print a completion script for a shell
    Completions(CompletionArgs),
    /// Show the main job on directories of this machine
    Demo(DemoArgs),
}

#[derive(Debug, ClapArgs)]
pub struct InitArgs {
    /// zstd level of stored frames, 1 to 19 [default: 3]
    #[arg(long, value_name = "N")]
    pub level: Option<u8>,
    /// Bytes compressed together, 64K to 8M [default: 1M]
    #[arg(long, value_name = "SIZE", value_parser = parse_size)]
    pub frame: Option<u32>,
    /// How streams are cut: fastcdc:MIN/AVG/MAX or fixed:SIZE [default: fastcdc:2K/8K/64K]
    #[arg(long, value_name = "HOW")]
    pub chunker: Option<String>,
}

#[derive(Debug, Subcommand)]
pub enum BaseCommand {
    /// Save a directory tree as a base
    #[command(after_help = "  vml base add debian@12 --tree /srv/guests/debian12")]
    Add(BaseAddArgs),
    /// List the bases
    List,
    /// Forget a base; entries that were saved relative to it stay whole
    Rm(BaseRmArgs),
}

#[derive(Debug, ClapArgs)]
pub struct BaseAddArgs {
    /// Name and version, like debian@12.5
    #[arg(value_name = "NAME@VERSION")]
    pub base: String,
    #[command(flatten)]
    pub tree: TreeArgs,
    /// What it is
    #[arg(long, short, default_value = "", hide_default_value = true)]
    pub message: String,
}

#[derive(Debug, ClapArgs)]
pub struct BaseRmArgs {
    /// Name and version
    #[arg(value_name = "NAME@VERSION")]
    pub base: String,
    /// Do not ask
    #[arg(long, short)]
    pub yes: bool,
}

/// A directory tree and what to leave out of it.
#[derive(Debug, ClapArgs)]
pub struct TreeArgs {
    /// The directory
    #[arg(long, value_name = "DIR")]
    pub tree: PathBuf,
    /// Leave out what matches: a name anywhere, or a path from the root of the tree (repeatable)
    #[arg(long, value_name = "GLOB")]
    pub exclude: Vec<String>,
    /// Keep what is left out of a guest's root by default (the contents of /proc /sys /dev /run /tmp /cvmfs)
    #[arg(long)]
    pub no_default_exclude: bool,
    /// Leave out what is mounted inside the tree
    #[arg(long)]
    pub one_file_system: bool,
}

#[derive(Debug, Subcommand)]
pub enum AreaCommand {
    /// Describe a working area on this host
    #[command(after_help = "  vml area add analysis --tree /srv/guests/analysis --base debian@12 --exclude '*.o'")]
    Add(AreaAddArgs),
    /// List the areas of this host
    List,
    /// Show one area
    Show(AreaNameArgs),
    /// Remove an area's description; its entries and its tree stay
    Rm(AreaRmArgs),
}

#[derive(Debug, ClapArgs)]
pub struct AreaAddArgs {
    /// A name for the area
    pub name: String,
    #[command(flatten)]
    pub tree: TreeArgs,
    /// The base its entries are relative to
    #[arg(long, value_name = "NAME@VERSION")]
    pub base: Option<String>,
}

#[derive(Debug, ClapArgs)]
pub struct AreaNameArgs {
    /// The area
    pub name: String,
}

#[derive(Debug, ClapArgs)]
pub struct AreaRmArgs {
    /// The area
    pub name: String,
    /// Do not ask
    #[arg(long, short)]
    pub yes: bool,
}

#[derive(Debug, ClapArgs)]
pub struct SaveArgs {
    /// The area
    pub area: String,
    /// What was done
    #[arg(long, short)]
    pub message: String,
    /// A name for the entry (repeatable)
    #[arg(long, short, value_name = "NAME")]
    pub tag: Vec<String>,
    /// Tell what it would cost and store nothing
    #[arg(long)]
    pub dry_run: bool,
}

#[derive(Debug, ClapArgs)]
pub struct LogArgs {
    /// One area only
    pub area: Option<String>,
    /// At most this many entries
    #[arg(long, short = 'n', value_name = "N")]
    pub max_count: Option<usize>,
}

#[derive(Debug, ClapArgs)]
pub struct EntryArgs {
    /// The entry
    pub entry: String,
}

#[derive(Debug, ClapArgs)]
pub struct DiffArgs {
    /// The older entry
    pub old: String,
    /// The newer entry
    pub new: String,
    /// Only below this path
    #[arg(long, value_name = "PATH")]
    pub path: Option<String>,
}

#[derive(Debug, ClapArgs)]
pub struct NoteArgs {
    /// The entry
    pub entry: String,
    /// The remark
    pub text: String,
}

#[derive(Debug, ClapArgs)]
pub struct TagArgs {
    /// The entry; without it the tags are listed
    #[arg(requires = "name")]
    pub entry: Option<String>,
    /// The name
    pub name: Option<String>,
    /// Take the name from another entry
    #[arg(long)]
    pub force: bool,
    /// Remove a tag; its entry stays
    #[arg(long, value_name = "NAME", conflicts_with_all = ["entry", "name", "force"])]
    pub remove: Option<String>,
}

#[derive(Debug, ClapArgs)]
pub struct LsArgs {
    /// The entry, and a path in it
    #[arg(value_name = "ENTRY[:PATH]")]
    pub target: String,
    /// Mode, owner, size and time as well
    #[arg(long, short)]
    pub long: bool,
    /// Everything below it
    #[arg(long, short = 'R')]
    pub recursive: bool,
}

#[derive(Debug, ClapArgs)]
pub struct PathArgs {
    /// The entry and the path in it
    #[arg(value_name = "ENTRY:PATH")]
    pub target: String,
}

#[derive(Debug, ClapArgs)]
pub struct BuildArgs {
    /// The entry
    pub entry: String,
    /// Where to: a new or empty directory, unless --delete is given
    pub dir: PathBuf,
    /// Make an existing directory equal: replace what differs, delete what the entry does not have
    #[arg(long)]
    pub delete: bool,
    /// Do not ask before deleting
    #[arg(long, short)]
    pub yes: bool,
}

#[derive(Debug, ClapArgs)]
#[command(after_help = "\
A directory's members go into DIR, anything else becomes DIR/NAME.

  vml restore analysis@~1:home/dev/results /tmp/results
  vml restore v1.0:etc/hosts /tmp")]
pub struct RestoreArgs {
    /// The entry and the path in it
    #[arg(value_name = "ENTRY:PATH")]
    pub target: String,
    /// Where to: a new or an existing directory
    pub dir: PathBuf,
    /// Delete what the entry does not have there
    #[arg(long)]
    pub delete: bool,
    /// Do not ask before deleting
    #[arg(long, short)]
    pub yes: bool,
}

#[derive(Debug, ClapArgs)]
pub struct CheckArgs {
    /// Read every byte of every pack
    #[arg(long)]
    pub data: bool,
}

#[derive(Debug, ClapArgs)]
pub struct CompletionArgs {
    /// The shell
    pub shell: Shell,
}

#[derive(Debug, ClapArgs)]
pub struct DemoArgs {
    /// Where to work; kept afterwards [default: a temporary directory, removed afterwards]
    pub dir: Option<PathBuf>,
}

/// `8K`, `1M`, `4096`.
fn parse_size(text: &str) -> Result<u32, String> {
    crate::settings::parse_size(text).ok_or_else(|| format!("{text:?} is no size: write 65536, 64K or 1M"))
}
