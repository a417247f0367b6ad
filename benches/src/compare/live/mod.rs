//! Machines that run: what saving and switching them costs, beside what the hypervisor alone takes.
//!
//! ```text
//! bench     a host with machines under QEMU      plain     QEMU's own save and restore, over its socket only
//! report    goals, table, JSON
//! ```

mod bench;
mod plain;
pub mod report;

use super::tools::Vml;
use anyhow::{Context as _, Result, bail};
use bench::Bench;
use serde_json::Value;
use std::path::Path;

/// Bytes that are changed between two saves.
pub const CHANGED: u64 = 100 << 20;
/// Files that are saved over SSH besides those of the guest itself, of which one in a hundred changes.
pub const FILES: u64 = 2000;
/// Bytes of each.
pub const FILE_LEN: u64 = 32 << 10;
/// Seconds between two saves of a memory.
pub const IDLE_S: u64 = 10;

/// What one run measured.
#[derive(Debug, Clone, Default)]
pub struct Run {
    /// First save of both disks while the machine runs, in seconds.
    pub first_s: f64,
    /// Bytes that it read.
    pub first_read: u64,
    /// The save after a change of [`CHANGED`] bytes.
    pub second_s: f64,
    /// Bytes that it read.
    pub second_read: u64,
    /// Bytes that the hypervisor said had changed, from its own bitmap's granularity.
    pub second_new: u64,
    /// Bytes that the first save with memory stored, of a machine whose disks were saved before.
    pub memory_first: u64,
    /// The same of the second, [`IDLE_S`] later.
    pub memory_second: u64,
    /// Bytes that came over SSH when nothing had changed: the listing.
    pub listing: u64,
    /// Bytes that came when one file in a hundred had changed.
    pub wire: u64,
    /// Seconds of that save.
    pub files_s: f64,
    /// A tar of the same directories over SSH, in seconds.
    pub tar_s: f64,
    /// `vml switch` from one suspended area to another.
    pub switch_s: f64,
    /// QEMU's own save of the one and restore of the other.
    pub plain_s: f64,
}

/// Measures `runs` times with the guest in the folder `guest`, made by `testdata/make-guest`, and a further disk `data`.
///
/// # Errors
/// When a command fails.
pub fn run(vml: &Vml, guest: &Path, data: &Path, runs: usize, work: &Path) -> Result<Vec<Run>> {
    for file in ["disk.raw", "vmlinuz", "initrd", "key"] {
        if !guest.join(file).exists() {
            bail!("{} has no {file}: testdata/make-guest makes a guest", guest.display());
        }
    }
    (1..=runs).map(|number| one(&Bench::new(vml, guest, data, work)?, number, runs)).collect()
}

fn one(bench: &Bench<'_>, number: usize, runs: usize) -> Result<Run> {
    let tell = |what: &str| eprintln!("run {number} of {runs}: {what}");
    let mut run = Run::default();
    tell("boots a guest");
    bench.add("one")?;
    bench.start("one")?;
    bench.in_guest("one", "mkdir -p /mnt && mount /dev/vdb /mnt && sync")?;
    let first = bench.save("one", "disk")?;
    (run.first_s, run.first_read) = (seconds(&first)?, read_bytes(&first)?);
    let change = format!("head -c {CHANGED} /dev/urandom > /mnt/changed && sync");
    bench.in_guest("one", &change)?;
    let second = bench.save("one", "disk")?;
    (run.second_s, run.second_read, run.second_new) = (seconds(&second)?, read_bytes(&second)?, number_of(&second, "new_bytes")?);
    tell("saves files over SSH");
    bench.in_guest("one", &make_files())?;
    bench.save("one", "tree")?;
    run.listing = number_of(&bench.save("one", "tree")?, "received_bytes")?;
    bench.in_guest("one", &change_files())?;
    let files = bench.save("one", "tree")?;
    (run.wire, run.files_s) = (number_of(&files, "received_bytes")?, seconds(&files)?);
    run.tar_s = bench.tar("one")?;
    // The next saves follow one of disks again.
    bench.save("one", "disk")?;
    tell("saves memory");
    run.memory_first = number_of(&bench.save("one", "full")?, "stored_bytes")?;
    std::thread::sleep(std::time::Duration::from_secs(IDLE_S));
    run.memory_second = number_of(&bench.save("one", "full")?, "stored_bytes")?;
    tell("switches");
    bench.add("two")?;
    bench.start("two")?;
    bench.in_guest("two", "sync")?;
    bench.suspend("one")?;
    // Once before it counts, so that both have been suspended before.
    bench.switch("one")?;
    bench.switch("two")?;
    run.switch_s = seconds(&bench.switch("one")?)?;
    run.plain_s = plain::save_and_restore(&bench.machine("one"), &bench.machine("two"))?;
    bench.stop(&["one", "two"])?;
    Ok(run)
}

/// Text that does not compress, [`FILE_LEN`] bytes a file.
fn make_files() -> String {
    format!("mkdir -p /srv/files && cd /srv/files && for i in $(seq {FILES}); do head -c {FILE_LEN} /dev/urandom > $i; done; sync")
}

/// One file in a hundred is written anew.
fn change_files() -> String {
    format!("cd /srv/files && for i in $(seq 1 100 {FILES}); do head -c {FILE_LEN} /dev/urandom > $i; done; sync")
}

fn number_of(value: &Value, key: &str) -> Result<u64> {
    value[key].as_u64().with_context(|| format!("vml told no {key}: {value}"))
}

fn seconds(value: &Value) -> Result<f64> {
    Ok(number_of(value, "elapsed_ms")? as f64 / 1000.0)
}

fn read_bytes(saved: &Value) -> Result<u64> {
    let disks = saved["disks"].as_array().context("vml told of no disks")?;
    disks.iter().map(|disk| number_of(disk, "read_bytes")).sum()
}
