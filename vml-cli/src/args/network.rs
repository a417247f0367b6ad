//! Arguments of what comes from the network: bases, catalogues, proxies.

use clap::{Args as ClapArgs, Subcommand};
use std::path::PathBuf;

#[derive(Debug, ClapArgs)]
#[command(after_help = "\
The base is looked for in the catalogues that `vml base catalogue list` shows. Size and digest are checked before anything of it is used. A fetch that was interrupted
goes on where it ended; of several at a time one fetches, and the others wait for it.

Examples:
  vml base fetch debian@12
  vml base fetch debian@12 --catalogue https://example.org/catalogue.toml
  vml base fetch debian@12 --proxy 'http://a:3128|http://b:3128;http://c:3128;DIRECT' --limit 10M
  vml base fetch debian@12 --dry-run")]
pub struct BaseFetchArgs {
    /// Name and version
    #[arg(value_name = "NAME@VERSION")]
    pub base: String,
    /// Look in this catalogue only: an address, or a file
    #[arg(long, value_name = "URL|FILE")]
    pub catalogue: Option<String>,
    /// Proxies to use, as CVMFS lists them: | between those of a group, ; between groups, DIRECT for none
    #[arg(long, value_name = "LIST")]
    pub proxy: Option<String>,
    /// Bytes a second at most, like 500K or 10M
    #[arg(long, value_name = "RATE", value_parser = parse_rate)]
    pub limit: Option<u64>,
    /// Use a catalogue only if a key of `vml key list` signed it
    #[arg(long)]
    pub require_signed: bool,
    /// Tell what would be fetched, and from where
    #[arg(long)]
    pub dry_run: bool,
}

#[derive(Debug, Subcommand)]
pub enum CatalogueCommand {
    /// List the catalogues that are asked for bases
    List,
    /// Ask one more catalogue
    Add(CatalogueAddArgs),
    /// Show the bases of a catalogue
    Show(CatalogueShowArgs),
    /// Ask a catalogue no more
    Rm(CatalogueNameArgs),
}

#[derive(Debug, ClapArgs)]
#[command(after_help = "\
The catalogue is read once, to see that it is one. docs/bases.md says what stands in a catalogue.

Examples:
  vml base catalogue add lab https://example.org/catalogue.toml
  vml base catalogue add lab https://example.org/catalogue.toml --require-signed
  vml base catalogue add own /srv/images/catalogue.toml")]
pub struct CatalogueAddArgs {
    /// A name for it
    pub name: String,
    /// Where it is
    #[arg(value_name = "URL|FILE")]
    pub at: String,
    /// Use it only if a key of `vml key list` signed it
    #[arg(long)]
    pub require_signed: bool,
}

#[derive(Debug, ClapArgs)]
#[command(after_help = "\
Examples:
  vml base catalogue show lab
  vml base catalogue show https://example.org/catalogue.toml --json")]
pub struct CatalogueShowArgs {
    /// The name of a catalogue, an address, or a file
    pub name: String,
}

#[derive(Debug, ClapArgs)]
#[command(after_help = "\
Example:
  vml base catalogue rm lab")]
pub struct CatalogueNameArgs {
    /// The catalogue
    pub name: String,
}

#[derive(Debug, Subcommand)]
pub enum GuestCommand {
    /// Order proxies for a guest, the nearest first, and write its configuration of CVMFS
    Proxies(GuestProxiesArgs),
}

#[derive(Debug, ClapArgs)]
#[command(after_help = "\
The nearest is the one that a geo service of CVMFS says, else the one to which a connection takes the shortest time. Proxies that cannot be reached are left out.

Examples:
  vml guest proxies 'http://a:3128;http://b:3128;DIRECT'
  vml guest proxies 'http://a:3128;http://b:3128' --geo http://s1.example.org/cvmfs/sft.cern.ch
  vml guest proxies 'http://a:3128;http://b:3128' --area analysis")]
pub struct GuestProxiesArgs {
    /// Proxies as CVMFS lists them [default: those of network.toml, or HTTP_PROXY]
    #[arg(value_name = "LIST")]
    pub list: Option<String>,
    /// A geo service to ask for distances, http://STRATUM-ONE/cvmfs/REPOSITORY [default: that of network.toml]
    #[arg(long, value_name = "URL")]
    pub geo: Option<String>,
    /// Write the line into etc/cvmfs/default.local of this area's tree
    #[arg(long, value_name = "AREA", conflicts_with = "file")]
    pub area: Option<String>,
    /// Write the line into this file
    #[arg(long, value_name = "FILE")]
    pub file: Option<PathBuf>,
}

fn parse_rate(text: &str) -> Result<u64, String> {
    crate::settings::parse_rate(text).ok_or_else(|| format!("{text:?} is no rate: write 65536, 500K or 10M"))
}
