//! The disks of a running machine at one moment: a snapshot freezes its images, and is deleted at the end.

use super::machine::VmwareMachine;
use super::{files, memory};
use crate::image::{self, Format, OpenOptions};
use std::sync::PoisonError;
use vml_core::machine::{DiskSession, LiveDisk, Machine as _, MachineDisk, MachineState};
use vml_core::{Error, ErrorKind, Result};

/// The snapshot of a save that has not ended.
pub(super) const SNAPSHOT: &str = "vml-save";

/// A session.
pub(super) struct Session<'m> {
    machine: &'m VmwareMachine,
    disks: Vec<LiveDisk>,
    ended: bool,
}

impl<'m> Session<'m> {
    pub(super) fn begin(machine: &'m VmwareMachine) -> Result<Self> {
        // While memory is saved, there is a snapshot of that moment.
        let moment = machine.moment.lock().unwrap_or_else(PoisonError::into_inner).take();
        let frozen = moment.map_or_else(|| freeze(machine), Ok)?;
        let mut session = Self { machine, disks: Vec::new(), ended: false };
        let options =
            OpenOptions { format: Some(Format::Vmdk), allowed_dirs: machine.options.allowed_dirs.clone(), ..OpenOptions::default() };
        for disk in frozen {
            let opened = image::open(&disk.file, &options).map_err(|error| error.context(format!("cannot use the disk {}", disk.name)))?;
            session.disks.push(LiveDisk { name: disk.name, format: disk.format, disk: opened, changed: None });
        }
        Ok(session)
    }

    fn end(&mut self) -> Result<()> {
        self.ended = true;
        self.disks.clear();
        thaw(self.machine)
    }
}

impl DiskSession for Session<'_> {
    fn disks(&self) -> &[LiveDisk] {
        &self.disks
    }

    fn commit(mut self: Box<Self>, _checkpoint: &str) -> Result<()> {
        self.end()
    }

    fn abort(mut self: Box<Self>) -> Result<()> {
        self.end()
    }
}

impl Drop for Session<'_> {
    fn drop(&mut self) {
        if !self.ended {
            // Nobody can be told; what is left is cleaned at the next command.
            _ = self.end();
        }
    }
}

/// Makes a snapshot; returns the disks as they were before it, to which nobody writes now.
pub(super) fn freeze(machine: &VmwareMachine) -> Result<Vec<MachineDisk>> {
    if machine.state()? != MachineState::Running {
        return Err(Error::invalid("the machine is not running"));
    }
    if has_snapshot(machine)? {
        return Err(Error::new(ErrorKind::Locked, "another save of the machine is under way, or ended half-way"));
    }
    let before = files::disks(&machine.dir, &files::read(&machine.vmx)?)?;
    machine.run("snapshot", &[SNAPSHOT], machine.options.memory_limit)?;
    let after = files::disks(&machine.dir, &files::read(&machine.vmx)?);
    let kept = |disk: &&MachineDisk| after.as_ref().map_or(true, |after| after.iter().any(|other| other.file == disk.file));
    if let Some(disk) = before.iter().find(kept) {
        let message =
            format!("the disk {} takes no part in snapshots (it is independent): it can be saved while the machine is off", disk.name);
        let error = Error::new(ErrorKind::UnsupportedFormat, message);
        return Err(match thaw(machine) {
            Ok(()) => error,
            Err(second) => error.because(second),
        });
    }
    Ok(before)
}

/// Deletes the snapshot, which merges what was written since.
pub(super) fn thaw(machine: &VmwareMachine) -> Result<()> {
    machine.run("deleteSnapshot", &[SNAPSHOT], machine.options.memory_limit).map(|_| ())
}

fn has_snapshot(machine: &VmwareMachine) -> Result<bool> {
    Ok(machine.vmrun.snapshots(&machine.vmx, machine.options.answer_limit)?.iter().any(|name| name == SNAPSHOT))
}

/// Removes what a save left that did not end.
pub(super) fn clean(machine: &VmwareMachine) -> Result<Vec<String>> {
    memory::clean(machine);
    let mut told = Vec::new();
    if has_snapshot(machine)? {
        thaw(machine)?;
        told.push("deleted the snapshot of a save that did not end".to_owned());
    }
    Ok(told)
}
