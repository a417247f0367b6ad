//! What saving one machine's memory and restoring another's takes QEMU alone, over its socket and in the same layout.

use anyhow::{Context as _, Result, bail};
use serde_json::{Value, json};
use std::fs;
use std::path::Path;
use std::process::Command;
use std::time::{Duration, Instant};
use vml_hv::qemu::Qmp;

const LIMIT: Duration = Duration::from_secs(120);

/// Saves the machine in the folder `running` and ends it, then starts the one in `suspended` from its memory; seconds.
pub fn save_and_restore(running: &Path, suspended: &Path) -> Result<f64> {
    // The command that started the running one, for the other one's folder: both have the same disks and devices.
    let pid = fs::read_to_string(running.join("run/pid")).context("the machine does not run")?;
    let line = fs::read(format!("/proc/{}/cmdline", pid.trim()))?;
    let (from, to) = (running.to_string_lossy().into_owned(), suspended.to_string_lossy().into_owned());
    let words: Vec<String> = line
        .split(|byte| *byte == 0)
        .filter(|word| !word.is_empty())
        .map(|word| String::from_utf8_lossy(word).replace(&from, &to))
        .collect();
    let words: Vec<String> = without_incoming(words);
    let (program, arguments) = words.split_first().context("the machine's command is empty")?;
    let memory = suspended.join("run/memory");
    if !memory.exists() {
        bail!("{} is not suspended", suspended.display());
    }
    let file = running.join("run/plain");

    let started = Instant::now();
    let mut qmp = Qmp::connect(&running.join("run/qmp.sock"), LIMIT)?;
    mapped(&mut qmp)?;
    qmp.run("stop", &json!({}))?;
    qmp.run("migrate", &json!({ "channels": channels(&file) }))?;
    moved(&mut qmp)?;
    _ = qmp.run("quit", &json!({}));
    qmp.wait_end(LIMIT)?;
    let status = Command::new(program).args(arguments).args(["-incoming", "defer"]).current_dir(suspended.join("run")).status();
    if !status.context("cannot start QEMU")?.success() {
        bail!("QEMU does not start");
    }
    let mut qmp = Qmp::connect(&suspended.join("run/qmp.sock"), LIMIT)?;
    mapped(&mut qmp)?;
    qmp.run("migrate-incoming", &json!({ "channels": channels(&memory) }))?;
    moved(&mut qmp)?;
    qmp.run("cont", &json!({}))?;
    Ok(started.elapsed().as_secs_f64())
}

fn without_incoming(words: Vec<String>) -> Vec<String> {
    let mut kept = Vec::new();
    let mut words = words.into_iter();
    while let Some(word) = words.next() {
        if word == "-incoming" {
            words.next();
        } else {
            kept.push(word);
        }
    }
    kept
}

fn mapped(qmp: &mut Qmp) -> Result<()> {
    qmp.run("migrate-set-capabilities", &json!({ "capabilities": [{ "capability": "mapped-ram", "state": true }] }))?;
    qmp.run("migrate-set-parameters", &json!({ "max-bandwidth": 1_u64 << 40 }))?;
    Ok(())
}

fn channels(path: &Path) -> Value {
    json!([{ "channel-type": "main", "addr": { "transport": "file", "filename": path, "offset": 0 } }])
}

fn moved(qmp: &mut Qmp) -> Result<()> {
    let deadline = Instant::now() + LIMIT;
    loop {
        let answer = qmp.run("query-migrate", &json!({}))?;
        match answer["status"].as_str() {
            Some("completed") => return Ok(()),
            Some("failed") => bail!("QEMU cannot move the memory: {answer}"),
            _ if Instant::now() >= deadline => bail!("QEMU does not move the memory in time"),
            _ => std::thread::sleep(Duration::from_millis(5)),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_incoming_memory_is_left_out_of_the_command() {
        let words = ["qemu", "-m", "1", "-incoming", "defer", "-x"].map(str::to_owned).to_vec();
        assert_eq!(without_incoming(words), ["qemu", "-m", "1", "-x"]);
    }
}
