//! A machine's memory in a file and back: QEMU's migration in the layout `mapped-ram`, in which every page has a place of its own, so
//! that pages that did not change are the same bytes at the same place in the next file, and zero pages are holes.

use super::machine::status;
use super::qmp::Qmp;
use crate::command::run;
use serde::{Deserialize, Serialize};
use serde_json::json;
use std::fs;
use std::path::Path;
use std::process::Command;
use std::thread;
use std::time::{Duration, Instant};
use vml_core::entry::Fact;
use vml_core::{Error, ErrorKind, IoResultExt as _, Result};

/// The layout's name in an entry.
pub(super) const FORMAT: &str = "qemu-mapped-ram";
pub(super) const FACT_QEMU: &str = "memory.qemu";
pub(super) const FACT_MACHINE: &str = "memory.machine";
pub(super) const FACT_CPU: &str = "memory.cpu";
pub(super) const FACT_CPUS: &str = "memory.cpus";
pub(super) const FACT_MIB: &str = "memory.mib";
pub(super) const FACT_DISKS: &str = "memory.disks";
/// How long it takes to ask QEMU for its version.
const VERSION_LIMIT: Duration = Duration::from_secs(10);
/// How long QEMU may take to give up a memory that it writes.
const CANCEL_LIMIT: Duration = Duration::from_secs(30);
/// Bytes a second: as fast as it goes.
const BANDWIDTH: u64 = 1 << 40;

/// Holds the machine and writes its memory to the new file `path`. When that fails the machine goes on as before, and the file is gone; when it is done
/// the machine is held, and its disks are let go.
pub(super) fn write(qmp: &mut Qmp, path: &Path, limit: Duration) -> Result<()> {
    let held = !matches!(status(qmp)?.as_str(), "running");
    let written = (|| {
        prepare(qmp)?;
        // The file must not be readable by others: it has the guest's keys.
        let file =
            fs::OpenOptions::new().write(true).create(true).truncate(true).open(path).at(|| format!("cannot write {}", path.display()))?;
        rustix::fs::fchmod(&file, rustix::fs::Mode::RUSR | rustix::fs::Mode::WUSR).at(|| format!("cannot write {}", path.display()))?;
        qmp.run("stop", &json!({}))?;
        qmp.run("migrate", &json!({ "channels": channels(path) }))?;
        await_migration(qmp, limit)
    })();
    if let Err(error) = written {
        _ = fs::remove_file(path);
        _ = cancel(qmp, CANCEL_LIMIT);
        if !held {
            go_on(qmp).map_err(|second| error_after(&error, second))?;
        }
        return Err(error);
    }
    Ok(())
}

fn error_after(error: &Error, second: Error) -> Error {
    Error::new(ErrorKind::Interrupted, format!("the machine is held and does not go on, after {error}")).because(second)
}

fn channels(path: &Path) -> serde_json::Value {
    json!([{ "channel-type": "main", "addr": { "transport": "file", "filename": path, "offset": 0 } }])
}

fn prepare(qmp: &mut Qmp) -> Result<()> {
    qmp.run("migrate-set-capabilities", &json!({ "capabilities": [{ "capability": "mapped-ram", "state": true }] })).map_err(|error| {
        let (major, minor, _) = qmp.version();
        let message = format!("QEMU {major}.{minor} cannot write memory page by page (mapped-ram); 9.0 and newer can");
        Error::new(ErrorKind::UnsupportedFormat, message).because(error)
    })?;
    qmp.run("migrate-set-parameters", &json!({ "max-bandwidth": BANDWIDTH }))?;
    Ok(())
}

fn await_migration(qmp: &mut Qmp, limit: Duration) -> Result<()> {
    let deadline = Instant::now() + limit;
    loop {
        let answer = qmp.run("query-migrate", &json!({}))?;
        match answer["status"].as_str() {
            Some("completed") => return Ok(()),
            Some("failed" | "cancelled") => {
                let words = answer["error-desc"].as_str().unwrap_or("QEMU does not say why");
                let kind = if words.contains("No space left") { ErrorKind::NoSpace } else { ErrorKind::Io };
                return Err(Error::new(kind, format!("the memory cannot be moved: {words}")));
            }
            _ if Instant::now() >= deadline => {
                return Err(Error::new(ErrorKind::Interrupted, format!("the memory is not moved after {} s", limit.as_secs())));
            }
            _ => thread::sleep(Duration::from_millis(5)),
        }
    }
}

/// Ends the writing of a memory that is under way, if there is one.
pub(super) fn cancel(qmp: &mut Qmp, limit: Duration) -> Result<()> {
    let deadline = Instant::now() + limit;
    loop {
        let answer = qmp.run("query-migrate", &json!({}))?;
        if !matches!(answer["status"].as_str(), Some("setup" | "active" | "device" | "pre-switchover" | "cancelling")) {
            return Ok(());
        }
        if Instant::now() >= deadline {
            return Err(Error::new(ErrorKind::Interrupted, "QEMU does not end the writing of the machine's memory"));
        }
        _ = qmp.run("migrate_cancel", &json!({}));
        thread::sleep(Duration::from_millis(20));
    }
}

/// Takes back the disks that writing the memory has let go.
pub(super) fn activate(qmp: &mut Qmp) -> Result<()> {
    qmp.run("blockdev-set-active", &json!({ "active": true })).map_err(|error| {
        if error.kind() != ErrorKind::UnsupportedFormat {
            return error;
        }
        let (major, minor, _) = qmp.version();
        let message = format!("QEMU {major}.{minor} cannot save memory and disks of one moment; 10.0 and newer can");
        Error::new(ErrorKind::UnsupportedFormat, message).because(error)
    })?;
    Ok(())
}

/// Lets a machine that is held go on.
pub(super) fn go_on(qmp: &mut Qmp) -> Result<()> {
    if status(qmp)? != "running" {
        qmp.run("cont", &json!({}))?;
    }
    Ok(())
}

/// Reads the memory in `path` into a QEMU that waits for it; the machine is then held.
pub(super) fn read(qmp: &mut Qmp, path: &Path, limit: Duration) -> Result<()> {
    prepare(qmp)?;
    qmp.run("migrate-incoming", &json!({ "channels": channels(path) }))?;
    await_migration(qmp, limit).map_err(|error| error.context("the saved memory does not fit this machine, or is damaged"))
}

#[derive(Serialize, Deserialize)]
struct Facts {
    facts: Vec<(String, String)>,
}

/// Writes down what is needed to resume the memory in `path`.
pub(super) fn write_facts(path: &Path, facts: &[Fact]) -> Result<()> {
    let path = path.with_extension("toml");
    let rows = Facts { facts: facts.iter().map(|fact| (fact.name.clone(), fact.value.clone())).collect() };
    let text = toml::to_string(&rows).map_err(|error| Error::invalid("facts that cannot be written").because(error))?;
    fs::write(&path, text).at(|| format!("cannot write {}", path.display()))
}

/// What [`write_facts`] wrote.
pub(super) fn read_facts(path: &Path) -> Result<Vec<Fact>> {
    let path = path.with_extension("toml");
    let text = fs::read_to_string(&path).at(|| format!("cannot read {}", path.display()))?;
    let rows: Facts = toml::from_str(&text).map_err(|error| Error::corrupt(format!("{} is damaged", path.display())).because(error))?;
    Ok(rows.facts.into_iter().map(|(name, value)| Fact::new(name, value)).collect())
}

/// Why memory with these facts cannot be resumed by `program`.
pub(super) fn refusal(program: &str, facts: &[Fact]) -> Result<Option<String>> {
    let get = |name: &str| Fact::find(facts, name);
    let (Some(saved), Some(machine)) = (get(FACT_QEMU).and_then(version), get(FACT_MACHINE)) else {
        return Ok(Some("it does not say which QEMU and machine it was saved from".to_owned()));
    };
    let ask = |argument: &[&str]| {
        let mut command = Command::new(program);
        command.args(argument);
        run(command, VERSION_LIMIT)
    };
    let text = ask(&["--version"])?.stdout;
    let here = text.split_whitespace().find_map(version).ok_or_else(|| Error::corrupt(format!("{program} does not tell its version")))?;
    if here < saved {
        return Ok(Some(format!("it was saved from QEMU {}.{}, and here is {}.{}", saved.0, saved.1, here.0, here.1)));
    }
    let machines = ask(&["-machine", "help"])?.stdout;
    if !machines.lines().any(|line| line.split_whitespace().next() == Some(machine)) {
        return Ok(Some(format!("QEMU here has no machine {machine}")));
    }
    Ok(None)
}

/// `10.0` of `10.0.2`.
fn version(text: &str) -> Option<(u64, u64)> {
    let mut numbers = text.split('.').map(str::parse::<u64>);
    match (numbers.next(), numbers.next()) {
        (Some(Ok(major)), Some(Ok(minor))) => Some((major, minor)),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_version_is_the_first_two_numbers() {
        assert_eq!(version("10.0.2"), Some((10, 0)));
        assert_eq!(version("7.2"), Some((7, 2)));
        assert_eq!(version("version"), None);
    }
}
