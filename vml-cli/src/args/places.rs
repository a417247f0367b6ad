//! Arguments of what makes places to save from and to: `init`, `base`, `area`.

use clap::{Args as ClapArgs, Subcommand};
use std::path::PathBuf;

#[derive(Debug, ClapArgs)]
#[command(after_help = "\
Examples:
  vml init
  vml --repo /srv/vml init
  vml init --chunker fixed:4K")]
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
    Add(BaseAddArgs),
    /// List the bases
    List,
    /// Forget a base; entries that were saved relative to it stay whole
    Rm(BaseRmArgs),
}

#[derive(Debug, ClapArgs)]
#[command(after_help = "\
Example:
  vml base add debian@12 --tree /srv/guests/debian12 -m 'as installed'")]
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
#[command(after_help = "\
Example:
  vml base rm debian@11")]
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
    Add(AreaAddArgs),
    /// List the areas of this host
    List,
    /// Show one area
    Show(AreaNameArgs),
    /// Remove an area's description; its entries and its tree stay
    Rm(AreaRmArgs),
}

#[derive(Debug, ClapArgs)]
#[command(after_help = "\
Example:
  vml area add analysis --tree /srv/guests/analysis --base debian@12 --exclude '*.o'")]
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
#[command(after_help = "\
Example:
  vml area show analysis")]
pub struct AreaNameArgs {
    /// The area
    pub name: String,
}

#[derive(Debug, ClapArgs)]
#[command(after_help = "\
Example:
  vml area rm analysis")]
pub struct AreaRmArgs {
    /// The area
    pub name: String,
    /// Do not ask
    #[arg(long, short)]
    pub yes: bool,
}

/// `8K`, `1M`, `4096`.
fn parse_size(text: &str) -> Result<u32, String> {
    crate::settings::parse_size(text).ok_or_else(|| format!("{text:?} is no size: write 65536, 64K or 1M"))
}
