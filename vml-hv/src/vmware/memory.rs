//! A machine's memory: VMware keeps the pages in one file and the devices' state in another; an entry has them one after the other.
//!
//! ```text
//! system.vmem   pages, at their places        ┐
//! system.vmss   the devices (and the pages,   ├── one file: pages, then devices; how long each is, the facts say
//!               where there is no .vmem)      ┘
//! ```

use super::files::{self, STATE};
use super::machine::VmwareMachine;
use super::session::{self, SNAPSHOT};
use std::fs::{self, File, OpenOptions};
use std::io::{Read, copy};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::sync::PoisonError;
use vml_core::entry::Fact;
use vml_core::machine::{LiveMemory as _, Machine as _, MachineState, SavedMemory};
use vml_core::{Error, ErrorKind, IoResultExt as _, Result};

/// The layout's name in an entry.
const FORMAT: &str = "vmware-vmem-vmss";
const FACT_PAGES: &str = "memory.vmem_len";
const FACT_STATE: &str = "memory.vmss_len";
const FACT_HARDWARE: &str = "memory.hardware";
const FACT_MIB: &str = "memory.mib";
/// Both parts of a suspended machine's memory in one file, for whoever reads it.
const JOINED: &str = ".vml-memory";

/// The state of a suspended machine, if it is one.
pub(super) fn file(machine: &VmwareMachine) -> Result<Option<PathBuf>> {
    let vmx = files::read(&machine.vmx)?;
    let Some(name) = vmx.get(STATE).filter(|name| !name.is_empty()) else { return Ok(None) };
    let path = files::inside(&machine.dir, name)?;
    Ok(path.exists().then_some(path))
}

/// The pages that belong to a state; none where the state has them itself.
fn pages(state: &Path) -> Option<PathBuf> {
    Some(state.with_extension("vmem")).filter(|path| path.exists())
}

/// Makes a suspended machine one that is off.
pub(super) fn give_up(machine: &VmwareMachine) -> Result<()> {
    let Some(state) = file(machine)? else { return Ok(()) };
    let mut vmx = files::read(&machine.vmx)?;
    vmx.set(STATE, "")?;
    files::write(&machine.vmx, &vmx)?;
    // A snapshot's state is the snapshot's; that of a suspended machine is of no use any more.
    if state.extension().is_some_and(|ending| ending.eq_ignore_ascii_case("vmss")) {
        for path in [Some(machine.dir.join(JOINED)), pages(&state), Some(state)].into_iter().flatten() {
            _ = fs::remove_file(path);
        }
    }
    Ok(())
}

/// A new file that others cannot read: it has the guest's keys.
fn create(path: &Path) -> Result<File> {
    let file = OpenOptions::new().write(true).create(true).truncate(true).mode(0o600).open(path);
    file.at(|| format!("cannot write {}", path.display()))
}

/// Joins a state and its pages in `to`.
fn join(machine: &VmwareMachine, state: &Path, to: &Path) -> Result<SavedMemory> {
    let joined = (|| {
        let mut out = create(to)?;
        let mut lens = [0, 0];
        for (len, path) in lens.iter_mut().zip([pages(state), Some(state.to_owned())]) {
            let Some(path) = path else { continue };
            let mut from = File::open(&path).at(|| format!("cannot read {}", path.display()))?;
            *len = copy(&mut from, &mut out).at(|| format!("cannot copy {} to {}", path.display(), to.display()))?;
        }
        Ok(lens)
    })();
    let [pages_len, state_len] = joined.inspect_err(|_: &Error| _ = fs::remove_file(to))?;
    let vmx = files::read(&machine.vmx)?;
    let setting = |key: &str| vmx.get(key).unwrap_or_default().to_owned();
    Ok(SavedMemory {
        format: FORMAT.to_owned(),
        facts: vec![
            Fact::new(FACT_PAGES, pages_len.to_string()),
            Fact::new(FACT_STATE, state_len.to_string()),
            Fact::new(FACT_HARDWARE, setting("virtualHW.version")),
            Fact::new(FACT_MIB, setting("memsize")),
        ],
    })
}

/// Saves the memory of a running machine: that of a snapshot, whose disks are of the same moment.
pub(super) fn save(machine: &VmwareMachine, to: &Path, held: &mut dyn FnMut() -> Result<()>) -> Result<SavedMemory> {
    let frozen = session::freeze(machine)?;
    let result = snapshot_state(machine).and_then(|state| join(machine, &state, to)).and_then(|saved| {
        *machine.moment.lock().unwrap_or_else(PoisonError::into_inner) = Some(frozen);
        held().map(|()| saved)
    });
    let untaken = machine.moment.lock().unwrap_or_else(PoisonError::into_inner).take().is_some();
    match result {
        Ok(saved) if !untaken => Ok(saved),
        // No session has taken the snapshot over.
        Ok(saved) => session::thaw(machine).map(|()| saved),
        Err(error) => {
            _ = fs::remove_file(to);
            // A session that was begun and dropped has deleted it.
            _ = session::clean(machine);
            Err(error)
        }
    }
}

/// The state that the snapshot of a save has, as the list of snapshots beside the description says.
fn snapshot_state(machine: &VmwareMachine) -> Result<PathBuf> {
    let list = files::read(&machine.vmx.with_extension("vmsd"))?;
    let is_ours = |(key, value): &(&str, &str)| key.to_ascii_lowercase().ends_with(".displayname") && *value == SNAPSHOT;
    let number = list.settings().filter(is_ours).last().and_then(|(key, _)| key.split_once('.')).map(|(number, _)| number.to_owned());
    let name = number.and_then(|number| list.get(&format!("{number}.filename")));
    let path = name.map(|name| files::inside(&machine.dir, name)).transpose()?.filter(|path| path.exists());
    path.ok_or_else(|| Error::new(ErrorKind::UnsupportedFormat, "VMware's snapshot has no memory: suspend the machine, then save it"))
}

/// The memory of a suspended machine.
pub(super) fn suspended(machine: &VmwareMachine) -> Result<(PathBuf, SavedMemory)> {
    if machine.state()? != MachineState::Suspended {
        return Err(Error::invalid("the machine is not suspended"));
    }
    let state = file(machine)?.ok_or_else(|| Error::invalid("the machine is not suspended"))?;
    let joined = machine.dir.join(JOINED);
    let saved = join(machine, &state, &joined)?;
    Ok((joined, saved))
}

/// Makes a machine that is off a suspended one.
pub(super) fn put(machine: &VmwareMachine, facts: &[Fact], write: &mut dyn FnMut(&Path) -> Result<()>) -> Result<()> {
    machine.check_put(machine.state()?, facts)?;
    let joined = machine.dir.join(JOINED);
    let state = machine.vmx.with_extension("vmss");
    let result = write(&joined).and_then(|()| split(&joined, facts, &state)).and_then(|()| {
        let mut vmx = files::read(&machine.vmx)?;
        vmx.set(STATE, &state.file_name().unwrap_or_default().to_string_lossy())?;
        files::write(&machine.vmx, &vmx)
    });
    _ = fs::remove_file(&joined);
    result
}

/// Takes the parts of a joined memory apart again.
fn split(joined: &Path, facts: &[Fact], state: &Path) -> Result<()> {
    let failed = || format!("cannot read {}", joined.display());
    let len = |name: &str| Fact::find(facts, name).and_then(|text| text.parse::<u64>().ok());
    let mut from = File::open(joined).at(failed)?;
    let there = from.metadata().at(failed)?.len();
    let (pages_len, state_len) = match (len(FACT_PAGES), len(FACT_STATE)) {
        (Some(pages), Some(state)) if pages.checked_add(state) == Some(there) => (pages, state),
        _ => return Err(Error::corrupt("the saved memory is not as long as its facts say")),
    };
    let pages = state.with_extension("vmem");
    _ = fs::remove_file(&pages);
    for (path, len) in [(pages.as_path(), pages_len), (state, state_len)] {
        if len > 0 {
            copy(&mut from.by_ref().take(len), &mut create(path)?).at(|| format!("cannot write {}", path.display()))?;
        }
    }
    Ok(())
}

/// Why memory with these facts does not fit this machine.
pub(super) fn refusal(machine: &VmwareMachine, facts: &[Fact]) -> Result<Option<String>> {
    if Fact::find(facts, FACT_STATE).is_none() || Fact::find(facts, FACT_PAGES).is_none() {
        return Ok(Some("it was not saved from VMware".to_owned()));
    }
    let vmx = files::read(&machine.vmx)?;
    for (fact, key) in [(FACT_HARDWARE, "virtualHW.version"), (FACT_MIB, "memsize")] {
        let (saved, here) = (Fact::find(facts, fact).unwrap_or_default(), vmx.get(key).unwrap_or_default());
        if saved != here {
            return Ok(Some(format!("it was saved from a machine whose {key} is {saved:?}, and here it is {here:?}")));
        }
    }
    Ok(None)
}

/// Removes what a save or a build of memory has left.
pub(super) fn clean(machine: &VmwareMachine) {
    _ = fs::remove_file(machine.dir.join(JOINED));
}
