//! A machine's memory: libvirt's managed save.
//!
//! ```text
//! running ──managed save, to go on paused──► suspended ──copy──► the entry's file
//!    ▲                                           │
//!    └──go on── the disks' session begins ◄──started paused
//! ```
//! While QEMU writes its memory it lets go of the disks, and libvirt has no call to take them back; so the machine is started again
//! from what was saved, paused, and the disks of that moment are those of the memory. Until it is started its memory is safe in
//! libvirt's own file: whatever fails, the machine is running or suspended.

use super::call::{on_connection, on_domain};
use super::machine::LibvirtMachine;
use super::saved::{Head, set_xml};
use super::{error, raw};
use std::fs::{self, File, OpenOptions};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::thread;
use std::time::Duration;
use virt::domain::Domain;
use virt::sys;
use vml_core::entry::Fact;
use vml_core::machine::{Machine as _, MachineState, SavedMemory};
use vml_core::{Error, ErrorKind, IoResultExt as _, Result};

/// The layout's name in an entry.
const FORMAT: &str = "libvirt-qemu-save";
const FACT_QEMU: &str = "memory.qemu";
const FACT_LIBVIRT: &str = "memory.libvirt";
const FACT_MACHINE: &str = "memory.machine";
const FACT_MIB: &str = "memory.mib";
const FACT_STREAM: &str = "memory.stream";

/// Suspends the machine; one that is resumed later is then held, if `paused`, and runs on otherwise, whatever it does now.
pub(super) fn suspend(machine: &LibvirtMachine, paused: bool) -> Result<()> {
    let flags = if paused { sys::VIR_DOMAIN_SAVE_PAUSED } else { sys::VIR_DOMAIN_SAVE_RUNNING };
    let saved = on_domain(&machine.uri, machine.options.memory_limit, move |domain| {
        domain.managed_save(flags).map(|_| ()).map_err(|cause| error::from_virt(&cause))
    });
    saved.inspect_err(|error| {
        if error.kind() == ErrorKind::Interrupted {
            // It would still be suspended some time, when nobody expects it.
            _ = machine.call(raw::abort_job);
        }
    })
}

/// Starts a suspended machine; held, if `paused`.
pub(super) fn resume(machine: &LibvirtMachine, paused: bool) -> Result<()> {
    let flags = if paused { sys::VIR_DOMAIN_START_PAUSED } else { 0 };
    on_domain(&machine.uri, machine.options.memory_limit, move |domain| {
        domain.create_with_flags(flags).map(|_| ()).map_err(|cause| error::from_virt(&cause))
    })
}

/// libvirt's file of a suspended machine.
fn path(machine: &LibvirtMachine) -> Result<PathBuf> {
    let name = machine.domain(true)?.name;
    if name.contains('/') {
        return Err(Error::invalid(format!("{name:?} is no name of a machine")));
    }
    Ok(machine.options.save_dir.join(format!("{name}.save")))
}

pub(super) fn save(machine: &LibvirtMachine, to: &Path, held: &mut dyn FnMut() -> Result<()>) -> Result<SavedMemory> {
    if machine.state()? != MachineState::Running {
        return Err(Error::invalid("the machine is not running"));
    }
    if machine.call(|domain| Ok(raw::backup_xml(domain).is_ok()))? {
        return Err(Error::new(ErrorKind::Locked, "another save of the machine is under way, or ended half-way"));
    }
    let from = path(machine)?;
    // Seen before the machine is held.
    fs::read_dir(&machine.options.save_dir)
        .at(|| format!("cannot look into {}, where libvirt saves memory", machine.options.save_dir.display()))?;
    let file = OpenOptions::new().write(true).create(true).truncate(true).mode(0o600).open(to);
    drop(file.at(|| format!("cannot write {}", to.display()))?);
    suspend(machine, true).inspect_err(|_| _ = fs::remove_file(to))?;
    let copied = copy(&from, to).and_then(|()| facts(machine, to));
    let started = resume(machine, true).or_else(|_| resume(machine, true));
    let result = match (copied, started) {
        (_, Err(error)) => {
            _ = fs::remove_file(to);
            return Err(error.context("the machine could not be started again: it is suspended, with its memory as it was"));
        }
        (Err(error), Ok(())) => Err(error),
        (Ok(facts), Ok(())) => held().map(|()| SavedMemory { format: FORMAT.to_owned(), facts }),
    };
    let result = result.inspect_err(|_| _ = fs::remove_file(to));
    match go_on(machine) {
        Ok(()) => result,
        Err(error) => Err(error.context("the machine is held: resume it")),
    }
}

/// Lets the machine go on; a try that fails for once does not leave it held.
fn go_on(machine: &LibvirtMachine) -> Result<()> {
    machine.resume().or_else(|_| {
        thread::sleep(Duration::from_secs(1));
        if machine.state()? == MachineState::Running { Ok(()) } else { machine.resume() }
    })
}

/// A second name for libvirt's file, which it removes when the machine is started; a copy on another file system.
fn copy(from: &Path, to: &Path) -> Result<()> {
    _ = fs::remove_file(to);
    if fs::hard_link(from, to).is_ok() {
        return Ok(());
    }
    fs::copy(from, to).map(|_| ()).at(|| format!("cannot copy {} to {}", from.display(), to.display()))
}

/// What is needed to resume the memory in `saved`.
fn facts(machine: &LibvirtMachine, saved: &Path) -> Result<Vec<Fact>> {
    let file = File::open(saved).at(|| format!("cannot read {}", saved.display()))?;
    let head = Head::read(file)?;
    let domain = machine.domain(true)?;
    let (libvirt, qemu) = versions(machine)?;
    let fact = |name: &str, value: String| Fact { name: name.to_owned(), value };
    Ok(vec![
        fact(FACT_QEMU, dotted(qemu)),
        fact(FACT_LIBVIRT, dotted(libvirt)),
        fact(FACT_MACHINE, domain.machine.unwrap_or_default()),
        fact(FACT_MIB, (domain.memory_bytes >> 20).to_string()),
        fact(FACT_STREAM, head.format().to_owned()),
    ])
}

/// The versions of libvirt and of its QEMU, as libvirt counts them.
fn versions(machine: &LibvirtMachine) -> Result<(u64, u64)> {
    on_connection(&machine.uri, machine.options.answer_limit, |connection| {
        let from = |cause: virt::error::Error| error::from_virt(&cause);
        Ok((u64::from(connection.get_lib_version().map_err(from)?), u64::from(connection.get_hyp_version().map_err(from)?)))
    })
}

fn dotted(version: u64) -> String {
    format!("{}.{}.{}", version / 1_000_000, version / 1000 % 1000, version % 1000)
}

fn number(text: &str) -> Option<u64> {
    let mut parts = text.split('.').map(|part| part.parse::<u64>().ok().filter(|part| *part < 1000));
    let version = (parts.next()??, parts.next()??, parts.next()??);
    parts.next().is_none().then_some(version.0 * 1_000_000 + version.1 * 1000 + version.2)
}

pub(super) fn suspended(machine: &LibvirtMachine) -> Result<(PathBuf, SavedMemory)> {
    if machine.state()? != MachineState::Suspended {
        return Err(Error::invalid("the machine is not suspended"));
    }
    let path = path(machine)?;
    let facts = facts(machine, &path)?;
    Ok((path, SavedMemory { format: FORMAT.to_owned(), facts }))
}

pub(super) fn put(machine: &LibvirtMachine, facts: &[Fact], write: &mut dyn FnMut(&Path) -> Result<()>) -> Result<()> {
    if machine.state()? != MachineState::Off {
        return Err(Error::invalid("the machine is not off"));
    }
    if let Some(reason) = refusal(machine, facts)? {
        return Err(Error::new(ErrorKind::UnsupportedFormat, format!("the memory cannot be resumed here: {reason}")));
    }
    let path = path(machine)?;
    let (part, spare) = (path.with_extension("vml-part"), path.with_extension("vml-spare"));
    let own = machine.call(|domain| {
        let flags = sys::VIR_DOMAIN_XML_INACTIVE | sys::VIR_DOMAIN_XML_SECURE;
        domain.get_xml_desc(flags).map_err(|cause| error::from_virt(&cause))
    })?;
    let result = write(&part).and_then(|()| set_xml(&part, &spare, &own)).and_then(|()| adopt(machine, &part, &path));
    result.inspect_err(|_| _ = fs::remove_file(&part))
}

/// Gives libvirt the file as the machine's memory.
fn adopt(machine: &LibvirtMachine, part: &Path, path: &Path) -> Result<()> {
    fs::rename(part, path).at(|| format!("cannot write {}", path.display()))?;
    if machine.state()? == MachineState::Suspended {
        return Ok(());
    }
    // libvirt looks for such files when it begins, and again when a machine is started.
    let text = path.to_str().ok_or_else(|| Error::invalid(format!("{} is not UTF-8", path.display())))?.to_owned();
    on_connection(&machine.uri, machine.options.memory_limit, move |connection| {
        Domain::domain_restore_flags(connection, &text, None, sys::VIR_DOMAIN_SAVE_PAUSED).map_err(|cause| error::from_virt(&cause))
    })?;
    suspend(machine, false)
}

/// Why memory that was saved with these facts cannot be resumed here.
pub(super) fn refusal(machine: &LibvirtMachine, facts: &[Fact]) -> Result<Option<String>> {
    let get = |name: &str| facts.iter().find(|fact| fact.name == name).map(|fact| fact.value.as_str());
    let (Some(qemu), Some(libvirt), Some(kind)) = (get(FACT_QEMU).and_then(number), get(FACT_LIBVIRT).and_then(number), get(FACT_MACHINE))
    else {
        return Ok(Some("it does not say which libvirt, QEMU and machine it was saved from".to_owned()));
    };
    let (libvirt_here, qemu_here) = versions(machine)?;
    for (name, saved, here) in [("QEMU", qemu, qemu_here), ("libvirt", libvirt, libvirt_here)] {
        if here / 1000 < saved / 1000 {
            return Ok(Some(format!("it was saved from {name} {}, and here is {}", dotted(saved), dotted(here))));
        }
    }
    let domain = machine.domain(true)?;
    let here = domain.machine.unwrap_or_default();
    if here != kind {
        return Ok(Some(format!("it was saved from a machine of the type {kind}, and this one is of the type {here}")));
    }
    let mib = (domain.memory_bytes >> 20).to_string();
    Ok(get(FACT_MIB)
        .filter(|saved| *saved != mib)
        .map(|saved| format!("it was saved from a machine of {saved} MiB, and this one has {mib}")))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn versions_are_written_and_read() {
        assert_eq!(dotted(10_000_002), "10.0.2");
        assert_eq!(number("10.0.2"), Some(10_000_002));
        assert_eq!(number(&dotted(9_000_000)), Some(9_000_000));
        for text in ["", "10", "10.0.2.1", "10.x.2", "1.1000.2"] {
            assert_eq!(number(text), None, "{text}");
        }
    }
}
