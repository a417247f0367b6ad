//! A machine's memory: libvirt's managed save of one that is suspended, a snapshot of memory alone of one that runs on.
//!
//! ```text
//! running ──held──► snapshot of memory ──► disks taken back ──► the disks' session begins ──► running
//! ```
//! While QEMU writes its memory it lets go of the disks. libvirt has no call to take them back without letting the machine run, so QEMU
//! itself is told to, through libvirt; libvirt notes that in its log (it calls the machine tainted). QEMU can since 10.0.

use super::call::{on_connection, on_domain};
use super::machine::LibvirtMachine;
use super::saved::{Head, set_xml};
use super::xml::escaped;
use super::{error, raw};
use std::fmt::Write as _;
use std::fs::{self, File, OpenOptions};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::thread;
use std::time::Duration;
use virt::domain::Domain;
use virt::domain_snapshot::DomainSnapshot;
use virt::sys;
use vml_core::entry::Fact;
use vml_core::machine::{LiveMemory as _, Machine as _, MachineState, SavedMemory};
use vml_core::{Error, ErrorKind, IoResultExt as _, Result};

/// The layout's name in an entry.
const FORMAT: &str = "libvirt-qemu-save";
const FACT_QEMU: &str = "memory.qemu";
const FACT_LIBVIRT: &str = "memory.libvirt";
const FACT_MACHINE: &str = "memory.machine";
const FACT_MIB: &str = "memory.mib";
const FACT_STREAM: &str = "memory.stream";
/// The name space of the mark that a machine has while it is held by a save.
const MARK: &str = "urn:vml:held";
/// What QEMU is told, so that a machine that is held has its disks again.
const TAKE_BACK: &str = r#"{"execute":"blockdev-set-active","arguments":{"active":true}}"#;

/// Suspends the machine; it runs on when it is resumed, also if it was held.
pub(super) fn suspend(machine: &LibvirtMachine) -> Result<()> {
    let saved = on_domain(&machine.uri, machine.options.memory_limit, |domain| {
        domain.managed_save(sys::VIR_DOMAIN_SAVE_RUNNING).map(|_| ()).map_err(|cause| error::from_virt(&cause))
    });
    saved.inspect_err(|error| {
        if error.kind() == ErrorKind::Interrupted {
            // It would still be suspended some time, when nobody expects it.
            _ = machine.call(raw::abort_job);
        }
    })
}

/// Starts a suspended machine.
pub(super) fn resume(machine: &LibvirtMachine) -> Result<()> {
    on_domain(&machine.uri, machine.options.memory_limit, |domain| domain.create().map(|_| ()).map_err(|cause| error::from_virt(&cause)))
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
    // What cannot be written is seen before the machine is held.
    let file = OpenOptions::new().write(true).create(true).truncate(true).mode(0o600).open(to);
    drop(file.at(|| format!("cannot write {}", to.display()))?);
    let to = fs::canonicalize(to).at(|| format!("cannot find {}", to.display()))?;
    let saved = hold(machine).and_then(|()| write(machine, &to)).and_then(|()| {
        let facts = facts(machine, &to)?;
        held().map(|()| SavedMemory { format: FORMAT.to_owned(), facts })
    });
    let saved = saved.inspect_err(|_| _ = fs::remove_file(&to));
    match go_on(machine) {
        Ok(()) => saved,
        Err(error) => Err(error.context("the machine is held: resume it")),
    }
}

/// Holds the machine, and leaves a mark that it is held by a save.
fn hold(machine: &LibvirtMachine) -> Result<()> {
    machine.call(|domain| {
        mark(domain, Some("<held/>"))?;
        domain.suspend().map(|_| ()).map_err(|cause| error::from_virt(&cause))
    })
}

fn mark(domain: &Domain, mark: Option<&str>) -> Result<()> {
    let kind = i32::try_from(sys::VIR_DOMAIN_METADATA_ELEMENT).unwrap_or_default();
    let key = mark.map(|_| "vml");
    domain.set_metadata(kind, mark, key, Some(MARK), sys::VIR_DOMAIN_AFFECT_LIVE).map(|_| ()).map_err(|cause| error::from_virt(&cause))
}

/// Writes the memory of a machine that is held, which has its disks afterwards.
fn write(machine: &LibvirtMachine, to: &Path) -> Result<()> {
    let file = to.to_str().ok_or_else(|| Error::invalid(format!("{} is not UTF-8", to.display())))?;
    let mut xml = format!("<domainsnapshot><name>vml-memory</name><memory snapshot='external' file='{}'/><disks>", escaped(file));
    for disk in machine.domain(false)?.disks {
        _ = write!(xml, "<disk name='{}' snapshot='no'/>", escaped(&disk.target));
    }
    xml.push_str("</disks></domainsnapshot>");
    // libvirt writes into a new file only, and makes it itself.
    fs::remove_file(to).at(|| format!("cannot write {}", to.display()))?;
    let saved = on_domain(&machine.uri, machine.options.memory_limit, move |domain| {
        let flags = sys::VIR_DOMAIN_SNAPSHOT_CREATE_NO_METADATA;
        DomainSnapshot::create_xml(domain, &xml, flags).map(|_| ()).map_err(|cause| error::from_virt(&cause))
    });
    saved.inspect_err(|error| {
        if error.kind() == ErrorKind::Interrupted {
            _ = machine.call(raw::abort_job);
        }
    })?;
    let answer = machine.call(|domain| domain.qemu_monitor_command(TAKE_BACK, 0).map_err(|cause| error::from_virt(&cause)))?;
    let answer: serde_json::Value =
        serde_json::from_str(&answer).map_err(|error| Error::corrupt("QEMU's answer is no JSON").because(error))?;
    if answer.get("return").is_none() {
        let (_, qemu) = versions(machine)?;
        let message = format!("QEMU {} cannot save memory and disks of one moment; 10.0 and newer can", dotted(qemu));
        return Err(Error::new(ErrorKind::UnsupportedFormat, message));
    }
    Ok(())
}

/// Lets the machine go on; a try that fails for once does not leave it held.
fn go_on(machine: &LibvirtMachine) -> Result<()> {
    let resume = || if machine.state()? == MachineState::Running { Ok(()) } else { machine.resume() };
    resume().or_else(|_| {
        thread::sleep(Duration::from_secs(1));
        resume()
    })?;
    // Without the mark it is only not let go by itself another time.
    _ = machine.call(|domain| mark(domain, None));
    Ok(())
}

/// Lets a machine go on that is still held by a save which has ended; whether there was one.
pub(super) fn let_go(machine: &LibvirtMachine) -> Result<bool> {
    if machine.state()? != MachineState::Paused || !machine.xml(false)?.contains(MARK) {
        return Ok(false);
    }
    go_on(machine).map(|()| true)
}

/// What is needed to resume the memory in `saved`.
fn facts(machine: &LibvirtMachine, saved: &Path) -> Result<Vec<Fact>> {
    let file = File::open(saved).at(|| format!("cannot read {}", saved.display()))?;
    let head = Head::read(file)?;
    let domain = machine.domain(true)?;
    let (libvirt, qemu) = versions(machine)?;
    Ok(vec![
        Fact::new(FACT_QEMU, dotted(qemu)),
        Fact::new(FACT_LIBVIRT, dotted(libvirt)),
        Fact::new(FACT_MACHINE, domain.machine.unwrap_or_default()),
        Fact::new(FACT_MIB, (domain.memory_bytes >> 20).to_string()),
        Fact::new(FACT_STREAM, head.format().to_owned()),
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
    machine.check_put(machine.state()?, facts)?;
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
    suspend(machine)
}

/// Why memory that was saved with these facts cannot be resumed here.
pub(super) fn refusal(machine: &LibvirtMachine, facts: &[Fact]) -> Result<Option<String>> {
    let get = |name: &str| Fact::find(facts, name);
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
