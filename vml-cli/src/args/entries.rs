//! Arguments of what works with entries: from `save` to `check`, and the rest.

use super::OpeningArgs;
use clap::Args as ClapArgs;
use clap_complete::Shell;
use std::ffi::OsString;
use std::path::PathBuf;

#[derive(Debug, Default, ClapArgs)]
#[command(after_help = "\
Files that are as the area's latest entry has them are not read.

Examples:
  vml save analysis -m 'calibration done'
  vml save analysis -m 'before the upgrade' --tag stable
  vml save detector -m 'in the middle of a run' --mode full
  vml save analysis -m try --dry-run")]
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
    /// What to save of a machine: tree is its files, disk its disks, full its memory too [default: full of a suspended machine, else disk]
    #[arg(long, value_name = "MODE", value_parser = ["tree", "disk", "full"])]
    pub mode: Option<String>,
    /// Save disks although another program has an image open for writing: the saved state may be torn
    #[arg(long)]
    pub in_use: bool,
}

#[derive(Debug, ClapArgs)]
#[command(after_help = "\
Examples:
  vml log
  vml log analysis -n 5")]
pub struct LogArgs {
    /// One area only
    pub area: Option<String>,
    /// At most this many entries
    #[arg(long, short = 'n', value_name = "N", value_parser = clap::value_parser!(u32).range(1..))]
    pub max_count: Option<u32>,
}

#[derive(Debug, ClapArgs)]
#[command(after_help = "\
Examples:
  vml show analysis@latest
  vml show --json 3f9a27c1de")]
pub struct EntryArgs {
    /// The entry
    pub entry: String,
    #[command(flatten)]
    pub opening: OpeningArgs,
}

#[derive(Debug, ClapArgs)]
#[command(after_help = "\
A is added, D is removed, M is modified; what differs stands behind it.

Examples:
  vml diff analysis@~1 analysis@latest
  vml diff BASE:debian@12 analysis@latest --path etc")]
pub struct DiffArgs {
    /// The older entry
    pub old: String,
    /// The newer entry
    pub new: String,
    /// Only below this path
    #[arg(long, value_name = "PATH")]
    pub path: Option<OsString>,
    #[command(flatten)]
    pub inside: InsideArgs,
}

#[derive(Debug, ClapArgs)]
#[command(after_help = "\
Example:
  vml note analysis@latest 'the plots of the talk are from here'")]
pub struct NoteArgs {
    /// The entry
    pub entry: String,
    /// The remark
    pub text: String,
}

#[derive(Debug, ClapArgs)]
#[command(after_help = "\
Examples:
  vml tag analysis@latest v1.0
  vml tag analysis@latest stable --force
  vml tag --remove stable
  vml tag")]
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
#[command(after_help = "\
Examples:
  vml ls analysis@latest
  vml ls -l analysis@latest:etc
  vml ls -R stable:home/dev")]
pub struct LsArgs {
    /// The entry, and a path in it
    #[arg(value_name = "ENTRY[:PATH]")]
    pub target: OsString,
    /// Mode, owner, size and time as well
    #[arg(long, short)]
    pub long: bool,
    /// Everything below it
    #[arg(long, short = 'R')]
    pub recursive: bool,
    #[command(flatten)]
    pub inside: InsideArgs,
    #[command(flatten)]
    pub opening: OpeningArgs,
}

/// Where in an entry to look: without these its tree, or the disk of one that has no tree.
#[derive(Debug, Default, ClapArgs)]
pub struct InsideArgs {
    /// Look into this disk
    #[arg(long, value_name = "NAME")]
    pub disk: Option<String>,
    /// Look into this partition, where several have file systems
    #[arg(long, value_name = "N")]
    pub partition: Option<u32>,
}

#[derive(Debug, ClapArgs)]
#[command(after_help = "\
Example:
  vml cat analysis@~1:etc/hosts")]
pub struct PathArgs {
    /// The entry and the path in it
    #[arg(value_name = "ENTRY:PATH")]
    pub target: OsString,
    #[command(flatten)]
    pub inside: InsideArgs,
    #[command(flatten)]
    pub opening: OpeningArgs,
}

#[derive(Debug, Default, ClapArgs)]
#[command(after_help = "\
A tree becomes the directory's contents, each disk an image DIR/NAME.qcow2 or DIR/NAME.raw. Only root can give files to other owners; others build them as their own.

Examples:
  vml build analysis@latest /srv/guests/copy
  vml build stable /srv/guests/analysis --delete
  vml build detector@latest /srv/vms/copy
  vml build detector@~1 /srv/vms/yesterday --format raw --verify
  vml build detector@latest --area again --start
  vml build lab@latest --area lab2 --ssh root@lab")]
pub struct BuildArgs {
    /// The entry
    pub entry: String,
    /// Where to: a new or empty directory, unless --delete is given
    #[arg(required_unless_present = "area")]
    pub dir: Option<PathBuf>,
    /// Make a new area of this name with a machine that runs, in DIR or in the area's folder
    #[arg(long, value_name = "NAME")]
    pub area: Option<String>,
    /// Start the machine, or let it go on where it was saved
    #[arg(long, requires = "area")]
    pub start: bool,
    /// Leave the saved memory out: the machine starts from its disks
    #[arg(long, requires = "area")]
    pub no_memory: bool,
    #[command(flatten)]
    pub ssh: super::SshArgs,
    /// Make it a machine of this libvirt, such as qemu:///system, called as the area; for entries that were saved from libvirt
    #[arg(long, value_name = "URI", requires = "area")]
    pub libvirt: Option<String>,
    /// Make an existing directory equal: replace what differs, delete what the entry does not have
    #[arg(long)]
    pub delete: bool,
    /// Do not ask before deleting
    #[arg(long, short)]
    pub yes: bool,
    /// How disks are written: overlay is a qcow2 image that holds only what differs from the image of the entry's base;
    /// auto is that where this host has such an image, else the format that was saved
    #[arg(long, value_name = "FORMAT", value_parser = ["auto", "raw", "qcow2", "overlay"], default_value = "auto")]
    pub format: String,
    /// Replace images that are there already
    #[arg(long)]
    pub replace: bool,
    /// Read the written images again and compare them with what was saved
    #[arg(long)]
    pub verify: bool,
    /// For an entry that has both: build only its tree, or only its disks
    #[arg(long, value_name = "PART", value_parser = ["tree", "disks"])]
    pub only: Option<String>,
    /// Make devices and set-user-id programs although nobody who is trusted signed the entry
    #[arg(long)]
    pub allow_special: bool,
    /// Do not fetch a base that is missing here
    #[arg(long)]
    pub no_fetch: bool,
}

#[derive(Debug, ClapArgs)]
#[command(after_help = "\
A directory's members go into DIR, anything else becomes DIR/NAME.

Examples:
  vml restore analysis@~1:home/dev/results /tmp/results
  vml restore v1.0:etc/hosts /tmp")]
pub struct RestoreArgs {
    /// The entry and the path in it
    #[arg(value_name = "ENTRY:PATH")]
    pub target: OsString,
    /// Where to: a new or an existing directory; what is there stays unless it is in the way
    pub dir: PathBuf,
    /// Delete what the entry does not have there
    #[arg(long)]
    pub delete: bool,
    /// Do not ask before deleting
    #[arg(long, short)]
    pub yes: bool,
    /// Make devices and set-user-id programs although nobody who is trusted signed the entry
    #[arg(long)]
    pub allow_special: bool,
    #[command(flatten)]
    pub inside: InsideArgs,
}

#[derive(Debug, ClapArgs)]
#[command(after_help = "\
Without --data every entry is walked to every chunk it names; with it every byte is read as well. A check that was cut short goes on
where it was. What is found damaged is noted, so that the next save of the same data heals it; `vml repair` does more.

Examples:
  vml check
  vml check --data
  vml check --sample 5%
  vml check --sample 10G")]
pub struct CheckArgs {
    /// Read every byte of every pack
    #[arg(long)]
    pub data: bool,
    /// Read every byte of some packs: about so many percent, or bytes; the next sample takes others
    #[arg(long, value_name = "SIZE", value_parser = parse_sample, conflicts_with_all = ["data", "restart"])]
    pub sample: Option<SampleSize>,
    /// Read also what a check that was cut short has proven
    #[arg(long)]
    pub restart: bool,
}

/// How much a sample is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum SampleSize {
    /// Parts per million of all packs.
    Parts(u32),
    /// Bytes.
    Bytes(u64),
}

/// `5%`, `0.5%`, `10G`.
fn parse_sample(text: &str) -> Result<SampleSize, String> {
    let wrong = || format!("{text:?} is no sample: write 5% or 10G");
    let Some(percent) = text.strip_suffix('%') else {
        return crate::settings::parse_rate(text).map(SampleSize::Bytes).ok_or_else(wrong);
    };
    let percent: f64 = percent.trim().parse().map_err(|_| wrong())?;
    // Beyond these limits no number is one.
    if !(0.0001..=100.0).contains(&percent) {
        return Err(wrong());
    }
    Ok(SampleSize::Parts((percent * 10_000.0).round() as u32))
}

/// `5%`, `5`, `off`.
pub fn parse_parity(text: &str) -> Result<u8, String> {
    let number = match text {
        "off" | "none" => Some(0),
        _ => text.strip_suffix('%').unwrap_or(text).parse().ok().filter(|percent| (1..=100).contains(percent)),
    };
    number.ok_or_else(|| format!("{text:?} is no parity: write 5%, or off"))
}

#[derive(Debug, ClapArgs)]
#[command(after_help = "\
It says what it would do and asks before anything is taken away. What is sound is saved first. What is lost is fetched from other
repositories or share files, or healed when the same data is saved again; until then its entries can be read around it.

Examples:
  vml repair --dry-run
  vml repair
  vml repair --from backup --from analysis.vml --yes
  vml repair --parity 5%")]
pub struct RepairArgs {
    /// Tell what would be done and do nothing
    #[arg(long)]
    pub dry_run: bool,
    /// Where to fetch what is lost: a remote's name, a repository's place, or a share file (repeatable)
    #[arg(long, value_name = "SOURCE")]
    pub from: Vec<String>,
    /// Read only packs that are known or seen to be damaged, and not every byte
    #[arg(long)]
    pub known: bool,
    /// Give packs parity of so many percent from now on, also those that are there; or off
    #[arg(long, value_name = "PERCENT", value_parser = parse_parity)]
    pub parity: Option<u8>,
    /// Do not ask
    #[arg(long, short)]
    pub yes: bool,
}

#[derive(Debug, ClapArgs)]
#[command(after_help = "\
Examples:
  vml completions bash > ~/.local/share/bash-completion/completions/vml
  vml completions zsh > ~/.zfunc/_vml
  vml completions fish > ~/.config/fish/completions/vml.fish")]
pub struct CompletionArgs {
    /// The shell
    pub shell: Shell,
}

#[derive(Debug, ClapArgs)]
#[command(after_help = "\
Example:
  vml demo /var/tmp/vml-demo")]
pub struct DemoArgs {
    /// Where to work; kept afterwards [default: a temporary directory, removed afterwards]
    pub dir: Option<PathBuf>,
}

#[derive(Debug, ClapArgs)]
#[command(after_help = "\
What runs is saved, if a message is given, and suspended; then the other area is resumed, started, or built from its latest entry.
A step that fails is undone: both areas are as they were.

Examples:
  vml switch detector -m 'second pass done'
  vml switch analysis --no-save
  vml switch analysis --from detector -m 'going home'")]
pub struct SwitchArgs {
    /// The area to go to
    pub area: String,
    /// Save the area that is left, with this message
    #[arg(long, short)]
    pub message: Option<String>,
    /// Suspend the area that is left without saving it
    #[arg(long, conflicts_with = "message")]
    pub no_save: bool,
    /// The area to leave; needed where several run
    #[arg(long, value_name = "AREA")]
    pub from: Option<String>,
    /// Do not fetch a base that is missing here
    #[arg(long)]
    pub no_fetch: bool,
}
