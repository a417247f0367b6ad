//! Arguments of what makes places to save from and to: `init`, `base`, `area`.

use clap::{Args as ClapArgs, Subcommand};
use std::path::PathBuf;

#[derive(Debug, ClapArgs)]
#[command(after_help = "\
Examples:
  vml init
  vml --repo /srv/vml init
  vml init --encrypt
  vml init --encrypt --passphrase-file /etc/vml/passphrase
  vml init --chunker fixed:4K
  vml init --parity 5%")]
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
    /// Parity beside each pack, by which a few bad sectors heal by themselves
    #[arg(long, value_name = "PERCENT", value_parser = super::parse_parity)]
    pub parity: Option<u8>,
    /// Encrypt everything that is saved; without an option that gives a passphrase or key it is asked for
    #[arg(long)]
    pub encrypt: bool,
    /// By what the key is told from others; everybody who sees the repository's files can read it [default: who and where you are]
    #[arg(long, value_name = "TEXT", requires = "encrypt")]
    pub label: Option<String>,
}

#[derive(Debug, Subcommand)]
pub enum BaseCommand {
    /// Save a directory tree, or disk images, as a base
    Add(BaseAddArgs),
    /// Get a base from the network
    Fetch(super::BaseFetchArgs),
    /// Catalogues that are asked for bases
    #[command(subcommand)]
    Catalogue(super::CatalogueCommand),
    /// List the bases
    List,
    /// Build the images of a base, and know them from then on as what overlays stand on
    Export(BaseExportArgs),
    /// Forget a base; entries that were saved relative to it stay whole
    Rm(BaseRmArgs),
}

#[derive(Debug, ClapArgs)]
#[command(after_help = "\
A base that has a tree can be given disks later, and the other way round: two faces of one version.

Examples:
  vml base add debian@12 --tree /srv/guests/debian12 -m 'as installed'
  vml base add debian@12 --disk /srv/images/debian12.qcow2 --machine debian12.xml
  vml base add lab@3 --disk system=lab.raw --disk data=lab-data.qcow2")]
pub struct BaseAddArgs {
    /// Name and version, like debian@12.5
    #[arg(value_name = "NAME@VERSION")]
    pub base: String,
    #[command(flatten)]
    pub tree: TreeArgs,
    #[command(flatten)]
    pub disks: DiskArgs,
    /// What it is
    #[arg(long, short, default_value = "", hide_default_value = true)]
    pub message: String,
}

#[derive(Debug, ClapArgs)]
#[command(after_help = "\
The images must stay as they are for as long as overlays stand on them. A base without disks is built as a tree.

Examples:
  vml base export debian@12 /srv/images/debian12
  vml base export debian@12 /srv/images/debian12 --format raw --verify")]
pub struct BaseExportArgs {
    /// Name and version
    #[arg(value_name = "NAME@VERSION")]
    pub base: String,
    /// Where to: a new or empty directory, unless --replace is given
    pub dir: PathBuf,
    /// The format of the images; whole is the one that was saved
    #[arg(long, value_name = "FORMAT", value_parser = ["whole", "raw", "qcow2"], default_value = "whole")]
    pub format: String,
    /// Replace images that are there already
    #[arg(long)]
    pub replace: bool,
    /// Read the written images again and compare them with what was saved
    #[arg(long)]
    pub verify: bool,
    /// Make devices and set-user-id programs although nobody who is trusted signed the entry
    #[arg(long)]
    pub allow_special: bool,
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

/// Disk images.
#[derive(Debug, ClapArgs)]
pub struct DiskArgs {
    /// A disk's image: [NAME=]FILE[,format=raw|qcow2] (repeatable)
    #[arg(long = "disk", value_name = "IMAGE", value_parser = crate::images::parse_disk)]
    pub disks: Vec<crate::images::DiskImage>,
    /// Another folder in which files that an image names may lie, besides the image's own (repeatable)
    #[arg(long, value_name = "DIR")]
    pub allow_dir: Vec<PathBuf>,
    /// A file that describes the machine, such as libvirt's XML; it is kept with the entry
    #[arg(long, value_name = "FILE")]
    pub machine: Option<PathBuf>,
}

/// A directory tree and what to leave out of it.
#[derive(Debug, ClapArgs)]
pub struct TreeArgs {
    /// A directory
    #[arg(long, value_name = "DIR")]
    pub tree: Option<PathBuf>,
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
    Add(Box<AreaAddArgs>),
    /// List the areas of this host
    List,
    /// Show one area
    Show(AreaNameArgs),
    /// Start an area's machine, or let it go on
    Start(AreaNameArgs),
    /// Stop an area's machine
    Stop(AreaStopArgs),
    /// Write an area's memory to disk and end its machine; start lets it go on
    Suspend(AreaNameArgs),
    /// What the machines of this host's areas are doing
    Status(AreaStatusArgs),
    /// Bring an area's guest to the state of an entry, over SSH
    Patch(super::AreaPatchArgs),
    /// Remove an area's description; its entries, its tree and its disks stay
    Rm(AreaRmArgs),
}

#[derive(Debug, ClapArgs)]
#[command(after_help = "\
Examples:
  vml area add analysis --tree /srv/guests/analysis --base debian@12 --exclude '*.o'
  vml area add detector --disk /srv/vms/detector.qcow2 --base debian@12
  vml area add detector --qemu /srv/vms/detector --disk system=/srv/vms/detector.qcow2 --base debian@12")]
pub struct AreaAddArgs {
    /// A name for the area
    pub name: String,
    #[command(flatten)]
    pub tree: TreeArgs,
    #[command(flatten)]
    pub disks: DiskArgs,
    #[command(flatten)]
    pub ssh: super::SshArgs,
    /// The base its entries are relative to
    #[arg(long, value_name = "NAME@VERSION")]
    pub base: Option<String>,
    /// The folder of a machine that VML runs with QEMU: one with a machine.toml, or a new one for the disks that are given
    #[arg(long, value_name = "DIR", conflicts_with_all = ["libvirt", "vmware"])]
    pub qemu: Option<PathBuf>,
    /// A machine of libvirt, such as qemu:///system/NAME
    #[arg(long, value_name = "URI/DOMAIN", conflicts_with_all = ["vmware", "disks"])]
    pub libvirt: Option<String>,
    /// A machine of VMware Workstation or Fusion, by its description
    #[arg(long, value_name = "FILE.vmx", conflicts_with = "disks")]
    pub vmware: Option<PathBuf>,
}

#[derive(Debug, ClapArgs)]
#[command(after_help = "\
The guest is asked to shut down, and given a minute; a suspended machine gives up its memory.

Examples:
  vml area stop analysis
  vml area stop analysis --now")]
pub struct AreaStopArgs {
    /// The area
    pub name: String,
    /// At once, as by pulling the plug
    #[arg(long)]
    pub now: bool,
    /// How long the guest may take, in seconds
    #[arg(long, value_name = "SECONDS", default_value_t = 60)]
    pub timeout: u64,
}

#[derive(Debug, ClapArgs)]
#[command(after_help = "\
Examples:
  vml area status
  vml area status analysis --json")]
pub struct AreaStatusArgs {
    /// One area only
    pub name: Option<String>,
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

#[derive(Debug, ClapArgs)]
#[command(after_help = "\
Each setting is varied by itself, the others as by default; --all tries every combination. The images or trees are saved one
after the other into a repository that is removed afterwards; several states of one guest show what they share.

Examples:
  vml tune --disk monday.qcow2 --disk friday.qcow2
  vml tune --tree /srv/guests/analysis --level 1,3,9 --svg sizes.svg
  vml tune --disk lab.raw --chunker fastcdc:1K/4K/32K,fixed:4K --frame 1M,8M --all --json")]
pub struct TuneArgs {
    /// A disk's image to save: [NAME=]FILE[,format=raw|qcow2] (repeatable)
    #[arg(long = "disk", value_name = "IMAGE", value_parser = crate::images::parse_disk)]
    pub disks: Vec<crate::images::DiskImage>,
    /// Another folder in which files that an image names may lie, besides the image's own (repeatable)
    #[arg(long, value_name = "DIR")]
    pub allow_dir: Vec<PathBuf>,
    /// A directory tree to save (repeatable)
    #[arg(long, value_name = "DIR")]
    pub tree: Vec<PathBuf>,
    /// Chunkers to try, as for `vml init`
    #[arg(long, value_name = "HOW,...", value_delimiter = ',')]
    pub chunker: Vec<String>,
    /// Frame lengths to try
    #[arg(long, value_name = "SIZE,...", value_delimiter = ',', value_parser = parse_size)]
    pub frame: Vec<u32>,
    /// zstd levels to try
    #[arg(long, value_name = "N,...", value_delimiter = ',')]
    pub level: Vec<u8>,
    /// Try every combination
    #[arg(long)]
    pub all: bool,
    /// Draw size against speed
    #[arg(long, value_name = "FILE")]
    pub svg: Option<PathBuf>,
    /// Where the trials' repositories are made [default: the system's folder for temporary files]
    #[arg(long, value_name = "DIR")]
    pub work: Option<PathBuf>,
    /// One trial, told as JSON
    #[arg(long, hide = true)]
    pub trial: Option<String>,
}

/// `8K`, `1M`, `4096`.
fn parse_size(text: &str) -> Result<u32, String> {
    crate::settings::parse_size(text).ok_or_else(|| format!("{text:?} is no size: write 65536, 64K or 1M"))
}
