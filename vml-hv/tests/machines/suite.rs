//! What must hold for every machine, whatever runs it.

use crate::guest::{Guest, Reach};
use std::cell::RefCell;
use std::fs;
use std::path::Path;
use std::time::Duration;
use vml_core::ErrorKind;
use vml_core::disk::{Disk, ExtentKind};
use vml_core::machine::{DiskSession, Machine, MachineState, Stop};

/// The bytes of a disk, as far as they are data.
pub fn content(disk: &dyn Disk) -> blake3::Hash {
    let mut hasher = blake3::Hasher::new();
    let mut at = 0;
    let mut buffer = vec![0; 1 << 20];
    while at < disk.len() {
        let extent = disk.extent_at(at).unwrap();
        let len = usize::try_from(extent.len.min(1 << 20)).unwrap();
        if extent.kind == ExtentKind::Data {
            disk.read_at(&mut buffer[..len], at).unwrap();
            // Zeros that one session tells as data and another as a hole are the same.
            if buffer[..len].iter().any(|byte| *byte != 0) {
                for (i, block) in buffer[..len].chunks(4096).enumerate().filter(|(_, block)| block.iter().any(|byte| *byte != 0)) {
                    hasher.update(&(at + i as u64 * 4096).to_le_bytes());
                    hasher.update(block);
                }
            }
        }
        at += len as u64;
    }
    hasher.finalize()
}

fn changed_len(session: &dyn DiskSession) -> Option<u64> {
    session.disks()[0].changed.as_ref().map(|ranges| ranges.iter().map(|range| range.end - range.start).sum())
}

/// Life of a machine: started, held, suspended, resumed, stopped; and what must be refused meanwhile.
pub fn lives(machine: &dyn Machine, reach: Reach<'_>) {
    let description = machine.describe().unwrap();
    assert!(!description.disks.is_empty() && description.memory_bytes > 0 && !description.bytes.is_empty());
    assert_eq!(machine.state().unwrap(), MachineState::Off);
    assert_eq!(machine.resume().unwrap_err().kind(), ErrorKind::InvalidInput);
    assert_eq!(machine.suspend().unwrap_err().kind(), ErrorKind::InvalidInput);
    machine.start().unwrap();
    assert_eq!(machine.state().unwrap(), MachineState::Running);
    assert_eq!(machine.start().unwrap_err().kind(), ErrorKind::InvalidInput);
    reach(&machine.address().unwrap().unwrap()).start_counter();
    machine.suspend().unwrap();
    assert_eq!(machine.state().unwrap(), MachineState::Suspended);
    assert_eq!(machine.start().unwrap_err().kind(), ErrorKind::InvalidInput);
    machine.resume().unwrap();
    assert_eq!(machine.state().unwrap(), MachineState::Running);
    // The program of before goes on, in memory only.
    let guest = reach(&machine.address().unwrap().unwrap());
    let first = guest.counted();
    std::thread::sleep(Duration::from_millis(700));
    let second = guest.counted();
    assert!(second > first && first >= 1, "{first} then {second}");
    assert_eq!(machine.clean().unwrap(), [""; 0]);
    machine.stop(Stop::Kill).unwrap();
    assert_eq!(machine.state().unwrap(), MachineState::Off);
    assert_eq!(machine.address().unwrap(), None);
}

/// Disks of a running machine: one moment is shown while the guest goes on; the next session tells what changed.
pub fn disks_of_one_moment(machine: &dyn Machine, reach: Reach<'_>) {
    machine.start().unwrap();
    let guest = reach(&machine.address().unwrap().unwrap());
    guest.write("first", 3_000_000);
    let live = machine.live_disks().unwrap();
    let session = live.begin(None).unwrap();
    assert!(session.disks()[0].changed.is_none(), "nothing is known of a first session");
    let before = content(session.disks()[0].disk.as_ref());
    assert_eq!(live.begin(None).err().unwrap().kind(), ErrorKind::Locked);
    guest.write("second", 2_000_000);
    guest.remove("first");
    assert_eq!(content(session.disks()[0].disk.as_ref()), before, "the session shows one moment");
    session.commit("one").unwrap();

    if machine.capabilities().changed_ranges {
        changes_since(machine, guest.as_ref(), before);
    }
    let session = live.begin(Some("two")).unwrap();
    // Left behind by somebody who was killed, it is cleaned up.
    std::mem::forget(session);
    assert_eq!(machine.clean().unwrap().len(), 1);
    assert_eq!(machine.clean().unwrap(), [""; 0]);
    let session = live.begin(Some("two")).unwrap();
    assert_eq!(changed_len(session.as_ref()).is_some(), machine.capabilities().changed_ranges);
    drop(session);
    assert_eq!(guest.len("second"), 2_000_000, "the guest went on all the time");
    machine.stop(Stop::Kill).unwrap();
}

/// The next session tells what changed since the last.
fn changes_since(machine: &dyn Machine, guest: &dyn Guest, before: blake3::Hash) {
    let live = machine.live_disks().unwrap();
    // What was written during the session is part of what changed since.
    let session = live.begin(Some("one")).unwrap();
    let changed = changed_len(session.as_ref()).unwrap();
    assert!((2_000_000..30_000_000).contains(&changed), "{changed} bytes changed");
    assert_ne!(content(session.disks()[0].disk.as_ref()), before);
    guest.write("third", 1_000_000);
    session.abort().unwrap();
    // Given up, it changes nothing: the same is still known, and what came meanwhile.
    let session = live.begin(Some("one")).unwrap();
    let more = changed_len(session.as_ref()).unwrap();
    assert!(more >= changed, "{more} after {changed}");
    session.commit("two").unwrap();
    let session = live.begin(Some("one")).unwrap();
    assert!(session.disks()[0].changed.is_none(), "only the latest checkpoint is kept");
    drop(session);
    let session = live.begin(Some("two")).unwrap();
    assert!(changed_len(session.as_ref()).unwrap() < 5_000_000);
    session.abort().unwrap();
}

/// Memory and disks of one moment.
pub fn memory_with_disks(machine: &dyn Machine, reach: Reach<'_>, dir: &Path) {
    machine.start().unwrap();
    let guest = reach(&machine.address().unwrap().unwrap());
    guest.keep("kept");
    guest.sync();
    let (memory, live) = (machine.live_memory().unwrap(), machine.live_disks().unwrap());
    let session = RefCell::new(None);
    let saved = memory
        .save(&dir.join("memory"), &mut || {
            *session.borrow_mut() = Some(live.begin(None)?);
            Ok(())
        })
        .unwrap();
    assert_eq!(machine.state().unwrap(), MachineState::Running, "it goes on");
    assert_eq!(memory.refusal(&saved.facts).unwrap(), None);
    assert!(memory.refusal(&[]).unwrap().is_some());
    let len = fs::metadata(dir.join("memory")).unwrap().len();
    // Where every page has its place, the file has room for all.
    let least = if saved.format == "libvirt-qemu-save" { 10 << 20 } else { machine.describe().unwrap().memory_bytes };
    assert!(len >= least, "{len}");
    session.into_inner().unwrap().commit("full").unwrap();
    assert_eq!(guest.kept(), "kept");
    // What cannot be written leaves the machine running, and no file.
    assert!(memory.save(&dir.join("nowhere/memory"), &mut || Ok(())).is_err());
    assert_eq!(machine.state().unwrap(), MachineState::Running);
    let failed = memory.save(&dir.join("other"), &mut || Err(vml_core::Error::invalid("on purpose"))).unwrap_err();
    assert_eq!(failed.to_string(), "on purpose");
    assert_eq!(machine.state().unwrap(), MachineState::Running);
    machine.stop(Stop::Kill).unwrap();
}

/// The memory of a suspended machine is taken, given up, put back and resumed.
pub fn memory_put_back(machine: &dyn Machine, reach: Reach<'_>, dir: &Path) {
    machine.start().unwrap();
    let guest = reach(&machine.address().unwrap().unwrap());
    guest.keep("kept");
    guest.sync();
    let memory = machine.live_memory().unwrap();
    assert_eq!(memory.suspended().unwrap_err().kind(), ErrorKind::InvalidInput);
    machine.suspend().unwrap();
    let (file, saved) = memory.suspended().unwrap();
    fs::copy(file, dir.join("taken")).unwrap();
    machine.stop(Stop::Kill).unwrap();
    assert_eq!(machine.state().unwrap(), MachineState::Off);
    assert!(memory.put(&[], &mut |_| panic!("what does not fit is not written")).is_err());
    assert_eq!(memory.put(&saved.facts, &mut |_| Err(vml_core::Error::invalid("on purpose"))).unwrap_err().to_string(), "on purpose");
    assert_eq!(machine.state().unwrap(), MachineState::Off);
    memory.put(&saved.facts, &mut |to| fs::copy(dir.join("taken"), to).map(|_| ()).map_err(|error| panic!("{error}"))).unwrap();
    assert_eq!(machine.state().unwrap(), MachineState::Suspended);
    machine.resume().unwrap();
    assert_eq!(reach(&machine.address().unwrap().unwrap()).kept(), "kept");
    machine.stop(Stop::Kill).unwrap();
}
