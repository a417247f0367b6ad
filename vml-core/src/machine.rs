//! What a hypervisor must offer, and what it may offer, so that machines of any kind are saved and built alike.
//!
//! ```text
//! Machine      describe, state, start, stop, suspend, resume     LiveDisks   the disks of a running machine at one moment
//! DiskSession  one such moment: read, then commit or abort       LiveMemory  its memory, to a file
//! ```
//! A [`DiskSession`] shows every disk as it was when the session began, while the machine runs on. Committed, it leaves a
//! *checkpoint* named after the entry: the next session that begins since it knows what changed. Dropped or aborted, it leaves the
//! machine as if it had never been. Every call returns in bounded time; a hypervisor that does not answer is `Interrupted`.

use crate::disk::Disk;
use crate::entry::Fact;
use std::ops::Range;
use std::path::{Path, PathBuf};
use std::time::Duration;
use vml_chunk::{Error, ErrorKind, Result};

/// What a kind of hypervisor can do, as data: `vml area show` prints it, and `docs/hypervisors.md` has the table.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Capabilities {
    /// The adapter's name.
    pub adapter: &'static str,
    /// What it drives.
    pub drives: &'static str,
    /// Whether the disks of a running machine can be saved.
    pub live_disks: bool,
    /// Whether a second save reads only what changed since the first.
    pub changed_ranges: bool,
    /// Whether memory can be saved with the disks.
    pub memory: bool,
    /// Whether a machine can be suspended to disk and resumed.
    pub suspend: bool,
    /// Whether the guest's file systems are made quiet by its agent, where there is one.
    pub quiesce: bool,
    /// Whether the guest's address is known.
    pub address: bool,
}

/// What a machine is doing.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum MachineState {
    /// Not running, and nothing to resume.
    Off,
    /// Running.
    Running,
    /// Held in memory; it goes on at once.
    Paused,
    /// Not running, with its memory on disk.
    Suspended,
}

impl MachineState {
    /// Its name.
    pub fn name(self) -> &'static str {
        match self {
            Self::Off => "off",
            Self::Running => "running",
            Self::Paused => "paused",
            Self::Suspended => "suspended",
        }
    }
}

impl MachineState {
    /// Sees that a machine in this state can be started from its disks.
    ///
    /// # Errors
    /// `InvalidInput` that says what to do instead.
    pub fn check_start(self) -> Result<()> {
        match self {
            Self::Off => Ok(()),
            Self::Suspended => Err(Error::invalid("the machine is suspended: resume it, or stop it first, which gives up its memory")),
            state => Err(Error::invalid(format!("the machine is {} already", state.name()))),
        }
    }
}

/// A disk as its hypervisor knows it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct MachineDisk {
    /// By what the machine's disks are told apart.
    pub name: String,
    /// Its image on this host.
    pub file: PathBuf,
    /// The image's format.
    pub format: String,
}

/// What a machine is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Description {
    /// A name for the file with the description, such as `machine.toml` or `domain.xml`.
    pub file_name: String,
    /// The description in the hypervisor's own words.
    pub bytes: Vec<u8>,
    /// Its disks.
    pub disks: Vec<MachineDisk>,
    /// Where images that these name may lie, besides their own folders.
    pub allowed_dirs: Vec<PathBuf>,
    /// Bytes of memory.
    pub memory_bytes: u64,
    /// What else is worth knowing in an entry.
    pub facts: Vec<Fact>,
}

/// Where a guest is reached.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct GuestAddress {
    /// A name or an address.
    pub host: String,
    /// The port of its SSH server.
    pub ssh_port: u16,
}

/// How a machine is stopped.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Stop {
    /// The guest is asked to shut down, and given this long.
    Shutdown(Duration),
    /// At once, as by pulling the plug.
    Kill,
}

/// A machine under a hypervisor.
pub trait Machine {
    /// What can be done with it.
    fn capabilities(&self) -> Capabilities;

    /// What it is.
    ///
    /// # Errors
    /// When its description cannot be read.
    fn describe(&self) -> Result<Description>;

    /// What it is doing.
    ///
    /// # Errors
    /// `Interrupted` when the hypervisor does not answer.
    fn state(&self) -> Result<MachineState>;

    /// Starts it, from its disks.
    ///
    /// # Errors
    /// `InvalidInput` when it is not off; else what the hypervisor says.
    fn start(&self) -> Result<()>;

    /// Stops it.
    ///
    /// # Errors
    /// `Interrupted` when the guest does not shut down in time; it is then as it was.
    fn stop(&self, how: Stop) -> Result<()>;

    /// Writes its memory to disk and ends it; it is left running when that fails.
    ///
    /// # Errors
    /// `InvalidInput` when it is not running; else what the hypervisor says.
    fn suspend(&self) -> Result<()>;

    /// Lets it go on: one that is paused, or suspended.
    ///
    /// # Errors
    /// `InvalidInput` when there is nothing to resume; `UnsupportedFormat` when this host cannot.
    fn resume(&self) -> Result<()>;

    /// Where its guest is reached, if that is known.
    ///
    /// # Errors
    /// As [`state`](Self::state).
    fn address(&self) -> Result<Option<GuestAddress>>;

    /// Removes what an earlier save left behind that did not end, and says what that was.
    ///
    /// # Errors
    /// As [`state`](Self::state).
    fn clean(&self) -> Result<Vec<String>>;

    /// Its disks while it runs, if the hypervisor can show them.
    fn live_disks(&self) -> Option<&dyn LiveDisks> {
        None
    }

    /// Its memory, if the hypervisor can save it.
    fn live_memory(&self) -> Option<&dyn LiveMemory> {
        None
    }
}

/// Shows the disks of a running machine.
pub trait LiveDisks {
    /// Begins a session at this moment. `since` names the checkpoint of an earlier one, so that what changed after it is known; one that
    /// is not there any more only means that everything is read.
    ///
    /// # Errors
    /// `Locked` when another session is under way; else what the hypervisor says.
    fn begin(&self, since: Option<&str>) -> Result<Box<dyn DiskSession + '_>>;
}

/// A running machine's disks at one moment.
pub trait DiskSession {
    /// The disks.
    fn disks(&self) -> &[LiveDisk];

    /// Ends the session, and leaves a checkpoint of this name instead of all earlier ones.
    ///
    /// # Errors
    /// What the hypervisor says; the session has ended all the same.
    fn commit(self: Box<Self>, checkpoint: &str) -> Result<()>;

    /// Ends the session without a trace; dropping it does the same, and tells of no error.
    ///
    /// # Errors
    /// As [`commit`](Self::commit).
    fn abort(self: Box<Self>) -> Result<()>;
}

/// One disk of a session.
pub struct LiveDisk {
    /// Its name.
    pub name: String,
    /// The format of its image.
    pub format: String,
    /// The disk as it was when the session began.
    pub disk: Box<dyn Disk>,
    /// Where it differs at most from what it was at the checkpoint the session began since: sorted and apart. `None` when that is
    /// not known.
    pub changed: Option<Vec<Range<u64>>>,
}

/// Saves a running machine's memory.
pub trait LiveMemory {
    /// Holds the machine, writes its memory to the new file `to`, calls `held` while memory and disks are of the same moment, and lets the
    /// machine go on, also when something failed.
    ///
    /// # Errors
    /// What the hypervisor or `held` says.
    fn save(&self, to: &Path, held: &mut dyn FnMut() -> Result<()>) -> Result<SavedMemory>;

    /// The memory of a suspended machine.
    ///
    /// # Errors
    /// `InvalidInput` when it is not suspended.
    fn suspended(&self) -> Result<(PathBuf, SavedMemory)>;

    /// Makes a machine that is off a suspended one, with a memory that `write` puts into a new file.
    ///
    /// # Errors
    /// As [`check_put`](Self::check_put); else what `write` says.
    fn put(&self, facts: &[Fact], write: &mut dyn FnMut(&Path) -> Result<()>) -> Result<()>;

    /// Sees that memory that was saved with these facts can be put into the machine, which is in `state`.
    ///
    /// # Errors
    /// `InvalidInput` when the machine is not off, `UnsupportedFormat` when the memory does not fit.
    fn check_put(&self, state: MachineState, facts: &[Fact]) -> Result<()> {
        if state != MachineState::Off {
            return Err(Error::invalid("the machine is not off"));
        }
        self.refusal(facts)?.map_or(Ok(()), |reason| Err(unfit(&reason)))
    }

    /// Why memory that was saved with these facts cannot be resumed here.
    ///
    /// # Errors
    /// As [`Machine::state`].
    fn refusal(&self, facts: &[Fact]) -> Result<Option<String>>;
}

/// Memory in a file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SavedMemory {
    /// Its format, such as `qemu-mapped-ram`.
    pub format: String,
    /// What is needed to resume it: hypervisor and version, machine type, processor, memory.
    pub facts: Vec<Fact>,
}

/// The error of memory that cannot be resumed here.
pub fn unfit(reason: &str) -> Error {
    Error::new(ErrorKind::UnsupportedFormat, format!("the memory cannot be resumed here: {reason}"))
}
